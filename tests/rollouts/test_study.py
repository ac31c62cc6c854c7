"""One container: the same from every kind of file, each opened once."""

import gc

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from passk_lab.rollouts.counting import as_counts, counts
from passk_lab.rollouts.files import read_source
from passk_lab.rollouts.study import Study, as_rollouts
from passk_lab.stats.curves import metric_curve
from tests.helpers import refuses


def rollouts(run, n_problems=6, n=4):
    size = n_problems * n
    correct = np.arange(size) % 3 == 0
    columns = {
        "run": run,
        "problem_id": np.repeat([f"p{i}" for i in range(n_problems)], n),
        "sample_id": np.tile(np.arange(n), n_problems),
        "seed": np.tile(np.arange(n) % 2, n_problems),
        "correct": correct,
        "answer": np.where(correct, "x", "y"),
        "text": [f"{run} says {i}" for i in range(size)],
        "level": 3,
    }
    return pd.DataFrame(columns)


@pytest.fixture(params=["frame", "parquet", "jsonl", "csv", "mixed", "unnamed"])
def study(request, tmp_path):
    """A study of two runs, and its table."""
    parts = [rollouts("base"), rollouts("rl")]
    whole = pd.concat(parts, ignore_index=True)
    if request.param == "frame":
        return Study(whole), whole
    endings = {"mixed": ["parquet", "jsonl"], "unnamed": ["parquet"] * 2}
    paths = []
    for part, ending in zip(parts, endings.get(request.param, [request.param] * 2), strict=True):
        paths.append(tmp_path / f"{part['run'].iloc[0]}.v1.{ending}")
        if ending == "jsonl":
            part.to_json(paths[-1], orient="records", lines=True)
        else:
            part = part.drop(columns="run" if request.param == "unnamed" else [])
            getattr(part, f"to_{ending}")(paths[-1], index=False)
    return Study(paths), whole


@pytest.mark.slow
def test_hands_out_the_same_from_everywhere(study):
    study, whole = study
    assert_frame_equal(study.counts(), counts(whole))
    assert_frame_equal(study.counts(["level"], modes=False), counts(whole, ["level"], False))
    assert_frame_equal(as_counts(study), counts(whole))
    names = ["run", "problem_id", "sample_id", "correct", "answer"]
    for found in (study.rows(["answer"]), as_rollouts(study, ["answer"])):
        assert "text" not in found
        assert_frame_equal(found[names], as_rollouts(whole)[names], check_dtype=False)
    assert set(study.rows()) >= set(whole)
    texts = study.some(["p1", "p4"], ["text", "answer", "level"])
    assert texts["text"].tolist() == whole["text"][whole["problem_id"].isin(["p1", "p4"])].tolist()
    assert {"answer", "level"} <= set(texts)
    (note,) = study.notes()
    assert note.startswith("Runs 'base', 'rl' pool the rollouts of 2 seeds")


@pytest.mark.slow
def test_metrics_take_it(tmp_path):
    frame = rollouts("a").assign(score=np.linspace(0, 1, 24))
    frame.to_parquet(tmp_path / "a.parquet")
    for metric in ("pass_at_k", "distinct_at_k", "best_of_k"):
        found, expected = (
            metric_curve(source, metric, n_resamples=50, random_state=0)
            for source in (Study(tmp_path / "a.parquet"), frame)
        )
        assert_frame_equal(found, expected)


@pytest.mark.slow
def test_other_files_are_read_once_and_left_nowhere(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "passk_lab.rollouts.study.read_source",
        lambda source, *options: reads.append(source.path) or read_source(source, *options),
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    rollouts("a").to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    study = Study(tmp_path / "a.jsonl")
    assert reads == []
    study.counts(), study.notes(), study.rows(), study.some(["p0"], ["text"])
    assert reads == [tmp_path / "a.jsonl"]
    del study
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_runs_keep_the_order_of_their_files(tmp_path):
    paths = [tmp_path / f"{name}.parquet" for name in "zab"]
    for path in paths:
        rollouts("x").drop(columns="run").to_parquet(path)
    assert Study(paths).counts()["run"].drop_duplicates().tolist() == ["z", "a", "b"]
    refuses(r"a\.parquet: row 0 repeats .*run='one'", Study(paths, run="one").counts)


def test_seeds_are_pooled_over_files(tmp_path):
    for seed in range(3):
        rollouts("x").assign(seed=seed).to_parquet(tmp_path / f"{seed}.parquet")
    (note,) = Study(sorted(tmp_path.iterdir())).notes()
    assert "'x' pools the rollouts of 3 seeds" in note


def test_scores(tmp_path):
    table = rollouts("a")
    assert Study(table).scores() is None
    bad = Study(table, scores=pd.DataFrame({"score": [1]}))
    refuses("column 'problem_id' is missing", bad.scores)
    scores = pd.DataFrame({"problem_id": ["p0"], "score": [1.0]})
    scores.to_parquet(tmp_path / "s.parquet")
    assert_frame_equal(Study(table, scores=tmp_path / "s.parquet").scores(), scores)


def test_refusals(tmp_path):
    refuses("no rollouts file given", Study, [])
    missing = [tmp_path / "none.parquet"]
    refuses(r"none\.parquet: no such file", Study, missing, error=FileNotFoundError)
    (tmp_path / "a.jsonl").write_text('{"problem_id": "a", "correct": 3}\n')
    bad = Study(tmp_path / "a.jsonl")
    refuses(r"a\.jsonl: column 'correct', row 0: 3 is neither", bad.counts)
    rollouts("a").drop(columns="answer").to_parquet(tmp_path / "a.parquet")
    study = Study(tmp_path / "a.parquet")
    refuses(r"a\.parquet: column 'answer' is missing", study.counts, modes=True)
