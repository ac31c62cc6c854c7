"""Pre-train a small model on a task's documents, from scratch."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from passk_lab.lab.loop import log_metrics
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.tasks.base import Task

__all__ = ["PretrainConfig", "pretrain"]


class _Documents(Protocol):
    """What a task's ``documents`` returns: tokens [n, L] and a mask of those to predict."""

    @property
    def tokens(self) -> Any:
        """Right-padded rows."""
        ...

    @property
    def mask(self) -> Any:
        """True where a token is to be predicted."""
        ...


class _DocumentTask(Task[Any], Protocol):
    """A task that can also write documents to learn from."""

    def documents(self, n: int, rng: np.random.Generator) -> _Documents:
        """Draw ``n`` documents."""
        ...


@dataclass(frozen=True)
class PretrainConfig:
    """How to pre-train.

    Attributes
    ----------
    steps, batch_size : int
        Updates, and documents in each; every document is new.
    learning_rate : float
        Peak; reached after ``warmup`` steps, then a cosine down to a tenth.
    warmup : int
    weight_decay, max_grad_norm : float
    seed : int
        Of the weights and of the documents.
    save_every : int
        Steps between checkpoints.
    """

    steps: int = 3_000
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0
    save_every: int = 250


def _learning_rate_at(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine from the peak to a tenth of it."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def pretrain(
    task: _DocumentTask,
    model_config: ModelConfig,
    config: PretrainConfig,
    folder: Path,
    device: str = "cpu",
    progress: bool = True,
    start_from: PreTrainedModel | None = None,
) -> PreTrainedModel:
    """Train on fresh documents until ``config.steps``; resume where ``folder`` left off.

    The documents of a step depend on the seed and the step alone, so a resumed run sees the same.

    The task has ``documents(n, rng)``, as `PathTask` does; the folder gets checkpoints and
    ``metrics.jsonl``. ``start_from`` carries a trained model on (it stays as it is) instead of
    starting from random weights.

    Raises
    ------
    FloatingPointError
        The loss is not a number; the last checkpoint is kept.
    """
    torch.manual_seed(config.seed)
    if start_from is None:
        model = build_model(model_config, config.seed)
    else:
        model = copy.deepcopy(start_from).requires_grad_(True)
    torch.nn.Module.to(model, device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
    )
    identity = {"model": asdict(model_config), "pretrain": asdict(config)}
    first = 0
    if list_checkpoints(folder):
        first = load_checkpoint(folder, model, optimizer, config=identity).state["step"]
    start, seen = time.perf_counter(), 0
    bar = tqdm(
        range(first, config.steps), desc="pre-training", initial=first, total=config.steps,
        disable=not progress,
    )  # fmt: skip
    for step in bar:
        documents = task.documents(config.batch_size, np.random.default_rng([config.seed, step]))
        tokens = torch.from_numpy(documents.tokens).to(device)
        mask = torch.from_numpy(documents.mask).to(device)
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
        target = mask[:, 1:]
        loss = functional.cross_entropy(logits[target].float(), tokens[:, 1:][target])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"pre-training: the loss is {loss.item()} at step {step}")
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate_at(step, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        seen += config.batch_size
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            rate = seen / (time.perf_counter() - start)
            log_metrics(
                folder, {"step": step + 1, "loss": loss.item(), "documents_per_second": rate}
            )
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save_checkpoint(folder, model, optimizer, state={"step": step + 1}, config=identity)
    return model
