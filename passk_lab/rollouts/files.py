"""Rollouts in files: Parquet, JSONL and CSV; written whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab import __version__
from passk_lab.rollouts._cells import plain, typed
from passk_lab.rollouts._parquet import BATCH_ROWS, open_parquet
from passk_lab.rollouts._reading import read_source
from passk_lab.rollouts._sources import find_sources
from passk_lab.rollouts._tables import numbered_jsonl
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.table import FORMAT_VERSION, PathLike, stacked, validate_rollouts

__all__ = ["atomic_write", "iter_jsonl", "read_metadata", "read_rollouts", "write_rollouts"]

_METADATA_KEY = b"passk_lab"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it takes the place of ``path``.

    The folder is made if it is missing. If the block raises, ``path`` stays as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(
            error.errno, f"can't write into {path.parent} ({error.strerror}); choose another folder"
        ) from error
    temporary = Path(name)
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_rollouts(
    paths: PathLike | Sequence[PathLike],
    columns: Sequence[str] | None = None,
    run: str | None = None,
    layout: Layout | None = None,
) -> pd.DataFrame:
    """Read one or several files into one validated table.

    Parameters
    ----------
    paths : path or sequence of paths
        Parquet, JSONL, JSON, CSV or TSV, also packed (``.gz``, ``.zst``, ...); folders, patterns
        (``runs/*.jsonl``) and, with fsspec, URLs. The files of a folder or pattern are one run,
        whose samples are numbered on from file to file. ``NAME=PATH`` names the run.
    columns : sequence of str, optional
        Read only these, and the columns that identify a rollout, where the file has them.
        Text is by far the largest column: leave it out where you don't need it.
    run : str, optional
        The run's name for files without the column ``run``; default: the name of the file or
        folder.
    layout : Layout, optional
        What the files call the columns, and what they call correct.

    Returns
    -------
    DataFrame
        The validated table, see `validate_rollouts`.

    Raises
    ------
    ValueError
        A file is no readable table (truncated parquet, a broken JSONL line: its number is
        named), or its content is refused by `validate_rollouts`.
    FileNotFoundError
        A file does not exist.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> table = pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [True, False, True]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_rollouts(table, f"{folder}/base.parquet")
    ...     read_rollouts(f"{folder}/base.parquet")["run"].unique().tolist()
    ['base']
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    tables = []
    for source in find_sources(given, run):
        frame, _ = read_source(source, layout or Layout(), columns)
        tables.append(typed(frame, source.name))
    return stacked(tables, str(given[0]) if len(tables) == 1 else "the files together")


def iter_jsonl(path: PathLike) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, one a line; blank lines are passed over.

    Raises
    ------
    ValueError
        A line is not a JSON object, or the file not UTF-8; the message names the line (1-based).
    """
    return (record for _, record in numbered_jsonl(Path(path)))


def write_rollouts(
    rollouts: pd.DataFrame, path: PathLike, metadata: Mapping[str, Any] | None = None
) -> None:
    """Validate a table and write it whole or not at all.

    Parameters
    ----------
    rollouts : DataFrame
        The table; `validate_rollouts` says what it must hold.
    path : path
        Ends in ``.parquet`` (zstd; the format for keeping) or ``.jsonl`` / ``.jsonl.gz``.
    metadata : mapping, optional
        Where the rollouts come from: command, config, seeds, device. Must be JSON. Kept in the
        parquet schema beside the format's and the package's version; see `read_metadata`.

    Raises
    ------
    ValueError
        The table is refused, the ending is unknown or the metadata is no JSON.
    OSError
        The folder can't be written. A file that was there before stays as it was.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> table = pd.DataFrame({"problem_id": ["a"], "correct": [True]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_rollouts(table, f"{folder}/r.parquet", metadata={"seed": 0})
    ...     read_metadata(f"{folder}/r.parquet")["seed"]
    0
    """
    write_validated(validate_rollouts(rollouts), Path(path), metadata)


def write_validated(table: pd.DataFrame, path: Path, metadata: Mapping[str, Any] | None) -> None:
    """Write a table that `validate_rollouts` gave."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        note = _metadata_json(metadata)
        arrow = arrow.replace_schema_metadata({_METADATA_KEY: note.encode()})
        with atomic_write(path) as temporary:
            pq.write_table(arrow, temporary, compression="zstd", row_group_size=BATCH_ROWS)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        with atomic_write(path) as temporary, _open_jsonl(temporary, name) as file:
            for record in table.to_dict(orient="records"):
                clean = {k: plain(v) for k, v in record.items()}
                file.write(json.dumps(clean, ensure_ascii=False).encode() + b"\n")
    else:
        raise ValueError(f"{path}: unknown ending; write to .parquet, .jsonl or .jsonl.gz")


@contextmanager
def _open_jsonl(path: Path, name: str) -> Iterator[IO[bytes]]:
    with open(path, "wb") as raw:
        if name.endswith(".gz"):
            # No file name and no time stamp inside: the same rollouts give the same bytes.
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield raw


def _metadata_json(metadata: Mapping[str, Any] | None) -> str:
    note = {
        "format_version": FORMAT_VERSION,
        "passk_lab_version": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **(metadata or {}),
    }
    try:
        return json.dumps(note)
    except TypeError as error:
        raise ValueError(f"metadata must be plain JSON: {error}") from error


def read_metadata(path: PathLike) -> dict[str, Any]:
    """Return what `write_rollouts` noted in a parquet file's schema; {} for foreign files."""
    with open_parquet(Path(path)) as file:
        raw = (file.schema_arrow.metadata or {}).get(_METADATA_KEY)
    return cast(dict[str, Any], json.loads(raw)) if raw else {}
