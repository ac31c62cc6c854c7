"""Many small directed graphs as arrays, and all of their simple paths at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BATCH = 4096
_MAX_ROWS = 2_000_000


@dataclass(frozen=True)
class Graphs:
    """G graphs over the node labels 0 ... N-1.

    ``edges`` [G, E] holds u * N + v in the order of the prompt, -1 where a graph has fewer;
    ``labels`` [G, n] are those in use; ``start`` and ``goal`` [G].
    """

    edges: Ints
    labels: Ints
    start: Ints
    goal: Ints
    n_labels: int

    def __len__(self) -> int:
        return len(self.start)

    def adjacency(self) -> Bools:
        """[G, N, N], True where u -> v is an edge."""
        flat = np.zeros((len(self), self.n_labels**2 + 1), dtype=bool)
        # -1 fills the spare last column.
        np.put_along_axis(flat, self.edges, True, axis=1)
        return flat[:, :-1].reshape(len(self), self.n_labels, self.n_labels)

    def take(self, rows: npt.NDArray[np.intp]) -> Graphs:
        return Graphs(
            self.edges[rows], self.labels[rows], self.start[rows], self.goal[rows], self.n_labels
        )


@dataclass(frozen=True)
class PathTable:
    """Simple paths of G graphs, sorted by graph and then in lexicographic order of the labels.

    ``graph`` [R] is the graph of each path; ``paths`` [R, N] the labels from start to goal, -1
    after the end; ``length`` [R] their number. The paths of graph g are rows offsets[g] ...
    offsets[g + 1] - 1, ``offsets`` [G + 1].
    """

    graph: Ints
    paths: npt.NDArray[np.int8]
    length: Ints
    offsets: Ints

    @classmethod
    def sort(cls, graph: Ints, paths: npt.NDArray[np.int8], n_graphs: int) -> PathTable:
        """Table of paths that come in any order."""
        order = np.lexsort((_sort_keys(paths), graph))
        return cls.of_sorted(graph[order], paths[order], n_graphs)

    @classmethod
    def of_sorted(cls, graph: Ints, paths: npt.NDArray[np.int8], n_graphs: int) -> PathTable:
        """Table of paths that are in order already."""
        offsets = np.searchsorted(graph, np.arange(n_graphs + 1)).astype(np.int64)
        return cls(graph, paths, (paths >= 0).sum(1), offsets)

    @property
    def count(self) -> Ints:
        """Number of paths of each graph, [G]."""
        return np.diff(self.offsets)

    def visits(self) -> Bools:
        """[R, N], True where a path visits a node."""
        flat = np.zeros((len(self.graph), self.paths.shape[1] + 1), dtype=bool)
        np.put_along_axis(flat, self.paths.astype(np.intp), True, axis=1)
        return flat[:, :-1]

    def through(self, waypoint: Ints) -> PathTable:
        """Only the paths that visit the waypoint [G] of their graph (-1: all of them)."""
        wanted = waypoint[self.graph]
        keep = (wanted < 0) | (self.paths == wanted[:, None]).any(1)
        return PathTable.of_sorted(self.graph[keep], self.paths[keep], len(self.offsets) - 1)

    def keep_graphs(self, keep: Bools) -> PathTable:
        """Table of the graphs that are kept, numbered anew."""
        rows = keep[self.graph]
        number = np.cumsum(keep) - 1
        return PathTable.of_sorted(
            number[self.graph[rows]].astype(np.int64), self.paths[rows], int(keep.sum())
        )


def _sort_keys(paths: npt.NDArray[np.int8]) -> npt.NDArray[np.bytes_]:
    # Bytes compare in lexicographic order, and in one sort for all columns.
    shifted = np.ascontiguousarray(paths + 1).astype(np.uint8)
    return shifted.view(f"S{paths.shape[1]}").ravel()


def enumerate_paths(
    adjacency: Bools, start: Ints, goal: Ints, limit: int | None = None
) -> tuple[PathTable, Ints]:
    """All simple paths from start to goal [G] over ``adjacency`` [G, N, N], and their number [G].

    Breadth expansion: a row is a graph and a path from its start that hasn't reached the goal; each
    round replaces every row by its one-edge continuations. Graphs with more paths than ``limit``
    are given up as soon as this shows: they have no rows, and their number is a lower bound.
    """
    n_graphs, n_labels = adjacency.shape[:2]
    useful = adjacency & _reaches(adjacency, goal)[:, None, :]
    graph = np.arange(n_graphs)
    node = start
    path = np.full((n_graphs, n_labels), -1, dtype=np.int8)
    path[:, 0] = start
    unvisited = np.ones((n_graphs, n_labels), dtype=bool)
    unvisited[graph, start] = False
    count = np.zeros(n_graphs, dtype=np.int64)
    done_graph, done_path = [], []
    for depth in range(1, n_labels):
        row, node = np.nonzero(useful[graph, node] & unvisited)
        if len(row) > _MAX_ROWS:
            raise ValueError(
                f"edges: more than {_MAX_ROWS:,} partial paths to follow; use fewer edges or nodes"
            )
        graph, path = graph[row], path[row]
        path[:, depth] = node
        arrived = node == goal[graph]
        done_graph.append(graph[arrived])
        done_path.append(path[arrived])
        count += np.bincount(done_graph[-1], minlength=n_graphs)
        going = ~arrived if limit is None else ~arrived & (count <= limit)[graph]
        graph, node, path, unvisited = graph[going], node[going], path[going], unvisited[row[going]]
        unvisited[np.arange(len(node)), node] = False
        if not len(graph):
            break
    graph, path = np.concatenate(done_graph), np.concatenate(done_path)
    if limit is not None:
        kept = (count <= limit)[graph]
        graph, path = graph[kept], path[kept]
    return PathTable.sort(graph, path, n_graphs), count


def _reaches(adjacency: Bools, goal: Ints) -> Bools:
    """[G, N], True for the nodes from which the goal can be reached."""
    reaches = np.zeros(adjacency.shape[:2], dtype=bool)
    reaches[np.arange(len(goal)), goal] = True
    known = 0
    while known < (known := int(reaches.sum())):
        for node in range(adjacency.shape[1]):
            reaches |= adjacency[:, :, node] & reaches[:, node, None]
    return reaches


def random_graphs(
    n: int, n_nodes: int, edges: tuple[int, int], n_labels: int, rng: np.random.Generator
) -> Graphs:
    """Graphs with a uniform number of edges, uniform edge sets and uniform labels."""
    labels = rng.permuted(np.tile(np.arange(n_labels), (n, 1)), axis=1)[:, :n_nodes]
    # float64: equal keys, which sort differently on different processors, all but never occur.
    pairs = rng.random((n, n_nodes * (n_nodes - 1))).argsort(1)[:, : edges[1]]
    source, target = np.divmod(pairs, n_nodes - 1)
    target += target >= source
    code = np.take_along_axis(labels, source, 1) * n_labels + np.take_along_axis(labels, target, 1)
    n_edges = rng.integers(edges[0], edges[1], n, endpoint=True)
    code[np.arange(edges[1]) >= n_edges[:, None]] = -1
    return Graphs(code, labels, labels[:, 0], labels[:, 1], n_labels)


def accepted_graphs(
    n: int, draw: Callable[[int], Graphs], min_paths: int, max_paths: int, max_tries: int
) -> tuple[Graphs, PathTable]:
    """Draw graphs until ``n`` have between ``min_paths`` and ``max_paths`` paths.

    Where fewer than one in ``max_tries`` does, a ValueError says which bound to relax.
    """
    parts: list[tuple[Graphs, PathTable]] = []
    tried = found = few = many = 0
    while found < n:
        if tried >= max_tries * (found + 1):
            raise ValueError(_give_up(tried, found, few, many, min_paths, max_paths))
        # The first round guesses one in four, the next ones go by what was found.
        wanted = int(1.05 * (n - found) * (tried + 4) / (found + 1)) + 8
        graphs = draw(min(_BATCH, wanted, max_tries * (found + 1) - tried))
        table, count = enumerate_paths(graphs.adjacency(), graphs.start, graphs.goal, max_paths)
        good = (count >= min_paths) & (count <= max_paths)
        tried += len(graphs)
        few += int((count < min_paths).sum())
        many += int((count > max_paths).sum())
        good &= np.cumsum(good) <= n - found
        found += int(good.sum())
        parts.append((graphs.take(np.flatnonzero(good)), table.keep_graphs(good)))
    return _join(parts)


def _give_up(tried: int, found: int, few: int, many: int, min_paths: int, max_paths: int) -> str:
    problem = f"gave up after {tried} random graphs, {found} of them accepted"
    if few >= many:
        return (
            f"min_paths: {problem}; {few / tried:.0%} have fewer than {min_paths} correct paths: "
            "lower min_paths or allow more edges"
        )
    return (
        f"max_paths: {problem}; {many / tried:.0%} have more than {max_paths} correct paths: "
        "raise max_paths or allow fewer edges"
    )


def _join(parts: list[tuple[Graphs, PathTable]]) -> tuple[Graphs, PathTable]:
    graphs, tables = zip(*parts, strict=True)
    shift = np.cumsum([0, *map(len, graphs)])
    edges, labels, start, goal = (
        np.concatenate([getattr(part, name) for part in graphs])
        for name in ("edges", "labels", "start", "goal")
    )
    joined = Graphs(edges, labels, start, goal, graphs[0].n_labels)
    table = PathTable.of_sorted(
        np.concatenate([table.graph + by for table, by in zip(tables, shift, strict=False)]),
        np.concatenate([table.paths for table in tables]),
        len(joined),
    )
    return joined, table
