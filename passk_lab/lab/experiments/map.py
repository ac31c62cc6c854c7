"""Where the collapse appears: the suite's main methods under other authors and other settings.

Each condition changes one thing of the main experiment: how much a demonstration says, how unequal
the authors' styles are, how fast the teacher follows, how strong the penalty on RL is. Bases for
other authors are the main one, trained on for a while on documents by these authors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel

from passk_lab._text import look_up
from passk_lab.lab.experiments._runs import run_suite
from passk_lab.lab.experiments.suite import PATHS, Suite
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.methods import LossOptions
from passk_lab.lab.pretrain import PretrainConfig, pretrain
from passk_lab.lab.tasks.paths import PathTask

__all__ = ["AUTHORS", "CONDITIONS", "run_map"]

AUTHORS: dict[str, PathTask] = {
    "main": PATHS,
    "freer-authors": replace(PATHS, follow=0.6),
    "fallible-after-demonstration": replace(PATHS, wrong_after_demo=0.1),
    "even-authors": replace(PATHS, style_shares=(0.25, 0.25, 0.25, 0.25)),
    "unequal-authors": replace(PATHS, style_shares=(0.7, 0.1, 0.1, 0.1)),
    # No context that says "what follows is right": as many documents are wrong with a demonstration
    # as without, and authors leave it often enough that a departure is no sign of a mistake.
    "no-switch": replace(PATHS, follow=0.8, wrong=0.15, wrong_after_demo=0.15),
}


# The same for both methods, the highest of the main experiment's.
_RATE = 3e-4


def _config(name: str, **options: object) -> TrainConfig:
    usual = TrainConfig(name, prompts_per_step=8, ema_rate=0.01, learning_rate=_RATE)
    return replace(usual, **options)  # type: ignore[arg-type]


_BOTH = {"sdsd": _config("sdsd"), "grpo/kl": _config("grpo/kl", options=LossOptions(kl_coef=0.1))}
# What the main suite trains itself isn't trained again.
CONDITIONS: dict[str, dict[str, TrainConfig]] = {
    "main": {
        "grpo/kl-0.3": _config("grpo/kl-0.3", options=LossOptions(kl_coef=0.3)),
        "sdsd/trust-1": _config("sdsd/trust-1", options=LossOptions(trust=1.0)),
    },
    **{name: _BOTH for name in AUTHORS if name != "main"},
    "no-switch": _BOTH
    | {name: _config(name) for name in ("grpo", "sdsd-composed", "control-other", "control-wrong")}
    | {"sdsd/frozen": _config("sdsd/frozen", teacher="frozen")},
}
_ADAPTATION = PretrainConfig(steps=300, learning_rate=1e-3, warmup=30, seed=1)


def run_map(
    base: PreTrainedModel,
    folder: Path,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    progress: bool = True,
    conditions: Sequence[str] | None = None,
    suite: Suite | None = None,
    adaptation: PretrainConfig = _ADAPTATION,
) -> list[Path]:
    """Train every condition from one base and keep its exact policies; resumes.

    Each condition gets a folder with the files of a suite and, for other authors, ``base/``, which
    learned them by ``adaptation``. Of a given suite, task and runs are replaced. An unknown
    condition is a ValueError.
    """
    suite = suite or Suite(n_samples=0, steps=(140,), policy_steps=(20, 60, 100, 140))
    files = []
    for name in CONDITIONS if conditions is None else conditions:
        runs = look_up("condition", name, CONDITIONS)
        here = replace(suite, task=AUTHORS[name], runs=runs)
        model = base
        if AUTHORS[name] != PATHS:
            model = pretrain(
                here.task, here.model, adaptation, folder / name / "base",
                progress=progress, start_from=base,
            ).eval()  # fmt: skip
        files += run_suite(here, model, folder / name, None, seeds, jobs, progress)
    return files
