"""The Concept Graph of arXiv 2606.26091: many chains from one start, right along two concepts.

A prompt is a star: ``start`` is joined to the first node of every chain, a chain's nodes carry
names of one concept, and the chains of a concept end at one shape. Two of the concepts, the
*routes*, end at the shape that is asked for. An answer names the nodes from start to the target,
such as "robin-wren-heron-star". One route is listed before the other: it is the easy one, with the
shorter chains in distribution, so that a route can be recognised by its place.

Splits: ``id`` has short chains on the easy route and long ones on the hard; in ``larger-mid`` and
``larger`` all chains are as long as the hard ones and longer; in ``harder`` all are short, and one
edge is missing in each chain of the easy route (``mirror``: of the hard route).

Pre-training documents are written by authors. Most prefer the easy route, some the hard one, each
with probability ``habit``; then they make slips. A demonstration tells which kind of author writes
the document, so the law of the answer after it is known exactly: `ConceptTask.route_law`. The
larger ``habit``, the more a demonstration says: it is how far the teacher obeys it. Some documents
list all right answers instead, under a mark of their own: without them, a small model is very slow
to learn how to follow a chain.

One token an edge, so that prompts are short (`ConceptQuestion` has them in words):

    bos start-edge ... edge ... question shape
    [demo name ... shape demo-end] answer name ... shape eos
    bos start-edge ... edge ... question shape list name ... shape ... name ... shape eos
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from passk_lab.lab.tasks._concept_names import CONCEPTS, SHAPES

__all__ = ["SPLITS", "ConceptPrompt", "ConceptTask"]

RandomState = int | np.random.Generator | None
Route = Literal["easy", "hard", ""]

SPLITS = ("id", "larger-mid", "larger", "harder", "mirror")
PAD, BOS, EOS, QUESTION, DEMO, DEMO_END, ANSWER, LIST = range(8)
_SPECIALS = 8
_CONCEPTS = tuple(CONCEPTS)
_PLACE_OF = {
    name: (concept, place)
    for concept, names in enumerate(CONCEPTS.values())
    for place, name in enumerate(names)
}


class Chain(NamedTuple):
    """A chain from the start to a shape.

    ``concept`` and ``shape`` are numbers, ``names`` those of its nodes in order. The edge after
    node ``cut`` is missing (-1: none). ``route`` is "easy" or "hard" where it leads to the target.
    """

    concept: int
    shape: int
    names: tuple[int, ...]
    route: Route
    cut: int = -1

    @property
    def words(self) -> list[str]:
        """What an answer along this chain names."""
        names = CONCEPTS[_CONCEPTS[self.concept]]
        return [*(names[name] for name in self.names), SHAPES[self.shape]]


@dataclass(frozen=True)
class ConceptPrompt:
    """A star of chains, in the order in which their first edges are listed, and the target's shape.

    ``order`` is the order in which the other edges stand.
    """

    chains: tuple[Chain, ...]
    target: int
    order: tuple[int, ...]
    split: str = "id"

    @cached_property
    def problem_id(self) -> str:
        """The split and a hash of the content."""
        content = repr((self.chains, self.target, self.order))
        return f"{self.split}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @cached_property
    def answers(self) -> dict[str, Chain]:
        """Correct answers, each with its chain."""
        whole = [chain for chain in self.chains if chain.route and chain.cut < 0]
        return {"-".join(chain.words): chain for chain in whole}


@dataclass(frozen=True)
class _Documents:
    """Pre-training documents: right padded ``tokens`` [n, L], and a ``mask`` of the answers."""

    tokens: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConceptTask:
    """The Concept Graph; parameters that don't fit together are a ValueError.

    Parameters
    ----------
    n_concepts, n_chains, n_names : int
        Concepts of a prompt (two lead to the target), chains of each, and names that a concept has.
    repeat : bool
        Chains of a concept may share names, as in the paper; the prompts are then for
        `ConceptQuestion`, which tells nodes apart by their ids. Else no two nodes of a prompt have
        the same name.
    lengths : (int, int)
        Nodes of an easy and of a hard chain, in distribution, without start and shape.
    larger : int
        Nodes of all chains in ``larger``.
    easy_share : float
        How often an author takes the easy route.
    habit : float
        Probability that an author takes the route that this author prefers; above ``easy_share``.
    slip, slip_after_demo : float
        Probability, at each edge after the first, to name some other node of the concept instead.
    stray : float
        Probability to follow a chain that leads elsewhere.
    demo_share, demo_easy : float
        Share of documents with a demonstration; of those, with one along the easy route.
    copies : float
        Probability that an author on the demonstration's route also takes its chain, not any.
    list_share : float
        Share of documents that list all right answers.
    longest_seen : int
        In half of the documents all chains are equally long, with up to so many nodes.

    Examples
    --------
    >>> task = ConceptTask()
    >>> prompt = task.sample(1, 0)[0]
    >>> len(task.correct_answers(prompt)), task.verify(prompt, "robin-wren-heron-star")
    (4, False)
    """

    n_concepts: int = 4
    n_chains: int = 2
    n_names: int = 12
    repeat: bool = False
    lengths: tuple[int, int] = (3, 4)
    larger: int = 6
    easy_share: float = 0.85
    habit: float = 0.97
    slip: float = 0.14
    slip_after_demo: float = 0.01
    stray: float = 0.02
    demo_share: float = 0.5
    demo_easy: float = 0.6
    copies: float = 0.0
    list_share: float = 0.2
    longest_seen: int = 6

    name: ClassVar[str] = "concepts"
    pad_id: ClassVar[int] = PAD
    eos_id: ClassVar[int] = EOS

    def __post_init__(self) -> None:
        if not 3 <= self.n_concepts <= len(CONCEPTS):
            raise ValueError(f"n_concepts={self.n_concepts} must be between 3 and {len(CONCEPTS)}")
        most = len(next(iter(CONCEPTS.values())))
        longest = max(*self.lengths, self.larger, self.longest_seen)
        apart = 1 if self.repeat else self.n_chains  # chains without a common name
        if not apart * longest <= self.n_names <= most:
            raise ValueError(
                f"n_names={self.n_names} must be between {apart * longest}, the names of "
                f"{apart} chains of {longest} nodes, and {most}"
            )
        if min(*self.lengths, self.longest_seen) < 2 or self.n_chains < 1:
            raise ValueError("lengths, longest_seen: a chain has at least 2 nodes")
        for name in (
            "easy_share",
            "slip",
            "slip_after_demo",
            "stray",
            "demo_share",
            "demo_easy",
            "copies",
            "list_share",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be between 0 and 1")
        if not max(self.easy_share, 1 - self.easy_share) <= self.habit <= 1 or self.habit <= 0.5:
            raise ValueError(
                f"habit={self.habit} must be above 0.5, at most 1 and not below "
                f"easy_share={self.easy_share} (or 1 - easy_share)"
            )

    # Sizes --------------------------------------------------------------------------------

    @property
    def _first(self) -> tuple[int, int, int, int, int]:
        """First token of shapes, names, start edges, inner edges and end edges."""
        names = self.n_concepts * self.n_names
        sizes = (len(SHAPES), names, names * len(SHAPES), names * self.n_names)
        return tuple(_SPECIALS + sum(sizes[:i]) for i in range(5))  # type: ignore[return-value]

    @property
    def vocab_size(self) -> int:
        """Number of tokens: specials, shapes, names and the three kinds of edges."""
        return self._first[-1] + self.n_concepts * self.n_names * len(SHAPES)

    @property
    def max_answer_tokens(self) -> int:
        """The longest chain and a few nodes more, the shape and the end."""
        return max(*self.lengths, self.larger, self.longest_seen) + 4

    @property
    def context_length(self) -> int:
        """Longest sequence: all chains at their longest, and all answers (or two) in a row."""
        longest = max(*self.lengths, self.larger, self.longest_seen)
        prompt = self.n_concepts * self.n_chains * (longest + 1) + 3
        return prompt + max(2 * self.n_chains, 2) * (longest + 1) + 6

    # Prompts ------------------------------------------------------------------------------

    def sample(self, n: int, rng: RandomState = None) -> list[ConceptPrompt]:
        """Draw prompts in distribution, split "id"."""
        return self.split("id", n, rng)

    def split(self, name: str, n: int, rng: RandomState = None) -> list[ConceptPrompt]:
        """Draw prompts of a split, one of `SPLITS`."""
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
        if operator.index(n) < 1:
            raise ValueError(f"n: {n} must be 1 or more")
        rng = np.random.default_rng(rng)
        easy, hard = self.lengths
        lengths = {
            "id": (easy, hard), "larger-mid": (hard, hard), "larger": (self.larger, self.larger)
        }.get(name, (easy, easy))  # fmt: skip
        made = [self._draw(lengths, rng) for _ in range(n)]
        if name in ("harder", "mirror"):
            made = [_cut(prompt, "easy" if name == "harder" else "hard", rng) for prompt in made]
        return [replace(prompt, split=name) for prompt in made]

    def _draw(self, lengths: tuple[int, int], rng: np.random.Generator) -> ConceptPrompt:
        """The concepts in random order, two of them routes; the first of these is the easy one."""
        concepts = rng.permutation(self.n_concepts).tolist()
        routes = sorted(rng.choice(self.n_concepts, 2, replace=False).tolist())
        shapes = rng.permutation(len(SHAPES)).tolist()
        target = shapes.pop()
        chains = []
        for place, concept in enumerate(concepts):
            names = rng.permutation(self.n_names).tolist()
            kind = routes.index(place) if place in routes else -1
            shape = shapes.pop() if kind < 0 else target
            length = lengths[kind if kind >= 0 else int(rng.integers(2))]
            route: Route = "" if kind < 0 else ("easy", "hard")[kind]
            for at in range(self.n_chains):
                if self.repeat:
                    at, names = 0, rng.permutation(self.n_names).tolist()
                part = tuple(names[at * length : (at + 1) * length])
                chains.append(Chain(concept, shape, part, route))
        n_edges = sum(len(chain.names) for chain in chains)
        return ConceptPrompt(tuple(chains), target, tuple(rng.permutation(n_edges).tolist()))

    # Tokens -------------------------------------------------------------------------------

    def encode(self, prompt: ConceptPrompt, demo: str | None = None) -> list[int]:
        """Tokens up to and with the answer mark; a demonstration needn't be correct."""
        if self.repeat:
            raise ValueError("repeat: equal names need ids; give the prompt to ConceptQuestion")
        tokens = [BOS, *self._start_edges(prompt), *self._edges(prompt)]
        tokens += [QUESTION, self._first[0] + prompt.target]
        if demo is not None:
            tokens += [DEMO, *self.encode_answer(demo)[:-1], DEMO_END]
        return [*tokens, ANSWER]

    def _start_edges(self, prompt: ConceptPrompt) -> list[int]:
        """Edges from the start; each token also tells the shape at the chain's end."""
        return [
            self._first[2] + self._node(chain, 0) * len(SHAPES) + chain.shape
            for chain in prompt.chains
        ]

    def _edges(self, prompt: ConceptPrompt) -> list[int]:
        edges: list[int] = []
        for chain in prompt.chains:
            for at in range(len(chain.names) - 1):
                inner = self._first[3] + self._node(chain, at) * self.n_names + chain.names[at + 1]
                edges.append(-1 if at == chain.cut else inner)
            edges.append(self._first[4] + self._node(chain, -1) * len(SHAPES) + chain.shape)
        return [edges[place] for place in prompt.order if edges[place] >= 0]

    def _node(self, chain: Chain, at: int) -> int:
        return chain.concept * self.n_names + chain.names[at]

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of an answer and the end token; ValueError if it names what is unknown."""
        *names, shape = answer.split("-")
        if not names or shape not in SHAPES:
            raise ValueError(f'answer: {answer!r} is no list of names and a shape, as "robin-star"')
        tokens = []
        for name in names:
            concept, place = _PLACE_OF.get(name, (self.n_concepts, 0))
            if concept >= self.n_concepts or place >= self.n_names:
                raise ValueError(f"answer: {name!r} in {answer!r} is none of the task's names")
            tokens.append(self._first[1] + concept * self.n_names + place)
        return [*tokens, self._first[0] + SHAPES.index(shape), EOS]

    def decode(self, tokens: Sequence[int] | npt.NDArray[np.integer]) -> str | None:
        """Canonical answer in tokens, up to the end token; None where they hold none."""
        words: list[str] = []
        for token in np.asarray(tokens, dtype=np.int64).tolist():
            if token == EOS:
                return "-".join(words) if len(words) > 1 and words[-1] in SHAPES else None
            if self._first[1] <= token < self._first[2] and (not words or words[-1] not in SHAPES):
                concept, place = divmod(token - self._first[1], self.n_names)
                words.append(CONCEPTS[_CONCEPTS[concept]][place])
            elif self._first[0] <= token < self._first[1] and words and words[-1] not in SHAPES:
                words.append(SHAPES[token - self._first[0]])
            else:
                return None
        return None

    # Answers ------------------------------------------------------------------------------

    def verify(self, prompt: ConceptPrompt, answer: str | None) -> bool:
        """Whether an answer follows a whole chain to the target."""
        return answer in prompt.answers

    def correct_answers(self, prompt: ConceptPrompt) -> list[str]:
        """All correct answers, those of the easy route first."""
        return list(prompt.answers)

    def concepts_of(self, prompt: ConceptPrompt, answer: str | None) -> frozenset[int]:
        """Concepts among the nodes that an answer names, right or wrong (None: no concepts)."""
        words = () if answer is None else answer.split("-")
        return frozenset(_PLACE_OF[word][0] for word in words if word in _PLACE_OF)

    # Authors ------------------------------------------------------------------------------

    def route_law(self, demo: Route = "") -> dict[Route, float]:
        """Probability of each route in a document, given the route of its demonstration, if any.

        Examples
        --------
        >>> {route: round(p, 3) for route, p in ConceptTask().route_law("hard").items()}
        {'easy': 0.194, 'hard': 0.806}
        """
        h = self.habit
        prefer_easy = (self.easy_share - (1 - h)) / (2 * h - 1)
        if demo:
            shown = {"easy": h, "hard": 1 - h}[demo]
            joint = prefer_easy * shown
            prefer_easy = joint / (joint + (1 - prefer_easy) * (1 - shown))
        easy = prefer_easy * h + (1 - prefer_easy) * (1 - h)
        return {"easy": easy, "hard": 1 - easy}

    def documents(self, n: int, rng: RandomState = None) -> _Documents:
        """Draw pre-training documents, each about a prompt of its own."""
        rng = np.random.default_rng(rng)
        rows = [self._document(rng) for _ in range(n)]
        width = max(len(before) + len(after) for before, after in rows)
        tokens = np.full((n, width), PAD, dtype=np.int64)
        mask = np.zeros((n, width), dtype=bool)
        for row, (before, after) in enumerate(rows):
            end = len(before) + len(after)
            tokens[row, :end] = before + after
            mask[row, len(before) : end] = True
        return _Documents(tokens, mask)

    def _document(self, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        lengths = self.lengths
        if rng.random() < 0.5:
            length = int(rng.integers(min(lengths), self.longest_seen, endpoint=True))
            lengths = (length, length)
        prompt = self._draw(lengths, rng)
        if rng.random() < self.list_share:
            listed = [token for a in prompt.answers for token in self.encode_answer(a)[:-1]]
            return [*self.encode(prompt)[:-1], LIST], [*listed, EOS]
        demo: Chain | None = None
        if rng.random() < self.demo_share:
            demo = _any(prompt, "easy" if rng.random() < self.demo_easy else "hard", rng)
        easy = self.route_law(demo.route if demo else "")["easy"]
        route: Route = "easy" if rng.random() < easy else "hard"
        if rng.random() < self.stray:
            route = ""
        chain = _any(prompt, route, rng)
        # Without copies nothing is drawn: seeds give the documents that the shipped bases saw.
        if self.copies and demo and route == demo.route and rng.random() < self.copies:
            chain = demo
        slip = self.slip_after_demo if demo else self.slip
        shown = "-".join(demo.words) if demo else None
        return self.encode(prompt, shown), self._written(prompt, chain, slip, rng)

    def _written(
        self, prompt: ConceptPrompt, chain: Chain, slip: float, rng: np.random.Generator
    ) -> list[int]:
        """Tokens of an answer along a chain; a slip goes on at some other node of the concept."""
        others = [c for c in prompt.chains if c.concept == chain.concept]
        places = [(c, at) for c in others for at in range(len(c.names))]
        at = 0
        tokens: list[int] = []
        while at < len(chain.names) and len(tokens) < self.max_answer_tokens - 2:
            tokens.append(self._first[1] + self._node(chain, at))
            if rng.random() < slip:
                right = (chain, at + 1)
                wrong = [place for place in places if place not in (right, (chain, at))]
                chain, at = wrong[rng.integers(len(wrong))]
            else:
                at += 1
        return [*tokens, self._first[0] + chain.shape, EOS]


def _any(prompt: ConceptPrompt, route: Route, rng: np.random.Generator) -> Chain:
    chains = [chain for chain in prompt.chains if chain.route == route]
    return chains[rng.integers(len(chains))]


def _cut(prompt: ConceptPrompt, route: Route, rng: np.random.Generator) -> ConceptPrompt:
    """Take a random inner edge out of each chain of a route."""
    chains = [
        chain._replace(cut=int(rng.integers(len(chain.names) - 1)))
        if chain.route == route
        else chain
        for chain in prompt.chains
    ]
    return replace(prompt, chains=tuple(chains))
