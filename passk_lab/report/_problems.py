"""The page's problems: what was asked, what baseline and run answered, how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from passk_lab._text import shorten
from passk_lab.report.model import Section

# What programs call the question.
PROMPTS = ("prompt", "question", "problem")
_ANSWERS_SHOWN = 8
_MOST, _LEAST = 1200, 200  # characters of a text
# Of all runs and splits together, for the page to open on a phone.
_PROBLEMS = 250
_CHARACTERS = 400_000


def problems_shown(sections: Sequence[Section]) -> set[str]:
    """Name the problems whose samples the page shows."""
    n = _opened(sections)
    tables = [section.worst for section in sections if section.worst is not None]
    return {problem for worst in tables for problem in worst.groupby("run").head(n)["problem_id"]}


def _opened(sections: Sequence[Section]) -> int:
    """Say how many problems of each run and split can be opened."""
    groups = sum(
        section.worst["run"].nunique() for section in sections if section.worst is not None
    )
    return max(1, _PROBLEMS // max(1, groups))


def problems_view(
    sections: Sequence[Section], baseline: str | None, texts: pd.DataFrame, n_texts: int
) -> list[list[dict[str, Any]]]:
    """Arrange the worst problems of each split, with all that is known of their samples."""
    opened = _opened(sections)
    found = [_of_section(section, str(baseline), texts, n_texts, opened) for section in sections]
    shown = [text for rows in found for row in rows for text in row["texts"]]
    width = max(_LEAST, min(_MOST, _CHARACTERS // max(1, len(shown))))
    for text in shown:
        text["text"] = text["text"][:width]
    return found


def _of_section(
    section: Section, baseline: str, texts: pd.DataFrame, n_texts: int, opened: int
) -> list[dict[str, Any]]:
    if section.worst is None:
        return []
    mine = texts[texts["split"] == section.split]
    by_problem = {str(problem): rows for problem, rows in mine.groupby("problem_id", sort=False)}
    rows: list[dict[str, Any]] = section.worst.astype({"run": str}).to_dict("records")  # type: ignore[assignment]
    places = section.worst.groupby("run", sort=False).cumcount()
    for row, place in zip(rows, places, strict=True):
        some = by_problem.get(str(row["problem_id"]), mine[:0]) if place < opened else mine[:0]
        before, after = (some[some["run"] == run] for run in (baseline, row["run"]))
        row["prompt"] = _prompt(some)
        row["answers"], row["others"] = _answers(before, after)
        row["texts"] = [
            {"run": run, **text}
            for run, samples, right_first in ((baseline, before, True), (row["run"], after, False))
            for text in _texts(samples, right_first, n_texts)
        ]
    return rows


def _prompt(rows: pd.DataFrame) -> str | None:
    for name in PROMPTS:
        if name in rows and rows[name].notna().any():
            return shorten(_spelled(rows[name].dropna().iloc[0]), _MOST)
    return None


def _spelled(prompt: Any) -> str:
    """Write a prompt; messages by who says what."""
    if isinstance(prompt, Sequence | np.ndarray) and all(isinstance(m, dict) for m in prompt):
        return "\n\n".join(f"{m.get('role')}: {m.get('content')}" for m in prompt)
    return str(prompt)


def _answers(before: pd.DataFrame, after: pd.DataFrame) -> tuple[list[dict[str, Any]], int]:
    """Count the answers of baseline and run, the most frequent first, and those not shown."""
    if "answer" not in before:
        return [], 0
    keys = ["answer", "correct"]
    both = pd.DataFrame(
        {
            name: rows.astype({"answer": object}).groupby(keys, dropna=False).size()
            for name, rows in (("baseline", before), ("run", after))
        }
    )
    both = both.fillna(0).astype(int).assign(all=lambda t: t.sum(axis=1)).reset_index()
    both = both.sort_values(["all", "correct"], ascending=False, kind="stable")
    shown = [
        {
            "answer": shorten(str(row["answer"]), 120) if pd.notna(row["answer"]) else None,
            **{name: row[name] for name in ("correct", "baseline", "run")},
        }
        for row in both.head(_ANSWERS_SHOWN).to_dict("records")
    ]
    return shown, max(0, len(both) - _ANSWERS_SHOWN)


def _texts(rows: pd.DataFrame, right_first: bool, n: int) -> list[dict[str, Any]]:
    if "text" not in rows:
        return []
    rows = rows[rows["text"].notna()].sort_values(
        ["correct", "sample_id"], ascending=[not right_first, True], kind="stable"
    )
    return [_text(row) for row in rows.head(n).to_dict("records")]


def _text(row: Mapping[Any, Any]) -> dict[str, Any]:
    text = row["text"].replace("\r\n", "\n")
    return {
        "correct": bool(row["correct"]),
        "sample_id": int(row["sample_id"]),
        "text": text,
        "length": len(text),
        "answer": shorten(str(row["answer"]), 120) if pd.notna(row.get("answer")) else None,
    }
