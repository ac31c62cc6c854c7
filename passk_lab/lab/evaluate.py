"""From a model to a rollouts table, and how far it follows a demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from transformers import PreTrainedModel

from passk_lab.lab.sampling import Decoding, Samples, sample, score
from passk_lab.lab.tasks.base import Task

__all__ = [
    "answer_logprobs",
    "correct_answer_policy",
    "evaluate",
    "follows_demonstration",
    "sample_and_grade",
]

_PROMPTS_AT_ONCE = 16


def sample_and_grade(
    model: PreTrainedModel,
    task: Task[Any],
    prompts: Sequence[Any],
    n_per_prompt: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Samples, list[str | None], npt.NDArray[np.bool_]]:
    """Sample ``n_per_prompt`` answers to each prompt, read and verify them.

    Returns
    -------
    samples : Samples
        Row ``g * n_per_prompt + j`` is answer j to prompt g.
    answers : list of str or None, one a row
        Canonical answers; None where the tokens make none.
    correct : array of bool [G, n_per_prompt]
    """
    samples = sample(
        model,
        [task.encode(prompt) for prompt in prompts],
        n_per_prompt,
        Decoding(task.max_answer_tokens, task.eos_id, task.pad_id, temperature),
        generator,
    )
    answers = [task.decode(tokens) for tokens in samples.answers()]
    verdicts = [
        task.verify(prompts[row // n_per_prompt], answer) for row, answer in enumerate(answers)
    ]
    return samples, answers, np.array(verdicts, dtype=bool).reshape(len(prompts), n_per_prompt)


def evaluate(
    model: PreTrainedModel,
    task: Task[Any],
    prompts: Sequence[Any],
    n_samples: int,
    *,
    run: str,
    split: str = "id",
    seed: int = 0,
    step: int = 0,
) -> pd.DataFrame:
    """Sample answers to each prompt, have the task grade them, and give the rollouts table.

    ``run``, ``split``, ``seed`` and ``step`` are written into the columns of these names; seed and
    step also decide the samples.

    Returns
    -------
    DataFrame
        Columns ``run, split, problem_id, sample_id, correct, answer, logprob, n_tokens,
        token_entropy, temperature, seed, step``. Answers that make no sense are missing.
    """
    parts = []
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        chunk = prompts[start : start + _PROMPTS_AT_ONCE]
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, step, start]).generate_state(1)[0])
        )
        drawn, answers, correct = sample_and_grade(model, task, chunk, n_samples, 1.0, generator)
        n_tokens = drawn.mask.sum(1)
        parts.append(
            pd.DataFrame(
                {
                    "problem_id": np.repeat([p.problem_id for p in chunk], n_samples),
                    "sample_id": np.tile(np.arange(n_samples), len(chunk)),
                    "correct": correct.ravel(),
                    "answer": pd.array(answers, dtype="str"),
                    "logprob": np.minimum(drawn.logprob.sum(1).cpu().numpy(), 0.0),
                    "n_tokens": n_tokens.cpu().numpy(),
                    "token_entropy": (drawn.entropy.sum(1) / n_tokens).cpu().numpy(),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "run", run)
    table.insert(1, "split", split)
    return table.assign(temperature=1.0, seed=seed, step=step)


def answer_logprobs(
    model: PreTrainedModel,
    task: Task[Any],
    prompt: Any,
    answers: Sequence[str],
    demo: str | None = None,
) -> npt.NDArray[np.float64]:
    """Exact log-probability of each answer, its end token included, with or without a demo."""
    context = task.encode(prompt, demo)
    tokens = [task.encode_answer(answer) for answer in answers]
    with torch.no_grad():
        values = score(model, [context] * len(tokens), tokens, task.pad_id)
    return np.asarray(values.double().sum(1).cpu().numpy())


def correct_answer_policy(
    model: PreTrainedModel, task: Task[Any], prompts: Sequence[Any]
) -> pd.DataFrame:
    """Exact probability of every correct answer to each prompt, where a task can list them.

    From these, accuracy, pass@k, distinct@k and gap slopes follow without sampling noise.

    Returns
    -------
    DataFrame
        Columns ``problem_id``, ``answer`` and ``logprob`` (nats, the end token included), one row
        a correct answer, in the order of the prompts.
    """
    problems, answers, contexts, tokens = [], [], [], []
    for prompt in prompts:
        context = task.encode(prompt)
        for answer in task.correct_answers(prompt):
            problems.append(prompt.problem_id)
            answers.append(answer)
            contexts.append(context)
            tokens.append(task.encode_answer(answer))
    with torch.no_grad():
        values = score(model, contexts, tokens, task.pad_id).double().sum(1)
    return pd.DataFrame(
        {"problem_id": problems, "answer": answers, "logprob": values.clamp(max=0.0).cpu().numpy()}
    )


def follows_demonstration(
    model: PreTrainedModel, task: Any, prompts: Sequence[Any], seed: int = 0
) -> pd.DataFrame:
    """Compare what a demonstration changes in the model with what it should, by Bayes' rule.

    For each prompt a demonstration is drawn from the exact law of the documents. The probability
    of answering with the same path again, given that the answer is correct, is taken from the
    model and from the exact posterior over authors, with and without the demonstration. The task
    has ``document_law(prompt, demo)``, as `PathTask` does.

    Returns
    -------
    DataFrame
        One row a prompt: ``problem_id``, ``demo``, ``model``, ``exact`` (without),
        ``model_given_demo``, ``exact_given_demo``; and ``correct``, ``correct_given_demo``, the
        model's probability of all correct answers together.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in prompts:
        law = task.document_law(prompt)
        answers = list(law)
        p = np.array([law[a] for a in answers])
        demo = answers[rng.choice(len(answers), p=p / p.sum())]
        given = task.document_law(prompt, demo)
        exact = np.array([given[a] for a in answers])
        mine = np.exp(answer_logprobs(model, task, prompt, answers))
        shown = np.exp(answer_logprobs(model, task, prompt, answers, demo))
        at = answers.index(demo)
        rows.append(
            {
                "problem_id": prompt.problem_id,
                "demo": demo,
                "model": mine[at] / mine.sum(),
                "exact": p[at] / p.sum(),
                "model_given_demo": shown[at] / shown.sum(),
                "exact_given_demo": exact[at] / exact.sum(),
                "correct": mine.sum(),
                "correct_given_demo": shown.sum(),
            }
        )
    return pd.DataFrame(rows)
