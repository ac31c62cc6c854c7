"""LiveCodeBench: the ``*_eval_all.json`` that ``lcb_runner.runner.main --evaluate`` writes.

A list with a record a problem: ``question_id``, ``output_list`` (what the model said),
``code_list`` (the program taken from it), ``graded_list`` and more about the problem. The file's
folder is the run (``output/<model>/...``), its name holds the temperature. Tests' outcomes
(``metadata``) are not read.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import DEFAULTS
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_livecodebench"]

_FIELDS = ("question_id", "output_list", "code_list", "graded_list")
_NAME = re.compile(r".*_(\d+)_([0-9.]+)_eval_all\.json")
_HINT = "no *_eval_all.json here; run LiveCodeBench with --evaluate"
_source_files = partial(shared.find_files, lambda file: file.name.endswith("_eval_all.json"), _HINT)
_LAYOUT = Layout({"problem_id": "question_id", "correct": "graded_list", "text": "code_list",
                  "output": "output_list"})  # fmt: skip


@shared.reads_files(_source_files)
def read_livecodebench(path: PathLike) -> pd.DataFrame:
    """Read graded samples of LiveCodeBench.

    Parameters
    ----------
    path : path
        An ``*_eval_all.json``, or a folder, searched with its subfolders (a run each).

    Returns
    -------
    DataFrame
        The rollouts table: ``text`` is the program, ``output`` the whole reply; with
        ``temperature`` where the file's name says it, and the fields about the problem
        (``difficulty``, ``platform``, ``contest_date``, ...).

    Raises
    ------
    ValueError
        Not this format, or lists of unequal length.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"question_id": "abc_a", "output_list": ["...", "..."], "code_list": ["f", "g"],
    ...        "graded_list": [True, False], "pass@1": 0.5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "Scenario.codegeneration_2_0.2_eval_all.json")
    ...     _ = path.write_text(json.dumps([row]))
    ...     read_livecodebench(path)[["text", "correct", "temperature"]].to_numpy().tolist()
    [['f', True, 0.2], ['g', False, 0.2]]
    """
    tables = []
    for file in _source_files(path):
        table = _LAYOUT.apply(frame_of(_records(file)), str(file))
        found = _NAME.fullmatch(file.name)
        if found:
            table["temperature"] = float(found[2])
        table["run"] = file.parent.name if Path(path).is_dir() else DEFAULTS["run"]
        tables.append(table)
    return validate_rollouts(pd.concat(tables, ignore_index=True), str(path))


def _records(file: Path) -> list[dict[str, object]]:
    content = shared.read_json(file, "the file may have been cut off while it was written")
    if not isinstance(content, list) or not content:
        raise ValueError(f"{file}: no list of problems; this isn't a file of LiveCodeBench")
    left_out = ("metadata", "pass@1", "question_content")
    for number, record in enumerate(content):
        fields = record if isinstance(record, dict) else {}
        shared.require_fields(
            fields, _FIELDS, f"{file}, record {number}", "a problem of LiveCodeBench"
        )
    return [{k: v for k, v in record.items() if k not in left_out} for record in content]
