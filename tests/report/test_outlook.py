import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from passk_lab.cli import main
from passk_lab.report._outlook import outlook
from passk_lab.report.analysis import build_report
from tests.helpers import refuses, scored_rollouts

pytestmark = pytest.mark.slow  # whole reports


def scored(copying, correctness, n_problems=30, n=24, seed=0):
    """Rollouts of three correct answers and a wrong one, and scores of a known teacher.

    A demonstration adds ``correctness`` nats to every correct answer, and ``copying`` more to its
    own.
    """
    rng = np.random.default_rng(seed)
    base, right = np.array([0.35, 0.2, 0.1, 0.35]), np.arange(4) < 3
    weight = np.tile(base * np.exp(correctness * right), (3, 1)).T
    weight[range(3), range(3)] *= np.exp(copying)
    drawn = rng.choice(4, (n_problems, n), p=base)
    given = np.log(weight / weight.sum(axis=0))
    return scored_rollouts([(d, np.log(base), given, np.flatnonzero(d < 3)) for d in drawn], "xyz?")


@pytest.mark.parametrize(
    ("copying", "correctness", "label"),
    [(1.5, 0.5, "better and narrower"), (0.0, 1.0, "better"), (0.0, 0.0, "no clear change")],
)
def test_labels(copying, correctness, label):
    scores, rollouts = scored(copying, correctness)
    found = outlook(scores, rollouts, 8, n_resamples=500)
    assert found.label == label
    assert [line.partition(":")[0] for line in found.lines] == [
        "weight 0.5", "weight 1", "weight 2",
    ]  # fmt: skip
    assert set(found.table["weight"]) == {0.5, 1.0, 2.0}


def test_too_few_samples_are_said_to_be():
    scores, rollouts = scored(4.0, 0.0, n=6)
    found = outlook(scores, rollouts, 4, n_resamples=100)
    assert found.label == "not to be told"
    assert "effective samples" in found.lines[-1]


def test_report_with_scores(tmp_path, capsys):
    scores, rollouts = scored(1.5, 0.5)
    other = rollouts.assign(run="tuned")
    both = pd.concat([rollouts.assign(run="base"), other])
    both.to_parquet(tmp_path / "r.parquet")
    scores.to_parquet(tmp_path / "s.parquet")
    call = ["report", str(tmp_path / "r.parquet"), "--out", str(tmp_path / "out")]
    call += ["--scores", str(tmp_path / "s.parquet"), "--n-resamples", "200"]
    assert main([*call, "--baseline", "base"]) == 0
    out = capsys.readouterr().out
    assert "Forecast of self-distillation: better and narrower" in out
    assert "weight 1: pass@1" in " ".join(out.split())
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Forecast of self-distillation" in page
    assert "Better and narrower" in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["forecast"]["label"] == "better and narrower"
    assert len(pd.read_csv(tmp_path / "out" / "forecast.csv")) == len(summary["forecast"]["table"])
    assert main(call) == 2
    assert "a forecast is of the baseline" in capsys.readouterr().err
    assert main([*call, "--baseline", "tuned"]) == 0


def test_scores_of_other_rollouts_are_refused(tmp_path):
    scores, rollouts = scored(1.0, 0.5, n_problems=12)
    report = partial(
        build_report, rollouts.assign(run="base"), "base", out=tmp_path, n_resamples=50
    )
    said = "none of its problems has rollouts of the baseline"
    refuses(said, report, scores=scores.assign(problem_id="q"))
    without = report()
    assert without.outlook is None
