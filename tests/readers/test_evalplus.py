import json
import shutil
from pathlib import Path

import pytest

from passk_lab.readers.evalplus import read_evalplus

FIXTURES = Path(__file__).parents[1] / "fixtures" / "evalplus"
RESULTS = FIXTURES / "samples_eval_results.json"
EARLY, EARLY_REPORTED = FIXTURES / "early_eval_results.json", FIXTURES / "early_reported.json"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def sample(**fields):
    return {"solution": "x", "base_status": "pass", "plus_status": "pass", **fields}


def written(folder, content, name="s_eval_results.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "tests"), [("samples", "plus"), ("samples", "base"), ("base_only", "base")]
)
def test_pass_at_1_is_what_evalplus_reported(name, tests):
    table = read_evalplus(FIXTURES / f"{name}_eval_results.json", tests=tests)
    mean = table.groupby("problem_id")["correct"].mean().mean()
    # EvalPlus prints three digits.
    assert round(mean, 3) == REPORTED[name][tests]["pass@1"]


def test_rows_and_values():
    table = read_evalplus(RESULTS)
    assert table.groupby("problem_id").size().to_dict() == {"Toy/0": 4, "Toy/1": 5, "Toy/2": 3}
    first = table[table["problem_id"] == "Toy/0"]
    assert first["sample_id"].tolist() == [0, 1, 2, 3]
    assert first["correct"].tolist() == [True, False, False, True]
    assert first["base_status"].tolist() == ["pass", "pass", "fail", "pass"]
    assert first["text"].iloc[1] == "def add(a, b):\n    return abs(a) + abs(b)\n"
    assert "answer" not in table.columns


def test_default_tests_are_said():
    assert set(read_evalplus(RESULTS)["tests"]) == {"plus"}
    assert set(read_evalplus(FIXTURES / "base_only_eval_results.json")["tests"]) == {"base"}


def test_plus_tests_need_both(tmp_path):
    # EvalPlus counts a sample on "plus" only if it passes the base tests too.
    path = written(tmp_path, {"eval": {"a": [sample(base_status="timeout"), sample()]}})
    assert read_evalplus(path)["correct"].tolist() == [False, True]


def test_no_plus_tests():
    with pytest.raises(ValueError, match=r"Toy/0: no result of the plus tests.*tests='base'"):
        read_evalplus(FIXTURES / "base_only_eval_results.json", tests="plus")


def test_plus_tests_of_some_samples_only(tmp_path):
    path = written(tmp_path, {"eval": {"a": [sample()], "b": [sample(plus_status=None)]}})
    with pytest.raises(ValueError, match="b: no result of the plus tests"):
        read_evalplus(path)


def test_unknown_tests():
    with pytest.raises(ValueError, match="is none of None, 'plus', 'base'"):
        read_evalplus(RESULTS, tests="extra")


def test_samples_file_adds_its_fields(tmp_path):
    shutil.copy(RESULTS, tmp_path)
    rows = [json.loads(line) for line in (FIXTURES / "samples.jsonl").read_text().splitlines()]
    # The order of tasks in the file doesn't matter, that of a task's samples does.
    rows = [{**r, "n_tokens": i, "text": "raw"} for i, r in enumerate(rows)]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(r) + "\n" for r in rows[4:] + rows[:4]))
    assert read_evalplus.source_files(samples) == [tmp_path / RESULTS.name]
    table = read_evalplus(samples)
    assert table["n_tokens"].tolist() == list(range(12))
    assert table["text_sample"].tolist() == ["raw"] * 12
    plain = read_evalplus(RESULTS)
    assert table[plain.columns].equals(plain)


def test_results_of_other_samples(tmp_path):
    shutil.copy(RESULTS, tmp_path)
    lines = (FIXTURES / "samples.jsonl").read_text().splitlines(keepends=True)
    samples = tmp_path / "samples.jsonl"
    moved = lines[0].replace("Toy/0", "Toy/2")
    for changed in (lines[1:], [lines[1], lines[0], *lines[2:]], [moved, *lines[1:]], ["{}\n"]):
        samples.write_text("".join(changed))
        with pytest.raises(ValueError, match=r"is not the grading of samples\.jsonl"):
            read_evalplus(samples)


def test_samples_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no eval_results\.json; run evalplus\.evaluate"):
        read_evalplus(tmp_path)
    shutil.copy(RESULTS, tmp_path / "eval_results.json")
    assert read_evalplus(tmp_path).equals(read_evalplus(RESULTS))


def test_ungraded_samples(tmp_path):
    shutil.copy(FIXTURES / "samples.jsonl", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run evalplus\.evaluate --samples=samples"):
        read_evalplus(tmp_path / "samples.jsonl")


def test_truncated(tmp_path):
    path = tmp_path / "s_eval_results.json"
    path.write_bytes(RESULTS.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"s_eval_results\.json, line 1: not valid JSON.*cut off"):
        read_evalplus(path)


@pytest.mark.parametrize("content", [[], {}, {"eval": None}, {"results": {}}])
def test_other_format(tmp_path, content):
    with pytest.raises(ValueError, match="no object 'eval'; this isn't a results file"):
        read_evalplus(written(tmp_path, content))


@pytest.mark.parametrize("field", ["solution", "base_status", "plus_status"])
def test_missing_field(tmp_path, field):
    broken = sample()
    del broken[field]
    path = written(tmp_path, {"eval": {"Toy/0": [sample(), broken]}})
    with pytest.raises(ValueError, match=f"Toy/0, sample 1: no field '{field}'"):
        read_evalplus(path)


@pytest.mark.parametrize(("tests", "name"), [("base", "Base"), ("plus", "Base + Extra")])
def test_early_layout_gives_what_evalplus_reported(tests, name):
    table = read_evalplus(EARLY, tests=tests)
    mean = table.groupby("problem_id")["correct"].mean().mean()
    assert mean == pytest.approx(json.loads(EARLY_REPORTED.read_text())[name]["pass@1"], abs=1e-12)
    same = read_evalplus(RESULTS, tests=tests)
    assert table[["problem_id", "sample_id", "correct"]].equals(
        same[["problem_id", "sample_id", "correct"]]
    )
    assert "text" not in table.columns


def test_early_layout_beside_its_samples(tmp_path):
    shutil.copy(FIXTURES / "samples.jsonl", tmp_path)
    shutil.copy(EARLY, tmp_path / RESULTS.name)
    table = read_evalplus(tmp_path / "samples.jsonl")
    assert table["text"].tolist() == read_evalplus(RESULTS)["text"].tolist()
    assert "solution" not in table.columns


def early(**fields):
    base, plus = [["success", [1]], ["timed out", []]], [["failed", [0]], ["timed out", []]]
    return {"eval": {"T/0": {"nfiles": 2, "base": base, "plus": plus, **fields}}}


def test_early_layout_base_only(tmp_path):
    path = written(tmp_path, early(plus=[]))
    assert read_evalplus(path)["tests"].tolist() == ["base"] * 2
    assert read_evalplus(path)["correct"].tolist() == [True, False]
    older = written(tmp_path, early(files=["0.py", "1.py"], nfiles=None))  # version 0.1.0
    assert read_evalplus(older)["correct"].tolist() == [False, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": None}, "'base' is None, not a list of"),
        ({"base": []}, r"'base' is \[\], not a list of"),
        ({"plus": [["success"]]}, "2 samples, but 2 base and 1 plus results"),
        ({"nfiles": 3}, "3 samples, but 2 base and 2 plus"),
        ({"base": [["success"], []]}, "not a list of"),
        ({"base": [["success"], ["OK"]]}, "sample 1: base_status is 'OK', none of 'pass'"),
        ({"plus": [["success"], [None]]}, "no result of the plus tests"),
    ],
)
def test_broken_early_layout(tmp_path, fields, message):
    with pytest.raises(ValueError, match=f"T/0.*{message}"):
        read_evalplus(written(tmp_path, early(**fields)))


@pytest.mark.parametrize("status", ["OK", None, 1, ["pass"]])
def test_unknown_status(tmp_path, status):
    path = written(tmp_path, {"eval": {"a": [sample(), sample(base_status=status)]}})
    with pytest.raises(ValueError, match=r"a, sample 1: base_status is .*none of 'pass', 'fail'"):
        read_evalplus(path)


def test_no_samples(tmp_path):
    with pytest.raises(ValueError, match="holds no samples"):
        read_evalplus(written(tmp_path, {"eval": {}}))
    with pytest.raises(ValueError, match="b: no samples of this task"):
        read_evalplus(written(tmp_path, {"eval": {"a": [sample()], "b": []}}))
