"""tau-bench and tau2-bench: results files, a simulated conversation a rollout.

tau-bench writes a list of ``task_id, reward, info, traj, trial``; tau2-bench an object with
``info``, ``tasks`` and ``simulations``, whose ``reward_info`` holds the reward. A conversation that
ended in an error of the infrastructure has no reward, and neither has a trial that is missing
altogether: both count as unscored, for whoever leaves them out measures something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import grade, spell_messages
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_tau_bench"]

Unscored = Literal["refuse", "drop", "incorrect"]
# Reasons of tau2-bench for which nobody is to blame.
_BROKEN = ("infrastructure_error", "unexpected_error")


def read_tau_bench(
    path: PathLike, *, unscored: Unscored = "refuse", threshold: float = 1.0
) -> pd.DataFrame:
    """Read the results of tau-bench or tau2-bench.

    Parameters
    ----------
    path : path
        A results file.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with trials without a reward: an error, or missing.
    threshold : float
        A trial is correct from this reward on.

    Returns
    -------
    DataFrame
        The rollouts table: ``problem_id`` is the task, ``text`` the conversation as JSON, ``score``
        the reward; ``error`` says why there is none.

    Raises
    ------
    ValueError
        Not this format; trials without a reward.

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
    check_choice(unscored, get_args(Unscored), "unscored")
    file = Path(path)
    content = shared.read_json(file, "the file may have been cut off while it was written")
    if isinstance(content, dict) and isinstance(content.get("simulations"), list):
        rows = list(_simulations(content, file))
    elif isinstance(content, list):
        rows = list(_trials(content, file))
    else:
        raise ValueError(f"{file}: neither a list of trials (tau-bench) nor simulations (tau2)")
    if not rows:
        raise ValueError(f"{file}: the file holds no trials")
    frame = frame_of(rows)
    table = shared.without_unscored(frame, unscored, f"{file}: the reward", "score")
    reward = table["score"].fillna(0.0)
    table = table.assign(correct=grade(reward.rename("reward"), threshold, str(file)), score=reward)
    optional = ("run", "text", "error", "sample_id")
    empty = [name for name in optional if table[name].isna().all()]
    made = validate_rollouts(table.drop(columns=empty), str(file))
    return shared.with_left_out(made, [table])


def _trials(content: list[Any], file: Path) -> Iterator[dict[str, Any]]:
    for number, trial in enumerate(content):
        fields = trial if isinstance(trial, dict) else {}
        where = f"{file}, trial {number}"
        shared.require_fields(fields, ("task_id", "reward"), where, "a trial of tau-bench")
        info = trial.get("info")
        error = info.get("error") if isinstance(info, dict) else None
        reward = trial["reward"] if error is None else None
        yield _row(None, trial, reward, trial.get("traj"), error)


def _simulations(content: dict[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    info = content.get("info") or {}
    run = (info.get("agent_info") or {}).get("llm")
    seen = set()
    for number, one in enumerate(content["simulations"]):
        fields = one if isinstance(one, dict) else {}
        where = f"{file}, simulation {number}"
        shared.require_fields(fields, ("task_id",), where, "a simulation of tau2-bench")
        reason = one.get("termination_reason")
        reward = (one.get("reward_info") or {}).get("reward")
        broken = reason if reason in _BROKEN or reward is None else None
        yield _row(run, one, None if broken else reward, one.get("messages"), broken)
        seen.add((str(one["task_id"]), one.get("trial")))
    for task in content.get("tasks") or []:
        for trial in range(info.get("num_trials") or 0):
            if (str(task.get("id")), trial) not in seen:
                yield _row(run, {"task_id": task.get("id"), "trial": trial}, None, None, "missing")


def _row(run: Any, trial: dict[str, Any], reward: Any, messages: Any, error: Any) -> dict[str, Any]:
    talk = [one for one in messages or [] if isinstance(one, dict)]
    return {
        "run": run,
        "problem_id": trial["task_id"],
        "sample_id": trial.get("trial"),
        "score": reward,
        "text": spell_messages(talk) if talk else None,
        "error": None if error is None else str(error),
    }
