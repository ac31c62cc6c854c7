"""Reading parquet files, damaged ones too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts._cells import FLOATS, INTEGERS, STRINGS
from passk_lab.rollouts._sources import check_start

BATCH_ROWS = 1 << 18


def is_parquet(path: Path) -> bool:
    """Tell by the ending whether this is a parquet file."""
    return path.name.lower().endswith(".parquet")


def parquet_batches(path: Path, columns: Iterable[str]) -> Iterator[pd.DataFrame]:
    """Read columns of a parquet file batch by batch, as far as it has them, unchecked."""
    with open_parquet(path) as file:
        keep = [name for name in file.schema_arrow.names if name in set(columns)]
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=keep):
                batch.validate(full=True)
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                yield _usual_types(table, path).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: parquet data is damaged ({error})") from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file; a damaged one is refused."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        file = pq.ParquetFile(path)
        _ = str(file.schema_arrow)  # names that aren't UTF-8, of columns or within them
        return file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if path.is_file():
            with open(path, "rb") as raw:
                check_start(raw.read(64), path)
        raise ValueError(
            f"{path}: not a readable parquet file ({error}); it may be truncated: write or copy "
            "it again"
        ) from error


def read_parquet(file: pq.ParquetFile, columns: list[str], path: Path) -> pa.Table:
    """Read columns of an opened file, without the notes of the program that wrote it."""
    try:
        table = file.read(columns=columns)
        table.validate(full=True)  # text that isn't UTF-8, offsets that lead nowhere
        # pandas' own notes may be damaged, too, and aren't needed.
        return _usual_types(table.replace_schema_metadata(None), path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: parquet data is damaged ({error})") from error


def _usual_types(table: pa.Table, path: Path) -> pa.Table:
    """Give text and numbers of rarer types the types that pandas knows."""
    for at, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_string_view(kind) or (field.name in STRINGS and "binary" in str(kind)):
            to = pa.string()
        elif pa.types.is_decimal(kind) and field.name in (*FLOATS, *INTEGERS, "correct"):
            to = pa.float64()
        else:
            continue
        try:
            table = table.set_column(at, field.name, table.column(at).cast(to))
        except pa.ArrowException as error:
            raise ValueError(f"{path}: column {field.name!r}: {error}; write it as text") from error
    return table
