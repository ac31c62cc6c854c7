"""LiveCodeBench: the ``*_eval_all.json`` that ``lcb_runner.runner.main --evaluate`` writes.

A list of questions, each with its samples side by side: ``output_list`` (the responses, column
``text``), ``code_list`` or ``pred_list`` (what was taken out of them: column ``code``, or
``answer``, called ``pred`` beside code, which has none), ``graded_list`` and, for code,
``metadata``. Whatever else a question has (difficulty, platform, contest date) stands beside each
of its samples.

Which task a file holds is seen from its fields: "codegeneration", "selfrepair",
"testoutputprediction", "codeexecution". ``task`` and question together become ``problem_id``;
test outputs and executions have several problems a question. ``run`` is the model's folder below
``output``; ``temperature`` comes from the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.readers import _harness as harness
from passk_lab.readers import _shared as shared
from passk_lab.rollouts._tables import frame_of
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_livecodebench"]

_WHAT = "an *_eval_all.json of LiveCodeBench"
_FIELDS = ("question_id", "output_list", "graded_list")
_PER_SAMPLE = {
    "output_list": "text",
    "graded_list": "correct",
    "code_list": "code",
    "pred_list": "answer",
    "original_code_list": "original_code",
    "metadata": "metadata",
}
# What tells the problems of a task apart.
_TASKS = {
    "codegeneration": ("question_id",),
    "selfrepair": ("question_id",),
    "testoutputprediction": ("question_id", "test_id"),
    "codeexecution": ("id",),
}
_TEMPERATURE = re.compile(r".*_[0-9]+_([0-9]+(?:\.[0-9]+)?)(?:_cot)?_eval_all\.json")

_HINT = "no *_eval_all.json here; run lcb_runner.runner.main with --evaluate"
_source_files = partial(shared.find_files, lambda f: f.name.endswith("_eval_all.json"), _HINT)


@shared.reads_files(_source_files)
def read_livecodebench(
    path: PathLike, *, task: str | None = None, merge_reruns: bool = False
) -> pd.DataFrame:
    """Read graded samples of LiveCodeBench, one file or a folder with several tasks and models.

    Parameters
    ----------
    path : path
        An ``*_eval_all.json``, or a folder, searched with its subfolders.
    task, merge_reruns : optional
        As for `read_lm_eval`.

    Returns
    -------
    DataFrame
        The rollouts table with ``task``, ``prompt`` (the question), and the question's fields; one
        whose name has another meaning in the rollouts table is called ``livecodebench_<name>``.

    Raises
    ------
    ValueError
        Not this format, lists of unequal length, a question that stands in the file twice.

    Examples
    --------
    >>> import json, tempfile
    >>> question = {"question_id": "abc301_a", "difficulty": "easy", "graded_list": [True, False],
    ...             "output_list": ["print(1)", "print(2)"], "code_list": ["print(1)", "print(2)"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "Scenario.codegeneration_2_0.2_eval_all.json")
    ...     _ = path.write_text(json.dumps([question]))
    ...     read_livecodebench(path)[["problem_id", "correct", "difficulty"]].to_numpy().tolist()
    [['codegeneration/abc301_a', True, 'easy'], ['codegeneration/abc301_a', False, 'easy']]
    """
    found = [question for file in _source_files(path) for question in _questions(file)]
    found = harness.of_task(found, task, lambda question: question.task, path)
    if not merge_reruns:
        harness.refuse_reruns(((q.run, q.task, q.file) for q in found), path)
    made = frame_of([sample for question in found for sample in question.samples()])
    rest = frame_of([question.rest() for question in found for _ in question.grades])
    if made.get("answer", made["text"]).isna().any():
        made = made.rename(columns={"answer": "pred"})
    named = [str(name) for name in made.columns if made[name].notna().any()]
    table = shared.with_rest({name: made[name] for name in named}, rest, "livecodebench")
    return validate_rollouts(table, str(path))


@dataclass(frozen=True)
class _Question:
    file: Path
    run: str | None
    temperature: float | None
    task: str
    record: Mapping[str, Any]
    where: str

    @property
    def problem_id(self) -> str:
        parts = [shared.named(self.record[name], self.where) for name in _TASKS[self.task]]
        return "/".join((self.task, *parts))

    @property
    def grades(self) -> list[Any]:
        return self._list("graded_list")

    def _list(self, name: str) -> list[Any]:
        value = self.record[name]
        if not isinstance(value, list) or not value:
            raise ValueError(
                f"{self.where}: {name!r} is {shared.short(value)}, not a list of samples; "
                "evaluate again"
            )
        return value

    def samples(self) -> Iterator[dict[str, Any]]:
        """Give a row a sample."""
        # What was evaluated anew without the old metrics has no metadata.
        names = [n for n in _PER_SAMPLE if n in self.record and (self.record[n] or n != "metadata")]
        lists = {_PER_SAMPLE[name]: self._list(name) for name in names}
        lengths = {name: len(self.record[name]) for name in names}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"{self.where}: lists of different length ({told}); evaluate again")
        for number in range(len(self.grades)):
            sample = {name: values[number] for name, values in lists.items()}
            self._check(sample, number)
            yield {
                "run": self.run,
                "problem_id": self.problem_id,
                "task": self.task,
                "temperature": self.temperature,
                "prompt": self.record.get("question_content"),
                **sample,
            }

    def _check(self, sample: Mapping[str, Any], number: int) -> None:
        if sample["correct"] not in (True, False):
            raise ValueError(
                f"{self.where}: 'graded_list', sample {number}: {shared.short(sample['correct'])} "
                "is neither true nor false; evaluate again"
            )
        if not isinstance(sample["text"], str | None):
            raise ValueError(
                f"{self.where}: 'output_list', sample {number}: {shared.short(sample['text'])} is "
                "no text; evaluate again"
            )

    def rest(self) -> dict[str, Any]:
        """Give what is the same for all samples; pass@1 says no more than the grades."""
        known = (*_PER_SAMPLE, "question_content", "pass@1")
        return {name: value for name, value in self.record.items() if name not in known}


def _questions(file: Path) -> Iterator[_Question]:
    content = shared.read_json(
        file, "the file may have been cut off while it was written: evaluate again"
    )
    if not isinstance(content, list) or not content:
        raise ValueError(f"{file}: no list of questions; this isn't {_WHAT}")
    parts = file.absolute().parts
    run = parts[-2] if parts[-3:-2] == ("output",) else None
    named = _TEMPERATURE.fullmatch(file.name)
    temperature = float(named[1]) if named else None
    records: dict[str, int] = {}
    for number, record in enumerate(content):
        fields = record if isinstance(record, dict) else {}
        where = f"{file}, record {number}"
        shared.require_fields(fields, _FIELDS, where, _WHAT)
        question = _Question(file, run, temperature, _task(fields), fields, where)
        shared.require_fields(fields, _TASKS[question.task], where, _WHAT)
        first = records.setdefault(question.problem_id, number)
        if first != number:
            raise ValueError(
                f"{where}: {question.problem_id!r} is record {first}, too: a continued run wrote "
                "it twice; remove one of them"
            )
        yield question


def _task(record: Mapping[str, Any]) -> str:
    if "code_list" in record:
        return "selfrepair" if "original_code_list" in record else "codegeneration"
    return "testoutputprediction" if "test_id" in record else "codeexecution"
