"""How often words, intervals and extrapolations are wrong, by simulation.

    python benchmarks/calibration.py              # all tables; hours
    python benchmarks/calibration.py --scale 0.05 error seeds    # some, with a share of the rounds
    python benchmarks/calibration_page.py         # then: docs/coverage.md

Each cell is simulated with a seed of its own, made of its name, and kept in calibration.csv beside
this file; what is there with as many rounds is not simulated again. Cells in which a word was
false in more than 5 % of the rounds are simulated once more, with five times as many: only that
second result counts, for the largest of many cells is large by chance.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special
from tqdm import tqdm

from passk_lab import pass_at_k
from passk_lab.stats import (
    Resampling,
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    checkpoints,
    extrapolate_pass_at_k,
    nested_bootstrap,
    plan,
)
from passk_lab.stats._precision import korn_graubard, precision
from passk_lab.stats._reference import Column, Reference, Samples, redrawing, reference
from passk_lab.stats.power import SPREAD

HERE = Path(__file__).parent
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


def _shares(rng: np.random.Generator, size: int, modes: int = MODES) -> np.ndarray:
    return rng.dirichlet(np.full(modes, 0.7), size)


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


def over_training(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Four checkpoints of a method that changes nothing, and of one that adds 0.5 in log-odds."""
    found: dict[str, float] = {}
    for name, change in (("new", 0.0), ("seen", 0.5)):
        law = rng.beta(0.5, 1, cell["problems"])
        of_run = rng.normal(size=(cell["seeds"], 1))
        parts = []
        for step in range(5):
            own = np.sqrt(0.7) * of_run + np.sqrt(0.3) * rng.normal(size=of_run.shape)
            shift = cell["sd"] * own + change if step else np.zeros_like(of_run)
            n_correct = rng.binomial(16, _moved(law, shift))
            for seed, right in enumerate(n_correct):
                part = {"step": step, "seed": seed, "problem_id": range(len(law))}
                parts.append(pd.DataFrame({**part, "n_correct": right}))
        table = pd.concat(parts).assign(run="run", split="id", n_samples=16)
        said = checkpoints(table, over_seeds=cell["seeds"] > 1, n_resamples=50, random_state=rng)
        words = said["first_try"].isin(["better", "worse"])
        found[name] = bool((words | said["reach"].isin(["wider", "narrower", "mixed"])).any())
    return found


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


def more(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """The same model twice, in what else reports hold."""
    size, n, law = {
        "two splits": (cell["problems"], 16, (0.5, 1)),
        "12 answers": (cell["problems"], 16, (0.5, 1)),
        "as hard as MATH500": (cell["problems"], 128, (0.665, 0.491)),  # Qwen2.5-7B's fit
    }[cell["kind"]]
    splits = 2 if cell["kind"] == "two splits" else 1
    smallest, old = 1.0, False
    for _ in range(splits):
        p = rng.beta(*law, (1, size))
        w = _shares(rng, size, 12 if cell["kind"] == "12 answers" else MODES)
        runs = Runs(rng, p, p, (n, n), (w, w))
        smallest = min(smallest, runs.smallest(rng))
        old |= runs.old_word(rng)
    return {"old": old, "new": smallest * splits <= 0.05}


@cache
def _plan(measure: str, n: int, change: float, law: str) -> tuple[int, float]:
    """Problems that the plan asks for, and what makes the change: a shift, or a log-exponent."""
    rng = np.random.default_rng(0)
    p = rng.beta(*_law(law), _MANY)
    k = int(measure.partition("@")[2])
    if measure.startswith("distinct"):
        w = _shares(rng, _MANY)
        pilot = {"problem_id": range(_MANY), "run": "base", "split": "id", "n_samples": 4 * n}
        hits = rng.binomial(4 * n, p)
        drawn = [counts for _, counts in _answers(rng, hits, w)]
        modes = {"mode_counts": drawn, "correct_mode_counts": drawn}
        of = pd.DataFrame({**pilot, "n_correct": hits, **modes})

        def gap(by: float) -> float:
            both = (1 - (1 - p[:, None] * shares) ** k for shares in (_sharper(w, by), w))
            after, before = (values.sum(axis=1).mean() for values in both)
            return float(after - before) - change

        needed = plan(of, change, measure, n_samples=[n]).table
    else:
        moved_by = rng.normal(0, SPREAD, _MANY)

        def gap(by: float) -> float:
            return float(((1 - p) ** k - (1 - _moved(p, moved_by + by)) ** k).mean()) - change

        needed = plan(_law(law), change, measure, n_samples=[n], spread=SPREAD).table
    return int(needed["problems"].item()), float(optimize.brentq(gap, -9, 9))


def _sharper(shares: np.ndarray, by: float) -> np.ndarray:
    return np.asarray(special.softmax(np.exp(by) * np.log(np.maximum(shares, 1e-300)), axis=1))


def planned(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """The verdict on as many problems as `plan` asks for, for a power of 0.8."""
    size, by = _plan(cell["measure"], cell["n"], cell["change"], cell["law"])
    p = rng.beta(*_law(cell["law"]), (1, size))
    if cell["measure"].startswith("distinct"):
        w = _shares(rng, size)
        runs = Runs(rng, p, p, (cell["n"], cell["n"]), (_sharper(w, by), w))
    else:
        after = _moved(p, rng.normal(0, SPREAD, size) + by)
        runs = Runs(rng, after, p, (cell["n"], cell["n"]))
    column = 0 if cell["measure"] == "pass@1" else len(runs.columns) - 1
    found = runs.compared(rng)
    sign = np.sign(found.difference[column])
    seen = found.adjusted(range(len(runs.columns)))[column] <= 0.05 and sign == np.sign(
        cell["change"]
    )
    return {"problems": size, "seen": bool(seen)}


def beyond(rng: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """pass@k beyond n: bounds, fits, and the interval of a beta-binomial fit given its model."""
    size, n, law = cell["problems"], cell["n"], LAWS_BEYOND[cell["law"]]
    truth = {"2n": 2 * n, "4n": 4 * n, "1000": 1000, "10000": 10_000}
    c = rng.binomial(n, law.draw(rng, size))
    counts = {"problem_id": range(size), "run": "a", "split": "id", "n_samples": n, "n_correct": c}
    ks = list(truth.values())
    both = [
        extrapolate_pass_at_k(pd.DataFrame(counts), ks, model=model, n_resamples=100,
                              random_state=rng).set_index("k")
        for model in ("bounds", "beta-binomial")
    ]  # fmt: skip
    found: dict[str, float] = {}
    for name, k in truth.items():
        exact = law.pass_at_k(k)
        row, fit = (rows.loc[k] for rows in both)
        found[f"bounds_{name}"] = bool(row["low"] - 1e-6 <= exact <= row["high"] + 1e-6)
        found[f"width_{name}"] = row["high"] - row["low"]
        found[f"fits_{name}"] = bool(row["fit_low"] <= exact <= row["fit_high"])
        found[f"model_{name}"] = bool(fit["low"] <= exact <= fit["high"])
        found[f"error_{name}"] = abs(row["estimate"] - exact)
    return found


@dataclass(frozen=True)
class Law:
    """Accuracies: some impossible, the rest Beta(a, b), or 1 - exp(-e^z) with normal z."""

    a: float
    b: float
    impossible: float = 0.0
    normal: bool = False

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw accuracies of so many problems."""
        if self.normal:
            return np.asarray(-np.expm1(-np.exp(rng.normal(self.a, self.b, size))))
        return rng.beta(self.a, self.b, size) * (rng.random(size) >= self.impossible)

    def pass_at_k(self, k: int) -> float:
        """Mean over all problems of the law."""
        if self.normal:
            z = np.linspace(-12, 12, 20_001)
            weights = np.exp(-(z**2) / 2)
            solved = -np.expm1(-k * np.exp(self.a + self.b * z))
            return float(weights @ solved / weights.sum())
        return (1 - self.impossible) * (1 - _miss((self.a, self.b), k))


LAWS_BEYOND = {
    "Beta(0.5 1)": Law(0.5, 1),
    "Beta(0.1 2)": Law(0.1, 2),
    "power tail 0.2": Law(0.2, 1),
    "log-normal(-3 2)": Law(-3, 2, normal=True),
    "log-normal(-6 3)": Law(-6, 3, normal=True),
    "30 % impossible": Law(0.5, 1, 0.3),
    "60 % impossible": Law(0.5, 1, 0.6),
}
_MANY = 4_000


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
    "over_training": (
        {"problems": (100,), "seeds": (1, 3, 5), "sd": (0.0, 0.2, 0.5)},
        0.5,
    ),
    "families": ({"families": ("10x3", "20x5", "50x10"), "sd": (0.5, 1.0)}, 2.0),
    "coverage": (_CURVES, 0.75),
    "default": (_CURVES, 5.0),
    "differences": ({"problems": (10, 30, 100, 500), "n": ("16", "64", "16/64", "64/16")}, 1.0),
    "more": (
        {"kind": ("two splits", "12 answers", "as hard as MATH500"), "problems": (30, 100, 500)},
        1.0,
    ),
    "planned": (
        {
            "measure": ("pass@1", "pass@16", "distinct@16"),
            "n": (16, 64),
            "change": (0.05, -0.05, -0.2),
            "law": ("0.5/1", "1/1"),
        },
        1.0,
    ),
    "beyond": (
        {"problems": (30, 100, 500), "n": (16, 32, 64), "law": tuple(LAWS_BEYOND)},
        0.5,
    ),
}


def cells(name: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Cells of a table, each with its share of the rounds."""
    settings, share = GRIDS[name]
    for values in product(*settings.values()):
        cell = dict(zip(settings, values, strict=True))
        one_sample_has_no_distinct_answers = cell.get("answers") and cell["n"] == "1"
        if one_sample_has_no_distinct_answers or cell.get("k", 1) not in (1, cell.get("n")):
            continue
        if cell.get("seeds") == 1 and cell["sd"]:
            continue
        if name == "planned" and not _planned(**cell):
            continue
        yield cell, share / 2 if cell.get("problems") == 500 else share


def _planned(measure: str, n: int, change: float, law: str) -> bool:
    """The largest k is that of the samples; answers change by more than accuracy does."""
    return (change == -0.2) == measure.startswith("distinct") and (measure == "pass@1" or n == 16)


TABLES: dict[str, Cell] = {
    "error": error,
    "many": many,
    "noise": noise,
    "power": power,
    "seeds": seeds,
    "over_training": over_training,
    "families": families,
    "coverage": coverage,
    "default": default,
    "differences": differences,
    "more": more,
    "planned": planned,
    "beyond": beyond,
}
# Where any word is a false one.
NULL = ("error", "many", "noise", "seeds", "over_training", "families", "more")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rounds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    run(options.tables or list(TABLES), options.scale, options.results)


if __name__ == "__main__":
    main()
