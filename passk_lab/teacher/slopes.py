"""Gap amplification: does training stretch the log-odds between correct answers?

Over the correct answers (modes) i of a problem x, log p′_i = λ log p_i + k_x: λ = 1 keeps ratios,
as the optimum of KL-regularised reinforcement learning does, λ > 1 widens gaps. The intercept k_x
takes up how much more often the problem is solved. From best to worst, λ comes from

1. exact log-probabilities, or teacher-forced ones of a fixed set of rollouts (`slope_table`);
2. counts of modes among rollouts (`count_slope_table`), by the likelihood of the counts after
   training given the base's frequencies. Least squares on log counts is biased, as the regressor is
   noisy: without any change it says 0.8 with 64 samples of 8 modes. It is there for comparison.

λ is one number and hides curvature, so every table also has KL(p′(.|Y⁺) ‖ p(.|Y⁺)) and effective
modes 1/Σp² before and after. Every table holds two controls on the same data: the null, base
against base, and ideal reinforcement learning at the accuracy reached on each problem. What they
deviate from 1 (or 0 nats), the trained model's estimate may deviate, too. Intervals resample
problems, with all their modes, and seeds where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.passk import whole_numbers
from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats.intervals import bootstrap_replicates, percentiles
from passk_lab.stats.seeds import problem_weights, seed_replicates
from passk_lab.teacher._arguments import log_vector, require_columns

__all__ = [
    "COUNT_ESTIMATORS",
    "count_slope",
    "count_slope_table",
    "gap_slope",
    "mode_changes",
    "paired_counts",
    "paired_logprobs",
    "predicted_slope",
    "slope_table",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RandomState = int | np.random.Generator | None

COUNT_ESTIMATORS = ("multinomial", "ols_plus_half", "ols_seen_only", "split_half_iv")

_LARGEST_SLOPE = 64.0
_BLOCK = 1 << 20  # numbers held at once: 8 MB


# --- Arrays ---


def gap_slope(
    log_before: npt.ArrayLike,
    log_after: npt.ArrayLike,
    problem: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Least-squares slope with an intercept for each problem.

    Parameters
    ----------
    log_before, log_after : array_like, shape (n_modes,)
        Log-probabilities of correct modes, nats. Modes with -inf in either are left out.
    problem : array_like, shape (n_modes,)
        Label of each mode's problem.
    weights : array_like, shape (n_modes,), optional
        Positive; 1 by default.

    Returns
    -------
    float
        NaN if no problem has two modes of different probability.

    Raises
    ------
    ValueError
        Shapes differ, a value is NaN or +inf, a weight isn't positive.

    Examples
    --------
    >>> before = np.log([0.4, 0.2, 0.5, 0.1])
    >>> after = 1.5 * before + [0.3, 0.3, -1, -1]
    >>> round(gap_slope(before, after, list("aabb")), 12)
    1.5
    """
    x, y = (
        log_vector(log_before, "log_before", "n_modes"),
        log_vector(log_after, "log_after", "n_modes"),
    )
    code, _ = _codes(problem, len(x))
    if len(y) != len(x):
        raise ValueError(f"log_before has {len(x)} modes, but log_after {len(y)}")
    return _ratio(_least_squares(x, y, code, _positive(weights, len(x))))


def predicted_slope(
    log_before: npt.ArrayLike,
    tilt: npt.ArrayLike,
    problem: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Slope that a tilt leads to, 1 + cov(s, log π)/var(log π), before any training.

    Parameters
    ----------
    log_before : array_like, shape (n_modes,)
        log π of correct modes, nats.
    tilt : array_like, shape (n_modes,)
        Expected PCMI s, nats, times the weight of the trust region if there is one. -inf leaves
        the mode out: it is lost, which no slope describes.
    problem, weights
        As for `gap_slope`; covariance and variance are within problems.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As for `gap_slope`.

    Examples
    --------
    >>> predicted_slope(np.log([0.5, 0.25]), [np.log(2), 0.0], ["a", "a"])
    2.0
    """
    x = log_vector(log_before, "log_before", "n_modes")
    return gap_slope(x, x + log_vector(tilt, "tilt", "n_modes"), problem, weights)


def count_slope(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    problem: npt.ArrayLike,
    smoothing: float = 0.5,
) -> float:
    """Slope from counts by maximum likelihood.

    Maximises Σ_x Σ_i n′_i log [p̂_i^λ / Σ_j p̂_j^λ], p̂ the base's smoothed frequencies. The two sets
    of rollouts must be independent.

    Parameters
    ----------
    before, after : array_like of int, shape (n_modes,)
        How often the base and the trained model gave each correct mode. A mode that only one of
        them gave belongs in, with a 0.
    problem : array_like, shape (n_modes,)
    smoothing : float
        Added to each count of ``before``, positive.

    Returns
    -------
    float
        Infinite if each problem's rollouts after all have its most frequent mode (or its rarest:
        minus infinity), or if it lies beyond 64; NaN if no problem has modes of different
        frequency.

    Raises
    ------
    ValueError
        Shapes differ, a count is negative or not whole, smoothing isn't positive.

    Examples
    --------
    >>> round(count_slope([600, 300, 100], [842, 149, 9], ["a"] * 3), 1)
    2.5
    """
    n, m, code = _read_counts(before, after, problem)
    likelihood = _likelihood(n, m, code, smoothing)
    return float(likelihood.maximum(np.ones((1, likelihood.n_problems)))[0])


@dataclass(frozen=True)
class _Likelihood:
    """Of the counts after given log-frequencies before, for many weightings of the problems."""

    logs: Floats  # (n_modes,), by problem, each problem's largest is 0
    starts: npt.NDArray[np.intp]  # (n_problems,)
    score: Floats  # (n_problems,), sum over modes of n' log p
    total: Floats  # (n_problems,), sum of n'
    at_top: npt.NDArray[np.bool_]  # (n_problems,), only the most frequent modes occur after
    at_bottom: npt.NDArray[np.bool_]

    @property
    def n_problems(self) -> int:
        return len(self.starts)

    @property
    def informative(self) -> npt.NDArray[np.bool_]:
        return (np.minimum.reduceat(self.logs, self.starts) < 0) & (self.total > 0)

    def maximum(self, weights: Floats, start: float = 1.0) -> Floats:
        """Best λ of each row of weights, shape (n_rows,), looked for from a first guess."""
        result = np.empty(len(weights))
        height = max(1, _BLOCK // max(len(self.logs), 1))
        for first in range(0, len(weights), height):
            part = slice(first, first + height)
            result[part] = self._newton(weights[part], start)
        return result

    def _slope(self, lam: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """First and second derivative; the second is never positive."""
        powers = np.exp(lam[:, None] * self.logs - np.maximum(-lam[:, None], 0) * self._span)

        def total(values: Floats) -> Floats:
            return np.asarray(np.add.reduceat(values, self.starts, axis=1))

        mass = total(powers)
        mean = total(powers * self.logs) / mass
        square = total(powers * self.logs**2) / mass
        first = (weights * (self.score - self.total * mean)).sum(axis=1)
        second = -(weights * self.total * np.maximum(square - mean**2, 0)).sum(axis=1)
        return first, second

    @property
    def _span(self) -> Floats:
        sizes = np.diff(np.append(self.starts, len(self.logs)))
        return np.repeat(-np.minimum.reduceat(self.logs, self.starts), sizes)

    def _newton(self, weights: Floats, start: float) -> Floats:
        low = np.full(len(weights), -_LARGEST_SLOPE)
        high = np.full(len(weights), _LARGEST_SLOPE)
        lam = np.full(len(weights), start)
        for _ in range(100):
            first, second = self._slope(lam, weights)
            low, high = np.where(first > 0, lam, low), np.where(first > 0, high, lam)
            step = np.divide(first, -second, out=np.zeros_like(first), where=second < 0)
            new = lam + step
            # The likelihood is concave, so that the bracket can only shrink.
            new = np.where((new > low) & (new < high) & (second < 0), new, (low + high) / 2)
            done = np.abs(new - lam) <= 1e-10 * (1 + np.abs(lam))
            lam = new
            if done.all():
                break
        used = (weights > 0) & self.informative
        lam = np.where(np.abs(lam) > 0.999 * _LARGEST_SLOPE, np.copysign(np.inf, lam), lam)
        lam = np.where((self.at_top | ~used).all(axis=1), np.inf, lam)
        lam = np.where((self.at_bottom | ~used).all(axis=1), -np.inf, lam)
        return np.where(used.any(axis=1), lam, np.nan)


def _likelihood(before: Ints, after: Ints, code: Ints, smoothing: float) -> _Likelihood:
    if not 0 < smoothing < np.inf:
        raise ValueError(f"smoothing={smoothing} must be positive: a mode may be unseen before")
    order = np.argsort(code, kind="stable")
    code, after = code[order], after[order]
    new = np.diff(code, prepend=-1) > 0
    starts, place = np.flatnonzero(new), np.cumsum(new) - 1
    logs = np.log(before[order] + smoothing)
    logs = logs - np.maximum.reduceat(logs, starts)[place]
    score = np.add.reduceat(after * logs, starts)
    total = np.add.reduceat(after, starts).astype(float)
    lowest = np.minimum.reduceat(logs, starts)[place]
    return _Likelihood(
        logs,
        starts,
        score,
        total,
        np.add.reduceat(after * (logs < 0), starts) == 0,
        np.add.reduceat(after * (logs > lowest), starts) == 0,
    )


def _least_squares(
    x: Floats, y: Floats, code: Ints, weights: Floats, instrument: Floats | None = None
) -> Floats:
    """Each problem's numerator and denominator, shape (n_problems, 2); 0 where it has no slope."""
    z = x if instrument is None else instrument
    size = int(code.max()) + 1
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    x, y, z, code, w = x[keep], y[keep], z[keep], code[keep], weights[keep]
    total = np.bincount(code, w, size)

    def centred(values: Floats) -> Floats:
        sums = np.bincount(code, w * values, size)
        means = np.divide(sums, total, out=np.zeros(size), where=total > 0)
        return np.asarray(values - means[code])

    instrument = w * centred(z)
    # Rounding leaves traces of variance where all modes are equally likely.
    instrument[np.abs(instrument) <= 1e-12 * (1 + np.abs(z)) * w] = 0.0
    alone = np.bincount(code, minlength=size) < 2
    sums = [np.bincount(code, instrument * centred(v), size) for v in (y, x)]
    return np.where(alone[:, None], 0.0, np.stack(sums, axis=1))


def _ratio(moments: Floats) -> float:
    numerator, denominator = moments.sum(axis=0)
    return float(numerator / denominator) if denominator else float("nan")


# --- Tables ---


def paired_logprobs(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Put the exact or scored log-probabilities of two models side by side.

    Parameters
    ----------
    before, after : DataFrame
        Columns ``problem_id, answer, logprob`` (nats) of one run and seed each, as the policies
        table has them.

    Returns
    -------
    DataFrame
        Columns ``problem_id, answer, logprob_before, logprob_after``, in the order of ``before``.

    Raises
    ------
    ValueError
        A column is missing; an answer occurs twice, or in one table only.

    Examples
    --------
    >>> base = pd.DataFrame({"problem_id": "a", "answer": ["x", "y"], "logprob": [-1.0, -2.0]})
    >>> paired_logprobs(base, base.assign(logprob=[-0.5, -3.0]))
      problem_id answer  logprob_before  logprob_after
    0          a      x            -1.0           -0.5
    1          a      y            -2.0           -3.0
    """
    keys = ["problem_id", "answer"]
    for name, table in (("before", before), ("after", after)):
        require_columns(table, [*keys, "logprob"], name)
        _refuse_twice(table, keys, name)
    both = before[[*keys, "logprob"]].merge(
        after[[*keys, "logprob"]], on=keys, how="outer", suffixes=("_before", "_after"),
        indicator=True,
    )  # fmt: skip
    odd = both["_merge"] != "both"
    if odd.any():
        row = both[odd].iloc[0]
        side = "before" if row["_merge"] == "left_only" else "after"
        raise ValueError(
            f"answer {row['answer']!r} of problem {row['problem_id']!r} is in {side!r} only; score "
            "the same answers with both models"
        )
    order = before[keys].merge(both.drop(columns="_merge"), on=keys, how="left")
    return order


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
        The tables differ in their problems; ``answer`` is missing, or is so for a correct rollout.

    Examples
    --------
    >>> base = pd.DataFrame({"problem_id": "a", "correct": True, "answer": ["x", "x", "y"]})
    >>> paired_counts(base, base.assign(answer=["x", "z", "x"])).values.tolist()
    [['a', 'x', 2, 2], ['a', 'y', 1, 0], ['a', 'z', 0, 1]]
    """
    tables = {}
    for name, rollouts in (("before", before), ("after", after)):
        table = validate_rollouts(rollouts, name)
        require_columns(table, ["answer"], name)
        bad = (table["correct"] & table["answer"].isna()).to_numpy()
        if bad.any():
            raise ValueError(
                f"{name}: column 'answer', row {int(np.argmax(bad))}: a correct rollout has no "
                "answer; give its canonical form"
            )
        tables[name] = table
    problems = {name: set(table["problem_id"]) for name, table in tables.items()}
    odd = problems["before"] ^ problems["after"]
    if odd:
        raise ValueError(
            f"problem {min(odd)!r} is in one table only; sample the same problems from both models"
        )
    counted = [
        table[table["correct"]].groupby(["problem_id", "answer"]).size().rename(name)
        for name, table in tables.items()
    ]
    both = pd.concat(counted, axis=1).fillna(0).astype("int64").reset_index()
    unsolved = sorted(problems["before"] - set(both["problem_id"]))
    if unsolved:
        empty = pd.DataFrame({"problem_id": unsolved, "answer": None, "before": 0, "after": 0})
        both = pd.concat([both, empty.astype(both.dtypes.to_dict())], ignore_index=True)
    return both.sort_values(["problem_id", "answer"], ignore_index=True)


def mode_changes(modes: pd.DataFrame) -> pd.DataFrame:
    """What training did to the correct modes of each problem.

    Parameters
    ----------
    modes : DataFrame
        As for `slope_table`.

    Returns
    -------
    DataFrame
        Columns ``problem_id, n_modes, n_lost, slope, kl, effective_before, effective_after``, one
        row a problem. ``n_lost`` counts modes of probability 0 on either side. ``slope`` is NaN
        with fewer than two others, or where the base finds all equally likely. ``kl`` (nats) is
        that of the law among the listed modes after training from the one before; it and
        ``effective_after`` are NaN where training lost all of them.

    Raises
    ------
    ValueError
        As for `slope_table`.

    Examples
    --------
    >>> modes = pd.DataFrame({"problem_id": "a", "logprob_before": np.log([0.5, 0.25]),
    ...                       "logprob_after": np.log([0.8, 0.2])})
    >>> mode_changes(modes).round(3).values.tolist()
    [['a', 2, 0, 2.0, 0.044, 1.8, 1.471]]
    """
    table = _read_modes(modes)
    code, labels = _codes(table["problem_id"], len(table))
    x, y = table["logprob_before"].to_numpy(float), table["logprob_after"].to_numpy(float)
    moments = _least_squares(x, y, code, _positive(table.get("weight"), len(table)))
    slopes = np.full(len(labels), np.nan)
    np.divide(moments[:, 0], moments[:, 1], out=slopes, where=moments[:, 1] > 0)
    kl, effective_before, effective_after = _narrowing(x, y, code)
    return pd.DataFrame(
        {
            "problem_id": labels,
            "n_modes": np.bincount(code),
            "n_lost": np.bincount(code, ~(np.isfinite(x) & np.isfinite(y))).astype(int),
            "slope": slopes,
            "kl": kl,
            "effective_before": effective_before,
            "effective_after": effective_after,
        }
    )


def slope_table(
    modes: pd.DataFrame,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Slope, KL and effective modes from log-probabilities, with controls.

    Parameters
    ----------
    modes : DataFrame
        One row a correct mode: ``problem_id, logprob_before, logprob_after`` (nats, under base
        and trained model). Optional: ``answer``, against duplicates; ``correct``, where false rows
        are passed over; ``weight``; ``tilt`` (s, nats), which adds the predicted policy;
        ``logprob_null``, the base scored a second time or by another seed; ``seed``, where several
        models were trained: estimates are over all of them, and intervals resample the seeds, too
        (see `passk_lab.stats.seeds.crossed_bootstrap`).
    confidence : float
    n_resamples : int
    random_state : int, Generator or None

    Returns
    -------
    DataFrame
        Columns ``comparison, quantity, estimator, estimate, low, high, n_problems, n_left_out,
        n_modes, n_lost``, the last two over all seeds. Comparisons are "trained", "predicted",
        "null" and "ideal_rl"; quantities "slope", "kl" (nats), "effective_before",
        "effective_after". ``n_left_out``
        problems have no such quantity (for a slope: fewer than two modes of different
        probability), ``n_lost`` modes have probability 0. Without two problems, intervals are NaN.

    Raises
    ------
    ValueError
        A column is missing; a log-probability is NaN or positive; an answer occurs twice; the base
        gives none of a problem's modes; seeds differ in their problems.

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
    trained = table["logprob_after"].to_numpy(float)
    after = {"trained": trained}
    if "tilt" in table.columns:
        after["predicted"] = before + table["tilt"].to_numpy(float)
    after["null"] = table.get("logprob_null", table["logprob_before"]).to_numpy(float)
    # Within a problem RL at the same accuracy multiplies all correct answers by one factor.
    gain = [_log_sum(v, code, n_seeds * n_problems) for v in (trained, before)]
    with np.errstate(invalid="ignore"):
        after["ideal_rl"] = before + (gain[0] - gain[1])[code]
    weights = _positive(table.get("weight"), len(table))
    rng = np.random.default_rng(random_state)
    rows: list[dict[str, Any]] = []
    for comparison, log_after in after.items():
        finite = np.isfinite(before) & np.isfinite(log_after)
        moments = _least_squares(before, log_after, code, weights).reshape(n_seeds, -1, 2)
        some = np.any(moments[:, :, 1] > 0, axis=0)
        settings = (confidence, n_resamples, rng)
        rows.append(
            {
                "comparison": comparison,
                "quantity": "slope",
                "estimator": "least_squares",
                **_of_ratio(moments[:, some], *settings),
                "n_left_out": int((~some).sum()),
                "n_modes": int((finite & np.take(some, code % n_problems)).sum()),
                "n_lost": int((~finite).sum()),
            }
        )
        rows += _narrowing_rows(
            comparison, "exact", before, log_after, code, settings, int((~finite).sum()), n_seeds
        )
    return pd.DataFrame(rows)


def count_slope_table(
    counts: pd.DataFrame,
    estimators: Sequence[str] = COUNT_ESTIMATORS,
    smoothing: float = 0.5,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Slope, KL and effective modes from counts, with controls.

    The estimators: "multinomial" is `count_slope`. The others compare, for the record:
    "ols_plus_half" regresses log(n′ + ½) on log(n + ½), "ols_seen_only" the logarithms of modes
    that both saw, "split_half_iv" instruments one half of the base's rollouts with the other.

    Parameters
    ----------
    counts : DataFrame
        As `paired_counts` returns it: ``problem_id, answer, before, after``. With a column
        ``null``, counts of a second set of the base's rollouts, the controls use these; without,
        the base's rollouts are split into halves, so that the controls have half the samples and
        somewhat more bias.
    estimators : sequence of str
        Some of `COUNT_ESTIMATORS`.
    smoothing : float
        Of the base's frequencies for "multinomial".
    confidence, n_resamples, random_state
        As for `slope_table`.

    Returns
    -------
    DataFrame
        Columns as of `slope_table`. Comparisons are "trained", "null" (base on base) and
        "ideal_rl": correct answers drawn in the base's proportions, as many as the trained model
        gave. ``kl`` and effective modes have ½ added to each count and are biased; the controls
        show by how much. A problem that one side never solved is left out and counted.

    Raises
    ------
    ValueError
        A column is missing; a count is negative or not whole; an answer occurs twice; an
        estimator is unknown.

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
        if name not in COUNT_ESTIMATORS:
            raise ValueError(f"estimator {name!r} is none of {', '.join(COUNT_ESTIMATORS)}")
    require_columns(counts, ["problem_id", "answer", "before", "after"], "counts")
    _refuse_twice(counts, ["problem_id", "answer"], "counts")
    before, after, code = _read_counts(counts["before"], counts["after"], counts["problem_id"])
    rng = np.random.default_rng(random_state)
    if "null" in counts.columns:
        null = _read_counts(counts["before"], counts["null"], counts["problem_id"])[1]
        reference = before
    else:
        reference = _half(before, code, rng)
        null = before - reference
    comparisons = {
        "trained": (before, after),
        "null": (reference, null),
        "ideal_rl": (reference, _redrawn(null, after, code, rng)),
    }
    rows: list[dict[str, Any]] = []
    for comparison, (n, m) in comparisons.items():
        settings = (confidence, n_resamples, rng)
        size = int(code.max()) + 1
        solved = (np.bincount(code, n, size) > 0) & (np.bincount(code, m, size) > 0)
        keep = solved[code]
        kept = np.unique(code[keep], return_inverse=True)[1]
        for name in estimators:
            rows.append(
                {
                    "comparison": comparison,
                    "quantity": "slope",
                    "estimator": name,
                    **_count_row(name, n[keep], m[keep], kept, size, smoothing, settings),
                }
            )
        x, y = np.log(n[keep] + 0.5), np.log(m[keep] + 0.5)
        for row in _narrowing_rows(comparison, "plus_half", x, y, kept, settings, 0):
            row["n_left_out"] += int((~solved).sum())
            rows.append(row)
    return pd.DataFrame(rows)


def _count_row(
    name: str,
    n: Ints,
    m: Ints,
    code: Ints,
    size: int,
    smoothing: float,
    settings: tuple[float, int, np.random.Generator],
) -> dict[str, Any]:
    nothing = {"estimate": np.nan, "low": np.nan, "high": np.nan, "n_problems": 0}
    if not len(n):
        return {**nothing, "n_left_out": size, "n_modes": 0, "n_lost": 0}
    seen = np.ones(len(n), dtype=bool)
    if name == "multinomial":
        likelihood = _likelihood(n, m, code, smoothing)
        some = likelihood.informative
        found = _of_likelihood(likelihood, *settings)
    else:
        x, y = np.log(n + 0.5), np.log(m + 0.5)
        instrument = None
        if name == "ols_seen_only":
            seen = (n > 0) & (m > 0)
            x, y = np.where(seen, x, -np.inf), np.where(seen, y, -np.inf)
            x[seen], y[seen] = np.log(n[seen]), np.log(m[seen])
        elif name == "split_half_iv":
            half = _half(n, code, settings[2])
            x, instrument = np.log(half + 0.5), np.log(n - half + 0.5)
        moments = _least_squares(x, y, code, np.ones(len(n)), instrument)
        some = (moments != 0).any(axis=1)
        found = _of_ratio(moments[None, some], *settings)
    return {
        **found,
        "n_left_out": size - int(some.sum()),
        "n_modes": int((seen & some[code]).sum()),
        "n_lost": int((~seen).sum()),
    }


def _of_ratio(
    moments: Floats, confidence: float, n_resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    size = moments.shape[1]
    result = {"estimate": np.nan, "low": np.nan, "high": np.nan, "n_problems": size}
    if size:
        result["estimate"] = _ratio(moments.sum(axis=0))
    if size > 1:
        drawn = _replicates(moments, n_resamples, rng)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = drawn[:, :1] / drawn[:, 1:]
        result["low"], result["high"] = _ends(ratios[:, 0], confidence, size)
    return result


def _replicates(values: Floats, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Means over resampled problems and seeds of values [seeds, problems, columns]."""
    if len(values) == 1:
        return bootstrap_replicates(values[0], n_resamples, rng)
    return seed_replicates(values, problem_weights(values.shape[1], n_resamples, rng), rng)


def _of_likelihood(
    likelihood: _Likelihood, confidence: float, n_resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    some = likelihood.informative
    size = int(some.sum())
    estimate = float(likelihood.maximum(np.ones((1, len(some))))[0])
    result = {"estimate": estimate, "low": np.nan, "high": np.nan, "n_problems": size}
    if size > 1:
        weights = np.zeros((n_resamples, len(some)))
        weights[:, some] = rng.multinomial(size, np.full(size, 1 / size), size=n_resamples)
        drawn = likelihood.maximum(weights, estimate if np.isfinite(estimate) else 1.0)
        result["low"], result["high"] = _ends(drawn, confidence, size)
    return result


def _ends(drawn: Floats, confidence: float, n_problems: int) -> tuple[float, float]:
    """Percentiles between which nothing infinite is interpolated."""
    bounded = np.clip(drawn[~np.isnan(drawn)], -_LARGEST_SLOPE, _LARGEST_SLOPE)
    if not len(bounded):
        return np.nan, np.nan
    ends = np.ravel(percentiles(bounded[:, None], confidence, n_problems))
    low, high = np.where(np.abs(ends) >= _LARGEST_SLOPE, np.copysign(np.inf, ends), ends).tolist()
    return low, high


def _narrowing_rows(
    comparison: str,
    estimator: str,
    x: Floats,
    y: Floats,
    code: Ints,
    settings: tuple[float, int, np.random.Generator],
    n_lost: int,
    n_seeds: int = 1,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    quantities: Sequence[Floats] = _narrowing(x, y, code) if len(x) else [np.empty(0)] * 3
    for name, found in zip(("kl", "effective_before", "effective_after"), quantities, strict=True):
        values = found.reshape(n_seeds, -1)
        known = values[:, ~np.isnan(values).any(axis=0)]
        confidence, n_resamples, rng = settings
        low = high = np.nan
        if known.shape[1] > 1 and np.isfinite(known).all():
            drawn = _replicates(known[:, :, None], n_resamples, rng)
            ends = percentiles(drawn, confidence, known.shape[1])
            low, high = float(ends[0][0]), float(ends[1][0])
        rows.append(
            {
                "comparison": comparison,
                "quantity": name,
                "estimator": estimator,
                "estimate": float(known.mean()) if known.size else np.nan,
                "low": low,
                "high": high,
                "n_problems": known.shape[1],
                "n_left_out": values.shape[1] - known.shape[1],
                "n_modes": len(x),
                "n_lost": n_lost,
            }
        )
    return rows


def _narrowing(x: Floats, y: Floats, code: Ints) -> tuple[Floats, Floats, Floats]:
    """KL after from before, effective modes before and after, of each problem."""
    size = int(code.max()) + 1
    total_x, total_y = _log_sum(x, code, size), _log_sum(y, code, size)
    lost = total_y == -np.inf
    log_p = x - total_x[code]
    log_q = np.full(len(y), -np.inf)
    np.subtract(y, total_y[code], out=log_q, where=~lost[code])
    p, q = np.exp(log_p), np.exp(log_q)
    terms = np.zeros(len(x))
    new = (q > 0) & (log_p == -np.inf)
    old = (q > 0) & ~new
    terms[old] = q[old] * (log_q[old] - log_p[old])
    terms[new] = np.inf
    kl = np.maximum(np.bincount(code, terms, size), 0.0)
    squares = np.bincount(code, q**2, size)
    effective_after = np.divide(1.0, squares, out=np.full(size, np.nan), where=~lost)
    return np.where(lost, np.nan, kl), 1 / np.bincount(code, p**2, size), effective_after


def _log_sum(logs: Floats, code: Ints, size: int) -> Floats:
    top = np.full(size, -np.inf)
    np.maximum.at(top, code, logs)
    shift = np.where(top > -np.inf, top, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.bincount(code, np.exp(logs - shift[code]), size))


def _half(counts: Ints, code: Ints, rng: np.random.Generator) -> Ints:
    """Draw half of each problem's rollouts."""
    half = np.zeros_like(counts)
    for rows in _rows_of(code):
        total = int(counts[rows].sum())
        if total:
            half[rows] = rng.multivariate_hypergeometric(
                counts[rows], total // 2, method="marginals"
            )
    return half


def _redrawn(null: Ints, after: Ints, code: Ints, rng: np.random.Generator) -> Ints:
    """Draw as many rollouts as there are after training, in the proportions of the base's.

    Without replacement, after as many copies of all as fit in: drawing with it would add noise
    to that of the base's rollouts.
    """
    drawn = np.zeros_like(null)
    for rows in _rows_of(code):
        total = int(null[rows].sum())
        if total:
            copies, rest = divmod(int(after[rows].sum()), total)
            drawn[rows] = copies * null[rows] + rng.multivariate_hypergeometric(
                null[rows], rest, method="marginals"
            )
    return drawn


def _rows_of(code: Ints) -> list[npt.NDArray[np.intp]]:
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


# --- Arguments ---


def _codes(problem: npt.ArrayLike, size: int) -> tuple[Ints, npt.NDArray[np.object_]]:
    labels = np.asarray(problem, dtype=object)
    if labels.shape != (size,):
        raise ValueError(
            f"problem has shape {labels.shape}; give one label for each of {size} modes"
        )
    missing = pd.isna(labels)
    if missing.any():
        raise ValueError(f"problem[{int(np.argmax(missing))}] is missing; every mode needs its own")
    code, unique = pd.factorize(labels)
    return code.astype(np.int64), np.asarray(unique, dtype=object)


def _seeds_and_problems(table: pd.DataFrame) -> tuple[Ints, int, int]:
    """Give each row seed * n_problems + problem, and the numbers of seeds and problems."""
    code, labels = _codes(table["problem_id"], len(table))
    if "seed" not in table.columns:
        return code, 1, len(labels)
    seed, seeds = _codes(table["seed"], len(table))
    there = np.zeros((len(seeds), len(labels)), dtype=bool)
    there[seed, code] = True
    if not there.all():
        at, problem = np.argwhere(~there)[0]
        raise ValueError(
            f"modes: column 'seed': seed {seeds[at]} has no mode of problem {labels[problem]!r}; "
            "score every seed on the same problems"
        )
    return seed * len(labels) + code, len(seeds), len(labels)


def _positive(weights: npt.ArrayLike | None, size: int) -> Floats:
    if weights is None:
        return np.ones(size)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"weights has shape {array.shape}; give one for each of {size} modes")
    bad = ~((array > 0) & (array < np.inf))
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"weights[{at}] is {array[at]}; weights must be positive")
    return array


def _read_counts(
    before: npt.ArrayLike, after: npt.ArrayLike, problem: npt.ArrayLike
) -> tuple[Ints, Ints, Ints]:
    arrays = []
    for name, values in (("before", before), ("after", after)):
        array = whole_numbers(np.asarray(values), name)
        if array.ndim != 1 or not len(array):
            raise ValueError(f"{name} must have shape (n_modes,), not {array.shape}")
        if (array < 0).any():
            at = int(np.argmax(array < 0))
            raise ValueError(f"{name}[{at}] is {array[at]}; a count must not be negative")
        arrays.append(array)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(f"before has {len(arrays[0])} modes, but after {len(arrays[1])}")
    return arrays[0], arrays[1], _codes(problem, len(arrays[0]))[0]


def _refuse_twice(table: pd.DataFrame, keys: list[str], source: str) -> None:
    twice = table.duplicated(keys).to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        raise ValueError(
            f"{source}: row {row}: answer {table['answer'].iloc[row]!r} of problem "
            f"{table['problem_id'].iloc[row]!r} occurs twice; keep one run and seed"
        )


def _read_modes(modes: pd.DataFrame) -> pd.DataFrame:
    names = ["logprob_before", "logprob_after"]
    require_columns(modes, ["problem_id", *names], "modes")
    table = modes.reset_index(drop=True)
    if "answer" in table.columns:
        keys = ["problem_id", "answer"] + ["seed"] * ("seed" in table.columns)
        _refuse_twice(table, keys, "modes")
    checks: list[tuple[str, Callable[[Floats], npt.NDArray[np.bool_]], str]] = [
        (name, lambda v: ~(v <= 1e-9), "is no log-probability; it must be at most 0")
        for name in [*names, "logprob_null"]
    ]
    checks.append(("tilt", lambda v: ~(v < np.inf), "is no tilt; it must be finite or -inf"))
    for name, wrong, message in checks:
        if name in table.columns:
            bad = wrong(table[name].to_numpy(float))
            if bad.any():
                row = int(np.argmax(bad))
                raise ValueError(
                    f"modes: column {name!r}, row {row}: {table[name].iloc[row]} {message}"
                )
    if "correct" in table.columns:
        table = table[table["correct"].astype(bool)].reset_index(drop=True)
    if not len(table):
        raise ValueError("modes: there is no correct mode; nothing to compare")
    none = table.groupby("problem_id")["logprob_before"].max() == -np.inf
    if none.any():
        raise ValueError(
            f"modes: column 'logprob_before': the base gives none of the modes of problem "
            f"{none.index[none][0]!r}; leave the problem out and report that"
        )
    return table
