from fractions import Fraction
from functools import partial
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betainc
from scipy.stats import beta as beta_distribution
from scipy.stats import binom, hypergeom, norm

from passk_lab.stats import _difficulty as df
from passk_lab.stats import pass_at_k_curve
from passk_lab.stats._difficulty import Bounds, candidates
from passk_lab.stats.extrapolate import extrapolate_pass_at_k
from tests.stats.test_extrapolate import COLUMNS, C, N, table


def test_unsolved_everywhere_is_jensens_bound():
    # Of all distributions under which no count of 30 is likely to be other than 0, the one that
    # gives them all the same p solves most.
    bounds = Bounds(np.full(30, 8), np.zeros(30, int), 64)
    share = beta_distribution.ppf(0.05 / 3 / 2, 30, 1)  # of problems without a correct sample
    for k in (9, 16, 64):
        low, high = bounds.of(k)
        assert low == 0
        assert high == pytest.approx(1 - share ** (k / 8), abs=2e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10_000).map(lambda p: p / 10_000), st.integers(1, 9)),
        min_size=1,
        max_size=5,
    ),
    st.integers(2, 20),
    st.integers(1, 60),
)
def test_any_distribution_that_gives_the_counts_lies_within(parts, n, more):
    p, weights = np.array(parts).T
    shares = binom.pmf(np.arange(n + 1)[:, None], n, p) @ (weights / weights.sum())
    expected = np.round(3000 * shares).astype(int)  # hardly a rounding's miss beside the intervals
    c = np.repeat(np.arange(n + 1), expected)
    truth = 1 - ((1 - p) ** (n + more)) @ weights / weights.sum()
    bounds = Bounds(np.full(len(c), n), c, n + more)
    low, high = bounds.of(n + more)
    assert bounds.slack < 1e-6
    assert low - 1e-6 <= truth <= high + 1e-6


def test_bounds_rest_on_no_grid(monkeypatch):
    rng = np.random.default_rng(0)
    cases = [(np.full(80, n), rng.binomial(n, rng.beta(0.3, 1, 80))) for n in (4, 32, 256)]
    ks = [2, 4, 100]

    def all_bounds():
        made = [Bounds(n, c, 100 * int(n[0])) for n, c in cases]
        return np.array(
            [[b.of(k * int(n[0])) for k in ks] for b, (n, _) in zip(made, cases, strict=True)]
        )

    coarse = all_bounds()
    monkeypatch.setattr(df, "_STEP", 0.01)
    np.testing.assert_allclose(coarse, all_bounds(), atol=1e-3)


def test_more_samples_of_some_problems_are_thinned_exactly():
    n, c = np.array([4, 4, 9, 30]), np.array([0, 1, 3, 2])
    seen = df._shares([hypergeom.cdf(top, n, c, 4) for top in (0, 1, 3)])
    for i in range(4):
        ways = [Fraction(comb(c[i], j) * comb(n[i] - c[i], 4 - j), comb(n[i], 4)) for j in range(5)]
        by_hand = [ways[0], ways[1], ways[2] + ways[3]]
        np.testing.assert_allclose(seen[:, i], [float(share) for share in by_hand], atol=1e-14)


def test_log_normal_is_the_likeliest_and_predicts_by_its_integral():
    rng = np.random.default_rng(1)
    mean, sd = -4.0, 2.5
    c = rng.binomial(32, -np.expm1(-np.exp(rng.normal(mean, sd, 4000))))
    chance = candidates(np.full(4000, 32), c)["log-normal"]

    def integral(power):
        return quad(lambda x: np.exp(-power * np.exp(x)) * norm.pdf(x, mean, sd), -40, 8)[0]

    for extra in (1, 32, 1000, 100_000):
        exact = 1 - integral(32 + extra) / integral(32)
        assert float(chance(32, extra)) == pytest.approx(exact, abs=0.03)
    # Exact for the fitted shape: the grid is no coarser than the integral.
    n, x = np.array([32]), np.linspace(np.log(1e-12), np.log(40.0), 600)
    assert np.diff(x)[0] < 0.06
    assert chance(n, n * 0).tolist() == [0.0]


@pytest.mark.parametrize("b", [0.2, 0.5, 1.5])
def test_power_law_is_recovered_and_integrated(b):
    rng = np.random.default_rng(2)
    n = 64
    # p^(b-1) up to 0.3; what lies above must not matter.
    p = np.where(rng.random(20_000) < 0.7, 0.3 * rng.random(20_000) ** (1 / b), 0.9)
    chance = candidates(np.full(20_000, n), rng.binomial(n, p))["power law"]

    def missed(power):
        return quad(lambda p: b * p ** (b - 1) * (1 - p) ** power, 0, 1, limit=200)[0]

    for extra in (1, 64, 640):
        exact = 1 - missed(n + extra) / missed(n)
        assert float(chance(n, extra)) == pytest.approx(exact, rel=0.08)


def test_fits_agree_with_their_populations():
    rng = np.random.default_rng(3)
    p = np.where(rng.random(20_000) < 0.3, 0, rng.beta(0.5, 2, 20_000))
    n = np.full(20_000, 16)
    found = candidates(n, rng.binomial(n, p))
    possible = 0.7 * betainc(0.5, 2, 1)  # all of the beta part

    def missed(power):
        return quad(lambda q: beta_distribution.pdf(q, 0.5, 2) * (1 - q) ** power, 0, 1)[0]

    exact = possible * (missed(16) - missed(160)) / (0.3 + possible * missed(16))
    assert float(found["zero-inflated"](16, 144)) == pytest.approx(exact, abs=0.02)
    assert float(found["beta-binomial"](16, 144)) > exact + 0.05  # knows no impossible problem


bounded = partial(extrapolate_pass_at_k, k=[1, 4, 8, 9, 32, 33, 10_000])


def test_table():
    counts = table(8, np.array([0, 0, 0, 1, 2, 5, 8] * 12))
    curve = bounded(counts)
    assert " ".join(curve) == COLUMNS
    assert curve["basis"].tolist() == [*["samples"] * 3, *["fits"] * 2, *["bounds"] * 2]
    order = curve[["low", "fit_low", "estimate", "fit_high", "high"]].to_numpy()
    assert (np.diff(order, axis=1) >= 0).all()
    # Up to n the unbiased curve with its own interval.
    known = pass_at_k_curve(counts, [1, 4, 8])[["estimate", "low", "high"]]
    np.testing.assert_allclose(curve[known.columns][:3], known)
    beyond = curve[3:]
    assert (np.diff(beyond[["estimate", "low", "high"]], axis=0) >= -1e-9).all()
    assert (beyond["fit_low"] < beyond["fit_high"]).all()
    # Far out nothing is known but what the samples showed.
    assert curve["high"].iloc[-1] > 0.999
    assert curve["low"].iloc[-1] <= curve["low"][2]


def test_bounds_of_several_runs_and_unequal_samples():
    both = pd.concat([table(N, C, run=run) for run in ("a", "b")])
    curve = bounded(both)
    assert curve["run"].tolist() == ["a"] * 7 + ["b"] * 7
    one, other = (curve[curve["run"] == run].drop(columns="run") for run in ("a", "b"))
    pd.testing.assert_frame_equal(one, other.reset_index(drop=True))
    assert one["basis"].tolist()[2:4] == ["samples", "fits"]
    assert one["n_samples"].eq(16).all()


def test_families_widen_the_bounds():
    c = np.repeat([0, 0, 0, 1, 3, 8], 10)
    alone = bounded(table(8, c))
    together = bounded(table(8, c, cluster=np.repeat(np.arange(12), 5)))
    assert (together["low"] < alone["low"]).all()
    assert (together["high"][:5] > alone["high"][:5]).all()
    assert together["estimate"][:3].equals(alone["estimate"][:3])


def test_counts_that_no_independent_samples_give_are_named():
    with pytest.warns(UserWarning, match="differ less than those of independent samples"):
        curve = bounded(table(8, np.ones(100, int)))
    assert (curve["high"] >= curve["estimate"]).all()
    assert curve["estimate"][2] == 1


@pytest.mark.slow
@pytest.mark.parametrize("law", ["beta", "log-normal", "impossible"])
def test_bounds_hold_for_heavy_tails(law):
    """Whatever the law: a coverage of 0.85 fails 99 times of 100."""
    draws = {
        "beta": lambda rng, size: rng.beta(0.1, 2, size),
        "log-normal": lambda rng, size: -np.expm1(-np.exp(rng.normal(-6, 3, size))),
        "impossible": lambda rng, size: rng.beta(0.5, 1, size) * (rng.random(size) < 0.7),
    }
    rng = np.random.default_rng(0)
    p, ks, n = draws[law](rng, 400_000), [33, 64, 1000, 10_000], np.full(60, 32)
    truth = np.array([np.mean(1 - (1 - p) ** k) for k in ks])
    held = np.zeros(len(ks))
    for _ in range(100):
        bounds = Bounds(n, rng.binomial(n, draws[law](rng, 60)), 10_000)
        ends = [bounds.of(k) for k in ks]
        low, high = np.transpose(ends)
        held += (low - 1e-3 <= truth) & (truth <= high + 1e-3)
    assert (held >= binom.ppf(1e-3, 100, 0.95)).all()
