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
from passk_lab._text import visible
from passk_lab.report._diversity import metrics_view, panel_view
from passk_lab.report._figures import crossing_words
from passk_lab.report._inline import colors, keys
from passk_lab.report._matrix import anchors, matrix_view
from passk_lab.report._problems import problems_view
from passk_lab.report.model import Report, Section
from passk_lab.stats.intervals import format_estimate

_OPEN = 3  # runs; with more, sections are closed


def render_page(report: Report, texts: pd.DataFrame, runs: Sequence[str]) -> str:
    """Fill the template."""
    settings = report.settings
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passk_lab.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every string that reaches the page passes here, whatever the template does with it.
        finalize=lambda v: visible(v, lines=True) if type(v) is str else v,
    )
    css, script = (
        environment.loader.get_source(environment, f"report.{ending}")[0]  # type: ignore[union-attr]
        for ending in ("css", "js")
    )
    css += colors()
    problems = problems_view(report.sections, report.baseline, texts, settings.n_texts)
    n_compared = len(runs) - (report.baseline is not None)
    return environment.get_template("report.html").render(
        css=Markup(css),  # the project's own files
        css_hash=_digest(css),
        script=Markup(script),
        script_hash=_digest(script),
        matrix=matrix_view(report.sections),
        links=anchors(report.sections),
        open=n_compared <= _OPEN,
        places={run: place for place, run in enumerate(runs)},
        version=__version__,
        baseline=report.baseline,
        notes=[*report.notes, *report.advice],
        alpha=100 - settings.confidence * 100,
        accounts=_accounts_view(report.accounts),
        ahead=report.outlook,
        settings={
            **settings.resampling,
            "seed": settings.random_state,
            "margin": settings.margin,
        },
        seeds=any("seeds" in s.overview(report.baseline) for s in report.sections),
        n_compared=n_compared,
        sections=[
            {**_section_view(s, report), "problems": rows, "keys": _keys(s, runs)}
            for s, rows in zip(report.sections, problems, strict=True)
        ],
    )


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _keys(section: Section, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Give the legend of a split's figures."""
    here = set(section.curve["run"])
    places = {str(place): run for place, run in enumerate(runs) if run in here}
    pictures = keys(section.figures[0].svg, places)
    return [
        {"place": place, "run": run, "picture": Markup(pictures.get(place, ""))}
        for place, run in places.items()
    ]


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


def _section_view(section: Section, report: Report) -> dict[str, Any]:
    baseline = report.baseline
    table = section.overview(baseline, report.settings.k is not None)
    return {
        "split": section.split,
        "verdicts": section.verdicts,
        "columns": list(table.columns),
        "rows": table.to_dict("records"),
        "changes": _change_rows(section),
        "figures": [
            (f, Markup(f.svg), base64.b64encode(f.csv.encode()).decode()) for f in section.figures
        ],
        "checkpoints": _checkpoints_view(section.checkpoints),
        "metrics": None
        if section.metrics is None
        else metrics_view(section.metrics, [str(run) for run in table["run"]]),
        "diversity": _diversity_view(section, baseline),
    }


def _checkpoints_view(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """One row a run and step, one column a metric, and the words."""
    if table is None:
        return None
    cells = [
        format_estimate(row["estimate"], row["low"], row["high"], digits=3)
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
    if section.differences["k"].min() == section.differences["k"].max():  # a single k is no curve
        return []
    rows = []
    for crossing, flat in zip(
        section.crossings.to_dict("records"), section.flattening.to_dict("records"), strict=True
    ):
        rows.append(
            {
                "run": crossing["run"],
                "crossing": crossing_words(crossing).removeprefix(f"{crossing['run']}: "),
                "flattening": format_estimate(flat["ratio"], flat["low"], flat["high"]),
                "k_max": flat["k_max"],
            }
        )
    return rows


def render_summary(report: Report) -> str:
    """Give the numbers as JSON."""
    ahead, settings = report.outlook, report.settings

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
                        "advice": list(v.advice),
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
