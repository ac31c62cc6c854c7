"""Times, peaks of memory and tables, for all benchmarks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm


def best_times(calls: dict[str, Callable[[], Any]], rounds: int = 5) -> dict[str, float]:
    """Best seconds of each call; quick calls are repeated within a round."""
    best = dict.fromkeys(calls, np.inf)
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        for name, call in calls.items():
            spent, repeats = 0.0, 0
            while spent < 0.05 and repeats < 50:
                start = time.perf_counter()
                call()
                took = time.perf_counter() - start
                best[name] = min(best[name], took)
                spent, repeats = spent + took, repeats + 1
    return best


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


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
    # The child prints its own peak: RUSAGE_CHILDREN would be the largest of all children, and
    # RUSAGE_SELF at least this process's own.
    report = (
        '\nimport re\nprint(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])'
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + report, str(path)], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, int(done.stdout.split()[-1]) * 1024 / 1e9


def row(what: str, times: int, result: str) -> None:
    """Print a line of the table."""
    print(f"| {what} | {times:,} | {result} |", flush=True)
