"""lm-evaluation-harness and lmms-eval: the samples files that ``--log_samples`` writes.

A line is one document under one filter. Task and ``doc_id`` become ``problem_id``, ``resps`` the
``text``, ``filtered_resps`` the ``answer`` ("[invalid]", nothing found, is a missing one), and the
metric named by ``metric`` becomes ``correct``. ``temperature`` comes from the generation arguments;
``run`` and ``sampling_seed`` (the torch seed) from the ``results_*.json`` beside the file.

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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd

from passk_lab.readers import _harness as harness
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import escape_surrogates
from passk_lab.rollouts.table import PathLike

__all__ = ["read_lm_eval"]

Repeats = Literal["graded", "filtered", "counts", "regrade"]

_FIELDS = ("doc_id", "target", "filtered_resps")
# Older versions list no metrics: there every field that is not one of these is a metric.
_NO_METRIC = {
    *(*_FIELDS, "doc", "arguments", "resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
    *("input", "input_media", "token_counts"),  # of lmms-eval
}
_NAMES = (
    re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl(\.gz)?"),
    re.compile(r"(?P<date>\d{8}_\d{6})_samples_(?P<task>.+)\.jsonl"),  # of lmms-eval
)
_NOTHING_FOUND = "[invalid]"


class _File(NamedTuple):
    path: Path
    run: str | None
    task: str | None
    sampling_seed: int | None


class _Options(NamedTuple):
    repeats: Repeats
    threshold: float
    answer_pattern: harness.Pattern
    target_pattern: harness.Pattern


_HINT = "no samples_<task>_<date>.jsonl here; run lm-eval with --log_samples and --output_path"


def _named(file: Path) -> re.Match[str] | None:
    found = (pattern.fullmatch(file.name) for pattern in _NAMES)
    return next((name for name in found if name), None)


_source_files = partial(shared.find_files, _named, _HINT)


@shared.reads_files(_source_files)
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
        A ``samples_*.jsonl`` (or ``.jsonl.gz``), or a folder, searched with its subfolders.
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
        Take several files of a model and task as further samples, which may differ in settings.

    Returns
    -------
    DataFrame
        The validated rollouts, with ``task``, ``metric`` and ``filter``.

    Raises
    ------
    ValueError
        Several metrics or filters; responses without a grade; a regrade that lm-eval contradicts.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"doc_id": 0, "target": "4", "arguments": {}, "resps": [["It is 4", "It is 5"]],
    ...        "filtered_resps": ["4"], "metrics": ["exact_match"], "exact_match": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "samples_sums_2026-01-01T10-00-00.jsonl")
    ...     _ = file.write_text(json.dumps(row))
    ...     table = read_lm_eval(file, repeats="regrade", answer_pattern=r"\d+")
    >>> table["answer"].tolist(), table["correct"].tolist()
    (['4', '5'], [True, False])
    """
    patterns = {"answer_pattern": answer_pattern, "target_pattern": target_pattern}
    options = _Options(
        repeats, threshold, *harness.check_repeats(repeats, get_args(Repeats), **patterns)
    )
    files = [_describe(file, Path(path)) for file in _source_files(path)]
    files = harness.of_task(files, task, lambda file: file.task, path)
    if not merge_reruns:
        harness.refuse_reruns(((file.run, file.task, file.path) for file in files), path)
    rollouts = [rollout for file in files for rollout in _read_file(file, metric, filter, options)]
    optional = ("run", "task", "sampling_seed", "temperature", "answer", "text")
    return harness.rollouts_table(rollouts, threshold, optional, str(path))


def _describe(file: Path, asked: Path) -> _File:
    name = _named(file)
    if name is None:
        return _File(file, None, None, None)
    run = file.parent.name if asked.is_dir() and file.parent != asked else None
    seed = None
    # With --output_path x.json the results are in x_<date>.json.
    for results in file.parent.glob(f"*{name['date']}*.json"):
        content = shared.read_json(results, "mend or remove it")
        if isinstance(content, dict):
            run = content.get("model_name") or run
            config = content.get("config")
            seed = config.get("torch_seed") if isinstance(config, dict) else None
    return _File(file, run, name["task"], seed if isinstance(seed, int) else None)


def _read_file(
    file: _File, metric: str | None, filter: str | None, options: _Options
) -> Iterator[dict[str, Any]]:
    rows = shared.read_records(file.path, _FIELDS, "a samples file of lm-eval", without="doc")
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for row in rows))
    chosen_filter = shared.choose(filter, filters, "filter", file.path)
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
    chosen_metric = None if ungraded else shared.choose(metric, metrics, "metric", file.path)
    seen = set()
    for row in rows:
        where = f"{file.path}, doc_id {row['doc_id']} (filter {chosen_filter!r})"
        if str(row["doc_id"]) in seen:
            raise ValueError(f"{where}: occurs twice in the file; keep one of them")
        seen.add(str(row["doc_id"]))
        if chosen_metric is not None and chosen_metric not in row:
            raise ValueError(f"{where}: metric {chosen_metric!r} is missing")
        name = shared.named(row["doc_id"], where)
        name = name if file.task is None else f"{file.task}/{name}"
        common = {
            "run": file.run,
            "problem_id": name,
            "task": file.task,
            "filter": chosen_filter,
            "metric": "regraded exact match" if options.repeats == "regrade" else chosen_metric,
            "sampling_seed": file.sampling_seed,
            "temperature": _temperature(row.get("arguments")),
        }
        texts, kept = _responses(row, where)
        value = None if chosen_metric is None else row[chosen_metric]
        sample = _Sample(where, texts, chosen_metric, value, kept, row["target"], options)
        for rollout in sample.rollouts():
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


def _responses(row: Mapping[str, Any], where: str) -> tuple[list[str | None], list[str | None]]:
    """Give the sampled texts and what the filter left of them; both empty for likelihoods.

    A reply without text, such as one that was cut off while it thought, is None. lmms-eval
    writes a document's only request without the list around it, no responses where the filter
    left them as they are, and repeats as further requests.
    """
    filtered = row["filtered_resps"]
    resps = row.get("resps", filtered if isinstance(filtered, list) else [filtered])
    if isinstance(resps, list) and resps and all(map(_is_text, resps)):
        resps, filtered = [resps], [filtered]
    if not (
        isinstance(resps, list)
        and isinstance(filtered, list)
        and filtered
        and all(isinstance(request, list) and request for request in resps)
    ):
        raise ValueError(f"{where}: resps and filtered_resps must be lists with a list a request")
    for request in resps:
        if len({_is_text(response) for response in request}) > 1:
            raise ValueError(f"{where}: {shared.short(request)} are neither texts nor likelihoods")
    if not all(_is_text(request[0]) for request in resps):
        return [], []
    kept = [a for left in filtered for a in (left if isinstance(left, list) else [left])]
    texts = [text for request in resps for text in request]
    return texts, [None if answer is None else str(answer) for answer in kept]


def _is_text(response: Any) -> bool:
    return response is None or isinstance(response, str)


@dataclass(frozen=True)
class _Sample(harness.Document):
    """A document under one filter."""

    kept: list[str | None]  # what the filter left of the responses
    target: Any
    options: _Options

    def rollouts(self) -> list[dict[str, Any]]:
        if self.options.repeats == "regrade":
            return self._regraded()
        if self.options.repeats == "counts":
            return [self._rollout(grade) for grade in self._counted()]
        if isinstance(self.value, list):
            return self._listed(self.value)
        if len(self.texts) > 1 and self.options.repeats == "graded":
            raise self.several(
                "repeats='filtered' takes the one answer that was graded; 'counts' takes a share "
                "over all responses (pass@k, exact_match after take_first_k); 'regrade' grades "
                "each response by exact match with the target"
            )
        if len(self.kept) > 1:
            raise ValueError(
                f"{self.where}: the filter left {len(self.kept)} answers and {self.metric!r} is "
                "one number for all of them; use repeats='counts' or 'regrade'"
            )
        text = self.texts[0] if len(self.texts) == 1 else None
        replied = any(text is not None for text in self.texts)
        answer = self.kept[0] if replied and len(self.kept) == 1 else None
        return [self._rollout(self.number(), answer, text)]

    def _rollout(
        self, grade: float, answer: str | None = None, text: str | None = None
    ) -> dict[str, Any]:
        return {
            "score": grade,
            "answer": answer if answer is None else escape_surrogates(answer),
            "text": text if text is None else escape_surrogates(text),
        }

    def _listed(self, values: list[Any]) -> list[dict[str, Any]]:
        n = len(values)
        if n not in (len(self.texts), len(self.kept)) or not self.texts:
            raise ValueError(
                f"{self.where}: metric {self.metric!r} is {shared.short(values)}, not one number "
                f"for each of the {len(self.texts)} responses; choose another metric"
            )
        if self.options.repeats == "filtered":
            self._refuse_list()
        nothing = [None] * n
        answers = self.kept if len(self.kept) == n else nothing
        texts = self.texts if len(self.texts) == n else nothing
        grades = [harness.number(value, self.metric, self.where) for value in values]
        return list(map(self._rollout, grades, answers, texts))

    def _refuse_list(self) -> None:
        if isinstance(self.value, list):
            raise ValueError(f"{self.where}: {self.metric!r} is a list; use repeats='graded'")

    def _counted(self) -> list[float]:
        self._refuse_list()
        if len(self.texts) > 1 and len(self.kept) == 1:
            raise ValueError(
                f"{self.where}: the filter left one of {len(self.texts)} responses, so "
                f"{self.metric!r} is no share over them; use repeats='filtered' or 'regrade'"
            )
        return self.counted(max(len(self.kept), 1), self._k())

    def _k(self) -> int:
        """Give the k of "pass@k"; any other share counts single responses."""
        name = re.fullmatch(r"pass@(\d+)", str(self.metric))
        return int(name[1]) if name else 1

    def _regraded(self) -> list[dict[str, Any]]:
        self.require_texts()
        if not self.kept:
            raise ValueError(f"{self.where}: 'filtered_resps' is empty: what was graded?")
        target = harness.first_match(self.options.target_pattern, str(self.target))
        if target is None:
            raise ValueError(
                f"{self.where}: target_pattern finds nothing in {shared.short(self.target)}"
            )
        aligned = len(self.kept) == len(self.texts)
        answers = [
            a if t is not None else None for a, t in zip(self.kept, self.texts, strict=False)
        ]
        if self.options.answer_pattern is not None or not aligned:
            pattern = self.options.answer_pattern
            answers = [harness.first_match(pattern, text) for text in self.texts]
        known = {*answers, _NOTHING_FOUND} if None in answers else set(answers)
        if not aligned and not known.issuperset(self.kept):
            raise ValueError(
                f"{self.where}: lm-eval's filter left {shared.short(self.kept)}, answer_pattern "
                f"finds {shared.short(answers)}; give the pattern of the task's regex filter"
            )
        grades = [float(answer == target) for answer in answers]
        if self.metric is not None:
            self._refuse_list()
            if aligned:
                expected = harness.share_correct(len(grades), int(sum(grades)), self._k())
            else:
                expected = sum(answer == target for answer in self.kept) / len(self.kept)
            self.check_regrade(
                expected,
                f"the target {shared.short(target)}",
                "set answer_pattern and target_pattern to what it compares "
                f"(found {shared.short(self.kept)})",
            )
        return list(map(self._rollout, grades, answers, self.texts))
