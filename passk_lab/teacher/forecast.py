"""What self-distillation would do to pass@k and distinct@k, forecast before any training.

The optimum of self-distillation with reverse KL tilts the base, p(y) ∝ π(y) exp(λ s(y)), by the
expected mutual information s(y) = E_c PCMI(y; c) (Proposition 2 of arXiv 2606.26091; λ is
1 / (1 + β') with a penalty β' to the base, and grows with the generations of a moving teacher).
So the base's own rollouts, weighed by exp(λ s), are rollouts of the trained model: accuracy,
pass@k, distinct answers and effective answers follow, together with the effective number of
samples that such weights leave. Where they leave too few, the forecast is refused.

A forecast reads rows, each of which stands for some of the base's probability:
``problem_id, answer, correct, log_mass, tilt``. `sampled_rows` makes them of rollouts and scores;
`exact_rows` replaces the correct ones by all correct answers with their exact probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp

from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats.intervals import bootstrap_replicates, percentiles
from passk_lab.teacher._arguments import check_choice, whole_ks
from passk_lab.teacher.decomposition import checked_scores

__all__ = [
    "TooFewSamples",
    "exact_rows",
    "expected_tilt",
    "forecast",
    "forecast_problems",
    "sampled_rows",
]

Floats = npt.NDArray[np.float64]
RandomState = int | np.random.Generator | None
DemoLaw = Literal["policy", "uniform", "probability"]


class TooFewSamples(ValueError):
    """The tilt leaves too few effective samples for a forecast."""


def expected_tilt(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    demo_law: DemoLaw = "policy",
    drop_self: bool = True,
    allow_incorrect_demos: bool = False,
) -> pd.DataFrame:
    """Mean PCMI of each scored rollout over the demonstrations of its problem.

    Parameters
    ----------
    scores, rollouts, allow_incorrect_demos
        As for `passk_lab.teacher.decomposition.checked_scores`.
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
        As for `checked_scores`; a pair wasn't scored (NaN); with "probability", a demonstration
        wasn't scored as a rollout.
    """
    check_choice(demo_law, "demo_law", get_args(DemoLaw))
    table = checked_scores(scores, rollouts, allow_incorrect_demos)
    missing = table["pcmi"].isna().to_numpy()
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(
            f"scores: column 'logprob_given_demo', row {row}: problem "
            f"{table['problem_id'][row]!r}, rollout {table['sample_id'][row]} has no score after "
            f"demonstration {table['demo_id'][row]}; a forecast needs every pair"
        )
    keys = ["problem_id", "sample_id"]
    own = table["sample_id"] == table["demo_id"]
    alone = table.groupby(keys)["demo_id"].transform("size") == 1
    if drop_self:
        table = table[~own | alone]
    if demo_law == "policy":
        weight = pd.Series(1.0, index=table.index)
    elif demo_law == "probability":
        weight = _demo_probability(table, keys)
    else:
        weight = 1 / table.groupby([*keys, "demo_answer"])["pcmi"].transform("size")
    weight = weight / weight.groupby([table[k] for k in keys]).transform("sum")
    table = table.assign(tilt=table["pcmi"] * weight)
    first = {name: (name, "first") for name in ("answer", "correct", "logprob")}
    return (
        table.groupby(keys, sort=False)
        .agg(**first, tilt=("tilt", "sum"), n_demos=("tilt", "size"))
        .reset_index()
    )


def _demo_probability(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    known = table.drop_duplicates(keys).set_index(keys)["logprob"]
    pairs = pd.MultiIndex.from_frame(table[["problem_id", "demo_id"]])
    logprob = known.reindex(pairs).to_numpy()
    missing = np.isnan(logprob)
    if missing.any():
        problem, demo = pairs[int(np.argmax(missing))]
        raise ValueError(
            f"scores: problem {problem!r}: demonstration {demo} wasn't scored as a rollout, so its "
            "probability isn't known; score it, too"
        )
    return pd.Series(np.exp(logprob), index=table.index)


def sampled_rows(tilts: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Rows of a forecast: every rollout of a problem stands for the same share of its base.

    Parameters
    ----------
    tilts : DataFrame
        From `expected_tilt`.
    rollouts : DataFrame
        The run that was scored. Rollouts without an answer, which no score can be had of, and
        problems without a demonstration keep tilt 0: training has no demonstration there, or
        none that says anything about them.

    Returns
    -------
    DataFrame
        ``problem_id, answer, correct, log_mass`` (minus log n), ``tilt`` (nats).

    Raises
    ------
    ValueError
        A rollout with an answer, of a problem that was scored, has no tilt.
    """
    table = validate_rollouts(rollouts)
    keys = ["problem_id", "sample_id"]
    known = tilts[[*keys, "tilt"]].astype({"problem_id": table["problem_id"].dtype})
    joined = table[[*keys, "answer", "correct"]].merge(known, on=keys, how="left")
    scored = joined["problem_id"].isin(known["problem_id"])
    bad = (joined["tilt"].isna() & joined["answer"].notna() & scored).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"scores: problem {joined['problem_id'][row]!r}, rollout {joined['sample_id'][row]} "
            "was not scored; score every rollout of a problem"
        )
    n = joined.groupby("problem_id")["correct"].transform("size")
    joined["log_mass"] = -np.log(n)
    joined["tilt"] = joined["tilt"].fillna(0.0)
    return joined[["problem_id", "answer", "correct", "log_mass", "tilt"]]


def exact_rows(rows: pd.DataFrame, policy: pd.DataFrame) -> pd.DataFrame:
    """Put all correct answers with their exact probabilities in place of the sampled ones.

    Parameters
    ----------
    rows : DataFrame
        From `sampled_rows`; its wrong rows stay and share the rest of the probability.
    policy : DataFrame
        ``problem_id, answer, logprob, tilt``: every correct answer, scored.

    Returns
    -------
    DataFrame
        As `sampled_rows`.

    Raises
    ------
    ValueError
        A column is missing, a log-probability is positive or missing, or a problem of ``rows``
        has no correct answers in ``policy``.
    """
    for name in ("problem_id", "answer", "logprob", "tilt"):
        if name not in policy.columns:
            raise ValueError(f"policy: column {name!r} is missing; add it")
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
    return pd.concat([right[rows.columns], wrong], ignore_index=True)


def forecast_problems(
    rows: pd.DataFrame,
    weights: Sequence[float] = (0.0, 0.5, 1.0),
    k: int | Sequence[int] = (1, 8, 64),
) -> pd.DataFrame:
    """Forecast each problem at each weight λ of the tilt.

    Parameters
    ----------
    rows : DataFrame
        From `sampled_rows` or `exact_rows`.
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
        samples, distinct@k counts answers that were seen: compare it with weight 0, not with other
        estimates.

    Raises
    ------
    ValueError
        A column is missing; a tilt is NaN or +inf; a weight is negative; k is below 1.
    """
    _check_rows(rows)
    ks = whole_ks(k)
    if min(weights, default=-1) < 0:
        raise ValueError(f"weights must be at least 0, got {list(weights)}")
    records = []
    for problem, part in rows.groupby("problem_id", sort=True, observed=True):
        mass = part["log_mass"].to_numpy(float)
        tilt = part["tilt"].to_numpy(float)
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


def outcome(p: Floats, ks: npt.NDArray[np.int64]) -> dict[str, float]:
    """Give pass@k, distinct@k and effective answers of a policy over one problem's correct answers.

    Parameters
    ----------
    p : array, shape (n_answers,)
        Probabilities of the correct answers.
    ks : array of int

    Returns
    -------
    dict
        ``pass@<k> ..., distinct@<k> ..., effective_answers`` (NaN where all are 0).
    """
    accuracy = min(float(p.sum()), 1.0)
    found = {f"pass@{k}": 1 - (1 - accuracy) ** k for k in ks}
    found |= {f"distinct@{k}": float((1 - (1 - p) ** k).sum()) for k in ks}
    square = float((p**2).sum())
    found["effective_answers"] = accuracy**2 / square if square else np.nan
    return found


def forecast(
    rows: pd.DataFrame,
    weights: Sequence[float] = (0.0, 0.5, 1.0),
    k: int | Sequence[int] = (1, 8, 64),
    min_effective: float = 8.0,
    max_poor: float = 0.2,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
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
    confidence, n_resamples, random_state
        Bootstrap over problems.

    Returns
    -------
    DataFrame
        One row a weight and quantity: ``weight, quantity, estimate, low, high, change,
        change_low, change_high, n_problems, poor`` (share of poor problems). The change is from
        weight 0, paired by problem.

    Raises
    ------
    ValueError
        As for `forecast_problems`.
    TooFewSamples
        Too many problems are poor; a ValueError, too.
    """
    rng = np.random.default_rng(random_state)
    wanted = list(dict.fromkeys([0.0, *map(float, weights)]))
    table = forecast_problems(rows, wanted, k)
    quantities = [c for c in table.columns if c not in ("problem_id", "weight", "vetoed")]
    base = table[table["weight"] == 0].set_index("problem_id")
    parts = []
    for weight in map(float, weights):
        part = table[table["weight"] == weight].set_index("problem_id")
        poor = float((part["effective_samples"] < min_effective).mean())
        if poor > max_poor:
            raise TooFewSamples(
                f"weight {weight:g}: {poor:.0%} of the problems keep fewer than {min_effective:g} "
                "effective samples; take a smaller weight or score more rollouts"
            )
        for quantity in quantities:
            pair = pd.concat([part[quantity], base[quantity]], axis=1, join="inner").dropna()
            values = pair.to_numpy()
            both = np.column_stack([values[:, 0], values[:, 0] - values[:, 1]])
            drawn = bootstrap_replicates(both, n_resamples, rng)
            low, high = percentiles(drawn, confidence, len(both))
            parts.append(
                {
                    "weight": weight,
                    "quantity": quantity,
                    "estimate": both[:, 0].mean(),
                    "low": low[0],
                    "high": high[0],
                    "change": both[:, 1].mean(),
                    "change_low": low[1],
                    "change_high": high[1],
                    "n_problems": len(both),
                    "poor": poor,
                }
            )
    return pd.DataFrame(parts)


def _check_rows(rows: pd.DataFrame) -> None:
    for name in ("problem_id", "answer", "correct", "log_mass", "tilt"):
        if name not in rows.columns:
            raise ValueError(f"rows: column {name!r} is missing; make rows with sampled_rows")
    bad = ~(rows["tilt"].to_numpy(float) < np.inf)  # true for NaN, too
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"rows: column 'tilt', row {row}: {rows['tilt'].iloc[row]} is no tilt")
