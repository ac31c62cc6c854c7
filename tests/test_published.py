"""Counts that others published give the numbers that they published."""

import re
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest

import passk_lab as pl
from passk_lab.cli import main

DATA = Path(__file__).parents[1] / "data"
BASE, RL = "Qwen2.5-7B", "Qwen2.5-7B-SimpleRL-Zoo"


@pytest.fixture(scope="module")
def math500():
    return pl.counts(DATA / "math500" / "counts.csv")


@pytest.fixture(scope="module")
def game24():
    return pl.counts(DATA / "game24" / "answers.csv")


def test_math500_is_what_was_published(math500):
    found = math500.groupby("run")["n_correct"]
    assert found.sum().to_dict() == {BASE: 39_291, RL: 49_877}
    assert found.agg(lambda c: (c > 0).sum()).to_dict() == {BASE: 481, RL: 465}
    solved = (
        math500[math500["n_correct"] > 0].groupby("problem_id")["run"].agg(tuple).value_counts()
    )
    assert solved.to_dict() == {(BASE, RL): 462, (BASE,): 19, (RL,): 3}
    curve = pl.pass_at_k_curve(math500, k=[1, 128], random_state=0, n_resamples=100)
    published = [0.6139, 0.9620, 0.7793, 0.9300]
    assert curve["estimate"].round(4).tolist() == published


def test_pass_at_k_is_exact(math500):
    grid = [2**i for i in range(8)]
    curve = pl.pass_at_k_curve(math500, k=grid, random_state=0, n_resamples=100)
    for run, rows in math500.groupby("run"):
        found = curve[curve["run"] == run]["estimate"]
        for k, estimate in zip(grid, found, strict=True):
            exact = sum(1 - Fraction(comb(128 - c, k), comb(128, k)) for c in rows["n_correct"])
            assert estimate == pytest.approx(float(exact / 500), abs=1e-12)


def test_better_at_the_first_try_and_narrower(math500):
    verdict = pl.judge(math500, BASE, random_state=0)[0]
    assert verdict.label == "better at the first try, narrower at 128"
    crossing = pl.compare_runs(math500, BASE, random_state=0).crossings.iloc[0]
    # The source says between 8 and 16.
    assert 8 < crossing["k_cross"] < 16
    assert crossing["k_cross"] == pytest.approx(14.4, abs=0.05)
    assert (crossing["low"], crossing["high"]) == pytest.approx((8.3, 30.7), abs=1)


def test_game24(game24):
    curve = pl.pass_at_k_curve(game24, k=[1, 100], random_state=0, n_resamples=100)
    assert curve["estimate"].round(3).tolist() == [0.040, 0.490, 0.073, 0.330]
    distinct = pl.distinct_at_k_curve(game24, k=[100], random_state=0, n_resamples=100)
    assert distinct["estimate"].round(2).tolist() == [0.89, 0.55]
    assert game24.groupby("run")["n_samples"].sum().tolist() == [10_000, 10_000]


def test_the_readme_shows_what_the_command_prints(capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    commands, shown = re.findall(r"start:math500\] -->\n(.*?)\n\n(.*?)<!--", readme, re.DOTALL)[0]
    arguments = commands.splitlines()[-1].split()
    assert arguments[:2] == ["passk-lab", "report"]
    arguments[2] = str(DATA.parent / arguments[2])
    assert main(arguments[1:]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert line in printed


def test_the_python_of_the_readme_runs(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    (code,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    exec(code, names := {})
    assert names["rollouts"]["run"].nunique() == 2
