"""What self-distillation would do to pass@k and distinct@k, forecast before any training.

The optimum of self-distillation with reverse KL tilts the base, p(y) ∝ π(y) exp(λ s(y)), by the
expected mutual information s(y) = E_c PCMI(y; c) (Proposition 2 of arXiv 2606.26091; λ is
1 / (1 + β') with a penalty β' to the base, and grows with the generations of a moving teacher).
So the base's own rollouts, weighed by exp(λ s), are rollouts of the trained model. Where the
weights leave too few effective samples, the forecast is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats._estimates import mean_table
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues
from passk_lab.teacher._arguments import check_choice, refuse_row, require_columns, whole_ks
from passk_lab.teacher._modes import outcome
from passk_lab.teacher._scores import ROLLOUT, checked_scores

__all__ = [
    "TooFewSamples",
    "expected_tilt",
    "forecast",
    "forecast_problems",
    "forecast_rows",
]

_DemoLaw = Literal["policy", "uniform", "probability"]
_ROW = ["problem_id", "answer", "correct", "log_mass", "tilt"]


class TooFewSamples(ValueError):
    """The tilt leaves too few effective samples for a forecast."""


def expected_tilt(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    demo_law: _DemoLaw = "policy",
    drop_self: bool = True,
) -> pd.DataFrame:
    """Mean PCMI of each scored rollout over the demonstrations of its problem.

    Parameters
    ----------
    scores : DataFrame
        ``problem_id, sample_id`` (the rollout), ``demo_id`` (the ``sample_id`` of the rollout
        shown), ``logprob, logprob_given_demo`` (nats).
    rollouts : DataFrame
        The run that was scored, demonstrations among it: ``problem_id, sample_id, correct,
        answer``.
    demo_law : {"policy", "uniform", "probability"}
        Every demonstration alike, so in proportion to how often the base gives its answer; every
        *answer* that was shown alike; or, where each answer is listed once, in proportion to its
        probability under the base (its ``logprob`` as a rollout).
    drop_self : bool
        Leave out pairs in which a rollout was shown itself, where there are others.

    Returns
    -------
    DataFrame
        ``problem_id, sample_id, answer, correct, logprob, tilt`` (nats), ``n_demos``. The tilt is
        -inf where a demonstration makes the rollout impossible.

    Raises
    ------
    ValueError
        A log-probability is positive, or ``logprob`` not finite; a pair occurs twice or wasn't
        scored (NaN); a rollout or demonstration isn't among the rollouts, or is there twice; a
        demonstration is incorrect, or with "probability" no rollout; a correct one has no answer.
    """
    check_choice(demo_law, "demo_law", get_args(_DemoLaw))
    table = checked_scores(scores, rollouts)
    refuse_row(
        table["pcmi"].isna(),
        "scores: column 'logprob_given_demo', row {row}: problem {0!r}, rollout {1} has no score "
        "after demonstration {2}; a forecast needs every pair",
        table[[*ROLLOUT, "demo_id"]],
    )
    own = table["sample_id"] == table["demo_id"]
    alone = table.groupby(ROLLOUT)["demo_id"].transform("size") == 1
    if drop_self:
        table = table[~own | alone]
    if demo_law == "policy":
        weight = pd.Series(1.0, index=table.index)
    elif demo_law == "probability":
        weight = _demo_probability(table)
    else:
        weight = 1 / table.groupby([*ROLLOUT, "demo_answer"])["pcmi"].transform("size")
    weight = weight / weight.groupby([table[key] for key in ROLLOUT]).transform("sum")
    table = table.assign(tilt=table["pcmi"] * weight)
    first = {name: (name, "first") for name in ("answer", "correct", "logprob")}
    grouped = table.groupby(ROLLOUT, sort=False)
    return grouped.agg(**first, tilt=("tilt", "sum"), n_demos=("tilt", "size")).reset_index()


def _demo_probability(table: pd.DataFrame) -> pd.Series:
    known = table.drop_duplicates(ROLLOUT).set_index(ROLLOUT)["logprob"]
    pairs = table[["problem_id", "demo_id"]]
    logprob = known.reindex(pd.MultiIndex.from_frame(pairs)).to_numpy()
    refuse_row(
        np.isnan(logprob),
        "scores: problem {0!r}: demonstration {1} wasn't scored as a rollout, so its probability "
        "isn't known; score it, too",
        pairs,
    )
    return pd.Series(np.exp(logprob), index=table.index)


def forecast_rows(
    tilts: pd.DataFrame, rollouts: pd.DataFrame, policy: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Rows of a forecast, each of which stands for some of the base's probability.

    Parameters
    ----------
    tilts : DataFrame
        From `expected_tilt`.
    rollouts : DataFrame
        The run that was scored: every rollout of a problem stands for the same share. Rollouts
        without an answer, and problems without a demonstration, keep tilt 0: training has none
        that says anything about them.
    policy : DataFrame, optional
        ``problem_id, answer, logprob, tilt`` of every correct answer, scored. They take the place
        of the correct rollouts; the wrong ones share the rest of the probability.

    Returns
    -------
    DataFrame
        ``problem_id, answer, correct, log_mass`` (log of the share), ``tilt`` (nats).

    Raises
    ------
    ValueError
        A rollout with an answer, of a problem that was scored, has no tilt; the policy lacks a
        problem.
    """
    table = validate_rollouts(rollouts)
    known = tilts[[*ROLLOUT, "tilt"]].astype({"problem_id": table["problem_id"].dtype})
    joined = table[[*ROLLOUT, "answer", "correct"]].merge(known, on=ROLLOUT, how="left")
    scored = joined["problem_id"].isin(known["problem_id"])
    refuse_row(
        joined["tilt"].isna() & joined["answer"].notna() & scored,
        "scores: problem {0!r}, rollout {1} was not scored; score every rollout of a problem",
        joined[ROLLOUT],
    )
    joined["log_mass"] = -np.log(joined.groupby("problem_id")["correct"].transform("size"))
    joined["tilt"] = joined["tilt"].fillna(0.0)
    return joined[_ROW] if policy is None else _exact_rows(joined[_ROW], policy)


def _exact_rows(rows: pd.DataFrame, policy: pd.DataFrame) -> pd.DataFrame:
    require_columns(policy, ["problem_id", "answer", "logprob", "tilt"], "policy")
    if not (policy["logprob"].to_numpy(float) <= 0).all():
        raise ValueError("policy: column 'logprob' must hold log-probabilities, at most 0")
    problems = rows["problem_id"].unique()
    absent = set(problems) - set(policy["problem_id"])
    if absent:
        raise ValueError(f"policy: problem {min(absent)!r} is missing; list its correct answers")
    right = policy[policy["problem_id"].isin(problems)]
    accuracy = np.exp(right["logprob"]).groupby(right["problem_id"].astype(object)).sum()
    wrong = rows[~rows["correct"]]
    count = wrong.groupby("problem_id")["correct"].transform("size")
    rest = (1 - wrong["problem_id"].map(accuracy)).clip(lower=1e-12)
    wrong = wrong.assign(log_mass=np.log(rest / count))
    right = right.assign(correct=True, log_mass=right["logprob"])
    return pd.concat([right[_ROW], wrong], ignore_index=True)


def forecast_problems(
    rows: pd.DataFrame,
    weights: Sequence[float] = (0.0, 0.5, 1.0),
    k: int | Sequence[int] = (1, 8, 64),
) -> pd.DataFrame:
    """Forecast each problem at each weight λ of the tilt.

    Parameters
    ----------
    rows : DataFrame
        From `forecast_rows`.
    weights : sequence of float
        λ; 0 is the base itself, estimated in the same way as the others.
    k : int or sequence of int
        Any k: the forecast is of a policy, not of the samples.

    Returns
    -------
    DataFrame
        One row a problem and weight: ``problem_id, weight, pass@<k> ..., distinct@<k> ...,
        effective_answers`` (NaN where no correct answer keeps probability), ``effective_samples``
        (Kish: (Σ w)² / Σ w², in rows of equal mass) and ``vetoed`` (rows with tilt -inf). From
        samples, distinct@k counts answers that were seen: compare it with weight 0 only.

    Raises
    ------
    ValueError
        A tilt is NaN or +inf, or all of a problem's are -inf; a weight is negative.
    """
    require_columns(rows, _ROW, "rows")
    message = "rows: column 'tilt', row {row}: {0} is no tilt"
    refuse_row(~(rows["tilt"].to_numpy(float) < np.inf), message, rows[["tilt"]])
    ks = whole_ks(k)
    if min(weights, default=-1) < 0:
        raise ValueError(f"weights must be at least 0, got {list(weights)}")
    records = []
    for problem, part in rows.groupby("problem_id", sort=True, observed=True):
        mass, tilt = (part[name].to_numpy(float) for name in ("log_mass", "tilt"))
        correct = part["correct"].to_numpy(bool)
        modes = pd.factorize(part.loc[correct, "answer"])[0]
        for weight in weights:
            # 0 · -inf is no number, but no tilt is no tilt.
            log_p = mass + (weight * tilt if weight else 0.0)
            total = logsumexp(log_p)
            if np.isneginf(total):
                raise ValueError(
                    f"problem {problem!r}: every row has tilt -inf, so nothing is left; score it "
                    "with other demonstrations"
                )
            p = np.exp(log_p - total)
            share = np.asarray(np.bincount(modes, p[correct]), np.float64)
            record = {"problem_id": problem, "weight": weight, **outcome(share, ks)}
            # Weights of samples drawn from the base: p / mass.
            ratio = np.exp(2 * log_p - mass)
            record["effective_samples"] = len(part) * float(np.exp(2 * total) / ratio.sum())
            record["vetoed"] = int(np.isneginf(tilt).sum())
            records.append(record)
    return pd.DataFrame(records)


def forecast(
    rows: pd.DataFrame,
    weights: Sequence[float] = (0.0, 0.5, 1.0),
    k: int | Sequence[int] = (1, 8, 64),
    min_effective: float = 8.0,
    max_poor: float = 0.2,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Forecast means over problems, with intervals and the change from the base.

    Parameters
    ----------
    rows, weights, k
        As for `forecast_problems`.
    min_effective : float
        A problem whose weights leave fewer effective samples is poor.
    max_poor : float
        A weight at which more than this share of the problems is poor is refused.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        One row a weight and quantity: ``weight, quantity, estimate, low, high, change,
        change_low, change_high, n_problems, poor`` (share of poor problems). The change is from
        weight 0, paired by problem.

    Raises
    ------
    TooFewSamples
        Too many problems are poor; a ValueError.
    """
    table = forecast_problems(rows, list(dict.fromkeys([0.0, *map(float, weights)])), k)
    values = table.drop(columns="vetoed").set_index(["weight", "problem_id"])
    names = np.array([*values.columns] * 2, dtype=object)
    groups = []
    for weight in map(float, weights):
        part, base = (pd.DataFrame(values.loc[at]) for at in (weight, 0.0))
        poor = float((part["effective_samples"] < min_effective).mean())
        if poor > max_poor:
            raise TooFewSamples(
                f"weight {weight:g}: {poor:.0%} of the problems keep fewer than {min_effective:g} "
                "effective samples; take a smaller weight or score more rollouts"
            )
        change = part - base
        both = np.hstack([part.where(change.notna()), change])
        groups.append(ProblemValues((weight, poor), part.index.to_numpy(object), names, both[None]))
    found = mean_table(groups, ["weight", "poor"], "quantity", Resampling(**resampling))
    ends = ["estimate", "low", "high"]
    changed = found.index % len(names) >= len(names) // 2
    level, change = (found[rows].reset_index(drop=True) for rows in (~changed, changed))
    level[["change", "change_low", "change_high"]] = change[ends]
    level["n_problems"] = level["n_defined"]
    columns = ["weight", "quantity", *ends, "change", "change_low", "change_high"]
    return level[[*columns, "n_problems", "poor"]]
