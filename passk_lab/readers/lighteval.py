"""lighteval: the ``details_*.parquet`` files that ``--save-details`` writes.

A row is one document. ``doc.task_name`` and ``doc.id`` together become ``problem_id``,
``model_response.text`` (a list, one entry a response) the ``text``, and the metric named by
``metric`` becomes ``correct``. ``run`` is the model's folder below ``details``; ``temperature`` and
``sampling_seed`` come from the results file that belongs to it. lighteval keeps no extracted
answers.

It gives a document *one* number a metric: which of several responses was right is not in the file.
``repeats`` is as in `passk_lab.readers.lm_eval`, with these sources:

- ``"counts"``: ``avg@n`` or ``pass@k``, over the first n responses. (``avg@n`` over partial credit
  is no share of correct responses, and is refused where that shows.)
- ``"regrade"``: exact match of a response's answer, after lighteval has removed reasoning, with one
  of the golds. With ``avg@n`` or ``pass@k``, or one response, this must reproduce lighteval's
  number of every document; other metrics (``maj@n``) can't be checked like that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd
import pyarrow as pa

from passk_lab.readers import _harness as harness
from passk_lab.readers._shared import choose, find_files, named, read_json, reads_files
from passk_lab.rollouts._parquet import open_parquet, read_parquet
from passk_lab.rollouts.table import PathLike

__all__ = ["read_lighteval"]

Repeats = Literal["graded", "counts", "regrade"]

_NAME = re.compile(r"details_.+_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.parquet")
_FIELDS = {
    "doc": ("id", "task_name", "choices", "gold_index"),
    "metric": (),
    "model_response": ("text",),
}


class _Origin(NamedTuple):
    run: str | None = None
    temperature: float | None = None
    sampling_seed: int | None = None


class _Document(NamedTuple):
    file: Path
    origin: _Origin
    task: str
    row: dict[str, Any]


_HINT = "no details_<task>_<date>.parquet here; run lighteval with --save-details"
_source_files = partial(find_files, lambda file: _NAME.fullmatch(file.name), _HINT)


@reads_files(_source_files)
def read_lighteval(
    path: PathLike,
    *,
    task: str | None = None,
    metric: str | None = None,
    repeats: Repeats = "graded",
    answer_pattern: str | None = None,
    threshold: float = 1.0,
    merge_reruns: bool = False,
) -> pd.DataFrame:
    """Read lighteval's details, one file or a folder with several tasks and models.

    Parameters
    ----------
    path : path
        A ``details_*.parquet``, or a folder, searched with its subfolders.
    task : str, optional
        Read only this task of a folder, with its few-shot number: ``"gsm8k|0"``.
    metric, repeats, answer_pattern, threshold, merge_reruns : optional
        As for `read_lm_eval`; ``repeats`` is "graded", "counts" or "regrade".

    Returns
    -------
    DataFrame
        The validated rollouts, with ``task`` and ``metric``.

    Raises
    ------
    ValueError
        As `read_lm_eval`.

    Examples
    --------
    >>> import tempfile
    >>> doc = {"id": "0", "task_name": "sums|0", "choices": ["4"], "gold_index": 0}
    >>> row = {"doc": doc, "metric": {"avg@n:n=2": 0.5}, "model_response": {"text": ["4", "5"]}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "details_sums_2026-01-01T10-00-00.parquet")
    ...     pd.DataFrame([row]).to_parquet(file)
    ...     table = read_lighteval(file, repeats="regrade")
    >>> table["answer"].tolist(), table["correct"].tolist()
    (['4', '5'], [True, False])
    """
    patterns = harness.check_repeats(repeats, get_args(Repeats), answer_pattern=answer_pattern)
    documents = [document for file in _source_files(path) for document in _documents(file)]
    documents = harness.of_task(documents, task, lambda document: document.task, path)
    if not merge_reruns:
        harness.refuse_reruns(
            ((found.origin.run, found.task, found.file) for found in documents), path
        )
    rollouts = _rollouts(documents, metric, repeats, *patterns)
    optional = ("run", "temperature", "sampling_seed", "answer", "text")
    return harness.rollouts_table(rollouts, threshold, optional, str(path))


def _origin(file: Path) -> _Origin:
    """Read what folders (details/<model>/<date>/) and the results file say about a run."""
    name = _NAME.fullmatch(file.name)
    parts = file.absolute().parts
    if name is None or parts[-2] != name["date"] or "details" not in parts[:-3]:
        return _Origin()
    place = len(parts) - 1 - parts[::-1].index("details")
    model = parts[place + 1 : -2]
    results = Path(*parts[:place], "results", *model, f"results_{name['date']}.json")
    settings: Any = {}
    if results.exists():
        content = read_json(results, "mend or remove it")
        for key in ("config_general", "model_config", "generation_parameters"):
            content = content.get(key) if isinstance(content, dict) else None
        settings = content or {}
    return _Origin("/".join(model), settings.get("temperature"), settings.get("seed"))


def _documents(file: Path) -> list[_Document]:
    with open_parquet(file) as parquet:
        _require_layout(parquet.schema_arrow, file)
        response = parquet.schema_arrow.field("model_response").type
        columns = [f"doc.{name}" for name in _FIELDS["doc"]]
        columns += ["metric", "model_response.text"]
        if response.get_field_index("text_post_processed") >= 0:
            columns.append("model_response.text_post_processed")
        rows: list[dict[str, Any]] = read_parquet(parquet, columns, file).to_pylist()
    if not rows:
        raise ValueError(f"{file}: the file holds no documents")
    origin = _origin(file)
    return [_Document(file, origin, row["doc"]["task_name"], row) for row in rows]


def _require_layout(schema: pa.Schema, file: Path) -> None:
    for column, fields in _FIELDS.items():
        place = schema.get_field_index(column)
        kind = schema.field(place).type if place >= 0 else None
        if kind is None or not pa.types.is_struct(kind):
            raise ValueError(
                f"{file}: no lighteval details (expected {', '.join(_FIELDS)}; "
                f"it has {', '.join(schema.names)})"
                + ("; this older layout is not read" if "predictions" in schema.names else "")
            )
        for name in fields:
            if kind.get_field_index(name) < 0:
                raise ValueError(f"{file}: no lighteval details, {column}.{name} is missing")


def _rollouts(
    documents: list[_Document], metric: str | None, repeats: Repeats, pattern: harness.Pattern
) -> list[dict[str, Any]]:
    rollouts = []
    chosen: dict[tuple[Path, str], str] = {}
    seen = set()
    for file, origin, task, row in documents:
        problem = f"{task}/{row['doc']['id']}"
        where = f"{file}, document {problem!r}"
        named(row["doc"]["id"], where)
        if (file, problem) in seen:
            raise ValueError(f"{where}: occurs twice in the file; keep one of them")
        seen.add((file, problem))
        if (file, task) not in chosen:
            known = list(row["metric"] or {})
            chosen[file, task] = choose(metric, known, "metric", f"{file}, task {task!r}")
        name = chosen[file, task]
        texts = row["model_response"]["text"] or []
        found = harness.Document(where, texts, name, (row["metric"] or {}).get(name))
        grade = found.number()
        common = {**origin._asdict(), "problem_id": problem, "task": task, "metric": name}
        if repeats == "regrade":
            common["metric"] = "regraded exact match"
            parts = _regraded(found, row, pattern)
        elif repeats == "counts":
            parts = _counted(found)
        elif len(texts) > 1:
            raise found.several(
                "repeats='counts' takes how many were (avg@n, pass@k); 'regrade' grades each by "
                "exact match with the gold"
            )
        else:
            parts = [_rollout(grade, None, texts[0] if texts else None)]
        rollouts += [common | part for part in parts]
    return rollouts


def _rollout(score: float, answer: str | None = None, text: str | None = None) -> dict[str, Any]:
    return {"score": score, "answer": answer, "text": text}


def _share(document: harness.Document) -> tuple[int, int] | None:
    """Give n and k of a metric that is pass@k (k = 1: an average) over the first n responses."""
    # Names are "avg@n:n=4", "pass@k:k=2&n=8" or "pass@k:k=1" (then n is the number of responses).
    metric = str(document.metric)
    settings = {key: int(value) for key, value in re.findall(r"\b([kn])=(\d+)", metric)}
    n = settings.get("n", len(document.texts))
    if re.match(r"avg@n\b", metric):
        return n, 1
    if re.match(r"(\w+_)?pass@k\b", metric) and "k" in settings:
        return n, settings["k"]
    return None


def _counted(document: harness.Document) -> list[dict[str, Any]]:
    share = _share(document)
    if share is None:
        raise ValueError(
            f"{document.where}: {document.metric!r} doesn't say how many responses are correct; "
            "choose avg@n or pass@k, or repeats='regrade'"
        )
    n, k = share
    if len(document.texts) < n:
        found = f"{len(document.texts)} responses, but {document.metric!r} is over {n}"
        raise ValueError(f"{document.where}: {found}")
    return [_rollout(score) for score in document.counted(n, k)]


def _regraded(
    document: harness.Document, row: Mapping[str, Any], pattern: harness.Pattern
) -> list[dict[str, Any]]:
    document.require_texts()
    golds = _golds(row["doc"], document.where)
    final = row["model_response"].get("text_post_processed") or document.texts
    answers = [harness.first_match(pattern, text) for text in final]
    grades = [float(answer in golds) for answer in answers]
    share = (1, 1) if len(document.texts) == 1 else _share(document)
    if share is not None and share[0] <= len(document.texts):
        n, k = share
        expected = harness.share_correct(n, int(sum(grades[:n])), k)
        fix = "set answer_pattern to what it compares"
        document.check_regrade(expected, f"the golds {golds}", fix)
    return [_rollout(*cells) for cells in zip(grades, answers, document.texts, strict=True)]


def _golds(doc: Mapping[str, Any], where: str) -> list[str]:
    index = doc["gold_index"]
    choices = doc["choices"] or []
    places = index if isinstance(index, list) else [index]
    if not places or not all(isinstance(i, int) and 0 <= i < len(choices) for i in places):
        raise ValueError(f"{where}: gold_index {index!r} points to none of {len(choices)} choices")
    return [str(choices[i]) for i in places]
