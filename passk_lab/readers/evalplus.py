"""EvalPlus (HumanEval+, MBPP+): the ``*_eval_results.json`` that ``evalplus.evaluate`` writes.

Each sample has a status for the base tests and one for the extra ("plus") tests. As EvalPlus
counts it, a sample is right on "plus" if it passes both. The failed tests' inputs are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_evalplus"]

_PASS = "pass"
# Words of early versions.
_EARLY = {"success": _PASS, "failed": "fail", "timed out": "timeout"}
_FIELDS = ("solution", "base_status", "plus_status")


def _source_files(path: Path) -> list[Path]:
    """Give the results file: ``path`` itself, or the one that belongs to these samples."""
    if path.is_dir():
        results = path / "eval_results.json"
    elif path.name.endswith(".jsonl"):
        results = path.with_name(path.name.replace(".jsonl", "_eval_results.json"))
    else:
        return [path]
    if not results.exists():
        raise FileNotFoundError(
            f"{path}: no {results.name}; run evalplus.evaluate --samples={path.name}"
        )
    return [results]


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
    if frame.empty:
        raise ValueError(f"{results}: the file holds no samples")
    has_plus = frame["plus_status"].notna()
    if tests is None:
        tests = "plus" if has_plus.any() else "base"
    if tests == "plus" and not has_plus.all():
        task = frame["problem_id"][~has_plus].iloc[0]
        raise ValueError(
            f"{results}: {task}: no result of the plus tests (evaluated with --base-only); read "
            "it with tests='base', or evaluate it again"
        )
    frame["correct"] = frame["base_status"] == _PASS
    if tests == "plus":
        frame["correct"] &= frame["plus_status"] == _PASS
    frame["tests"] = tests
    if frame["text"].isna().all():
        frame = frame.drop(columns="text")
    if path.is_file() and results != path:
        frame = _add_fields(frame, path, results)
    return validate_rollouts(frame, str(results))


def _samples(results: Path) -> Iterator[dict[str, Any]]:
    content = shared.read_json(
        results, "the file may have been cut off while it was written: evaluate again"
    )
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict):
        raise ValueError(f"{results}: no object 'eval'; this isn't a results file of EvalPlus")
    for task, samples in tasks.items():
        if isinstance(samples, dict) and isinstance(samples.get("base"), list):
            samples = _early(samples, f"{results}: {task}")
        if not isinstance(samples, list):
            raise ValueError(
                f"{results}: {task}: expected a list of samples with {', '.join(_FIELDS)}, or the "
                "lists 'base' and 'plus' of early versions"
            )
        for number, sample in enumerate(samples):
            fields = sample if isinstance(sample, dict) else {}
            shared.require_fields(
                fields, _FIELDS, f"{results}: {task}, sample {number}", "a sample of EvalPlus"
            )
            yield {
                "problem_id": task,
                "sample_id": number,
                "text": sample["solution"],
                "base_status": sample["base_status"],
                "plus_status": sample["plus_status"],
            }


def _early(samples: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Samples of early versions: lists of status and details, without solutions."""
    base, plus = samples["base"], samples.get("plus") or [None] * len(samples["base"])
    if not isinstance(plus, list) or len(plus) != len(base):
        raise ValueError(f"{where}: 'base' and 'plus' have not a result each for every sample")
    found = []
    for number, results in enumerate(zip(base, plus, strict=True)):
        for result in results:
            if result is not None and not (isinstance(result, list) and result):
                raise ValueError(f"{where}, sample {number}: {result!r} is no status with details")
        named = [None if r is None else _EARLY.get(str(r[0]), str(r[0])) for r in results]
        found.append({"solution": None, "base_status": named[0], "plus_status": named[1]})
    return found


def _add_fields(frame: pd.DataFrame, path: Path, results: Path) -> pd.DataFrame:
    """Add the samples file's further fields; EvalPlus keeps each task's samples in file order."""
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
        matches = bool((given.isna() | (given == frame["text"])).all())
    if not matches:
        raise shared.other_samples(results, path)
    return frame
