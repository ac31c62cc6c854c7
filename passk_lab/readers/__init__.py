"""Other programs' logs as rollouts tables: one module a format, loaded when it is asked for.

`read` gives the table, `convert` writes it to a file together with where it came from. The
programs themselves need not be installed; only their files are read. `read` and `convert` are
loaded on first use, for they need pandas, and the command lists formats in its help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from passk_lab._lazy import lazy
from passk_lab.readers.common import stable_id
from passk_lab.readers.formats import FORMATS, reader

if TYPE_CHECKING:
    from passk_lab.readers.reading import convert, read

__all__ = ["FORMATS", "convert", "read", "reader", "stable_id"]

__getattr__, __dir__ = lazy(__name__, __all__, {"convert": "reading", "read": "reading"})
