"""Curves over k from a rollouts table: estimate each problem, average over problems, interval.

Tables come out tidy, one row for each run, split and k, ready for seaborn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.functional import distinct_at_k
from passk_lab.metrics.passk import (
    bayes_pass_at_k,
    best_of_k,
    g_pass_at_k,
    maj_at_k,
    max_at_k,
    pass_at_k,
    pass_hat_k,
    whole_numbers,
)
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.files import read_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike, validate_rollouts
from passk_lab.stats import intervals

__all__ = [
    "METRICS",
    "ProblemValues",
    "default_ks",
    "distinct_at_k_curve",
    "metric_curve",
    "pass_at_k_curve",
    "problem_values",
]

Floats = npt.NDArray[np.float64]
Interval = Literal["bootstrap", "nested", "analytic", "bayes"]

_OF_COUNTS: dict[str, Callable[..., Any]] = {
    "pass_at_k": pass_at_k,
    "pass_hat_k": pass_hat_k,
    "g_pass_at_k": g_pass_at_k,
    "bayes_pass_at_k": bayes_pass_at_k,
}
OF_MODES = ("distinct_at_k", "distinct_answers_at_k", "maj_at_k")
OF_SCORES = ("best_of_k", "max_at_k")
METRICS = (*_OF_COUNTS, *OF_MODES, *OF_SCORES)


@dataclass(frozen=True)
class ProblemValues:
    """A metric of each problem of one run and split.

    Attributes
    ----------
    group : tuple
        The values of the columns grouped by, (run, split) for example.
    problem_id : array of str, shape (n_problems,)
    n_samples, n_correct : arrays of int, shape (n_problems,)
    k : array of int, shape (n_k,)
    values : array, shape (n_problems, n_k)
    """

    group: tuple[Any, ...]
    problem_id: npt.NDArray[np.object_]
    n_samples: npt.NDArray[np.int64]
    n_correct: npt.NDArray[np.int64]
    k: npt.NDArray[np.int64]
    values: Floats


def default_ks(n: int) -> list[int]:
    """Return the powers of two up to n, and n itself.

    Examples
    --------
    >>> default_ks(20)
    [1, 2, 4, 8, 16, 20]
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    return sorted({2**i for i in range(n.bit_length())} | {n})


def pass_at_k_curve(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    interval: Interval = "bootstrap",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Mean pass@k over problems for each run and split.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table, a file of one (parquet is read in batches, without text), or what
        `passk_lab.counts` made of it.
    k : int or sequence of int, optional
        Default: powers of two up to the smallest number of samples of a problem, and that number.
    by : sequence of str
        Columns that tell curves apart.
    interval : {"bootstrap", "nested", "analytic", "bayes"}
        `passk_lab.stats.intervals` says what each stands for.
    confidence : float
    n_resamples : int
    random_state : int, Generator or None

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems``.

    Raises
    ------
    ValueError
        The table is refused; k exceeds the samples of a problem (named).

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
    return metric_curve(
        rollouts, "pass_at_k", k, by, interval, confidence, n_resamples, random_state
    )


def distinct_at_k_curve(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    correct_only: bool = True,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Mean number of distinct (correct) answers among k samples, for each run and split.

    Rarefaction: exact over all k-subsets, so runs with different numbers of samples compare at
    equal k. See `passk_lab.distinct_at_k`.

    Parameters
    ----------
    rollouts, k, by, confidence, n_resamples, random_state
        As for `pass_at_k_curve`; the table needs the column ``answer``.
    correct_only : bool
        Count distinct correct answers only (default), or all distinct answers.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems``.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaa"), "correct": [True, True, True, False],
    ...                       "answer": ["x", "x", "y", "z"]})
    >>> distinct_at_k_curve(table, random_state=0)["estimate"].round(3).tolist()
    [0.75, 1.333, 2.0]
    """
    metric = "distinct_at_k" if correct_only else "distinct_answers_at_k"
    return metric_curve(rollouts, metric, k, by, "bootstrap", confidence, n_resamples, random_state)


def metric_curve(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    interval: Interval = "bootstrap",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | np.random.Generator | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Mean of any metric of `METRICS` over problems, for each run and split.

    Parameters
    ----------
    rollouts, k, by, interval, confidence, n_resamples, random_state
        As for `pass_at_k_curve`. Intervals other than "bootstrap" are for metrics of counts.
    metric : str
        "pass_at_k", "pass_hat_k", "g_pass_at_k", "bayes_pass_at_k"; from answers "distinct_at_k"
        (correct ones), "distinct_answers_at_k" (all) and "maj_at_k"; from scores "best_of_k" and
        "max_at_k".
    **options
        Further arguments of the metric: ``tau`` of G-pass@k, ``prior`` of Bayesian pass@k.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems``.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaa"), "correct": [True, True, True, False]})
    >>> metric_curve(table, "g_pass_at_k", [2, 4], tau=0.5, random_state=0)["estimate"].tolist()
    [1.0, 1.0]
    """
    rng = np.random.default_rng(random_state)
    by = list(by)
    parts = []
    for group in problem_values(rollouts, metric, k, by, **options):
        low, high = _interval(group, metric, interval, confidence, n_resamples, rng, options)
        part = pd.DataFrame(
            {
                "k": group.k,
                "estimate": group.values.mean(axis=0),
                "low": low,
                "high": high,
                "n_problems": len(group.problem_id),
            }
        )
        for place, (name, value) in enumerate(zip(by, group.group, strict=True)):
            part.insert(place, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _interval(
    group: ProblemValues,
    metric: str,
    interval: str,
    confidence: float,
    n_resamples: int,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> tuple[Floats, Floats]:
    if interval == "bootstrap":
        return intervals.bootstrap_mean(group.values, n_resamples, confidence, rng)
    if interval not in ("nested", "analytic", "bayes"):
        raise ValueError(
            f"interval={interval!r} is none of 'bootstrap', 'nested', 'analytic', 'bayes'"
        )
    allowed = ("pass_at_k", "bayes_pass_at_k") if interval == "bayes" else tuple(_OF_COUNTS)
    if metric not in allowed:
        raise ValueError(f"interval={interval!r} is not defined for {metric}; take 'bootstrap'")
    n, c, k = group.n_samples, group.n_correct, group.k

    def statistic(n: Any, c: Any, k: Any) -> Any:
        return _OF_COUNTS[metric](n, c, k, **options)

    if interval == "nested":
        return intervals.nested_bootstrap(n, c, k, statistic, n_resamples, confidence, rng)
    if interval == "analytic":
        return intervals.analytic_interval(n, c, k, statistic, confidence)
    return intervals.bayes_interval(n, c, k, confidence=confidence, **options)


def problem_values(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    **options: Any,
) -> list[ProblemValues]:
    """Compute a metric of each problem, one `ProblemValues` a run and split.

    Parameters
    ----------
    rollouts, metric, k, by, **options
        As for `metric_curve`.

    Returns
    -------
    list of ProblemValues
        In the order of ``by``.

    Raises
    ------
    ValueError
        The metric is unknown, its columns are missing, or k exceeds a problem's samples.
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is none of {', '.join(METRICS)}")
    by = list(by)
    if metric in OF_SCORES:
        return list(_score_values(rollouts, metric, k, by))
    table = as_counts(rollouts, by, modes=metric in OF_MODES)
    groups = []
    for key, part in table.groupby(by, sort=True, dropna=False, observed=True):
        n = part["n_samples"].to_numpy(np.int64)
        c = part["n_correct"].to_numpy(np.int64)
        names = part["problem_id"].to_numpy(object)
        ks = _draws(k, n, names, key, by, beyond_n=metric == "bayes_pass_at_k")
        if metric in _OF_COUNTS:
            values = _OF_COUNTS[metric](n[:, None], c[:, None], ks, **options)
        elif metric == "maj_at_k":
            values = _majority_values(part, ks, **options)
        else:
            cells = "correct_mode_counts" if metric == "distinct_at_k" else "mode_counts"
            values = distinct_at_k(list(part[cells]), ks, n_samples=n, **options)
        groups.append(ProblemValues(key, names, n, c, ks, np.asarray(values, dtype=np.float64)))
    return groups


def _draws(
    k: int | Sequence[int] | None,
    n: npt.NDArray[np.int64],
    names: npt.NDArray[np.object_],
    key: tuple[Any, ...],
    by: Sequence[str],
    beyond_n: bool = False,
) -> npt.NDArray[np.int64]:
    fewest = int(np.argmin(n))
    if k is None:
        return np.array(default_ks(int(n[fewest])))
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if ks.ndim != 1 or not len(ks):
        raise ValueError("k must be a number or a non-empty sequence of numbers")
    if ks.min() < 1:
        raise ValueError(f"k={ks.min()} must be at least 1")
    if ks.max() > n[fewest] and not beyond_n:
        where = ", ".join(f"{name}={value!r}" for name, value in zip(by, key, strict=True))
        raise ValueError(
            f"k={ks.max()} exceeds the {n[fewest]} samples of problem {names[fewest]!r} ({where}); "
            "take a smaller k, drop the problem, or extrapolate with "
            "passk_lab.stats.extrapolate.extrapolate_pass_at_k"
        )
    return ks


def _majority_values(part: pd.DataFrame, ks: npt.NDArray[np.int64], **options: Any) -> Floats:
    known: dict[Any, Floats] = {}
    rows = []
    cells = zip(
        part["problem_id"],
        part["n_samples"],
        part["mode_counts"],
        part["correct_mode_counts"],
        strict=True,
    )
    for problem, n, modes, right in cells:
        wrong = Counter(modes.tolist())
        wrong.subtract(right.tolist())
        if min(wrong.values(), default=0) < 0:
            raise ValueError(
                f"problem {problem!r}: an answer is marked correct in one rollout and wrong in "
                "another; maj@k needs one verdict for each answer"
            )
        sizes = [*right.tolist(), *sorted(wrong.elements())]
        pattern = (n, tuple(sizes), len(right))
        if pattern not in known:
            marks = np.arange(len(sizes)) < len(right)
            known[pattern] = maj_at_k(sizes, marks, ks, n_samples=int(n), **options)
        rows.append(known[pattern])
    return np.array(rows)


def _score_values(
    rollouts: pd.DataFrame | PathLike,
    metric: str,
    k: int | Sequence[int] | None,
    by: list[str],
) -> Iterator[ProblemValues]:
    if isinstance(rollouts, pd.DataFrame):
        table = validate_rollouts(rollouts)
    else:
        table = read_rollouts(rollouts, columns=["score", *by])
    if "score" not in table.columns:
        raise ValueError(f"column 'score' is missing; {metric} ranks samples by it")
    missing = table["score"].isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"column 'score', row {int(np.argmax(missing))}: value is missing; {metric} needs a "
            "score for every rollout"
        )
    for key, part in table.groupby(by, sort=True, dropna=False, observed=True):
        samples = part.groupby("problem_id", sort=True, observed=True)
        names = np.array(list(samples.groups), dtype=object)
        n = np.asarray(samples.size(), dtype=np.int64)
        c = np.asarray(samples["correct"].sum(), dtype=np.int64)
        ks = _draws(k, n, names, key, by)
        order = np.argsort(samples.ngroup().to_numpy(), kind="stable")
        scores = part["score"].to_numpy(np.float64)[order]
        correct = part["correct"].to_numpy(bool)[order]
        ends = np.cumsum(n)
        values = np.empty((len(n), len(ks)))
        for size in np.unique(n):
            mine = n == size
            rows = (ends[mine] - size)[:, None] + np.arange(size)
            if metric == "best_of_k":
                values[mine] = best_of_k(scores[rows], correct[rows], ks)
            else:
                values[mine] = max_at_k(scores[rows], ks)
        yield ProblemValues(key, names, n, c, ks, values)
