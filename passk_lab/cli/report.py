"""``passk-lab report``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from passk_lab.cli._arguments import (
    LAYOUT,
    Command,
    argument,
    flag,
    layout_options,
    not_negative,
    numbers,
    positive,
    share,
)
from passk_lab.cli._printed import as_csv, as_markdown, as_terminal

if TYPE_CHECKING:
    from passk_lab.report.model import Report


def _run(options: argparse.Namespace) -> int:
    from passk_lab.report.analysis import build_report
    from passk_lab.rollouts import Layout, Study

    with _progress(options.quiet) as say:
        report = build_report(
            Study(
                options.rollouts,
                options.run,
                options.scores,
                options.cluster,
                Layout(**layout_options(options)),
                options.min_samples,
            ),
            options.baseline,
            out=options.out,
            k=options.k,
            distinct=options.distinct,
            embedder=options.embedder,
            metrics=options.metrics,
            n_worst=options.problems,
            n_texts=options.texts,
            margin=options.margin,
            pool_seeds=options.pool_seeds,
            confidence=options.confidence,
            n_resamples=options.n_resamples,
            random_state=options.seed,
            progress=say,
        )
    if not options.quiet:
        print(_FORMATS[options.format](report), end="")
    return int(options.fail_if_narrower and any(v.lost for v in report.verdicts))


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """Show the step at work on standard error, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with Console(stderr=True).status("starting") as status:
        yield lambda step: status.update(Text(f"{step} ..."))


def _as_json(report: Report) -> str:
    from passk_lab.report._page import render_summary

    return render_summary(report)


_FORMATS = {"table": as_terminal, "json": _as_json, "markdown": as_markdown, "csv": as_csv}


COMMAND = Command(
    "report",
    _run,
    "compare runs with a baseline: a table, and with --out figures, CSV files and one HTML page",
    "  passk-lab report base.parquet tuned.parquet --baseline base\n"
    "  passk-lab report base.parquet tuned.parquet --baseline base --out report\n"
    "  passk-lab report rollouts.parquet --baseline base --k 1,8,64 --out report\n"
    "  passk-lab report tuned=runs/tuned base=runs/base --baseline base --out report\n"
    "  passk-lab report dump.jsonl --columns problem_id=uid,correct=reward --threshold 1 "
    "--out report",
    (
        argument(
            "rollouts ROLLOUTS",
            "rollouts: .parquet, .jsonl, .json, .csv or .tsv (also .gz, .zst, ...) with the "
            "columns problem_id and correct, and where there are any run, split, answer and text; "
            "or counts, n_samples and n_correct; a folder or a quoted pattern is one run; a file "
            "that names no run is called after itself, or by NAME=FILE",
            nargs="+",
        ),
        argument("--baseline RUN", "the run to compare the others with"),
        argument(
            "--out DIR",
            "folder for the page, figures and tables (default: nothing is written)",
            type=Path,
        ),
        argument(
            "--format FORMAT",
            "what is printed: table, json (all numbers), markdown or csv (default: %(default)s)",
            choices=tuple(_FORMATS),
            default="table",
        ),
        argument(
            "--k K,K,...",
            "numbers of samples, for example 1,8,64 (default: 1, 2, 4, ... up to all samples)",
            type=numbers,
        ),
        argument("--run NAME", "name for files without a column run"),
        *LAYOUT,
        flag(
            "--no-distinct",
            "leave out distinct answers, although there is a column answer",
            dest="distinct",
            action="store_false",
            default=None,
        ),
        argument(
            "--min-samples N",
            "leave out a run's problems with fewer samples",
            type=positive,
            default=1,
        ),
        argument(
            "--scores FILE",
            "teacher scores of the baseline's rollouts, from passk-lab score: adds a forecast "
            "of self-distillation",
            type=Path,
        ),
        argument(
            "--embedder NAME",
            "compare the meanings of texts too: default (all-MiniLM-L6-v2, extra embed), "
            "tfidf, or name or path of a sentence-transformers model",
        ),
        argument(
            "--metrics NAME,NAME,...",
            "further metrics by name, such as g_pass_at_k:0.5,support_kept; an unknown name "
            "lists all",
            type=lambda text: text.split(","),
            default=(),
        ),
        argument(
            "--problems N",
            "problems to list for each run, those that fell most (default: %(default)s)",
            type=not_negative,
            default=10,
        ),
        argument(
            "--texts N",
            "texts to show of each, of the baseline and of the run (default: %(default)s)",
            type=not_negative,
            default=2,
        ),
        argument(
            "--cluster NAME",
            "the column that holds the family of a problem, such as variants of one template: "
            "families are resampled whole (default: the column cluster, where there is one)",
        ),
        flag(
            "--pool-seeds",
            "take the column seed for seeds of sampling, of one model; by default they are "
            "training seeds, and resampled along with the problems",
        ),
        argument(
            "--margin M",
            "a change of pass@k that is surely smaller is no clear change; of distinct answers, as "
            "a share (default: %(default)s)",
            type=share,
            default=0.05,
        ),
        argument(
            "--confidence C",
            "coverage of the intervals, between 0 and 1 (default: %(default)s)",
            type=share,
            default=0.95,
        ),
        argument(
            "--n-resamples N",
            "bootstrap replicates (default: %(default)s)",
            type=positive,
            default=10_000,
        ),
        argument(
            "--seed N",
            "of the bootstrap; the same seed gives the same files (default: %(default)s)",
            type=not_negative,
            default=0,
        ),
        flag(
            "--fail-if-narrower",
            "exit with 1 if a run is narrower (pass@k at the largest k or the distinct correct "
            "answers fell), or worse at the first try and not wider; else with 0, also where too "
            "few problems tell",
        ),
        flag("--quiet", "print neither progress nor the result"),
    ),
)
