"""Numbers with units in free text: find them, and bring them to another unit.

Texts come from models, so nothing in them is evaluated: a strict grammar cuts out the number and
the factors of its unit, and pint is only asked what single names mean and what they convert to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
# Minus and dash, Greek mu and micro, ohm and Greek omega, ordinal and degree, dot operator.
_TYPOGRAPHY = str.maketrans("\u2212\u2013\u03bc\u2126\u00ba\u22c5", "--µ\u03a9°·")
_NUMBER = re.compile(
    r"(?<![\w.^])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,3}(?!\d)|\s?[×x*·]\s?10\s?\^\s?\(?[-+]?\d{1,3}\)?)?"
)
_FACTOR = re.compile(
    r"(?P<name>°?[A-Za-zµΩÅ]{1,24}|[°%])(?:\^?\(?(?P<power>[-+]?\d{1,2})\)?)?(?![\w^])"
)
_JOIN = re.compile(r"\s?(?P<sign>[*·/])\s?|\s|(?=°)")
# Words that pint would take for units: year, inch, technical atmosphere, acre, picohenry, ...
_NOT_UNITS = frozenset({"a", "as", "at", "in", "is", "oz", "ac", "pH", "are", "point", "points"})
# What may follow a space without a power, as in "N m"; any other word begins the prose.
_AFTER_SPACE = frozenset({"m", "s", "K", "mol", "kg", "atm"})
_MOST_FACTORS = 8
_ALIASES = {
    "°C": "degC", "Celsius": "degC", "celsius": "degC", "°F": "degF", "°": "degree",
    "°K": "kelvin", "sec": "second", "secs": "second", "hrs": "hour", "mins": "minute",
    "amps": "ampere", "Angstroms": "angstrom", "%": "percent",
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A number and the factors of its unit: ("m", 1), ("s", -1) for metres a second.

    ``end`` is where it ends in the text of `plain_text`.
    """

    value: float
    factors: tuple[tuple[str, int], ...] = ()
    end: int = 0

    @property
    def unit(self) -> str:
        """The unit, spelled like "m·s^-1"; empty for a bare number."""
        return "·".join(name if power == 1 else f"{name}^{power}" for name, power in self.factors)


def plain_text(text: str) -> str:
    r"""Write LaTeX, Markdown and typographic forms of numbers and units in plain characters.

    Examples
    --------
    >>> plain_text(r"$v = 3{,}0 \times 10^{5}\ \text{m/s}$, about **2.9** × 10⁵ metres per second")
    'v = 3,0 × 10^5 m/s, about 2.9 × 10^5 metres / second'
    """
    text = text.translate(_TYPOGRAPHY).replace("{,}", ",")
    text = re.sub(r"[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s?\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\d?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\^\s?\\circ|\^\{\\circ\}|\\degree", "°", text)
    for command, sign in (("times", "×"), ("cdot", "·"), ("mu", "µ"), ("Omega", "Ω")):
        text = re.sub(rf"\\{command}(?![A-Za-z])", sign, text)
    text = re.sub(r"\\[,;:! ]|~", " ", text).replace("\\%", "%").replace("$", "")
    text = re.sub(r"\^\{\s?([-+]?\d+)\s?\}", r"^\1", text)
    text = re.sub(r"(?<=\w)\*\*(?=[-+]?\d)", "^", text).replace("**", "")
    text = re.sub(r"\bdegrees? (?=[CF]\b|[Cc]elsius)", "°", text)
    text = text.replace("°Celsius", "°C").replace("°celsius", "°C")
    text = re.sub(r"\b(?:square|sq\.?) ([A-Za-z]+)", r"\1^2", text)
    text = re.sub(r"\bcubic ([A-Za-z]+)", r"\1^3", text)
    text = re.sub(r"\b([A-Za-z]+) squared\b", r"\1^2", text)
    text = re.sub(r"\b([A-Za-z]+) cubed\b", r"\1^3", text)
    text = re.sub(r"\bper\b", "/", text)
    return re.sub(r"[^\S\n]+", " ", text)


def find_quantities(text: str) -> list[Quantity]:
    """Find the numbers in a text of `plain_text`, each with the unit that follows it.

    Examples
    --------
    >>> [(q.value, q.unit) for q in find_quantities("4 cars at 1.5e1 m/s: 60 J/(mol K) in 2 h.")]
    [(4.0, ''), (15.0, 'm·s^-1'), (60.0, 'J·mol^-1·K^-1'), (2.0, 'h')]
    """
    found = []
    at = 0
    while match := _NUMBER.search(text, at):
        factors, at = _unit_at(text, match.end())
        found.append(Quantity(_value(match[0]), tuple(factors), at))
    return found


def _value(number: str) -> float:
    number = number.replace(",", "")
    parts = re.split(r"\s?[×x*·]\s?10\s?\^\s?", number)
    if len(parts) == 1:
        return float(number)
    return float(f"{parts[0].rstrip('.')}e{parts[1].strip('()')}")


def _unit_at(text: str, at: int) -> tuple[list[tuple[str, int]], int]:
    """Factors of the unit that begins at ``at``, and where it ends."""
    factors: list[tuple[str, int]] = []
    end = at
    place = at + 1 if text[at : at + 1] == " " else at
    sign, inside, after_space = 1, False, False
    # "10 / second" and "10 1/s" have no numerator.
    if bare := re.match(r"1?/ ?", text[place : place + 3]):
        sign, place = -1, place + bare.end()
    while len(factors) < _MOST_FACTORS:
        if sign < 0 and not inside and text[place : place + 1] == "(":
            inside, place = True, place + 1
        match = _FACTOR.match(text, place)
        if match is None or (name := match["name"]) in _NOT_UNITS or _meaning(name) is None:
            break
        if after_space and not inside and match["power"] is None and name not in _AFTER_SPACE:
            break
        factors.append((name, sign * int(match["power"] or 1)))
        end = place = match.end()
        if inside and text[place : place + 1] == ")":
            inside, place = False, place + 1
            end = place
        join = _JOIN.match(text, place)
        if join is None:
            break
        after_space = join[0].isspace()
        # Once for all: J/mol·K and J/mol K are meant as J/(mol·K), as everywhere in print.
        sign = -1 if join["sign"] == "/" else sign
        place = join.end()
    return [(name, power) for name, power in factors if power], end


@cache
def _registry() -> Any:
    try:
        import pint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "answers with units need pint; install the extra: pip install 'passk-lab[train]'",
            name="pint",
        ) from error
    return pint.UnitRegistry()


@cache
def _meaning(name: str) -> Any:
    """Pint's unit of a single name; None if there is none."""
    registry = _registry()
    try:
        return registry.Unit(_ALIASES.get(name, name))
    except Exception:  # pint's own parser raises errors of many kinds on what isn't a name
        return None


def _unit(factors: tuple[tuple[str, int], ...]) -> Any:
    registry = _registry()
    if len(factors) == 1 and factors[0][1] == 1:
        return _meaning(factors[0][0])
    product = registry.dimensionless
    for name, power in factors:
        unit = _meaning(name)
        # A degree within a compound unit is a difference.
        delta = {registry.degC: registry.delta_degC, registry.degF: registry.delta_degF}
        product = product * delta.get(unit, unit) ** power
    return product


def check_unit(unit: str) -> tuple[tuple[str, int], ...]:
    """Factors of a unit as questions state it; ValueError if it isn't understood to its end.

    Examples
    --------
    >>> check_unit("kJ/mol")
    (('kJ', 1), ('mol', -1))
    """
    plain = plain_text(unit).strip()
    factors, end = _unit_at(plain, 0)
    if end != len(plain):
        raise ValueError(
            f'unit {unit!r} isn\'t understood from {plain[end:]!r} on; write it like "J/(mol K)"'
        )
    return tuple(factors)


def in_unit(quantity: Quantity, factors: tuple[tuple[str, int], ...]) -> float | None:
    """Value of a quantity in another unit, from `check_unit`; None where the dimensions differ.

    A bare number is taken to be in that unit already.

    Examples
    --------
    >>> in_unit(find_quantities("36 km/h")[0], check_unit("m/s"))
    10.0
    """
    if not quantity.factors:
        return quantity.value
    import pint

    target, own = _unit(factors), _unit(quantity.factors)
    if target == _meaning("degC") and quantity.factors == (("C", 1),):
        own = target  # a temperature in "C" is hardly meant in coulombs
    try:
        return float(_registry().Quantity(quantity.value, own).to(target).magnitude)
    except (pint.DimensionalityError, pint.OffsetUnitCalculusError, OverflowError):
        return None
