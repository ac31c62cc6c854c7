"""verifiers and prime-rl: the ``results.jsonl`` that ``vf-eval --save-results`` writes.

A line is a rollout: ``example_id``, ``prompt``, ``completion`` (chat messages), ``reward``, what
the rubric measured, ``error``, ``is_truncated``. ``answer`` is the *expected* answer and becomes
``verifiers_answer``; what the model answered is not in the file, unless a metric holds it.
``metadata.json`` beside the file names model and environment.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import DEFAULTS, completion_text, grade
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_verifiers"]

_FIELDS = ("example_id", "completion", "reward")
_source_files = partial(
    shared.find_files,
    lambda file: file.name == "results.jsonl",
    "no results.jsonl here; run vf-eval with --save-results",
)


@shared.reads_files(_source_files)
def read_verifiers(
    path: PathLike,
    *,
    reward: str = "reward",
    threshold: float = 1.0,
    answer: str | None = None,
) -> pd.DataFrame:
    """Read saved results of a verifiers environment.

    Parameters
    ----------
    path : path
        A ``results.jsonl``, or a folder, searched with its subfolders (an evaluation each).
    reward : str
        The field that says what is correct: ``reward``, or one of the rubric's metrics.
    threshold : float
        A rollout is correct from here on.
    answer : str, optional
        The field with what the model answered, if the environment saved it.

    Returns
    -------
    DataFrame
        The rollouts table with ``score``; ``run`` is the model of ``metadata.json``, ``problem_id``
        environment and example. A rollout that ended in an error is a wrong one, with ``error``.

    Raises
    ------
    ValueError
        Not this format, or a missing reward.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"example_id": 0, "prompt": [{"role": "user", "content": "2+3?"}], "answer": "5",
    ...        "completion": [{"role": "assistant", "content": "It is 5"}], "reward": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "results.jsonl").write_text(json.dumps(row))
    ...     read_verifiers(folder)[["problem_id", "text", "correct"]].to_numpy().tolist()
    [['0', 'It is 5', True]]
    """
    tables = [_read_file(file, reward, threshold, answer) for file in _source_files(path)]
    return validate_rollouts(pd.concat(tables, ignore_index=True), str(path))


def _read_file(file: Path, reward: str, threshold: float, answer: str | None) -> pd.DataFrame:
    frame = frame_of(shared.read_records(file, _FIELDS, "a results file of verifiers"))
    for name in (reward, *([answer] if answer else [])):
        shared.require_fields(frame.columns, [name], str(file), "a file with what was asked for")
    about = _about(file)
    environment = about.get("env_id") or about.get("env")
    ids = frame["example_id"].astype(str)
    made = {
        "problem_id": ids if environment is None else f"{environment}/" + ids,
        "correct": grade(frame[reward], threshold, str(file)),
        "score": frame[reward],
        "text": frame["completion"].map(_text),
        "run": pd.Series(str(about.get("model") or DEFAULTS["run"]), index=frame.index),
    }
    if "prompt" in frame:
        made["prompt"] = frame["prompt"].map(_text)
    if answer is not None:
        made["answer"] = shared.found_answers(frame[answer], made["correct"])
    rest = frame.drop(columns=["completion", "prompt", "example_id"], errors="ignore")
    return shared.with_rest(made, rest, "verifiers", taken=["answer"])


def _about(file: Path) -> dict[str, Any]:
    beside = file.with_name("metadata.json")
    content = shared.read_json(beside, "mend or remove it") if beside.exists() else {}
    return content if isinstance(content, dict) else {}


def _text(messages: Any) -> str | None:
    return completion_text(messages) if isinstance(messages, str | list) and messages else None
