r"""pass@k beyond the number of samples n.

How many unsolved problems would be solved by more samples depends on how many have a tiny accuracy
p, and n samples can't tell p = 0 from p far below 1/n. For large k that decides everything: pass@k
misses 1 by about k^-b where the density of p is about p^(b-1) near 0 [1]. So there are two answers:

- **Bounds**: the smallest and largest pass@k over all distributions of p that agree with the
  counts, found by linear programming. They assume nothing and hold for any k.
- **Fits**: a beta distribution of p (the counts are beta-binomial [2]), the same with a share of
  impossible problems, a log-normal rate of success, and a power law. All continue the unbiased
  curve: a problem with a correct sample is solved, and for the others a fit says how likely k - n
  more samples solve it. Up to about 4 n they hardly differ; beyond, they do, whichever is right.

References
----------
1. Schaeffer et al. (2025), How Do Large Language Monkeys Get Their Power (Laws)?,
   arXiv:2502.17578.
2. Kazdan et al. (2025), Efficient Prediction of Pass@k Scaling in Large Language Models,
   arXiv:2510.05197.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betaincinv, ndtri

from passk_lab.metrics._hypergeometric import Floats
from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._difficulty import Bounds, Chance, candidates
from passk_lab.stats._likelihood import (
    CHUNK,
    Ints,
    Model,
    Numbers,
    check_model,
    distinct_counts,
    fit_rows,
    refuse_empty,
    seen_pass_at_k,
    whole_counts,
    whole_k,
)
from passk_lab.stats._precision import korn_graubard, precision
from passk_lab.stats.resampling import Resampling, ResamplingOptions

__all__ = ["extrapolate_pass_at_k", "held_out_check"]

# Up to so many times n the fits hardly differ.
_NEAR = 4
_POWER = 0.8
_Clusters = npt.NDArray[Any] | None


def _groups(
    rollouts: pd.DataFrame | PathLike, by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Ints, Ints, _Clusters]]:
    """Each run's key, n, c and the clusters of the problems."""
    table = as_counts(rollouts, by, modes=False)
    if not len(table):
        raise ValueError("counts: the table is empty")
    groups: Any = table.groupby(list(by), dropna=False, observed=True) if by else [((), table)]
    for values, group in groups:
        key = dict(zip(by, values, strict=True))
        with _naming(key):
            if len(group) < 2:
                raise ValueError("one problem says nothing about how problems differ; give more")
            n, c = whole_counts(group["n_samples"], group["n_correct"])
            refuse_empty(n)
        clusters = group["cluster"].to_numpy() if "cluster" in group.columns else None
        yield key, n, c, clusters


@contextmanager
def _naming(key: dict[str, Any]) -> Iterator[None]:
    """Say in errors which run they are about."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        name = ", ".join(f"{column} {value!r}" for column, value in key.items())
        raise type(error)(f"{name or 'rollouts'}: {error}") from error


def _resampled_fits(
    n: Ints, c: Ints, mult: Floats, model: Model, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Floats, Numbers]]:
    """Weights and fits in chunks of rows; the first row of all is the data themselves."""
    total = int(mult.sum())
    size = max(1, CHUNK // max(len(n), int(n.max())))
    for start in range(0, n_resamples + 1, size):
        rows = min(size, n_resamples + 1 - start)
        weights = rng.multinomial(total, mult / total, size=rows).astype(np.float64)
        if start == 0:
            weights[0] = mult
        yield weights, Numbers.of(*fit_rows(n, c, weights, model)[0].T)


def _mean_pass(n: Ints, c: Ints, k: int, weights: Floats, numbers: Numbers) -> Floats:
    """Weighted mean over problems of pass@k, shape (n_fits,)."""
    result = weights @ _sure(n, c, k)
    beyond = (k > n) & (c == 0)
    if beyond.any():
        fresh = np.full(beyond.sum(), float(k)) - n[beyond]
        model = seen_pass_at_k(numbers, n[beyond].astype(np.float64), np.zeros(len(fresh)), fresh)
        # A problem that this resample lacks may be impossible under its fit.
        result += np.where(weights[:, beyond] > 0, weights[:, beyond] * model, 0.0).sum(axis=1)
    mean: Floats = result / weights.sum(axis=1)
    return mean


def _sure(n: Ints, c: Ints, k: int) -> Floats:
    """pass@k of each problem as far as its samples tell: unsolved ones count 0 beyond n."""
    known: Floats = np.where(k > n, (c > 0) * 1.0, pass_at_k(n, c, np.minimum(k, n)))
    return known


def _continued(sure: Floats, n: Ints, c: Ints, k: int, chance: Chance) -> float:
    """Mean pass@k, unsolved problems going on from what is sure by a fit."""
    unsolved = (k > n) & (c == 0)
    if not unsolved.any():
        return float(sure.mean())
    more = sure.copy()
    more[unsolved] = chance(n[unsolved], k - n[unsolved])
    return float(more.mean())


def _interval(
    n: Ints, c: Ints, ks: Ints, resampled: Floats, confidence: float
) -> tuple[Floats, Floats]:
    tail = (1 - confidence) / 2
    if ((c > 0) & (c < n)).any():
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        return low, high
    solved = int((c > 0).sum())
    unsolved = len(c) - solved
    low_solved = betaincinv(solved, unsolved + 1, tail) if solved else 0.0
    low_unsolved = betaincinv(unsolved, solved + 1, tail) if unsolved else 0.0
    return np.full(len(ks), low_solved), 1 - low_unsolved ** np.maximum(1.0, ks / n.min())


def extrapolate_pass_at_k(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int],
    by: Sequence[str] = MAIN_KEYS,
    model: Literal["bounds"] | Model = "bounds",
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """pass@k for k beyond the number of samples: what is possible, and what fits say.

    Parameters
    ----------
    rollouts, by
        As for `pass_at_k_curve`. Problems of one ``cluster`` (a column) count as dependent.
    k : int or sequence of int
        Small k may be among them: up to the smallest n the estimate is the unbiased pass@k.
    model : {"bounds", "beta-binomial", "zero-inflated", "zero-one-inflated"}
        - "bounds": nothing is assumed of the problems' difficulty.
        - the others: one fit with a bootstrap interval, *given that the model holds*. "beta-
          binomial": p ~ Beta(α, β). "zero-inflated": a share of the problems has p = 0, the rest
          is beta. "zero-one-inflated": also a share with p = 1, so that problems that are always
          solved don't bend the beta part's other end.
    **resampling
        ``confidence``; with a model also ``n_resamples`` (1,000 by default: the model is fitted
        anew to each) and ``random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, fit_low, fit_high, n_problems, n_samples, basis``.

        - ``estimate`` is the median of the fits, within the bounds.
        - ``low, high``: up to the smallest n the Korn-Graubard interval, beyond it the bounds,
          which hold with the same confidence for every distribution of difficulty.
        - ``fit_low, fit_high``: smallest and largest of the fits (four, or three where n = 2),
          within the bounds; with a model, missing.
        - ``n_samples`` is the largest n.
        - ``basis``: what the row rests on. "samples": k is at most the smallest n. "fits": k is up
          to 4 times as many, where fits err little. "bounds": beyond, the fits' spread no longer
          shows how wrong they may be, and only ``low`` and ``high`` are a result. With a model,
          its name in place of both.

    Raises
    ------
    ValueError
        The table or a parameter can't be used; a run has fewer than two problems or too few
        samples for the fits.
    RuntimeError
        A fit did not converge.

    Warns
    -----
    UserWarning
        The counts differ less than those of independent samples would.

    Notes
    -----
    Interval and bounds are those of the mean over the population the problems come from.
    Shares of problems with 0, 1, and 2 to 3 correct samples are known up to exact intervals at
    Bonferroni's level, not resampled: a bin without a problem would resample to nothing. How often
    bounds and fits are right is simulated in docs/coverage.md.

    A model's interval does not cover a wrong model: see `held_out_check`. Where no problem has both
    correct and wrong samples, resampling would show no doubt at all. The interval is then
    distribution-free: with P the chance that n samples hold none that is correct (Clopper-Pearson
    over problems), Jensen's inequality gives pass@k <= 1 - P^(k/n).

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": range(120), "run": "base", "split": "id",
    ...                       "n_samples": 8, "n_correct": [0, 0, 1, 3, 6, 8] * 20})
    >>> curve = extrapolate_pass_at_k(table, [8, 16, 64])
    >>> curve[["k", "estimate", "low", "high", "fit_low", "fit_high", "basis"]].round(2)
        k  estimate   low  high  fit_low  fit_high    basis
    0   8      0.67  0.57  0.75     0.67      0.67  samples
    1  16      0.74  0.58  0.92     0.73      0.75     fits
    2  64      0.84  0.58  1.00     0.82      0.89   bounds
    """
    ks = np.unique(whole_k(k))
    if not len(ks):
        raise ValueError("k is empty; name at least one number of samples")
    how = Resampling.of(resampling, n_resamples=1_000)
    rng = how.generator()
    rows = []
    for key, n, c, clusters in _groups(rollouts, by):
        with _naming(key):
            if model == "bounds":
                found = _bounded(n, c, ks, clusters, how.confidence)
            else:
                check_model(model, n)
                found = _modelled(n, c, ks, model, how, rng)
        size = {"n_problems": len(n), "n_samples": n.max()}
        table = pd.DataFrame({**key, "k": ks, **found, **size})
        basis = np.where(ks <= _NEAR * n.min(), "fits", "bounds") if model == "bounds" else model
        rows.append(table.assign(basis=np.where(ks <= n.min(), "samples", basis)))
    return pd.concat(rows, ignore_index=True)


def _bounded(
    n: Ints, c: Ints, ks: Ints, clusters: _Clusters, confidence: float
) -> dict[str, Floats]:
    check_model("beta-binomial", n)
    beyond = ks > n.min()
    values = np.stack([_sure(n, c, k) for k in ks.tolist()], axis=1)
    ends = korn_graubard(precision(values[None], clusters), confidence)
    fits = values.mean(axis=0, keepdims=True)
    if beyond.any():
        bounds = Bounds(n, c, int(ks[-1]), clusters, confidence)
        if bounds.slack > 1e-3:
            warnings.warn(
                "the problems' counts differ less than those of independent samples would, by "
                f"{bounds.slack:.3f} of the problems: were samples chosen, or drawn without "
                "replacement? The bounds are wider by as much",
                stacklevel=3,
            )
        ends[:, beyond] = np.transpose([bounds.of(k) for k in ks[beyond].tolist()])
        each = list(zip(values.T, ks.tolist(), strict=True))
        chances = candidates(n, c).values()
        fits = np.array([[_continued(sure, n, c, k, f) for sure, k in each] for f in chances])
    low, high = ends[0], np.maximum(ends[1], values.mean(axis=0))
    within = np.clip(fits, low, high)
    return {
        "estimate": np.median(within, axis=0),
        "low": low,
        "high": high,
        "fit_low": within.min(axis=0),
        "fit_high": within.max(axis=0),
    }


def _modelled(
    n: Ints, c: Ints, ks: Ints, model: Model, how: Resampling, rng: np.random.Generator
) -> dict[str, Any]:
    n_once, c_once, mult = distinct_counts(n, c, np.ones(len(n)))
    estimates = np.concatenate(
        [
            np.stack([_mean_pass(n_once, c_once, k, *fits) for k in ks.tolist()], axis=1)
            for fits in _resampled_fits(n_once, c_once, mult, model, how.n_resamples, rng)
        ]
    )
    low, high = _interval(n, c, ks, estimates[1:], how.confidence)
    nothing = {"fit_low": np.nan, "fit_high": np.nan}
    return {"estimate": estimates[0], "low": low, "high": high, **nothing}


def held_out_check(
    rollouts: pd.DataFrame | PathLike,
    fraction: float = 0.25,
    by: Sequence[str] = MAIN_KEYS,
    model: Model = "beta-binomial",
    n_splits: int = 5,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Hide most of the samples, predict pass@n from the rest, and compare with what all show.

    Parameters
    ----------
    fraction : float
        Share of each problem's samples that the model is fitted to, drawn without replacement. A
        quarter tests an extrapolation to four times the samples. Where n differs between problems,
        the smallest n is used of each.
    rollouts, by, **resampling
        As for `extrapolate_pass_at_k`.
    model : {"beta-binomial", "zero-inflated", "zero-one-inflated"}
        As there; a check of one fit.
    n_splits : int
        How often the samples are divided anew. These are not independent: they share the data.

    Returns
    -------
    DataFrame
        Columns ``*by, n_fit, k, predicted, low, high, observed, error, covered, detectable``, a row
        for each division; ``error`` is predicted - observed. ``low`` and ``high`` are a prediction
        interval for ``observed``, pass@k of these very problems: fits to resampled problems, and
        chance in which unsolved problems get solved. It is narrower than the interval for the
        population. ``detectable`` is the power: a prediction that is wrong by so much fails the
        check (``covered`` is False) with probability 0.8, one that is wrong by less may well pass.
        It says nothing about k beyond n, where the same model may be wrong by more.

    Raises
    ------
    ValueError, RuntimeError
        As for `extrapolate_pass_at_k`; fraction is not between 0 and 1.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": range(40), "run": "base", "split": "id",
    ...                       "n_samples": 32, "n_correct": [0, 1, 2, 16, 30] * 8})
    >>> check = held_out_check(table, n_splits=1, n_resamples=200, random_state=0)
    >>> check[["n_fit", "k", "observed"]]
       n_fit   k  observed
    0      8  32       0.8
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction} must be between 0 and 1")
    if n_splits < 1:
        raise ValueError(f"n_splits={n_splits} must be at least 1")
    how = Resampling.of(resampling, n_resamples=1_000)
    rng = how.generator()
    # The half-width is so many standard deviations; with the power's more, an error is seen.
    reach = 1 + ndtri(_POWER) / ndtri((1 + how.confidence) / 2)
    rows = []
    for key, n, c, _ in _groups(rollouts, by):
        k = int(n.min())
        n_fit = int(fraction * k)
        for _ in range(n_splits):
            all_c = rng.hypergeometric(c, n - c, k)
            fit_c = rng.hypergeometric(all_c, k - all_c, n_fit)
            with _naming(key):
                check_model(model, np.array([n_fit]))
                predicted = _predictions(n_fit, fit_c, k, model, how.n_resamples, rng)
            low, high = _interval(
                np.array([n_fit]), fit_c, np.array([k]), predicted[1:, None], how.confidence
            )
            observed = float((all_c > 0).mean())
            rows.append(
                {
                    **key,
                    "n_fit": n_fit,
                    "k": k,
                    "predicted": predicted[0],
                    "low": low[0],
                    "high": high[0],
                    "observed": observed,
                    "error": predicted[0] - observed,
                    "covered": bool(low[0] <= observed <= high[0]),
                    "detectable": reach * (high[0] - low[0]) / 2,
                }
            )
    return pd.DataFrame(rows)


def _predictions(
    n_fit: int, c: Ints, k: int, model: Model, n_resamples: int, rng: np.random.Generator
) -> Floats:
    """Expected pass@k of these problems, then what it may turn out to be, n_resamples times."""
    n_once, c_once, mult = distinct_counts(np.full(len(c), n_fit), c, np.ones(len(c)))
    unsolved = mult[c_once == 0].sum()
    shape = np.array([float(n_fit)]), np.zeros(1), np.array([float(k - n_fit)])
    chances = np.concatenate(
        [
            seen_pass_at_k(numbers, *shape)[:, 0]
            for _, numbers in _resampled_fits(n_once, c_once, mult, model, n_resamples, rng)
        ]
    )
    # A fit to nothing but problems that are always solved knows no unsolved one.
    chances = np.clip(np.nan_to_num(chances, nan=0.0), 0.0, 1.0)
    more = np.append(unsolved * chances[0], rng.binomial(int(unsolved), chances[1:]))
    result: Floats = (len(c) - unsolved + more) / len(c)
    return result
