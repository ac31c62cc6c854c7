"""Sample answers and have the task grade them: what training and evaluation both do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from passk_lab.lab.sampling import Decoding, Samples, sample
from passk_lab.lab.tasks.base import Task

__all__ = ["sample_and_grade"]


def sample_and_grade(
    model: PreTrainedModel,
    task: Task[Any],
    prompts: Sequence[Any],
    n_per_prompt: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Samples, list[str | None], npt.NDArray[np.bool_]]:
    """Sample ``n_per_prompt`` answers to each prompt, read and verify them.

    Parameters
    ----------
    model : PreTrainedModel
    task : Task
    prompts : sequence of prompts [G]
    n_per_prompt : int
    temperature : float
    generator : torch.Generator

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
