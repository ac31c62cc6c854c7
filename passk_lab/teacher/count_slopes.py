"""Gap amplification from counts of modes among rollouts.

See `passk_lab.teacher.slopes` for the slope λ. Here it comes from the likelihood of the counts
after training given the base's frequencies. Least squares on log counts, whose regressor is noisy,
is biased and there for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import elementwise

from passk_lab.metrics.passk import whole_numbers
from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.teacher._arguments import (
    Floats,
    Ints,
    check_choice,
    refuse_entry,
    refuse_row,
    require_columns,
)
from passk_lab.teacher._modes import (
    LARGEST_SLOPE,
    bounded_ends,
    least_squares,
    narrowing_rows,
    problem_codes,
    ratio_row,
    refuse_twice,
)

__all__ = ["count_slope", "count_slope_table", "paired_counts"]

COUNT_ESTIMATORS = ("multinomial", "ols_plus_half", "ols_seen_only", "split_half_iv")

_BLOCK = 1 << 20  # numbers held at once: 8 MB


def count_slope(before: npt.ArrayLike, after: npt.ArrayLike, problem: npt.ArrayLike) -> float:
    """Slope from counts by maximum likelihood.

    Maximises Σ_x Σ_i n′_i log [p̂_i^λ / Σ_j p̂_j^λ], p̂ the base's frequencies with ½ added to each
    count. The two sets of rollouts must be independent.

    Parameters
    ----------
    before, after : array_like of int, shape (n_modes,)
        How often the base and the trained model gave each correct mode that either gave.
    problem : array_like, shape (n_modes,)
        Label of each mode's problem.

    Returns
    -------
    float
        Infinite if each problem's rollouts after all have its most frequent mode (or its rarest:
        minus infinity), or if it lies beyond 64; NaN if no problem has modes of different
        frequency.

    Examples
    --------
    >>> round(count_slope([600, 300, 100], [842, 149, 9], ["a"] * 3), 1)
    2.5
    """
    likelihood = _Likelihood(*_read_counts(before, after, problem))
    return float(likelihood.maximum(np.ones((1, len(likelihood.starts))))[0])


def paired_counts(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Count each correct answer among the rollouts of two models.

    Parameters
    ----------
    before, after : DataFrame
        Rollouts with ``answer``, of one run each, for the same problems.

    Returns
    -------
    DataFrame
        Columns ``problem_id, answer, before, after``, one row a correct answer that either gave. A
        problem that neither ever solved keeps one row with a missing answer and counts of 0.

    Raises
    ------
    ValueError
        The tables differ in their problems; a correct rollout has no answer.

    Examples
    --------
    >>> base = pd.DataFrame({"problem_id": "a", "correct": True, "answer": ["x", "x", "y"]})
    >>> paired_counts(base, base.assign(answer=["x", "z", "x"])).values.tolist()
    [['a', 'x', 2, 2], ['a', 'y', 1, 0], ['a', 'z', 0, 1]]
    """
    counted, problems = [], []
    for name, rollouts in (("before", before), ("after", after)):
        table = validate_rollouts(rollouts, name)
        require_columns(table, ["answer"], name)
        refuse_row(
            table["correct"] & table["answer"].isna(),
            f"{name}: column 'answer', row {{row}}: a correct rollout has no answer; give its "
            "canonical form",
            table[["answer"]],
        )
        solved = table[table["correct"]]
        counted.append(solved.groupby(["problem_id", "answer"]).size().rename(name))
        problems.append(set(table["problem_id"]))
    odd = problems[0] ^ problems[1]
    if odd:
        raise ValueError(
            f"problem {min(odd)!r} is in one table only; sample the same problems from both models"
        )
    both = pd.concat(counted, axis=1).fillna(0).astype("int64").reset_index()
    unsolved = sorted(problems[0] - set(both["problem_id"]))
    if unsolved:
        empty = pd.DataFrame({"problem_id": unsolved, "answer": None, "before": 0, "after": 0})
        both = pd.concat([both, empty.astype(both.dtypes.to_dict())], ignore_index=True)
    return both.sort_values(["problem_id", "answer"], ignore_index=True)


def count_slope_table(
    counts: pd.DataFrame,
    estimators: Sequence[str] = COUNT_ESTIMATORS,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Slope, KL and effective modes from counts, with controls.

    Parameters
    ----------
    counts : DataFrame
        As `paired_counts` returns it: ``problem_id, answer, before, after``. With a column
        ``null``, counts of a second set of the base's rollouts, the controls use these; without,
        the base's rollouts are split into halves, so that the controls have half the samples and
        somewhat more bias.
    estimators : sequence of str
        "multinomial" is `count_slope`. For comparison: "ols_plus_half" regresses log(n′ + ½) on
        log(n + ½), "ols_seen_only" the logarithms of modes that both saw, "split_half_iv"
        instruments one half of the base's rollouts with the other.
    **resampling
        As for `slope_table`; 2,000 replicates by default.

    Returns
    -------
    DataFrame
        As of `slope_table`. "ideal_rl" draws correct answers in the base's proportions, as
        many as the trained model gave. ``kl`` and effective modes have ½ added to each count and
        are biased; the controls show by how much. A problem that one side never solved is left out.

    Examples
    --------
    >>> counts = pd.DataFrame({"problem_id": list("aabb"), "answer": list("xyxy"),
    ...                        "before": [60, 20, 50, 30], "after": [90, 10, 75, 25]})
    >>> table = count_slope_table(counts, ["multinomial"], n_resamples=200, random_state=0)
    >>> trained = table[(table["comparison"] == "trained") & (table["quantity"] == "slope")]
    >>> trained[["estimate", "n_problems"]].round(2).values.tolist()
    [[2.08, 2.0]]
    """
    for name in estimators:
        check_choice(name, "estimator", COUNT_ESTIMATORS)
    require_columns(counts, ["problem_id", "answer", "before", "after"], "counts")
    refuse_twice(counts, ["problem_id", "answer"], "counts")
    before, after, code = _read_counts(counts["before"], counts["after"], counts["problem_id"])
    bootstrap = Resampling.of(resampling, n_resamples=2_000)
    rng = bootstrap.generator()
    if "null" in counts.columns:
        null = _read_counts(counts["before"], counts["null"], counts["problem_id"])[1]
        reference = before
    else:
        reference = _half(before, code, rng)
        null = before - reference
    comparisons = {
        "trained": (before, after),
        "null": (reference, null),
        "ideal_rl": (reference, _resampled(null, np.bincount(code, after), code, rng)),
    }
    rows = []
    for comparison, (n, m) in comparisons.items():
        solved = (np.bincount(code, n) > 0) & (np.bincount(code, m) > 0)
        keep = solved[code]
        kept = np.unique(code[keep], return_inverse=True)[1]
        pair = n[keep], m[keep]
        x, y = (np.log(side + 0.5) for side in pair)
        others = narrowing_rows("plus_half", x, y, kept, bootstrap)
        slopes = [_slope_row(name, *pair, kept, bootstrap) for name in estimators]
        for row in (*slopes, *({**other, "n_lost": 0} for other in others)):
            row["n_left_out"] += int((~solved).sum())
            rows.append({"comparison": comparison, **row})
    return pd.DataFrame(rows)


def _slope_row(name: str, n: Ints, m: Ints, code: Ints, bootstrap: Resampling) -> dict[str, Any]:
    if name == "multinomial" and len(code):
        likelihood = _Likelihood(n, m, code)
        seen, some = np.ones(len(n), dtype=bool), likelihood.informative
        found = likelihood.row(bootstrap)
    else:
        x, y, instrument = _regression(name, n, m, code, bootstrap.generator())
        moments = least_squares(x, y, code, instrument)
        seen, some = np.isfinite(x), (moments != 0).any(axis=1)
        found = ratio_row(moments[None, some], bootstrap)
    return {
        "quantity": "slope",
        "estimator": name,
        **found,
        "n_left_out": int((~some).sum()),
        "n_modes": int((seen & some[code]).sum()),
        "n_lost": int((~seen).sum()),
    }


def _regression(
    name: str, n: Ints, m: Ints, code: Ints, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats | None]:
    """Logarithms before and after, and of the instrument; -inf leaves a mode out."""
    if name == "ols_seen_only":
        seen = (n > 0) & (m > 0)
        with np.errstate(divide="ignore"):
            return np.log(n * seen), np.log(m * seen), None
    x, y = np.log(n + 0.5), np.log(m + 0.5)
    if name != "split_half_iv":
        return x, y, None
    half = _half(n, code, rng)
    return np.log(half + 0.5), y, np.log(n - half + 0.5)


class _Likelihood:
    """Of the counts after given log-frequencies before, for many weightings of the problems."""

    def __init__(self, before: Ints, after: Ints, code: Ints) -> None:
        order = np.argsort(code, kind="stable")
        code, after = code[order], after[order]
        new = np.diff(code, prepend=-1) > 0
        self.starts, place = np.flatnonzero(new), np.cumsum(new) - 1
        logs = np.log(before[order] + 0.5)
        # (n_modes,), each problem's largest is 0.
        self.logs = logs - np.maximum.reduceat(logs, self.starts)[place]
        lowest = np.minimum.reduceat(self.logs, self.starts)
        self.span = -lowest[place]
        # (n_problems,): sum over modes of n' log p, and of n'.
        self.score = np.add.reduceat(after * self.logs, self.starts)
        self.total = np.add.reduceat(after, self.starts).astype(float)
        self.informative = (lowest < 0) & (self.total > 0)
        # Only the most frequent modes, or only the rarest, occur after.
        self.at_top = np.add.reduceat(after * (self.logs < 0), self.starts) == 0
        self.at_bottom = np.add.reduceat(after * (self.logs > -self.span), self.starts) == 0

    def row(self, bootstrap: Resampling) -> dict[str, Any]:
        """Estimate and interval."""
        size = int(self.informative.sum())
        estimate = float(self.maximum(np.ones((1, len(self.starts))))[0])
        low = high = np.nan
        if size > 1:
            weights = np.zeros((bootstrap.n_resamples, len(self.starts)))
            weights[:, self.informative] = bootstrap.draws(size)
            low, high = bounded_ends(self.maximum(weights), bootstrap, size)
        return {"estimate": estimate, "low": low, "high": high, "n_problems": size}

    def maximum(self, weights: Floats) -> Floats:
        """Best λ of each row of weights, shape (n_rows,), where the derivative is 0."""
        height = max(1, _BLOCK // max(len(self.logs), 1))
        return np.concatenate(
            [self._root(weights[at : at + height]) for at in range(0, len(weights), height)]
        )

    def _root(self, weights: Floats) -> Floats:
        found = elementwise.find_root(
            lambda lam, row: self._derivative(lam, weights[row.astype(int)]),
            (-LARGEST_SLOPE, LARGEST_SLOPE),
            args=(np.arange(len(weights), dtype=float),),
            tolerances={"xatol": 1e-14, "xrtol": 1e-14},
        )
        beyond = np.copysign(np.inf, found.f_bracket[0])
        used = (weights > 0) & self.informative
        lam = np.where(found.success, found.x, beyond)
        lam = np.where((self.at_top | ~used).all(axis=1), np.inf, lam)
        lam = np.where((self.at_bottom | ~used).all(axis=1), -np.inf, lam)
        return np.where(used.any(axis=1), lam, np.nan)

    def _derivative(self, lam: Floats, weights: Floats) -> Floats:
        powers = np.exp(lam[:, None] * self.logs - np.maximum(-lam[:, None], 0) * self.span)
        mass, mean = (
            np.add.reduceat(powers * factor, self.starts, axis=1) for factor in (1.0, self.logs)
        )
        return (weights * (self.score - self.total * mean / mass)).sum(axis=1)


def _resampled(counts: Ints, sizes: npt.NDArray[Any], code: Ints, rng: np.random.Generator) -> Ints:
    """Draw so many rollouts of each problem, in the proportions of its counts.

    Without replacement, after as many copies as fit in: drawing with it would add noise.
    """
    drawn = np.zeros_like(counts)
    order = np.argsort(code, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        total = int(counts[rows].sum())
        if total:
            copies, rest = divmod(int(sizes[code[rows[0]]]), total)
            more = rng.multivariate_hypergeometric(counts[rows], rest, method="marginals")
            drawn[rows] = copies * counts[rows] + more
    return drawn


def _half(counts: Ints, code: Ints, rng: np.random.Generator) -> Ints:
    return _resampled(counts, np.bincount(code, counts) // 2, code, rng)


def _read_counts(
    before: npt.ArrayLike, after: npt.ArrayLike, problem: npt.ArrayLike
) -> tuple[Ints, Ints, Ints]:
    n, m = (
        whole_numbers(np.asarray(v), name) for name, v in (("before", before), ("after", after))
    )
    for name, array in (("before", n), ("after", m)):
        if array.ndim != 1 or not len(array):
            raise ValueError(f"{name} must have shape (n_modes,), not {array.shape}")
        refuse_entry(array < 0, array, name, "; a count must not be negative")
    if len(n) != len(m):
        raise ValueError(f"before has {len(n)} modes, but after {len(m)}")
    return n, m, problem_codes(problem, len(n))[0]
