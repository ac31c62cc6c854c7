import json
import shutil
from pathlib import Path

import pytest

from passk_lab.readers import convert
from passk_lab.readers.bigcodebench import read_bigcodebench
from tests.helpers import mean_pass_at_k

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bigcodebench"
(SAMPLES,) = FIXTURES.glob("toy-model*.jsonl")
(RESULTS,) = FIXTURES.glob("*_eval_results.json")
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def sample(**fields):
    return {"task_id": "a", "solution": "x", "status": "pass", "details": {}, **fields}


def written(folder, content, name="s_eval_results.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_what_bigcodebench_reported(k):
    assert mean_pass_at_k(read_bigcodebench(RESULTS), k) == pytest.approx(
        REPORTED[f"pass@{k}"], abs=1e-12
    )


def test_rows_and_values():
    table = read_bigcodebench(RESULTS)
    first = table[table["problem_id"] == "BigCodeBench/0"]
    assert first["sample_id"].tolist() == [0, 1, 2, 3]
    assert first["correct"].tolist() == [True, False, True, False]
    assert first["status"].tolist() == ["pass", "fail", "pass", "fail"]
    assert first["text"].iloc[0].endswith("    pass\ndef task_func(a, b):\n    return a + b\n")
    assert set(table["run"]) == {"toy-model"}


def test_run_is_unknown_where_the_name_says_nothing(tmp_path):
    path = written(tmp_path, {"eval": {"a": [sample(status="timeout")]}})
    table = read_bigcodebench(path)
    assert table["correct"].tolist() == [False]
    assert set(table["run"]) == {"default"}
    assert set(convert("bigcodebench", path, tmp_path / "tuned.parquet")["run"]) == {"tuned"}


def test_samples_file_adds_its_fields(tmp_path):
    shutil.copy(RESULTS, tmp_path)
    rows = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    samples = tmp_path / SAMPLES.name
    samples.write_text("".join(json.dumps({**r, "n": i}) + "\n" for i, r in enumerate(rows)))
    assert read_bigcodebench.source_files(samples) == [tmp_path / RESULTS.name]
    table = read_bigcodebench(samples)
    assert table["n"].tolist() == list(range(8))
    plain = read_bigcodebench(RESULTS)
    assert table[plain.columns].equals(plain)
    samples.write_text("".join(json.dumps(r) + "\n" for r in [rows[1], rows[0], *rows[2:]]))
    with pytest.raises(ValueError, match=r"is not the grading of toy-model.*\.jsonl"):
        read_bigcodebench(samples)


def test_ungraded_samples(tmp_path):
    shutil.copy(SAMPLES, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run bigcodebench\.evaluate --samples=toy-model"):
        read_bigcodebench(tmp_path / SAMPLES.name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no object 'eval'; this isn't a results file of BigCodeBench"),
        ({"eval": {}}, "holds no samples"),
        ({"eval": {"a": [sample()], "b": []}}, "b: no samples of this task"),
        ({"eval": {"a": {"base": [["success"]]}}}, "a: expected a list of samples with solution"),
        ({"eval": {"a": [sample(), 3]}}, "a, sample 1: no field 'solution'"),
        ({"eval": {"a": [{"solution": "x", "base_status": "pass"}]}}, "no field 'status'"),
        ({"eval": {"a": [sample(status="OK")]}}, "sample 0: status is 'OK', none of 'pass'"),
        ({"eval": {"a": [sample(status=None)]}}, "status is None, none of 'pass'"),
        ({"eval": {"a": [sample(solution=None)]}}, "'solution' is None, not text"),
    ],
)
def test_other_files(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"s_eval_results\.json: .*{message}"):
        read_bigcodebench(written(tmp_path, content))
