"""Entropies of each problem and run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack, cast

import numpy as np
import pandas as pd

from passk_lab.metrics.registry import METRICS, Metric
from passk_lab.rollouts.files import as_rollouts
from passk_lab.rollouts.table import PathLike
from passk_lab.stats.estimates import mean_table
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import values_of_frame

__all__ = ["entropy_summary"]


def entropy_summary(
    rollouts: pd.DataFrame | PathLike,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = ("run", "split"),
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Average the entropies of each run over problems, with bootstrap intervals.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with ``logprob`` or ``token_entropy``, and ``n_tokens`` for most metrics.
    metrics : sequence of str, optional
        "token_entropy", "sequence_entropy", "sequence_entropy_from_tokens", "entropy_per_token"
        and "entropy_rate": the functions of this module. Default: those whose columns are there.
    by : sequence of str
        Columns that tell runs apart.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, metric, estimate, low, high, n_problems``, one row a metric.

    Raises
    ------
    ValueError
        The table is refused; a column is missing or holds a missing value (the problem is named);
        a metric is unknown.

    Notes
    -----
    All but "entropy_rate" are unbiased at any number of samples, so that problems and runs may
    differ in it.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aab"), "correct": True, "n_tokens": [2, 4, 1],
    ...                       "logprob": [-1.0, -2.0, -3.0]})
    >>> entropy_summary(table, random_state=0)[["metric", "estimate", "n_problems"]]
                  metric  estimate  n_problems
    0   sequence_entropy      2.25           2
    1  entropy_per_token      1.75           2
    2       entropy_rate      1.75           2
    """
    values = values_of_frame(entropy_values(rollouts, metrics, by), by)
    found = mean_table(values, by, "metric", Resampling(**resampling))
    return found.drop(columns=["n_defined", "n_seeds"])


def entropy_values(
    rollouts: pd.DataFrame | PathLike, metrics: Sequence[str] | None, by: Sequence[str]
) -> pd.DataFrame:
    """Entropies of each problem: columns ``*by, problem_id``, and one a metric."""
    table = as_rollouts(rollouts)
    for name in by:
        if name not in table.columns:
            raise ValueError(f"rollouts: no column {name!r} to group by")
    if metrics is None:
        metrics = entropies_of(table.columns)
        if not metrics:
            raise ValueError("rollouts: entropies need the column 'logprob' or 'token_entropy'")
    chosen = [_entropy(name) for name in metrics]
    for metric in chosen:
        for name in metric.columns:
            if name not in table.columns:
                raise ValueError(f"rollouts: column {name!r} is missing; {metric.name} needs it")
    if not len(table):
        raise ValueError("rollouts: the table holds no rollouts")
    rows = []
    for key, part in table.groupby([*by, "problem_id"], sort=True, dropna=False, observed=True):
        *run, problem = cast(tuple[Any, ...], key)
        columns = {
            name: part[name].to_numpy(dtype=np.float64, na_value=np.nan)
            for metric in chosen
            for name in metric.columns
        }
        try:
            found = [metric(*(columns[name] for name in metric.columns))[0] for metric in chosen]
        except ValueError as error:
            raise ValueError(f"problem_id={problem!r}: {error}") from error
        rows.append((*run, problem, *found))
    return pd.DataFrame(rows, columns=[*by, "problem_id", *metrics])


def entropies_of(columns: Iterable[str]) -> list[str]:
    """Metrics that a table with these columns allows."""
    return [name for name, metric in _entropies().items() if set(metric.columns) <= set(columns)]


def _entropies() -> dict[str, Metric]:
    return {name: metric for name, metric in METRICS.items() if metric.needs == "logprobs"}


def _entropy(name: str) -> Metric:
    known = _entropies()
    if name not in known:
        raise ValueError(f"metrics holds {name!r}, which is none of {', '.join(known)}")
    return known[name]
