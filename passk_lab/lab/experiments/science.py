"""Experiments with a language model, trained with each method from its weights.

Science questions are split once, by a fixed seed, into those that are trained on and those that are
only asked. A suite's folder holds ``runs/<run>-<seed>/``, checkpoints and metrics, and
``rollouts/<run>-<seed>.parquet``, graded replies to the questions that the run never saw. Questions
of the Concept Graph are drawn anew; replies are kept for each split. What is there already is not
made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from passk_lab.lab.experiments._runs import run_file
from passk_lab.lab.loop import TrainConfig, train
from passk_lab.lab.methods import LossOptions
from passk_lab.lab.questions import SampleConfig, TransformersBackend, sample_questions
from passk_lab.lab.tasks.concept_text import ConceptTextTask
from passk_lab.lab.tasks.concepts import SPLITS, ConceptTask
from passk_lab.lab.tasks.science_qa import Question, ScienceTask
from passk_lab.lab.tasks.text import TextEncoder
from passk_lab.rollouts.files import read_rollouts

__all__ = ["SUITES", "ConceptTextSuite", "ScienceSuite"]

_SPLIT_SEED = 1_000_003


@dataclass(frozen=True)
class _Plan:
    """What all runs share: the questions to learn from and those to ask, by split."""

    learned: ScienceTask | ConceptTextTask
    asked: Mapping[str, ScienceTask | ConceptTextTask]
    progress: bool


class _Suite:
    """What suites of questions have in common: how they train and ask."""

    runs: Mapping[str, TrainConfig]
    n_samples: int

    def _file(self, folder: Path, split: str, run: str, seed: int) -> Path:
        return run_file(folder, "rollouts", run, seed)

    def complete(self, folder: Path, plan: _Plan, run: str, seed: int) -> bool:
        """Whether the run's rollouts answer all questions."""
        for split, task in plan.asked.items():
            file = self._file(folder, split, run, seed)
            asked = {question.problem_id for question in task.questions}
            if not file.exists() or not asked <= set(read_rollouts(file, columns=[])["problem_id"]):
                return False
        return True

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The run's rollouts, in distribution."""
        return self._file(folder, "id", run, seed)

    def make(
        self, base: TransformersBackend, folder: Path, plan: _Plan, run: str, seed: int
    ) -> None:
        """Train one run with one seed, all weights in the precision that they have, and ask."""
        backend = base
        if run != "base":
            config = replace(self.runs[run], seed=seed)
            kept = run_file(folder, "runs", run, seed).with_suffix("")
            model = train(plan.learned, base.model, config, kept, plan.progress)
            backend = replace(base, model=model.eval())
        sampling = SampleConfig(self.n_samples, seed=seed)
        for split, task in plan.asked.items():
            file = self._file(folder, split, run, seed)
            sample_questions(
                backend, task, file, sampling, run=run, split=split, progress=plan.progress
            )


@dataclass(frozen=True)
class ScienceSuite(_Suite):
    """What is trained and asked.

    Attributes
    ----------
    runs, seeds
        As for `passk_lab.lab.experiments.suite.Suite`.
    n_test, n_samples : int
        Questions that are kept for asking, and replies to each.
    max_answer_tokens : int
        A reply is cut off here, in training as well.
    template : str
        As for `passk_lab.lab.tasks.text.TextEncoder`.
    questions : sequence of Question
    """

    runs: Mapping[str, TrainConfig]
    seeds: tuple[int, ...] = (0, 1, 2)
    n_test: int = 32
    n_samples: int = 12
    max_answer_tokens: int = 40
    template: str = "sdpo"
    questions: Sequence[Question] = ()

    def plan(
        self,
        base: TransformersBackend,
        folder: Path,
        runs: Sequence[str],
        jobs: int,
        progress: bool,
    ) -> _Plan:
        """Split the questions; too few of them, or one that doesn't fit, is a ValueError."""
        encoder = TextEncoder(base.tokenizer, self.template)
        learned, asked = (
            ScienceTask(part, encoder, self.max_answer_tokens, base.context_length)
            for part in _split_questions(self.questions, self.n_test)
        )
        return _Plan(learned, {"id": asked}, progress)


@dataclass(frozen=True)
class ConceptTextSuite(_Suite):
    """The Concept Graph in words, in the paper's sizes.

    Attributes
    ----------
    runs, seeds, max_answer_tokens, template
        As for `ScienceSuite`.
    task : ConceptTask
    n_train, n_test, n_samples : int
        Questions to learn from, questions of each split to ask, and replies to each.
    """

    runs: Mapping[str, TrainConfig]
    task: ConceptTask
    seeds: tuple[int, ...] = (0, 1, 2)
    n_train: int = 16_000
    n_test: int = 128
    n_samples: int = 64
    max_answer_tokens: int = 1024
    template: str = "sdpo"

    def plan(
        self,
        base: TransformersBackend,
        folder: Path,
        runs: Sequence[str],
        jobs: int,
        progress: bool,
    ) -> _Plan:
        """Draw the questions: those to learn from, and those of every split."""
        encoder = TextEncoder(base.tokenizer, self.template)

        def drawn(split: str, n: int, seed: int) -> ConceptTextTask:
            questions = ConceptTextTask.questions_of(self.task, split, n, seed)
            return ConceptTextTask(questions, encoder, self.max_answer_tokens, base.context_length)

        asked = {
            split: drawn(split, self.n_test, _SPLIT_SEED + place)
            for place, split in enumerate(SPLITS, 1)
        }
        return _Plan(drawn("id", self.n_train, _SPLIT_SEED), asked, progress)

    def _file(self, folder: Path, split: str, run: str, seed: int) -> Path:
        return run_file(folder, f"rollouts-{split}", run, seed)


def _runs(**shared: Any) -> dict[str, TrainConfig]:
    # Of the fixes, the one of the path-finding lab that doesn't look at how likely an answer is:
    # to flatten the base over whole replies (mara) would reward odd wording.
    return {name: TrainConfig(name, **shared) for name in ("grpo", "sdsd", "pkpo")}


def _paper_runs(**shared: Any) -> dict[str, TrainConfig]:
    """As in the paper: one and three teachers; the teacher as the base, too; SDPO's divergence."""
    found = {name: TrainConfig(name, **shared) for name in ("grpo", "sdsd", "sdsd-3", "sdsd-jsd")}
    frozen = TrainConfig("sdsd/frozen", **{**shared, "teacher": "frozen"})
    return {**found, "sdsd/frozen": frozen, "pkpo": TrainConfig("pkpo", **shared)}


SUITES: dict[str, ScienceSuite | ConceptTextSuite] = {
    # On two cores, less than half an hour a seed with a model of 135 million parameters. At three
    # times this rate, replies of GRPO were a bare letter after eight updates.
    "science": ScienceSuite(
        _runs(steps=12, prompts_per_step=4, group_size=8, learning_rate=1e-5, save_every=6)
    ),
    # For a GPU: never run.
    "science-large": ScienceSuite(
        _paper_runs(
            steps=200, prompts_per_step=32, group_size=8, learning_rate=1e-5, ema_rate=0.05,
            autocast=True,
        ),
        n_test=128,
        n_samples=16,
        max_answer_tokens=1024,
    ),
    # The same: graphs of 11, 15 and 20 nodes a path.
    "concepts-lm": ConceptTextSuite(
        {
            name: TrainConfig(
                name, steps=1_000, prompts_per_step=16, group_size=4, learning_rate=1e-6,
                ema_rate=0.01, options=LossOptions(kl_coef=0.01, trust=0.01), autocast=True,
            )
            for name in ("grpo", "grpo-diversity", "sdsd", "sdsd-3")
        },
        ConceptTask(n_chains=3, n_names=18, repeat=True, lengths=(9, 13), larger=18),
    ),
}  # fmt: skip


def _split_questions(
    questions: Sequence[Question], n_test: int
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Split questions into those to train on and those to ask, always in the same way."""
    if not 0 < n_test < len(questions):
        raise ValueError(
            f"n_test={n_test} must leave some of the {len(questions)} questions to train on"
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(questions))
    test = set(order[:n_test].tolist())
    return (
        tuple(q for i, q in enumerate(questions) if i not in test),
        tuple(questions[i] for i in sorted(test)),
    )
