"""Your own files: any table that `passk_lab.read_rollouts` reads, with names of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from passk_lab.readers import _shared as shared
from passk_lab.rollouts._cells import DEFAULTS
from passk_lab.rollouts._sources import find_sources
from passk_lab.rollouts.files import read_rollouts
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.table import PathLike

__all__ = ["read_plain"]


def _source_files(path: PathLike) -> list[Path]:
    return [source.path for source in find_sources([path])]


@shared.reads_files(_source_files)
def read_plain(
    path: PathLike,
    *,
    columns: Mapping[str, str] | None = None,
    threshold: float | None = None,
    right: str | Sequence[str] | None = None,
    records: str | None = None,
    normalize_answers: bool = False,
    placeholders: str | Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table of rollouts under other names.

    Parameters
    ----------
    path : path
        A file, a folder or a pattern, as for `passk_lab.read_rollouts`.
    columns : mapping of str to str, optional
    threshold : float, optional
    right : str or sequence of str, optional
    records : str, optional
    normalize_answers : bool
    placeholders : str or sequence of str
        What the file calls the columns, and what it calls correct: fields of
        `passk_lab.rollouts.Layout`.

    Returns
    -------
    DataFrame
        The rollouts table. Without ``sample_id``, samples are numbered in the order of the file.

    Raises
    ------
    ValueError
        A column is missing, or its new name is taken; grades need a threshold; lists don't match.

    Examples
    --------
    >>> import tempfile
    >>> row = '{"q": "2+3?", "level": 1, "completions": ["5", "6"], "right": [true, false]}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.jsonl")
    ...     _ = path.write_text(row)
    ...     names = {"problem_id": "q", "text": "completions", "correct": "right"}
    ...     read_plain(path, columns=names)[["text", "correct", "level"]].to_numpy().tolist()
    [['5', True, 1], ['6', False, 1]]
    """
    layout = Layout(columns or {}, threshold, right, records, normalize_answers, placeholders)
    return read_rollouts(path, run=DEFAULTS["run"], layout=layout)
