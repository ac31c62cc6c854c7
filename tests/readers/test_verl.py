import json
from pathlib import Path

import numpy as np
import pytest

from passk_lab.readers import convert, stable_id
from passk_lab.readers.verl import read_verl
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_rollouts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "verl"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())["validation"]


def row(**fields):
    return {"input": "2+3?", "output": "5", "gts": "5", "score": 1.0, "step": 3, **fields}


def written(folder, rows, name="3.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def best_of(correct, k):
    """Share of draws of k *with* replacement that hold a correct one: verl's own best@k."""
    return 1 - (1 - correct.mean()) ** k


def test_validation_folder_agrees_with_verl():
    table = read_verl(FIXTURES / "validation")
    assert len(table) == 24
    assert table.groupby(["step", "problem_id"]).size().tolist() == [4] * 6
    assert set(table["step"]) == set(map(int, REPORTED))
    for step, scores in REPORTED.items():
        of_step = table[table["step"] == int(step)].groupby("problem_id")["correct"]
        mean = of_step.mean().mean()
        assert mean == pytest.approx(scores["val-core/math_dapo/acc/mean@4"], abs=1e-12)
        # verl estimates best@4 from 1000 bootstrap draws a problem: up to 4 standard errors.
        best = of_step.apply(best_of, k=4).mean()
        assert best == pytest.approx(
            scores["val-core/math_dapo/acc/best@4/mean"],
            abs=4 * scores["val-core/math_dapo/acc/best@4/std"] / np.sqrt(1000),
        )


def test_values_of_one_file():
    table = read_verl(FIXTURES / "validation" / "0.jsonl")
    assert table["sample_id"].tolist() == [0, 1, 2, 3] * 3
    assert table["problem_id"].tolist() == [stable_id(p) for p in table["prompt"]]
    assert table["correct"].tolist() == (table["score"] == 1).tolist()
    assert table["answer"].iloc[:4].tolist() == ["5", "5", "6", "5"]
    # Where verl's grader found no answer there is none; an empty response is still a rollout.
    assert table["answer"].isna().sum() == 2
    assert table["text"].iloc[8] == ""
    assert table["text"].iloc[9] == "Answer: 100\x00"
    assert table["text"].iloc[11] == "so\u2028\x85Answer: 10 24"


def test_training_dump_in_any_order():
    table = read_verl(FIXTURES / "rollouts")
    assert table.groupby("problem_id").size().tolist() == [4, 4]
    assert table["request_id"].is_unique
    count = counts(table)
    answers = {"What is 2 + 3?": [3, 1], "What is 6 * 7?": [2, 1]}
    found = dict(zip(count["problem_id"], count["mode_counts"], strict=True))
    assert {p: found[stable_id(p)].tolist() for p in answers} == answers


def test_folder_is_read_in_the_order_of_steps(tmp_path):
    for step in (2, 10, 1):
        written(tmp_path, [row(step=step)], f"{step}.jsonl")
    assert read_verl(tmp_path)["step"].tolist() == [1, 2, 10]
    assert [f.name for f in read_verl.source_files(tmp_path)] == ["1.jsonl", "2.jsonl", "10.jsonl"]


def test_step_comes_from_the_name_where_no_field_has_it(tmp_path):
    bare = row()
    del bare["step"]
    assert read_verl(written(tmp_path, [bare], "12.jsonl"))["step"].tolist() == [12]
    assert "step" not in read_verl(written(tmp_path, [bare], "mine.jsonl"))


def test_acc_goes_before_score_and_metric_before_both(tmp_path):
    path = written(tmp_path, [row(score=-1.0, acc=True, strict=0.4), row(acc=False, strict=1)])
    assert read_verl(path)["correct"].tolist() == [True, False]
    assert read_verl(path, metric="score")["correct"].tolist() == [False, True]
    assert read_verl(path, metric="strict")["correct"].tolist() == [False, True]
    assert read_verl(path, metric="strict", threshold=0.3)["correct"].tolist() == [True, True]
    assert read_verl(path)["score"].tolist() == [-1.0, 1.0]


def test_numpy_values_that_were_dumped_as_text(tmp_path):
    # json.dumps(..., default=str) spells numpy's booleans and float32 as text.
    path = written(tmp_path, [row(acc="True"), row(acc="False"), row(acc="1.0"), row(acc="0.0")])
    assert read_verl(path)["correct"].tolist() == [True, False, True, False]
    table = read_verl(written(tmp_path, [row(score="1.0"), row(score="-1.0")]))
    assert table["correct"].tolist() == [True, False]
    assert table["score"].tolist() == [1.0, -1.0]
    with pytest.raises(ValueError, match=r"3\.jsonl: column 'score', row 1: '\[1\. 0\.\]' is no"):
        read_verl(written(tmp_path, [row(), row(score="[1. 0.]")]))


def test_names_that_mean_something_else_are_set_apart(tmp_path):
    path = written(tmp_path, [row(correct=0.0, text="x", seed="abc", answer="five", cluster=1)])
    table = read_verl(path)
    assert table["correct"].tolist() == [True]
    assert table["text"].tolist() == ["5"]
    assert table[["verl_correct", "verl_text", "verl_seed"]].iloc[0].tolist() == [0.0, "x", "abc"]
    # Of verl's trainers none writes an answer: a reward function's may be the expected one.
    assert not {"answer", "cluster"} & set(table)
    assert table["verl_answer"].tolist() == ["five"]


def test_pred_and_another_answer_field(tmp_path):
    path = written(tmp_path, [row(pred="5", answer="five")])
    table = read_verl(path)
    assert (table["answer"].item(), table["verl_answer"].item()) == ("5", "five")
    assert read_verl(path, answer="answer")["answer"].item() == "five"


def test_problem_id_field(tmp_path):
    path = written(tmp_path, [row(index=4), row(index=9)])
    assert read_verl(path)["sample_id"].tolist() == [0, 1]
    table = read_verl(path, problem_id="index")
    assert table["problem_id"].tolist() == ["4", "9"]
    assert table["sample_id"].tolist() == [0, 0]


def test_one_input_with_several_truths(tmp_path):
    path = written(tmp_path, [row(gts=["5"]), row(gts=["6"]), row(gts=["6"])])
    with pytest.raises(ValueError, match=r"one 'input' with 2 values of 'gts'.*problem_id="):
        read_verl(path)
    table = read_verl(path, problem_id=["input", "gts"])
    assert table["sample_id"].tolist() == [0, 0, 1]
    assert table["problem_id"].nunique() == 2


def test_truncated_file(tmp_path):
    data = (FIXTURES / "validation" / "0.jsonl").read_bytes()
    path = tmp_path / "0.jsonl"
    path.write_bytes(data[:-20])
    with pytest.raises(ValueError, match=r"0\.jsonl, line 12: not valid JSON.*cut off"):
        read_verl(path)


@pytest.mark.parametrize("field", ["input", "output", "score"])
def test_missing_field(tmp_path, field):
    broken = row()
    del broken[field]
    with pytest.raises(ValueError, match=f"record 2: no field '{field}'; this isn't a dump"):
        read_verl(written(tmp_path, [row(), broken]))


def test_missing_grade(tmp_path):
    written(tmp_path, [row(acc=1.0), row(acc=None)])
    written(tmp_path, [row(acc=1.0)], "2.jsonl")
    with pytest.raises(ValueError, match=r"3\.jsonl: column 'acc' is missing in 1 of 2 rollouts"):
        read_verl(tmp_path)
    written(tmp_path, [row(acc=1.0), row(acc="maybe")])
    with pytest.raises(ValueError, match=r"3\.jsonl: column 'acc', row 1: 'maybe' is no grade"):
        read_verl(tmp_path)


def test_sources_of_which_only_some_have_acc(tmp_path):
    """verl-project/verl PR #7588: rows of code have a score and no acc."""
    rows = [row(acc=True), row(acc=False, score=-1.0)]
    rows += [row(input="code", acc=None, score=score) for score in (1.0, 0.0)]
    path = written(tmp_path, rows)
    with pytest.raises(ValueError, match=r"'acc' is missing in 2 of 4 .*row 2; .*another grade"):
        read_verl(path)
    assert read_verl(path, metric="score")["correct"].tolist() == [True, False, True, False]
    dropped = read_verl(path, unscored="drop")
    assert dropped["correct"].tolist() == [True, False]
    said = "2 rollouts without a grade left out, among them all of 1 problem"
    assert dropped.attrs["left_out"] == said
    wrong = read_verl(path, unscored="incorrect")
    assert wrong["correct"].tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="unscored='maybe' is none of 'refuse', 'drop', 'incorr"):
        read_verl(path, unscored="maybe")


def test_format_bonus_and_penalties_stay_visible(tmp_path):
    scores = [1.0, 0.1, -1.0, 0.7]
    table = read_verl(written(tmp_path, [row(score=score) for score in scores]))
    assert table["correct"].tolist() == [True, False, False, False]
    assert table["score"].tolist() == scores


def test_without_a_grade_is_wrong_at_any_threshold(tmp_path):
    path = written(tmp_path, [row(score=0.0), row(score=None), row(score=-2.0)])
    table = read_verl(path, unscored="incorrect", threshold=-1.0)
    assert table["correct"].tolist() == [True, False, False]


def test_a_problem_is_left_out_only_if_no_file_has_it(tmp_path):
    rows = [row(score=None), row(input="other", gts="6", score=None)]
    written(tmp_path, rows, "1.jsonl")
    with pytest.raises(ValueError, match="no rollout has a grade"):
        read_verl(tmp_path, unscored="drop")
    written(tmp_path, [row()], "2.jsonl")
    table = read_verl(tmp_path, unscored="drop")
    assert table["correct"].tolist() == [True]
    said = "2 rollouts without a grade left out, among them all of 1 problem"
    assert table.attrs["left_out"] == said


def test_the_files_own_problem_id(tmp_path):
    path = written(tmp_path, [row(problem_id="math/7"), row(problem_id="math/7")])
    table = read_verl(path)
    assert table["verl_problem_id"].tolist() == ["math/7"] * 2
    assert set(table["problem_id"]) == {stable_id("2+3?")}
    assert set(read_verl(path, problem_id="problem_id")["problem_id"]) == {"math/7"}


def test_field_that_only_some_files_have(tmp_path):
    written(tmp_path, [row(acc=1.0)])
    written(tmp_path, [row(score=0.5)], "4.jsonl")
    with pytest.raises(ValueError, match=r"4\.jsonl: no field 'acc'"):
        read_verl(tmp_path)
    assert read_verl(tmp_path, metric="score")["correct"].tolist() == [True, False]


@pytest.mark.parametrize("option", ["metric", "problem_id", "answer"])
def test_unknown_field_is_named(tmp_path, option):
    with pytest.raises(ValueError, match=r"no field 'nope'.*\(found: input, output, gts"):
        read_verl(written(tmp_path, [row()]), **{option: "nope"})


def test_empty_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no <step>\.jsonl in this folder"):
        read_verl(tmp_path)
    with pytest.raises(ValueError, match="holds no samples"):
        read_verl(written(tmp_path, []))


def test_foreign_file_in_the_folder(tmp_path):
    written(tmp_path, [row()])
    written(tmp_path, [row()], "summary.jsonl")
    with pytest.raises(ValueError, match=r"summary\.jsonl: verl names its dumps <step>"):
        read_verl(tmp_path)


def test_surrogates_and_nested_values_survive_conversion(tmp_path):
    rows = [row(output="half \ud83d", gts={"a": [1]}, extra=[1]), row(gts={"a": [1]}, extra="x")]
    target = tmp_path / "out.parquet"
    convert("verl", written(tmp_path, rows), target)
    table = read_rollouts(target)
    assert table["text"].tolist() == ["half \\ud83d", "5"]
    assert table["gts"].tolist() == ['{"a": [1]}'] * 2
    assert table["extra"].tolist() == ["[1]", "x"]
