from fractions import Fraction
from math import ceil, comb, log

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passk_lab.metrics import METRICS, pass_at_k
from passk_lab.metrics.coverage import (
    cover_at_tau,
    pass_at_k_auc,
    sharpening_tax,
    solved_share,
    support_change,
)

counts = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


def solves(n, c, k):
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def close(value, exact):
    return abs(Fraction(value) - exact) <= Fraction(1, 10**12) * abs(exact)


# --- Against exact arithmetic ---


@pytest.mark.slow
@given(counts, st.integers(1, 1000))
def test_cover_at_tau_compares_whole_numbers(numbers, steps):
    n, c, _ = numbers
    taus = [Fraction(i, steps) for i in range(1, steps + 1)]
    found = cover_at_tau(n, c, [float(tau) for tau in taus])
    assert found.tolist() == [float(c >= ceil(tau * n)) for tau in taus]


@pytest.mark.parametrize("n", [1, 7, 64])
@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_pass_at_k_is_the_beta_mean_of_cover_at_tau(n, k):
    # Between j/n and (j+1)/n the indicator is constant, so the integral is a sum over these steps;
    # with c/n for p, pass@k is 1 - (1 - c/n)^k.
    j = np.arange(1, n + 1)
    weights = (1 - (j - 1) / n) ** k - (1 - j / n) ** k  # of Beta(1, k)
    c = np.arange(n + 1)
    mean = cover_at_tau(n, c[:, None], j / n) @ weights
    np.testing.assert_allclose(mean, 1 - (1 - c / n) ** k, atol=1e-13)


def test_pass_at_k_of_many_samples_is_the_beta_mean_of_cover_at_tau():
    n, k = 10**6, 8
    c = np.array([1_000, 60_000, 300_000, 999_000])
    tau = 1 - (1 - (np.arange(20_000) + 0.5) / 20_000) ** (1 / k)  # even quantiles of Beta(1, k)
    means = cover_at_tau(n, c[:, None], tau).mean(axis=1)
    np.testing.assert_allclose(means, pass_at_k(n, c, k), atol=1e-4)


@pytest.mark.slow
@settings(max_examples=60)
@given(counts)
def test_auc_is_the_area_over_the_logarithm(numbers):
    n, c, last = numbers
    with mpmath.workdps(40):
        curve = [mpmath.mpf(p.numerator) / p.denominator for p in
                 (solves(n, c, k) for k in range(1, last + 1))]  # fmt: skip
        area = mpmath.fsum(
            (curve[k - 1] + curve[k]) / 2 * mpmath.log(mpmath.mpf(k + 1) / k)
            for k in range(1, last)
        )
        exact = area / mpmath.log(last) if last > 1 else curve[0]
        assert abs(pass_at_k_auc(n, c, last) - exact) <= 1e-12 * exact


@pytest.mark.slow
@given(counts)
def test_sharpening_tax_is_its_sum(numbers):
    n, c, last = numbers
    exact = sum(solves(n, c, last) - solves(n, c, k) for k in range(1, last))
    assert close(sharpening_tax(n, c, last), exact)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "c"), [(10_000, 1), (10_000, 3), (10_000, 5_000), (10_000, 9_999)])
def test_sums_over_many_k_stay_exact(n, c):
    last = 3_000
    ratio, missed = Fraction(1), []
    for k in range(1, last + 1):
        ratio *= Fraction(max(n - c - k + 1, 0), n - k + 1)
        missed.append(ratio)
    assert close(sharpening_tax(n, c, last), sum(missed[:-1]) - (last - 1) * missed[-1])
    area = sum(
        (2 - float(missed[k - 1]) - float(missed[k])) / 2 * log((k + 1) / k) for k in range(1, last)
    )
    assert pass_at_k_auc(n, c, last) == pytest.approx(area / log(last), rel=1e-11)


@pytest.mark.slow
@given(counts)
def test_bounds(numbers):
    n, c, last = numbers
    first, end = pass_at_k(n, c, 1), pass_at_k(n, c, last)
    assert first - 1e-12 <= pass_at_k_auc(n, c, last) <= min(end + 1e-12, 1)
    tax = sharpening_tax(n, c, last)
    assert 0 <= tax <= (last - 1) * (end - first) + 1e-12
    if last > 1 and c < n:
        assert tax <= (last - 1) * (1 - first) + 1e-12


def test_scaled_tax_is_a_ratio_of_means():
    n, c = 16, np.array([0, 1, 4, 16])
    scaled = METRICS["scaled_sharpening_tax"]
    tax, first = sharpening_tax(n, c, 8).mean(), pass_at_k(n, c, 1).mean()
    assert scaled.of_means(scaled(n, c, 8).mean(axis=0)) == pytest.approx(tax / (7 * (1 - first)))
    certain = scaled.of_means(scaled(4, [4, 2], 3))
    assert np.isnan(certain).tolist() == [True, False]


def test_solved_shares():
    n, c = [4, 4, 1, 1, 9], [0, 4, 1, 0, 3]
    assert solved_share(n, c, "always").tolist() == [0, 1, 1, 0, 0]
    assert solved_share(n, c, "sometimes").tolist() == [0, 0, 0, 0, 1]
    assert solved_share(n, c, "never").tolist() == [1, 0, 0, 1, 0]
    assert solved_share(3, 1, "sometimes") == 1
    assert solved_share(4, np.array([[0, 1], [2, 4]]), "never").tolist() == [[1, 0], [0, 0]]


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1))
def test_support_change_counts_problems(problems):
    base, run, times = map(list, zip(*problems, strict=True))
    repeated = [(b, r) for b, r, n in problems for _ in range(n)]
    both = sum(b and r for b, r in repeated)
    solved = sum(b for b, _ in repeated), sum(r for _, r in repeated)
    kept = Fraction(both, solved[0]) if solved[0] else None
    gained = Fraction(solved[1] - both, solved[1]) if solved[1] else None
    score = None
    if kept is not None and gained is not None:
        score = 2 * kept * gained / (kept + gained) if kept + gained else Fraction(0)
    for value, exact in zip(support_change(base, run, times), (kept, gained, score), strict=True):
        assert np.isnan(value) if exact is None else close(value, exact)
    several = support_change(np.array(base) * 1, run, [np.ones(len(base)), times])
    assert [values.shape for values in several] == [(2,)] * 3
    np.testing.assert_equal([values[0] for values in several], support_change(base, run))


# --- Shapes and arguments ---


@pytest.mark.parametrize(
    ("function", "last"),
    [(cover_at_tau, [0.2, 0.5, 1]), (pass_at_k_auc, [1, 2, 6]), (sharpening_tax, [1, 2, 6])],
)
def test_broadcasting(function, last):
    n, c = np.array([6, 7, 20, 20]), np.array([0, 3, 20, 1])
    one = [[function(int(a), int(b), x) for x in last] for a, b in zip(n, c, strict=True)]
    assert all(isinstance(value, float) for row in one for value in row)
    np.testing.assert_allclose(function(n[:, None], c[:, None], last), one, rtol=1e-13)
    np.testing.assert_allclose(function(n[:3], c[:3], last), np.diag(one), rtol=1e-13)
    assert function([], [], 1).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cover_at_tau(4, 2, 0), "tau=0.0 must be above 0"),
        (lambda: cover_at_tau(4, 2, [0.5, 1.1]), r"tau\[1\]=1.1"),
        (lambda: cover_at_tau(4, 2, np.nan), "tau=nan"),
        (lambda: cover_at_tau([4, 0], 0, 0.5), r"n_samples\[1\]=0 must be at least 1"),
        (lambda: cover_at_tau(4, 5, 0.5), "n_correct=5 exceeds"),
        (lambda: solved_share(4, 1.5, "never"), "n_correct=1.5 is not a whole"),
        (lambda: pass_at_k_auc(4, 2, 0), "k_max=0 must be at least 1"),
        (lambda: sharpening_tax([8, 4], 2, 8), r"k_max\[1\]=8 exceeds n_samples"),
        (lambda: support_change([True], [True, False]), "give the same problems"),
        (lambda: support_change([1.5], [True]), "base_solved must hold a boolean"),
        (lambda: support_change([True], [[True]]), "run_solved must hold a boolean"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
