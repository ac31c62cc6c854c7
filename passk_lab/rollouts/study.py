"""One container of what is studied: every file is opened once, and hands out what is asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passk_lab.rollouts._cells import IDENTITY, REQUIRED
from passk_lab.rollouts._parquet import is_parquet, open_parquet
from passk_lab.rollouts._rows import Part, count_parts
from passk_lab.rollouts.files import read_columns, read_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike, validate_rollouts

__all__ = ["Study"]

_TEXT_BATCH = 1 << 13  # rows: texts are large
_POOLED = {
    "step": "to tell the checkpoints apart, write the step into the column 'run'",
    "seed": "the intervals treat them as one model",
}


class Study:
    """Rollouts of the runs to compare, from a table or from files.

    Parquet files are never loaded whole: counts come from DuckDB, texts from the problems asked
    for. Other files are read and validated once.

    Parameters
    ----------
    rollouts : DataFrame, path or sequence of paths
        The rollouts table; several files are parts of one.
    run : str, optional
        Name for files without a column ``run``; with several files the default is each file's stem.
    scores : DataFrame or path, optional
        Teacher scores of some of the rollouts (``passk-lab score``).
    cluster : str, optional
        The column that holds the family of a problem; default: ``cluster``, if there is one.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": ["a", "a"], "correct": [True, False],
    ...                       "text": ["yes", "no"]})
    >>> study = Study(table, run="base")
    >>> study.counts()[["run", "problem_id", "n_samples", "n_correct"]]
        run problem_id  n_samples  n_correct
    0  base          a          2          1
    >>> study.texts(["a"])["text"].tolist()
    ['yes', 'no']
    """

    def __init__(
        self,
        rollouts: pd.DataFrame | PathLike | Sequence[PathLike],
        run: str | None = None,
        scores: pd.DataFrame | PathLike | None = None,
        cluster: str | None = None,
    ) -> None:
        self._run, self._scores, self._cluster = run, scores, cluster
        self._given: list[pd.DataFrame | Path]
        if isinstance(rollouts, pd.DataFrame):
            self._given = [rollouts]
        else:
            paths = [rollouts] if isinstance(rollouts, str | os.PathLike) else list(rollouts)
            if not paths:
                raise ValueError("no rollouts file given")
            self._given = [Path(path) for path in paths]

    @cached_property
    def _parts(self) -> list[Part]:
        return [self._opened(at, given) for at, given in enumerate(self._given)]

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="passk_lab-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _opened(self, at: int, given: pd.DataFrame | Path) -> Part:
        run = self._run
        if isinstance(given, pd.DataFrame):
            if run is not None and "run" not in given:
                given = given.assign(run=run)
            return Part(validate_rollouts(self._with_cluster(given, "rollouts")))
        if run is None and len(self._given) > 1:
            run = given.name.split(".")[0]
        if is_parquet(given):
            with open_parquet(given) as file:
                names = file.schema_arrow.names
            self._check_cluster(names, str(given))
            known = {} if run is None or "run" in names else {"run": run}
            return Part(given, known, cluster=self._cluster or "cluster")
        table = self._with_cluster(read_rollouts(given, run=run), str(given))
        columns = {}
        for name in map(str, table.columns):
            with suppress(pa.ArrowException):  # of a column with values of several types
                columns[name] = pa.Array.from_pandas(table[name])
        path = self._folder / f"{at}.parquet"
        pq.write_table(pa.table(columns), path)
        return Part(path, name=str(given))

    def _check_cluster(self, names: Sequence[str], source: str) -> None:
        if self._cluster is not None and self._cluster not in names:
            raise ValueError(
                f"{source}: no column {self._cluster!r} to take the clusters of problems from "
                f"(columns: {', '.join(map(str, names))})"
            )

    def _with_cluster(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        self._check_cluster(list(table.columns), source)
        return table if self._cluster is None else table.assign(cluster=table[self._cluster])

    def _columns(self, part: Part) -> list[str]:
        if isinstance(part.rows, pd.DataFrame):
            return list(part.rows.columns)
        with open_parquet(part.rows) as file:
            return part.names(file.schema_arrow.names)

    def counts(self, by: Sequence[str] = MAIN_KEYS, modes: bool | None = None) -> pd.DataFrame:
        """Count all rollouts together.

        Parameters
        ----------
        by : sequence of str
        modes : bool, optional
            As for `passk_lab.counts`; default: where every file has the column ``answer``.

        Returns
        -------
        DataFrame
            As `passk_lab.counts` returns it; problems of the first file come first.

        Raises
        ------
        ValueError
            A table is refused, or files repeat each other's rollouts.
        """
        return count_parts(self._parts, by, modes)

    @cached_property
    def _numbers(self) -> dict[str, dict[str, int]]:
        """How many steps and seeds each run has; every count is a pass over the files."""
        numbers: dict[str, dict[str, int]] = {}
        for name in _POOLED:
            parts = [part for part in self._parts if name in self._columns(part)]
            if parts:
                found = count_parts(parts, ["run", name], modes=False).groupby("run", sort=False)
                numbers[name] = {str(run): values.nunique() for run, values in found[name]}
        return numbers

    @property
    def n_seeds(self) -> int:
        """The largest number of seeds of a run."""
        return max(self._numbers.get("seed", {}).values(), default=1)

    def notes(self, modes: bool | None = None, over_seeds: bool = False) -> list[str]:
        """Say what a reader should know about these counts, such as steps that were pooled."""
        notes = []
        for name, numbers in self._numbers.items():
            for run, number in numbers.items():
                if number < 2:
                    continue
                if name == "seed" and over_seeds:
                    notes.append(
                        f"Run {run!r} has {number} training seeds, resampled along with the "
                        "problems; with --pool-seeds they count as seeds of sampling, of one model."
                    )
                else:
                    notes.append(
                        f"Run {run!r} pools the rollouts of {number} {name}s; {_POOLED[name]}."
                    )
        answers = {"answer" in self._columns(part) for part in self._parts}
        if modes is None and len(answers) > 1:
            notes.append(
                "Not every file has the column 'answer', so distinct answers are left out."
            )
        return notes

    def rows(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read columns of all rollouts.

        Parameters
        ----------
        columns : sequence of str, optional
            Besides those that identify a rollout, and ``correct``; as far as there are any.
            Default: all.

        Returns
        -------
        DataFrame
            Validated, see `passk_lab.validate_rollouts`.
        """
        tables = []
        for part in self._parts:
            if not isinstance(part.rows, pd.DataFrame):
                some = columns if columns is None else [*columns, part.cluster]
                table = _validated(read_columns(part.rows, some)[0], part)
            else:
                table = part.rows
            if columns is not None:
                wanted = {*columns, "cluster", *REQUIRED, *IDENTITY}
                table = table[[name for name in table if name in wanted]]
            tables.append(table)
        return _stacked(tables)

    def texts(self, problems: Iterable[str], columns: Sequence[str] = ()) -> pd.DataFrame:
        """Read the texts of some problems' rollouts, and of no others.

        Parameters
        ----------
        problems : iterable of str
        columns : sequence of str
            Further columns, besides ``text`` and ``answer``.

        Returns
        -------
        DataFrame
            Validated; without columns where no file has the column ``text``.
        """
        chosen = set(problems)
        wanted = {*REQUIRED, *IDENTITY, "cluster", "answer", "text", *columns}
        tables = []
        for part in self._parts:
            names = self._columns(part)
            if "text" not in names:
                continue
            keep = [name for name in names if name in wanted and name not in part.known]
            if isinstance(part.rows, pd.DataFrame):
                tables.append(part.rows.loc[part.rows["problem_id"].isin(chosen), keep])
            else:
                raw = list(dict.fromkeys(map(part.raw, keep)))
                table = _validated(_some_problems(part.rows, raw, sorted(chosen)), part)
                tables.append(table[[name for name in table if name in (*keep, *part.known)]])
        return _stacked(tables)

    def scores(self) -> pd.DataFrame | None:
        """Read the teacher scores, where there are any."""
        if self._scores is None:
            return None
        table = self._scores
        if not isinstance(table, pd.DataFrame):
            table = pd.read_parquet(table)
        if "problem_id" not in table.columns:
            raise ValueError(
                "scores: column 'problem_id' is missing; make the file with passk-lab score"
            )
        return table


def _validated(frame: pd.DataFrame, part: Part) -> pd.DataFrame:
    frame = part.with_cluster(frame)
    known = {name: value for name, value in part.known.items() if name not in frame.columns}
    return validate_rollouts(frame.assign(**known), part.source)


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _some_problems(path: Path, columns: list[str], problems: list[str]) -> pd.DataFrame:
    wanted = pa.array(problems, pa.string())
    with open_parquet(path) as file:
        parts = [file.schema_arrow.empty_table().select(columns)]
        # Row groups without a wanted problem are never decoded, the others batch by batch.
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["problem_id"])["problem_id"]
            if not pc.any(pc.is_in(ids.cast(pa.string()), wanted)).as_py():
                continue
            for batch in file.iter_batches(_TEXT_BATCH, [group], columns):
                chosen = pc.is_in(batch["problem_id"].cast(pa.string()), wanted)
                parts.append(pa.Table.from_batches([batch.filter(chosen)]))
    return pa.concat_tables(parts).to_pandas(ignore_metadata=True)
