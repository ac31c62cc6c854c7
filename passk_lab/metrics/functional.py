"""Functional diversity: how many different (correct) answers a model gives to one problem.

A *mode* is a set of rollouts that count as the same answer; ``passk_lab.counts`` tells how often
each occurred. Every function takes the mode counts of one problem (1-d, gives a number) or of
several (a sequence of 1-d arrays or a 2-d array, gives one entry a problem). Zeros stand for modes
that did not occur.

Which one to take: `distinct_at_k` compares runs at an equal number of samples and is unbiased. The
others describe the whole distribution: naive ones grow with the number of samples, corrected ones
much less so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from passk_lab.metrics.passk import pass_at_k, pass_hat_k, whole_numbers
from passk_lab.metrics.registry import metric

__all__ = [
    "chao1",
    "coverage_at_k",
    "distinct_at_k",
    "distinct_k",
    "good_turing_coverage",
    "hill_number",
    "semantic_entropy",
    "two_modes_at_k",
    "utility_k",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.ArrayLike | Sequence[npt.ArrayLike]


@metric("correct", says="Distinct correct answers among k samples.")
@metric("modes", "distinct_answers_at_k", says="Distinct answers among k samples.")
def distinct_at_k(
    mode_counts: Counts, k: npt.ArrayLike, *, n_samples: npt.ArrayLike | None = None
) -> Any:
    """Count distinct modes among k samples: the mean over all k-subsets (rarefaction).

    sum over modes of 1 - C(n - n_m, k) / C(n, k), which is pass@k of each mode, added up. Unbiased
    for the expected number of modes in k fresh samples.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), or a sequence of such arrays
        How often each mode occurred.
    k : int or sequence of int
        Samples drawn without replacement, 1 <= k <= n.
    n_samples : int or array_like of int, shape (n_problems,), optional
        All samples n, where only some modes are counted: with the counts of correct modes, this
        gives the number of distinct correct answers among k samples. Default: the sum of
        ``mode_counts``.

    Returns
    -------
    float or array
        Shape (), (n_k,), (n_problems,) or (n_problems, n_k), as problems and k are one or many.

    Raises
    ------
    ValueError
        A count is negative, missing or not whole; ``n_samples`` is below the sum of the counts; k
        is out of range. The message names problem and place.

    References
    ----------
    .. [1] Hurlbert (1971), The Nonconcept of Species Diversity: A Critique and Alternative
       Parameters, Ecology 52(4).

    Examples
    --------
    >>> distinct_at_k([3, 1], [1, 2, 4]).tolist()
    [1.0, 1.5, 2.0]

    Correct modes only, in 8 samples of each of two problems (no correct sample in the second):

    >>> distinct_at_k([[3, 1], []], [1, 4, 8], n_samples=8).round(4).tolist()
    [[0.5, 1.4286, 2.0], [0.0, 0.0, 0.0]]
    """
    modes = _read(mode_counts)
    n = modes.samples(n_samples)
    return modes.shaped(_rarefied(modes, n, _draws(k, n)), k)


def coverage_at_k(
    mode_counts: Counts,
    k: npt.ArrayLike,
    n_modes: npt.ArrayLike,
    *,
    n_samples: npt.ArrayLike | None = None,
) -> Any:
    """Share of all the modes there are that k samples find: `distinct_at_k` / ``n_modes``.

    For tasks whose correct answers can be enumerated.

    Parameters
    ----------
    mode_counts, k, n_samples
        As for `distinct_at_k`.
    n_modes : int or array_like of int, shape (n_problems,)
        How many (correct) answers exist, at least as many as occurred.

    Returns
    -------
    float or array
        As for `distinct_at_k`, between 0 and 1.

    Raises
    ------
    ValueError
        As for `distinct_at_k`; ``n_modes`` is below 1 or below the number of modes that occurred.

    Examples
    --------
    >>> coverage_at_k([3, 1], [1, 2, 4], n_modes=4).tolist()
    [0.25, 0.375, 0.5]
    """
    modes = _read(mode_counts)
    n = modes.samples(n_samples)
    exist = modes.one_each(n_modes, "n_modes")
    bad = (exist < 1) | (exist < modes.observed)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"n_modes={exist[at]} of problem {at} must be at least 1 and no less than the "
            f"{modes.observed[at]} modes that occurred; count every answer that exists"
        )
    return modes.shaped(_rarefied(modes, n, _draws(k, n)) / exist[:, None], k)


@metric("correct", unit_interval=True)
def two_modes_at_k(
    mode_counts: Counts, k: npt.ArrayLike, *, n_samples: npt.ArrayLike | None = None
) -> Any:
    """Give the chance that k samples hold at least two distinct modes, over all k-subsets.

    Averaged over problems it is the share of problems which the model solves in more than one way.
    Exactly one mode m is seen where all samples avoid the others but not m, so with c the sum of
    the counts::

        1 - C(n-c, k) / C(n, k) - sum over m of [C(n-c+n_m, k) - C(n-c, k)] / C(n, k)

    Parameters
    ----------
    mode_counts, k, n_samples
        As for `distinct_at_k`.

    Returns
    -------
    float or array
        As for `distinct_at_k`, between 0 and 1. The error is absolute, a few 1e-16.

    Raises
    ------
    ValueError
        As for `distinct_at_k`.

    Examples
    --------
    >>> two_modes_at_k([3, 1], [1, 2, 4]).tolist()
    [0.0, 0.5, 1.0]
    """
    modes = _read(mode_counts)
    n = modes.samples(n_samples)
    return modes.shaped(_two_modes(modes, n, _draws(k, n)), k)


def hill_number(
    mode_counts: Counts, q: float, estimator: Literal["corrected", "naive"] = "corrected"
) -> Any:
    """Hill number of order q: the effective number of modes.

    The number of equally frequent modes that would be as diverse. q = 0 counts modes, q = 1 is the
    exponential of Shannon's entropy, q = 2 the inverse of the chance that two samples agree; the
    higher q, the less rare modes matter.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), or a sequence of such arrays
        How often each mode occurred.
    q : float
        Order, at least 0 (inf is allowed for naive).
    estimator : {"corrected", "naive"}
        "corrected" aims at the distribution that the samples came from; there are estimators for
        q = 0 (`chao1`), q = 1 (exponential of the Chao-Wang-Jost entropy, see `semantic_entropy`)
        and q = 2, n(n-1) / sum n_m(n_m-1). "naive" takes the observed frequencies for the
        distribution, and so is too low with few samples, most of all for small q.

    Returns
    -------
    float or array, shape (n_problems,)

    Raises
    ------
    ValueError
        A count is negative, missing or not whole; a problem has no samples; q is negative, or not
        0, 1 or 2 for "corrected".

    Notes
    -----
    Corrected q = 2 is inf where no mode occurred twice. The chance of agreement is estimated
    without bias, as 0 there: no pair of samples agreed, and so the data put no upper bound on the
    number of modes. (NaN would claim that nothing is known; a finite number would be made up.)
    To average over problems, average the inverse and take the inverse of that, as
    `functional_summary` does.

    References
    ----------
    .. [1] Hill (1973), Diversity and Evenness: A Unifying Notation and Its Consequences, Ecology
       54(2).
    .. [2] Chao et al. (2014), Rarefaction and extrapolation with Hill numbers, Ecological
       Monographs 84(1) (estimators for q = 0, 1, 2).

    Examples
    --------
    >>> [hill_number([5, 5], q, "naive") for q in (0, 1, 2)]
    [2.0, 2.0, 2.0]
    >>> [round(hill_number([6, 2, 1, 1], q), 3) for q in (0, 1, 2)]
    [5.8, 3.943, 2.812]

    Several problems:

    >>> hill_number([[6, 2, 1, 1], [10], [1, 1]], 2).round(3).tolist()
    [2.812, 1.0, inf]
    """
    modes = _read(mode_counts)
    n = modes.some_samples("Hill number")
    order = float(q)
    if not order >= 0:
        raise ValueError(f"q={q} must be at least 0")
    if estimator == "naive":
        return modes.shaped(_naive_hill(modes, n, order))
    if estimator != "corrected":
        raise ValueError(f"estimator={estimator!r} is none of 'corrected', 'naive'")
    if order == 0:
        return modes.shaped(_chao1(modes, n))
    if order == 1:
        return modes.shaped(np.exp(_chao_jost(modes, n)))
    if order == 2:
        return modes.shaped(inverse(_agreement(modes, n)))
    raise ValueError(f"q={q} has no corrected estimator here, only 0, 1 and 2; take 'naive'")


def chao1(mode_counts: Counts) -> Any:
    """Chao1: a lower bound for the number of modes, unseen ones included.

    S + (n-1)/n f1² / (2 f2), with S modes seen, f1 of them once and f2 twice; where f2 = 0,
    S + (n-1)/n f1 (f1-1) / 2.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), or a sequence of such arrays
        How often each mode occurred.

    Returns
    -------
    float or array, shape (n_problems,)

    Raises
    ------
    ValueError
        A count is negative, missing or not whole; a problem has no samples.

    Notes
    -----
    The second form is the bias-corrected f1 (f1-1) / (2 (f2+1)) at f2 = 0. The factor (n-1)/n comes
    out of the derivation from n independent samples. Some programs leave it out (it hardly matters
    for large n) or use the bias-corrected form for all f2; with it, `chao1`,
    `good_turing_coverage` and the Chao-Wang-Jost entropy rest on one estimate of what is unseen,
    and a single sample gives 1.

    References
    ----------
    .. [1] Chao (1984), Nonparametric Estimation of the Number of Classes in a Population,
       Scandinavian Journal of Statistics 11(4).
    .. [2] Chao et al. (2014), Rarefaction and extrapolation with Hill numbers, Ecological
       Monographs 84(1).

    Examples
    --------
    >>> chao1([6, 2, 1, 1])
    5.8
    """
    modes = _read(mode_counts)
    return modes.shaped(_chao1(modes, modes.some_samples("Chao1")))


def good_turing_coverage(
    mode_counts: Counts, estimator: Literal["chao_jost", "turing"] = "chao_jost"
) -> Any:
    """Sample coverage: the chance that a fresh sample falls into a mode already seen.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), or a sequence of such arrays
        How often each mode occurred.
    estimator : {"chao_jost", "turing"}
        "turing" is Good and Turing's 1 - f1/n, with f1 modes seen once. "chao_jost" is the
        improved 1 - f1/n (n-1) f1 / ((n-1) f1 + 2 f2), with f2 modes seen twice (for f2 = 0,
        (f1-1) and 1 in place of f1 and f2 within the fraction, as in `chao1`).

    Returns
    -------
    float or array, shape (n_problems,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        A count is negative, missing or not whole; a problem has no samples.

    Notes
    -----
    Two samples at least are needed to say anything. From a single one "chao_jost" makes 1 and
    "turing" 0.

    References
    ----------
    .. [1] Good (1953), The Population Frequencies of Species and the Estimation of Population
       Parameters, Biometrika 40(3/4).
    .. [2] Chao and Jost (2012), Coverage-based rarefaction and extrapolation, Ecology 93(12),
       equation 4a.

    Examples
    --------
    >>> good_turing_coverage([6, 2, 1, 1], "turing")
    0.8
    >>> good_turing_coverage([6, 2, 1, 1])
    0.82
    """
    modes = _read(mode_counts)
    n = modes.some_samples("coverage")
    if estimator == "turing":
        return modes.shaped(1 - modes.seen(1) / n)
    if estimator != "chao_jost":
        raise ValueError(f"estimator={estimator!r} is none of 'chao_jost', 'turing'")
    return modes.shaped(_coverage(modes, n))


def semantic_entropy(
    mode_counts: Counts,
    estimator: Literal["naive", "miller_madow", "chao_jost"] = "naive",
) -> Any:
    """Entropy over the modes, in nats.

    "Semantic" where modes are clusters of one meaning (the ``answer`` column holds cluster
    labels): the discrete semantic entropy, from sample counts rather than likelihoods.

    Parameters
    ----------
    mode_counts : array_like of int, shape (n_modes,), or a sequence of such arrays
        How often each mode occurred.
    estimator : {"naive", "miller_madow", "chao_jost"}
        "naive", -sum p log p of the observed frequencies, is too low by about (S-1) / (2n) for S
        modes; "miller_madow" adds that for the modes seen; "chao_jost" also estimates what the
        unseen ones add, and mostly has the least bias.

    Returns
    -------
    float or array, shape (n_problems,)
        In nats.

    Raises
    ------
    ValueError
        A count is negative, missing or not whole; a problem has no samples.

    Notes
    -----
    "chao_jost" with f1 modes seen once, f2 twice and A = 2 f2 / ((n-1) f1 + 2 f2) (for f2 = 0,
    2 / ((n-1) (f1-1) + 2))::

        sum n_m/n (ψ(n) - ψ(n_m)) + f1/n (1-A)^(1-n) [-log A - sum_{r=1}^{n-1} (1-A)^r / r]

    References
    ----------
    .. [1] Farquhar et al. (2024), Detecting hallucinations in large language models using semantic
       entropy, Nature 630.
    .. [2] Miller (1955), Note on the Bias of Information Estimates.
    .. [3] Chao, Wang and Jost (2013), Entropy and the species accumulation curve, Methods in
       Ecology and Evolution 4(11).

    Examples
    --------
    >>> for estimator in ("naive", "miller_madow", "chao_jost"):
    ...     round(semantic_entropy([6, 2, 1, 1], estimator), 4)
    1.0889
    1.2389
    1.3719
    """
    modes = _read(mode_counts)
    n = modes.some_samples("entropy")
    if estimator == "naive":
        return modes.shaped(_plug_in(modes, n))
    if estimator == "miller_madow":
        return modes.shaped(_plug_in(modes, n) + (modes.observed - 1) / (2 * n))
    if estimator != "chao_jost":
        raise ValueError(f"estimator={estimator!r} is none of 'naive', 'miller_madow', 'chao_jost'")
    return modes.shaped(_chao_jost(modes, n))


def distinct_k(
    classes: Sequence[Any] | npt.NDArray[Any],
    k: npt.ArrayLike,
    order: Literal["given", "random"] = "given",
) -> Any:
    """NoveltyBench's distinct_k: the number of distinct classes among k samples.

    Parameters
    ----------
    classes : sequence of labels, or a sequence of such sequences (problems)
        The class (mode) of each sample, in the order of sampling. Any hashable labels but tuples.
    k : int or sequence of int
        1 <= k <= n.
    order : {"given", "random"}
        "given": among the first k samples. "random": its mean over all orders, which is
        `distinct_at_k` and has less noise where samples were drawn independently.

    Returns
    -------
    float or array
        Shape (), (n_k,), (n_problems,) or (n_problems, n_k), as problems and k are one or many.

    Raises
    ------
    ValueError
        A label is missing, a problem has no samples, k is out of range.

    References
    ----------
    .. [1] Zhang et al. (2025), NoveltyBench: Evaluating Language Models for Humanlike Diversity,
       arXiv:2504.05228.

    Examples
    --------
    >>> distinct_k(["a", "a", "b", "a"], [1, 2, 3, 4]).tolist()
    [1.0, 1.0, 2.0, 2.0]
    >>> distinct_k(["a", "a", "b", "a"], [1, 2, 3, 4], order="random").tolist()
    [1.0, 1.5, 1.75, 2.0]
    """
    samples = _read_classes(classes)
    ks = _draws(k, samples.n)
    if _checked_order(order) == "random":
        return samples.modes.shaped(_rarefied(samples.modes, samples.n, ks), k)
    return samples.modes.shaped(samples.first_k(samples.novel.astype(np.float64), ks), k)


def utility_k(
    classes: Sequence[Any] | npt.NDArray[Any],
    utilities: Counts,
    k: npt.ArrayLike,
    patience: float = 0.8,
    order: Literal["given", "random"] = "given",
) -> Any:
    """NoveltyBench's utility_k: what a user gains who reads up to k samples.

    The user reads on after each sample with probability p, and gains only from samples of a class
    not read before::

        (1-p) / (1-p^k)  sum_{i<=k} p^(i-1) [class of i is new] u_i

    Parameters
    ----------
    classes : sequence of labels, or a sequence of such sequences (problems)
        The class (mode) of each sample, in the order of sampling. Any hashable labels but tuples.
    utilities : array_like, shape (n,), or a sequence of such arrays
        The utility of each sample, in any unit: a reward, or 1 for correct and 0 for wrong.
    k : int or sequence of int
        1 <= k <= n.
    patience : float
        p, between 0 (only the first sample counts) and 1 (all samples count alike).
    order : {"given", "random"}
        "given": the samples as they come, as in the paper. "random": the exact mean over all
        orders of the n samples, which has less noise where samples were drawn independently.

    Returns
    -------
    float or array
        In the unit of the utilities. Shapes as for `distinct_k`.

    Raises
    ------
    ValueError
        Lengths differ, a label or utility is missing, k or ``patience`` is out of range.

    Notes
    -----
    In a random order a given sample stands at place i with probability 1/n, and it is the first of
    its class of n_m samples if the i-1 samples before it, drawn from the other n-1, avoid the
    n_m-1 others of its class: C(n-n_m, i-1) / C(n-1, i-1). Hence the mean is::

        (1-p) / (1-p^k)  sum_m (sum of utilities of m) / n  sum_{i<=k} p^(i-1) C(n-n_m, i-1) / C(n-1, i-1)

    References
    ----------
    .. [1] Zhang et al. (2025), NoveltyBench: Evaluating Language Models for Humanlike Diversity,
       arXiv:2504.05228.

    Examples
    --------
    >>> utility_k(["a", "a", "b"], [1.0, 1.0, 1.0], [1, 2, 3]).round(4).tolist()
    [1.0, 0.5556, 0.6721]
    >>> utility_k(["a", "a", "b"], [1.0, 1.0, 1.0], [1, 2, 3], order="random").round(4).tolist()
    [1.0, 0.8519, 0.7158]
    """  # noqa: E501 -- one formula, one line
    samples = _read_classes(classes)
    ks = _draws(k, samples.n)
    values = _read_utilities(utilities, samples)
    if not 0 <= patience <= 1:
        raise ValueError(f"patience={patience} must lie between 0 and 1")
    weights = float(patience) ** np.arange(ks.max())
    if _checked_order(order) == "given":
        gained = samples.first_k(values * samples.novel, ks, weights)
    else:
        modes = samples.modes
        pairs, place = _distinct(samples.n[modes.owner], modes.counts)
        new = np.ones((len(weights), len(pairs)))
        new[1:] = pass_hat_k(
            pairs[:, 0] - 1, pairs[:, 0] - pairs[:, 1], np.arange(1, len(weights))[:, None]
        )
        table = np.cumsum(weights[:, None] * new, axis=0)[ks - 1]
        mean = np.bincount(samples.mode_of, weights=values) / samples.n[modes.owner]
        gained = np.stack([modes.add(mean * row[place]) for row in table], axis=-1)
    return samples.modes.shaped(gained / np.cumsum(weights)[ks - 1], k)


# --- Estimators, one value a problem ---


def _rarefied(modes: _Modes, n: Ints, ks: Ints) -> Floats:
    """Expected number of modes among k samples, shape (n_problems, n_k)."""
    pairs, place = _distinct(n[modes.owner], modes.counts)
    table = pass_at_k(pairs[:, 0], pairs[:, 1], ks[:, None])
    return np.stack([modes.add(row[place]) for row in table], axis=-1)


def _two_modes(modes: _Modes, n: Ints, ks: Ints) -> Floats:
    others = n - modes.total
    triples, place = _distinct(n[modes.owner], others[modes.owner], modes.counts)
    size, rest, count = triples.T
    alone = pass_hat_k(size, rest + count, ks[:, None]) - pass_hat_k(size, rest, ks[:, None])
    single = np.stack([modes.add(row[place]) for row in alone], axis=-1)
    return np.clip(pass_at_k(n[:, None], modes.total[:, None], ks) - single, 0.0, 1.0)


def _plug_in(modes: _Modes, n: Ints) -> Floats:
    p = modes.counts / n[modes.owner]
    return modes.add(p * -np.log(p))


def _naive_hill(modes: _Modes, n: Ints, q: float) -> Floats:
    if q == 0:
        return modes.observed.astype(np.float64)
    if q == 1:
        return np.exp(_plug_in(modes, n))
    p = modes.counts / n[modes.owner]
    if abs(q - 1) <= 0.5:
        # sum p^q - 1, which the exponent 1/(1-q) would blow up if it were rounded at 1.
        excess = modes.add(p * np.expm1((q - 1) * np.log(p)))
        return np.exp(np.log1p(excess) / (1 - q))
    peak = np.zeros(modes.n_problems)
    np.maximum.at(peak, modes.owner, p)
    if np.isinf(q):
        return 1 / peak
    # Relative to the peak, so that high powers don't vanish.
    power = modes.add((p / peak[modes.owner]) ** q)
    return np.exp(np.log(power) / (1 - q) + np.log(peak) * (q / (1 - q)))


def _agreement(modes: _Modes, n: Ints) -> Floats:
    """Unbiased chance that two samples are of one mode; 0 where there is one sample only."""
    return modes.add(modes.counts * (modes.counts - 1)) / np.maximum(n * (n - 1), 1)


def _chao1(modes: _Modes, n: Ints) -> Floats:
    once, twice = modes.seen(1), modes.seen(2)
    unseen = np.where(twice > 0, once**2 / np.maximum(2 * twice, 1), once * (once - 1) / 2)
    return modes.observed + (n - 1) / n * unseen


def _coverage(modes: _Modes, n: Ints) -> Floats:
    once = modes.seen(1)
    unseen, seen = _odds(n, once, modes.seen(2))
    return 1 - once / n * (unseen / (unseen + seen))


def _odds(n: Ints, once: Ints, twice: Ints) -> tuple[Ints, Ints]:
    """Give (1-A) : A in whole numbers; A is the mean frequency of modes seen once (Chao, Jost)."""
    some = twice > 0
    return (n - 1) * np.where(some, once, np.maximum(once - 1, 0)), np.where(some, 2 * twice, 2)


def _chao_jost(modes: _Modes, n: Ints) -> Floats:
    """Entropy of Chao, Wang and Jost (2013)."""
    size = n[modes.owner]
    seen = modes.add(modes.counts / size * (special.digamma(size) - special.digamma(modes.counts)))
    once = modes.seen(1)
    cases, place = _distinct(n, once, modes.seen(2))
    unseen = _unseen_entropy(*cases.T)[place]
    return seen + once / n * unseen


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


# --- Arguments ---


@dataclass(frozen=True)
class _Modes:
    """The counts of all problems' modes behind one another, those that occurred only."""

    counts: Ints  # (n_all_modes,), positive
    owner: Ints  # (n_all_modes,), the problem of each, ascending
    n_problems: int
    one: bool  # one problem was passed, not a sequence of one

    @property
    def total(self) -> Ints:
        return self.add(self.counts).astype(np.int64)

    @property
    def observed(self) -> Ints:
        return np.bincount(self.owner, minlength=self.n_problems)

    def seen(self, times: int) -> Ints:
        """Count the modes of each problem that occurred so many times."""
        return np.bincount(self.owner[self.counts == times], minlength=self.n_problems)

    def add(self, values: npt.NDArray[Any]) -> Floats:
        """Sum over the modes of each problem."""
        sums = np.bincount(self.owner, weights=values, minlength=self.n_problems)
        return sums.astype(np.float64, copy=False)

    def take(self, keep: npt.NDArray[np.bool_]) -> _Modes:
        """Keep some of the problems."""
        mine = keep[self.owner]
        owner = (np.cumsum(keep) - 1)[self.owner[mine]]
        return _Modes(self.counts[mine], owner, int(keep.sum()), self.one)

    def one_each(self, values: npt.ArrayLike, name: str) -> Ints:
        """Whole numbers, one a problem or one for all."""
        numbers = whole_numbers(values, name)
        if numbers.shape not in ((), (self.n_problems,)):
            raise ValueError(
                f"{name} has shape {numbers.shape}; give one number, or one for each of the "
                f"{self.n_problems} problems"
            )
        return np.broadcast_to(numbers, (self.n_problems,))

    def samples(self, n_samples: npt.ArrayLike | None) -> Ints:
        """Give n of each problem: the sum of its counts unless told otherwise."""
        total = self.total
        if n_samples is None:
            return total
        n = self.one_each(n_samples, "n_samples")
        if (n < total).any():
            at = int(np.argmax(n < total))
            raise ValueError(
                f"n_samples={n[at]} of problem {at} is below the sum of its mode counts, "
                f"{total[at]}; it must count all samples"
            )
        return n

    def some_samples(self, what: str) -> Ints:
        """Give n of each problem; refuse problems without samples."""
        n = self.total
        if (n == 0).any():
            at = int(np.argmax(n == 0))
            raise ValueError(
                f"problem {at} has no samples, so its {what} is undefined; leave the problem out, "
                "and report how many were"
            )
        return n

    def shaped(self, values: Floats, k: npt.ArrayLike | None = None) -> Any:
        """Drop the axes of a single k and of a single problem."""
        if k is not None and np.ndim(k) == 0:
            values = values[:, 0]
        if self.one:
            values = values[0]
        return float(values) if np.ndim(values) == 0 else values


@dataclass(frozen=True)
class _Samples:
    """All problems' samples behind one another."""

    n: Ints  # (n_problems,)
    mode_of: Ints  # (n_all_samples,), index into modes
    novel: npt.NDArray[np.bool_]  # (n_all_samples,), the first of its mode
    modes: _Modes

    def first_k(self, values: Floats, ks: Ints, weights: Floats | float = 1.0) -> Floats:
        """Weighted sum of the first k samples' values, shape (n_problems, n_k)."""
        start = np.cumsum(self.n) - self.n
        rows = values[start[:, None] + np.arange(ks.max())] * weights
        return np.cumsum(rows, axis=1)[:, ks - 1]


def _rows(values: Any, name: str) -> tuple[list[Any], bool]:
    """Split into problems; whether it was one problem only."""
    scalar = not hasattr(values, "__iter__") or (isinstance(values, np.ndarray) and not values.ndim)
    if scalar or isinstance(values, str | bytes | Mapping):
        raise ValueError(
            f"{name} must be a sequence (one problem) or a sequence of sequences, not "
            f"{type(values).__name__}"
        )
    items = values if isinstance(values, np.ndarray) else list(values)
    nested = [hasattr(item, "__len__") and not isinstance(item, str | bytes) for item in items]
    if not any(nested):
        if isinstance(items, np.ndarray) and items.ndim > 1:
            raise ValueError(f"{name} holds no problem: its shape is {items.shape}")
        return [items], True
    if not all(nested):
        raise ValueError(
            f"{name}[{nested.index(False)}] is a single value beside sequences; pass either one "
            "problem or a sequence for each"
        )
    return list(items), False


def _owner(rows: list[Any]) -> tuple[Ints, Ints]:
    """Give the length of each row, and for each entry of all rows its row."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return lengths, np.repeat(np.arange(len(rows)), lengths)


def _read(mode_counts: Any) -> _Modes:
    name = "mode_counts"
    rows, one = _rows(mode_counts, name)
    arrays = [row if isinstance(row, np.ndarray) else np.asarray(row, _dtype(row)) for row in rows]
    for at, array in enumerate(arrays):
        if array.ndim != 1:
            raise ValueError(f"{name}[{at}] has {array.ndim} dimensions; each problem needs one")
    _, owner = _owner(arrays)
    # Empty lists come as floats and would turn all counts into floats.
    filled = [array for array in arrays if len(array)]
    try:
        counts = whole_numbers(np.concatenate(filled) if filled else np.zeros(0, np.int64), name)
    except ValueError:
        for at, array in enumerate(arrays):  # Name the problem.
            whole_numbers(array, name if one else f"{name}[{at}]")
        raise
    if (counts < 0).any():
        at = int(np.argmax(counts < 0))
        raise ValueError(
            f"{name} of problem {owner[at]} holds {counts[at]}; a count must not be negative"
        )
    keep = counts > 0
    return _Modes(counts[keep], owner[keep], len(arrays), one)


def _dtype(row: Any) -> Any:
    # A row nested too deep, and unevenly, still becomes an array, which is then refused.
    return object if any(hasattr(item, "__len__") for item in row) else None


def _read_classes(classes: Any) -> _Samples:
    rows, one = _rows(classes, "classes")
    n, owner = _owner(rows)
    if (n == 0).any():
        raise ValueError(f"classes of problem {int(np.argmax(n == 0))} is empty; leave it out")
    labels = [v for row in rows for v in (row.tolist() if isinstance(row, np.ndarray) else row)]
    numbers: dict[Any, int] = {}
    try:
        missing = next((at for at, v in enumerate(labels) if v is None or v != v), None)
        code = np.array([numbers.setdefault(v, len(numbers)) for v in labels])
    except TypeError as error:
        raise ValueError(f"classes must hold labels such as strings or numbers: {error}") from error
    if missing is not None:
        raise ValueError(
            f"classes of problem {owner[missing]}: a label is missing; give every sample its class"
        )
    key = owner * len(numbers) + code
    distinct, first, mode_of, size = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    novel = np.zeros(len(key), dtype=bool)
    novel[first] = True
    modes = _Modes(size.astype(np.int64), distinct // len(numbers), len(rows), one)
    return _Samples(n, mode_of, novel, modes)


def _read_utilities(utilities: Any, samples: _Samples) -> Floats:
    rows, one = _rows(utilities, "utilities")
    lengths, owner = _owner(rows)
    if one != samples.modes.one or not np.array_equal(lengths, samples.n):
        raise ValueError("utilities must hold one number for each sample, nested as the classes")
    try:
        values = np.concatenate([np.asarray(row, dtype=np.float64) for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"utilities must hold numbers: {error}") from error
    bad = ~np.isfinite(values)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"utilities of problem {owner[at]} holds {values[at]}; score the sample or drop it"
        )
    return values


def _checked_order(order: str) -> str:
    if order not in ("given", "random"):
        raise ValueError(f"order={order!r} is none of 'given', 'random'")
    return order


def _draws(k: npt.ArrayLike, n: Ints) -> Ints:
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if ks.ndim != 1 or not len(ks):
        raise ValueError("k must be a number or a non-empty sequence of numbers")
    if ks.min() < 1:
        raise ValueError(f"k={ks.min()} must be at least 1")
    fewest = int(np.argmin(n))
    if ks.max() > n[fewest]:
        raise ValueError(
            f"k={ks.max()} exceeds the {n[fewest]} samples of problem {fewest}; take a smaller k, "
            "or give n_samples where only some modes are counted"
        )
    return ks


def _distinct(*columns: Ints) -> tuple[Ints, Ints]:
    """Distinct rows of the columns, and for each row its place among them."""
    place = first = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        # Far faster than np.unique over rows; renumbered each time, so that keys stay small.
        key = place * (column.max(initial=0) + 1) + column
        _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return np.stack([column[first] for column in columns], axis=1), place


def inverse(values: Floats) -> Floats:
    """1 / values, inf for 0."""
    return np.divide(1.0, values, out=np.full(values.shape, np.inf), where=values != 0)
