"""One on-policy loop for every method: sample, verify, update.

A step draws prompts, samples a group of answers to each, lets the task's verifier grade them,
hands the batch to the method's loss and takes one optimizer step. Everything random in a step
depends on the seed and the step's number alone, so that a run killed at any point resumes to the
same numbers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from passk_lab.lab._run import Interrupted, Run, log_metrics
from passk_lab.lab.methods import Batch, LossOptions, get_method
from passk_lab.lab.sampling import Decoding, sample
from passk_lab.lab.tasks.base import Task

__all__ = ["Interrupted", "TrainConfig", "train"]


@dataclass(frozen=True)
class TrainConfig:
    """What to train and how.

    Attributes
    ----------
    method : str
        A name in `passk_lab.lab.methods.METHODS`, with an optional "/variant".
    steps : int
    prompts_per_step, group_size : int
        Prompts of a step, and answers sampled to each.
    learning_rate, warmup : float, int
        Constant after ``warmup`` steps.
    betas : (float, float)
        Of AdamW, which has no weight decay.
    max_grad_norm : float
    freeze_embeddings : bool
        Leave the embeddings as they are, with them the output's weights where both are one.
    temperature : float
        Of sampling in training.
    teacher : {"frozen", "ema", "live"}
        The base; a moving average of the student; the student itself.
    ema_rate : float
        Share of the student that enters the average after each step.
    options : LossOptions
    seed, save_every : int
        ``save_every`` steps a checkpoint is written.
    autocast : bool
        Run the models in bfloat16 in the loss (on a GPU); sampling stays in float32.
    compile : bool
        Compile the models' forward pass with `torch.compile`, for any shapes.
    as_tree : bool
        As for `passk_lab.lab.sampling.Decoding`: sooner where prompts share long beginnings.
    """

    method: str = "sdsd"
    steps: int = 100
    prompts_per_step: int = 32
    group_size: int = 8
    learning_rate: float = 1e-4
    warmup: int = 5
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    freeze_embeddings: bool = False
    temperature: float = 1.0
    teacher: Literal["frozen", "ema", "live"] = "ema"
    ema_rate: float = 0.05
    options: LossOptions = field(default_factory=LossOptions)
    seed: int = 0
    save_every: int = 20
    autocast: bool = False
    compile: bool = False
    as_tree: bool = False

    def __post_init__(self) -> None:
        get_method(self.method)
        for name in ("steps", "prompts_per_step", "group_size", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.teacher not in ("frozen", "ema", "live"):
            raise ValueError(f"teacher={self.teacher!r} is none of 'frozen', 'ema', 'live'")
        if not 0 < self.ema_rate <= 1:
            raise ValueError(f"ema_rate={self.ema_rate} must be above 0 and at most 1")


def train(
    task: Task[Any],
    model: PreTrainedModel,
    config: TrainConfig,
    folder: Path,
    progress: bool = True,
    prompts: Sequence[Any] | None = None,
    demonstrator: PreTrainedModel | None = None,
) -> PreTrainedModel:
    """Train a copy of ``model``, the base; resume where ``folder`` left off.

    The folder gets checkpoints and ``metrics.jsonl``. Each step draws from ``prompts``; by default
    from all that the task makes. ``demonstrator`` gives the demonstrations of ``sdsd-external``.

    Raises
    ------
    ValueError
        There are fewer prompts than a step draws.
    FloatingPointError
        The loss is not a number; the step's state is saved beside the checkpoints.
    Interrupted
        Ctrl-C, after the running step was finished and saved.
    """
    if prompts is not None and len(prompts) < config.prompts_per_step:
        raise ValueError(
            f"prompts: {len(prompts)} are fewer than prompts_per_step={config.prompts_per_step}; "
            "give more, or draw fewer"
        )
    base = model.eval().requires_grad_(False)
    student = copy.deepcopy(base).requires_grad_(True)
    if config.freeze_embeddings:
        student.get_input_embeddings().requires_grad_(False)
    average = copy.deepcopy(base) if config.teacher == "ema" else None
    teacher = average or (base if config.teacher == "frozen" else student)
    if config.compile:
        for module in {id(m): m for m in (base, student, teacher)}.values():
            module.compile(dynamic=True)  # in place: the parameters keep their names
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=config.learning_rate, betas=config.betas, weight_decay=0.0
    )
    # Without the number of steps: a finished run can be carried on.
    settings = {name: value for name, value in asdict(config).items() if name != "steps"}
    run = Run(folder, student, optimizer, settings, average)
    with closing(run.steps(config.steps, config.save_every, config.method, progress)) as steps:
        for step in steps:
            start = time.perf_counter()
            batch = _rollout_batch(task, student, teacher, base, config, step, prompts)
            batch.demonstrator, batch.as_tree = demonstrator, config.as_tree
            sampled = time.perf_counter()
            measured = _update(run, batch, config, step)
            measured["sampling_share"] = (sampled - start) / (time.perf_counter() - start)
            measured["seconds"] = time.perf_counter() - start
            log_metrics(folder, {"step": step + 1, **measured})
    return student


def _rollout_batch(
    task: Task[Any],
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    base: PreTrainedModel,
    config: TrainConfig,
    step: int,
    given: Sequence[Any] | None = None,
) -> Batch:
    """Sample and grade the rollouts of one step."""
    rng = np.random.default_rng([config.seed, step])
    if given is None:
        prompts = task.sample(config.prompts_per_step, rng)
    else:
        drawn = rng.choice(len(given), config.prompts_per_step, replace=False)
        prompts = [given[place] for place in drawn]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    encoded = [task.encode(prompt) for prompt in prompts]
    decoding = Decoding.of(task, config.temperature, config.as_tree)
    samples = sample(student, encoded, config.group_size, decoding, generator)
    answers, correct = samples.graded(task, prompts)
    return Batch(
        task, prompts, samples, answers, correct, student, teacher, base, rng, config.options
    )


def _update(run: Run, batch: Batch, config: TrainConfig, step: int) -> dict[str, float]:
    """Take one step and let the average follow."""
    mask = batch.mask
    measured = {
        "correct": float(batch.correct.mean()),
        "unsolved_groups": float((~batch.correct.any(axis=1)).mean()),
        "distinct_correct": _distinct(batch),
        "token_entropy": float(batch.samples.entropy[mask].mean()),
        "n_tokens": float(mask.sum(1).float().mean()),
    }
    if batch.correct.any():
        with torch.autocast(run.model.device.type, torch.bfloat16, enabled=config.autocast):
            loss = get_method(config.method)(batch)
        rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1))
        norm = run.learn(loss, step, rate, config.max_grad_norm)
        measured |= {**batch.measured, "loss": loss.item(), "grad_norm": norm}
    else:  # no demonstration, and no advantage
        measured |= {"loss": 0.0, "skipped": 1.0}
    if run.average is not None:
        _move(run.average, run.model, config.ema_rate)
    return measured


def _distinct(batch: Batch) -> float:
    """Distinct correct answers of a group, mean over groups."""
    answers = np.array(batch.answers, dtype=object).reshape(batch.correct.shape)
    found = [len(set(a[c])) for a, c in zip(answers, batch.correct, strict=True)]
    return float(np.mean(found))


@torch.no_grad()
def _move(average: PreTrainedModel, student: PreTrainedModel, rate: float) -> None:
    for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, rate)
