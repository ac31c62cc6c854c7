"""Other programs' logs as rollouts tables: one module a format, loaded when it is asked for.

`read` gives the table, `convert` writes it to a file together with where it came from. The
programs themselves need not be installed; only their files are read. Names that need pandas are
loaded on first use, for the command lists formats in its help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from passk_lab.readers.formats import FORMATS, Format, options, reader

if TYPE_CHECKING:
    from passk_lab.readers.common import frame_of, grade, reads_files, settle, stable_id
    from passk_lab.readers.reading import convert, read

__all__ = [
    "FORMATS",
    "Format",
    "convert",
    "frame_of",
    "grade",
    "options",
    "read",
    "reader",
    "reads_files",
    "settle",
    "stable_id",
]

_HOME = {
    "convert": "reading",
    "frame_of": "common",
    "grade": "common",
    "read": "reading",
    "reads_files": "common",
    "settle": "common",
    "stable_id": "common",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
