"""What readers share: files and their records, choices, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pandas as pd

from passk_lab._text import check_choice, plural
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._answers import found_nothing
from passk_lab.rollouts._cells import KNOWN, grade
from passk_lab.rollouts._tables import without_surrogates
from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import PathLike, validate_rollouts

LEFT_OUT = "left_out"
Unscored = Literal["refuse", "drop", "incorrect"]
Reader = TypeVar("Reader", bound=Callable[..., pd.DataFrame])


# --- Files ---


def reads_files(source_files: Callable[..., list[Path]]) -> Callable[[Reader], Reader]:
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
        value = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}, line {error.lineno}: not valid JSON ({error}); {fix}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error.reason}); {fix}") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of too many digits
        raise ValueError(f"{where}: JSON that can't be read ({error}); {fix}") from error
    return without_surrogates(value) if b"\\ud" in content.lower() else value


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


# --- Problems ---


def named_by(frame: pd.DataFrame, fields: str | Sequence[str]) -> pd.Series:
    """Name problems by a field, or by `stable_id` of several together."""
    if isinstance(fields, str):
        return frame[fields]
    names = zip(*(frame[field].tolist() for field in fields), strict=True)
    return pd.Series([stable_id(_spell(list(name))) for name in names], index=frame.index)


def named(name: Any, where: str) -> str:
    """Spell a problem's name; ValueError where it has none."""
    if pd.api.types.is_scalar(name) and pd.isna(name):
        raise ValueError(f"{where}: the problem has no name; give it one, or take this out")
    return str(name)


def refuse_two_truths(frame: pd.DataFrame, field: str, truth: str, source: str) -> None:
    """Refuse that the field which names problems gives two of them one name."""
    if truth not in frame.columns:
        return
    truths = frame[truth].map(_spell).groupby(frame[field].map(_spell).to_numpy()).nunique()
    if (truths > 1).any():
        raise ValueError(
            f"{source}: one {field!r} with {truths.max()} values of {truth!r} "
            f"({str(truths.idxmax())[:80]}): name what tells them apart, for example "
            f"problem_id=[{field!r}, {truth!r}]"
        )


def _spell(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


# --- Grades, and what has none ---


def graded(
    table: pd.DataFrame, name: str, threshold: float, unscored: Unscored, source: str
) -> pd.DataFrame:
    """Grade the column ``correct``, which the file calls ``name``; answers that are none go."""
    table = without_unscored(table, unscored, f"{source}: column {name!r}")
    correct = grade(table["correct"].rename(name), threshold, source)
    if "answer" in table:
        table["answer"] = found_answers(table["answer"], correct)
    return table.assign(correct=correct)


def without_unscored(table: pd.DataFrame, unscored: Unscored, what: str) -> pd.DataFrame:
    """Refuse rows without a grade, leave them out or take them for wrong.

    What is left out is noted, for `joined`.
    """
    check_choice(unscored, get_args(Unscored), "unscored")
    missing = table["correct"].isna()
    if not missing.any() or unscored == "incorrect":
        return table.assign(correct=table["correct"].where(~missing, -float("inf")))
    problems = sorted(set(table["problem_id"][missing].astype(str)))
    if unscored == "refuse":
        some = f"{', '.join(problems[:3])}{', ...' if len(problems) > 3 else ''}"
        raise ValueError(
            f"{what} is missing in {missing.sum()} of {len(table)} rollouts (the first is row "
            f"{int(missing.to_numpy().argmax())}; problems: {some}). Leave them out with "
            "unscored='drop', count them as wrong with unscored='incorrect', or choose "
            "another grade"
        )
    kept = table[~missing].reset_index(drop=True)
    kept.attrs[LEFT_OUT] = table["problem_id"][missing].astype(str).tolist()
    return kept


def joined(parts: Sequence[pd.DataFrame], source: str) -> pd.DataFrame:
    """Join the tables of files; what was left out of them is noted with the whole."""
    filled = [part for part in parts if len(part)]
    if not filled:
        raise ValueError(f"{source}: no rollout has a grade")
    gone = [problem for part in parts for problem in part.attrs.get(LEFT_OUT, ())]
    table = validate_rollouts(pd.concat(filled, ignore_index=True), source)
    table.attrs.pop(LEFT_OUT, None)
    if gone:
        table.attrs[LEFT_OUT] = left_out(len(gone), len(set(gone) - set(table["problem_id"])))
    return table


def left_out(rollouts: int, problems: int) -> str:
    """Say how many rollouts without a grade were left out, and how many whole problems."""
    whole = f", among them all of {plural(problems, 'problem')}" if problems else ""
    return f"{plural(rollouts, 'rollout')} without a grade left out{whole}"


def found_answers(answers: pd.Series, correct: pd.Series) -> pd.Series:
    """Leave out what programs write where they found no answer: nothing, "[INVALID]" and the like.

    The words in brackets are `passk_lab.rollouts._answers.PLACEHOLDERS`. A correct rollout's
    answer is one, whatever it says.
    """
    nothing = answers.map(lambda answer: found_nothing(answer) or answer == "").astype(bool)
    return answers.where(correct | ~nothing)


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


def with_rest(made: Mapping[str, pd.Series], rest: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Put the columns of the rollouts table beside a program's own, renamed where they clash.

    Programs name columns freely: their ``answer`` may be the expected one, their ``seed`` that of
    sampling.
    """
    clash = {name for name in (*KNOWN, *made) if name in rest}
    rest = rest.rename(columns={name: f"{prefix}_{name}" for name in clash})
    return pd.concat([pd.DataFrame(made), rest], axis=1)
