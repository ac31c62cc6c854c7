"""How different are the rollouts: distinct answers, Hill numbers, text and embedding diversity.

`summary` has all metrics of a table; the modules have each alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passk_lab.diversity._summary import summary

__all__ = ["summary"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that one module doesn't bring all others.
    if name != "summary":
        raise AttributeError(f"module 'passk_lab.diversity' has no attribute {name!r}")
    from passk_lab.diversity._summary import summary

    return summary
