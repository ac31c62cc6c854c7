"""Count rollouts that don't fit into memory, on Dask: the same numbers as in memory.

    from distributed import Client
    from passk_lab.rollouts.distributed import summarise

    table = summarise("rollouts/*.parquet", client="tcp://scheduler:8786")
    passk_lab.pass_at_k_curve(table)          # so do all metrics of counts and of answers,
    passk_lab.compare_runs(table, "base")     # comparisons and extrapolation

Everything that these metrics need of a table is in its counts (`passk_lab.counts`): samples,
correct samples and the sizes of the modes of each problem. `summarise` makes exactly these, without
any approximation: rows are counted in batches, the counts of a problem from everywhere are brought
together (a hash of ``problem_id`` says where) and added up. Beside the result, memory is needed for
a batch and for one share of the counts, never for the rows.

It needs the extra ``distributed``.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.rollouts.counting import (
    _BATCH_ROWS,
    _check_counted,
    _combine_levels,
    _counted_columns,
    _dense,
    _describe_cells,
    _key_column,
    _Levels,
    _raw_batches,
    _sizes,
)
from passk_lab.rollouts.files import open_parquet
from passk_lab.rollouts.table import IDENTITY, MAIN_KEYS, PathLike, require_columns, typed

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["summarise"]

Ints = npt.NDArray[np.int64]

_TASK_ROWS = 4 * _BATCH_ROWS
_SHARE_ROWS = 1 << 23  # rows whose counts are brought together in one task


def summarise(
    path_or_glob: PathLike,
    client: Client | str | None = None,
    by: Sequence[str] = MAIN_KEYS,
    modes: bool | None = None,
) -> pd.DataFrame:
    """Count samples, correct samples and modes of each problem over partitioned parquet files.

    Parameters
    ----------
    path_or_glob : path
        A parquet file, a folder of them at any depth, or a pattern such as
        "rollouts/*/part-*.parquet". They are parts of one rollouts table, and every worker must
        see them under this path. Names of folders like ``run=base`` are columns.
    client : Client, str or None
        A client of the cluster to work on, or its scheduler's address. None: a local cluster for
        this call, one process a core.
    by : sequence of str
        What tells runs apart.
    modes : bool, optional
        Also count modes (distinct values of ``answer``). Default: where the column is there.

    Returns
    -------
    DataFrame
        What `passk_lab.counts` gives for the whole table in memory; every function that takes
        rollouts takes it as well, except for metrics of scores.

    Raises
    ------
    ValueError
        There is no such file; files have different columns; a file isn't readable; and all that
        `passk_lab.counts` refuses, rollouts that occur twice among them.

    Examples
    --------
    >>> import tempfile
    >>> from distributed import Client
    >>> from passk_lab import write_rollouts
    >>> with tempfile.TemporaryDirectory() as folder, Client(processes=False,
    ...         dashboard_address=":0") as client:
    ...     for part, correct in enumerate([[True, False], [False, False]]):
    ...         table = {"problem_id": ["a", "b"], "sample_id": part, "correct": correct}
    ...         write_rollouts(pd.DataFrame(table), f"{folder}/{part}.parquet")
    ...     summarise(folder, client)[["problem_id", "n_samples", "n_correct"]]
      problem_id  n_samples  n_correct
    0          a          2          1
    1          b          2          0
    """
    by = list(by)
    plan = _plan(path_or_glob, by, modes)
    with _working(client) as cluster:
        parts = [
            cluster.submit(_count_chunk, chunk, plan.by, plan.modes, plan.n_shares, pure=False)
            for chunk in plan.chunks
        ]
        shares = []
        for share in range(plan.n_shares):
            # Taken out where they are, so that a share alone travels.
            mine = [cluster.submit(getitem, part, share, pure=False) for part in parts]
            shares.append(
                cluster.submit(_finish, mine, plan.by, plan.modes, plan.source, pure=False)
            )
            del mine
        del parts  # so that workers forget what they have handed on
        table = pd.concat(cluster.gather(shares), ignore_index=True)
    keys = [*by, "problem_id"]
    for name in keys:
        table[name] = _key_column(table[name].astype(object), name)
    return table.sort_values(keys, kind="stable", ignore_index=True)


# --------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class _Chunk:
    """Row groups of one file, and the columns that the names of its folders give."""

    path: str
    row_groups: tuple[int, ...]
    columns: tuple[str, ...]
    constants: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Plan:
    chunks: list[_Chunk]
    by: list[str]
    modes: bool
    n_shares: int
    source: str


def _plan(path_or_glob: PathLike, by: list[str], modes: bool | None) -> _Plan:
    source = os.fspath(path_or_glob)
    root = Path(source)
    if root.exists():
        files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    else:
        files = sorted(map(Path, glob.glob(source, recursive=True)))
        while glob.has_magic(str(root)):
            root = root.parent
    if not files:
        raise ValueError(f"{source}: no parquet file; give a file, a folder or a pattern")
    chunks: list[_Chunk] = []
    first: list[str] = []
    n_rows = 0
    for file in files:
        constants = tuple(
            (name, unquote(value))
            for part in file.parent.parts[len(root.parts) :]
            for name, equals, value in [part.partition("=")]
            if equals and name.isidentifier()
        )
        with open_parquet(file) as opened:
            inside = opened.schema_arrow.names
            names = [*inside, *(name for name, _ in constants if name not in inside)]
            require_columns(names, str(file))
            groups = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
        if not first:
            first = names
            modes = _check_counted(names, by, modes, str(file))
        wanted = _counted_columns(names, by, modes)
        if sorted(wanted) != sorted(_counted_columns(first, by, modes)):
            raise ValueError(
                f"{file}: has other columns than {files[0]} ({', '.join(sorted(wanted))} against "
                f"{', '.join(sorted(_counted_columns(first, by, modes)))}); all files must be "
                "parts of one table"
            )
        n_rows += sum(groups)
        columns = tuple(name for name in wanted if name in inside)
        taken: list[int] = []
        for place in np.flatnonzero(groups).tolist():
            taken.append(place)
            if sum(groups[i] for i in taken) >= _TASK_ROWS or not any(groups[place + 1 :]):
                chunks.append(_Chunk(str(file.resolve()), tuple(taken), columns, constants))
                taken = []
    if not n_rows:
        raise ValueError(f"{source}: the table holds no rollouts")
    assert modes is not None
    return _Plan(chunks, by, modes, 1 + n_rows // _SHARE_ROWS, source)


@contextmanager
def _working(client: Client | str | None) -> Iterator[Client]:
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ValueError(
            f"counting on a cluster needs {error.name}; install the extra: "
            "pip install 'passk-lab[distributed]'"
        ) from error
    if isinstance(client, Client):
        yield client
    elif isinstance(client, str):
        with Client(client, set_as_default=False) as connected:
            yield connected
    elif client is None:
        with (
            LocalCluster(threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster, set_as_default=False) as local,
        ):
            yield local
    else:
        raise ValueError(f"client is a {type(client).__name__}, not a Client or an address")


# ------------------------------------------------------------------------- counts of a part


@dataclass(frozen=True)
class _Part:
    """Counts of some rows.

    Attributes
    ----------
    keys : DataFrame
        ``by`` and problem of each group, with ``n_samples`` and ``n_correct``.
    modes : DataFrame or None
        ``group`` (a row of ``keys``), ``answer``, ``n``, ``right``: its rollouts, correct ones.
    owners : DataFrame or None
        All columns but ``sample_id`` that name a rollout.
    runs : DataFrame or None
        ``owner`` (a row of ``owners``), ``start``, ``stop``: these sample ids occur.
    """

    keys: pd.DataFrame
    modes: pd.DataFrame | None
    owners: pd.DataFrame | None
    runs: pd.DataFrame | None


def _count_chunk(chunk: _Chunk, by: list[str], modes: bool, n_shares: int) -> list[_Part]:
    """Count the rows of a chunk, one part a share of the problems."""
    where = f"{chunk.path} (row groups {chunk.row_groups[0]} to {chunk.row_groups[-1]})"
    parts = []
    for frame in _raw_batches(chunk.path, chunk.columns, list(chunk.row_groups)):
        for name, value in chunk.constants:
            if name not in frame.columns:
                frame[name] = value
        parts.append(_count_batch(typed(frame, where), by, modes, where))
    return _shared_out(_together(parts, by, chunk.path), n_shares)


def _count_batch(table: pd.DataFrame, by: list[str], modes: bool, source: str) -> _Part:
    identity = [n for n in IDENTITY if n in table.columns and n != "sample_id"]
    keys = [*by, "problem_id"]
    wanted = dict.fromkeys([*keys, *identity, *(["answer"] if modes else [])])
    levels = {name: _Levels() for name in wanted}
    for name, level in levels.items():
        level.add(table[name])

    def named(names: Sequence[str], first: Ints) -> pd.DataFrame:
        """Distinct combinations, told by their first rows."""
        columns = {}
        for name in names:
            code = levels[name].finish()[first]
            values = np.append(levels[name].values(), np.nan)
            columns[name] = pd.Series(values[code], dtype=object)
        return pd.DataFrame(columns, columns=list(names))

    correct = table["correct"].to_numpy()
    group, first = _dense(*_combine_levels([levels[n] for n in keys]))
    counted = named(keys, first)
    counted["n_samples"] = np.bincount(group, minlength=len(first))
    counted["n_correct"] = np.bincount(group[correct], minlength=len(first))
    found = None
    if modes:
        answer = levels["answer"].finish()
        lost = correct & (answer < 0)
        if lost.any():
            raise ValueError(
                f"{source}: column 'answer': a correct rollout of problem "
                f"{table['problem_id'].iloc[int(np.argmax(lost))]!r} has no answer, so its mode is "
                "unknown; fill in its canonical answer, or leave out the metrics of modes with "
                "modes=False"
            )
        kept = answer >= 0
        pair, at = _dense(
            group[kept] * len(levels["answer"].codes) + answer[kept],
            len(first) * max(len(levels["answer"].codes), 1),
        )
        texts = levels["answer"].values()[answer[kept][at]]
        found = pd.DataFrame({"group": group[kept][at], "answer": texts})
        found["n"] = np.bincount(pair, minlength=len(at))
        found["right"] = np.bincount(pair[correct[kept]], minlength=len(at))
    owners = runs = None
    if "sample_id" in table.columns:
        owner, begins = _dense(*_combine_levels([levels[n] for n in identity]))
        owners = named(identity, begins)
        ids = table["sample_id"].to_numpy(np.int64)
        runs = pd.DataFrame({"owner": owner, "start": ids, "stop": ids + 1})
    return _Part(counted, found, owners, runs)


def _shared_out(part: _Part, n_shares: int) -> list[_Part]:
    """Deal the problems out: a hash of each says which share it belongs to."""
    keys, modes = _dealt(part.keys, part.modes, "group", n_shares)
    owners, runs = _dealt(part.owners, part.runs, "owner", n_shares)
    return [_Part(*mine) for mine in zip(keys, modes, owners, runs, strict=True)]  # type: ignore[arg-type]


def _dealt(
    named: pd.DataFrame | None, told: pd.DataFrame | None, column: str, n_shares: int
) -> tuple[list[pd.DataFrame | None], list[pd.DataFrame | None]]:
    """Deal out rows that name a problem, with those whose ``column`` points to them."""
    if named is None:
        return [None] * n_shares, [None] * n_shares
    # Hashed as they are spelled, with pandas' fixed key: the same on every worker.
    names = named["problem_id"].to_numpy(object)
    share = (pd.util.hash_array(names, categorize=False) % np.uint64(n_shares)).astype(np.int64)
    shares = _by_share(share, n_shares)
    of_named = [_narrowed(named.iloc[rows]) for rows in shares]
    if told is None:
        return of_named, [None] * n_shares  # type: ignore[return-value]
    place = np.empty(len(named), np.int64)  # in its share
    for rows in shares:
        place[rows] = np.arange(len(rows))
    pointed = told[column].to_numpy()
    moved = told.assign(**{column: place[pointed]})
    of_told = [_narrowed(moved.iloc[rows]) for rows in _by_share(share[pointed], n_shares)]
    return of_named, of_told  # type: ignore[return-value]


def _by_share(share: Ints, n_shares: int) -> list[Ints]:
    """Rows of each share, in their order."""
    ends = np.cumsum(np.bincount(share, minlength=n_shares))[:-1]
    return np.split(np.argsort(share, kind="stable"), ends)


def _narrowed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers in as few bytes as they need and each text once, for this waits and travels."""
    columns = {}
    for name, column in frame.items():
        if pd.api.types.is_integer_dtype(column.dtype):
            columns[name] = pd.to_numeric(column, downcast="unsigned")
        elif pd.api.types.infer_dtype(column, skipna=False) == "string":
            columns[name] = column.astype("string").astype("category")  # texts in one buffer
        else:
            columns[name] = column
    return pd.DataFrame(columns).reset_index(drop=True)


# ------------------------------------------------------------------------- parts together


def _together(parts: Sequence[_Part], by: list[str], source: str) -> _Part:
    """Add up the counts of parts."""
    names = [*by, "problem_id"]
    place, keys = _renumbered([part.keys for part in parts], names)
    sums = keys[names].copy()
    for column in ("n_samples", "n_correct"):
        values = np.concatenate([part.keys[column].to_numpy(np.int64) for part in parts])
        sums[column] = _added(np.concatenate(place), values, len(keys))
    modes = None
    if all(part.modes is not None for part in parts):
        modes = _stacked([part.modes for part in parts], "group", place)
        code, texts = pd.factorize(modes["answer"])
        pair, at = _dense(
            modes["group"].to_numpy(np.int64) * max(len(texts), 1) + code,
            len(keys) * max(len(texts), 1),
        )
        n, right = (
            _added(pair, modes[column].to_numpy(np.int64), len(at)) for column in ("n", "right")
        )
        modes = modes.iloc[at][["group", "answer"]].assign(n=n, right=right)
    owners = runs = None
    if all(part.owners is not None for part in parts):
        identity = list(parts[0].owners.columns)  # type: ignore[union-attr]
        place, owners = _renumbered([part.owners for part in parts], identity)
        runs = _merged_runs(_stacked([part.runs for part in parts], "owner", place), owners, source)
    return _Part(sums, modes, owners, runs)


def _added(place: Ints, values: Ints, n: int) -> Ints:
    total = np.zeros(n, np.int64)
    np.add.at(total, place, values)
    return total


def _renumbered(
    frames: Sequence[pd.DataFrame | None], names: Sequence[str]
) -> tuple[list[Ints], pd.DataFrame]:
    """Where the rows of each frame are in one frame of all, each combination once."""
    stacked = pd.concat(frames, ignore_index=True)
    levels = []
    for name in names:
        level = _Levels()
        level.add(stacked[name])
        levels.append(level)
    group, first = _dense(*_combine_levels(levels))
    ends = np.cumsum([0 if frame is None else len(frame) for frame in frames])[:-1]
    return np.split(group, ends), stacked.iloc[first].reset_index(drop=True)


def _stacked(
    frames: Sequence[pd.DataFrame | None], column: str, place: Sequence[Ints]
) -> pd.DataFrame:
    """One frame of all, ``column`` pointing into the renumbered rows."""
    moved = [
        frame.assign(**{column: where[frame[column].to_numpy()]})
        for frame, where in zip(frames, place, strict=True)
        if frame is not None
    ]
    return pd.concat(moved, ignore_index=True)


def _merged_runs(runs: pd.DataFrame, owners: pd.DataFrame, source: str) -> pd.DataFrame:
    """Join runs of sample ids where one goes on from another; refuse an id that occurs twice."""
    order = np.lexsort([runs["start"].to_numpy(), runs["owner"].to_numpy()])
    owner, start, stop = (
        runs[name].to_numpy(np.int64)[order] for name in ("owner", "start", "stop")
    )
    same = owner[1:] == owner[:-1]
    twice = same & (start[1:] < stop[:-1])
    if twice.any():
        row = int(np.argmax(twice)) + 1
        cells = {**owners.iloc[owner[row]].to_dict(), "sample_id": start[row]}
        raise ValueError(
            f"{source}: a rollout occurs twice ({_describe_cells(cells)}); give each rollout of a "
            "problem its own sample_id, or tell runs apart in the column 'run'"
        )
    begins = np.append(True, ~(same & (start[1:] == stop[:-1])))[: len(start)]
    ends = np.append(begins[1:], True)[: len(start)]
    return pd.DataFrame({"owner": owner[begins], "start": start[begins], "stop": stop[ends]})


def _finish(parts: Sequence[_Part], by: list[str], modes: bool, source: str) -> pd.DataFrame:
    """Counts of a share of the problems, from those of all chunks."""
    whole = _together(parts, by, source)
    table = whole.keys
    if modes:
        assert whole.modes is not None
        group, n, right = (whole.modes[name].to_numpy(np.int64) for name in ("group", "n", "right"))
        solved = right > 0
        table["mode_counts"] = _sizes(group, n, len(table))
        table["correct_mode_counts"] = _sizes(group[solved], right[solved], len(table))
    return table
