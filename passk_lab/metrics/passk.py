"""pass@k and its relatives: arrays in, arrays out.

All draw k of a problem's n samples without replacement and are exact to 1e-12 relative or better,
also near 0 and 1. All raise a ValueError that names the place of a number that is out of its range,
not whole or missing. What pass@k misses, 1 - pass@k, is
``pass_hat_k(n_samples, n_samples - n_correct, k)``, exact also where pass@k rounds to 1.
"""

from __future__ import annotations

from functools import cache
from typing import Any

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
from passk_lab.metrics._hypergeometric import (
    Floats,
    excess,
    log_binomial_pmf,
    log_ratio,
    upper_tail,
)
from passk_lab.metrics.registry import metric

__all__ = [
    "bayes_pass_at_k",
    "best_of_k",
    "g_pass_at_k",
    "maj_at_k",
    "max_at_k",
    "mg_pass_at_k",
    "pass_at_k",
    "pass_hat_k",
]


@metric("counts")
def pass_at_k(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """Unbiased pass@k: the chance that at least one of k samples is correct.

    1 - C(n-c, k) / C(n, k): Chen et al. (2021), arXiv:2107.03374, equation 1. For k > n see
    `passk_lab.stats.extrapolate.extrapolate_pass_at_k`.

    Parameters
    ----------
    n_samples, n_correct, k : array_like of int
        Samples n and correct samples c of each problem, and the number of samples drawn;
        0 <= c <= n and 1 <= k <= n. They broadcast against each other.

    Returns
    -------
    float or array of float
        A float where all arguments are scalars.

    Examples
    --------
    >>> pass_at_k(10, [[1], [5]], [1, 2, 10]).round(4).tolist()  # problems down, k across
    [[0.1, 0.2, 1.0], [0.5, 0.7778, 1.0]]
    """
    return over_distinct(_pass, n_samples, n_correct, k)


@metric("counts")
def pass_hat_k(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """Unbiased pass^k: the chance that all k samples are correct, C(c, k) / C(n, k).

    Yao et al. (2024), arXiv:2406.12045, section 4. Arguments and result as for `pass_at_k`.

    Examples
    --------
    >>> pass_hat_k(10, 3, [1, 2, 4]).round(4).tolist()
    [0.3, 0.0667, 0.0]
    """
    return over_distinct(lambda n, c, k: np.exp(log_ratio(n, n - c, k)), n_samples, n_correct, k)


@metric("counts", option="tau")
def g_pass_at_k(
    n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike, tau: float
) -> Any:
    """G-pass@k(tau): the chance that at least ceil(tau k) of k samples are correct.

    Liu et al. (2024), arXiv:2412.13147, equation 4. 0 < tau <= 1 is the share that must be correct:
    towards 0 this is pass@k, at 1 pass^k. Other arguments and result as for `pass_at_k`.

    Examples
    --------
    >>> g_pass_at_k(10, 6, [2, 4], tau=0.5).round(4).tolist()
    [0.8667, 0.881]
    """
    share = check_share(float(tau))
    return over_distinct(
        lambda n, c, k: upper_tail(least_correct(k, share), n, c, k), n_samples, n_correct, k
    )


@metric("counts")
def mg_pass_at_k(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """mG-Pass@k: G-Pass@k(tau) averaged over tau from 1/2 to 1.

    2/k times the sum of G-Pass@k(i/k) over i = ceil(k/2) + 1, ..., k, which is the mean of
    max(X - ceil(k/2), 0) with X of k samples correct: Liu et al. (2024), arXiv:2412.13147,
    equation 5. At most 1 for even k and 1 - 1/k for odd ones. Arguments as for `pass_at_k`.

    Examples
    --------
    >>> mg_pass_at_k(10, [5, 8, 10], 4).round(4).tolist()
    [0.1429, 0.6, 1.0]
    """
    return over_distinct(
        lambda n, c, k: np.minimum(2 / k * excess(np.ceil(k / 2), n, c, k), 1.0),
        n_samples,
        n_correct,
        k,
    )


@metric("counts")
def bayes_pass_at_k(
    n_samples: npt.ArrayLike,
    n_correct: npt.ArrayLike,
    k: npt.ArrayLike,
    prior: tuple[float, float] = (1.0, 1.0),
) -> Any:
    """Posterior mean of pass@k, 1 - E (1 - p)^k with p ~ Beta(a + c, b + n - c).

    Hariri et al. (2025), arXiv:2510.04265. Not unbiased, but never exactly 0 or 1. ``prior`` is a
    and b of the Beta prior on a problem's accuracy: (1, 1) is uniform, (0.5, 0.5) Jeffreys'. Other
    arguments and result as for `pass_at_k`, but k may exceed n, and n may be 0.

    Examples
    --------
    >>> bayes_pass_at_k(10, 0, [1, 10, 100]).round(4).tolist()
    [0.0833, 0.4762, 0.9009]
    """
    a, b = prior
    if not (0 < a < np.inf and 0 < b < np.inf):
        raise ValueError(f"prior={prior} must be two positive finite numbers")

    def posterior(n: Floats, c: Floats, k: Floats) -> Floats:
        return 0.0 - np.expm1(log_ratio(a + b + n - 1 + k, a + c, k))

    return over_distinct(posterior, n_samples, n_correct, k, beyond_n=True)


def _pass(n: Floats, c: Floats, k: Floats) -> Floats:
    return 0.0 - np.expm1(log_ratio(n, c, k))  # 0.0 -: no negative zeros


@metric("ranked")
def best_of_k(scores: npt.ArrayLike, correct: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """Accuracy of best-of-k: the chance that the highest-scored of k samples is correct.

    Exact over all k-subsets; of samples with equal scores, each is as likely to be taken.

    Parameters
    ----------
    scores : array_like, shape (n,) or (n_problems, n)
        A verifier's or reward model's score of each sample; higher is better.
    correct : array_like of bool, same shape
    k : int or sequence of int
        Samples drawn, 1 <= k <= n.

    Returns
    -------
    float or array
        Shape (), (n_k,), (n_problems,) or (n_problems, n_k), as problems and k are one or many.

    Examples
    --------
    >>> best_of_k([0.9, 0.5, 0.1], [False, True, False], [1, 2, 3]).round(4).tolist()
    [0.3333, 0.3333, 0.0]
    """
    values = _finite(scores, "scores")
    marks = _marks(correct, "correct")
    if marks.shape != values.shape:
        raise ValueError(f"correct has shape {marks.shape}, scores {values.shape}; make them equal")
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    return _expect_top(_mean_of_ties(ranked, np.take_along_axis(marks, order, axis=-1)), k)


@metric("scores")
def max_at_k(scores: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """max@k: the expected highest score among k samples, exact over all k-subsets.

    Walder and Karkhanis (2025), arXiv:2505.15201, section 3 (max_g@k). With scores of 0 and 1 this
    is pass@k. Arguments as for `best_of_k`; the result is in the unit of the scores.

    Examples
    --------
    >>> max_at_k([0.0, 1.0, 3.0], [1, 2, 3]).round(4).tolist()
    [1.3333, 2.3333, 3.0]
    """
    return _expect_top(np.sort(_finite(scores, "scores"), axis=-1), k)


def _marks(values: npt.ArrayLike, name: str) -> npt.NDArray[np.bool_]:
    marks = np.asarray(values)
    if marks.dtype.kind != "b" and not np.isin(marks, (0, 1)).all():
        raise ValueError(f"{name} must hold booleans (or 0 and 1)")
    return marks.astype(bool)


def _finite(values: npt.ArrayLike, name: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} needs the same number for each problem: {error}") from error
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (n,) or (n_problems, n), not {array.shape}")
    refuse(~np.isfinite(array), name, array, "is not finite; score the sample or drop it")
    return array


def _mean_of_ties(ranked: Floats, marks: npt.NDArray[Any]) -> Floats:
    """Replace each mark by the mean over the samples of equal score; rows are sorted."""
    new = np.ones(ranked.shape, dtype=bool)
    new[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    group = np.cumsum(new.ravel()) - 1
    mean = np.bincount(group, weights=marks.ravel().astype(np.float64)) / np.bincount(group)
    return mean[group].reshape(ranked.shape)


def _expect_top(ranked: Floats, k: npt.ArrayLike) -> Any:
    """Mean over k-subsets of the value at the subset's highest rank."""
    n = ranked.shape[-1]
    draws = np.atleast_1d(whole_numbers(k, "k"))
    # The i-th lowest is the highest of the draw with chance C(i-1, k-1) / C(n, k).
    ranks = np.arange(1, n + 1)[:, None]
    result = ranked @ (pass_hat_k(n, ranks, draws) * draws / ranks)
    if np.ndim(k) == 0:
        result = result[..., 0]
    return float(result) if np.ndim(result) == 0 else result


@metric("verdicts")
def maj_at_k(
    mode_counts: npt.ArrayLike,
    mode_correct: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    n_samples: int | None = None,
    n_resamples: int = 20_000,
    random_state: int | np.random.Generator | None = None,
) -> Any:
    """maj@k of one problem: the chance that the most frequent answer of k samples is correct.

    Wang et al. (2023), arXiv:2203.11171. Of answers equally frequent in a draw, each is as likely
    to be taken. Exact up to k = 64 (in a tenth of a second) by generating functions, and the mean
    of random draws above, with a standard error of at most 0.5 / sqrt(n_resamples).

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,)
        How often each distinct answer occurred among the samples.
    mode_correct : array_like of bool, shape (n_modes,)
    k : int or sequence of int
        Samples drawn without replacement, 1 <= k <= n.
    n_samples : int, optional
        All samples n, where some gave no answer: these can be drawn, but have no vote, and a
        draw without any vote counts as wrong. Default: the sum of ``mode_counts``.
    n_resamples : int
        Random draws for each k above 64.
    random_state : int, Generator or None

    Returns
    -------
    float or array, shape () or (n_k,)

    Examples
    --------
    >>> maj_at_k([3, 2, 1], [True, False, False], [1, 3, 6]).round(4).tolist()
    [0.5, 0.6, 1.0]
    """
    counts = whole_numbers(mode_counts, "mode_counts")
    correct = _marks(mode_correct, "mode_correct")
    if counts.ndim != 1 or correct.shape != counts.shape:
        raise ValueError(
            f"mode_counts {counts.shape} and mode_correct {correct.shape} must be 1-d and alike"
        )
    refuse(counts < 0, "mode_counts", counts, "must not be negative")
    n = int(counts.sum()) if n_samples is None else int(whole_numbers(n_samples, "n_samples"))
    if counts.sum() > n:
        raise ValueError(f"mode_counts sum to {counts.sum()}, above n_samples={n}")
    draws = np.atleast_1d(whole_numbers(k, "k"))
    check_counts(np.array(n), np.array(0), draws)
    keep = counts > 0
    counts, correct = counts[keep], correct[keep]
    rng = np.random.default_rng(random_state)
    value = np.zeros(len(draws))
    for i, draw in enumerate(map(int, draws)):
        if draw == n:
            value[i] = _vote(counts[None, :], correct)[0]
        elif draw <= _EXACT_MAJORITY:
            value[i] = _majority_exact(counts, correct, n, draw)
        else:
            urn = np.append(counts, n - counts.sum())
            drawn = rng.multivariate_hypergeometric(urn, draw, size=n_resamples)[:, :-1]
            value[i] = _vote(drawn, correct).mean()
    return float(value[0]) if np.ndim(k) == 0 else value


_EXACT_MAJORITY = 64


def _vote(drawn: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_]) -> Floats:
    """For each draw (row) the share of correct answers among its most frequent ones."""
    if not drawn.shape[1]:
        return np.zeros(len(drawn))
    top = drawn.max(axis=1, keepdims=True)
    tied = (drawn == top) & (top > 0)
    return np.asarray((tied @ correct.astype(float)) / np.maximum(tied.sum(axis=1), 1))


def _majority_exact(
    counts: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_], n: int, k: int
) -> float:
    r"""Sum over all draws of k of the share of correct answers among the most frequent ones.

    Give each answer m with count n_m the polynomial of its binomial weights w_m(i) x^i, i draws
    of it; the coefficient of x^k in the product over answers, over that of all n samples, is a
    probability. For the top frequency j cut the polynomials after x^j and mark ties, x^j, by y:
    then a win shared among T answers has y^(T-1) beside it, and ∫ y^(T-1) dy = 1/T is the share.
    The integrand is a polynomial in y, so that Gauss-Legendre nodes give it exactly. All terms
    are positive: nothing cancels.
    """
    p = k / n
    sizes, of_size, repeats = np.unique(counts, return_inverse=True, return_counts=True)
    right = np.bincount(of_size, weights=correct, minlength=len(sizes))
    draws = np.arange(k + 1, dtype=np.float64)

    def weights(size: int) -> Floats:
        x = np.minimum(draws, size)
        pmf = np.exp(log_binomial_pmf(x, np.full(k + 1, float(size)), p, 1 - p))
        return np.where(draws <= size, pmf, 0.0)

    silent = n - int(counts.sum())
    below = (weights(silent) if silent else (draws == 0).astype(float))[None, :]
    of_all = [weights(int(size)) for size in sizes]
    total = 0.0
    for j in range(1, min(k, int(counts.max(initial=0))) + 1):
        first = int(np.searchsorted(sizes, j))
        if first and sizes[first - 1] == j - 1:  # can't be drawn j times: whole from here on
            below = _times(below, _power(of_all[first - 1][None, :], int(repeats[first - 1])))
        most_tied = min(k // j, int(repeats[first:].sum()))
        nodes, node_weights = _nodes((most_tied + 1) // 2)
        y = (nodes + 1) / 2
        lost = np.tile(below, (len(y), 1))  # no correct answer singled out as a winner yet
        won = np.zeros_like(lost)  # one singled out
        for place in range(first, len(sizes)):
            w = of_all[place]
            cut = np.tile(np.where(draws < j, w, 0.0), (len(y), 1))
            cut[:, j] = y * w[j]
            fewer = _power(cut, int(repeats[place]) - 1)
            full = _times(fewer, cut)
            won = _times(won, full)
            if right[place]:
                winner = np.zeros_like(lost)
                winner[:, j:] = lost[:, : k + 1 - j] * w[j] * right[place]
                won += _times(winner, fewer)
            lost = _times(lost, full)
        total += float(won[:, k] @ node_weights) / 2
    return min(total / float(weights(n)[k]), 1.0)


_nodes = cache(np.polynomial.legendre.leggauss)


def _times(a: Floats, b: Floats) -> Floats:
    """Products of polynomials, row by row, cut after the highest power of x kept."""
    size = b.shape[1]
    padded = np.concatenate([np.zeros((len(b), size - 1)), b], axis=1)
    shifted = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::-1]
    return np.asarray(np.matmul(a[:, None, :], shifted)[:, 0, :])


def _power(base: Floats, exponent: int) -> Floats:
    result = np.zeros_like(base)
    result[:, 0] = 1.0
    while exponent:
        if exponent & 1:
            result = _times(result, base)
        exponent >>= 1
        if exponent:
            base = _times(base, base)
    return result
