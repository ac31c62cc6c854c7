"""Other programs' logs as rollouts tables: one module a format, loaded when it is asked for.

`read` gives the table, `convert` writes it to a file together with where it came from. The
programs themselves need not be installed; only their files are read. `read` and `convert` are
loaded on first use, for they need pandas, and the command lists formats in its help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from passk_lab.readers.common import stable_id
from passk_lab.readers.formats import FORMATS, reader

if TYPE_CHECKING:
    from passk_lab.readers.reading import convert, read

__all__ = ["FORMATS", "convert", "read", "reader", "stable_id"]


def __getattr__(name: str) -> Any:
    if name not in ("convert", "read"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.reading"), name)
