"""Entries of zip files, Zstandard among them, up to a stated size."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

# A file may unpack to this, or to so many times its own size, whichever is more: logs shrink to a
# tenth or so, whereas a bomb of zeros grows a thousandfold.
LIMIT_BYTES = 2**30
LIMIT_RATIO = 200

_ZSTANDARD = 93  # Python's zipfile knows it from 3.14 on
_LOCAL_HEADER = struct.Struct("<26xHH")  # ends with the lengths of name and extra field

# What zipfile, the decompressors and a file that was cut off raise.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, pa.ArrowException, struct.error, EOFError, OSError,
    NotImplementedError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip


class Archive:
    """An open zip file; of entries with the same name the last counts."""

    def __init__(self, handle: BinaryIO, source: str = "zip file") -> None:
        self._handle, self._source = handle, source
        self._zip = zipfile.ZipFile(handle)
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def check_size(self, names: list[str]) -> None:
        """Refuse entries that unpack to too much together."""
        unpacked = sum(self._entries[name].file_size for name in names)
        packed = self._handle.seek(0, os.SEEK_END)
        if unpacked > max(LIMIT_BYTES, LIMIT_RATIO * packed):
            raise ValueError(
                f"{self._source}: unpacks to {unpacked:,} bytes, more than {LIMIT_BYTES:,} and "
                f"more than {LIMIT_RATIO} times its own size: a damaged or hostile file; if it is "
                "neither, unpack it or split it"
            )

    def read(self, name: str) -> bytes:
        """Unpack an entry; it is never more than its header says, and checked to be that."""
        entry = self._entries[name]
        if entry.compress_type != _ZSTANDARD:
            return self._zip.read(entry)
        self._handle.seek(entry.header_offset)
        lengths = _LOCAL_HEADER.unpack(self._handle.read(_LOCAL_HEADER.size))
        self._handle.seek(sum(lengths), os.SEEK_CUR)
        packed = pa.BufferReader(self._handle.read(entry.compress_size))
        with pa.CompressedInputStream(packed, "zstd") as stream:
            content: bytes = stream.read(entry.file_size)
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {name!r}")
        return content


@contextmanager
def open_zip(file: Path, fix: str) -> Iterator[Archive]:
    """Open a zip file; whatever is wrong with it becomes a ValueError with the fix."""
    try:
        with open(file, "rb") as handle:
            yield Archive(handle, str(file))
    except _BROKEN as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(
            f"{file}: can't be unpacked ({type(error).__name__}: {error}); {fix}"
        ) from error
