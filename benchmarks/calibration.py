"""How often words and intervals are wrong, by simulation: the tables of docs/coverage.md.

    python benchmarks/calibration.py              # all tables; hours
    python benchmarks/calibration.py --scale 0.05 error seeds    # some, with a share of the rounds

Each cell is simulated with a seed of its own, made of its name, and kept in calibration.csv beside
this file; what is there with as many rounds is not simulated again. Cells in which a word was
false in more than 5 % of the rounds are simulated once more, with five times as many: only that
second result counts, for the largest of many cells is large by chance.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import put_tables, table
from scipy import special
from tqdm import tqdm

from passk_lab import pass_at_k
from passk_lab.stats import (
    Resampling,
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    nested_bootstrap,
)
from passk_lab.stats._precision import korn_graubard, precision
from passk_lab.stats._reference import Column, Reference, Samples, redrawing, reference

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "coverage.md"
RESULTS = HERE / "calibration.csv"
ROUNDS = 400
DRAWS = 1_999
LAWS = [(0.1, 2), (0.5, 1), (3, 0.3), (5, 2), (20, 2), (0.05, 0.05)]
MODES = 4  # correct answers of a problem, their shares from a Dirichlet(0.7) law


# ------------------------------------------------------------------------------ simulated runs


class Runs:
    """Two runs on the same problems; accuracies of shape (n_seeds, n_problems)."""

    def __init__(
        self,
        rng: np.random.Generator,
        mine: np.ndarray,
        base: np.ndarray,
        n: tuple[Any, Any],
        shares: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        sizes = [np.broadcast_to(size, p.shape) for size, p in zip(n, (mine, base), strict=True)]
        hits = [rng.binomial(size, p) for size, p in zip(sizes, (mine, base), strict=True)]
        modes: list[Any] = [None, None]
        self.k = int(min(size.min() for size in sizes))
        ks = sorted({1, self.k})
        self.columns = [Column(_pass(k), False) for k in ks]
        if shares is not None and self.k > 1:
            modes = [
                [_answers(rng, c, w) for c in of_run]
                for of_run, w in zip(hits, shares, strict=True)
            ]
            self.columns.append(Column(_pass(self.k), True))
        self.mine, self.base = (Samples(*s) for s in zip(sizes, hits, modes, strict=True))

    def values(self, run: Samples) -> np.ndarray:
        """Shape (n_seeds, n_problems, n_columns)."""
        found = []
        for column in self.columns:
            if not column.distinct:
                found.append(column.of(run.n, run.c))
                continue
            assert run.modes is not None
            of_seeds = []
            for sizes, cells_ in zip(run.n, run.modes, strict=True):
                owner = np.repeat(np.arange(len(sizes)), [len(counts) for _, counts in cells_])
                counts = np.concatenate([counts for _, counts in cells_])
                of_seeds.append(
                    np.bincount(owner, column.of(sizes[owner], counts), minlength=len(sizes))
                )
            found.append(np.array(of_seeds))
        return np.stack(found, axis=2)

    def compared(self, rng: np.random.Generator, clusters: Any = None) -> Reference:
        """Compare them as the verdict does."""
        mine, base = self.values(self.mine), self.values(self.base)
        redraw = redrawing(self.mine, self.base, self.columns)
        return reference(mine, base, redraw, rng, DRAWS, 0.95, clusters)

    def word(self, rng: np.random.Generator, clusters: Any = None) -> bool:
        """Whether a report of this one comparison says any word of change."""
        return self.smallest(rng, clusters) <= 0.05

    def smallest(self, rng: np.random.Generator, clusters: Any = None) -> float:
        """Return the smallest p-value, adjusted over the measures."""
        found = self.compared(rng, clusters)
        return float(found.adjusted(range(len(self.columns))).min())

    def old_word(self, rng: np.random.Generator) -> bool:
        """Rule of version 0.1: a bootstrap interval of one of the differences excludes 0."""
        gaps = (self.values(self.mine) - self.values(self.base)).mean(axis=0)
        low, high = Resampling(1_000, random_state=rng).interval(gaps)
        return bool(((low > 0) | (high < 0)).any())


def _pass(k: int) -> Callable[[Any, Any], Any]:
    return lambda n, c: pass_at_k(n, c, k)


def _answers(rng: np.random.Generator, hits: np.ndarray, shares: np.ndarray) -> list[Any]:
    drawn = rng.multinomial(hits, shares)
    return [(np.flatnonzero(row), row[row > 0]) for row in drawn]


def _shares(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.dirichlet(np.full(MODES, 0.7), size)


def _moved(p: np.ndarray, shift: Any) -> np.ndarray:
    return np.asarray(special.expit(special.logit(np.clip(p, 1e-9, 1 - 1e-9)) + shift))


# --------------------------------------------------------------- cells: one round of each table


def error(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """The same model twice."""
    size, law = cell["problems"], _law(cell["law"])
    p = rng.beta(*law, (1, size))
    w = _shares(rng, size) if cell["answers"] else None
    runs = Runs(rng, p, p, _sizes(rng, cell["n"], size), None if w is None else (w, w))
    return {"old": runs.old_word(rng), "new": runs.word(rng)}


def _law(text: str) -> tuple[float, float]:
    a, b = map(float, text.split("/"))
    return a, b


def _sizes(rng: np.random.Generator, text: str, size: int) -> tuple[Any, Any]:
    if text == "mixed":
        return rng.choice([4, 8, 16], size), rng.choice([4, 8, 16], size)
    mine, _, base = text.partition("/")
    return int(mine), int(base or mine)


def many(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Several runs, all the baseline's model, against it: Holm over their smallest p-values."""
    size, law = cell["problems"], _law(cell["law"])
    p = rng.beta(*law, (1, size))
    w = _shares(rng, size)
    base = Runs(rng, p, p, (cell["n"], cell["n"]), (w, w))
    smallest, old = 1.0, False
    for _ in range(cell["runs"]):
        runs = Runs(rng, p, p, (cell["n"], cell["n"]), (w, w))
        runs.base = base.base
        smallest = min(smallest, runs.smallest(rng))
        old |= runs.old_word(rng)
    return {"old": old, "new": smallest * cell["runs"] <= 0.05}


def noise(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Training helps some problems and harms others, and changes no mean: pass@1 alone."""
    size = cell["problems"]
    shift = rng.normal(0, cell["sd"], size) * rng.choice([-1, 1], size)
    centre = np.full((1, size), 0.5)
    runs = Runs(rng, _moved(centre, shift), centre, (64, 64))
    runs.columns = runs.columns[:1]
    return {"old": runs.old_word(rng), "new": runs.word(rng)}


def power(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """A change that is there."""
    size = cell["problems"]
    p = rng.beta(0.5, 1, (1, size))
    w = _shares(rng, size)
    after, of_answers = p, w
    if cell["change"] == "+0.05":
        after = np.minimum(p + 0.05 * (1 - p) / 0.667, 1)  # +0.05 in the mean over the law
    elif cell["change"] == "+0.05, unequally":
        after = _moved(p, 0.45 + rng.normal(0, 1, size))
    else:
        of_answers = w**2 / (w**2).sum(axis=1, keepdims=True)
    runs = Runs(rng, after, p, _sizes(rng, cell["n"], size), (of_answers, w))
    return {"old": runs.old_word(rng), "new": runs.word(rng)}


def seeds(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Equal methods whose training seeds make better and worse models; pass@1 and pass@n."""
    size, n_seeds, n = cell["problems"], cell["seeds"], 16
    law = rng.beta(1, 1, size)
    of_base = n_seeds if cell["base"] == "as many" else 1
    shift = cell["sd"] * rng.normal(size=(n_seeds + of_base, 1))
    if of_base == 1:
        shift[-1] = 0.0  # the base is the model that the method makes on average
    p = _moved(law, shift)
    apart = Runs(rng, p[:n_seeds], p[n_seeds:], (n, n))
    pooled = Runs(rng, law[None], law[None], (n * n_seeds, n * of_base))
    for run in ("mine", "base"):
        of = getattr(apart, run)
        together = Samples(of.n.sum(axis=0, keepdims=True), of.c.sum(axis=0, keepdims=True))
        setattr(pooled, run, together)
    return {"old": pooled.old_word(rng), "new": apart.word(rng)}


def families(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Problems in families, which training moves as a whole, and on average not at all."""
    n_families, of_each = map(int, cell["families"].split("x"))
    labels = np.repeat(np.arange(n_families), of_each)
    shift = rng.normal(0, cell["sd"], n_families)[labels]
    centre = np.full((1, len(labels)), 0.5)
    runs = Runs(rng, _moved(centre, shift), centre, (16, 16))
    runs.columns = runs.columns[:1]
    y = runs.values(runs.mine)
    inside = {}
    for name, clusters in (("without", None), ("with", labels)):
        low, high = korn_graubard(precision(y, clusters), 0.95)[:, 0]
        inside[f"curve_{name}"] = bool(low <= 0.5 <= high)
    return {"old": runs.word(rng), "new": runs.word(rng, labels), **inside}


def coverage(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """One run's pass@k: the mean over problems like these, or (last two) over these very ones."""
    size, n, k = cell["problems"], cell["n"], cell["k"]
    law = _law(cell["law"])
    p = rng.beta(*law, size)
    c = rng.binomial(n, p)
    sizes = np.full(size, n)
    y = pass_at_k(sizes, c, k)
    truth = 1 - _miss(law, k)
    these = float((1 - (1 - p) ** k).mean())
    limits: dict[str, tuple[Any, float]] = {
        "korn-graubard": (_limits(y), truth),
        "bootstrap": (bootstrap_mean(y, n_resamples=500, random_state=rng), truth),
        "nested": (nested_bootstrap(sizes, c, k, n_resamples=300, random_state=rng), truth),
        "analytic": (analytic_interval(sizes, c, k), these),
        "bayes": (bayes_interval(sizes, c, k), these),
    }
    found: dict[str, float] = {}
    for name, ((low, high), target) in limits.items():
        found[name] = bool(low - 1e-12 <= target <= high + 1e-12)
        found[f"width_{name}"] = float(high - low)
    return found


def default(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """The default interval alone, which is quick, in more rounds."""
    law = _law(cell["law"])
    c = rng.binomial(cell["n"], rng.beta(*law, cell["problems"]))
    y = pass_at_k(cell["n"], c, cell["k"])
    truth = 1 - _miss(law, cell["k"])
    low, high = _limits(y)
    return {"inside": bool(low - 1e-12 <= truth <= high + 1e-12)}


def _limits(y: np.ndarray) -> np.ndarray:
    return korn_graubard(precision(y[None, :, None]), 0.95)[:, 0]


def _miss(law: tuple[float, float], k: int) -> float:
    """E (1 - p)^k of a Beta law."""
    a, b = law
    return float(np.exp(special.betaln(a, b + k) - special.betaln(a, b)))


def differences(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Coverage of the paired intervals where the run is sharper: better at 1, worse at n."""
    size = cell["problems"]
    rank = rng.random((1, size))
    laws = (1.2, 3.0), (0.25, 0.3)
    before, after = (special.betaincinv(*law, rank) for law in laws)
    n = _sizes(rng, cell["n"], size)
    runs = Runs(rng, after, before, n)
    found = runs.compared(rng)
    ends = found.interval
    truth = [_miss(laws[0], k) - _miss(laws[1], k) for k in (1, runs.k)]
    inside = (ends[0] <= truth) & (truth <= ends[1])
    return {"first": bool(inside[0]), "last": bool(inside[-1])}


Cell = Callable[[np.random.Generator, dict[str, Any]], dict[str, float]]


_LAWS = tuple("/".join(f"{a:g}" for a in law) for law in LAWS)
_CURVES: dict[str, tuple[Any, ...]] = {
    "problems": (5, 10, 20, 30, 100, 500),
    "n": (1, 4, 16, 64),
    "k": (1, 4, 16, 64),
    "law": _LAWS,
}
# Settings of each table's cells, and its share of the rounds.
GRIDS: dict[str, tuple[dict[str, tuple[Any, ...]], float]] = {
    "error": (
        {
            "problems": (10, 30, 100, 500),
            "n": ("1", "4", "16", "64", "16/64", "64/16", "64/4", "mixed"),
            "law": _LAWS,
            "answers": (0, 1),
        },
        1.0,
    ),
    "many": ({"problems": (30, 100), "n": (16,), "runs": (5, 20), "law": ("0.5/1", "5/2")}, 0.5),
    "noise": ({"problems": (10, 30, 100), "sd": (0.2, 0.5, 1.0)}, 2.0),
    "power": (
        {
            "change": ("+0.05", "+0.05, unequally", "answers sharpened"),
            "problems": (30, 100, 500),
            "n": ("16", "64", "16/64"),
        },
        0.5,
    ),
    "seeds": (
        {
            "problems": (30, 100),
            "seeds": (2, 3, 5),
            "sd": (0.0, 0.2, 0.5),
            "base": ("one", "as many"),
        },
        2.0,
    ),
    "families": ({"families": ("10x3", "20x5", "50x10"), "sd": (0.5, 1.0)}, 2.0),
    "coverage": (_CURVES, 0.75),
    "default": (_CURVES, 5.0),
    "differences": ({"problems": (10, 30, 100, 500), "n": ("16", "64", "16/64", "64/16")}, 1.0),
}


def cells(name: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Cells of a table, each with its share of the rounds."""
    settings, share = GRIDS[name]
    for values in product(*settings.values()):
        cell = dict(zip(settings, values, strict=True))
        one_sample_has_no_distinct_answers = cell.get("answers") and cell["n"] == "1"
        if one_sample_has_no_distinct_answers or cell.get("k", 1) not in (1, cell.get("n")):
            continue
        yield cell, share / 2 if cell.get("problems") == 500 else share


TABLES: dict[str, Cell] = {
    "error": error,
    "many": many,
    "noise": noise,
    "power": power,
    "seeds": seeds,
    "families": families,
    "coverage": coverage,
    "default": default,
    "differences": differences,
}
NULL = ("error", "many", "noise", "seeds", "families")  # where any word is a false one


# ----------------------------------------------------------------------------- running them


def key_of(name: str, cell: dict[str, Any]) -> str:
    return f"{name}: " + ", ".join(f"{k}={v}" for k, v in cell.items())


def simulate(name: str, cell: dict[str, Any], rounds: int, again: int) -> dict[str, Any]:
    rng = np.random.default_rng([zlib.crc32(key_of(name, cell).encode()), again])
    found = pd.DataFrame([TABLES[name](rng, cell) for _ in range(rounds)]).astype(float)
    return {"cell": key_of(name, cell), "rounds": rounds, **found.mean().round(5)}


def run(names: list[str], scale: float, results: Path) -> None:
    done = pd.read_csv(results) if results.exists() else pd.DataFrame(columns=["cell", "rounds"])
    known = dict(zip(done["cell"], done["rounds"], strict=True))
    rows: list[Any] = done.to_dict("records")
    for name in names:
        for cell, share in tqdm(list(cells(name)), desc=name):
            rounds = max(20, int(ROUNDS * share * scale))
            if known.get(key_of(name, cell), 0) >= rounds:
                continue
            found = simulate(name, cell, rounds, 0)
            if name in NULL and found["new"] > 0.05:
                found = simulate(name, cell, 5 * rounds, 1)
            rows = [*(row for row in rows if row["cell"] != found["cell"]), found]
            pd.DataFrame(rows).sort_values("cell").to_csv(results, index=False)


def load(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """Results of each table, the cell's settings as columns."""
    whole = pd.read_csv(results)
    found = {}
    for name in TABLES:
        rows = whole[whole["cell"].str.startswith(f"{name}: ")]
        texts = rows["cell"].str.removeprefix(f"{name}: ")
        settings = pd.DataFrame(
            [dict(part.split("=", 1) for part in _split(text)) for text in texts], index=rows.index
        )
        columns = rows.drop(columns="cell").dropna(axis=1, how="all")
        found[name] = pd.concat([settings, columns], axis=1)
    return found


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for piece in text.split(", "):
        if "=" in piece:
            parts.append(piece)
        else:
            parts[-1] += f", {piece}"
    return parts


# --------------------------------------------------------------------------------- the page


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


def seeds_table(found: dict[str, pd.DataFrame]) -> str:
    rows = _sorted(found["seeds"], ["base", "seeds", "sd"])
    lines = [
        [*map(str, key), *(mean_and_largest(part, name) for name in ("old", "new"))]
        for key, part in rows.groupby(["base", "seeds", "sd"], sort=False)
    ]
    header = ["seeds of the base", "seeds of the run", "sd of seeds", "pooled, %", "resampled, %"]
    return table(header, lines)


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


PAGE = (error_table, power_table, seeds_table, families_table, coverage_table, differences_table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rounds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.page:
        run(options.tables or list(TABLES), options.scale, options.results)
    if options.results == RESULTS and (options.page or not options.tables):
        found = load()
        put_tables(TARGET, *(make(found) for make in PAGE))


if __name__ == "__main__":
    main()
