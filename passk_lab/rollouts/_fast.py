"""Text read by Arrow: quickly, and only where the result is certain to be the strict reader's.

Both functions return None for what they can't vouch for, and `_tables` reads that strictly. They
have no rules of their own about values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from passk_lab.rollouts._sources import open_bytes

BLOCK = 1 << 20  # bytes of CSV
TYPES = {
    frozenset({str}): pa.large_string(),  # as in pandas
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({bool}): pa.bool_(),
    frozenset[type](): pa.null(),
}
_EXACT = 1 << 53
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
# All that pandas may take for a number or a boolean, and more.
_NO_TEXT = r"(?i)^\s*([-+]?([0-9.][-+0-9.e]*|nan|inf|infinity)|true|false)?\s*$"


# --------------------------------------------------------------------------------------- JSON


def frame_of_lines(
    block: bytes, seen: Mapping[str, AbstractSet[type]], wanted: Collection[str] | None
) -> pd.DataFrame | None:
    """Read wanted fields of whole lines of JSON, if each is an object of fields seen before.

    Parameters
    ----------
    block : bytes
    seen : mapping of str to set of types
        The fields of earlier lines, with types that their values had; never ``NoneType``.
    wanted : collection of str, optional
        Default: all.
    """
    types = {name: TYPES.get(frozenset(kinds)) for name, kinds in seen.items()}
    # Arrow takes several objects of a line, or one of several lines. Each line break lies between
    # two objects, so if there are as many objects as lines, each line is one.
    n_lines = _lines(block)
    if n_lines is None or not types or None in types.values():
        return None
    try:
        table = pa.json.read_json(
            pa.BufferReader(block),
            pa.json.ReadOptions(use_threads=False, block_size=len(block)),
            pa.json.ParseOptions(pa.schema(types), unexpected_field_behavior="error"),
        )
        table.validate(full=True)  # that text is UTF-8
    except pa.ArrowException:
        return None
    names = [name for name in types if wanted is None or name in wanted]
    if len(table) != n_lines or not all(_certain(table, name, block) for name in types):
        return None
    return pd.DataFrame({name: _series(table[name]) for name in names}, index=range(n_lines))


def _lines(block: bytes) -> int | None:
    """Count lines that may be an object each."""
    data = np.frombuffer(block, np.uint8)
    breaks = np.flatnonzero(data[:-1] == ord("\n"))
    between = (data[breaks - 1] == ord("}")) & (data[breaks + 1] == ord("{"))
    whole = block.startswith(b"{") and block.endswith((b"}", b"}\n"))
    return len(breaks) + 1 if whole and between.all() else None


def _certain(table: pa.Table, name: str, block: bytes) -> bool:
    """Whether no number was an integer among floats, and nothing missing was left out."""
    column = table[name]
    found = len(table) - column.null_count
    key = re.escape(json.dumps(name, ensure_ascii=False).encode()) + rb"\s*:\s*"
    # In a text, quotation marks are escaped, so this is found in keys alone.
    return '"' not in name and (
        (found == len(table) or len(re.findall(key, block)) == len(table))
        and (column.type != pa.float64() or len(re.findall(key + rb"-?\d+[.eE]", block)) == found)
    )


def _series(column: pa.ChunkedArray) -> pd.Series:
    return pd.Series(column.to_pylist(), dtype=object) if column.null_count else column.to_pandas()


# ---------------------------------------------------------------------------------------- CSV


class _Ended:
    """A file with one more line break at its end."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._end = file, b"\n"

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if not data:
            data, self._end = self._end, b""
        return data


def frame_of_csv(
    path: Path, between: str, names: Sequence[str], wanted: Collection[str], texts: Collection[str]
) -> pd.DataFrame | None:
    """Read columns of a CSV file, if their values are spelled as usual.

    Parameters
    ----------
    path : Path
    between : str
        What separates the columns.
    names : sequence of str
        All columns.
    wanted : collection of str
        Those to read.
    texts : collection of str
        Those that are text, whatever it looks like.
    """
    if len(names) < 2:  # where a line of blanks is a value to Arrow alone
        return None
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_string()),
        null_values=[""],
        strings_can_be_null=True,
        include_columns=names,
    )
    tables = []
    end = None
    with open_bytes(path) as file:
        try:
            reader = pa.csv.open_csv(
                _Ended(file),
                pa.csv.ReadOptions(use_threads=False, block_size=BLOCK),
                pa.csv.ParseOptions(delimiter=between, newlines_in_values=True),
                options,
            )
            for batch in filter(len, reader):
                columns = {
                    name: column if name in texts else _as_pandas_would(column)
                    for name, column in zip(names, batch.columns, strict=True)
                    if name in wanted
                }
                tables.append(pa.table(columns))
                end = batch.columns[-1][len(batch) - 1].as_py()
            table = pa.concat_tables(tables)
        except pa.ArrowException:
            return None
    # Quotation marks that are never closed hold the last line break, too.
    return None if (end or "").endswith("\n") else table.to_pandas()


def _as_pandas_would(column: pa.Array) -> pa.Array:
    """Give values the type that pandas finds; ArrowInvalid where that isn't certain."""
    if column.null_count:
        raise pa.ArrowInvalid("missing values")
    if pc.all(pc.is_in(column, pa.array([*_TRUE, *_FALSE], column.type))).as_py():
        return pc.is_in(column, pa.array(_TRUE, column.type))
    if not pc.any(pc.match_substring_regex(column, _NO_TEXT)).as_py():
        return column
    if pc.any(pc.match_substring(column, ".")).as_py():
        numbers = column.cast(pa.float64())
        certain = pc.all(pc.less(pc.abs(numbers), _EXACT)).as_py()
    else:
        numbers = column.cast(pa.int64())
        certain = numbers.cast(column.type).equals(column)
    if not certain:
        raise pa.ArrowInvalid("numbers in a rare spelling")
    return numbers
