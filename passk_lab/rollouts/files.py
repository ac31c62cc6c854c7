"""Rollouts in files: Parquet, JSONL and CSV; written whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab import __version__
from passk_lab.rollouts._cells import (
    IDENTITY,
    REQUIRED,
    STRING,
    STRINGS,
    escape_surrogates,
    plain,
    require_columns,
)
from passk_lab.rollouts._parquet import BATCH_ROWS, is_parquet, open_parquet, read_parquet
from passk_lab.rollouts.table import FORMAT_VERSION, PathLike, validate_rollouts

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
) -> pd.DataFrame:
    """Read one or several files into one validated table.

    Parameters
    ----------
    paths : path or sequence of paths
        Parquet, JSONL (``.jsonl``, also ``.jsonl.gz``) or CSV; the ending decides.
    columns : sequence of str, optional
        Read only these, and the columns that identify a rollout, where the file has them.
        Text is by far the largest column: leave it out where you don't need it.
    run : str, optional
        The run's name for files without the column ``run``. With several files the default is
        each file's stem; with one file it is "default".

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
    ...     len(read_rollouts(f"{folder}/base.parquet"))
    3
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise ValueError("no rollouts file given")
    tables = []
    for file in map(Path, files):
        table, _ = read_columns(file, columns)
        if "run" not in table.columns and (run is not None or len(files) > 1):
            name = run if run is not None else file.name.split(".")[0]
            table["run"] = pd.Series(name, index=table.index, dtype=STRING)
        tables.append(validate_rollouts(table, str(file)))
    if len(tables) == 1:
        return tables[0]
    return validate_rollouts(pd.concat(tables, ignore_index=True), "the files together")


def read_columns(
    path: Path, columns: Iterable[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Read these columns and those that every rollout needs, as far as there are any, unchecked.

    The list names all columns of the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    name = path.name.lower()
    if is_parquet(path):
        frame, names = _parquet_columns(path, columns)
    elif name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        frame, names = _jsonl_columns(path, columns)
    elif name.endswith((".csv", ".csv.gz", ".tsv")):
        frame, names = _csv_columns(path, columns)
    else:
        raise ValueError(
            f"{path}: unknown ending; rollouts are .parquet, .jsonl, .jsonl.gz or .csv (other "
            "programs' logs: passk-lab convert FORMAT IN OUT)"
        )
    require_columns(names, str(path))
    return frame, names


def _chosen(names: Sequence[str], columns: Iterable[str] | None) -> list[str]:
    wanted = names if columns is None else {*columns, *REQUIRED, *IDENTITY}
    return [name for name in names if name in wanted]


def _parquet_columns(path: Path, columns: Iterable[str] | None) -> tuple[pd.DataFrame, list[str]]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        return read_parquet(file, _chosen(names, columns), path).to_pandas(), names


def _jsonl_columns(path: Path, columns: Iterable[str] | None) -> tuple[pd.DataFrame, list[str]]:
    names: dict[str, None] = {}
    records = []
    for record in iter_jsonl(path):
        names |= dict.fromkeys(record)
        records.append({name: record[name] for name in _chosen(list(record), columns)})
    if not records:
        raise ValueError(f"{path}: the file holds no rollouts")
    return pd.DataFrame.from_records(records), list(names)


def _csv_columns(path: Path, columns: Iterable[str] | None) -> tuple[pd.DataFrame, list[str]]:
    options: dict[str, Any] = {
        "sep": "\t" if path.name.lower().endswith(".tsv") else ",",
        "encoding_errors": "backslashreplace",
    }
    try:
        names = list(pd.read_csv(path, nrows=0, **options).columns)
        frame = pd.read_csv(
            path,
            dtype=dict.fromkeys(STRINGS, "str"),
            usecols=_chosen(names, columns),
            keep_default_na=False,
            na_values=[""],
            **options,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: not a readable CSV file: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: can't be read ({error})") from error
    return frame, names


def as_rollouts(rollouts: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Validate a table, or read columns of a file or `Study` (default: all)."""
    if isinstance(rollouts, pd.DataFrame):
        return validate_rollouts(rollouts)
    own = getattr(rollouts, "rows", None)
    return read_rollouts(rollouts, columns) if own is None else own(columns)


def iter_jsonl(path: PathLike) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, one a line; blank lines are passed over.

    Raises
    ------
    ValueError
        A line is not a JSON object, or the file not UTF-8; the message names the line (1-based).
    """
    return (record for _, record in numbered_jsonl(path))


def numbered_jsonl(path: PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `iter_jsonl`, each object with the number of its line (1-based)."""
    path = Path(path)
    opener = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        # Binary lines: text mode would also split at the line separators inside JSON strings.
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                record = json.loads(text)
                if not isinstance(record, dict):
                    raise ValueError("expected a JSON object")
                if "\\ud" in text.lower():
                    record = _without_surrogates(record)
                yield number, record
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno}); "
            "the file may have been cut off while it was written"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}, after line {number}: broken gzip file ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {escape_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


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
    path = Path(path)
    table = validate_rollouts(rollouts)
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
