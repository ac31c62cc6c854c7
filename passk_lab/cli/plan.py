"""``passk-lab plan``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passk_lab._text import visible
from passk_lab.cli._arguments import (
    LAYOUT,
    Command,
    argument,
    layout_options,
    numbers,
    positive,
    share,
)

if TYPE_CHECKING:
    import pandas as pd


def _run(options: argparse.Namespace) -> int:
    import pandas as pd

    from passk_lab.stats.power import SPREAD, plan

    pilot = _pilot(options)
    found = [
        plan(
            pilot,
            options.change,
            options.measure,
            n_samples=options.samples,
            spread=spread,
            power=options.power,
            confidence=options.confidence,
            n_runs=options.runs,
        )
        for spread in ((SPREAD,) if options.measure.startswith("distinct") else (SPREAD, 0.0))
    ]
    table = pd.concat([one.table for one in found], ignore_index=True)
    print(_words(found[0].table, options))
    print(visible(found[0].sentence))
    if options.out is not None:
        print(visible(f"Wrote {_write(table, options.out)} and 2 files beside it."))
    return 0


def _pilot(options: argparse.Namespace) -> Any:
    from passk_lab.rollouts import Layout, Study

    if options.difficulty is not None:
        if options.pilot:
            raise ValueError("give a pilot's rollouts or --difficulty, not both")
        return options.difficulty
    if not options.pilot:
        raise ValueError("give a pilot's rollouts, or --difficulty A,B for accuracies ~ Beta(A, B)")
    counts = Study(options.pilot, layout=Layout(**layout_options(options))).counts()
    runs = list(dict.fromkeys(counts["run"]))
    if options.run is not None and options.run not in runs:
        raise ValueError(f"no run is called {options.run!r} (runs: {', '.join(runs)})")
    if options.run is None and len(runs) > 1:
        raise ValueError(f"the pilot has several runs ({', '.join(runs)}); name one with --run")
    return counts if options.run is None else counts[counts["run"] == options.run]


def _words(table: pd.DataFrame, options: argparse.Namespace) -> str:
    lines = [
        f"To see {options.measure} change by {options.change:+g} with power {options.power:g}:",
        "",
        " samples  problems  rollouts a run"
        + ("  power now" if table["power"].notna().any() else ""),
    ]
    for row in table.to_dict("records"):
        rollouts = row["n_samples"] * row["problems"]
        now = "" if row["power"] != row["power"] else f"  {row['power']:9.2f}"
        lines.append(f"{row['n_samples']:8,}  {row['problems']:8,}  {rollouts:14,}{now}")
    return "\n".join([*lines, ""])


def _write(table: pd.DataFrame, out: Path) -> Path:
    from matplotlib import pyplot as plt

    from passk_lab import plots
    from passk_lab.rollouts.files import atomic_write

    out.mkdir(parents=True, exist_ok=True)
    fig = plots.plot_plan(table).get_figure(root=True)
    assert fig is not None
    with plots.style():
        png, _ = plots.save_figure(fig, out / "plan")
    plt.close(fig)
    with atomic_write(out / "plan.csv") as temporary:
        table.to_csv(temporary, index=False)
    return png


def _pair(text: str) -> tuple[float, float]:
    try:
        a, b = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair of numbers like 0.5,1") from None
    return a, b


COMMAND = Command(
    "plan",
    _run,
    "say how many problems and samples it takes to see a change",
    "  passk-lab plan base.parquet --change 0.05\n"
    "  passk-lab plan base.parquet --change -0.03 --measure pass@64 --runs 5 --out plan\n"
    "  passk-lab plan --difficulty 0.5,1 --change 0.05 --samples 1,8,64",
    (
        argument(
            "pilot PILOT",
            "rollouts of one run, from which the problems' difficulty is taken",
            nargs="*",
        ),
        argument("--change X", "to be seen, such as 0.05 or -0.03", type=float, required=True),
        argument(
            "--measure NAME",
            "pass@K or distinct@K (default: %(default)s)",
            default="pass@1",
        ),
        argument(
            "--difficulty A,B",
            "instead of a pilot: the problems' accuracies follow Beta(A, B)",
            type=_pair,
        ),
        argument("--run NAME", "of the pilot, if it has several"),
        *LAYOUT,
        argument(
            "--samples N,N,...",
            "samples a problem to plan for (default: K, 2 K, 4 K, ...)",
            type=numbers,
        ),
        argument("--power P", "chance to see it (default: %(default)s)", type=share, default=0.8),
        argument(
            "--confidence C",
            "of the verdict, which shares the rest between measures and runs (default: "
            "%(default)s)",
            type=share,
            default=0.95,
        ),
        argument(
            "--runs N",
            "runs that will be compared with the baseline together (default: %(default)s)",
            type=positive,
            default=1,
        ),
        argument("--out DIR", "folder for a figure and its table", type=Path),
    ),
)
