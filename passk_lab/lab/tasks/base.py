"""What training needs of a task, and a check of it.

A task is any object with the attributes and methods of `Task`; it inherits from nothing.
CONTRIBUTING.md has a whole one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

__all__ = ["Encoder", "Task", "check_task"]


PromptT = TypeVar("PromptT")


class Encoder(Protocol):
    """The part of a task that makes tokens of prompts, demonstrations and answers."""

    @property
    def pad_id(self) -> int:
        """Token that fills rows up; never part of a prompt or an answer."""

    def encode(self, prompt: Any, demo: str | None = None) -> list[int]:
        """Tokens up to where the answer starts; with ``demo``, the teacher's context."""

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of an answer, the end token included."""


class Task(Encoder, Protocol[PromptT]):
    """Problems, their tokens and their verifier; plain attributes do for the properties.

    A prompt is anything with a ``problem_id``, a text: the same in every run, another for every
    other problem.

    A task may also have ``ends``, several tokens that end an answer in place of ``eos_id``, and
    ``canonical(prompt, answer)``, one name for answers that mean the same to a prompt.
    """

    @property
    def name(self) -> str:
        """Short name, as it stands in file names and tables."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids are 0 ... vocab_size - 1."""

    @property
    def eos_id(self) -> int:
        """Token that ends an answer."""

    @property
    def context_length(self) -> int:
        """Longest sequence: a prompt with a demonstration and an answer fit in it."""

    @property
    def max_answer_tokens(self) -> int:
        """Sampling stops after so many tokens, the end token included."""

    def sample(self, n: int, rng: np.random.Generator) -> list[PromptT]:
        """Draw ``n`` prompts; the same generator state gives the same prompts."""

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Canonical answer in generated tokens (all after the end token is ignored).

        None where they hold no answer: no end token, or tokens that make no sense.
        """

    def verify(self, prompt: PromptT, answer: str | None) -> bool:
        """Whether the answer is correct; never raises for a bad answer."""

    def correct_answers(self, prompt: PromptT) -> list[str]:
        """All correct answers, each once. NotImplementedError where they can't be listed."""


def check_task(task: Task[Any], n: int = 16, rng: int | np.random.Generator | None = 0) -> None:
    """Try a task on ``n`` prompts and say what doesn't hold together.

    Raises
    ------
    ValueError
        A promise of `Task` is broken; the message names the method and the prompt.

    Examples
    --------
    >>> from passk_lab.lab.tasks.paths import PathTask
    >>> check_task(PathTask())
    """
    _require(task.pad_id != task.eos_id, "pad_id and eos_id are the same token")
    _require_tokens(task, [task.pad_id, task.eos_id], "pad_id, eos_id")
    prompts = task.sample(n, np.random.default_rng(rng))
    _require(len(prompts) == n, f"sample({n}, rng) gave {len(prompts)} prompts")
    for prompt in prompts:
        _require(isinstance(prompt.problem_id, str), "problem_id isn't a string")
        _check_prompt(task, prompt)


def _check_prompt(task: Task[Any], prompt: Any) -> None:
    at = f"prompt {prompt.problem_id!r}"
    _require(not task.verify(prompt, None), f"verify accepts None at {at}")
    try:
        answers = task.correct_answers(prompt)
    except NotImplementedError:
        answers = []
    else:
        _require(len(answers) > 0, f"correct_answers is empty at {at}")
        _require(len(set(answers)) == len(answers), f"correct_answers repeats one at {at}")
    for demo in [None, *answers[:1]]:
        tokens = task.encode(prompt, demo)
        _require_tokens(task, tokens, f"encode at {at}")
        _require(task.pad_id not in tokens, f"encode uses pad_id at {at}")
        length = len(tokens) + task.max_answer_tokens
        _require(
            length <= task.context_length,
            f"{at} and an answer take up to {length} tokens, context_length is "
            f"{task.context_length}",
        )
    for answer in answers:
        tokens = task.encode_answer(answer)
        _require_tokens(task, tokens, f"encode_answer({answer!r})")
        _require(
            list(tokens).count(task.eos_id) == 1 and tokens[-1] == task.eos_id,
            f"encode_answer({answer!r}) doesn't end with its only eos_id",
        )
        _require(
            len(tokens) <= task.max_answer_tokens,
            f"encode_answer({answer!r}) is longer than max_answer_tokens",
        )
        _require(
            task.decode([*tokens, task.pad_id]) == answer,
            f"decode(encode_answer({answer!r})) isn't the answer",
        )
        _require(task.decode(tokens[:-1]) is None, f"decode finds {answer!r} without its eos_id")
        _require(task.verify(prompt, answer), f"verify refuses {answer!r} at {at}")


def _require_tokens(task: Task[Any], tokens: Iterable[int], what: str) -> None:
    outside = [token for token in tokens if not 0 <= token < task.vocab_size]
    _require(not outside, f"{what}: token {outside[:1]} is outside 0 ... {task.vocab_size - 1}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"task check: {message}")
