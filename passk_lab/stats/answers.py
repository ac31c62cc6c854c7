"""Functional diversity of each problem and run: distinct answers, Hill numbers, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics._modes import ModeCounts
from passk_lab.metrics.functional import (
    distinct_at_k,
    good_turing_coverage,
    hill_number,
    two_modes_at_k,
)
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import PathLike
from passk_lab.stats.estimates import mean_table
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import values_of_frame

__all__ = ["functional_summary"]


def functional_summary(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    correct_only: bool = True,
    by: Sequence[str] = ("run", "split"),
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Average the functional diversity of each run over problems, with bootstrap intervals.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with the column ``answer``, a file of one, or what `passk_lab.counts` made
        of it.
    k : int or sequence of int, optional
        Default: the smallest number of samples of any problem of any run, so that runs are
        compared at an equal number of samples.
    correct_only : bool
        Count correct modes only (default), or all.
    by : sequence of str
        Columns that tell runs apart.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, metric, estimate, low, high, n_problems, n_defined``, one row a metric.
        ``n_defined`` counts the problems averaged over:

        | metric | mean of | averaged over |
        | --- | --- | --- |
        | ``distinct@k`` | `distinct_at_k`: 0 without correct samples | all problems |
        | ``two_modes@k`` | `two_modes_at_k` | all problems |
        | ``n_counted`` | (correct) samples that the metrics below rest on | all problems |
        | ``hill_{q}_naive`` | `hill_number` of q = 0, 1, 2, naive | 1 sample or more |
        | ``hill_{q}_corrected`` | the same, corrected (q = 0 is `chao1`) | 2 or more |
        | ``coverage`` | `good_turing_coverage` | 2 or more |

        The samples in the last column are those counted: correct ones, or all that have an answer.
        Where no problem has as many, ``n_defined`` is 0, and estimate and interval are NaN.

    Raises
    ------
    ValueError
        The table is refused or has no answers; k exceeds the samples of a problem (named).

    Notes
    -----
    Only the metrics at k compare runs at an equal number of samples. Runs differ in their number of
    correct samples, so there is no number at which the Hill numbers of correct modes could be
    compared equally; naive ones favour the run with more correct samples (see ``n_counted``),
    corrected ones make up for most of that. A single sample says nothing about the distribution
    (`chao1` and coverage would be 1 in any case), so corrected estimators take two or more.

    At q = 2 the mean is harmonic: the inverse of the mean chance that two samples of a problem
    agree. That chance is estimated without bias, while the Hill number itself is infinite as soon
    as one problem has no two samples alike. The harmonic mean is inf only where no problem has any.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaabbbb"), "answer": list("xxyzuvuu"),
    ...                       "correct": [True, True, True, False] + [False] * 4})
    >>> found = functional_summary(table, k=[2, 4], random_state=0)
    >>> print(found[["metric", "estimate", "n_problems", "n_defined"]].head(6).round(3))
             metric  estimate  n_problems  n_defined
    0    distinct@2     0.667           2          2
    1    distinct@4     1.000           2          2
    2   two_modes@2     0.167           2          2
    3   two_modes@4     0.500           2          2
    4     n_counted     1.500           2          2
    5  hill_0_naive     2.000           2          1
    """
    by = list(by)
    table = as_counts(rollouts, by, modes=True)
    smallest = int(table["n_samples"].min())
    ks = np.atleast_1d(whole_numbers(smallest if k is None else k, "k"))
    if ks.ndim == 1 and len(ks) and ks.max() > smallest:
        at = int(np.argmin(table["n_samples"]))
        where = ", ".join(f"{name}={table[name].iloc[at]!r}" for name in ["problem_id", *by])
        raise ValueError(
            f"k={ks.max()} exceeds the {smallest} samples of {where}; take a smaller k, or drop "
            "the problem"
        )
    values = functional_values(table, ks, correct_only, by)
    how = Resampling(**resampling)
    return mean_table(values_of_frame(values, by), by, "metric", how).drop(columns="n_seeds")


def functional_values(
    counts: pd.DataFrame, k: npt.ArrayLike, correct_only: bool, by: Sequence[str]
) -> pd.DataFrame:
    """Compute the metrics of `functional_summary` of each problem.

    Parameters
    ----------
    counts : DataFrame
        From `passk_lab.counts`, with modes.
    k : int or sequence of int
    correct_only : bool
    by : sequence of str

    Returns
    -------
    DataFrame
        Columns ``*by, problem_id``, and one a metric; NaN where a metric is undefined: those at k
        for problems with fewer samples than the largest k, the others as `functional_summary` says.
    """
    ks = np.atleast_1d(whole_numbers(k, "k"))
    modes = ModeCounts.of(list(counts["correct_mode_counts" if correct_only else "mode_counts"]))
    n = modes.samples(counts["n_samples"])
    found = counts[[*by, "problem_id"]].reset_index(drop=True)

    def put(names: list[str], keep: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> None:
        column = np.full((len(found), len(names)), np.nan)
        column[keep] = values
        found[names] = column

    enough = n >= ks.max(initial=0)
    some = modes.take(enough)
    for name, at_k in (("distinct", distinct_at_k), ("two_modes", two_modes_at_k)):
        put([f"{name}@{k}" for k in ks], enough, at_k(some, ks, n_samples=n[enough]))
    found["n_counted"] = modes.total.astype(np.float64)
    estimators: tuple[Literal["naive", "corrected"], ...] = ("naive", "corrected")
    for least, estimator in enumerate(estimators, start=1):
        keep = modes.total >= least
        some = modes.take(keep)
        for q in (0, 1, 2):
            put([f"hill_{q}_{estimator}"], keep, hill_number(some, q, estimator)[:, None])
    put(["coverage"], keep, good_turing_coverage(some)[:, None])
    return found
