"""NeMo-Skills: graded ``output-rs<seed>.jsonl`` (or ``output.jsonl``), a file a random seed.

A line is a generation: ``problem``, ``generation``, ``predicted_answer``, ``expected_answer`` and
its grades: ``symbolic_correct``, ``judgement`` (a judge's "... Judgement: Yes") or, of code and of
older versions, ``is_correct``, ``correct`` and others. The files of a folder are further samples of
one run; their seeds are of sampling, not of training.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._cells import grade
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_nemo_skills"]

Unscored = Literal["refuse", "drop", "incorrect"]

_GRADES = ("symbolic_correct", "judgement", "is_correct", "correct")
_NAME = re.compile(r"output(-rs(\d+))?\.jsonl")
_JUDGED = re.compile(r"\**judgement\**\s*:\s*\**\s*(yes|no)", re.IGNORECASE)


def _source_files(path: PathLike) -> list[Path]:
    path = Path(path)
    if not path.is_dir():
        return [path]
    names = {file: _NAME.fullmatch(file.name) for file in path.rglob("output*.jsonl")}
    files = {file: int(found[2] or -1) for file, found in names.items() if found}
    if not files:
        raise ValueError(f"{path}: no output-rs<seed>.jsonl or output.jsonl in this folder")
    if len({file.parent for file in files}) > 1:
        raise ValueError(
            f"{path}: holds outputs in several folders; give the folder of one benchmark"
        )
    return sorted(files, key=lambda file: files[file])


@shared.reads_files(_source_files)
def read_nemo_skills(
    path: PathLike, *, metric: str | None = None, unscored: Unscored = "refuse"
) -> pd.DataFrame:
    """Read generations that NeMo-Skills graded.

    Parameters
    ----------
    path : path
        A folder with ``output-rs<seed>.jsonl``, whose samples are numbered on, or one such file.
    metric : str, optional
        The field that says what is correct; needed where there are several grades.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with generations without a grade, or whose judge said neither Yes nor No.

    Returns
    -------
    DataFrame
        The rollouts table; ``answer`` is ``predicted_answer``, ``problem_id`` the file's ``id`` or
        else `passk_lab.readers.stable_id` of ``problem``.

    Raises
    ------
    ValueError
        Not graded yet, several grades and none chosen, or a generation without one.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"problem": "2+3?", "generation": "It is 5", "predicted_answer": "5",
    ...        "expected_answer": "5", "symbolic_correct": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (0, 1):
    ...         _ = Path(folder, f"output-rs{seed}.jsonl").write_text(json.dumps(row))
    ...     read_nemo_skills(folder)[["sample_id", "answer", "correct"]].to_numpy().tolist()
    [[0, '5', True], [1, '5', True]]
    """
    check_choice(unscored, get_args(Unscored), "unscored")
    tables = [_read_file(file, metric, unscored) for file in _source_files(path)]
    return shared.with_left_out(
        validate_rollouts(pd.concat(tables, ignore_index=True), str(path)), tables
    )


def _read_file(file: Path, metric: str | None, unscored: Unscored) -> pd.DataFrame:
    records = shared.read_records(file, ["generation"], "an output of NeMo-Skills")
    frame = frame_of(records)
    name = next((name for name in ("id", "problem", "question") if name in frame), None)
    if name is None:
        raise ValueError(f"{file}: no field 'problem', 'question' or 'id' that names the problem")
    known = [column for column in _GRADES if column in frame]
    if not known and metric is None:
        raise ValueError(
            f"{file}: no grade ({', '.join(_GRADES)}); grade it first, or name it: metric=..."
        )
    known += [metric] if metric is not None and metric in frame else []
    chosen = shared.choose(metric, known, "metric", file)
    values = frame[chosen]
    if chosen == "judgement":
        values = values.map(_judged).rename("judgement")
    made = {"problem_id": frame[name] if name == "id" else frame[name].map(stable_id),
            "correct": values, "text": frame["generation"]}  # fmt: skip
    if "predicted_answer" in frame:
        made["answer"] = frame["predicted_answer"]
    rest = frame.drop(columns=["generation", "predicted_answer", name], errors="ignore")
    table = shared.with_rest(made, rest, "nemo")
    table = shared.without_unscored(table, unscored, f"{file}: {chosen!r}")
    correct = grade(table["correct"].rename(chosen), 1.0, str(file))
    if "answer" in table:
        table["answer"] = shared.found_answers(table["answer"], correct)
    return table.assign(correct=correct)


def _judged(text: object) -> bool | None:
    found = _JUDGED.search(text) if isinstance(text, str) else None
    return None if found is None else found[1].lower() == "yes"
