"""Which files are meant, and how they are opened: folders, patterns, URLs, packed files, pipes."""

from __future__ import annotations

import atexit
import bz2
import functools
import glob
import gzip
import io
import lzma
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from passk_lab._text import import_extra

ENDINGS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
# What packed files start with, whatever they are called.
_UNPACK: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": functools.partial(pa.input_stream, compression="zstd"),
}
# Text of a log packs to a tenth; what unpacks to more than both of these is a bomb.
UNPACKED_BYTES = 1 << 30
UNPACKED_RATIO = 500
_LFS = b"version https://git-lfs.github.com/spec/"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Source:
    """A file of rollouts.

    Attributes
    ----------
    path : Path
    name : str
        What messages call it.
    run : str
        The run of its rollouts, if they don't say.
    said : bool
        Whether the run was given with the file (``NAME=FILE``), and goes before what the file says.
    """

    path: Path
    name: str
    run: str
    said: bool = False


def find_sources(given: Sequence[str | os.PathLike[str]], run: str | None = None) -> list[Source]:
    """Find the files that are meant, each with the run that it belongs to.

    A file, folder, pattern or URL may be given as ``NAME=...``. All files of one folder or pattern
    are one run; without a name it is called after the file or folder.
    """
    if not given:
        raise ValueError("no rollouts file given")
    groups = [_group(os.fspath(one)) for one in given]
    names = [run] * len(groups) if run else _run_names(groups)
    found = [
        Source(file, file_name, group.said or name, group.said is not None)
        for group, name in zip(groups, names, strict=True)
        for file, file_name in group.files
    ]
    seen: dict[Path, Source] = {}
    for source in found:
        same = seen.setdefault(source.path.resolve(), source)
        if same is not source:
            raise ValueError(f"{source.name}: is given twice; its rollouts would count twice")
    return found


@dataclass(frozen=True)
class _Group:
    """What one argument means: its name, if one was given, what it is called after, its files."""

    said: str | None
    path: Path
    files: list[tuple[Path, str]]


def _group(given: str) -> _Group:
    name, equals, rest = given.partition("=")
    said = bool(equals and name) and not Path(given).exists() and "/" not in name
    given = rest if said else given
    path = Path(given.partition("://")[2] or given)
    while not path.exists() and glob.has_magic(str(path)):
        path = path.parent
    return _Group(name if said else None, path, _files(given))


def _files(given: str) -> list[tuple[Path, str]]:
    if "://" in given:
        return _downloaded(given)
    path = Path(given)
    if path.is_dir():
        return [(file, str(file)) for file in _in_folder(path)]
    if path.exists():
        return [(path if path.is_file() else _drained(path), given)]
    matches = sorted(glob.glob(given, recursive=True))
    if not matches:
        raise FileNotFoundError(f"{given}: no such file or folder")
    return [pair for match in matches for pair in _files(match)]


def _in_folder(folder: Path) -> list[Path]:
    """Give the tables in a folder; JSON files, often notes, only where there is nothing else."""
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and kind(file) and not file.name.startswith((".", "_"))
    ]
    tables = [file for file in files if kind(file) != "json"] or files
    if not tables:
        raise ValueError(f"{folder}: no file in this folder ends in {', '.join(ENDINGS)}")
    return tables


def _run_names(groups: Sequence[_Group]) -> list[str]:
    """Call runs after their files, with the folder where the files are called alike."""
    paths = [group.path if group.path.name else group.path.resolve() for group in groups]
    plain = [path.name.split(".")[0] or path.name for path in paths]
    often = Counter(plain)
    return [
        f"{path.resolve().parent.name}/{name}" if often[name] > 1 else name
        for path, name in zip(paths, plain, strict=True)
    ]


def _downloaded(url: str) -> list[tuple[Path, str]]:
    fsspec = import_extra(
        "fsspec", f"{url}: URLs need fsspec; pip install fsspec, or copy the file"
    )
    try:
        paths = fsspec.open_local(f"simplecache::{url}", simplecache={"same_names": True})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url}: no such file") from error
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"{url}: can't be opened ({error})") from error
    found = [paths] if isinstance(paths, str) else list(paths)
    if not found:
        raise FileNotFoundError(f"{url}: no such file")
    return [
        (Path(path), url if len(found) == 1 else f"{url} ({Path(path).name})") for path in found
    ]


def _drained(pipe: Path) -> Path:
    """Copy what a pipe gives into a file with the ending that its content asks for."""
    handle, name = tempfile.mkstemp(dir=_scratch())
    with open(pipe, "rb") as source, os.fdopen(handle, "wb") as target:
        shutil.copyfileobj(source, target)
    path = Path(name)
    with open_bytes(path) as file:
        start = file.read(64).lstrip()
    ending = {b"PAR1": ".parquet", b"{": ".jsonl", b"[": ".json"}
    found = (end for magic, end in ending.items() if start.startswith(magic))
    return path.rename(path.with_name(path.name + next(found, ".csv")))


@functools.cache
def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="passk_lab-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _unpacked_name(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in PACKED_ENDINGS else path


def kind(path: Path) -> str | None:
    """Tell by the ending what a file is: parquet, jsonl, json or csv; None for others."""
    return ENDINGS.get(_unpacked_name(path).suffix.lower())


def separator(path: Path) -> str:
    """What separates the columns of a CSV or TSV file."""
    return "\t" if _unpacked_name(path).suffix.lower() == ".tsv" else ","


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read, packed or not.

    Raises
    ------
    ValueError
        The file is damaged or unpacks to too much, is a pointer of Git LFS, or UTF-16.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            unpack = next((f for magic, f in _UNPACK.items() if start.startswith(magic)), None)
            file.seek(0)
            packed = file if unpack is None else _Limited(unpack(path), path)
            with io.BufferedReader(cast(io.RawIOBase, packed), 1 << 20) as opened:
                check_start(opened.peek(64)[:64], path)
                yield opened
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise ValueError(f"{path}: is damaged and can't be unpacked ({error})") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error})") from error


def check_start(start: bytes, path: Path) -> None:
    """Refuse what is no file of text, by its first bytes."""
    if start.startswith(_LFS):
        raise ValueError(f"{path}: is a pointer of Git LFS, not the file; run git lfs pull")
    if start.startswith(_UTF16):
        raise ValueError(f"{path}: is UTF-16; write it as UTF-8")


class _Limited(io.RawIOBase):
    """What a packed file holds, as long as it isn't absurdly much more than the file."""

    def __init__(self, packed: IO[bytes], path: Path) -> None:
        self._packed, self._path, self._read = packed, path, 0
        self._limit = max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._packed.read(len(buffer))
        self._read += len(data)
        if self._read > self._limit:
            raise ValueError(
                f"{self._path}: unpacks to more than {self._limit >> 20:,} MB, over "
                f"{UNPACKED_RATIO} times its size; unpack it yourself if that is right"
            )
        cast(memoryview, buffer)[: len(data)] = data
        return len(data)
