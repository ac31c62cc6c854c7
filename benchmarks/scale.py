"""How counting grows with the rows: by DuckDB on one machine, and on Dask beside it.

    python benchmarks/scale.py --millions 1,10,100 --dask 10

The rollouts are of two runs, 1,000 samples a problem, with eight different answers and without
texts, in files of a million rows. Sorted, a file holds whole problems; scattered, samples of all
problems in random order. The counts must be equal. Memory is the peak of the process; for Dask the
largest sum over its workers, polled.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
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

from passk_lab.rollouts import Study
from passk_lab.rollouts.distributed import summarise

ROWS = 1_000_000  # in a file
SAMPLES = 1_000  # of a problem in a run


def write(folder: Path, millions: int, order: str) -> list[Path]:
    """Write the rollouts, unless they are there."""
    target = folder / f"{order}-{millions}"
    target.mkdir(parents=True, exist_ok=True)
    labels = pa.array([f"problem-{i:06d}" for i in range(millions * ROWS // (2 * SAMPLES))])
    answers = pa.array([f"answer {i}" for i in range(8)])
    files = [target / f"part-{part:03d}.parquet" for part in range(millions)]
    for part, file in enumerate(tqdm(files, desc=f"writing {millions} million", leave=False)):
        if file.exists():
            continue
        rng = np.random.default_rng([0, millions, part])
        row = np.arange(part * ROWS, (part + 1) * ROWS)
        if order == "scattered":  # every file takes the rows number part, part + millions, ...
            row = rng.permutation(np.arange(part, millions * ROWS, millions))
        sample, run = np.divmod(row % (2 * SAMPLES), 2)
        problem = row // (2 * SAMPLES)
        answer = rng.integers(0, 8, len(row))
        codes = [(run, pa.array(["base", "tuned"])), (problem, labels), (answer, answers)]
        texts = [
            pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32)), values)
            for code, values in codes
        ]
        names = ["run", "problem_id", "answer", "sample_id", "correct"]
        table = pa.table([*texts, sample, answer < problem % 5], names)
        pq.write_table(table, file, row_group_size=ROWS // 4, compression="zstd")
    return files


def by_duckdb(files: list[Path]) -> tuple[pd.DataFrame, float, float, float]:
    """Counts, seconds, seconds of processor and peak gigabytes."""
    start, busy = time.perf_counter(), time.process_time()
    table = Study(files).counts()
    spent, busy = time.perf_counter() - start, time.process_time() - busy
    return table, spent, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class Workers:
    """Largest resident memory and processor time of a process's children, while it is watched."""

    def __init__(self) -> None:
        self.peak, self.busy = 0, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.1):
            memory, busy = 0, 0.0
            for child in me.children(recursive=True):
                try:
                    memory += child.memory_info().rss
                    busy += sum(child.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue
            self.peak, self.busy = max(self.peak, memory), max(self.busy, busy)

    def __enter__(self) -> Workers:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()


def by_dask(folder: Path, workers: int) -> tuple[pd.DataFrame, float, float, float]:
    """Counts, seconds, seconds of processor and peak gigabytes of the workers."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        Workers() as watched,
    ):
        start = time.perf_counter()
        table = summarise(folder, client)
        spent = time.perf_counter() - start
    return table, spent, watched.busy, watched.peak / 1e9


def line(*cells: Any) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--millions", type=numbers, default=[1, 10], metavar="N,N,...")
    parser.add_argument("--dask", type=numbers, default=[], metavar="N,N,...", help="sizes, also")
    parser.add_argument("--workers", type=numbers, default=[1, 2], metavar="N,N,...")
    parser.add_argument("--folder", type=Path, help="keep the rollouts here (default: temporary)")
    options = parser.parse_args()
    line("million rows", "order", "on disk, GB", "counted by", "time", "processor", "memory, GB")
    line(*["---"] * 7)
    with tempfile.TemporaryDirectory() as temporary:
        for millions in options.millions:
            for order in ("sorted", "scattered"):
                files = write(options.folder or Path(temporary), millions, order)
                size = sum(file.stat().st_size for file in files) / 1e9
                about = (millions, order, f"{size:.3f}")
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    table, *spent = pool.apply(by_duckdb, [files])
                assert len(table) == millions * ROWS // SAMPLES
                assert (table["n_samples"] == SAMPLES).all()
                line(*about, "DuckDB", "{:.1f} s | {:.1f} s | {:.2f}".format(*spent))
                for workers in options.workers if millions in options.dask else []:
                    same, *spent = by_dask(files[0].parent, workers)
                    key = ["run", "problem_id"]
                    assert_frame_equal(same, table.sort_values(key, ignore_index=True))
                    line(*about, f"Dask, {workers}", "{:.1f} s | {:.1f} s | {:.2f}".format(*spent))


if __name__ == "__main__":
    main()
