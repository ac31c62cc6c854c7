"""The page's first table: runs, splits and steps by what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from passk_lab.report.model import Section
from passk_lab.stats.verdict import Verdict

# Of each word an arrow and the class of its colour.
_SHOWN = {
    **dict.fromkeys(("better", "wider", "more"), ("▲", "good")),
    **dict.fromkeys(("worse", "narrower", "fewer"), ("▼", "bad")),
    "mixed": ("◆", "mixed"),
    "level": ("＝", "level"),
    "unclear": ("?", "unclear"),
}
_COLUMNS = ("first_try", "reach", "distinct")


def matrix_view(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """One group a split: a row a run, its steps below it."""
    links = anchors(sections)
    return [
        {"split": section.split, "rows": rows, "place": place}
        for place, section in enumerate(sections)
        if (rows := _rows(section, place, links))
    ]


def anchors(sections: Sequence[Section]) -> dict[tuple[str, str], str]:
    """Name the place on the page where a run of a split is judged."""
    return {
        (section.split, verdict.run): f"run-{place}-{number}"
        for place, section in enumerate(sections)
        for number, verdict in enumerate(section.verdicts)
    }


def _rows(
    section: Section, place: int, links: Mapping[tuple[str, str], str]
) -> list[dict[str, Any]]:
    steps = _steps(section.checkpoints)
    found = [
        {
            "run": one.run,
            "link": links[section.split, one.run],
            "cells": [_cell(getattr(one, name), change) for name, change in _changes(one).items()],
            "steps": steps.pop(one.run, []),
        }
        for one in section.verdicts
    ]
    # Without a baseline steps are compared with the first: the last says what became of the run.
    alone = [
        {"run": run, "link": f"steps-{place}", "cells": said[-1]["cells"], "steps": said}
        for run, said in steps.items()
    ]
    return found + alone


def _changes(one: Verdict) -> Mapping[str, str]:
    """What the evidence says of each column: the difference of the means."""
    first, last, distinct = [*one.differences, "", "", ""][:3]
    if one.reach in ("wider", "narrower") and not one.clear[1]:
        last = ""  # the word is about distinct answers
    return dict(zip(_COLUMNS, (first, last, distinct), strict=True))


def _steps(table: pd.DataFrame | None) -> dict[str, list[dict[str, Any]]]:
    if table is None:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.dropna(subset="label").drop_duplicates(["run", "step"]).to_dict("records"):
        cells = [_cell(row[name], "") for name in _COLUMNS]
        found.setdefault(row["run"], []).append({"step": row["step"], "cells": cells})
    return found


def _cell(word: object, change: str) -> dict[str, str]:
    if not isinstance(word, str):
        return {"arrow": "", "word": "–", "tone": "none", "change": ""}
    arrow, tone = _SHOWN[word]
    return {"arrow": arrow, "word": word, "tone": tone, "change": change}
