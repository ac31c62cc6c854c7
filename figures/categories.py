"""What training did to the categories, against the forecast that was made before it.

The tests were written down before any run was trained; `passes` is the forecast's, three of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.stats import Resampling
from passk_lab.stats.policies import policy_values

HOW = Resampling(n_resamples=10_000, random_state=0)
PASSES = 3
LIKELIEST = 12  # members of a category that are compared: those that the forecast shows

Floats = npt.NDArray[np.float64]


def template_of(run: str) -> str:
    """The teacher's template in a run's name."""
    return run.partition("/")[2]


def log_ratios(policies: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Log ratio of effective answers to the base's, by run and split: [seed, category].

    ``policies`` are those of ``data/categories``: the base, and each run after its last update.
    """
    found = policy_values(policies, "effective_answers", 1, by=("run", "split"))
    tables = {
        values.group: pd.DataFrame(np.log(values.values[:, :, 0]), columns=values.problem_id)
        for values in found
    }
    return {
        (run, split): table - tables["base", split].iloc[0]
        for (run, split), table in tables.items()
        if run != "base"
    }


def _forecast(forecast: pd.DataFrame, template: str, like: pd.DataFrame, passes: int) -> Floats:
    """Forecast log ratios of a table's categories."""
    part = forecast[forecast["template"] == template].set_index("problem_id")
    return part.loc[like.columns, f"log_ratio_{passes}"].to_numpy()


def signs(policies: pd.DataFrame, forecast: pd.DataFrame, passes: int = PASSES) -> pd.DataFrame:
    """Does a template narrow or widen as forecast? Mean log ratio of effective answers.

    Returns
    -------
    DataFrame
        ``run, split, estimate, low, high, n_categories``; for runs with a template ``forecast``,
        the mean that was forecast, ``same_sign``, the share of the categories whose sign was, and
        ``r``, the correlation over categories.
    """
    rows: list[dict[str, Any]] = []
    for (run, split), table in log_ratios(policies).items():
        low, high = HOW.interval(table.to_numpy()[:, :, None])
        mean = table.mean().to_numpy()
        row = {"run": run, "split": split, "estimate": mean.mean(), "low": low[0], "high": high[0]}
        row["n_categories"] = len(mean)
        if template_of(run):
            told = _forecast(forecast, template_of(run), table, passes)
            row["forecast"] = told.mean()
            row["same_sign"] = np.mean(np.sign(mean) == np.sign(told))
            row["r"] = np.corrcoef(mean, told)[0, 1]
        rows.append(row)
    return pd.DataFrame(rows)


def difference(
    policies: pd.DataFrame,
    forecast: pd.DataFrame,
    wide: str = "sdsd/repeated",
    narrow: str = "sdsd/different",
    passes: int = PASSES,
) -> pd.DataFrame:
    """One template less another, category by category.

    Returns
    -------
    DataFrame
        ``split, estimate, low, high, forecast``; ``positive``, the number of categories of
        ``n_categories`` where the difference is.
    """
    ratios = log_ratios(policies)
    rows = []
    for split in sorted({split for _, split in ratios}):
        one, other = ratios[wide, split], ratios[narrow, split]
        drawn = HOW.replicates_of([t.to_numpy()[:, :, None] for t in (one, other)])
        low, high = HOW.percentiles(drawn[0] - drawn[1], one.shape[1])
        mean = (one.mean() - other.mean()).to_numpy()
        told = [_forecast(forecast, template_of(run), one, passes) for run in (wide, narrow)]
        rows.append(
            {"split": split, "estimate": mean.mean(), "low": low[0], "high": high[0],
             "forecast": (told[0] - told[1]).mean(), "positive": int((mean > 0).sum()),
             "n_categories": len(mean)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def survival(policies: pd.DataFrame, members: pd.DataFrame, passes: int = PASSES) -> pd.DataFrame:
    """Which members survive? Log-probabilities after training and forecast, given the base's.

    Every run is held against every template: policy gradients, and runs with another template, are
    the nulls. Within categories, over their likeliest members; intervals over categories and seeds.

    Parameters
    ----------
    policies : DataFrame
        As for `log_ratios`.
    members : DataFrame
        ``forecast.parquet`` of ``data/categories``.

    Returns
    -------
    DataFrame
        ``run, template, split, partial, low, high, n_categories``.
    """
    keys = ["split", "problem_id", "answer"]
    order = members.groupby(["template", "split", "problem_id"])["logprob"]
    shown = members[order.rank(ascending=False, method="first") <= LIKELIEST]
    rows = []
    for run, after in policies[policies["run"] != "base"].groupby("run", sort=False):
        for (template, split), told in shown.groupby(["template", "split"], sort=False):
            pairs = after[[*keys, "seed", "logprob"]].merge(told, on=keys, suffixes=("_after", ""))
            moments = _moments(pairs, f"forecast_{passes}")
            low, high = HOW.percentiles(
                _partial(HOW.replicates(moments))[:, None], moments.shape[1]
            )
            estimate = _partial(moments.mean(axis=(0, 1))[None])
            rows.append(
                {"run": run, "template": template, "split": split, "partial": estimate[0],
                 "low": low[0], "high": high[0], "n_categories": moments.shape[1]}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _moments(pairs: pd.DataFrame, told: str) -> Floats:
    """Sums of products of what is forecast, found and given, [seeds, categories, 3 x 3]."""
    groups = pairs.groupby(["seed", "problem_id"], sort=True)
    columns = [told, "logprob_after", "logprob"]
    centred = (pairs[columns] - groups[columns].transform("mean")).to_numpy()
    products = np.einsum("ni,nj->nij", centred, centred).reshape(len(pairs), 9)
    table = pd.DataFrame(products).groupby(groups.ngroup().to_numpy()).sum().to_numpy()
    return table.reshape(pairs["seed"].nunique(), -1, 9)


def _partial(moments: Floats) -> Floats:
    """Correlation of the first two given the third, from moments [n, 9]."""
    m = moments.reshape(-1, 3, 3)
    rest = m[:, :2, :2] - m[:, :2, 2:] * m[:, 2:, :2] / m[:, 2:, 2:]
    return np.asarray(rest[:, 0, 1] / np.sqrt(rest[:, 0, 0] * rest[:, 1, 1]))
