import gzip

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
from tests.helpers import refuses


def table(**columns):
    return pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [True, False, True], **columns})


def objects(values):
    return pd.Series(values, dtype=object)


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


@pytest.mark.parametrize(
    "values", [["true", "FALSE", " True "], [1, 0, 1], [1.0, 0.0, 1.0], ["1", "0", "yes"]]
)
def test_booleans_are_converted(values):
    assert validate_rollouts(table(correct=values))["correct"].tolist() == [True, False, True]


def test_step_and_seed_tell_rollouts_apart():
    assert len(validate_rollouts(table(sample_id=[0, 0, 0], step=[0, 1, 0]))) == 3
    assert len(validate_rollouts(table(sample_id=[0, 0, 0], seed=[0, 1, 0]))) == 3


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("correct", objects(["true", "maybe", "false"]), "'correct', row 1"),
        ("correct", objects([1, 0, 2]), "'correct', row 2"),
        ("correct", objects([0.5, 0, 1]), "'correct', row 0"),
        ("correct", objects([True, False, None]), "'correct', row 2"),
        ("correct", [1.0, np.nan, 0.0], "'correct', row 1: value is missing"),
        ("problem_id", ["a", None, "b"], "'problem_id', row 1"),
        ("sample_id", [0, 0, 0], r"row 1 repeats .*problem_id='a', sample_id=0"),
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
def test_bad_values_are_refused(column, values, message):
    refuses(message, validate_rollouts, table(**{column: values}))


def test_missing_column_is_named():
    for column in ("problem_id", "correct"):
        refuses(f"{column!r} is missing", validate_rollouts, table().drop(columns=column))


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
    refuses("plain JSON", write, table(), tmp_path / "r2.parquet", metadata={"x": object()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"problem_id": "a", "correct": true}\n\n{"problem', "line 3: not valid JSON"),
        (b'{"problem_id": "a", "correct": true}\n[1]\n', "line 2: expected a JSON object"),
        (b'{"problem_id": "\xff", "correct": true}\n', "line 1: not UTF-8"),
    ],
)
def test_broken_json_names_its_line(content, message, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    refuses(message, read_rollouts, path)


def test_truncated_files_are_refused(tmp_path):
    write(table(), tmp_path / "r.parquet")
    data = (tmp_path / "r.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    for call in (read_rollouts, counts, read_metadata):
        refuses("truncated", call, tmp_path / "cut.parquet")
    packed = gzip.compress(b'{"problem_id": "a", "correct": true}\n' * 100)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    refuses("damaged and can't be unpacked", read_rollouts, tmp_path / "cut.jsonl.gz")


def test_unknown_ending_and_missing_file(tmp_path):
    (tmp_path / "r.xlsx").touch()
    refuses("unknown ending", read_rollouts, tmp_path / "r.xlsx")
    refuses("unknown ending", write, table(), tmp_path / "r.xlsx")
    refuses("no such file", read_rollouts, tmp_path / "none.parquet", error=FileNotFoundError)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.parquet"
    write(table(), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(files.pq, "write_table", fail)
    refuses("disk full", write, table(), path, error=OSError)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_several_files_take_their_names_as_runs(tmp_path):
    paths = [tmp_path / "base.jsonl", tmp_path / "sdsd.jsonl"]
    for path in paths:
        path.write_text(
            '{"problem_id": "a", "correct": true}\n{"problem_id": "b", "correct": false}'
        )
    assert read_rollouts(paths)["run"].unique().tolist() == ["base", "sdsd"]
    refuses("base.jsonl: is given twice", read_rollouts, paths[:1] * 2)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_column_projection(ending, tmp_path):
    write(table(text=["x", "y", "z"]), tmp_path / f"r.{ending}")
    assert "text" not in read_rollouts(tmp_path / f"r.{ending}", columns=["answer"])


def test_csv(tmp_path):
    table(answer=["1", "", "007"]).to_csv(tmp_path / "r.csv", index=False)
    out = read_rollouts(tmp_path / "r.csv")
    assert out["correct"].tolist() == [True, False, True]
    assert out["answer"].iloc[2] == "007"
