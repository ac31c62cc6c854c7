"""The tables of docs/coverage.md, from the results of calibration.py.

python benchmarks/calibration_page.py
"""

from __future__ import annotations

import pandas as pd
from calibration import HERE, LAWS_BEYOND, load
from measuring import put_tables, table

TARGET = HERE.parent / "docs" / "coverage.md"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def mean_and_largest(rows: pd.DataFrame, column: str) -> str:
    return f"{percent(rows[column].mean())} / {percent(rows[column].max())}"


def error_table(found: dict[str, pd.DataFrame]) -> str:
    rows, many_runs = found["error"], found["many"]
    unequal = rows["n"].str.contains("/|mixed")
    with_answers = rows["answers"] == "1"
    groups = {
        "pass@k, equal n": rows[~unequal & ~with_answers],
        "pass@k, unequal n": rows[unequal & ~with_answers],
        "with answers, equal n": rows[~unequal & with_answers],
        "with answers, unequal n": rows[unequal & with_answers],
        "5 runs against one baseline": many_runs[many_runs["runs"] == "5"],
        "20 runs against one baseline": many_runs[many_runs["runs"] == "20"],
        "problems change at random, mean unchanged": found["noise"],
        **{str(kind): part for kind, part in found["more"].groupby("kind", sort=False)},
    }
    lines = [
        [name, f"{len(part)}", f"{part['rounds'].min():,} to {part['rounds'].max():,}"]
        + [mean_and_largest(part, column) for column in ("old", "new")]
        for name, part in groups.items()
    ]
    header = ["reports without a change", "cells", "rounds of each"]
    return table([*header, "version 0.1, %", "now, %"], lines)


def power_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["power"], ["change", "problems", "n"])
    lines = [
        [*map(str, row[:3]), *(percent(value, 0) for value in row[3:])]
        for row in rows[["change", "problems", "n", "old", "new"]].itertuples(index=False)
    ]
    header = ["change", "problems", "samples", "version 0.1, % seen", "now, % seen"]
    return table(header, lines)


def planned_table(found: dict[str, pd.DataFrame]) -> str:
    rows = found["planned"].sort_values(["measure", "change", "n", "law"])
    lines = [
        [*map(str, row[:3]), str(row[3]).replace("/", ", "), f"{row[4]:.0f}", percent(row[5], 0)]
        for row in rows[["measure", "change", "n", "law", "needed", "seen"]].itertuples(index=False)
    ]
    header = ["measure", "change", "samples", "Beta", "problems asked for", "change seen, %"]
    return table(header, lines)


def beyond_table(found: dict[str, pd.DataFrame]) -> str:
    rows, lines = found["beyond"], []
    for law in LAWS_BEYOND:
        part = rows[rows["law"] == law]
        for k, name in (("2n", "2 n"), ("4n", "4 n"), ("1000", "1,000"), ("10000", "10,000")):
            of_k = {which: part[f"{which}_{k}"] for which in ("bounds", "fits", "model")}
            cells = [mean_and_smallest(values) for values in of_k.values()]
            means = [part[f"{which}_{k}"].mean() for which in ("width", "error")]
            lines.append([law, name, *cells, *(f"{value:.3f}" for value in means)])
    header = ["accuracies", "k", "bounds, %", "between the fits, %", "beta-binomial interval, %"]
    return table([*header, "width of bounds", "error of the estimate"], lines)


def mean_and_smallest(values: pd.Series) -> str:
    return f"{percent(values.mean(), 0)} / {percent(values.min(), 0)}"


def seeds_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["seeds"], ["base", "seeds", "sd"])
    lines = [
        [*map(str, key), *(mean_and_largest(part, name) for name in ("old", "new"))]
        for key, part in rows.groupby(["base", "seeds", "sd"], sort=False)
    ]
    header = ["seeds of the base", "seeds of the run", "sd of seeds", "pooled, %", "resampled, %"]
    return table(header, lines)


def over_training_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["over_training"], ["seeds", "sd"])
    lines = [
        [seeds, sd, str(int(rounds)), percent(new), percent(seen, 0)]
        for seeds, sd, rounds, new, seen in rows[
            ["seeds", "sd", "rounds", "new", "seen"]
        ].itertuples(index=False)
    ]
    heads = ["seeds", "sd of seeds", "rounds", "false words, %", "change seen, %"]
    return table(heads, lines)


def families_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["families"], ["families", "sd"])
    columns = ["old", "new", "curve_without", "curve_with"]
    lines = [
        [*map(str, row[:2]), *map(percent, row[2:])]
        for row in rows[["families", "sd", *columns]].itertuples(index=False)
    ]
    header = ["families", "sd", "false words without `cluster`, %", "with, %"]
    return table([*header, "curve covered without, %", "curve with, %"], lines)


def coverage_table(found: dict[str, pd.DataFrame]) -> str:
    known = ["problems", "n", "k", "law"]
    rows = found["coverage"].drop(columns="korn-graubard")
    exact = found["default"].rename(columns={"inside": "korn-graubard"})
    rows = _sorted(rows.merge(exact[[*known, "korn-graubard"]], on=known), ["n"])
    lines = []
    for name in ("korn-graubard", "bootstrap", "nested", "analytic", "bayes"):
        for n, part in rows.groupby("n", sort=False):
            worst = part.sort_values(name).iloc[0]
            law = str(worst["law"]).replace("/", ", ")
            where = f"{worst['problems']} problems, Beta({law}), k = {worst['k']}"
            width = (part[f"width_{name}"] / part["width_korn-graubard"]).median()
            short = percent(float((part[name] < 0.93).mean()), 0)
            line = [name, str(n), percent(part[name].mean()), percent(float(worst[name])), where]
            lines.append([*line, short, f"{width:.2f}"])
    header = ["interval", "samples", "mean, %", "smallest, %", "where", "cells below 93, %"]
    return table([*header, "width"], lines)


def differences_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["differences"], ["problems", "n"])
    lines = [
        [*map(str, row[:2]), *map(percent, row[2:])]
        for row in rows[["problems", "n", "first", "last"]].itertuples(index=False)
    ]
    return table(["problems", "samples", "at k = 1, %", "at the largest k, %"], lines)


def _sorted(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return rows.sort_values(by, key=_numbers)


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column.astype(str).str.extract(r"^(\d+\.?\d*)")[0])
    return numbers if numbers.notna().all() else column


PAGE = (
    error_table,
    power_table,
    planned_table,
    seeds_table,
    over_training_table,
    families_table,
    coverage_table,
    differences_table,
    beyond_table,
)


if __name__ == "__main__":
    put_tables(TARGET, *(make(load()) for make in PAGE))
