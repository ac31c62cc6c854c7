"""The path-finding experiment: one base, every method from it, rollouts of all of them.

A suite's folder holds ``base/`` (checkpoints of the base), ``runs/<method>-<seed>/`` (checkpoints
and metrics of each training run) and ``rollouts/<method>-<seed>.parquet``. What is there already
is not made again, so an interrupted suite goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.diversity.functional import hill_number
from passk_lab.passk import pass_at_k
from passk_lab.rollouts import counts, write_rollouts
from passk_lab.tasks.paths import PathPrompt, PathTask
from passk_lab.training.evaluate import answer_logprobs, evaluate, follows_demonstration
from passk_lab.training.loop import TrainConfig, train
from passk_lab.training.methods import LossOptions
from passk_lab.training.model import ModelConfig, count_parameters, load_model
from passk_lab.training.pretrain import PretrainConfig, pretrain

__all__ = ["SUITES", "Suite", "base_report", "evaluation_prompts", "make_base", "run_suite"]

# Prompts of an evaluation come from seeds that no training step uses.
_PROMPT_SEED = 1_000_003


@dataclass(frozen=True)
class Suite:
    """What is trained and evaluated.

    Attributes
    ----------
    task : PathTask
    pretrain : PretrainConfig
    runs : mapping of str to TrainConfig
        Name in the column ``run`` -> how it is trained; the seed is filled in.
    steps : tuple of int
        Training steps at which the runs are evaluated, the last one on every split.
    seeds : tuple of int
    n_problems, n_samples : int
        Size of an evaluation, for each split.
    d_model, n_layers, n_heads : int
        Shape of the model.
    """

    task: PathTask = field(default_factory=lambda: PathTask(min_paths=5, max_paths=12, follow=0.8))
    pretrain: PretrainConfig = field(default_factory=lambda: PretrainConfig(steps=2_400))
    runs: Mapping[str, TrainConfig] = field(default_factory=dict)
    steps: tuple[int, ...] = (20, 60, 120)
    seeds: tuple[int, ...] = (0, 1, 2)
    n_problems: int = 200
    n_samples: int = 128
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4

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


def _runs() -> dict[str, TrainConfig]:
    anchored = LossOptions(kl_coef=0.1)
    return {
        "sdsd": TrainConfig("sdsd"),
        "sdsd/frozen": TrainConfig("sdsd/frozen", teacher="frozen"),
        "sdsd/live": TrainConfig("sdsd/live", teacher="live"),
        "sdsd-forward": TrainConfig("sdsd-forward"),
        "sdsd-jsd": TrainConfig("sdsd-jsd"),
        "sdsd-uniform": TrainConfig("sdsd-uniform"),
        "sdsd-centred": TrainConfig("sdsd-centred"),
        "grpo": TrainConfig("grpo"),
        "grpo/kl": TrainConfig("grpo/kl", options=anchored),
        "rloo": TrainConfig("rloo"),
        "rft": TrainConfig("rft"),
        "rl-modulated": TrainConfig("rl-modulated"),
        "srpo": TrainConfig("srpo"),
        "mara": TrainConfig("mara", options=anchored),
        "pkpo": TrainConfig("pkpo"),
        "control-other": TrainConfig("control-other"),
        "control-wrong": TrainConfig("control-wrong"),
        "control-none": TrainConfig("control-none"),
    }


SUITES: dict[str, Suite] = {"paths": Suite(runs=_runs())}


def make_base(
    suite: Suite, folder: Path, device: str = "cpu", progress: bool = True
) -> PreTrainedModel:
    """Pre-train the base, or load it where ``folder`` holds it already.

    Parameters
    ----------
    suite : Suite
    folder : Path
        A saved model (with ``config.json``), or a folder for the checkpoints of pre-training,
        which goes on from the newest one.
    device : str
    progress : bool

    Returns
    -------
    PreTrainedModel

    Raises
    ------
    ValueError
        The saved model has another vocabulary or a shorter context than the task.
    """
    if not (folder / "config.json").exists():
        return pretrain(suite.task, suite.model, suite.pretrain, folder, device, progress)
    base = load_model(folder, device=device)
    for name, needed, has in (
        ("tokens", suite.task.vocab_size, base.config.vocab_size),
        ("positions", suite.task.context_length, base.config.max_position_embeddings),
    ):
        if has < needed:
            raise ValueError(
                f"{folder}: the model has {has} {name}, the task needs {needed}; it is no base of "
                "this suite"
            )
    return base


def evaluation_prompts(
    suite: Suite, base: PreTrainedModel, splits: Sequence[str] = ("id",)
) -> dict[str, list[PathPrompt]]:
    """Prompts of each split, the same for every run.

    Parameters
    ----------
    suite : Suite
    base : PreTrainedModel
        Decides what "blocked" blocks: its most likely correct path.
    splits : sequence of str
        Among "id", "ood-blocked", "ood-larger" and "ood-waypoint".

    Returns
    -------
    dict of str to list of prompts

    Raises
    ------
    ValueError
        A split is unknown.
    """
    task, n = suite.task, suite.n_problems
    usual = task.sample(n, np.random.default_rng(_PROMPT_SEED))
    made: dict[str, list[PathPrompt]] = {}
    for split in splits:
        rng = np.random.default_rng([_PROMPT_SEED, len(split)])
        if split == "id":
            made[split] = usual
        elif split == "ood-larger":
            made[split] = task.larger(n, rng)
        elif split == "ood-waypoint":
            found = [task.waypoint(prompt, rng, min_paths=2) for prompt in usual]
            made[split] = [prompt for prompt in found if prompt is not None]
        elif split == "ood-blocked":
            blocked = []
            for prompt in usual:
                answers = task.correct_answers(prompt)
                favourite = answers[int(np.argmax(answer_logprobs(base, task, prompt, answers)))]
                blocked.append(task.blocked(prompt, favourite, rng))
            made[split] = [prompt for prompt in blocked if prompt is not None]
        else:
            raise ValueError(
                f"split {split!r} is none of 'id', 'ood-blocked', 'ood-larger', 'ood-waypoint'"
            )
    return made


ALL_SPLITS = ("id", "ood-blocked", "ood-larger", "ood-waypoint")


def base_report(suite: Suite, base: PreTrainedModel, n_prompts: int | None = None) -> pd.Series:
    """Measure what the experiment asks of a base.

    Parameters
    ----------
    suite : Suite
    base : PreTrainedModel
    n_prompts : int, optional
        Default: the suite's number of problems.

    Returns
    -------
    Series
        ``pass@1``, ``pass@64``; ``effective_paths``, 1 / sum p² over a prompt's correct paths
        from exact probabilities, mean over prompts, and ``effective_sampled``, the unbiased
        estimate from the samples (NaN where no prompt has two correct ones); and how the model
        answers with a demonstration's own path, without and with it, against Bayes' rule (see
        `follows_demonstration`).
    """
    prompts = evaluation_prompts(suite, base)["id"][: n_prompts or suite.n_problems]
    table = evaluate(base, suite.task, prompts, suite.n_samples, run="base", seed=0)
    found = counts(table)
    n, c = found["n_samples"].to_numpy(), found["n_correct"].to_numpy()
    effective = []
    for prompt in prompts:
        p = np.exp(answer_logprobs(base, suite.task, prompt, suite.task.correct_answers(prompt)))
        effective.append(p.sum() ** 2 / (p**2).sum())
    several = [cell for cell in found["correct_mode_counts"] if cell.sum() > 1]
    sampled = np.asarray(hill_number(several, 2)) if several else np.array([np.nan])
    follows = follows_demonstration(base, suite.task, prompts)
    return pd.Series(
        {
            "parameters": count_parameters(base),
            "pass@1": pass_at_k(n, c, 1).mean(),
            "pass@64": pass_at_k(n, c, min(64, int(n.min()))).mean(),
            "effective_paths": float(np.mean(effective)),
            "effective_sampled": float(1 / np.mean(1 / sampled)),
            "token_entropy": table["token_entropy"].mean(),
            **follows.mean(numeric_only=True).add_prefix("demo_").to_dict(),
        }
    )


def run_suite(
    suite: Suite,
    base: PreTrainedModel,
    folder: Path,
    runs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    progress: bool = True,
) -> list[Path]:
    """Train and evaluate runs from one base; what is done already is passed over.

    Parameters
    ----------
    suite : Suite
    base : PreTrainedModel
    folder : Path
    runs : sequence of str, optional
        Names among ``suite.runs``; default all.
    seeds : sequence of int, optional
        Default: the suite's.
    progress : bool

    Returns
    -------
    list of Path
        The rollouts files, the base's first.

    Raises
    ------
    ValueError
        A run is unknown; the message lists the known ones.
    """
    names = list(suite.runs) if runs is None else list(runs)
    for name in names:
        if name not in suite.runs:
            raise ValueError(f"run {name!r} is unknown; the known ones: {', '.join(suite.runs)}")
    prompts = evaluation_prompts(suite, base, ALL_SPLITS)
    seeds = suite.seeds if seeds is None else seeds
    files = []
    jobs = [("base", seed) for seed in seeds] + [(name, s) for s in seeds for name in names]
    for name, seed in tqdm(jobs, desc="suite", disable=not progress):
        target = folder / "rollouts" / f"{name.replace('/', '-')}-{seed}.parquet"
        files.append(target)
        if target.exists():
            continue
        parts = []
        note: dict[str, Any] = {"suite": asdict(suite.task), "seed": seed, "run": name}
        if name == "base":
            parts = [_evaluate(base, suite, prompts, name, seed, 0, ALL_SPLITS)]
        else:
            config = replace(suite.runs[name], seed=seed)
            note["train"] = asdict(config)
            for step in suite.steps:
                splits = ALL_SPLITS if step == suite.steps[-1] else ("id",)
                model = train(
                    suite.task,
                    base,
                    replace(config, steps=step),
                    folder / "runs" / f"{name.replace('/', '-')}-{seed}",
                    progress=False,
                )
                parts.append(_evaluate(model, suite, prompts, name, seed, step, splits))
        note["torch"] = torch.__version__
        note["device"] = str(base.device)
        write_rollouts(pd.concat(parts, ignore_index=True), target, note)
    return files


def _evaluate(
    model: PreTrainedModel,
    suite: Suite,
    prompts: Mapping[str, Sequence[PathPrompt]],
    run: str,
    seed: int,
    step: int,
    splits: Sequence[str],
) -> pd.DataFrame:
    parts = [
        evaluate(
            model,
            suite.task,
            prompts[split],
            suite.n_samples,
            run=run,
            split=split,
            seed=seed,
            step=step,
        )
        for split in splits
    ]
    return pd.concat(parts, ignore_index=True)
