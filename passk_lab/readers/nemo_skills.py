"""NeMo-Skills: graded ``output-rs<seed>.jsonl`` (or ``output.jsonl``), a file a random seed.

A line is a generation: the problem's fields, ``generation`` (unless the run calls it otherwise),
``predicted_answer`` and its grade, by a comparison (``symbolic_correct``), a judge (``judgement``)
or, of code, proofs and others, by the fields of their benchmarks. The files of a folder are further
samples of one run; their seeds are of sampling, and not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike

__all__ = ["read_nemo_skills"]

_FILE = re.compile(r"output(?P<seed>-rs(\d+))?(?P<part>_chunk_\d+)?\.jsonl(?P<open>-async)?")
# What judges of other benchmarks than math answer (SimpleQA's C: not attempted).
_LABELS = {"A": True, "CORRECT": True, "B": False, "C": False, "INCORRECT": False}


def _judged(text: Any) -> bool | None:
    """Read a judge's last word, as NeMo-Skills does; None where it is neither Yes nor No."""
    if not isinstance(text, str):
        return None
    _, found, verdict = text.rpartition("Judgement:")
    if not found:
        return _LABELS.get(text.strip().upper())
    word = verdict.strip().lower()
    return True if word.startswith("yes") else False if word.startswith("no") else None


def _inside(name: str) -> Callable[[Any], Any]:
    return lambda value: value.get(name) if isinstance(value, dict) else None


def _is(right: str) -> Callable[[Any], Any]:
    return lambda value: None if value is None else value == right


def _itself(value: Any) -> Any:
    return value


# Fields with grades, and how they are read.
_GRADES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("symbolic_correct", "is_correct", "is_correct-plus", "correct"), _itself),
    **dict.fromkeys(("is_passed", "passed"), _itself),
    "judgement": _judged,
    "graded_list": lambda value: value[0] if isinstance(value, list) and value else None,
    "proof_status": _is("completed"),
    "status": _is("pass"),
    "strict_eval": _inside("follow_all_instructions"),
    "loose_eval": _inside("follow_all_instructions"),
    "swe-bench-metrics": _inside("resolved"),
}


_TAKEN = {"text": "generation", "answer": "predicted_answer", "n_tokens": "num_generated_tokens"}
# Fields that name the problem, and those with its text.
_NAMES = ("id", "problem_id", "task_id", "instance_id")
_TEXTS = ("problem", "question")


def _source_files(path: PathLike) -> list[Path]:
    path = Path(path)
    if not path.is_dir():
        return [path]
    names = {file: _FILE.fullmatch(file.name) for file in sorted(path.rglob("output*.jsonl*"))}
    files = {file: found for file, found in names.items() if found}
    if not files:
        raise ValueError(f"{path}: no output-rs<seed>.jsonl or output.jsonl in this folder")
    folders = sorted({str(file.parent.relative_to(path)) for file in files})
    if len(folders) > 1:
        raise ValueError(
            f"{path}: holds outputs in several folders ({', '.join(folders)}); give the folder of "
            "one benchmark"
        )
    for file, found in files.items():
        if found["part"] or found["open"]:
            raise ValueError(f"{file}: part of a run that did not finish; finish it, or remove it")
    if len({found["seed"] is None for found in files.values()}) > 1:
        raise ValueError(
            f"{path}: holds output.jsonl beside output-rs<seed>.jsonl, so another way of sampling; "
            "move one of them out"
        )
    return sorted(files, key=lambda file: int(files[file][2] or 0))


@shared.reads_files(_source_files)
def read_nemo_skills(
    path: PathLike,
    *,
    metric: str | None = None,
    threshold: float = 1.0,
    problem_id: str | Sequence[str] | None = None,
    unscored: shared.Unscored = "refuse",
) -> pd.DataFrame:
    """Read generations that NeMo-Skills graded.

    Parameters
    ----------
    path : path
        A folder with ``output-rs<seed>.jsonl``, whose samples are numbered on, or one such file.
    metric : str, optional
        The field that says what is correct; needed where there are several grades.
    threshold : float
        A generation is correct from this grade on.
    problem_id : str or sequence of str, optional
        The fields that tell problems apart. Default: ``id`` (``problem_id``, ``task_id``,
        ``instance_id``), or else `passk_lab.readers.stable_id` of ``problem`` or ``question``.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with generations without a grade. One whose judge said neither Yes nor No has
        none; NeMo-Skills counts it as wrong.

    Returns
    -------
    DataFrame
        The rollouts table, with ``predicted_answer`` as ``answer``, ``num_generated_tokens`` as
        ``n_tokens`` and all other fields.

    Raises
    ------
    ValueError
        Not graded yet, several grades and none chosen, or a generation without one; outputs of
        several benchmarks, of an unfinished run, or sampled in two ways.

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
    frames = {str(file): _read_file(file) for file in _source_files(path)}
    problems = _problems(frames, problem_id, str(path))
    tables = []
    for file, frame in frames.items():
        chosen = _choose(frame, metric, file)
        made = {
            "problem_id": problems.loc[file],
            "correct": frame[chosen].map(_GRADES.get(chosen, _itself)).astype(object),
        }
        made |= {name: frame[field] for name, field in _TAKEN.items() if field in frame}
        rest = frame.drop(columns=list(_TAKEN.values()), errors="ignore")
        table = shared.with_rest(made, rest, "nemo")
        tables.append(shared.graded(table, chosen, threshold, unscored, file))
    return shared.joined(tables, str(path))


def _read_file(file: Path) -> pd.DataFrame:
    return frame_of(shared.read_records(file, (), "an output of NeMo-Skills"))


def _problems(
    frames: dict[str, pd.DataFrame], asked: str | Sequence[str] | None, source: str
) -> pd.Series:
    frame = pd.concat(frames)
    usual = next((name for name in (*_NAMES, *_TEXTS) if name in frame), "problem")
    names = [usual] if asked is None else [asked] if isinstance(asked, str) else list(asked)
    for file, part in frames.items():
        shared.require_fields(part.columns, names, file, "an output whose problems have names")
    if asked is not None:
        return shared.named_by(frame, asked)
    shared.refuse_two_truths(frame, usual, "expected_answer", source)
    return frame[usual].astype(str).map(stable_id) if usual in _TEXTS else frame[usual]


def _choose(frame: pd.DataFrame, metric: str | None, file: str) -> str:
    known = [name for name in _GRADES if name in frame]
    if metric is not None and metric in frame:
        return metric
    if not known:
        raise ValueError(
            f"{file}: no grade ({', '.join(_GRADES)}); grade it first, or name it: metric=..."
        )
    return shared.choose(metric, known, "metric", file)
