"""Breadth of what a model solves, and what training does to it, from counts.

`pass_at_k` at small k rewards problems solved often, at large k those solved at all. These say
which of the two a change moved; docs/definitions.md has the formulas side by side. All raise a
ValueError that names the place of a number that is out of its range, not whole or missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._counts import (
    check_counts,
    check_share,
    least_correct,
    over_distinct,
    refuse,
    whole_numbers,
)
from passk_lab.metrics._hypergeometric import Floats, log_ratio
from passk_lab.metrics.passk import pass_at_k
from passk_lab.metrics.registry import metric

__all__ = [
    "cover_at_tau",
    "pass_at_k_auc",
    "sharpening_tax",
    "solved_share",
    "support_change",
]

_BLOCK = 1 << 20  # numbers held at once


@metric("counts", option="tau")
def cover_at_tau(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, tau: npt.ArrayLike) -> Any:
    """Cover@tau: 1 where at least a share tau of the samples is correct, else 0.

    Dragoi et al. (2025), arXiv:2510.08325. c / n stands for the accuracy, so near tau noise
    decides: take n well above 1 / tau. The mean over problems is the share of them solved at that
    reliability.

    Parameters
    ----------
    n_samples, n_correct : array_like of int
        Samples n and correct samples c of each problem; 0 <= c <= n and n >= 1.
    tau : array_like of float
        0 < tau <= 1. All arguments broadcast against each other.

    Examples
    --------
    >>> cover_at_tau(10, [0, 3, 10], 0.3).tolist()
    [0.0, 1.0, 1.0]
    """
    n, c = _some_samples(n_samples, n_correct)
    share = check_share(tau)
    covered = np.asarray(c >= least_correct(n.astype(np.float64), share), dtype=np.float64)
    return float(covered) if covered.ndim == 0 else covered


@metric("counts", says="Area under pass@k over log k, from k = 1 to k, between 0 and 1.")
def pass_at_k_auc(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k_max: npt.ArrayLike) -> Any:
    """Area under pass@k over log k, from k = 1 to ``k_max``, by log ``k_max``.

    Pass@k is exact at every whole k, and a straight line in log k between two of them; pass@1 where
    ``k_max`` is 1. Arguments as for `pass_at_k`.

    Examples
    --------
    >>> pass_at_k_auc(8, [0, 1, 4, 8], 8).round(4).tolist()
    [0.0, 0.425, 0.8464, 1.0]
    """
    area = _sum_over_k(lambda n, c, k, last: _log_widths(k, last) * -np.expm1(log_ratio(n, c, k)))
    return over_distinct(
        lambda n, c, k: np.minimum(area(n, c, k), 1.0), n_samples, n_correct, k_max, name="k_max"
    )


@metric("counts", better="neither", says="Sum of pass@K - pass@k over k = 1, ..., K - 1.")
def sharpening_tax(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k_max: npt.ArrayLike) -> Any:
    """Sum of pass@K - pass@k over k = 1, ..., K - 1, with K = ``k_max``.

    What K samples reach and fewer miss, from 0 (a flat curve) to K - 1. Training that only sharpens
    lifts pass@1 towards a pass@K that stays, so the tax falls: report base minus trained, at one K.
    Arguments as for `pass_at_k`.

    Examples
    --------
    >>> sharpening_tax(8, [0, 1, 4, 8], 4).round(4).tolist()
    [0.0, 0.75, 0.7429, 0.0]
    """

    # The miss m_k falls by m_k c / (n - k) to the next k: summed, all terms are positive.
    def rise(n: Floats, c: Floats, k: Floats, last: float) -> Floats:
        return np.where(k < last, k * c, 0.0) / np.maximum(n - k, 1) * np.exp(log_ratio(n, c, k))

    return over_distinct(_sum_over_k(rise), n_samples, n_correct, k_max, name="k_max")


@metric("counts", "scaled_sharpening_tax", better="neither",
        of_means=lambda means: _ratio(means[..., 0], means[..., 1]),
        says="Sharpening tax as a share of the largest that pass@1 allows.")  # fmt: skip
def _tax_parts(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k_max: npt.ArrayLike) -> Floats:
    largest = (np.asarray(k_max) - 1) * (1 - pass_at_k(n_samples, n_correct, 1))
    tax = sharpening_tax(n_samples, n_correct, k_max)
    return np.stack(np.broadcast_arrays(tax, largest), axis=-1)


@metric("counts", "always_solved", {"share": "always"},
        says="Problems of whose samples all are correct.")  # fmt: skip
@metric("counts", "sometimes_solved", {"share": "sometimes"}, better="neither",
        says="Problems of whose samples some are correct, but not all.")  # fmt: skip
@metric("counts", "never_solved", {"share": "never"}, better="lower",
        says="Problems of whose samples none is correct.")  # fmt: skip
def solved_share(
    n_samples: npt.ArrayLike,
    n_correct: npt.ArrayLike,
    share: Literal["always", "sometimes", "never"],
) -> Any:
    """1 where all, some but not all, or none of a problem's samples are correct, else 0.

    ``share`` is "always", "sometimes" or "never" ("never" depends on n: compare runs at an equal
    number of samples); other arguments and result as for `cover_at_tau`.

    Examples
    --------
    >>> solved_share(8, [0, 3, 8, 8], "always").tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    n, c = _some_samples(n_samples, n_correct)
    marks = {"always": c == n, "sometimes": (c > 0) & (c < n), "never": c == 0}
    return np.broadcast_to(marks[share], np.broadcast_shapes(n.shape, c.shape)).astype(float)[()]


def support_change(
    base_solved: npt.ArrayLike, run_solved: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[Any, Any, Any]:
    """Shares of solved problems that a run kept from its base, and won beyond it.

    Support retention rate, net discovery rate, dynamic score: Wu et al. (2025), arXiv:2507.14843.

    Parameters
    ----------
    base_solved, run_solved : array_like of bool or float, shape (n_problems,)
        Whether base and run solved each problem among an equal number of samples, or pass@k.
    weights : array_like of float, shape (..., n_problems), optional
        How much each problem counts, for example in resampling. Default: all alike.

    Returns
    -------
    kept, gained, score : float or array of the leading shape of ``weights``
        Share of the base's solved problems that the run solves, too; share of the run's solved
        problems that the base did not solve; their harmonic mean. NaN where nothing was solved.

    Examples
    --------
    >>> kept, gained, score = support_change([True, True, True, False], [True, True, False, True])
    >>> round(kept, 3), round(gained, 3), round(score, 3)
    (0.667, 0.333, 0.444)
    """
    parts = _support_parts(base_solved, run_solved)
    weight = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = weight @ parts
    return _kept(sums), _gained(sums), _score(sums)


def _kept(means: Floats) -> Any:
    return _ratio(means[..., 0], means[..., 1])


def _gained(means: Floats) -> Any:
    return _ratio(means[..., 2] - means[..., 0], means[..., 2])


def _score(means: Floats) -> Any:
    kept, gained = np.asarray(_kept(means)), np.asarray(_gained(means))
    return _ratio(2 * kept * gained, kept + gained, otherwise=0.0)


@metric("pair", "support_kept", of_means=_kept,
        says="Share of the baseline's solved problems that the run solves, too.")  # fmt: skip
@metric("pair", "support_gained", of_means=_gained,
        says="Share of the run's solved problems that the baseline doesn't solve.")  # fmt: skip
@metric("pair", "support_score", of_means=_score,
        says="Harmonic mean of support kept and gained.")  # fmt: skip
def _support_parts(base_solved: npt.ArrayLike, run_solved: npt.ArrayLike) -> Floats:
    base, run = (_solved(v, name) for v, name in ((base_solved, "base"), (run_solved, "run")))
    if base.shape != run.shape:
        raise ValueError(
            f"base_solved has shape {base.shape}, run_solved {run.shape}; give the same problems"
        )
    return np.stack([base * run, base, run], axis=-1)


def _some_samples(
    n_samples: npt.ArrayLike, n_correct: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    n, c = whole_numbers(n_samples, "n_samples"), whole_numbers(n_correct, "n_correct")
    check_counts(n, c, np.array(1), beyond_n=True)
    refuse(n < 1, "n_samples", n, "must be at least 1; leave problems without samples out")
    return n, c


def _solved(values: npt.ArrayLike, name: str) -> Floats:
    marks = np.asarray(values)
    if marks.ndim != 1 or marks.dtype.kind not in "biuf" or not ((marks >= 0) & (marks <= 1)).all():
        raise ValueError(f"{name}_solved must hold a boolean or a chance for each problem")
    return marks.astype(np.float64)


def _ratio(part: Any, whole: Any, otherwise: float = np.nan) -> Any:
    """Divide; where the whole is 0 the ratio has no value."""
    part, whole = np.broadcast_arrays(part, whole)
    empty = np.where(np.isnan(whole), np.nan, otherwise)
    result = np.divide(part, whole, out=empty, where=whole > 0)
    return float(result) if result.ndim == 0 else result


def _log_widths(k: Floats, last: float) -> Floats:
    """Weights of the trapezoids in log k over 1, ..., last; they sum to 1."""
    if last == 1:
        return np.ones_like(k)
    return np.log(np.minimum(k + 1, last) / np.maximum(k - 1, 1)) / (2 * np.log(last))


def _sum_over_k(
    term: Callable[[Floats, Floats, Floats, float], Floats],
) -> Callable[[Floats, Floats, Floats], Floats]:
    """Make a kernel that sums a term over k = 1, ..., k_max."""

    def kernel(n: Floats, c: Floats, k_max: Floats) -> Floats:
        n, c, k_max = np.broadcast_arrays(n, c, k_max)
        total = np.zeros(n.shape)
        for last in np.unique(k_max):
            here = k_max == last
            block = max(1, _BLOCK // int(here.sum()))
            for start in range(1, int(last) + 1, block):
                k = np.arange(start, min(start + block, int(last) + 1), dtype=np.float64)
                total[here] += term(n[here], c[here], k[:, None], float(last)).sum(axis=0)
        return total

    return kernel
