"""Text for language models: prompts, demonstrations and replies as tokens, and tasks made of them.

A question of a `TextTask` knows its text and grades replies. So a task of your own needs one class,
such as `passk_lab.lab.tasks.countdown.Game`, and a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd

__all__ = ["TEMPLATES", "TextEncoder", "TextQuestion", "TextTask", "grade"]

Turns = Sequence[Mapping[str, str]]

TEMPLATES = {
    # Hübotter et al., arXiv 2601.20802; the wording of their configuration and of TRL's trainer.
    "sdpo": (
        "{prompt}\nCorrect solution:\n\n{demo}\n\n\n\nCorrectly solve the original question.\n"
    ),
    # Zhao et al., arXiv 2601.18734, Figure 2.
    "opsd": (
        "{prompt}\n\nHere is a reference solution:\n{demo}\n\nAfter understanding the reference "
        "solution, please try to solve this problem using your own approach below:\n"
    ),
}


@dataclass(frozen=True)
class TextEncoder:
    """Tokens of text, for a language model and its tokenizer.

    A template without its fields, or a tokenizer without what is asked for, is a ValueError.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    template : str
        A name in `TEMPLATES`, or a format with ``{prompt}`` and ``{demo}``.
    chat : bool, optional
        Put the text into the tokenizer's chat template, as a message of the user; default where
        the tokenizer has one.
    system : str, optional
        A system message of the chat.
    """

    tokenizer: Any
    template: str = "sdpo"
    chat: bool | None = None
    system: str | None = None
    pad_id: int = field(init=False)

    def __post_init__(self) -> None:
        for name in ("{prompt}", "{demo}"):
            if name not in self._format:
                raise ValueError(
                    f"template {self.template!r} has no {name}; give a format with {{prompt}} and "
                    f"{{demo}}, or one of {', '.join(TEMPLATES)}"
                )
        if self.chat and not self.tokenizer.chat_template:
            raise ValueError("chat: the tokenizer has no chat template; set chat=False")
        if self.system is not None and not self._is_chat:
            raise ValueError("system: a message of the system needs a chat template; leave it out")
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        if end is None:
            raise ValueError("the tokenizer has no end token; set its eos_token")
        # Padding is masked, so any token will do.
        object.__setattr__(self, "pad_id", end if pad is None else pad)

    @property
    def _format(self) -> str:
        return TEMPLATES.get(self.template, self.template)

    @property
    def _is_chat(self) -> bool:
        return bool(self.tokenizer.chat_template) if self.chat is None else self.chat

    def text(self, prompt: str, demo: str | None) -> str:
        """The prompt, with a demonstration put in by the template."""
        # Not str.format: prompts and demonstrations may hold braces.
        if demo is None:
            return prompt
        before, _, after = self._format.partition("{demo}")
        return before.replace("{prompt}", prompt) + demo + after.replace("{prompt}", prompt)

    def encode(self, prompt: str | Turns, demo: str | None = None) -> list[int]:
        """Tokens of a text, or of a chat's turns, up to where the answer starts."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        *before, last = turns
        messages = [*before, {**last, "content": self.text(last["content"], demo)}]
        if not self._is_chat:
            return list(self.tokenizer("\n".join(m["content"] for m in messages))["input_ids"])
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        # As text first: the return type of the tokenised form differs between versions.
        wrapped = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return list(self.tokenizer(wrapped, add_special_tokens=False)["input_ids"])

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of a reply and the end token."""
        tokens = list(self.tokenizer(answer, add_special_tokens=False)["input_ids"])
        return [*tokens, self.tokenizer.eos_token_id]


class TextQuestion(Protocol):
    """A prompt in words that grades replies itself."""

    @property
    def problem_id(self) -> str:
        """Name of the problem."""

    @property
    def text(self) -> str | Turns:
        """What the user says, or the turns of a chat, the user's last."""

    def read(self, reply: str | None) -> str | None:
        """Canonical answer in a reply; None where it holds none."""

    def accepts(self, answer: str | None) -> bool:
        """Whether a canonical answer is right."""


QuestionT = TypeVar("QuestionT", bound=TextQuestion)


@dataclass(frozen=True)
class TextTask(Generic[QuestionT]):
    """Questions in words, each of another name, as a task whose answers are whole replies.

    Parameters
    ----------
    questions : tuple of TextQuestion
    encoder : TextEncoder
    max_answer_tokens : int
        A reply is cut off here, and then counts as none.
    context_length : int
        Longest sequence that the model takes.
    """

    questions: tuple[QuestionT, ...]
    encoder: TextEncoder
    max_answer_tokens: int = 256
    context_length: int = 2048

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError("questions: there are none; give at least one")
        names = [question.problem_id for question in self.questions]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"questions: two are called {twice!r}; give each its own problem_id")

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.encoder.tokenizer)

    @cached_property
    def pad_id(self) -> int:
        """A token that is neither an end nor in a prompt (many tokenizers pad with the end)."""
        taken = set(self.encoder.encode(self.questions[0].text)) | self.ends
        tokenizer = self.encoder.tokenizer
        named = [self.encoder.pad_id, tokenizer.unk_token_id, *tokenizer.all_special_ids]
        return next(
            t for t in [*named, *range(self.vocab_size)] if t is not None and t not in taken
        )

    @property
    def eos_id(self) -> int:
        """Token that ends a reply."""
        return int(self.encoder.tokenizer.eos_token_id)

    @cached_property
    def ends(self) -> frozenset[int]:
        """All tokens that end a reply."""
        return frozenset({self.eos_id})

    def sample(self, n: int, rng: np.random.Generator) -> list[QuestionT]:
        """Draw questions, none twice before all have been drawn."""
        order: list[int] = []
        while len(order) < n:
            order += rng.permutation(len(self.questions)).tolist()
        return [self.questions[place] for place in order[:n]]

    def encode(self, prompt: QuestionT, demo: str | None = None) -> list[int]:
        """Tokens of the chat up to where the reply starts; with a demonstration, the teacher's."""
        tokens = self.encoder.encode(prompt.text, demo)
        needed = len(tokens) + self.max_answer_tokens
        if needed > self.context_length:
            raise ValueError(
                f"context_length: question {prompt.problem_id} and a reply take {needed} tokens, "
                f"more than {self.context_length}; lower max_answer_tokens, or raise "
                "context_length if the model allows it"
            )
        return tokens

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of a reply and the end token."""
        return self.encoder.encode_answer(answer)

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Text of a reply; None where it is empty or was cut off."""
        tokens = list(tokens)
        end = next((at for at, token in enumerate(tokens) if token in self.ends), None)
        return None if end is None else self.text(tokens[: end + 1]) or None

    def text(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens."""
        return str(self.encoder.tokenizer.decode(tokens, skip_special_tokens=True).strip())

    def verify(self, prompt: QuestionT, answer: str | None) -> bool:
        """Whether a reply's answer is right."""
        return prompt.accepts(prompt.read(answer))

    def correct_answers(self, prompt: QuestionT) -> list[str]:
        """Replies can't be listed."""
        raise NotImplementedError("correct replies in words can't be listed")


def grade(questions: Sequence[TextQuestion], rollouts: pd.DataFrame) -> pd.DataFrame:
    """Grade replies, the column ``text``: set ``answer`` (canonical) and ``correct``.

    A missing column or question is a ValueError.

    Examples
    --------
    >>> from passk_lab.lab.tasks.countdown import Game
    >>> said = pd.DataFrame({"problem_id": ["make 9 from 7 4 2"], "text": ["7+4-2"]})
    >>> grade([Game((7, 4, 2), 9)], said)[["answer", "correct"]]
          answer  correct
    0  4 + 7 - 2     True
    """
    for column in ("problem_id", "text"):
        if column not in rollouts.columns:
            raise ValueError(f"rollouts: column {column!r} is missing; grading reads it")
    by_name = {question.problem_id: question for question in questions}
    unknown = ~rollouts["problem_id"].isin(list(by_name)).to_numpy()
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(
            f"rollouts: column 'problem_id', row {row}: question "
            f"{rollouts['problem_id'].iloc[row]!r} is missing; load the file that holds it"
        )
    asked = [by_name[problem] for problem in rollouts["problem_id"]]
    answers = [
        question.read(text if isinstance(text, str) else None)
        for question, text in zip(asked, rollouts["text"], strict=True)
    ]
    correct = [question.accepts(a) for question, a in zip(asked, answers, strict=True)]
    return rollouts.assign(
        answer=pd.array(answers, dtype="str"), correct=np.array(correct, dtype=bool)
    )
