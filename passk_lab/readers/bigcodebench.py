"""BigCodeBench: the ``*_eval_results.json`` that ``bigcodebench.evaluate`` writes.

A sample is a ``solution`` with the ``status`` "pass", "fail" or "timeout". The solution is what was
run: with ``calibrated`` (the default) the task's imports and signature stand before the model's
text. The failed tests' tracebacks are not read. ``run`` is the model's name where the file is named
as ``bigcodebench.generate`` does it (``<model>--bigcodebench-...``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _samples as samples_files
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_bigcodebench"]

_STATUSES = {"pass": True, "fail": False, "timeout": False}
_FIELDS = ("solution", "status")
_AFTER_MODEL = "--bigcodebench-"

_source_files = samples_files.results_of("bigcodebench.evaluate --samples")


@shared.reads_files(_source_files)
def read_bigcodebench(path: PathLike) -> pd.DataFrame:
    """Read graded samples of BigCodeBench.

    Parameters
    ----------
    path : path
        The results file; or the ``.jsonl`` samples file (or samples folder) that it belongs to.
        The file's further fields are added to the table once it is checked to be what was graded.

    Returns
    -------
    DataFrame
        The rollouts table, with ``status``.

    Raises
    ------
    ValueError
        Not this format, a status that BigCodeBench doesn't know, or results of other samples.

    Examples
    --------
    >>> import json, tempfile
    >>> rows = [{"solution": f"f = {name}", "status": s} for name, s in (("abs", "pass"),
    ...                                                               ("int", "fail"))]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples_eval_results.json")
    ...     _ = path.write_text(json.dumps({"eval": {"BigCodeBench/0": rows}}))
    ...     read_bigcodebench(path)["correct"].tolist()
    [True, False]
    """
    path = Path(path)
    (results,) = _source_files(path)
    frame = frame_of(list(_samples(results)))
    if path.is_file() and results != path:
        frame = samples_files.add_fields(frame, path, results, same=str.endswith)
    model, marker, _ = results.name.partition(_AFTER_MODEL)
    if marker and model:
        frame["run"] = model
    return validate_rollouts(frame, str(results))


def _samples(results: Path) -> Iterator[dict[str, Any]]:
    for task, samples in samples_files.graded_tasks(results, "BigCodeBench").items():
        if not isinstance(samples, list):
            raise ValueError(
                f"{results}: {task}: expected a list of samples with {', '.join(_FIELDS)}"
            )
        for number, sample in enumerate(samples):
            where = f"{results}: {task}, sample {number}"
            fields = sample if isinstance(sample, dict) else {}
            shared.require_fields(fields, _FIELDS, where, "a sample of BigCodeBench")
            status = sample["status"]
            samples_files.check_status(status, _STATUSES, f"{where}: status")
            if not isinstance(sample["solution"], str):
                raise ValueError(
                    f"{where}: 'solution' is {shared.short(sample['solution'])}, not text"
                )
            yield {
                "problem_id": task,
                "sample_id": number,
                "text": sample["solution"],
                "correct": _STATUSES[status],
                "status": status,
            }
