"""All diversity metrics of each run in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import pandas as pd

from passk_lab.metrics.embedders import Embedder
from passk_lab.metrics.embedding import THRESHOLD
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.study import as_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._estimates import mean_table, pair_table
from passk_lab.stats._families import (
    TextChoice,
    TextOptions,
    embed_problems,
    embedding_values,
    entropies_of,
    entropy_values,
    functional_values,
    mode_names,
    ngram_values,
    read_texts,
    semantic_values,
    split_options,
)
from passk_lab.stats._pairs import check_baseline
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.values import ProblemValues

__all__ = [
    "TextChoice",
    "TextOptions",
    "diversity_summary",
    "with_semantic_modes",
]


def diversity_summary(
    rollouts: pd.DataFrame | PathLike,
    baseline: str | None = None,
    *,
    embedder: str | Embedder | None = None,
    threshold: float = THRESHOLD,
    ngram_metrics: Sequence[str] | None = None,
    over_seeds: bool = False,
    **options: Unpack[TextOptions],
) -> pd.DataFrame:
    """Average every diversity metric of each run over problems, with intervals and differences.

    Parameters
    ----------
    rollouts : DataFrame or path
        The columns decide which families there are.
    baseline : str, optional
        The run to compare with, problem by problem.
    embedder : str or callable, optional
        Adds the families "embedding" and "semantic": see `passk_lab.metrics.embedders`.
    threshold : float
        Of `passk_lab.metrics.semantic_modes`.
    ngram_metrics : sequence of str, optional
        Default: all metrics of texts but those that need an extra.
    over_seeds : bool
        With a column ``seed``: diversity within each training seed, averaged over the seeds, with
        intervals for the choice of both. By default samples of all seeds are pooled, and count as
        those of one model.
    **options
        Fields of `TextChoice` and `Resampling`. With ``n_samples`` "all" texts and embeddings rest
        on all there are, which compares runs of unequal numbers unfairly; answers and modes are
        counted at the smallest number all the same. ``correct_only`` is about texts and semantic
        modes: answers are counted among the correct ones in any case, entropies are of all samples.

    Returns
    -------
    DataFrame
        Columns ``run, split, family, metric, estimate, low, high, n_samples, n_problems,
        n_defined``, one row a metric, and with a baseline ``difference, difference_low,
        difference_high, n_paired`` (NaN and 0 for the baseline itself). ``n_samples`` is the number
        at which the metric compares, 0 where it takes all; ``n_defined`` counts the problems
        averaged over: those with as many samples where the metric is defined. The families:

        - ``functional`` (needs ``answer``): ``distinct@k`` and ``two_modes@k`` of all problems,
          Hill numbers and Good-Turing ``coverage`` of the correct answers, naive from one sample
          and corrected from two samples on, and ``n_counted``, on which these rest
        - ``ngram`` (``text``): metrics of texts
        - ``embedding`` (``text``, embedder): ``cosine_distance``, ``vendi``, ``effective_rank``
        - ``semantic`` (``text``, embedder): as functional, of semantic modes, and
          ``semantic_entropy`` (Chao, Wang and Jost)
        - ``entropy`` (``logprob`` or ``token_entropy``): entropies in nats

    Raises
    ------
    ValueError
        The table is refused or has none of the columns; the baseline is no run; a text is missing;
        a metric is unknown or lacks its package.

    Notes
    -----
    Texts of all runs of a problem are embedded and grouped together. Runs differ in their number of
    correct samples, so that Hill numbers of correct answers can't be compared at an equal one;
    corrected ones make up for most of that. At q = 2 the mean is harmonic: the inverse of the mean
    chance that two samples agree, which is unbiased, while the Hill number of a problem without two
    samples alike is infinite. See `docs/diversity.md` for which metric to trust.

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
    by = [*MAIN_KEYS, "seed"] if over_seeds else list(MAIN_KEYS)
    table = as_rollouts(rollouts)
    _check(table, by, baseline)
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
            embedded, modes = embedding_values(table, embedder, threshold, choice, size, by, rng)
            families.append(("embedding", embedded, size or 0))
            meanings = counts(table.assign(answer=modes), by, modes=True)
            families.append(("semantic", semantic_values(meanings, k, choice.correct_only, by), k))
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
        values = [part.clustered(table, by) for part in ProblemValues.of_frame(frame, by)]
        if over_seeds:
            values = ProblemValues.stacked(values)
        found = mean_table(values, MAIN_KEYS, "metric", how).drop(columns="n_seeds")
        of_all = [family == "entropy" or _takes_all(family, metric) for metric in found["metric"]]
        found.insert(2, "family", family)
        found.insert(7, "n_samples", np.where(of_all, 0, compared_at))
        if baseline is not None:
            found = found.merge(
                _against(baseline, values, how), on=[*MAIN_KEYS, "metric"], how="left"
            )
            found["n_paired"] = found["n_paired"].fillna(0).astype(np.int64)
        parts.append(found)
    whole = pd.concat(parts, ignore_index=True)
    return whole.sort_values(list(MAIN_KEYS), kind="stable", ignore_index=True)


def _check(table: pd.DataFrame, by: Sequence[str], baseline: str | None) -> None:
    if "seed" in by and "seed" not in table.columns:
        raise ValueError("rollouts: no column 'seed', over which over_seeds averages")
    if not len(table):
        raise ValueError("rollouts: the table holds no rollouts")
    check_baseline(baseline, list(dict.fromkeys(table["run"].astype(str))))


def _against(baseline: str, values: Sequence[ProblemValues], how: Resampling) -> pd.DataFrame:
    """Differences to the baseline, over the problems that both runs have."""
    groups = {group.group: group for group in values}
    parts = []
    for (run, split), mine in groups.items():
        base = groups.get((baseline, split))
        if run == baseline or base is None:
            continue
        mine, base = mine.shared(base)
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


def with_semantic_modes(
    rollouts: pd.DataFrame | PathLike,
    embedder: str | Embedder = "default",
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """Make the meaning of each text its answer, which every functional metric reads.

    Parameters
    ----------
    rollouts : DataFrame or path
        With the column ``text``.
    embedder, threshold
        As for `diversity_summary`.

    Returns
    -------
    DataFrame
        The validated table; ``answer`` is "mode-0", "mode-1", ... The texts of all runs of a
        problem (of one split) are grouped together, so that runs share their modes.

    Raises
    ------
    ValueError
        The table is refused or a text is missing; as for `embed` and `semantic_modes`.

    Notes
    -----
    A mode may hold correct and wrong rollouts: distinct correct modes are those with a correct one.
    Only maj@k needs one verdict a mode, and refuses such a table.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": "a", "correct": True, "text": ["x", "y", "xx"]})
    >>> def first_letter(texts):
    ...     return [[t[0] == "x", t[0] == "y"] for t in texts]
    >>> with_semantic_modes(table, first_letter)["answer"].tolist()  # doctest: +SKIP
    ['mode-0', 'mode-1', 'mode-0']
    """
    table = read_texts(rollouts)
    modes = np.empty(len(table), dtype=object)
    for rows, found in embed_problems(table, embedder):
        modes[rows] = mode_names(found, threshold)
    return table.assign(answer=modes)
