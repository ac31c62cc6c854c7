"""Run a suite: what isn't there yet is made, each run with each seed, several side by side."""

from __future__ import annotations

import copy
import multiprocessing
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab._text import look_up
from passk_lab.lab._checkpoint import load_checkpoint
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.model import ModelConfig, load_model
from passk_lab.lab.pretrain import PretrainConfig, pretrain
from passk_lab.rollouts.files import atomic_write

if TYPE_CHECKING:
    from passk_lab.lab.experiments.categories import CategorySuite
    from passk_lab.lab.experiments.concepts import ConceptSuite
    from passk_lab.lab.experiments.science import ConceptTextSuite, ScienceSuite
    from passk_lab.lab.experiments.suite import Suite


def run_suite(
    suite: Suite | CategorySuite | ConceptSuite | ConceptTextSuite | ScienceSuite,
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
    suite : Suite, CategorySuite, ConceptSuite, ConceptTextSuite or ScienceSuite
    base : PreTrainedModel or TransformersBackend
    folder : Path
    runs, seeds : optional
        Names among ``suite.runs`` (default all), and seeds (default the suite's).
    jobs : int
        Processes side by side, each with its share of the processor's cores.

    Returns
    -------
    list of Path
        The rollouts files (without samples, those of the policies), the base's first.
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


class FromScratch:
    """What suites have in common whose base is a small model, pre-trained on their task."""

    task: Any
    pretrain: PretrainConfig
    d_model: int
    n_layers: int
    n_heads: int

    @property
    def model(self) -> ModelConfig:
        """Shape of the model, with the task's vocabulary."""
        return ModelConfig(
            self.task.vocab_size,
            self.task.context_length,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            pad_id=self.task.pad_id,
            eos_id=self.task.eos_id,
        )

    def make_base(
        self, folder: Path, device: str = "cpu", progress: bool = True
    ) -> PreTrainedModel:
        """Pre-train the base in ``folder``, from the newest checkpoint on, or load a saved one.

        One with another vocabulary or a shorter context than the task's is a ValueError.
        """
        if not (folder / "config.json").exists():
            return pretrain(self.task, self.model, self.pretrain, folder, device, progress)
        base = load_model(folder, device=device)
        for name, needed, has in (
            ("tokens", self.task.vocab_size, base.config.vocab_size),
            ("positions", self.task.context_length, base.config.max_position_embeddings),
        ):
            if has < needed:
                raise ValueError(
                    f"{folder}: the model has {has} {name}, the task needs {needed}; it is no base "
                    "of this suite"
                )
        return base


def at_rates(runs: Mapping[str, TrainConfig], rates: Sequence[float]) -> dict[str, TrainConfig]:
    """Runs at other learning rates, as ``<run>@<rate>``."""
    return {
        f"{name}@{rate:g}": replace(config, learning_rate=rate)
        for rate in rates
        for name, config in runs.items()
    }


def moving_average(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The teacher of a run at its last checkpoint, a moving average of the student."""
    model = copy.deepcopy(base)
    model.load_state_dict(load_checkpoint(folder)["teacher"])
    return model.eval()


def made_on(base: PreTrainedModel) -> dict[str, Any]:
    """Versions and device, for the note of a file."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"versions": versions, "device": str(base.device)}


def write_noted(parts: Sequence[pd.DataFrame], target: Path, note: dict[str, Any]) -> None:
    """Write tables as one Parquet file that says where they come from."""
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"passk_lab": note}
    with atomic_write(target) as temporary:
        table.to_parquet(temporary, compression="zstd")


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
