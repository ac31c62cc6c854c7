"""The rollouts table: one row a rollout, the one container that every metric reads.

Required columns: ``problem_id`` (string) and ``correct`` (bool). Optional columns are used where
they are present: ``run`` (method or checkpoint), ``split`` ("id", "ood-..."), ``cluster`` (the
family of a problem, such as variants of one template: resampled together), ``sample_id``,
``answer`` (canonical form: equal answers are the same solution), ``text``, ``score``,
``logprob`` (summed over tokens, nats), ``n_tokens``, ``token_entropy`` (mean over tokens, nats),
``temperature``, ``seed`` and ``step``. Unknown columns pass through untouched.

A row is identified by (run, split, problem_id, sample_id), together with ``seed`` and ``step``
where these columns exist. Duplicates are refused, for they would count one rollout twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd

from passk_lab.rollouts._cells import IDENTITY, first_row, repeated_rollout, two_clusters, typed

__all__ = ["FORMAT_VERSION", "MAIN_KEYS", "validate_rollouts"]

FORMAT_VERSION = "1"
MAIN_KEYS = ("run", "split")

PathLike = str | os.PathLike[str]


def validate_rollouts(rollouts: pd.DataFrame, source: str = "rollouts") -> pd.DataFrame:
    """Check a table and bring its columns to their types.

    Parameters
    ----------
    rollouts : DataFrame
        One row a rollout; at least ``problem_id`` and ``correct``.
    source : str
        How error messages call the table, a file name for example.

    Returns
    -------
    DataFrame
        A new table with ``run`` ("default"), ``split`` ("id") and ``sample_id`` (0, 1, ... in
        row order) added where they were missing. Unknown columns are kept as they are.

    Raises
    ------
    ValueError
        A required column is missing; a value can't be read as its column's type; a rollout
        occurs twice; a problem of a split is in two clusters. The message names column, row
        (0-based) and what to do.

    Examples
    --------
    >>> import pandas as pd
    >>> validate_rollouts(pd.DataFrame({"problem_id": [7, 7], "correct": ["true", "False"]}))
      problem_id  correct      run split  sample_id
    0          7     True  default    id          0
    1          7    False  default    id          1
    """
    return stacked([typed(rollouts, source)], source)


def stacked(tables: Sequence[pd.DataFrame], source: str) -> pd.DataFrame:
    """Put tables of the right types together, and check them as one.

    Rows without a ``sample_id`` are numbered on, in the order of the tables.
    """
    table = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)
    _number(table)
    identity = [name for name in IDENTITY if name in table.columns]
    repeats = table.duplicated(identity).to_numpy()
    if repeats.any():
        row = first_row(repeats)
        raise repeated_rollout(source, row, table[identity].iloc[row].to_dict())
    _refuse_two_clusters(table, source)
    return table


def _number(table: pd.DataFrame) -> None:
    owner = [name for name in IDENTITY if name in table.columns and name != "sample_id"]
    known = table["sample_id"] if "sample_id" in table.columns else None
    if known is None or known.isna().any():
        missing = table if known is None else table[known.isna()]
        groups = missing.groupby(owner, observed=True, dropna=False, sort=False)
        ids = groups.cumcount()
        if known is not None:
            last = table.groupby(owner, observed=True, dropna=False)["sample_id"].transform("max")
            ids = known.fillna(last.fillna(-1) + 1 + ids)
        table["sample_id"] = ids.astype("int64")


def _refuse_two_clusters(table: pd.DataFrame, source: str) -> None:
    if "cluster" not in table.columns:
        return
    families = table[["split", "problem_id", "cluster"]].drop_duplicates()
    again = families.duplicated(["split", "problem_id"]).to_numpy()
    if again.any():
        split, problem, _ = families.iloc[first_row(again)]
        both = families[(families["split"] == split) & (families["problem_id"] == problem)]
        raise two_clusters(source, (problem, *sorted(both["cluster"].iloc[:2])))
