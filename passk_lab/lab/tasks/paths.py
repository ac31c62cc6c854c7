"""Path finding in small directed graphs, with pre-training documents by authors of known habits.

A prompt is a directed graph (its edges in random order, its nodes under random labels), a start, a
goal and sometimes a waypoint. An answer is a node sequence such as "3-0-7-5". It is correct if it
leads from start to goal along edges, repeats no node, and visits the waypoint if there is one.
Every prompt has several correct paths, and all of them can be listed.

docs/training.md says how documents are written. A demonstration is evidence of its author's style,
so P(y | x, c) is a posterior predictive that is known exactly: `PathTask.document_law`.

The vocabulary is 10 specials, one token a node label (``max_nodes``) and one a directed edge
(``max_nodes`` squared), so larger graphs need no new token. A document, with its optional parts in
brackets, of which prompts of `PathTask.sample` have none:

    bos edge ... edge question start s goal g [waypoint w]
    [demo n ... n demo-end] answer n ... n eos
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from passk_lab.lab.tasks._path_documents import (
    ANSWER,
    BOS,
    DEMO,
    DEMO_END,
    EOS,
    FIRST_NODE,
    GOAL,
    PAD,
    QUESTION,
    START,
    STYLES,
    WAYPOINT,
    Documents,
    favourites,
    lay_out,
    spoil,
)
from passk_lab.lab.tasks._path_graphs import (
    Graphs,
    Ints,
    PathTable,
    accepted_graphs,
    enumerate_paths,
    random_graphs,
)

__all__ = ["PathPrompt", "PathTask"]

RandomState = int | np.random.Generator | None

_CHUNK = 8192
_ANSWER = re.compile(r"(0|[1-9][0-9]*)(-(0|[1-9][0-9]*))*")


@dataclass(frozen=True)
class PathPrompt:
    """A graph and what is asked of it.

    ``edges`` stand in the order in which they are shown. ``concepts`` has the concept of each
    label, -1 for those that the graph lacks: the model doesn't see it, but it says what kinds of
    nodes a set of answers visits. ``split`` is "id", "ood-blocked", "ood-larger" or "ood-waypoint".
    """

    edges: tuple[tuple[int, int], ...]
    start: int
    goal: int
    waypoint: int | None = None
    concepts: tuple[int, ...] = ()
    split: str = "id"

    @cached_property
    def problem_id(self) -> str:
        """The split and a hash of the content, so the same prompt has the same name everywhere."""
        content = repr((self.edges, self.start, self.goal, self.waypoint, self.concepts))
        return f"{self.split}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class PathTask:
    """The path-finding task; parameters that don't fit together are a ValueError.

    Parameters
    ----------
    n_nodes, max_nodes : int
        Nodes of a graph, and number of labels (nodes of the larger graphs).
    edges, larger_edges : (int, int)
        Smallest and largest number of edges, in distribution and in the larger graphs.
    min_paths, max_paths : int
        Smallest and largest number of correct paths of a prompt, in both.
    styles : tuple of str
        Names in `STYLES`.
    style_shares : tuple of float
        Frequency of each style among authors.
    follow : float
        Probability that a solution follows the style; else it is uniform over correct paths.
    wrong, wrong_after_demo : float
        Probability of a mistake without and with a demonstration.
    demo_share, waypoint_share : float
        Share of documents with a demonstration, with a waypoint (where a graph has several paths).
    n_concepts : int
        Concepts that are spread over the nodes of a graph, as evenly as possible.
    context_length : int
        Longest sequence in tokens; a prompt of any split with a demonstration and an answer fits.
    max_tries : int
        Random graphs tried for one that is accepted, before giving up.

    Examples
    --------
    >>> task = PathTask()
    >>> prompt = task.sample(1, 0)[0]
    >>> task.correct_answers(prompt)
    ['4-6-5', '4-6-10-9-5', '4-6-11-10-9-5']
    >>> [task.verify(prompt, answer) for answer in ("4-6-5", "4-5", "?")]
    [True, False, False]
    """

    n_nodes: int = 9
    max_nodes: int = 12
    edges: tuple[int, int] = (15, 20)
    larger_edges: tuple[int, int] = (22, 28)
    min_paths: int = 3
    max_paths: int = 10
    styles: tuple[str, ...] = tuple(STYLES)
    style_shares: tuple[float, ...] = (0.5, 0.2, 0.15, 0.15)
    follow: float = 0.85
    wrong: float = 0.30
    wrong_after_demo: float = 0.12
    demo_share: float = 0.5
    waypoint_share: float = 0.05
    n_concepts: int = 6
    context_length: int = 80
    max_tries: int = 10_000

    name: ClassVar[str] = "paths"
    pad_id: ClassVar[int] = PAD
    eos_id: ClassVar[int] = EOS

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_authors(self)
        needed = self._tokens_needed(max(self.edges[1], self.larger_edges[1]))
        if self.context_length < needed:
            raise ValueError(
                f"context_length: {self.context_length} is too small, the longest document takes "
                f"{needed} tokens; set context_length to {needed} or more, or allow fewer edges"
            )

    def _tokens_needed(self, n_edges: int) -> int:
        # bos, edges, question, 2 ends, waypoint, demonstration in its marks, answer mark, answer
        return 1 + n_edges + 1 + 4 + 2 + self.max_nodes + 2 + 1 + self.max_answer_tokens

    @property
    def vocab_size(self) -> int:
        """Number of tokens: specials, nodes and edges."""
        return FIRST_NODE + self.max_nodes + self.max_nodes**2

    @property
    def max_answer_tokens(self) -> int:
        """All nodes, one of them twice (a mistake that documents make), and the end."""
        return self.max_nodes + 2

    # Prompts ------------------------------------------------------------------------------

    def sample(self, n: int, rng: RandomState = None) -> list[PathPrompt]:
        """Draw prompts in distribution, split "id"; ValueError where too few graphs fit."""
        return self._sample(n, self.n_nodes, self.edges, "id", np.random.default_rng(rng))

    def larger(self, n: int, rng: RandomState = None) -> list[PathPrompt]:
        """Draw prompts with ``max_nodes`` nodes and ``larger_edges`` edges, split "ood-larger"."""
        rng = np.random.default_rng(rng)
        return self._sample(n, self.max_nodes, self.larger_edges, "ood-larger", rng)

    def blocked(
        self, prompt: PathPrompt, path: str, rng: RandomState = None, min_paths: int = 2
    ) -> PathPrompt | None:
        """Remove a random edge of a correct path, so that another one is needed.

        Split "ood-blocked"; None if no edge of the path leaves ``min_paths`` correct paths.
        """
        if not self.verify(prompt, path):
            raise ValueError(f"path: {path!r} isn't a correct path of {prompt.problem_id}")
        others = [_steps(_nodes(answer)) for answer in self.correct_answers(prompt)]
        removable = [
            edge
            for edge in pairwise(_nodes(path))
            if sum(edge not in other for other in others) >= min_paths
        ]
        if not removable:
            return None
        blocked = removable[np.random.default_rng(rng).integers(len(removable))]
        edges = tuple(edge for edge in prompt.edges if edge != blocked)
        return replace(prompt, edges=edges, split="ood-blocked")

    def waypoint(
        self, prompt: PathPrompt, rng: RandomState = None, min_paths: int = 1
    ) -> PathPrompt | None:
        """Require a random node that some but not all correct paths visit.

        Split "ood-waypoint"; None if no node leaves ``min_paths`` correct paths.
        """
        if prompt.waypoint is not None:
            raise ValueError(f"prompt: {prompt.problem_id} has a waypoint already")
        visits = self._table(prompt).visits()
        count = visits.sum(0)
        options = np.flatnonzero((count >= max(min_paths, 1)) & (count < len(visits)))
        if not len(options):
            return None
        waypoint = int(np.random.default_rng(rng).choice(options))
        return replace(prompt, waypoint=waypoint, split="ood-waypoint")

    def _sample(
        self, n: int, n_nodes: int, edges: tuple[int, int], split: str, rng: np.random.Generator
    ) -> list[PathPrompt]:
        graphs, _ = self._accepted(_check_n(n), n_nodes, edges, rng)
        spread = np.tile(np.arange(n_nodes) % self.n_concepts, (n, 1))
        concepts = np.full((n, self.max_nodes), -1)
        np.put_along_axis(concepts, graphs.labels, rng.permuted(spread, axis=1), axis=1)
        rows = zip(
            *(x.tolist() for x in (graphs.edges, graphs.start, graphs.goal, concepts)), strict=True
        )
        return [
            PathPrompt(
                tuple(divmod(code, self.max_nodes) for code in codes if code >= 0),
                start, goal, concepts=tuple(kinds), split=split,
            )
            for codes, start, goal, kinds in rows
        ]  # fmt: skip

    def _accepted(
        self, n: int, n_nodes: int, edges: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Graphs, PathTable]:
        def draw(size: int) -> Graphs:
            return random_graphs(size, n_nodes, edges, self.max_nodes, rng)

        return accepted_graphs(n, draw, self.min_paths, self.max_paths, self.max_tries)

    # Tokens -------------------------------------------------------------------------------

    def encode(self, prompt: PathPrompt, demo: str | None = None) -> list[int]:
        """Tokens up to and with the answer mark; a demonstration needn't be correct."""
        tokens = [BOS]
        tokens += [
            self._node(u) * self.max_nodes + self._node(v) + FIRST_NODE + self.max_nodes
            for u, v in prompt.edges
        ]
        tokens += [QUESTION, START, FIRST_NODE + self._node(prompt.start)]
        tokens += [GOAL, FIRST_NODE + self._node(prompt.goal)]
        if prompt.waypoint is not None:
            tokens += [WAYPOINT, FIRST_NODE + self._node(prompt.waypoint)]
        if demo is not None:
            tokens += [DEMO, *self.encode_answer(demo)[:-1], DEMO_END]
        tokens.append(ANSWER)
        needed = len(tokens) + self.max_answer_tokens
        if needed > self.context_length:
            raise ValueError(
                f"context_length: prompt {prompt.problem_id} and an answer take {needed} tokens, "
                f"more than {self.context_length}; set context_length higher"
            )
        return tokens

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of an answer and the end token; ValueError if it isn't a path of known labels."""
        nodes = _nodes(answer)
        if not nodes:
            raise ValueError(f'answer: {answer!r} isn\'t a path such as "3-0-7-5"')
        return [FIRST_NODE + self._node(node) for node in nodes] + [EOS]

    def _node(self, label: int) -> int:
        if not 0 <= label < self.max_nodes:
            raise ValueError(f"node {label} isn't one of the labels 0 ... {self.max_nodes - 1}")
        return label

    def decode(self, tokens: Sequence[int] | npt.NDArray[np.integer]) -> str | None:
        """Canonical answer in tokens, up to the end token; None where they hold none."""
        nodes: list[int] = []
        for token in np.asarray(tokens, dtype=np.int64).tolist():
            if token == EOS:
                return "-".join(map(str, nodes)) if nodes else None
            if not FIRST_NODE <= token < FIRST_NODE + self.max_nodes:
                return None
            nodes.append(token - FIRST_NODE)
        return None

    # Answers ------------------------------------------------------------------------------

    def verify(self, prompt: PathPrompt, answer: str | None) -> bool:
        """Whether an answer is a correct path; anything that isn't a path is wrong."""
        nodes = _nodes(answer)
        return (
            len(nodes) > 0
            and nodes[0] == prompt.start
            and nodes[-1] == prompt.goal
            and len(set(nodes)) == len(nodes)
            and _steps(nodes) <= set(prompt.edges)
            and (prompt.waypoint is None or prompt.waypoint in nodes)
        )

    def correct_answers(self, prompt: PathPrompt) -> list[str]:
        """All correct paths, in lexicographic order of their label sequences."""
        return [_answer(path) for path in self._table(prompt).paths.tolist()]

    def concepts_of(self, prompt: PathPrompt, answer: str | None) -> frozenset[int]:
        """Concepts of the nodes that an answer names, right or wrong (None: no concepts)."""
        if not prompt.concepts:
            raise ValueError(f"prompt: {prompt.problem_id} has no concepts")
        if answer is None:
            return frozenset()
        nodes = [token - FIRST_NODE for token in self.encode_answer(answer)[:-1]]
        return frozenset(prompt.concepts[node] for node in nodes) - {-1}

    def _table(self, prompt: PathPrompt) -> PathTable:
        adjacency = np.zeros((1, self.max_nodes, self.max_nodes), dtype=bool)
        for u, v in prompt.edges:
            adjacency[0, self._node(u), self._node(v)] = True
        start, goal = self._node(prompt.start), self._node(prompt.goal)
        if start == goal:
            raise ValueError(f"goal: {prompt.problem_id} starts at its goal, {goal}")
        table, _ = enumerate_paths(adjacency, np.array([start]), np.array([goal]))
        waypoint = -1 if prompt.waypoint is None else self._node(prompt.waypoint)
        return table.through(np.array([waypoint]))

    # Authors ------------------------------------------------------------------------------

    def document_law(self, prompt: PathPrompt, demo: str | None = None) -> dict[str, float]:
        """Exact law of the last solution of a document, over the correct answers.

        P(y | x, c) of each; the rest, ``wrong`` or ``wrong_after_demo``, is the mass of wrong ones.
        A demonstration that isn't correct, or a prompt without a correct path, is a ValueError.

        Examples
        --------
        >>> task = PathTask(follow=0.9, wrong=0.3)
        >>> prompt = PathPrompt(edges=((0, 2), (0, 1), (1, 2)), start=0, goal=2)
        >>> {answer: round(p, 3) for answer, p in task.document_law(prompt).items()}
        {'0-1-2': 0.256, '0-2': 0.444}
        """
        answers, laws = self._laws(prompt)
        law = self._posterior(prompt, demo, answers, laws) @ laws
        right = 1 - (self.wrong if demo is None else self.wrong_after_demo)
        return dict(zip(answers, (right * law).tolist(), strict=True))

    def _laws(self, prompt: PathPrompt) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Correct answers, and P(y | x, s) of a solution without mistakes, [S, answers]."""
        table = self._table(prompt)
        n_paths = len(table.graph)
        if not n_paths:
            raise ValueError(f"prompt: {prompt.problem_id} has no correct path")
        laws = np.full((len(self.styles), n_paths), (1 - self.follow) / n_paths)
        laws[np.arange(len(laws)), favourites(table, self.styles)[:, 0]] += self.follow
        return [_answer(path) for path in table.paths.tolist()], laws

    def _posterior(
        self,
        prompt: PathPrompt,
        demo: str | None,
        answers: list[str],
        laws: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Style of a document's author given its demonstration [S], by Bayes' rule."""
        joint = np.array(self.style_shares, dtype=np.float64)
        if demo is not None:
            if demo not in answers:
                raise ValueError(f"demo: {demo!r} isn't a correct path of {prompt.problem_id}")
            joint = joint * laws[:, answers.index(demo)]
        if not joint.sum():
            raise ValueError(
                f"demo: no author writes {demo!r} when follow is 1; choose the path of a style"
            )
        return joint / joint.sum()

    # Documents ----------------------------------------------------------------------------

    def documents(self, n: int, rng: RandomState = None) -> Documents:
        """Draw pre-training documents, each about a graph of its own; errors as in `sample`."""
        rng = np.random.default_rng(rng)
        sizes = [min(_CHUNK, n - begun) for begun in range(0, _check_n(n), _CHUNK)]
        parts = [self._write(size, rng) for size in sizes]
        longest = max(part.tokens.shape[1] for part in parts)
        return Documents(
            np.concatenate([_widen(part.tokens, longest, PAD) for part in parts]),
            np.concatenate([_widen(part.mask, longest, False) for part in parts]),
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in ("style", "demo", "wrong", "waypoint")
            },
        )

    def _write(self, n: int, rng: np.random.Generator) -> Documents:
        graphs, table = self._accepted(n, self.n_nodes, self.edges, rng)
        waypoint = _draw_waypoints(table, self.waypoint_share, rng)
        table = table.through(waypoint)
        own = favourites(table, self.styles)
        style = rng.choice(len(self.styles), n, p=self.style_shares)
        demo = rng.random(n) < self.demo_share
        wrong = rng.random(n) < np.where(demo, self.wrong_after_demo, self.wrong)

        def solve() -> Ints:
            any_path = table.offsets[:-1] + rng.integers(0, table.count)
            follows = rng.random(n) < self.follow
            row = np.where(follows, own[style, np.arange(n)], any_path)
            return table.paths[row].astype(np.int64)

        shown, solution = solve(), solve()
        shown[~demo] = -1
        answer = np.pad(solution, ((0, 0), (0, 1)), constant_values=-1)
        adjacency = graphs.adjacency()
        answer[wrong] = spoil(solution[wrong], adjacency[wrong], graphs.goal[wrong], rng)[0]
        tokens, mask = lay_out(graphs, waypoint, shown, answer)
        return Documents(tokens, mask, style, demo, wrong, waypoint >= 0)


def _widen(rows: npt.NDArray[Any], width: int, value: int) -> npt.NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)


def _draw_waypoints(table: PathTable, share: float, rng: np.random.Generator) -> Ints:
    """Waypoint of each graph, -1 for none: a node that some but not all paths visit."""
    count = np.add.reduceat(table.visits(), table.offsets[:-1], axis=0, dtype=np.int64)
    options = (count > 0) & (count < table.count[:, None])
    chosen = (options * (1 - rng.random(options.shape))).argmax(1)
    return np.where((rng.random(len(chosen)) < share) & options.any(1), chosen, -1)


def _nodes(answer: str | None) -> list[int]:
    """Labels of a canonical path; none if it isn't one."""
    if not isinstance(answer, str) or not _ANSWER.fullmatch(answer):
        return []
    return [int(part) for part in answer.split("-")]


def _answer(path: Sequence[int]) -> str:
    return "-".join(str(node) for node in path if node >= 0)


def _steps(nodes: list[int]) -> set[tuple[int, int]]:
    return set(pairwise(nodes))


def _check_n(n: int) -> int:
    if operator.index(n) < 1:
        raise ValueError(f"n: {n} must be 1 or more")
    return n


def _check_sizes(task: PathTask) -> None:
    """Refuse numbers of nodes, edges and paths that no graph has."""
    _between(task, "max_nodes", 2, 100)
    _between(task, "n_nodes", 2, task.max_nodes, "max_nodes, which is ")
    for name, nodes in (("edges", task.n_nodes), ("larger_edges", task.max_nodes)):
        low, high = getattr(task, name)
        if not 1 <= low <= high <= nodes * (nodes - 1):
            raise ValueError(
                f"{name}: {(low, high)} must be a smallest and a largest number between 1 and "
                f"{nodes * (nodes - 1)}, the edges that {nodes} nodes can have"
            )
    _between(task, "min_paths", 1, task.max_paths, "max_paths, which is ")
    for name in ("n_concepts", "max_tries"):
        _between(task, name, 1, float("inf"))


def _check_authors(task: PathTask) -> None:
    """Refuse shares that are none, and styles that are unknown."""
    for name in ("follow", "wrong", "wrong_after_demo", "demo_share", "waypoint_share"):
        _between(task, name, 0, 1)
    unknown = [style for style in task.styles if style not in STYLES]
    if unknown:
        raise ValueError(f"styles: unknown style {unknown[0]!r}; known are {', '.join(STYLES)}")
    if not task.styles or len(set(task.styles)) < len(task.styles):
        raise ValueError(f"styles: {task.styles} must be one or more, of different names")
    shares = task.style_shares
    if len(shares) != len(task.styles):
        raise ValueError(
            f"style_shares: {len(shares)} numbers for {len(task.styles)} styles; give one each"
        )
    if not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"style_shares: {shares} must be 0 or more and sum to 1, not {sum(shares)}"
        )


def _between(task: PathTask, name: str, low: float, high: float, named: str = "") -> None:
    value = getattr(task, name)
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} must be between {low} and {named}{high}")
