"""Run a suite: what isn't there yet is made, each run with each seed, several side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from passk_lab._text import look_up
from passk_lab.lab.loop import TrainConfig

__all__ = ["AnySuite", "run_file", "run_suite", "side_by_side"]


class AnySuite(Protocol):
    """What is trained from one base, and how it is measured."""

    @property
    def runs(self) -> Mapping[str, TrainConfig]:
        """Name in the column ``run`` -> how it is trained; the seed is filled in."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds by default."""
        ...

    def plan(self, base: Any, folder: Path, runs: Sequence[str], jobs: int, progress: bool) -> Any:
        """Prepare what all runs share."""
        ...

    def complete(self, folder: Path, plan: Any, run: str, seed: int) -> bool:
        """Whether all files of a run are there."""
        ...

    def make(self, base: Any, folder: Path, plan: Any, run: str, seed: int) -> None:
        """Train a run (the base isn't trained), measure it and write its files."""
        ...

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The file of a run that matters most."""
        ...


def run_suite(
    suite: AnySuite,
    base: Any,
    folder: Path,
    runs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Train and measure runs from one base; what is done already is passed over.

    Parameters
    ----------
    suite : Suite or ScienceSuite
    base : PreTrainedModel or TransformersBackend
    folder : Path
    runs, seeds : optional
        Names among ``suite.runs`` (default all), and seeds (default the suite's).
    jobs : int
        Processes side by side, each with its share of the processor's cores.
    progress : bool

    Returns
    -------
    list of Path
        The rollouts files (of paths without samples, those of the policies), the base's first.

    Raises
    ------
    ValueError
        A run is unknown; the message lists the known ones.
    """
    names = list(suite.runs if runs is None else runs)
    for name in names:
        look_up("run", name, suite.runs)
    plan = suite.plan(base, folder, names, jobs, progress)
    seeds = suite.seeds if seeds is None else seeds
    wanted = [(name, seed) for name in ("base", *names) for seed in seeds]
    missing = [one for one in wanted if not suite.complete(folder, plan, *one)]
    side_by_side(suite.make, (base, folder, plan), missing, jobs, "suite", progress)
    return [suite.result(folder, *one) for one in wanted]


def run_file(folder: Path, kind: str, run: str, seed: int) -> Path:
    """Where a suite keeps something of a run: ``<folder>/<kind>/<run>-<seed>.parquet``."""
    return folder / kind / f"{run.replace('/', '-')}-{seed}.parquet"


# --- processes side by side ----------------------------------------------------------------------

_worker: dict[str, Any] = {}


def side_by_side(
    function: Callable[..., None],
    shared: tuple[Any, ...],
    items: Sequence[tuple[Any, ...]],
    jobs: int,
    label: str,
    progress: bool,
) -> None:
    """Call ``function(*shared, *item)`` for every item, in ``jobs`` processes."""
    with tqdm(total=len(items), desc=label, disable=not progress) as bar:
        for _ in _done(function, shared, items, jobs):
            bar.update()


def _done(
    function: Callable[..., None],
    shared: tuple[Any, ...],
    items: Sequence[tuple[Any, ...]],
    jobs: int,
) -> Iterator[None]:
    if jobs == 1 or len(items) < 2:
        for item in items:
            function(*shared, *item)
            yield
        return
    threads = max(1, torch.get_num_threads() // jobs)
    # Not forked: threads of the parent, PyTorch's among them, wouldn't survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (function, shared, threads)) as pool:
        futures = [pool.submit(_call, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(function: Callable[..., None], shared: tuple[Any, ...], threads: int) -> None:
    torch.set_num_threads(threads)
    _worker.update(function=function, shared=shared)


def _call(item: tuple[Any, ...]) -> None:
    _worker["function"](*_worker["shared"], *item)
