"""Counting up to 100 million rollouts on Dask: time, memory and scaling; prints a Markdown table.

    python benchmarks/scale.py                                   # 1, 3, 10 million rows, minutes
    python benchmarks/scale.py --millions 1,3,10,30,100 --workers 1,2 --folder /big/disk

scale.md holds what the second printed, with what it says.

The rollouts are of two runs, 1,000 samples a problem, with eight different answers and without
texts, in files of a million rows. Each file holds samples of all problems in random order, so that
neither the rows of a problem nor its sample ids lie together. Up to ten million rows, the same
files are counted in memory as well, and the tables must be equal. Memory is the largest sum over
the workers' processes, polled; beyond --limit gigabytes a worker Dask spills to disk.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from pandas.testing import assert_frame_equal
from tqdm import tqdm

from passk_lab import pass_at_k_curve
from passk_lab.rollouts import counts
from passk_lab.rollouts.distributed import summarise

ROWS = 1_000_000  # in a file
SAMPLES = 1_000  # of a problem in a run
IN_MEMORY = 10  # millions of rows that are counted in memory as well


def write(folder: Path, millions: int) -> Path:
    """Write the rollouts, unless they are there."""
    target = folder / f"rollouts-{millions}"
    target.mkdir(parents=True, exist_ok=True)
    n_problems = millions * ROWS // (2 * SAMPLES)
    labels = pa.array([f"problem-{i:06d}" for i in range(n_problems)])
    answers = pa.array([f"answer {i}" for i in range(8)])
    runs = pa.array(["base", "tuned"])
    for part in tqdm(range(millions), desc=f"writing {millions} million", leave=False):
        file = target / f"part-{part:03d}.parquet"
        if file.exists():
            continue
        rng = np.random.default_rng([0, millions, part])
        # Every file takes the rows number part, part + millions, ... of all, shuffled.
        row = rng.permutation(np.arange(part, millions * ROWS, millions))
        problem, sample = np.divmod(row // 2, SAMPLES)
        answer = rng.integers(0, 8, len(row))
        table = pa.table(
            {
                "run": pa.DictionaryArray.from_arrays(pa.array((row % 2).astype(np.int32)), runs),
                "problem_id": pa.DictionaryArray.from_arrays(
                    pa.array(problem.astype(np.int32)), labels
                ),
                "sample_id": sample,
                "correct": answer < problem % 5,
                "answer": pa.DictionaryArray.from_arrays(
                    pa.array(answer.astype(np.int32)), answers
                ),
            }
        )
        pq.write_table(table, file, row_group_size=ROWS // 4, compression="zstd")
    return target


class Memory:
    """Largest resident memory of a process's children, together, while it is watched."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.1):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()


def measure(folder: Path, workers: int, limit: float) -> tuple[pd.DataFrame, float, float]:
    """Table, seconds and peak gigabytes of the workers; starting them isn't counted."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=int(limit * 1e9),
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
        Memory() as memory,
    ):
        start = time.perf_counter()
        table = summarise(folder, client)
        spent = time.perf_counter() - start
    return table, spent, memory.peak / 1e9


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--millions", type=numbers, default=[1, 3, 10], metavar="N,N,...")
    parser.add_argument("--workers", type=numbers, default=[1, 2], metavar="N,N,...")
    parser.add_argument("--limit", type=float, default=2.0, help="gigabytes a worker (default 2)")
    parser.add_argument("--folder", type=Path, help="keep the rollouts here (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        print("| million rows | on disk, GB | workers | time | rows a second | peak memory, GB |")
        print("| --- | --- | --- | --- | --- | --- |")
        for millions in options.millions:
            source = write(folder, millions)
            size = sum(file.stat().st_size for file in source.iterdir()) / 1e9
            expected = None
            if millions <= IN_MEMORY:
                start = time.perf_counter()
                whole = pd.concat(pd.read_parquet(f) for f in sorted(source.iterdir()))
                expected = counts(whole)
                del whole
                spent = time.perf_counter() - start
                rate = f"{millions * ROWS / spent:,.0f}"
                print(f"| {millions} | {size:.3f} | in memory | {spent:.1f} s | {rate} | |")
            for workers in options.workers:
                table, spent, peak = measure(source, workers, options.limit)
                assert len(table) == millions * ROWS // SAMPLES
                assert (table["n_samples"] == SAMPLES).all()
                if expected is not None:
                    assert_frame_equal(table, expected)
                cells = [millions, f"{size:.3f}", workers, f"{spent:.1f} s"]
                cells += [f"{millions * ROWS / spent:,.0f}", f"{peak:.2f}"]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
        print()
        print(pass_at_k_curve(table, [1, 10, 100], n_resamples=1000, random_state=0).to_string())


if __name__ == "__main__":
    main()
