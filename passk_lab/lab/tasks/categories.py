"""Naming a member of a category: questions that a small language model answers in many ways.

A prompt shows two questions with their answers and asks a third, "Name a fruit." What is generated
up to the end of the line is right if it is one of the listed members, in any of its spellings: as
written, with a capital or without, in the plural. So the exact probability of every right answer is
a sum over a few texts. ``data/categories`` has lists.

The teacher sees a correct answer as well, in one of the ``TEMPLATES``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from passk_lab.lab.tasks.text import TextTask
from passk_lab.rollouts.table import PathLike

__all__ = ["TEMPLATES", "CategoryQuestion", "CategoryTask", "load_categories"]

# Two questions whose answers every prompt shows: category, an answer, another one.
_SHOTS = (("a color", "blue", "red"), ("a day of the week", "Friday", "Monday"))

# How a teacher sees an answer: after the question, answered once and asked again; or as the example
# of a question, where the two questions before it are answered otherwise, or as in their example.
TEMPLATES = ("repeated", "different", "copying")


def _asked(category: str, answer: str = "", example: str = "") -> str:
    """A question, its example and its answer, if it has them."""
    lines = [f"Question: Name {category}."]
    if example:
        lines.append(f"Example: {example}")
    lines.append(f"Answer: {answer}".rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class CategoryQuestion:
    """A category and its members.

    Attributes
    ----------
    category : str
        With its article, "a fruit".
    members : tuple of tuples of str
        Spellings of each member, its name first.

    Examples
    --------
    >>> question = CategoryQuestion("a tool", (("axe",), ("wrench", "spanner")))
    >>> [question.read(text) for text in ("Axes", "spanner", "a wrench")]
    ['axe', 'wrench', None]
    >>> question.problem_id, question.text.splitlines()[-2:]
    ('tool', ['Question: Name a tool.', 'Answer:'])
    """

    category: str
    members: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if self.category.partition(" ")[0] not in ("a", "an") or not self.problem_id:
            raise ValueError(f'category {self.category!r} has no article; write it as "a fruit"')
        if len(self.members) < 2:
            raise ValueError(f"category {self.category!r} has fewer than two members; list more")
        owner: dict[str, str] = {}
        for name, *others in self.members:
            for spelling in (name, *others):
                if not spelling or spelling != " ".join(spelling.split()):
                    raise ValueError(
                        f"category {self.category!r}: {spelling!r} is no spelling of a member; "
                        "give words with single spaces between them"
                    )
                if owner.setdefault(spelling.casefold(), name) != name:
                    raise ValueError(
                        f"category {self.category!r}: {spelling!r} is a spelling of "
                        f"{owner[spelling.casefold()]!r} and of {name!r}; keep one"
                    )

    @property
    def problem_id(self) -> str:
        """The category without its article."""
        return self.category.partition(" ")[2]

    @cached_property
    def text(self) -> str:
        """What the student sees, up to where the answer starts."""
        shots = [_asked(category, answer) for category, answer, _ in _SHOTS]
        return "\n".join([*shots, _asked(self.category)])

    def shown(self, answer: str, template: str) -> str:
        """What the teacher sees with an answer: one of the ``TEMPLATES``."""
        if template == "repeated":
            return f"{self.text} {answer}\n{_asked(self.category)}"
        same = template == "copying"
        shots = [_asked(c, first, first if same else other) for c, first, other in _SHOTS]
        return "\n".join([*shots, _asked(self.category, example=answer)])

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Every text that is right, and the member that it names; the names themselves first."""
        found = {names[0]: names[0] for names in self.members}
        for names in self.members:
            for text in _forms(names):
                found.setdefault(text, names[0])
        return found

    def read(self, reply: str | None) -> str | None:
        """The member that a reply names; None where it names none."""
        return self.spellings.get(reply or "")

    def accepts(self, answer: str | None) -> bool:
        """Whether a canonical answer is a member."""
        return answer is not None and self.read(answer) == answer


def _forms(names: Iterable[str]) -> Iterable[str]:
    """Spellings with and without capitals, and plurals of what isn't a proper name."""
    for name in names:
        for form in (name, _plural(name)) if name[0].islower() else (name,):
            # Not str.title, which makes "Côte D'Ivoire" and "Cote-D".
            words = " ".join(word[:1].upper() + word[1:] for word in form.split(" "))
            yield from (form, form[:1].upper() + form[1:], words, form.lower())


def _plural(name: str) -> str:
    """The regular plural; others are listed as spellings.

    Examples
    --------
    >>> [_plural(name) for name in ("apple", "cherry", "radish", "scissors", "blue jay")]
    ['apples', 'cherries', 'radishes', 'scissors', 'blue jays']
    """
    if name.endswith(("ch", "sh", "x", "z")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name if name.endswith("s") else name + "s"


def load_categories(source: PathLike) -> tuple[CategoryQuestion, ...]:
    """Load categories from a ``.tsv`` file, or from the ``categories.tsv`` of a folder.

    Columns ``category`` ("a fruit") and ``members``, with commas between members and slashes
    between the spellings of one: ``corn/maize, oat``.

    Raises
    ------
    ValueError
        A line isn't a category, or two have the same name; the message names file and line.
    FileNotFoundError
        There is no such file.
    """
    file = Path(source)
    file = file / "categories.tsv" if file.is_dir() else file
    with open(file, encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if reader.fieldnames != ["category", "members"]:
            raise ValueError(
                f"{file}, line 1: columns are {reader.fieldnames}; they must be category and "
                "members, with a tab between them"
            )
        found: dict[str, CategoryQuestion] = {}
        for row in reader:
            try:
                question = _category(row)
            except ValueError as error:
                raise ValueError(f"{file}, line {reader.line_num}: {error}") from error
            if found.setdefault(question.problem_id, question) is not question:
                raise ValueError(
                    f"{file}, line {reader.line_num}: {question.problem_id!r} is there twice; "
                    "join the two lines"
                )
    if not found:
        raise ValueError(f"{file}: there is no category; give at least one line")
    return tuple(found.values())


def _category(row: dict[str, str]) -> CategoryQuestion:
    if None in row or None in row.values():
        raise ValueError("this line has not two columns; put one tab between them")
    members = [member.split("/") for member in row["members"].split(",")]
    spelled = tuple(tuple(spelling.strip() for spelling in member) for member in members)
    return CategoryQuestion(row["category"].strip(), spelled)


@dataclass(frozen=True)
class CategoryTask(TextTask[CategoryQuestion]):
    """Categories as a task; parameters and errors are those of `TextTask`.

    Parameters
    ----------
    template : str
        How the teacher sees an answer: one of the ``TEMPLATES``.
    """

    template: str = "repeated"
    name: ClassVar[str] = "categories"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template not in TEMPLATES:
            raise ValueError(f"template {self.template!r} is none of {', '.join(TEMPLATES)}")

    @cached_property
    def ends(self) -> frozenset[int]:
        """The end token and the line break."""
        return frozenset({self.eos_id, self._after("\n")[0]})

    def encode(self, prompt: CategoryQuestion, demo: str | None = None) -> list[int]:
        """Tokens up to where the answer starts; with a demonstration, the teacher's."""
        text = prompt.text if demo is None else prompt.shown(demo, self.template)
        return self.encoder.encode(text)

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of an answer and the end token."""
        return [*self._after(" " + answer), self.eos_id]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Text of an answer; None where it was cut off.

        Also None where the tokenizer would write the text in other tokens, so that the
        probabilities of `spelled` leave nothing out.
        """
        text = super().decode(tokens)
        if text is None:
            return None
        *own, _ = self.encode_answer(text)
        return text if [*tokens][: len(own)] == own and tokens[len(own)] in self.ends else None

    def _after(self, text: str) -> list[int]:
        """Tokens of what follows "Answer:"."""
        # Some tokenizers put a space in front of a text, so that it isn't cut where it starts.
        whole, before = (
            self.encoder.tokenizer(t, add_special_tokens=False)["input_ids"]
            for t in (f"Answer:{text}", "Answer:")
        )
        if whole[: len(before)] != before:
            raise ValueError(
                f'the tokenizer joins "Answer:" and {text!r}, so that the answer has no tokens of '
                "its own; take a model with another one"
            )
        return list(whole[len(before) :])

    def canonical(self, prompt: CategoryQuestion, answer: str | None) -> str | None:
        """The member that a text names; other texts as they are."""
        return prompt.read(answer) or answer

    def correct_answers(self, prompt: CategoryQuestion) -> list[str]:
        """The names of the members."""
        return [names[0] for names in prompt.members]

    def spelled(self, prompt: CategoryQuestion) -> tuple[list[str], list[list[int]]]:
        """Tokens of every right answer, spelling by spelling and end by end, and their members.

        A spelling that takes more than ``max_answer_tokens`` isn't among them: it would be cut off.
        A member that has no other is a ValueError.
        """
        members, tokens = [], []
        for text, member in prompt.spellings.items():
            *spelling, _ = self.encode_answer(text)
            if len(spelling) < self.max_answer_tokens:
                members += [member] * len(self.ends)
                tokens += [[*spelling, end] for end in sorted(self.ends)]
        missing = [name for name in self.correct_answers(prompt) if name not in set(members)]
        if missing:
            raise ValueError(
                f"category {prompt.category!r}: {missing[0]!r} doesn't fit into max_answer_tokens="
                f"{self.max_answer_tokens}; raise it, or leave the member out"
            )
        return members, tokens
