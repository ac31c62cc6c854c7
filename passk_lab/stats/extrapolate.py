r"""pass@k beyond the number of samples n.

Nothing but a model of the problems' accuracies p reaches beyond n. Here p follows a beta
distribution, so that the correct samples of a problem, c of n, are beta-binomial, and the fit is
by maximum likelihood over problems [1]. For large k all depends on how many problems have a
tiny p: pass@k misses 1 by about k^-α [2]. A beta distribution has no problem with p = 0 exactly,
so it always predicts pass@k -> 1; the models with point masses let the data say otherwise:

- ``"beta-binomial"``: p ~ Beta(α, β).
- ``"zero-inflated"``: a share ``p_zero`` of the problems has p = 0, the rest is beta.
- ``"zero-one-inflated"``: also a share ``p_one`` with p = 1, so that problems which are always
  solved don't bend the beta part's other end.

Whether p is 0 or only far below 1/n can't be seen in n samples. Fit more than one model where k
is many times n, and run `held_out_check`.

References
----------
1. Kazdan et al. (2025), Efficient Prediction of Pass@k Scaling in Large Language Models,
   arXiv:2510.05197.
2. Schaeffer et al. (2025), How Do Large Language Monkeys Get Their Power (Laws)?,
   arXiv:2502.17578.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Unpack, get_args

import numpy as np
import pandas as pd
from scipy.stats import beta as beta_distribution

from passk_lab.metrics._hypergeometric import Floats
from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._likelihood import (
    CHUNK,
    Ints,
    Model,
    Numbers,
    check_model,
    distinct_counts,
    fit_rows,
    new_pass_at_k,
    refuse_empty,
    seen_pass_at_k,
    whole_counts,
    whole_k,
)
from passk_lab.stats.resampling import Resampling, ResamplingOptions

__all__ = ["extrapolate_pass_at_k", "held_out_check"]

Estimator = Literal["anchored", "posterior", "population"]


def _groups(
    rollouts: pd.DataFrame | PathLike, by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Ints, Ints]]:
    """Each run's key, n and c."""
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
        yield key, n, c


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


def _mean_pass(
    n: Ints, c: Ints, k: int, weights: Floats, numbers: Numbers, estimator: Estimator
) -> Floats:
    """Weighted mean over problems of pass@k, shape (n_fits,)."""
    total = weights.sum(axis=1)
    beyond = k > n
    if beyond.any() and estimator == "population":
        return new_pass_at_k(numbers, np.array([float(k)]))[:, 0]
    known = np.where(beyond, 0.0, pass_at_k(n, c, np.minimum(k, n)))
    fresh = np.full(len(n), float(k))
    if estimator == "anchored":
        known[beyond & (c > 0)] = 1.0
        beyond &= c == 0
        fresh -= n
    result = weights @ known
    if beyond.any():
        model = seen_pass_at_k(numbers, *(v[beyond].astype(np.float64) for v in (n, c, fresh)))
        # A problem that this resample lacks may be impossible under its fit.
        result += np.where(weights[:, beyond] > 0, weights[:, beyond] * model, 0.0).sum(axis=1)
    mean: Floats = result / total
    return mean


def _interval(
    n: Ints, c: Ints, ks: Ints, resampled: Floats, confidence: float
) -> tuple[Floats, Floats]:
    tail = (1 - confidence) / 2
    if ((c > 0) & (c < n)).any():
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        return low, high
    solved = int((c > 0).sum())
    unsolved = len(c) - solved
    low_solved = beta_distribution.ppf(tail, solved, unsolved + 1) if solved else 0.0
    low_unsolved = beta_distribution.ppf(tail, unsolved, solved + 1) if unsolved else 0.0
    return np.full(len(ks), low_solved), 1 - low_unsolved ** np.maximum(1.0, ks / n.min())


def extrapolate_pass_at_k(
    rollouts: pd.DataFrame | PathLike,
    k: int | Sequence[int],
    by: Sequence[str] = MAIN_KEYS,
    model: Model = "beta-binomial",
    estimator: Estimator = "anchored",
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """pass@k for k beyond the number of samples, with intervals.

    Parameters
    ----------
    rollouts, by
        As for `pass_at_k_curve`.
    k : int or sequence of int
        Small k may be among them: up to the smallest n the estimate is the unbiased pass@k.
    model : {"beta-binomial", "zero-inflated", "zero-one-inflated"}
        See the module's description.
    estimator : {"anchored", "posterior", "population"}
        - "anchored": a problem's n observed samples are the first n of its k. A problem with a
          correct sample is solved, and only for the others does the model say how likely k - n
          more samples solve it. It continues the unbiased curve without a step, and trusts the
          model least; so it is the default.
        - "posterior": k fresh samples of each problem, given its c of n.
        - "population": k samples of a new problem; the fitted curve.

        All estimate the same mean, and agree where the model holds.
    **resampling
        ``n_resamples`` (1,000 by default: the model is fitted anew to each), ``confidence,
        random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems, n_samples, extrapolated``.
        ``n_samples`` is the largest n; ``extrapolated`` says that k exceeds the n of at least one
        problem, so that the model plays a part.

    Raises
    ------
    ValueError
        The table or a parameter can't be used; a run has fewer than two problems or too few
        samples for the model.
    RuntimeError
        A fit did not converge.

    Notes
    -----
    The interval is that of the mean over the population the problems come from, given the model.
    It does not cover a wrong model: see `held_out_check`.

    Where no problem has both correct and wrong samples, resampling would show no doubt at all. The
    interval is then distribution-free: with P the chance that n samples hold none that is correct
    (Clopper-Pearson over problems), Jensen's inequality gives pass@k <= 1 - P^(k/n).

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": list("abcdef"), "run": "base", "split": "id",
    ...                       "n_samples": 8, "n_correct": [0, 0, 1, 3, 6, 8]})
    >>> curve = extrapolate_pass_at_k(table, [8, 64], n_resamples=200, random_state=0)
    >>> curve[["k", "estimate", "n_samples", "extrapolated"]].round(3)
        k  estimate  n_samples  extrapolated
    0   8     0.667          8         False
    1  64     0.819          8          True
    """
    ks = np.unique(whole_k(k))
    if not len(ks):
        raise ValueError("k is empty; name at least one number of samples")
    if estimator not in get_args(Estimator):
        raise ValueError(
            f"estimator={estimator!r} is unknown; choose from {', '.join(get_args(Estimator))}"
        )
    how = Resampling.of(resampling, n_resamples=1_000)
    rng = how.generator()
    rows = []
    for key, n, c in _groups(rollouts, by):
        with _naming(key):
            check_model(model, n)
            n_once, c_once, mult = distinct_counts(n, c, np.ones(len(n)))
            estimates = np.concatenate(
                [
                    np.stack(
                        [_mean_pass(n_once, c_once, k, *fits, estimator) for k in ks.tolist()],
                        axis=1,
                    )
                    for fits in _resampled_fits(n_once, c_once, mult, model, how.n_resamples, rng)
                ]
            )
            low, high = _interval(n, c, ks, estimates[1:], how.confidence)
        rows.append(
            pd.DataFrame(
                {
                    **key,
                    "k": ks,
                    "estimate": estimates[0],
                    "low": low,
                    "high": high,
                    "n_problems": len(n),
                    "n_samples": n.max(),
                    "extrapolated": ks > n.min(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


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
    rollouts, by, model, **resampling
        As for `extrapolate_pass_at_k`, whose default estimator is used.
    n_splits : int
        How often the samples are divided anew. These are not independent: they share the data.

    Returns
    -------
    DataFrame
        Columns ``*by, n_fit, k, predicted, low, high, observed, error, covered``, a row for each
        division; ``error`` is predicted - observed. ``low`` and ``high`` are a prediction interval
        for ``observed``, pass@k of these very problems: fits to resampled problems, and chance in
        which unsolved problems get solved. It is narrower than the interval for the population.

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
    rows = []
    for key, n, c in _groups(rollouts, by):
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
