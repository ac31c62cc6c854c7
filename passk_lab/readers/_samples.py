"""A samples file and the results beside it: what EvalPlus and BigCodeBench have in common.

Both write ``X_eval_results.json`` for the samples ``X.jsonl`` (``eval_results.json`` into a folder
of samples): an object ``eval`` of tasks, each with its samples in the order of the samples file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.files import iter_jsonl


def results_of(command: str) -> Callable[[Path], list[Path]]:
    """Give the function that finds the results file: the path itself, or the one beside it."""

    def find(path: Path) -> list[Path]:
        if path.is_dir():
            results = path / "eval_results.json"
        elif path.name.endswith(".jsonl"):
            results = path.with_name(path.name.replace(".jsonl", "_eval_results.json"))
        else:
            return [path]
        if not results.exists():
            raise FileNotFoundError(f"{path}: no {results.name}; run {command}={path.name}")
        return [results]

    return find


def graded_tasks(results: Path, program: str) -> dict[str, Any]:
    """Read the object ``eval`` of a results file; ValueError if there is none."""
    content = shared.read_json(
        results, "the file may have been cut off while it was written: evaluate again"
    )
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict):
        raise ValueError(f"{results}: no object 'eval'; this isn't a results file of {program}")
    if not tasks:
        raise ValueError(f"{results}: the file holds no samples")
    for task, graded in tasks.items():
        if not graded:
            raise ValueError(f"{results}: {task}: no samples of this task; evaluate it, or cut it")
    return tasks


def check_status(status: Any, known: Collection[str], where: str) -> None:
    """Refuse a status that the program doesn't know."""
    if not isinstance(status, str) or status not in known:
        raise ValueError(
            f"{where} is {shared.short(status)}, none of {', '.join(map(repr, known))}; "
            "evaluate again"
        )


def add_fields(
    frame: pd.DataFrame, path: Path, results: Path, same: Callable[[str, str], bool]
) -> pd.DataFrame:
    """Add the samples file's further fields, once it is checked to be what was graded.

    ``same(text, solution)`` says whether a graded text is the sample's solution. Results without
    texts take them from the samples.
    """
    samples = frame_of(list(iter_jsonl(path)))
    matches = "task_id" in samples.columns and len(samples) == len(frame)
    if matches:
        samples = samples.rename(columns={n: f"{n}_sample" for n in frame.columns if n in samples})
        samples = samples.rename(columns={"task_id": "problem_id"})
        samples["sample_id"] = samples.groupby("problem_id").cumcount()
        frame = frame.merge(samples, "left", ["problem_id", "sample_id"], indicator="_found")
        matches = bool((frame.pop("_found") == "both").all())
    if matches and "solution" in frame.columns:
        given = frame.pop("solution")
        text = frame["text"] if "text" in frame.columns else given
        frame["text"] = text
        matches = all(
            not isinstance(g, str) or same(t, g) for t, g in zip(text, given, strict=True)
        )
    if not matches:
        raise shared.other_samples(results, path)
    return frame
