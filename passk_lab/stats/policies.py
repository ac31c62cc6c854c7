"""The policies table: the exact probability of every correct answer, where they can be listed.

One row a correct answer: ``run, split, seed, step, problem_id, answer, logprob`` (nats) and
optionally ``concepts``, an integer whose bit c says that the answer visits concept c. With all
correct answers at hand, what k samples are expected to find needs no sampling: with p_i the
probability of answer i and A = sum_i p_i that of any,

- pass@k = 1 - (1 - A)^k,
- distinct@k = sum_i 1 - (1 - p_i)^k,
- coverage@k = distinct@k / number of correct answers,
- concept coverage@k = mean over the concepts that a correct answer can visit of
  1 - (1 - q_c)^k, q_c the probability of a correct answer that visits c,
- effective answers = A^2 / sum_i p_i^2, Hill's number of order 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.rollouts.table import MAIN_KEYS
from passk_lab.stats._estimates import mean_table
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues

__all__ = ["POLICY_METRICS", "policy_curve", "policy_summary", "policy_values"]

Floats = npt.NDArray[np.float64]


def _missed(p: Floats, ks: Floats) -> Floats:
    """(1 - p)^k, shape (n, n_k), exact for the smallest p."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log1p(-np.minimum(p, 1.0))[:, None] * ks)


def _pass(part: pd.DataFrame, starts: npt.NDArray[np.intp], ks: Floats) -> Floats:
    accuracy = np.add.reduceat(np.exp(part["logprob"].to_numpy(float)), starts)
    return 1 - _missed(accuracy, ks)


def _distinct(part: pd.DataFrame, starts: npt.NDArray[np.intp], ks: Floats) -> Floats:
    found = 1 - _missed(np.exp(part["logprob"].to_numpy(float)), ks)
    return np.asarray(np.add.reduceat(found, starts))


def _coverage(part: pd.DataFrame, starts: npt.NDArray[np.intp], ks: Floats) -> Floats:
    sizes = np.diff(np.append(starts, len(part)))
    return _distinct(part, starts, ks) / sizes[:, None]


def _concept_coverage(part: pd.DataFrame, starts: npt.NDArray[np.intp], ks: Floats) -> Floats:
    if "concepts" not in part.columns:
        raise ValueError("policies: column 'concepts' is missing; concept_coverage needs it")
    p = np.exp(part["logprob"].to_numpy(float))
    bits = part["concepts"].to_numpy(np.int64)
    total = np.zeros((len(starts), len(ks)))
    possible = np.zeros(len(starts))
    for concept in range(int(bits.max()).bit_length()):
        visits = (bits >> concept & 1).astype(bool)
        reachable = np.add.reduceat(visits, starts, dtype=np.int64) > 0
        total += reachable[:, None] * (1 - _missed(np.add.reduceat(p * visits, starts), ks))
        possible += reachable
    if not possible.all():
        raise ValueError("policies: a problem's correct answers visit no concept at all")
    return total / possible[:, None]


def _effective(part: pd.DataFrame, starts: npt.NDArray[np.intp], ks: Floats) -> Floats:
    logprob = part["logprob"].to_numpy(float)
    sizes = np.diff(np.append(starts, len(part)))
    # Relative to the largest, so that tiny probabilities don't underflow when squared.
    p = np.exp(logprob - np.repeat(np.maximum.reduceat(logprob, starts), sizes))
    effective = np.add.reduceat(p, starts) ** 2 / np.add.reduceat(p**2, starts)
    return np.repeat(effective[:, None], len(ks), axis=1)


_METRICS: dict[str, Callable[[pd.DataFrame, npt.NDArray[np.intp], Floats], Floats]] = {
    "pass_at_k": _pass,
    "distinct_at_k": _distinct,
    "coverage_at_k": _coverage,
    "concept_coverage_at_k": _concept_coverage,
    "effective_answers": _effective,
}
POLICY_METRICS = tuple(_METRICS)


def policy_values(
    policies: pd.DataFrame,
    metric: str = "coverage_at_k",
    k: int | Sequence[int] = 1,
    by: Sequence[str] = MAIN_KEYS,
) -> list[ProblemValues]:
    """Compute a metric of each seed and problem, exactly.

    Parameters
    ----------
    policies : DataFrame
        The module says which columns; ``seed`` may be missing, if there is one.
    metric : str
        One of `POLICY_METRICS`; "effective_answers" is the same for every k.
    k : int or sequence of int
    by : sequence of str
        Columns that tell curves apart, ``seed`` not among them.

    Returns
    -------
    list of ProblemValues
        One for each combination of ``by``.

    Raises
    ------
    ValueError
        The metric is unknown; a column is missing; a log-probability is positive or missing; an
        answer occurs twice; the seeds of a group differ in their problems.

    Examples
    --------
    >>> policies = pd.DataFrame({"run": "base", "split": "id", "seed": 0, "problem_id": "a",
    ...                          "answer": ["x", "y"], "logprob": np.log([0.5, 0.25])})
    >>> policy_values(policies, "coverage_at_k", [1, 2])[0].values.tolist()
    [[[0.375, 0.59375]]]
    """
    if metric not in _METRICS:
        raise ValueError(f"metric={metric!r} is none of {', '.join(_METRICS)}")
    by = list(by)
    table = policies if "seed" in policies.columns else policies.assign(seed=0)
    _check(table, by)
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if ks.ndim != 1 or not len(ks) or ks.min() < 1:
        raise ValueError("k must be a number of at least 1 or a non-empty sequence of such numbers")
    # As objects: a categorical column would sort by its categories.
    table = table.assign(problem_id=table["problem_id"].astype(object))
    needed = table.columns.isin([*by, "seed", "problem_id", "logprob", "concepts"])
    table = table.loc[:, needed].sort_values("problem_id", kind="stable")
    parts = []
    for key, part in table.groupby([*by, "seed"], sort=True, observed=True):
        names = part["problem_id"].to_numpy(object)
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
        values = _METRICS[metric](part, starts, ks.astype(float))
        parts.append(ProblemValues(key, names[starts], ks, values[None]))
    return ProblemValues.stacked(parts)


def _check(table: pd.DataFrame, by: list[str]) -> None:
    for name in [*by, "problem_id", "answer", "logprob"]:
        if name not in table.columns:
            raise ValueError(f"policies: column {name!r} is missing; add it")
    bad = ~(table["logprob"].to_numpy(float) <= 0)  # true for NaN, too
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"policies: column 'logprob', row {row}: {table['logprob'].iloc[row]} is no "
            "log-probability; it must be at most 0"
        )
    twice = table.duplicated([*by, "seed", "problem_id", "answer"])
    if twice.any():
        row = int(np.argmax(twice))
        raise ValueError(
            f"policies: row {row}: answer {table['answer'].iloc[row]!r} of problem "
            f"{table['problem_id'].iloc[row]!r} occurs twice; tell checkpoints apart in `by`"
        )


def policy_curve(
    policies: pd.DataFrame,
    metric: str = "coverage_at_k",
    k: int | Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
    by: Sequence[str] = MAIN_KEYS,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Mean of an exact metric over seeds and problems.

    Parameters
    ----------
    policies, metric, k, by
        As for `policy_values`.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems, n_seeds``.

    Examples
    --------
    >>> policies = pd.DataFrame({"run": "base", "split": "id", "seed": 0, "problem_id": "a",
    ...                          "answer": ["x", "y"], "logprob": np.log([0.5, 0.25])})
    >>> policy_curve(policies, "distinct_at_k", k=2, n_resamples=10)["estimate"].tolist()
    [1.1875]
    """
    values = policy_values(policies, metric, k, by)
    return mean_table(values, by, "k", Resampling(**resampling)).drop(columns="n_defined")


def policy_summary(policy: pd.DataFrame) -> dict[str, float]:
    """Accuracy, pass@64, coverage@64 and effective correct answers, mean over problems.

    Parameters
    ----------
    policy : DataFrame
        Columns ``problem_id, answer, logprob`` of one model.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> policy = pd.DataFrame({"problem_id": "a", "answer": ["x", "y"],
    ...                        "logprob": np.log([0.25, 0.25])})
    >>> {name: round(value, 3) for name, value in policy_summary(policy).items()}
    {'pass@1': 0.5, 'pass@64': 1.0, 'coverage@64': 1.0, 'effective_answers': 2.0}
    """

    def mean(metric: str, k: int) -> float:
        return float(policy_values(policy, metric, k, by=())[0].mean[0])

    return {
        "pass@1": mean("pass_at_k", 1),
        "pass@64": mean("pass_at_k", 64),
        "coverage@64": mean("coverage_at_k", 64),
        "effective_answers": mean("effective_answers", 1),
    }
