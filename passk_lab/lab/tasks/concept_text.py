"""The Concept Graph in words, for a language model: prompts as the paper lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np

from passk_lab.lab.tasks._concept_names import CONCEPTS, SHAPES
from passk_lab.lab.tasks.concepts import ConceptPrompt, ConceptTask
from passk_lab.lab.tasks.text import TextTask

__all__ = ["ConceptQuestion", "ConceptTextTask"]

_BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_CONCEPTS = tuple(CONCEPTS)
_MEMBERS = {name: place for place, names in enumerate(CONCEPTS.values()) for name in names}


@dataclass(frozen=True)
class ConceptQuestion:
    r"""A star of chains in words: nodes with id, name and concept, edges, and what is asked.

    Examples
    --------
    >>> question = ConceptQuestion(ConceptTask().sample(1, 0)[0])
    >>> print(*question.text.splitlines()[1:4], sep=chr(10))
    Nodes (id: name, concept):
    0: hexagon, shape
    1: plane, tool
    >>> question.read(r"So the path is \boxed{start, Robin, wren, star}.")
    'robin-wren-star'
    """

    prompt: ConceptPrompt

    @property
    def problem_id(self) -> str:
        """That of the prompt."""
        return self.prompt.problem_id

    @cached_property
    def text(self) -> str:
        """Nodes in the order of random ids, edges in random order."""
        nodes = [("start", "start")]
        edges: list[tuple[int, int]] = []
        ends: dict[int, int] = {}  # shape node of each concept
        for chain in self.prompt.chains:
            *names, shape = chain.words
            if chain.concept not in ends:
                ends[chain.concept] = len(nodes)
                nodes.append((shape, "shape"))
            first = len(nodes)
            nodes += [(name, _CONCEPTS[chain.concept]) for name in names]
            steps = pairwise([0, *range(first, len(nodes)), ends[chain.concept]])
            edges += [step for at, step in enumerate(steps) if chain.cut < 0 or at != chain.cut + 1]
        # The prompt's own order of edges decides everything random.
        rng = np.random.default_rng(list(self.prompt.order))
        ids = rng.permutation(len(nodes)).tolist()
        listed = sorted((number, *node) for number, node in zip(ids, nodes, strict=True))
        drawn = (edges[place] for place in rng.permutation(len(edges)).tolist())
        lines = [
            "Here is an undirected graph.",
            "Nodes (id: name, concept):",
            *(f"{number}: {name}, {concept}" for number, name, concept in listed),
            "Edges (id(name)--id(name)):",
            *("--".join(f"{ids[node]}({nodes[node][0]})" for node in edge) for edge in drawn),
            "Find a path from the node start to a node with the name "
            f"{SHAPES[self.prompt.target]}. Several paths may be right; give one. Write the names "
            "of its nodes in order, separated by commas, in \\boxed{}.",
        ]
        return "\n".join(lines)

    def read(self, reply: str | None) -> str | None:
        """Names in the last box of a reply, without the start; None where there is none."""
        boxes = _BOX.findall(reply or "")
        if not boxes:
            return None
        text = re.sub(r"\\text\{([^{}]*)\}", r"\1", boxes[-1]).lower()
        names = [name.strip() for name in re.split(r",|->|→|-", text)]
        names = [name for name in names if name]
        if names and names[0] == "start":
            names = names[1:]
        return "-".join(names) or None

    def accepts(self, answer: str | None) -> bool:
        """Whether the names follow a whole chain to the target."""
        return answer in self.prompt.answers


@dataclass(frozen=True)
class ConceptTextTask(TextTask[ConceptQuestion]):
    """Questions of the Concept Graph as a task; parameters and errors are those of `TextTask`."""

    name: ClassVar[str] = "concepts-text"

    def concepts_of(self, prompt: ConceptQuestion, answer: str | None) -> frozenset[int]:
        """Concepts among the nodes that a reply names (None: no concepts)."""
        words = (prompt.read(answer) or "").split("-")
        return frozenset(_MEMBERS[word] for word in words if word in _MEMBERS)

    @staticmethod
    def questions_of(
        task: ConceptTask, split: str, n: int, seed: int
    ) -> tuple[ConceptQuestion, ...]:
        """Draw questions of a split, each of another name."""
        found: dict[str, ConceptQuestion] = {}
        rng = np.random.default_rng(seed)
        while len(found) < n:
            for prompt in task.split(split, n - len(found), rng):
                found[prompt.problem_id] = ConceptQuestion(prompt)
        return tuple(found.values())
