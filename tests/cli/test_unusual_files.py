"""Files as people have them: report and convert read them alike, or refuse them in a sentence."""

import datetime
import decimal
import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passk_lab.cli import main
from passk_lab.rollouts import Study, read_rollouts

N = 96
FRAME = pd.DataFrame(
    {
        "run": np.repeat(["base", "tuned"], N // 2),
        "problem_id": [f"p{i % 12}" for i in range(N)],
        "correct": [(i * 7 % 5) < 2 for i in range(N)],
        "answer": [f"a{i % 5}" for i in range(N)],
        "text": [f"text {i}" for i in range(N)],
    }
)
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)
LINES = [json.dumps(row) for row in FRAME.to_dict("records")]
CSV = FRAME.to_csv(index=False)


def column(name, values, kind=None):
    return TABLE.set_column(TABLE.schema.names.index(name), name, pa.array(values, kind))


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


IDS = FRAME["problem_id"].tolist()
RIGHT = FRAME["correct"].tolist()
READ = {
    "string_view": parquet(column("text", FRAME["text"].tolist(), pa.string_view())),
    "large_string": parquet(column("problem_id", IDS, pa.large_string())),
    "binary_id": parquet(column("problem_id", [i.encode() for i in IDS], pa.binary())),
    "dictionary": parquet(TABLE.set_column(0, "run", TABLE["run"].dictionary_encode())),
    "time_id": parquet(column("problem_id", [datetime.datetime(2024, 1, 1 + int(i[1:]))
                                             for i in IDS])),
    "float_id": parquet(column("problem_id", [float(i[1:]) for i in IDS])),
    "decimal": parquet(column("correct", [decimal.Decimal(int(c)) for c in RIGHT])),
    "half": parquet(column("correct", np.array(RIGHT, np.float16))),
    "words": parquet(column("correct", ["pass" if c else "fail" for c in RIGHT])),
    "indexed": FRAME.set_index("problem_id", drop=False).rename_axis("i").pipe(
        lambda frame: parquet(pa.Table.from_pandas(frame))
    ),
    "json.json": json.dumps(FRAME.to_dict("records")).encode(),
    "array.jsonl": json.dumps(FRAME.to_dict("records")).encode(),
    "bom.jsonl": b"\xef\xbb\xbf" + "\n".join(LINES).encode(),
    "crlf.jsonl": "\r\n\r\n".join(LINES).encode(),
    "separators.jsonl": "\n".join(LINES).replace("text", "te\u2028xt\x85").replace(
        '"te\u2028xt\x85":', '"text":'
    ).encode(),
    "unpacked.jsonl.gz": "\n".join(LINES).encode(),
    "packed.jsonl": gzip.compress("\n".join(LINES).encode()),
    "semicolon.csv": CSV.replace(",", ";").encode(),
    "tabs.csv": CSV.replace(",", "\t").encode(),
    "bars.csv": CSV.replace(",", "|").encode(),
    "bom.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "crlf.csv": CSV.replace("\n", "\r\n").encode(),
    "cr.csv": CSV.replace("\n", "\r").encode(),
}  # fmt: skip
REFUSED = {
    "struct_id": (
        parquet(column("problem_id", [{"a": i} for i in IDS])),
        r"'problem_id', row 0: \{'a': 'p0'\} is neither text nor .*problem_id=problem_id.FIELD",
    ),
    "list_answer": (
        parquet(column("answer", [[a] for a in FRAME["answer"]])),
        "'answer' holds lists but the column for 'correct' doesn't",
    ),
    "list_id": (parquet(column("problem_id", [[i] for i in IDS])), "'problem_id' holds lists"),
    "bad_id": (
        parquet(column("problem_id", [b"\xff" + i.encode() for i in IDS], pa.binary())),
        "column 'problem_id': Invalid UTF8 payload; write it as text",
    ),
    "twice": (
        parquet(TABLE.append_column("correct", TABLE["correct"])),
        "column 'correct' occurs twice; rename one of them",
    ),
    "partial": (
        parquet(column("correct", [0.5] * N)),
        "'correct', row 0: 0.5 is neither true nor false; say what is correct: --threshold T",
    ),
    "null": (parquet(column("correct", [None, *RIGHT[1:]])), "row 0: value is missing"),
    "time_step": (
        parquet(TABLE.append_column("step", pa.array([datetime.datetime(2024, 1, 1)] * N))),
        r"'step', row 0: Timestamp\('2024-01-01 00:00:00'\) is not a number",
    ),
    "time_score": (
        parquet(TABLE.append_column("score", pa.array([datetime.timedelta(1)] * N))),
        r"'score', row 0: Timedelta\('1 days 00:00:00'\) is not a number",
    ),
    "struct_seed": (
        parquet(TABLE.append_column("seed", pa.array([{"a": 1}] * N))),
        r"'seed', row 0: \{'a': 1\} is not a number",
    ),
    "run.jsonl": (
        b'{"problem_id": 1, "run": {"name": "a"}, "correct": true}\n',
        r"'run', row 0: \{'name': 'a'\} is neither text nor .*--columns run=run.FIELD",
    ),
    "counted.jsonl": (
        b'{"problem_id": {"a": 1}, "n_samples": 4, "n_correct": 2}\n',
        r"'problem_id', row 0: \{'a': 1\} is neither text nor",
    ),
    "none_counted.csv": (
        b"problem_id,n_samples,n_correct\na,4,2\nb,0,0\n",
        "column 'n_samples', row 1: no samples; drop this row",
    ),
    "many_counted.csv": (
        b"problem_id,n_samples,n_correct\na,1000000000,2\n",
        "1,000,000,000 samples in all, of which 50,000,000 fit",
    ),
    "twice.csv": (b"problem_id,correct,correct\na,1,0\n", "column 'correct' occurs twice"),
    "ragged.csv": (b"problem_id,correct\na,1,x\nb,0\n", "needs the header's number of fields"),
    "split.json": (
        json.dumps(FRAME.iloc[:4].to_dict("split")).encode(),
        "is a mapping of index, columns, data; say where its records are",
    ),
    "large": (
        parquet(TABLE.append_column("sample_id", pa.array([2**63] * N, pa.uint64()))),
        "'sample_id', row 0: 9223372036854775808 is too large",
    ),
    "cut": (parquet(TABLE)[:-100], "not a readable parquet file"),
    "names": (
        parquet(TABLE.rename_columns(["run", "task_id", "passed", "answer", "text"])),
        r"columns: run, task_id, passed, answer, text\); .*problem_id=task_id,correct=passed",
    ),
    "names.csv": (
        CSV.replace("problem_id", "task_id", 1).encode(),
        r"columns: run, task_id, correct, answer, text\); .*--columns problem_id=task_id",
    ),
    "comma.csv": ((CSV + "base,p0,True,a,x,y\n").encode(), "Expected 5 fields in line 98, saw 6"),
    "commas.csv": (CSV.replace("text ", "text, ").encode(), "not a readable CSV file"),
    "parquet.csv": (parquet(TABLE), "is a Parquet file; let its name end in .parquet"),
    "utf16.csv": (CSV.encode("utf-16"), "is UTF-16; write it as UTF-8"),
    "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "cut.jsonl": ("\n".join(LINES)[:-5].encode(), "line 96: not valid JSON .* cut off"),
    "pretty.jsonl": (json.dumps(FRAME.to_dict("records")[0], indent=1).encode(), "One a line, or"),
    "scalar.jsonl": (b"5\n", "line 1: expected a JSON object, found 5"),
    "lists.jsonl": (b'[]\n["a", true]\n', "not valid JSON|no list of records|expected a JSON"),
    "empty.jsonl": (b"\n\n", "holds no rollouts"),
    "xlsx.xlsx": (b"PK", "unknown ending; tables end in .parquet, .jsonl"),
    "huge.jsonl": (
        ("\n".join(LINES) + '\n{"problem_id": 1' + "0" * 5000 + ', "correct": true}').encode(),
        "line 97: a value that can't be read",
    ),
    "big.jsonl": (
        (LINES[0][:-1] + ', "sample_id": 1' + "0" * 30 + "}").encode(),
        "'sample_id', row 0: 1000000000000000000000000000000 is too large",
    ),
}


def run(arguments, capsys):
    code = main([*map(str, arguments), "--quiet"])
    return code, capsys.readouterr().err


def written(folder, name, content):
    path = folder / (name if "." in name else f"{name}.parquet")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", READ)
def test_is_read(name, tmp_path, capsys):
    path = written(tmp_path, name, READ[name])
    assert run(["convert", "plain", path, tmp_path / "rollouts.parquet"], capsys) == (0, "")
    table = read_rollouts(tmp_path / "rollouts.parquet")
    study = Study(path)  # what a report reads
    assert study.counts().equals(Study(tmp_path / "rollouts.parquet").counts())
    assert study.rows().equals(read_rollouts(path))
    assert len(study.some(table["problem_id"].unique(), ["text"])) == N
    assert table["correct"].tolist() == RIGHT
    assert table["run"].tolist() == FRAME["run"].tolist()
    assert table["problem_id"].nunique() == 12
    assert table["answer"].tolist() == FRAME["answer"].tolist()
    assert table["text"].str.len().tolist() == read_rollouts(path)["text"].str.len().tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_alike(name, tmp_path, capsys):
    content, message = REFUSED[name]
    path = written(tmp_path, name, content)
    report = run(["report", path, "--out", tmp_path / "out", "--n-resamples", 20], capsys)
    convert = run(["convert", "plain", path, tmp_path / "rollouts.parquet"], capsys)
    assert report == convert
    assert report[0] == 2
    assert report[1].startswith(f"passk-lab: error: {path}")
    with pytest.raises(ValueError, match=message):
        read_rollouts(path)
    assert str(path.name) in report[1]
    assert "Traceback" not in report[1]
    assert not (tmp_path / "rollouts.parquet").exists()
