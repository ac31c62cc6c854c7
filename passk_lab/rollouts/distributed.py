"""Count rollouts on a cluster, on Dask: the query of `passk_lab.counts` on each file.

    from distributed import Client
    from passk_lab.rollouts.distributed import summarise

    table = summarise("rollouts/*.parquet", client="tcp://scheduler:8786")
    passk_lab.pass_at_k_curve(table)          # so do all metrics of counts and of answers,
    passk_lab.compare_runs(table, "base")     # comparisons and extrapolation

One machine needs none of this: `passk_lab.counts` works on disk where memory ends. It needs the
extra ``distributed``.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa

from passk_lab.rollouts._cells import IDENTITY, REQUIRED
from passk_lab.rollouts._parquet import open_parquet
from passk_lab.rollouts._rows import (
    TWO_CLUSTERS,
    Part,
    Rows,
    database,
    finished,
    key_column,
    two_clusters,
)
from passk_lab.rollouts.table import MAIN_KEYS, PathLike

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["summarise"]

_SHARE_ROWS = 1 << 23  # rows whose counts are brought together in one task
_FAN_IN = 8


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
        What `passk_lab.counts` gives for the whole table; every function that takes rollouts takes
        it as well, except for metrics of scores.

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
    source = os.fspath(path_or_glob)
    parts, n_rows, modes = _parts(source, by, modes)
    n_shares = 1 + n_rows // _SHARE_ROWS
    with _working(client) as cluster:
        counted = [cluster.submit(_count, part, by, modes, n_shares, pure=False) for part in parts]
        shares = []
        for share in range(n_shares):
            # Taken out where they are, so that a share alone travels.
            tables = [cluster.submit(getitem, part, share, pure=False) for part in counted]
            while len(tables) > 1:
                tables = [
                    cluster.submit(_add, tables[at : at + _FAN_IN], pure=False)
                    for at in range(0, len(tables), _FAN_IN)
                ]
            shares.append(cluster.submit(_finish, tables[0], by, modes, source, pure=False))
            del tables
        del counted  # so that workers forget what they have handed on
        table = pd.concat(cluster.gather(shares), ignore_index=True)
    keys = [*by, "problem_id"]
    for name in keys:
        table[name] = key_column(table[name], name)
    return table.sort_values(keys, kind="stable", ignore_index=True)


def _parts(source: str, by: Sequence[str], modes: bool | None) -> tuple[list[Part], int, bool]:
    """Files with rows in them, how many these are, and whether to count modes."""
    root = Path(source)
    if root.exists():
        files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    else:
        files = sorted(map(Path, glob.glob(source, recursive=True)))
        while glob.has_magic(str(root)):
            root = root.parent
    if not files:
        raise ValueError(f"{source}: no parquet file; give a file, a folder or a pattern")
    parts: list[Part] = []
    n_rows = 0
    first: list[str] = []
    wanted = {*REQUIRED, *IDENTITY, "cluster", *by}
    wanted |= {"answer"} if modes is not False else set()
    for file in files:
        folders = [part.partition("=") for part in file.parent.parts[len(root.parts) :]]
        known = {name: unquote(v) for name, equals, v in folders if equals and name.isidentifier()}
        with open_parquet(file) as opened:
            columns = sorted(wanted & {*opened.schema_arrow.names, *known})
            rows = opened.metadata.num_rows
        if columns != (first := first or columns):
            raise ValueError(
                f"{file}: has other columns than {files[0]} ({', '.join(columns)} against "
                f"{', '.join(first)}); all files must be parts of one table"
            )
        n_rows += rows
        if rows:
            parts.append(Part(file.resolve(), known))
    if not n_rows:
        raise ValueError(f"{source}: the table holds no rollouts")
    return parts, n_rows, "answer" in first if modes is None else modes


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


def _count(part: Part, by: Sequence[str], modes: bool, n_shares: int) -> list[pa.Table]:
    """Count a file's rows; a hash of the problem says which share of the counts is its own."""
    with database(part.source, threads=1) as con:
        rows = Rows(con, [part], by, modes)
        rows.count(ids="sample_id" in rows.identity)
        rows.refuse_lost_answers()
        share = "SELECT * EXCLUDE (low, high, bad) FROM partial WHERE hash(problem_id) % {} = {}"
        return [con.sql(share.format(n_shares, at)).to_arrow_table() for at in range(n_shares)]


def _add(tables: Sequence[pa.Table]) -> pa.Table:
    """Add up the counts of parts."""
    sums = {
        "n": "sum(n)::BIGINT",
        "n_correct": "sum(n_correct)::BIGINT",
        "part": "min(part)",
        "cluster": "min(cluster)",
        "last_cluster": "max(last_cluster)",
        "ids": "flatten(list(ids))",
    }
    columns = [f"{sums.get(name, name)} AS {name}" for name in tables[0].column_names]
    with database("counts", threads=1) as con:
        con.register("parts", pa.concat_tables(tables, promote_options="permissive"))
        return con.sql(f"SELECT {', '.join(columns)} FROM parts GROUP BY ALL").to_arrow_table()


def _finish(table: pa.Table, by: Sequence[str], modes: bool, source: str) -> pd.DataFrame:
    owner = ", ".join(name for name in IDENTITY if name in table.column_names)
    with database(source, threads=1) as con:
        con.register("partial", table)
        if "ids" in table.column_names:
            twice = con.sql(
                f"SELECT {owner}, flatten(list(ids)) AS ids FROM partial GROUP BY {owner} "
                "HAVING len(ids) > list_unique(ids) LIMIT 1"
            ).to_arrow_table()
            for cells in twice.to_pylist():
                cells["sample_id"] = Counter(cells.pop("ids")).most_common(1)[0][0]
                named = ", ".join(f"{name}={value!r}" for name, value in cells.items())
                raise ValueError(
                    f"{source}: a rollout occurs twice ({named}); give each rollout of a problem "
                    "its own sample_id, or tell runs apart in the column 'run'"
                )
        if twice := con.sql(TWO_CLUSTERS).fetchall():
            raise two_clusters(source, twice[0])
        return finished(con, by, modes)
