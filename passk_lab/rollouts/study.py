"""One container of what is studied: every file is opened once, and hands out what is asked for."""

from __future__ import annotations

import copy
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passk_lab._text import plural
from passk_lab.rollouts._cells import DEFAULTS, IDENTITY, KNOWN, REQUIRED, typed
from passk_lab.rollouts._inputs import inputs
from passk_lab.rollouts._looks import copies_of, missing_of
from passk_lab.rollouts._parquet import open_parquet, read_parquet
from passk_lab.rollouts._reading import read_source, several_runs
from passk_lab.rollouts._rows import Part, count_parts, counts_as_is
from passk_lab.rollouts._sources import Source, kind
from passk_lab.rollouts._tables import read_table
from passk_lab.rollouts.files import read_metadata
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.table import MAIN_KEYS, PathLike, stacked, validate_rollouts

__all__ = ["Study"]

_PROBLEM = ["run", "split", "problem_id"]
_TEXT_BATCH = 1 << 13  # rows: texts are large
# What programs append to files that hold further samples of one run.
_SHARD = re.compile(r"(rs|seed|rank|shard|part|sample|worker)[-_]?[0-9]+")
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
    rollouts : table, path, sequence or mapping of these
        DataFrame, Arrow or polars table, list of dictionaries, array of verdicts (problems,
        samples); files, folders, patterns, as for `read_rollouts`. A mapping names the runs.
    run : str, optional
        Name for files without a column ``run``; default: the name of the file or folder.
    scores : DataFrame or path, optional
        Teacher scores of some of the rollouts (``passk-lab score``).
    cluster : str, optional
        The column that holds the family of a problem; default: ``cluster``, if there is one.
    layout : Layout, optional
        What files and tables call the columns, and what they call correct.
    min_samples : int
        Leave out a run's problems with fewer rollouts; `notes` says how many.
    columns : sequence of str, optional
        Of files other than parquet, keep only these and what identifies a rollout.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": ["a", "a"], "correct": [True, False],
    ...                       "text": ["yes", "no"]})
    >>> study = Study(table, run="base")
    >>> study.counts()[["run", "problem_id", "n_samples", "n_correct"]]
        run problem_id  n_samples  n_correct
    0  base          a          2          1
    >>> study.some(["a"], ["text"])["text"].tolist()
    ['yes', 'no']
    """

    def __init__(
        self,
        rollouts: Any,
        run: str | None = None,
        scores: pd.DataFrame | PathLike | None = None,
        cluster: str | None = None,
        layout: Layout | None = None,
        min_samples: int = 1,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._scores, self._cluster, self._least = scores, cluster, min_samples
        self._layout, self._only = layout or Layout(), columns
        self._last: dict[str, Any] = {}  # run -> the step that is taken
        self._origin: Study | None = None
        self._given = inputs(rollouts, run)

    @cached_property
    def _parts(self) -> list[Part]:
        return [self._opened(at, given) for at, given in enumerate(self._given)]

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="passk_lab-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _opened(self, at: int, given: pd.DataFrame | Source) -> Part:
        if isinstance(given, pd.DataFrame):
            table = self._layout.apply(given, "rollouts")
            return Part(typed(self._with_cluster(table, "rollouts"), "rollouts"))
        if kind(given.path) == "parquet" and self._layout.plain:
            with open_parquet(given.path) as file:
                if counts_as_is(file.schema_arrow):
                    self._check_cluster(file.schema_arrow.names, given.name)
                    known = {} if _own_run(file, given) else {"run": given.run}
                    return Part(given.path, known, given.name, self._cluster or "cluster")
        if self._only is not None:
            return self._narrow(given, self._only)
        frame, _ = read_source(given, self._layout)
        table = typed(self._with_cluster(frame, given.name), given.name)
        columns = {}
        for name in map(str, table.columns):
            with suppress(pa.ArrowException):  # of a column with values of several types
                columns[name] = pa.Array.from_pandas(table[name])
        path = self._folder / f"{at}.parquet"
        pq.write_table(pa.table(columns), path)
        del frame, table, columns
        pa.default_memory_pool().release_unused()  # for DuckDB
        return Part(path, name=given.name)

    def _narrow(self, source: Source, columns: Sequence[str]) -> Part:
        """Keep few columns in memory; all that are known are checked."""
        read = {*KNOWN, *columns, *filter(None, [self._cluster])}
        frame, names = read_source(source, self._layout, read)
        table = typed(self._with_cluster(frame, source.name), source.name)
        left = [name for name in names if name in table or name not in read]
        keep = [name for name in table if name in {*REQUIRED, *IDENTITY, "cluster", *columns}]
        return Part(table[keep], name=source.name, columns=tuple(dict.fromkeys([*left, *table])))

    def _check_cluster(self, names: Sequence[str], source: str) -> None:
        if self._cluster is not None and self._cluster not in names:
            raise ValueError(
                f"{source}: no column {self._cluster!r} to take the clusters of problems from "
                f"(columns: {', '.join(map(str, names))})"
            )

    def _with_cluster(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        self._check_cluster(list(table.columns), source)
        return table if self._cluster is None else table.assign(cluster=table[self._cluster])

    @property
    def _source(self) -> str:
        return self._parts[0].source if len(self._parts) == 1 else "the files together"

    def _columns(self, part: Part) -> list[str]:
        if isinstance(part.rows, pd.DataFrame):
            return list(part.rows.columns)
        with open_parquet(part.rows) as file:
            return part.names(file.schema_arrow.names)

    def has(self, column: str) -> bool:
        """Whether some of the rollouts have a column."""
        return any(column in self._columns(part) for part in self._parts)

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
        if not self._last or "step" in by:
            return self._chosen(count_parts(self._parts, by, modes))
        return self._chosen(count_parts(self._parts, [*by, "step"], modes)).drop(columns="step")

    @property
    def last_steps(self) -> Mapping[str, Any]:
        """Runs of which the last checkpoint alone is taken, and its step."""
        return self._last

    def at_last_step(self) -> Study:
        """Take of each run with several checkpoints the last, if they had the same problems.

        Rollouts logged in training, of other problems at each step, are all kept.
        """
        found = copy.copy(self)
        found._origin, found._last = self, {}  # whose folder lasts as long as it does
        if max(self._numbers.get("step", {}).values(), default=1) > 1:
            table = count_parts(self._parts, ["run", "split", "step"], modes=False)
            for run, rows in table.dropna(subset="step").groupby("run", sort=False):
                last = rows["step"].max()
                now = rows[rows["step"] == last]
                before = rows.loc[rows["step"] < last, "problem_id"]
                if len(before) and now["problem_id"].isin(before).mean() > 0.5:
                    found._last[str(run)] = int(last)
        return found

    @cached_property
    def _few(self) -> pd.DataFrame:
        """Problems of runs with too few rollouts: run, split, problem_id."""
        if self._least <= 1:
            return pd.DataFrame(columns=_PROBLEM)
        by = [*MAIN_KEYS, *(["step"] if self._last else [])]
        table = self._of_last_step(count_parts(self._parts, by, modes=False))
        return table.loc[table["n_samples"] < self._least, _PROBLEM]

    def _of_last_step(self, table: pd.DataFrame) -> pd.DataFrame:
        if not self._last or not {"run", "step"} <= set(table):
            return table
        last = table["run"].astype(str).map(self._last)
        taken = last.isna() | (table["step"].astype("Float64") == last.astype("Float64"))
        return table[taken.to_numpy(bool)].reset_index(drop=True)

    def _chosen(self, table: pd.DataFrame) -> pd.DataFrame:
        """Leave out problems of runs with too few rollouts, and earlier steps."""
        table = self._of_last_step(table)
        on = [name for name in _PROBLEM if name in table]
        if not len(self._few) or "run" not in on:
            return table
        keys = pd.MultiIndex.from_frame(table[on].astype(str))
        few = pd.MultiIndex.from_frame(self._few[on].astype(str))
        return table[~keys.isin(few)].reset_index(drop=True)

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
        for part in self._parts:
            if isinstance(part.rows, Path):
                about = read_metadata(part.rows).get("converted_from") or {}
                if "left_out" in about:
                    notes.append(f"{part.source}: {about['left_out']}.")
        for run, number in self._few["run"].value_counts(sort=False).items():
            notes.append(
                f"Run {run!r}: {plural(number, 'problem')} with fewer than {self._least} samples "
                "left out."
            )
        for name, numbers in self._numbers.items():
            by_number: dict[int, list[str]] = {}
            for run, number in numbers.items():
                by_number.setdefault(number, []).append(run)
            for number, runs in by_number.items():
                runs = [run for run in runs if name != "step" or run not in self._last]
                if number > 1 and runs:
                    notes.append(_said_of(name, number, runs, over_seeds))
        for run, step in self._last.items():
            number = self._numbers["step"][run]
            notes.append(
                f"Run {run!r} has {number} checkpoints: the last, step {step}, is compared."
            )
        apart = [one.run for one in self._given if isinstance(one, Source)]
        if len(set(apart)) > 1 and len({_SHARD.sub("", name) for name in apart}) == 1:
            notes.append(
                f"The files {apart[0]!r} to {apart[-1]!r} are compared as runs; if they are "
                "samples of one run, give it one name with --run NAME."
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
                wanted = None if some is None else {*some, *REQUIRED, *IDENTITY}
                table = _typed(read_table(part.rows, wanted)[0], part)
            else:
                table = part.rows
            if columns is not None:
                wanted = {*columns, "cluster", *REQUIRED, *IDENTITY}
                table = table[[name for name in table if name in wanted]]
            tables.append(table)
        return self._chosen(_stacked(tables, self._source))

    def some(self, problems: Iterable[str], columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of some problems' rollouts, and of no others.

        Parameters
        ----------
        problems : iterable of str
        columns : sequence of str
            Besides those that identify a rollout, and ``correct``; as far as there are any.

        Returns
        -------
        DataFrame
            Validated, see `passk_lab.validate_rollouts`.
        """
        chosen = set(problems)
        wanted = {*REQUIRED, *IDENTITY, "cluster", *columns}
        tables = []
        for part in self._parts:
            names = self._columns(part)
            keep = [name for name in names if name in wanted and name not in part.known]
            if isinstance(part.rows, pd.DataFrame):
                tables.append(part.rows.loc[part.rows["problem_id"].isin(chosen), keep])
            else:
                raw = list(dict.fromkeys(map(part.raw, keep)))
                table = _typed(_some_problems(part.rows, raw, sorted(chosen)), part)
                tables.append(table[[name for name in table if name in wanted]])
        return self._chosen(_stacked(tables, self._source))

    def missing(self) -> pd.DataFrame:
        """Count the rollouts of each problem without an answer, without text, cut off, in error.

        Returns
        -------
        DataFrame
            Columns ``run, split, problem_id``; ``no_answer, no_text, cut_off, errors`` as far as
            columns say so, and ``known no_answer``, ...: of how many rollouts.
        """
        return self._chosen(missing_of(self._parts, bool(self._last))).drop(
            columns="step", errors="ignore"
        )

    def copies(self) -> pd.DataFrame:
        """Find problems whose samples are the same ones over again, as a resumed run writes them.

        Returns
        -------
        DataFrame
            A row a problem whose contents allow for it: ``run, split, problem_id``, ``n`` samples,
            ``copies``, ``again`` (whether they are), and the ``chance`` that the same contents in
            any order would be. ``begun`` are those at the start of a problem with more samples than
            others: where a run broke off within it, they are there again.
        """
        return self._chosen(copies_of(self._parts))

    def scores(self) -> pd.DataFrame | None:
        """Read the teacher scores, where there are any."""
        if self._scores is None:
            return None
        table = self._scores
        if not isinstance(table, pd.DataFrame):
            with open_parquet(Path(table)) as file:
                table = read_parquet(file, file.schema_arrow.names, Path(table)).to_pandas()
        if "problem_id" not in table.columns:
            raise ValueError(
                "scores: column 'problem_id' is missing; make the file with passk-lab score"
            )
        return table


def as_rollouts(rollouts: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Validate a table, or read columns of what `Study` takes, or of a `Study` (default: all)."""
    if isinstance(rollouts, pd.DataFrame):
        return validate_rollouts(rollouts)
    return (rollouts if isinstance(rollouts, Study) else Study(rollouts)).rows(columns)


def _said_of(name: str, number: int, runs: Sequence[str], over_seeds: bool) -> str:
    named = f"Run{'s' if len(runs) > 1 else ''} {', '.join(map(repr, runs))}"
    many = len(runs) > 1
    if name == "seed" and over_seeds:
        return (
            f"{named} {'have' if many else 'has'} {number} training seeds, resampled along with "
            "the problems; with --pool-seeds they count as seeds of sampling, of one model."
        )
    return f"{named} pool{'' if many else 's'} the rollouts of {number} {name}s; {_POOLED[name]}."


def _own_run(file: pq.ParquetFile, source: Source) -> bool:
    """Whether a file says itself whose its rollouts are."""
    if "run" not in file.schema_arrow.names:
        return False
    if not source.said and any(one != DEFAULTS["run"] for one in _noted(file, "run")):
        return True
    runs = file.read(columns=["run"])["run"].unique().to_pylist()
    if source.said and len(runs) > 1:
        raise several_runs(source, runs)
    return not source.said and runs != [DEFAULTS["run"]]


def _noted(file: pq.ParquetFile, name: str) -> Iterator[Any]:
    """Least and largest values of a column, as far as the file's own statistics hold them."""
    about = file.metadata
    places = [at for at in range(about.num_columns) if about.schema.column(at).path == name]
    for group in range(about.num_row_groups if places else 0):
        found = about.row_group(group).column(places[0]).statistics
        if found is not None and found.has_min_max:
            yield from (found.min, found.max)


def _typed(frame: pd.DataFrame, part: Part) -> pd.DataFrame:
    return typed(part.with_cluster(frame).assign(**part.known), part.source)


def _stacked(tables: Sequence[pd.DataFrame], source: str) -> pd.DataFrame:
    return stacked(tables, source) if tables else pd.DataFrame()


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
