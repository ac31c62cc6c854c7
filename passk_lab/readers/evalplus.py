"""EvalPlus (HumanEval+, MBPP+): the ``*_eval_results.json`` that ``evalplus.evaluate`` writes.

Each sample has a status for the base tests and one for the extra ("plus") tests. As EvalPlus
counts it, a sample is right on "plus" if it passes both. The failed tests' inputs are not read.

Up to version 0.2.0 a task was an object with a list of ``[status, details]`` for the base tests and
one for the plus tests, "success" was what is now "pass", and no solution was kept: the column
``text`` then comes from the samples file, if that is what is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import eq
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _samples as samples_files
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_evalplus"]

# The words of today's EvalPlus and those of the early layout.
_STATUSES = {
    **{"pass": True, "fail": False, "timeout": False},
    **{"success": True, "failed": False, "timed out": False},
}
_FIELDS = ("solution", "base_status", "plus_status")

_source_files = samples_files.results_of("evalplus.evaluate --samples")


@shared.reads_files(_source_files)
def read_evalplus(path: PathLike, *, tests: Literal["plus", "base"] | None = None) -> pd.DataFrame:
    """Read graded samples of EvalPlus.

    Parameters
    ----------
    path : path
        The results file; or the ``.jsonl`` samples file (or samples folder) that it belongs to,
        whose further fields are added to the table once it is checked to be what was graded.
    tests : {"plus", "base"}, optional
        Which tests decide. Default: "plus" if the file has them, "base" if it was made with
        ``--base-only``; the column ``tests`` says which it was.

    Returns
    -------
    DataFrame
        The rollouts table, with ``base_status``, ``plus_status`` and ``tests``.

    Raises
    ------
    ValueError
        Not this format, no plus tests although asked for, or results of other samples.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"solution": "f = abs", "base_status": "pass", "plus_status": "fail"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples_eval_results.json")
    ...     _ = path.write_text(json.dumps({"eval": {"Toy/0": [row]}}))
    ...     [read_evalplus(path, tests=t)["correct"].item() for t in ("plus", "base")]
    [False, True]
    """
    check_choice(tests, (None, "plus", "base"), "tests")
    path = Path(path)
    (results,) = _source_files(path)
    frame = frame_of(list(_samples(results)))
    if frame["text"].isna().all():
        frame = frame.drop(columns="text")
    has_plus = frame["plus_status"].notna()
    if tests is None:
        tests = "plus" if has_plus.any() else "base"
    if tests == "plus" and not has_plus.all():
        task = frame["problem_id"][~has_plus].iloc[0]
        raise ValueError(
            f"{results}: {task}: no result of the plus tests (evaluated with --base-only); read "
            "it with tests='base', or evaluate it again"
        )
    frame["correct"] = frame["base_status"].map(_STATUSES)
    if tests == "plus":
        frame["correct"] &= frame["plus_status"].map(_STATUSES)
    frame["tests"] = tests
    if path.is_file() and results != path:
        frame = samples_files.add_fields(frame, path, results, same=eq)
    return validate_rollouts(frame, str(results))


def _samples(results: Path) -> Iterator[dict[str, Any]]:
    for task, graded in samples_files.graded_tasks(results, "EvalPlus").items():
        where = f"{results}: {task}"
        if isinstance(graded, dict):
            samples = _early_samples(graded, where)
        elif isinstance(graded, list):
            samples = graded
        else:
            raise ValueError(f"{where}: expected a list of samples with {', '.join(_FIELDS)}")
        for number, sample in enumerate(samples):
            fields = sample if isinstance(sample, dict) else {}
            place = f"{where}, sample {number}"
            shared.require_fields(fields, _FIELDS, place, "a sample of EvalPlus")
            samples_files.check_status(sample["base_status"], _STATUSES, f"{place}: base_status")
            if sample["plus_status"] is not None:
                samples_files.check_status(
                    sample["plus_status"], _STATUSES, f"{place}: plus_status"
                )
            yield {
                "problem_id": task,
                "sample_id": number,
                "text": sample["solution"],
                "base_status": sample["base_status"],
                "plus_status": sample["plus_status"],
            }


def _early_samples(task: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Give a task of the early layout as samples of the present one."""
    base = _early_statuses(task, "base", where)
    plus = _early_statuses(task, "plus", where) if task.get("plus") else [None] * len(base)
    files = task.get("files")
    n_samples = len(files) if isinstance(files, list) else task.get("nfiles", len(base))
    if not n_samples == len(base) == len(plus):
        raise ValueError(
            f"{where}: {n_samples} samples, but {len(base)} base and {len(plus)} plus results; "
            "evaluate again"
        )
    return [
        {"solution": None, "base_status": of_base, "plus_status": of_plus}
        for of_base, of_plus in zip(base, plus, strict=True)
    ]


def _early_statuses(task: dict[str, Any], tests: str, where: str) -> list[Any]:
    graded = task.get(tests)
    if (
        not isinstance(graded, list)
        or not graded
        or not all(isinstance(g, list) and g for g in graded)
    ):
        raise ValueError(
            f"{where}: {tests!r} is {shared.short(graded)}, not a list of [status, details]; "
            "evaluate again"
        )
    return [status for status, *_ in graded]
