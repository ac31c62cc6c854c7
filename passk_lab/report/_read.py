"""What a report begins with: counts, what a reader should know of them, what to look at."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from passk_lab.report._checks import Looked, oddities
from passk_lab.report._diversity import choose_problems
from passk_lab.report._notes import answers, extremes, gaps, narrowing, short_of_samples
from passk_lab.report.model import Settings
from passk_lab.rollouts._rows import LostAnswers, PooledSteps
from passk_lab.rollouts.study import Study
from passk_lab.rollouts.table import MAIN_KEYS
from passk_lab.stats.checkpoints import checkpoints


@dataclass(frozen=True)
class Read:
    """Counts of all rollouts, and what was seen on the way.

    Attributes
    ----------
    study : Study
        Of the last checkpoint of each run.
    trained : DataFrame or None
        All checkpoints, see `passk_lab.stats.checkpoints`.
    table, counted : DataFrame
        Counts; with the seeds apart, where they are resampled.
    runs : list of str
        The baseline first.
    modes : dict of str to bool
        Whether distinct answers say more than pass@k, split by split.
    compared : dict of str to list of str
        The problems of each split whose texts are looked at.
    accounts : DataFrame
        See `passk_lab.report.Report`.
    notes : list of str
    """

    study: Study
    trained: pd.DataFrame | None
    table: pd.DataFrame
    counted: pd.DataFrame
    runs: list[str]
    modes: dict[str, bool]
    compared: dict[str, list[str]]
    accounts: pd.DataFrame
    notes: list[str]


def read_all(study: Study, baseline: str | None, settings: Settings) -> Read:
    """Count, and look at rollouts of some problems."""
    every, study = study, study.at_last_step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PooledSteps)  # a note says so
        table, lost = _counted(study, settings)
        seeds = not settings.pool_seeds and study.n_seeds > 1
        distinct = "correct_mode_counts" in table
        counted = study.counts([*MAIN_KEYS, "seed"], distinct) if seeds else table
    runs = sorted(dict.fromkeys(table["run"]), key=lambda name: name != baseline)
    _check_baseline(baseline, runs)
    modes, said = answers(table, False if lost else settings.distinct)
    compared = choose_problems(table, settings.random_state)
    looked = Looked.at(study, table, {*chain(*compared.values())})
    notes = [*oddities(looked), *lost, *study.notes(settings.distinct, seeds), *said]
    notes += [*extremes(table, runs), *short_of_samples(table), *gaps(table, baseline, runs)]
    trained, said = _over_training(study, every, [distinct, seeds], baseline, settings)
    notes += said
    return Read(study, trained, table, counted, runs, modes, compared, looked.accounts, notes)


def _counted(study: Study, settings: Settings) -> tuple[pd.DataFrame, list[str]]:
    """Count; without answers, and say so, where some correct rollout has none."""
    try:
        table, lost = study.counts(modes=settings.distinct), []
    except LostAnswers as error:
        if settings.distinct:
            raise
        table, lost = study.counts(modes=False), [f"Distinct answers are left out: {error}."]
    if table.empty:
        raise ValueError("no problem has as many samples as --min-samples asks for; take fewer")
    return table, lost


def _check_baseline(baseline: str | None, runs: Sequence[str]) -> None:
    if baseline is None or baseline in runs:
        return
    close = difflib.get_close_matches(baseline, runs, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"no run is called {baseline!r}{hint} (runs: {', '.join(runs)})")


def _over_training(
    last: Study, study: Study, how: Sequence[bool], baseline: str | None, settings: Settings
) -> tuple[pd.DataFrame | None, list[str]]:
    """Follow runs with several checkpoints, of which the report compares the last."""
    distinct, seeds = how
    runs = [run for run in last.last_steps if run != baseline]
    if not runs:
        return None, []
    by = [*MAIN_KEYS, "step", *(["seed"] if seeds else [])]
    try:
        counts = study.counts(by, distinct)
        followed = counts[counts["run"].isin([*runs, baseline])]
        k = max(settings.k) if settings.k else None
        options: dict[str, Any] = {"k": k, "over_seeds": seeds, **settings.resampling}
        with warnings.catch_warnings():
            # `n_problems` says how many there are.
            warnings.filterwarnings("ignore", message=".* left out")
            found = checkpoints(followed, baseline, margin=settings.margin, **options)
    except ValueError as error:
        return None, [f"Checkpoints over training are left out: {error}."]
    return found, [*narrowing(found)]
