"""What readers share: files and their records, choices, tables, grades, messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import PathLike

Reader = TypeVar("Reader", bound=Callable[..., pd.DataFrame])

# Programs name their own columns freely; these mean something in the rollouts table.
_RESERVED = (
    *("problem_id", "sample_id", "run", "split", "seed", "correct", "text"),
    *("logprob", "n_tokens", "token_entropy", "temperature"),
)


# --- Files ---


def reads_files(source_files: Callable[[Path], list[Path]]) -> Callable[[Reader], Reader]:
    """Say which files a reader reads for a path, as its attribute ``source_files``."""

    def mark(reader: Reader) -> Reader:
        reader.source_files = source_files  # type: ignore[attr-defined]
        return reader

    return mark


def find_files(fits: Callable[[Path], Any], hint: str, path: PathLike) -> list[Path]:
    """Give the file itself, or those of a folder that fit (judged by their path within it)."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if fits(file.relative_to(path)))
    if not files:
        raise ValueError(f"{path}: {hint}")
    return files


def read_json(file: Path, fix: str) -> Any:
    """Parse a file; ValueError names it, the line and the fix."""
    return parse_json(file.read_bytes(), str(file), fix)


def parse_json(content: bytes, where: str, fix: str) -> Any:
    """Parse what was read; ValueError says where it stood, the line and the fix."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}, line {error.lineno}: not valid JSON ({error}); {fix}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error.reason}); {fix}") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of too many digits
        raise ValueError(f"{where}: JSON that can't be read ({error}); {fix}") from error


def read_records(
    file: Path, fields: Sequence[str], what: str, without: str | None = None
) -> list[dict[str, Any]]:
    """Read a JSONL file whose records need some fields; ``what`` it should be is for the message.

    The field ``without`` is left out.
    """
    records = []
    for at, record in enumerate(iter_jsonl(file), start=1):
        require_fields(record, fields, f"{file}, record {at}", what)
        records.append({name: value for name, value in record.items() if name != without})
    if not records:
        raise ValueError(f"{file}: the file holds no samples")
    return records


def require_fields(found: Collection[str], fields: Sequence[str], where: str, what: str) -> None:
    """Refuse a record or file that lacks a field."""
    for name in fields:
        if name not in found:
            raise ValueError(
                f"{where}: no field {name!r}; this isn't {what}, which has {', '.join(fields)} "
                f"(found: {', '.join(map(str, found))})"
            )


def other_samples(results: Path, samples: Path) -> ValueError:
    """Say that results belong to other samples."""
    return ValueError(
        f"{results}: is not the grading of {samples.name} as it is now (other samples, or another "
        "number of them); grade the samples again, or read the results file itself"
    )


# --- Choices and values ---


def choose(asked: str | None, known: Sequence[str], what: str, where: object) -> str:
    """Give what was asked for, or the only one there is; ValueError lists the known ones."""
    if asked is None and len(known) == 1:
        return known[0]
    if asked in known:
        return str(asked)
    problem = f"several {what}s" if asked is None else f"no {what} {asked!r}"
    raise ValueError(f"{where}: {problem}; choose {what}= one of {', '.join(map(repr, known))}")


def short(value: Any) -> str:
    """Show a value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- Tables ---


def frame_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table of JSON objects without bending their values.

    pandas would turn large integers beside a missing value into rounded floats.
    """
    return settle(pd.DataFrame(records, dtype=object))


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the object columns that hold values of a single type this type."""
    frame = frame.copy(deep=False)
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_object_dtype(column.dtype) and len(set(map(type, column))) == 1:
            with suppress(UnicodeError):  # a lone surrogate fits into no string column
                frame[name] = column.infer_objects()
    return frame


def with_rest(
    made: Mapping[str, pd.Series], rest: pd.DataFrame, prefix: str, taken: Iterable[str] = ()
) -> pd.DataFrame:
    """Put the columns of the rollouts table beside a program's own, renamed where they clash."""
    clash = {name for name in (*_RESERVED, *made, *taken) if name in rest}
    rest = rest.rename(columns={name: f"{prefix}_{name}" for name in clash})
    return pd.concat([pd.DataFrame(made), rest], axis=1)


def grade(values: pd.Series, threshold: float, source: str) -> pd.Series:
    """Call booleans, numbers, or either as text, correct from a threshold on.

    ValueError names column and row (0-based) of what is missing or no grade.
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


# --- Messages ---


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
    return json.dumps(clean, ensure_ascii=False, sort_keys=True)
