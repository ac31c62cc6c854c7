"""What a file calls the columns of the rollouts table, and how its rows become rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from passk_lab.rollouts._answers import PLACEHOLDERS, bare, normal_form
from passk_lab.rollouts._cells import (
    KNOWN,
    as_booleans,
    as_numbers,
    completion_text,
    grade,
    name_cell,
    plain,
    refuse_nested,
    refuse_repeated_columns,
    refuse_ungraded,
    spell,
)
from passk_lab.rollouts._tables import settle

__all__ = ["Layout"]

_ROW = "#"
_MOST_COUNTED = 50_000_000
# What programs call these columns, the surest names first.
_USUAL = {
    "problem_id": (
        *("task_id", "question_id", "uid", "example_id", "instance_id", "doc_id", "qid", "id"),
        *("idx", "index", "problem", "question", "prompt", "input", "task"),
    ),
    "correct": (
        *("is_correct", "passed", "graded_list", "correctness", "acc", "accuracy", "resolved"),
        *("success", "reward", "rewards", "score", "scores", "status", "grade", "result", "ok"),
    ),
    "text": (
        *("response", "responses", "completion", "completions", "output", "outputs"),
        *("generation", "generations", "code_list", "solution"),
    ),
    "answer": ("pred", "prediction", "predicted_answer", "extracted_answer", "parsed_answer"),
    "n_samples": ("n", "num_samples", "total"),
    "n_correct": ("c", "num_correct", "n_passed", "num_passed"),
}


@dataclass(frozen=True)
class Layout:
    """What a file calls the columns of the rollouts table, and what it calls correct.

    A row is a rollout; or a problem, with lists in the columns that differ between its rollouts; or
    counts: ``n_samples`` and ``n_correct`` of a problem, or ``answer`` and ``count`` of each of its
    correct answers, beside ``n_samples``. Chat messages in ``text`` become text.

    Attributes
    ----------
    columns : mapping of str to str
        Name in the rollouts table -> in the file: a column, a dotted path into nested fields
        (``info.grade``, ``choices.0.text``), several columns joined by ``+`` (``task+id``), or
        ``#``, the number of the row. ``correct`` may be ``true``, where nothing was verified. All
        other columns are kept under their own names.
    threshold : float, optional
        For grades other than 0 and 1: correct from here on. They become a missing ``score``.
    right : sequence of str, optional
        For grades in words: those that mean correct, in any case; all others mean incorrect.
    records : str, optional
        Where the records of a JSON file are, as a dotted path.
    normalize_answers : bool
        Spell equal numbers and texts alike (16, 016, 16.0, $16$), and take placeholders such as
        ``[INVALID]`` for no answer; `docs/guide/rollouts.md` lists them.
    placeholders : sequence of str
        Words of your own that stand for no answer, in any case, with or without brackets; with
        ``normalize_answers`` or without. What is right somewhere is an answer all the same.

    Examples
    --------
    >>> frame = pd.DataFrame({"task": ["a"], "level": [1], "outs": [["5", "6"]], "ok": [[1, 0]]})
    >>> layout = Layout({"problem_id": "task", "text": "outs", "correct": "ok"})
    >>> layout.apply(frame, "mine.jsonl")
      problem_id text  correct  level
    0          a    5     True      1
    1          a    6    False      1
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None
    right: Sequence[str] | None = None
    records: str | None = None
    normalize_answers: bool = False
    placeholders: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = self.columns
        if not isinstance(names, Mapping) or not all(isinstance(n, str) for n in names.values()):
            raise ValueError(
                f"columns={names!r} is no mapping of names such as {{'problem_id': 'task'}}"
            )
        for name in ("right", "placeholders"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, [getattr(self, name)])
        if self.right is not None and self.threshold is not None:
            raise ValueError("threshold is for numbers, right for words; give one of them")

    @property
    def plain(self) -> bool:
        """Whether columns and grades are taken as they are."""
        return self == Layout()

    def raw(self, columns: Iterable[str]) -> set[str]:
        """Columns of a file that are needed for these of the table, and those of counts."""
        wanted = {*columns, "n_samples", "n_correct", "count"}
        found = set(wanted)
        for name in wanted:
            for part in self.columns.get(name, name).split("+"):
                found |= {self.columns.get(name, name), part, part.split(".")[0]}
        return found

    def apply(
        self, frame: pd.DataFrame, source: str, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Give rows the columns of the rollouts table.

        Parameters
        ----------
        frame : DataFrame
            As the file holds it.
        source : str
            How messages call it.
        names : sequence of str, optional
            All columns of the file, if the frame has only some.

        Raises
        ------
        ValueError
            A column is missing (the message says which could be meant), or its new name is taken;
            grades need a threshold or words; lists don't match.
        """
        refuse_repeated_columns(frame, source)
        have = [str(name) for name in frame.columns] if names is None else list(names)
        frame = self._renamed(frame, have, source)
        for name in ("text", "answer"):
            if name in frame:
                frame[name] = _texts(frame[name])
        frame = self._spread(frame, source)
        if "correct" not in frame and "problem_id" in frame:
            frame = _from_counts(frame, source)
        missing = [name for name in ("problem_id", "correct") if name not in frame]
        if missing:
            raise ValueError(f"{source}: {_advice(missing, have, frame)}")
        if "text" in frame:
            frame["text"] = _texts(frame["text"])
        return self.with_answers(self._graded(frame, source))

    def with_answers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Spell the answers of a table of rollouts, where there are any.

        Examples
        --------
        >>> said = {"answer": ["016", "$16$", "idk"], "correct": [True, True, False]}
        >>> layout = Layout(normalize_answers=True, placeholders=["IDK"])
        >>> layout.with_answers(pd.DataFrame(said))["answer"].dropna().tolist()
        ['16', '16']
        """
        none = {*map(bare, self.placeholders), *(PLACEHOLDERS if self.normalize_answers else ())}
        if not none or "answer" not in table:
            return table
        answers = table["answer"]
        right = set(map(str, answers[table["correct"] & answers.notna()]))

        def spelled(answer: Any) -> Any:
            text = str(answer)
            if text not in right and bare(text) in none:
                return None
            return normal_form(text) if self.normalize_answers else answer

        return table.assign(answer=answers.map(spelled, na_action="ignore"))

    def _renamed(self, frame: pd.DataFrame, have: list[str], source: str) -> pd.DataFrame:
        mapping = self.columns
        made = {name: self._column(frame, name, have, source) for name in mapping}
        for target, name in mapping.items():
            if target in have and target not in mapping.values() and name != target:
                raise ValueError(
                    f"{source}: {name!r} is to become {target!r}, but the file has a column of "
                    f"that name, too; give that one another name: {target}_file={target}"
                )
        kept = frame[[name for name in frame if name not in mapping.values()]]
        return pd.concat([pd.DataFrame(made, index=frame.index), kept], axis=1)

    def _column(self, frame: pd.DataFrame, target: str, have: list[str], source: str) -> pd.Series:
        name = self.columns[target]
        if name in frame:
            return frame[name]
        if name == _ROW:
            return pd.Series(np.arange(len(frame)), index=frame.index)
        if target == "correct" and name.lower() == "true":
            return pd.Series(True, index=frame.index)
        parts = [_dug(frame, part.split(".")) for part in name.split("+")]
        for at, part in enumerate(parts):
            if part is None:
                raise ValueError(
                    f"{source}: no column {name.split('+')[at]!r} for {target!r} "
                    f"(columns: {', '.join(have)})"
                )
        columns = [part for part in parts if part is not None]
        if len(columns) == 1:
            return columns[0]
        rows = zip(*(column.map(plain) for column in columns), strict=True)
        return pd.Series(["/".join(map(str, row)) for row in rows], index=frame.index)

    def _spread(self, frame: pd.DataFrame, source: str) -> pd.DataFrame:
        """Give each entry of the lists its own row."""
        known = [name for name in map(str, frame) if name in self.columns or name in KNOWN]
        lists = [name for name in known if _any(frame[name], _is_list)]
        if not lists:
            return frame
        called = {name: self.columns.get(name, name) for name in lists}
        if "correct" not in lists:
            if "correct" not in frame:
                raise ValueError(
                    f"{source}: {called[lists[0]]!r} holds a list, and there is no column "
                    f"'correct'; say what holds it: --columns correct=NAME, or {_NO_VERDICT}"
                )
            # A constant, or one verdict for them all.
            if self.columns.get("correct", "").lower() != "true":
                raise ValueError(
                    f"{source}: {called[lists[0]]!r} holds lists but the column for 'correct' "
                    "doesn't; lists need one entry a rollout in both: otherwise reduce them to one "
                    "value a row"
                )
        for name in lists:
            single = ~frame[name].map(_is_list).to_numpy(bool)
            if single.any():
                cell = name_cell(frame[name], called[name], int(single.argmax()), source)
                raise ValueError(f"{cell} is no list, unlike in other rows")
        first = "correct" if "correct" in lists else lists[0]
        sizes = frame[lists].map(len)
        wrong = sizes.ne(sizes[first], axis=0)
        if wrong.any(axis=None):
            row = int(wrong.any(axis=1).to_numpy().argmax())
            name = str(wrong.iloc[row].idxmax())
            raise ValueError(
                f"{source}: row {row}: {called[name]!r} has {sizes[name].iloc[row]} entries, "
                f"{called[first]!r} {sizes[first].iloc[row]}; they need one each a rollout"
            )
        empty = (sizes[first] == 0).to_numpy()
        if empty.any():
            raise ValueError(
                f"{source}: row {int(empty.argmax())}: {called[first]!r} is an empty list; drop it"
            )
        return settle(frame.explode(lists, ignore_index=True))

    def _graded(self, frame: pd.DataFrame, source: str) -> pd.DataFrame:
        values = frame["correct"].rename(self.columns.get("correct", "correct"))
        if self.right is not None:
            return frame.assign(correct=_in_words(values, self.right, source))
        if self.threshold is None:
            return frame.assign(correct=as_booleans(values, source))
        numbers = as_numbers(values)
        partial = (numbers.notna() & ~numbers.isin([0, 1])).any()
        frame = frame.assign(correct=grade(values, self.threshold, source))
        return frame.assign(score=numbers) if partial and "score" not in frame else frame


def _in_words(values: pd.Series, right: Sequence[str], source: str) -> pd.Series:
    good = {word.strip().lower() for word in right}
    refuse_ungraded(values.isna(), values, source, "a word")
    # A number is also its word without ".0".
    return values.map(
        lambda value: not good.isdisjoint({str(value).strip().lower(), str(spell(value)).lower()})
    ).astype(bool)


# ------------------------------------------------------------------------------------- messages


def _texts(column: pd.Series) -> pd.Series:
    """Write chats as text."""
    if not _any(column, _is_chat):
        return column
    return column.map(lambda value: completion_text(list(value)) if _is_chat(value) else value)


def _is_chat(value: Any) -> bool:
    return (
        _is_list(value)
        and len(value) > 0
        and all(isinstance(one, dict) and "role" in one for one in value)
    )


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _any(column: pd.Series, test: Callable[[object], bool]) -> bool:
    return pd.api.types.is_object_dtype(column.dtype) and any(map(test, column))


# ------------------------------------------------------------------------------ nested and counted


def _dug(frame: pd.DataFrame, path: Sequence[str]) -> pd.Series | None:
    """Go down nested fields; None where no row has them."""
    for split in range(len(path), 0, -1):
        first = ".".join(path[:split])
        if first in frame:
            column = frame[first]
            for key in path[split:]:
                column = column.map(lambda value, key=key: _entry(value, key))
                if column.isna().all():
                    return None
            return settle(column.to_frame())[first]
    return None


def _entry(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if _is_list(value) and key.lstrip("-").isdigit() and -len(value) <= int(key) < len(value):
        return value[int(key)]
    return None


def _from_counts(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Give each sample that was counted a row; a table without counts is left as it is."""
    counted = "n_correct" if "n_correct" in frame else "count"
    if not {"n_samples", counted, *(["answer"] if counted == "count" else [])} <= set(frame):
        return frame
    n, c = (_counted(frame[name], source) for name in ("n_samples", counted))
    if not n.all():
        row = int((n == 0).argmax())
        raise ValueError(f"{source}: column 'n_samples', row {row}: no samples; drop this row")
    if n.sum(dtype=float) > _MOST_COUNTED:
        raise ValueError(
            f"{source}: column 'n_samples': {n.sum(dtype=float):,.0f} samples in all, of which "
            f"{_MOST_COUNTED:,} fit into a table; give the counts to passk_lab.pass_at_k in Python"
        )
    keys = [name for name in ("run", "split", "problem_id", "seed", "step") if name in frame]
    unique = keys if counted == "n_correct" else [*keys, "answer"]
    for name in unique:
        refuse_nested(frame[name], name, source)
    twice = frame.duplicated(unique).to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise ValueError(
            f"{source}: row {row}: counted twice ({frame[unique].iloc[row].to_dict()}); add the "
            "counts up, or tell runs apart in the column 'run'"
        )
    rows = frame.drop(columns=["n_samples", counted])
    right = pd.Series(c, index=frame.index).groupby([frame[key] for key in keys]).transform("sum")
    if (right > n).any():
        row = int((right > n).to_numpy().argmax())
        raise ValueError(
            f"{source}: row {row}: {right.iloc[row]} correct of {n[row]} samples can't be"
        )
    first = ~frame.duplicated(keys).to_numpy()
    wrong = rows if counted == "n_correct" else rows.drop(columns="answer")
    return _graded_rows(_repeated(rows, c), _repeated(wrong, (n - right) * first))


def _counted(column: pd.Series, source: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = as_numbers(column)
    bad = (numbers.isna() | (numbers < 0) | (numbers % 1 != 0)).to_numpy()
    if bad.any():
        cell = name_cell(column, str(column.name), int(bad.argmax()), source)
        raise ValueError(f"{cell} is no count, a whole number from 0 on")
    return numbers.to_numpy(dtype="int64")


def _repeated(rows: pd.DataFrame, times: Any) -> pd.DataFrame:
    return rows.loc[rows.index.repeat(np.asarray(times))]


def _graded_rows(right: pd.DataFrame, wrong: pd.DataFrame) -> pd.DataFrame:
    rows = pd.concat([right.assign(correct=True), wrong.assign(correct=False)])
    return rows.sort_index(kind="stable").reset_index(drop=True)


# -------------------------------------------------------------------------------------- advice

_NO_VERDICT = "correct=true where nothing is verified, to count distinct answers all the same"


def _advice(missing: Sequence[str], have: Sequence[str], frame: pd.DataFrame) -> str:
    """Say which columns could be meant, and how to say that they are."""
    lower = {name.lower(): name for name in reversed(have)}

    def likely(target: str) -> str | None:
        return next((lower[name] for name in _USUAL[target] if name in lower), None)

    guess = {name: likely(name) for name in missing}
    counted = {name: likely(name) for name in ("n_samples", "n_correct") if name not in have}
    if "correct" in missing and all(counted.values()) and guess["correct"] is None:
        guess = {name: found for name, found in guess.items() if name != "correct"} | counted
    hint = ""
    if guess.get("correct", "") is None:
        guess["correct"] = "NAME"
        hint = f"; {_NO_VERDICT}"
    if guess.get("problem_id", "") is None:
        guess["problem_id"] = "NAME"
        hint += "; problem_id=# where each row is a problem"
    more = {name: likely(name) for name in ("text", "answer") if name not in have}
    said = {name: found for name, found in {**guess, **more}.items() if found is not None}
    flags = "--columns " + ",".join(f"{name}={found}" for name, found in said.items())
    return (
        f"required column {missing[0]!r} is missing (columns: {', '.join(have) or 'none'}); say "
        f"what holds it, for example {flags}{_grades(frame, said.get('correct'))}{hint}"
    )


def _grades(frame: pd.DataFrame, name: str | None) -> str:
    """What else the grades need, as far as they can be seen."""
    if name is None or name not in frame or not len(frame):
        return ""
    cells = frame[name].explode() if _any(frame[name], _is_list) else frame[name]
    numbers = as_numbers(cells)
    return " --threshold 1" if (numbers.notna() & ~numbers.isin([0, 1])).any() else ""
