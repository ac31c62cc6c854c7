"""Values of each problem, a family of diversity metrics at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics._texts import Texts, UndefinedError, ead_of_counts
from passk_lab.metrics.embedders import Embedder, embed, find_embedder
from passk_lab.metrics.embedding import (
    effective_rank,
    pairwise_cosine_distance,
    semantic_modes,
    vendi_score,
)
from passk_lab.metrics.functional import (
    ModeCounts,
    distinct_at_k,
    semantic_entropy,
    two_modes_at_k,
)
from passk_lab.metrics.registry import METRICS, Metric, Need
from passk_lab.metrics.tokenizers import TOKENIZERS, Tokenizer, tokenize
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.study import as_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats.resampling import Resampling, ResamplingOptions

Ints = npt.NDArray[np.int64]


def functional_values(
    counts: pd.DataFrame, k: npt.ArrayLike, correct_only: bool, by: Sequence[str]
) -> pd.DataFrame:
    """Metrics of answers: columns ``*by, problem_id``, and one a metric; NaN where undefined.

    Those at k are undefined for problems with fewer samples, Hill numbers and coverage without any
    counted sample, corrected ones with a single one.
    """
    ks = np.atleast_1d(whole_numbers(k, "k"))
    modes = ModeCounts.of(list(counts["correct_mode_counts" if correct_only else "mode_counts"]))
    n = modes.samples(counts["n_samples"])
    found = counts[[*by, "problem_id"]].reset_index(drop=True)

    def put(names: list[str], keep: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> None:
        column = np.full((len(found), len(names)), np.nan)
        column[keep] = values
        found[names] = column

    enough = n >= ks.max(initial=0)
    some = modes.take(enough)
    for name, at_k in (("distinct", distinct_at_k), ("two_modes", two_modes_at_k)):
        put([f"{name}@{k}" for k in ks], enough, at_k(some, ks, n_samples=n[enough]))
    found["n_counted"] = modes.total.astype(np.float64)
    for metric in METRICS.values():
        if metric.needs == "correct" and not metric.at_k:
            keep = modes.total >= metric.least
            put([metric.name], keep, np.asarray(metric(modes.take(keep)))[:, None])
    return found


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


@dataclass(frozen=True)
class TextChoice:
    """Which texts of a problem are compared, and how they are cut into tokens.

    Attributes
    ----------
    n_samples : int, "smallest" or "all"
        Texts of each problem to rest on. "smallest" is the smallest number that a problem of any
        run has (of those with two or more), so that runs are compared at an equal number; "all"
        takes what there is, which favours runs with fewer texts in some metrics and with more in
        others.
    n_draws : int
        A problem with more texts is averaged over so many random choices among them.
    correct_only : bool
        Take texts of correct rollouts only.
    tokenizer : str or callable
        See `passk_lab.metrics.ngram`. Self-BLEU always has "bleu" (sacrebleu's "13a", but for
        scripts without blanks), so that it can be quoted, unless this is a callable or a Hugging
        Face tokenizer.
    vocabulary_size : float, optional
        V of `ead`. Default: the number of distinct tokens in the whole table, the same for all
        runs.
    n_jobs : int
        Processes that share the problems; more than one needs joblib (-1: all cores). The numbers
        don't depend on it.
    """

    n_samples: int | Literal["smallest", "all"] = "smallest"
    n_draws: int = 4
    correct_only: bool = False
    tokenizer: Tokenizer = "words"
    vocabulary_size: float | None = None
    n_jobs: int = 1

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ValueError(f"n_draws={self.n_draws} must be at least 1")

    def size(self, sizes: Iterable[int]) -> int | None:
        """Choose the number of texts of each problem, given how many each has; None for all."""
        if self.n_samples == "all":
            return None
        if self.n_samples == "smallest":
            return min((size for size in sizes if size > 1), default=2)
        if isinstance(self.n_samples, str) or self.n_samples < 1:
            raise ValueError(
                f"n_samples={self.n_samples!r} must be 'smallest', 'all' or at least 1"
            )
        return int(self.n_samples)

    def draws(self, n: int, size: int | None, rng: np.random.Generator) -> list[Ints]:
        """Choose ``size`` of n texts: none if there are too few, all if there are just as many."""
        if not n or (size is not None and n < size):
            return []
        if size is None or size == n:
            return [np.arange(n)]
        return [np.sort(rng.choice(n, size, replace=False)) for _ in range(self.n_draws)]


class TextOptions(ResamplingOptions, total=False):
    """Keywords of the summaries of texts: the fields of `TextChoice` and of `Resampling`."""

    n_samples: int | Literal["smallest", "all"]
    n_draws: int
    correct_only: bool
    tokenizer: Tokenizer
    vocabulary_size: float | None
    n_jobs: int


def split_options(options: TextOptions) -> tuple[TextChoice, Resampling]:
    """Tell the choice of texts from the settings of the bootstrap."""
    names = ("n_resamples", "confidence", "random_state")
    given: dict[str, Any] = dict(options)
    how = Resampling(**{name: given.pop(name) for name in names if name in given})
    return TextChoice(**given), how


def ngram_values(
    rollouts: pd.DataFrame | PathLike,
    metrics: Sequence[str] | None,
    by: Sequence[str],
    choice: TextChoice,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, int | None]:
    """Metrics of each problem (columns ``*by, problem_id, *metrics``), and their number of texts.

    NaN where a metric is undefined; the number is None for all texts.
    """
    known = {name: m for name, m in METRICS.items() if m.needs in ("texts", "tokens")}
    if metrics is None:
        metrics = [name for name, metric in known.items() if metric.extra is None]
    for name in metrics:
        if name not in known:
            raise ValueError(f"metrics holds {name!r}, which is none of {', '.join(known)}")
    chosen = [known[name] for name in metrics]
    table = read_texts(rollouts, by)
    groups = table.groupby([*by, "problem_id"], sort=True, dropna=False, observed=True)
    texts: dict[tuple[Any, ...], list[str]] = {}
    for key, part in groups:
        rows = part[part["correct"]] if choice.correct_only else part
        texts[cast(tuple[Any, ...], key)] = rows["text"].tolist()
    size = choice.size(map(len, texts.values()))
    draws = [choice.draws(len(problem), size, rng) for problem in texts.values()]
    problems = list(zip(texts.values(), draws, strict=True))
    chunks = [problems]
    if choice.n_jobs != 1:
        chunks = [problems[at : at + _CHUNK] for at in range(0, len(problems), _CHUNK)]
    done = _in_parallel(chunks, chosen, choice.tokenizer, choice.n_jobs)
    vocabulary_size = choice.vocabulary_size
    if vocabulary_size is None:
        vocabulary_size = len(set().union(*(vocabulary for _, vocabulary in done)))
    values = [
        [_finished(value, vocabulary_size) for value in problem]
        for found, _ in done
        for problem in found
    ]
    keys = pd.DataFrame(list(texts), columns=[*by, "problem_id"])
    return keys.join(pd.DataFrame(values, columns=list(metrics), dtype=np.float64)), size


def read_texts(
    rollouts: pd.DataFrame | PathLike, by: Sequence[str] = ("run", "split")
) -> pd.DataFrame:
    """Validate a table that needs a text in every row, and the columns ``by``."""
    table = as_rollouts(rollouts)
    for name in ["text", *by]:
        if name not in table.columns:
            raise ValueError(f"rollouts: column {name!r} is missing; text diversity needs it")
    missing = table["text"].isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"rollouts: column 'text', row {int(np.argmax(missing))}: the text is missing; fill it "
            "in, or drop the row (an empty text is one)"
        )
    return table


_Problems = list[tuple[list[str], list[npt.NDArray[np.int64]]]]


# A value, or for EAD the distinct and all n-grams of each draw, as the vocabulary isn't known yet.
_Value = float | list[tuple[int, int]] | None


_CHUNK = 16  # problems handed to a process at a time


def _in_parallel(
    chunks: list[_Problems], metrics: Sequence[Metric], tokenizer: Tokenizer, n_jobs: int
) -> list[tuple[list[list[_Value]], set[Hashable]]]:
    split = tokenize(tokenizer)
    plain = isinstance(tokenizer, str) and tokenizer in TOKENIZERS
    for_bleu = tokenize("bleu") if plain else split
    if n_jobs == 1:
        return [_chunk(chunk, metrics, split, for_bleu) for chunk in chunks]
    try:
        joblib = import_module("joblib")
    except ImportError as error:
        raise ValueError(
            f"n_jobs={n_jobs} needs joblib: pip install 'passk-lab[text]', or take n_jobs=1"
        ) from error
    job = joblib.delayed(_chunk)
    return cast(
        list[tuple[list[list[_Value]], set[Hashable]]],
        joblib.Parallel(n_jobs)(job(chunk, metrics, split, for_bleu) for chunk in chunks),
    )


def _chunk(
    problems: _Problems,
    metrics: Sequence[Metric],
    split: Callable[[str], Sequence[Hashable]],
    for_bleu: Callable[[str], Sequence[Hashable]],
) -> tuple[list[list[_Value]], set[Hashable]]:
    """Values of each problem, and all tokens (also of texts that were not drawn)."""
    vocabulary: set[Hashable] = set()
    found = []
    for texts, draws in problems:
        words = bleu = None
        names = {metric.name for metric in metrics if metric.needs == "tokens"}
        if texts and names - {"self_bleu"}:
            numbers: dict[Hashable, int] = {}
            words = Texts.of(texts, split, numbers)
            vocabulary.update(numbers)
        if draws and "self_bleu" in names:
            shared = words is not None and for_bleu is split
            bleu = words if shared else Texts.of(texts, for_bleu)
        found.append(_problem(texts, words, bleu, draws, metrics))
    return found, vocabulary


def _problem(
    texts: list[str],
    of_words: Texts | None,
    of_bleu: Texts | None,
    draws: list[npt.NDArray[np.int64]],
    metrics: Sequence[Metric],
) -> list[_Value]:
    """Value of each metric, None where it is undefined (for any of the draws)."""
    values: list[list[Any] | None] = [[] for _ in metrics]
    for draw in draws:
        words = None if of_words is None else of_words.take(draw)
        bleu = None if of_bleu is None else of_bleu.take(draw)
        for at, metric in enumerate(metrics):
            so_far = values[at]
            if so_far is None:
                continue
            try:
                if metric.needs == "texts":
                    so_far.append(metric([texts[row] for row in draw]))
                elif metric.name == "ead":  # the vocabulary isn't known yet
                    assert words is not None
                    so_far.append(words.distinct(1))
                else:
                    so_far.append(metric(bleu if metric.name == "self_bleu" else words))
            except UndefinedError:
                values[at] = None
    return [
        None if not found else found if metric.name == "ead" else float(np.mean(found))
        for metric, found in zip(metrics, values, strict=True)
    ]


def _finished(value: _Value, vocabulary_size: float) -> float:
    if value is None:
        return np.nan
    if isinstance(value, list):
        return float(np.mean([ead_of_counts(*counts, vocabulary_size) for counts in value]))
    return value


def mode_names(embeddings: npt.ArrayLike, threshold: float) -> list[str]:
    """Name the mode of each text, as an answer: see `semantic_modes`."""
    return [f"mode-{mode}" for mode in semantic_modes(embeddings, threshold)]


def embed_problems(
    table: pd.DataFrame, embedder: str | Embedder
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]]:
    """Rows of each problem and split, all runs together, and their embeddings."""
    embedder = find_embedder(embedder)
    texts = table["text"].to_numpy(object)
    for key, rows in table.groupby(["split", "problem_id"], sort=True).indices.items():
        try:
            found = embed(texts[rows].tolist(), embedder)
        except ValueError as error:
            split, problem = cast(tuple[str, str], key)
            raise ValueError(f"problem_id={problem!r}, split={split!r}: {error}") from error
        yield np.asarray(rows, dtype=np.int64), found


def embedding_values(
    table: pd.DataFrame,
    embedder: str | Embedder,
    threshold: float,
    choice: TextChoice,
    size: int | None,
    by: Sequence[str],
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """Metrics of each run's embeddings of each problem, and the mode of each row."""
    modes = np.empty(len(table), dtype=object)
    keep = table["correct"].to_numpy(bool) | (not choice.correct_only)
    keys = table[[*by, "problem_id"]]
    groups = keys.groupby([*by, "problem_id"], sort=False, observed=True).ngroup().to_numpy()
    names = keys.drop_duplicates().to_numpy(object)
    values = []
    for rows, found in embed_problems(table, embedder):
        modes[rows] = mode_names(found, threshold)
        for group in dict.fromkeys(groups[rows].tolist()):
            mine = found[(groups[rows] == group) & keep[rows]]
            distance = pairwise_cosine_distance(mine) if len(mine) > 1 else np.nan
            draws = [mine[draw] for draw in choice.draws(len(mine), size, rng)]
            spread = [
                float(np.mean([metric(draw) for draw in draws])) if draws else np.nan
                for metric in (vendi_score, effective_rank)
            ]
            values.append((*names[group], distance, *spread))
    columns = [*by, "problem_id", "cosine_distance", "vendi", "effective_rank"]
    return pd.DataFrame(values, columns=columns), modes


def semantic_values(
    counts: pd.DataFrame, k: int, correct_only: bool, by: Sequence[str]
) -> pd.DataFrame:
    values = functional_values(counts, k, correct_only, by)
    cells = counts["correct_mode_counts" if correct_only else "mode_counts"]
    # As for the other corrected estimators, a single sample says nothing.
    return values.assign(
        semantic_entropy=[
            semantic_entropy(cell, "chao_jost") if cell.sum() > 1 else np.nan for cell in cells
        ]
    )


def read_for(
    rollouts: pd.DataFrame | PathLike, needs: Need, by: Sequence[str] = MAIN_KEYS
) -> pd.DataFrame:
    """Read what metrics of a kind need: counts, or rows with scores."""
    if needs in ("counts", "modes", "correct", "verdicts"):
        return as_counts(rollouts, by, modes=needs != "counts")
    columns = ["score"] if needs in ("scores", "ranked") else []
    return as_rollouts(rollouts, [*columns, "cluster", *by])
