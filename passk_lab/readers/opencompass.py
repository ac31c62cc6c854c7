"""OpenCompass: ``results/<model>/<dataset>.json`` of runs with ``--dump-eval-details``.

``details`` maps a number to each sample: ``prompt``, ``origin_prediction`` (the reply),
``predictions`` (the answer taken from it), ``references`` and ``correct``. Samples of one prompt,
as ``n`` or ``k`` of a dataset's configuration give, are samples of one problem.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._cells import DEFAULTS, grade
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_opencompass"]

_HINT = "no results/<model>/<dataset>.json with 'details' here; run with --dump-eval-details"
_source_files = partial(
    shared.find_files,
    lambda file: file.suffix == ".json" and "predictions" not in file.parts,
    _HINT,
)


@shared.reads_files(_source_files)
def read_opencompass(path: PathLike, *, threshold: float = 1.0) -> pd.DataFrame:
    """Read OpenCompass' details of an evaluation.

    Parameters
    ----------
    path : path
        A results file, or a ``results`` folder (a folder a model, a file a dataset).
    threshold : float
        A sample is correct if ``correct`` is at least this.

    Returns
    -------
    DataFrame
        The rollouts table: ``run`` is the file's folder, ``task`` its name, ``problem_id`` task and
        `passk_lab.readers.stable_id` of the prompt, ``text`` the reply, ``answer`` what was taken
        from it.

    Raises
    ------
    ValueError
        Not this format, or samples without a grade.

    Examples
    --------
    >>> import tempfile
    >>> one = {"prompt": "2+3?", "origin_prediction": "It is 5", "predictions": "5",
    ...        "references": "5", "correct": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "sums.json")
    ...     _ = path.write_text(json.dumps({"accuracy": 100, "details": {"0": one}}))
    ...     read_opencompass(path)[["task", "answer", "correct"]].to_numpy().tolist()
    [['sums', '5', True]]
    """
    folder = Path(path).is_dir()
    tables = [_read_file(file, threshold, folder) for file in _source_files(path)]
    return validate_rollouts(pd.concat(tables, ignore_index=True), str(path))


def _read_file(file: Path, threshold: float, folder: bool) -> pd.DataFrame:
    content = shared.read_json(file, "the file may have been cut off while it was written")
    details = content.get("details") if isinstance(content, dict) else None
    if isinstance(details, dict):
        details = [part for name, part in details.items() if name != "type"]
    if not isinstance(details, list) or not details:
        raise ValueError(f"{file}: no 'details'; evaluate again with --dump-eval-details")
    for number, one in enumerate(details):
        fields = one if isinstance(one, dict) else {}
        shared.require_fields(
            fields, ("correct",), f"{file}, sample {number}", "details of OpenCompass"
        )
    frame = frame_of([_row(one, number) for number, one in enumerate(details)])
    correct = grade(frame["correct"], threshold, str(file))
    return frame.assign(
        correct=correct,
        answer=shared.found_answers(frame["answer"], correct),
        run=file.parent.name if folder else DEFAULTS["run"],
        task=file.stem,
        problem_id=f"{file.stem}/" + frame["problem_id"],
    )


def _row(one: dict[str, Any], number: int) -> dict[str, Any]:
    prompt = one.get("prompt")
    named = str(number) if prompt is None else stable_id(json.dumps(prompt, sort_keys=True))
    reply = one.get("origin_prediction")
    answer = one.get("predictions", one.get("pred"))
    return {
        "problem_id": named,
        "correct": one["correct"],
        "text": reply if reply is None or isinstance(reply, str) else json.dumps(reply),
        "answer": answer if answer is None or isinstance(answer, str) else json.dumps(answer),
        "reference": json.dumps(one.get("references", one.get("answer"))),
    }
