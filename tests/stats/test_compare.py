import numpy as np
import pandas as pd
import pytest

from passk_lab import compare_runs, counts, pass_at_k
from passk_lab.stats.compare import problem_differences
from passk_lab.stats.curves import pass_at_k_curve
from tests.helpers import refuses
from tests.stats.tables import rollouts


def counted(n, **correct):
    return pd.concat(
        pd.DataFrame({"run": run, "problem_id": range(len(c)), "n_samples": n, "n_correct": c})
        for run, c in correct.items()
    ).assign(split="id")


def polarised(n_problems=120, seed=0):
    """A run that is better at k = 1 and worse at large k: surely right or surely wrong."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.1, 0.4, n_problems)
    sharp = np.where(rng.random(n_problems) < 0.7, 0.8, 0.002)
    return rollouts({"base": base, "sharp": sharp}, 64, seed + 1)


@pytest.mark.slow
def test_differences_agree_with_the_curves():
    table = polarised()
    found = compare_runs(table, "base", random_state=0)
    curve = pass_at_k_curve(table, random_state=0).set_index(["run", "k"])["estimate"]
    for row in found.differences.itertuples():
        assert row.baseline == pytest.approx(curve["base", row.k], rel=1e-12)
        assert row.estimate == pytest.approx(curve["sharp", row.k], rel=1e-12)
        assert row.difference == pytest.approx(row.estimate - row.baseline)
        assert row.band_low <= row.low + 1e-9 or row.band_high >= row.high - 1e-9
    assert found.baseline == "base"
    assert found.metric == "pass_at_k"


@pytest.mark.slow
def test_pairing_removes_differences_between_problems():
    """Both runs get the same problems right: the gap is known far better than either curve."""
    p = np.repeat([0.05, 0.95], 50)
    table = rollouts({"base": p, "rl": np.clip(p + 0.03, 0, 1)}, n=256)
    found = compare_runs(table, "base", 1, random_state=0).differences.iloc[0]
    curve = pass_at_k_curve(table, 1, random_state=0)
    assert found["high"] - found["low"] < 0.2 * (curve["high"] - curve["low"]).min()
    assert found["p_value"] < 0.01


@pytest.mark.slow
def test_crossing_point_of_known_curves():
    """Expected curves cross where the mean of (1 - p)^k agrees; found within its interval."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.1, 0.4, 400)
    sharp = np.where(np.arange(400) < 240, 0.6, 0.001)
    found = compare_runs(rollouts({"base": base, "sharp": sharp}, 64), "base", random_state=0)
    k = np.linspace(1, 64, 6301)
    gap = ((1 - base) ** k[:, None]).mean(axis=1) - ((1 - sharp) ** k[:, None]).mean(axis=1)
    truth = k[np.argmax(gap < 0)]
    row = found.crossings.iloc[0]
    assert row["low"] <= truth <= row["high"]
    assert row["low"] <= row["k_cross"] <= row["high"]
    assert row["k_cross"] == pytest.approx(truth, rel=0.25)
    assert row["share"] == 1.0
    assert row["k_max"] == 64


@pytest.mark.slow
def test_no_crossing():
    p = np.linspace(0.1, 0.5, 60)
    found = compare_runs(rollouts({"base": p, "rl": p + 0.3}, 64), "base", random_state=0)
    row = found.crossings.iloc[0]
    assert np.isnan(row["k_cross"])
    assert np.isnan(row["low"])
    assert row["share"] < 0.2


def test_uncertain_crossing_reaches_beyond_n():
    """Three problems lost by the baseline, four others by the run: many replicates don't cross."""
    table = counted(64, base=[0] * 3 + [8] * 27, sharp=[32] * 26 + [0] * 4)
    row = compare_runs(table, "base", random_state=0).crossings.iloc[0]
    assert 0.4 < row["share"] < 0.9
    assert row["low"] < row["k_cross"] < 64
    assert row["high"] == np.inf


@pytest.mark.slow
def test_flattening_is_the_ratio_of_gains():
    table = polarised()
    row = compare_runs(table, "base", random_state=0).flattening.iloc[0]
    ends = pass_at_k_curve(table, [1, 64], random_state=0).set_index(["run", "k"])["estimate"]
    gain = ends["sharp", 64] - ends["sharp", 1]
    reference = ends["base", 64] - ends["base", 1]
    assert row["ratio"] == pytest.approx(gain / reference)
    assert row["low"] < row["ratio"] < row["high"] < 1


def test_flattening_without_gain_is_undefined():
    table = rollouts({"base": [1.0, 0.0, 1.0], "rl": [0.5, 0.5, 0.5]})
    row = compare_runs(table, "base", random_state=0).flattening.iloc[0]
    assert row["gain_baseline"] == 0
    assert np.isnan(row["ratio"])


@pytest.mark.slow
def test_null_comparison_is_calibrated():
    """Two runs of one model: p-values are uniform enough, intervals and bands cover 0.

    In 200 rounds a coverage of 0.83 fails 99 times of 100.
    """
    rng = np.random.default_rng(0)
    inside, banded, small = 0, 0, 0
    rounds = 200
    for i in range(rounds):
        p = rng.beta(0.5, 1, 40)
        table = counted(16, a=rng.binomial(16, p), b=rng.binomial(16, p))
        out = compare_runs(table, "a", [1, 4, 16], n_resamples=400, random_state=i).differences
        inside += (out["low"].iloc[1] <= 0) & (out["high"].iloc[1] >= 0)
        banded += ((out["band_low"] <= 0) & (out["band_high"] >= 0)).all()
        small += out["p_value"].iloc[1] < 0.1
    assert 0.9 <= inside / rounds <= 0.99
    assert 0.88 <= banded / rounds <= 0.99
    assert 0.03 <= small / rounds <= 0.19


@pytest.mark.slow
def test_unequal_samples_and_three_runs():
    p = np.linspace(0.1, 0.9, 20)
    small = rollouts({"small": p})
    table = pd.concat([rollouts({"base": p, "rl": p}, n=32), small], ignore_index=True)
    found = compare_runs(table, "base", random_state=0).differences
    # Each pair is compared as far as its own samples reach.
    assert found.groupby("run")["k"].max().to_dict() == {"rl": 32, "small": 8}
    counted = compare_runs(counts(table), "base", random_state=0).differences
    pd.testing.assert_frame_equal(found, counted)
    refuses("k=32 exceeds the 8 samples", compare_runs, table, "base", 32)


@pytest.mark.slow
def test_other_metrics():
    table = rollouts({"base": [0.5] * 20, "rl": [0.5] * 20})
    table.loc[(table["run"] == "rl") & table["correct"], "answer"] = "0"
    found = compare_runs(table, "base", metric="distinct_at_k", random_state=0).differences
    assert found["difference"].iloc[-1] < -1
    assert found["high"].iloc[-1] < 0
    assert len(compare_runs(table, "base", metric="best_of_k", random_state=0).differences) == 4


@pytest.mark.slow
def test_splits_and_missing_problems_are_told():
    p = np.linspace(0.1, 0.9, 10)
    both = rollouts({"base": p, "rl": p}, split="id")
    table = pd.concat([both, rollouts({"rl": p}, split="ood")])
    with pytest.warns(UserWarning, match="split 'ood' of run 'rl' has no baseline"):
        assert set(compare_runs(table, "base").differences["split"]) == {"id"}
    fewer = table[(table["run"] == "base") | ~table["problem_id"].isin(["p000", "p001"])]
    with pytest.warns(UserWarning, match="2 problems that only one"):
        found = compare_runs(fewer[fewer["split"] == "id"], "base")
    assert (found.differences["n_problems"] == 8).all()


@pytest.mark.slow
def test_bad_input_is_refused():
    p = np.linspace(0.1, 0.9, 10)
    table = rollouts({"base": p, "rl": p})
    refuses("'sdsd' is none of the runs: base, rl", compare_runs, table, "sdsd")
    refuses("the only run", compare_runs, table[table["run"] == "base"], "base")
    other = table["problem_id"].where(table["run"] == "base", "q" + table["problem_id"])
    other = table.assign(problem_id=other)
    refuses("share no problem in split 'id'", compare_runs, other, "base")
    other = table.assign(split=table["run"].map({"base": "id", "rl": "ood"}))
    with pytest.warns(UserWarning, match="left out"):
        refuses("no split in common", compare_runs, other, "base")


def test_problem_differences():
    table = rollouts({"base": [0.5, 0.9, 0.1], "rl": [0.5, 0.2, 0.4]}, n=32)
    out = problem_differences(table, "base", k=1)
    assert out["problem_id"].iloc[0] == "p001"
    assert out["difference"].is_monotonic_increasing
    for row in out.itertuples():
        mine = table[table["problem_id"] == row.problem_id].groupby("run")["correct"].sum()
        assert row.estimate == pytest.approx(pass_at_k(32, mine["rl"], 1))
        assert row.baseline == pytest.approx(pass_at_k(32, mine["base"], 1))
