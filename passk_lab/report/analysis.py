"""One page that answers: did the training make the model better, or only narrower?

`build_report` computes the curves, the paired comparisons and a verdict for each run, and writes
figures (PNG, SVG), a tidy CSV beside each, ``summary.json`` and ``index.html``. The page stands
alone: it loads nothing, runs no script, and treats every name and text of the rollouts as
untrusted.
"""

from __future__ import annotations

import base64
import difflib
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from passk_lab import plots
from passk_lab._text import csv_safe, visible
from passk_lab.metrics.embedders import Embedder
from passk_lab.metrics.passk import pass_at_k
from passk_lab.report.diversity import ENTROPIES, choose_problems, text_diversity
from passk_lab.report.outlook import Outlook, outlook
from passk_lab.report.page import TEXT_PROBLEMS, crossing_words, render_page
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import atomic_write, read_rollouts
from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats.compare import compare_runs
from passk_lab.stats.curves import distinct_at_k_curve, pass_at_k_curve
from passk_lab.stats.values import default_ks
from passk_lab.stats.verdict import Change, Verdict, interval, verdict

__all__ = [
    "FigureFiles",
    "Report",
    "Section",
    "build_report",
    "load_counts",
    "overview",
    "worst_problems",
    "write_figures",
]

PathLike = str | os.PathLike[str]

_TEXT_BATCH = 1 << 13  # rows: texts are large


@dataclass(frozen=True)
class FigureFiles:
    """A figure on disk and on the page: its title, stem, alternative text and CSV."""

    title: str
    stem: str
    alt: str
    note: str
    csv: str
    svg_light: str = field(repr=False)
    svg_dark: str = field(repr=False)


@dataclass(frozen=True)
class Section:
    """The tables, verdicts and figures of one split.

    Attributes
    ----------
    split : str
    curve : DataFrame
        pass@k of every run, see `passk_lab.pass_at_k_curve`.
    distinct : DataFrame or None
        distinct@k over correct answers; None where answers aren't known.
    rates : DataFrame
        See `passk_lab.plots.kinds.pass_rates`.
    differences, crossings, flattening, distinct_differences : DataFrame or None
        See `passk_lab.compare_runs`; None without a baseline in this split.
    worst : DataFrame or None
        See `worst_problems`.
    diversity : DataFrame or None
        See `passk_lab.stats.diversity.diversity_summary`; None without texts.
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
    verdicts: tuple[Verdict, ...] = ()
    figures: tuple[FigureFiles, ...] = ()


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
    outlook : Outlook or None
        Forecast of self-distillation from the baseline, where teacher scores were given.
    page, summary : Path
        The HTML page and the numbers as JSON.
    files : tuple of Path
        Every file that was written.
    """

    baseline: str | None
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    outlook: Outlook | None
    page: Path
    summary: Path
    files: tuple[Path, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all splits."""
        return tuple(v for section in self.sections for v in section.verdicts)


def build_report(
    rollouts: pd.DataFrame | PathLike | Sequence[PathLike],
    baseline: str | None = None,
    *,
    out: PathLike,
    k: Sequence[int] | None = None,
    run: str | None = None,
    distinct: bool | None = None,
    scores: pd.DataFrame | PathLike | None = None,
    embedder: str | Embedder | None = None,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | None = 0,
    n_worst: int = 10,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compute everything and write the page with its figures and tables.

    Parameters
    ----------
    rollouts : DataFrame, path or sequence of paths
        The rollouts table. Parquet files are read only in the columns that are needed, and their
        texts only for the problems that the page shows or compares.
    baseline : str, optional
        The run to compare with. Without it the report describes each run and compares none.
    out : path
        Folder to write into; it is made if it is missing. Files in it of the same names are
        replaced, each whole or not at all.
    k : sequence of int, optional
        Numbers of samples; default 1, 2, 4, ... up to each run's smallest number of samples.
    run : str, optional
        Name for files without a column ``run``.
    distinct : bool, optional
        Count distinct answers; default: where every file has the column ``answer``.
    scores : DataFrame or path, optional
        Teacher scores of the baseline's rollouts (``passk-lab score``): adds a forecast of what
        self-distillation would do to it.
    embedder : str or callable, optional
        Compares the meanings of texts too: see `passk_lab.metrics.embedding`. Their wording is
        compared in any case, where there are texts.
    confidence : float
        Coverage of the intervals.
    n_resamples : int
        Bootstrap replicates.
    random_state : int, optional
        Seed of the bootstrap; the same seed and data give the same bytes.
    n_worst : int
        Problems listed for each run.
    progress : callable, optional
        Called with a short text at each step.

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
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame([
    ...     {"run": run, "problem_id": str(i), "correct": rng.random() < rate}
    ...     for run, rate in (("base", 0.3), ("tuned", 0.6)) for i in range(40) for _ in range(4)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = build_report(table, "base", out=folder, n_resamples=500)
    ...     report.page.name, report.verdicts[0].label
    ('index.html', 'better')
    """
    say = progress or (lambda _: None)
    out = Path(out)
    _check_writable(out)
    say("counting samples")
    table, notes = load_counts(rollouts, run=run, distinct=distinct)
    runs = sorted(dict.fromkeys(table["run"]), key=lambda name: name != baseline)
    _check_baseline(baseline, runs)
    if baseline is None:
        hint = f"runs here: {', '.join(runs)}" if len(runs) > 1 else "add its rollouts first"
        notes.append(
            "No baseline was given, so nothing is compared. Name one with --baseline RUN "
            f"(baseline=... in Python; {hint})."
        )
    elif len(runs) == 1:
        notes.append("The baseline is the only run; add the rollouts of a run to compare.")
    options: dict[str, Any] = {
        "k": k,
        "confidence": confidence,
        "n_resamples": n_resamples,
        "random_state": random_state,
    }
    splits = list(dict.fromkeys(table["split"]))
    stems = _stems(splits)
    sections = []
    files: list[Path] = []
    for split in splits:
        rows = table[table["split"] == split].reset_index(drop=True)
        if baseline is not None:
            notes += _unpaired(rows, split, baseline)
        say(f"curves and intervals, split {visible(split)}")
        section = _section(rows, split, baseline, n_worst, options)
        say(f"figures, split {visible(split)}")
        figures, written = write_figures(section, runs, baseline, out=out, suffix=stems[split])
        files += written
        sections.append(replace(section, figures=figures))
    ahead = None
    if scores is not None:
        say("forecast")
        ahead = _outlook(scores, rollouts, run, baseline, options)
        files.append(out / "forecast.csv")
        _write_text(files[-1], ahead.table.to_csv(index=False, float_format="%.6g"))
    say("texts")
    compared = choose_problems(table, random_state)
    texts = _texts(rollouts, run, {*_shown(sections), *(p for ps in compared.values() for p in ps)})
    if embedder is not None and "text" not in texts:
        raise ValueError("no file has the column 'text', whose meanings the embedder compares")
    if "text" in texts:
        rest = (embedder, confidence, n_resamples, random_state)
        for place, section in enumerate(sections):
            say(f"diversity of texts, split {visible(section.split)}")
            mine = texts["problem_id"].isin(compared[section.split])
            some = texts[(texts["split"] == section.split) & mine]
            diversity, missing = text_diversity(some, baseline, *rest)
            sections[place] = replace(section, diversity=diversity)
            if missing:
                notes.append(
                    f"Split {section.split!r}: {missing} of {len(some)} rollouts have no text and "
                    "are left out of the diversity of texts."
                )
            if diversity is not None:
                files.append(out / f"diversity{stems[section.split]}.csv")
                content = csv_safe(diversity).to_csv(index=False, lineterminator="\n")
                _write_text(files[-1], content)
    say("page")
    settings = {"confidence": confidence, "n_resamples": n_resamples, "seed": random_state}
    summary = out / "summary.json"
    _write_text(summary, _summary(sections, baseline, notes, settings, ahead))
    page = out / "index.html"
    _write_text(page, render_page(sections, baseline, notes, settings, texts, runs, ahead))
    written_all = (*files, summary, page)
    return Report(baseline, tuple(sections), tuple(notes), ahead, page, summary, written_all)


def _outlook(
    scores: pd.DataFrame | PathLike,
    rollouts: pd.DataFrame | PathLike | Sequence[PathLike],
    run: str | None,
    baseline: str | None,
    options: Mapping[str, Any],
) -> Outlook:
    if baseline is None:
        raise ValueError("scores: a forecast is of the baseline; name it with --baseline RUN")
    if not isinstance(scores, pd.DataFrame):
        scores = pd.read_parquet(scores)
    if "problem_id" not in scores.columns:
        raise ValueError(
            "scores: column 'problem_id' is missing; make the file with passk-lab score"
        )
    if isinstance(rollouts, pd.DataFrame):
        table = validate_rollouts(
            rollouts if run is None or "run" in rollouts else rollouts.assign(run=run)
        )
    else:
        files = _paths(rollouts)
        parts = [read_rollouts(f, ["answer"], _run_name(f, files, run)) for f in files]
        table = pd.concat(parts, ignore_index=True)
    scored = table["problem_id"].isin(scores["problem_id"].astype(str))
    table = table[(table["run"] == baseline) & scored].reset_index(drop=True)
    sizes = table.groupby("problem_id").size()
    if sizes.empty:
        raise ValueError(
            f"scores: none of its problems has rollouts of the baseline {baseline!r}; give the "
            "rollouts that were scored"
        )
    k = max(options["k"]) if options["k"] else min(64, int(sizes.min()))
    rest = {name: options[name] for name in ("confidence", "n_resamples", "random_state")}
    return outlook(scores, table, k, **rest)


def load_counts(
    rollouts: pd.DataFrame | PathLike | Sequence[PathLike],
    run: str | None = None,
    distinct: bool | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Count one or several files without reading their texts.

    Parameters
    ----------
    rollouts : DataFrame, path or sequence of paths
        As for `build_report`.
    run : str, optional
        Name for files without a column ``run``; with several files the default is each file's
        stem.
    distinct : bool, optional
        As for `build_report`.

    Returns
    -------
    table : DataFrame
        As `passk_lab.counts` returns it, for all files together.
    notes : list of str
        What was done that a reader should know, such as training steps that were pooled.

    Raises
    ------
    ValueError
        A table is refused, or files repeat each other's rollouts.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": ["a", "a"], "correct": [True, False]})
    >>> load_counts(table)[0][["run", "n_samples", "n_correct"]]
           run  n_samples  n_correct
    0  default          2          1
    """
    if isinstance(rollouts, pd.DataFrame):
        frame = rollouts if run is None or "run" in rollouts else rollouts.assign(run=run)
        return counts(frame, modes=distinct), _pooled(frame)
    files = _paths(rollouts)
    parts = []
    notes: list[str] = []
    for file in files:
        part, pooled = _count_file(file, _run_name(file, files, run), distinct)
        parts.append(part)
        notes += pooled
    if any("mode_counts" not in part for part in parts):
        if any("mode_counts" in part for part in parts):
            notes.append(
                "Not every file has the column 'answer', so distinct answers are left out."
            )
        parts = [part.drop(columns=["mode_counts", "correct_mode_counts"], errors="ignore")
                 for part in parts]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    if table.duplicated(["run", "split", "problem_id"]).any():
        # A problem's samples lie in several files: only whole rows show whether any repeats.
        columns = ["answer"] if "mode_counts" in table else []
        table = counts(read_rollouts(files, columns, run), modes="mode_counts" in table)
    return table, list(dict.fromkeys(notes))


def _paths(rollouts: PathLike | Sequence[PathLike]) -> list[Path]:
    paths = [rollouts] if isinstance(rollouts, str | os.PathLike) else list(rollouts)
    if not paths:
        raise ValueError("no rollouts file given")
    return [Path(path) for path in paths]


def _run_name(file: Path, files: Sequence[Path], run: str | None) -> str | None:
    return run if run is not None or len(files) == 1 else file.name.split(".")[0]


def _count_file(
    file: Path, name: str | None, distinct: bool | None
) -> tuple[pd.DataFrame, list[str]]:
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    if not _is_parquet(file):
        frame = read_rollouts(file, ["answer"], name)
        return counts(frame, modes=distinct), _pooled(frame)
    table = counts(file, modes=distinct)
    columns = pq.read_schema(file).names
    if "run" not in columns and name is not None:
        table["run"] = name
    labels = [c for c in ("run", "step", "seed") if c in columns]
    frame = pq.read_table(file, columns=labels).group_by(labels).aggregate([]).to_pandas()
    return table, _pooled(frame if "run" in columns else frame.assign(run=name or "default"))


def _is_parquet(file: Path) -> bool:
    return file.name.lower().endswith(".parquet")


def _pooled(frame: pd.DataFrame) -> list[str]:
    notes = []
    run = frame["run"] if "run" in frame else pd.Series("default", index=frame.index)
    for name, advice in (
        ("step", "to tell the checkpoints apart, write the step into the column 'run'"),
        ("seed", "the intervals treat them as one model"),
    ):
        if name not in frame:
            continue
        for label, values in frame.groupby(run, observed=True)[name]:
            number = values.nunique()
            if number > 1:
                notes.append(f"Run {label!r} pools the rollouts of {number} {name}s; {advice}.")
    return notes


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


def _check_baseline(baseline: str | None, runs: Sequence[str]) -> None:
    if baseline is None or baseline in runs:
        return
    close = difflib.get_close_matches(baseline, runs, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"no run is called {baseline!r}{hint} (runs: {', '.join(runs)})")


def _unpaired(rows: pd.DataFrame, split: str, baseline: str) -> Iterable[str]:
    """Say which runs have no counterpart in the baseline, wholly or for some problems."""
    problems = {run: set(part["problem_id"]) for run, part in rows.groupby("run", sort=False)}
    if baseline not in problems:
        yield f"Split {split!r} has no rollouts of the baseline, so nothing is compared there."
        return
    reference = problems.pop(baseline)
    for run, mine in problems.items():
        alone = len(mine ^ reference)
        if alone:
            yield (
                f"Run {run!r}, split {split!r}: {alone} problems that only the run or only the "
                f"baseline has are left out; {len(mine & reference)} are compared."
            )


def _section(
    rows: pd.DataFrame,
    split: str,
    baseline: str | None,
    n_worst: int,
    options: Mapping[str, Any],
) -> Section:
    modes = "correct_mode_counts" in rows
    rates = plots.pass_rates(rows)
    rates.insert(1, "split", split)
    section = Section(
        split=split,
        curve=pass_at_k_curve(rows, **options),
        distinct=distinct_at_k_curve(rows, **options) if modes else None,
        rates=rates,
    )
    runs = list(dict.fromkeys(rows["run"]))
    if baseline not in runs or len(runs) == 1:
        return section
    assert baseline is not None
    with warnings.catch_warnings():
        # Said in the report's notes, see _unpaired.
        warnings.filterwarnings("ignore", message=".* problems that only one of the two has")
        found = compare_runs(rows, baseline, **options)
        spread = compare_runs(rows, baseline, metric="distinct_at_k", **options) if modes else None
    worst = worst_problems(rows, baseline, n_worst, options["k"])
    distinct_differences = None if spread is None else spread.differences
    return replace(
        section,
        differences=found.differences,
        crossings=found.crossings,
        flattening=found.flattening,
        distinct_differences=distinct_differences,
        worst=worst,
        verdicts=tuple(_verdicts(found.differences, distinct_differences, split, baseline)),
    )


def _verdicts(
    differences: pd.DataFrame, distinct: pd.DataFrame | None, split: str, baseline: str
) -> Iterable[Verdict]:
    for run, rows in differences.groupby("run", sort=False):
        changes = _changes(rows)
        spread = [] if distinct is None else _changes(distinct[distinct["run"] == run])
        yield verdict(
            changes[0],
            changes[-1] if len(changes) > 1 else None,
            spread[-1] if spread else None,
            run=str(run),
            baseline=baseline,
            split=split,
        )


def _changes(rows: pd.DataFrame) -> list[Change]:
    columns = ["k", "baseline", "estimate", "difference", "low", "high", "n_problems"]
    return [
        Change(**{name: row[name] for name in columns})
        for row in rows.sort_values("k").to_dict("records")
    ]


def worst_problems(
    counts: pd.DataFrame,
    baseline: str,
    n: int = 10,
    k: Sequence[int] | None = None,
) -> pd.DataFrame:
    """List the problems on which each run lost most against the baseline.

    Parameters
    ----------
    counts : DataFrame
        From `passk_lab.counts`, of one split.
    baseline : str
        The run to compare with.
    n : int
        Problems a run; fewer where fewer got worse.
    k : sequence of int, optional
        Default: powers of two up to each problem's smaller number of samples, and that number.

    Returns
    -------
    DataFrame
        Columns run, split, problem_id, correct_baseline, n_baseline, correct, n_samples,
        rate_baseline, rate, drop; with modes also distinct_baseline and distinct (numbers of
        distinct correct answers). ``drop`` is the fall of the problem's pass@k, averaged over
        the k: near 1 for a problem that the baseline always and the run never solves. Only
        falls are listed, the largest first.

    Examples
    --------
    >>> table = pd.DataFrame({"run": ["base", "base", "rl", "rl"], "split": "id",
    ...                       "problem_id": list("abab"), "n_samples": 2,
    ...                       "n_correct": [2, 1, 0, 1]})
    >>> worst_problems(table, "base")[["run", "problem_id", "drop"]]
      run problem_id  drop
    0  rl          a   1.0
    """
    keys = ["split", "problem_id"]
    reference = counts[counts["run"] == baseline].drop(columns="run")
    others = counts[counts["run"] != baseline]
    both = others.merge(reference, on=keys, suffixes=("", "_baseline"), validate="many_to_one")
    n_run, n_base = both["n_samples"].to_numpy(), both["n_samples_baseline"].to_numpy()
    c_run, c_base = both["n_correct"].to_numpy(), both["n_correct_baseline"].to_numpy()
    drop = np.zeros(len(both))
    for fewest in np.unique(np.minimum(n_run, n_base)):
        mine = np.minimum(n_run, n_base) == fewest
        ks = np.array([q for q in (k or default_ks(int(fewest))) if q <= fewest])
        curves = [pass_at_k(m[mine, None], c[mine, None], ks)
                  for m, c in ((n_base, c_base), (n_run, c_run))]  # fmt: skip
        drop[mine] = (curves[0] - curves[1]).mean(axis=1)
    table = pd.DataFrame(
        {
            "run": both["run"],
            "split": both["split"],
            "problem_id": both["problem_id"],
            "correct_baseline": c_base,
            "n_baseline": n_base,
            "correct": c_run,
            "n_samples": n_run,
            "rate_baseline": c_base / n_base,
            "rate": c_run / n_run,
            "drop": drop,
        }
    )
    if "correct_mode_counts" in both:
        table["distinct_baseline"] = both["correct_mode_counts_baseline"].map(len)
        table["distinct"] = both["correct_mode_counts"].map(len)
    table = table[table["drop"] > 0].sort_values(
        ["run", "drop", "problem_id"], ascending=[True, False, True], kind="stable"
    )
    return table.groupby("run", sort=False).head(n).reset_index(drop=True)


def overview(section: Section, baseline: str | None = None) -> pd.DataFrame:
    """Condense a split to one row a run, as the terminal and the page show it.

    Parameters
    ----------
    section : Section
    baseline : str, optional
        Put first.

    Returns
    -------
    DataFrame
        Columns run, problems, then for the smallest, a middle and the largest k that all runs
        have ``pass@k`` and, with answers, ``distinct@k`` for the largest: "estimate [low, high]".
    """
    shared = set.intersection(*(set(g["k"]) for _, g in section.curve.groupby("run")))
    ks = sorted(shared)
    picks = sorted({ks[0], ks[len(ks) // 2], ks[-1]}) if ks else []
    runs = sorted(dict.fromkeys(section.curve["run"]), key=lambda name: name != baseline)
    rows = []
    for run in runs:
        curve = section.curve[section.curve["run"] == run].set_index("k")
        row: dict[str, Any] = {"run": run, "problems": int(curve["n_problems"].iloc[0])}
        for k in picks:
            row[f"pass@{k}"] = _cell(curve.loc[k], 3)
        if section.distinct is not None and picks:
            spread = section.distinct[section.distinct["run"] == run].set_index("k")
            row[f"distinct@{picks[-1]}"] = _cell(spread.loc[picks[-1]], 2)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(row: pd.Series, digits: int) -> str:
    return f"{row['estimate']:.{digits}f} {interval(row['low'], row['high'], digits)}"


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


@dataclass(frozen=True)
class _Plan:
    """A figure to draw: on given axes, with given styles."""

    title: str
    stem: str
    note: str
    alt: str
    table: pd.DataFrame
    draw: Callable[[Axes, Mapping[str, plots.MethodStyle]], Any]


def _plans(section: Section, baseline: str | None) -> Iterable[_Plan]:
    curve, rates = section.curve, section.rates
    yield _Plan(
        "pass@k",
        "pass_at_k",
        "The share of problems that at least one of k samples solves; shaded: its interval.",
        _alt_curve("pass@k", curve, "estimate"),
        curve,
        lambda ax, styles: plots.plot_pass_at_k(curve, ax, styles),
    )
    differences, crossings = section.differences, section.crossings
    if differences is not None:
        assert crossings is not None
        yield _Plan(
            f"Difference to {baseline}",
            "differences",
            "On the same problems. Above zero the run solves more than the baseline. A star marks "
            "where the curves meet, with its interval; there is none where that is unclear.",
            _alt_curve("pass@k minus the baseline's", differences, "difference")
            + " "
            + " ".join(crossing_words(row) for row in crossings.to_dict("records")),
            _with_crossings(differences, crossings),
            lambda ax, styles: plots.plot_differences(differences, crossings, ax, styles),
        )
    distinct = section.distinct
    if distinct is not None:
        yield _Plan(
            "Distinct correct answers",
            "distinct_at_k",
            "The number of different correct answers among k samples, mean over problems.",
            _alt_curve("Distinct correct answers among k samples", distinct, "estimate"),
            distinct,
            lambda ax, styles: plots.plot_distinct_at_k(distinct, ax, styles),
        )
    yield _Plan(
        "Pass rates of the problems",
        "pass_rates",
        "How many problems are never, sometimes and always solved.",
        "Histogram of pass rates. " + " ".join(_alt_rates(rates)),
        rates,
        lambda ax, styles: plots.plot_pass_rates(rates, ax, styles),
    )


def _alt_curve(what: str, table: pd.DataFrame, column: str) -> str:
    parts = []
    for run, rows in table.groupby("run", sort=False):
        ends = rows.sort_values("k").iloc[[0, -1]]
        values = [f"{row[column]:.3g} at k={row['k']}" for row in ends.to_dict("records")]
        parts.append(f"{run}: {', '.join(dict.fromkeys(values))}.")
    return f"{what} by k. {' '.join(parts)}"


def _alt_rates(rates: pd.DataFrame) -> Iterable[str]:
    for run, rows in rates.groupby("run", sort=False):
        problems = rows.set_index("bin")["problems"]
        yield (
            f"{run}: {problems['0']} of {problems.sum()} problems never solved, "
            f"{problems['1']} always."
        )


def _with_crossings(differences: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    columns = {"low": "k_cross_low", "high": "k_cross_high", "share": "k_cross_share"}
    extra = crossings.rename(columns=columns).drop(columns="k_max")
    return differences.merge(extra, on=["run", "split"], how="left", validate="many_to_one")


def write_figures(
    section: Section,
    runs: Sequence[str],
    baseline: str | None = None,
    *,
    out: PathLike,
    suffix: str = "",
) -> tuple[tuple[FigureFiles, ...], list[Path]]:
    """Write a split's figures and tables, as the report does.

    Parameters
    ----------
    section : Section
        From a `Report`.
    runs : sequence of str
        All runs of the study, which keeps one style for a run over its splits.
    baseline : str, optional
    out : path
        Folder to write into.
    suffix : str
        Added to each file's stem.

    Returns
    -------
    figures : tuple of FigureFiles
    files : list of Path
        PNG, SVG and CSV of each figure, and the CSV of the worst problems.

    Raises
    ------
    OSError
        The folder can't be written.
    """
    out = Path(out)
    figures = []
    files: list[Path] = []
    for plan in _plans(section, baseline):
        stem = f"{plan.stem}{suffix}"
        fig = _draw(plan, runs, baseline, dark=False)
        png, svg = plots.save_figure(fig, out / stem)
        csv = csv_safe(plan.table).to_csv(index=False, lineterminator="\n")
        _write_text(out / f"{stem}.csv", csv)
        files += [png, svg, out / f"{stem}.csv"]
        light = base64.b64encode(svg.read_bytes()).decode()
        dark = _svg(_draw(plan, runs, baseline, dark=True))
        figures.append(FigureFiles(plan.title, stem, plan.alt, plan.note, csv, light, dark))
    if section.worst is not None:
        path = out / f"worst_problems{suffix}.csv"
        _write_text(path, csv_safe(section.worst).to_csv(index=False, lineterminator="\n"))
        files.append(path)
    return tuple(figures), files


def _draw(plan: _Plan, runs: Sequence[str], baseline: str | None, dark: bool) -> Figure:
    with plots.style(dark):
        fig = Figure()
        ax = fig.subplots()
        plan.draw(ax, plots.method_styles(runs, baseline, dark))
        plots.fit_legend(ax)
    return fig


def _svg(fig: Figure) -> str:
    buffer = BytesIO()
    plots.write_figure(fig, buffer, "svg")
    return base64.b64encode(buffer.getvalue()).decode()


def _shown(sections: Sequence[Section]) -> set[str]:
    """Problems whose samples the page shows."""
    return {
        problem
        for section in sections
        if section.worst is not None
        for problem in section.worst.groupby("run").head(TEXT_PROBLEMS)["problem_id"]
    }


def _texts(
    rollouts: pd.DataFrame | PathLike | Sequence[PathLike], run: str | None, problems: set[str]
) -> pd.DataFrame:
    """Read the texts of these problems, and of no others; without columns where there are none."""
    if isinstance(rollouts, pd.DataFrame):
        tables = [validate_rollouts(rollouts if run is None or "run" in rollouts
                                    else rollouts.assign(run=run))]  # fmt: skip
    else:
        files = _paths(rollouts)
        tables = [_texts_of_file(f, _run_name(f, files, run), sorted(problems)) for f in files]
    some = [
        table[table["problem_id"].isin(problems)] for table in tables if "text" in table.columns
    ]
    return pd.concat(some, ignore_index=True) if some else pd.DataFrame()


def _texts_of_file(file: Path, name: str | None, problems: Sequence[str]) -> pd.DataFrame:
    if not _is_parquet(file):
        return read_rollouts(file, ["text", "answer", *ENTROPIES], name)
    schema = pq.read_schema(file)
    if "text" not in schema.names:
        return pd.DataFrame()
    names = ("run", "split", "problem_id", "sample_id", "seed", "step", "correct", "answer", "text")
    columns = [n for n in (*names, *ENTROPIES) if n in schema.names]
    wanted = pa.array(list(problems), pa.string())
    parts = [schema.empty_table().select(columns)]
    with pq.ParquetFile(file) as parquet:
        # Row groups without a wanted problem are never decoded, the others batch by batch.
        for group in range(parquet.num_row_groups):
            ids = parquet.read_row_group(group, columns=["problem_id"])["problem_id"]
            if not pc.any(pc.is_in(ids.cast(pa.string()), wanted)).as_py():
                continue
            for batch in parquet.iter_batches(_TEXT_BATCH, [group], columns):
                chosen = pc.is_in(batch["problem_id"].cast(pa.string()), wanted)
                parts.append(pa.Table.from_batches([batch.filter(chosen)]))
    table = pa.concat_tables(parts).to_pandas(ignore_metadata=True)
    if "run" not in table.columns and name is not None:
        table["run"] = name
    return validate_rollouts(table, str(file))


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _summary(
    sections: Sequence[Section],
    baseline: str | None,
    notes: Sequence[str],
    settings: Mapping[str, Any],
    ahead: Outlook | None,
) -> str:
    from passk_lab import __version__

    def records(table: pd.DataFrame | None) -> list[dict[str, Any]] | None:
        if table is None:
            return None
        return [
            {str(name): _plain(v) for name, v in row.items()} for row in table.to_dict("records")
        ]

    content = {
        "passk_lab_version": __version__,
        "baseline": baseline,
        **settings,
        "notes": list(notes),
        "forecast": ahead
        and {
            "label": ahead.label,
            "sentence": ahead.sentence,
            "lines": list(ahead.lines),
            "table": records(ahead.table),
        },
        "splits": [
            {
                "split": s.split,
                "verdicts": [
                    {
                        "run": v.run,
                        "label": v.label,
                        "lost": v.lost,
                        "sentence": v.sentence,
                        "evidence": list(v.evidence),
                        "cautions": list(v.cautions),
                    }
                    for v in s.verdicts
                ],
                "pass_at_k": records(s.curve),
                "distinct_at_k": records(s.distinct),
                "differences": records(s.differences),
                "distinct_differences": records(s.distinct_differences),
                "crossings": records(s.crossings),
                "flattening": records(s.flattening),
                "worst_problems": records(s.worst),
                "diversity": records(s.diversity),
            }
            for s in sections
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    # JSON has neither NaN nor infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value
