"""Checkpoints over training: what each is compared with, and how often a word is wrong."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from passk_lab import pass_at_k_curve
from passk_lab.report import build_report
from passk_lab.rollouts import Study
from passk_lab.rollouts.counting import counts
from passk_lab.stats import checkpoints, first_narrower, judge
from tests.helpers import refuses

FAST = {"random_state": 0, "n_resamples": 300}


def table(steps, run="rl", n=16, problems=60, seed=0):
    """Counts of a run: ``steps`` maps a step to the accuracies of its problems."""
    rng = np.random.default_rng(seed)
    parts = [
        pd.DataFrame({"run": run, "split": "id", "step": step, "problem_id": range(problems),
                      "n_samples": n, "n_correct": rng.binomial(n, np.resize(p, problems))})
        for step, p in steps.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


# From all problems solved now and then, to half of them always and half never.
NARROWING = {0: [0.3], 50: [0.35, 0.25], 100: [0.95, 0.0], 150: [1.0, 0.0]}


def test_when_reach_narrows():
    found = checkpoints(table(NARROWING), **FAST)
    assert found["metric"].tolist() == ["pass@1", "pass@16"] * 4
    assert found["step"].tolist() == [0, 0, 50, 50, 100, 100, 150, 150]
    words = found.drop_duplicates("step")[["first_try", "reach"]]
    assert words.iloc[0].isna().all()
    assert words["reach"].tolist()[2:] == ["narrower"] * 2
    assert words["first_try"].tolist()[2:] == ["better"] * 2
    assert first_narrower(found) == {("rl", "id"): 100}


def test_values_and_words_are_those_of_curves_and_judge():
    rows = table(NARROWING)
    found = checkpoints(rows, **FAST)
    curve = pass_at_k_curve(rows[rows["step"] == 50].drop(columns="step"), [1, 16], **FAST)
    mine = found[found["step"] == 50]
    assert mine["estimate"].tolist() == curve["estimate"].tolist()
    two = rows[rows["step"].isin([0, 150])]
    alone = checkpoints(two, **FAST)
    renamed = two.assign(run=two["step"].map({0: "base", 150: "rl"})).drop(columns="step")
    (verdict,) = judge(renamed, "base", k=[1, 16], random_state=0)
    assert alone["label"].iloc[-1] == verdict.label


def test_against_a_baseline():
    base = table({0: [0.3]}, "base").drop(columns="step")
    found = checkpoints(pd.concat([base, table(NARROWING)]), "base", **FAST)
    assert set(found["run"]) == {"rl"}
    assert found["reach"].notna().all()
    assert first_narrower(found) == {("rl", "id"): 100}
    # Of a baseline with several steps the last is taken.
    later = table({0: [0.9], 10: [0.3]}, "base")
    found = checkpoints(pd.concat([later, table(NARROWING)]), "base", **FAST)
    assert first_narrower(found) == {("rl", "id"): 100}


def test_training_seeds():
    """Seeds that differ as they do are no change of the method; pooled, they would be."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1, 60)
    parts = []
    for step, shifts in {0: (-1.2, 0.0, 0.6), 50: (-0.6, 0.8, 1.5)}.items():
        for seed, shift in enumerate(shifts):
            p = 1 / (1 + np.exp(-(logit + shift)))
            parts.append(table({step: p}, seed=(step, seed)).assign(seed=seed))
    rows = pd.concat(parts)
    pooled = rows.groupby(["run", "split", "step", "problem_id"], as_index=False)[
        ["n_samples", "n_correct"]
    ].sum()
    assert checkpoints(pooled, **FAST)["first_try"].iloc[-1] == "better"
    found = checkpoints(rows, over_seeds=True, **FAST)
    assert found["first_try"].iloc[-1] == "unclear"
    assert set(found["n_problems"]) == {60}


@pytest.mark.slow
def test_many_runs_and_steps_leave_room_for_words():
    """Of 132 comparisons the smallest p-value must be small enough to say a word."""
    steps = {0: [0.3], **{step: [0.9, 0.0] for step in range(1, 12)}}
    runs = [table(steps, f"r{at}", problems=40) for at in range(12)]
    found = checkpoints(pd.concat(runs), random_state=0, n_resamples=10)
    assert set(first_narrower(found).values()) == {1}


def test_problems_of_some_steps_only_are_named(recwarn):
    rows = table(NARROWING)
    rows = rows[(rows["step"] != 50) | (rows["problem_id"] < 40)]
    checkpoints(rows, **FAST)
    (warning,) = recwarn
    assert str(warning.message).startswith("'rl, step 50' against 'rl, step 0', split 'id': 20 pro")


def test_refusals():
    refuses("no run but the baseline has several steps", checkpoints, table({0: [0.5]}))
    refuses("no run but the baseline", checkpoints, table(NARROWING), "rl")
    refuses("no run is called 'x'", checkpoints, table(NARROWING), "x")


@pytest.mark.slow
def test_where_nothing_changes_a_word_is_rare():
    """Two runs of six equal checkpoints each: at most 5 % of tables say any word, 3 sd allowed."""
    rng = np.random.default_rng(0)
    n_rounds = 25
    words = 0
    for round_ in range(n_rounds):
        p = rng.beta(0.5, 1, 40)
        runs = [table(dict.fromkeys(range(6), p), run, problems=40, seed=(round_, at))
                for at, run in enumerate(("a", "b"))]  # fmt: skip
        found = checkpoints(pd.concat(runs), random_state=0, n_resamples=10)
        said = found["first_try"].isin(["better", "worse"])
        said |= found["reach"].isin(["wider", "narrower", "mixed"])
        words += bool(said.any())
    assert words / n_rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_rounds)


# --- Rollouts, and the report ---


def rollouts(steps, run="rl", **columns):
    counted = table(steps, run, n=8, problems=40)
    rows = counted.loc[counted.index.repeat(8)].drop(columns=["n_samples", "n_correct"])
    order = np.tile(np.arange(8), len(counted))
    right = order < np.repeat(counted["n_correct"].to_numpy(), 8)
    return rows.assign(sample_id=order, correct=right, **columns).reset_index(drop=True)


def test_pooled_checkpoints_are_warned_of(tmp_path):
    rows = rollouts(NARROWING)
    rows.to_parquet(tmp_path / "r.parquet")
    for source in (rows, tmp_path / "r.parquet", [tmp_path / "r.parquet"]):
        with pytest.warns(UserWarning, match="run 'rl' pools 4 steps, which are models"):
            pass_at_k_curve(source, 1, **FAST)
    assert counts(rows, by=["run", "step"])["n_samples"].eq(8).all()


@pytest.mark.slow
def test_the_report_compares_the_last_and_follows_all(tmp_path, recwarn):
    base = rollouts({0: [0.3]}, "base").drop(columns="step")
    both = pd.concat([base, rollouts(NARROWING)])
    report = build_report(both, "base", out=tmp_path, n_resamples=50)
    assert report.verdicts[0].reach == "narrower"
    last = both[(both["run"] == "base") | (both["step"] == 150)].drop(columns="step")
    same = build_report(last, "base", out=tmp_path / "last", n_resamples=50)
    assert report.verdicts == same.verdicts
    assert same.sections[0].checkpoints is None
    section = report.sections[0]
    assert section.checkpoints["step"].unique().tolist() == [0, 50, 100, 150]
    assert "pass@8 over training" in [figure.title for figure in section.figures]
    assert any("has 4 checkpoints: the last, step 150, is compared" in n for n in report.notes)
    assert any("reach is narrower first at the checkpoint of step 100" in n for n in report.notes)
    page = report.page.read_text()
    assert "<h3>Over training</h3>" in page
    summary = json.loads(report.summary.read_text())["splits"][0]
    assert summary["first_narrower"] == section.first_narrower == {"rl": 100}
    assert len(summary["checkpoints"]) == len(section.checkpoints)
    assert not [w for w in recwarn if "pools" in str(w.message)]


@pytest.mark.slow
def test_the_page_lists_steps_in_order(tmp_path):
    """Also where runs were evaluated at different ones."""
    both = pd.concat([rollouts({0: [0.3], 100: [0.4]}, "a"), rollouts(NARROWING, "b")])
    page = build_report(both, out=tmp_path, n_resamples=50).page.read_text()
    listed = page[page.index("<h3>Over training</h3>") :]
    found = re.findall(r'<td class="name">(\w)</td><td>(\d+)</td>', listed)[:6]
    assert found == [("a", "0"), ("a", "100"), *(("b", str(step)) for step in NARROWING)]


@pytest.mark.slow
def test_checkpoints_that_cannot_be_compared_never_stop_the_report(tmp_path):
    """Seeds of one step were evaluated on other problems."""
    rows = pd.concat([rollouts(NARROWING, seed=0), rollouts(NARROWING, seed=1)])
    rows = rows[(rows["seed"] == 0) | (rows["step"] != 50) | (rows["problem_id"] < 30)]
    report = build_report(rows, out=tmp_path, n_resamples=50)
    assert any("Checkpoints over training are left out: seeds" in n for n in report.notes)
    assert report.sections[0].first_narrower == {}


@pytest.mark.slow
def test_batches_of_training_are_no_checkpoints(tmp_path):
    """Other problems at each step: what a trainer logs."""
    rows = rollouts({0: [0.3], 1: [0.5]})
    rows["problem_id"] = rows["problem_id"].astype(str) + "-" + rows["step"].astype(str)
    study = Study(rows).at_last_step()
    assert study.last_steps == {}
    report = build_report(rows, out=tmp_path, n_resamples=50)
    assert any("pools the rollouts of 2 steps" in note for note in report.notes)
    assert report.accounts["rollouts"].tolist() == [640]
