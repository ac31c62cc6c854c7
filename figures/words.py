"""Numbers with their intervals, and small tables, as the page writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from passk_lab.stats import format_estimate


def span(row: Any, digits: int = 2, middle: str = "estimate", ends: str = "") -> str:
    """Format an estimate with its interval; a minus stays where it rounds to zero."""
    values = (row[middle], row[f"{ends}low"], row[f"{ends}high"])
    point, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{point} [{low}, {high}]"


def share(row: Any, other: str) -> str:
    """Format what is left of another run's, with its interval."""
    parts = (row[f"{part} vs {other}"] for part in ("ratio", "ratio_low", "ratio_high"))
    return format_estimate(*parts, percent=True)


def rows_of(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table in Markdown."""
    head, *lines = (f"| {' | '.join(cells)} |" for cells in (heads, *rows))
    return "\n".join([head, f"|{'---|' * len(heads)}", *lines])
