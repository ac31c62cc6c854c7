import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passk_lab.rollouts import files
from passk_lab.rollouts import table as rt
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_metadata, read_rollouts
from passk_lab.rollouts.files import write_rollouts as write
from passk_lab.rollouts.table import validate_rollouts


def table(**columns):
    return pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [True, False, True], **columns})


def test_import_is_light():
    heavy = "{'torch', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", f"import sys, passk_lab; print({heavy})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "set()"


def test_every_public_name_resolves():
    import passk_lab

    for name in passk_lab.__all__:
        assert callable(getattr(passk_lab, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = passk_lab.no_such_name


def test_defaults_are_added():
    out = validate_rollouts(table())
    assert out["run"].tolist() == ["default"] * 3
    assert out["split"].tolist() == ["id"] * 3
    assert out["sample_id"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("column", ["problem_id", "correct"])
def test_missing_column_is_named(column):
    with pytest.raises(ValueError, match=f"{column!r} is missing"):
        validate_rollouts(table().drop(columns=column))


@pytest.mark.parametrize(
    "values", [["true", "FALSE", " True "], [1, 0, 1], [1.0, 0.0, 1.0], ["1", "0", "yes"]]
)
def test_booleans_are_converted(values):
    assert validate_rollouts(table(correct=values))["correct"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("values", "row"),
    [(["true", "maybe", "false"], 1), ([1, 0, 2], 2), ([0.5, 0, 1], 0), ([True, False, None], 2)],
)
def test_other_values_of_correct_are_refused(values, row):
    with pytest.raises(ValueError, match=f"'correct', row {row}"):
        validate_rollouts(table(correct=pd.Series(values, dtype=object)))


def test_nan_in_correct_is_refused():
    with pytest.raises(ValueError, match="'correct', row 1: value is missing"):
        validate_rollouts(table(correct=[1.0, np.nan, 0.0]))


def test_missing_problem_is_refused():
    with pytest.raises(ValueError, match="'problem_id', row 1"):
        validate_rollouts(table(problem_id=["a", None, "b"]))


def test_duplicates_are_refused():
    with pytest.raises(ValueError, match=r"row 1 repeats .*problem_id='a', sample_id=0"):
        validate_rollouts(table(sample_id=[0, 0, 0]))


def test_step_and_seed_tell_rollouts_apart():
    assert len(validate_rollouts(table(sample_id=[0, 0, 0], step=[0, 1, 0]))) == 3
    assert len(validate_rollouts(table(sample_id=[0, 0, 0], seed=[0, 1, 0]))) == 3


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("logprob", [-1.0, 0.5, -2.0], "'logprob', row 1"),
        ("n_tokens", [1, 2, -3], "'n_tokens', row 2"),
        ("sample_id", [0, 1.5, 0], "'sample_id', row 1"),
        ("sample_id", [0, None, 0], "'sample_id', row 1"),
        ("sample_id", [0, 1e308, 0], "'sample_id', row 1: 1e[+]308 is too large"),
        ("seed", [None, 0.0, 2.0**53 + 2], "'seed', row 2: .* is too large"),
        ("n_tokens", [1, float("inf"), 2], "'n_tokens', row 1: inf is too large"),
        ("step", np.array([0, 1, 2**63], np.uint64), "'step', row 2: .* is too large"),
        ("score", ["1", "x", "2"], "'score', row 1"),
        ("temperature", [-1.0, 1, 1], "'temperature', row 0"),
    ],
)
def test_bad_numbers_are_refused(column, values, message):
    with pytest.raises(ValueError, match=message):
        validate_rollouts(table(**{column: values}))


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.gz"])
def test_round_trip(tmp_path, ending):
    text = ["<script>alert(1)</script>", "NUL \x00 inside", "x" * 1_000_000]
    frame = table(text=text, answer=["x", None, "y"], score=[0.5, np.nan, 1.0], extra=[1, 2, 3])
    write(frame, tmp_path / f"r.{ending}")
    back = read_rollouts(tmp_path / f"r.{ending}")
    assert back["text"].tolist() == text
    assert back["answer"].isna().tolist() == [False, True, False]
    assert back["score"].isna().tolist() == [False, True, False]
    assert back["extra"].tolist() == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [tmp_path / f"r.{ending}"]


def test_same_rollouts_same_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write(table(), tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_lone_surrogates_survive(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"problem_id": "a", "correct": true, "text": "half \\ud83d emoji"}\n')
    write(read_rollouts(path), tmp_path / "r.parquet")
    assert read_rollouts(tmp_path / "r.parquet")["text"].iloc[0] == "half \\ud83d emoji"


def test_metadata(tmp_path):
    write(table(), tmp_path / "r.parquet", metadata={"seed": 3, "command": "make"})
    note = read_metadata(tmp_path / "r.parquet")
    assert note["seed"] == 3
    assert note["format_version"] == rt.FORMAT_VERSION
    pq.write_table(pa.table({"problem_id": ["a"]}), tmp_path / "foreign.parquet")
    assert read_metadata(tmp_path / "foreign.parquet") == {}
    with pytest.raises(ValueError, match="plain JSON"):
        write(table(), tmp_path / "r2.parquet", metadata={"x": object()})


def test_broken_json_names_its_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"problem_id": "a", "correct": true}\n\n{"problem_id": "b", "corr')
    with pytest.raises(ValueError, match="line 3: not valid JSON"):
        read_rollouts(path)
    path.write_text('{"problem_id": "a", "correct": true}\n[1]\n')
    with pytest.raises(ValueError, match="line 2: expected a JSON object"):
        read_rollouts(path)
    path.write_bytes(b'{"problem_id": "\xff", "correct": true}\n')
    with pytest.raises(ValueError, match="line 1: not UTF-8"):
        read_rollouts(path)


def test_truncated_files_are_refused(tmp_path):
    write(table(), tmp_path / "r.parquet")
    data = (tmp_path / "r.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    for call in (read_rollouts, counts, read_metadata):
        with pytest.raises(ValueError, match="truncated"):
            call(tmp_path / "cut.parquet")
    packed = gzip.compress(b'{"problem_id": "a", "correct": true}\n' * 100)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    with pytest.raises(ValueError, match=r"broken gzip"):
        read_rollouts(tmp_path / "cut.jsonl.gz")


def test_unknown_ending_and_missing_file(tmp_path):
    (tmp_path / "r.xlsx").touch()
    with pytest.raises(ValueError, match="unknown ending"):
        read_rollouts(tmp_path / "r.xlsx")
    with pytest.raises(ValueError, match="unknown ending"):
        write(table(), tmp_path / "r.xlsx")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_rollouts(tmp_path / "none.parquet")


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.parquet"
    write(table(), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(files.pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write(table(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_several_files_take_their_names_as_runs(tmp_path):
    write_plain(tmp_path / "base.jsonl")
    write_plain(tmp_path / "sdsd.jsonl")
    both = read_rollouts([tmp_path / "base.jsonl", tmp_path / "sdsd.jsonl"])
    assert both["run"].unique().tolist() == ["base", "sdsd"]
    with pytest.raises(ValueError, match="repeats an earlier rollout"):
        read_rollouts([tmp_path / "base.jsonl", tmp_path / "base.jsonl"])


def write_plain(path):
    lines = [{"problem_id": p, "correct": c} for p, c in (("a", True), ("b", False))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_column_projection(tmp_path):
    write(table(text=["x", "y", "z"]), tmp_path / "r.parquet")
    assert "text" not in read_rollouts(tmp_path / "r.parquet", columns=["answer"])
    write(table(text=["x", "y", "z"]), tmp_path / "r.jsonl")
    assert "text" not in read_rollouts(tmp_path / "r.jsonl", columns=["answer"])


def test_csv(tmp_path):
    table(answer=["1", "", "007"]).to_csv(tmp_path / "r.csv", index=False)
    out = read_rollouts(tmp_path / "r.csv")
    assert out["correct"].tolist() == [True, False, True]
    assert out["answer"].iloc[2] == "007"
