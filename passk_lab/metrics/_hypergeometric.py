"""Ratios of factorials and hypergeometric tails, exact to a few units in the last place.

Differences of ``gammaln`` lose seven digits where the answer is near 0 or 1 (numbers around 1e7 are
subtracted), and products of k factors are slow; these forms cancel the large parts on paper.
"""

from __future__ import annotations

from math import factorial, log, pi

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

# From here on, five terms of Stirling's series are exact to 1e-16.
_STIRLING_FROM = 16


def log_ratio(n: Floats, c: Floats, k: Floats) -> Floats:
    """Log of Γ(n-c+1) Γ(n-k+1) / (Γ(n+1) Γ(n-c-k+1)); in whole numbers C(n-c, k) / C(n, k).

    For real c, k >= 0 that broadcast, k whole where n - c - k < 16; -inf where n - c - k <= -1.
    Stirling's formula for the four factorials, terms gathered by their coefficients, with
    a = n - c - k, b = n - c and d = n - k:

        (a + 1/2) log1p(ck / an) - k log1p(c / b) - c log1p(k / d) + δ(b) - δ(a) - δ(n) + δ(d)

    The three logarithms are of the result's own size, so nothing cancels. Below a = 16 the first
    factors of the product are taken off one by one, which lowers k and so raises a.
    """
    a = n - c - k
    result = _stirling(n, c, k, a)
    if a.min() >= _STIRLING_FROM:
        return result
    np.copyto(result, -np.inf, where=a <= -1)
    small = np.unravel_index(np.flatnonzero((a < _STIRLING_FROM) & (a > -1)), a.shape)
    n, c, k, a = (v[small] for v in np.broadcast_arrays(n, c, k, a))
    taken = np.minimum(k, np.ceil(_STIRLING_FROM - a))
    i = np.arange(1, _STIRLING_FROM + 2)[:, None]
    head = np.where(i <= taken, np.log1p(c / (a + i)), 0.0).sum(axis=0)
    a, k = a + taken, k - taken
    # Where k is used up the head is all: what is left is a logarithm of 1.
    rest = k > 0
    result[small] = np.where(rest, _stirling(n, c, k, a), 0.0) - head
    return result


def _stirling(n: Floats, c: Floats, k: Floats, a: Floats) -> Floats:
    # Lifted to where the series holds; results for smaller a are meaningless and replaced above.
    a, b, d = (np.maximum(v, _STIRLING_FROM) for v in (a, n - c, n - k))
    value = c * k
    value /= a * n
    np.log1p(value, out=value)
    value *= a + 0.5
    value -= k * np.log1p(c / b)
    value -= c * np.log1p(k / d)
    value -= _delta(a)
    value += _delta(b) - _delta(np.maximum(n, _STIRLING_FROM))
    value += _delta(d)
    return np.minimum(value, 0.0, out=value)


def _delta(x: Floats) -> Floats:
    """Stirling's remainder: log Γ(x+1) - [(x + 1/2) log x - x + log(2π)/2], for x >= 16."""
    r = 1.0 / x
    s = r * r
    series = s * (1 / 1188)
    for coefficient in (-1 / 1680, 1 / 1260, -1 / 360):
        series += coefficient
        series *= s
    series += 1 / 12
    series *= r
    return series


_SMALL_DELTA = np.array(
    [0.0] + [log(factorial(x)) - (x + 0.5) * log(x) + x - log(2 * pi) / 2 for x in range(1, 16)]
)


def _delta_any(x: Floats) -> Floats:
    small = x < _STIRLING_FROM
    result = _delta(np.where(small, _STIRLING_FROM, x))
    result[small] = _SMALL_DELTA[x[small].astype(np.intp)]
    return result


def _deviance(x: Floats, mean: Floats) -> Floats:
    """Give x log(x / mean) + mean - x for x, mean > 0, without cancellation at x near mean."""
    v = (x - mean) / (x + mean)
    near = np.abs(v) < 0.1
    far_v = np.where(near, 0.0, v)
    series = np.zeros_like(v)
    s = np.where(near, v * v, 0.0)
    # atanh(v) = v + v³/3 + ...: nine terms leave less than 1e-18 at |v| = 0.1.
    for power in range(19, 1, -2):
        series = (series + 1 / power) * s
    close = (x - mean) * v + 2 * x * v * series
    far = x * (np.log1p(far_v) - np.log1p(-far_v)) + mean - x
    return np.where(near, close, far)


def log_binomial_pmf(x: Floats, n: Floats, p: Floats | float, q: Floats | float) -> Floats:
    """Log of C(n,x) p^x q^(n-x), 0 < p < 1 (saddle-point form: Loader 2000)."""
    inner = (x > 0) & (x < n)
    xi, ni = np.where(inner, x, 1.0), np.where(inner, n, 2.0)
    yi = ni - xi
    value = _delta_any(ni) - _delta_any(xi) - _delta_any(yi)
    value -= _deviance(xi, ni * p) + _deviance(yi, ni * q)
    value += 0.5 * np.log(ni / (2 * pi * xi * yi))
    edge = n * np.where(x == 0, np.log(q), np.log(p))
    return np.where(inner, value, edge)


def binomial_pmf(x: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
    """C(n,x) p^x (1-p)^(n-x), also where p is 0 or 1; scipy.stats takes half a second to load."""
    x, n, p = (np.asarray(v, dtype=np.float64) for v in (x, n, p))
    chosen = -special.betaln(n - x + 1, x + 1) - np.log1p(n)
    return np.asarray(np.exp(chosen + special.xlogy(x, p) + special.xlog1py(n - x, -p)))


def _log_pmf(x: Floats, n: Floats, c: Floats, k: Floats) -> Floats:
    """Log-probability that k of n items, drawn without replacement, hold x of the c marked ones."""
    possible = (x >= np.maximum(0, k - (n - c))) & (x <= np.minimum(k, c))
    certain = (k == 0) | (k == n)
    p = np.where(certain, 0.5, k / np.maximum(n, 1))
    q = np.where(certain, 0.5, (n - k) / np.maximum(n, 1))
    x = np.where(possible, x, 0.0)
    rest = np.where(possible, k - x, 0.0)
    value = log_binomial_pmf(x, c, p, q) + log_binomial_pmf(rest, n - c, p, q)
    value -= log_binomial_pmf(k, n, p, q)
    value = np.where(certain, 0.0, value)
    return np.where(possible, np.minimum(value, 0.0), -np.inf)


def upper_tail(
    least: npt.ArrayLike, n: npt.ArrayLike, c: npt.ArrayLike, k: npt.ArrayLike
) -> Floats:
    """Probability of at least ``least`` marked items among k drawn, from whole numbers."""
    least, n, c, k = np.broadcast_arrays(*(np.asarray(v, float) for v in (least, n, c, k)))
    shape = least.shape
    least, n, c, k = (v.ravel() for v in (least, n, c, k))
    upward = least * n > c * k
    # Sum the smaller tail, outwards from its largest term, until the terms no longer count.
    start = np.where(upward, least, least - 1)
    lowest, highest = np.maximum(0, k - (n - c)), np.minimum(k, c)
    x = np.clip(start, lowest, highest)
    term = np.exp(_log_pmf(x, n, c, k))
    term = np.where(np.where(upward, start > highest, start < lowest), 0.0, term)
    # A start beyond the range's other end makes the summed tail the whole distribution.
    total = term.copy()
    active = np.flatnonzero(term > 0)
    while len(active):
        up = upward[active]
        xa, na, ca, ka = x[active], n[active], c[active], k[active]
        inside = np.where(up, xa < highest[active], xa > lowest[active])
        # pmf(j+1) / pmf(j) for j = x upwards and j = x - 1 downwards, one divided by the other way.
        j = np.where(up, xa, xa - 1)
        rise, fall = (ca - j) * (ka - j), (j + 1) * (na - ca - ka + j + 1)
        numerator, denominator = np.where(up, rise, fall), np.where(up, fall, rise)
        ratio = np.divide(numerator, denominator, out=np.zeros_like(xa), where=inside)
        term[active] *= ratio
        x[active] += np.where(up, 1, -1)
        total[active] += term[active]
        active = active[term[active] > total[active] * 1e-18]
    return np.clip(np.where(upward, total, 1 - total), 0.0, 1.0).reshape(shape)


def excess(most: Floats, n: Floats, c: Floats, k: Floats) -> Floats:
    """Mean of max(X - most, 0), X marked items among k drawn, from whole numbers; all terms add."""
    most, n, c, k = np.broadcast_arrays(most, n, c, k)
    total = np.zeros(n.shape)
    for above in range(1, int((np.minimum(k, c) - most).max(initial=0)) + 1):
        total += above * np.exp(_log_pmf(most + above, n, c, k))
    return total
