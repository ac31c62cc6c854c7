"""OpenCompass: ``results/<model>/<dataset>.json`` with ``details`` (``--dump-eval-details``).

Details are an object an example with a list for each field, one entry a repetition (``n`` of the
dataset); in version 0.4.1 with a list ``predictions`` of objects; before that, and where an
evaluator gives no details, an object a sample. The field ``metric`` becomes ``correct``, ``pred``
the ``answer``; ``run`` is the model's folder below ``results``, dataset and example together
``problem_id`` (the example's ``task_id`` where the evaluator keeps one, for then the dataset may
hold an example repeatedly). ``text`` and ``prompt`` come from the details, or from the
``predictions`` that lie beside ``results``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _harness as harness
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import escape_surrogates
from passk_lab.rollouts.table import PathLike

__all__ = ["read_opencompass"]

# In the order in which OpenCompass looks for them.
_METRICS = ("correct", "is_correct", "cascade_correct")
_ANSWERS = ("pred", "predictions")
_OTHERS = {"predictions", "configs", "logs", "summary"}  # folders beside results
_JUDGE = re.compile(r".*_replica[0-9]+\.json")  # what a judge said, in the folder of the results
_CUT_OFF = "the file may have been cut off while it was written: evaluate again"


def _is_result(file: Path) -> bool:
    known = file.suffix == ".json" and not _JUDGE.fullmatch(file.name)
    return known and not _OTHERS & set(file.parts)


_source_files = partial(shared.find_files, _is_result, "no results/<model>/<dataset>.json here")


@shared.reads_files(_source_files)
def read_opencompass(
    path: PathLike,
    *,
    task: str | None = None,
    metric: str | None = None,
    threshold: float | None = None,
    answer: str | None = None,
    unscored: shared.Unscored = "refuse",
    merge_reruns: bool = False,
) -> pd.DataFrame:
    """Read graded samples of OpenCompass, one file or a folder with several datasets and models.

    Parameters
    ----------
    path : path
        A results file, or an output folder, searched with its subfolders.
    task : str, optional
        Read only this dataset of a folder.
    metric : str, optional
        The field of the details that says what is correct. Default: ``correct``, ``is_correct`` or
        ``cascade_correct``.
    threshold : float, optional
        A sample is correct if its metric is at least this. Default: 1; needed where metrics go
        beyond it (a share of 100, for example).
    answer : str, optional
        The field with the canonical answer. Default: ``pred`` or, as it was called before,
        ``predictions``, if it is text in all samples.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with samples without a metric.
    merge_reruns : bool
        As for `read_lm_eval`.

    Returns
    -------
    DataFrame
        The validated rollouts, with ``task`` and ``metric``.

    Raises
    ------
    ValueError
        No details, or none that say which sample is correct; samples without a metric; other
        predictions beside the results than those that were graded.

    Examples
    --------
    >>> import json, tempfile
    >>> example = {"example_abbr": "sums_0", "pred": ["4", "5"], "correct": [True, False]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "results", "my-model", "sums.json")
    ...     file.parent.mkdir(parents=True)
    ...     _ = file.write_text(json.dumps({"accuracy": 50.0, "details": [example]}))
    ...     read_opencompass(folder)[["run", "answer", "correct"]].to_numpy().tolist()
    [['my-model', '4', True], ['my-model', '5', False]]
    """
    check_choice(unscored, get_args(shared.Unscored), "unscored")
    files = harness.of_task(_source_files(path), task, lambda file: file.stem, path)
    results = [_Results.read(file, metric) for file in files]
    if not merge_reruns:
        harness.refuse_reruns(((r.run, r.task, r.file) for r in results), path)
    rollouts = [
        rollout
        for result in results
        for rollout in _rollouts(result, result.metric(metric), answer, unscored)
    ]
    said = None
    if unscored == "drop":
        rollouts, said = harness.drop_unscored(rollouts, path)
    if not rollouts:
        raise ValueError(f"{path}: no samples with a metric")
    if answer is None and any(rollout["answer"] is None for rollout in rollouts):
        rollouts = [{**rollout, "answer": None} for rollout in rollouts]
    if threshold is None:
        _refuse_scores_beyond_1(rollouts, path)
    optional = ("run", "answer", "text", "prompt")
    threshold = 1.0 if threshold is None else threshold
    return harness.rollouts_table(rollouts, threshold, optional, str(path), said)


@dataclass(frozen=True)
class _Sample:
    problem: str
    place: int  # among the predictions
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class _Results:
    file: Path
    run: str | None
    samples: list[_Sample]

    @property
    def task(self) -> str:
        return self.file.stem

    @property
    def fields(self) -> dict[str, None]:
        return dict.fromkeys(field for sample in self.samples for field in sample.fields)

    def metric(self, asked: str | None) -> str:
        """Give the field that says what is correct."""
        known = _METRICS if asked is None else (asked,)
        for name in known:
            if name in self.fields:
                return name
        raise ValueError(
            f"{self.file}: no sample has {' or '.join(map(repr, known))}; choose metric= one of "
            f"{', '.join(map(repr, self.fields)) or '(nothing)'}"
        )

    @classmethod
    def read(cls, file: Path, metric: str | None) -> _Results:
        content = shared.read_json(file, _CUT_OFF)
        details = content.get("details") if isinstance(content, dict) else None
        if not isinstance(details, list | dict) or not details:
            raise ValueError(
                f"{file}: no 'details' of samples; evaluate with --dump-eval-details, take out "
                "what is no result, or choose task="
            )
        parts = file.absolute().parts
        run = parts[-2] if parts[-3:-2] == ("results",) else None
        metrics = _METRICS if metric is None else (metric,)
        return cls(file, run, list(_samples(details, metrics, file)))


def _samples(
    details: list[Any] | dict[str, Any], metrics: Sequence[str], file: Path
) -> Iterator[_Sample]:
    if isinstance(details, dict):
        named = [(name, detail) for name, detail in details.items() if name != "type"]
    else:
        named = [(str(number), detail) for number, detail in enumerate(details)]
    for place, (name, detail) in enumerate(named):
        if not isinstance(detail, dict):
            raise ValueError(f"{file}: details {name!r}: {shared.short(detail)} is no object")
        example = detail.get("example_abbr", name)
        for number, fields in enumerate(_repetitions(detail, metrics, f"{file}: details {name!r}")):
            yield _Sample(_named(fields, example), number * len(named) + place, fields)


def _repetitions(
    detail: dict[str, Any], metrics: Sequence[str], where: str
) -> list[dict[str, Any]]:
    """Give the samples of an example."""
    by_example = "example_abbr" in detail
    said = detail.get("predictions")
    if by_example and isinstance(said, list) and said and all(isinstance(s, dict) for s in said):
        return said
    lists = {field: cells for field, cells in detail.items() if isinstance(cells, list)}
    graded = [field for field in metrics if field in lists]
    if not by_example and not graded:
        return [detail]
    repeats = max(len(lists[field]) for field in (lists if by_example else graded)) if lists else 0
    for field in graded:
        if len(lists[field]) != repeats:
            raise ValueError(
                f"{where}: {len(lists[field])} entries of {field!r} for {repeats} samples, so "
                "which are whose isn't known; evaluate again"
            )
    whole = {field: cells for field, cells in lists.items() if len(cells) == repeats}
    # Beside the lists an example has scores of all its samples, a sample its prompt.
    rest = {} if by_example else {f: value for f, value in detail.items() if f not in whole}
    return [
        {**rest, **{field: cells[number] for field, cells in whole.items()}}
        for number in range(repeats)
    ]


def _named(fields: Mapping[str, Any], name: Any) -> str:
    task_id = fields.get("task_id")
    return str(name if task_id is None or isinstance(task_id, list | dict) else task_id)


def _rollouts(
    results: _Results, metric: str, answer: str | None, unscored: shared.Unscored
) -> list[dict[str, Any]]:
    file, samples = results.file, results.samples
    if answer is not None and answer not in results.fields:
        raise ValueError(
            f"{file}: no sample has {answer!r}; choose answer= one of "
            f"{', '.join(map(repr, results.fields))}"
        )
    predictions = _predictions(file)
    if predictions and len(predictions) != len(samples) and unscored != "drop":
        raise ValueError(
            f"{file}: {len(samples)} graded samples, but {len(predictions)} predictions beside "
            "them: the evaluator left some out, or they are of another run; unscored='drop' reads "
            "the graded ones, without texts"
        )
    if len(predictions) != len(samples):
        predictions = [{}] * len(samples)
    known = (name for name in _ANSWERS if all(isinstance(s.fields.get(name), str) for s in samples))
    answer = answer or next(known, None)
    rollouts, without = [], []
    for sample in samples:
        asked = {**predictions[sample.place], **sample.fields}
        value = sample.fields.get(metric)
        if missing := value is None or value != value:
            without.append(sample.problem)
        where = f"{file}, {sample.problem}"
        rollouts.append(
            {
                "run": results.run,
                "problem_id": f"{results.task}/{sample.problem}",
                "score": None if missing else harness.number(value, metric, where),
                "task": results.task,
                "metric": metric,
                "answer": None if answer is None else _text(sample.fields.get(answer)),
                "text": _text(asked.get("origin_prediction", asked.get("prediction"))),
                "prompt": _text(asked.get("prompt", asked.get("origin_prompt"))),
            }
        )
    if without and unscored == "refuse":
        raise ValueError(
            f"{file}: {len(without)} of {len(samples)} samples have no {metric!r}: "
            f"{', '.join(without[:3])}{', ...' if len(without) > 3 else ''}. Leave them out with "
            "unscored='drop', or count them as wrong with unscored='incorrect'"
        )
    return rollouts


def _refuse_scores_beyond_1(rollouts: list[dict[str, Any]], path: PathLike) -> None:
    for rollout in rollouts:
        if (rollout["score"] or 0.0) > 1.0:
            raise ValueError(
                f"{path}: {rollout['problem_id']}: {rollout['metric']!r} is {rollout['score']:g}, "
                "beyond 1; say from where on a sample is correct with threshold="
            )


def _predictions(file: Path) -> list[dict[str, Any]]:
    """Give the predictions that lie beside results, in one file or in numbered parts."""
    parts = file.absolute().parts
    if parts[-3:-2] != ("results",):
        return []
    whole = Path(*parts[:-3], "predictions", *parts[-2:])
    numbered = (whole.with_name(f"{whole.stem}_{n}.json") for n in range(10**6))
    files = [whole] if whole.exists() else list(takewhile(Path.exists, numbered))
    found: list[dict[str, Any]] = []
    for part in files:
        content = shared.read_json(part, "mend or remove it")
        if not isinstance(content, dict) or not all(
            number.isdecimal() and isinstance(asked, dict) for number, asked in content.items()
        ):
            raise ValueError(f"{part}: no object of predictions; mend or remove it")
        found += [content[number] for number in sorted(content, key=int)]
    return found


def _text(value: Any) -> str | None:
    """Give text as it is, a list of messages as JSON."""
    if value is None or isinstance(value, str):
        return None if value is None else escape_surrogates(value)
    return escape_surrogates(json.dumps(value, ensure_ascii=False))
