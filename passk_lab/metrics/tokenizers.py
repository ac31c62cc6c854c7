"""Tokenizers: from a text to a sequence of tokens, by name.

- "words": runs of letters, digits and marks of any script, each ideograph, kana, Thai, Lao, Khmer
  or Burmese letter for itself, each other sign for itself; case is kept
- "whitespace": what stands between white space
- "characters": every character
- "13a": sacrebleu's default, mteval-v13a.pl, to which a Chinese sentence is one token
- "bleu": the same, but letters of scripts written without blanks each for itself
- any other: name or path of a Hugging Face tokenizer (needs transformers)

A callable from text to a sequence of tokens, or a Hugging Face tokenizer, is taken as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

__all__ = ["TOKENIZERS", "Tokenizer", "tokenize"]

Tokenizer = str | Callable[[str], Sequence[Hashable]]


def tokenize(tokenizer: Tokenizer) -> Callable[[str], Sequence[Hashable]]:
    """Find a tokenizer by its name; it turns a text into a sequence of tokens.

    Of a Hugging Face tokenizer the token numbers are taken, without special tokens. ValueError says
    where the name is unknown and can't be loaded by transformers, or transformers is missing.

    Examples
    --------
    >>> tokenize("words")("Don't stop, हिन्दी 東京!")
    ['Don', "'", 't', 'stop', ',', 'हिन्दी', '東', '京', '!']
    """
    if isinstance(tokenizer, str):
        if tokenizer in TOKENIZERS:
            return TOKENIZERS[tokenizer]
        tokenizer = _hugging_face(tokenizer)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        encode = cast(Any, tokenizer).encode
        return lambda text: cast(Sequence[Hashable], encode(text, add_special_tokens=False))
    if not callable(tokenizer):
        raise ValueError(f"tokenizer must be a name or a callable, not {type(tokenizer).__name__}")
    return tokenizer


def _hugging_face(name: str) -> Any:
    known = ", ".join(map(repr, TOKENIZERS))
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ValueError(
            f"tokenizer={name!r} is none of {known}; others need transformers: 'passk-lab[train]'"
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


# Letters of scripts written without spaces.
_ALONE = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u1000-\u102a\u1780-\u17b3"
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U00020000-\U0003ffff"
)


@lru_cache(maxsize=1)
def _marks() -> str:
    # Python's word class leaves out combining marks, without which Indic words fall apart.
    marks = _ranges(code for code in range(0x20000) if unicodedata.category(chr(code))[0] == "M")
    return marks + "\u200c\u200d"  # joiners, within words of Persian and Indic scripts


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    # A letter's marks stay with it.
    marks = _marks()
    return re.compile(rf"[{_ALONE}][{marks}]*|(?:(?![{_ALONE}])[\w{marks}])+|[^\w\s]")


@lru_cache(maxsize=1)
def _alone_pattern() -> re.Pattern[str]:
    return re.compile(rf"[{_ALONE}][{_marks()}]*|[\u3001-\u3003\u3008-\u3011\uff01-\uff0f]")


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


def _bleu(text: str) -> list[str]:
    return _13a(text if text.isascii() else _alone_pattern().sub(r" \g<0> ", text))


TOKENIZERS: dict[str, Callable[[str], Sequence[Hashable]]] = {
    "words": _words,
    "whitespace": str.split,
    "characters": list,
    "13a": _13a,
    "bleu": _bleu,
}
