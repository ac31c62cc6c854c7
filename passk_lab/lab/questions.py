"""From a language model and questions to a rollouts table, with transformers or with vLLM.

Both backends sample from the whole softmax of logits / temperature (no top-k, no top-p), and give
the log-probability of what they drew in that distribution.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab.model import load_model, load_tokenizer
from passk_lab.lab.sampling import Decoding, sample
from passk_lab.lab.tasks.text import TextQuestion, TextTask, grade
from passk_lab.rollouts.files import read_metadata, read_rollouts, write_rollouts
from passk_lab.rollouts.table import PathLike

__all__ = ["SampleConfig", "TransformersBackend", "VllmBackend", "sample_questions"]

_ROWS_AT_ONCE = 256


# Tokens, with the end token unless the reply was cut off; their log-probability (sum, at the
# temperature of sampling) and mean entropy, in nats, NaN where the backend doesn't tell.
Reply = tuple[list[int], float, float]


@dataclass(frozen=True)
class TransformersBackend:
    """Samples with transformers; see `passk_lab.lab.sampling`."""

    model: PreTrainedModel
    tokenizer: Any

    name: ClassVar[str] = "transformers"

    @classmethod
    def load(
        cls, model: PathLike, device: str = "cpu", full_precision: bool = False
    ) -> TransformersBackend:
        """Load a folder, a GGUF file or a name on the hub; on a GPU as bfloat16, else float32.

        Weights that are to be trained need full precision everywhere.
        """
        full = full_precision or device == "cpu"
        dtype = torch.float32 if full else torch.bfloat16
        return cls(load_model(model, dtype=dtype, device=device), load_tokenizer(model))

    @property
    def context_length(self) -> int:
        """Longest sequence that the model takes."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def sample(
        self,
        task: TextTask[Any],
        questions: Sequence[TextQuestion],
        n: int,
        temperature: float,
        seed: int,
    ) -> list[list[Reply]]:
        """``n`` replies to each question; the same arguments give the same replies."""
        drawn = sample(
            self.model,
            [task.encode(question) for question in questions],
            n,
            Decoding(task.max_answer_tokens, task.ends, task.pad_id, temperature, _ROWS_AT_ONCE),
            torch.Generator().manual_seed(seed),
        )
        lengths = drawn.mask.sum(1)
        logprobs = drawn.logprob.double().sum(1).clamp(max=0.0).tolist()
        entropies = (drawn.entropy.double().sum(1) / lengths).tolist()
        replies = list(zip(drawn.answers(), logprobs, entropies, strict=True))
        return [replies[i : i + n] for i in range(0, len(replies), n)]


class VllmBackend:
    """Samples with vLLM, for models that transformers is too slow for.

    ``options`` are those of ``vllm.LLM``. A ValueError where vLLM isn't installed.
    """

    name = "vllm"

    def __init__(self, model: PathLike, **options: Any) -> None:
        try:
            from vllm import LLM
        except ModuleNotFoundError as error:
            raise ValueError(
                f"the backend vllm needs {error.name}, which isn't installed; install vLLM where "
                "there is a GPU, or take the backend transformers"
            ) from error
        # Its default are log-probabilities from before the temperature.
        self.model = LLM(model=str(model), logprobs_mode="processed_logprobs", **options)
        self.tokenizer = load_tokenizer(model)
        self.context_length = int(self.model.llm_engine.model_config.max_model_len)

    def sample(
        self,
        task: TextTask[Any],
        questions: Sequence[TextQuestion],
        n: int,
        temperature: float,
        seed: int,
    ) -> list[list[Reply]]:
        """``n`` replies to each question; the same arguments give the same replies."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            n=n,
            temperature=temperature,
            top_p=1.0,
            top_k=-1,
            max_tokens=task.max_answer_tokens,
            stop_token_ids=sorted(task.ends),
            logprobs=0,  # of the sampled token alone
            seed=seed,
        )
        prompts = [{"prompt_token_ids": task.encode(question)} for question in questions]
        outputs = self.model.generate(prompts, parameters, use_tqdm=False)
        return [
            [
                (list(one.token_ids), min(float(one.cumulative_logprob), 0.0), np.nan)
                for one in output.outputs
            ]
            for output in outputs
        ]


@dataclass(frozen=True)
class SampleConfig:
    """``n_samples`` replies to each question, ``batch`` questions at once."""

    n_samples: int = 32
    temperature: float = 1.0
    seed: int = 0
    batch: int = 8

    def __post_init__(self) -> None:
        for name in ("n_samples", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


def sample_questions(
    backend: TransformersBackend | VllmBackend,
    task: TextTask[Any],
    path: PathLike,
    config: SampleConfig,
    *,
    run: str,
    split: str = "id",
    note: dict[str, Any] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Sample replies to all questions of a task, grade them and keep them in a rollouts file.

    The file is written anew after each batch of questions. Those that it holds already, made with
    the same arguments, are passed over; a batch depends on the seed and its place alone.

    The table that is returned has canonical ``answer`` and the whole reply, ``text``. A reply that
    was cut off has no answer. ``note`` goes into the file's metadata.

    Raises
    ------
    ValueError
        The file isn't ``.parquet``, or was made with other arguments; a prompt doesn't fit.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: rollouts are sampled into a .parquet file; choose such a name")
    identity = {
        "run": run,
        **asdict(config),
        "max_new_tokens": task.max_answer_tokens,
        "template": task.encoder.template,
        "system": task.encoder.system,
        "backend": backend.name,
        "first_question": task.questions[0].problem_id,
        "n_questions": len(task.questions),
        **(note or {}),
    }
    versions = {"python": platform.python_version(), backend.name: _version(backend.name)}
    done = _begun(path, identity)
    tables = [done] if done is not None else []
    held = set() if done is None else set(done["problem_id"])
    starts = range(0, len(task.questions), config.batch)
    for start in tqdm(starts, desc=run, disable=not progress):
        questions = task.questions[start : start + config.batch]
        if all(question.problem_id in held for question in questions):
            continue
        seed = int(np.random.SeedSequence([config.seed, start]).generate_state(1, np.uint32)[0])
        replies = backend.sample(task, questions, config.n_samples, config.temperature, seed)
        names = {"temperature": config.temperature, "seed": config.seed}
        tables.append(_table(task, questions, replies).assign(run=run, split=split, **names))
        write_rollouts(
            pd.concat(tables, ignore_index=True), path, {"config": identity, "versions": versions}
        )
    return read_rollouts(path)


def _begun(path: Path, config: dict[str, Any]) -> pd.DataFrame | None:
    if not path.exists():
        return None
    before = read_metadata(path).get("config", {})
    changed = [name for name, value in config.items() if before.get(name) != value]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{path} was made with {name}={before.get(name)!r}, not {config[name]!r}; choose "
            "another file, or delete it"
        )
    return read_rollouts(path)


def _table(
    task: TextTask[Any], questions: Sequence[TextQuestion], replies: Sequence[Sequence[Reply]]
) -> pd.DataFrame:
    rows = [
        {
            "problem_id": question.problem_id,
            "sample_id": place,
            "text": task.text(tokens),
            "ended": not task.ends.isdisjoint(tokens),
            "logprob": logprob,
            "n_tokens": len(tokens),
            "token_entropy": entropy,
        }
        for question, group in zip(questions, replies, strict=True)
        for place, (tokens, logprob, entropy) in enumerate(group)
    ]
    table = grade(questions, pd.DataFrame(rows))
    table["answer"] = table["answer"].where(table["ended"])
    table["correct"] &= table["ended"]
    return table.drop(columns="token_entropy") if table["token_entropy"].isna().all() else table


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
