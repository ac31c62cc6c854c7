"""What the authors of documents do: styles, mistakes, and the order of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from passk_lab.lab.tasks._path_graphs import Bools, Graphs, Ints, PathTable

PAD, BOS, EOS, QUESTION, START, GOAL, WAYPOINT, DEMO, DEMO_END, ANSWER = range(10)
FIRST_NODE = 10

# Each gives every path a key; the author takes the path with the smallest one.
STYLES: dict[str, Callable[[PathTable], Ints]] = {
    "shortest": lambda table: table.length,
    "longest": lambda table: -table.length,
    # At each step the smallest, or largest, label: the table is in lexicographic order.
    "smallest_first": lambda table: np.arange(len(table.graph)),
    "largest_first": lambda table: -np.arange(len(table.graph)),
}


@dataclass(frozen=True)
class Documents:
    """Pre-training documents and what their authors did.

    ``tokens`` [n, L] are right padded; ``mask`` [n, L] is true where one is to be predicted.
    ``style`` [n] is the author's, an index into ``PathTask.styles``; ``demo``, ``wrong`` and
    ``waypoint`` [n] say whether a document shows a demonstration, is wrong, states a waypoint.
    """

    tokens: Ints
    mask: Bools
    style: Ints
    demo: Bools
    wrong: Bools
    waypoint: Bools


def favourites(table: PathTable, styles: Sequence[str]) -> Ints:
    """Row of the path that each style takes in each graph, [S, G]; of equal keys the first."""
    rows = [np.lexsort((STYLES[style](table), table.graph)) for style in styles]
    return np.array(rows)[:, table.offsets[:-1]]


def spoil(paths: Ints, adjacency: Bools, goal: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Turn correct paths [W, N] into mistakes [W, N + 1], of one of three kinds [W], at random.

    0. The walk leaves the path by another edge, if there is one, and stops before the goal.
    1. A node is left out, and the edge that this takes is missing; where impossible, 0.
    2. An earlier node comes a second time; where impossible, 0.
    """
    n_rows, width = len(paths), paths.shape[1]
    length = (paths >= 0).sum(1)
    at = np.arange(n_rows)
    column = np.arange(width + 1)
    padded = np.pad(paths, ((0, 0), (0, 1)), constant_values=-1)

    # Nodes that can be left out: paths[j - 1] -> paths[j + 1] isn't an edge.
    before, after = padded[:, :-2], padded[:, 2:]
    skippable = (after >= 0) & ~adjacency[at[:, None], before, after]
    kind: Ints = rng.integers(0, 3, size=n_rows)
    kind[(kind == 1) & ~skippable.any(1)] = 0
    kind[(kind == 2) & (length < 3)] = 0

    # 0: paths[:stop], then a wrong turn.
    stop = rng.integers(1, length)
    visited = np.zeros((n_rows, width + 1), dtype=bool)
    stopped = np.where(column < stop[:, None], padded, -1)
    np.put_along_axis(visited, stopped, True, axis=1)
    turns = adjacency[at, padded[at, stop - 1]] & ~visited[:, :-1]
    turns[at, padded[at, stop]] = turns[at, goal] = False
    stopped[at, stop] = np.where(turns.any(1), _choose(turns, rng), -1)

    # 1: without the node at skip.
    skip = _choose(skippable, rng) + 1
    skipped = np.take_along_axis(
        padded, np.minimum(column + (column >= skip[:, None]), width), axis=1
    )

    # 2: paths[:back], then a node from before paths[back - 1], then paths[back:].
    back = rng.integers(2, np.maximum(length, 3))
    earlier = padded[at, rng.integers(0, back - 1)]
    repeated = np.take_along_axis(padded, column - (column > back[:, None]), axis=1)
    repeated[at, back] = earlier

    return np.choose(kind[:, None], [stopped, skipped, repeated]), kind


def _choose(options: Bools, rng: np.random.Generator) -> Ints:
    """Column of a random True in each row (any column where there is none)."""
    # In (0, 1], so that no True weighs nothing.
    return ((1 - rng.random(options.shape)) * options).argmax(1)


def lay_out(graphs: Graphs, waypoint: Ints, shown: Ints, answer: Ints) -> tuple[Ints, Bools]:
    """Tokens of documents [G, L], right padded, and a mask of their answers.

    Waypoints [G], demonstrations [G, N] and answers [G, N + 1] are labels, -1 where there is none.
    """
    ones = np.ones(len(graphs), dtype=np.int64)
    edge = FIRST_NODE + graphs.n_labels
    demo = shown[:, 0] >= 0
    asked = [
        ones * BOS,
        np.where(graphs.edges >= 0, graphs.edges + edge, -1),
        ones * QUESTION,
        ones * START,
        _node(graphs.start),
        ones * GOAL,
        _node(graphs.goal),
        np.where(waypoint >= 0, WAYPOINT, -1),
        _node(waypoint),
        np.where(demo, DEMO, -1),
        _node(shown),
        np.where(demo, DEMO_END, -1),
        ones * ANSWER,
    ]
    before, after = np.column_stack(asked), np.column_stack([_node(answer), ones * EOS])
    wide = np.concatenate([before, after], axis=1)
    return _close_gaps(wide, np.arange(wide.shape[1]) >= before.shape[1])


def _node(label: Ints) -> Ints:
    return np.where(label >= 0, label + FIRST_NODE, -1)


def _close_gaps(wide: Ints, target: Bools) -> tuple[Ints, Bools]:
    present = wide >= 0
    row, source = np.nonzero(present)
    column = (present.cumsum(1) - 1)[row, source]
    tokens = np.full((len(wide), int(present.sum(1).max(initial=0))), PAD, dtype=np.int64)
    mask = np.zeros(tokens.shape, dtype=bool)
    tokens[row, column] = wide[row, source]
    mask[row, column] = target[source]
    return tokens, mask
