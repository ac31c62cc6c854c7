"""What the readers of evaluation harnesses share: runs, tasks, and grades of single responses.

Harnesses log one number for all responses to a document; what that tells about each of them is
here, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers._shared import LEFT_OUT, found_answers, left_out, short
from passk_lab.rollouts._cells import reached
from passk_lab.rollouts.table import PathLike, validate_rollouts

_TOLERANCE = 1e-9

T = TypeVar("T")
Pattern = re.Pattern[str] | None


# --- Runs and tasks ---


def of_task(
    items: list[T], task: str | None, name_of: Callable[[T], str | None], path: PathLike
) -> list[T]:
    """Keep what belongs to a task, all if none is asked for; ValueError lists the known ones."""
    if task is None:
        return items
    kept = [item for item in items if name_of(item) == task]
    if not kept:
        known = sorted({name for name in map(name_of, items) if name is not None})
        raise ValueError(f"{path}: no samples of task {task!r} (tasks: {', '.join(known)})")
    return kept


def refuse_reruns(runs: Iterable[tuple[str | None, str | None, Path]], path: PathLike) -> None:
    """Refuse a second file of one model and task."""
    first: dict[tuple[str | None, str | None], Path] = {}
    for model, task, file in runs:
        earlier = first.setdefault((model, task), file)
        if earlier != file:
            raise ValueError(
                f"{path}: task {task!r} of model {model!r} was run more than once ({earlier.name}, "
                f"{file.name}); name one file, or take all samples with merge_reruns=True"
            )


def rollouts_table(
    rollouts: list[dict[str, Any]],
    threshold: float,
    optional: Sequence[str],
    source: str,
    said: str | None = None,
) -> pd.DataFrame:
    """Grade and validate rollouts with ``run``, ``problem_id`` and ``score``.

    Samples are numbered in their order unless they are; a missing score is not correct. ``score``
    goes where it says no more than ``correct``, and so do optional columns without any value, and
    answers that say that there is none.
    ``said`` is noted with the table, see `passk_lab.readers._shared.left_out`.
    """
    table = pd.DataFrame.from_records(rollouts)
    if "sample_id" not in table.columns:
        group = table.groupby(["run", "problem_id"], dropna=False)
        table["sample_id"] = group.cumcount()
    score = table["score"]
    correct = reached(score.fillna(-float("inf")), threshold)
    table.insert(table.columns.get_loc("score"), "correct", correct)  # type: ignore[arg-type]
    if "answer" in table.columns:
        table["answer"] = found_answers(table["answer"], correct)
    empty = [name for name in optional if table[name].isna().all()]
    if score.dropna().isin([0.0, 1.0]).all():
        empty.append("score")
    valid = validate_rollouts(table.drop(columns=empty), source)
    if said is not None:
        valid.attrs[LEFT_OUT] = said
    return valid


def drop_unscored(
    rollouts: list[dict[str, Any]], path: PathLike
) -> tuple[list[dict[str, Any]], str | None]:
    """Leave out rollouts without a score; also say how many, and which problems go with them."""
    kept = [rollout for rollout in rollouts if rollout["score"] is not None]
    if not kept:
        raise ValueError(f"{path}: no samples with a score")
    gone = len(rollouts) - len(kept)
    before, after = ({(r["run"], r["problem_id"]) for r in rows} for rows in (rollouts, kept))
    return kept, left_out(gone, len(before) - len(after)) if gone else None


# --- Several responses, one number ---


def check_repeats(
    repeats: str, known: Sequence[str], **patterns: str | None
) -> tuple[Pattern, ...]:
    """Check the option, and compile the patterns that regrading takes."""
    check_choice(repeats, known, "repeats")
    if repeats != "regrade" and any(patterns.values()):
        raise ValueError(f"{' and '.join(patterns)}: only used with repeats='regrade'")
    return tuple(_compiled(pattern, option) for option, pattern in patterns.items())


def _compiled(pattern: str | None, option: str) -> Pattern:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{option}={pattern!r} is no regular expression: {error}") from error


def first_match(pattern: Pattern, text: str | None) -> str | None:
    """Give the first match, stripped: its first group that took part, or all of it.

    Without a pattern the text is its own answer; None where nothing matches, or there is no text.
    """
    if pattern is None or text is None:
        return text
    match = pattern.search(text)
    if match is None:
        return None
    taken = [group for group in match.groups() if group]
    return (taken[0] if taken else match.group(0)).strip()


@lru_cache(maxsize=64)
def _shares(n: int, k: int) -> npt.NDArray[np.float64]:
    # Exact integers: 1 - C(n-c, k) / C(n, k) for c = 0, ..., n.
    total = comb(n, k)
    return np.array([(total - comb(n - c, k)) / total for c in range(n + 1)])


def share_correct(n: int, n_correct: int, k: int = 1) -> float:
    """Give pass@k of one problem; with ``k = 1`` the share of correct responses."""
    return float(_shares(n, k)[n_correct])


def number(value: Any, metric: str | None, where: str) -> float:
    """Turn a logged value into a number; ValueError names the metric."""
    # numpy's booleans and small floats are written as strings.
    if isinstance(value, str):
        value = {"True": 1.0, "False": 0.0}.get(value, value)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if found != found:
        raise ValueError(
            f"{where}: metric {metric!r} is {short(value)}, not a number; choose another metric"
        )
    return found


@dataclass(frozen=True)
class Document:
    """The responses to a document, and the metric that the harness logged for all of them."""

    where: str
    texts: list[str | None]  # None: a reply without text
    metric: str | None
    value: Any

    def number(self) -> float:
        return number(self.value, self.metric, self.where)

    def several(self, remedies: str) -> ValueError:
        """Say that several responses share a grade, and which options make something of it."""
        return ValueError(
            f"{self.where}: {len(self.texts)} responses but one value of {self.metric!r}, so the "
            f"file doesn't say which response is correct. {remedies}"
        )

    def counted(self, n: int, k: int) -> list[float]:
        """Grade n responses, which of them unknown, from their pass@k.

        Refused where no number of correct responses gives the value, or several do (pass@k is 1
        wherever fewer than k responses are wrong).
        """
        value, where = self.number(), f"{self.where}, metric {self.metric!r}"
        if not 1 <= k <= n:
            raise ValueError(f"{where}: pass@{k} can't come from {n} responses")
        fits = np.flatnonzero(np.abs(_shares(n, k) - value) < _TOLERANCE)
        if not len(fits):
            raise ValueError(f"{where}: {value} is no share of correct ones among {n} (k={k})")
        if len(fits) > 1:
            raise ValueError(
                f"{where}: {value} fits {fits[0]} to {fits[-1]} correct of {n}; take a smaller k"
            )
        return [float(i < fits[0]) for i in range(n)]

    def require_texts(self) -> None:
        """Refuse to regrade where nothing was sampled."""
        if not self.texts:
            raise ValueError(f"{self.where}: a likelihood task has no responses to regrade")

    def check_regrade(self, expected: float, compared: str, fix: str) -> None:
        """Refuse grades that don't reproduce what the harness logged."""
        logged = self.number()
        if abs(expected - logged) > 1e-6:
            raise ValueError(
                f"{self.where}, metric {self.metric!r}: exact match with {compared} gives "
                f"{expected:g} where {logged:g} is logged, so the task grades in another way; {fix}"
            )
