"""The path-finding experiment: one base, every method from it, rollouts of all of them.

A suite's folder holds ``base/`` (checkpoints); ``sweep/``, one file a learning rate, and
``sweep.csv``; ``runs/<run>-<seed>/`` (checkpoints and metrics); and, as
``<run>-<seed>.parquet``, ``rollouts/``, sampled answers, and ``policies/``, exact probabilities of
every correct answer. What is there already is not made again.
"""

from __future__ import annotations

import json
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
    made_on,
    run_file,
    side_by_side,
    write_noted,
)
from passk_lab.lab.loop import TrainConfig, train
from passk_lab.lab.methods import METHODS, LossOptions
from passk_lab.lab.pretrain import PretrainConfig
from passk_lab.lab.tasks.paths import PathPrompt, PathTask
from passk_lab.metrics.functional import hill_number
from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import atomic_write, write_rollouts
from passk_lab.stats.policies import policy_summary, policy_values

__all__ = ["SUITES", "Suite"]

# Prompts of an evaluation and of the sweep's validation come from seeds that no training step uses.
_PROMPT_SEED = 1_000_003
_VALIDATION_SEED = 1_000_033

ALL_SPLITS = ("id", "ood-blocked", "ood-larger", "ood-waypoint")

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


@dataclass(frozen=True)
class _Plan:
    """What all runs of a suite share: prompts of every split, and the rate of every run."""

    prompts: Mapping[str, Sequence[PathPrompt]]
    rates: Mapping[str, float]


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
        are kept: in distribution, and after the last one of ``steps`` (probabilities: all of them,
        which are among ``policy_steps``) on every split.
    seeds : tuple of int
    n_problems, n_samples : int
        Size of an evaluation, for each split; without samples, exact probabilities alone are kept.
    learning_rates : tuple of float
        Those that the sweep tries, the same for every run; a single one is taken as it is.
    rate_of : mapping of str to str
        Runs that aren't swept -> the run, one of ``runs``, whose learning rate they take.
    sweep_steps, sweep_seed : int
        Length and seed of the sweep's runs; the seed is none of ``seeds``.
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
    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    rate_of: Mapping[str, str] = field(default_factory=dict)
    sweep_steps: int = 240
    sweep_seed: int = 1_000
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    seen: bool = False

    def evaluation_prompts(
        self, base: PreTrainedModel, splits: Sequence[str] = ("id",)
    ) -> dict[str, list[PathPrompt]]:
        """Prompts of each split in `ALL_SPLITS` that is asked for, the same for every run.

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
            elif split == "ood-larger":
                found = task.larger(n, rng)
            elif split == "ood-waypoint":
                found = [task.waypoint(prompt, rng, min_paths=2) for prompt in usual]
            elif split == "ood-blocked":
                found = [task.blocked(p, _favourite(base, task, p), rng) for p in usual]
            else:
                raise ValueError(f"split {split!r} is none of {', '.join(map(repr, ALL_SPLITS))}")
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
    ) -> _Plan:
        """Sweep the learning rates that the runs need, and draw the prompts."""
        rates = dict.fromkeys(self.runs, self.learning_rates[0])
        if len(self.learning_rates) > 1:
            swept = _sweep_learning_rates(self, base, folder, runs, jobs, progress)
            best = swept[swept["chosen"]].set_index("run")["learning_rate"]
            rates = {name: float(best[self.rate_of.get(name, name)]) for name in runs}
        return _Plan(self.evaluation_prompts(base, ALL_SPLITS), rates)

    def complete(self, folder: Path, plan: _Plan, run: str, seed: int) -> bool:
        """Whether all files of a run are there."""
        return all(run_file(folder, kind, run, seed).exists() for kind in self._kinds)

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The run's rollouts; without samples, its policies."""
        return run_file(folder, self._kinds[0], run, seed)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("rollouts", "policies") if self.n_samples else ("policies",)

    def make(self, base: PreTrainedModel, folder: Path, plan: _Plan, run: str, seed: int) -> None:
        """Train one run with one seed, and write its rollouts and its exact policies."""
        note: dict[str, Any] = {"task": asdict(self.task), "run": run, "seed": seed}
        config = None
        steps: tuple[int, ...] = (0,)
        if run != "base":
            steps = self.policy_steps
            config = replace(self.runs[run], seed=seed, learning_rate=plan.rates[run])
            note["train"] = asdict(config)
        rollouts, policies = [], []
        for step in steps:
            model = base
            if config is not None:
                kept = run_file(folder, "runs", run, seed).with_suffix("")
                only = plan.prompts["id"] if self.seen else None
                until = replace(config, steps=step)
                model = train(self.task, base, until, kept, progress=False, prompts=only).eval()
            sampled = step in self.steps or config is None
            for split in ALL_SPLITS if sampled else ("id",):
                at: dict[str, Any] = {"run": run, "split": split, "seed": seed, "step": step}
                prompts = plan.prompts[split]
                policies.append(_policy(model, self.task, prompts).assign(**at))
                if self.n_samples and sampled and (split == "id" or step == steps[-1]):
                    rollouts.append(evaluate(model, self.task, prompts, self.n_samples, **at))
        note |= made_on(base)
        if rollouts:
            target = run_file(folder, "rollouts", run, seed)
            write_rollouts(pd.concat(rollouts, ignore_index=True), target, note)
        write_noted(policies, run_file(folder, "policies", run, seed), note)


# Methods that the Concept Graph compares.
_OF_CONCEPTS = (
    "sdsd-3", "sdsd-external", "sdsd-composed", "sdsd-anchored", "dkpo", "grpo-diversity", "ucpo",
    "grpo-floor",
)  # fmt: skip


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
    }
    options |= {name: {} for name in METHODS if name not in (*options, *_OF_CONCEPTS)}
    # Here a student learns most of what it learns within a hundred updates, so that a teacher that
    # moves slowly in comparison takes a hundredth of the student at each. (SDPO's code takes a
    # twentieth, at learning rates a hundred times smaller.)
    slow = {"prompts_per_step": 8, "ema_rate": 0.01}
    return {name: TrainConfig(name, **(slow | o)) for name, o in options.items()}


# What a variant or a control is compared with decides its learning rate, too.
_RATE_OF = {"grpo/kl": "grpo"} | dict.fromkeys(
    (
        "sdsd/ema-0.05",
        "sdsd/live",
        "sdsd/frozen",
        *(m for m in METHODS if m.startswith("control-")),
    ),
    "sdsd",
)

# For one GPU: larger graphs, ten million parameters.
_LARGE = Suite(
    task=replace(
        PATHS, n_nodes=14, max_nodes=18, edges=(26, 34), larger_edges=(38, 46), min_paths=6,
        max_paths=30, n_concepts=8, context_length=128,
    ),
    pretrain=PretrainConfig(steps=12_000, batch_size=512, learning_rate=1e-3, warmup=500),
    runs={
        name: replace(config, prompts_per_step=32, autocast=True, compile=True)
        for name, config in _runs().items()
    },
    rate_of=_RATE_OF,
    d_model=384,
    n_layers=6,
    n_heads=6,
)  # fmt: skip

# The runs that the forecast is held against, and RL; the rate is what the sweep chose for both.
_SEEN = Suite(
    runs={
        name: _runs()[name] for name in ("sdsd", "grpo", "grpo/kl", "sdsd/ema-0.05", "sdsd/frozen")
    },
    steps=(240,),
    policy_steps=(60, 240),
    n_samples=0,
    learning_rates=(3e-4,),
    seen=True,
)

SUITES: dict[str, Suite] = {
    "paths": Suite(runs=_runs(), rate_of=_RATE_OF),
    "paths-large": _LARGE,
    "paths-seen": _SEEN,
}


def _favourite(model: PreTrainedModel, task: PathTask, prompt: PathPrompt) -> str:
    answers = task.correct_answers(prompt)
    return answers[int(np.argmax(answer_logprobs(model, task, prompt, answers)))]


def _sweep_learning_rates(
    suite: Suite,
    base: PreTrainedModel,
    folder: Path,
    runs: Sequence[str],
    jobs: int,
    progress: bool,
) -> pd.DataFrame:
    """Try every learning rate on prompts that nothing else uses, once for runs that share it.

    One row a run and rate, also in ``sweep.csv``: what `policy_summary` gives, ``pass@1_error``
    (standard error over problems) and ``chosen``, the rate with the highest pass@1.
    """
    for name in runs:
        if suite.rate_of.get(name, name) not in suite.runs:
            raise ValueError(
                f"rate_of: {name!r} takes the learning rate of {suite.rate_of[name]!r}, which is "
                f"no run of the suite; add that run, or drop this entry to sweep {name!r} itself"
            )
    names = dict.fromkeys(suite.rate_of.get(name, name) for name in runs)
    tried = [(name, rate) for name in names for rate in suite.learning_rates]
    missing = [one for one in tried if not _tried(folder, *one).exists()]
    side_by_side(_try_rate, (base, suite, folder), missing, jobs, "sweep", progress)
    table = pd.DataFrame([json.loads(_tried(folder, *one).read_text()) for one in tried])
    # Of equal ones the smallest, which comes first.
    table["chosen"] = table.index.isin(table.groupby("run")["pass@1"].idxmax())
    with atomic_write(folder / "sweep.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def _tried(folder: Path, run: str, rate: float) -> Path:
    return folder / "sweep" / f"{run.replace('/', '-')}-{rate:g}.json"


def _try_rate(base: PreTrainedModel, suite: Suite, folder: Path, name: str, rate: float) -> None:
    """Train with one learning rate and measure it on the validation prompts."""
    target = _tried(folder, name, rate)
    config = replace(
        suite.runs[name], steps=suite.sweep_steps, learning_rate=rate, seed=suite.sweep_seed
    )
    model = train(suite.task, base, config, target.with_suffix(""), progress=False)
    prompts = suite.task.sample(suite.n_problems, np.random.default_rng(_VALIDATION_SEED))
    policy = correct_answer_policy(model, suite.task, prompts)
    solved = policy_values(policy, "pass_at_k", 1, by=())[0].values[0, :, 0]
    record = {"run": name, "learning_rate": rate, "seed": config.seed, "step": config.steps}
    record |= policy_summary(policy)
    record["pass@1_error"] = float(solved.std(ddof=1) / np.sqrt(len(solved)))
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(record))


def _policy(model: PreTrainedModel, task: PathTask, prompts: Sequence[PathPrompt]) -> pd.DataFrame:
    """Exact probabilities of the correct answers, and bit by bit which concepts they visit."""
    policy = correct_answer_policy(model, task, prompts)
    by_name = {prompt.problem_id: prompt for prompt in prompts}
    policy["concepts"] = [
        sum(1 << concept for concept in task.concepts_of(by_name[problem], answer))
        for problem, answer in zip(policy["problem_id"], policy["answer"], strict=True)
    ]
    return policy
