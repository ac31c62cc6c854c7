"""Counts of each problem: samples, correct samples and modes; by one query of DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from passk_lab.rollouts._rows import Part, count_parts
from passk_lab.rollouts.study import Study
from passk_lab.rollouts.table import MAIN_KEYS

__all__ = ["as_counts", "counts"]


def counts(rollouts: Any, by: Sequence[str] = MAIN_KEYS, modes: bool | None = None) -> pd.DataFrame:
    """Count samples, correct samples and modes for each problem.

    Parameters
    ----------
    rollouts : table, path, sequence or mapping of these
        What `Study` takes. Only the columns needed are read; parquet files with a column's usual
        types aren't loaded: a hundred million rows take a few hundred megabytes.
    by : sequence of str
        What tells runs apart; every problem is counted within each combination of these.
    modes : bool, optional
        Also count modes (distinct values of ``answer``). Default: where the column is there.

    Returns
    -------
    DataFrame
        Sorted by ``by`` and ``problem_id``; columns ``*by, problem_id, n_samples, n_correct``,
        ``cluster`` where the rollouts have it, and, with modes, ``mode_counts`` and
        ``correct_mode_counts``: in each cell an int64 array of how often each distinct (correct)
        answer occurred, largest first. ``correct_mode_ids`` says which the correct ones are: equal
        numbers for equal answers, also in other runs and files. An incorrect rollout without an
        answer belongs to no mode.

    Raises
    ------
    ValueError
        A column is missing or holds values that can't be used; a rollout occurs twice; a correct
        rollout has no answer although modes are asked for; a problem is in two clusters.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaab"), "correct": [True, True, False, True],
    ...                       "answer": ["x", "x", "y", "z"]})
    >>> counts(table)[["problem_id", "n_samples", "n_correct", "mode_counts"]]
      problem_id  n_samples  n_correct mode_counts
    0          a          3          2      [2, 1]
    1          b          1          1         [1]
    """
    if isinstance(rollouts, pd.DataFrame):
        return count_parts([Part(rollouts)], by, modes)
    if not isinstance(rollouts, Study):
        rollouts = Study(rollouts, columns=[*by, *([] if modes is False else ["answer"])])
    return rollouts.counts(by, modes)


def as_counts(
    rollouts: Any, by: Sequence[str] = MAIN_KEYS, modes: bool | None = None
) -> pd.DataFrame:
    """Count what isn't counted yet; pass on (and check) what is.

    Parameters
    ----------
    rollouts : table, path, Study, ...
        What `Study` takes, or what `passk_lab.counts` made of them.
    by, modes
        As for `passk_lab.counts`.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        A counted table lacks a column, or was counted by other columns.
    """
    if not isinstance(rollouts, pd.DataFrame) or not {"n_samples", "n_correct"} <= set(rollouts):
        return counts(rollouts, by, modes)
    by = list(by)
    for name in [*by, "problem_id", *(["mode_counts", "correct_mode_counts"] if modes else [])]:
        if name not in rollouts.columns:
            raise ValueError(
                f"counts: column {name!r} is missing; count again with "
                f"passk_lab.counts(rollouts, by={by!r}, modes={modes})"
            )
    if rollouts.duplicated([*by, "problem_id"]).any():
        raise ValueError(f"counts: a problem occurs twice within {by}; count again by these")
    return rollouts
