"""Pre-train a small model on a task's documents, from scratch."""

from __future__ import annotations

import copy
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from passk_lab.lab._run import Run, log_metrics
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.tasks.base import Task

__all__ = ["PretrainConfig", "pretrain"]


class _DocumentTask(Task[Any], Protocol):
    def documents(self, n: int, rng: np.random.Generator) -> Any:
        """Draw ``n`` documents: ``tokens`` [n, L] and a ``mask`` of those to predict."""


@dataclass(frozen=True)
class PretrainConfig:
    """How to pre-train.

    Attributes
    ----------
    steps, batch_size : int
        Updates, and documents in each; every document is new.
    learning_rate, warmup : float, int
        Peak; reached after ``warmup`` steps, then a cosine down to a tenth.
    weight_decay, max_grad_norm : float
    seed, save_every : int
        As for `passk_lab.lab.loop.TrainConfig`; the seed also makes the weights.
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
    The task has ``documents(n, rng)``, as `PathTask` does. ``start_from`` carries a trained model
    on (it stays as it is) instead of starting from random weights. For the folder and errors see
    `passk_lab.lab.loop.train`.
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
    settings = {"model": asdict(model_config), "pretrain": asdict(config)}
    run = Run(folder, model, optimizer, settings)
    start = time.perf_counter()
    with closing(run.steps(config.steps, config.save_every, "pre-training", progress)) as steps:
        for n_run, step in enumerate(steps, 1):
            rng = np.random.default_rng([config.seed, step])
            documents = task.documents(config.batch_size, rng)
            tokens = torch.from_numpy(documents.tokens).to(device)
            target = torch.from_numpy(documents.mask).to(device)[:, 1:]
            logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
            loss = functional.cross_entropy(logits[target].float(), tokens[:, 1:][target])
            run.learn(loss, step, _learning_rate_at(step, config), config.max_grad_norm)
            if (step + 1) % 50 == 0 or step + 1 == config.steps:
                rate = n_run * config.batch_size / (time.perf_counter() - start)
                record = {"loss": loss.item(), "documents_per_second": rate}
                log_metrics(folder, {"step": step + 1, **record})
    return model
