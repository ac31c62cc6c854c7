"""Curves over k: the mean of a metric over problems, for each run and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.registry import find_metric
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats import intervals
from passk_lab.stats._estimates import mean_table
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues

__all__ = ["distinct_at_k_curve", "metric_curve", "pass_at_k_curve"]

Floats = npt.NDArray[np.float64]
Interval = Literal["auto", "korn-graubard", "bootstrap", "nested", "analytic", "bayes"]


def pass_at_k_curve(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    interval: Interval = "auto",
    *,
    over_seeds: bool = False,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Mean pass@k over problems for each run and split.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table, a file of one (parquet is read without text), or what `passk_lab.counts`
        made of it.
    k : int or sequence of int, optional
        Default: powers of two up to the smallest number of samples of a problem, and that number.
    by : sequence of str
        Columns that tell curves apart.
    interval : {"auto", "korn-graubard", "bootstrap", "nested", "analytic", "bayes"}
        `passk_lab.stats.intervals` says what each stands for. "auto" is "korn-graubard" for
        metrics of counts and answers, and "bootstrap" for others.
    over_seeds : bool
        Average over the column ``seed`` too: the mean over training seeds and problems, and an
        interval that covers the choice of both. By default samples of all seeds are pooled.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems``, and ``n_seeds`` with ``over_seeds``.

    Raises
    ------
    ValueError
        The table is refused; k exceeds the samples of a problem (named); the seeds of a run were
        evaluated on different problems.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaabbbb"),
    ...                       "correct": [True, False, False, False, True, True, True, False]})
    >>> pass_at_k_curve(table, random_state=0)[["run", "k", "estimate", "n_problems"]]
           run  k  estimate  n_problems
    0  default  1      0.50           2
    1  default  2      0.75           2
    2  default  4      1.00           2
    """
    return metric_curve(rollouts, "pass_at_k", k, by, interval, over_seeds=over_seeds, **resampling)


def distinct_at_k_curve(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    correct_only: bool = True,
    *,
    over_seeds: bool = False,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Mean number of distinct (correct) answers among k samples, for each run and split.

    Rarefaction: exact over all k-subsets, so runs with different numbers of samples compare at
    equal k. See `passk_lab.distinct_at_k`.

    Parameters
    ----------
    rollouts, k, by, over_seeds, **resampling
        As for `pass_at_k_curve`; the table needs the column ``answer``.
    correct_only : bool
        Count distinct correct answers only (default), or all distinct answers.

    Returns
    -------
    DataFrame
        As for `pass_at_k_curve`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaa"), "correct": [True, True, True, False],
    ...                       "answer": ["x", "x", "y", "z"]})
    >>> distinct_at_k_curve(table, random_state=0)["estimate"].round(3).tolist()
    [0.75, 1.333, 2.0]
    """
    metric = "distinct_at_k" if correct_only else "distinct_answers_at_k"
    return metric_curve(rollouts, metric, k, by, over_seeds=over_seeds, **resampling)


def metric_curve(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    interval: Interval = "auto",
    *,
    over_seeds: bool = False,
    settings: Mapping[str, Any] | None = None,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Mean of a metric over problems, for each run and split.

    Parameters
    ----------
    rollouts, k, by, interval, over_seeds, **resampling
        As for `pass_at_k_curve`. "nested", "analytic" and "bayes" are for metrics of counts.
    metric : str
        Of `passk_lab.metrics.METRICS`, also with its setting: "g_pass_at_k:0.5".
    settings : mapping, optional
        Further arguments of the metric: ``tau`` of G-pass@k, ``prior`` of Bayesian pass@k.

    Returns
    -------
    DataFrame
        As for `pass_at_k_curve`. A metric that doesn't depend on k has the single k = 0.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaa"), "correct": [True, True, True, False]})
    >>> metric_curve(table, "g_pass_at_k:0.5", [2, 4], random_state=0)["estimate"].tolist()
    [1.0, 1.0]
    """
    by = list(by)
    values = problem_values(rollouts, metric, k, by, over_seeds=over_seeds, settings=settings)
    how = Resampling(**resampling)
    if interval == "korn-graubard" and not all(group.bounded for group in values):
        raise ValueError(f"interval={interval!r} is not defined for {metric}; take 'bootstrap'")
    table = mean_table(values, by, "k", how)
    if interval == "bootstrap" and any(group.bounded for group in values):
        opaque = [replace(group, bounded=False) for group in values]
        table = _where_wide(mean_table(opaque, by, "k", how), table)
    elif interval not in ("auto", "korn-graubard", "bootstrap"):
        if over_seeds:
            raise ValueError(f"interval={interval!r} knows no seeds; take 'auto'")
        ends = [_interval(group, metric, interval, how, settings or {}) for group in values]
        low, high = np.concatenate([np.stack(pair) for pair in ends], axis=1)
        table = _where_wide(table.assign(low=low, high=high), table)
    return table.drop(columns=["n_defined", *([] if over_seeds else ["n_seeds"])])


def _where_wide(table: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    """Take the limits of another table where an interval has no width: all or none are solved."""
    flat = table["high"] - table["low"] < 1e-12
    return table.assign(**{end: table[end].mask(flat, exact[end]) for end in ("low", "high")})


def _interval(
    group: ProblemValues,
    name: str,
    interval: str,
    how: Resampling,
    settings: Mapping[str, Any],
) -> tuple[Floats, Floats]:
    if interval not in ("nested", "analytic", "bayes"):
        raise ValueError(
            f"interval={interval!r} is none of {', '.join(map(repr, get_args(Interval)))}"
        )
    metric, fixed = find_metric(name)
    options = {**fixed, **settings}
    of_counts = metric.needs == "counts" and metric.at_k
    if not of_counts or (interval == "bayes" and name not in ("pass_at_k", "bayes_pass_at_k")):
        raise ValueError(f"interval={interval!r} is not defined for {name}; take 'bootstrap'")
    counted = group.n_samples, group.n_correct, group.columns
    if interval == "bayes":
        return intervals.bayes_interval(*counted, confidence=how.confidence, **options)

    def statistic(n: Any, c: Any, k: Any) -> Any:
        return metric(n, c, k, **options)

    if interval == "analytic":
        return intervals.analytic_interval(*counted, statistic, how.confidence)
    same: ResamplingOptions = {
        "n_resamples": how.n_resamples,
        "confidence": how.confidence,
        "random_state": how.random_state,
    }
    return intervals.nested_bootstrap(*counted, statistic, **same)
