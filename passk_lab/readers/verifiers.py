"""verifiers and prime-rl: ``results.jsonl`` or ``traces.jsonl`` of evaluations and training.

A line of ``results.jsonl`` (version 0.1) is a rollout: ``example_id``, ``prompt``, ``completion``
(chat messages), ``reward``, what the rubric measured, ``error``. ``answer`` is the *expected*
answer and becomes ``verifiers_answer``; what the model answered is not in the file, unless a metric
holds it. ``metadata.json`` beside it names model and environment.

A line of ``traces.jsonl`` (version 0.4) is an episode: its task, and a trace for each agent with
messages, ``rewards`` and ``metrics``. A trace is a rollout, and so is an episode that failed before
any trace began.

prime-rl saves a training run in the same layouts: ``rollouts/step_<N>/<subset>/traces.jsonl``, with
``train/all``, ``train/effective``, ``eval/all`` and ``eval/effective`` for subsets (before August
2026 ``<subset>_rollouts.jsonl``, ``train`` and ``eval``). ``step`` is in the folder's name. All
episodes are in ``all``; ``effective`` leaves out those that failed or were filtered, so that its
pass@k is not the model's.

A rollout that ended in an error has no grade here; verifiers counts it as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import DEFAULTS, completion_text
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike

__all__ = ["read_verifiers"]

_FIELDS = ("example_id", "completion", "reward")
_NAMES = ("results.jsonl", "traces.jsonl")
_HINT = "no results.jsonl or traces.jsonl here; run the evaluation with --save-results"
# Of prime-rl.
_SAVED = re.compile(r"step_(\d+)/(?:(\w+/\w+)/traces|(train|eval)_rollouts[^/]*)\.jsonl")


class _Options(NamedTuple):
    reward: str
    threshold: float | None
    answer: str | None
    agent: str | None
    problem_id: str | Sequence[str] | None


def _source_files(path: PathLike) -> list[Path]:
    def fits(file: Path) -> bool:
        return file.name in _NAMES or _SAVED.fullmatch(f"step_0/{file.name}") is not None

    return shared.find_files(fits, _HINT, path)


@shared.reads_files(_source_files)
def read_verifiers(
    path: PathLike,
    *,
    reward: str = "reward",
    threshold: float | None = None,
    answer: str | None = None,
    agent: str | None = None,
    subset: str | None = None,
    problem_id: str | Sequence[str] | None = None,
    unscored: shared.Unscored = "refuse",
) -> pd.DataFrame:
    """Read saved results of a verifiers environment.

    Parameters
    ----------
    path : path
        A ``results.jsonl`` or ``traces.jsonl``, or a folder, searched with its subfolders (an
        evaluation each, or a step of prime-rl).
    reward : str
        The field that says what is correct: ``reward``, or one of the rubric's metrics.
    threshold : float, optional
        A rollout is correct from here on. Default: ``pass_threshold`` of ``metadata.json``, with
        which verifiers computes pass@k; without it 1.
    answer : str, optional
        The field with what the model answered, if the environment saved it.
    agent : str, optional
        Whose traces to read; needed where episodes have several agents.
    subset : str, optional
        Which rollouts of prime-rl, such as "eval/all"; needed where a folder has several.
    problem_id : str or sequence of str, optional
        The fields that tell problems apart. Default: environment and example or task.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with rollouts that ended in an error.

    Returns
    -------
    DataFrame
        The rollouts table with ``score`` and ``error``; ``run`` is the model.

    Raises
    ------
    ValueError
        Not this format; rollouts without a reward; several agents; an example with two answers.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"example_id": 0, "prompt": [{"role": "user", "content": "2+3?"}], "answer": "5",
    ...        "completion": [{"role": "assistant", "content": "It is 5"}], "reward": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "results.jsonl").write_text(json.dumps(row))
    ...     read_verifiers(folder)[["problem_id", "text", "correct"]].to_numpy().tolist()
    [['0', 'It is 5', True]]
    """
    options = _Options(reward, threshold, answer, agent, problem_id)
    subsets = {file: _saved(file)[1] for file in _source_files(path)}
    known = sorted(set(subsets.values()))
    chosen = shared.choose(subset, known, "subset", path)
    tables = [_read_file(file, options, unscored) for file, one in subsets.items() if one == chosen]
    return shared.joined(tables, str(path))


def _saved(file: Path) -> tuple[int | None, str]:
    """Give a file's step and subset; what isn't prime-rl's has no step."""
    found = re.search(f"{_SAVED.pattern}$", file.absolute().as_posix())
    return (int(found[1]), found[2] or found[3]) if found else (None, "results")


def _read_file(file: Path, options: _Options, unscored: shared.Unscored) -> pd.DataFrame:
    records = shared.read_records(file, (), "a results file of verifiers")
    about = _about(file)
    if "traces" in records[0]:
        frame = frame_of(list(_traces(records, options.agent, file)))
    else:
        for at, record in enumerate(records, start=1):
            shared.require_fields(record, _FIELDS, f"{file}, record {at}", "results of verifiers")
        frame = frame_of([_result(record) | {"run": about.get("model")} for record in records])
    asked = (options.problem_id,) if isinstance(options.problem_id, str) else options.problem_id
    for name in (options.reward, *filter(None, [options.answer]), *(asked or ())):
        shared.require_fields(frame.columns, [name], str(file), "a file with what was asked for")
    failed = frame["error"].notna()
    made = {
        "problem_id": _problems(frame, options.problem_id, about, file),
        "correct": frame[options.reward].astype(object).where(~failed, None),
        "score": frame[options.reward],
        "run": _runs(frame["run"]),
    }
    if options.answer is not None:
        made["answer"] = frame[options.answer]
    settings = about.get("sampling_args")
    if isinstance(settings, dict) and isinstance(settings.get("temperature"), int | float):
        made["temperature"] = pd.Series(float(settings["temperature"]), frame.index)
    step, _ = _saved(file)
    if step is not None:
        made["step"] = pd.Series(step, frame.index)
    optional = ("text", "prompt", "n_tokens", "error")
    frame = frame.drop(columns=[name for name in optional if frame[name].isna().all()])
    kept = [name for name in optional if name in frame]
    made |= {name: frame[name] for name in kept}
    rest = frame.drop(columns=["run", "example_id", *kept])
    table = shared.with_rest(made, rest, "verifiers")
    least = about.get("pass_threshold", 1.0) if options.threshold is None else options.threshold
    if not isinstance(least, int | float):
        raise ValueError(
            f"{file}: {least!r} in metadata.json is no pass_threshold; give threshold="
        )
    return shared.graded(table, options.reward, least, unscored, str(file))


def _about(file: Path) -> dict[str, Any]:
    beside = file.with_name("metadata.json")
    content = shared.read_json(beside, "mend or remove it") if beside.exists() else {}
    return content if isinstance(content, dict) else {}


def _runs(models: pd.Series) -> pd.Series:
    """Name runs by their models; rollouts that failed before they began belong to the only one."""
    known = models.dropna().unique()
    return models.fillna(known[0] if len(known) == 1 else DEFAULTS["run"]).astype(str)


def _problems(
    frame: pd.DataFrame, asked: str | Sequence[str] | None, about: dict[str, Any], file: Path
) -> pd.Series:
    if asked is not None:
        return shared.named_by(frame, asked)
    shared.refuse_two_truths(frame, "example_id", "answer", str(file))
    named = (
        shared.named(name, f"{file}, rollout {at}")
        for at, name in enumerate(frame["example_id"], start=1)
    )
    ids = pd.Series(named, index=frame.index)
    environment = frame["env"] if "env" in frame else about.get("env_id") or about.get("env")
    return ids if environment is None else environment + "/" + ids


def _result(record: dict[str, Any]) -> dict[str, Any]:
    """Give a rollout of ``results.jsonl``."""
    usage, error = record.get("token_usage"), record.get("error")
    if isinstance(error, dict):
        error = error.get("error_chain_repr") or error.get("error") or error
    rest = {name: value for name, value in record.items() if name not in ("prompt", "completion")}
    return rest | {
        "text": _text(record["completion"]),
        "prompt": _text(record.get("prompt")),
        "n_tokens": usage.get("output_tokens") if isinstance(usage, dict) else None,
        "error": None if error is None else str(error),
    }


def _traces(
    episodes: list[dict[str, Any]], agent: str | None, file: Path
) -> Iterator[dict[str, Any]]:
    """Give the rollouts of ``traces.jsonl``."""
    names = {trace["agent"]["name"]: None for one in episodes for trace in one["traces"]}
    chosen = shared.choose(agent, list(names), "agent", file) if names else agent
    for at, episode in enumerate(episodes, start=1):
        shared.require_fields(episode, ("task", "traces"), f"{file}, record {at}", "an episode")
        task = episode["task"]
        common = {
            "example_id": task.get("key") or task["data"]["idx"],
            "env": (episode.get("env") or {}).get("id") or "default",
        }
        if "answer" in task["data"]:
            common["answer"] = task["data"]["answer"]
        mine = [trace for trace in episode["traces"] if trace["agent"]["name"] == chosen]
        for trace in mine or [{"errors": episode.get("errors"), "agent": {}}]:
            yield common | _trace(trace)


def _trace(trace: dict[str, Any]) -> dict[str, Any]:
    messages = [node["message"] for node in trace.get("nodes") or ()]
    sampled = [node["message"] for node in trace.get("nodes") or () if node["sampled"]]
    rewards = [one for one in (trace.get("rewards") or {}).values() if one is not None]
    errors = trace.get("errors") or []
    failed = None if trace.get("ok") else errors[-1]["message"] if errors else "not completed"
    return {
        **(trace.get("metrics") or {}),
        **{name: one and one["score"] for name, one in (trace.get("rewards") or {}).items()},
        "run": (trace["agent"].get("config") or {}).get("model"),
        "reward": sum(one["score"] * one.get("weight", 1.0) for one in rewards)
        if rewards
        else None,
        "text": _text(sampled),
        "prompt": _text(messages[:1]),
        "n_tokens": trace.get("num_output_tokens"),
        "error": failed,
        "stop_condition": trace.get("stop_condition"),
    }


def _text(messages: Any) -> str | None:
    return completion_text(messages) if isinstance(messages, str | list) and messages else None
