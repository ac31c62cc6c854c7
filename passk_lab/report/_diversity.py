"""The report's panel on how different the texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from passk_lab.metrics.registry import find_metric
from passk_lab.report.model import Settings
from passk_lab.stats._families import entropies_of
from passk_lab.stats.diversity import diversity_summary
from passk_lab.stats.intervals import format_estimate

# So that a report of millions of long texts stays a matter of seconds.
MOST_PROBLEMS = 100
MOST_TEXTS = 32  # of a problem and run

ENTROPIES = ("logprob", "n_tokens", "token_entropy")

# Family, metric, its name on the page (the arrow points to the more diverse) and what it is.
_SHOWN = (
    ("ngram", "distinct_2", "distinct-2 ↑", "share of word pairs that are different ones"),
    ("ngram", "ead", "EAD ↑", "distinct words by how many chance alone would give"),
    ("ngram", "self_bleu", "self-BLEU ↓", "BLEU of each text against the others"),
    ("ngram", "self_repetition", "repetition ↓", "log of how often four words recur in others"),
    ("ngram", "compression_gzip", "compression ↓", "how many times smaller gzip makes the texts"),
    ("embedding", "cosine_distance", "distance ↑", "mean cosine distance of two embeddings"),
    ("embedding", "vendi", "Vendi ↑", "effective number of different embeddings"),
    ("semantic", "distinct@{n}", "meanings@{n} ↑", "clusters of embeddings among {n} texts"),
    ("entropy", "token_entropy", "token entropy ↑", "mean over tokens, nats"),
)


def choose_problems(counts: pd.DataFrame, random_state: int | None) -> dict[str, list[str]]:
    """Choose the problems of each split whose texts are compared: a random few of many."""
    rng = np.random.default_rng(random_state)
    chosen = {}
    for split, rows in counts.groupby("split", sort=True, observed=True):
        problems = np.array(sorted(set(rows["problem_id"])), dtype=object)
        if len(problems) > MOST_PROBLEMS:
            problems = np.sort(rng.choice(problems, MOST_PROBLEMS, replace=False))
        chosen[str(split)] = problems.tolist()
    return chosen


def text_diversity(
    texts: pd.DataFrame,
    baseline: str | None,
    settings: Settings,
    over_seeds: bool,
) -> tuple[pd.DataFrame | None, list[str]]:
    """Compare the texts of the runs of one split, and their entropies; also say what is left out.

    None where no problem of a run has two texts.
    """
    there = texts["text"].notna()
    said = []
    if not there.all():
        said.append(
            f"{(~there).sum()} of {len(texts)} rollouts have no text and are left out of the "
            "diversity of texts"
        )
    rows = texts[there].sort_values(["run", "problem_id", "sample_id"], kind="stable")
    seed = ["seed"] if over_seeds else []
    groups = rows.groupby(["run", *seed, "problem_id"], sort=False, observed=True)
    rows = groups.head(max(2, MOST_TEXTS // rows["seed"].nunique()) if seed else MOST_TEXTS)
    if not len(rows) or groups.size().max() < 2:
        return None, said
    finite, entropies, more = _finite(rows)
    tables = [
        diversity_summary(
            # Samples are numbered anew: several seeds may number theirs alike.
            part[["run", "split", *seed, "problem_id", "correct", *columns]],
            baseline if baseline in set(part["run"]) else None,
            embedder=settings.embedder if columns == ["text"] else None,
            over_seeds=over_seeds,
            n_draws=1,
            **settings.resampling,
        )
        for part, columns in ((rows, ["text"]), (finite, entropies))
        if columns and len(part)
    ]
    found = pd.concat(tables, ignore_index=True)
    return found.sort_values(["run", "split"], kind="stable", ignore_index=True), said + more


def _finite(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Give the rollouts with usable entropies, and their columns; say what is left out."""
    known = [name for name in ENTROPIES if name in rows and rows[name].notna().any()]
    if not entropies_of(known):
        return rows, [], []
    usable: dict[str, pd.Series] = {}
    said = []
    for name in known:
        values = rows[name].astype("float64")
        good = values.between(0 if name == "n_tokens" else -np.inf, np.inf, inclusive="neither")
        lacks = ~good.groupby(rows["run"], sort=False).any()
        if lacks.any():
            said.append(f"run {lacks.idxmax()!r} has no usable {name}, which is left out")
        else:
            usable[name] = good
    keep = pd.DataFrame(usable, index=rows.index).all(axis=1)
    if not keep.all():
        said.append(
            f"{(~keep).sum()} of {len(rows)} rollouts looked at have no usable "
            f"{' or '.join(usable)} and are left out of the entropies"
        )
    return rows[keep], list(usable) if entropies_of(usable) else [], said


def panel_view(table: pd.DataFrame, runs: Sequence[str], n_all_problems: int) -> dict[str, Any]:
    """Arrange the table for the page: a row a metric, a column a run."""
    n_texts = int(table["n_samples"].max())
    found = {(r["run"], r["family"], r["metric"]): r for r in table.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for family, metric, name, words in _SHOWN:
        of_runs = [found.get((run, family, metric.format(n=n_texts))) for run in runs]
        cells = [_cell(row) for row in of_runs if row is not None]
        if cells:
            rows.append(
                {"name": name.format(n=n_texts), "words": words.format(n=n_texts), "cells": cells}
            )
    return {
        "runs": runs,
        "rows": rows,
        "changes": any(cell["change"] for row in rows for cell in row["cells"]),
        "n_texts": n_texts,
        "n_problems": int(table["n_problems"].max()),
        "n_all_problems": n_all_problems,
    }


def metrics_view(table: pd.DataFrame, runs: Sequence[str]) -> dict[str, Any]:
    """Arrange the metrics that were asked for, as `panel_view` does."""
    rows: list[dict[str, Any]] = []
    for (name, k), part in table.groupby(["metric", "k"], sort=False):
        of_runs = {row["run"]: row for row in part.to_dict("records")}
        metric = find_metric(str(name))[0]
        arrow = {"higher": " ↑", "lower": " ↓"}.get(metric.better, "")
        rows.append(
            {
                "name": f"{name}{f', k = {k}' if k else ''}{arrow}",
                "words": metric.says,
                "cells": [_cell(of_runs[run]) if run in of_runs else _EMPTY for run in runs],
            }
        )
    changes = any(cell["change"] for row in rows for cell in row["cells"])
    return {"runs": runs, "rows": rows, "changes": changes}


_EMPTY = {"value": "", "limits": "", "change": None, "clear": False}


def _cell(row: Mapping[Any, Any]) -> dict[str, Any]:
    if not row["n_defined"]:
        return {"value": "n/a", "limits": "", "change": None, "clear": False}
    change, clear = None, False
    if row.get("n_paired"):
        low, high = row["difference_low"], row["difference_high"]
        change = format_estimate(row["difference"], low, high, digits=3, signed=True)
        clear = bool(low > 0 or high < 0)
    found = format_estimate(row["estimate"], row["low"], row["high"], digits=3)
    value, _, limits = found.partition(" ")
    return {"value": value, "limits": limits, "change": change, "clear": clear}
