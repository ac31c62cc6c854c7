"""Score rollouts with and without demonstrations: pointwise conditional mutual information.

    PCMI(y; c | x) = log π(y | x, c) - log π(y | x), nats

for rollouts y and demonstrations c of a problem x (Proposition 2 of arXiv 2606.26091 tilts by its
expectation). An encoder says how a problem, a demonstration and an answer become tokens: a task of
the lab, or `passk_lab.lab.tasks.text.TextEncoder` for a language model with a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab import sampling
from passk_lab.lab.tasks.base import Encoder
from passk_lab.rollouts.table import validate_rollouts

__all__ = ["score"]


def score(
    model: PreTrainedModel,
    prompts: Mapping[str, Any],
    rollouts: pd.DataFrame,
    demos: pd.DataFrame | None = None,
    *,
    encoder: Encoder,
    text: str = "answer",
    tokens: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Score every rollout alone and after every demonstration of its problem.

    A prompt with its demonstration runs through the model once, whatever the number of rollouts
    that continue it.

    Parameters
    ----------
    model : PreTrainedModel
        Any causal language model.
    prompts : mapping of str to prompt
        ``problem_id`` -> what the encoder takes for a prompt.
    rollouts : DataFrame
        A rollouts table of one run: ``problem_id, sample_id`` and the column that ``text`` names.
    demos : DataFrame, optional
        Those of the rollouts that are shown: ``problem_id, sample_id``. Default: every correct one.
    encoder : Encoder
    text : str
        Column with what was generated: "text" for language models.
    tokens : bool
        Also give arrays ``token_logprob`` and ``token_logprob_given_demo`` (nats).
    progress : bool

    Returns
    -------
    DataFrame
        The scores table, one row a pair of rollout and demonstration, self pairs included:
        ``problem_id, sample_id, demo_id, logprob, logprob_given_demo`` (nats, summed over tokens),
        ``n_tokens``.

    Raises
    ------
    ValueError
        A prompt, a text or a demonstration's rollout is missing; a context and an answer don't fit.
    """
    table, shown = _checked(prompts, rollouts, demos, text)
    by_problem = dict(list(shown.groupby("problem_id", sort=False)))
    groups = [(p, part) for p, part in table.groupby("problem_id", sort=False) if p in by_problem]
    if not groups:
        raise ValueError(
            "demos: no problem has a demonstration, so there is nothing to score; sample more "
            "rollouts, or pass demos"
        )
    pairs = []
    for problem, part in tqdm(groups, desc="scoring", disable=not progress):
        demo_rows = by_problem[problem]
        # Equal texts have equal scores; each is run once.
        texts, place = np.unique(part[text].to_numpy(object).astype(str), return_inverse=True)
        demo_texts, demo_place = np.unique(
            demo_rows[text].to_numpy(object).astype(str), return_inverse=True
        )
        answers = [encoder.encode_answer(t) for t in texts]
        contexts = [encoder.encode(prompts[str(problem)], demo) for demo in (None, *demo_texts)]
        per_token = _score_all(model, contexts, answers, encoder.pad_id)
        total = np.minimum(per_token.sum(-1), 0.0)
        n_rows, n_demos = len(part), len(demo_rows)
        record: dict[str, Any] = {
            "problem_id": problem,
            "sample_id": np.repeat(part["sample_id"].to_numpy(), n_demos),
            "demo_id": np.tile(demo_rows["sample_id"].to_numpy(), n_rows),
            "logprob": np.repeat(total[0, place], n_demos),
            "logprob_given_demo": total[1 + demo_place][:, place].T.ravel(),
            "n_tokens": np.repeat([len(answers[i]) for i in place], n_demos),
        }
        if tokens:
            alone = [per_token[0, i, : len(answers[i])] for i in place for _ in range(n_demos)]
            given = [per_token[1 + j, i, : len(answers[i])] for i in place for j in demo_place]
            record |= {"token_logprob": alone, "token_logprob_given_demo": given}
        pairs.append(pd.DataFrame(record))
    return pd.concat(pairs, ignore_index=True)


@torch.no_grad()
def _score_all(
    model: PreTrainedModel, contexts: list[list[int]], answers: list[list[int]], pad_id: int
) -> npt.NDArray[np.float64]:
    """Log-probabilities [contexts, answers, T] of each answer's tokens after each context."""
    values = sampling.score(
        model,
        [context for context in contexts for _ in answers],
        answers * len(contexts),
        pad_id,
        batch_rows=256,
    )
    return values.double().cpu().numpy().reshape(len(contexts), len(answers), -1)


def _checked(
    prompts: Mapping[str, Any], rollouts: pd.DataFrame, demos: pd.DataFrame | None, text: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = validate_rollouts(rollouts)
    if text not in table.columns:
        raise ValueError(
            f"rollouts: column {text!r} is missing; name the column with the generated text"
        )
    keys = ["problem_id", "sample_id"]
    twice = table.duplicated(keys)
    if twice.any():
        row = int(np.argmax(twice))
        raise ValueError(
            f"rollouts: row {row}: problem {table['problem_id'].iloc[row]!r} has two rollouts "
            f"{table['sample_id'].iloc[row]}; score one run, split, seed and step at a time"
        )
    # An answer that can't be read is no rollout that the encoder could write down.
    table = table[table[text].notna()].reset_index(drop=True)
    unknown = ~table["problem_id"].isin(list(prompts))
    if unknown.any():
        raise ValueError(
            f"prompts: problem {table['problem_id'][int(np.argmax(unknown))]!r} of the rollouts is "
            "missing; give its prompt"
        )
    if demos is None:
        return table, table[table["correct"]]
    for name in keys:
        if name not in demos.columns:
            raise ValueError(f"demos: column {name!r} is missing; it names a rollout")
    wanted = demos[keys].drop_duplicates().astype({"problem_id": table["problem_id"].dtype})
    shown = wanted.merge(table, on=keys, how="left")
    absent = shown[text].isna()
    if absent.any():
        row = int(np.argmax(absent))
        raise ValueError(
            f"demos: row {row}: problem {shown['problem_id'][row]!r} has no rollout "
            f"{shown['sample_id'][row]} with a text; demonstrations are rollouts of the table"
        )
    return table, shown
