"""Gap amplification: does training stretch the log-odds between correct answers?

Over the correct answers (modes) i of a problem x, log p′_i = λ log p_i + k_x: λ = 1 keeps ratios,
as the optimum of KL-regularised reinforcement learning does, λ > 1 widens gaps. The intercept k_x
takes up how much more often the problem is solved. Here λ comes from log-probabilities, exact or
teacher-forced on a fixed set of rollouts; `passk_lab.teacher.count_slopes` makes do with counts.

λ hides curvature, so every table also has KL(p′(.|Y⁺) ‖ p(.|Y⁺)) and effective modes 1/Σp². What
the controls deviate from 1 (or 0 nats), the trained model's estimate may deviate, too.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.teacher._arguments import (
    Ints,
    log_array,
    refuse_row,
    require_columns,
)
from passk_lab.teacher._modes import (
    least_squares,
    log_sums,
    narrowing_rows,
    pooled,
    problem_codes,
    ratio_row,
    refuse_twice,
)

__all__ = ["gap_slope", "paired_logprobs", "slope_table"]


def gap_slope(
    log_before: npt.ArrayLike,
    log_after: npt.ArrayLike,
    problem: npt.ArrayLike,
) -> float:
    """Least-squares slope with an intercept for each problem.

    With a tilt s, ``log_after=log_before + s`` gives the slope that training would lead to.

    Parameters
    ----------
    log_before, log_after : array_like, shape (n_modes,)
        Log-probabilities of correct modes, nats, up to a constant of each problem. Modes with -inf
        in either are left out.
    problem : array_like, shape (n_modes,)
        Label of each mode's problem.

    Returns
    -------
    float
        NaN if no problem has two modes of different probability.

    Examples
    --------
    >>> before = np.log([0.4, 0.2, 0.5, 0.1])
    >>> after = 1.5 * before + [0.3, 0.3, -1, -1]
    >>> round(gap_slope(before, after, list("aabb")), 12)
    1.5
    """
    x = log_array(log_before, "log_before", "n_modes")
    y = log_array(log_after, "log_after", "n_modes")
    code, _ = problem_codes(problem, len(x))
    if len(y) != len(x):
        raise ValueError(f"log_before has {len(x)} modes, but log_after {len(y)}")
    return pooled(least_squares(x, y, code))


def paired_logprobs(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Put the exact or scored log-probabilities of two models side by side.

    Parameters
    ----------
    before, after : DataFrame
        Columns ``problem_id, answer, logprob`` (nats) of one run and seed each.

    Returns
    -------
    DataFrame
        ``problem_id, answer, logprob_before, logprob_after``, in the order of ``before``.

    Raises
    ------
    ValueError
        An answer occurs twice, or in one table only.

    Examples
    --------
    >>> base = pd.DataFrame({"problem_id": "a", "answer": ["x", "y"], "logprob": [-1.0, -2.0]})
    >>> paired_logprobs(base, base.assign(logprob=[-0.5, -3.0]))
      problem_id answer  logprob_before  logprob_after
    0          a      x            -1.0           -0.5
    1          a      y            -2.0           -3.0
    """
    keys = ["problem_id", "answer"]
    sides = []
    for name, table in (("before", before), ("after", after)):
        require_columns(table, [*keys, "logprob"], name)
        refuse_twice(table, keys, name)
        sides.append(table[[*keys, "logprob"]].rename(columns={"logprob": f"logprob_{name}"}))
    both = sides[0].merge(sides[1], on=keys, how="outer", indicator="side")
    both["side"] = both["side"].map({"left_only": "before", "right_only": "after"})
    refuse_row(
        both["side"].notna(),
        "answer {1!r} of problem {0!r} is in {2!r} only; score the same answers with both models",
        both[[*keys, "side"]],
    )
    return before[keys].merge(both.drop(columns="side"), on=keys, how="left")


def slope_table(modes: pd.DataFrame, **resampling: Unpack[ResamplingOptions]) -> pd.DataFrame:
    """Slope, KL and effective modes from log-probabilities, with controls.

    The controls: "null", base against base, and "ideal_rl", which multiplies all correct answers
    of a problem by the factor that gives the accuracy reached.

    Parameters
    ----------
    modes : DataFrame
        One row a correct mode: ``problem_id, logprob_before, logprob_after`` (nats, under base
        and trained model). Optional: ``answer``, against duplicates; ``correct``, whose false rows
        are passed over; ``tilt`` (s, nats), which adds the predicted policy;
        ``logprob_null``, the base scored a second time or by another seed; ``seed`` of several
        trained models, over which estimates are and which intervals resample, too.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``comparison, quantity, estimator, estimate, low, high, n_problems, n_left_out,
        n_modes, n_lost``, the last two over all seeds. Comparisons are "trained", "predicted",
        "null" and "ideal_rl"; quantities "slope", "kl" (nats), "effective_before",
        "effective_after". ``n_left_out`` problems have no such quantity (for a slope: fewer than
        two modes of different probability), ``n_lost`` modes have probability 0. Without two
        problems, intervals are NaN.

    Raises
    ------
    ValueError
        A log-probability is NaN or positive; an answer occurs twice; the base gives none of a
        problem's modes; seeds differ in their problems.

    Examples
    --------
    >>> before = np.log([0.5, 0.25, 0.4, 0.3, 0.1, 0.6])
    >>> modes = pd.DataFrame({"problem_id": list("aabbbc"), "logprob_before": before,
    ...                       "logprob_after": 1.2 * before})
    >>> table = slope_table(modes, n_resamples=100, random_state=0)
    >>> columns = ["comparison", "estimate", "n_problems", "n_left_out"]
    >>> table.query("quantity == 'slope'")[columns].round(6).values.tolist()
    [['trained', 1.2, 2, 1], ['null', 1.0, 2, 1], ['ideal_rl', 1.0, 2, 1]]
    """
    table = _read_modes(modes)
    code, n_seeds, n_problems = _seeds_and_problems(table)
    before = table["logprob_before"].to_numpy(float)
    after = {"trained": table["logprob_after"].to_numpy(float)}
    if "tilt" in table.columns:
        after["predicted"] = before + table["tilt"].to_numpy(float)
    after["null"] = table.get("logprob_null", table["logprob_before"]).to_numpy(float)
    reached, first = (log_sums(v, code, n_seeds * n_problems) for v in (after["trained"], before))
    with np.errstate(invalid="ignore"):
        after["ideal_rl"] = before + (reached - first)[code]
    bootstrap = Resampling(**resampling)
    rows = []
    for comparison, log_after in after.items():
        lost = ~(np.isfinite(before) & np.isfinite(log_after))
        moments = least_squares(before, log_after, code).reshape(n_seeds, -1, 2)
        some = np.any(moments[:, :, 1] > 0, axis=0)
        slope = {
            "quantity": "slope",
            "estimator": "least_squares",
            **ratio_row(moments[:, some], bootstrap),
            "n_left_out": int((~some).sum()),
            "n_modes": int((~lost & some[code % n_problems]).sum()),
        }
        others = narrowing_rows("exact", before, log_after, code, bootstrap, n_seeds)
        for row in (slope, *others):
            rows.append({"comparison": comparison, **row, "n_lost": int(lost.sum())})
    return pd.DataFrame(rows)


def _seeds_and_problems(table: pd.DataFrame) -> tuple[Ints, int, int]:
    """Give each row seed * n_problems + problem, and the numbers of seeds and problems."""
    code, labels = problem_codes(table["problem_id"], len(table))
    if "seed" not in table.columns:
        return code, 1, len(labels)
    seed, seeds = problem_codes(table["seed"], len(table))
    both = seed * len(labels) + code
    for at in np.setdiff1d(np.arange(len(seeds) * len(labels)), both):
        raise ValueError(
            f"modes: column 'seed': seed {seeds[at // len(labels)]} has no mode of problem "
            f"{labels[at % len(labels)]!r}; score every seed on the same problems"
        )
    return both, len(seeds), len(labels)


def _read_modes(modes: pd.DataFrame) -> pd.DataFrame:
    require_columns(modes, ["problem_id", "logprob_before", "logprob_after"], "modes")
    table = modes.reset_index(drop=True)
    if "answer" in table.columns:
        keys = ["problem_id", "answer"] + ["seed"] * ("seed" in table.columns)
        refuse_twice(table, keys, "modes")
    for name in ("logprob_before", "logprob_after", "logprob_null", "tilt"):
        if name not in table.columns:
            continue
        values = table[name].to_numpy(float)
        bad, message = ~(values <= 1e-9), "is no log-probability; it must be at most 0"
        if name == "tilt":
            bad, message = ~(values < np.inf), "is no tilt; it must be finite or -inf"
        refuse_row(bad, f"modes: column {name!r}, row {{row}}: {{0}} {message}", table[[name]])
    if "correct" in table.columns:
        table = table[table["correct"].astype(bool)].reset_index(drop=True)
    if not len(table):
        raise ValueError("modes: there is no correct mode; nothing to compare")
    best = table.groupby("problem_id")["logprob_before"].max().reset_index()
    refuse_row(
        best["logprob_before"] == -np.inf,
        "modes: column 'logprob_before': the base gives none of the modes of problem {0!r}; leave "
        "the problem out and report that",
        best,
    )
    return table
