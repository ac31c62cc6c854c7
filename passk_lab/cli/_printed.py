"""A report as text: for a terminal, as Markdown, as CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from passk_lab._text import csv_safe, visible

if TYPE_CHECKING:
    import pandas as pd

    from passk_lab.report.model import Report, Section

_MARKUP = re.compile(r"([\\`*_\[\]<>|~$#&])")


def as_terminal(report: Report) -> str:
    """Spell tables, verdicts and notes for the width of the terminal."""
    # Not printed by rich itself, which ends the program where nobody reads on.
    console = Console(highlight=False)
    with console.capture() as capture:
        for section in report.sections:
            _print_section(section, report, console)
        if report.outlook is not None:
            _print(f"Forecast of self-distillation: {report.outlook.label}", console, "bold")
            _print_indented([report.outlook.sentence, *report.outlook.lines], console)
            console.print()
        for note in _notes(report):
            console.print(Text(note))
        if report.page is not None:
            more = len(report.files) - 1
            console.print(Text(visible(f"Wrote {report.page} and {more} files beside it.")))
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _tables(section: Section, report: Report) -> Iterator[pd.DataFrame]:
    yield section.overview(report.baseline, report.settings.k is not None)
    found = section.metrics_overview(report.baseline)
    if len(found):
        yield found


def _notes(report: Report) -> list[str]:
    return [visible(note) for note in dict.fromkeys([*report.notes, *report.advice])]


def _print_section(section: Section, report: Report, console: Console) -> None:
    if len(report.sections) > 1:
        _print(f"Split: {section.split}", console, "bold underline")
    for table in _tables(section, report):
        for place, line in enumerate(_lines(table, console.width)):
            _print(line, console, "" if place else "bold")
        console.print()
    for v in section.verdicts:
        tone = "bold red" if v.lost else "bold green" if v.gained else "bold"
        whole = f"{visible(v.run)}: {v.label}"
        for part in [whole] if cell_len(whole) <= console.width else [f"{v.run}:", f"  {v.label}"]:
            _print(part, console, tone)
        cautions = (f"Note: {caution}." for caution in v.cautions)
        _print_indented([v.sentence, *v.evidence, *cautions], console)
    console.print()


def _print(line: str, console: Console, style: str) -> None:
    # Text, not markup: a name like "[red]" is only a name. The terminal wraps it, so that it can be
    # copied whole.
    console.print(Text(visible(line), style=style), soft_wrap=True)


def _print_indented(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(Padding(Text(visible(line)), (0, 0, 0, 2), expand=False))


def _lines(table: pd.DataFrame, width: int) -> Iterator[str]:
    """Lay out a table, intervals under their estimates; names that leave no room in lines apart."""
    first, *heads = (visible(str(name)) for name in table.columns)
    rows = [[visible(str(cell)) for cell in row] for row in table.itertuples(index=False)]
    cells = [[cell.partition(" ")[::2] for cell in row[1:]] for row in rows]
    sizes = [
        max(map(cell_len, [head, *(part for row in cells for part in row[at])]))
        for at, head in enumerate(heads)
    ]
    room = max(map(cell_len, [first, *(row[0] for row in rows)]))
    beside = room + sum(size + 2 for size in sizes) <= width
    for block in [range(len(heads))] if beside else _blocks(sizes, width):

        def spell(parts: list[str], block: range = block) -> str:
            return "".join(" " * (sizes[at] + 2 - cell_len(parts[at])) + parts[at] for at in block)

        yield _padded(first, room) + spell(heads) if beside else spell(heads)
        for row, parts in zip(rows, cells, strict=True):
            values, limits = ([part[at] for part in parts] for at in (0, 1))
            if beside:
                yield _padded(row[0], room) + spell(values)
            else:
                yield from (row[0], spell(values))
            if any(limits[at] for at in block):
                yield " " * (room * beside) + spell(limits)


def _padded(name: str, room: int) -> str:
    return name + " " * (room - cell_len(name))


def _blocks(sizes: list[int], width: int) -> Iterator[range]:
    """Put as many columns side by side as there is room for."""
    start = 0
    while start < len(sizes):
        stop = start + 1
        while stop < len(sizes) and sum(size + 2 for size in sizes[start : stop + 1]) <= width:
            stop += 1
        yield range(start, stop)
        start = stop


def as_markdown(report: Report) -> str:
    """Spell tables with the verdicts beside them, their evidence, and notes."""
    lines: list[str] = []
    for section in report.sections:
        if len(report.sections) > 1:
            lines += [f"## Split: {_escaped(section.split)}", ""]
        labels = {v.run: v.label for v in section.verdicts}
        for place, table in enumerate(_tables(section, report)):
            if labels and not place:
                table = table.assign(verdict=[labels.get(run, "") for run in table["run"]])
            lines += [*_piped(table), ""]
        for v in section.verdicts:
            lines += [f"**{_escaped(v.run)}: {v.label}.** {_escaped(v.sentence)}", ""]
            lines += [*(f"- {_escaped(line)}" for line in v.evidence), ""]
    lines += [f"- {_escaped(note)}" for note in _notes(report)]
    return "\n".join(lines).rstrip() + "\n"


def _piped(table: pd.DataFrame) -> list[str]:
    rows = [list(table.columns), *map(list, table.itertuples(index=False))]
    lines = [f"| {' | '.join(_escaped(str(cell)) for cell in row)} |" for row in rows]
    rule = ["---", *("---" if name == "verdict" else "---:" for name in table.columns[1:])]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", visible(text))


def as_csv(report: Report) -> str:
    """Give a row a run, split, measure and k: estimate and difference with their intervals."""
    import pandas as pd

    names = {"low": "difference_low", "high": "difference_high"}
    keys = ["split", "run", "k"]
    tables = []
    for section in report.sections:
        for metric, curve, change in (
            ("pass@k", section.curve, section.differences),
            ("distinct@k", section.distinct, section.distinct_differences),
        ):
            if curve is None:
                continue
            found = curve[[*keys, "n_problems", "estimate", "low", "high"]]
            if change is not None:
                some = change[[*keys, "difference", "low", "high"]].rename(columns=names)
                found = found.merge(some, "left", keys)
            found.insert(2, "metric", metric)
            tables.append(found)
    whole = csv_safe(pd.concat(tables, ignore_index=True))
    return str(whole.to_csv(index=False, lineterminator="\n"))
