"""Functional diversity: how many different (correct) answers a model gives to one problem.

A *mode* is a set of rollouts that count as the same answer. Every function takes the mode counts of
one problem (1-d, gives a number) or of several (a sequence of 1-d arrays or a 2-d array, gives one
entry a problem), or `ModeCounts`, which are read and checked once. Zeros stand for modes that did
not occur. `distinct_at_k` compares runs at an equal number of samples; the others describe the
whole distribution, and refuse problems without samples. All raise a ValueError that names problem
and place where a count is negative, missing or not whole, or k is out of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from passk_lab._text import check_choice
from passk_lab.metrics._modes import (
    Floats,
    Ints,
    ModeCounts,
    check_draws,
    distinct_rows,
    hill_of_shares,
    inverse,
    rarefied,
)
from passk_lab.metrics.passk import pass_at_k, pass_hat_k
from passk_lab.metrics.registry import metric

__all__ = [
    "ModeCounts",
    "chao1",
    "distinct_at_k",
    "good_turing_coverage",
    "hill_number",
    "semantic_entropy",
    "two_modes_at_k",
]

Counts = npt.ArrayLike | Sequence[npt.ArrayLike] | ModeCounts


@metric("correct", says="Distinct correct answers among k samples.")
@metric("modes", "distinct_answers_at_k", says="Distinct answers among k samples.")
def distinct_at_k(
    mode_counts: Counts, k: npt.ArrayLike, *, n_samples: npt.ArrayLike | None = None
) -> Any:
    """Count distinct modes among k samples: the mean over all k-subsets (rarefaction).

    sum over modes of 1 - C(n - n_m, k) / C(n, k), pass@k of each mode added up: Hurlbert (1971),
    The Nonconcept of Species Diversity, Ecology 52(4). Unbiased for k fresh samples.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), sequence of such arrays, or ModeCounts
        How often each mode occurred.
    k : int or sequence of int
        Samples drawn without replacement, 1 <= k <= n.
    n_samples : int or array_like of int, shape (n_problems,), optional
        All samples n, where only some modes (the correct ones) are counted. Default: the sum of
        ``mode_counts``.

    Returns
    -------
    float or array
        Shape (), (n_k,), (n_problems,) or (n_problems, n_k), as problems and k are one or many.

    Examples
    --------
    >>> distinct_at_k([[3, 1], []], [1, 4, 8], n_samples=8).round(4).tolist()
    [[0.5, 1.4286, 2.0], [0.0, 0.0, 0.0]]
    """
    modes = ModeCounts.of(mode_counts)
    n = modes.samples(n_samples)
    return modes.shaped(rarefied(modes, n, check_draws(k, n)), k)


@metric("correct", says="The chance that k samples hold two different correct answers.")
def two_modes_at_k(
    mode_counts: Counts, k: npt.ArrayLike, *, n_samples: npt.ArrayLike | None = None
) -> Any:
    """Give the chance that k samples hold at least two distinct modes, over all k-subsets.

    Exactly one mode m is seen where all samples avoid the others but not m: with c the sum of the
    counts, 1 - C(n-c, k) / C(n, k) - sum over m of [C(n-c+n_m, k) - C(n-c, k)] / C(n, k). The
    error is absolute, a few 1e-16. Arguments as for `distinct_at_k`.

    Examples
    --------
    >>> two_modes_at_k([3, 1], [1, 2, 4]).tolist()
    [0.0, 0.5, 1.0]
    """
    modes = ModeCounts.of(mode_counts)
    n = modes.samples(n_samples)
    ks = check_draws(k, n)
    others = n - modes.total
    triples, place = distinct_rows(n[modes.owner], others[modes.owner], modes.counts)
    size, rest, count = triples.T
    alone = pass_hat_k(size, rest + count, ks[:, None]) - pass_hat_k(size, rest, ks[:, None])
    single = np.stack([modes.add(row[place]) for row in alone], axis=-1)
    found = pass_at_k(n[:, None], modes.total[:, None], ks) - single
    return modes.shaped(np.clip(found, 0.0, 1.0), k)


@metric("correct", "effective_answers", {"q": 2, "estimator": "corrected"}, least=2, harmonic=True,
        says="Effective correct answers: inverse chance that two samples agree.")  # fmt: skip
@metric("correct", "hill_1_corrected", {"q": 1, "estimator": "corrected"}, least=2,
        says="exp of the entropy of correct answers (Chao, Wang and Jost).")  # fmt: skip
@metric("correct", "hill_0_corrected", {"q": 0, "estimator": "corrected"}, least=2,
        says="Distinct correct answers, unseen ones included (Chao1).")  # fmt: skip
@metric("correct", "effective_answers_naive", {"q": 2, "estimator": "naive"}, harmonic=True,
        says="Inverse chance that two draws from the correct samples agree.")  # fmt: skip
@metric("correct", "hill_1_naive", {"q": 1, "estimator": "naive"},
        says="exp of the entropy of the correct answers seen.")  # fmt: skip
@metric("correct", "hill_0_naive", {"q": 0, "estimator": "naive"},
        says="Distinct correct answers seen.")  # fmt: skip
def hill_number(
    mode_counts: Counts, q: float, estimator: Literal["corrected", "naive"] = "corrected"
) -> Any:
    """Hill number of order q: the effective number of modes.

    The number of equally frequent modes that would be as diverse: Hill (1973), Ecology 54(2). The
    higher q, the less rare modes matter.

    Parameters
    ----------
    mode_counts
        As for `distinct_at_k`.
    q : float
        Order, at least 0; for "corrected" 0, 1 or 2.
    estimator : {"corrected", "naive"}
        "naive" takes the observed frequencies for the distribution that the samples came from,
        and so is too low with few samples, most of all for small q. "corrected" aims at that
        distribution (Chao et al. 2014, Ecological Monographs 84(1)): q = 0 is `chao1`, q = 1
        the exponential of the Chao-Wang-Jost entropy (`semantic_entropy`), q = 2 is
        n(n-1) / sum n_m(n_m-1), inf where no two samples agreed: average its inverse over
        problems.

    Returns
    -------
    float or array, shape (n_problems,)

    Examples
    --------
    >>> hill_number([[6, 2, 1, 1], [10], [1, 1]], 2).round(3).tolist()
    [2.812, 1.0, inf]
    """
    modes = _with_samples(mode_counts, "Hill number")
    order = float(q)
    if not order >= 0:
        raise ValueError(f"q={q} must be at least 0")
    check_choice(estimator, ("corrected", "naive"), "estimator")
    if estimator == "naive":
        shares = modes.counts / modes.total[modes.owner]
        return modes.shaped(hill_of_shares(shares, order, modes.owner, modes.n_problems))
    if order == 0:
        return modes.shaped(_chao1(modes))
    if order == 1:
        return modes.shaped(np.exp(_chao_jost(modes)))
    if order == 2:
        pairs = np.maximum(modes.total * (modes.total - 1), 1)
        return modes.shaped(inverse(modes.add(modes.counts * (modes.counts - 1)) / pairs))
    raise ValueError(f"q={q} has no corrected estimator here, only 0, 1 and 2; take 'naive'")


def chao1(mode_counts: Counts) -> Any:
    """Chao1: a lower bound for the number of modes, unseen ones included.

    S + (n-1)/n f1² / (2 f2), with S modes seen, f1 of them once and f2 twice; where f2 = 0,
    S + (n-1)/n f1 (f1-1) / 2: Chao (1984), Scandinavian Journal of Statistics 11(4). Some programs
    leave the factor (n-1)/n out. Arguments and result as for `hill_number`.

    Examples
    --------
    >>> chao1([6, 2, 1, 1])
    5.8
    """
    modes = _with_samples(mode_counts, "Chao1")
    return modes.shaped(_chao1(modes))


@metric("correct", "coverage", least=2,
        says="Share of the correct answers' probability that was seen (Good-Turing).")  # fmt: skip
def good_turing_coverage(
    mode_counts: Counts, estimator: Literal["chao_jost", "turing"] = "chao_jost"
) -> Any:
    """Sample coverage: the chance that a fresh sample falls into a mode already seen.

    Arguments and result as for `hill_number`. With f1 modes seen once and f2 twice, "turing" is
    1 - f1/n (Good 1953, Biometrika 40(3/4)) and "chao_jost" 1 - f1/n (n-1) f1 / ((n-1) f1 + 2 f2)
    (for f2 = 0, f1-1 and 1 in place of f1 and f2 within the fraction): Chao and Jost (2012),
    Ecology 93(12), equation 4a.

    Examples
    --------
    >>> good_turing_coverage([6, 2, 1, 1], "turing"), good_turing_coverage([6, 2, 1, 1])
    (0.8, 0.82)
    """
    modes = _with_samples(mode_counts, "coverage")
    check_choice(estimator, ("chao_jost", "turing"), "estimator")
    if estimator == "turing":
        return modes.shaped(1 - modes.seen(1) / modes.total)
    once = modes.seen(1)
    unseen, seen = _odds(modes.total, once, modes.seen(2))
    return modes.shaped(1 - once / modes.total * (unseen / (unseen + seen)))


def semantic_entropy(
    mode_counts: Counts,
    estimator: Literal["naive", "miller_madow", "chao_jost"] = "naive",
) -> Any:
    """Entropy over the modes, in nats.

    "Semantic" where modes are clusters of one meaning: the discrete semantic entropy of Farquhar et
    al. (2024), Nature 630. Arguments and result as for `hill_number`. "naive", -sum p log p of the
    observed frequencies, is too low by about (S-1) / (2n) for S modes; "miller_madow" adds that for
    the modes seen (Miller 1955); "chao_jost" also estimates what the unseen ones add, and mostly
    has the least bias (Chao, Wang and Jost 2013, Methods in Ecology and Evolution 4(11)).

    Examples
    --------
    >>> [round(semantic_entropy([6, 2, 1, 1], name), 4) for name in ("naive", "chao_jost")]
    [1.0889, 1.3719]
    """
    modes = _with_samples(mode_counts, "entropy")
    check_choice(estimator, ("naive", "miller_madow", "chao_jost"), "estimator")
    if estimator == "chao_jost":
        return modes.shaped(_chao_jost(modes))
    unseen = (modes.observed - 1) / (2 * modes.total) if estimator == "miller_madow" else 0.0
    p = modes.counts / modes.total[modes.owner]
    return modes.shaped(modes.add(p * -np.log(p)) + unseen)


# --- Estimators, one value a problem ---


def _with_samples(mode_counts: Counts, what: str) -> ModeCounts:
    """Read counts; refuse problems without samples."""
    modes = ModeCounts.of(mode_counts)
    if (modes.total == 0).any():
        raise ValueError(
            f"problem {int(np.argmax(modes.total == 0))} has no samples, and no {what}"
        )
    return modes


def _chao1(modes: ModeCounts) -> Floats:
    once, twice = modes.seen(1), modes.seen(2)
    unseen = np.where(twice > 0, once**2 / np.maximum(2 * twice, 1), once * (once - 1) / 2)
    return modes.observed + (modes.total - 1) / modes.total * unseen


def _odds(n: Ints, once: Ints, twice: Ints) -> tuple[Ints, Ints]:
    """Give (1-A) : A in whole numbers; A is the mean frequency of modes seen once (Chao, Jost)."""
    some = twice > 0
    return (n - 1) * np.where(some, once, np.maximum(once - 1, 0)), np.where(some, 2 * twice, 2)


def _chao_jost(modes: ModeCounts) -> Floats:
    """Entropy of Chao, Wang and Jost (2013), with f1 modes seen once, f2 twice and A as in `_odds`.

    sum n_m/n (ψ(n) - ψ(n_m)) + f1/n (1-A)^(1-n) [-log A - sum_{r=1}^{n-1} (1-A)^r / r]
    """
    size = modes.total[modes.owner]
    seen = modes.add(modes.counts / size * (special.digamma(size) - special.digamma(modes.counts)))
    once = modes.seen(1)
    cases, place = distinct_rows(modes.total, once, modes.seen(2))
    return seen + once / modes.total * _unseen_entropy(*cases.T)[place]


def _unseen_entropy(n: Ints, once: Ints, twice: Ints) -> Floats:
    """(1-A)^(1-n) [-log A - sum_{r=1}^{n-1} (1-A)^r / r], for each entry.

    The bracket cancels almost wholly for large nA. It is the rest of the logarithm's series, so
    that the whole is sum_{j>=1} z^j / (n-1+j), z = 1-A, or with 1/m = ∫ e^(-mu) du and u = e^t / n
    the integral of e^(t - e^t) z / (1 - z e^(-u)) / n over all t. This integrand is analytic for
    |Im t| < π/2 and falls off at both ends, so that equal steps h are off by e^(-π²/h) only; nA is
    2/n or more, so that nothing is lost below t = -70.
    """
    a, b = (v[:, None].astype(np.float64) for v in _odds(n, once, twice))
    t = 0.2 * np.arange(-350, 20)
    x = np.exp(t)
    log_z = np.log1p(-b / (a + b), where=a > 0, out=np.zeros_like(a))
    ratio = np.exp(log_z) / -np.expm1(log_z - x / n[:, None])
    total = 0.2 * (ratio @ (x * np.exp(-x))) / n
    return np.where(a[:, 0] > 0, total, 0.0)
