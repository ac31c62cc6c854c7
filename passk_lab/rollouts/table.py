"""The rollouts table: one row a rollout, the one container that every metric reads.

Required columns: ``problem_id`` (string) and ``correct`` (bool). Optional columns are used where
they are present: ``run`` (method or checkpoint), ``split`` ("id", "ood-..."), ``sample_id``,
``answer`` (canonical form: equal answers are the same solution), ``text``, ``score``,
``logprob`` (summed over tokens, nats), ``n_tokens``, ``token_entropy`` (mean over tokens, nats),
``temperature``, ``seed`` and ``step``. Unknown columns pass through untouched.

A row is identified by (run, split, problem_id, sample_id), together with ``seed`` and ``step``
where these columns exist. Duplicates are refused, for they would count one rollout twice.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts._atomic import atomic_write

__all__ = [
    "FORMAT_VERSION",
    "MAIN_KEYS",
    "counts",
    "iter_jsonl",
    "read_metadata",
    "read_rollouts",
    "validate_rollouts",
    "write_rollouts",
]

FORMAT_VERSION = "1"
MAIN_KEYS = ("run", "split")
DEFAULTS = {"run": "default", "split": "id"}

_METADATA_KEY = b"passk_lab"
_REQUIRED = ("problem_id", "correct")
_STRINGS = ("problem_id", "run", "split", "answer", "text")
_LARGEST_INTEGER = np.iinfo(np.int64).max
_INTEGERS = ("sample_id", "n_tokens", "seed", "step")
_FLOATS = ("score", "logprob", "token_entropy", "temperature")
_IDENTITY = ("run", "split", "problem_id", "sample_id", "seed", "step")
_TRUE = {"true", "1", "1.0", "yes", "t"}
_FALSE = {"false", "0", "0.0", "no", "f"}
_BATCH_ROWS = 1 << 18

PathLike = str | os.PathLike[str]


def validate_rollouts(rollouts: pd.DataFrame, source: str = "rollouts") -> pd.DataFrame:
    """Check a table and bring its columns to their types.

    Parameters
    ----------
    rollouts : DataFrame
        One row a rollout; at least ``problem_id`` and ``correct``.
    source : str
        How error messages call the table, a file name for example.

    Returns
    -------
    DataFrame
        A new table with ``run`` ("default"), ``split`` ("id") and ``sample_id`` (0, 1, ... in
        row order) added where they were missing. Unknown columns are kept as they are.

    Raises
    ------
    ValueError
        A required column is missing; a value can't be read as its column's type; a rollout
        occurs twice. The message names column, row (0-based) and what to do.

    Examples
    --------
    >>> import pandas as pd
    >>> validate_rollouts(pd.DataFrame({"problem_id": [7, 7], "correct": ["true", "False"]}))
      problem_id  correct      run split  sample_id
    0          7     True  default    id          0
    1          7    False  default    id          1
    """
    if not isinstance(rollouts, pd.DataFrame):
        raise ValueError(f"{source}: expected a pandas DataFrame, got {type(rollouts).__name__}")
    _require_columns([str(name) for name in rollouts.columns], source)
    repeated = rollouts.columns[rollouts.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"{source}: column {repeated[0]!r} occurs twice; rename one of them")
    table = _typed(rollouts, source)
    if "sample_id" not in table.columns:
        group = [name for name in _IDENTITY if name in table.columns]
        table["sample_id"] = (
            table.groupby(group, observed=True, dropna=False, sort=False).cumcount().astype("int64")
        )
    codes, _ = _group_codes([table[name] for name in _IDENTITY if name in table.columns])
    _refuse_duplicates(codes, source, lambda row: _describe(table, row))
    return table


def _require_columns(names: Sequence[str], source: str) -> None:
    for required in _REQUIRED:
        if required not in names:
            raise ValueError(
                f"{source}: required column {required!r} is missing (columns: "
                f"{', '.join(names) or 'none'}); rename the column that holds it, or convert the "
                "file with a column mapping"
            )


def _typed(rollouts: pd.DataFrame, source: str) -> pd.DataFrame:
    table = rollouts.reset_index(drop=True).copy(deep=False)
    for name, default in DEFAULTS.items():
        if name not in table.columns:
            table[name] = pd.Series(default, index=table.index, dtype=_STRING)
    for name in _STRINGS:
        if name in table.columns:
            nullable = name in ("answer", "text")
            table[name] = _as_strings(table[name], name, source, nullable)
    table["correct"] = _as_booleans(table["correct"], source)
    for name in _INTEGERS:
        if name in table.columns:
            table[name] = _as_integers(table[name], name, source, nullable=name != "sample_id")
    for name in _FLOATS:
        if name in table.columns:
            table[name] = _as_floats(table[name], name, source)
    _check_ranges(table, source)
    return table


_STRING = pd.StringDtype(na_value=np.nan)


def _first(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))


def _as_strings(column: pd.Series, name: str, source: str, nullable: bool) -> pd.Series:
    missing = column.isna().to_numpy()
    if missing.any() and not nullable:
        raise ValueError(
            f"{source}: column {name!r}, row {_first(missing)}: value is missing; "
            f"every rollout needs a {name}"
        )
    if isinstance(column.dtype, pd.CategoricalDtype) and isinstance(
        column.cat.categories.dtype, pd.StringDtype
    ):
        # Kept: a few names over millions of rows cost a byte or two each, not a string.
        return column
    if isinstance(column.dtype, pd.StringDtype):
        return column
    values = column.to_numpy(object)
    cells = [_spell(value) for value in values]
    return pd.Series(cells, index=column.index, name=column.name, dtype=_STRING)


def _spell(value: Any) -> Any:
    if isinstance(value, str):
        # A lone surrogate (half of an emoji cut by a tokenizer) has no UTF-8 form; it is spelled
        # out as \udXXX so that nothing is lost and every later writer can store it.
        return escape_surrogates(value)
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    # Integers read through a float column (a missing value among them) keep their spelling.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def escape_surrogates(text: str) -> str:
    r"""Spell out lone surrogates, which no UTF-8 file can hold.

    Examples
    --------
    >>> print(escape_surrogates("half \ud83d emoji"))
    half \ud83d emoji
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _as_booleans(column: pd.Series, source: str) -> pd.Series:
    if column.dtype == bool:
        return column
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{source}: column 'correct', row {_first(missing)}: value is missing; grade the "
            "rollout or drop its row"
        )
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy()
        good = (values == 0) | (values == 1)
        result = values == 1
    else:
        words = column.map(lambda v: str(v).strip().lower())
        result = words.isin(_TRUE).to_numpy()
        good = result | words.isin(_FALSE).to_numpy()
    if not good.all():
        row = _first(~good)
        raise ValueError(
            f"{_cell(column, 'correct', row, source)} is neither true nor "
            "false; use true/false or 1/0, and put partial credit into the column 'score'"
        )
    return pd.Series(result, index=column.index, name=column.name, dtype=bool)


def _as_integers(column: pd.Series, name: str, source: str, nullable: bool) -> pd.Series:
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        if pd.api.types.is_unsigned_integer_dtype(column.dtype):
            _require_small(column > _LARGEST_INTEGER, column, name, source)
        return column.astype("int64")
    numbers = _numbers(column, name, source)
    missing = np.isnan(numbers)
    if missing.any() and not nullable:
        raise ValueError(
            f"{source}: column {name!r}, row {_first(missing)}: value is missing; number the "
            "samples of a problem 0, 1, 2, ... or drop the column"
        )
    broken = ~missing & (numbers != np.floor(numbers))
    if broken.any():
        row = _first(broken)
        raise ValueError(f"{_cell(column, name, row, source)} is not a whole number")
    # Beyond 2^53 floats stand for several whole numbers each.
    _require_small(np.abs(numbers) > 1 << 53, column, name, source)
    if missing.any():
        return pd.Series(numbers, index=column.index, name=name).astype("Int64")
    return pd.Series(numbers.astype("int64"), index=column.index, name=name)


def _cell(column: pd.Series, name: str, row: int, source: str) -> str:
    """Name a cell and its value, for a message."""
    return f"{source}: column {name!r}, row {row}: {_plain(column.iloc[row])!r}"


def _require_small(
    large: pd.Series | npt.NDArray[np.bool_], column: pd.Series, name: str, source: str
) -> None:
    large = np.asarray(large, dtype=bool)
    if large.any():
        row = _first(large)
        raise ValueError(
            f"{_cell(column, name, row, source)} is too large to be kept "
            "exactly; number these 0, 1, 2, ..."
        )


def _as_floats(column: pd.Series, name: str, source: str) -> pd.Series:
    if column.dtype in (np.float64, np.float32):
        return column
    return pd.Series(_numbers(column, name, source), index=column.index, name=name)


def _numbers(column: pd.Series, name: str, source: str) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce")
    broken = (numbers.isna() & column.notna()).to_numpy()
    if broken.any():
        row = _first(broken)
        raise ValueError(f"{_cell(column, name, row, source)} is not a number")
    return numbers.to_numpy(dtype="float64", na_value=np.nan)


def _check_ranges(table: pd.DataFrame, source: str) -> None:
    for name, bad, rule in (
        ("sample_id", lambda v: v < 0, "must not be negative"),
        ("n_tokens", lambda v: v < 0, "must not be negative"),
        ("logprob", lambda v: v > 1e-4, "is a log-probability and must not be positive"),
        ("token_entropy", lambda v: v < -1e-4, "must not be negative"),
        ("temperature", lambda v: v < 0, "must not be negative"),
    ):
        if name in table.columns:
            mask = bad(table[name]).fillna(False).to_numpy(dtype=bool)
            if mask.any():
                row = _first(mask)
                raise ValueError(f"{_cell(table[name], name, row, source)} {rule}")


def _describe(table: pd.DataFrame, row: int) -> str:
    return _describe_cells({n: table[n].iloc[row] for n in _IDENTITY if n in table.columns})


def _describe_cells(cells: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)!r}" for name, value in cells.items())


def _refuse_duplicates(codes: npt.NDArray[np.int64], source: str, describe: Any) -> None:
    if len(codes) < 2:
        return
    ordered = np.sort(codes)
    if (ordered[1:] != ordered[:-1]).all():
        return
    repeats = pd.Series(codes).duplicated().to_numpy()
    row = _first(repeats)
    raise ValueError(
        f"{source}: row {row} repeats an earlier rollout ({describe(row)}); give each rollout of "
        "a problem its own sample_id, or tell runs apart in the column 'run'"
    )


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
        table = _read_raw(file, columns)
        if "run" not in table.columns and (run is not None or len(files) > 1):
            name = run if run is not None else file.name.split(".")[0]
            table["run"] = pd.Series(name, index=table.index, dtype=_STRING)
        tables.append(validate_rollouts(table, str(file)))
    if len(tables) == 1:
        return tables[0]
    return validate_rollouts(pd.concat(tables, ignore_index=True), "the files together")


def _read_raw(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    wanted = None if columns is None else {*columns, *_REQUIRED, *_IDENTITY}
    name = path.name.lower()
    if name.endswith(".parquet"):
        with _open_parquet(path) as file:
            names = file.schema_arrow.names
            keep = names if wanted is None else [n for n in names if n in wanted]
            return _to_pandas(_read_parquet(file, keep, path))
    if name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        records = [
            record if wanted is None else {k: v for k, v in record.items() if k in wanted}
            for record in iter_jsonl(path)
        ]
        if not records:
            raise ValueError(f"{path}: the file holds no rollouts")
        return pd.DataFrame.from_records(records)
    if name.endswith((".csv", ".csv.gz", ".tsv")):
        separator = "\t" if name.endswith(".tsv") else ","
        try:
            return pd.read_csv(
                path,
                sep=separator,
                dtype=dict.fromkeys(_STRINGS, "str"),
                usecols=None if wanted is None else (lambda n: n in wanted),
                keep_default_na=False,
                na_values=[""],
                encoding_errors="backslashreplace",
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise ValueError(f"{path}: not a readable CSV file: {error}") from error
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: can't be read ({error})") from error
    raise ValueError(
        f"{path}: unknown ending; rollouts are .parquet, .jsonl, .jsonl.gz or .csv (other "
        "programs' logs: passk-lab convert FORMAT IN OUT)"
    )


def as_rollouts(rollouts: pd.DataFrame | PathLike) -> pd.DataFrame:
    """Validate a table, or read it from a file."""
    if isinstance(rollouts, pd.DataFrame):
        return validate_rollouts(rollouts)
    return read_rollouts(rollouts)


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


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        _ = str(file.schema_arrow)  # names that aren't UTF-8, of columns or within them
        return file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not a readable parquet file ({error}); it may be truncated: write or copy "
            "it again"
        ) from error


def _read_parquet(file: pq.ParquetFile, columns: list[str], path: Path) -> pa.Table:
    try:
        table = file.read(columns=columns)
        table.validate(full=True)  # text that isn't UTF-8, offsets that lead nowhere
        return table
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: parquet data is damaged ({error})") from error


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    # Dropped, not only ignored: pandas' own notes are parsed all the same, and may be damaged.
    return table.replace_schema_metadata(None).to_pandas(ignore_metadata=True)


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
            pq.write_table(arrow, temporary, compression="zstd", row_group_size=_BATCH_ROWS)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        with atomic_write(path) as temporary, _open_jsonl(temporary, name) as file:
            for record in table.to_dict(orient="records"):
                clean = {k: _plain(v) for k, v in record.items()}
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


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        return value.tolist()
    if value is pd.NA or value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return value


def _metadata_json(metadata: Mapping[str, Any] | None) -> str:
    from passk_lab import __version__

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
    with _open_parquet(Path(path)) as file:
        raw = (file.schema_arrow.metadata or {}).get(_METADATA_KEY)
    return cast(dict[str, Any], json.loads(raw)) if raw else {}


def counts(
    rollouts: pd.DataFrame | PathLike,
    by: Sequence[str] = MAIN_KEYS,
    modes: bool | None = None,
) -> pd.DataFrame:
    """Count samples, correct samples and modes for each problem.

    Parameters
    ----------
    rollouts : DataFrame or path
        A table, or a parquet file, which is read in batches and only in the columns needed: ten
        million rows take a few hundred megabytes.
    by : sequence of str
        What tells runs apart; every problem is counted within each combination of these.
    modes : bool, optional
        Also count modes (distinct values of ``answer``). Default: where the column is there.

    Returns
    -------
    DataFrame
        Sorted by ``by`` and ``problem_id``; columns ``*by, problem_id, n_samples, n_correct``
        and, with modes, ``mode_counts`` and ``correct_mode_counts``: in each cell an int64 array
        of how often each distinct (correct) answer occurred, largest first. An incorrect rollout
        without an answer belongs to no mode.

    Raises
    ------
    ValueError
        A column is missing or holds values that can't be used; a rollout occurs twice; a correct
        rollout has no answer although modes are asked for.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaab"), "correct": [True, True, False, True],
    ...                       "answer": ["x", "x", "y", "z"]})
    >>> counts(table)[["problem_id", "n_samples", "n_correct", "mode_counts"]]
      problem_id  n_samples  n_correct mode_counts
    0          a          3          2      [2, 1]
    1          b          1          1         [1]
    """
    if isinstance(rollouts, pd.DataFrame):
        source = "rollouts"
        batches: Iterable[pd.DataFrame] = [validate_rollouts(rollouts)]
        names = list(rollouts.columns)
    else:
        path = Path(rollouts)
        source = str(path)
        if not path.name.lower().endswith(".parquet"):
            return counts(read_rollouts(path), by, modes)
        with _open_parquet(path) as file:
            names = file.schema_arrow.names
        _require_columns(names, source)
        batches = _parquet_batches(path, names, by, modes)
    by = list(by)
    modes = _check_counted(names, by, modes, source)
    return _count_batches(batches, by, modes, source)


def _check_counted(
    names: Sequence[str], by: Sequence[str], modes: bool | None, source: str
) -> bool:
    """Refuse columns that aren't there; say whether modes are counted."""
    for name in by:
        if name not in names and name not in DEFAULTS:
            have = ", ".join(map(str, names))
            raise ValueError(f"{source}: no column {name!r} to group by (columns: {have})")
    if modes and "answer" not in names:
        raise ValueError(
            f"{source}: column 'answer' is missing; modes need the canonical form of each answer"
        )
    return "answer" in names if modes is None else modes


def _counted_columns(names: Sequence[str], by: Sequence[str], modes: bool | None) -> list[str]:
    wanted = {*_REQUIRED, *_IDENTITY, *by} | ({"answer"} if modes is not False else set())
    return [name for name in names if name in wanted]


def _parquet_batches(
    path: Path, names: list[str], by: Sequence[str], modes: bool | None
) -> Iterator[pd.DataFrame]:
    row = 0
    for frame in _raw_batches(path, _counted_columns(names, by, modes)):
        yield _typed(frame, f"{path} (rows from {row} on)" if row else str(path))
        row += len(frame)


def _raw_batches(
    path: PathLike, columns: Sequence[str], row_groups: list[int] | None = None
) -> Iterator[pd.DataFrame]:
    """Read columns of a parquet file batch by batch, checked for damage but not for types."""
    labels = [n for n in columns if n in ("problem_id", "run", "split", "answer")]
    try:
        with pq.ParquetFile(path, read_dictionary=labels) as file:
            for batch in file.iter_batches(
                batch_size=_BATCH_ROWS, row_groups=row_groups, columns=list(columns)
            ):
                batch.validate(full=True)
                yield _to_pandas(pa.Table.from_batches([batch]))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: parquet data is damaged ({error})") from error


class _Levels:
    """Number a column's distinct values, in the same way over all batches."""

    def __init__(self) -> None:
        self.codes: dict[Any, int] = {}
        self.chunks: list[npt.NDArray[np.int32]] = []

    def add(self, column: pd.Series) -> None:
        if isinstance(column.dtype, pd.CategoricalDtype):
            local, values = column.cat.codes.to_numpy(), column.cat.categories
        else:
            local, values = pd.factorize(column, use_na_sentinel=True)
        # The last entry stands for a missing value, which pandas codes as -1.
        # As objects first: an Arrow array gives its texts one by one, and slowly.
        texts = np.asarray(values, dtype=object).tolist()
        known = np.array(
            [self.codes.setdefault(value, len(self.codes)) for value in texts] + [-1], np.int32
        )
        self.chunks.append(known[local])

    def finish(self) -> npt.NDArray[np.int32]:
        codes = np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.int32)
        self.chunks = [codes]
        return codes

    def values(self) -> npt.NDArray[np.object_]:
        values = np.empty(len(self.codes), dtype=object)
        values[:] = list(self.codes)
        return values


def _combine(
    codes: Sequence[npt.NDArray[Any]], sizes: Sequence[int]
) -> tuple[npt.NDArray[np.int64], int]:
    """Number the combinations of several codes; the second value bounds the numbers."""
    key, space = codes[0].astype(np.int64), max(sizes[0], 1)
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        if space * max(size, 1) >= 1 << 62:
            key, present = pd.factorize(key)
            key, space = key.astype(np.int64), len(present)
        key = key * max(size, 1) + code
        space *= max(size, 1)
    return key, space


def _group_codes(columns: Sequence[pd.Series]) -> tuple[npt.NDArray[np.int64], int]:
    levels = []
    for column in columns:
        level = _Levels()
        level.add(column)
        levels.append(level)
    return _combine_levels(levels)


def _combine_levels(levels: Sequence[_Levels]) -> tuple[npt.NDArray[np.int64], int]:
    # A missing value (code -1) takes the number 0.
    return _combine(
        [level.finish() + np.int32(1) for level in levels], [len(lv.codes) + 1 for lv in levels]
    )


def _dense(
    key: npt.NDArray[np.int64], space: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each row its group's place, and for each group its first row."""
    if space <= max(4 * len(key), 1 << 16):
        first = np.full(space, -1, np.int64)
        first[key[::-1]] = np.arange(len(key) - 1, -1, -1)
        present = np.flatnonzero(first >= 0)
        place = np.empty(space, np.int64)
        place[present] = np.arange(len(present))
        return place[key], first[present]
    group, present = pd.factorize(key)
    first = np.empty(len(present), np.int64)
    first[group[::-1]] = np.arange(len(key) - 1, -1, -1)
    return group.astype(np.int64), first


def _count_batches(
    batches: Iterable[pd.DataFrame], by: list[str], modes: bool, source: str
) -> pd.DataFrame:
    groups = [*by, "problem_id"]
    levels: dict[str, _Levels] = {}
    correct_chunks: list[npt.NDArray[np.bool_]] = []
    for batch in batches:
        names = dict.fromkeys([*groups, *(n for n in _IDENTITY if n in batch.columns)])
        for name in [*names, "answer"] if modes else names:
            levels.setdefault(name, _Levels()).add(batch[name])
        correct_chunks.append(batch["correct"].to_numpy())
    correct = np.concatenate(correct_chunks) if correct_chunks else np.zeros(0, bool)
    if not len(correct):
        raise ValueError(f"{source}: the table holds no rollouts")
    answer = levels.pop("answer").finish() if modes else None
    if "sample_id" in levels:
        codes, _ = _combine_levels([levels[n] for n in _IDENTITY if n in levels])

        def describe(row: int) -> str:
            known = ((n, levels[n]) for n in _IDENTITY if n in levels)
            return _describe_cells({n: lv.values()[lv.finish()[row]] for n, lv in known})

        _refuse_duplicates(codes, source, describe)
        del codes
    key, space = _combine_levels([levels[name] for name in groups])
    group, first = _dense(key, space)
    table = pd.DataFrame(index=range(len(first)))
    for name in groups:
        values = levels[name].values()
        code = levels[name].finish()[first]
        table[name] = _key_column(pd.Series(values[code], dtype=object).where(code >= 0), name)
    table["n_samples"] = np.bincount(group, minlength=len(first)).astype(np.int64)
    table["n_correct"] = np.bincount(group[correct], minlength=len(first)).astype(np.int64)
    if answer is not None:
        lost = correct & (answer < 0)
        if lost.any():
            raise ValueError(
                f"{source}: column 'answer', row {_first(lost)}: a correct rollout has no answer, "
                "so its mode is unknown; fill in its canonical answer, or drop the column to "
                "leave out the metrics of modes"
            )
        table["mode_counts"] = _mode_counts(group, answer, answer >= 0, len(first))
        table["correct_mode_counts"] = _mode_counts(group, answer, correct, len(first))
    return table.sort_values(groups, kind="stable", ignore_index=True)


def _key_column(column: pd.Series, name: str) -> pd.Series:
    return column.astype(_STRING) if name in _STRINGS else column.infer_objects()


def _mode_counts(
    group: npt.NDArray[np.int64],
    answer: npt.NDArray[np.int32],
    keep: npt.NDArray[np.bool_],
    n_groups: int,
) -> npt.NDArray[np.object_]:
    n_answers = int(answer.max(initial=0)) + 1
    key, size = np.unique(group[keep] * n_answers + answer[keep], return_counts=True)
    return _sizes(key // n_answers, size, n_groups)


def _sizes(
    owner: npt.NDArray[np.int64], size: npt.NDArray[np.int64], n_groups: int
) -> npt.NDArray[np.object_]:
    """Sizes of each group's modes, largest first, in one cell a group."""
    order = np.lexsort((-size, owner))
    ends = np.searchsorted(owner[order], np.arange(1, n_groups))
    cells = np.empty(n_groups, dtype=object)
    cells[:] = np.split(size[order].astype(np.int64), ends)[:n_groups]
    return cells
