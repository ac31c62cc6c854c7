import json
import shutil
from pathlib import Path

import pytest

from passk_lab.readers.opencompass import read_opencompass
from tests.helpers import mean_pass_at_k

FIXTURES = Path(__file__).parents[1] / "fixtures" / "opencompass"
OUTPUT = FIXTURES / "output"
SUMS = OUTPUT / "results" / "toy-model" / "sums.json"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def written(folder, details, model="m", name="toy.json"):
    path = folder / "results" / model / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"accuracy": 50.0, "details": details}))
    return path


def predicted(folder, *texts, first=0, name="toy.json"):
    path = folder / "predictions" / "m" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = {first + i: {"origin_prompt": f"q{i}", "prediction": t} for i, t in enumerate(texts)}
    path.write_text(json.dumps(asked))


def example(name="toy_0", **fields):
    return {"example_abbr": name, **(fields or {"pred": ["4", "5"], "correct": [True, False]})}


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_what_opencompass_reported(k):
    found = mean_pass_at_k(read_opencompass(SUMS), k)
    assert 100 * found == pytest.approx(REPORTED["sums"][f"G-Pass@{k}_0.0"], abs=1e-12)


def test_accuracy_is_what_opencompass_reported():
    found = mean_pass_at_k(read_opencompass(OUTPUT, task="sums_once"), 1)
    assert 100 * found == pytest.approx(REPORTED["sums_once"]["accuracy"], abs=1e-12)


def test_rows_and_values():
    table = read_opencompass(SUMS)
    assert set(table["run"]) == {"toy-model"}
    assert set(table["task"]) == {"sums"}
    assert set(table["metric"]) == {"correct"}
    second = table[table["problem_id"] == "sums/sums_test_1"]
    assert second["sample_id"].tolist() == [0, 1, 2, 3]
    assert second["correct"].tolist() == [False, False, False, True]
    assert second["answer"].tolist() == ["8", "NULL", "10", "9"]
    # Repetitions of the dataset follow each other in the predictions.
    assert second["text"].tolist() == ["It is 8", "I can't say", "It is 10", "It is 9"]
    assert set(second["prompt"]) == {"4+5?"}
    assert "score" not in table.columns


def test_folder_and_task():
    results = sorted((OUTPUT / "results").rglob("*.json"))
    assert read_opencompass.source_files(OUTPUT) == results
    assert read_opencompass.source_files(OUTPUT / "results") == results
    assert len(read_opencompass(OUTPUT)) == 15
    with pytest.raises(ValueError, match=r"no samples of task 'x' \(tasks: sums, sums_once\)"):
        read_opencompass(OUTPUT, task="x")


def test_other_datasets_may_have_no_details(tmp_path):
    written(tmp_path, [example()])
    written(tmp_path, None, name="other.json")
    with pytest.raises(ValueError, match=r"other\.json: no 'details'.* or choose task="):
        read_opencompass(tmp_path)
    assert len(read_opencompass(tmp_path, task="toy")) == 2


def test_what_a_judge_said_is_no_result(tmp_path):
    written(tmp_path, [example()])
    judge = tmp_path / "results" / "m" / "toy_replica0.json"
    judge.write_text('{"0": {"prediction": "A"}}')
    assert read_opencompass(tmp_path)["correct"].tolist() == [True, False]


def test_predictions_in_parts(tmp_path):
    written(tmp_path, [example(), example("toy_1")])
    predicted(tmp_path, "a", "b", "c", name="toy_0.json")
    predicted(tmp_path, "d", name="toy_1.json")
    assert read_opencompass(tmp_path)["text"].tolist() == ["a", "c", "b", "d"]


def test_more_predictions_than_graded_samples(tmp_path):
    written(tmp_path, [example()])
    predicted(tmp_path, "a", "b", "c")
    with pytest.raises(ValueError, match="2 graded samples, but 3 predictions beside them: the ev"):
        read_opencompass(tmp_path)
    assert "text" not in read_opencompass(tmp_path, unscored="drop").columns


def test_layout_of_early_versions(tmp_path):
    details = {
        "type": "GEN",
        "0": {"prompt": "q", "origin_prediction": "It is 4", "predictions": "4", "correct": True},
        "1": {"prompt": [{"role": "HUMAN", "prompt": "q"}], "predictions": "5", "correct": False},
    }
    table = read_opencompass(written(tmp_path, details))
    assert table["problem_id"].tolist() == ["toy/0", "toy/1"]
    assert table["correct"].tolist() == [True, False]
    assert table["answer"].tolist() == ["4", "5"]
    assert table["text"].isna().tolist() == [False, True]
    assert table["prompt"].tolist() == ["q", '[{"role": "HUMAN", "prompt": "q"}]']


def test_layout_of_version_0_4_1(tmp_path):
    said = [{"pred": "4", "correct": True}, {"pred": "5", "correct": False}]
    table = read_opencompass(written(tmp_path, [example(**{"predictions": said, "G-Pass@1": 0.5})]))
    assert table["problem_id"].tolist() == ["toy/toy_0"] * 2
    assert table["correct"].tolist() == [True, False]
    assert table["answer"].tolist() == ["4", "5"]


def test_samples_with_lists_of_one_repetition(tmp_path):
    prompt = [{"role": "HUMAN", "prompt": "q"}, {"role": "BOT", "prompt": ""}]
    detail = {"prompt": prompt, "predictions": ["4"], "references": ["4"], "correct": [True]}
    table = read_opencompass(written(tmp_path, {"type": "GEN", "0": detail}))
    assert table["correct"].tolist() == [True]
    assert table["answer"].tolist() == ["4"]
    assert json.loads(table["prompt"].item()) == prompt


def test_answers_of_some_samples_only(tmp_path):
    # A right sample without an answer would have no mode.
    written(tmp_path, [example()])
    written(tmp_path, [example(correct=[True])], name="code.json")
    assert "answer" not in read_opencompass(tmp_path).columns
    assert read_opencompass(tmp_path, task="toy")["answer"].tolist() == ["4", "5"]
    assert read_opencompass(tmp_path, task="toy", answer="pred")["answer"].notna().all()


def test_task_ids_are_problems(tmp_path):
    graded = [{"task_id": "HumanEval/0", "is_correct": c, "passed": c} for c in (True, False)]
    table = read_opencompass(written(tmp_path, {str(i): g for i, g in enumerate(graded)}))
    assert table["problem_id"].tolist() == ["toy/HumanEval/0"] * 2
    assert table["sample_id"].tolist() == [0, 1]
    assert set(table["metric"]) == {"is_correct"}


def test_metric_and_threshold(tmp_path):
    path = written(tmp_path, [example(correct=[20.0, 80.0], f1=[0.2, 0.8])])
    with pytest.raises(ValueError, match=r"toy/toy_0: 'correct' is 20, beyond 1; .* threshold="):
        read_opencompass(path)
    assert read_opencompass(path, threshold=50)["correct"].tolist() == [False, True]
    assert read_opencompass(path, metric="f1", threshold=0.1)["correct"].tolist() == [True, True]
    with pytest.raises(ValueError, match="no sample has 'bleu'; choose metric= one of 'correct'"):
        read_opencompass(path, metric="bleu")
    with pytest.raises(
        ValueError, match="no sample has 'x'; choose answer= one of 'correct', 'f1'"
    ):
        read_opencompass(path, answer="x", threshold=50)


def test_samples_without_a_metric(tmp_path):
    path = written(tmp_path, [example(), example("toy_1", correct=[None, None], pred=["1", "2"])])
    with pytest.raises(ValueError, match=r"2 of 4 samples have no 'correct': toy_1, toy_1\. Leave"):
        read_opencompass(path)
    dropped = read_opencompass(path, unscored="drop")
    assert dropped.attrs["left_out"].endswith("left out, among them all of 1 problem")
    assert dropped["correct"].tolist() == [True, False]
    counted = read_opencompass(path, unscored="incorrect")
    assert counted["correct"].tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="unscored='skip' is none of 'refuse'"):
        read_opencompass(path, unscored="skip")


def test_reruns_are_merged_only_when_asked(tmp_path):
    for time in ("20260101", "20260102"):
        written(tmp_path / time, [example()])
    with pytest.raises(ValueError, match="task 'toy' of model 'm' was run more than once"):
        read_opencompass(tmp_path)
    assert read_opencompass(tmp_path, merge_reruns=True)["sample_id"].tolist() == [0, 1, 2, 3]


def test_run_is_unknown_outside_of_the_folders(tmp_path):
    shutil.copy(SUMS, tmp_path / "sums.json")
    table = read_opencompass(tmp_path / "sums.json")
    assert set(table["run"]) == {"default"}
    assert "text" not in table.columns


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (None, "no 'details' of samples; evaluate with --dump-eval-details"),
        ([], "no 'details' of samples"),
        ([3], "details '0': 3 is no object"),
        ({"type": "GEN", "0": {"predictions": "4"}}, "no sample has 'correct' or 'is_correct' or"),
        ([example(pred=["4", "5"], correct=[True])], "1 entries of 'correct' for 2 samples"),
        ([example(correct=["x"])], "toy_0: metric 'correct' is 'x', not a number"),
    ],
)
def test_broken_files(tmp_path, details, message):
    with pytest.raises(ValueError, match=rf"toy\.json.*{message}"):
        read_opencompass(written(tmp_path, details))


@pytest.mark.parametrize("content", ["[]", '{"0": "x"}', '{"a": {}}'])
def test_broken_predictions(tmp_path, content):
    path = written(tmp_path, [example()])
    predicted(tmp_path, "a", "b")
    (tmp_path / "predictions" / "m" / "toy.json").write_text(content)
    with pytest.raises(ValueError, match=r"predictions.*toy\.json: no object of predictions"):
        read_opencompass(path)
