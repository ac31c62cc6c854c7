"""lm-evaluation-harness: the ``samples_*.jsonl`` files that ``--log_samples`` writes.

A line is one document under one filter. Task and ``doc_id`` become ``problem_id``, ``resps`` the
``text``, ``filtered_resps`` the ``answer`` ("[invalid]", nothing found, is a missing one), and the
metric named by ``metric`` becomes ``correct``. ``temperature`` comes from the generation arguments;
``run`` and ``seed`` (the torch seed) from the ``results_*.json`` beside the file.

lm-eval keeps all responses to a document but grades it *once*: what the filters leave. The option
``repeats`` says what to make of several responses:

- ``"graded"`` (default): one rollout a response, if there is a grade for each (one response, or a
  task whose own ``process_results`` gives a list). Everything else is refused.
- ``"filtered"``: one rollout a document, the answer that lm-eval graded (the first one with
  ``take_first``, the majority's with ``majority_vote``).
- ``"counts"``: the metric is a share over all responses that the filter kept: ``pass@k``, or
  ``exact_match`` after ``take_first_k``. That says how many were right, not which: the table has
  that many correct rollouts and neither text nor answer, good for pass@k, not for modes.
- ``"regrade"``: grade every response here, by exact match of its answer with ``target``. The answer
  is what ``answer_pattern`` finds first in the response (default: the filtered responses where
  there is one for each, otherwise the whole response; for the last match begin the pattern with
  ``(?s).*``), the target what ``target_pattern`` finds first in ``target`` (default: all of it).
  This must reproduce lm-eval's own grade of every document, or the file is refused.

Likelihood tasks (multiple choice) give one rollout a document without text and answer.
``--predict_only`` files hold no grade and can only be regraded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd

from passk_lab.readers._harness import (
    Pattern,
    check_regrade,
    check_repeats,
    counted_grades,
    first_match,
    nothing_to_regrade,
    number,
    of_task,
    one_value,
    refuse_reruns,
    rollouts_table,
    share_correct,
)
from passk_lab.readers._shared import (
    choose,
    find_files,
    read_json,
    read_records,
    reads_files,
    short,
)
from passk_lab.rollouts.table import PathLike, escape_surrogates

__all__ = ["read_lm_eval"]

Repeats = Literal["graded", "filtered", "counts", "regrade"]

_FIELDS = ("doc_id", "target", "arguments", "resps", "filtered_resps")
# Older versions list no metrics: there every field that is not one of these is a metric.
_NO_METRIC = {*_FIELDS, "doc", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl(\.gz)?")
_NOTHING_FOUND = "[invalid]"


class _File(NamedTuple):
    path: Path
    run: str | None
    task: str | None
    seed: int | None


class _Options(NamedTuple):
    repeats: Repeats
    threshold: float
    answer_pattern: Pattern
    target_pattern: Pattern


def _source_files(path: PathLike) -> list[Path]:
    return find_files(
        path,
        lambda file: _NAME.fullmatch(file.name),
        "no samples_<task>_<date>.jsonl here; run lm-eval with --log_samples and --output_path",
    )


@reads_files(_source_files)
def read_lm_eval(  # noqa: PLR0913 -- a keyword an option of the format
    path: PathLike,
    *,
    task: str | None = None,
    metric: str | None = None,
    filter: str | None = None,
    repeats: Repeats = "graded",
    answer_pattern: str | None = None,
    target_pattern: str | None = None,
    threshold: float = 1.0,
    merge_reruns: bool = False,
) -> pd.DataFrame:
    r"""Read lm-eval's samples, one file or an output folder with several tasks and models.

    Parameters
    ----------
    path : path
        A ``samples_*.jsonl`` (also ``.jsonl.gz``), or a folder, which is searched with its
        subfolders.
    task : str, optional
        Read only this task of a folder.
    metric, filter : str, optional
        Which metric and filter of the task; needed where there are several.
    repeats : {"graded", "filtered", "counts", "regrade"}
        What to do with several responses to a document, see above.
    answer_pattern, target_pattern : str, optional
        Regular expressions for ``repeats="regrade"``; the first group, or all of the match.
    threshold : float
        A grade is correct from here on. Grades other than 0 and 1 are kept in ``score``.
    merge_reruns : bool
        Several files of the same model and task are further samples of the same documents.
        Default: they are refused, for they may differ in settings.

    Returns
    -------
    DataFrame
        The validated rollouts, with ``task``, ``metric`` and ``filter``.

    Raises
    ------
    ValueError
        Not this format; several metrics or filters and none chosen; responses without a grade of
        their own; a regrade that contradicts lm-eval's grade.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"doc_id": 0, "target": "4", "arguments": {}, "resps": [["It is 4", "It is 5"]],
    ...        "filtered_resps": ["4"], "metrics": ["exact_match"], "exact_match": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "samples_sums_2026-01-01T10-00-00.jsonl")
    ...     _ = file.write_text(json.dumps(row))
    ...     table = read_lm_eval(file, repeats="regrade", answer_pattern=r"\d+")
    >>> table[["problem_id", "sample_id", "answer", "correct"]]
      problem_id  sample_id answer  correct
    0     sums/0          0      4     True
    1     sums/0          1      5    False
    """
    patterns = {"answer_pattern": answer_pattern, "target_pattern": target_pattern}
    options = _Options(repeats, threshold, *check_repeats(repeats, get_args(Repeats), **patterns))
    files = [_describe(file, Path(path)) for file in _source_files(path)]
    files = of_task(files, task, lambda file: file.task, path)
    if not merge_reruns:
        refuse_reruns(((file.run, file.task, file.path) for file in files), path)
    rollouts = [rollout for file in files for rollout in _read_file(file, metric, filter, options)]
    optional = ("run", "task", "seed", "temperature", "answer", "text")
    return rollouts_table(rollouts, threshold, optional, str(path))


def _describe(file: Path, asked: Path) -> _File:
    name = _NAME.fullmatch(file.name)
    if name is None:
        return _File(file, None, None, None)
    run = file.parent.name if asked.is_dir() and file.parent != asked else None
    seed = None
    # With --output_path x.json the results are in x_<date>.json.
    for results in file.parent.glob(f"*_{name['date']}.json"):
        content = read_json(results, "mend or remove it")
        if isinstance(content, dict):
            run = content.get("model_name") or run
            config = content.get("config")
            seed = config.get("torch_seed") if isinstance(config, dict) else None
    return _File(file, run, name["task"], seed if isinstance(seed, int) else None)


def _read_file(
    file: _File, metric: str | None, filter: str | None, options: _Options
) -> Iterator[dict[str, Any]]:
    rows = read_records(file.path, _FIELDS, "a samples file of lm-eval", without="doc")
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for row in rows))
    chosen_filter = choose(filter, filters, "filter", file.path)
    rows = [row for row in rows if str(row.get("filter", "none")) == chosen_filter]
    metrics = list(dict.fromkeys(name for row in rows for name in _metrics(row)))
    ungraded = metrics == ["bypass"]
    if ungraded and options.repeats != "regrade":
        raise ValueError(
            f"{file.path}: written with --predict_only, so nothing is graded; "
            "repeats='regrade' grades by exact match with the target"
        )
    if not metrics:
        raise ValueError(f"{file.path}: the samples have no metric")
    chosen_metric = None if ungraded else choose(metric, metrics, "metric", file.path)
    seen = set()
    for row in rows:
        where = f"{file.path}, doc_id {row['doc_id']} (filter {chosen_filter!r})"
        if str(row["doc_id"]) in seen:
            raise ValueError(f"{where}: occurs twice in the file; keep one of them")
        seen.add(str(row["doc_id"]))
        if chosen_metric is not None and chosen_metric not in row:
            raise ValueError(f"{where}: metric {chosen_metric!r} is missing")
        name = str(row["doc_id"]) if file.task is None else f"{file.task}/{row['doc_id']}"
        common = {
            "run": file.run,
            "problem_id": name,
            "task": file.task,
            "filter": chosen_filter,
            "metric": "regraded exact match" if options.repeats == "regrade" else chosen_metric,
            "seed": file.seed,
            "temperature": _temperature(row["arguments"]),
        }
        for rollout in _rollouts(row, chosen_metric, options, where):
            yield common | rollout


def _metrics(row: Mapping[str, Any]) -> list[str]:
    listed = row.get("metrics")
    return [name for name in row if name not in _NO_METRIC] if listed is None else list(listed)


def _temperature(arguments: Any) -> float | None:
    request = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    settings = request.get("arg_1") if isinstance(request, dict) else None
    if not isinstance(settings, dict):
        return None
    if settings.get("do_sample") is False:
        return 0.0
    value = settings.get("temperature")
    return float(value) if isinstance(value, int | float) else None


def _rollouts(
    row: Mapping[str, Any], metric: str | None, options: _Options, where: str
) -> list[dict[str, Any]]:
    texts, kept = _responses(row, where)
    value = None if metric is None else row[metric]
    if options.repeats == "regrade":
        return _regraded(row, texts, kept, metric, options, where)
    if options.repeats == "counts":
        return [_rollout(grade, options) for grade in _counted(texts, kept, value, metric, where)]
    if isinstance(value, list):
        if len(value) not in (len(texts), len(kept)) or not texts:
            raise ValueError(
                f"{where}: metric {metric!r} is {short(value)}, which is not one number for each "
                f"of the {len(texts)} responses; choose another metric"
            )
        if options.repeats == "filtered":
            _refuse_list(value, metric, where)
        grades = [number(entry, metric, where) for entry in value]
        n = len(grades)
        return [
            _rollout(
                grade,
                options,
                kept[i] if len(kept) == n else None,
                texts[i] if len(texts) == n else None,
            )
            for i, grade in enumerate(grades)
        ]
    if len(texts) > 1 and options.repeats == "graded":
        remedies = (
            "repeats='filtered' takes the one answer that was graded; 'counts' takes a share over "
            "all responses (pass@k, exact_match after take_first_k); 'regrade' grades each "
            "response by exact match with the target"
        )
        raise one_value(len(texts), metric, where, remedies)
    if len(kept) > 1:
        raise ValueError(
            f"{where}: the filter left {len(kept)} answers and {metric!r} is one number for all of "
            "them; use repeats='counts' or 'regrade'"
        )
    text = texts[0] if len(texts) == 1 else None
    answer = kept[0] if texts and len(kept) == 1 else None
    return [_rollout(number(value, metric, where), options, answer, text)]


def _responses(row: Mapping[str, Any], where: str) -> tuple[list[str], list[str]]:
    """Give the sampled texts and what the filter left of them; both empty for likelihoods."""
    resps, filtered = row["resps"], row["filtered_resps"]
    if not (
        isinstance(resps, list)
        and isinstance(filtered, list)
        and filtered
        and all(isinstance(request, list) and request for request in resps)
    ):
        raise ValueError(f"{where}: resps and filtered_resps must be lists with a list a request")
    if len(resps) != 1 or not all(isinstance(text, str) for text in resps[0]):
        return [], []
    kept = filtered[0] if isinstance(filtered[0], list) else [filtered[0]]
    return resps[0], [str(answer) for answer in kept]


def _rollout(
    grade: float, options: _Options, answer: str | None = None, text: str | None = None
) -> dict[str, Any]:
    if answer == _NOTHING_FOUND and grade < options.threshold:
        answer = None
    return {
        "score": grade,
        "answer": answer if answer is None else escape_surrogates(answer),
        "text": text if text is None else escape_surrogates(text),
    }


def _order(metric: str) -> int:
    """Give the k of "pass@k"; any other share counts single responses."""
    name = re.fullmatch(r"pass@(\d+)", metric)
    return int(name[1]) if name else 1


def _counted(
    texts: list[str], kept: list[str], value: Any, metric: str | None, where: str
) -> list[float]:
    _refuse_list(value, metric, where)
    if len(texts) > 1 and len(kept) == 1:
        raise ValueError(
            f"{where}: the filter left one of {len(texts)} responses, so {metric!r} is no share "
            "over them; use repeats='filtered' or 'regrade'"
        )
    share = number(value, metric, where)
    where = f"{where}, metric {metric!r}"
    return counted_grades(share, max(len(kept), 1), _order(str(metric)), where)


def _refuse_list(value: Any, metric: str | None, where: str) -> None:
    if isinstance(value, list):
        raise ValueError(f"{where}: {metric!r} grades each response; use repeats='graded'")


def _regraded(
    row: Mapping[str, Any],
    texts: list[str],
    kept: list[str],
    metric: str | None,
    options: _Options,
    where: str,
) -> list[dict[str, Any]]:
    if not texts:
        raise nothing_to_regrade(where)
    if not kept:
        raise ValueError(
            f"{where}: 'filtered_resps' is empty, so nothing says what lm-eval graded; read the "
            "file again from the program that wrote it"
        )
    target = first_match(options.target_pattern, str(row["target"]))
    if target is None:
        raise ValueError(
            f"{where}: target_pattern finds nothing in the target {short(row['target'])}"
        )
    aligned = len(kept) == len(texts)
    answers: list[str | None]
    if options.answer_pattern is None and aligned:
        answers = list(kept)
    else:
        answers = [first_match(options.answer_pattern, text) for text in texts]
    grades = [float(answer == target) for answer in answers]
    if not aligned and any(
        answer not in answers and not (answer == _NOTHING_FOUND and None in answers)
        for answer in kept
    ):
        raise ValueError(
            f"{where}: lm-eval's filter left {short(kept)}, and answer_pattern finds "
            f"{short(answers)}; give the pattern of the task's regex filter"
        )
    if metric is not None:
        _refuse_list(row[metric], metric, where)
        if aligned:
            expected = share_correct(len(grades), int(sum(grades)), _order(metric))
        else:
            expected = sum(answer == target for answer in kept) / len(kept)
        check_regrade(
            expected,
            number(row[metric], metric, where),
            f"the target {short(target)}",
            f"{where}, metric {metric!r}",
            f"set answer_pattern and target_pattern to what it compares (found {short(kept)})",
        )
    return [
        _rollout(grade, options, answer, text)
        for grade, answer, text in zip(grades, answers, texts, strict=True)
    ]
