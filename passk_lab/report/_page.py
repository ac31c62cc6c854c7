"""The report's HTML page, by a template; every name and text on it is untrusted."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from passk_lab import __version__
from passk_lab._text import interval, shorten, visible
from passk_lab.report._diversity import metrics_view, panel_view
from passk_lab.report._figures import crossing_words
from passk_lab.report.model import Report, Section, Settings

TEXT_PROBLEMS = 5  # problems whose samples are shown
_TEXT_SHOWN = 1200  # characters
_SAMPLES_SHOWN = 2  # a run and problem


def render_page(
    report: Report, settings: Settings, texts: pd.DataFrame, runs: Sequence[str]
) -> str:
    """Fill the template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passk_lab.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every string that reaches the page passes here, whatever the template does with it.
        finalize=lambda v: visible(v, lines=True) if type(v) is str else v,
    )
    css, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        css=Markup(css),  # the project's own file
        css_hash=digest,
        version=__version__,
        baseline=report.baseline,
        notes=report.notes,
        alpha=100 - settings.confidence * 100,
        accounts=_accounts_view(report.accounts),
        ahead=report.outlook,
        settings={
            **settings.resampling,
            "seed": settings.random_state,
            "margin": settings.margin,
        },
        seeds=any("seeds" in s.overview(report.baseline) for s in report.sections),
        n_compared=len(runs) - (report.baseline is not None),
        sections=[_section_view(s, report.baseline, texts) for s in report.sections],
    )


def _accounts_view(table: pd.DataFrame) -> dict[str, Any]:
    """Columns and rows, shares in per cent."""
    names = {"no_answer": "without answer", "no_text": "without text", "cut_off": "cut off"}
    names |= {"errors": "in error"}
    shown = table.drop(columns="split") if len(set(table["split"])) == 1 else table
    shown = shown if shown["absent"].any() else shown.drop(columns="absent")
    for name in names:
        if name in shown:
            cells = [f"{x:.1%}" if x == x else "" for x in shown[name]]
            shown = shown.assign(**{name: cells})
    shown = shown.rename(columns={**names, "absent": "problems of other runs only"})
    return {"columns": list(shown.columns), "rows": shown.to_dict("records")}


def _section_view(section: Section, baseline: str | None, texts: pd.DataFrame) -> dict[str, Any]:
    table = section.overview(baseline)
    return {
        "split": section.split,
        "verdicts": section.verdicts,
        "columns": list(table.columns),
        "rows": table.to_dict("records"),
        "changes": _change_rows(section),
        "figures": [(f, base64.b64encode(f.csv.encode()).decode()) for f in section.figures],
        "checkpoints": _checkpoints_view(section.checkpoints),
        "metrics": None
        if section.metrics is None
        else metrics_view(section.metrics, [str(run) for run in table["run"]]),
        "diversity": _diversity_view(section, baseline),
        "worst": _worst_view(section, baseline, texts),
    }


def _checkpoints_view(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """One row a run and step, one column a metric, and the words."""
    if table is None:
        return None
    cells = [
        f"{row['estimate']:.3f} {interval(row['low'], row['high'], 3)}"
        for row in table.to_dict("records")
    ]
    rows = [
        {
            "run": run,
            "step": step,
            "words": label if isinstance(label, str) else "compared with",
            **dict(zip(part["metric"], part["cell"], strict=True)),
        }
        for (run, step, label), part in table.assign(cell=cells).groupby(
            ["run", "step", "label"], sort=False, dropna=False
        )
    ]
    return {"metrics": list(dict.fromkeys(table["metric"])), "rows": rows}


def _diversity_view(section: Section, baseline: str | None) -> dict[str, Any] | None:
    if section.diversity is None:
        return None
    found = section.diversity
    runs = sorted(dict.fromkeys(found["run"]), key=lambda name: name != baseline)
    n_all = section.curve.groupby("run")["n_problems"].max().max()
    return panel_view(found, runs, int(n_all))


def _change_rows(section: Section) -> list[dict[str, Any]]:
    if section.differences is None or section.crossings is None or section.flattening is None:
        return []
    rows = []
    for crossing, flat in zip(
        section.crossings.to_dict("records"), section.flattening.to_dict("records"), strict=True
    ):
        ratio = "n/a"
        if np.isfinite(flat["ratio"]):
            ratio = f"{flat['ratio']:.2f} {interval(flat['low'], flat['high'], 2)}"
        rows.append(
            {
                "run": crossing["run"],
                "crossing": crossing_words(crossing).removeprefix(f"{crossing['run']}: "),
                "flattening": ratio,
                "k_max": flat["k_max"],
            }
        )
    return rows


def _worst_view(
    section: Section, baseline: str | None, texts: pd.DataFrame
) -> list[dict[str, Any]]:
    if section.worst is None or baseline is None:
        return []
    groups = []
    for run, rows in section.worst.groupby("run", sort=False):
        problems = rows.to_dict("records")
        for place, row in enumerate(problems):
            row["samples"] = []
            if place < TEXT_PROBLEMS:
                where = (texts, section.split, row["problem_id"])
                before = _samples(*where, baseline, right_first=True)
                after = _samples(*where, str(run), right_first=False)
                row["samples"] = [(baseline, s) for s in before] + [(run, s) for s in after]
        groups.append({"run": run, "problems": problems, "distinct": "distinct" in rows})
    return groups


def _samples(
    texts: pd.DataFrame, split: str, problem: str, run: str, right_first: bool
) -> list[dict[str, Any]]:
    if "text" not in texts:
        return []
    mine = texts[
        (texts["split"] == split) & (texts["problem_id"] == problem) & (texts["run"] == run)
    ]
    mine = mine.assign(text=mine["text"].str.replace("\r\n", "\n", regex=False))
    mine = mine[mine["text"].notna()].sort_values(
        ["correct", "sample_id"], ascending=[not right_first, True], kind="stable"
    )
    return [
        {
            "correct": bool(row["correct"]),
            "sample_id": int(row["sample_id"]),
            "text": row["text"][:_TEXT_SHOWN],
            "length": len(row["text"]),
            "answer": shorten(str(row["answer"]), 120) if pd.notna(row.get("answer")) else None,
        }
        for row in mine.head(_SAMPLES_SHOWN).to_dict("records")
    ]


def render_summary(report: Report, settings: Settings) -> str:
    """Give the numbers as JSON."""
    ahead = report.outlook

    def records(table: pd.DataFrame | None) -> list[dict[str, Any]] | None:
        if table is None:
            return None
        return [
            {str(name): _plain(v) for name, v in row.items()} for row in table.to_dict("records")
        ]

    content = {
        "passk_lab_version": __version__,
        "baseline": report.baseline,
        "confidence": settings.confidence,
        "n_resamples": settings.n_resamples,
        "seed": settings.random_state,
        "notes": list(report.notes),
        "accounts": records(report.accounts),
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
                        "first_try": v.first_try,
                        "reach": v.reach,
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
                "checkpoints": records(s.checkpoints),
                "first_narrower": s.first_narrower,
                "diversity": records(s.diversity),
                "metrics": records(s.metrics),
            }
            for s in report.sections
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    # JSON has neither NaN nor infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value
