"""The problems on which a run lost most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from passk_lab.metrics.passk import pass_at_k
from passk_lab.stats.values import default_ks


def worst_problems(
    counts: pd.DataFrame,
    baseline: str,
    n: int = 10,
    k: Sequence[int] | None = None,
) -> pd.DataFrame:
    """List the problems on which each run lost most against the baseline, the largest falls first.

    ``drop`` is the fall of the problem's pass@k, averaged over the k (default: powers of two up to
    its smaller number of samples): near 1 where the baseline always and the run never solves it. At
    most n problems a run, and only falls.
    """
    keys = ["split", "problem_id"]
    reference = counts[counts["run"] == baseline].drop(columns="run")
    others = counts[counts["run"] != baseline]
    both = others.merge(reference, on=keys, suffixes=("", "_baseline"), validate="many_to_one")
    n_run, n_base = both["n_samples"].to_numpy(), both["n_samples_baseline"].to_numpy()
    c_run, c_base = both["n_correct"].to_numpy(), both["n_correct_baseline"].to_numpy()
    drop = np.zeros(len(both))
    for fewest in np.unique(np.minimum(n_run, n_base)):
        mine = np.minimum(n_run, n_base) == fewest
        ks = np.array([q for q in (k or default_ks(int(fewest))) if q <= fewest])
        curves = [pass_at_k(m[mine, None], c[mine, None], ks)
                  for m, c in ((n_base, c_base), (n_run, c_run))]  # fmt: skip
        drop[mine] = (curves[0] - curves[1]).mean(axis=1)
    table = pd.DataFrame(
        {
            "run": both["run"],
            "split": both["split"],
            "problem_id": both["problem_id"],
            "correct_baseline": c_base,
            "n_baseline": n_base,
            "correct": c_run,
            "n_samples": n_run,
            "rate_baseline": c_base / n_base,
            "rate": c_run / n_run,
            "drop": drop,
        }
    )
    if "correct_mode_counts" in both:
        table["distinct_baseline"] = both["correct_mode_counts_baseline"].map(len)
        table["distinct"] = both["correct_mode_counts"].map(len)
    table = table[table["drop"] > 0].sort_values(
        ["run", "drop", "problem_id"], ascending=[True, False, True], kind="stable"
    )
    return table.groupby("run", sort=False).head(n).reset_index(drop=True)
