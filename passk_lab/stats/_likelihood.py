"""Maximum likelihood of beta-binomial populations, many weighted data sets at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev
from scipy.special import expit, logit, xlogy

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics._hypergeometric import Floats, _delta

Ints = npt.NDArray[np.int64]
# From b - 1 = 16 on Stirling's series is exact.
_HEAD = 17
# Numbers in one array at a time.
CHUNK = 1 << 20
# Stands for an infinite concentration in formulas: exact to the last digit, and without overflow.
_INFINITE = 1e30
Model = Literal["beta-binomial", "zero-inflated", "zero-one-inflated"]
# Sums over samples: term by term up to here, then by polynomials of this many points an octave.
_NEAR = 128


_DEGREE = 20
_Sum = Callable[[Floats], Floats]
_MASSES: dict[str, tuple[bool, bool]] = {
    "beta-binomial": (False, False),
    "zero-inflated": (True, False),
    "zero-one-inflated": (True, True),
}


class Likelihood:
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
            nodes, below = sum_below(levels[plain])
            self.sums.append((nodes, weights[:, plain] @ below))
        self.edges = [
            (which, *sum_below(n[rows]), weights[:, rows])
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


def sum_below(levels: Ints) -> tuple[Floats, Floats]:
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


def maximise(
    likelihood: Likelihood, x: Floats, free: npt.NDArray[np.bool_], scale: Floats
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
    likelihood: Likelihood, rows: Ints, x: Floats, value: Floats, gradient: Floats, step: Floats
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


def refuse_empty(n: Ints) -> None:
    if n.min() < 1:
        raise ValueError(f"problem {int(np.argmin(n))} has no samples; drop it")
