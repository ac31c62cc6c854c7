"""Text diversity: how different the wording of the rollouts of one problem is.

All but ROUGE-L change with the number of texts: compare runs at an equal number, as
`passk_lab.stats.ngram_summary` does. ``texts`` is a sequence of str, or `Texts`, which are split
once; ``tokenizer`` one of `passk_lab.metrics.tokenizers`. All raise a ValueError where something is
no text, and where they are undefined: there they need more texts or tokens.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from passk_lab._text import check_choice, import_extra
from passk_lab.metrics._texts import (
    Floats,
    Ints,
    Texts,
    UndefinedError,
    check_texts,
    dense,
    ead_of_counts,
)
from passk_lab.metrics.registry import metric
from passk_lab.metrics.tokenizers import Tokenizer

__all__ = [
    "Texts",
    "compression_ratio",
    "distinct_n",
    "ead",
    "ngram_diversity_score",
    "rouge_l_homogenisation",
    "self_bleu",
    "self_repetition",
]

Smoothing = Literal["exp", "floor", "add-k", "none", "method0", "method1", "method2", "method3"]

# nltk's methods are sacrebleu's, but for texts without n-grams of an order.
_NLTK = {"method0": "none", "method1": "floor", "method2": "add-k", "method3": "exp"}
_SMOOTH_VALUES = {"floor": 0.1, "add-k": 1.0}
_BLOCK = 1 << 22  # pairs of texts held at once


# --- Metrics of one problem's texts ---


@metric("tokens", "distinct_2", {"n": 2}, says="Share of the word pairs that are distinct.")
@metric("tokens", "distinct_1", {"n": 1}, says="Share of the words that are distinct.")
def distinct_n(texts: Sequence[str] | Texts, n: int = 2, tokenizer: Tokenizer = "words") -> float:
    """Share of distinct n-grams among all n-grams of the texts.

    Li et al. (2016), A Diversity-Promoting Objective Function for Neural Conversation Models. Above
    0 and up to 1.

    Parameters
    ----------
    texts : sequence of str or Texts
    n : int
        Length of the n-grams; they don't reach across texts.
    tokenizer : str or callable

    Examples
    --------
    >>> distinct_n(["a b c", "a b d"], n=2)
    0.75
    """
    distinct, total = Texts.of(texts, tokenizer).distinct(n)
    return distinct / total


@metric("tokens")
def ead(
    texts: Sequence[str] | Texts,
    n: int = 1,
    *,
    vocabulary_size: float,
    tokenizer: Tokenizer = "words",
) -> float:
    """Expectation-adjusted distinct: distinct n-grams by how many chance alone would give.

    N / (V (1 - (1 - 1/V)^C)), with N of C n-grams distinct and V of them possible: Liu et al.
    (2022), Rethinking and Refining the Distinct Metric. 1 if n-grams were drawn evenly from all V.
    ``vocabulary_size`` is V, the same for all that is compared, and no less than N; at infinity
    this is `distinct_n`, whose other arguments it takes.

    Examples
    --------
    >>> round(ead(["a b a b", "a b"], vocabulary_size=2), 3)
    1.016
    """
    return ead_of_counts(*Texts.of(texts, tokenizer).distinct(n), vocabulary_size)


@metric("tokens", "ngram_diversity", says="Sum of the shares of distinct n-grams, n = 1 to 4.")
def ngram_diversity_score(
    texts: Sequence[str] | Texts, max_order: int = 4, tokenizer: Tokenizer = "words"
) -> float:
    """Sum of `distinct_n` over n = 1 to ``max_order``.

    Meister et al. (2023), Locally Typical Sampling. N-grams don't reach across texts, other than in
    programs that join the texts first. ``texts, tokenizer`` as for `distinct_n`.

    Examples
    --------
    >>> ngram_diversity_score(["a b c", "a b d"], max_order=2)
    1.4166666666666665
    """
    _check_order(max_order)
    found = Texts.of(texts, tokenizer)
    return sum(distinct_n(found, n) for n in range(1, max_order + 1))


@metric("tokens", better="lower")
def self_bleu(
    texts: Sequence[str] | Texts,
    max_order: int = 4,
    tokenizer: Tokenizer = "bleu",
    smoothing: Smoothing = "exp",
    smooth_value: float | None = None,
    effective_order: bool = True,
    average: bool = True,
) -> Any:
    """Mean BLEU of each text with all others as references.

    Zhu et al. (2018), Texygen. The defaults are those of sacrebleu's ``sentence_bleu``, whose value
    is 100 times ours, but for scripts written without blanks (``tokenizer="13a"`` for its own); an
    empty text scores 0.

    Parameters
    ----------
    texts : sequence of str or Texts
        At least two.
    max_order : int
        N-grams up to this length, weighed alike.
    tokenizer : str or callable
    smoothing : str
        sacrebleu's "exp", "floor", "add-k" and "none", or "method0" to "method3" of nltk's
        `SmoothingFunction`, which differ for texts of fewer than ``max_order`` tokens.
    smooth_value : float, optional
        What "floor" and "method1" (0.1) put in place of no match, "add-k" and "method2" (1) add.
    effective_order : bool
        Leave out orders of which a text has no n-grams (sacrebleu's methods; otherwise such texts
        score 0).
    average : bool
        Give the mean (default), or BLEU of each text.

    Returns
    -------
    float or array, shape (n_texts,)
        From 0 to 1; 1 if all texts are equal and not empty.

    Examples
    --------
    >>> self_bleu(["a b c d", "a b c d", "x y"], average=False).round(3).tolist()
    [1.0, 1.0, 0.0]
    """
    _check_order(max_order)
    check_choice(smoothing, get_args(Smoothing), "smoothing")
    found = Texts.of(texts, tokenizer)
    found.need_two("self-BLEU")
    n_texts = len(found.lengths)
    matched = np.zeros((n_texts, max_order))
    for order in range(1, max_order + 1):
        gram, owner, count = found.counts(order)
        if len(gram):
            hits = np.minimum(count, _largest_of_others(gram, count))
            matched[:, order - 1] = np.bincount(owner, weights=hits, minlength=n_texts)
    total = np.maximum(found.lengths[:, None] - np.arange(max_order), 0).astype(float)
    precision, used = _smoothed(matched, total, smoothing, smooth_value)
    with np.errstate(divide="ignore"):
        logs = np.where(used, np.log(precision), 0.0 if effective_order else -np.inf)
    orders = np.maximum(used.sum(axis=1), 1) if effective_order else max_order
    # An empty text scores 0 in any case.
    ratio = _closest_of_others(found.lengths) / np.maximum(found.lengths, 1)
    score = np.exp(logs.sum(axis=1) / orders) * np.exp(np.minimum(1 - ratio, 0.0))
    score = np.where(matched.any(axis=1), score, 0.0)
    return float(score.mean()) if average else score


@metric("tokens", "rouge_l", better="lower", extra="text")
def rouge_l_homogenisation(texts: Sequence[str] | Texts, tokenizer: Tokenizer = "words") -> float:
    """Mean ROUGE-L of all pairs of texts.

    2 L / (m + n) for texts of m and n tokens, L the length of their longest common subsequence:
    Padmakumar and He (2024), Does Writing with Language Models Reduce Content Diversity? From 0 to
    1; two empty texts count as equal. Needs rapidfuzz, from the extra ``text``. For the values of
    the rouge-score package pass the tokenizer
    ``lambda text: re.findall("[a-z0-9]+", text.lower())``.

    Examples
    --------
    >>> rouge_l_homogenisation(["a b c d", "a c d", "x"])  # doctest: +SKIP
    0.2857142857142857
    """
    needs = "ROUGE-L needs rapidfuzz: pip install 'passk-lab[text]', or leave the metric out"
    cdist = import_extra("rapidfuzz.process", needs).cdist
    common_length = import_extra("rapidfuzz.distance", needs).LCSseq.similarity
    found = Texts.of(texts, tokenizer)
    found.need_two("homogenisation")
    rows: list[Any] = _as_characters(found)
    n, lengths = len(rows), found.lengths
    block = max(1, _BLOCK // n)
    total = 0.0
    for start in range(0, n - 1, block):
        part = slice(start, min(start + block, n - 1))
        # Only pairs of a text and a later one.
        common = cdist(rows[part], rows[start + 1 :], scorer=common_length, dtype=np.int32)
        both = lengths[part, None] + lengths[None, start + 1 :]
        score = np.divide(2.0 * common, both, out=np.ones(both.shape), where=both > 0)
        total += float(np.triu(score).sum())
    return total / (n * (n - 1) / 2)


@metric("tokens", better="lower")
def self_repetition(
    texts: Sequence[str] | Texts, n: int = 4, tokenizer: Tokenizer = "words"
) -> float:
    """Mean over texts of log(1 + how often its n-grams occur in other texts).

    Salkar et al. (2022), Self-Repetition in Abstractive Neural Summarizers. An n-gram that k other
    texts hold counts k times, however often each of them, or the text itself, repeats it. 0 if no
    n-gram is shared. Two texts at least; arguments as for `distinct_n`.

    Examples
    --------
    >>> round(self_repetition(["a b c d e", "a b c d", "x"]), 4)
    0.4621
    """
    found = Texts.of(texts, tokenizer)
    found.need_two("self-repetition")
    gram, owner, _ = found.counts(n)
    holders = np.bincount(gram)
    others = np.bincount(owner, weights=holders[gram] - 1, minlength=len(found.lengths))
    return float(np.log1p(others).mean())


@metric("texts", "compression_zstd", {"algorithm": "zstd"}, better="lower", extra="text")
@metric("texts", "compression_gzip", {"algorithm": "gzip"}, better="lower")
def compression_ratio(
    texts: Sequence[str], algorithm: Literal["gzip", "zstd"] = "gzip", separator: str = "\n"
) -> float:
    """Bytes of the joined texts by bytes compressed.

    Shaib et al. (2024), Standardizing the Measurement of Text Diversity. Below 1 for short texts,
    for gzip's own 20 bytes count. "gzip" (level 9) sees repetitions within 32 KiB only; "zstd"
    (level 19) sees megabytes and needs zstandard or Python 3.14. The texts are joined in their
    order, by ``separator``.

    Examples
    --------
    >>> compression_ratio(["the same words again"] * 50) > 10
    True
    """
    check_choice(algorithm, ("gzip", "zstd"), "algorithm")
    check_texts(texts)
    if not any(texts):
        raise UndefinedError("texts holds empty texts only; leave the problem out")
    # A lone surrogate has no UTF-8 form.
    data = separator.join(texts).encode("utf-8", "surrogatepass")
    small = gzip.compress(data, compresslevel=9, mtime=0) if algorithm == "gzip" else _zstd(data)
    return len(data) / len(small)


def _check_order(max_order: int) -> None:
    if max_order < 1:
        raise ValueError(f"max_order={max_order} must be at least 1")


# --- BLEU ---


def _largest_of_others(gram: Ints, count: Ints) -> Ints:
    """Largest count of the same n-gram in another text, 0 if there is none."""
    starts = np.flatnonzero(np.diff(gram, prepend=-1))
    place = np.cumsum(np.diff(gram, prepend=gram[0]) > 0)
    top = np.maximum.reduceat(count, starts)[place]
    is_top = count == top
    second = np.maximum.reduceat(np.where(is_top, 0, count), starts)[place]
    several = np.add.reduceat(is_top, starts, dtype=np.int64)[place] > 1
    return np.where(is_top & ~several, second, top)


def _closest_of_others(lengths: Ints) -> Ints:
    """Length of another text that is closest, the shorter one of two."""
    value, place, repeats = np.unique(lengths, return_inverse=True, return_counts=True)
    far = np.iinfo(np.int64).max // 4
    below = np.concatenate([[-far], value[:-1]])
    above = np.concatenate([value[1:], [far]])
    nearest = np.where(value - below <= above - value, below, above)
    return np.where(repeats > 1, value, nearest)[place]


def _smoothed(
    matched: Floats, total: Floats, smoothing: Smoothing, value: float | None
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Precision of each order, and whether it has one."""
    method = _NLTK.get(smoothing, smoothing)
    if value is None:
        value = _SMOOTH_VALUES.get(method, 0.0)
    if smoothing in _NLTK:
        total = np.maximum(total, 1)
    if method == "add-k":
        later = (np.arange(matched.shape[1]) > 0) * value
        matched, total = matched + later, total + later
    used = total > 0
    none = used & (matched == 0)
    if method == "exp":
        matched = np.where(none, 0.5 ** np.cumsum(none, axis=1), matched)
    elif method == "floor":
        matched = np.where(none, value, matched)
    return np.divide(matched, total, out=np.zeros(matched.shape), where=used), used


# --- Longest common subsequences and compression ---


def _as_characters(texts: Texts) -> list[Any]:
    """Each text as a string with one character a token, which rapidfuzz compares fastest."""
    tokens = dense(texts.tokens)
    ends = np.cumsum(texts.lengths)
    if tokens.max(initial=0) > sys.maxunicode - 0x800:
        return [part.tolist() for part in np.split(tokens, ends[:-1])]
    codes = tokens + 0x800 * (tokens >= 0xD800)  # surrogates are no characters
    flat = codes.astype("<u4").tobytes().decode("utf-32-le")
    return [flat[end - size : end] for end, size in zip(ends, texts.lengths, strict=True)]


def _zstd(data: bytes) -> bytes:
    try:
        return cast(bytes, import_module("compression.zstd").compress(data, level=19))
    except ImportError:
        pass
    needs = "algorithm='zstd' needs zstandard: pip install 'passk-lab[text]', or take 'gzip'"
    zstandard = import_extra("zstandard", needs)
    return cast(bytes, zstandard.ZstdCompressor(level=19).compress(data))
