"""Naming members of categories: whether a teacher's template narrows, forecast and then tried.

Runs differ in how the teacher sees an answer (`passk_lab.lab.tasks.categories.TEMPLATES`). Half of
the categories are trained on, "id"; the others are held out, "ood". A suite's folder holds
``policies/<run>-<seed>.parquet``, the exact probability of every member of every category, and
``runs/<run>-<seed>/`` with metrics and, until the run is done, checkpoints. What is there already
is not made again.

The forecast needs the base alone. Let π(m) be its probability of member m, and M(m, c) the change
of log π(m) when member c is shown by a template. Under a frozen teacher the optimum is
p(m) ∝ π(m) exp(Σ q(c) M(m, c)), with q the law of the demonstrations. At first that is the base's,
q = π: one generation. But peers come from the student, so in pass t of `PASSES` q is what pass
t - 1 gave. Three passes were fixed before any run was trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import logsumexp
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab._checkpoint import list_checkpoints
from passk_lab.lab.experiments._runs import made_on, run_file, write_noted
from passk_lab.lab.loop import TrainConfig, train
from passk_lab.lab.methods import LossOptions
from passk_lab.lab.questions import TransformersBackend
from passk_lab.lab.sampling import score
from passk_lab.lab.tasks.categories import (
    TEMPLATES,
    CategoryQuestion,
    CategoryTask,
)
from passk_lab.lab.tasks.text import TextEncoder
from passk_lab.rollouts.files import atomic_write
from passk_lab.teacher import self_distillation_optimum

__all__ = ["SUITES", "CategorySuite"]

PASSES = (1, 3)
_N_DEMOS = 12  # the likeliest members of a category are shown
_LEAST = 0.01  # of a member's probability: rarer spellings are left out of the forecast

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Plan:
    """What all runs share: the task that is learned, and what is asked, by split."""

    task: CategoryTask
    asked: Mapping[str, Sequence[CategoryQuestion]]
    progress: bool


@dataclass(frozen=True)
class CategorySuite:
    """What is trained and asked.

    Attributes
    ----------
    runs, seeds
        As for `passk_lab.lab.experiments.suite.Suite`.
    templates : mapping of str to str
        Run -> how its teacher sees an answer; runs without a teacher aren't in it.
    steps : tuple of int
        Training steps after which probabilities are kept.
    max_answer_tokens : int
        An answer is cut off here.
    questions : sequence of CategoryQuestion
    """

    runs: Mapping[str, TrainConfig]
    templates: Mapping[str, str]
    steps: tuple[int, ...] = (25, 50, 75)
    seeds: tuple[int, ...] = (0, 1, 2)
    max_answer_tokens: int = 6
    questions: Sequence[CategoryQuestion] = ()

    def plan(
        self,
        base: TransformersBackend,
        folder: Path,
        runs: Sequence[str],
        jobs: int,
        progress: bool,
    ) -> _Plan:
        """Split the categories; too few of them is a ValueError."""
        trained, held_out = _split_categories(self.questions)
        encoder = TextEncoder(base.tokenizer, chat=False)
        task = CategoryTask(trained, encoder, self.max_answer_tokens, base.context_length)
        return _Plan(task, {"id": trained, "ood": held_out}, progress)

    def complete(self, folder: Path, plan: _Plan, run: str, seed: int) -> bool:
        """Whether the run's policies are there."""
        return self.result(folder, run, seed).exists()

    def result(self, folder: Path, run: str, seed: int) -> Path:
        """The run's policies."""
        return run_file(folder, "policies", run, seed)

    def make(
        self, base: TransformersBackend, folder: Path, plan: _Plan, run: str, seed: int
    ) -> None:
        """Train one run with one seed and write its policies; then its checkpoints go."""
        note: dict[str, Any] = {"run": run, "seed": seed, **made_on(base.model)}
        policies = []
        kept = run_file(folder, "runs", run, seed).with_suffix("")
        for step in (0,) if run == "base" else self.steps:
            model = base.model
            if step:
                config = replace(self.runs[run], seed=seed, steps=step)
                template = self.templates.get(run, plan.task.template)
                task = replace(plan.task, template=template)
                model = train(task, base.model, config, kept, plan.progress).eval()
                note |= {"train": asdict(config), "template": self.templates.get(run)}
            for split, questions in plan.asked.items():
                at: dict[str, Any] = {"run": run, "split": split, "seed": seed, "step": step}
                policies.append(_member_policy(model, plan.task, questions).assign(**at))
        write_noted(policies, self.result(folder, run, seed), note)
        for checkpoint in list_checkpoints(kept):  # each ten times as large as a small base
            shutil.rmtree(checkpoint)

    def base_report(self, base: TransformersBackend, folder: Path, progress: bool) -> pd.DataFrame:
        """Forecast what the teacher's templates do; writes ``forecast.csv`` and ``.parquet``.

        Returns
        -------
        DataFrame
            Mean over the categories of a template and split: ``pass@1`` and ``effective_answers``
            of the base, and the forecast logarithm of the ratio of effective answers after each
            of the `PASSES`, ``log_ratio_<passes>``.
        """
        plan = self.plan(base, folder, (), 1, progress)
        parts = [
            _forecast_members(base.model, plan.task, questions, progress).assign(split=split)
            for split, questions in plan.asked.items()
        ]
        members = pd.concat(parts, ignore_index=True)
        table = _forecast_table(members)
        folder.mkdir(parents=True, exist_ok=True)
        narrow = dict.fromkeys(members.select_dtypes("float").columns, np.float32)
        note = {"templates": list(TEMPLATES), "passes": list(PASSES), **made_on(base.model)}
        write_noted([members.round(3).astype(narrow)], folder / "forecast.parquet", note)
        with atomic_write(folder / "forecast.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f")
        return table.groupby(["template", "split"], sort=False).mean(numeric_only=True)


def _member_policy(
    model: PreTrainedModel, task: CategoryTask, questions: Sequence[CategoryQuestion]
) -> pd.DataFrame:
    """Exact probability of every member: all its spellings, with either end.

    Returns
    -------
    DataFrame
        Columns ``problem_id``, ``answer`` and ``logprob`` (nats), one row a member.
    """
    parts = []
    for question in questions:
        spelled = _Spelled.of(task, question)
        logprob = spelled.by_member(spelled.logprobs(model, task, [None])[0])
        members = {"answer": spelled.names, "logprob": np.minimum(logprob, 0.0)}
        parts.append(pd.DataFrame({"problem_id": question.problem_id, **members}))
    return pd.concat(parts, ignore_index=True)


def _forecast_members(
    model: PreTrainedModel,
    task: CategoryTask,
    questions: Sequence[CategoryQuestion],
    progress: bool = True,
) -> pd.DataFrame:
    """Forecast the share of every member among the right answers, from the base alone.

    Returns
    -------
    DataFrame
        One row a template, category and member: ``template, problem_id, answer``; ``logprob`` of
        the base; and ``forecast_<passes>``, the logarithm of the share after each of `PASSES`.
    """
    parts = []
    for question in tqdm(questions, "forecast", disable=not progress):
        spelled = _Spelled.of(task, question)
        alone = spelled.logprobs(model, task, [None])[0]
        base = spelled.by_member(alone)
        frequent = spelled.only(alone - base[spelled.member] >= np.log(_LEAST))
        kept = frequent.by_member(frequent.logprobs(model, task, [None])[0])
        shown = np.argsort(-base, kind="stable")[:_N_DEMOS]
        for template in TEMPLATES:
            teacher = replace(task, template=template)
            given = frequent.logprobs(model, teacher, [frequent.names[at] for at in shown])
            pcmi = (frequent.by_member(given) - kept).T
            shares = {
                f"forecast_{t}": np.log(_forecast_shares(base, pcmi, shown, t)) for t in PASSES
            }
            at = {"template": template, "problem_id": question.problem_id}
            parts.append(pd.DataFrame({**at, "answer": spelled.names, "logprob": base, **shares}))
    return pd.concat(parts, ignore_index=True)


def _forecast_shares(log_base: Floats, pcmi: Floats, shown: Ints, passes: int) -> Floats:
    """Shares of members after some passes; ``pcmi`` [members, shown] of the members ``shown``.

    Examples
    --------
    A teacher that is made to repeat what it sees narrows, the more so the longer peers follow:

    >>> base, pcmi = np.log([0.6, 0.4]), np.array([[0.2, -0.2], [-0.4, 0.3]])
    >>> [_forecast_shares(base, pcmi, np.arange(2), t).round(3).tolist() for t in (0, 1, 3)]
    [[0.6, 0.4], [0.638, 0.362], [0.65, 0.35]]
    """
    base = np.exp(log_base - logsumexp(log_base))
    shares = base
    for _ in range(passes):
        shares = self_distillation_optimum(base, pcmi, demo_weights=shares[shown])
    return shares


@dataclass(frozen=True)
class _Spelled:
    """Right answers to a question: tokens of each spelling and end, and whose they are."""

    question: CategoryQuestion
    names: list[str]
    member: Ints  # place of each spelling's member in names
    tokens: list[list[int]]

    @classmethod
    def of(cls, task: CategoryTask, question: CategoryQuestion) -> _Spelled:
        members, tokens = task.spelled(question)
        names = task.correct_answers(question)
        return cls(question, names, pd.Index(names).get_indexer(pd.Index(members)), tokens)

    def only(self, keep: npt.NDArray[np.bool_]) -> _Spelled:
        """Some of the spellings."""
        tokens = [self.tokens[at] for at in np.flatnonzero(keep)]
        return replace(self, member=self.member[keep], tokens=tokens)

    def logprobs(
        self, model: PreTrainedModel, task: CategoryTask, demos: Sequence[str | None]
    ) -> Floats:
        """Log-probability [demos, spellings] after each demonstration."""
        contexts = [task.encode(self.question, demo) for demo in demos for _ in self.tokens]
        with torch.no_grad():
            found = score(model, contexts, self.tokens * len(demos), task.pad_id, as_tree=True)
        return found.double().sum(1).cpu().numpy().reshape(len(demos), -1)

    def by_member(self, logprob: Floats) -> Floats:
        """Sum the probabilities of each member's spellings, the last axis."""
        parts = [logsumexp(logprob[..., self.member == at], -1) for at in range(len(self.names))]
        return np.stack(parts, axis=-1)


def _forecast_table(members: pd.DataFrame) -> pd.DataFrame:
    """What `_forecast_members` means for each category.

    Returns
    -------
    DataFrame
        One row a template and category: ``template, split, problem_id``; the base's ``pass@1`` and
        ``effective_answers``; ``effective_<passes>`` and ``log_ratio_<passes>`` of the forecast.
    """
    rows = []
    for key, part in members.groupby(["template", "split", "problem_id"], sort=False):
        row: dict[str, Any] = dict(zip(("template", "split", "problem_id"), key, strict=True))
        p = np.exp(part["logprob"].to_numpy())
        row |= {"pass@1": p.sum(), "effective_answers": p.sum() ** 2 / (p**2).sum()}
        for t in PASSES:
            row[f"effective_{t}"] = 1 / (np.exp(part[f"forecast_{t}"].to_numpy()) ** 2).sum()
            row[f"log_ratio_{t}"] = np.log(row[f"effective_{t}"] / row["effective_answers"])
        rows.append(row)
    return pd.DataFrame(rows)


def _split_categories(
    questions: Sequence[CategoryQuestion],
) -> tuple[tuple[CategoryQuestion, ...], tuple[CategoryQuestion, ...]]:
    """Categories to train on, and those held out: every second one in the order of their names.

    Examples
    --------
    >>> made = [CategoryQuestion(f"a {name}", (("x",), ("y",))) for name in ("tree", "ant", "cup")]
    >>> [[q.problem_id for q in part] for part in _split_categories(made)]
    [['ant', 'tree'], ['cup']]
    """
    ordered = sorted(questions, key=lambda question: question.problem_id.casefold())
    if len(ordered) < 2:
        raise ValueError("questions: one category leaves none to hold out; give at least two")
    return tuple(ordered[::2]), tuple(ordered[1::2])


def _runs() -> tuple[dict[str, TrainConfig], dict[str, str]]:
    """Policy gradients, and self-distillation under each template; which run has which template."""
    shared: dict[str, Any] = {
        "steps": 75, "prompts_per_step": 8, "group_size": 8, "betas": (0.9, 0.95),
        "freeze_embeddings": True, "as_tree": True, "teacher": "frozen", "save_every": 25,
    }  # fmt: skip
    options = LossOptions(reduction="token", at_k=2)
    runs = {
        name: TrainConfig(name, learning_rate=3e-6, options=options, **shared)
        for name in ("grpo", "dkpo")
    }
    templates = {f"sdsd/{template}": template for template in TEMPLATES}
    for name in templates:
        runs[name] = TrainConfig(name, learning_rate=1e-5, options=options, **shared)
    return runs, templates


# On two cores, about an hour with a model of 135 million parameters.
SUITES: dict[str, CategorySuite] = {"categories": CategorySuite(*_runs())}
