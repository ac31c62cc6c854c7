import json
import shutil
from pathlib import Path

import pytest

from passk_lab.readers.livecodebench import read_livecodebench
from tests.helpers import mean_pass_at_k

FIXTURES = Path(__file__).parents[1] / "fixtures" / "livecodebench"
OUTPUT = FIXTURES / "output"
(CODE,) = OUTPUT.glob("*/*codegeneration*")
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def question(**fields):
    lists = {"output_list": ["a", "b"], "code_list": ["a", "b"], "graded_list": [True, False]}
    return {"question_id": "q", **lists, **fields}


def written(folder, *questions, name="Scenario.codegeneration_2_0.2_eval_all.json"):
    path = folder / name
    path.write_text(json.dumps(list(questions)))
    return path


@pytest.mark.parametrize(
    ("task", "scale"), [("codegeneration", 1), ("codeexecution", 100), ("testoutputprediction", 1)]
)
def test_pass_at_1_is_what_livecodebench_reported(task, scale):
    table = read_livecodebench(OUTPUT, task=task)
    assert scale * mean_pass_at_k(table, 1) == pytest.approx(REPORTED[task]["pass@1"], abs=1e-12)


def test_generated_code():
    table = read_livecodebench(CODE)
    assert set(table["run"]) == {"Toy"}
    assert set(table["task"]) == {"codegeneration"}
    assert set(table["temperature"]) == {0.8}
    first = table[table["problem_id"] == "codegeneration/toy_a"]
    assert first["sample_id"].tolist() == [0, 1, 2, 3]
    assert first["correct"].tolist() == [True, False, True, False]
    assert first["code"].iloc[0].endswith("print(a + b)")
    assert first["text"].iloc[0] == f"```python\n{first['code'].iloc[0]}\n```"
    assert set(first["prompt"]) == {"Add two numbers."}
    assert set(first["difficulty"]) == {"easy"}
    assert set(table["contest_date"]) == {"2024-05-01T00:00:00"}
    assert json.loads(first["metadata"].iloc[1])["error_message"].startswith("Wrong answer")
    assert "" in set(table["text"])  # an empty reply is a reply
    assert {"answer", "pass@1", "graded_list"}.isdisjoint(table.columns)


def test_problems_of_a_question_are_told_apart():
    outputs = read_livecodebench(OUTPUT, task="testoutputprediction")
    assert set(outputs["problem_id"]) == {f"testoutputprediction/7/{i}" for i in (0, 1)}
    calls = read_livecodebench(OUTPUT, task="codeexecution")
    assert set(calls["problem_id"]) == {f"codeexecution/sample_{i}" for i in (0, 1)}
    assert calls["answer"].tolist()[:2] == ["4", "5"]
    assert set(calls["livecodebench_problem_id"]) == {"70"}


def test_folder():
    assert len(read_livecodebench.source_files(OUTPUT)) == 3
    assert read_livecodebench(OUTPUT).groupby("task").size().to_dict() == {
        "codegeneration": 8,
        "codeexecution": 4,
        "testoutputprediction": 4,
    }
    # A right sample without an answer would have no mode.
    assert "answer" not in read_livecodebench(OUTPUT).columns
    assert read_livecodebench(OUTPUT)["pred"].isna().sum() == 8
    with pytest.raises(ValueError, match=r"no samples of task 'x' \(tasks: codeexecution, code"):
        read_livecodebench(OUTPUT, task="x")


def test_models_are_runs_and_reruns_are_merged_only_when_asked(tmp_path):
    for model, temperature in (("base", 0.2), ("tuned", 0.2), ("tuned", 0.8)):
        folder = tmp_path / "output" / model
        folder.mkdir(parents=True, exist_ok=True)
        written(folder, question(), name=f"Scenario.codegeneration_2_{temperature}_eval_all.json")
    with pytest.raises(ValueError, match="of model 'tuned' was run more than once"):
        read_livecodebench(tmp_path)
    table = read_livecodebench(tmp_path, merge_reruns=True)
    assert table.groupby("run")["sample_id"].apply(list).to_dict() == {
        "base": [0, 1],
        "tuned": [0, 1, 2, 3],
    }
    assert table["temperature"].tolist() == [0.2, 0.2, 0.2, 0.2, 0.8, 0.8]


def test_layout_of_self_repair(tmp_path):
    table = read_livecodebench(written(tmp_path, question(original_code_list=["c", "d"])))
    assert set(table["task"]) == {"selfrepair"}
    assert table["original_code"].tolist() == ["c", "d"]


def test_what_may_be_missing(tmp_path):
    path = tmp_path / "mine_codegeneration_output_eval_all.json"
    shutil.copy(written(tmp_path, question(metadata=[], output_list=[None, "b"])), path)
    table = read_livecodebench(path)
    assert set(table["run"]) == {"default"}
    assert {"metadata", "temperature"}.isdisjoint(table.columns)
    assert table["text"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pass@1": 1}, "no list of questions; this isn't"),
        ([], "no list of questions"),
        ([{"pass@1": 1.0, "detail": {}}, {}, []], "record 0: no field 'question_id'"),  # _eval.json
        ([{**question(), "graded_list": 3}], "record 0: 'graded_list' is 3, not a list of samples"),
        ([question(graded_list=[])], r"'graded_list' is \[\], not a list of samples"),
        ([question(graded_list=[True])], r"different length \(output_list 2, graded_list 1, code"),
        ([question(metadata=["{}"])], "different length .*metadata 1"),
        ([question(graded_list=[True, -2])], "'graded_list', sample 1: -2 is neither true nor fal"),
        ([question(output_list=["a", ["b"]])], r"'output_list', sample 1: \['b'\] is no text"),
        ([question(), question()], "record 1: 'codegeneration/q' is record 0, too"),
    ],
)
def test_broken_files(tmp_path, content, message):
    path = tmp_path / "x_eval_all.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"x_eval_all\.json.*{message}"):
        read_livecodebench(path)


def test_ungraded_samples(tmp_path):
    ungraded = question()
    del ungraded["graded_list"]
    with pytest.raises(ValueError, match="record 0: no field 'graded_list'"):
        read_livecodebench(written(tmp_path, ungraded))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no \*_eval_all\.json here; run lcb_runner"):
        read_livecodebench(tmp_path / "none")
