"""Inspect (``inspect_ai``): its eval logs, one rollout a sample and epoch.

JSON logs (``--log-format json``) are read whole. ``.eval`` logs are zip files of a header and the
samples; they are read a sample at a time, without events and messages. One that unpacks to more
than 1 GiB and to more than 200 times its own size is refused.

``eval.model`` becomes ``run``, ``eval.task`` and the sample's id together ``problem_id``, ``epoch``
(from 1) ``sample_id`` (from 0), ``output.completion`` the ``text``, the score's ``answer`` the
``answer``, ``output.usage.output_tokens`` ``n_tokens``, the sum over ``choices[0].logprobs``
``logprob``. Where the model answered in several turns, these describe the last output.

The score named by ``scorer`` becomes ``correct``: "C" is 1, "P" 0.5, "I" and "N" 0; true and false,
yes and no, and numbers are taken as Inspect takes them; any other text is refused. Reductions over
epochs are not read. A log that a retry finished (the same task id in the same folder) is passed
over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _harness as harness
from passk_lab.readers._shared import (
    Unscored,
    choose,
    find_files,
    named,
    parse_json,
    read_json,
    reads_files,
)
from passk_lab.readers._zip import open_zip
from passk_lab.rollouts._cells import escape_surrogates
from passk_lab.rollouts.table import PathLike

__all__ = ["read_inspect"]

_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_LOWER_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}

_CUT_OFF = "the file may have been cut off while it was written: evaluate again"
_HEADERS = ("header.json", "_journal/start.json")
# A sample that was split into parts has what is read here in sample.json.
_SAMPLE = re.compile(r"samples/.+_epoch_[0-9]+(?:/sample)?\.json")
_FIELDS = ("id", "epoch", "output", "scores", "error", "invalidation")

_NOTES = ("eval-set.json", "listing.json", "logs.json")  # Inspect's own about a folder


def _is_log(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return file.suffix in (".json", ".eval") and file.name not in _NOTES and not hidden


_source_files = partial(find_files, _is_log, "no Inspect logs (.json or .eval) here")


@reads_files(_source_files)
def read_inspect(
    path: PathLike,
    *,
    task: str | None = None,
    scorer: str | None = None,
    key: str | None = None,
    threshold: float = 1.0,
    unscored: Unscored = "refuse",
    incomplete: bool = False,
    merge_reruns: bool = False,
) -> pd.DataFrame:
    """Read one Inspect log, or a log folder with several tasks and models.

    Parameters
    ----------
    path : path
        A ``.json`` or ``.eval`` log, or a folder, searched with its subfolders.
    task, threshold, merge_reruns : optional
        As for `read_lm_eval`; a threshold of 0.5 counts partial credit ("P") as correct.
    scorer : str, optional
        Which scorer; needed where there are several.
    key : str, optional
        Which entry of a score that is a dictionary.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with samples without a score (an error, a score of NaN, an invalidated sample).
    incomplete : bool
        Read the samples of evaluations that failed, were cancelled or are still running.

    Returns
    -------
    DataFrame
        The validated rollouts, with ``task`` and ``scorer``; with ``unscored="incorrect"`` also
        ``error``, why there is no score.

    Raises
    ------
    ValueError
        Several scorers or keys and none chosen; samples without a score; an evaluation that did
        not finish; a damaged log, or one that unpacks to too much.

    Examples
    --------
    >>> import json, tempfile
    >>> sample = {"id": 1, "output": {"completion": "It is 4"}}
    >>> log = {"status": "success", "eval": {"task": "sums", "model": "mockllm/model"},
    ...        "samples": [sample | {"epoch": 1, "scores": {"match": {"value": "C"}}}]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "log.json").write_text(json.dumps(log))
    ...     read_inspect(folder)[["run", "problem_id", "correct"]].to_numpy().tolist()
    [['mockllm/model', 'sums/1', True]]
    """
    check_choice(unscored, get_args(Unscored), "unscored")
    logs = [(file, _load(file)) for file in _source_files(path)]
    logs = _current(harness.of_task(logs, task, lambda entry: str(entry[1]["eval"]["task"]), path))
    if not incomplete:
        _refuse_unfinished(logs)
    if not merge_reruns:
        harness.refuse_reruns(
            ((log["eval"]["model"], log["eval"]["task"], file) for file, log in logs), path
        )
    rollouts: list[dict[str, Any]] = []
    taken: dict[tuple[str, str], int] = {}
    for file, log in logs:
        offset = dict(taken)
        for rollout in _read_log(file, log, scorer, key, unscored):
            problem = (rollout["run"], rollout["problem_id"])
            rollout["sample_id"] += offset.get(problem, 0)
            taken[problem] = max(taken.get(problem, 0), rollout["sample_id"] + 1)
            rollouts.append(rollout)
    said = None
    if unscored == "drop":
        rollouts, said = harness.drop_unscored(rollouts, path)
    if not rollouts:
        raise ValueError(f"{path}: no samples with a score")
    optional = ("answer", "text", "n_tokens", "logprob", "temperature", "sampling_seed", "error")
    return harness.rollouts_table(rollouts, threshold, optional, str(path), said)


def _load(file: Path) -> dict[str, Any]:
    log = _load_eval(file) if file.suffix == ".eval" else read_json(file, _CUT_OFF)
    spec = log.get("eval") if isinstance(log, dict) else None
    if not isinstance(spec, dict) or "task" not in spec or "model" not in spec:
        raise ValueError(f"{file}: no Inspect log, which has eval.task, eval.model and samples")
    return log


def _load_eval(file: Path) -> Any:
    """Read header and samples of a zip file; until the end it has but a note of the start."""
    with open_zip(file, _CUT_OFF) as archive:
        header = next((name for name in _HEADERS if name in archive.names), None)
        if header is None:
            raise ValueError(f"{file}: no Inspect log, which has a header.json and samples")
        samples = [name for name in archive.names if _SAMPLE.fullmatch(name)]
        archive.check_size([header, *samples])

        def read(name: str) -> Any:
            content = parse_json(archive.read(name), f"{file}: {name}", _CUT_OFF)
            if not isinstance(content, dict):
                raise ValueError(f"{file}: {name}: no object; {_CUT_OFF}")
            return content

        log = read(header)
        log.setdefault("status", "started")
        log["samples"] = [
            {field: value for field, value in read(name).items() if field in _FIELDS}
            for name in samples
        ]
        return log


def _current(logs: list[tuple[Path, dict[str, Any]]]) -> list[tuple[Path, dict[str, Any]]]:
    """Leave out logs that a retry has superseded: a later one holds their samples again."""
    latest: dict[Any, tuple[bool, str]] = {}
    ranked = []
    for file, log in logs:
        spec = log["eval"]
        identity = (spec.get("task_id") or file, spec["model"])
        rank = (log.get("status") == "success", str(spec.get("created")))
        ranked.append((file, log, identity, rank))
        latest[identity] = max(latest.get(identity, rank), rank)
    return [(file, log) for file, log, identity, rank in ranked if rank == latest[identity]]


def _refuse_unfinished(logs: list[tuple[Path, dict[str, Any]]]) -> None:
    for file, log in logs:
        if log.get("status") != "success":
            raise ValueError(
                f"{file}: the evaluation did not finish (status {log.get('status')!r}, "
                f"{len(log.get('samples') or [])} samples logged); read them with incomplete=True"
            )


def _read_log(
    file: Path, log: Mapping[str, Any], scorer: str | None, key: str | None, unscored: Unscored
) -> list[dict[str, Any]]:
    samples = log.get("samples")
    if not samples:
        raise ValueError(f"{file}: the log holds no samples; evaluate without --no-log-samples")
    for number, sample in enumerate(samples):
        missing = [name for name in ("id", "epoch", "output") if name not in sample]
        if missing:
            raise ValueError(f"{file}, sample {number}: {', '.join(missing)} missing")
        if type(sample["epoch"]) is not int:
            raise ValueError(f"{file}, sample {number}: {sample['epoch']!r} is no epoch")
    known = list(dict.fromkeys(name for s in samples for name in s.get("scores") or {}))
    if not known:
        raise ValueError(f"{file}: no sample has a score; score it with: inspect score")
    scorer = choose(scorer, known, "scorer", file)
    spec = log["eval"]
    settings = (log.get("plan") or {}).get("config") or {}
    settings = {**settings, **(spec.get("model_generate_config") or {})}
    rollouts, without = [], []
    for sample in samples:
        where = f"{file}, sample {sample['id']!r}, epoch {sample['epoch']}"
        value, reason = _value(sample, scorer, key, where)
        if reason is not None:
            without.append(f"{sample['id']!r} epoch {sample['epoch']} ({reason})")
        rollouts.append(
            {
                "run": str(spec["model"]),
                "problem_id": f"{spec['task']}/{named(sample['id'], where)}",
                "sample_id": int(sample["epoch"]) - 1,
                "score": value,
                "task": str(spec["task"]),
                "scorer": scorer if key is None else f"{scorer}/{key}",
                "answer": _text(((sample.get("scores") or {}).get(scorer) or {}).get("answer")),
                **_output(sample["output"] or {}),
                "temperature": settings.get("temperature"),
                "sampling_seed": settings.get("seed"),
                "error": _text(reason),
            }
        )
    if without and unscored == "refuse":
        raise ValueError(
            f"{file}: {len(without)} of {len(samples)} samples have no score by {scorer!r}: "
            f"{', '.join(without[:3])}{', ...' if len(without) > 3 else ''}. Leave them out with "
            "unscored='drop', or count them as wrong with unscored='incorrect'"
        )
    return rollouts


def _value(
    sample: Mapping[str, Any], scorer: str, key: str | None, where: str
) -> tuple[float | None, str | None]:
    """Give the score, or None and why there is none."""
    if sample.get("invalidation"):
        return None, "invalidated"
    score = (sample.get("scores") or {}).get(scorer)
    if score is None:
        error = sample.get("error") or {}
        return None, error.get("message") or "not scored"
    value = score.get("value")
    if isinstance(value, dict):
        value = value[choose(key, list(value), "key", f"{where}, scorer {scorer!r}")]
    elif key is not None:
        raise ValueError(f"{where}: the score by {scorer!r} has no keys; leave out key={key!r}")
    if value is None or value != value or value == "NaN":
        return None, score.get("reason") or "unscored"
    number = _number(value)
    if number is None:
        raise ValueError(
            f"{where}: the score is {value!r}, neither C, P, I, N, true, false nor a number"
        )
    return number, None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = _WORDS.get(value, _LOWER_WORDS.get(value.lower(), value))
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _output(output: Mapping[str, Any]) -> dict[str, Any]:
    choices = output.get("choices") or [{}]
    text = output.get("completion")
    if text is None:
        # Where the completion is not stored, the message has it, as text or in parts.
        content = (choices[0].get("message") or {}).get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content)
        text = content
    tokens = (choices[0].get("logprobs") or {}).get("content")
    # No output at all (the sample failed before the model answered) is not an empty answer.
    return {
        "text": _text(text) if output.get("choices") or text else None,
        "n_tokens": (output.get("usage") or {}).get("output_tokens"),
        "logprob": sum(token["logprob"] for token in tokens) if tokens else None,
    }


def _text(text: Any) -> str | None:
    return None if text is None else escape_surrogates(str(text))
