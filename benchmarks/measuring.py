"""Times, peaks of memory and tables, for all benchmarks."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm


def best_times(
    calls: dict[str, Callable[[], Any]],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Best seconds of each call; quick calls are repeated within a round."""
    best = dict.fromkeys(calls, np.inf)
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        for name, call in calls.items():
            spent, repeats = 0.0, 0
            while spent < 0.05 and repeats < 50:
                start = clock()
                call()
                took = clock() - start
                best[name] = min(best[name], took)
                spent, repeats = spent + took, repeats + 1
    return best


def compared(calls: dict[str, Callable[[], Any]], rounds: int = 5, digits: int = 1) -> str:
    """Table of the times of some calls, the first of which is ours."""
    times = best_times(calls, rounds)
    ours = next(iter(times.values()))
    rows = [[name, seconds(t), f"{t / ours:,.{digits}f}"] for name, t in times.items()]
    return table(["implementation", "time", "times ours"], rows)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def put_tables(page: Path, *tables: str) -> None:
    """Put tables in the place of those with the same headers on a page."""
    text = page.read_text()
    for new in tables:
        header = re.escape(new.partition("\n")[0])
        (old,) = re.findall(rf"^{header}\n(?:\|.*\n)+", text, re.MULTILINE)
        text = text.replace(old, new)
    page.write_text(text)
    print(*tables, sep="\n")


def machine(command: str, packages: Sequence[str]) -> str:
    """Say where and with what numbers were measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get("OMP_NUM_THREADS", "all cores")
    load = os.getloadavg()[0]
    shared = f"; other programs were running (load {load:.1f} at the start)" if load > 1 else ""
    return (
        f"Written by `{command}`: passk_lab {version('passk-lab')}, Python "
        f"{platform.python_version()}, {platform.machine()}, {cores} cores{shared}, threads of "
        f"linear algebra: {threads}; {versions}.\n"
    )


def seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def function_of_file(package: str, file: str, name: str) -> Callable[..., float]:
    """A peer's own function, loaded from its file: the package would import far more."""
    path = distribution(package).locate_file(file)
    spec = importlib.util.spec_from_file_location(Path(file).stem, str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def run_script(code: str, path: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of a Python process."""
    start = time.perf_counter()
    memory = run_process(code, path)[2]
    return time.perf_counter() - start, memory


def run_process(code: str, *arguments: str | Path) -> tuple[str, float, float]:
    """What a Python process prints, its processor's seconds and its peak memory in GB."""
    # The child prints its own peak: RUSAGE_CHILDREN would be the largest of all children, and
    # RUSAGE_SELF at least this process's own.
    report = (
        "\nimport re, time\nprint()\nprint(time.process_time(), "
        're.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])'
    )
    command = [sys.executable, "-c", code + report, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    printed, _, last = done.stdout.rstrip().rpartition("\n")
    busy, peak = last.split()
    return printed.strip(), float(busy), int(peak) * 1024 / 1e9


def row(what: str, times: int, result: str) -> None:
    """Print a line of the table."""
    print(f"| {what} | {times:,} | {result} |", flush=True)
