"""How often nominal 95 % intervals hold the truth, by simulation: the tables of docs/coverage.md.

The truth is known because the accuracies are drawn from a Beta law: pass@k of problems like these
is 1 - E (1 - p)^k. Run it with ``python benchmarks/coverage.py``; it takes some minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import put_tables, table
from scipy import optimize, special, stats
from tqdm import tqdm

from passk_lab import compare_runs, pass_at_k
from passk_lab.stats import (
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    nested_bootstrap,
)

TARGET = Path(__file__).parent.parent / "docs" / "coverage.md"
ROUNDS = 2_000
N_SAMPLES = 32
LAWS = {"Beta(0.5, 1)": stats.beta(0.5, 1), "Beta(0.1, 2)": stats.beta(0.1, 2)}
Interval = Callable[[Any, Any, int, np.random.Generator], tuple[Any, Any]]

# What the interval's truth is: the law's pass@k, or that of the very problems drawn.
INTERVALS: dict[str, tuple[Interval, bool]] = {
    "bootstrap": (
        lambda n, c, k, rng: bootstrap_mean(
            pass_at_k(n, c, k), n_resamples=1_000, random_state=rng
        ),
        True,
    ),
    "nested": (
        lambda n, c, k, rng: nested_bootstrap(n, c, k, n_resamples=500, random_state=rng),
        True,
    ),
    "analytic": (lambda n, c, k, rng: analytic_interval(n, c, k), False),
    "bayes": (lambda n, c, k, rng: bayes_interval(n, c, k), False),
    "bayes, uniform prior": (lambda n, c, k, rng: bayes_interval(n, c, k, (1, 1)), False),
}


def share(hits: int, rounds: int) -> str:
    error = 1.96 * np.sqrt(max(hits * (rounds - hits), 1) / rounds**3)
    return f"{100 * hits / rounds:.1f} ± {100 * error:.1f}"


def miss(law: Any, k: float) -> float:
    """E (1 - p)^k of a Beta law; numerical integration fails at its poles."""
    a, b = law.args
    return float(np.exp(special.betaln(a, b + k) - special.betaln(a, b)))


def single_curves() -> pd.DataFrame:
    rows = []
    cases = [(law, size, k) for law in LAWS for size in (20, 100, 500) for k in (1, 8, 32)]
    for law, size, k in tqdm(cases, desc="one run"):
        rng = np.random.default_rng(0)
        truth = 1 - miss(LAWS[law], k)
        hits = dict.fromkeys(INTERVALS, 0)
        n = np.full(size, N_SAMPLES)
        rounds = ROUNDS if size < 500 else ROUNDS // 4
        for _ in range(rounds):
            p = LAWS[law].rvs(size, random_state=rng)
            c = rng.binomial(N_SAMPLES, p)
            for name, (interval, of_law) in INTERVALS.items():
                low, high = interval(n, c, k, rng)
                target = truth if of_law else (1 - (1 - p) ** k).mean()
                hits[name] += bool(low <= target <= high)
        shares = {name: share(hit, rounds) for name, hit in hits.items()}
        rows.append({"accuracies": law, "problems": size, "k": k, **shares})
    return pd.DataFrame(rows)


def comparisons() -> pd.DataFrame:
    """A run that is sharper than the baseline: better at k = 1, worse at k = 32."""
    before, after = stats.beta(1.2, 3), stats.beta(0.25, 0.3)

    def gap(k: float) -> float:
        return miss(before, k) - miss(after, k)

    ks = [1, 2, 4, 8, 16, 32]
    truth = np.array([gap(k) for k in ks])
    crossing = optimize.brentq(gap, 1, 32)
    rows = []
    for size in (40, 200):
        rng = np.random.default_rng(0)
        rounds = ROUNDS // 4
        hits = dict.fromkeys(["k = 1", "k = 8", "k = 32", "band over all k", "crossing"], 0)
        names = [f"p{i}" for i in range(size)]
        for _ in tqdm(range(rounds), desc=f"two runs, {size} problems"):
            rank = rng.random(size)  # the same problems are easy for both
            counts = [
                pd.DataFrame(
                    {
                        "run": run,
                        "split": "id",
                        "problem_id": names,
                        "n_samples": N_SAMPLES,
                        "n_correct": rng.binomial(N_SAMPLES, law.ppf(rank)),
                    }
                )
                for run, law in (("base", before), ("after", after))
            ]
            found = compare_runs(pd.concat(counts), "base", ks, n_resamples=1_000, random_state=rng)
            d, x = found.differences, found.crossings.iloc[0]
            inside = ((d["low"] <= truth) & (truth <= d["high"])).to_numpy()
            for name, at in (("k = 1", 0), ("k = 8", 3), ("k = 32", 5)):
                hits[name] += bool(inside[at])
            inside_band = (d["band_low"] <= truth) & (truth <= d["band_high"])
            hits["band over all k"] += bool(inside_band.all())
            hits["crossing"] += bool(x["low"] <= crossing <= x["high"])
        rows.append({"problems": size, **{name: share(hit, rounds) for name, hit in hits.items()}})
    return pd.DataFrame(rows)


def main() -> None:
    curves, paired = (
        table([*found.columns], found.astype(str).to_numpy().tolist())
        for found in (single_curves(), comparisons())
    )
    put_tables(TARGET, curves, paired)


if __name__ == "__main__":
    main()
