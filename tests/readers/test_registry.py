import hashlib
import inspect
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from passk_lab import readers
from passk_lab.readers import FORMATS, convert, read, reader, stable_id
from passk_lab.rollouts import Study
from passk_lab.rollouts._cells import grade
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.files import read_metadata, read_rollouts

FIXTURES = Path(__file__).parents[1] / "fixtures"
RESULTS = FIXTURES / "human-eval" / "samples.jsonl_results.jsonl"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_names():
    known = (
        "lm-eval inspect lighteval human-eval evalplus livecodebench bigcodebench bigcode-harness "
        "opencompass nemo-skills nemo-rl verifiers tau-bench verl trl plain"
    )
    assert list(FORMATS) == known.split()


def test_pages_list_the_formats():
    rows = [f"| `{name}` | {says} |\n" for name, says in FORMATS.items()]
    root = Path(__file__).parents[2]
    guide = (root / "docs" / "guide" / "rollouts.md").read_text(encoding="utf-8")
    assert "|---|---|\n" + "".join(rows) + "\n" in guide
    readme = (root / "README.md").read_text(encoding="utf-8")
    named = readme[readme.index("**Works with**") : readme.index("`passk-lab convert")]
    assert re.findall(r"`([\w-]+)`", named) == list(FORMATS)


def test_import_is_light():
    heavy = "{'pandas', 'pyarrow', 'passk_lab.readers.plain'} & set(sys.modules)"
    code = f"import sys, passk_lab.readers; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("name", FORMATS)
def test_every_name_is_a_documented_reader(name):
    function = reader(name)
    assert function.__name__ == f"read_{name.replace('-', '_')}"
    first, *others = inspect.signature(function).parameters.values()
    assert first.name == "path"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in others)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"{section}\n" in inspect.getdoc(function)
    described = re.findall(r"^(\w+(?:, \w+)*) : ", inspect.getdoc(function), re.MULTILINE)
    assert {p.name for p in others} <= set(", ".join(described).split(", "))
    assert FORMATS[name]
    assert "\n" not in FORMATS[name]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("humaneval", "did you mean 'human-eval'"),
        ("lm_eval", "did you mean 'lm-eval'"),
        ("EvalPlus", "did you mean 'evalplus'"),
        ("nonsense", "'nonsense' is unknown; the known ones: lm-eval, inspect,"),
    ],
)
def test_unknown_format(name, hint):
    for call in (lambda: read(name, "x"), lambda: convert(name, "x", "y"), lambda: reader(name)):
        with pytest.raises(ValueError, match=hint) as error:
            call()
        assert all(known in str(error.value) for known in FORMATS)


def test_unknown_option():
    with pytest.raises(
        ValueError, match=r"option 'treshold' is unknown.*did you mean 'threshold'\?"
    ):
        read("verl", FIXTURES / "verl" / "rollouts", treshold=0.5)
    with pytest.raises(ValueError, match="option 'scorer' is unknown; the known ones: tests"):
        convert("evalplus", FIXTURES, "x.parquet", scorer="x")


@pytest.mark.parametrize("name", FORMATS)
def test_no_such_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        read(name, tmp_path / "nowhere")


def test_how_answers_are_spelled_in_every_format(tmp_path):
    """verl-project/verl: ``pred`` is in a normal form after "Answer:", not in a box."""
    said = (("016", 1.0), ("$16$", 1.0), ("idk", 0.0), ("None", 0.0))
    rows = [{"input": "q", "output": "o", "score": s, "pred": pred} for pred, s in said]
    path = tmp_path / "1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read("verl", path)["answer"].tolist() == ["016", "$16$", "idk", "None"]
    found = read("verl", path, normalize_answers=True, placeholders="IDK")["answer"]
    assert found.dropna().tolist() == ["16", "16"]
    table = convert("verl", path, tmp_path / "r.parquet", placeholders=["idk"])
    assert table["answer"].dropna().tolist() == ["016", "$16$", "None"]
    options = read_metadata(tmp_path / "r.parquet")["converted_from"]["options"]
    assert options == {"placeholders": ["idk"]}


def test_run_and_split_for_all_rollouts():
    table = read("human-eval", RESULTS, run="base", split="ood")
    assert set(table["run"]) == {"base"}
    assert set(table["split"]) == {"ood"}


def test_conversion_notes_where_rollouts_come_from(tmp_path):
    target = tmp_path / "out.parquet"
    returned = convert("human-eval", RESULTS, target, run="base", answer="text")
    table = read_rollouts(target)
    assert table.equals(returned)
    assert table.equals(read("human-eval", RESULTS, run="base", answer="text"))
    assert read_metadata(target)["converted_from"] == {
        "format": "human-eval",
        "options": {"run": "base", "answer": "text"},
        "files": [
            {"name": RESULTS.name, "sha256": sha256(RESULTS), "bytes": RESULTS.stat().st_size}
        ],
    }


def test_the_files_noted_are_those_that_were_read(tmp_path):
    target = tmp_path / "out.parquet"
    convert("human-eval", FIXTURES / "human-eval" / "samples.jsonl", target)
    assert read_metadata(target)["converted_from"]["files"][0]["name"] == RESULTS.name
    convert("verl", FIXTURES / "verl" / "validation", target)
    files = read_metadata(target)["converted_from"]["files"]
    assert [f["name"] for f in files] == ["0.jsonl", "10.jsonl"]
    assert str(FIXTURES) not in json.dumps(read_metadata(target))


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package with readers of its own, one of them broken."""
    folder = tmp_path / "site"
    metadata = folder / "other_logs-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-logs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[passk_lab.readers]\n"
        "words = other_logs:read_words\n"
        "broken = other_logs.missing:read\n"
        "number = other_logs:NUMBER\n"
        "verl = other_logs:read_words\n"
    )
    (folder / "other_logs.py").write_text(
        "import pandas as pd\n"
        "NUMBER = 1\n"
        "def read_words(path, *, right='yes'):\n"
        "    words = path.read_text().split()\n"
        "    return pd.DataFrame({'problem_id': 'all', 'correct': [w == right for w in words]})\n"
    )
    monkeypatch.syspath_prepend(folder)
    with suppress(ImportError):  # finds entry points in importlib.metadata's place, once imported
        import importlib_metadata  # noqa: F401
    yield
    sys.modules.pop("other_logs", None)


def test_formats_of_other_packages(tmp_path, other_package):
    path, target = tmp_path / "log.txt", tmp_path / "out.parquet"
    path.write_text("yes no si")
    found = read("words", str(path))
    assert found["correct"].tolist() == [True, False, False]
    assert found["sample_id"].tolist() == [0, 1, 2]
    table = convert("words", path, target, right="si", run="mine")
    assert table["correct"].tolist() == [False, False, True]
    note = read_metadata(target)["converted_from"]
    assert [file["name"] for file in note["files"]] == ["log.txt"]
    assert reader("verl").__name__ == "read_verl"
    with pytest.raises(ValueError, match=r"'nonsense'.*plain, words, broken"):
        read("nonsense", path)


def test_broken_formats_of_other_packages(tmp_path, other_package):
    broken = "'broken' is 'other_logs.missing:read' of other-logs, which can't be loaded"
    with pytest.raises(ValueError, match=rf"{broken} \(ModuleNotFoundError: .*mend or remove"):
        read("broken", tmp_path)
    with pytest.raises(
        ValueError, match=r"'number' is 'other_logs:NUMBER' of other-logs, .*no fun"
    ):
        reader("number")


def test_source_is_not_overwritten(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"problem_id": "a", "correct": true}\n')
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is also a source"):
        convert("plain", path, path)
    assert path.read_bytes() == before


def test_columns_without_a_type_become_json(tmp_path):
    mixed = [[1], "x", {}, None]
    rows = [
        {"problem_id": "a", "correct": True, "mixed": m, "empty": {}, "cut": "\ud83d"}
        for m in mixed
    ]
    path, target = tmp_path / "mine.jsonl", tmp_path / "out.parquet"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    convert("plain", path, target)
    table = read_rollouts(target)
    assert table["mixed"].iloc[:3].tolist() == ["[1]", "x", "{}"]
    assert pd.isna(table["mixed"].iloc[3])
    assert table["empty"].tolist() == ["{}"] * 4
    assert table["cut"].tolist() == ["\\ud83d"] * 4


def test_grade():
    values = pd.Series(["True", " false", "0.5", 1, np.float32(0.25), True, np.bool_(False)])
    assert grade(values, 0.5, "x").tolist() == [True, False, True, True, False, True, False]
    lists = [([1], "no grade"), (np.array([1, 2]), "no grade")]
    for bad, message in ((None, "value is missing"), ("x", "'x' is no grade"), *lists):
        with pytest.raises(ValueError, match=rf"file: column 'g', row 1: .*{message}"):
            grade(pd.Series([1, bad], name="g", dtype=object), 1.0, "file")


def test_frame_of_keeps_values():
    frame = frame_of([{"a": 2**60 + 1, "b": "\ud83d"}, {"a": None, "b": "x"}, {"c": 1.5}])
    assert frame["a"].iloc[0] == 2**60 + 1
    assert frame["b"].iloc[0] == "\ud83d"
    assert frame.isna().sum().tolist() == [2, 1, 2]
    assert frame_of([{"a": 1}, {"a": 2}])["a"].dtype == np.int64


def test_stable_id():
    assert stable_id("a") == hashlib.sha256(b"a").hexdigest()[:16]
    assert len({stable_id(t) for t in ("a", "a ", "\ud83d", "\ud83e", "")}) == 5


def test_public_names_exist():
    assert all(hasattr(readers, name) for name in readers.__all__)


def test_converted_files_are_told_apart_by_their_names(tmp_path):
    """Where a program's files know no run, two of them are compared without another step."""
    row = '{"task_id": "add", "completion": "a", "passed": true}\n'
    for name in ("base", "tuned"):
        source = tmp_path / f"{name}.jsonl_results.jsonl"
        source.write_text(row + row.replace("true", "false"))
        convert("human-eval", source, tmp_path / f"{name}.parquet")
    counted = Study([tmp_path / "base.parquet", tmp_path / "tuned.parquet"]).counts()
    assert counted["run"].tolist() == ["base", "tuned"]
    table = convert("human-eval", source, tmp_path / "named.parquet", run="mine")
    assert set(table["run"]) == {"mine"}
