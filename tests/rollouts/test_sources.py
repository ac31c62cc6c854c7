"""Which files are meant, what their runs are called, and how they are unpacked."""

import bz2
import gzip
import json
import lzma
import os
import threading

import pandas as pd
import pyarrow as pa
import pytest

from passk_lab.rollouts import Study, read_rollouts
from passk_lab.rollouts._sources import find_sources
from tests.helpers import refuses

ROWS = [{"problem_id": f"p{i % 3}", "correct": i % 2 == 0, "text": f"t{i}"} for i in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(path, content=LINES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def packed_zstd(content):
    sink = pa.BufferOutputStream()
    stream = pa.CompressedOutputStream(sink, "zstd")
    stream.write(content)
    stream.close()
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
     (".zst", packed_zstd)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv"])
def test_every_packing_of_every_text(kind, ending, pack, tmp_path):
    frame = pd.DataFrame(ROWS)
    content = {
        "jsonl": LINES,
        "ndjson": LINES,
        "json": json.dumps(ROWS).encode(),
        "csv": frame.to_csv(index=False).encode(),
        "tsv": frame.to_csv(index=False, sep="\t").encode(),
    }[kind]
    table = read_rollouts(write(tmp_path / f"mine.{kind}{ending}", pack(content)))
    assert table["correct"].tolist() == [row["correct"] for row in ROWS]
    assert table["text"].tolist() == [row["text"] for row in ROWS]
    assert table["run"].unique().tolist() == ["mine"]
    assert table["sample_id"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, packed_zstd])
def test_cut_off_packed_files(pack, tmp_path):
    whole = pack(LINES * 500)
    for cut in (whole[:-5], whole[: len(whole) // 2]):
        path = write(tmp_path / "cut.jsonl.packed.jsonl", cut)
        refuses("cut.*(unpacked|not valid JSON|can't be read)", read_rollouts, path)


def test_bombs_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("passk_lab.rollouts._sources.UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr("passk_lab.rollouts._sources.UNPACKED_RATIO", 100)
    for pack in (gzip.compress, packed_zstd):
        path = write(tmp_path / "bomb.jsonl", pack(LINES + b" " * (1 << 22)))
        refuses(
            "bomb.jsonl: unpacks to more than 1 MB, over 100 times its size", read_rollouts, path
        )


def test_pointers_and_other_encodings_are_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    for name in ("a.jsonl", "a.csv", "a.json"):
        refuses("git lfs pull", read_rollouts, write(tmp_path / name, pointer))
        refuses("is UTF-16", read_rollouts, write(tmp_path / name, LINES.decode().encode("utf-16")))
    refuses("git lfs pull", read_rollouts, write(tmp_path / "a.parquet", pointer))


def test_an_argument_is_a_run(tmp_path):
    for seed in range(3):
        write(tmp_path / "base" / f"output-rs{seed}.jsonl")
        write(tmp_path / "tuned" / "deep" / f"rank{seed}.jsonl.gz", gzip.compress(LINES))
    write(tmp_path / "base" / "notes.json", b"{}")
    write(tmp_path / "base" / ".hidden.jsonl", b"x")
    for given in (
        [tmp_path / "base", tmp_path / "tuned"],
        [f"{tmp_path}/base/*.jsonl", f"{tmp_path}/tuned/**/*.gz"],
        [f"base={tmp_path}/base", f"tuned={tmp_path}/tuned"],
    ):
        counts = Study(given).counts()
        assert counts["run"].unique().tolist() == ["base", "tuned"]
        assert counts["n_samples"].tolist() == [6] * 6
        table = read_rollouts(given)
        assert table.groupby(["run", "problem_id"])["sample_id"].max().eq(5).all()
        assert Study(given).rows().equals(table)
    apart = [tmp_path / "base" / f"output-rs{seed}.jsonl" for seed in range(3)]
    assert Study(apart).counts()["run"].nunique() == 3
    assert any("--run NAME" in note for note in Study(apart).notes())
    assert Study(apart, run="m").counts()["n_samples"].tolist() == [6] * 3


def test_files_called_alike_are_told_apart_by_their_folders(tmp_path):
    paths = [write(tmp_path / run / "rollouts.jsonl") for run in ("base", "tuned")]
    runs = ["base/rollouts", "tuned/rollouts"]
    assert read_rollouts(paths)["run"].unique().tolist() == runs
    named = [f"{run}={path}" for run, path in zip("ab", paths, strict=True)]
    assert read_rollouts(named)["run"].unique().tolist() == ["a", "b"]


def test_a_name_goes_before_what_the_file_says(tmp_path):
    frame = pd.DataFrame(ROWS).assign(run="qwen")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    given = [f"base={tmp_path}/a.parquet", f"tuned={tmp_path}/b.jsonl"]
    for found in (read_rollouts(given), Study(given).counts(), Study(given).some(["p0"], ["text"])):
        assert found["run"].unique().tolist() == ["base", "tuned"]
    assert read_rollouts(tmp_path / "a.parquet")["run"].unique().tolist() == ["qwen"]
    frame.loc[0, "run"] = "llama"
    frame.to_parquet(tmp_path / "a.parquet")
    for read in (read_rollouts, lambda given: Study(given).counts()):
        refuses(r"holds several runs \(llama, qwen\), so it can't be called 'base'", read, given)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_placeholder_is_no_name(ending, tmp_path):
    frame = pd.DataFrame(ROWS).assign(run="default", sample_id=[0, 0, 0, 1, 1, 1])
    paths = [tmp_path / f"{name}.{ending}" for name in ("base", "tuned")]
    for path in paths:
        match ending:
            case "parquet":
                frame.to_parquet(path)
            case "jsonl":
                frame.to_json(path, orient="records", lines=True)
            case "csv":
                frame.to_csv(path, index=False)
    for found in (read_rollouts(paths), Study(paths).counts(), Study(paths).rows()):
        assert found["run"].unique().tolist() == ["base", "tuned"]


def test_nothing_counts_twice(tmp_path):
    path = write(tmp_path / "a.jsonl")
    refuses("a.jsonl: is given twice", find_sources, [path, path])
    refuses("a.jsonl: is given twice", find_sources, [path, tmp_path])
    (tmp_path / "b.jsonl").symlink_to(path)
    refuses("b.jsonl: is given twice", find_sources, [path, tmp_path / "b.jsonl"])


def test_nothing_found(tmp_path):
    missing = FileNotFoundError
    for given in ("none.jsonl", "none/*.jsonl", "base=none.jsonl"):
        refuses("none.*: no such file or folder", find_sources, [given], error=missing)
    write(tmp_path / "x" / "a.txt")
    refuses("no file in this folder ends in .parquet", find_sources, [tmp_path / "x"])
    refuses("unknown ending", read_rollouts, tmp_path / "x" / "a.txt")
    refuses("no rollouts file given", find_sources, [])


@pytest.mark.parametrize("content", [LINES, gzip.compress(LINES), json.dumps(ROWS).encode(),
                                     pd.DataFrame(ROWS).to_csv(index=False).encode()])  # fmt: skip
def test_pipes(content, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    assert read_rollouts(pipe)["text"].tolist() == [row["text"] for row in ROWS]
    writer.join()


def test_urls(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name in ("a", "b"):
        with files.open(f"/passk-lab/{name}.jsonl", "wb") as file:
            file.write(LINES)
    assert len(read_rollouts("memory://passk-lab/a.jsonl")) == 6
    found = Study(["memory://passk-lab/a.jsonl", "memory://passk-lab/b.jsonl"]).counts()
    assert found["run"].unique().tolist() == ["a", "b"]
    found = Study(["all=memory://passk-lab/*.jsonl"]).counts()
    assert found["n_samples"].tolist() == [4] * 3
    refuses("no such file", read_rollouts, "memory://passk-lab/c.jsonl", error=FileNotFoundError)
    refuses("can't be opened", read_rollouts, "nonsense://passk-lab/c.jsonl")
