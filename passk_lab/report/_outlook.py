"""What self-distillation from the baseline would bring, in words: the forecast of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import pandas as pd

from passk_lab._text import number
from passk_lab.stats.intervals import format_estimate
from passk_lab.stats.resampling import ResamplingOptions
from passk_lab.teacher.forecast import TooFewSamples, expected_tilt, forecast, forecast_rows

__all__ = ["WEIGHTS", "Outlook", "outlook"]

WEIGHTS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Outlook:
    """A forecast and its words.

    Attributes
    ----------
    label : str
        "better and narrower", "better", "narrower", ... at weight 1, or "not to be told".
    sentence : str
    lines : tuple of str
        One a weight of the tilt; those that too few effective samples are left for say so.
    table : DataFrame
        See `passk_lab.teacher.forecast.forecast`.
    """

    label: str
    sentence: str
    lines: tuple[str, ...]
    table: pd.DataFrame


def outlook(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    k: int,
    weights: Sequence[float] = WEIGHTS,
    **resampling: Unpack[ResamplingOptions],
) -> Outlook:
    """Forecast one generation of self-distillation (weight 1), and weaker and stronger tilts.

    A penalty to the base lowers the weight, a teacher that follows the student raises it. Distinct
    answers are counted among k samples. ValueError as `passk_lab.teacher.forecast`.
    """
    how: ResamplingOptions = {"random_state": 0, **resampling}
    rows = forecast_rows(expected_tilt(scores, rollouts), rollouts)
    # Problems that no demonstration exists for can't be told about.
    rows = rows[rows["problem_id"].isin(scores["problem_id"].astype(str))]
    tables, lines = [], []
    for weight in sorted(weights):
        try:
            table = forecast(
                rows,
                [weight],
                [1, k],
                **how,
            )
        except TooFewSamples as error:
            lines.append(f"{error}.")
            break
        tables.append(table)
        lines.append(_line(weight, table, k))
    if not tables:
        sentence = "The scored rollouts are too few for a forecast."
        return Outlook("not to be told", sentence, tuple(lines), pd.DataFrame())
    whole = pd.concat(tables, ignore_index=True)
    one = _by_quantity(whole[whole["weight"] == 1.0])
    if not one:
        sentence = "The scored rollouts are too few for a forecast at weight 1."
        return Outlook("not to be told", sentence, tuple(lines), whole)
    gains = _sign(one["pass@1"])
    spread = _sign(one["effective_answers"])
    words = [
        *{1: ["better"], -1: ["worse"]}.get(gains, []),
        *{1: ["wider"], -1: ["narrower"]}.get(spread, []),
    ]
    label = " and ".join(words) or "no clear change"
    sentence = (
        "Self-distillation with demonstrations as the baseline samples them would make it "
        f"{label}, by the base's own rollouts weighed with the teacher's tilt; no training was run."
        if words
        else "No clear change is forecast for self-distillation from the baseline."
    )
    return Outlook(label, sentence, tuple(lines), whole)


def _line(weight: float, table: pd.DataFrame, k: int) -> str:
    of = _by_quantity(table)
    parts = [
        _change("pass@1", of["pass@1"], 3),
        _change(f"distinct@{k}", of[f"distinct@{k}"], 2),
        _change("effective correct answers", of["effective_answers"], 2),
    ]
    return f"weight {weight:g}: {'; '.join(parts)}"


def _by_quantity(table: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {row["quantity"]: row for row in table.to_dict("records")}


def _change(name: str, row: Mapping[Any, Any], digits: int) -> str:
    before = row["estimate"] - row["change"]
    change = (row["change"], row["change_low"], row["change_high"])
    return (
        f"{name} {number(before, digits)} -> {number(row['estimate'], digits)} "
        f"({format_estimate(*change, digits=digits, signed=True)})"
    )


def _sign(row: Mapping[Any, Any]) -> int:
    return int(row["change_low"] > 0) - int(row["change_high"] < 0)
