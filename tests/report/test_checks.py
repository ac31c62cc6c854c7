"""What would mislead is said; of usual rollouts nothing is."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from passk_lab.report import build_report
from passk_lab.report._checks import LOOKED_AT, accounts, oddities
from passk_lab.rollouts import Layout, Study
from passk_lab.rollouts._answers import normal_form
from tests.helpers import refuses

DATA = Path(__file__).parents[2] / "data"


def said(rollouts, **options):
    study = Study(rollouts, **options)
    table = study.counts(modes=False)
    return list(oddities(study.some(table["problem_id"].unique(), LOOKED_AT), table))


def table(n=4, problems=12, run="base", **columns):
    """Problem i, sample j: right where (i + j) is even; text and answer of their own."""
    rows = [(f"p{i}", j, (i + j) % 2 == 0) for i in range(problems) for j in range(n)]
    frame = pd.DataFrame(rows, columns=["problem_id", "j", "correct"]).assign(run=run)
    frame["text"] = [f"a reply of some length, number {i}" for i in range(len(frame))]
    frame["answer"] = np.where(frame["correct"], "16", "7" + frame["j"].astype(str))
    return frame.assign(**columns)


def only(found, *parts):
    assert len(found) == 1, found
    for part in parts:
        assert part in found[0]


def test_nothing_is_odd():
    assert said(table()) == []
    both = pd.concat([table(), table(run="tuned")])
    assert said(both) == []


@pytest.mark.parametrize("name", ["countdown", "math500", "game24"])
def test_real_data(name):
    """One true thing: the hotter samples are no expressions more often."""
    (path,) = [p for p in (DATA / name).iterdir() if p.suffix in (".parquet", ".csv")]
    found = said(path)
    if name == "countdown":
        only(found, "7% of the rollouts of 'T=1.0' and 0% of 'T=0.6' have no answer")
    else:
        assert found == []


@pytest.mark.slow
def test_independent_samples_of_a_peaked_model_are_no_copies():
    """Simulated: the likeliest text has 90 %; no word in 100 runs of 40 problems."""
    rng = np.random.default_rng(0)
    frame = table(problems=40, split="id").drop(columns="answer")
    counted = Study(frame).counts()
    words = 0
    for _ in range(100):
        texts = np.where(rng.random((40, 4)) < 0.9, 0, rng.integers(1, 99, (40, 4)))
        frame["text"] = [f"{t} is the answer to this problem" for t in texts.flat]
        words += bool(list(oddities(frame, counted)))
    assert words == 0


def test_copies():
    frame = table(text="the same text")
    only(said(frame), "'base': all samples of a problem are the same text", "not independent")
    # One sample more is no copy, and three problems of twelve aren't all.
    frame.loc[frame["problem_id"].isin(["p0", "p1", "p2"]) & (frame["j"] == 0), "text"] = "other"
    assert said(frame) == []


def test_a_resumed_run():
    frame = table()
    again = frame[frame["problem_id"].isin([f"p{i}" for i in range(6)])]
    only(said(pd.concat([frame, again])), "in 6 problems the second half of the samples repeats")


def test_gold_answers():
    frame = table()
    gold = frame.assign(answer="g" + frame["problem_id"])
    only(said(gold), "seems to hold the expected answer", "('gp0' in problem 'p0')")
    columns = {"answer": "model_says"}
    gold["model_says"] = frame["answer"]
    assert said(gold.drop(columns="answer"), layout=Layout(columns)) == []


def test_a_grader_that_contradicts_itself():
    frame = table()
    frame.loc[1, "answer"] = "16"
    only(
        said(frame), "in 1 problem one answer is graded both right and wrong ('16' in problem 'p0'"
    )


def test_spellings():
    frame = table()
    spelled = np.array(["16", "016", "16.0", "$16$"])[frame["j"]]
    frame["answer"] = np.where(frame["correct"], spelled, frame["answer"])
    only(said(frame), "in 12 problems right answers differ in spelling only ('16', '16.0')")
    assert said(frame, layout=Layout(normalize_answers=True)) == []
    counts = Study(frame, layout=Layout(normalize_answers=True)).counts()
    assert counts["correct_mode_counts"].map(list).tolist() == [[2]] * 12
    # Other answers are other answers.
    frame["answer"] = np.where(frame["correct"], np.array(["1/2", "2/1"])[frame["j"] // 2], "x")
    assert said(frame) == []


def test_placeholders():
    frame = table()
    frame.loc[~frame["correct"], "answer"] = "[incomplete reasoning]"
    only(said(frame), "50% of the answers stand for none ('[incomplete reasoning]')", "maj@k")
    study = Study(frame, layout=Layout(normalize_answers=True))
    assert study.rows()["answer"].isna().sum() == 24
    assert study.counts()["mode_counts"].map(list).tolist() == [[2]] * 12


def test_letters():
    frame = table(n=8)
    frame["answer"] = np.where(frame["correct"], "A", np.array(list("BCD"))[frame["j"] % 3])
    only(said(frame), "the letters A, B, C, D: guessing alone gives pass@8 of about 0.90")


def test_a_run_that_is_cut_off_more_often():
    base, tuned = table(problems=50), table(problems=50, run="tuned")
    rng = np.random.default_rng(0)
    base["finish_reason"] = "stop"
    tuned["finish_reason"] = np.where(rng.random(200) < 0.4, "length", "stop")
    only(said(pd.concat([base, tuned])), "of 'tuned' and 0% of 'base' are cut off; was it the same")
    tuned["finish_reason"] = np.where(rng.random(200) < 0.02, "length", "stop")
    assert said(pd.concat([base, tuned])) == []


def test_accounts():
    frame = pd.concat([table(), table(n=2, run="tuned").assign(answer=None, text="")])
    frame["truncated"] = [True] * 12 + [False] * 60
    study = Study(frame)
    found = accounts(study.counts(modes=False), study.some(frame["problem_id"], LOOKED_AT))
    assert found.drop(columns="split").to_numpy().tolist() == [
        ["base", 12, 48, 4, 4, 0.0, 0.0, 0.25], ["tuned", 12, 24, 2, 2, 1.0, 1.0, 0.0],
    ]  # fmt: skip


def test_normal_forms_stay_apart():
    different = ["1/2", "2", "0.2", "-2", "x", "x^2", "(1,2)", "1,2", "12", "", "1e3", "1/0"]
    assert len({normal_form(a) for a in different}) == len(different)
    for a in different:
        assert normal_form(normal_form(a)) == normal_form(a)


# --- Problems with few samples; what can't be computed ---


@pytest.fixture
def uneven():
    frame = pd.concat([table(n=16, problems=50), table(n=16, problems=50, run="tuned")])
    return frame[(frame["problem_id"] != "p7") | (frame["j"] == 0)].drop(columns="answer")


@pytest.mark.slow
def test_one_problem_with_fewer_samples(uneven, tmp_path):
    report = build_report(uneven, "base", out=tmp_path, n_resamples=50)
    note = next(note for note in report.notes if "'base', split" in note)
    assert "problem 'p7' has 1 sample, and 49 of 50 have 16 or more" in note
    assert "curves end at k = 1; --min-samples 16 leaves out the 1 problem" in note
    study = Study(uneven, min_samples=16)
    assert study.counts()["n_samples"].eq(16).all()
    assert "p7" not in set(study.rows()["problem_id"])
    assert not len(study.some(["p7"], ["text"]))
    report = build_report(study, "base", out=tmp_path, n_resamples=50)
    assert sum("1 problem with fewer than 16 samples left out" in n for n in report.notes) == 2
    assert report.sections[0].curve["k"].max() == 16
    assert report.accounts["problems"].tolist() == [49, 49]
    refuses("no problem has as many samples", build_report, Study(uneven, min_samples=99),
            out=tmp_path)  # fmt: skip


@pytest.mark.slow
def test_what_else_fails_never_stops_pass_at_k(tmp_path):
    frame = table()
    frame.loc[0, "answer"] = None
    report = build_report(frame, out=tmp_path, n_resamples=50)
    assert any(
        "Distinct answers are left out: rollouts: column 'answer'" in n for n in report.notes
    )
    assert report.sections[0].distinct is None
    refuses("a correct rollout has no answer", build_report, frame, out=tmp_path, distinct=True)
    frame = table(n_tokens=5, logprob=-1.0, token_entropy=0.5)
    frame.loc[0, ["text", "n_tokens"]] = ["", 0]
    report = build_report(frame, out=tmp_path, n_resamples=50)
    assert "token_entropy" in set(report.sections[0].diversity["metric"])


@pytest.mark.slow
def test_the_page_says_what_was_read(tmp_path):
    report = build_report(table(), out=tmp_path, n_resamples=50)
    page = report.page.read_text()
    assert re.search(r"What was read.*<td>48</td><td>4</td><td>4</td>", page, re.DOTALL)
