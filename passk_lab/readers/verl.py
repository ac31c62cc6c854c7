"""verl: the dumps of ``trainer.rollout_data_dir`` and ``trainer.validation_data_dir``.

One file a step, ``<step>.jsonl``; one line a rollout with ``input``, ``output``, ``gts``,
``score``, ``step`` and whatever the reward function returned beside the score (``acc``, ``pred``,
...). ``pred`` is the model's answer, as verl's grader for DAPO's math read it: in a normal form of
LaTeX after "Answer:", as it stands in a box; ``normalize_answers=True`` spells both alike.
"[INVALID]", what it says for "none found", is a missing answer. verl itself writes no field
``answer``: a reward function's may be the expected one, and becomes ``verl_answer`` unless it is
asked for. The files don't hold sessions that failed, which verl's newer trainer counts as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike

__all__ = ["read_verl"]

_FIELDS = ("input", "output", "score")


def _source_files(path: Path) -> list[Path]:
    """Give the file itself, or a folder's ``<step>.jsonl`` in the order of their steps."""
    if not path.is_dir():
        return [path]
    files = list(path.glob("*.jsonl"))
    for file in files:
        if _step(file) is None:
            raise ValueError(f"{file}: verl names its dumps <step>.jsonl; take this file out")
    if not files:
        raise ValueError(f"{path}: no <step>.jsonl in this folder")
    return sorted(files, key=lambda file: _step(file) or 0)


@shared.reads_files(_source_files)
def read_verl(
    path: PathLike,
    *,
    metric: str | None = None,
    threshold: float = 1.0,
    problem_id: str | Sequence[str] | None = None,
    answer: str | None = None,
    unscored: shared.Unscored = "refuse",
) -> pd.DataFrame:
    """Read rollouts that verl dumped in training or validation.

    Parameters
    ----------
    path : path
        A dump folder, or one of its files.
    metric : str, optional
        The field that says what is correct. Default: ``acc`` if there, else ``score``, as in verl.
    threshold : float
        A rollout is correct if this field is at least ``threshold``.
    problem_id : str or sequence of str, optional
        The fields that tell problems apart. Default: `passk_lab.readers.stable_id` of ``input``.
    answer : str, optional
        The field with the model's answer. Default: ``pred`` if the file has it.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with rollouts without a grade.

    Returns
    -------
    DataFrame
        The rollouts table with all fields; one whose name has another meaning in the rollouts
        table is called ``verl_<name>``.

    Raises
    ------
    ValueError
        A missing grade; a ``.jsonl`` in the folder that is no step's; one input with several
        ground truths, for which ``problem_id`` must say what tells them apart.

    Examples
    --------
    >>> import json
    >>> import tempfile
    >>> row = {"input": "2+3?", "output": "It is 5", "gts": "5", "score": -1.0, "acc": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "7.jsonl").write_text(json.dumps(row))
    ...     read_verl(folder)[["step", "correct", "text"]].to_numpy().tolist()
    [[7, True, 'It is 5']]
    """
    path = Path(path)
    files = _source_files(path)
    frames = {str(file): _read_file(file) for file in files}
    frame = pd.concat(frames)
    metric = metric or ("acc" if "acc" in frame.columns else "score")
    answer = answer or ("pred" if "pred" in frame.columns else None)
    keys = [problem_id] if isinstance(problem_id, str) else list(problem_id or ["input"])
    chosen = (metric, *keys, *([answer] if answer else []))
    for file, part in frames.items():
        shared.require_fields(part.columns, chosen, file, "a dump with what was asked for")
    if problem_id is None:
        shared.refuse_two_truths(frame, "input", "gts", str(path))
        problems = frame["input"].map(stable_id)
    else:
        problems = shared.named_by(frame, problem_id)
    tables = []
    for file, part in frames.items():
        made = {
            "problem_id": problems.loc[file],
            "correct": part[metric],
            "prompt": part["input"],
            "text": part["output"],
            "score": part["score"],
        }
        made |= {"step": part["step"]} if "step" in part else {}
        made |= {"answer": part[answer]} if answer else {}
        rest = part.drop(columns=["input", "output", "score", "step"], errors="ignore")
        table = shared.with_rest(made, rest, "verl")
        tables.append(shared.graded(table, metric, threshold, unscored, file))
    return shared.joined(tables, str(path))


def _step(file: Path) -> int | None:
    return int(file.stem) if re.fullmatch(r"[0-9]+", file.stem) else None


def _read_file(file: Path) -> pd.DataFrame:
    frame = frame_of(shared.read_records(file, _FIELDS, "a dump of verl"))
    if "step" not in frame.columns and _step(file) is not None:
        frame["step"] = _step(file)
    return frame
