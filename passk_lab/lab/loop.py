"""One on-policy loop for every method: sample, verify, update.

A step draws prompts, samples a group of answers to each, lets the task's verifier grade them,
hands the batch to the method's loss and takes one optimizer step. Everything random in a step
depends on the seed and the step's number alone, so that a run killed at any point resumes to the
same numbers.
"""

from __future__ import annotations

import copy
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from passk_lab.lab.evaluate import sample_and_grade
from passk_lab.lab.methods import Batch, LossOptions, get_method
from passk_lab.lab.tasks.base import Task

__all__ = ["Interrupted", "TrainConfig", "log_metrics", "train"]


@dataclass(frozen=True)
class TrainConfig:
    """What to train and how.

    Attributes
    ----------
    method : str
        A name in `passk_lab.lab.methods.METHODS`, with an optional "/variant".
    steps : int
        Updates.
    prompts_per_step, group_size : int
        Prompts of a step, and answers sampled to each.
    learning_rate : float
        Constant after ``warmup`` steps.
    warmup : int
    max_grad_norm : float
    temperature : float
        Of sampling in training.
    teacher : {"frozen", "ema", "live"}
        The base; a moving average of the student; the student itself.
    ema_rate : float
        Share of the student that enters the average after each step.
    options : LossOptions
    seed : int
    save_every : int
        Steps between checkpoints.
    autocast : bool
        Run the models in bfloat16 in the loss (on a GPU); sampling stays in float32.
    compile : bool
        Compile the models' forward pass with `torch.compile`, for any shapes.
    """

    method: str = "sdsd"
    steps: int = 100
    prompts_per_step: int = 32
    group_size: int = 8
    learning_rate: float = 1e-4
    warmup: int = 5
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    teacher: Literal["frozen", "ema", "live"] = "ema"
    ema_rate: float = 0.05
    options: LossOptions = field(default_factory=LossOptions)
    seed: int = 0
    save_every: int = 20
    autocast: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        get_method(self.method)
        for name in ("steps", "prompts_per_step", "group_size", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.teacher not in ("frozen", "ema", "live"):
            raise ValueError(f"teacher={self.teacher!r} is none of 'frozen', 'ema', 'live'")
        if not 0 < self.ema_rate <= 1:
            raise ValueError(f"ema_rate={self.ema_rate} must be above 0 and at most 1")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the step was finished and saved; the message says how to go on."""


def train(
    task: Task[Any],
    model: PreTrainedModel,
    config: TrainConfig,
    folder: Path,
    progress: bool = True,
    prompts: Sequence[Any] | None = None,
) -> PreTrainedModel:
    """Train a copy of ``model``, the base; resume where ``folder`` left off.

    The folder gets checkpoints and ``metrics.jsonl``. Each step draws from ``prompts``; by default
    from all that the task makes.

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
    average = copy.deepcopy(base) if config.teacher == "ema" else None
    teacher = average or (base if config.teacher == "frozen" else student)
    if config.compile:
        for module in {id(m): m for m in (base, student, teacher)}.values():
            module.compile(dynamic=True)  # in place: the parameters keep their names
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=0.0)
    run = _Run(config, folder, student, optimizer, average)
    first = run.resume()
    steps = range(first, config.steps)
    bar = tqdm(steps, desc=config.method, initial=first, total=config.steps, disable=not progress)
    with _finish_step() as stop:
        for step in bar:
            start = time.perf_counter()
            batch = _rollout_batch(task, student, teacher, base, config, step, prompts)
            sampled = time.perf_counter()
            measured = run.update(batch, step)
            measured["sampling_share"] = (sampled - start) / (time.perf_counter() - start)
            measured["seconds"] = time.perf_counter() - start
            log_metrics(folder, {"step": step + 1, **measured})
            bar.set_postfix(correct=f"{measured['correct']:.3f}")
            last = step + 1 == config.steps or stop.requested
            if last or (step + 1) % config.save_every == 0:
                run.save(step + 1)
            if stop.requested:
                raise Interrupted(
                    f"stopped after step {step + 1}, which is saved in {folder}; the same command "
                    "goes on from there"
                )
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
    samples, answers, correct = sample_and_grade(
        student, task, prompts, config.group_size, config.temperature, generator
    )
    return Batch(
        task, prompts, samples, answers, correct, student, teacher, base, rng, config.options
    )


@dataclass(frozen=True)
class _Run:
    """What changes in training, and where it is kept."""

    config: TrainConfig
    folder: Path
    student: PreTrainedModel
    optimizer: torch.optim.Optimizer
    average: PreTrainedModel | None

    @property
    def identity(self) -> dict[str, Any]:
        """Without the number of steps: a finished run can be carried on."""
        return {key: value for key, value in asdict(self.config).items() if key != "steps"}

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one; steps done so far."""
        if not list_checkpoints(self.folder):
            return 0
        state = load_checkpoint(
            self.folder, self.student, self.optimizer, config=self.identity
        ).state
        if self.average is not None:
            self.average.load_state_dict(state["teacher"])
        return int(state["step"])

    def save(self, step: int) -> None:
        state: dict[str, Any] = {"step": step}
        if self.average is not None:
            state["teacher"] = self.average.state_dict()
        save_checkpoint(
            self.folder, self.student, self.optimizer, state=state, config=self.identity
        )

    def update(self, batch: Batch, step: int) -> dict[str, float]:
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
            measured |= self._learn(batch, step)
        else:  # no demonstration, and no advantage
            measured |= {"loss": 0.0, "skipped": 1.0}
        if self.average is not None:
            _move(self.average, self.student, self.config.ema_rate)
        return measured

    def _learn(self, batch: Batch, step: int) -> dict[str, float]:
        config = self.config
        with torch.autocast(self.student.device.type, torch.bfloat16, enabled=config.autocast):
            loss = get_method(config.method)(batch)
        if not torch.isfinite(loss):
            kept = self.folder / "not-finite"
            state = {"step": step, "loss": float(loss)}
            save_checkpoint(kept, self.student, self.optimizer, state=state, config=asdict(config))
            raise FloatingPointError(
                f"{config.method}: the loss is {loss.item()} at step {step}; the state before the "
                f"update is saved in {kept}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), config.max_grad_norm)
        self.optimizer.step()
        return {**batch.measured, "loss": loss.item(), "grad_norm": float(norm)}


def _distinct(batch: Batch) -> float:
    """Distinct correct answers of a group, mean over groups."""
    answers = np.array(batch.answers, dtype=object).reshape(batch.correct.shape)
    found = [len(set(a[c])) for a, c in zip(answers, batch.correct, strict=True)]
    return float(np.mean(found))


@torch.no_grad()
def _move(average: PreTrainedModel, student: PreTrainedModel, rate: float) -> None:
    for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, rate)


def log_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Append one line to ``metrics.jsonl``; lines of steps that are run again are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    kept = len(lines)
    # Steps ascend, so what is to be replaced stands at the end; so does a line cut short by a kill.
    while kept and not _before(lines[kept - 1], record["step"]):
        kept -= 1
    whole = kept == len(lines) and text.endswith("\n")
    with open(path, "a" if whole else "w") as file:
        if not whole:
            file.writelines(line + "\n" for line in lines[:kept])
        file.write(json.dumps(record) + "\n")


def _before(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] < step)
    except (json.JSONDecodeError, KeyError, TypeError):
        return False


@dataclass
class _Stop:
    requested: bool = False


@contextmanager
def _finish_step() -> Iterator[_Stop]:
    """Let Ctrl-C wait for the end of the step; a second one stops at once."""
    stop = _Stop()

    def request(number: int, frame: Any) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        before = signal.signal(signal.SIGINT, request)
    except ValueError:  # not in the main thread: whoever runs us handles it
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
