"""Text diversity: how different the wording of the rollouts of one problem is.

Functions take the texts of one problem; `ngram_summary` takes a rollouts table and averages over
problems. Which way each points, and what it needs:

=======================  ==============  ============  ============================================
function                 more diverse    needs         grows or falls with the number of texts
=======================  ==============  ============  ============================================
`distinct_n`             higher          an n-gram     falls (new words get rare)
`ead`                    higher          an n-gram     much less, that is its purpose
`ngram_diversity_score`  higher          n-grams       falls
`self_bleu`              lower           two texts     grows (more texts to match)
`rouge_l_homogenisation` lower           two texts     not in the mean: an average over pairs
`self_repetition`        lower           two texts     grows
`compression_ratio`      lower           a character   grows, and with the length of the texts
=======================  ==============  ============  ============================================

So compare runs at an equal number of texts: `ngram_summary` draws as many of every problem. An
undefined value is refused with a ValueError by the functions, and left out and counted by the
summary.

Tokenisers: "words" (runs of letters, digits and marks of any script, each ideograph, kana, Thai,
Lao, Khmer or Burmese letter for itself, each other sign for itself; case is kept), "whitespace",
"characters", "13a" (sacrebleu's default), any callable from text to a sequence of tokens, a Hugging
Face tokenizer, or the name or path of one (needs transformers).
"""

from __future__ import annotations

import gzip
import re
import sys
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import chain
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

__all__ = [
    "NGRAM_METRICS",
    "compression_ratio",
    "distinct_n",
    "ead",
    "ngram_diversity_score",
    "rouge_l_homogenisation",
    "self_bleu",
    "self_bleu_scores",
    "self_repetition",
    "tokenize",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tokenizer = str | Callable[[str], Sequence[Hashable]]
Smoothing = Literal["exp", "floor", "add-k", "none", "method0", "method1", "method2", "method3"]

_SMOOTH_VALUES = {"floor": 0.1, "add-k": 1.0, "method1": 0.1}
_BLOCK = 1 << 22  # pairs of texts held at once


# --- Metrics of one problem's texts ---


def distinct_n(texts: Sequence[str], n: int = 2, tokenizer: Tokenizer = "words") -> float:
    """Share of distinct n-grams among all n-grams of the texts.

    Parameters
    ----------
    texts : sequence of str
    n : int
        Length of the n-grams; they don't reach across texts.
    tokenizer : str or callable
        See the module.

    Returns
    -------
    float
        Above 0 and up to 1.

    Raises
    ------
    ValueError
        There is no text, something is no text, or no text has n tokens.

    References
    ----------
    .. [1] Li et al. (2016), A Diversity-Promoting Objective Function for Neural Conversation
       Models, NAACL.

    Examples
    --------
    >>> distinct_n(["a b c", "a b d"], n=2)
    0.75
    """
    return _distinct(_Texts.read(texts, tokenizer), n)


def ead(
    texts: Sequence[str],
    n: int = 1,
    *,
    vocabulary_size: float,
    tokenizer: Tokenizer = "words",
) -> float:
    """Expectation-adjusted distinct: distinct n-grams by how many chance alone would give.

    N / (V (1 - (1 - 1/V)^C)), with N of C n-grams distinct and V of them possible: 1 if n-grams
    were drawn evenly from all V.

    Parameters
    ----------
    texts, n, tokenizer
        As for `distinct_n`.
    vocabulary_size : float
        V, the same for all that is compared; at infinity this is `distinct_n`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As for `distinct_n`; V is below the number of distinct n-grams.

    References
    ----------
    .. [1] Liu et al. (2022), Rethinking and Refining the Distinct Metric, ACL.

    Examples
    --------
    >>> round(ead(["a b a b", "a b"], vocabulary_size=2), 3)
    1.016
    """
    return _ead(*_distinct_of_all(_Texts.read(texts, tokenizer), n), vocabulary_size)


def ngram_diversity_score(
    texts: Sequence[str], max_order: int = 4, tokenizer: Tokenizer = "words"
) -> float:
    """Sum of `distinct_n` over n = 1 to ``max_order``.

    Parameters
    ----------
    texts, tokenizer
        As for `distinct_n`.
    max_order : int

    Returns
    -------
    float
        Up to ``max_order``.

    Raises
    ------
    ValueError
        As for `distinct_n`: no text has as many tokens.

    Notes
    -----
    N-grams don't reach across texts, other than in programs that join the texts first.

    References
    ----------
    .. [1] Meister et al. (2023), Locally Typical Sampling, TACL.

    Examples
    --------
    >>> ngram_diversity_score(["a b c", "a b d"], max_order=2)
    1.4166666666666665
    """
    return _diversity_score(_Texts.read(texts, tokenizer), max_order)


def self_bleu(
    texts: Sequence[str],
    max_order: int = 4,
    tokenizer: Tokenizer = "13a",
    smoothing: Smoothing = "exp",
    smooth_value: float | None = None,
    effective_order: bool = True,
) -> float:
    """Mean BLEU of each text with all others as references.

    The defaults are those of sacrebleu's ``sentence_bleu``; its value is 100 times ours.

    Parameters
    ----------
    texts : sequence of str
        At least two.
    max_order : int
        N-grams up to this length, weighed alike.
    tokenizer : str or callable
        See the module.
    smoothing : str
        sacrebleu's "exp", "floor", "add-k" and "none", or "method0" to "method3" of nltk's
        `SmoothingFunction`, which differ for texts of fewer than ``max_order`` tokens.
    smooth_value : float, optional
        What "floor" (0.1) and "method1" (0.1) put in place of no match, "add-k" (1) adds.
    effective_order : bool
        Leave out orders of which a text has no n-grams (sacrebleu's methods; otherwise such texts
        score 0).

    Returns
    -------
    float
        From 0 to 1; 1 if all texts are equal and not empty.

    Raises
    ------
    ValueError
        There are fewer than two texts; an option is unknown.

    Notes
    -----
    An empty text scores 0, as in sacrebleu, even beside other empty ones. N-grams are counted once
    for all: a count is clipped at the largest among the other texts, which is the largest of all
    or, for the one text that has it, the second largest.

    References
    ----------
    .. [1] Zhu et al. (2018), Texygen: A Benchmarking Platform for Text Generation Models, SIGIR.
    .. [2] Post (2018), A Call for Clarity in Reporting BLEU Scores, WMT.

    Examples
    --------
    >>> round(self_bleu(["the cat sat on the mat", "the cat sat on a mat", "no cat here"]), 4)
    0.3919
    """
    return float(
        self_bleu_scores(
            texts, max_order, tokenizer, smoothing, smooth_value, effective_order
        ).mean()
    )


def self_bleu_scores(
    texts: Sequence[str],
    max_order: int = 4,
    tokenizer: Tokenizer = "13a",
    smoothing: Smoothing = "exp",
    smooth_value: float | None = None,
    effective_order: bool = True,
) -> Floats:
    """BLEU of each text with all others as references: see `self_bleu`.

    Parameters
    ----------
    texts, max_order, tokenizer, smoothing, smooth_value, effective_order
        As for `self_bleu`.

    Returns
    -------
    array, shape (n_texts,)

    Raises
    ------
    ValueError
        As for `self_bleu`.

    Examples
    --------
    >>> self_bleu_scores(["a b c d", "a b c d", "x y"]).round(3).tolist()
    [1.0, 1.0, 0.0]
    """
    options = (smoothing, smooth_value, effective_order)
    return _bleu_scores(_Texts.read(texts, tokenizer), max_order, *options)


def rouge_l_homogenisation(texts: Sequence[str], tokenizer: Tokenizer = "words") -> float:
    """Mean ROUGE-L of all pairs of texts.

    2 L / (m + n) for texts of m and n tokens, L the length of their longest common subsequence.
    Needs rapidfuzz, from the extra ``text``.

    Parameters
    ----------
    texts : sequence of str
        At least two.
    tokenizer : str or callable
        See the module.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        There are fewer than two texts, or rapidfuzz is missing.

    Notes
    -----
    Two empty texts count as equal, 1, an empty and another one as 0. The rouge-score package
    lowercases and drops every sign other than a-z and 0-9; for its values pass
    ``lambda text: re.findall("[a-z0-9]+", text.lower())``.

    References
    ----------
    .. [1] Padmakumar and He (2024), Does Writing with Language Models Reduce Content Diversity?,
       ICLR.

    Examples
    --------
    >>> rouge_l_homogenisation(["a b c d", "a c d", "x"])  # doctest: +SKIP
    0.2857142857142857
    """
    return _rouge(_Texts.read(texts, tokenizer))


def self_repetition(texts: Sequence[str], n: int = 4, tokenizer: Tokenizer = "words") -> float:
    """Mean over texts of log(1 + how often its n-grams occur in other texts).

    An n-gram that k other texts hold counts k times, however often each of them, or the text
    itself, repeats it. Texts of fewer than n tokens contribute 0.

    Parameters
    ----------
    texts : sequence of str
        At least two.
    n : int
    tokenizer : str or callable
        See the module.

    Returns
    -------
    float
        0 if no n-gram is shared.

    Raises
    ------
    ValueError
        There are fewer than two texts.

    References
    ----------
    .. [1] Salkar et al. (2022), Self-Repetition in Abstractive Neural Summarizers, AACL-IJCNLP.

    Examples
    --------
    >>> round(self_repetition(["a b c d e", "a b c d", "x"]), 4)
    0.4621
    """
    return _repetition(_Texts.read(texts, tokenizer), n)


def compression_ratio(
    texts: Sequence[str], algorithm: Literal["gzip", "zstd"] = "gzip", separator: str = "\n"
) -> float:
    """Bytes of the joined texts by bytes compressed.

    Parameters
    ----------
    texts : sequence of str
        Joined in this order. gzip sees repetitions within 32 KiB only, so that in long texts it
        misses those of distant ones; zstd sees megabytes.
    algorithm : {"gzip", "zstd"}
        gzip at level 9; zstd at level 19, which needs zstandard or Python 3.14.
    separator : str

    Returns
    -------
    float
        Below 1 for short texts, for gzip's own 20 bytes count.

    Raises
    ------
    ValueError
        There is no text, all texts are empty, the algorithm is unknown or not there.

    References
    ----------
    .. [1] Shaib et al. (2024), Standardizing the Measurement of Text Diversity.

    Examples
    --------
    >>> compression_ratio(["the same words again"] * 50) > 10
    True
    """
    check_texts(texts)
    if not any(texts):
        raise _UndefinedError(
            "texts holds empty texts only, so there is nothing to compress; leave the problem out"
        )
    # A lone surrogate has no UTF-8 form.
    data = separator.join(texts).encode("utf-8", "surrogatepass")
    if algorithm == "gzip":
        return len(data) / len(gzip.compress(data, compresslevel=9, mtime=0))
    if algorithm == "zstd":
        return len(data) / len(_zstd(data))
    raise ValueError(f"algorithm={algorithm!r} is none of 'gzip', 'zstd'")


# --- Rollouts table ---

DEFAULT_METRICS = (
    "distinct_1",
    "distinct_2",
    "ead",
    "ngram_diversity",
    "self_bleu",
    "self_repetition",
    "compression_gzip",
)
_WITHOUT_WORDS = {"self_bleu", "compression_gzip", "compression_zstd"}
NGRAM_METRICS = (*DEFAULT_METRICS, "rouge_l", "compression_zstd")


# --- Tokenisers ---


def tokenize(tokenizer: Tokenizer) -> Callable[[str], Sequence[Hashable]]:
    """Find a tokeniser by its name.

    Parameters
    ----------
    tokenizer : str or callable
        See the module. Of a Hugging Face tokenizer the token numbers are taken, without special
        tokens.

    Returns
    -------
    callable
        From a text to a sequence of tokens.

    Raises
    ------
    ValueError
        The name is unknown and can't be loaded by transformers, or transformers is missing.

    Examples
    --------
    >>> tokenize("words")("Don't stop, हिन्दी 東京!")
    ['Don', "'", 't', 'stop', ',', 'हिन्दी', '東', '京', '!']
    >>> tokenize("13a")("It costs 1,000.50 dollars.")
    ['It', 'costs', '1,000.50', 'dollars', '.']
    """
    if isinstance(tokenizer, str):
        if tokenizer in _TOKENIZERS:
            return _TOKENIZERS[tokenizer]
        tokenizer = _hugging_face(tokenizer)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        encode = cast(Any, tokenizer).encode
        return lambda text: cast(Sequence[Hashable], encode(text, add_special_tokens=False))
    if not callable(tokenizer):
        raise ValueError(
            f"tokenizer must be a name or a callable from text to tokens, not "
            f"{type(tokenizer).__name__}"
        )
    return tokenizer


def _hugging_face(name: str) -> Any:
    known = ", ".join(map(repr, _TOKENIZERS))
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ValueError(
            f"tokenizer={name!r} is none of {known}; tokenizers of Hugging Face need transformers: "
            "pip install 'passk-lab[train]'"
        ) from error
    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever transformers and the file formats raise
        raise ValueError(
            f"tokenizer={name!r} is none of {known}, and transformers can't load it: {error}"
        ) from error


def _words(text: str) -> list[str]:
    # The full pattern is several times slower, and agrees on these.
    pattern = _ASCII_WORDS if text.isascii() else _word_pattern()
    return cast(list[str], pattern.findall(text))


_ASCII_WORDS = re.compile(r"\w+|[^\w\s]")


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    # Python's word class leaves out combining marks, without which Indic words fall apart.
    marks = _ranges(code for code in range(0x20000) if unicodedata.category(chr(code))[0] == "M")
    marks += "\u200c\u200d"  # joiners, within words of Persian and Indic scripts
    # Scripts written without spaces; their marks stay with the letter.
    alone = (
        "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u1000-\u102a\u1780-\u17b3"
        "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
        "\uff66-\uff9d\U00020000-\U0003ffff"
    )
    return re.compile(rf"[{alone}][{marks}]*|(?:(?![{alone}])[\w{marks}])+|[^\w\s]")


def _ranges(codes: Iterable[int]) -> str:
    """Sorted code points as the inside of a character class."""
    spans: list[list[int]] = []
    for code in codes:
        if spans and code == spans[-1][1] + 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in spans)


_13A = (
    # sacrebleu also widens each space, which costs most of its time and changes nothing.
    (re.compile(r"([\{-\~\[-\`\!-\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def _13a(text: str) -> list[str]:
    """Split as mteval-v13a.pl and sacrebleu do: signs apart, but not within numbers."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for escaped, sign in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(escaped, sign)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


_TOKENIZERS: dict[str, Callable[[str], Sequence[Hashable]]] = {
    "words": _words,
    "whitespace": str.split,
    "characters": list,
    "13a": _13a,
}


# --- Counting ---


class _UndefinedError(ValueError):
    """The texts leave the metric undefined, which a summary counts."""


class _Texts:
    """The tokens of one problem's texts behind one another, as numbers."""

    def __init__(self, tokens: Ints, lengths: Ints) -> None:
        self.tokens = tokens
        self.lengths = lengths
        self._grams: list[tuple[Ints, Ints]] = []

    @classmethod
    def read(cls, texts: Sequence[str], tokenizer: Tokenizer) -> _Texts:
        check_texts(texts)
        return cls.split(texts, tokenize(tokenizer))

    @classmethod
    def split(
        cls,
        texts: Sequence[str],
        split: Callable[[str], Sequence[Hashable]],
        numbers: dict[Hashable, int] | None = None,
    ) -> _Texts:
        """Number the tokens; with the same ``numbers``, those of several problems alike."""
        numbers = {} if numbers is None else numbers
        rows = []
        for text in texts:
            tokens = split(text)
            if isinstance(tokens, str | bytes):
                raise ValueError("tokenizer returned a string; let it return a list of tokens")
            rows.append([numbers.setdefault(token, len(numbers)) for token in tokens])
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        return cls(flat, lengths)

    def take(self, rows: npt.NDArray[np.int64]) -> _Texts:
        if len(rows) == len(self.lengths):
            return self
        starts = np.cumsum(self.lengths) - self.lengths
        chosen = [self.tokens[starts[r] : starts[r] + self.lengths[r]] for r in rows]
        return _Texts(np.concatenate(chosen), self.lengths[rows])

    def grams(self, order: int) -> tuple[Ints, Ints]:
        """N-grams of one length as dense numbers, and the text of each."""
        if order < 1:
            raise ValueError(f"n={order} must be at least 1")
        if not self._grams:
            owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
            self._grams.append((_dense(self.tokens), owner))
        while len(self._grams) < order:
            longer = len(self._grams)
            shorter, owner = self._grams[-1]
            # Two neighbours of one text overlap in all but the ends.
            inside = owner[1:] == owner[:-1]
            last = self._grams[0][0][_ends(self.lengths, longer + 1)]
            key = shorter[:-1][inside] * (self.tokens.max(initial=0) + 1) + last
            self._grams.append((_dense(key), owner[:-1][inside]))
        return self._grams[order - 1]

    def counts(self, order: int) -> tuple[Ints, Ints, Ints]:
        """How often each text holds each n-gram: n-gram (ascending), text, count."""
        gram, owner = self.grams(order)
        n_texts = len(self.lengths)
        key, count = np.unique(gram * n_texts + owner, return_counts=True)
        return key // n_texts, key % n_texts, count.astype(np.int64)

    def need_two(self, what: str) -> None:
        if len(self.lengths) < 2:
            raise _UndefinedError(
                f"texts holds one text, and {what} compares texts; give two or more"
            )


def _dense(key: Ints) -> Ints:
    return np.unique(key, return_inverse=True)[1].astype(np.int64, copy=False)


def _ends(lengths: Ints, order: int) -> npt.NDArray[np.bool_]:
    """Which tokens end an n-gram within their text."""
    starts = np.cumsum(lengths) - lengths
    place = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return np.asarray(place >= order - 1)


def _distinct_of_all(texts: _Texts, n: int) -> tuple[int, int]:
    gram, _ = texts.grams(n)
    if not len(gram):
        raise _UndefinedError(
            f"texts holds no text of {n} tokens, so there are no n-grams; take a smaller n, or "
            "leave the problem out"
        )
    return int(gram.max()) + 1, len(gram)


def _distinct(texts: _Texts, n: int) -> float:
    distinct, total = _distinct_of_all(texts, n)
    return distinct / total


def _ead(distinct: int, total: int, vocabulary_size: float) -> float:
    if not vocabulary_size >= distinct:
        raise ValueError(
            f"vocabulary_size={vocabulary_size} is below the {distinct} distinct n-grams of the "
            "texts; count every n-gram that is possible"
        )
    if vocabulary_size == np.inf or vocabulary_size == 1:
        return distinct / (total if vocabulary_size == np.inf else 1)
    expected = -vocabulary_size * np.expm1(total * np.log1p(-1 / vocabulary_size))
    return float(distinct / expected)


def _diversity_score(texts: _Texts, max_order: int) -> float:
    if max_order < 1:
        raise ValueError(f"max_order={max_order} must be at least 1")
    return sum(_distinct(texts, n) for n in range(1, max_order + 1))


def _repetition(texts: _Texts, n: int) -> float:
    texts.need_two("self-repetition")
    gram, owner, _ = texts.counts(n)
    holders = np.bincount(gram)
    others = np.bincount(owner, weights=holders[gram] - 1, minlength=len(texts.lengths))
    return float(np.log1p(others).mean())


# --- BLEU ---


def _bleu_scores(
    texts: _Texts,
    max_order: int,
    smoothing: str,
    smooth_value: float | None,
    effective_order: bool,
) -> Floats:
    if max_order < 1:
        raise ValueError(f"max_order={max_order} must be at least 1")
    if smoothing not in get_args(Smoothing):
        raise ValueError(f"smoothing={smoothing!r} is none of {', '.join(get_args(Smoothing))}")
    texts.need_two("self-BLEU")
    n_texts = len(texts.lengths)
    matched = np.zeros((n_texts, max_order))
    for order in range(1, max_order + 1):
        gram, owner, count = texts.counts(order)
        if len(gram):
            hits = np.minimum(count, _largest_of_others(gram, count))
            matched[:, order - 1] = np.bincount(owner, weights=hits, minlength=n_texts)
    total = np.maximum(texts.lengths[:, None] - np.arange(max_order), 0).astype(float)
    value = _SMOOTH_VALUES.get(smoothing, 0.0) if smooth_value is None else smooth_value
    smooth = _nltk if smoothing.startswith("method") else _sacrebleu
    precision, used = smooth(matched, total, smoothing, value)
    with np.errstate(divide="ignore"):
        logs = np.where(used, np.log(precision), 0.0 if effective_order else -np.inf)
    # An empty text scores 0 in any case.
    ratio = _closest_of_others(texts.lengths) / np.maximum(texts.lengths, 1)
    penalty = np.minimum(1 - ratio, 0.0)
    orders = used.sum(axis=1) if effective_order else max_order
    some = matched.any(axis=1)
    score = np.zeros(n_texts)
    score[some] = np.exp(logs.sum(axis=1)[some] / np.broadcast_to(orders, n_texts)[some])
    score[some] *= np.exp(penalty[some])
    return score


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


def _sacrebleu(
    matched: Floats, total: Floats, smoothing: str, value: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    if smoothing == "add-k":
        later = (np.arange(matched.shape[1]) > 0) * value
        matched, total = matched + later, total + later
    used = total > 0
    none = used & (matched == 0)
    if smoothing == "exp":
        matched = np.where(none, 0.5 ** np.cumsum(none, axis=1), matched)
    elif smoothing == "floor":
        matched = np.where(none, value, matched)
    return np.divide(matched, total, out=np.zeros(matched.shape), where=used), used


def _nltk(
    matched: Floats, total: Floats, smoothing: str, value: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    total = np.maximum(total, 1)
    none = matched == 0
    if smoothing == "method1":
        matched = np.where(none, value, matched)
    elif smoothing == "method2":
        later = np.arange(matched.shape[1]) > 0
        matched, total = matched + later, total + later
    elif smoothing == "method3":
        matched = np.where(none, 0.5 ** np.cumsum(none, axis=1), matched)
    return matched / total, np.ones(matched.shape, dtype=bool)


# --- Longest common subsequences and compression ---


def _rouge(texts: _Texts) -> float:
    try:
        cdist = import_module("rapidfuzz.process").cdist
        common_length = import_module("rapidfuzz.distance").LCSseq.similarity
    except ImportError as error:
        raise ValueError(
            "ROUGE-L needs rapidfuzz: pip install 'passk-lab[text]', or leave the metric out"
        ) from error
    texts.need_two("homogenisation")
    rows: list[Any] = _as_characters(texts)
    lengths = texts.lengths
    n = len(rows)
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


def _as_characters(texts: _Texts) -> list[Any]:
    """Each text as a string with one character a token, which rapidfuzz compares fastest."""
    tokens = _dense(texts.tokens)
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
    try:
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise ValueError(
            "algorithm='zstd' needs zstandard: pip install 'passk-lab[text]', or take 'gzip'"
        ) from error
    return cast(bytes, zstandard.ZstdCompressor(level=19).compress(data))


# --- Arguments ---


def check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str | bytes):
        raise ValueError("texts is a single text; give the texts of a problem as a list")
    if not len(texts):
        raise ValueError("texts is empty; leave the problem out, and report how many were")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"texts[{at}] is {type(text).__name__}, not a text; fill it in or drop it"
            )
