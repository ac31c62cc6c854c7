"""Sums over the modes of each problem, which slopes from log-probabilities and from counts need.

Modes are rows; ``code`` numbers the problem of each, without gaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.stats.resampling import Resampling
from passk_lab.teacher._arguments import Floats, Ints, refuse_entry, refuse_row

LARGEST_SLOPE = 64.0


def problem_codes(problem: npt.ArrayLike, size: int) -> tuple[Ints, npt.NDArray[np.object_]]:
    """Number each mode's problem; and the problems' labels."""
    labels = np.asarray(problem, dtype=object)
    if labels.shape != (size,):
        raise ValueError(
            f"problem has shape {labels.shape}; give one label for each of {size} modes"
        )
    refuse_entry(pd.isna(labels), labels, "problem", ", missing; every mode needs its own")
    code, unique = pd.factorize(labels)
    return code.astype(np.int64), np.asarray(unique, dtype=object)


def refuse_twice(table: pd.DataFrame, keys: list[str], source: str) -> None:
    """ValueError names an answer that occurs twice."""
    refuse_row(
        table.duplicated(keys),
        f"{source}: row {{row}}: answer {{1!r}} of problem {{0!r}} occurs twice; keep one run and "
        "seed",
        table[["problem_id", "answer"]],
    )


def least_squares(x: Floats, y: Floats, code: Ints, instrument: Floats | None = None) -> Floats:
    """Each problem's numerator and denominator, shape (n_problems, 2); 0 where it has no slope."""
    z = x if instrument is None else instrument
    size = int(code.max(initial=-1)) + 1
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    x, y, z, code = x[keep], y[keep], z[keep], code[keep]
    total = np.bincount(code, minlength=size)

    def centred(values: Floats) -> Floats:
        means = np.bincount(code, values, size) / np.maximum(total, 1)
        return np.asarray(values - means[code])

    instrument = centred(z)
    # Rounding leaves traces of variance where all modes are equally likely.
    instrument[np.abs(instrument) <= 1e-12 * (1 + np.abs(z))] = 0.0
    sums = [np.bincount(code, instrument * centred(v), size) for v in (y, x)]
    return np.where(total[:, None] < 2, 0.0, np.stack(sums, axis=1))


def pooled(moments: Floats) -> float:
    """Slope over all problems, NaN if there is none."""
    numerator, denominator = moments.sum(axis=0)
    return float(numerator / denominator) if denominator else float("nan")


def log_sums(logs: Floats, code: Ints, size: int) -> Floats:
    """Logarithm of each problem's sum, -inf for nothing."""
    top = np.full(size, -np.inf)
    np.maximum.at(top, code, logs)
    shift = np.where(top > -np.inf, top, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.bincount(code, np.exp(logs - shift[code]), size))


def narrowing(x: Floats, y: Floats, code: Ints) -> dict[str, Floats]:
    """KL after from before, effective modes before and after, of each problem."""
    size = int(code.max(initial=-1)) + 1
    with np.errstate(invalid="ignore"):  # NaN where all modes are lost
        log_p, log_q = (logs - log_sums(logs, code, size)[code] for logs in (x, y))
        p, q = np.exp(log_p), np.exp(log_q)
        terms = np.where(q == 0, 0.0, q * (log_q - log_p))
    return {
        "kl": np.maximum(np.bincount(code, terms, size), 0.0),
        "effective_before": 1 / np.bincount(code, p**2, size),
        "effective_after": 1 / np.bincount(code, q**2, size),
    }


def narrowing_rows(
    estimator: str, x: Floats, y: Floats, code: Ints, bootstrap: Resampling, n_seeds: int = 1
) -> list[dict[str, Any]]:
    """Means over problems of what `narrowing` finds, one row a quantity."""
    rows = []
    for quantity, found in narrowing(x, y, code).items():
        values = found.reshape(n_seeds, -1)
        known = values[:, ~np.isnan(values).any(axis=0)]
        size = known.shape[1]
        low = high = np.full(1, np.nan)
        if size > 1 and np.isfinite(known).all():
            low, high = bootstrap.interval(known[:, :, None])
        rows.append(
            {
                "quantity": quantity,
                "estimator": estimator,
                "estimate": float(known.mean()) if size else np.nan,
                "low": float(low[0]),
                "high": float(high[0]),
                "n_problems": size,
                "n_left_out": values.shape[1] - size,
                "n_modes": len(x),
            }
        )
    return rows


def ratio_row(moments: Floats, bootstrap: Resampling) -> dict[str, Any]:
    """Slope of moments [seeds, problems, 2], pooled."""
    size = moments.shape[1]
    low = high = np.nan
    if size > 1:
        drawn = bootstrap.replicates(moments)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = bounded_ends(drawn[:, 0] / drawn[:, 1], bootstrap, size)
    estimate = pooled(moments.sum(axis=0))
    return {"estimate": estimate, "low": low, "high": high, "n_problems": size}


def bounded_ends(slopes: Floats, bootstrap: Resampling, n_problems: int) -> tuple[float, float]:
    """Percentiles between which nothing infinite is interpolated."""
    bounded = np.clip(slopes[~np.isnan(slopes)], -LARGEST_SLOPE, LARGEST_SLOPE)
    if not len(bounded):
        return np.nan, np.nan
    ends = np.ravel(bootstrap.percentiles(bounded[:, None], n_problems))
    low, high = np.where(np.abs(ends) >= LARGEST_SLOPE, np.copysign(np.inf, ends), ends).tolist()
    return low, high


def outcome(p: Floats, ks: Ints) -> dict[str, float]:
    """pass@k, distinct@k and effective answers of probabilities of one problem's correct modes."""
    accuracy = min(float(p.sum()), 1.0)
    found = {f"pass@{k}": 1 - (1 - accuracy) ** k for k in ks}
    found |= {f"distinct@{k}": float((1 - (1 - p) ** k).sum()) for k in ks}
    square = float((p**2).sum())
    found["effective_answers"] = accuracy**2 / square if square else np.nan
    return found
