"""bigcode-evaluation-harness: ``logs.json`` of its HumanEvalPack tasks, results of its MultiPL-E.

The harness keeps no grades of single samples but for two families of tasks. HumanEvalPack
(``humanevalfixtests-*``, ``humanevalsynthesize-*``, ...) writes ``logs.json`` into the working
folder: for each problem pairs of a sample's number and ``{"passed": ..., "result": ...}``; the same
pairs are the second value of its ``compute_code_eval``, which you can save for any other task. The
next task writes over them, so they are checked against the scores in ``evaluation_results.json``
beside them. MultiPL-E (``multiple-*``) writes a ``<problem>.results.json`` a problem into the
system's temporary folder; a sample is right if its ``status`` is "OK" and its ``exit_code`` 0, and
its text is the program without the tests.

Model, temperature, ``sampling_seed`` and the first problem's number (``limit_start``) come from
``evaluation_results.json``, texts from the generations (``--save_generations``) beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _harness as harness
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_bigcode_harness"]

_RESULTS = ".results.json"
_CUT_OFF = "the file may have been cut off while it was written: evaluate again"
_NO_GRADES = (
    "only HumanEvalPack tasks write them (logs.json), and multiple-* (*.results.json); for another "
    "task save the second value of compute_code_eval as logs.json"
)


def _source_files(path: Path) -> list[Path]:
    """Give the files with grades: ``path`` itself, or a folder's logs, or its MultiPL-E results."""
    if not path.is_dir():
        return [path]
    if (path / "logs.json").exists():
        return [path / "logs.json"]
    files = sorted(path.glob(f"*{_RESULTS}"))
    if not files:
        raise ValueError(f"{path}: no grades of samples here; {_NO_GRADES}")
    return files


@shared.reads_files(_source_files)
def read_bigcode_harness(path: PathLike, *, task: str | None = None) -> pd.DataFrame:
    """Read graded samples of bigcode-evaluation-harness.

    Parameters
    ----------
    path : path
        A ``logs.json``, a ``*.results.json`` of MultiPL-E, or the folder that holds them.
    task : str, optional
        Which task the logs are of; needed where the scores beside them are of several.

    Returns
    -------
    DataFrame
        The rollouts table with ``result`` (how a sample failed), and ``task`` where it is known.

    Raises
    ------
    ValueError
        No grades of single samples, or logs of another run than the scores or generations beside
        them.

    Examples
    --------
    >>> import json, tempfile
    >>> graded = [[i, {"task_id": 0, "passed": i == 0, "completion_id": i}] for i in range(2)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "logs.json").write_text(json.dumps({"0": graded}))
    ...     read_bigcode_harness(folder)[["problem_id", "correct"]].to_numpy().tolist()
    [['0', True], ['0', False]]
    """
    files = _source_files(Path(path))
    if all(file.name.endswith(_RESULTS) for file in files):
        rows = [row for file in files for row in _multipl_e(file)]
        if task is not None:
            rows = harness.of_task(rows, task, lambda row: str(row["task"]), path)
        return validate_rollouts(frame_of(rows), str(path))
    (logs,) = files
    settings = _settings(logs.parent, task)
    graded = _graded(logs)
    _check_scores(graded, settings, logs)
    texts = _texts(graded, settings, logs)
    rows = []
    for number, samples in graded.items():
        problem = str(number + settings.first)
        for sample_id, sample in samples.items():
            rows.append(
                {
                    "problem_id": problem
                    if settings.task is None
                    else f"{settings.task}/{problem}",
                    "sample_id": sample_id,
                    "correct": sample["passed"],
                    "result": sample.get("result"),
                    **({} if texts is None else {"text": texts[number][sample_id]}),
                    **settings.columns,
                }
            )
    frame = frame_of(rows)
    return validate_rollouts(frame.loc[:, frame.notna().any()], str(path))


# --- HumanEvalPack ---


@dataclass(frozen=True)
class _Settings:
    """What ``evaluation_results.json`` says about the run."""

    task: str | None = None
    scores: dict[int, float] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    first: int = 0
    generations: str | None = None


def _settings(folder: Path, task: str | None) -> _Settings:
    file = folder / "evaluation_results.json"
    if not file.exists():
        name = None if task is None else f"generations_{task}.json"
        return _Settings(task, columns={} if task is None else {"task": task}, generations=name)
    content = shared.read_json(file, "mend or remove it")
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: no object 'config'; mend or remove it")
    task = shared.choose(task, [name for name in content if name != "config"], "task", file)
    loaded = config.get("load_generations_path")
    saved = Path(str(config.get("save_generations_path") or "generations.json")).stem
    return _Settings(
        task,
        _scores(content[task], f"{file}: {task}"),
        {"task": task, "run": config.get("model"), "temperature": config.get("temperature"),
         "sampling_seed": config.get("seed")},
        config.get("limit_start") or 0,
        Path(loaded).name if loaded else f"{saved}_{task}.json",
    )  # fmt: skip


def _scores(reported: Any, where: str) -> dict[int, float]:
    scores = {}
    for name, value in reported.items() if isinstance(reported, dict) else ():
        if k := re.fullmatch("pass@([1-9][0-9]{0,5})", name):
            scores[int(k[1])] = harness.number(value, name, where)
    return scores


def _graded(logs: Path) -> dict[int, dict[int, dict[str, Any]]]:
    """Read the logs: problem -> sample -> its grade."""
    content = shared.read_json(logs, _CUT_OFF)
    if isinstance(content, list):
        raise ValueError(f"{logs}: generations or references, without grades; {_NO_GRADES}")
    if isinstance(content, dict) and "config" in content:
        raise ValueError(f"{logs}: scores of whole tasks, without grades of samples; {_NO_GRADES}")
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{logs}: no object of problems; these aren't logs of the harness")
    graded: dict[int, dict[int, dict[str, Any]]] = {}
    for problem, pairs in content.items():
        where = f"{logs}: problem {problem!r}"
        if not problem.isdecimal() or not isinstance(pairs, list) or not pairs:
            raise ValueError(f"{where}: no numbered list of samples; evaluate again")
        samples = graded.setdefault(int(problem), {})
        for place, pair in enumerate(pairs):
            sample = pair[1] if isinstance(pair, list) and len(pair) == 2 else None
            if not isinstance(sample, dict) or not isinstance(sample.get("passed"), bool):
                raise ValueError(
                    f"{where}, entry {place}: {shared.short(pair)} is no pair of a number and an "
                    "object with 'passed'; evaluate again"
                )
            if type(pair[0]) is not int or pair[0] in samples:
                raise ValueError(
                    f"{where}, entry {place}: {shared.short(pair[0])} is no new sample's number; "
                    "evaluate again"
                )
            samples[pair[0]] = sample
    return graded


def _check_scores(graded: dict[int, Any], settings: _Settings, logs: Path) -> None:
    counts = [(len(s), sum(one["passed"] for one in s.values())) for s in graded.values()]
    for k, logged in settings.scores.items():
        found = sum(harness.share_correct(n, c, k) for n, c in counts if n >= k) / len(counts)
        if abs(found - logged) > 1e-6:
            raise ValueError(
                f"{logs}: pass@{k} is {found:g}, but {logged:g} for {settings.task!r} in "
                "evaluation_results.json: these are another task's or run's logs, for each writes "
                "over the last; take the other file out, or choose task="
            )


def _texts(graded: dict[int, Any], settings: _Settings, logs: Path) -> list[list[str]] | None:
    """Give the generations, once they are checked to have the shape of what was graded."""
    # A name that was damaged may be none that files can have.
    if settings.generations not in [file.name for file in logs.parent.iterdir()]:
        return None
    file = logs.parent / settings.generations
    # Generations that were loaded may be of more problems than --limit let through.
    texts: list[list[str]] = shared.read_json(file, "mend or remove it")[: len(graded)]
    shape = {n: set(range(len(t))) for n, t in enumerate(texts) if isinstance(t, list)}
    if shape != {number: set(samples) for number, samples in graded.items()}:
        raise ValueError(
            f"{file}: not the problems and samples that {logs.name} grades; take it out, or "
            "evaluate again"
        )
    return texts


# --- MultiPL-E ---


def _multipl_e(file: Path) -> Iterator[dict[str, Any]]:
    content = shared.read_json(file, _CUT_OFF)
    fields = content if isinstance(content, dict) else {}
    shared.require_fields(
        fields, ("name", "language", "results"), str(file), "results of MultiPL-E"
    )
    if not isinstance(fields["results"], list) or not fields["results"]:
        raise ValueError(f"{file}: no list of results; evaluate again")
    for number, result in enumerate(fields["results"]):
        where = f"{file}, result {number}"
        known = result if isinstance(result, dict) else {}
        shared.require_fields(known, ("status", "exit_code"), where, "a result of MultiPL-E")
        task = f"multiple-{fields['language']}"
        program = known.get("program")
        if isinstance(program, str):
            program = program.removesuffix(f"\n{fields.get('tests')}")
        yield {
            "problem_id": f"{task}/{fields['name']}",
            "sample_id": number,
            "correct": known["status"] == "OK" and known["exit_code"] == 0,
            "result": known["status"],
            "text": program,
            "task": task,
        }
