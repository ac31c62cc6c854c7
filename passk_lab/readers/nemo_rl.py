"""NeMo-RL: ``evaluation_data.json`` of an evaluation, ``val_data_step<N>.jsonl`` of validations.

An evaluation with ``save_path`` writes ``prompt``, ``response`` and ``reward`` of every sample, and
``config.json`` beside it. A validation during training writes its messages and reward into the log
folder, one file a step.

``train_data_step<N>.jsonl`` is not read: it has no roles (the newer controller's only the replies),
so no prompt tells its problems apart; with dynamic sampling it holds only prompts that some
samples solve and others don't.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._cells import completion_text
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike

__all__ = ["read_nemo_rl"]

_STEP = re.compile(r"val_data_step(\d+)\.jsonl")
_FIELDS = ("prompt", "response", "reward")


def _source_files(path: PathLike) -> list[Path]:
    def fits(file: Path) -> bool:
        return file.name == "evaluation_data.json" or _STEP.fullmatch(file.name) is not None

    hint = "no evaluation_data.json or val_data_step<N>.jsonl here (train_data is not read)"
    files = shared.find_files(fits, hint, path)
    return sorted(files, key=lambda file: (_step(file) or -1, file))


@shared.reads_files(_source_files)
def read_nemo_rl(
    path: PathLike, *, threshold: float = 1.0, unscored: shared.Unscored = "refuse"
) -> pd.DataFrame:
    """Read samples that NeMo-RL evaluated.

    Parameters
    ----------
    path : path
        A file, or a folder, searched with its subfolders.
    threshold : float
        A sample is correct from this reward on. NeMo-RL itself counts any reward above 0 in a
        validation's ``pass_k``.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with samples without a reward.

    Returns
    -------
    DataFrame
        The rollouts table with ``score``; ``problem_id`` is `passk_lab.readers.stable_id` of the
        prompt, ``run`` and ``temperature`` come from ``config.json``, ``step`` from the name.

    Raises
    ------
    ValueError
        Not these files; a sample without a reward, or without a reply.

    Examples
    --------
    >>> import json, tempfile
    >>> said = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "It is 5"}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "val_data_step20.jsonl")
    ...     _ = file.write_text(json.dumps({"content": [said], "rewards": [1.0], "idx": 0}))
    ...     read_nemo_rl(folder)[["step", "text", "correct"]].to_numpy().tolist()
    [[20, 'It is 5', True]]
    """
    tables = []
    for file in _source_files(path):
        step = _step(file)
        samples = _evaluated(file) if step is None else _validated(file, step)
        table = frame_of(list(samples))
        table["correct"] = table["score"]
        table["problem_id"] = table["prompt"].map(stable_id)
        tables.append(shared.graded(table, "reward", threshold, unscored, str(file)))
    return shared.joined(tables, str(path))


def _step(file: Path) -> int | None:
    name = _STEP.fullmatch(file.name)
    return int(name[1]) if name else None


def _evaluated(file: Path) -> Iterator[dict[str, Any]]:
    content = shared.read_json(file, "the file may have been cut off while it was written")
    samples = content.get("evaluation_data") if isinstance(content, dict) else None
    if not isinstance(samples, list) or not samples:
        raise ValueError(f"{file}: no list 'evaluation_data'; this isn't an evaluation of NeMo-RL")
    beside = file.with_name("config.json")
    about = shared.read_json(beside, "mend or remove it") if beside.exists() else {}
    common = {}
    for name, field in (("run", "model_name"), ("temperature", "temperature")):
        if about.get(field) is not None:
            common[name] = about[field]
    for number, sample in enumerate(samples):
        fields = sample if isinstance(sample, dict) else {}
        where = f"{file}, sample {number}"
        shared.require_fields(fields, _FIELDS, where, "a sample of NeMo-RL")
        yield {
            **common,
            "prompt": _text(sample["prompt"], where),
            "text": sample["response"],
            "score": sample["reward"],
            "extra_env_info": sample.get("extra_env_info"),
        }


def _validated(file: Path, step: int) -> Iterator[dict[str, Any]]:
    records = shared.read_records(file, ("content", "rewards"), "validation data of NeMo-RL")
    for at, record in enumerate(records, start=1):
        where = f"{file}, record {at}"
        messages, reward = (_only(record, name, where) for name in ("content", "rewards"))
        replies = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        if not replies or replies[0] == 0:
            raise ValueError(f"{where}: the messages are no prompt and a reply to it")
        asked, said = messages[: replies[0]], messages[replies[0] :]
        both = {"prompt": _text(asked, where), "text": _text(said, where)}
        yield {"step": step, "score": reward, **both}


def _only(record: dict[str, Any], name: str, where: str) -> Any:
    """Give the only entry of a field, for NeMo-RL writes batches of one."""
    entries = record[name]
    if not isinstance(entries, list) or len(entries) != 1:
        raise ValueError(f"{where}: {name!r} is {shared.short(entries)}, no list with one entry")
    return entries[0]


def _text(messages: Any, where: str) -> str:
    if not isinstance(messages, str | list):
        raise ValueError(f"{where}: {shared.short(messages)} is neither text nor messages")
    return completion_text(messages)
