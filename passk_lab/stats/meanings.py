"""Meanings of texts: embeddings of each problem, and modes that stand for answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.embedders import Embedder, embed, find_embedder
from passk_lab.metrics.embedding import (
    THRESHOLD,
    effective_rank,
    pairwise_cosine_distance,
    semantic_modes,
    vendi_score,
)
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats.texts import TextChoice, read_texts

__all__ = ["with_semantic_modes"]


def with_semantic_modes(
    rollouts: pd.DataFrame | PathLike,
    embedder: str | Embedder = "default",
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """Make the meaning of each text its answer, which every functional metric reads.

    Parameters
    ----------
    rollouts : DataFrame or path
        A rollouts table with the column ``text``, or a file of one.
    embedder : str or callable
        See the module.
    threshold : float
        See `semantic_modes`.

    Returns
    -------
    DataFrame
        The validated table; ``answer`` is "mode-0", "mode-1", ... The texts of all runs of a
        problem (of one split) are grouped together, so that runs share their modes.

    Raises
    ------
    ValueError
        The table is refused or a text is missing; as for `embed` and `semantic_modes`.

    Notes
    -----
    A mode may hold correct and wrong rollouts: distinct correct modes are those with a correct one.
    Only maj@k needs one verdict a mode, and refuses such a table.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"problem_id": "a", "correct": True, "text": ["x", "y", "xx"]})
    >>> def first_letter(texts):
    ...     return [[t[0] == "x", t[0] == "y"] for t in texts]
    >>> with_semantic_modes(table, first_letter)["answer"].tolist()  # doctest: +SKIP
    ['mode-0', 'mode-1', 'mode-0']
    """
    table = read_texts(rollouts)
    modes = np.empty(len(table), dtype=object)
    for rows, found in embed_problems(table, embedder):
        modes[rows] = mode_names(found, threshold)
    return table.assign(answer=modes)


def mode_names(embeddings: npt.ArrayLike, threshold: float) -> list[str]:
    """Name the mode of each text, as an answer: see `semantic_modes`."""
    return [f"mode-{mode}" for mode in semantic_modes(embeddings, threshold)]


def embed_problems(
    table: pd.DataFrame, embedder: str | Embedder
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]]:
    """Embed the texts of each problem and split, all runs together: rows of the table, and arrays.

    Parameters
    ----------
    table : DataFrame
        A validated rollouts table with texts.
    embedder : str or callable

    Yields
    ------
    rows : array of int, shape (n,)
        Positions in the table.
    embeddings : array, shape (n, d)

    Raises
    ------
    ValueError
        As for `embed`, with the problem named.
    """
    embedder = find_embedder(embedder)
    texts = table["text"].to_numpy(object)
    for key, rows in table.groupby(["split", "problem_id"], sort=True).indices.items():
        try:
            found = embed(texts[rows].tolist(), embedder)
        except ValueError as error:
            split, problem = cast(tuple[str, str], key)
            raise ValueError(f"problem_id={problem!r}, split={split!r}: {error}") from error
        yield np.asarray(rows, dtype=np.int64), found


def embedding_values(
    table: pd.DataFrame,
    embedder: str | Embedder,
    threshold: float,
    choice: TextChoice,
    size: int | None,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """Metrics of each run's embeddings of each problem, and the mode of each row."""
    modes = np.empty(len(table), dtype=object)
    runs = table["run"].to_numpy(object)
    keep = table["correct"].to_numpy(bool) | (not choice.correct_only)
    first = table[["split", "problem_id"]].to_numpy(object)
    values = []
    for rows, found in embed_problems(table, embedder):
        modes[rows] = mode_names(found, threshold)
        for run in dict.fromkeys(runs[rows]):
            mine = found[(runs[rows] == run) & keep[rows]]
            distance = pairwise_cosine_distance(mine) if len(mine) > 1 else np.nan
            draws = [mine[draw] for draw in choice.draws(len(mine), size, rng)]
            spread = [
                float(np.mean([metric(draw) for draw in draws])) if draws else np.nan
                for metric in (vendi_score, effective_rank)
            ]
            values.append((run, *first[rows[0]], distance, *spread))
    columns = [*MAIN_KEYS, "problem_id", "cosine_distance", "vendi", "effective_rank"]
    return pd.DataFrame(values, columns=columns), modes
