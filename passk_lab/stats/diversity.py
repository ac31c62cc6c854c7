"""All diversity metrics of each run in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics.embedders import Embedder
from passk_lab.metrics.embedding import THRESHOLD
from passk_lab.rollouts.counting import as_counts, counts
from passk_lab.rollouts.files import as_rollouts
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
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues, shared_problems, values_of_frame

__all__ = [
    "TextChoice",
    "TextOptions",
    "diversity_summary",
    "entropy_summary",
    "functional_summary",
    "ngram_summary",
    "with_semantic_modes",
]


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
            families.append(("semantic", semantic_values(meanings, k, choice.correct_only), k))
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


def functional_summary(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int] | None = None,
    correct_only: bool = True,
    by: Sequence[str] = ("run", "split"),
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Average the functional diversity of each run over problems, with bootstrap intervals.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with the column ``answer``, a file of one, or what `passk_lab.counts` made
        of it.
    k : int or sequence of int, optional
        Default: the smallest number of samples of any problem of any run, so that runs are
        compared at an equal number of samples.
    correct_only : bool
        Count correct modes only (default), or all.
    by : sequence of str
        Columns that tell runs apart.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, metric, estimate, low, high, n_problems, n_defined``, one row a metric.
        ``n_defined`` counts the problems averaged over:

        | metric | mean of | averaged over |
        | --- | --- | --- |
        | ``distinct@k`` | `distinct_at_k`: 0 without correct samples | all problems |
        | ``two_modes@k`` | `two_modes_at_k` | all problems |
        | ``n_counted`` | (correct) samples that the metrics below rest on | all problems |
        | ``hill_{q}_naive`` | `hill_number` of q = 0, 1, 2, naive | 1 sample or more |
        | ``hill_{q}_corrected`` | the same, corrected (q = 0 is `chao1`) | 2 or more |
        | ``coverage`` | `good_turing_coverage` | 2 or more |

        The samples in the last column are those counted: correct ones, or all that have an answer.
        Where no problem has as many, ``n_defined`` is 0, and estimate and interval are NaN.

    Raises
    ------
    ValueError
        The table is refused or has no answers; k exceeds the samples of a problem (named).

    Notes
    -----
    Only the metrics at k compare runs at an equal number of samples. Runs differ in their number of
    correct samples, so there is no number at which the Hill numbers of correct modes could be
    compared equally; naive ones favour the run with more correct samples (see ``n_counted``),
    corrected ones make up for most of that. A single sample says nothing about the distribution
    (`chao1` and coverage would be 1 in any case), so corrected estimators take two or more.

    At q = 2 the mean is harmonic: the inverse of the mean chance that two samples of a problem
    agree. That chance is estimated without bias, while the Hill number itself is infinite as soon
    as one problem has no two samples alike. The harmonic mean is inf only where no problem has any.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aaaabbbb"), "answer": list("xxyzuvuu"),
    ...                       "correct": [True, True, True, False] + [False] * 4})
    >>> found = functional_summary(table, k=[2, 4], random_state=0)
    >>> print(found[["metric", "estimate", "n_problems", "n_defined"]].head(6).round(3))
             metric  estimate  n_problems  n_defined
    0    distinct@2     0.667           2          2
    1    distinct@4     1.000           2          2
    2   two_modes@2     0.167           2          2
    3   two_modes@4     0.500           2          2
    4     n_counted     1.500           2          2
    5  hill_0_naive     2.000           2          1
    """
    by = list(by)
    table = as_counts(rollouts, by, modes=True)
    smallest = int(table["n_samples"].min())
    ks = np.atleast_1d(whole_numbers(smallest if k is None else k, "k"))
    if ks.ndim == 1 and len(ks) and ks.max() > smallest:
        at = int(np.argmin(table["n_samples"]))
        where = ", ".join(f"{name}={table[name].iloc[at]!r}" for name in ["problem_id", *by])
        raise ValueError(
            f"k={ks.max()} exceeds the {smallest} samples of {where}; take a smaller k, or drop "
            "the problem"
        )
    values = functional_values(table, ks, correct_only, by)
    how = Resampling(**resampling)
    return mean_table(values_of_frame(values, by), by, "metric", how).drop(columns="n_seeds")


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


def ngram_summary(
    rollouts: pd.DataFrame | PathLike,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = ("run", "split"),
    **options: Unpack[TextOptions],
) -> pd.DataFrame:
    """Average the text diversity of each run over problems, with bootstrap intervals.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with the column ``text``, or a file of one.
    metrics : sequence of str, optional
        Metrics of texts. Default: all but those that need an extra ("rouge_l", "compression_zstd").
    by : sequence of str
        Columns that tell runs apart.
    **options
        Fields of `passk_lab.stats.TextChoice` and `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, metric, estimate, low, high, n_samples, n_problems, n_defined``, one row a
        metric. ``n_defined`` counts the problems averaged over: those that have as many texts and
        where the metric is defined (for all draws). Where it is 0, estimate and interval are NaN.
        ``n_samples`` is the number of texts, or 0 for "all".

    Raises
    ------
    ValueError
        The table is refused or has no texts, a text is missing, a metric is unknown, or a package
        is missing that it needs.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": list("aabb"), "correct": True,
    ...                       "text": ["one two", "one two", "one two", "three four"]})
    >>> found = ngram_summary(table, ["distinct_1", "self_bleu"], random_state=0)
    >>> found[["metric", "estimate", "n_samples", "n_defined"]]
           metric  estimate  n_samples  n_defined
    0  distinct_1      0.75          2          2
    1   self_bleu      0.50          2          2
    """
    by = list(by)
    choice, how = split_options(options)
    values, size = ngram_values(rollouts, metrics, by, choice, how.generator())
    found = mean_table(values_of_frame(values, by), by, "metric", how).drop(columns="n_seeds")
    found.insert(found.columns.get_loc("n_problems"), "n_samples", size or 0)  # type: ignore[arg-type]
    return found


def with_semantic_modes(
    rollouts: pd.DataFrame | PathLike,
    embedder: str | Embedder = "default",
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """Make the meaning of each text its answer, which every functional metric reads.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with the column ``text``, or a file of one.
    embedder : str or callable
        See the module.
    threshold : float
        See `semantic_modes`.

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
