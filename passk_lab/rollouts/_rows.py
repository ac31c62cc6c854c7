"""Rows of tables and files as one view of a database, and the queries that count them.

Rows are brought to the table's columns and types (`Rows`), counted for each problem and answer
(``partial``), and these counts put together (`finished`). What doesn't fit into memory goes to
disk.
"""

from __future__ import annotations

import glob
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from passk_lab.rollouts._cells import (
    DEFAULTS,
    FLOATS,
    IDENTITY,
    INTEGERS,
    KNOWN,
    RANGES,
    REQUIRED,
    STRING,
    STRINGS,
    repeated_rollout,
    require_columns,
    two_clusters,
    typed,
)
from passk_lab.rollouts._parquet import is_parquet, open_parquet, parquet_batches
from passk_lab.rollouts._tables import read_table
from passk_lab.rollouts.table import MAIN_KEYS

MEMORY = "2GB"  # beyond it DuckDB works on disk
_PART_ROWS = 1 << 40  # more than a part has


class PooledSteps(UserWarning):
    """Checkpoints are counted as one model."""


class LostAnswers(ValueError):
    """Answers can't be counted: a correct rollout has none."""


@dataclass(frozen=True)
class Part:
    """Rows to count: a table or a file, and the columns that are known without it."""

    rows: pd.DataFrame | Path
    known: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    cluster: str = "cluster"  # the column that holds the families of problems
    columns: Sequence[str] = ()  # all there were, if a table is what was kept of a file

    def raw(self, name: str) -> str:
        """What these rows call a column of the table."""
        return self.cluster if name == "cluster" else name

    def names(self, raw: Iterable[str]) -> list[str]:
        """Columns of the table, from those of these rows."""
        found = list(dict.fromkeys([*map(str, raw), *self.known]))
        return [*found, "cluster"] if self.cluster in found and "cluster" not in found else found

    def with_cluster(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Give rows the column ``cluster``, if another one holds it."""
        if self.cluster == "cluster" or list(frame.columns).count(self.cluster) != 1:
            return frame
        return frame.assign(cluster=frame[self.cluster])

    @property
    def source(self) -> str:
        """How messages call it."""
        if self.name is not None:
            return self.name
        return "rollouts" if isinstance(self.rows, pd.DataFrame) else str(self.rows)


def count_parts(
    parts: Sequence[Part], by: Sequence[str] = MAIN_KEYS, modes: bool | None = None
) -> pd.DataFrame:
    """Count tables and files together, as `counts` does one; problems of the first come first."""
    with database(source_of(parts)) as con:
        rows = Rows(con, parts, by, modes)
        rows.count()
        rows.refuse_duplicates()
        rows.refuse_two_clusters()
        rows.refuse_lost_answers()
        rows.warn_of_pooled_steps()
        return finished(con, by, rows.modes)


def source_of(parts: Sequence[Part]) -> str:
    """How messages call parts together."""
    return parts[0].source if len(parts) == 1 else "the files together"


@contextmanager
def database(source: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to an empty database that goes to disk where memory ends; errors name the source."""
    settings: dict[str, Any] = {"memory_limit": MEMORY} | ({"threads": threads} if threads else {})
    try:
        with (
            tempfile.TemporaryDirectory(prefix="passk_lab-") as folder,
            duckdb.connect(config={**settings, "temp_directory": folder}) as con,
        ):
            with suppress(duckdb.InvalidInputException):  # Jupyter without ipywidgets has no bar
                con.execute("SET enable_progress_bar = false")
            yield con
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(f"{source}: can't be counted in {MEMORY} ({error})") from error
    except duckdb.ConversionException as error:
        raise ValueError(f"{source}: a value that can't be used ({error})") from error
    except duckdb.Error as error:
        raise ValueError(f"{source}: parquet data is damaged ({error})") from error


# --------------------------------------------------------------------------------- the query

_COUNT = """
CREATE TEMP TABLE partial AS
SELECT {groups}, answer, count(*) AS n, count(*) FILTER (correct) AS n_correct,
    min(part) AS part, min(cluster) AS cluster, max(cluster) AS last_cluster,
    min(sample_id) AS low, max(sample_id) AS high, bool_or(bad) AS bad {more}
FROM rows GROUP BY {groups}, answer
"""
# Sample ids that leave few numbers out need a bit each.
_DENSE = """
SELECT 1 FROM rows WHERE sample_id IS NOT NULL GROUP BY {owner}
HAVING bit_count(bitstring_agg(sample_id, {low}, {high})) < count(*) LIMIT 1
"""
_SPARSE = """
SELECT 1 FROM rows WHERE sample_id IS NOT NULL
GROUP BY {owner}, sample_id HAVING count(*) > 1 LIMIT 1
"""
_REPEATED = """
SELECT {identity}, min(row, 2)[2] AS again FROM rows WHERE sample_id IS NOT NULL
GROUP BY {identity} HAVING count(*) > 1 ORDER BY again LIMIT 1
"""
TWO_CLUSTERS = """
SELECT problem_id, min(cluster), max(last_cluster) FROM partial GROUP BY split, problem_id
HAVING min(cluster) < max(last_cluster) ORDER BY ALL LIMIT 1
"""
_FINISH = """
WITH modes AS (
    SELECT {keys}, answer, min(part) AS part, min(cluster) AS cluster, sum(n)::BIGINT AS n,
        sum(n_correct)::BIGINT AS c, (hash(answer) >> 1)::BIGINT AS id
    FROM partial GROUP BY {keys}, answer
)
SELECT {keys}, sum(n)::BIGINT AS n_samples, sum(c)::BIGINT AS n_correct, min(cluster) AS cluster,
    list_reverse_sort(list(n) FILTER (answer IS NOT NULL)) AS mode_counts,
    list(c ORDER BY c DESC, id) FILTER (c > 0) AS correct_mode_counts,
    list(id ORDER BY c DESC, id) FILTER (c > 0) AS correct_mode_ids
FROM modes GROUP BY {keys} ORDER BY min(part), {order}
"""


# ------------------------------------------------------------------------- rows, from anywhere


class Rows:
    """Parts as one view of a database, ``rows``, under the table's names and types.

    Attributes
    ----------
    identity : list of str
        The columns that name a rollout.
    modes : bool
        Whether answers are counted.
    more : list of str
        Further columns that some part has: ``"more NAME"`` is its text, and ``"has NAME"`` says
        whether the row's part has it.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        parts: Sequence[Part],
        by: Sequence[str],
        modes: bool | None,
        more: Sequence[str] = (),
    ) -> None:
        self.con, self.parts = con, parts
        wanted = {*REQUIRED, *IDENTITY, "cluster", *by}
        wanted |= {"answer"} if modes is not False else set()
        opened = [_opened(con, at, parts, wanted, more) for at in range(len(parts))]
        self._origins = _together(opened)
        self.modes = all("answer" in o.names for o in self._origins) if modes is None else modes
        self.clusters = all("cluster" in o.names for o in self._origins)
        for origin in self._origins:
            _check_counted(origin, by, self.modes)
        self.by = list(by)
        present = {*DEFAULTS, *(name for o in self._origins for name in o.names)}
        self.identity = [name for name in IDENTITY if name in present]
        self.more = [name for name in more if name in present]
        self.number(False)

    def number(self, numbered: bool) -> None:
        """Define the view, with the numbers of the rows or without."""
        views = []
        for origin in self._origins:
            more = f", {origin.row} + part * {_PART_ROWS} AS row" if numbered else ""
            fields = f"{self._fields(origin)}, {origin.place} AS part {more}"
            views.append(f"SELECT {fields} FROM {origin.sql}")
        self.con.execute(f"CREATE OR REPLACE TEMP VIEW rows AS {' UNION ALL '.join(views)}")

    def _fields(self, origin: _Origin) -> str:
        answer = origin.field("answer") if self.modes else "NULL::VARCHAR"
        fields = {k: origin.field(n) for k, n in zip(keys_of(self.by), self.by, strict=False)}
        fields |= {name: origin.field(name) for name in (*IDENTITY, "correct")}
        cluster = origin.field("cluster") if self.clusters else "NULL::VARCHAR"
        needed = [*self.by, *(["cluster"] if self.clusters else [])]
        fields |= {"answer": answer, "cluster": cluster, "bad": origin.bad(needed)}
        fields |= {f'"more {name}"': f"({origin.field(name)})::VARCHAR" for name in self.more}
        fields |= {f'"has {name}"': str(name in origin.names).lower() for name in self.more}
        return ", ".join(f"{sql} AS {alias}" for alias, sql in fields.items())

    def count(self, ids: bool = False) -> None:
        """Make the table ``partial``, with sample ids or without; refuse what can't be counted."""
        groups = ", ".join(dict.fromkeys([*keys_of(self.by), *self.owner]))
        more = ", list(sample_id) AS ids" if ids else ""
        self.con.execute(_COUNT.format(groups=groups, more=more))
        n, bad = self._one("SELECT sum(n), bool_or(bad) FROM partial")
        if bad:
            self._refuse_values()
        if not n:
            raise ValueError(f"{source_of(self.parts)}: the table holds no rollouts")

    def refuse_duplicates(self) -> None:
        """Refuse rollouts that occur twice, after `count`."""
        if "sample_id" not in self.identity:
            return
        owner = ", ".join(self.owner)
        n, low, high = self._one("SELECT sum(n)::BIGINT, min(low), max(high) FROM partial")
        (n_owners,) = self._one(f"SELECT count(*) FROM (SELECT DISTINCT {owner} FROM partial)")
        if n_owners * (high - low + 1) <= 8 * n:  # a byte a row
            query = _DENSE.format(owner=owner, low=low, high=high)
        else:
            query = _SPARSE.format(owner=owner)
        if not self._one(query):
            return
        self.number(True)
        *cells, row = self._one(_REPEATED.format(identity=", ".join(self.identity)))
        source, row = self._place(row)
        raise repeated_rollout(source, row, dict(zip(self.identity, cells, strict=True)))

    def refuse_two_clusters(self) -> None:
        """Refuse a problem that belongs to two clusters, after `count`."""
        if self.clusters and (found := self._one(TWO_CLUSTERS)):
            raise two_clusters(source_of(self.parts), found)

    def warn_of_pooled_steps(self) -> None:
        """Warn where checkpoints are counted as one model, after `count`."""
        if "step" not in self.identity or "step" in self.by:
            return
        query = """SELECT run, count(DISTINCT step) AS n FROM partial GROUP BY run HAVING n > 1
                   ORDER BY n DESC, run LIMIT 1"""
        if found := self._one(query):
            warnings.warn(
                f"{source_of(self.parts)}: run {found[0]!r} pools {found[1]} steps, which are "
                "models of their own; add by=['run', 'split', 'step'] or see "
                "passk_lab.stats.checkpoints",
                PooledSteps,
                stacklevel=2,
            )

    def refuse_lost_answers(self) -> None:
        """Refuse a correct rollout whose mode isn't known, after `count`."""
        if self.modes and self._one(
            "SELECT 1 FROM partial WHERE n_correct > 0 AND answer IS NULL LIMIT 1"
        ):
            self.number(True)
            (row,) = self._one("SELECT min(row) FROM rows WHERE correct AND answer IS NULL")
            source, row = self._place(row)
            raise LostAnswers(
                f"{source}: column 'answer', row {row}: a correct rollout has no answer, "
                "so its mode is unknown; fill in its canonical answer, or drop the column to "
                "leave out the metrics of modes"
            )

    @property
    def owner(self) -> list[str]:
        """The columns that name a problem of a model."""
        return [name for name in self.identity if name != "sample_id"]

    def _one(self, sql: str) -> tuple[Any, ...]:
        found = self.con.execute(sql).fetchall()
        return found[0] if found else ()

    def _place(self, row: int) -> tuple[str, int]:
        part, row = divmod(row, _PART_ROWS)
        return self.parts[part].source, row

    def _refuse_values(self) -> None:
        """Let pandas, which knows each value's fault, find the one that was seen."""
        for part in self.parts:
            if isinstance(part.rows, Path) and is_parquet(part.rows):
                row = 0
                wanted = {*REQUIRED, *IDENTITY, *self.by}
                wanted |= {part.cluster} if self.clusters else set()
                for frame in map(part.with_cluster, parquet_batches(part.rows, wanted)):
                    typed(frame, f"{part.source} (rows from {row} on)" if row else part.source)
                    row += len(frame)
        raise ValueError(f"{source_of(self.parts)}: values that can't be used")


@dataclass(frozen=True)
class _Origin:
    """A part opened, or several parquet files of the same columns.

    Attributes
    ----------
    part : Part
        The first.
    at : int
        Its number.
    names : list of str
        Of all its columns.
    columns : mapping
        From a wanted column's name to its name in SQL and its type.
    files : tuple of str
        Empty for a table.
    """

    part: Part
    at: int
    names: list[str]
    columns: Mapping[str, tuple[str, pa.DataType]]
    width: int
    files: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """What to select from, its columns by number."""
        # Names may differ in upper and lower case only, which are the same to SQL.
        aliases = ", ".join(f"c{i}" for i in range(self.width))
        source = f"part{self.at}"
        if self.files:
            # One scan: each scan of its own would keep groups, and memory, of its own.
            patterns = ", ".join(_quoted(glob.escape(file)) for file in self.files)
            source = f"read_parquet([{patterns}], hive_partitioning = false)"
        return f"{source} AS t({aliases})"

    @property
    def place(self) -> str:
        """SQL for a row's part."""
        return f"{self.at} + file_index::BIGINT" if self.files else f"{self.at}"

    @property
    def row(self) -> str:
        """SQL for a row's number in its part."""
        return "file_row_number" if self.files else "row_number() OVER () - 1"

    def field(self, name: str) -> str:
        """SQL for a column of the table."""
        if name in self.columns:
            return cast(str, _expression(name, *self.columns[name]))
        kind = "BIGINT" if name in INTEGERS else "DOUBLE" if name in FLOATS else "VARCHAR"
        value = self.part.known.get(name, DEFAULTS.get(name))
        return f"{'NULL' if value is None else _quoted(value)}::{kind}"

    def bad(self, by: Iterable[str]) -> str:
        """SQL for whether a row holds a value that the table can't."""
        faults = []
        for name in dict.fromkeys(["problem_id", *DEFAULTS, "sample_id", "correct", *by]):
            if name not in self.columns:
                continue
            column, kind = self.columns[name]
            if name in (*MAIN_KEYS, "problem_id", "sample_id", "correct", "cluster"):
                faults.append(f"{column} IS NULL")
            if name == "correct" and not pa.types.is_boolean(kind):
                faults.append(f"{column} NOT IN (0, 1)")
            for sign, limit in zip("<>", RANGES.get(name, ())[:2], strict=False):
                if np.isfinite(limit):
                    faults.append(f"{column} {sign} {limit}")
        return f"coalesce({' OR '.join(faults)}, false)"


def _opened(
    con: duckdb.DuckDBPyConnection,
    at: int,
    parts: Sequence[Part],
    wanted: set[str],
    more: Sequence[str],
) -> _Origin:
    part = parts[at]
    wanted = {*wanted, *more}
    schema, files = None, tuple[str, ...]()
    if isinstance(part.rows, Path) and is_parquet(part.rows):
        with open_parquet(part.rows) as file:
            schema = file.schema_arrow
        names, files = part.names(schema.names), (str(part.rows),)
        require_columns(names, part.source)
    if (
        schema is None
        or len(set(schema.names)) < len(schema.names)
        or any(
            _expression(name, *at) is None for name, at in _columns(schema, wanted, part).items()
        )
    ):
        table, names = _loaded(part, wanted, more)
        con.register(f"part{at}", table)
        schema, files = table.schema, ()
        part = replace(part, cluster="cluster")
    return _Origin(part, at, names, _columns(schema, wanted, part), len(schema), files)


def _columns(
    schema: pa.Schema, wanted: Iterable[str], part: Part
) -> dict[str, tuple[str, pa.DataType]]:
    """Names in SQL and types of the columns wanted, as far as there are any."""
    places = {name: i for i, name in enumerate(schema.names)}
    raw = {name: part.raw(name) for name in wanted}
    return {
        name: (f"c{places[column]}", schema.field(places[column]).type)
        for name, column in raw.items()
        if column in places and name not in part.known
    }


def _together(origins: Sequence[_Origin]) -> list[_Origin]:
    """Join neighbouring files of the same columns."""
    found = [origins[0]]
    for origin in origins[1:]:
        last = found[-1]
        same = (last.names, last.columns, last.part.known)
        if last.files and origin.files and same == (
            origin.names, origin.columns, origin.part.known
        ):  # fmt: skip
            found[-1] = replace(last, files=last.files + origin.files)
        else:
            found.append(origin)
    return found


def _loaded(part: Part, wanted: set[str], more: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Bring rows to their types by pandas, in the columns wanted only; ``more`` become text."""
    raw = {*wanted, *map(part.raw, wanted)}
    if isinstance(part.rows, pd.DataFrame):
        names = [str(name) for name in part.columns or part.rows.columns]
        require_columns(names, part.source)
        frame = part.rows.loc[:, [name in raw for name in part.rows.columns]]
    else:
        frame, names = read_table(part.rows, raw)
    frame = part.with_cluster(frame)
    frame = frame.loc[:, [name in wanted for name in frame.columns]]
    texts = {
        name: frame[name].map(str, na_action="ignore")
        for name in more
        if name in frame and pd.api.types.is_object_dtype(frame[name].dtype)
    }
    table = typed(frame.assign(**part.known, **texts), part.source)
    try:
        return pa.Table.from_pandas(table, preserve_index=False), part.names(names)
    except pa.ArrowException as error:
        raise ValueError(f"{part.source}: values of different types ({error})") from error


def _expression(name: str, column: str, kind: pa.DataType) -> str | None:
    """SQL that makes a column what `validate_rollouts` makes it; None if only pandas can."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    whole = pa.types.is_integer(kind) and kind != pa.uint64()
    real = kind in (pa.float32(), pa.float64())
    empty = pa.types.is_null(kind)
    if name in STRINGS:
        return f"{column}::VARCHAR" if text or whole or empty else None
    if name == "correct" and not pa.types.is_boolean(kind):
        return f"({column} = 1)" if whole or real else None
    if name in INTEGERS:
        return f"{column}::BIGINT" if whole or empty else None
    if real or name in FLOATS:
        return f"nullif({column}::DOUBLE, 'nan')" if real or whole or empty else None
    return column


def counts_as_is(schema: pa.Schema) -> bool:
    """Whether a file's rows can be counted where they are: a rollout each, in usual types."""
    known = [at for at, name in enumerate(schema.names) if name in KNOWN]
    return set(REQUIRED) <= set(schema.names) and all(
        _expression(schema.names[at], "", schema.field(at).type) is not None for at in known
    )


def _check_counted(origin: _Origin, by: Sequence[str], modes: bool) -> None:
    have = ", ".join(map(str, origin.names))
    for name in by:
        if name not in origin.names and name not in DEFAULTS:
            raise ValueError(
                f"{origin.part.source}: no column {name!r} to group by (columns: {have})"
            )
    if modes and "answer" not in origin.names:
        raise ValueError(
            f"{origin.part.source}: column 'answer' is missing; modes need the canonical form of "
            "each answer"
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ----------------------------------------------------------------------------------- the result


def keys_of(by: Sequence[str]) -> list[str]:
    """Names of ``by`` and the problem in SQL."""
    return [*(name if name in IDENTITY else f"by{i}" for i, name in enumerate(by)), "problem_id"]


def finished(con: duckdb.DuckDBPyConnection, by: Sequence[str], modes: bool) -> pd.DataFrame:
    """Put the counts of ``partial`` together."""
    keys = keys_of(by)
    order = ", ".join(f"{key} NULLS LAST" for key in keys)
    found = con.sql(_FINISH.format(keys=", ".join(keys), order=order)).to_arrow_table()
    table: dict[str, Any] = {
        name: key_column(found[key], name)
        for name, key in zip([*by, "problem_id"], keys, strict=True)
    }
    table |= {name: found[name].to_numpy() for name in ("n_samples", "n_correct")}
    if found["cluster"].null_count < len(found):
        table["cluster"] = key_column(found["cluster"], "cluster")
    if modes:
        cells = ("mode_counts", "correct_mode_counts", "correct_mode_ids")
        table |= {name: _cells(found[name]) for name in cells}
    return pd.DataFrame(table)


def key_column(values: pa.ChunkedArray | pd.Series, name: str) -> pd.Series:
    """Give a column that was counted by its type."""
    if name in STRINGS:
        return pd.Series(values, dtype=STRING)
    column = pd.Series(values.to_pylist() if hasattr(values, "to_pylist") else values, dtype=object)
    return column.where(column.notna()).infer_objects()


def _cells(lists: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    sizes = np.concatenate([np.diff(chunk.offsets) for chunk in lists.chunks])
    flat = pc.list_flatten(lists).to_numpy().copy()  # Arrow's own can't be written to
    cells = np.empty(len(lists), dtype=object)
    cells[:] = np.split(flat, np.cumsum(sizes)[:-1])
    return cells
