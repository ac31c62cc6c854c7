"""The texts of a problem as numbered tokens, split once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from passk_lab.metrics.tokenizers import Tokenizer, tokenize

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class UndefinedError(ValueError):
    """The texts leave a metric undefined, which a summary counts."""


@dataclass(frozen=True)
class Texts:
    """Texts of one problem, which all functions of n-grams take in place of strings.

    Tokens and n-grams are found once for several functions.

    Examples
    --------
    >>> texts = Texts.of(["a b a", "b"])
    >>> texts.tokens.tolist(), texts.lengths.tolist()
    ([0, 1, 0, 1], [3, 1])
    """

    tokens: Ints  # of all texts behind one another
    lengths: Ints  # (n_texts,)
    _grams: list[tuple[Ints, Ints]] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(
        cls,
        texts: Sequence[str] | Texts,
        tokenizer: Tokenizer = "words",
        numbers: dict[Hashable, int] | None = None,
    ) -> Texts:
        """Split texts, unless they are; the same ``numbers`` number several problems alike."""
        if isinstance(texts, Texts):
            return texts
        check_texts(texts)
        split = tokenize(tokenizer)
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

    def take(self, rows: Ints) -> Texts:
        """Some of the texts, in order."""
        if len(rows) == len(self.lengths):
            return self
        starts = np.cumsum(self.lengths) - self.lengths
        chosen = [self.tokens[starts[r] : starts[r] + self.lengths[r]] for r in rows]
        return Texts(np.concatenate(chosen), self.lengths[rows])

    def need_two(self, what: str) -> None:
        """Refuse a single text."""
        if len(self.lengths) < 2:
            raise UndefinedError(f"texts holds one text, and {what} compares two or more")

    @cached_property
    def _owner(self) -> Ints:
        """The text of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def grams(self, order: int) -> tuple[Ints, Ints]:
        """N-grams of one length as dense numbers, and the text of each."""
        if order < 1:
            raise ValueError(f"n={order} must be at least 1")
        place = np.arange(len(self.tokens))
        if not self._grams:
            self._grams.append((dense(self.tokens), place))
        to_end = np.cumsum(self.lengths)[self._owner] - place
        for length in range(len(self._grams), order):
            # An n-gram is one shorter by a token, followed by a token of the same text.
            gram, start = self._grams[-1]
            longer = to_end[start] > length
            start = start[longer]
            last = self._grams[0][0][start + length]
            key = gram[longer] * (self.tokens.max(initial=0) + 1) + last
            self._grams.append((dense(key), start))
        gram, start = self._grams[order - 1]
        return gram, self._owner[start]

    def counts(self, order: int) -> tuple[Ints, Ints, Ints]:
        """How often each text holds each n-gram: n-gram (ascending), text, count."""
        gram, owner = self.grams(order)
        n_texts = len(self.lengths)
        key, count = np.unique(gram * n_texts + owner, return_counts=True)
        return key // n_texts, key % n_texts, count.astype(np.int64)

    def distinct(self, n: int) -> tuple[int, int]:
        """Count distinct and all n-grams; there must be one."""
        gram, _ = self.grams(n)
        if not len(gram):
            raise UndefinedError(f"texts holds no text of {n} tokens; take a smaller n")
        return int(gram.max()) + 1, len(gram)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no sequence of texts, naming the first that is none."""
    if isinstance(texts, str | bytes):
        raise ValueError("texts is a single text; give the texts of a problem as a list")
    if not len(texts):
        raise ValueError("texts is empty; leave the problem out, and report how many were")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{at}] is {type(text).__name__}, no text; fill it in")


def ead_of_counts(distinct: int, total: int, vocabulary_size: float) -> float:
    """Give `ead` of counted n-grams, as `Texts.distinct` counts them."""
    if not vocabulary_size >= distinct:
        raise ValueError(
            f"vocabulary_size={vocabulary_size} is below the {distinct} distinct n-grams of the "
            "texts; count every n-gram that is possible"
        )
    if vocabulary_size == np.inf or vocabulary_size == 1:
        return distinct / (total if vocabulary_size == np.inf else 1)
    expected = -vocabulary_size * np.expm1(total * np.log1p(-1 / vocabulary_size))
    return float(distinct / expected)


def dense(key: Ints) -> Ints:
    """Renumber from 0 on."""
    return np.unique(key, return_inverse=True)[1].astype(np.int64, copy=False)
