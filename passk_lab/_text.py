"""Names: looked up, and made safe to show in a terminal, a page, a figure, a spreadsheet."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_choice", "csv_safe", "import_extra", "look_up", "shorten", "visible"]

T = TypeVar("T")

# C0 and C1 controls, delete, line separators, lone surrogates, noncharacters, and the marks that
# reorder or hide the text around them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff]"
)
_HIDDEN_IN_LINES = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
# Also after blanks, for spreadsheets cut them off; tab and return, for some start a formula there.
_FORMULA = re.compile("[\t\r]|\\s*[=+\\-@＝＋－＠]")


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Find a name in a registry; ValueError lists the known ones, and guesses.

    Examples
    --------
    >>> look_up("colour", "blue", {"red": 1, "green": 2})
    Traceback (most recent call last):
    ...
    ValueError: colour 'blue' is unknown; the known ones: red, green
    """
    if name not in known:
        bare = {_bare(key): key for key in known}
        meant = [bare[key] for key in difflib.get_close_matches(_bare(name), bare, n=2)]
        hint = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""
        raise ValueError(
            f"{kind} {name!r} is unknown; the known ones: {', '.join(known) or 'none'}{hint}"
        )
    return known[name]


def import_extra(module: str, needs: str) -> Any:
    """Import a module of an extra; ValueError says what needs it and how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(needs) from error


def check_choice(value: object, known: Iterable[object], option: str) -> None:
    """Refuse an option that is none of the known ones."""
    if value not in known:
        raise ValueError(f"{option}={value!r} is none of {', '.join(map(repr, known))}")


def _bare(name: str) -> str:
    return name.lower().replace("_", "-")


def visible(text: str, lines: bool = False) -> str:
    r"""Spell out every character that is invisible or steers a terminal.

    Parameters
    ----------
    text : str
        Any text.
    lines : bool
        Keep line feeds and tabs, for a text of several lines.

    Returns
    -------
    str
        Printable text that UTF-8 can hold.

    Examples
    --------
    >>> print(visible("base\x1b[2J\r\n"))
    base\x1b[2J\x0d\x0a
    >>> print(visible("left\u202eright"))
    left\u202eright
    """
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(_spell, text)


def _spell(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a long name: checkpoints tend to differ at their ends.

    Examples
    --------
    >>> shorten("qwen-math-lr1e6-step000400", 15)
    'qwen-ma…p000400'
    """
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


def csv_safe(table: pd.DataFrame) -> pd.DataFrame:
    r"""Guard text cells against being run as formulas by a spreadsheet.

    Parameters
    ----------
    table : DataFrame
        Any table.

    Returns
    -------
    DataFrame
        A copy in which text that starts like a formula (``= + - @``, a tab or a return) has a
        leading apostrophe, and hidden characters are spelled out. Numbers stay as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"run": ["=1+1", "base"], "difference": [-0.5, 0.25]})
    >>> print(csv_safe(table).to_csv(index=False, lineterminator="\n"), end="")
    run,difference
    '=1+1,-0.5
    base,0.25
    """
    return table.map(lambda cell: _guard(cell) if isinstance(cell, str) else cell)


def _guard(cell: str) -> str:
    return visible(f"'{cell}" if _FORMULA.match(cell) else cell, lines=True)


def number(value: float, digits: int, signed: bool = False, percent: bool = False) -> str:
    """Spell a number; no minus before a zero.

    Examples
    --------
    >>> number(-0.0001, 2, signed=True), number(float("nan"), 2), number(float("inf"), 2)
    ('+0.00', 'n/a', '∞')
    """
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return f"{'-' if value < 0 else '+' * signed}∞"
    value = round(100 * value if percent else value, digits) + 0.0
    return f"{value:{'+' * signed}.{digits}f}{'%' * percent}"


def plural(number: int, noun: str) -> str:
    """Say how many there are."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
