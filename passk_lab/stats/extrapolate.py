r"""pass@k beyond the number of samples n.

Nothing but a model of the problems' accuracies p reaches beyond n. Here p follows a beta
distribution, so that the correct samples of a problem, c of n, are beta-binomial, and the fit is
by maximum likelihood over problems [1]_. For large k all depends on how many problems have a
tiny p: pass@k misses 1 by about k^-α [2]_. A beta distribution has no problem with p = 0 exactly,
so it always predicts pass@k -> 1; the models with point masses let the data say otherwise:

- ``"beta-binomial"``: p ~ Beta(α, β).
- ``"zero-inflated"``: a share ``p_zero`` of the problems has p = 0, the rest is beta.
- ``"zero-one-inflated"``: also a share ``p_one`` with p = 1, so that problems which are always
  solved don't bend the beta part's other end.

Whether p is 0 or only far below 1/n can't be seen in n samples. Fit more than one model where k
is many times n, and run `held_out_check`.

References
----------
.. [1] Kazdan et al. (2025), Efficient Prediction of Pass@k Scaling in Large Language Models,
   arXiv:2510.05197.
.. [2] Schaeffer et al. (2025), How Do Large Language Monkeys Get Their Power (Laws)?,
   arXiv:2502.17578.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.polynomial import chebyshev
from scipy.special import expit, logit, xlogy
from scipy.stats import beta as beta_distribution

from passk_lab.metrics._hypergeometric import Floats, _delta
from passk_lab.metrics.passk import pass_at_k, whole_numbers
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike

__all__ = ["BetaBinomial", "extrapolate_pass_at_k", "fit_beta_binomial", "held_out_check"]

Model = Literal["beta-binomial", "zero-inflated", "zero-one-inflated"]
Estimator = Literal["anchored", "posterior", "population"]
Ints = npt.NDArray[np.int64]

# Stands for an infinite concentration in formulas: exact to the last digit, and without overflow.
_INFINITE = 1e30
# Numbers in one array at a time.
_CHUNK = 1 << 20
# Sums over samples: term by term up to here, then by polynomials of this many points an octave.
_NEAR = 128
_DEGREE = 20
# From b - 1 = 16 on Stirling's series is exact.
_HEAD = 17


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
        draws = _whole_k(k)
        value = _new(self._numbers(), draws.ravel().astype(np.float64))[0].reshape(draws.shape)
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
        n, c = _whole_counts(n_samples, n_correct)
        n, c, draws = np.broadcast_arrays(n, c, _whole_k(k))
        shape, flat = n.shape, [v.ravel().astype(np.float64) for v in (n, c, draws)]
        value = _seen(self._numbers(), *flat)
        impossible = np.isnan(value[0])
        if impossible.any():
            where = int(np.argmax(impossible))
            raise ValueError(
                f"n_correct={flat[1][where]:.0f} of n_samples={flat[0][where]:.0f} can't happen in "
                f"this population ({self})"
            )
        return float(value[0, 0]) if not shape else value[0].reshape(shape)

    def _numbers(self) -> _Numbers:
        s = self.concentration
        rho = 0.0 if s == np.inf else 1 / (1 + s)
        return _Numbers.of(*(np.array([v]) for v in (self.mean, rho, self.p_zero, self.p_one)))


@dataclass(frozen=True)
class _Numbers:
    """Parameters of many populations, columns of shape (n_fits, 1), limits made finite."""

    alpha: Floats
    beta: Floats
    p_zero: Floats
    p_one: Floats

    @classmethod
    def of(cls, mean: Floats, rho: Floats, p_zero: Floats, p_one: Floats) -> _Numbers:
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

    def __getitem__(self, rows: slice) -> _Numbers:
        return _Numbers(self.alpha[rows], self.beta[rows], self.p_zero[rows], self.p_one[rows])


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


def _new(numbers: _Numbers, k: Floats) -> Floats:
    """pass@k of a new problem, shape (n_fits, n_k)."""
    hit: Floats = -np.expm1(_log_miss(numbers.alpha, numbers.beta, k))
    return numbers.p_one + numbers.share * hit


def _seen(numbers: _Numbers, n: Floats, c: Floats, k: Floats) -> Floats:
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


def _whole_k(k: npt.ArrayLike) -> Ints:
    draws = whole_numbers(k, "k")
    if draws.size and draws.min() < 1:
        raise ValueError(f"k={draws.min()} must be at least 1")
    return draws


def _whole_counts(n_samples: npt.ArrayLike, n_correct: npt.ArrayLike) -> tuple[Ints, Ints]:
    n, c = whole_numbers(n_samples, "n_samples"), whole_numbers(n_correct, "n_correct")
    for bad, rule in (
        (np.atleast_1d(n < 0), "n_samples must not be negative"),
        (np.atleast_1d(c < 0), "n_correct must not be negative"),
        (np.atleast_1d(c > n), "n_correct exceeds n_samples"),
    ):
        if bad.any():
            raise ValueError(f"problem {int(np.argmax(bad))}: {rule}")
    return n, c


# --- Maximum likelihood -------------------------------------------------------------------------

_Sum = Callable[[Floats], Floats]


class _Likelihood:
    r"""Log-likelihood, gradient and Hessian for many weightings of the same counts at once.

    Parameters are (logit m, ρ, -log(1 - p_zero), -log(1 - p_one)): m is the beta part's mean and
    ρ = 1 / (1 + α + β) the correlation of two samples of a problem. The beta part's likelihood,

        C(n,c) Π_{j<c} (m(1-ρ) + jρ) Π_{j<n-c} ((1-m)(1-ρ) + jρ) / Π_{j<n} (1-ρ + jρ),

    is smooth in these up to and including the binomial limit ρ = 0. Its logarithm, summed over
    problems, is a sum over j weighted by how many problems reach j. The derivatives are the
    digamma and trigamma differences of the usual form, without their cancellation. The logarithms
    of the masses straighten the ridge along which more zeros and a higher m are much alike.
    """

    def __init__(self, n: Ints, c: Ints, weights: Floats, free: Sequence[bool]) -> None:
        # Rounding of the value: sums over all samples, logarithms of a size of ten.
        self.noise = 1e-14 * (weights @ n)
        # A count that a point mass may explain has a mixture's likelihood: not a sum over j.
        at_zero, at_one = free[2] & (c == 0), free[3] & (c == n)
        plain = ~(at_zero | at_one)
        self.plain = weights[:, plain].sum(axis=1)
        # Node by node, the weight of the problems that reach it.
        self.sums = []
        for levels in (c, n - c, n):
            nodes, below = _sum_below(levels[plain])
            self.sums.append((nodes, weights[:, plain] @ below))
        self.edges = [
            (which, *_sum_below(n[rows]), weights[:, rows])
            for which, rows in ((0, at_zero), (1, at_one))
            if rows.any()
        ]

    def __call__(self, x: Floats, rows: Ints) -> tuple[Floats, Floats, Floats]:
        """Values (n_rows,), gradients (n_rows, 4) and Hessians (n_rows, 4, 4)."""
        m, q, rho = expit(x[:, 0]), expit(-x[:, 0]), x[:, 1]
        mass = -np.expm1(-x[:, 2:])
        share = 1 - mass.sum(axis=1)
        possible = share > 0
        share = np.where(possible, share, 1.0)
        gradient, hessian = np.zeros((len(x), 4)), np.zeros((len(x), 4, 4))
        plain = self.plain[rows]
        value = plain * np.log(share)
        gradient[:, 2:] = -(plain / share)[:, None]
        hessian[:, 2:, 2:] = -(plain / share**2)[:, None, None]
        centres = ((m, 1.0), (q, -1.0), (np.ones_like(m), 0.0))
        for (j, reach), (centre, slope), sign in zip(self.sums, centres, (1, 1, -1), strict=True):
            f, g, h = _factors(centre, slope, rho, j, _weighted(reach[rows]))
            value += sign * f
            gradient[:, :2] += sign * g
            hessian[:, :2, :2] += sign * h
        for which, j, below, weights in self.edges:
            each = _each(below)
            part = _factors(*centres[1 - which], rho, j, each)
            whole = _factors(*centres[2], rho, j, each)
            f, g, h = (v - w for v, w in zip(part, whole, strict=True))
            f, g, h = _mixture(which, mass[:, which, None], share[:, None], f, g, h)
            w = weights[rows]
            value += (w * f).sum(axis=1)
            gradient += np.einsum("ru,rui->ri", w, g)
            hessian += np.einsum("ru,ruij->rij", w, h)
        # From m and the masses to their logit and logarithms.
        once = np.stack([m * q, np.ones_like(m), *(1 - mass.T)], axis=1)
        twice = np.stack([m * q * (q - m), np.zeros_like(m), *(mass.T - 1)], axis=1)
        hessian *= once[:, :, None] * once[:, None, :]
        hessian[:, range(4), range(4)] += gradient * twice
        gradient *= once
        return np.where(possible, value, -np.inf), gradient, hessian


def _sum_below(levels: Ints) -> tuple[Floats, Floats]:
    """Nodes j and weights, so that Σ_{j < level} f(j) = Σ_i weights[level, i] f(nodes[i]).

    The first nodes are 0, 1, 2, ... Further out the terms' only singularities lie at j <= 0, so
    that on [a, 2a] twenty Chebyshev points interpolate f to full precision (error 6^-20).
    """
    top = int(levels.max(initial=0))
    near = np.arange(min(top, _NEAR), dtype=np.float64)
    nodes, weights = [near], [(levels[:, None] > near).astype(np.float64)]
    for left, right in _octaves(top):
        every = np.arange(left, right)
        middle, half = (left + right - 1) / 2, (right - 1 - left) / 2
        points = chebyshev.chebpts1(_DEGREE)
        basis = chebyshev.chebvander(points, _DEGREE - 1).T * (2 / _DEGREE)
        basis[0] /= 2
        lagrange = chebyshev.chebvander((every - middle) / half, _DEGREE - 1) @ basis
        cumulative = np.vstack([np.zeros(_DEGREE), np.cumsum(lagrange, axis=0)])
        nodes.append(middle + half * points)
        weights.append(cumulative[np.clip(levels - left, 0, right - left)])
    return np.concatenate(nodes), np.concatenate(weights, axis=1)


def _octaves(top: int) -> Iterator[tuple[int, int]]:
    left = _NEAR
    while left < top:
        # The last piece may be short; what lies beyond the top has no weight.
        yield left, 2 * left
        left *= 2


def _weighted(weights: Floats) -> _Sum:
    return lambda terms: np.asarray(np.einsum("rj,rj->r", terms, weights))


def _each(below: Floats) -> _Sum:
    return lambda terms: terms @ below.T


def _factors(
    centre: Floats, slope: float, rho: Floats, j: Floats, total: _Sum
) -> tuple[Floats, Floats, Floats]:
    """Σ_j log((centre (1-ρ) + jρ) / (1+j)) and its derivatives by m and ρ.

    ``centre`` is m, 1-m or 1, and ``slope`` its derivative by m. The divisors 1+j make up the
    binomial coefficient, and keep the sums small.
    """
    base = (centre * (1 - rho))[:, None] + rho[:, None] * j
    # The derivative by ρ of each factor.
    drift = j - centre[:, None]
    once = 1 / base
    value = total(np.log(base / (1 + j)))
    column = (slice(None),) + (None,) * (value.ndim - 1)
    by_m = slope * (1 - rho)[column]
    by_rho = drift * once
    gradient = np.stack([by_m * total(once), total(by_rho)], axis=-1)
    hessian = np.empty((*value.shape, 2, 2))
    hessian[..., 0, 0] = -(by_m**2) * total(once * once)
    hessian[..., 0, 1] = hessian[..., 1, 0] = -slope * total(j * once * once)
    hessian[..., 1, 1] = -total(by_rho * by_rho)
    return value, gradient, hessian


def _mixture(
    which: int, mass: Floats, share: Floats, value: Floats, gradient: Floats, hessian: Floats
) -> tuple[Floats, Floats, Floats]:
    """Log(mass + share * exp(value)) and its derivatives by m, ρ, p_zero and p_one.

    ``share`` is 1 - p_zero - p_one, ``mass`` the one of the two that ``which`` names.
    """
    with np.errstate(divide="ignore"):
        mixed = np.logaddexp(np.log(mass), np.log(share) + value)
    r = np.exp(np.log(share) + value - mixed)
    inverse = np.exp(-mixed)
    own, other = 2 + which, 3 - which
    g = np.empty((*mixed.shape, 4))
    g[..., :2] = r[..., None] * gradient
    g[..., other] = -r / share
    g[..., own] = inverse + g[..., other]
    h = -g[..., :, None] * g[..., None, :]
    h[..., :2, :2] = r[..., None, None] * hessian
    h[..., :2, :2] += (
        (r * (1 - r))[..., None, None] * gradient[..., :, None] * gradient[..., None, :]
    )
    for mixed_mass, factor in ((own, mass + share), (other, mass)):
        cross = (-r / share * factor * inverse)[..., None] * gradient
        h[..., :2, mixed_mass] = h[..., mixed_mass, :2] = cross
    return mixed, g, h


_LOWER = np.array([-np.inf, 0.0, 0.0, 0.0])
_UPPER = np.array([np.inf, 1 - 1e-12, np.inf, np.inf])
_STEPS = 200
_HALVINGS = 50


def _maximise(
    likelihood: _Likelihood, x: Floats, free: npt.NDArray[np.bool_], scale: Floats
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Climb from x (n_fits, 4) by projected Newton steps; also values, and whether at a maximum.

    A fit has converged where the likelihood is concave in the parameters that are not held by a
    bound, and the Newton step promises less than 1e-12 of log-likelihood a problem.
    """
    x = x.copy()
    done = np.zeros(len(x), dtype=bool)
    values = np.full(len(x), -np.inf)
    rows = np.arange(len(x))
    for _ in range(_STEPS):
        at = x[rows]
        value, gradient, hessian = likelihood(at, rows)
        values[rows] = value
        held = ((at <= _LOWER) & (gradient <= 0)) | ((at >= _UPPER) & (gradient >= 0)) | ~free
        step, promise, concave = _direction(at, gradient, hessian, held)
        ended = concave & (promise <= 1e-12 * scale[rows])
        done[rows] = ended
        on = ~ended
        rows = rows[on]
        x[rows], moved = _climb(likelihood, rows, at[on], value[on], gradient[on], step[on])
        rows = rows[moved]
        if not len(rows):
            break
    return x, values, done


def _direction(
    x: Floats, gradient: Floats, hessian: Floats, held: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """The Newton step within the bounds, what it promises, and where the likelihood is concave."""
    curvature = np.where(held[:, :, None] | held[:, None, :], 0.0, -hessian)
    # Scaled to a unit diagonal, so that the floor below has the same meaning for each parameter.
    diagonal = np.abs(np.einsum("rii->ri", curvature))
    size = np.sqrt(np.where(diagonal == 0, 1.0, diagonal))
    curvature = curvature / (size[:, :, None] * size[:, None, :]) + np.eye(4) * held[:, :, None]
    pull = np.where(held, 0.0, gradient / size)
    eigenvalues, vectors = np.linalg.eigh(curvature)
    # Where the likelihood is not concave, uphill all the same.
    bend = np.maximum(np.abs(eigenvalues), 1e-9)
    along = np.einsum("rij,ri->rj", vectors, pull)
    step = np.einsum("rij,rj->ri", vectors, along / bend)
    room = np.where(held, 0.0, (_LOWER - x) * size)
    out = (step < room).any(axis=1)
    if out.any():
        bent = np.einsum("rij,rj,rkj->rik", vectors[out], bend[out], vectors[out])
        step[out] = _bounded_step(pull[out], bent, room[out])
    step = np.where(held, 0.0, step / size)
    # Longer steps of the logit only overshoot.
    step /= np.maximum(1.0, np.abs(step[:, :1]) / 3)
    return step, (along**2 / bend).sum(axis=1), eigenvalues[:, 0] > -1e-9


def _bounded_step(pull: Floats, bent: Floats, room: Floats) -> Floats:
    """Maximise pull·d - d·bent·d / 2 for d >= room <= 0, trying which parameters stop there."""
    best, most = np.zeros_like(pull), np.full(len(pull), -np.inf)
    for stops in product((False, True), repeat=3):
        at = np.array([False, *stops])
        target = np.where(at, room, pull)
        target -= np.where(at, 0.0, np.einsum("rij,rj->ri", bent, np.where(at, room, 0.0)))
        system = np.where(at[:, None] | at[None, :], np.eye(4), bent)
        step = np.linalg.solve(system, target[..., None])[..., 0]
        gain = (pull * step).sum(axis=1) - np.einsum("ri,rij,rj->r", step, bent, step) / 2
        better = (step >= room - 1e-12).all(axis=1) & (gain > most)
        best[better], most[better] = step[better], gain[better]
    return best


def _climb(
    likelihood: _Likelihood, rows: Ints, x: Floats, value: Floats, gradient: Floats, step: Floats
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Halve each row's step until the likelihood rises enough (Armijo)."""
    result, moved = x.copy(), np.zeros(len(x), dtype=bool)
    length = 1.0
    # Near the maximum the rise drowns in rounding.
    slack = likelihood.noise[rows]
    for _ in range(_HALVINGS):
        todo = np.flatnonzero(~moved)
        if not len(todo):
            break
        trial = np.clip(x[todo] + length * step[todo], _LOWER, _UPPER)
        with np.errstate(all="ignore"):
            reached = likelihood(trial, rows[todo])[0]
        rise = (gradient[todo] * (trial - x[todo])).sum(axis=1)
        good = reached >= value[todo] + 1e-4 * np.maximum(rise, 0) - slack[todo]
        result[todo[good]] = trial[good]
        moved[todo[good]] = True
        length /= 2
    return result, moved


_MASSES: dict[str, tuple[bool, bool]] = {
    "beta-binomial": (False, False),
    "zero-inflated": (True, False),
    "zero-one-inflated": (True, True),
}


def _fit(n: Ints, c: Ints, weights: Floats, model: Model) -> tuple[Floats, Floats]:
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
    likelihood = _Likelihood(n, c, weights, free.tolist())
    # The likelihood of an inflated model can have a maximum with and one without the masses.
    parts = (0.1, 0.5, 0.9) if free[2:].any() else (0.0,)
    best, best_value = np.zeros((len(rest), 4)), np.full(len(rest), -np.inf)
    converged = np.zeros(len(rest), dtype=bool)
    for part in parts:
        x, value, done = _maximise(likelihood, _start(n, c, weights, free, part), free, total)
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


def _distinct(n: Ints, c: Ints, weights: Floats) -> tuple[Ints, Ints, Floats]:
    pairs, place = np.unique(np.stack([n, c], axis=1), axis=0, return_inverse=True)
    return pairs[:, 0], pairs[:, 1], np.bincount(place.ravel(), weights).astype(np.float64)


def _check_model(model: str, n: Ints) -> None:
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
    n, c = _whole_counts(n_samples, n_correct)
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
    _refuse_empty(n)
    _check_model(model, n)
    n_once, c_once, mult = _distinct(n, c, w)
    fits, values = _fit(n_once, c_once, mult[None], model)
    mean, rho, p_zero, p_one = fits[0].tolist()
    concentration = np.inf if rho == 0 else (1 - rho) / rho
    return BetaBinomial(mean, concentration, p_zero, p_one, float(values[0]), len(n))


# --- Tables -------------------------------------------------------------------------------------


def _groups(
    rollouts: pd.DataFrame | PathLike, by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Ints, Ints]]:
    """Each run's key, n and c."""
    table = as_counts(rollouts, by, modes=False)
    if not len(table):
        raise ValueError("counts: the table is empty")
    groups: Any = table.groupby(list(by), dropna=False, observed=True) if by else [((), table)]
    for values, group in groups:
        key = dict(zip(by, values, strict=True))
        with _naming(key):
            if len(group) < 2:
                raise ValueError("one problem says nothing about how problems differ; give more")
            n, c = _whole_counts(group["n_samples"], group["n_correct"])
            _refuse_empty(n)
        yield key, n, c


def _refuse_empty(n: Ints) -> None:
    if n.min() < 1:
        raise ValueError(f"problem {int(np.argmin(n))} has no samples; drop it")


@contextmanager
def _naming(key: dict[str, Any]) -> Iterator[None]:
    """Say in errors which run they are about."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        name = ", ".join(f"{column} {value!r}" for column, value in key.items())
        raise type(error)(f"{name or 'rollouts'}: {error}") from error


def _check_choices(estimator: str, n_resamples: int, confidence: float) -> None:
    if estimator not in get_args(Estimator):
        raise ValueError(
            f"estimator={estimator!r} is unknown; choose from {', '.join(get_args(Estimator))}"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples} must be at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must be between 0 and 1")


def _resampled_fits(
    n: Ints, c: Ints, mult: Floats, model: Model, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Floats, _Numbers]]:
    """Weights and fits in chunks of rows; the first row of all is the data themselves."""
    total = int(mult.sum())
    size = max(1, _CHUNK // max(len(n), int(n.max())))
    for start in range(0, n_resamples + 1, size):
        rows = min(size, n_resamples + 1 - start)
        weights = rng.multinomial(total, mult / total, size=rows).astype(np.float64)
        if start == 0:
            weights[0] = mult
        yield weights, _Numbers.of(*_fit(n, c, weights, model)[0].T)


def _mean_pass(
    n: Ints, c: Ints, k: int, weights: Floats, numbers: _Numbers, estimator: Estimator
) -> Floats:
    """Weighted mean over problems of pass@k, shape (n_fits,)."""
    total = weights.sum(axis=1)
    beyond = k > n
    if beyond.any() and estimator == "population":
        return _new(numbers, np.array([float(k)]))[:, 0]
    known = np.where(beyond, 0.0, pass_at_k(n, c, np.minimum(k, n)))
    fresh = np.full(len(n), float(k))
    if estimator == "anchored":
        known[beyond & (c > 0)] = 1.0
        beyond &= c == 0
        fresh -= n
    result = weights @ known
    if beyond.any():
        model = _seen(numbers, *(v[beyond].astype(np.float64) for v in (n, c, fresh)))
        # A problem that this resample lacks may be impossible under its fit.
        result += np.where(weights[:, beyond] > 0, weights[:, beyond] * model, 0.0).sum(axis=1)
    mean: Floats = result / total
    return mean


def _interval(
    n: Ints, c: Ints, ks: Ints, resampled: Floats, confidence: float
) -> tuple[Floats, Floats]:
    tail = (1 - confidence) / 2
    if ((c > 0) & (c < n)).any():
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        return low, high
    solved = int((c > 0).sum())
    unsolved = len(c) - solved
    low_solved = beta_distribution.ppf(tail, solved, unsolved + 1) if solved else 0.0
    low_unsolved = beta_distribution.ppf(tail, unsolved, solved + 1) if unsolved else 0.0
    return np.full(len(ks), low_solved), 1 - low_unsolved ** np.maximum(1.0, ks / n.min())


def extrapolate_pass_at_k(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int],
    by: Sequence[str] = MAIN_KEYS,
    model: Model = "beta-binomial",
    estimator: Estimator = "anchored",
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """pass@k for k beyond the number of samples, with intervals.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table, or a table of counts (see `passk_lab.rollouts.counting.counts`).
    k : int or sequence of int
        Small k may be among them: up to the smallest n the estimate is the unbiased pass@k.
    by : sequence of str
        What tells runs apart.
    model : {"beta-binomial", "zero-inflated", "zero-one-inflated"}
        See the module's description.
    estimator : {"anchored", "posterior", "population"}
        - "anchored": a problem's n observed samples are the first n of its k. A problem with a
          correct sample is solved, and only for the others does the model say how likely k - n
          more samples solve it. It continues the unbiased curve without a step, and trusts the
          model least; so it is the default.
        - "posterior": k fresh samples of each problem, given its c of n.
        - "population": k samples of a new problem; the fitted curve.

        All estimate the same mean, and agree where the model holds.
    n_resamples : int
        Bootstrap resamples of problems. The model is fitted anew to each.
    confidence : float
        Of the percentile interval.
    random_state : int or Generator, optional
        For the bootstrap.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems, n_samples, extrapolated``.
        ``n_samples`` is the largest n; ``extrapolated`` says that k exceeds the n of at least one
        problem, so that the model plays a part.

    Raises
    ------
    ValueError
        The table or a parameter can't be used; a run has fewer than two problems or too few
        samples for the model.
    RuntimeError
        A fit did not converge.

    Notes
    -----
    The interval is that of the mean over the population the problems come from, given the model.
    It does not cover a wrong model: see `held_out_check`.

    Where no problem has both correct and wrong samples, resampling would show no doubt at all. The
    interval is then distribution-free: with P the chance that n samples hold none that is correct
    (Clopper-Pearson over problems), Jensen's inequality gives pass@k <= 1 - P^(k/n).

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": list("abcdef"), "run": "base", "split": "id",
    ...                       "n_samples": 8, "n_correct": [0, 0, 1, 3, 6, 8]})
    >>> curve = extrapolate_pass_at_k(table, [8, 64], n_resamples=200, random_state=0)
    >>> curve[["k", "estimate", "n_samples", "extrapolated"]].round(3)
        k  estimate  n_samples  extrapolated
    0   8     0.667          8         False
    1  64     0.819          8          True
    """
    ks = np.unique(_whole_k(k))
    if not len(ks):
        raise ValueError("k is empty; name at least one number of samples")
    _check_choices(estimator, n_resamples, confidence)
    rng = np.random.default_rng(random_state)
    rows = []
    for key, n, c in _groups(rollouts, by):
        with _naming(key):
            _check_model(model, n)
            n_once, c_once, mult = _distinct(n, c, np.ones(len(n)))
            estimates = np.concatenate(
                [
                    np.stack(
                        [_mean_pass(n_once, c_once, k, *fits, estimator) for k in ks.tolist()],
                        axis=1,
                    )
                    for fits in _resampled_fits(n_once, c_once, mult, model, n_resamples, rng)
                ]
            )
            low, high = _interval(n, c, ks, estimates[1:], confidence)
        rows.append(
            pd.DataFrame(
                {
                    **key,
                    "k": ks,
                    "estimate": estimates[0],
                    "low": low,
                    "high": high,
                    "n_problems": len(n),
                    "n_samples": n.max(),
                    "extrapolated": ks > n.min(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def held_out_check(
    rollouts: pd.DataFrame | PathLike,
    fraction: float = 0.25,
    by: Sequence[str] = MAIN_KEYS,
    model: Model = "beta-binomial",
    n_splits: int = 5,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Hide most of the samples, predict pass@n from the rest, and compare with what all show.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table, or a table of counts.
    fraction : float
        Share of each problem's samples that the model is fitted to, drawn without replacement. A
        quarter tests an extrapolation to four times the samples. Where n differs between problems,
        the smallest n is used of each.
    by, model, n_resamples, confidence
        As for `extrapolate_pass_at_k`, whose default estimator is used.
    n_splits : int
        How often the samples are divided anew. These are not independent: they share the data.
    random_state : int or Generator, optional
        For the divisions and the intervals.

    Returns
    -------
    DataFrame
        Columns ``*by, n_fit, k, predicted, low, high, observed, error, covered``, a row for each
        division; ``error`` is predicted - observed. ``low`` and ``high`` are a prediction interval
        for ``observed``, pass@k of these very problems: fits to resampled problems, and chance in
        which unsolved problems get solved. It is narrower than the interval for the population.

    Raises
    ------
    ValueError, RuntimeError
        As for `extrapolate_pass_at_k`; fraction is not between 0 and 1.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": range(40), "run": "base", "split": "id",
    ...                       "n_samples": 32, "n_correct": [0, 1, 2, 16, 30] * 8})
    >>> check = held_out_check(table, n_splits=1, n_resamples=200, random_state=0)
    >>> check[["n_fit", "k", "observed"]]
       n_fit   k  observed
    0      8  32       0.8
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction} must be between 0 and 1")
    if n_splits < 1:
        raise ValueError(f"n_splits={n_splits} must be at least 1")
    _check_choices("anchored", n_resamples, confidence)
    rng = np.random.default_rng(random_state)
    rows = []
    for key, n, c in _groups(rollouts, by):
        k = int(n.min())
        n_fit = int(fraction * k)
        for _ in range(n_splits):
            all_c = rng.hypergeometric(c, n - c, k)
            fit_c = rng.hypergeometric(all_c, k - all_c, n_fit)
            with _naming(key):
                _check_model(model, np.array([n_fit]))
                predicted = _predictions(n_fit, fit_c, k, model, n_resamples, rng)
            low, high = _interval(
                np.array([n_fit]), fit_c, np.array([k]), predicted[1:, None], confidence
            )
            observed = float((all_c > 0).mean())
            rows.append(
                {
                    **key,
                    "n_fit": n_fit,
                    "k": k,
                    "predicted": predicted[0],
                    "low": low[0],
                    "high": high[0],
                    "observed": observed,
                    "error": predicted[0] - observed,
                    "covered": bool(low[0] <= observed <= high[0]),
                }
            )
    return pd.DataFrame(rows)


def _predictions(
    n_fit: int, c: Ints, k: int, model: Model, n_resamples: int, rng: np.random.Generator
) -> Floats:
    """Expected pass@k of these problems, then what it may turn out to be, n_resamples times."""
    n_once, c_once, mult = _distinct(np.full(len(c), n_fit), c, np.ones(len(c)))
    unsolved = mult[c_once == 0].sum()
    shape = np.array([float(n_fit)]), np.zeros(1), np.array([float(k - n_fit)])
    chances = np.concatenate(
        [
            _seen(numbers, *shape)[:, 0]
            for _, numbers in _resampled_fits(n_once, c_once, mult, model, n_resamples, rng)
        ]
    )
    # A fit to nothing but problems that are always solved knows no unsolved one.
    chances = np.clip(np.nan_to_num(chances, nan=0.0), 0.0, 1.0)
    more = np.append(unsolved * chances[0], rng.binomial(int(unsolved), chances[1:]))
    result: Floats = (len(c) - unsolved + more) / len(c)
    return result
