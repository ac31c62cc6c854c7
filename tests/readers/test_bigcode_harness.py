import json
import shutil
from pathlib import Path

import pytest

from passk_lab.readers.bigcode_harness import read_bigcode_harness
from tests.helpers import mean_pass_at_k

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bigcode-harness"
PACK, MULTIPLE = FIXTURES / "humanevalpack", FIXTURES / "multiple"
TASK = "humanevalsynthesize-python"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def pair(number, passed=True, **fields):
    return [number, {"task_id": 0, "passed": passed, "completion_id": number, **fields}]


def written(folder, content, name="logs.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def changed(folder, name, change):
    shutil.copytree(PACK, folder, dirs_exist_ok=True)
    content = json.loads((folder / name).read_text())
    change(content)
    return written(folder, content, name)


@pytest.mark.parametrize(("path", "task"), [(PACK, TASK), (MULTIPLE, "multiple-py")])
def test_pass_at_1_is_what_the_harness_reported(path, task):
    table = read_bigcode_harness(path)
    assert mean_pass_at_k(table, 1) == pytest.approx(REPORTED[task]["pass@1"], abs=1e-12)
    assert set(table["task"]) == {task}


def test_logs_with_scores_and_generations():
    table = read_bigcode_harness(PACK)
    assert table.equals(read_bigcode_harness(PACK / "logs.json", task=TASK))
    assert set(table["run"]) == {"toy-model"}
    assert set(table["temperature"]) == {0.8}
    assert "seed" not in table  # which would be of training
    assert set(table["sampling_seed"]) == {7}
    first = table[table["problem_id"] == f"{TASK}/0"]
    assert first["sample_id"].tolist() == [0, 1, 2, 3]
    assert first["correct"].tolist() == [True, False, True, False]
    assert first["result"].tolist()[:2] == ["passed", "failed: "]
    assert first["text"].iloc[2] == "def add(a, b):\n    return sum([a, b])\n"


def test_logs_alone(tmp_path):
    # Samples stand in the order in which they were done.
    path = written(tmp_path, {"3": [pair(1, False), pair(0)]})
    table = read_bigcode_harness(path)
    assert table["problem_id"].tolist() == ["3", "3"]
    assert dict(zip(table["sample_id"], table["correct"], strict=True)) == {0: True, 1: False}
    assert {"text", "task", "result", "temperature"}.isdisjoint(table.columns)
    written(tmp_path, [["x", "y"]] * 4, "generations_mine.json")
    with pytest.raises(ValueError, match=r"generations_mine\.json: not the problems and samples"):
        read_bigcode_harness(path, task="mine")
    (tmp_path / "generations_mine.json").unlink()
    assert set(read_bigcode_harness(path, task="mine")["problem_id"]) == {"mine/3"}


def test_first_problem_of_a_part(tmp_path):
    changed(tmp_path, "evaluation_results.json", lambda c: c["config"].update(limit_start=10))
    assert set(read_bigcode_harness(tmp_path)["problem_id"]) == {f"{TASK}/10", f"{TASK}/11"}


def test_saved_generations(tmp_path):
    def save(content):
        content["config"].update(load_generations_path=None, save_generations_path="out/mine.json")

    changed(tmp_path, "evaluation_results.json", save)
    assert "text" not in read_bigcode_harness(tmp_path)
    (tmp_path / f"generations_{TASK}.json").rename(tmp_path / f"mine_{TASK}.json")
    assert read_bigcode_harness(tmp_path)["text"].tolist() == (
        read_bigcode_harness(PACK)["text"].tolist()
    )


def test_logs_of_another_run(tmp_path):
    changed(tmp_path, "evaluation_results.json", lambda c: c[TASK].update({"pass@1": 0.5}))
    with pytest.raises(ValueError, match=r"pass@1 is 0\.375, but 0\.5 for .* writes over the last"):
        read_bigcode_harness(tmp_path)


def test_scores_of_several_tasks(tmp_path):
    changed(tmp_path, "evaluation_results.json", lambda c: c.update(other={"pass@1": 0.375}))
    with pytest.raises(ValueError, match="several tasks; choose task= one of 'humanevalsynthesize"):
        read_bigcode_harness(tmp_path)
    assert set(read_bigcode_harness(tmp_path, task="other")["problem_id"]) == {"other/0", "other/1"}


def test_generations_of_another_run(tmp_path):
    changed(tmp_path, f"generations_{TASK}.json", lambda c: c[0].pop())
    with pytest.raises(ValueError, match=r"generations_.*not the problems and samples that logs"):
        read_bigcode_harness(tmp_path)
    # More problems than were graded are those that --limit left out.
    changed(tmp_path, f"generations_{TASK}.json", lambda c: c.append(["x"] * 4))
    assert len(read_bigcode_harness(tmp_path)) == 8


def test_multipl_e():
    table = read_bigcode_harness(MULTIPLE)
    first = table[table["problem_id"] == "multiple-py/Toy_0_add"]
    assert first["correct"].tolist() == [True, False, True, False]
    assert first["result"].tolist() == ["OK", "Exception", "OK", "SyntaxError"]
    assert first["text"].iloc[0] == "def add(a, b):\n    return a + b\n"
    one = read_bigcode_harness(MULTIPLE / "Toy_0_add.results.json")
    assert one["text"].tolist() == first["text"].tolist()
    with pytest.raises(ValueError, match=r"no samples of task 'x' \(tasks: multiple-py\)"):
        read_bigcode_harness(MULTIPLE, task="x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([["x"]], "generations or references, without grades; only HumanEvalPack"),
        ({"config": {}, "humaneval": {}}, "scores of whole tasks, without grades of samples"),
        ({}, "no object of problems"),
        ({"a": [pair(0)]}, "problem 'a': no numbered list"),
        ({"0": []}, "problem '0': no numbered list"),
        ({"0": [pair(0), [1, {"passed": "yes"}]]}, "'0', entry 1: .* is no pair of a number and"),
        ({"0": [pair(0), pair(0)]}, "entry 1: 0 is no new sample's number"),
        ({"0": [pair("a")]}, "entry 0: 'a' is no new sample's number"),
    ],
)
def test_other_files(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"logs\.json.*{message}"):
        read_bigcode_harness(written(tmp_path, content))


def test_broken_company(tmp_path):
    path = changed(tmp_path, "evaluation_results.json", lambda c: c.pop("config"))
    with pytest.raises(ValueError, match=r"evaluation_results\.json: no object 'config'"):
        read_bigcode_harness(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"evaluation_results\.json, line 1: not valid JSON"):
        read_bigcode_harness(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no field 'name'; this isn't results of MultiPL-E"),
        ({"name": "a", "language": "py", "results": []}, "no list of results"),
        ({"name": "a", "language": "py", "results": [{"status": "OK"}]}, "0: no field 'exit_code'"),
    ],
)
def test_broken_multipl_e(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"a\.results\.json.*{message}"):
        read_bigcode_harness(written(tmp_path, content, "a.results.json"))


def test_no_grades(tmp_path):
    with pytest.raises(ValueError, match=r"no grades of samples here; only HumanEvalPack"):
        read_bigcode_harness(tmp_path)
