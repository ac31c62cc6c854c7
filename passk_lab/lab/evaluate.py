"""From a model to a rollouts table, and how far it follows a demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from transformers import PreTrainedModel

from passk_lab.lab._decoding import padded
from passk_lab.lab.sampling import Decoding, sample, score
from passk_lab.lab.tasks.base import Task

__all__ = ["answer_logprobs", "correct_answer_policy", "evaluate", "follows_demonstration"]

_PROMPTS_AT_ONCE = 16


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
    """Sample answers to each prompt at temperature 1 and give the graded rollouts table.

    ``run``, ``split``, ``seed`` and ``step`` fill the columns of these names; seed and step also
    decide the samples. Answers that make no sense are missing.
    """
    parts = []
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        chunk = prompts[start : start + _PROMPTS_AT_ONCE]
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, step, start]).generate_state(1)[0])
        )
        encoded = [task.encode(prompt) for prompt in chunk]
        drawn = sample(model, encoded, n_samples, Decoding.of(task), generator)
        answers, correct = drawn.graded(task, chunk)
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
    base: PreTrainedModel | None = None,
) -> npt.NDArray[np.float64]:
    """Exact log-probability of each answer, its end token included, with or without a demo.

    With ``base``, ``model`` doesn't see the demonstration: at each token its law is multiplied by
    what the demonstration changes in the base, as in ``sdsd-composed``.
    """
    tokens = [task.encode_answer(answer) for answer in answers]

    def law(of: PreTrainedModel, shown: str | None) -> torch.Tensor:
        contexts = [task.encode(prompt, shown)] * len(tokens)
        return score(of, contexts, tokens, task.pad_id, return_logits=True).log_softmax(-1)

    with torch.no_grad():
        if base is None:
            contexts = [task.encode(prompt, demo)] * len(tokens)
            values = score(model, contexts, tokens, task.pad_id)
        else:
            both = (law(model, None) + law(base, demo) - law(base, None)).log_softmax(-1)
            taken, mask = padded(tokens, task.pad_id, both.device)
            values = both.gather(2, taken[..., None])[..., 0] * mask
    return np.asarray(values.double().sum(1).cpu().numpy())


def correct_answer_policy(
    model: PreTrainedModel, task: Task[Any], prompts: Sequence[Any]
) -> pd.DataFrame:
    """Exact probability of every correct answer to each prompt, where a task can list them.

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
    model: PreTrainedModel,
    task: Any,
    prompts: Sequence[Any],
    seed: int = 0,
    base: PreTrainedModel | None = None,
) -> pd.DataFrame:
    """Compare what a demonstration changes in the model with what it should, by Bayes' rule.

    For each prompt a demonstration is drawn from the exact law of the documents,
    ``task.document_law(prompt, demo)``, as `PathTask` has it. ``base`` is for `answer_logprobs`.

    Returns
    -------
    DataFrame
        One row a prompt: ``problem_id``, ``demo``; the probability of the demonstration's own path
        among the correct ones by ``model`` and ``exact`` law, and of both ``_given_demo``; and
        ``correct``, ``correct_given_demo``, the model's probability of all correct answers.
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
        shown = np.exp(answer_logprobs(model, task, prompt, answers, demo, base))
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
