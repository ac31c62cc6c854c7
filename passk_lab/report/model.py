"""What a report holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from passk_lab.metrics.embedders import Embedder
from passk_lab.report._outlook import Outlook
from passk_lab.stats.checkpoints import first_narrower
from passk_lab.stats.intervals import format_estimate
from passk_lab.stats.resampling import ResamplingOptions
from passk_lab.stats.verdict import MARGIN, Verdict

__all__ = ["FigureFiles", "Report", "Section", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Choices of a report.

    Attributes
    ----------
    k : sequence of int, optional
        Numbers of samples; default 1, 2, 4, ... up to each run's smallest number of samples.
    distinct : bool, optional
        Count distinct answers; default: where every file has the column ``answer``.
    embedder : str or callable, optional
        Compares the meanings of texts too: see `passk_lab.metrics.embedding`. Their wording is
        compared in any case, where there are texts.
    metrics : sequence of str
        Further metrics by their names, such as "g_pass_at_k:0.5": see `passk_lab.metric_table`.
    n_worst : int
        Problems listed for each run. Up to 250 in all can be opened, those that fell most.
    n_texts : int
        Texts shown of each of these, of the baseline and of the run.
    margin : float
        See `passk_lab.stats.verdict`: "level" is a change that is surely smaller.
    pool_seeds : bool
        Take the column ``seed`` for seeds of sampling: one model. By default they are training
        seeds, each a model of its own, and are resampled with the problems.
    confidence, n_resamples, random_state
        See `passk_lab.stats.Resampling`; the same seed and data give the same bytes.
    """

    k: Sequence[int] | None = None
    distinct: bool | None = None
    embedder: str | Embedder | None = None
    metrics: Sequence[str] = ()
    n_worst: int = 10
    n_texts: int = 2
    margin: float = MARGIN
    pool_seeds: bool = False
    confidence: float = 0.95
    n_resamples: int = 10_000
    random_state: int | None = 0

    @property
    def resampling(self) -> ResamplingOptions:
        """Keywords of functions that give intervals."""
        return {
            "confidence": self.confidence,
            "n_resamples": self.n_resamples,
            "random_state": self.random_state,
        }


@dataclass(frozen=True)
class FigureFiles:
    """A figure on disk and on the page: its title, stem and CSV, and the page's SVG element."""

    title: str
    stem: str
    note: str
    csv: str
    svg: str = field(repr=False)


@dataclass(frozen=True)
class Section:
    """The tables, verdicts and figures of one split.

    Attributes
    ----------
    split : str
    curve : DataFrame
        pass@k of every run, see `passk_lab.pass_at_k_curve`.
    distinct : DataFrame or None
        distinct@k over correct answers; None where answers aren't known, or no problem has two
        correct ones.
    rates : DataFrame
        See `passk_lab.plots.kinds.pass_rates`.
    differences, crossings, flattening, distinct_differences : DataFrame or None
        See `passk_lab.compare_runs`; None without a baseline in this split.
    worst : DataFrame or None
        See `worst_problems`.
    diversity : DataFrame or None
        See `passk_lab.stats.diversity.diversity_summary`; None without texts.
    metrics : DataFrame or None
        See `passk_lab.metric_table`; None where none was asked for.
    checkpoints : DataFrame or None
        See `passk_lab.stats.checkpoints`; None where no run has several.
    verdicts : tuple of Verdict
    figures : tuple of FigureFiles
    """

    split: str
    curve: pd.DataFrame
    distinct: pd.DataFrame | None
    rates: pd.DataFrame
    differences: pd.DataFrame | None = None
    crossings: pd.DataFrame | None = None
    flattening: pd.DataFrame | None = None
    distinct_differences: pd.DataFrame | None = None
    worst: pd.DataFrame | None = None
    diversity: pd.DataFrame | None = None
    metrics: pd.DataFrame | None = None
    checkpoints: pd.DataFrame | None = None
    verdicts: tuple[Verdict, ...] = ()
    figures: tuple[FigureFiles, ...] = ()

    @property
    def first_narrower(self) -> dict[str, int | None]:
        """Of each run with several checkpoints the first step at which reach is narrower."""
        found = {} if self.checkpoints is None else first_narrower(self.checkpoints)
        return {run: step for (run, _), step in found.items()}

    def overview(self, baseline: str | None = None, whole: bool = False) -> pd.DataFrame:
        """Condense the split to one row a run, the baseline first, as terminal and page show it.

        For the smallest, a middle and the largest k that all runs have, or for the ``whole`` of
        them: "estimate [low, high]" of ``pass@k``, and of ``distinct@k`` for the largest.
        """
        shared = set.intersection(*(set(g["k"]) for _, g in self.curve.groupby("run")))
        ks = sorted(shared)
        picks = ks if whole or not ks else sorted({ks[0], ks[len(ks) // 2], ks[-1]})
        runs = sorted(dict.fromkeys(self.curve["run"]), key=lambda name: name != baseline)
        rows = []
        for run in runs:
            curve = self.curve[self.curve["run"] == run].set_index("k")
            row: dict[str, Any] = {"run": run, "problems": int(curve["n_problems"].iloc[0])}
            if "n_seeds" in self.curve and self.curve["n_seeds"].max() > 1:
                row["seeds"] = int(curve["n_seeds"].iloc[0])
            for k in picks:
                row[f"pass@{k}"] = _cell(curve.loc[k], 3)
            if self.distinct is not None and picks:
                spread = self.distinct[self.distinct["run"] == run].set_index("k")
                row[f"distinct@{picks[-1]}"] = _cell(spread.loc[picks[-1]], 2)
            rows.append(row)
        return pd.DataFrame(rows)

    def metrics_overview(self, baseline: str | None = None) -> pd.DataFrame:
        """One row a run, one column a metric that was asked for, as `overview` does."""
        if self.metrics is None:
            return pd.DataFrame()
        table = self.metrics
        k = table["k"].map(lambda k: f" k={k}" if k else "")
        cells = pd.Series([_cell(row, 3) for _, row in table.iterrows()], index=table.index)
        named = table.assign(metric=table["metric"] + k, cell=cells)
        wide = named.pivot_table(
            "cell", "run", "metric", aggfunc="first", sort=False, fill_value=""
        ).rename_axis(columns=None)
        return wide.loc[sorted(wide.index, key=lambda run: run != baseline)].reset_index()


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes
    ----------
    baseline : str or None
    sections : tuple of Section
        One a split.
    notes : tuple of str
        What a reader should know about the data.
    accounts : DataFrame
        What there is of each run and split: ``problems, rollouts``, ``fewest`` and ``most`` samples
        of a problem, ``absent`` (problems of the split that only other runs have), and shares
        ``no_answer, no_text, cut_off, errors`` of the rollouts, as far as columns say so.
    outlook : Outlook or None
        Forecast of self-distillation from the baseline, where teacher scores were given.
    settings : Settings
    page, summary : Path or None
        The HTML page and the numbers as JSON, if they were written.
    files : tuple of Path
        Every file that was written.
    """

    baseline: str | None
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    accounts: pd.DataFrame
    outlook: Outlook | None
    settings: Settings
    page: Path | None = None
    summary: Path | None = None
    files: tuple[Path, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all splits."""
        return tuple(v for section in self.sections for v in section.verdicts)

    @property
    def advice(self) -> tuple[str, ...]:
        """What the verdicts say would tell more, once."""
        said = dict.fromkeys(chain(*(v.advice for v in self.verdicts)))
        return tuple(f"{line[0].upper()}{line[1:]}." for line in said)


def _cell(row: pd.Series, digits: int) -> str:
    return format_estimate(*row[["estimate", "low", "high"]], digits=digits)
