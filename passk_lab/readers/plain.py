"""Your own files: JSONL, CSV, TSV or parquet, with a mapping of the columns' names.

Either one row a rollout, or one row a problem with lists in the columns that differ between its
rollouts (``completions: [...]``, ``correct: [...]``).
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from passk_lab.readers._shared import frame_of, grade, settle
from passk_lab.rollouts._cells import name_cell
from passk_lab.rollouts._parquet import open_parquet, read_parquet
from passk_lab.rollouts.files import iter_jsonl
from passk_lab.rollouts.table import PathLike, validate_rollouts

__all__ = ["read_plain"]

_TEXTS = ("problem_id", "run", "split", "answer", "text")
_KNOWN = (
    *(*_TEXTS, "correct", "sample_id", "score", "logprob", "n_tokens", "token_entropy"),
    *("temperature", "seed", "step"),
)


def read_plain(
    path: PathLike,
    *,
    columns: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Read a table of rollouts under other names.

    Parameters
    ----------
    path : path
        ``.jsonl`` (``.ndjson``), ``.csv``, ``.tsv``, each also with ``.gz``; or ``.parquet``.
    columns : mapping of str to str, optional
        Name in the rollouts table -> name in the file. All other columns are kept under their own
        names. One that holds lists must be named here (or be called as in the rollouts table) to
        be spread over the rollouts; other lists are repeated for each of them.
    threshold : float, optional
        For numbers other than 0 and 1: correct from here on. They become a missing ``score``.

    Returns
    -------
    DataFrame
        The rollouts table. Without ``sample_id``, samples are numbered in the order of the file.

    Raises
    ------
    ValueError
        A column is missing, or its new name is taken; grades need a threshold; lists don't match.

    Examples
    --------
    >>> import tempfile
    >>> row = '{"q": "2+3?", "level": 1, "completions": ["5", "6"], "right": [true, false]}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.jsonl")
    ...     _ = path.write_text(row)
    ...     names = {"problem_id": "q", "text": "completions", "correct": "right"}
    ...     read_plain(path, columns=names)[["text", "correct", "level"]].to_numpy().tolist()
    [['5', True, 1], ['6', False, 1]]
    """
    path = Path(path)
    mapping = _checked(columns, path)
    frame = _read(path, mapping)
    if frame.empty:
        raise ValueError(f"{path}: the file holds no rollouts")
    frame = _renamed(frame, mapping, str(path))
    frame = _spread(frame, mapping, str(path))
    if "correct" in frame.columns:
        frame = _graded(frame, threshold, mapping, str(path))
    return validate_rollouts(frame, str(path))


def _checked(columns: Mapping[str, str] | None, path: Path) -> dict[str, str]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping) or not all(isinstance(n, str) for n in columns.values()):
        raise ValueError(
            f"{path}: columns={columns!r} is no mapping of names such as {{'problem_id': 'task'}}"
        )
    return dict(columns)


def _read(path: Path, mapping: Mapping[str, str]) -> pd.DataFrame:
    name = path.name.lower()
    if name.endswith(".parquet"):
        with open_parquet(path) as file:
            return read_parquet(file, file.schema_arrow.names, path).to_pandas()
    if name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
        return frame_of(list(iter_jsonl(path)))
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return _read_csv(path, "\t" if ".tsv" in name else ",", mapping)
    raise ValueError(f"{path}: unknown ending; take .jsonl, .ndjson, .csv, .tsv or .parquet")


def _read_csv(path: Path, separator: str, mapping: Mapping[str, str]) -> pd.DataFrame:
    texts = [mapping.get(name, name) for name in _TEXTS]
    try:
        with warnings.catch_warnings():
            # Rows longer than the header lose data, and pandas only warns of it.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=separator,
                index_col=False,
                dtype=dict.fromkeys(texts, "str"),
                keep_default_na=False,
                na_values=[""],
                encoding_errors="backslashreplace",
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise ValueError(f"{path}: not a readable CSV file: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: can't be read ({error})") from error


def _renamed(frame: pd.DataFrame, mapping: Mapping[str, str], source: str) -> pd.DataFrame:
    have = [str(name) for name in frame.columns]
    for target, name in mapping.items():
        if name not in have:
            raise ValueError(
                f"{source}: no column {name!r} for {target!r} (columns: {', '.join(have)})"
            )
        if target in have and target not in mapping.values():
            raise ValueError(
                f"{source}: {name!r} is to become {target!r}, but the file has a column of that "
                f"name, too; give that one another name: columns={{'{target}_file': '{target}'}}"
            )
    kept = [name for name in frame.columns if name not in mapping.values()]
    made = {target: frame[name] for target, name in mapping.items()}
    return pd.concat([pd.DataFrame(made, index=frame.index), frame[kept]], axis=1)


def _spread(frame: pd.DataFrame, mapping: Mapping[str, str], source: str) -> pd.DataFrame:
    """Give each entry of the lists its own row."""
    lists = [
        name
        for name in frame.columns
        if (name in mapping or name in _KNOWN)
        and pd.api.types.is_object_dtype(frame[name].dtype)
        and frame[name].map(_is_list).any()
    ]
    if not lists:
        return frame
    called = {name: mapping.get(name, name) for name in lists}
    for name in lists:
        single = ~frame[name].map(_is_list).to_numpy()
        if single.any():
            row = int(single.argmax())
            cell = name_cell(frame[name], called[name], row, source)
            raise ValueError(f"{cell} is no list, unlike in other rows")
    if "correct" not in lists:
        raise ValueError(
            f"{source}: {called[lists[0]]!r} holds lists but the column for 'correct' doesn't; "
            "lists need one entry a rollout in both: otherwise reduce them to one value a row"
        )
    sizes = frame[lists].map(len)
    wrong = sizes.ne(sizes["correct"], axis=0)
    if wrong.any(axis=None):
        row = int(wrong.any(axis=1).to_numpy().argmax())
        name = str(wrong.iloc[row].idxmax())
        raise ValueError(
            f"{source}: row {row}: {called[name]!r} has {sizes[name].iloc[row]} entries, "
            f"{called['correct']!r} {sizes['correct'].iloc[row]}; they need one each a rollout"
        )
    empty = (sizes["correct"] == 0).to_numpy()
    if empty.any():
        raise ValueError(
            f"{source}: row {int(empty.argmax())}: {called['correct']!r} is an empty list; drop it"
        )
    return settle(frame.explode(lists, ignore_index=True))


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _graded(
    frame: pd.DataFrame, threshold: float | None, mapping: Mapping[str, str], source: str
) -> pd.DataFrame:
    values = frame["correct"].rename(mapping.get("correct", "correct"))
    if values.dtype == bool:
        numbers = values.astype("float64")
    else:
        numbers = pd.to_numeric(values, errors="coerce")
    partial = (numbers.notna() & ~numbers.isin([0, 1])).to_numpy()
    if threshold is None:
        if partial.any():
            row = int(partial.argmax())
            cell = name_cell(values, str(values.name), row, source)
            raise ValueError(f"{cell} is neither 0 nor 1; say what is correct: threshold=...")
        return frame
    frame = frame.assign(correct=grade(values, threshold, source))
    if partial.any() and "score" not in frame.columns:
        frame["score"] = numbers
    return frame
