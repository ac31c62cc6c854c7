"""All diversity metrics of each run in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from passk_lab.metrics.embedders import Embedder
from passk_lab.metrics.embedding import (
    THRESHOLD,
    effective_rank,
    pairwise_cosine_distance,
    vendi_score,
)
from passk_lab.metrics.functional import semantic_entropy
from passk_lab.metrics.ngram import DEFAULT_METRICS
from passk_lab.metrics.tokenizers import Tokenizer
from passk_lab.stats.answers import functional_values
from passk_lab.stats.entropies import entropies_of, entropy_values
from passk_lab.stats.meanings import embed_problems, mode_names
from passk_lab.stats.problems import mean_over_problems, paired_differences
from passk_lab.stats.texts import common_size, draw_texts, ngram_values, read_texts

if TYPE_CHECKING:
    import pandas as pd

    from passk_lab.rollouts.table import PathLike

__all__ = ["diversity_summary"]

MAIN_KEYS = ("run", "split")


def diversity_summary(
    rollouts: pd.DataFrame | PathLike,
    baseline: str | None = None,
    *,
    embedder: str | Embedder | None = None,
    threshold: float = THRESHOLD,
    ngram_metrics: Sequence[str] = DEFAULT_METRICS,
    n_samples: int | Literal["smallest", "all"] = "smallest",
    n_draws: int = 4,
    correct_only: bool = False,
    tokenizer: Tokenizer = "words",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | np.random.Generator | None = None,
    n_jobs: int = 1,
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
    ngram_metrics : sequence of str
        Of `passk_lab.metrics.ngram.NGRAM_METRICS`; "rouge_l" and "compression_zstd" need the
        extra ``text`` and have to be asked for.
    n_samples : int, "smallest" or "all"
        Samples of each problem at which runs are compared: the smallest number of any problem of
        any run (of those with two or more), or a number given. With "all" texts and embeddings rest
        on all there are, which compares runs of unequal numbers unfairly; distinct answers and
        modes are counted at the smallest number all the same.
    n_draws : int
        Where a problem has more texts, metrics that have to be computed on a choice of them are
        averaged over so many random choices. Distinct answers need none (rarefaction).
    correct_only : bool
        Take texts of correct rollouts only, and count correct semantic modes only. Answers are
        counted among the correct ones in any case, entropies are of all samples.
    tokenizer : str or callable
        See `passk_lab.metrics.ngram.ngram_summary`.
    confidence, n_resamples
        Of the bootstrap over problems: see `passk_lab.stats.intervals.bootstrap_mean`.
    random_state : int, Generator or None
        Choice of texts, and bootstrap.
    n_jobs : int
        Processes that share the problems' n-gram metrics; more than one needs joblib (-1: all
        cores).

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

        ==============  ====================  ==================================================
        family          needs                 metrics
        ==============  ====================  ==================================================
        ``functional``  ``answer``            of `functional.functional_summary`
        ``ngram``       ``text``              of `ngram.ngram_summary`
        ``embedding``   ``text``, embedder    ``cosine_distance``, ``vendi``, ``effective_rank``
        ``semantic``    ``text``, embedder    functional metrics of semantic modes, and
                                              ``semantic_entropy`` (Chao, Wang and Jost)
        ``entropy``     ``logprob`` or        of `entropy.entropy_summary`
                        ``token_entropy``
        ==============  ====================  ==================================================

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
    import pandas as pd

    from passk_lab.rollouts.counting import counts
    from passk_lab.rollouts.files import as_rollouts

    by = list(MAIN_KEYS)
    table = as_rollouts(rollouts)
    if not len(table):
        raise ValueError("rollouts: the table holds no rollouts")
    runs = list(dict.fromkeys(table["run"].astype(str)))
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    rng = np.random.default_rng(random_state)
    sizes = table.groupby([*by, "problem_id"], observed=True).size()
    k = common_size(sizes, "smallest" if n_samples == "all" else n_samples)
    assert k is not None
    families: list[tuple[str, pd.DataFrame, int]] = []  # with the number at which it compares
    if "answer" in table.columns:
        families.append(("functional", functional_values(counts(table, by, True), k, True, by), k))
    if "text" in table.columns:
        table = read_texts(table)  # refuses a missing text
        texts, size = ngram_values(
            table, ngram_metrics, n_samples, n_draws, correct_only, tokenizer, None, by, n_jobs, rng
        )
        families.append(("ngram", texts, size or 0))
        if embedder is not None:
            options = (threshold, correct_only, size, n_draws, rng)
            embedded, modes = _embedding_values(table, embedder, *options)
            families.append(("embedding", embedded, size or 0))
            meanings = counts(table.assign(answer=modes), by, modes=True)
            families.append(("semantic", _semantic_values(meanings, k, correct_only), k))
    elif embedder is not None:
        raise ValueError("rollouts: column 'text' is missing; the embedder needs it")
    if entropies_of(table.columns):
        families.append(("entropy", entropy_values(table, None, by), 0))
    if not families:
        raise ValueError(
            "rollouts: diversity needs one of the columns 'answer', 'text', 'logprob' and "
            "'token_entropy'"
        )
    bootstrap = (n_resamples, confidence, rng)
    parts = []
    for family, values, compared_at in families:
        metrics = [name for name in values.columns if name not in (*by, "problem_id")]
        found = mean_over_problems(values, metrics, by, *bootstrap)
        of_all = [family == "entropy" or _takes_all(family, metric) for metric in found["metric"]]
        found.insert(2, "family", family)
        found.insert(7, "n_samples", np.where(of_all, 0, compared_at))
        if baseline is not None:
            gaps = paired_differences(values, metrics, baseline, *bootstrap)
            found = found.merge(gaps, on=[*by, "metric"], how="left")
            found["n_paired"] = found["n_paired"].fillna(0).astype(np.int64)
        parts.append(found)
    whole = pd.concat(parts, ignore_index=True)
    return whole.sort_values(by, kind="stable", ignore_index=True)


def _takes_all(family: str, metric: str) -> bool:
    """Whether a metric takes all samples of each problem, whatever their number."""
    if family in ("functional", "semantic"):
        return "@" not in metric
    return metric == "cosine_distance"


def _embedding_values(
    table: pd.DataFrame,
    embedder: str | Embedder,
    threshold: float,
    correct_only: bool,
    size: int | None,
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """Metrics of each run's embeddings of each problem, and the mode of each row."""
    import pandas as pd

    modes = np.empty(len(table), dtype=object)
    runs = table["run"].to_numpy(object)
    keep = table["correct"].to_numpy(bool) | (not correct_only)
    first = table[["split", "problem_id"]].to_numpy(object)
    values = []
    for rows, found in embed_problems(table, embedder):
        modes[rows] = mode_names(found, threshold)
        for run in dict.fromkeys(runs[rows]):
            mine = found[(runs[rows] == run) & keep[rows]]
            distance = pairwise_cosine_distance(mine) if len(mine) > 1 else np.nan
            draws = [mine[draw] for draw in draw_texts(len(mine), size, n_draws, rng)]
            spread = [
                float(np.mean([metric(draw) for draw in draws])) if draws else np.nan
                for metric in (vendi_score, effective_rank)
            ]
            values.append((run, *first[rows[0]], distance, *spread))
    columns = [*MAIN_KEYS, "problem_id", "cosine_distance", "vendi", "effective_rank"]
    return pd.DataFrame(values, columns=columns), modes


def _semantic_values(counts: pd.DataFrame, k: int, correct_only: bool) -> pd.DataFrame:
    values = functional_values(counts, k, correct_only, MAIN_KEYS)
    cells = counts["correct_mode_counts" if correct_only else "mode_counts"]
    # As for the other corrected estimators, a single sample says nothing.
    return values.assign(
        semantic_entropy=[
            semantic_entropy(cell, "chao_jost") if cell.sum() > 1 else np.nan for cell in cells
        ]
    )
