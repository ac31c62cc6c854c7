"""The Concept Graph: the paper's methods and ours from one base, its splits and its measures.

A suite's folder holds ``base/`` and ``runs/<run>-<seed>/`` (checkpoints and metrics) and, as
``<run>-<seed>.parquet``, ``policies/``, exact probabilities of every correct answer, ``samples/``,
what 64 samples of each problem show, and ``use/``, how student and teacher use a demonstration.
What is there already is not made again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from passk_lab.lab._checkpoint import load_checkpoint
from passk_lab.lab.evaluate import answer_logprobs, correct_answer_policy, evaluate
from passk_lab.lab.experiments._runs import (
    FromScratch,
    at_rates,
    made_on,
    moving_average,
    run_file,
    side_by_side,
    write_noted,
)
from passk_lab.lab.loop import TrainConfig, train
from passk_lab.lab.methods import LossOptions
from passk_lab.lab.model import ModelConfig
from passk_lab.lab.pretrain import PretrainConfig
from passk_lab.lab.tasks.concepts import SPLITS, ConceptPrompt, ConceptTask

__all__ = ["SUITES", "ConceptSuite"]

_PROMPT_SEED = 1_000_003
_KINDS = ("policies", "samples", "use")
_RATES = (1e-4, 3e-4, 6e-4)
_MAIN_RATE = 3e-4

Prompts = Mapping[str, Sequence[ConceptPrompt]]


@dataclass(frozen=True)
class ConceptSuite(FromScratch):
    """What is trained and evaluated.

    Attributes
    ----------
    task : ConceptTask
    runs : mapping of str to TrainConfig
        Name in the column ``run`` -> how it is trained; the seed is filled in.
    demonstrators : mapping of str to str
        Runs of ``sdsd-external`` -> the run, with the first seed, whose answers they are shown.
    pretrain : PretrainConfig
    steps : tuple of int
        Training steps after which probabilities are kept; after the last one on every split, with
        samples.
    seeds : tuple of int
    n_problems, n_samples : int
        Size of an evaluation, for each split.
    d_model, n_layers, n_heads : int
        Shape of the model.
    """

    task: ConceptTask = field(default_factory=ConceptTask)
    runs: Mapping[str, TrainConfig] = field(default_factory=dict)
    demonstrators: Mapping[str, str] = field(default_factory=dict)
    pretrain: PretrainConfig = field(default_factory=lambda: PretrainConfig(steps=5_000))
    steps: tuple[int, ...] = (25, 50, 100, 200, 300)
    seeds: tuple[int, ...] = (0, 1, 2)
    n_problems: int = 128
    n_samples: int = 64
    d_model: int = 128
    n_layers: int = 3
    n_heads: int = 4

    @property
    def model(self) -> ModelConfig:
        """Shape of the model; with transformers' usual small weights chains weren't learned."""
        return replace(
            super().model, rope_theta=1e6, initializer_range=round(self.d_model**-0.5, 2)
        )

    def base_report(self, base: PreTrainedModel) -> pd.Series:
        """Accuracy on every split, share of the easy route, and how a demonstration is followed."""
        prompts = self.prompts()
        found: dict[str, float] = {"parameters": base.num_parameters()}
        for split, some in prompts.items():
            policy = _policy(base, self.task, some)
            p = np.exp(policy["logprob"])
            found[f"pass@1 {split}"] = float(p.sum() / len(some))
            if split == "id":
                found["easy"] = float(p[policy["easy"]].sum() / p.sum())
        use = _use(base, self.task, prompts["id"])
        for demo in ("easy", "hard"):
            mean = use[use["demo"] == demo].mean(numeric_only=True)
            found[f"correct after {demo}"] = mean["correct"]
            found[f"{demo} after {demo}"] = mean["same_route"]
        return pd.Series(found)

    def prompts(self) -> Prompts:
        """Prompts of every split, the same for every run."""
        return {
            split: self.task.split(
                split, self.n_problems, np.random.default_rng([_PROMPT_SEED, place])
            )
            for place, split in enumerate(SPLITS)
        }

    def plan(
        self, base: PreTrainedModel, folder: Path, runs: Sequence[str], jobs: int, progress: bool
    ) -> Prompts:
        """Draw the prompts, and train those whose answers others are shown."""
        prompts = self.prompts()
        sources = dict.fromkeys(
            self.demonstrators[run] for run in runs if run in self.demonstrators
        )
        first = [
            (run, self.seeds[0])
            for run in sources
            if run != "base" and not self.complete(folder, prompts, run, self.seeds[0])
        ]
        side_by_side(self.make, (base, folder, prompts), first, jobs, "demonstrators", progress)
        return prompts

    def complete(self, folder: Path, plan: Prompts, run: str, seed: int) -> bool:
        """Whether all files of a run are there."""
        return all(run_file(folder, kind, run, seed).exists() for kind in _KINDS)

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The run's policies."""
        return run_file(folder, "policies", run, seed)

    def make(self, base: PreTrainedModel, folder: Path, plan: Prompts, run: str, seed: int) -> None:
        """Train one run with one seed, and measure it as often as ``steps`` says."""
        note: dict[str, Any] = {"task": asdict(self.task), "run": run, "seed": seed}
        found: dict[str, list[pd.DataFrame]] = {kind: [] for kind in _KINDS}
        kept = run_file(folder, "runs", run, seed).with_suffix("")
        demonstrator = self._demonstrator(base, folder, run)
        for step in (0,) if run == "base" else self.steps:
            model, teacher = base, None
            if run != "base":
                config = replace(self.runs[run], seed=seed)
                note["train"] = asdict(config)
                until = replace(config, steps=step, save_every=self.steps[-1])
                model = train(
                    self.task, base, until, kept, progress=False, demonstrator=demonstrator
                ).eval()
                teacher = moving_average(base, kept) if config.teacher == "ema" else None
            last = run == "base" or step == self.steps[-1]
            for split, prompts in plan.items():
                at: dict[str, Any] = {"run": run, "split": split, "seed": seed, "step": step}
                if last or split in ("id", "harder"):
                    found["policies"].append(_policy(model, self.task, prompts).assign(**at))
                if last or split == "id":
                    table = _samples(model, self.task, prompts, self.n_samples, seed, step)
                    found["samples"].append(table.assign(**at))
            for who, one in (("student", model), ("teacher", teacher)):
                if one is not None:
                    use = _use(one, self.task, plan["id"][:32])
                    found["use"].append(use.assign(who=who, run=run, seed=seed, step=step))
        note |= made_on(base)
        for kind, parts in found.items():
            write_noted(parts, run_file(folder, kind, run, seed), note)

    def _demonstrator(
        self, base: PreTrainedModel, folder: Path, run: str
    ) -> PreTrainedModel | None:
        source = self.demonstrators.get(run)
        if source is None or source == "base":
            return None if source is None else base
        model = copy.deepcopy(base)
        kept = run_file(folder, "runs", source, self.seeds[0]).with_suffix("")
        load_checkpoint(kept, model)
        return model.eval()


def _policy(
    model: PreTrainedModel, task: ConceptTask, prompts: Sequence[ConceptPrompt]
) -> pd.DataFrame:
    """Exact probabilities of the correct answers, and whether each takes the easy route."""
    table = correct_answer_policy(model, task, prompts)
    by_name = {prompt.problem_id: prompt for prompt in prompts}
    table["easy"] = [
        by_name[problem].answers[answer].route == "easy"
        for problem, answer in zip(table["problem_id"], table["answer"], strict=True)
    ]
    return table


def _samples(
    model: PreTrainedModel,
    task: ConceptTask,
    prompts: Sequence[ConceptPrompt],
    n_samples: int,
    seed: int,
    step: int,
) -> pd.DataFrame:
    """What the samples of each problem show, a row a problem.

    ``n_samples, n_correct``; ``concepts``, different ones among the nodes of all samples, and
    ``valid_concepts``, among those of the correct ones; ``token_entropy``, its mean in nats.
    """
    table = evaluate(model, task, prompts, n_samples, run="", seed=seed, step=step)
    rows = []
    for place, prompt in enumerate(prompts):
        mine = table.iloc[place * n_samples : (place + 1) * n_samples]
        answers = [a if isinstance(a, str) else None for a in mine["answer"]]
        visited = [task.concepts_of(prompt, answer) for answer in answers]
        right = [v for v, hit in zip(visited, mine["correct"], strict=True) if hit]
        rows.append(
            {
                "problem_id": prompt.problem_id,
                "n_samples": n_samples,
                "n_correct": int(mine["correct"].sum()),
                "concepts": len(frozenset().union(*visited)),
                "valid_concepts": len(frozenset().union(*right)),
                "token_entropy": float(mine["token_entropy"].mean()),
            }
        )
    return pd.DataFrame(rows)


def _use(
    model: PreTrainedModel, task: ConceptTask, prompts: Sequence[ConceptPrompt]
) -> pd.DataFrame:
    """What a demonstration of each route makes of the model, a row a prompt and route.

    ``correct``: probability of a correct answer; ``same_route``: share of the demonstration's route
    among these; ``same_answer``: of the demonstration itself.
    """
    rows = []
    for prompt in prompts:
        answers = task.correct_answers(prompt)
        routes = np.array([prompt.answers[answer].route for answer in answers])
        for demo in ("easy", "hard"):
            shown = int(np.flatnonzero(routes == demo)[0])
            p = np.exp(answer_logprobs(model, task, prompt, answers, answers[shown]))
            rows.append(
                {
                    "problem_id": prompt.problem_id,
                    "demo": demo,
                    "correct": p.sum(),
                    "same_route": p[routes == demo].sum() / p.sum(),
                    "same_answer": p[shown] / p.sum(),
                }
            )
    return pd.DataFrame(rows)


def _config(method: str, **options: Any) -> TrainConfig:
    """The paper's batch; every method is held to the base by a KL term."""
    teacher = {name: options.pop(name) for name in ("teacher", "ema_rate") if name in options}
    chosen = LossOptions(**{"kl_coef": 0.1, "trust": 0.1, **options})
    return TrainConfig(
        method, prompts_per_step=16, group_size=4, learning_rate=_MAIN_RATE, options=chosen,
        **{"ema_rate": 0.01, **teacher},
    )  # fmt: skip


_METHODS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "sdsd": {},
    "grpo-diversity": {},
    "sdsd-3": {},
    "sdsd/frozen": {"teacher": "frozen"},
    "sdsd-composed": {},
    "sdsd-anchored": {},
    "dkpo/2": {"at_k": 2},
    "dkpo/4": {"at_k": 4},
    "ucpo": {},
    "grpo-floor": {},
    "mara": {},
    "pkpo": {},
}
# Axes of the map: how strong the tie to the base is, how fast the teacher follows.
_AXES: dict[str, dict[str, Any]] = {
    **{f"{method}/kl-{kl:g}": {"kl_coef": kl, "trust": kl}
       for method in ("grpo", "sdsd", "grpo-diversity") for kl in (0.0, 0.3)},
    **{f"sdsd/ema-{rate:g}": {"ema_rate": rate} for rate in (0.003, 0.03)},
    **{f"grpo-diversity/weight-{weight:g}": {"diversity": weight} for weight in (0.1, 0.3, 3.0)},
    "dkpo/2-baseline": {"at_k": 2, "baseline": True},
    "dkpo/2-plain": {"at_k": 2, "standardise": False},
}  # fmt: skip
# As in Figure 5: who demonstrates, from hardly to fully diverse.
_DEMONSTRATORS = {
    "grpo": "grpo",
    "base": "base",
    **{f"weight-{weight:g}": f"grpo-diversity/weight-{weight:g}" for weight in (0.1, 0.3, 3.0)},
    "weight-1": "grpo-diversity",
}


def _runs() -> dict[str, TrainConfig]:
    """Every method at the same rates, the main one first; then the axes of the map."""
    found = {name: _config(name, **options) for name, options in _METHODS.items()}
    found |= {f"sdsd-external/{name}": _config("sdsd-external") for name in _DEMONSTRATORS}
    found |= {name: _config(name, **options) for name, options in _AXES.items()}
    others = [rate for rate in _RATES if rate != _MAIN_RATE]
    return found | at_rates({name: found[name] for name in _METHODS}, others)


SUITES: dict[str, ConceptSuite] = {
    "concepts": ConceptSuite(
        ConceptTask(habit=0.995),
        _runs(),
        {f"sdsd-external/{name}": source for name, source in _DEMONSTRATORS.items()},
    )
}
