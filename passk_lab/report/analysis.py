"""One page that answers: did the training make the model better, or only narrower?

`build_report` computes the curves, the paired comparisons and a verdict for each run, and writes
figures (PNG, SVG), a tidy CSV beside each, ``summary.json`` and ``index.html``. The page stands
alone: it loads nothing, runs one script of its own (sort, filter, values under the pointer), and
treats every name and text of the rollouts as untrusted.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from passk_lab import plots
from passk_lab._text import visible
from passk_lab.metrics.embedders import find_embedder
from passk_lab.metrics.registry import find_metric
from passk_lab.report._diversity import ENTROPIES, text_diversity
from passk_lab.report._figures import write_figures, write_table, write_text
from passk_lab.report._outlook import Outlook, outlook
from passk_lab.report._page import render_page, render_summary
from passk_lab.report._problems import PROMPTS, problems_shown
from passk_lab.report._read import Read, read_all
from passk_lab.report._worst import worst_problems
from passk_lab.report.model import Report, Section, Settings
from passk_lab.rollouts.study import Study
from passk_lab.rollouts.table import PathLike
from passk_lab.stats._pairs import Pair, difference_table, make_pairs
from passk_lab.stats.compare import Comparison
from passk_lab.stats.curves import distinct_at_k_curve, pass_at_k_curve
from passk_lab.stats.metric_table import metric_table
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.verdict import judge

__all__ = ["build_report"]


def build_report(
    rollouts: Study | pd.DataFrame | PathLike | Sequence[PathLike],
    baseline: str | None = None,
    *,
    out: PathLike | None = None,
    run: str | None = None,
    scores: pd.DataFrame | PathLike | None = None,
    cluster: str | None = None,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Report:
    """Compute everything and, where a folder is given, write the page, its figures and tables.

    Parameters
    ----------
    rollouts : Study, DataFrame, path or sequence of paths
        The rollouts table. Parquet files are read only in the columns that are needed, and their
        texts only for the problems that the page shows or compares.
    baseline : str, optional
        The run to compare with. Without it the report describes each run and compares none.
    out : path, optional
        Folder to write into; default: nothing is written. It is made if it is missing. Files in it
        of the same names are replaced, each whole or not at all.
    run : str, optional
        Name for files without a column ``run``.
    scores : DataFrame or path, optional
        Teacher scores of the baseline's rollouts (``passk-lab score``): adds a forecast of what
        self-distillation would do to it.
    cluster : str, optional
        The column that holds the family of a problem; default: ``cluster``, if there is one.
        Families are resampled whole.
    progress : callable, optional
        Called with a short text at each step.
    **settings
        Fields of `passk_lab.report.Settings`: ``k``, ``distinct``, ``embedder``, ``metrics``,
        ``n_worst``, ``n_texts``, ``margin``, ``pool_seeds``, ``confidence``, ``n_resamples``,
        ``random_state``.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        The table is refused, the baseline is no run (the runs are listed), or a k is too large; an
        embedder is given and there are no texts.
    OSError
        The folder can't be written, or a file not be read.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame([
    ...     {"run": run, "problem_id": str(i), "correct": rng.random() < rate}
    ...     for run, rate in (("base", 0.3), ("tuned", 0.6)) for i in range(40) for _ in range(4)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = build_report(table, "base", out=folder, n_resamples=500)
    ...     report.page.name, report.verdicts[0].label
    ('index.html', 'better at the first try, wider at 4')
    """
    say = progress or (lambda _: None)
    chosen = Settings(**settings)
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_writable(folder)
    study = rollouts if isinstance(rollouts, Study) else Study(rollouts, run, scores, cluster)
    chosen = _found(chosen, study)
    say("counting samples")
    read = read_all(study, baseline, chosen)
    counted, notes = read.counted, read.notes
    study = read.study
    say("comparisons with the baseline")
    measured = _metrics(study, counted, baseline, chosen, notes)
    sections = [
        replace(section, metrics=_of_split(measured, section.split))
        for section in _sections(read, baseline, chosen)
    ]
    ahead = _forecast(study, baseline, chosen, say)
    say("texts")
    shown = {*problems_shown(sections), *chain(*read.compared.values())}
    texts = study.some(shown, ("answer", "text", *PROMPTS, *ENTROPIES))
    for place, section in enumerate(sections):
        say(f"diversity of texts, split {visible(section.split)}")
        sections[place] = _with_diversity(
            section, read.compared, texts, baseline, chosen, "seed" in counted, notes
        )
    report = Report(baseline, tuple(sections), tuple(notes), read.accounts, ahead, chosen)
    return report if folder is None else _written(report, folder, read.runs, texts, say)


def _found(settings: Settings, study: Study) -> Settings:
    """Find metrics and embedder, before work starts."""
    for name in settings.metrics:
        find_metric(name)
    if settings.embedder is None:
        return settings
    if not study.has("text"):
        raise ValueError("no file has the column 'text', whose meanings the embedder compares")
    return replace(settings, embedder=find_embedder(settings.embedder))


def _written(
    report: Report,
    out: Path,
    runs: Sequence[str],
    texts: pd.DataFrame,
    say: Callable[[str], None],
) -> Report:
    """Write a report; give it with its figures and files."""
    stems = _stems([section.split for section in report.sections])
    sections = []
    files: list[Path] = []
    for section in report.sections:
        say(f"figures, split {visible(section.split)}")
        suffix = stems[section.split]
        tables = {"metrics": section.metrics, "diversity": section.diversity}
        for name, table in tables.items():
            if table is not None:
                files.append(write_table(out / f"{name}{suffix}.csv", table))
        figures, written = write_figures(section, runs, report.baseline, out=out, suffix=suffix)
        files += written
        sections.append(replace(section, figures=figures))
    if report.outlook is not None:
        text = report.outlook.table.to_csv(index=False, float_format="%.6g")
        files.append(write_text(out / "forecast.csv", text))
    say("page")
    page, summary = out / "index.html", out / "summary.json"
    files += [summary, page]
    report = replace(
        report, sections=tuple(sections), page=page, summary=summary, files=tuple(files)
    )
    write_text(summary, render_summary(report))
    write_text(page, render_page(report, texts, runs))
    return report


def _of_split(table: pd.DataFrame | None, split: str) -> pd.DataFrame | None:
    """Rows of a split; None where there is no table, or none."""
    if table is None or split not in set(table["split"]):
        return None
    return table[table["split"] == split].reset_index(drop=True)


def _metrics(
    study: Study,
    counted: pd.DataFrame,
    baseline: str | None,
    settings: Settings,
    notes: list[str],
) -> pd.DataFrame | None:
    found = {name: find_metric(name)[0] for name in settings.metrics}
    columns = sorted({"answer", *chain(*(metric.columns for metric in found.values()))})
    answers = {"answer"} if "mode_counts" in counted else set()
    options: dict[str, Any] = {"over_seeds": "seed" in counted, **settings.resampling}
    rows = None
    tables = []
    for name, metric in found.items():
        try:
            source = counted
            if not set(metric.columns) <= answers:
                source = rows = study.rows(columns) if rows is None else rows
            tables.append(metric_table(source, [name], baseline, settings.k, **options))
        except ValueError as error:
            notes.append(f"Metric {name!r} is left out: {error}.")
    if not tables:
        return None
    whole = pd.concat(tables, ignore_index=True)
    order = whole["run"].map({run: at for at, run in enumerate(dict.fromkeys(counted["run"]))})
    return whole.iloc[np.lexsort((order, whole["split"].astype(str)))].reset_index(drop=True)


def _forecast(
    study: Study, baseline: str | None, settings: Settings, say: Callable[[str], None]
) -> Outlook | None:
    scores = study.scores()
    if scores is None:
        return None
    say("forecast")
    if baseline is None:
        raise ValueError("scores: a forecast is of the baseline; name it with --baseline RUN")
    table = study.rows(["answer"])
    scored = table["problem_id"].isin(scores["problem_id"].astype(str))
    table = table[(table["run"] == baseline) & scored].reset_index(drop=True)
    sizes = table.groupby("problem_id").size()
    if sizes.empty:
        raise ValueError(
            f"scores: none of its problems has rollouts of the baseline {baseline!r}; give the "
            "rollouts that were scored"
        )
    k = max(settings.k) if settings.k else min(64, int(sizes.min()))
    return outlook(scores, table, k, **settings.resampling)


def _with_diversity(
    section: Section,
    compared: Mapping[str, Sequence[str]],
    texts: pd.DataFrame,
    baseline: str | None,
    settings: Settings,
    over_seeds: bool,
    notes: list[str],
) -> Section:
    if "text" not in texts:
        return section
    mine = texts["problem_id"].isin(compared[section.split])
    some = texts[(texts["split"] == section.split) & mine]
    try:
        diversity, said = text_diversity(some, baseline, settings, over_seeds)
    except ValueError as error:
        notes.append(f"Split {section.split!r}: the diversity of texts is left out: {error}.")
        return section
    notes += [f"Split {section.split!r}: {one}." for one in said]
    return replace(section, diversity=diversity)


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"can't write into {out} ({reason}); choose another folder"
        ) from error


def _sections(read: Read, baseline: str | None, settings: Settings) -> Iterable[Section]:
    """One a split."""
    how = Resampling(**settings.resampling)
    pairs = _pairs(read.counted, baseline, read.modes, settings, how)
    verdicts = judge(pairs, baseline or "", margin=settings.margin)
    for split, modes in read.modes.items():
        rows, apart = (part[part["split"] == split] for part in (read.table, read.counted))
        section = _section(rows, apart, modes, settings)
        section = replace(section, checkpoints=_of_split(read.trained, split))
        mine = [pair for pair in pairs if pair.split == split]
        if mine and baseline is not None:
            said = tuple(one for one in verdicts if one.split == split)
            found = Comparison.of(mine, baseline, "pass_at_k", how)
            section = _compared(replace(section, verdicts=said), rows, mine, found, settings)
        yield section


def _pairs(
    counted: pd.DataFrame,
    baseline: str | None,
    modes: Mapping[str, bool],
    settings: Settings,
    how: Resampling,
) -> list[Pair]:
    of_base = set(counted["split"][counted["run"] == baseline])
    if baseline is None or of_base.isdisjoint(counted["split"][counted["run"] != baseline]):
        return []
    metrics = ["pass_at_k", *(["distinct_at_k"] if any(modes.values()) else [])]
    seeds = "seed" in counted
    with warnings.catch_warnings():
        # Said in the report's notes, see `gaps`.
        warnings.filterwarnings("ignore", message=".* left out")
        return make_pairs(counted, baseline, settings.k, metrics, how, over_seeds=seeds)


def _section(rows: pd.DataFrame, counted: pd.DataFrame, modes: bool, settings: Settings) -> Section:
    seeds = "seed" in counted
    options: dict[str, Any] = {"k": settings.k, "over_seeds": seeds, **settings.resampling}
    split = rows["split"].iloc[0]
    rates = plots.pass_rates(rows)
    rates.insert(1, "split", split)
    return Section(
        split=split,
        curve=pass_at_k_curve(counted, **options),
        distinct=distinct_at_k_curve(counted, **options) if modes else None,
        rates=rates,
    )


def _compared(
    section: Section,
    rows: pd.DataFrame,
    pairs: Sequence[Pair],
    found: Comparison,
    settings: Settings,
) -> Section:
    spread = None
    if section.distinct is None:
        rows = rows.drop(columns="correct_mode_counts", errors="ignore")
    else:
        spread = difference_table(pairs, "distinct_at_k")
    return replace(
        section,
        differences=found.differences,
        crossings=found.crossings,
        flattening=found.flattening,
        distinct_differences=spread,
        worst=worst_problems(rows, found.baseline, settings.n_worst, settings.k),
    )


def _stems(splits: Sequence[str]) -> dict[str, str]:
    """Give each split a distinct suffix for file names; a single split has none."""
    if len(splits) == 1:
        return {splits[0]: ""}
    stems: dict[str, str] = {}
    for split in splits:
        stem = re.sub(r"[^A-Za-z0-9]+", "-", split).strip("-")[:40] or "split"
        number, unique = 2, stem
        while unique.lower() in {s.lower() for s in stems.values()}:
            unique = f"{stem}-{number}"
            number += 1
        stems[split] = unique
    return {split: f"-{stem}" for split, stem in stems.items()}
