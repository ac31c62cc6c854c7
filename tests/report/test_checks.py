"""What would mislead is said; of usual rollouts nothing is."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from passk_lab.report import build_report
from passk_lab.report._checks import Looked, oddities
from passk_lab.rollouts import Layout, Study
from passk_lab.rollouts._answers import normal_form
from tests.helpers import refuses

DATA = Path(__file__).parents[2] / "data"


def look(rollouts, **options):
    study = Study(rollouts, **options)
    table = study.counts(modes=False)
    return Looked.at(study, table, table["problem_id"].unique())


def said(rollouts, **options):
    return list(oddities(look(rollouts, **options)))


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
    """Simulated: the likeliest text has 90 %; no word in 50 runs of 40 problems."""
    rng = np.random.default_rng(0)
    frame = table(problems=40, split="id").drop(columns="answer")
    words = 0
    for _ in range(50):
        texts = np.where(rng.random((40, 4)) < 0.9, 0, rng.integers(1, 99, (40, 4)))
        frame["text"] = [f"{t} is the answer to this problem" for t in texts.flat]
        words += bool(said(frame))
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
    words = (
        "in 6 of 12 problems the samples are there twice",
        "24 of 72 rollouts are counted again",
    )
    only(said(pd.concat([frame, again])), *words)
    # Without texts the order of the answers tells; and a sample_id given later hides nothing.
    answers = pd.concat([frame, again]).drop(columns="text")
    answers["answer"] = [f"{problem}-{j}" for problem, j in answers[["problem_id", "j"]].values]
    only(said(answers), *words)
    numbered = pd.concat([frame, again])
    numbered["sample_id"] = numbered.groupby("problem_id").cumcount()
    only(said(numbered), *words)
    only(said(pd.concat([frame, frame, frame])), "12 of 12 problems", "three times", "96 of 144")
    # In another order they might be new ones that say the same.
    assert said(pd.concat([frame, again.sample(frac=1, random_state=0)])) == []


def broken_off(frame, problem, j):
    """Break off after j samples of a problem, and begin again with that problem."""
    end = frame.index[frame["problem_id"] == problem][0]
    return pd.concat([frame[: end + j], frame[end:]], ignore_index=True)


def test_a_run_that_broke_off_within_a_problem():
    frame = table(n=16)
    frame["text"] = [f"reply {i}" for i in range(len(frame))]
    words = (
        "in 1 of 12 problems the first samples are there twice, in the same order, as a run that "
        "broke off and was resumed writes them again: 10 of 202 rollouts are counted again.",
    )
    only(said(broken_off(frame, "p3", 10)), *words)
    twice = broken_off(broken_off(frame, "p3", 10), "p7", 6)
    only(said(twice), "in 2 of 12 problems the first samples are there twice", "16 of 208")
    # Two samples of the same words prove nothing, nor do other samples.
    assert said(broken_off(frame, "p3", 2)) == []
    other = broken_off(frame, "p3", 10)
    other["text"] = [f"reply {i}" for i in range(len(other))]
    assert said(other) == []


@pytest.mark.slow
@pytest.mark.parametrize(("peak", "others"), [(0.9, 1), (0.6, 2)])
def test_more_samples_than_usual_are_no_run_that_broke_off(peak, others):
    """Simulated: a fifth of 100 problems has more samples; no word in 10 runs."""
    rng = np.random.default_rng(0)
    frame = table(12, 100).drop(columns=["text", "answer"])
    many = frame["problem_id"].isin([f"p{i}" for i in range(0, 100, 5)])
    uneven = frame[many | (frame["j"] < 8)].copy()
    again = 0
    for _ in range(10):
        kinds = rng.integers(1, 1 + others, len(uneven))
        kinds[rng.random(len(uneven)) < peak] = 0
        uneven["text"] = [f"the answer is {kind}" for kind in kinds]
        looked = look(uneven)
        again += (looked.copies["again"] & looked.copies["begun"]).sum()
        assert list(oddities(looked)) == []
    assert again


@pytest.mark.slow
@pytest.mark.parametrize("column", ["text", "answer"])
@pytest.mark.parametrize(("n", "peak", "others"), [(4, 0.9, 1), (4, 0.6, 2), (8, 0.9, 1)])
def test_samples_that_repeat_by_chance_are_no_resumed_run(column, n, peak, others):
    """Simulated: two or three texts a problem; no word in 10 runs of 100 problems."""
    rng = np.random.default_rng(0)
    frame = table(n, 100).drop(columns=["text", "answer"])
    for _ in range(10):
        kinds = np.where(rng.random(len(frame)) < peak, 0, rng.integers(1, 1 + others, len(frame)))
        frame["correct"] = kinds == 0
        frame[column] = [f"the answer is {kind}" for kind in kinds]
        looked = look(frame)
        assert looked.copies["again"].any()
        assert list(oddities(looked)) == []


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


def test_graded_alike():
    """The same answer is right in one run and wrong in another."""
    base, tuned = table(), table(run="tuned")
    tuned.loc[tuned["problem_id"].isin(["p3", "p5"]), "correct"] = False
    only(
        said(pd.concat([base, tuned])),
        "In 2 problems an answer is right in one run and wrong in another",
        "('16' in problem 'p3': right in 'base', wrong in 'tuned')",
    )


def test_problems_are_counted_once_for_several_runs():
    both = pd.concat([table(), table(run="tuned")], ignore_index=True)
    both.loc[both["j"] < 2, "answer"] = "16"
    only(said(both), "Runs 'base', 'tuned': in 12 problems one answer is graded both")


def test_several_right_answers_where_one_is_expected():
    frame = table(target="16")
    right = np.array(["16", "x = 16"])[frame["j"] // 2]
    frame["answer"] = np.where(frame["correct"], right, frame["answer"])
    only(said(frame), "in 12 problems several answers are right ('16', 'x = 16'", "'target'")
    assert said(frame.drop(columns="target")) == []
    assert said(frame.assign(target=frame["answer"])) == []


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
    frame = pd.concat([table(), table(n=2, run="tuned", problems=9, answer=None, text=" \n")])
    frame["truncated"] = [True] * 12 + [False] * 54
    frame["error"] = [None] * 48 + ["timeout"] * 9 + ["none", "", "0.5"] * 3
    found = look(frame).accounts
    assert found.columns.tolist() == [
        *("run", "split", "problems", "rollouts", "fewest", "most", "absent"),
        *("no_answer", "no_text", "cut_off", "errors"),
    ]
    assert found.drop(columns="split").to_numpy().tolist() == [
        ["base", 12, 48, 4, 4, 0, 0.0, 0.0, 0.25, 0.0],
        ["tuned", 9, 18, 2, 2, 3, 1.0, 1.0, 0.0, 0.5],
    ]


def test_accounts_are_of_all_problems():
    """A closer look at one problem of many doesn't change them."""
    frame = table(problems=300)
    frame.loc[frame["problem_id"] == "p299", "answer"] = None
    study = Study(frame)
    looked = Looked.at(study, study.counts(modes=False), ["p0"])
    assert looked.accounts["no_answer"].tolist() == [4 / 1200]
    assert looked.some["problem_id"].unique().tolist() == ["p0"]


def test_a_file_without_a_column_lacks_nothing(tmp_path):
    table().to_json(tmp_path / "base.jsonl", orient="records", lines=True)
    plain = table(run="tuned").drop(columns=["answer", "text"])
    plain.to_json(tmp_path / "tuned.jsonl", orient="records", lines=True)
    looked = look([tmp_path / "base.jsonl", tmp_path / "tuned.jsonl"])
    assert looked.accounts["no_answer"].tolist()[0] == 0
    assert looked.accounts[["no_answer", "no_text"]].iloc[1].isna().all()
    assert list(oddities(looked)) == []


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("finish_reason", ["length", "stop"]),
        ("stop_reason", ["max_tokens", "stop"]),
        ("truncated", [True, False]),
        ("is_truncated", [1, 0]),
        ("ended", [False, True]),
    ],
)
def test_columns_that_say_that_a_reply_was_cut_off(column, values):
    frame = table(problems=50).assign(**{column: values * 100})
    assert look(frame).accounts["cut_off"].tolist() == [0.5]


def test_a_run_with_more_errors():
    base, tuned = table(problems=50, error=None), table(problems=50, run="tuned", error=None)
    tuned.loc[tuned["j"] == 1, "error"] = "rate limit"
    only(said(pd.concat([base, tuned])), "Run 'tuned': 25% of the rollouts ended in an error")
    tuned.loc[tuned["problem_id"] != "p0", "error"] = None
    assert said(pd.concat([base, tuned])) == []
    # Of errors the texts are alike.
    failed = table(error="timeout", text="no reply")
    only(said(failed), "Run 'base': 100% of the rollouts ended in an error")


def test_problems_of_several_tasks_with_one_name():
    frame = table(task=np.tile(["aime24", "aime25"], 24), prompt=np.arange(48))
    only(
        said(frame),
        "in 12 problems the column 'task' has several values ('aime24', 'aime25' in problem 'p0')",
        "--columns problem_id=task+problem_id,name=problem_id.",
    )
    apart = Layout({"problem_id": "task+problem_id", "name": "problem_id"})
    assert said(frame, layout=apart) == []
    # Runs may call their tasks as they like.
    both = pd.concat([table(task="a"), table(task="b", run="tuned")])
    assert said(both) == []


def test_names_that_differ_in_blanks_only():
    frame, tuned = table(), table(run="tuned")
    tuned["problem_id"] = tuned["problem_id"].replace({"p3": "p3 ", "p4": "\tp4"})
    only(said(pd.concat([frame, tuned])), "2 problems", "in blanks only ('p4' and '\\tp4')")
    frame.loc[0, "problem_id"] = " p0"
    only(said(frame), "1 problem and others", "(' p0' and 'p0')")


def test_texts_that_are_missing_are_no_copies():
    """Of errors, for example; case 55."""
    frame = table(text="")
    frame.loc[frame["problem_id"] == "p0", "text"] = "right"
    assert said(frame) == []


def test_few_problems_that_never_end_prove_nothing():
    """All replies of a quarter of the problems, of others than before, are cut off."""
    base, tuned = table(n=16, problems=20), table(n=16, problems=20, run="tuned")
    base["truncated"] = base["problem_id"].isin(["p0", "p1"])
    tuned["truncated"] = tuned["problem_id"].isin([f"p{i}" for i in range(5, 10)])
    assert said(pd.concat([base, tuned])) == []


def test_normal_forms_stay_apart():
    different = ["1/2", "2", "0.2", "-2", "x", "x^2", "(1,2)", "1,2", "12", "", "1e3", "1/0"]
    assert len({normal_form(a) for a in different}) == len(different)
    for a in different:
        assert normal_form(normal_form(a)) == normal_form(a)


def test_numbers_too_long_for_python_are_texts():
    long = "9" * 5000
    assert normal_form(f"${long}$") == long


def test_a_word_that_is_right_is_an_answer():
    """Of a program that prints None, None is the answer."""
    frame = table()
    frame.loc[frame["correct"], "answer"] = "None"
    assert said(frame) == []
    counts = Study(frame, layout=Layout(normalize_answers=True)).counts()
    assert counts["correct_mode_counts"].map(list).tolist() == [[2]] * 12


# --- Problems with few samples; what can't be computed ---


@pytest.fixture
def uneven():
    frame = pd.concat([table(n=16, problems=50), table(n=16, problems=50, run="tuned")])
    return frame[(frame["problem_id"] != "p7") | (frame["j"] == 0)].drop(columns="answer")


@pytest.mark.slow
def test_one_problem_with_fewer_samples(uneven, tmp_path):
    report = build_report(uneven, "base", out=tmp_path, n_resamples=50)
    (note,) = [note for note in report.notes if "curves end at" in note]
    assert note.startswith("Runs 'base', 'tuned', split 'id'")
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
def test_a_bad_entropy_leaves_out_its_rollout_alone(tmp_path):
    frame = pd.concat([table(), table(run="tuned")], ignore_index=True)
    frame = frame.assign(token_entropy=0.5, logprob=-1.0, n_tokens=4.0)
    frame.loc[[0, 1], "token_entropy"] = [np.inf, np.nan]
    frame.loc[2, "logprob"], frame.loc[3, "n_tokens"] = -np.inf, 0  # all of p0 of 'base'
    options = {"baseline": "base", "out": tmp_path, "n_resamples": 50}
    report = build_report(frame, **options)
    notes = [note for note in report.notes if "usable" in note]
    assert notes == [
        "Split 'id': 4 of 96 rollouts looked at have no usable logprob or n_tokens or "
        "token_entropy and are left out of the entropies."
    ]
    found = report.sections[0].diversity.set_index(["run", "family", "metric"])
    rows = found.loc[(["base", "tuned"], "entropy", "token_entropy"), :]
    assert rows["estimate"].tolist() == [0.5, 0.5]
    assert rows["n_defined"].tolist() == [11, 12]
    assert found.loc[("base", "ngram", "distinct_2"), "n_defined"] == 12
    # A run that has none has no counterpart; without tokens there is no entropy to speak of.
    frame.loc[frame["run"] == "tuned", "token_entropy"] = np.nan
    report = build_report(frame, **options)
    notes = [note for note in report.notes if "usable" in note]
    assert notes[0] == "Split 'id': run 'tuned' has no usable token_entropy, which is left out."
    assert notes[1].startswith("Split 'id': 2 of 96 rollouts looked at have no usable logprob or")
    assert "entropy_rate" in set(report.sections[0].diversity["metric"])
    report = build_report(frame.drop(columns=["token_entropy", "logprob"]), **options)
    assert not [note for note in report.notes if "usable" in note]
    assert set(report.sections[0].diversity["family"]) == {"ngram"}


@pytest.mark.slow
def test_a_metric_that_fails_leaves_the_others(tmp_path):
    frame = table(score=1.0)
    frame.loc[3, "score"] = None
    options = {"out": tmp_path, "n_resamples": 50}
    report = build_report(frame, metrics=("best_of_k", "g_pass_at_k:0.5"), **options)
    assert set(report.sections[0].metrics["metric"]) == {"g_pass_at_k:0.5"}
    assert any("Metric 'best_of_k' is left out: column 'score', row 3" in n for n in report.notes)
    refuses("best_of", build_report, frame, metrics=("best_of",), **options)


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_said(tmp_path):
    frame = table(error=[{"code": 1}, "timeout", 3, None] * 12)
    report = build_report(frame, out=tmp_path, n_resamples=50)
    assert report.accounts["rollouts"].tolist() == [48]


@pytest.mark.slow
def test_the_page_says_what_was_read(tmp_path):
    report = build_report(table(), out=tmp_path, n_resamples=50)
    page = report.page.read_text()
    assert re.search(r"What was read.*<td>48</td><td>4</td><td>4</td>", page, re.DOTALL)
