"""Studies and their figures: a decorated function each, and pages and manifest follow from it.

A second function, under ``@<figure>.found``, tells from the CSV files what the figure found, so
that text and picture can't disagree.
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
    """Data, how they are loaded, and what is made of them."""

    name: str
    load: Callable[[Path], Any] | None = None  # the data -> what every function is given
    data: str | None = None  # folder or file, from the root of the repository
    n_resamples: int | None = None  # for the manifest, as is the seed
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
