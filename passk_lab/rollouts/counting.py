"""Counts of each problem: samples, correct samples and modes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts.files import open_parquet, read_rollouts
from passk_lab.rollouts.table import (
    DEFAULTS,
    IDENTITY,
    MAIN_KEYS,
    REQUIRED,
    STRING,
    STRINGS,
    PathLike,
    plain,
    require_columns,
    typed,
    validate_rollouts,
)

__all__ = ["as_counts", "counts"]

_BATCH_ROWS = 1 << 18


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
        with open_parquet(path) as file:
            names = file.schema_arrow.names
        require_columns(names, source)
        batches = _parquet_batches(path, names, by, modes)
    by = list(by)
    modes = _check_counted(names, by, modes, source)
    return _count_batches(batches, by, modes, source)


def as_counts(
    rollouts: pd.DataFrame | PathLike, by: Sequence[str] = MAIN_KEYS, modes: bool | None = None
) -> pd.DataFrame:
    """Count a table or file with `passk_lab.counts`; pass on (and check) what is counted already.

    Parameters
    ----------
    rollouts, by, modes
        As for `passk_lab.counts`.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        A counted table lacks a column, or was counted by other columns.
    """
    if not isinstance(rollouts, pd.DataFrame) or not {"n_samples", "n_correct"} <= set(rollouts):
        return counts(rollouts, by, modes)
    by = list(by)
    for name in [*by, "problem_id", *(["mode_counts", "correct_mode_counts"] if modes else [])]:
        if name not in rollouts.columns:
            raise ValueError(
                f"counts: column {name!r} is missing; count again with "
                f"passk_lab.counts(rollouts, by={by!r}, modes={modes})"
            )
    if rollouts.duplicated([*by, "problem_id"]).any():
        raise ValueError(f"counts: a problem occurs twice within {by}; count again by these")
    return rollouts


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
    wanted = {*REQUIRED, *IDENTITY, *by} | ({"answer"} if modes is not False else set())
    return [name for name in names if name in wanted]


def _parquet_batches(
    path: Path, names: list[str], by: Sequence[str], modes: bool | None
) -> Iterator[pd.DataFrame]:
    row = 0
    for frame in _raw_batches(path, _counted_columns(names, by, modes)):
        yield typed(frame, f"{path} (rows from {row} on)" if row else str(path))
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
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: parquet data is damaged ({error})") from error


def _first(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))


def _describe_cells(cells: Any) -> str:
    return ", ".join(f"{name}={plain(value)!r}" for name, value in cells.items())


def _refuse_duplicates(codes: npt.NDArray[np.int64], source: str, describe: Any) -> None:
    repeats = pd.Series(codes).duplicated().to_numpy()
    if repeats.any():
        row = _first(repeats)
        raise ValueError(
            f"{source}: row {row} repeats an earlier rollout ({describe(row)}); give each rollout "
            "of a problem its own sample_id, or tell runs apart in the column 'run'"
        )


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
        names = dict.fromkeys([*groups, *(n for n in IDENTITY if n in batch.columns)])
        for name in [*names, "answer"] if modes else names:
            levels.setdefault(name, _Levels()).add(batch[name])
        correct_chunks.append(batch["correct"].to_numpy())
    correct = np.concatenate(correct_chunks) if correct_chunks else np.zeros(0, bool)
    if not len(correct):
        raise ValueError(f"{source}: the table holds no rollouts")
    answer = levels.pop("answer").finish() if modes else None
    if "sample_id" in levels:
        codes, _ = _combine_levels([levels[n] for n in IDENTITY if n in levels])

        def describe(row: int) -> str:
            known = ((n, levels[n]) for n in IDENTITY if n in levels)
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
    return column.astype(STRING) if name in STRINGS else column.infer_objects()


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
