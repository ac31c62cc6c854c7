"""Answers: which are none, and which are one answer in two spellings."""

from __future__ import annotations

import re
from fractions import Fraction

# What programs write where they found no answer, in the form of `bare`.
PLACEHOLDERS = frozenset(
    {
        *("", "none", "null", "nan", "n/a", "na", "invalid", "skipped", "unparseable", "unparsed"),
        *("no answer", "no_answer", "not found", "unknown", "incomplete reasoning", "failed"),
        *("error", "timeout", "extraction failed", "parse error"),
    }
)
_WRAPPED = re.compile(r"\$(.*)\$|\\\((.*)\\\)|\\boxed\{(.*)\}|\\text\{(.*)\}|\{(.*)\}", re.DOTALL)
_FRACTION = re.compile(r"\\[dt]?frac\{?(-?[0-9]+)\}?\{?([0-9]+)\}?")
_DIGITS = 1000  # Python reads no number of over 4300
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]{1,3})?(/[0-9]+)?")


def bare(answer: str) -> str:
    """Take brackets and capitals off a word that may stand for no answer.

    Examples
    --------
    >>> bare("[INVALID]"), bare(" <none> ")
    ('invalid', 'none')
    """
    return answer.strip().strip("[]<>()").strip().lower()


def is_placeholder(answer: str) -> bool:
    """Whether an answer says that there is none.

    Examples
    --------
    >>> is_placeholder("[INVALID]"), is_placeholder("7")
    (True, False)
    """
    return bare(answer) in PLACEHOLDERS


def found_nothing(answer: object) -> bool:
    """Whether a program says in brackets, as in "[INVALID]", that it found no answer.

    Examples
    --------
    >>> found_nothing("[incomplete reasoning]"), found_nothing("none"), found_nothing("[1]")
    (True, False, False)
    """
    text = answer.strip() if isinstance(answer, str) else ""
    return text.startswith("[") and text.endswith("]") and is_placeholder(text)


def normal_form(answer: str) -> str:
    r"""Spell equal numbers alike, without LaTeX's marks, blanks and capitals.

    Examples
    --------
    >>> [normal_form(a) for a in ("016", "16.0", "$16$", "1,600", r"\boxed{\frac{1}{2}}", "Yes. ")]
    ['16', '16', '16', '1600', '1/2', 'yes']
    """
    text = answer.strip().rstrip(".").strip()
    while found := _WRAPPED.fullmatch(text):
        text = next(part for part in found.groups() if part is not None).strip()
    text = _FRACTION.sub(r"\1/\2", text).replace("\\,", "").replace("\\!", "")
    number = re.sub(r"(?<=[0-9]),(?=[0-9]{3}\b)", "", text).removesuffix("\\%").lower()
    if len(number) <= _DIGITS and _NUMBER.fullmatch(number):
        whole, _, below = number.partition("/")
        if not below or int(below):
            return str(Fraction(whole) / int(below or 1))
    return " ".join(text.lower().split())
