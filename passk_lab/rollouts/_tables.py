"""Tables in files as they are, unchecked: Parquet, JSONL, JSON and CSV."""

from __future__ import annotations

import io
import json
import re
import secrets
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from passk_lab.rollouts._cells import KNOWN, STRINGS, escape_surrogates, repeated_column
from passk_lab.rollouts._fast import TYPES, frame_of_csv, frame_of_lines
from passk_lab.rollouts._parquet import open_parquet, read_parquet
from passk_lab.rollouts._sources import ENDINGS, PACKED_ENDINGS, kind, open_bytes, separator

_PARQUET_MAGIC = b"PAR1"
_BLOCK = 1 << 22  # bytes of JSONL
_FIRST = 100  # lines whose types are looked at
_MARK = secrets.token_hex()  # what no file holds
_SURROGATE = re.compile(r"\\u[dD]")


def read_table(
    path: Path,
    wanted: Collection[str] | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    records: str | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Read the wanted columns of a file, and the names of all of them.

    Parameters
    ----------
    path : Path
    wanted : collection of str, optional
        Default: all.
    columns : mapping of str to str
        What the file calls columns of the rollouts table, where it differs.
    records : str, optional
        Where the records of a JSON file are, as a dotted path.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    known = {columns.get(name, name) for name in KNOWN}
    match kind(path):
        case "parquet":
            return _from_parquet(path, wanted)
        case "jsonl" if not _is_list(path):
            return _from_jsonl(path, wanted)
        case "jsonl" | "json":
            return _from_records(_json_records(path, records, known), path, wanted)
        case "csv":
            # Text, whatever it looks like.
            return _from_csv(path, wanted, [columns.get(name, name) for name in STRINGS])
    raise ValueError(
        f"{path}: unknown ending; tables end in {', '.join(ENDINGS)}, text also with "
        f"{', '.join(PACKED_ENDINGS)} (other programs' logs: passk-lab convert FORMAT IN OUT)"
    )


def frame_of(
    records: Sequence[Mapping[str, Any]], wanted: Collection[str] | None = None
) -> pd.DataFrame:
    """Make a table of the wanted fields of JSON objects without bending their values.

    pandas would turn large integers beside a missing value into rounded floats.
    """
    names = _chosen(dict.fromkeys(chain.from_iterable(records)), wanted)
    columns = {name: _column([one.get(name, np.nan) for one in records]) for name in names}
    return pd.DataFrame(columns, index=range(len(records)))


def _column(values: list[Any]) -> pd.Series:
    kind = TYPES.get(frozenset(map(type, values)))
    if kind is not None:
        # Else a lone surrogate, or an integer that takes more than 64 bits.
        with suppress(UnicodeError, OverflowError, pa.ArrowException):
            return pa.array(values, kind).to_pandas()
    return _settled(pd.Series(values, dtype=object))


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the object columns that hold values of a single type this type."""
    frame = frame.copy(deep=False)
    for name in frame.columns:
        if pd.api.types.is_object_dtype(frame[name].dtype):
            frame[name] = _settled(frame[name])
    return frame


def _settled(column: pd.Series) -> pd.Series:
    if len(set(map(type, column))) == 1:
        with suppress(UnicodeError, OverflowError):
            return column.infer_objects()
    return column


def _chosen(names: Iterable[str], wanted: Collection[str] | None) -> list[str]:
    return [name for name in names if wanted is None or name in wanted]


def _from_parquet(path: Path, wanted: Collection[str] | None) -> tuple[pd.DataFrame, list[str]]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        return read_parquet(file, _chosen(names, wanted), path).to_pandas(), names


# --------------------------------------------------------------------------------------- JSON


def numbered_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSONL file, each with the number of its line (1-based).

    Raises
    ------
    ValueError
        A line is not a JSON object, or not UTF-8; the message names it.
    """
    with open_bytes(path) as file:
        yield from _numbered(file, path)


def _numbered(
    lines: Iterable[bytes], path: Path, first: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
    # Binary lines: text mode would also split at the line separators inside JSON strings.
    number = first
    try:
        for number, line in enumerate(lines, start=first):
            if line.strip():
                yield number, _object(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno}); "
            f"{_what_else(path, number)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: not UTF-8 ({error.reason}); write the file as UTF-8"
        ) from error
    except _NoObject as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


class _NoObject(ValueError):
    """A JSON value of another kind, or one that can't be held."""


def _object(text: str) -> dict[str, Any]:
    record = _parsed(text)
    if not isinstance(record, dict):
        raise _NoObject(f"expected a JSON object, found {_short(record)}")
    return record


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise _NoObject(f"a value that can't be read ({error})") from error
    return without_surrogates(value) if "\\ud" in text.lower() else value


def _what_else(path: Path, number: int) -> str:
    with open_bytes(path) as file:
        start = file.read(2)
    if number == 1 and start.strip() in (b"{", b"["):
        return "an object over several lines? One a line, or a .json file"
    return "the file may have been cut off while it was written"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def without_surrogates(value: Any) -> Any:
    """Spell out lone surrogates in what JSON gave, see `escape_surrogates`."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {escape_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return value


def _is_list(path: Path) -> bool:
    with open_bytes(path) as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _json_records(path: Path, at: str | None, known: Set[str]) -> list[dict[str, Any]]:
    """Records of a JSON file: a list, a list under a key, or a mapping of problems."""
    try:
        with open_bytes(path) as file:
            value = _parsed(file.read().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return [record for _, record in numbered_jsonl(path)]
        raise ValueError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg} at column {error.colno}); "
            "the file may have been cut off while it was written"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason}); write the file as UTF-8") from error
    except _NoObject as error:
        raise ValueError(f"{path}: {error}") from error
    value = _go_to(value, at, path)
    if isinstance(value, dict):
        value = _of_mapping(value, path, known)
    if not isinstance(value, list):
        raise ValueError(f"{path}: holds {_short(value)}, no list of records")
    for number, record in enumerate(value, 1):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, record {number}: expected a JSON object, found {_short(record)}"
            )
    return value


def _go_to(value: Any, at: str | None, path: Path) -> Any:
    for key in at.split(".") if at else []:
        if not isinstance(value, dict) or key not in value:
            found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(
                f"{path}: no key {key!r} on the way to records={at!r} (there: {found})"
            )
        value = value[key]
    return value


def _of_mapping(value: dict[str, Any], path: Path, known: Set[str]) -> Any:
    """Find the records: under one key, or a problem each, or a column each."""
    parts = list(value.values())
    lists = {key: part for key, part in value.items() if _are_records(part)}
    if len(lists) == 1 and len(value) > 1:
        return next(iter(lists.values()))
    if parts and all(isinstance(part, dict) for part in parts):
        problems = list(dict.fromkeys(name for part in parts for name in part))
        leaves = [leaf for part in parts for leaf in part.values()]
        if known.isdisjoint(problems) and all(isinstance(leaf, list) for leaf in leaves):
            return [
                {"problem_id": problem}
                | {name: part[problem] for name, part in value.items() if problem in part}
                for problem in problems
            ]
        return [{"problem_id": key, **part} for key, part in value.items()]
    if parts and len(lists) == len(value):
        return [{"problem_id": key, **record} for key, part in lists.items() for record in part]
    if parts and all(isinstance(part, list) for part in parts):
        scalar = not any(isinstance(one, list | dict) for part in parts for one in part)
        if known.isdisjoint(value) and scalar:
            return [{"problem_id": key, "correct": part} for key, part in value.items()]
        if len(set(map(len, parts))) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    raise ValueError(
        f"{path}: is a mapping of {', '.join(list(value)[:8])}; say where its records are, for "
        f"example --records {next(iter(lists), 'results')} (records=... in Python)"
    )


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _from_records(
    records: Sequence[dict[str, Any]], path: Path, wanted: Collection[str] | None
) -> tuple[pd.DataFrame, list[str]]:
    names = dict.fromkeys(name for record in records for name in record)
    if not records:
        raise ValueError(f"{path}: the file holds no rollouts")
    return frame_of(records, wanted), list(names)


def _from_jsonl(path: Path, wanted: Collection[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """Read blocks of lines, strictly where the fast reader can't vouch for a block."""
    frames = []
    seen: dict[str, set[type]] = {}  # fields, and the types of their first values
    first = 1
    for block in _blocks(path):
        frame = frame_of_lines(block, seen, wanted)
        if frame is not None:
            first += len(frame)
        else:
            records = _objects(block, path, first)
            for name in dict.fromkeys(chain.from_iterable(records)):
                kinds = [type(one.get(name)) for one in records[:_FIRST]]
                seen[name] = {*seen.get(name, ()), *kinds} - {type(None)}
            frame = frame_of(records, wanted)
            first += block.count(b"\n")
        frames.append(frame)
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        raise ValueError(f"{path}: the file holds no rollouts")
    return _joined(frames), list(seen)


def _objects(block: bytes, path: Path, first: int) -> list[dict[str, Any]]:
    """Parse lines at once, or one by one if that isn't certain to give the same."""
    with suppress(ValueError, RecursionError):
        text = block.decode().removesuffix("\n")
        values = json.loads("[" + text.replace("\n", f',"{_MARK}",') + "]")
        records = values[::2]
        # If no value holds a mark, each line is a value.
        if values[1::2] == [_MARK] * text.count("\n") and set(map(type, records)) == {dict}:
            return without_surrogates(records) if _SURROGATE.search(text) else records
    return [record for _, record in _numbered(io.BytesIO(block), path, first)]


def _blocks(path: Path) -> Iterator[bytes]:
    size = _BLOCK >> 6  # from which the fast reader learns the fields
    with open_bytes(path) as file:
        while block := file.read(size) + file.readline():
            yield block
            size = _BLOCK


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the blocks of a file; columns of several types hold objects, as if read at once."""
    names = dict.fromkeys(name for frame in frames for name in frame)
    mixed = [
        name
        for name in names
        if len({frame[name].dtype if name in frame else None for frame in frames}) > 1
    ]
    alike = [frame.astype({name: object for name in mixed if name in frame}) for frame in frames]
    return settle(pd.concat(alike, ignore_index=True))


# ---------------------------------------------------------------------------------------- CSV


def _from_csv(
    path: Path, wanted: Collection[str] | None, texts: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    with open_bytes(path) as file:
        if file.peek(4).startswith(_PARQUET_MAGIC):  # type: ignore[attr-defined]
            raise ValueError(f"{path}: is a Parquet file; let its name end in .parquet")
        header = file.readline()
    between = separator(path)
    if between == "," and b"," not in header:
        between = next((one for one in ";\t|" if one.encode() in header), ",")
    names = list(_csv(path, between, nrows=0).columns)
    given = _csv(path, between, header=None, nrows=1, dtype="str", na_values=[""]).iloc[0].dropna()
    if given.duplicated().any():  # pandas would number them
        raise repeated_column(str(path), given[given.duplicated()].iloc[0])
    chosen = _chosen(names, wanted)
    frame = frame_of_csv(path, between, names, chosen, texts)
    if frame is None:
        frame = _csv(
            path,
            between,
            # Rows longer than the header would lose data, or shift it.
            index_col=False,
            dtype=dict.fromkeys(texts, "str"),
            usecols=None if wanted is None else chosen,
            keep_default_na=False,
            na_values=[""],
        )
    ids = texts[0]
    # Whole numbers that pandas wrote beside a missing value.
    if ids in frame and frame[ids].str.fullmatch(r"-?[0-9]+\.0").all():
        frame[ids] = frame[ids].str[:-2]
    return frame, names


def _csv(path: Path, between: str, **options: Any) -> pd.DataFrame:
    try:
        with open_bytes(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # pandas reads a text stream as it is; bytes that aren't UTF-8 are spelled out.
            text = io.TextIOWrapper(file, "utf-8-sig", errors="backslashreplace", newline="")
            return pd.read_csv(text, sep=between, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise ValueError(
            f"{path}: not a readable CSV file: {error}; every line needs the header's number of "
            "fields (quote those with a separator inside, drop comments)"
        ) from error
