r"""Science questions for language models: four choices, or a number with its unit.

Questions come from JSONL files in the style of SciKnowEval (Feng et al., arXiv 2406.09098), one
object a line:

    {"question": "...", "choices": {"text": ["...", ...], "label": ["A", ...]}, "answerKey": "B",
     "type": "mcq-4-choices", "domain": "Physics"}
    {"question": "...", "answer": "9.81 m/s^2", "tolerance": 0.02, "type": "number"}

A question is named by its file and line ("physics.jsonl:17"), so rollouts can be shared where the
questions can't.

docs/science.md says how a reply is read. The *canonical* answer, which the rollouts table keeps, is
the letter, or the number in the question's unit (in the question's own spelling where it is right).
Numbers with units need pint, which comes with the extra ``train``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from passk_lab.lab.tasks._quantities import check_unit, find_quantities, in_unit, plain_text
from passk_lab.lab.tasks.text import TextTask
from passk_lab.rollouts.files import numbered_jsonl
from passk_lab.rollouts.table import PathLike

__all__ = ["Question", "ScienceTask", "load_questions"]

TOLERANCE = 0.02

_MARK = re.compile(
    r"(?:final\s+answer|\banswer)\s*(?:is\s*:?|:|=)|\\boxed\s?\{|\banswer\b\s*(?=\([A-Z]\))",
    re.IGNORECASE,
)
# A letter that stands for a choice: it begins no word or formula and is no article ("A type of").
_LABEL = (
    r"(?:[\s(\[\"'*{{]|\\(?:text|textbf|mathrm|mathbf)\s?\{{)*(?:(?:option|choice)\s+)?[(\[]?"
    r"(?P<label>{labels})(?![\w'’#=@(\[+-])"
    r"(?!\s+(?!(?:because|since|as|for|is|and|or)\b)[a-z]+\s+[a-z])"
)
_ANOTHER = r"\s*[)\].]?\s*(?:,|/|&|\bor\b|\band\b)\s*[(\[]?(?:{labels})(?![\w'’])"


@dataclass(frozen=True)
class Question:
    """A question and how its answer is told; what doesn't fit together is a ValueError.

    Attributes
    ----------
    problem_id : str
        File and line, or any other name.
    question : str
    answer : str
        The label of the right choice; without choices a number, with its unit if it has one.
    choices : tuple of (str, str)
        Labels and texts.
    tolerance : float
        Largest relative error of a right number; 0 asks for the very number.
    domain : str
    """

    problem_id: str
    question: str
    answer: str
    choices: tuple[tuple[str, str], ...] = ()
    tolerance: float = TOLERANCE
    domain: str = ""

    def __post_init__(self) -> None:
        labels = [label for label, _ in self.choices]
        if self.choices and self.answer not in labels:
            raise ValueError(
                f"answer {self.answer!r} is none of the choices' labels ({', '.join(labels)})"
            )
        if len(set(labels)) < len(labels):
            raise ValueError(f"choices: a label occurs twice among {', '.join(labels)}")
        if not self.choices:
            _ = self.value, self._factors
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(
                f"tolerance {self.tolerance} must be 0 or more, relative to the answer"
            )

    @property
    def value(self) -> float:
        """The right number, for questions without choices."""
        number = self.answer.partition(" ")[0]
        try:
            return float(number)
        except ValueError:
            raise ValueError(
                f'answer {self.answer!r} is not a number with a unit such as "9.81 m/s^2"'
            ) from None

    @property
    def unit(self) -> str:
        """Its unit; empty if it has none, and for questions with choices."""
        return "" if self.choices else self.answer.partition(" ")[2]

    @property
    def text(self) -> str:
        """What the user says."""
        lines = [self.question, ""]
        if self.choices:
            lines += [*(f"{label}. {text}" for label, text in self.choices), ""]
            *first, last = [label for label, _ in self.choices]
            what = f"the letter, {', '.join(first)} or {last}" if first else f"the letter, {last}"
        else:
            what = f"the number in {self.unit}" if self.unit else "the number"
        return "\n".join([*lines, f'Explain briefly, then end with a line "Answer: " and {what}.'])

    def read(self, reply: str | None) -> str | None:
        """Canonical answer in a reply; None where it holds none, or several choices at once.

        Examples
        --------
        >>> speed = Question("mine:1", "How fast?", "10 m/s")
        >>> [speed.read(t) for t in ("Answer: 36 km/h", "12.5", "It takes 3 s.", "fast")]
        ['10 m/s', '12.5 m/s', '3 s', None]
        """
        if not reply:
            return None
        marks = list(_MARK.finditer(reply))
        ends = [*(mark.start() for mark in marks[1:]), len(reply)]
        # What follows each mark up to the next one, the last first.
        stated = [reply[mark.end() : end] for mark, end in zip(marks, ends, strict=False)][::-1]
        if self.choices:
            return _read_choice(self, stated or [reply])
        return _read_number(self, stated, reply)

    def accepts(self, answer: str | None) -> bool:
        """Whether a canonical answer is right."""
        return answer == self.answer

    @cached_property
    def _factors(self) -> tuple[tuple[str, int], ...]:
        return check_unit(self.unit)


def load_questions(
    source: PathLike, *, others: Literal["refuse", "skip"] = "refuse"
) -> list[Question]:
    """Load questions from a file, a folder or the hub.

    ``source`` is a ``.jsonl`` or ``.jsonl.gz`` file, a folder of them, or, where there is no such
    path, a data set on the Hugging Face hub, "owner/name", whose JSONL files are then fetched.
    Questions of types that no rule can grade are refused or, with ``others="skip"``, passed over.

    Raises
    ------
    ValueError
        A line isn't such a question; the message names file and line. There is no question.
    FileNotFoundError
        There is no JSONL file, and no data set of this name.
    """
    if others not in ("refuse", "skip"):
        raise ValueError(f"others={others!r} is neither 'refuse' nor 'skip'")
    root = Path(source)
    if not root.exists():
        root = _from_hub(str(source))
    files = (
        [root] if root.is_file() else sorted([*root.rglob("*.jsonl"), *root.rglob("*.jsonl.gz")])
    )
    if not files:
        raise FileNotFoundError(f"{source}: the folder holds no .jsonl file")
    found = []
    for file in files:
        name = file.name if file == root else file.relative_to(root).as_posix()
        for line, record in numbered_jsonl(file):
            try:
                question = _question(record, f"{name}:{line}", others)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                missing = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"{file}, line {line}: {missing}") from error
            if question is not None:
                found.append(question)
    if not found:
        raise ValueError(f"{source}: no question of a type that can be graded")
    return found


def _from_hub(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(
            f"{name}: no such file or folder, and no name of a data set on the hub (owner/name)"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, repo_type="dataset", allow_patterns=["*.jsonl", "*.jsonl.gz"])
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: no such path here, and the hub doesn't give it ({type(error).__name__})"
        ) from error


def _question(record: dict[str, Any], problem_id: str, others: str) -> Question | None:
    kind = str(record.get("type", ""))
    shared: dict[str, Any] = {
        "problem_id": problem_id,
        "question": _text(record, "question"),
        "domain": str(record.get("domain", "")),
    }
    if kind.startswith("mcq"):
        labels, texts = record["choices"]["label"], record["choices"]["text"]
        if len(labels) > len(texts) or not labels:
            raise ValueError(f"choices: {len(labels)} labels for {len(texts)} texts")
        # SciKnowEval has questions with a text more than labels, which nobody can choose.
        pairs = tuple(zip(map(str, labels), map(str, texts), strict=False))
        return Question(answer=_text(record, "answerKey"), choices=pairs, **shared)
    if kind == "number":
        tolerance = float(record.get("tolerance", TOLERANCE))
        return Question(answer=_text(record, "answer"), tolerance=tolerance, **shared)
    if others == "skip":
        return None
    raise ValueError(
        f"type {kind!r} can't be graded; known are mcq-... and number (others='skip' passes over "
        "the rest)"
    )


def _text(record: dict[str, Any], field: str) -> str:
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {field!r} is {value!r}, not a text")
    return value


def _read_choice(question: Question, stated: list[str]) -> str | None:
    by_text = {_folded(content): label for label, content in question.choices}
    labels = "|".join(re.escape(label) for label, _ in question.choices)
    label = re.compile(_LABEL.format(labels=labels))
    lower = re.compile(_LABEL.format(labels=labels.lower()) + r"(?=\s*[)\].}*]*\s*(?:\n|$))")
    another = re.compile(_ANOTHER.format(labels=labels))
    for rest in stated:
        named = by_text.get(_folded(rest.strip().split("\n")[0]))
        if named is not None:
            return named
        found = label.match(rest) or lower.match(rest)
        if found:
            if another.match(rest, found.end()):
                return None
            return next(c for c, _ in question.choices if c.lower() == found["label"].lower())
    return None


def _folded(text: str) -> str:
    return text.strip(" \t\n.*\"'}").casefold()


def _read_number(question: Question, stated: list[str], text: str) -> str | None:
    for rest in stated:
        # Of "a = F/m = 12.5 m/s^2", what comes last.
        line = rest.lstrip().split("\n")[0]
        found = find_quantities(plain_text(line.rpartition("=")[2]))
        if found:
            quantity = found[0]
            break
    else:
        everything = find_quantities(plain_text(text))
        if not everything:
            return None
        quantity = everything[-1]
    value = in_unit(quantity, question._factors)
    if value is None:
        return f"{quantity.value:.6g} {quantity.unit}".rstrip()
    if abs(value - question.value) <= question.tolerance * abs(question.value):
        return question.answer
    spelled = f"{value:.6g} {question.unit}".rstrip()
    # Close to a right number without a tolerance, six digits may be too few to tell them apart.
    return spelled if spelled != question.answer else f"{value!r} {question.unit}".rstrip()


@dataclass(frozen=True)
class ScienceTask(TextTask[Question]):
    """Science questions as a task; parameters and errors are those of `TextTask`."""

    name: ClassVar[str] = "science"
