"""The two reference distributions against enumeration, exact tests and independent code."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from passk_lab.metrics.functional import distinct_at_k
from passk_lab.metrics.passk import pass_at_k
from passk_lab.stats._precision import Precision, korn_graubard, precision, summed
from passk_lab.stats._reference import (
    Column,
    Samples,
    _step_down,
    redrawing,
    reference,
)

DRAWS = 1_999


def columns(*ks, distinct=()):
    def kernel(k):
        return lambda n, c: pass_at_k(n, c, k)

    return [Column(kernel(k), False, {}) for k in ks] + [
        Column(kernel(k), True, {}) for k in distinct
    ]


def values(samples, found):
    parts = []
    for column in found:
        if not column.distinct:
            parts.append(column.of(samples.n, samples.c))
            continue
        parts.append(
            np.array(
                [
                    [
                        sum(column.of(np.full(len(c), n), c))
                        for n, (_, c) in zip(*cells, strict=True)
                    ]
                    for cells in zip(samples.n, samples.modes, strict=True)
                ]
            )
        )
    return np.stack(parts, axis=2)


def compared(mine, base, found, seed=0, clusters=None, n_draws=DRAWS):
    return reference(
        values(mine, found), values(base, found), redrawing(mine, base, found),
        np.random.default_rng(seed), n_draws, 0.95, clusters,
    )  # fmt: skip


def counts(n, c):
    return Samples(np.full((1, len(c)), n), np.array([c]))


def test_deals_are_those_of_all_labellings():
    """Two small problems, every way to deal the pooled samples out, with their answers."""
    right = [["x", "x", "y", None, None], ["x", None, "z", "z", None]]  # first 3: the run
    sizes, k = (3, 2), 2

    def modes(cell):
        names, found = np.unique([a for a in cell if a], return_counts=True)
        return np.array([ord(name) for name in names], dtype=np.int64), found.astype(np.int64)

    def samples(at):
        cells = [cell[at] for cell in right]
        n = np.array([[len(cell) for cell in cells]])
        c = np.array([[sum(a is not None for a in cell) for cell in cells]])
        return Samples(n, c, [[modes(cell) for cell in cells]])

    mine, base = samples(slice(3)), samples(slice(3, None))
    found = columns(1, k, distinct=[k])
    deals = redrawing(mine, base, found)(np.random.default_rng(0), 40_000)
    assert deals.problems.tolist() == [0, 1]
    for place, cell in enumerate(right):
        exact = []
        for chosen in combinations(range(5), sizes[0]):
            gap = np.zeros(3)
            for sign, part in ((1, chosen), (-1, set(range(5)) - set(chosen))):
                of = [cell[i] for i in part]
                n, c = len(of), sum(a is not None for a in of)
                _, sizes_of = modes(of)
                spread = distinct_at_k([sizes_of.tolist()], k, n_samples=[n]).item() if c else 0.0
                gap += sign * np.array([pass_at_k(n, c, 1), pass_at_k(n, c, k), spread])
            exact.append(gap)
        exact = np.array(exact)
        drawn = deals.differences[place]
        np.testing.assert_allclose(drawn.mean(axis=0), exact.mean(axis=0), atol=0.02)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(exact.T, bias=True), atol=0.02)
        assert set(map(tuple, drawn.round(9))) == set(map(tuple, exact.round(9)))


def test_signs_are_all_signs():
    """With few problems that differ the p-value is that of full enumeration."""
    rng = np.random.default_rng(0)
    mine, base = (rng.random((1, 8, 1)) for _ in range(2))
    gaps = (mine - base)[0, :, 0]
    found = reference(mine, base, None, rng, DRAWS, 0.95)
    drawn = np.array(
        [np.abs(stats.ttest_1samp(gaps * s, 0)[0]) for s in product((-1, 1), repeat=8)]
    )
    exact = (drawn >= np.abs(stats.ttest_1samp(gaps, 0)[0]) * (1 - 1e-9)).mean()
    assert found.p_values.item() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("lost", "won"), [(19, 3), (5, 0), (40, 30), (0, 0)])
def test_one_sample_is_mcnemar(lost, won):
    """19 problems lost and 3 won: 0.00086 by the exact sign test."""
    base = counts(1, [1] * lost + [0] * won + [1] * 20)
    mine = counts(1, [0] * lost + [1] * won + [1] * 20)
    p = compared(mine, base, columns(1)).p_values.item()
    exact = stats.binomtest(won, lost + won).pvalue if lost else 1.0
    if (lost, won) == (19, 3):
        assert exact == pytest.approx(0.00086, abs=1e-5)
    # Dealing two samples out is a coin, too, but drawn at random.
    assert exact - 1e-12 <= p <= exact + 4 * np.sqrt(exact / DRAWS) + 1e-3


def test_no_word_is_decided_by_rounding():
    """Differences that cancel exactly, in sums that do not in floating point."""
    mine = counts(10, [1, 2, 3, 4] * 5)
    base = counts(10, [4, 3, 2, 1] * 5)
    found = compared(mine, base, columns(1, 10))
    assert found.difference.tolist() == [0, 0]
    assert found.p_values.tolist() == [1, 1]
    assert found.statistic.tolist() == [0, 0]


@given(st.integers(0, 10_000), st.booleans())
def test_invariances(seed, clustered):
    """Swapped runs change signs; intervals hold the difference; a word excludes 0."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 1, 12)
    mine, base = (counts(n, rng.binomial(n, p)) for n in (4, 8))
    clusters = rng.integers(0, 5, 12) if clustered else None
    one = compared(mine, base, columns(1, 4), clusters=clusters)
    other = compared(base, mine, columns(1, 4), clusters=clusters)
    np.testing.assert_allclose(one.difference, -other.difference, atol=1e-12)
    np.testing.assert_allclose(one.p_values, other.p_values, atol=0.08)
    low, high = one.interval
    assert (low <= one.difference).all()
    assert (one.difference <= high).all()
    assert (high - low > 0).all()
    alone, together = one.p_values, one.adjusted([0, 1])
    assert (together >= alone - 1e-12).all()
    for at in np.flatnonzero(together <= 0.05):
        assert low[at] > 0 or high[at] < 0


def test_step_down_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    redrawn = rng.exponential(size=(500, 4))
    statistic = redrawn[0]
    order = np.argsort(-statistic)
    expected, last = np.empty(4), 0.0
    for rank, at in enumerate(order):
        rest = order[rank:]
        last = max(last, (redrawn[:, rest].max(axis=1) >= statistic[at] * (1 - 1e-9)).mean())
        expected[at] = last
    np.testing.assert_allclose(_step_down(statistic, redrawn), expected)


def test_clusters_of_one_are_problems():
    rng = np.random.default_rng(0)
    mine, base = (counts(8, rng.binomial(8, 0.4, 30)) for _ in range(2))
    plain = compared(mine, base, columns(1, 8))
    single = compared(mine, base, columns(1, 8), clusters=np.arange(30))
    np.testing.assert_allclose(plain.interval, single.interval)
    np.testing.assert_allclose(plain.p_values, single.p_values)


def test_equal_members_add_nothing():
    """Every problem written down three times: with clusters the interval stays as it is."""
    rng = np.random.default_rng(0)
    p = rng.random(25)
    mine, base = (rng.binomial(1, p) for _ in range(2))
    once = compared(counts(1, mine), counts(1, base), columns(1))
    labels = np.repeat(np.arange(25), 3)
    thrice = [counts(1, np.repeat(c, 3)) for c in (mine, base)]
    known = compared(*thrice, columns(1), clusters=labels)
    unknown = compared(*thrice, columns(1))
    width, wide, narrow = (np.ptp(found.interval) for found in (once, known, unknown))
    assert wide == pytest.approx(width, rel=0.35)
    assert narrow < 0.75 * width


def test_seeds_that_differ_are_no_word():
    """Three models of each method, far apart: their spread is as large as the difference."""
    n = np.full((3, 50), 16)
    base = Samples(n, np.repeat([[4], [8], [12]], 50, axis=1))
    mine = Samples(n, np.repeat([[6], [10], [14]], 50, axis=1))
    found = compared(mine, base, columns(1))
    t = 2 / 16 / np.sqrt(2 * (4 / 16) ** 2 / 3)
    assert found.p_values.item() == pytest.approx(2 * stats.t.sf(t, 4), abs=0.01)
    assert found.interval[0].item() < 0 < found.interval[1].item()
    pooled = compared(
        *(Samples(s.n.sum(0)[None], s.c.sum(0)[None]) for s in (mine, base)), columns(1)
    )
    assert pooled.p_values.item() < 0.001


def test_two_seeds_against_one_model_say_little():
    """Whatever their spread is by chance: a single degree of freedom."""
    rng = np.random.default_rng(0)
    n = np.full((2, 80), 16)
    mine = Samples(n, rng.binomial(n, 0.6))
    base = Samples(n[:1], rng.binomial(n[:1], 0.4))
    found = compared(mine, base, columns(1))
    assert 0.001 < found.p_values.item() < 0.2
    three = Samples(np.full((3, 80), 16), rng.binomial(16, 0.6, (3, 80)))
    assert compared(three, base, columns(1)).p_values.item() < 0.003


def test_seeds_and_problems_have_critical_values_of_their_own():
    """Cochran and Cox: each part's Student t, by its share of the variance."""
    problems, seeds = np.array([1.0, 1.0, 0.0]), np.array([0.0, 3.0, 2.0])
    flat = np.ones(3)
    known = Precision(flat, problems, seeds, 2 * flat, flat, 41)
    t = [stats.t.ppf(0.99, df) for df in (40, 2)]
    expected = [t[0], (t[0] + 3 * t[1]) / 4, t[1]]
    np.testing.assert_allclose(known.critical(0.01), expected)


@pytest.mark.slow
def test_three_seeds_keep_the_error_rate_far_out():
    """A two-sided chance of 1 in 240; Satterthwaite's t is exceeded in 1.6 %."""
    rng = np.random.default_rng(0)
    n = 20_000
    of_problems, of_seeds = 1.0, 3.0
    difference = rng.normal(0, np.sqrt(of_problems + of_seeds), n)
    seen = of_seeds * rng.chisquare(2, n) / 2
    known = Precision(difference, np.full(n, of_problems), seen, np.full(n, 2.0), seen, 100)
    beyond = np.abs(difference) > known.critical(0.5 / 240) * np.sqrt(known.variance)
    assert beyond.mean() < 1.5 / 240


class TestKornGraubard:
    @given(st.integers(1, 40), st.data())
    def test_zeros_and_ones_are_clopper_pearson(self, size, data):
        """But for the price of an estimated variance, which makes it a little wider."""
        hits = data.draw(st.integers(0, size))
        y = np.repeat([1.0, 0.0], [hits, size - hits])[None, :, None]
        low, high = korn_graubard(precision(y), 0.95)[:, 0]
        exact = stats.binomtest(hits, size).proportion_ci(0.95, "exact")
        if hits in (0, size):
            assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert low <= exact.low + 1e-9
        assert exact.high - 1e-9 <= high
        assert 0 <= low <= hits / size <= high <= 1

    def test_formula(self):
        """Written out: Korn and Graubard (1998), no more spread than yes and no would have."""
        y = np.array([0.0, 0.1, 0.2, 0.9, 1.0, 1.0, 0.0, 0.3])
        mean, size = y.mean(), len(y)
        variance = y.var(ddof=1) / size
        n_e = mean * (1 - mean) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 7)) ** 2
        x = mean * n_e
        expected = stats.beta.ppf([0.025, 0.975], [x, x + 1], [n_e - x + 1, n_e - x])
        assert mean * (1 - mean) / variance > size  # so that the second rule is looked at
        found = korn_graubard(precision(y[None, :, None]), 0.95)[:, 0]
        assert found[0] <= expected[0] + 1e-9
        assert found[1] >= expected[1] - 1e-9

    def test_seeds_widen_it(self):
        rng = np.random.default_rng(0)
        y = rng.random((1, 60, 1)) * 0.5
        apart = np.concatenate([y, y + 0.2, y + 0.4])
        alike = np.concatenate([y, y, y])
        wide, narrow = (np.ptp(korn_graubard(precision(v), 0.95)) for v in (apart, alike))
        assert wide > 3 * narrow
        assert precision(apart).of_seeds.item() == pytest.approx(0.04 / 3)

    def test_units_are_clusters(self):
        y = np.repeat([[0.0], [1.0]], 10, axis=0)
        known = precision(y[None], np.repeat(np.arange(4), 5))
        assert known.n_units == 4
        np.testing.assert_allclose(summed(y, np.repeat([0, 1], 10)), [[0.0], [10.0]])
        every = korn_graubard(precision(np.ones((1, 12, 1)), np.repeat(np.arange(3), 4)), 0.95)
        assert every[0].item() == pytest.approx(0.025 ** (1 / 3))
