"""The path-finding experiment: one base, every method from it, rollouts of all of them.

A suite's folder holds ``base/`` and ``runs/<run>-<seed>/`` (checkpoints and metrics) and, as
``<run>-<seed>.parquet``, ``rollouts/``, sampled answers, ``policies/``, exact probabilities of
every correct answer, and ``use/``, how student and teacher use a demonstration. What is there
already is not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from passk_lab.lab.evaluate import (
    answer_logprobs,
    correct_answer_policy,
    evaluate,
    follows_demonstration,
)
from passk_lab.lab.experiments._runs import (
    FromScratch,
    at_rates,
    made_on,
    moving_average,
    run_file,
    write_noted,
)
from passk_lab.lab.loop import TrainConfig, train
from passk_lab.lab.methods import METHODS, LossOptions
from passk_lab.lab.pretrain import PretrainConfig
from passk_lab.lab.tasks.paths import PathPrompt, PathTask
from passk_lab.metrics.functional import hill_number
from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import write_rollouts
from passk_lab.stats.policies import policy_summary

__all__ = ["SUITES", "Suite"]

# Prompts of an evaluation come from seeds that no training step uses.
_PROMPT_SEED = 1_000_003
_VALIDATION_SEED = 1_000_033
# The same for every run: the middle rate in the main experiment, the others in "paths-rates".
RATES = (3e-5, 1e-4, 3e-4)
MAIN_RATE = 1e-4

ALL_SPLITS = ("id", "ood-blocked", "ood-larger", "ood-waypoint")
# Where methods are chosen; nothing is sampled there.
VALIDATION = "validation"
_N_USE = 64  # problems on which the use of a demonstration is measured

# Half of the documents are wrong, but none that shows a demonstration: who solves a problem
# correctly once does so again. Were some of these wrong, a model that sees a demonstration would
# take every departure from it for a mistake and go on with mistakes (see docs/training.md).
PATHS = PathTask(
    min_paths=5,
    max_paths=12,
    style_shares=(0.4, 0.2, 0.2, 0.2),
    follow=0.95,
    wrong=0.5,
    wrong_after_demo=0.0,
)


Prompts = Mapping[str, Sequence[PathPrompt]]


@dataclass(frozen=True)
class Suite(FromScratch):
    """What is trained and evaluated.

    Attributes
    ----------
    task : PathTask
    pretrain : PretrainConfig
    runs : mapping of str to TrainConfig
        Name in the column ``run`` -> how it is trained; the seed is filled in.
    steps, policy_steps : tuple of int
        Training steps after which answers are sampled, and exact probabilities of correct answers
        are kept (the former are among the latter): in distribution, after the last also on every
        split.
    seeds : tuple of int
    n_problems, n_samples : int
        Size of an evaluation, for each split; without samples, exact probabilities alone are kept.
    d_model, n_layers, n_heads : int
        Shape of the model.
    seen : bool
        Train on the very problems that are evaluated in distribution.
    """

    task: PathTask = field(default_factory=lambda: PATHS)
    pretrain: PretrainConfig = field(default_factory=lambda: PretrainConfig(steps=3_000))
    runs: Mapping[str, TrainConfig] = field(default_factory=dict)
    steps: tuple[int, ...] = (60, 240)
    policy_steps: tuple[int, ...] = (20, 60, 100, 140, 180, 240)
    seeds: tuple[int, ...] = (0, 1, 2)
    n_problems: int = 200
    n_samples: int = 128
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    seen: bool = False

    def evaluation_prompts(
        self, base: PreTrainedModel, splits: Sequence[str] = ("id",)
    ) -> dict[str, list[PathPrompt]]:
        """Prompts of each split that is asked for, the same for every run.

        The base decides what "blocked" blocks: its most likely correct path.
        """
        task, n = self.task, self.n_problems
        usual = task.sample(n, np.random.default_rng(_PROMPT_SEED))
        made: dict[str, list[PathPrompt]] = {}
        for split in splits:
            rng = np.random.default_rng([_PROMPT_SEED, len(split)])
            found: Sequence[PathPrompt | None]
            if split == "id":
                found = usual
            elif split == VALIDATION:
                found = task.sample(n, np.random.default_rng(_VALIDATION_SEED))
            elif split == "ood-larger":
                found = task.larger(n, rng)
            elif split == "ood-waypoint":
                found = [task.waypoint(prompt, rng, min_paths=2) for prompt in usual]
            elif split == "ood-blocked":
                found = [task.blocked(p, _favourite(base, task, p), rng) for p in usual]
            else:
                known = ", ".join(map(repr, (*ALL_SPLITS, VALIDATION)))
                raise ValueError(f"split {split!r} is none of {known}")
            made[split] = [prompt for prompt in found if prompt is not None]
        return made

    def base_report(self, base: PreTrainedModel, n_prompts: int | None = None) -> pd.Series:
        """Measure what the experiment asks of a base, on the suite's or ``n_prompts`` problems.

        ``pass@1``, ``pass@64``; ``effective_paths``, 1 / sum p² over a prompt's correct paths, mean
        over prompts, and ``effective_sampled``, the unbiased estimate from the samples (NaN where
        no prompt has two correct ones); and what `follows_demonstration` gives, prefixed "demo_".
        """
        prompts = self.evaluation_prompts(base)["id"][: n_prompts or self.n_problems]
        table = evaluate(base, self.task, prompts, self.n_samples, run="base", seed=0)
        found = counts(table)
        n, c = found["n_samples"].to_numpy(), found["n_correct"].to_numpy()
        exact = policy_summary(correct_answer_policy(base, self.task, prompts))
        several = [cell for cell in found["correct_mode_counts"] if cell.sum() > 1]
        sampled = np.asarray(hill_number(several, 2)) if several else np.array([np.nan])
        follows = follows_demonstration(base, self.task, prompts)
        return pd.Series(
            {
                "parameters": base.num_parameters(),
                "pass@1": pass_at_k(n, c, 1).mean(),
                "pass@64": pass_at_k(n, c, min(64, int(n.min()))).mean(),
                "effective_paths": exact["effective_answers"],
                "effective_sampled": float(1 / np.mean(1 / sampled)),
                "token_entropy": table["token_entropy"].mean(),
                **follows.mean(numeric_only=True).add_prefix("demo_").to_dict(),
            }
        )

    def plan(
        self, base: PreTrainedModel, folder: Path, runs: Sequence[str], jobs: int, progress: bool
    ) -> Prompts:
        """Draw the prompts."""
        return self.evaluation_prompts(base, (*ALL_SPLITS, VALIDATION))

    def complete(self, folder: Path, plan: Prompts, run: str, seed: int) -> bool:
        """Whether all files of a run are there."""
        return all(run_file(folder, kind, run, seed).exists() for kind in self._kinds)

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The run's rollouts; without samples, its policies."""
        return run_file(folder, self._kinds[0], run, seed)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("rollouts", "policies", "use") if self.n_samples else ("policies", "use")

    def make(self, base: PreTrainedModel, folder: Path, plan: Prompts, run: str, seed: int) -> None:
        """Train one run with one seed, and measure it as often as ``policy_steps`` says."""
        note: dict[str, Any] = {"task": asdict(self.task), "run": run, "seed": seed}
        found: dict[str, list[pd.DataFrame]] = {kind: [] for kind in self._kinds}
        kept = run_file(folder, "runs", run, seed).with_suffix("")
        steps = (0,) if run == "base" else self.policy_steps
        for step in steps:
            model, teacher = base, None
            if run != "base":
                config = replace(self.runs[run], seed=seed)
                note["train"] = asdict(config)
                only = plan["id"] if self.seen else None
                until = replace(config, steps=step)
                model = train(self.task, base, until, kept, progress=False, prompts=only).eval()
                teacher = moving_average(base, kept) if config.teacher == "ema" else None
            last = step == steps[-1]
            for split in plan if last else ("id",):
                prompts = plan[split]
                at: dict[str, Any] = {"run": run, "split": split, "seed": seed, "step": step}
                found["policies"].append(_policy(model, self.task, prompts).assign(**at))
                sampled = split != "id" or run == "base" or step in self.steps
                if self.n_samples and sampled and split != VALIDATION:
                    table = evaluate(model, self.task, prompts, self.n_samples, **at)
                    found["rollouts"].append(table)
            for who, one in (("student", model), ("teacher", teacher)):
                if one is not None:
                    composed = base if who == "teacher" and "composed" in run else None
                    some = plan["id"][:_N_USE]
                    use = follows_demonstration(one, self.task, some, base=composed)
                    found["use"].append(use.assign(who=who, run=run, seed=seed, step=step))
        note |= made_on(base)
        if self.n_samples:
            rollouts = pd.concat(found.pop("rollouts"), ignore_index=True)
            write_rollouts(rollouts, run_file(folder, "rollouts", run, seed), note)
        for kind, parts in found.items():
            write_noted(parts, run_file(folder, kind, run, seed), note)


# Methods that only the Concept Graph compares.
_OF_CONCEPTS = ("sdsd-3", "sdsd-external", "grpo-diversity", "ucpo", "grpo-floor")


def _runs() -> dict[str, TrainConfig]:
    """Every method, and variants that tell what matters, the main ones first."""
    anchored = LossOptions(kl_coef=0.1)
    options: dict[str, dict[str, Any]] = {
        "sdsd": {},
        "grpo": {},
        "grpo/kl": {"options": anchored},
        "sdsd/ema-0.05": {"ema_rate": 0.05},
        "sdsd/live": {"teacher": "live"},
        "sdsd/frozen": {"teacher": "frozen"},
        "mara": {"options": anchored},
        "sdsd-composed": {},
        "sdsd-composed/balanced": {"options": LossOptions(balanced=True)},
        "sdsd-anchored": {},
        "sdsd-anchored/dkpo": {"options": LossOptions(at_k=2, reward=1.0)},
        "dkpo": {"options": LossOptions(at_k=2)},
        "dkpo/mixed": {"options": LossOptions(at_k=2, mix=0.5)},
        "rft/balanced": {"options": LossOptions(balanced=True)},
    }
    options |= {name: {} for name in METHODS if name not in (*options, *_OF_CONCEPTS)}
    # Here a student learns most of what it learns within a hundred updates, so that a teacher that
    # moves slowly in comparison takes a hundredth of the student at each. (SDPO's code takes a
    # twentieth, at learning rates a hundred times smaller.)
    usual = {"prompts_per_step": 8, "ema_rate": 0.01, "learning_rate": MAIN_RATE}
    return {name: TrainConfig(name, **(usual | o)) for name, o in options.items()}


_RUNS = _runs()

# For one GPU: larger graphs, ten million parameters.
_LARGE = Suite(
    task=replace(
        PATHS, n_nodes=14, max_nodes=18, edges=(26, 34), larger_edges=(38, 46), min_paths=6,
        max_paths=30, n_concepts=8, context_length=128,
    ),
    pretrain=PretrainConfig(steps=12_000, batch_size=512, learning_rate=1e-3, warmup=500),
    runs={
        name: replace(config, prompts_per_step=32, autocast=True, compile=True)
        for name, config in _RUNS.items()
    },
    d_model=384,
    n_layers=6,
    n_heads=6,
)  # fmt: skip

_OTHER_RATES = tuple(rate for rate in RATES if rate != MAIN_RATE)
# Controls, and variants of the teacher's pace, are compared with `sdsd` at the main rate alone.
_COMPARED = {
    name: config
    for name, config in _RUNS.items()
    if not name.startswith(("control-", "sdsd/ema", "sdsd/live"))
}
# Those that learn least at the lowest of the rates that all have.
_SLOWER = {name: _RUNS[name] for name in ("sdsd-forward", "sdsd-jsd")}
# The runs that the forecast is held against, and RL; at the highest rate, the farthest.
_ON_SEEN = {
    name: replace(_RUNS[name], learning_rate=max(RATES))
    for name in ("sdsd", "grpo", "grpo/kl", "sdsd/ema-0.05", "sdsd/frozen")
}

SUITES: dict[str, Suite] = {
    "paths": Suite(runs=_RUNS),
    "paths-large": _LARGE,
    "paths-rates": Suite(
        runs=at_rates(_COMPARED, _OTHER_RATES) | at_rates(_SLOWER, (1e-5,)),
        steps=(240,),
        policy_steps=(240,),
        n_samples=0,
    ),
    "paths-seen": Suite(
        runs=_ON_SEEN,
        steps=(240,),
        policy_steps=(60, 240),
        n_samples=0,
        seen=True,
    ),
}


def _favourite(model: PreTrainedModel, task: PathTask, prompt: PathPrompt) -> str:
    answers = task.correct_answers(prompt)
    return answers[int(np.argmax(answer_logprobs(model, task, prompt, answers)))]


def _policy(model: PreTrainedModel, task: PathTask, prompts: Sequence[PathPrompt]) -> pd.DataFrame:
    """Exact probabilities of the correct answers, and bit by bit which concepts they visit."""
    policy = correct_answer_policy(model, task, prompts)
    by_name = {prompt.problem_id: prompt for prompt in prompts}
    policy["concepts"] = [
        sum(1 << concept for concept in task.concepts_of(by_name[problem], answer))
        for problem, answer in zip(policy["problem_id"], policy["answer"], strict=True)
    ]
    return policy
