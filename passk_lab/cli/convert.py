"""``passk-lab convert``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from passk_lab._text import plural, visible
from passk_lab.cli._arguments import (
    LAYOUT,
    Command,
    argument,
    flag,
    key_value,
    layout_options,
)
from passk_lab.readers import FORMATS

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = max(map(len, FORMATS))
_LISTING = "\n".join(f"  {name:<{_WIDTH}}  {says}" for name, says in FORMATS.items())


def _run(options: argparse.Namespace) -> int:
    from passk_lab.readers import convert

    names = [name for name, _ in options.option]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"--option {repeated[0]} is given twice")
    chosen = {**dict(options.option), **layout_options(options)}
    if options.run is not None:
        chosen["run"] = options.run
    table = convert(options.format, options.source, options.target, **chosen)
    if not options.quiet:
        n_problems = table["problem_id"].nunique()
        print(
            visible(
                f"Wrote {options.target}: {plural(len(table), 'rollout')} of "
                f"{plural(n_problems, 'problem')}, "
                f"{_runs(sorted(set(table['run'])))}.{_left_out(table)}"
            )
        )
    return 0


def _left_out(table: pd.DataFrame) -> str:
    said = table.attrs.get("left_out")
    return "" if said is None else f" {said[0].upper()}{said[1:]}."


def _runs(names: Sequence[str]) -> str:
    return f"run {names[0]!r}" if len(names) == 1 else f"{len(names)} runs"


COMMAND = Command(
    "convert",
    _run,
    "turn another program's logs into a rollouts file",
    "  passk-lab convert evalplus eval_results.json rollouts.parquet\n"
    "  passk-lab convert lm-eval results/ rollouts.parquet --option metric=exact_match\n"
    "  passk-lab convert plain mine.csv rollouts.parquet --columns problem_id=task,correct=ok\n\n"
    f"formats:\n{_LISTING}",
    (
        argument("format FORMAT", "one of the formats below"),
        argument("source IN", "file or folder of that program"),
        argument("target OUT", "file to write: .parquet, .jsonl or .jsonl.gz", type=Path),
        argument(
            "--run NAME",
            "name of the run in the file (default: what the source says, or OUT's name)",
        ),
        argument(
            "--option KEY=VALUE",
            "an option of the format's reader; a value that is JSON (a number, true, a "
            "mapping) is read as such; may be repeated",
            action="append",
            default=[],
            type=key_value,
        ),
        *LAYOUT,
        flag("--quiet", "print nothing"),
    ),
)
