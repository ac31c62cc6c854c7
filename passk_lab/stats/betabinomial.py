"""Beta-binomial populations of problems: the fit of accuracies to counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, xlogy

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics._hypergeometric import Floats, _delta
from passk_lab.stats._likelihood import Likelihood, maximise

__all__ = ["BetaBinomial", "fit_beta_binomial"]

Model = Literal["beta-binomial", "zero-inflated", "zero-one-inflated"]
Ints = npt.NDArray[np.int64]
# Stands for an infinite concentration in formulas: exact to the last digit, and without overflow.
_INFINITE = 1e30
# Numbers in one array at a time.
CHUNK = 1 << 20


# From b - 1 = 16 on Stirling's series is exact.
_HEAD = 17


_MASSES: dict[str, tuple[bool, bool]] = {
    "beta-binomial": (False, False),
    "zero-inflated": (True, False),
    "zero-one-inflated": (True, True),
}


@dataclass(frozen=True)
class BetaBinomial:
    """A population of problems: accuracies p are 0, 1 or Beta(α, β) distributed.

    Parameters
    ----------
    mean : float
        Mean of the beta part, α / (α + β).
    concentration : float
        α + β. Two limits are allowed: infinite (every p of the beta part is ``mean``: a binomial)
        and 0 (p is 1 with probability ``mean``, else 0).
    p_zero, p_one : float
        Shares of the problems with p = 0 and p = 1 exactly.
    loglik : float
        Log-likelihood at the maximum, binomial coefficients included, for a fit.
    n_problems : int
        Problems of the fit.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> population = BetaBinomial.from_shape(0.5, 1.5)
    >>> population.pass_at_k([1, 10, 1000]).round(3).tolist()
    [0.25, 0.664, 0.964]

    What is known about single problems of which 0 and 3 of 10 samples were correct:

    >>> population.posterior_pass_at_k(10, [0, 3], 10).round(3).tolist()
    [0.272, 0.917]
    """

    mean: float
    concentration: float
    p_zero: float = 0.0
    p_one: float = 0.0
    loglik: float = np.nan
    n_problems: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean={self.mean} must be between 0 and 1")
        if not self.concentration >= 0:
            raise ValueError(f"concentration={self.concentration} must not be negative")
        if not (self.p_zero >= 0 and self.p_one >= 0 and self.p_zero + self.p_one <= 1):
            raise ValueError(
                f"p_zero={self.p_zero} and p_one={self.p_one} must be shares of the problems, "
                "together at most 1"
            )

    @classmethod
    def from_shape(
        cls, alpha: float, beta: float, p_zero: float = 0.0, p_one: float = 0.0
    ) -> BetaBinomial:
        """Make a population from α and β, both positive and finite."""
        if not (0 < alpha < np.inf and 0 < beta < np.inf):
            raise ValueError(f"alpha={alpha} and beta={beta} must be positive and finite")
        return cls(alpha / (alpha + beta), alpha + beta, p_zero, p_one)

    @property
    def alpha(self) -> float:
        """α of the beta part; infinite or 0 in the limits."""
        return self.concentration * self.mean if self.mean > 0 else 0.0

    @property
    def beta(self) -> float:
        """β of the beta part; infinite or 0 in the limits."""
        return self.concentration * (1 - self.mean) if self.mean < 1 else 0.0

    @property
    def limit(self) -> Literal["binomial", "two-point"] | None:
        """Which limit of the beta distribution this is.

        "binomial": the counts vary no more than if all problems (of the beta part) were equally
        hard. "two-point": every problem is solved always or never.
        """
        if self.concentration == np.inf:
            return "binomial"
        return "two-point" if self.concentration == 0 else None

    def pass_at_k(self, k: npt.ArrayLike) -> Any:
        """Expected pass@k of a new problem, E[1 - (1 - p)^k].

        For the beta part 1 - B(α, β+k) / B(α, β), exact to about 1e-13 relative.

        Parameters
        ----------
        k : array_like of int
            At least 1.

        Returns
        -------
        float or array of float
            The shape of ``k``.
        """
        draws = whole_k(k)
        value = new_pass_at_k(self._numbers(), draws.ravel().astype(np.float64))[0].reshape(
            draws.shape
        )
        return float(value) if draws.ndim == 0 else value

    def posterior_pass_at_k(
        self, n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike
    ) -> Any:
        """Expected pass@k of k fresh samples of a problem with c of n correct so far.

        Parameters
        ----------
        n_samples, n_correct, k : array_like of int
            They broadcast against each other; k may exceed n.

        Returns
        -------
        float or array of float

        Raises
        ------
        ValueError
            The counts are impossible under the population, as c > 0 where every p is 0.
        """
        n, c = whole_counts(n_samples, n_correct)
        n, c, draws = np.broadcast_arrays(n, c, whole_k(k))
        shape, flat = n.shape, [v.ravel().astype(np.float64) for v in (n, c, draws)]
        value = seen_pass_at_k(self._numbers(), *flat)
        impossible = np.isnan(value[0])
        if impossible.any():
            where = int(np.argmax(impossible))
            raise ValueError(
                f"n_correct={flat[1][where]:.0f} of n_samples={flat[0][where]:.0f} can't happen in "
                f"this population ({self})"
            )
        return float(value[0, 0]) if not shape else value[0].reshape(shape)

    def _numbers(self) -> Numbers:
        s = self.concentration
        rho = 0.0 if s == np.inf else 1 / (1 + s)
        return Numbers.of(*(np.array([v]) for v in (self.mean, rho, self.p_zero, self.p_one)))


@dataclass(frozen=True)
class Numbers:
    """Parameters of many populations, columns of shape (n_fits, 1), limits made finite."""

    alpha: Floats
    beta: Floats
    p_zero: Floats
    p_one: Floats

    @classmethod
    def of(cls, mean: Floats, rho: Floats, p_zero: Floats, p_one: Floats) -> Numbers:
        # A two-point beta part, also one with mean 0 or 1, is nothing but point masses.
        points = (rho == 1) | (mean == 0) | (mean == 1)
        rest = np.where(points, 1 - p_zero - p_one, 0.0)
        p_zero, p_one = p_zero + rest * (1 - mean), p_one + rest * mean
        rho, mean = np.where(points, 0.5, rho), np.where(points, 0.5, mean)
        s = (1 - rho) / np.maximum(rho, 1 / _INFINITE)
        return cls(*(v[:, None] for v in (s * mean, s * (1 - mean), p_zero, p_one)))

    @property
    def share(self) -> Floats:
        # The floor keeps rounding of the masses from making a share of problems negative.
        return np.maximum(1 - self.p_zero - self.p_one, 0.0)

    def __getitem__(self, rows: slice) -> Numbers:
        return Numbers(self.alpha[rows], self.beta[rows], self.p_zero[rows], self.p_one[rows])


def _log_miss(a: Floats, b: Floats, k: Floats) -> Floats:
    """Log E (1 - p)^k for p ~ Beta(a, b): log of B(a, b+k) / B(a, b).

    As `passk_lab.metrics._hypergeometric.log_ratio`, but from sums of a, b and k only: there b is a
    difference of numbers as large as k, here k may be a billion times as large.
    """
    a, b, k = np.broadcast_arrays(a, b, k)
    result = np.zeros(a.shape)
    small = b < _HEAD
    if small.any():
        # The first factors (b + j) / (a + b + j) one by one; what is left starts further out.
        j = np.arange(_HEAD)[:, None]
        factors = np.log1p(a[small] / (b[small] + j))
        result[small] = -np.where(j < k[small], factors, 0.0).sum(axis=0)
        b = np.where(small, b + _HEAD, b)
        k = np.where(small, np.maximum(k - _HEAD, 0.0), k)
    least = b - 1
    result += (least + 0.5) * np.log1p(a * k / (least * (least + a + k)))
    result -= k * np.log1p(a / (least + k))
    result -= a * np.log1p(k / (least + a))
    result += (_delta(least + k) - _delta(least)) + (_delta(least + a) - _delta(least + a + k))
    return np.minimum(result, 0.0)


def new_pass_at_k(numbers: Numbers, k: Floats) -> Floats:
    """pass@k of a new problem, shape (n_fits, n_k)."""
    hit: Floats = -np.expm1(_log_miss(numbers.alpha, numbers.beta, k))
    return numbers.p_one + numbers.share * hit


def seen_pass_at_k(numbers: Numbers, n: Floats, c: Floats, k: Floats) -> Floats:
    """pass@k of fresh samples of problems with c of n correct, shape (n_fits, n_problems).

    NaN where the counts are impossible.
    """
    alpha, beta = numbers.alpha, numbers.beta
    hit = -np.expm1(_log_miss(alpha + c, beta + n - c, k))
    zero, one = np.where(c == 0, numbers.p_zero, 0.0), np.where(c == n, numbers.p_one, 0.0)
    # Where n = c = 0 both factors are 1 and the masses keep their prior weights.
    factor = np.where(c == 0, _log_miss(alpha, beta, n), 0.0)
    factor += np.where((c == n) & (n > 0), _log_miss(beta, alpha, n), 0.0)
    middle = numbers.share * np.exp(factor)
    total = zero + one + middle
    with np.errstate(invalid="ignore"):
        result: Floats = (one + middle * hit) / total
    return result


def whole_k(k: npt.ArrayLike) -> Ints:
    draws = whole_numbers(k, "k")
    if draws.size and draws.min() < 1:
        raise ValueError(f"k={draws.min()} must be at least 1")
    return draws


def whole_counts(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike) -> tuple[Ints, Ints]:
    n, c = whole_numbers(n_samples, "n_samples"), whole_numbers(n_correct, "n_correct")
    for bad, rule in (
        (np.atleast_1d(n < 0), "n_samples must not be negative"),
        (np.atleast_1d(c < 0), "n_correct must not be negative"),
        (np.atleast_1d(c > n), "n_correct exceeds n_samples"),
    ):
        if bad.any():
            raise ValueError(f"problem {int(np.argmax(bad))}: {rule}")
    return n, c


def fit_rows(n: Ints, c: Ints, weights: Floats, model: Model) -> tuple[Floats, Floats]:
    """Fit distinct counts under many weightings (n_fits, n_distinct).

    Returns the columns mean, ρ, p_zero, p_one, shape (n_fits, 4), and the log-likelihoods.
    """
    free = np.array([True, True, *_MASSES[model]])
    fits, values = np.zeros((len(weights), 4)), np.empty(len(weights))
    total = weights.sum(axis=1)
    solved = weights[:, c == n].sum(axis=1)
    # Without a problem that is solved at times, two points fit best of all distributions of p.
    points = ~(weights[:, (c > 0) & (c < n)] > 0).any(axis=1)
    fits[points, 0] = (solved / total)[points]
    fits[points, 1] = 1.0
    values[points] = (xlogy(solved, solved / total) + xlogy(total - solved, 1 - solved / total))[
        points
    ]
    rest = np.flatnonzero(~points)
    if not len(rest):
        return fits, values
    weights, total = weights[rest], total[rest]
    likelihood = Likelihood(n, c, weights, free.tolist())
    # The likelihood of an inflated model can have a maximum with and one without the masses.
    parts = (0.1, 0.5, 0.9) if free[2:].any() else (0.0,)
    best, best_value = np.zeros((len(rest), 4)), np.full(len(rest), -np.inf)
    converged = np.zeros(len(rest), dtype=bool)
    for part in parts:
        x, value, done = maximise(likelihood, _start(n, c, weights, free, part), free, total)
        # A start that got stuck below another start's maximum does no harm.
        better = np.where(done == converged, value > best_value, value > best_value + 1e-6)
        better |= done & ~converged & (value > best_value - 1e-6)
        best[better], best_value[better], converged[better] = x[better], value[better], done[better]
    if not converged.all():
        row = int(np.argmin(converged))
        raise RuntimeError(
            f"the {model} fit of {weights[row].sum():g} problems did not converge (mean "
            f"{expit(best[row, 0]):.4g}, correlation {best[row, 1]:.4g}); try another model"
        )
    fits[rest] = np.column_stack([expit(best[:, 0]), best[:, 1], -np.expm1(-best[:, 2:])])
    values[rest] = best_value
    return fits, values


def _start(n: Ints, c: Ints, weights: Floats, free: npt.NDArray[np.bool_], part: float) -> Floats:
    """Moment estimates, with this part of the edge counts left to the point masses."""
    edge = [free[2] & (c == 0), free[3] & (c == n)]
    masses = [part * weights[:, rows].sum(axis=1) / weights.sum(axis=1) for rows in edge]
    weights = weights * np.where(edge[0] | edge[1], 1 - part, 1.0)
    m = (weights @ c) / (weights @ n)
    # Two samples of one problem are both correct with probability m² + m(1-m)ρ.
    both = (weights @ (c * (c - 1.0))) / (weights @ (n * (n - 1.0)))
    rho = np.clip((both - m * m) / (m * (1 - m)), 0.01, 0.9)
    return np.stack([logit(m), rho, *(-np.log1p(-v) for v in masses)], axis=1)


def distinct_counts(n: Ints, c: Ints, weights: Floats) -> tuple[Ints, Ints, Floats]:
    pairs, place = np.unique(np.stack([n, c], axis=1), axis=0, return_inverse=True)
    return pairs[:, 0], pairs[:, 1], np.bincount(place.ravel(), weights).astype(np.float64)


def check_model(model: str, n: Ints) -> None:
    if model not in _MASSES:
        raise ValueError(f"model={model!r} is unknown; choose from {', '.join(_MASSES)}")
    needed = 2 + sum(_MASSES[model])
    if n.max(initial=0) < needed:
        raise ValueError(
            f"the {model} model has {needed} parameters and needs problems with at least "
            f"{needed} samples (most here: {n.max(initial=0)}); draw more samples a problem"
        )


def fit_beta_binomial(
    n_samples: npt.ArrayLike,
    n_correct: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    model: Model = "beta-binomial",
) -> BetaBinomial:
    """Fit a population of problems by maximum likelihood.

    Parameters
    ----------
    n_samples, n_correct : array_like of int, shape (n_problems,)
        Samples and correct samples of each problem; n may differ between problems.
    weights : array_like of float, shape (n_problems,), optional
        How often each problem counts; a weight of 2 is the same as the problem twice.
    model : {"beta-binomial", "zero-inflated", "zero-one-inflated"}
        See the module's description.

    Returns
    -------
    BetaBinomial
        Always finite, and a maximum. At the ends of the model, which data often reach, it is a
        limit (`BetaBinomial.limit`):

        - counts that vary no more than a binomial's give concentration = inf, "binomial";
        - where each problem has c = 0 or c = n, all zero included, concentration = 0,
          "two-point". No distribution of p fits such counts better, but a tiny p of the unsolved
          problems fits as well: the extrapolation is then only a lower bound.

    Raises
    ------
    ValueError
        Counts or weights are impossible, or n is too small for the model: a single sample of
        each problem says nothing about how problems differ.
    RuntimeError
        The search did not reach a maximum.

    Notes
    -----
    Newton's method on (logit mean, 1 / (1 + α + β)) with bounds. Inflated models start from three
    points, because their likelihood may have several maxima.

    Examples
    --------
    >>> fit = fit_beta_binomial([8] * 6, [0, 0, 1, 3, 6, 8])
    >>> round(fit.alpha, 3), round(fit.beta, 3), round(fit.pass_at_k(64), 3)
    (0.294, 0.471, 0.812)
    """
    n, c = whole_counts(n_samples, n_correct)
    if n.ndim != 1 or n.shape != c.shape:
        raise ValueError(
            f"n_samples has shape {n.shape}, n_correct {c.shape}; give one number for each problem"
        )
    w = np.ones(len(n)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != n.shape or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise ValueError(
            "weights must be one finite number >= 0 for each problem, not all 0"
            if len(n)
            else "there are no problems to fit"
        )
    n, c, w = n[w > 0], c[w > 0], w[w > 0]
    refuse_empty(n)
    check_model(model, n)
    n_once, c_once, mult = distinct_counts(n, c, w)
    fits, values = fit_rows(n_once, c_once, mult[None], model)
    mean, rho, p_zero, p_one = fits[0].tolist()
    concentration = np.inf if rho == 0 else (1 - rho) / rho
    return BetaBinomial(mean, concentration, p_zero, p_one, float(values[0]), len(n))


def refuse_empty(n: Ints) -> None:
    if n.min() < 1:
        raise ValueError(f"problem {int(np.argmin(n))} has no samples; drop it")
