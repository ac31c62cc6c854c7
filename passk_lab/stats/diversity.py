"""All diversity metrics of each run in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import pandas as pd

from passk_lab.metrics.embedders import Embedder
from passk_lab.metrics.embedding import THRESHOLD
from passk_lab.metrics.functional import semantic_entropy
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import as_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats.answers import functional_values
from passk_lab.stats.entropies import entropies_of, entropy_values
from passk_lab.stats.estimates import mean_table, pair_table
from passk_lab.stats.meanings import embedding_values
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.texts import TextOptions, ngram_values, read_texts, split_options
from passk_lab.stats.values import ProblemValues, shared_problems, values_of_frame

__all__ = ["diversity_summary"]


def diversity_summary(
    rollouts: pd.DataFrame | PathLike,
    baseline: str | None = None,
    *,
    embedder: str | Embedder | None = None,
    threshold: float = THRESHOLD,
    ngram_metrics: Sequence[str] | None = None,
    **options: Unpack[TextOptions],
) -> pd.DataFrame:
    """Average every diversity metric of each run over problems, with intervals and differences.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table, or a file of one. The columns decide which families there are.
    baseline : str, optional
        The run to compare with, problem by problem.
    embedder : str or callable, optional
        Adds the families "embedding" and "semantic": see `passk_lab.metrics.embedding`.
    threshold : float
        Cosine distance below which texts are of one meaning: see
        `passk_lab.metrics.embedding.semantic_modes`.
    ngram_metrics : sequence of str, optional
        As for `ngram_summary`.
    **options
        Fields of `passk_lab.stats.TextChoice` and `passk_lab.stats.Resampling`. With ``n_samples``
        "all" texts and embeddings rest on all there are, which compares runs of unequal numbers
        unfairly; distinct answers and modes are counted at the smallest number all the same.
        ``correct_only`` is about texts and semantic modes: answers are counted among the correct
        ones in any case, entropies are of all samples.

    Returns
    -------
    DataFrame
        Columns ``run, split, family, metric, estimate, low, high, n_samples, n_problems,
        n_defined``, one row a metric, and with a baseline ``difference, difference_low,
        difference_high, n_paired``: the paired difference to it and the number of problems it rests
        on (NaN and 0 for the baseline itself, and where nothing can be paired).

        ``n_samples`` is the number at which the metric compares; 0 where it takes all samples of
        each problem. ``n_defined`` counts the problems averaged over: those with as many samples
        where the metric is defined; where it is 0, the estimate is NaN. The families:

        - ``functional`` (needs ``answer``): metrics of `functional_summary`
        - ``ngram`` (``text``): of `ngram_summary`
        - ``embedding`` (``text``, embedder): ``cosine_distance``, ``vendi``, ``effective_rank``
        - ``semantic`` (``text``, embedder): functional metrics of semantic modes, and
          ``semantic_entropy`` (Chao, Wang and Jost)
        - ``entropy`` (``logprob`` or ``token_entropy``): of `entropy_summary`

    Raises
    ------
    ValueError
        The table is refused or has none of the columns; the baseline is no run; a text is missing;
        as the families' own functions.

    Notes
    -----
    Problems are resampled whole, so that intervals cover the choice of problems and the sampling
    within them. Texts of all runs of a problem are embedded and grouped together; "tfidf" is fitted
    to them. Cosine distance is an average over pairs, which does not depend on the number of
    samples, and so takes all of them. See `docs/diversity.md` for which metric to trust.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"run": ["a"] * 4 + ["b"] * 4, "problem_id": list("ppqq") * 2,
    ...                       "correct": True, "text": ["x y", "z w"] * 2 + ["x y"] * 4})
    >>> metrics = ["distinct_1", "self_bleu"]
    >>> found = diversity_summary(table, "a", ngram_metrics=metrics, random_state=0)
    >>> found[["run", "metric", "estimate", "n_samples", "difference"]]
      run      metric  estimate  n_samples  difference
    0   a  distinct_1       1.0          2         NaN
    1   a   self_bleu       0.0          2         NaN
    2   b  distinct_1       0.5          2        -0.5
    3   b   self_bleu       1.0          2         1.0
    """
    by = list(MAIN_KEYS)
    table = as_rollouts(rollouts)
    if not len(table):
        raise ValueError("rollouts: the table holds no rollouts")
    runs = list(dict.fromkeys(table["run"].astype(str)))
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    choice, how = split_options(options)
    rng = how.generator()
    sizes = table.groupby([*by, "problem_id"], observed=True).size()
    k = choice.size(sizes) or replace(choice, n_samples="smallest").size(sizes)
    assert k is not None
    families: list[tuple[str, pd.DataFrame, int]] = []  # with the number at which it compares
    if "answer" in table.columns:
        families.append(("functional", functional_values(counts(table, by, True), k, True, by), k))
    if "text" in table.columns:
        table = read_texts(table)  # refuses a missing text
        texts, size = ngram_values(table, ngram_metrics, by, choice, rng)
        families.append(("ngram", texts, size or 0))
        if embedder is not None:
            embedded, modes = embedding_values(table, embedder, threshold, choice, size, rng)
            families.append(("embedding", embedded, size or 0))
            meanings = counts(table.assign(answer=modes), by, modes=True)
            families.append(("semantic", _semantic_values(meanings, k, choice.correct_only), k))
    elif embedder is not None:
        raise ValueError("rollouts: column 'text' is missing; the embedder needs it")
    if entropies_of(table.columns):
        families.append(("entropy", entropy_values(table, None, by), 0))
    if not families:
        raise ValueError(
            "rollouts: diversity needs one of the columns 'answer', 'text', 'logprob' and "
            "'token_entropy'"
        )
    parts = []
    for family, frame, compared_at in families:
        values = values_of_frame(frame, by)
        found = mean_table(values, by, "metric", how).drop(columns="n_seeds")
        of_all = [family == "entropy" or _takes_all(family, metric) for metric in found["metric"]]
        found.insert(2, "family", family)
        found.insert(7, "n_samples", np.where(of_all, 0, compared_at))
        if baseline is not None:
            found = found.merge(_against(baseline, values, how), on=[*by, "metric"], how="left")
            found["n_paired"] = found["n_paired"].fillna(0).astype(np.int64)
        parts.append(found)
    whole = pd.concat(parts, ignore_index=True)
    return whole.sort_values(by, kind="stable", ignore_index=True)


def _against(baseline: str, values: Sequence[ProblemValues], how: Resampling) -> pd.DataFrame:
    """Differences to the baseline, over the problems that both runs have."""
    groups = {group.group: group for group in values}
    parts = []
    for (run, split), mine in groups.items():
        base = groups.get((baseline, split))
        if run == baseline or base is None:
            continue
        mine, base = shared_problems(mine, base)
        gap = pair_table(mine, base, how)
        parts.append(
            pd.DataFrame(
                {
                    "run": run,
                    "split": split,
                    "metric": mine.columns,
                    "difference": gap["difference"],
                    "difference_low": gap["low"],
                    "difference_high": gap["high"],
                    "n_paired": gap["n_paired"],
                }
            )
        )
    columns = ["run", "split", "metric", "difference", "difference_low", "difference_high"]
    return pd.concat(parts) if parts else pd.DataFrame(columns=[*columns, "n_paired"])


def _takes_all(family: str, metric: str) -> bool:
    """Whether a metric takes all samples of each problem, whatever their number."""
    if family in ("functional", "semantic"):
        return "@" not in metric
    return metric == "cosine_distance"


def _semantic_values(counts: pd.DataFrame, k: int, correct_only: bool) -> pd.DataFrame:
    values = functional_values(counts, k, correct_only, MAIN_KEYS)
    cells = counts["correct_mode_counts" if correct_only else "mode_counts"]
    # As for the other corrected estimators, a single sample says nothing.
    return values.assign(
        semantic_entropy=[
            semantic_entropy(cell, "chao_jost") if cell.sum() > 1 else np.nan for cell in cells
        ]
    )
