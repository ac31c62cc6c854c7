"""A file as rows of the rollouts table, unchecked; the run that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from passk_lab.rollouts._cells import DEFAULTS, IDENTITY, REQUIRED, STRING, refuse_nested
from passk_lab.rollouts._sources import Source
from passk_lab.rollouts._tables import read_table
from passk_lab.rollouts.layout import Layout


def read_source(
    source: Source, layout: Layout, columns: Iterable[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Read a file's columns, those that every rollout needs among them, unchecked.

    The list names all columns of the file.
    """
    wanted = None if columns is None else layout.raw({*columns, *REQUIRED, *IDENTITY})
    frame, names = read_table(source.path, wanted, layout.columns, layout.records)
    if frame.empty:
        raise ValueError(f"{source.name}: the file holds no rollouts")
    return with_run(layout.apply(frame, source.name, names), source), names


def with_run(frame: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Name the run, where the rows don't or another name was given with the file."""
    if "run" in frame:
        refuse_nested(frame["run"], "run", source.name)
    own = [] if "run" not in frame else frame["run"].unique().tolist()
    if source.said and len(own) > 1:
        raise several_runs(source, own)
    if not source.said and own and own != [DEFAULTS["run"]]:
        return frame
    return frame.assign(run=pd.Series(source.run, index=frame.index, dtype=STRING))


def several_runs(source: Source, runs: Sequence[str]) -> ValueError:
    """Say that a file can't be called as a run, for it holds several."""
    return ValueError(
        f"{source.name}: holds several runs ({', '.join(map(str, runs[:5]))}), so it can't be "
        f"called {source.run!r}; give it without {source.run}="
    )
