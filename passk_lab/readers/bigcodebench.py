"""BigCodeBench: the ``*_eval_results.json`` that ``bigcodebench.evaluate`` writes.

``eval`` maps each task to its samples: ``solution``, ``status`` ("pass", "fail", "timeout") and
``details``, the failed tests, which are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_bigcodebench"]

_FIELDS = ("solution", "status")
_source_files = partial(
    shared.find_files,
    lambda file: file.name.endswith("eval_results.json"),
    "no *_eval_results.json here; run bigcodebench.evaluate",
)


@shared.reads_files(_source_files)
def read_bigcodebench(path: PathLike) -> pd.DataFrame:
    """Read graded samples of BigCodeBench.

    Parameters
    ----------
    path : path
        The results file; or a folder of them, each file a run.

    Returns
    -------
    DataFrame
        The rollouts table, with ``status``.

    Raises
    ------
    ValueError
        Not this format.

    Examples
    --------
    >>> import json, tempfile
    >>> samples = [{"solution": "f = abs", "status": s, "details": []} for s in ("pass", "fail")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "m_eval_results.json")
    ...     _ = path.write_text(json.dumps({"eval": {"BigCodeBench/0": samples}}))
    ...     read_bigcodebench(path)["correct"].tolist()
    [True, False]
    """
    files = _source_files(path)
    tables = []
    for file in files:
        table = frame_of(list(_samples(file)))
        if len(files) > 1:
            table["run"] = file.name.removesuffix("eval_results.json").rstrip("-_") or file.stem
        tables.append(table)
    return validate_rollouts(pd.concat(tables, ignore_index=True), str(path))


def _samples(file: Path) -> Iterator[dict[str, Any]]:
    content = shared.read_json(file, "the file may have been cut off while it was written")
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise ValueError(f"{file}: no object 'eval'; this isn't a results file of BigCodeBench")
    for task, samples in tasks.items():
        if not isinstance(samples, list):
            raise ValueError(f"{file}: {task}: expected a list of samples with solution and status")
        for number, sample in enumerate(samples):
            fields = sample if isinstance(sample, dict) else {}
            where = f"{file}: {task}, sample {number}"
            shared.require_fields(fields, _FIELDS, where, "a sample of BigCodeBench")
            yield {
                "problem_id": task,
                "sample_id": number,
                "text": sample["solution"],
                "status": sample["status"],
                "correct": sample["status"] == "pass",
            }
