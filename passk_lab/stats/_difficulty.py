"""What counts say about the distribution of difficulty: its bounds, and candidates for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from passk_lab.metrics._hypergeometric import Floats, binomial_pmf, upper_tail
from passk_lab.stats._likelihood import Ints, Numbers, distinct_counts, fit_rows, seen_pass_at_k
from passk_lab.stats._precision import korn_graubard, precision

# Bins of correct samples whose shares of problems are bounded: 0, 1, 2 to 3. What has more is
# solved at once.
_TOPS = (0, 1, 3)
_STEP = 0.05  # of the grid of p, in logarithms: a finer one moves no bound by 0.001
# Chance that a problem with none of n correct is solved by further samples; both may be arrays.
Chance = Callable[[Any, Any], Any]


class Bounds:
    """Smallest and largest pass@k over all distributions of p that agree with the counts.

    A distribution of p over problems gives each count of correct samples its share of problems.
    Shares of few correct samples are known up to their Korn-Graubard intervals, which hold together
    with the asked confidence (Bonferroni). Among all distributions whose shares lie in these,
    linear programming finds those with the smallest and largest mean of 1 - (1 - p)^k [1]. Nothing
    is assumed of the distribution.

    Where problems differ in n, shares are those among the smallest n's samples: the mean over all
    ways to draw so many.

    Parameters
    ----------
    n, c : array of int, shape (n_problems,)
    largest_k : int
    clusters : array_like, shape (n_problems,), optional
    confidence : float

    Attributes
    ----------
    slack : float
        By how much of the problems the shares miss any distribution's: 0 for independent samples,
        or nearly so. Their intervals are wider by as much.

    References
    ----------
    1. Lindsay (1995), Mixture Models: Theory, Geometry and Applications, chapter 8.
    """

    def __init__(
        self,
        n: Ints,
        c: Ints,
        largest_k: int,
        clusters: npt.ArrayLike | None = None,
        confidence: float = 0.95,
    ) -> None:
        least = int(n.min())
        # From hardly ever solved within any k to hardly ever missed.
        rare = np.exp(np.arange(np.log(1e-3 / largest_k), np.log(0.5), _STEP))
        missed = np.exp(np.arange(np.log(1e-3 / least), np.log(0.5), _STEP))
        self._p = np.concatenate([[0.0], rare, 1 - missed[::-1], [1.0]])
        tops = [top for top in _TOPS if top < least]
        given_p = _shares([special.bdtr(top, least, self._p) for top in tops])
        seen = _shares([1 - upper_tail(top + 1, n, c, least) for top in tops])
        each = 1 - (1 - confidence) / len(tops)
        low, high = korn_graubard(precision(np.clip(seen.T, 0.0, 1.0)[None], clusters), each)
        loose = np.full((len(tops), 1), -1.0)
        self._agree = {
            "A_ub": np.block([[given_p, loose], [-given_p, loose]]),
            "b_ub": np.concatenate([high, -low]),
            "A_eq": np.append(np.ones(len(self._p)), 0.0)[None],
            "b_eq": [1.0],
        }
        self.slack = np.inf
        self.slack = self._least(0.0, of_slack=1.0) + 1e-7

    def of(self, k: int) -> tuple[float, float]:
        """Bounds of pass@k."""
        value = _pass(self._p, k)
        low, high = np.clip([self._least(value), -self._least(-value)], 0.0, 1.0)
        return float(low), float(high)

    def _least(self, value: Floats | float, of_slack: float = 0.0) -> float:
        """Least mean of a value of p, and of the slack, over all distributions that agree."""
        found = optimize.linprog(
            np.append(np.zeros(len(self._p)) + value, of_slack),
            **self._agree,
            bounds=[*[(0, None)] * len(self._p), (0, self.slack)],
            method="highs",
        )
        if found.status:
            raise RuntimeError(f"the bounds were not found: {found.message}")
        return float(found.fun)


def _shares(upto: Sequence[Floats]) -> Floats:
    """Shares of bins, from cumulative ones."""
    return np.diff(np.stack(upto), axis=0, prepend=0.0)


def _pass(p: Floats, k: int) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(k * np.log1p(-p)))


def candidates(n: Ints, c: Ints) -> dict[str, Chance]:
    """Distributions of p fitted to the counts, which tell how unsolved problems go on.

    The beta-binomial, the same with a share of impossible problems (from three samples on), a
    log-normal rate of success -log(1 - p), and a power law, p^(b-1) near 0, which is fitted to
    problems with few correct samples alone.
    """
    n_once, c_once, weights = distinct_counts(n, c, np.ones(len(n)))
    found: dict[str, Chance] = {}
    for model in ("beta-binomial", "zero-inflated"):
        if model == "beta-binomial" or n.max() > 2:
            numbers = Numbers.of(*fit_rows(n_once, c_once, weights[None], model)[0].T)
            found[model] = _beta(numbers)
    found["log-normal"] = _log_normal(n_once, c_once, weights)
    found["power law"] = _power_law(int(n.min()), c_once, weights)
    return found


def _beta(numbers: Numbers) -> Chance:
    def chance(n: Any, extra: Any) -> Any:
        n, extra = np.broadcast_arrays(n, extra)
        fresh = (v.ravel().astype(np.float64) for v in (n, np.zeros(n.shape), extra))
        # A fit to nothing but problems that are always solved knows no unsolved one.
        return np.nan_to_num(seen_pass_at_k(numbers, *fresh)[0]).reshape(n.shape)

    return chance


def _log_normal(n: Ints, c: Ints, weights: Floats) -> Chance:
    x = np.linspace(np.log(1e-12), np.log(40.0), 600)  # log of the rate
    p = -np.expm1(-np.exp(x))
    likelihood = binomial_pmf(c[:, None], n[:, None], p)

    def prior(shape: Sequence[float]) -> Floats:
        return np.asarray(special.softmax(-0.5 * ((x - shape[0]) / np.exp(shape[1])) ** 2))

    def loss(shape: Sequence[float]) -> float:
        return -float(weights @ np.log(likelihood @ prior(shape) + 1e-300))

    rate = (weights @ c + 0.5) / (weights @ n + 1.0)
    start = [float(np.log(-np.log1p(-rate))), 0.5]
    limits = [(x[0], x[-1]), (np.log(0.1), np.log(20.0))]
    shape = optimize.minimize(loss, start, method="Nelder-Mead", bounds=limits).x
    of_p = prior(shape)

    def chance(n: Any, extra: Any) -> Any:
        unsolved = of_p * np.exp(-np.exp(x) * np.asarray(n)[..., None])
        more = -np.expm1(-np.exp(x) * np.asarray(extra)[..., None])
        solved = (unsolved * more).sum(axis=-1)
        return solved / np.maximum(unsolved.sum(axis=-1), 1e-300)

    return chance


def _power_law(n_samples: int, c: Ints, weights: Floats) -> Chance:
    top = min(n_samples - 1, max(_TOPS[-1], n_samples // 8))
    few = c <= top

    def loss(log_b: float) -> float:
        # P(c | c <= top) = Γ(b+c)/c! over its sum, Γ(b+top+1) / (b top!)
        b = np.exp(log_b)
        total = special.gammaln(b + top + 1) - log_b - special.gammaln(top + 1)
        terms = special.gammaln(b + c[few]) - special.gammaln(c[few] + 1) - total
        return -float(weights[few] @ terms)

    b = np.exp(optimize.minimize_scalar(loss, bounds=(-12.0, 6.0), method="bounded").x)

    def chance(n: Any, extra: Any) -> Any:
        return -np.expm1(special.betaln(b, n + extra + 1.0) - special.betaln(b, n + 1.0))

    return chance
