"""Run a suite: what isn't there yet is made, each run with each seed, several side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab._text import look_up
from passk_lab.lab.model import load_model
from passk_lab.lab.tasks.base import Task

if TYPE_CHECKING:
    from passk_lab.lab.experiments.concepts import ConceptSuite
    from passk_lab.lab.experiments.science import ConceptTextSuite, ScienceSuite
    from passk_lab.lab.experiments.suite import Suite


def run_suite(
    suite: Suite | ConceptSuite | ConceptTextSuite | ScienceSuite,
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
    suite : Suite, ConceptSuite, ConceptTextSuite or ScienceSuite
    base : PreTrainedModel or TransformersBackend
    folder : Path
    runs, seeds : optional
        Names among ``suite.runs`` (default all), and seeds (default the suite's).
    jobs : int
        Processes side by side, each with its share of the processor's cores.

    Returns
    -------
    list of Path
        The rollouts files (of paths without samples, those of the policies), the base's first.
    """
    names = list(suite.runs if runs is None else runs)
    for name in names:
        look_up("run", name, suite.runs)
    plan: Any = suite.plan(base, folder, names, jobs, progress)
    seeds = suite.seeds if seeds is None else seeds
    wanted = [(name, seed) for name in ("base", *names) for seed in seeds]
    missing = [one for one in wanted if not suite.complete(folder, plan, *one)]
    side_by_side(suite.make, (base, folder, plan), missing, jobs, "suite", progress)
    return [suite.result(folder, *one) for one in wanted]


def run_file(folder: Path, kind: str, run: str, seed: int) -> Path:
    """Where a suite keeps something of a run: ``<folder>/<kind>/<run>-<seed>.parquet``."""
    return folder / kind / f"{run.replace('/', '-')}-{seed}.parquet"


def saved_base(folder: Path, task: Task[Any], device: str) -> PreTrainedModel | None:
    """Load a saved base that fits the task; None where the folder has none."""
    if not (folder / "config.json").exists():
        return None
    base = load_model(folder, device=device)
    for name, needed, has in (
        ("tokens", task.vocab_size, base.config.vocab_size),
        ("positions", task.context_length, base.config.max_position_embeddings),
    ):
        if has < needed:
            raise ValueError(
                f"{folder}: the model has {has} {name}, the task needs {needed}; it is no base "
                "of this suite"
            )
    return base


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
    bar = tqdm(total=len(items), desc=label, disable=not progress)
    if jobs == 1 or len(items) < 2:
        for item in items:
            function(*shared, *item)
            bar.update()
        return
    threads = max(1, torch.get_num_threads() // jobs)
    # Not forked: threads of the parent, PyTorch's among them, wouldn't survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (function, shared, threads)) as pool:
        futures = [pool.submit(_call, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(function: Callable[..., None], shared: tuple[Any, ...], threads: int) -> None:
    torch.set_num_threads(threads)
    _worker.update(function=function, shared=shared)


def _call(item: tuple[Any, ...]) -> None:
    _worker["function"](*_worker["shared"], *item)
