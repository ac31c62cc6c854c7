"""Studies and their figures: a decorated function each, and pages and manifest follow from it.

    LAB = Study("paths", load, data="data/paths", n_resamples=4_000)

    @LAB.figure("distinct_at_k-paths", "Distinct correct paths", number=3)
    def distinct_at_k(lab: Lab) -> tuple[Figure, pd.DataFrame]:
        ...  # a picture, and the table that it shows

    @distinct_at_k.found
    def _(tables: Tables) -> str:
        return f"Found in all: {tables['distinct_at_k-paths']['estimate'].max():.1f}."

What a figure found is told from the CSV files, so that text and picture can't disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

Drawn = tuple[Figure, pd.DataFrame]


class Tables:
    """The CSV files of a folder by name, each read once: DataFrames, whose cells have no types."""

    def __init__(self, folder: Path) -> None:
        self._read = cache(lambda name: pd.read_csv(folder / f"{name}.csv"))

    def __getitem__(self, name: str) -> Any:
        return self._read(name)


@dataclass
class Item:
    """A figure or, without a title, a table."""

    name: str
    make: Callable[..., Any]
    title: str = ""
    number: int | None = None
    told: Callable[[Tables], str] | None = None

    def found(self, told: Callable[[Tables], str]) -> Callable[[Tables], str]:
        """Decorate the function that says what the figure found; it puts the figure on the page."""
        self.told = told
        return told

    @property
    def heading(self) -> str:
        """Its title with its number, where it has one."""
        return self.title if self.number is None else f"{self.number}. {self.title}"


@dataclass
class Study:
    """Data, how they are loaded, and what is made of them.

    Parameters
    ----------
    name : str
    load : callable
        Folder or file of the data -> what every function of the study is given.
    data : str, optional
        Folder or file, from the root of the repository; without it functions are given nothing.
    n_resamples, seed : int, optional
        For the manifest.
    """

    name: str
    load: Callable[[Path], Any] | None = None
    data: str | None = None
    n_resamples: int | None = None
    seed: int = 0
    items: list[Item] = field(default_factory=list)

    def figure(
        self, name: str, title: str = "", number: int | None = None
    ) -> Callable[[Callable[..., Any]], Item]:
        """Decorate a function that gives a picture and its table; the numbered come first."""

        def register(make: Callable[..., Any]) -> Item:
            self.items.append(Item(name, make, title, number))
            return self.items[-1]

        return register

    def table(self, name: str) -> Callable[[Callable[..., Any]], Item]:
        """Decorate a function that gives a table without a picture."""
        return self.figure(name)

    def make(self, root: Path) -> Iterator[tuple[Item, Figure | None, pd.DataFrame]]:
        """Make everything, one after the other."""
        given = [] if self.data is None or self.load is None else [self.load(root / self.data)]
        for item in self.items:
            made = item.make(*given)
            figure, table = made if item.title else (None, made)
            yield item, figure, table
