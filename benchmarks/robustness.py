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
import hashlib
import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from damage import fuzz, guided
from measuring import row

from passk_lab.rollouts import read_rollouts, write_rollouts


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


Command = Callable[[Path], list[str]]


def command_of(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "passk_lab", *map(str, arguments), "--quiet"]


def commands_on(data: Path, *options: str, baseline: str = "base") -> dict[str, Command]:
    """Command lines of a report, with more options, and a conversion, by where they write."""
    table, csv = data / "rollouts.parquet", data / "rollouts.csv"
    how = ("--baseline", baseline, *options)
    return {
        "report": lambda out: command_of("report", table, *how, "--out", out / "report"),
        "convert": lambda out: command_of("convert", "plain", csv, out / "made.parquet"),
    }


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
               policy_steps=(4, 8), seeds=(0,), n_problems=6, n_samples=4,
               d_model=32, n_layers=2, n_heads=2)
base = tiny.make_base(folder / "base", progress=False)
run_suite(tiny, base, folder, progress=False)
"""


def snapshot(folder: Path) -> dict[str, str]:
    """Content of a folder's results, told by what they say (parquet notes the time of writing)."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if not file.is_file() or file.name.startswith("."):
            continue
        if name.startswith(("base/", "runs/")):
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
        if file.is_file() and not file.name.startswith("."):
            try:
                READ.get(file.suffix, Path.stat)(file)
            except Exception as error:
                broken.append(f"{file.name}: {error}")
    return broken


def ends_with(end: bytes) -> Callable[[Path], None]:
    def check(file: Path) -> None:
        assert file.read_bytes().rstrip().endswith(end)

    return check


READ: dict[str, Callable[[Path], Any]] = {
    ".parquet": pq.read_table,
    ".json": lambda file: json.loads(file.read_text()),
    ".csv": pd.read_csv,
    ".html": ends_with(b"</html>"),
    ".svg": ends_with(b"</svg>"),
    ".png": ends_with(b"IEND\xaeB`\x82"),
}


KILLED = ["report", "convert", "train"]


def kill(times: int, seed: int, only: list[str]) -> bool:
    """Kill commands at random points, and run them again to the end."""
    draw = random.Random(seed)
    sound = True
    with tempfile.TemporaryDirectory() as temporary:
        commands = commands_on(table_of(Path(temporary)))
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
        # A table that fills more than a page, for the smallest disks have a few.
        commands = commands_on(table_of(Path(temporary), 2_000), "--n-resamples", "50")
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
        base, tuned = (
            commands_on(data, "--n-resamples", "50", baseline=run) for run in ("base", "tuned")
        )
        for name in ("convert", "report"):
            broken = mixed = 0
            for number in range(times):
                out = Path(temporary, f"{name}-{number}")
                out.mkdir()
                commands = [base[name](out), tuned[name](out)]
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
    parser.add_argument("what", choices=["fuzz", "atheris", "kill", "disk", "writers"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", nargs="+", default=KILLED, choices=KILLED, help="what is killed"
    )
    options = parser.parse_args()
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
