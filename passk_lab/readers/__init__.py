"""Other programs' logs as rollouts tables: one module a format, loaded when it is asked for.

`read` gives the table, `convert` writes it to a file together with where it came from. The
programs themselves need not be installed; only their files are read.

A reader's module may define ``source_files(path) -> list[Path]``, the files that the reader reads
for ``path``; without it that is the file itself, or all files of a folder.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module

# Not `import inspect`: once loaded, the submodule of that name takes its place here.
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMATS",
    "Format",
    "convert",
    "frame_of",
    "grade",
    "options",
    "read",
    "reader",
    "settle",
    "stable_id",
]

PathLike = str | os.PathLike[str]


class Format(NamedTuple):
    """Where a format's reader is ("module:function"), and what the format is in one line."""

    function: str
    description: str


FORMATS: dict[str, Format] = {
    "lm-eval": Format(
        "passk_lab.readers.lm_eval:read_lm_eval",
        "lm-evaluation-harness samples_*.jsonl (--log_samples), file or output folder",
    ),
    "inspect": Format(
        "passk_lab.readers.inspect:read_inspect",
        "Inspect eval logs (.eval, .json), file or log folder",
    ),
    "lighteval": Format(
        "passk_lab.readers.lighteval:read_lighteval",
        "lighteval details parquet (--save-details), file or details folder",
    ),
    "human-eval": Format(
        "passk_lab.readers.human_eval:read_human_eval",
        "human-eval samples.jsonl_results.jsonl",
    ),
    "evalplus": Format(
        "passk_lab.readers.evalplus:read_evalplus",
        "EvalPlus *_eval_results.json (HumanEval+, MBPP+)",
    ),
    "verl": Format(
        "passk_lab.readers.verl:read_verl",
        "verl rollout_data_dir / validation_data_dir dumps (<step>.jsonl), file or folder",
    ),
    "trl": Format(
        "passk_lab.readers.trl:read_trl",
        "TRL completions_<step>.parquet (log_completions=True), file or folder",
    ),
    "plain": Format(
        "passk_lab.readers.plain:read_plain",
        "JSONL, CSV, TSV or parquet of your own, with a column mapping",
    ),
}


def reader(format: str) -> Callable[..., pd.DataFrame]:
    """Load a format's reader.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.

    Returns
    -------
    callable
        ``function(path, **options) -> DataFrame``.

    Raises
    ------
    ValueError
        No such format; the message lists the known ones.

    Examples
    --------
    >>> reader("plain").__name__
    'read_plain'
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}{_known(format, list(FORMATS))}")
    module, _, function = FORMATS[format].function.partition(":")
    return cast("Callable[..., pd.DataFrame]", getattr(import_module(module), function))


def options(format: str) -> dict[str, Parameter]:
    """List the keyword options of a format's reader.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.

    Returns
    -------
    dict
        Option name -> `inspect.Parameter` (default and annotation).

    Raises
    ------
    ValueError
        No such format.

    Examples
    --------
    >>> list(options("evalplus"))
    ['tests']
    """
    parameters = signature(reader(format)).parameters
    return {n: p for n, p in parameters.items() if p.kind is Parameter.KEYWORD_ONLY}


def read(format: str, path: PathLike, **keywords: Any) -> pd.DataFrame:
    """Read another program's file or folder as a rollouts table.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.
    path : path
        The file, or for some formats the folder, that the program wrote.
    **keywords
        Options of the format's reader, see its docstring; and ``run=`` and ``split=``, names for
        all rollouts of the file.

    Returns
    -------
    DataFrame
        The validated table, see `passk_lab.rollouts.table.validate_rollouts`.

    Raises
    ------
    ValueError
        Unknown format or option (the known ones are listed), or the content is not what the
        format says.
    FileNotFoundError
        Nothing at ``path``.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"task_id": "add", "completion": "return a + b", "result": "passed", "passed": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples.jsonl_results.jsonl")
    ...     _ = path.write_text(json.dumps(row))
    ...     read("human-eval", path)[["problem_id", "sample_id", "correct"]]
      problem_id  sample_id  correct
    0        add          0     True
    """
    function = reader(format)
    known = list(options(format))
    labels = {n: keywords.pop(n) for n in ("run", "split") if n in keywords and n not in known}
    for name in keywords:
        if name not in known:
            raise ValueError(f"format {format!r} has no option {name!r}{_known(name, known)}")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    try:
        table = function(path, **keywords)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        # Readers check what they need; below that, a damaged file can hold anything anywhere.
        raise ValueError(
            f"{path}: not what files of the format {format!r} look like "
            f"({type(error).__name__}: {error}); check the format, or write the file again"
        ) from error
    if not labels:
        return table
    from passk_lab.rollouts.table import validate_rollouts

    return validate_rollouts(table.assign(**labels), str(path))


def convert(format: str, source: PathLike, target: PathLike, **keywords: Any) -> pd.DataFrame:
    r"""Read another program's files and write them as a rollouts file.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.
    source : path
        The file or folder to read.
    target : path
        The file to write, ``.parquet`` or ``.jsonl`` (``.jsonl.gz``). Its metadata (parquet
        only) notes format, options, and each source file's name, size in bytes and SHA-256.
    **keywords
        As in `read`.

    Returns
    -------
    DataFrame
        The table that was written. Columns whose values have no common type are written as JSON
        text.

    Raises
    ------
    ValueError
        As `read`; or the target is one of the sources.
    OSError
        The target's folder can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from passk_lab.rollouts.files import read_metadata
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, target = Path(folder, "mine.csv"), Path(folder, "mine.parquet")
    ...     _ = path.write_text("task,correct\na,1\na,0\n")
    ...     table = convert("plain", path, target, columns={"problem_id": "task"})
    ...     note = read_metadata(target)["converted_from"]
    >>> note["format"], note["options"], note["files"][0]["name"]
    ('plain', {'columns': {'problem_id': 'task'}}, 'mine.csv')
    """
    from passk_lab.rollouts.files import write_rollouts

    function = reader(format)
    table = read(format, source, **keywords)
    module = import_module(function.__module__)
    files: list[Path] = getattr(module, "source_files", _files)(Path(source))
    if Path(target).exists() and any(file.samefile(target) for file in files):
        raise ValueError(f"{target}: is also a source; write the rollouts to another file")
    note = {
        "format": format,
        "options": keywords,
        "files": [_fingerprint(file, Path(source)) for file in files],
    }
    table = _storable(table)
    write_rollouts(table, target, metadata={"converted_from": note})
    return table


def stable_id(text: str) -> str:
    """Name a problem by its prompt: the first 16 hex digits of the SHA-256 of its UTF-8 form.

    Examples
    --------
    >>> stable_id("What is 2 + 3?")
    '1ea26256ebae2e04'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def frame_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table of JSON objects without bending their values.

    Parameters
    ----------
    records : sequence of mappings
        They need not have the same keys.

    Returns
    -------
    DataFrame
        A column with values of a single type has that type; any other keeps its values as they
        are (where pandas would turn large integers beside a missing value into rounded floats).

    Examples
    --------
    >>> frame_of([{"a": 1234567890123456789, "b": 1}, {"a": None, "b": 2}])["a"].iloc[0]
    1234567890123456789
    """
    import pandas as pd

    return settle(pd.DataFrame(records, dtype=object))


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the object columns of `frame` that hold values of a single type this type.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = settle(pd.DataFrame({"a": [1, 2], "b": [1, None]}, dtype=object))
    >>> frame.dtypes.astype(str).tolist()
    ['int64', 'object']
    """
    import pandas as pd

    frame = frame.copy(deep=False)
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_object_dtype(column.dtype) and len(set(map(type, column))) == 1:
            with suppress(UnicodeError):  # a lone surrogate fits into no string column
                frame[name] = column.infer_objects()
    return frame


def grade(values: pd.Series, threshold: float, source: str) -> pd.Series:
    """Call a graded value correct from a threshold on.

    Parameters
    ----------
    values : Series
        Booleans, numbers, or either of them as text ("True", "1.0").
    threshold : float
        Smallest value that counts as correct.
    source : str
        How error messages call the file.

    Returns
    -------
    Series of bool

    Raises
    ------
    ValueError
        A value is missing or no number; the message names column and row (0-based).

    Examples
    --------
    >>> import pandas as pd
    >>> grade(pd.Series([1.0, 0.5, -1.0]), 1.0, "table").tolist()
    [True, False, False]
    """
    import pandas as pd

    words = {"true": 1.0, "false": 0.0}
    numbers = pd.to_numeric(
        values.map(lambda v: words.get(v.strip().lower(), v) if isinstance(v, str) else v),
        errors="coerce",
    ).astype("float64")
    bad = numbers.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        value = values.iloc[row]
        missing = pd.api.types.is_scalar(value) and pd.isna(value)  # not a list of values
        found = "value is missing" if missing else f"{value!r} is no grade"
        raise ValueError(
            f"{source}: column {values.name!r}, row {row}: {found}; every rollout needs a number "
            "or true/false: grade it, drop its row or choose another column"
        )
    return numbers >= threshold


def _known(name: str, known: Sequence[str]) -> str:
    if not known:
        return "; it has no options"
    plain = {k.replace("_", "-"): k for k in known}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), list(plain), n=2)
    hint = f"; did you mean {' or '.join(repr(plain[c]) for c in close)}?" if close else ";"
    return f"{hint} known: {', '.join(known)}"


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    return sorted(file for file in source.rglob("*") if file.is_file())


def _fingerprint(file: Path, source: Path) -> dict[str, Any]:
    # Names only from the source downwards: where it lay on someone's disk is nobody's business.
    inside = source.is_dir() and file.is_relative_to(source)
    with open(file, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {
        "name": file.relative_to(source).as_posix() if inside else file.name,
        "sha256": digest,
        "bytes": file.stat().st_size,
    }


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """Spell columns that parquet has no type for (objects; a list here, a number there) as JSON."""
    import pandas as pd
    import pyarrow as pa

    from passk_lab.rollouts.table import escape_surrogates

    def has_type(column: pd.Series) -> bool:
        try:
            # Objects would work only where all have a key in common.
            return "struct" not in str(pa.array(column, from_pandas=True).type)
        except (pa.ArrowException, UnicodeError, OverflowError):
            return False

    def spell(value: Any) -> str | None:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        if isinstance(value, str):
            return escape_surrogates(value)
        return json.dumps(value, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))

    table = table.copy(deep=False)
    for name in table.columns:
        if pd.api.types.is_object_dtype(table[name].dtype) and not has_type(table[name]):
            texts = [spell(value) for value in table[name]]
            table[name] = pd.Series(texts, index=table.index, dtype="str")
    return table
