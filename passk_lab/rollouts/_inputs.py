"""What may be given as rollouts: tables of any library, records, verdicts, files; named or not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from passk_lab.rollouts._cells import REQUIRED
from passk_lab.rollouts._reading import with_run
from passk_lab.rollouts._sources import Source, find_sources
from passk_lab.rollouts._tables import frame_of


def inputs(rollouts: Any, run: str | None = None) -> list[pd.DataFrame | Source]:
    """Find what was given: tables as DataFrames, and files.

    Parameters
    ----------
    rollouts : table, path, sequence or mapping of these
        A table is what `as_frame` takes. A mapping names runs.
    run : str, optional
        Name for what names no run.
    """
    if isinstance(rollouts, str | os.PathLike):
        return list(find_sources([rollouts], run))
    if isinstance(rollouts, Mapping) and not {*REQUIRED, "n_samples"} & set(rollouts):
        return [_named(one, name) for name, given in rollouts.items() for one in inputs(given)]
    if isinstance(rollouts, list | tuple):
        if not rollouts:
            raise ValueError("no rollouts file given")
        if all(isinstance(one, str | os.PathLike) for one in rollouts):
            return list(find_sources(rollouts, run))
        if not any(isinstance(one, Mapping | list | tuple | np.ndarray) for one in rollouts):
            return [found for one in rollouts for found in inputs(one, run)]
    frame = as_frame(rollouts)
    return [frame if run is None or "run" in frame else frame.assign(run=run)]


def _named(one: pd.DataFrame | Source, run: str) -> pd.DataFrame | Source:
    if isinstance(one, Source):
        return replace(one, run=run, said=True)
    return with_run(one, Source(Path(), f"rollouts[{run!r}]", run, said=True))


def as_frame(table: Any) -> pd.DataFrame:
    """Make a DataFrame of a table.

    Parameters
    ----------
    table : DataFrame, Arrow or polars table, Dataset, records, or verdicts
        Any table with the Arrow interface or ``to_pandas()``; a mapping of columns; a list of
        dictionaries; or an array (problems, samples) of verdicts, whose rows may differ in length.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        It is none of these.

    Examples
    --------
    >>> as_frame([[True, False], [False]])
       problem_id  correct
    0           0     True
    1           0    False
    2           1    False
    """
    if isinstance(table, pd.DataFrame):
        return table
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table).to_pandas()
    if hasattr(table, "to_pandas"):
        return table.to_pandas()
    if isinstance(table, Mapping):
        return pd.DataFrame(dict(table))
    if isinstance(table, Sequence) and table and all(isinstance(one, Mapping) for one in table):
        return frame_of(table)
    if isinstance(table, list | tuple | np.ndarray):
        return _verdicts(table)
    raise ValueError(
        f"rollouts: a {type(table).__name__} is no table; give a DataFrame, an Arrow or polars "
        "table, a list of dictionaries, an array of verdicts (problems, samples), or paths"
    )


def _verdicts(rows: Any) -> pd.DataFrame:
    if any(np.ndim(row) != 1 or not len(row) for row in rows):
        raise ValueError(
            "rollouts: an array of verdicts has two axes, problems and samples, and no empty row"
        )
    sizes = [len(row) for row in rows]
    verdicts = np.concatenate([np.asarray(row) for row in rows])
    return pd.DataFrame(
        {"problem_id": np.repeat(np.arange(len(sizes)), sizes), "correct": verdicts}
    )
