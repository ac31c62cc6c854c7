from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest

from passk_lab.stats._estimates import crossing_point
from passk_lab.stats.compare import curve_crossings, matched_differences, paired_differences
from passk_lab.stats.curves import pass_at_k_curve
from passk_lab.stats.intervals import bootstrap_mean
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.resampling import Resampling
from tests.helpers import refusals


def table(n_seeds=3, n_problems=8, n=4, shift=0.0):
    rng = np.random.default_rng(0)
    rate = np.clip(rng.random(n_problems) + shift, 0, 1)
    rows = [
        (seed, f"p{problem}", draw, rng.random() < rate[problem])
        for seed, problem, draw in product(range(n_seeds), range(n_problems), range(n))
    ]
    return pd.DataFrame(rows, columns=["seed", "problem_id", "sample_id", "correct"])


@pytest.mark.slow
def test_the_estimate_is_the_mean_over_the_seeds_curves():
    rollouts = table()
    ours = pass_at_k_curve(rollouts, over_seeds=True, random_state=0)
    parts = [part.drop(columns="seed") for _, part in rollouts.groupby("seed")]
    alone = [pass_at_k_curve(part, random_state=0)["estimate"] for part in parts]
    assert ours["estimate"].to_numpy() == pytest.approx(np.mean(alone, axis=0), abs=1e-12)
    assert set(ours["n_seeds"]) == {3}
    assert set(ours["n_problems"]) == {8}
    assert (ours["low"] <= ours["estimate"]).all()
    assert (ours["estimate"] <= ours["high"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_seeds", "spread", "least", "most"),
    [(3, 0.1, 0.95, 0.998), (8, 0.1, 0.94, 0.995), (3, 0.6, 0.84, 0.93)],
)
def test_coverage_over_seeds_and_problems(n_seeds, spread, least, most):
    """Crossed random effects: how often 95 % intervals cover the true mean 0.

    Cautious where noise of single values dominates, short where few seeds differ much: what the
    module's docstring says.
    """
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        seed = spread * rng.normal(size=(n_seeds, 1, 1))
        problem = rng.normal(size=(1, 60, 1))
        values = seed + problem + rng.normal(size=(n_seeds, 60, 1))
        low, high = bootstrap_mean(values, n_resamples=400, random_state=rng)
        hits += bool(low[0] <= 0 <= high[0])
    assert least <= hits / 400 <= most


def test_one_seed_varies_problems_alone():
    values = np.arange(20.0).reshape(1, 20, 1)
    low, high = bootstrap_mean(values, random_state=0)
    assert 6 < low[0] < 9.5 < high[0] < 13


@pytest.mark.slow
def test_seed_variance_is_unbiased():
    """Without differences between problems the replicates' variance is s^2 / S."""
    values = np.array([0.0, 1.0, 5.0])[:, None, None] * np.ones((3, 4, 1))
    drawn = Resampling(200_000, random_state=0).replicates(values)
    assert drawn.var() == pytest.approx(np.var([0, 1, 5], ddof=1) / 3, rel=0.02)


@pytest.mark.slow
def test_differences_are_paired_by_problem():
    rng = np.random.default_rng(0)
    problem = 10 * rng.random((1, 100, 1))
    base = problem + 0.1 * rng.normal(size=(3, 100, 1))
    values = {"base": base, "sdsd": base + 0.5, "grpo": 2 * base}
    found = paired_differences(values, "base", random_state=0).set_index("run")
    assert found.loc["sdsd", "difference"] == pytest.approx(0.5)
    assert found.loc["sdsd", "high"] - found.loc["sdsd", "low"] < 0.2
    assert found.loc["grpo", "ratio"] == pytest.approx(2)
    assert found.loc["grpo", "ratio_low"] > 1.9


def test_curves_cross_where_their_means_do():
    rng = np.random.default_rng(0)
    k = [1, 2, 4, 8, 16]
    base = np.linspace(0.4, 1.0, 5) + 0.02 * rng.normal(size=(1, 60, 5))
    sharp = np.linspace(0.6, 0.8, 5) + 0.02 * rng.normal(size=(3, 60, 5))
    crossing = partial(curve_crossings, baseline="base", k=k, random_state=0)
    found = crossing({"base": base, "sdsd": sharp}, n_resamples=2000).iloc[0]
    # In steps of the grid: 0.6 + 0.05 x = 0.4 + 0.15 x at x = 2, k = 4.
    assert found["low"] < 4 < found["high"]
    assert found["k_cross"] == pytest.approx(4, rel=0.05)
    assert found["share"] == 1
    never = crossing({"base": base, "wide": base + 0.1}, n_resamples=100).iloc[0]
    assert np.isnan(never["k_cross"])
    assert never["share"] == 0


@pytest.mark.slow
def test_matched_differences():
    rng = np.random.default_rng(0)
    problem = 0.05 * rng.normal(size=(3, 80, 1))
    steps = np.linspace(0, 1, 5)
    accuracy = 0.4 + 0.4 * steps + problem
    slow = 0.4 + 0.2 * steps + problem
    quantity = {"grpo": 0.9 - 0.2 * steps + problem, "sdsd": 0.9 - 0.4 * steps + problem}
    found = matched_differences({"grpo": accuracy, "sdsd": slow}, quantity, "grpo", 0.55)
    row = found.iloc[0]
    # grpo has 0.55 at 3/8 of its way, sdsd at 3/4.
    assert row["baseline_estimate"] == pytest.approx(0.9 - 0.2 * 3 / 8, abs=0.02)
    assert row["estimate"] == pytest.approx(0.9 - 0.4 * 3 / 4, abs=0.03)
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"] < 1
    assert row["reached"] == 1
    # A target that one of them never reaches, and one below the start.
    for target in (0.7, 0.3):
        beyond = matched_differences({"grpo": accuracy, "sdsd": slow}, quantity, "grpo", target)
        assert beyond[["difference", "low", "high"]].isna().all(axis=None)
        assert beyond["reached"].item() == 0


ROLLOUTS = table()
# One problem of one seed is missing.
UNEVEN = ROLLOUTS[(ROLLOUTS["seed"] != 1) | (ROLLOUTS["problem_id"] != "p3")]
SMALL, WIDE = np.zeros((1, 2, 3)), np.zeros((1, 4, 3))
test_bad_input = refusals(
    (lambda: problem_values(ROLLOUTS, by=["run", "seed"], over_seeds=True), "leave it out"),
    (lambda: problem_values(UNEVEN, over_seeds=True), "differ in problem 'p3'"),
    (lambda: bootstrap_mean(np.zeros((1, 3, 4, 1))), "n_seeds, n_problems, n_columns"),
    (lambda: bootstrap_mean(np.full((1, 2, 1), np.nan)), "is nan"),
    (lambda: paired_differences({"a": SMALL}, "x"), "baseline 'x' is none of a"),
    (lambda: paired_differences({"a": SMALL, "b": np.zeros((1, 3, 3))}, "a"), "b: shape"),
    (
        lambda: matched_differences({"a": SMALL, "b": SMALL}, {"a": SMALL}, "a", 0.5),
        "the same three axes",
    ),
    (
        lambda: matched_differences(*[{"a": SMALL, "b": WIDE}] * 2, "a", 0.5),
        "b: 4 problems, but a has 2",
    ),
    (
        lambda: curve_crossings({"a": SMALL, "b": SMALL}, "a", [1, 2]),
        "2 values of k for 3 columns",
    ),
)


def test_runs_that_are_level_are_exactly_level():
    """Also in replicates, where rounding would break the ties at random."""
    solved = np.random.default_rng(0).integers(0, 2, (1, 49, 5)).astype(float)
    how = Resampling(n_resamples=2_000, random_state=0)
    mine, theirs = how.replicates_of([solved, solved[:, :, ::-1]])
    gap = mine - theirs
    assert (gap[np.abs(gap) < 1e-9] == 0).all()
    assert (gap == 0).any(axis=0).all()


def test_rounding_is_no_crossing():
    ahead = np.array([0.3, 0.1, 1e-16, -1e-17])
    found = crossing_point(np.array([1, 2, 4, 8]), ahead, np.tile(ahead, (10, 1)))
    assert np.isnan(found["k_cross"])
    assert found["share"] == 0
