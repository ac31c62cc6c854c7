"""Where the tilt of a problem's answers comes from: `Decomposition` on tables of teacher scores.

Every problem has one row and one column an answer (mode), averaged over the rollouts and
demonstrations that are this answer; weights w and reference ν are uniform over answers.
"""

from __future__ import annotations

from typing import Any, Unpack, get_args

import numpy as np
import pandas as pd

from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.teacher._arguments import Floats, Law, check_choice, require_columns
from passk_lab.teacher._scores import Problem, context_effects, problems
from passk_lab.teacher.decomposition import Decomposition

__all__ = ["problem_decompositions", "source_table", "tilt_sources"]

SOURCES = (
    "constant",
    "any_context",
    "preference_copying",
    "preference_cross",
    "sampling_copying",
    "sampling_cross",
)
_SUMS = {
    "teacher_preference": ("preference_copying", "preference_cross"),
    "demonstration_sampling": ("sampling_copying", "sampling_cross"),
}


def tilt_sources(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    control: pd.DataFrame | None = None,
    demo_law: Law = "policy",
    drop_self: bool = True,
) -> pd.DataFrame:
    """Split the tilt of every correct answer into what causes it.

    With u uniform over the answers that were shown, q the law they are drawn from in training, and
    M averaged over the rollouts and demonstrations that are the same answer, minus the effect of
    any context k_i where a control is given, the sources add up to the tilt exactly:

    | source                 | value                                                              |
    | ---------------------- | ------------------------------------------------------------------ |
    | ``constant``           | μ + Σ q b, the same for all answers of a problem: cancels          |
    | ``any_context``        | k_i less its mean: a demonstration of another problem does it, too |
    | ``preference_copying`` | u_i (M[i,i] - μ - b_i)                                             |
    | ``preference_cross``   | Σ_{m≠i} u_m (M[i,m] - μ - b_m); with the row above, a_i            |
    | ``sampling_copying``   | (q_i - u_i) g_ii                                                   |
    | ``sampling_cross``     | Σ_{m≠i} (q_m - u_m) g_im                                           |

    Parameters
    ----------
    scores, rollouts
        As for `expected_tilt`. All rollouts count for q, scored or not.
    control : DataFrame, optional
        Scores given demonstrations of other problems, without ``demo_id``; averaged by rollout.
    demo_law : {"policy", "uniform"}
        Demonstrations in proportion to the (correct) rollouts with that answer, or balanced.
    drop_self : bool
        Leave out pairs in which a rollout was shown itself. Copying then is what another rollout
        with the same answer does, and is missing for answers that occurred once.

    Returns
    -------
    DataFrame
        One row a problem and correct answer that was scored: ``problem_id, answer, log_base``
        (mean ``logprob`` of its rollouts), ``n_rollouts, base_share`` (of the correct rollouts),
        ``n_missing`` (answers shown, but not for it: taken as μ + a_i + b_m),
        ``unscored_demo_share`` (of q on answers never shown, left out), ``vetoed``, ``tilt`` and
        the sources, nats. A vetoed answer has the tilt -inf and NaN as sources.

    Raises
    ------
    ValueError
        As for `expected_tilt` and `Decomposition`; a scored answer has no control.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": range(4), "correct": True,
    ...                          "answer": ["x", "x", "x", "y"]})
    >>> scores = pd.DataFrame({"problem_id": "p", "sample_id": [0, 0, 3, 3], "demo_id": [0, 3] * 2,
    ...                        "logprob": -3.0, "logprob_given_demo": [-2.0, -3.0, -3.0, -2.0]})
    >>> sources = tilt_sources(scores, rollouts, drop_self=False)
    >>> sources[["answer", "tilt", "constant", "sampling_copying", "sampling_cross"]]
      answer  tilt  constant  sampling_copying  sampling_cross
    0      x  0.75       0.5             0.125           0.125
    1      y  0.25       0.5            -0.125          -0.125
    """
    check_choice(demo_law, "demo_law", get_args(Law))
    extra = None if control is None else context_effects(control, rollouts)
    frames = []
    for problem in problems(scores, rollouts, drop_self):
        context = np.zeros(len(problem.modes)) if extra is None else _context(problem, extra)
        frames.append(_sources(problem, demo_law, context))
    if not frames:
        raise ValueError("scores: no pair has a correct rollout; there is no tilt among answers")
    return pd.concat(frames, ignore_index=True)


def source_table(sources: pd.DataFrame, **resampling: Unpack[ResamplingOptions]) -> pd.DataFrame:
    """Mean over problems of what each source does, with an interval over problems.

    Parameters
    ----------
    sources : DataFrame
        As `tilt_sources` returns it.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``measure, source, estimate, low, high, n_problems, n_left_out, n_modes, n_vetoed,
        n_missing``. Measures, over the answers of a problem: "popular" (nats), the mean weighted by
        ``base_share`` less that with equal weights; "spread" (nats), the standard deviation, alone
        in not adding up; "slope", the covariance with ``log_base`` by the variance of that, pooled
        over problems (that of the tilt is what it adds to `gap_slope`). Sources are those of
        `tilt_sources`, the sums of two "teacher_preference" and "demonstration_sampling", and
        "tilt". Problems with fewer than two answers that aren't vetoed are left out.

    Raises
    ------
    ValueError
        A column is missing; no problem has two answers.
    """
    needed = ("problem_id", "log_base", "base_share", "n_missing", "vetoed", "tilt", *SOURCES)
    require_columns(sources, needed, "sources")
    table = sources.assign(**{name: sources[a] + sources[b] for name, (a, b) in _SUMS.items()})
    names = [*SOURCES, *_SUMS, "tilt"]
    kept = table[~table["vetoed"].astype(bool)]
    groups = [part for _, part in kept.groupby("problem_id", sort=False) if len(part) > 1]
    if not groups:
        raise ValueError("sources: no problem has two answers, so nothing is tilted")
    values = np.stack([_measures(part, names) for part in groups])
    means = values.mean(axis=0)
    bootstrap = Resampling(**resampling)
    drawn = bootstrap.replicates(values[None])
    width = len(names)
    with np.errstate(divide="ignore", invalid="ignore"):
        means[2 * width :] /= means[-1]
        drawn[:, 2 * width :] /= drawn[:, -1:]
    for columns in np.split(drawn[:, :-1], 3, axis=1):
        if len(groups) < 2 or not np.isfinite(columns).all():
            columns[:] = np.nan
    low, high = bootstrap.percentiles(drawn[:, :-1], len(groups))
    return pd.DataFrame(
        {
            "measure": np.repeat(["popular", "spread", "slope"], width),
            "source": names * 3,
            "estimate": means[:-1],
            "low": low,
            "high": high,
            "n_problems": len(groups),
            "n_left_out": table["problem_id"].nunique() - len(groups),
            "n_modes": len(kept),
            "n_vetoed": len(table) - len(kept),
            "n_missing": int(table["n_missing"].sum()),
        }
    )


def problem_decompositions(
    scores: pd.DataFrame, rollouts: pd.DataFrame, drop_self: bool = True
) -> pd.DataFrame:
    """Take the matrix over answers of each problem apart, see `Decomposition`.

    Parameters
    ----------
    scores, rollouts, drop_self
        As for `tilt_sources`.

    Returns
    -------
    DataFrame
        One row a problem: ``problem_id, n_modes, n_demo_modes, n_missing, n_vetoed, mean, rollout,
        demo, interaction`` (the shares), ``within_minus_between``, ``asymmetry`` and
        ``accuracy_contrast`` (mean tilt of correct answers less that of the incorrect rollouts,
        demonstrations as the policy draws them). Nats but for the shares; NaN where there is
        nothing to compare.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": range(2), "correct": True,
    ...                          "answer": ["x", "y"]})
    >>> scores = pd.DataFrame({"problem_id": "p", "sample_id": [0, 0, 1, 1], "demo_id": [0, 1] * 2,
    ...                        "logprob": -3.0, "logprob_given_demo": [-1.0, -3.0, -3.0, -1.0]})
    >>> problem_decompositions(scores, rollouts, drop_self=False)[["mean", "interaction"]]
       mean  interaction
    0   1.0          1.0
    """
    rows = []
    for problem in problems(scores, rollouts, drop_self):
        parts = _parts(problem, problem.matrix)
        labels = problem.modes, problem.demo_modes
        rows.append(
            {
                "problem_id": problem.name,
                "n_modes": len(problem.modes),
                "n_demo_modes": len(problem.demo_modes),
                "n_missing": parts.n_missing,
                "n_vetoed": int(parts.vetoed.sum()),
                "mean": parts.mean,
                **parts.shares(),
                "within_minus_between": parts.within_minus_between(*labels),
                "asymmetry": parts.asymmetry(*labels),
                "accuracy_contrast": _contrast(problem, parts),
            }
        )
    if not rows:
        raise ValueError("scores: no pair has a correct rollout; there is nothing to take apart")
    return pd.DataFrame(rows)


def _contrast(problem: Problem, parts: Decomposition) -> float:
    """Mean tilt of correct less that of incorrect rollouts; NaN if not all of it was scored."""
    q = problem.demo_law("policy")[0]
    if problem.incorrect is None or np.isnan(problem.incorrect[q > 0]).any():
        return float("nan")
    right = parts.rollout_weights @ np.where(parts.vetoed, 0.0, parts.tilt(q))
    return float(right - problem.incorrect[q > 0] @ q[q > 0])


def _parts(problem: Problem, matrix: Floats) -> Decomposition:
    try:
        return Decomposition(matrix)
    except ValueError as error:
        raise ValueError(
            f"problem {problem.name!r}, answers {problem.modes} given {problem.demo_modes}: {error}"
        ) from error


def _context(problem: Problem, effects: dict[Any, dict[str, float]]) -> Floats:
    known = effects.get(problem.name, {})
    for mode in problem.modes:
        if mode not in known:
            raise ValueError(
                f"control: answer {mode!r} of problem {problem.name!r} is scored, but has no "
                "control; score one of its rollouts with another problem's demonstration"
            )
    return np.array([known[mode] for mode in problem.modes])


def _sources(problem: Problem, demo_law: Law, context: Floats) -> pd.DataFrame:
    parts = _parts(problem, problem.matrix - context[:, None])
    q, left_out = problem.demo_law(demo_law)
    u = parts.demo_weights
    ok = ~parts.vetoed
    same = np.array([[mode == demo for demo in problem.demo_modes] for mode in problem.modes])
    g = np.where(np.isnan(parts.interaction), 0.0, parts.interaction)
    a = np.where(ok, parts.rollout_effect, 0.0)
    preference = u * (a[:, None] + g)
    sampling = (q - u) * g
    common = float(parts.rollout_weights @ context)
    columns = (
        np.full(len(a), parts.mean + q @ parts.demo_effect + common),
        context - common,
        (preference * same).sum(axis=1),
        (preference * ~same).sum(axis=1),
        (sampling * same).sum(axis=1),
        (sampling * ~same).sum(axis=1),
    )
    n = np.array([problem.counts[mode] for mode in problem.modes])
    return pd.DataFrame(
        {
            "problem_id": problem.name,
            "answer": problem.modes,
            "log_base": problem.log_base,
            "n_rollouts": n,
            "base_share": n / sum(problem.counts.values()),
            "n_missing": np.isnan(problem.matrix).sum(axis=1),
            "unscored_demo_share": left_out,
            "vetoed": parts.vetoed,
            "tilt": parts.tilt(q) + context,
            **{s: np.where(ok, c, np.nan) for s, c in zip(SOURCES, columns, strict=True)},
        }
    )


def _measures(part: pd.DataFrame, names: list[str]) -> Floats:
    """A problem's popularity, spread and covariance of each source, and variance of log_base."""
    values = part[names].to_numpy(float)
    centred = values - values.mean(axis=0)
    share = part["base_share"].to_numpy(float)
    log_base = part["log_base"].to_numpy(float)
    log_base = log_base - log_base.mean()
    spread = np.sqrt((centred**2).mean(axis=0))
    popular = share / share.sum() @ centred
    return np.hstack([popular, spread, log_base @ centred, log_base @ log_base])
