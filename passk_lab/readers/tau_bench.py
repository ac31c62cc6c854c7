"""tau-bench and tau2-bench: results files, a simulated conversation a rollout.

tau-bench writes a list of trials (``task_id``, ``reward``, ``info``, ``traj``, ``trial``),
tau2-bench an object with ``info``, ``tasks`` and ``simulations``, whose ``reward_info`` holds the
reward; with many of them ``results.json`` beside a folder ``simulations``. A conversation that
failed (tau-bench's ``info.error``, tau2-bench's infrastructure errors) has no reward, and neither
has one that is missing altogether: tau-bench counts the first as wrong, tau2-bench leaves them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import spell_messages
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike

__all__ = ["read_tau_bench"]

_CUT_OFF = "the file may have been cut off while it was written"
_OPTIONAL = ("run", "sample_id", "text", "temperature", "termination_reason", "error")


def _source_files(path: PathLike) -> list[Path]:
    path = Path(path)
    results = path / "results.json" if path.is_dir() else path
    if not results.exists():
        raise ValueError(f"{path}: no results.json in this folder; give a results file")
    return [results, *sorted((results.parent / "simulations").glob("*.json"))]


@shared.reads_files(_source_files)
def read_tau_bench(
    path: PathLike, *, unscored: shared.Unscored = "refuse", threshold: float = 1.0
) -> pd.DataFrame:
    """Read the results of tau-bench or tau2-bench.

    Parameters
    ----------
    path : path
        A results file, or the folder of tau2-bench with ``results.json``.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with trials without a reward: failed, or missing.
    threshold : float
        A trial is correct from this reward on.

    Returns
    -------
    DataFrame
        The rollouts table: ``problem_id`` is the task (of tau2-bench after its domain), ``text``
        the conversation as JSON, ``score`` the reward; ``error`` says why there is none.

    Raises
    ------
    ValueError
        Not this format; trials without a reward; simulations that are not all there.

    Examples
    --------
    >>> import json, tempfile
    >>> rows = [{"task_id": 0, "reward": r, "trial": t, "traj": []} for t, r in ((0, 1), (1, 0))]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "results.json")
    ...     _ = path.write_text(json.dumps(rows))
    ...     read_tau_bench(path)[["problem_id", "sample_id", "correct"]].to_numpy().tolist()
    [['0', 0, True], ['0', 1, False]]
    """
    file, *simulations = _source_files(path)
    content = shared.read_json(file, _CUT_OFF)
    if isinstance(content, list):
        rows = list(_trials(content, file))
    elif isinstance(content, dict) and isinstance(content.get("tasks"), list):
        rows = list(_simulations(content, file, simulations))
    else:
        raise ValueError(f"{file}: neither a list of trials (tau-bench) nor simulations (tau2)")
    if not rows:
        raise ValueError(f"{file}: the file holds no trials")
    table = frame_of(rows)
    table["correct"] = table["score"]
    empty = [name for name in _OPTIONAL if name in table and table[name].isna().all()]
    if table["sample_id"].isna().any():
        empty.append("sample_id")
    table = table.drop(columns=set(empty))
    return shared.joined(
        [shared.graded(table, "reward", threshold, unscored, str(file))], str(file)
    )


def _trials(content: list[Any], file: Path) -> Iterator[dict[str, Any]]:
    for number, trial in enumerate(content):
        fields = trial if isinstance(trial, dict) else {}
        where = f"{file}, trial {number}"
        shared.require_fields(fields, ("task_id", "reward"), where, "a trial of tau-bench")
        info = trial.get("info")
        error = info.get("error") if isinstance(info, dict) else None
        made = _row(shared.named(trial["task_id"], where), trial, trial.get("traj"), error)
        yield made | {"score": trial["reward"] if error is None else None}


def _simulations(
    content: dict[str, Any], file: Path, others: list[Path]
) -> Iterator[dict[str, Any]]:
    info = content.get("info") or {}
    agent = info.get("agent_info") or {}
    domain = (info.get("environment_info") or {}).get("domain_name")
    common = {
        "run": agent.get("llm"),
        "temperature": (agent.get("llm_args") or {}).get("temperature"),
    }
    found = content.get("simulations")
    if found is None:
        found = [shared.read_json(other, _CUT_OFF) for other in others]
        _require_indexed(content, found, file)
    for number, one in enumerate(found):
        fields = one if isinstance(one, dict) else {}
        where = f"{file}, simulation {number}"
        shared.require_fields(fields, ("task_id",), where, "a simulation of tau2-bench")
        reward, reason = (one.get("reward_info") or {}).get("reward"), one.get("termination_reason")
        failed = reward is None or reason == "infrastructure_error"
        why = (one.get("info") or {}).get("error") or reason or "no reward"
        shared.named(one["task_id"], where)
        made = _row(_name(domain, one), one, one.get("messages"), why if failed else None)
        made |= {"score": None if failed else reward, "termination_reason": reason}
        yield common | made
    for task, trial in _missing(content["tasks"], found, info.get("num_trials") or 0):
        made = {"task_id": task, "trial": trial}
        yield common | _row(_name(domain, made), made, None, "missing") | {"score": None}


def _require_indexed(content: dict[str, Any], found: list[Any], file: Path) -> None:
    known = {entry["id"] for entry in content.get("simulation_index") or ()}
    absent = sorted(known - {one["id"] for one in found})
    if absent:
        raise ValueError(
            f"{file}: {len(absent)} of {len(known)} simulations have no file in the folder "
            f"simulations ({absent[0]}, ...); copy the whole folder"
        )


def _missing(
    tasks: list[Any], found: list[dict[str, Any]], n_trials: int
) -> Iterator[tuple[Any, int | None]]:
    """Give the trials of tasks that a run should have and hasn't."""
    seen = Counter(str(one["task_id"]) for one in found)
    trials = {(str(one["task_id"]), one.get("trial")) for one in found}
    numbered = all(trial is not None for _, trial in trials)
    for task in tasks:
        name = str(task["id"])
        if numbered:
            yield from ((name, n) for n in range(n_trials) if (name, n) not in trials)
        else:
            yield from [(name, None)] * (n_trials - seen[name])


def _name(domain: str | None, one: dict[str, Any]) -> str:
    return str(one["task_id"]) if domain is None else f"{domain}/{one['task_id']}"


def _row(problem: str, trial: dict[str, Any], messages: Any, error: Any) -> dict[str, Any]:
    talk = [one for one in messages or [] if isinstance(one, dict)]
    return {
        "problem_id": problem,
        "sample_id": trial.get("trial"),
        "text": spell_messages(talk) if talk else None,
        "error": None if error is None else str(error),
    }
