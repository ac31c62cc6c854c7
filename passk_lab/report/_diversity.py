"""The report's panel on how different the texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from passk_lab._text import interval
from passk_lab.metrics.registry import find_metric
from passk_lab.report.model import Settings
from passk_lab.stats.diversity import diversity_summary

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
) -> tuple[pd.DataFrame | None, int]:
    """Compare the texts of the runs of one split; also say how many rollouts have none.

    None where no problem of a run has two texts.
    """
    there = texts["text"].notna()
    rows = texts[there].sort_values(["run", "problem_id", "sample_id"], kind="stable")
    seed = ["seed"] if over_seeds else []
    groups = rows.groupby(["run", *seed, "problem_id"], sort=False, observed=True)
    rows = groups.head(max(2, MOST_TEXTS // rows["seed"].nunique()) if seed else MOST_TEXTS)
    if not len(rows) or groups.size().max() < 2:
        return None, int((~there).sum())
    entropies = [name for name in ENTROPIES if name in rows and rows[name].notna().all()]
    if "n_tokens" in entropies and (rows["n_tokens"] == 0).any():  # nothing to divide by
        entropies.remove("n_tokens")
    # Samples are numbered anew: several seeds may number theirs alike.
    table = rows[["run", "split", *seed, "problem_id", "correct", "text", *entropies]]
    found = diversity_summary(
        table,
        baseline if baseline in set(rows["run"]) else None,
        embedder=settings.embedder,
        over_seeds=over_seeds,
        n_draws=1,
        **settings.resampling,
    )
    return found, int((~there).sum())


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
        change = f"{row['difference']:+.3f} {interval(low, high, 3, signed=True)}"
        clear = bool(low > 0 or high < 0)
    limits = interval(row["low"], row["high"], 3)
    return {"value": f"{row['estimate']:.3f}", "limits": limits, "change": change, "clear": clear}
