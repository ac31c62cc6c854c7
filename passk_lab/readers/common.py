"""What readers share: short names for prompts, tables of JSON objects, grades."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

__all__ = ["frame_of", "grade", "reads_files", "settle", "stable_id"]

Reader = TypeVar("Reader", bound=Callable[..., pd.DataFrame])


def reads_files(source_files: Callable[[Path], list[Path]]) -> Callable[[Reader], Reader]:
    """Say which files a reader reads for a path, as its attribute ``source_files``.

    `passk_lab.readers.convert` notes them. Without it that is the file itself, or all files of a
    folder.

    Examples
    --------
    >>> @reads_files(lambda path: sorted(path.glob("*.log")))
    ... def read_logs(path):
    ...     return pd.DataFrame()
    >>> read_logs.source_files(Path("nowhere"))
    []
    """

    def mark(reader: Reader) -> Reader:
        reader.source_files = source_files  # type: ignore[attr-defined]
        return reader

    return mark


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
