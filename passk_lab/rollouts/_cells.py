"""Columns of the rollouts table: their names, types and ranges, and what a bad cell is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

DEFAULTS = {"run": "default", "split": "id"}

REQUIRED = ("problem_id", "correct")
STRINGS = ("problem_id", "run", "split", "cluster", "answer", "text")
_LARGEST_INTEGER = np.iinfo(np.int64).max
INTEGERS = ("sample_id", "n_tokens", "seed", "step")
FLOATS = ("score", "logprob", "token_entropy", "temperature")
KNOWN = (*STRINGS, "correct", *INTEGERS, *FLOATS, "n_samples", "n_correct", "count")
RANGES = {
    "sample_id": (0, np.inf, "must not be negative"),
    "n_tokens": (0, np.inf, "must not be negative"),
    "logprob": (-np.inf, 1e-4, "is a log-probability and must not be positive"),
    "token_entropy": (-1e-4, np.inf, "must not be negative"),
    "temperature": (0, np.inf, "must not be negative"),
}
IDENTITY = ("run", "split", "problem_id", "sample_id", "seed", "step")
# Words of verifiers that mean one thing only.
_TRUE = {
    *("true", "1", "1.0", "yes", "y", "t", "pass", "passed", "ok", "correct", "right", "c"),
    *("success", "successful", "succeeded", "resolved", "solved", "accepted"),
}
_FALSE = {
    *("false", "0", "0.0", "no", "n", "f", "fail", "failed", "incorrect", "wrong", "i"),
    *("failure", "unresolved", "unsolved", "rejected"),
}
STRING = pd.StringDtype(na_value=np.nan)


def require_columns(names: Sequence[str], source: str) -> None:
    """Refuse a table without what every rollout needs."""
    for required in REQUIRED:
        if required not in names:
            raise ValueError(
                f"{source}: required column {required!r} is missing (columns: "
                f"{', '.join(names) or 'none'}); rename the column that holds it, or convert the "
                "file with a column mapping"
            )


def refuse_repeated_columns(table: pd.DataFrame, source: str) -> None:
    """Refuse a table with two columns of one name."""
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise repeated_column(source, repeated[0])


def repeated_column(source: str, name: str) -> ValueError:
    """Say that two columns have one name."""
    return ValueError(f"{source}: column {name!r} occurs twice; rename one of them")


def typed(rollouts: pd.DataFrame, source: str) -> pd.DataFrame:
    """Bring the columns to their types, without a look at whether a rollout occurs twice."""
    if not isinstance(rollouts, pd.DataFrame):
        raise ValueError(f"{source}: expected a pandas DataFrame, got {type(rollouts).__name__}")
    require_columns([str(name) for name in rollouts.columns], source)
    refuse_repeated_columns(rollouts, source)
    table = rollouts.reset_index(drop=True).copy(deep=False)
    for name, default in DEFAULTS.items():
        if name not in table.columns:
            table[name] = pd.Series(default, index=table.index, dtype=STRING)
    for name in STRINGS:
        if name in table.columns:
            nullable = name in ("answer", "text")
            table[name] = _as_strings(table[name], name, source, nullable)
    table["correct"] = as_booleans(table["correct"], source)
    for name in INTEGERS:
        if name in table.columns:
            table[name] = _as_integers(table[name], name, source, nullable=name != "sample_id")
    for name in FLOATS:
        if name in table.columns:
            table[name] = _as_floats(table[name], name, source)
    _check_ranges(table, source)
    return table


def first_row(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))


def _as_strings(column: pd.Series, name: str, source: str, nullable: bool) -> pd.Series:
    missing = column.isna().to_numpy()
    if missing.any() and not nullable:
        raise ValueError(
            f"{source}: column {name!r}, row {first_row(missing)}: value is missing; "
            f"every rollout needs a {name}"
        )
    if isinstance(column.dtype, pd.CategoricalDtype) and isinstance(
        column.cat.categories.dtype, pd.StringDtype
    ):
        # Kept: a few names over millions of rows cost a byte or two each, not a string.
        return column
    if isinstance(column.dtype, pd.StringDtype):
        return column
    if not nullable:
        refuse_nested(column, name, source)
    cells = [spell(value) for value in column.to_numpy(object)]
    return pd.Series(cells, index=column.index, name=column.name, dtype=STRING)


def refuse_nested(column: pd.Series, name: str, source: str) -> None:
    """Refuse objects and lists for names."""
    if not pd.api.types.is_object_dtype(column.dtype):
        return
    nested = column.map(lambda value: isinstance(value, dict | list | np.ndarray)).to_numpy(bool)
    if nested.any():
        raise ValueError(
            f"{name_cell(column, name, first_row(nested), source)} is neither text nor a number; "
            f"take a field of it: --columns {name}={name}.FIELD"
        )


def spell(value: Any) -> Any:
    """Spell a value as text; what is missing is NaN."""
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


def as_booleans(column: pd.Series, source: str) -> pd.Series:
    """Read verdicts: booleans, 0 and 1, or words that mean one thing only."""
    if column.dtype == bool:
        return column
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{source}: column {column.name!r}, row {first_row(missing)}: value is missing; grade "
            "the rollout or drop its row"
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
        row = first_row(~good)
        raise ValueError(
            f"{name_cell(column, str(column.name), row, source)} is neither true nor false; say "
            "what is correct: --threshold T for numbers, --right WORD for words (threshold=..., "
            "right=... in Python)"
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
            f"{source}: column {name!r}, row {first_row(missing)}: value is missing; number the "
            "samples of a problem 0, 1, 2, ... or drop the column"
        )
    broken = ~missing & (numbers != np.floor(numbers))
    if broken.any():
        row = first_row(broken)
        raise ValueError(f"{name_cell(column, name, row, source)} is not a whole number")
    # Beyond 2^53 floats stand for several whole numbers each.
    _require_small(np.abs(numbers) > 1 << 53, column, name, source)
    if missing.any():
        return pd.Series(numbers, index=column.index, name=name).astype("Int64")
    return pd.Series(numbers.astype("int64"), index=column.index, name=name)


def name_cell(column: pd.Series, name: str, row: int, source: str) -> str:
    """Name a cell and its value, for a message."""
    return f"{source}: column {name!r}, row {row}: {plain(column.iloc[row])!r}"


def _require_small(
    large: pd.Series | npt.NDArray[np.bool_], column: pd.Series, name: str, source: str
) -> None:
    large = np.asarray(large, dtype=bool)
    if large.any():
        row = first_row(large)
        raise ValueError(
            f"{name_cell(column, name, row, source)} is too large to be kept "
            "exactly; number these 0, 1, 2, ..."
        )


def _as_floats(column: pd.Series, name: str, source: str) -> pd.Series:
    if column.dtype in (np.float64, np.float32):
        return column
    return pd.Series(_numbers(column, name, source), index=column.index, name=name)


def _numbers(column: pd.Series, name: str, source: str) -> npt.NDArray[np.float64]:
    numbers = as_numbers(column)
    broken = (numbers.isna() & column.notna()).to_numpy()
    if broken.any():
        row = first_row(broken)
        raise ValueError(f"{name_cell(column, name, row, source)} is not a number")
    return numbers.to_numpy(dtype="float64", na_value=np.nan)


def as_numbers(column: pd.Series) -> pd.Series:
    """Read numbers; what is none, times among them, is missing."""
    if column.dtype.kind in "mM":
        return pd.Series(np.nan, index=column.index, name=column.name)
    if pd.api.types.is_object_dtype(column.dtype):
        column = column.where(column.map(pd.api.types.is_scalar).astype(bool))
    return pd.to_numeric(column, errors="coerce")


def _check_ranges(table: pd.DataFrame, source: str) -> None:
    for name, (low, high, rule) in RANGES.items():
        if name in table.columns:
            outside = (table[name] < low) | (table[name] > high)
            if outside.any():
                row = first_row(outside.fillna(False).to_numpy(dtype=bool))
                raise ValueError(f"{name_cell(table[name], name, row, source)} {rule}")


def plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        return value.tolist()
    if value is pd.NA or value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return value


def two_clusters(source: str, found: Sequence[Any]) -> ValueError:
    """Say which problem belongs to which two clusters."""
    problem, first, last = found
    return ValueError(
        f"{source}: column 'cluster': problem {problem!r} is in the clusters {first!r} and "
        f"{last!r}; a problem belongs to one family: correct one of them, or give two problems of "
        "one name names of their own"
    )


def repeated_rollout(source: str, row: int, cells: Mapping[Any, Any]) -> ValueError:
    """Say which rollout occurs twice."""
    named = ", ".join(f"{name}={plain(value)!r}" for name, value in cells.items())
    return ValueError(
        f"{source}: row {row} repeats an earlier rollout ({named}); give each rollout of "
        "a problem its own sample_id, or tell runs apart in the column 'run'"
    )


def grade(values: pd.Series, threshold: float, source: str) -> pd.Series:
    """Call booleans, numbers, or either as text, correct from a threshold on.

    ValueError names column and row (0-based) of what is missing or no grade.
    """
    words = {"true": 1.0, "false": 0.0}
    numbers = as_numbers(
        values.map(lambda v: words.get(v.strip().lower(), v) if isinstance(v, str) else v)
    ).astype("float64")
    refuse_ungraded(numbers.isna(), values, source, "a number or true/false")
    return reached(numbers, threshold)


def reached(numbers: pd.Series, threshold: float) -> pd.Series:
    """Say which numbers are at least a threshold; ValueError if that is no number."""
    if not isinstance(threshold, Real) or not np.isfinite(float(threshold)):
        raise ValueError(f"threshold={threshold!r} is no number; give one such as 0.5 or 1")
    return numbers >= threshold


def refuse_ungraded(bad: pd.Series, values: pd.Series, source: str, needed: str) -> None:
    """Refuse rows without a grade, naming the first."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        value = values.iloc[row]
        missing = pd.api.types.is_scalar(value) and pd.isna(value)  # not a list of values
        found = "value is missing" if missing else f"{value!r} is no grade"
        raise ValueError(
            f"{source}: column {values.name!r}, row {row}: {found}; every rollout needs {needed}: "
            "grade it, drop its row or choose another column"
        )


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """Text of a completion: itself, its only message's content, or all messages as JSON."""
    if isinstance(completion, str):
        return completion
    if len(completion) == 1 and isinstance(completion[0].get("content"), str):
        return str(completion[0]["content"])
    return spell_messages(completion)


def spell_messages(messages: list[dict[str, Any]]) -> str:
    """Write messages as JSON; parquet fills keys that other messages have with None."""
    clean = [{k: v for k, v in message.items() if v is not None} for message in messages]
    return json.dumps(clean, ensure_ascii=False, sort_keys=True, default=str)
