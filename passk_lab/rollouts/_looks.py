"""What rollouts hold besides verdicts: what is missing or cut off, and what is there twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.rollouts._rows import Part, Rows, database, key_column, source_of
from passk_lab.rollouts.table import MAIN_KEYS

_CONTENT = ("text", "answer")  # the one that says more first
# Columns that say that a reply was cut off, and the values that do.
_CUT_OFF = {
    "finish_reason": ("length", "max_tokens"),
    "stop_reason": ("length", "max_tokens", "model_length"),
    "truncated": ("true", "1"),
    "is_truncated": ("true", "1"),
    "ended": ("false", "0"),
}
_NO_ERROR = ("", "none", "null", "false")
_PROBLEMS = 1 << 12  # at a time

_MISSING = "SELECT {keys}, {counts} FROM rows GROUP BY {keys} ORDER BY ALL"
_IN_ORDER = """
SELECT {owner}, list(content ORDER BY row) AS contents
FROM (SELECT {owner}, row, hash(coalesce({content})) AS content FROM rows {chosen})
GROUP BY {owner} HAVING count(*) >= 4 {also}
"""
_COPIED = "AND 2 * count(DISTINCT content) <= count(*)"  # each content occurs twice at least
# Problems with more samples than the others of their model, by how many.
_LONGER = """
CREATE TEMP TABLE longer AS SELECT * FROM (
    SELECT {owner}, count(*) - quantile_disc(count(*), 0.5) OVER (PARTITION BY {model}) AS extra,
        quantile_disc(count(*), 0.5) OVER (PARTITION BY {model}) AS usual
    FROM rows GROUP BY {owner}
) WHERE extra BETWEEN 2 AND usual - 1
"""


def missing_of(parts: Sequence[Part], steps: bool) -> pd.DataFrame:
    """Count the rollouts of each problem that lack something.

    Columns run, split, step (if asked for), problem_id; and of ``no_answer, no_text, cut_off,
    errors`` those that some part knows, each with ``known NAME``: of how many rollouts.
    """
    keys = [*MAIN_KEYS, *(["step"] if steps else []), "problem_id"]
    with database(source_of(parts)) as con:
        rows = Rows(con, parts, keys[:-1], False, (*_CONTENT, *_CUT_OFF, "error"))
        counts = [
            f'count(*) FILTER ({at})::BIGINT AS "{name}"'
            for look, (known, hit) in _conditions(rows.more).items()
            for name, at in ((f"known {look}", known), (look, f"({known}) AND ({hit})"))
        ]
        query = _MISSING.format(keys=", ".join(keys), counts=", ".join(counts or ["count(*)"]))
        found = con.sql(query).to_arrow_table()
    table = {name: key_column(found[name], name) for name in keys}
    rest = found.column_names[len(keys) :] if counts else []
    return pd.DataFrame({**table, **{name: found[name].to_numpy() for name in rest}})


def _conditions(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """SQL of each look: where it is known, and where it is so."""
    found = {}
    for name in _CONTENT:
        if name in names:
            blank = f"""NOT coalesce(regexp_matches("more {name}", '\\S'), false)"""
            found[f"no_{name}"] = (f'"has {name}"', blank)
    cut = {name: values for name, values in _CUT_OFF.items() if name in names}
    if cut:
        known = " OR ".join(f'"has {name}"' for name in cut)
        hit = " OR ".join(
            f"""coalesce(lower("more {name}") IN {values}, false)""" for name, values in cut.items()
        )
        found["cut_off"] = (known, hit)
    if "error" in names:
        # Numbers in a column of this name measure something.
        hit = f"""lower(trim("more error")) NOT IN {_NO_ERROR}
            AND try_cast("more error" AS DOUBLE) IS NULL"""
        found["errors"] = ('"has error"', f"coalesce({hit}, false)")
    return found


def copies_of(parts: Sequence[Part]) -> pd.DataFrame:
    """Find problems whose samples may be the same ones two or three times over, in their order.

    Returns
    -------
    DataFrame
        A row a problem and number of ``copies`` that its contents allow, with the columns that
        name it, ``n`` samples, ``again``, whether the samples are these copies, and ``chance``: of
        all orders of the same contents, the share that are. Independent samples come in any order.
        Of a problem with more samples than are usual also those at its start, twice as many as it
        has too many: ``begun``.
    """
    found = []
    with database(source_of(parts)) as con:
        rows = Rows(con, parts, (), False, _CONTENT)
        rows.number(True)
        owner = rows.owner
        content = ", ".join([*(f'"more {name}"' for name in rows.more), "correct::VARCHAR"])
        for name, mine in _ordered(con, owner, content, also=_COPIED):
            found += [(*name, len(mine), False, *one) for one in _copies(mine)]
        model = ", ".join(name for name in owner if name != "problem_id")
        con.execute(_LONGER.format(owner=", ".join(owner), model=model))
        extra = {tuple(row[:-2]): row[-2] for row in con.sql("FROM longer").fetchall()}
        same = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM longer.{name}" for name in owner)
        chosen = f"WHERE EXISTS (FROM longer WHERE {same})"
        for name, mine in _ordered(con, owner, content, chosen) if extra else ():
            start = mine[: 2 * extra[name]]
            found += [(*name, len(start), True, *one) for one in _copies(start) if one[0] == 2]
    return pd.DataFrame(found, columns=[*owner, "n", "begun", "copies", "again", "chance"])


def _ordered(
    con: duckdb.DuckDBPyConnection,
    owner: Sequence[str],
    content: str,
    chosen: str = "",
    also: str = "",
) -> Iterator[tuple[tuple[Any, ...], npt.NDArray[np.uint64]]]:
    """Give problems with their contents in the order of the rows."""
    query = _IN_ORDER.format(owner=", ".join(owner), content=content, chosen=chosen, also=also)
    for batch in con.sql(query).to_arrow_reader(_PROBLEMS):
        names = zip(*(batch[name].to_pylist() for name in owner), strict=True)
        lists = batch["contents"]
        ends, flat = lists.offsets.to_numpy(), lists.values.to_numpy()
        for at, name in enumerate(names):
            yield name, flat[ends[at] : ends[at + 1]]


def _copies(contents: npt.NDArray[np.uint64]) -> Iterator[tuple[int, bool, float]]:
    times = np.unique(contents, return_counts=True)[1]
    for copies in (2, 3):
        if (times % copies).any():
            continue
        size = len(contents) // copies
        orders = _log_orders(times)
        within = _log_orders(times // copies)
        blocks = contents.reshape(copies, size)
        yield copies, bool((blocks == blocks[0]).all()), math.exp(within - orders)


def _log_orders(times: npt.NDArray[np.int64]) -> float:
    """How many orders there are of contents that occur so often, in logarithms."""
    return math.lgamma(times.sum() + 1) - sum(math.lgamma(n + 1) for n in times.tolist())
