"""Figure 19: what training did to the categories, against the forecast that was made before it.

The tests were written down before any run was trained; `passes` is the forecast's, three of them.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from palette import lab_styles, name_of, spans
from registry import Drawn, Study, Tables
from survival import moments, partial_correlation
from words import rows_of, span

from passk_lab.stats import Resampling
from passk_lab.stats.policies import policy_values

HOW = Resampling(n_resamples=10_000, random_state=0)
PASSES = 3
LIKELIEST = 12  # members of a category that are compared: those that the forecast shows

Floats = npt.NDArray[np.float64]


RUNS = ("grpo", "dkpo", "sdsd/repeated", "sdsd/different", "sdsd/copying")
TEMPLATES = ("repeated", "different", "copying")
SPLITS = {"id": "trained on", "ood": "held out"}


class Names:
    """Policies before and after training, and what was forecast."""

    def __init__(self, data: Path) -> None:
        self.policies = pd.read_parquet(data / "policies.parquet")
        self.steps = pd.read_parquet(data / "steps.parquet")
        self.forecast = pd.read_csv(data / "forecast.csv")
        self.members = pd.read_parquet(data / "forecast.parquet")

    @cached_property
    def signs(self) -> pd.DataFrame:
        """Test 1."""
        return signs(self.policies, self.forecast)

    @cached_property
    def survival(self) -> pd.DataFrame:
        """Test 3."""
        return survival(self.policies, self.members)

    @cached_property
    def ends(self) -> pd.DataFrame:
        """Accuracy and distinct members before and after, with intervals."""
        return ends(self.steps)


CATEGORIES = Study("categories", Names, "data/categories", HOW.n_resamples)


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
            found = moments(pairs, f"forecast_{passes}", "logprob")
            replicates = partial_correlation(HOW.replicates(found))[:, None]
            low, high = HOW.percentiles(replicates, found.shape[1])
            estimate = partial_correlation(found.mean(axis=(0, 1))[None])
            rows.append(
                {"run": run, "template": template, "split": split, "partial": estimate[0],
                 "low": low[0], "high": high[0], "n_categories": found.shape[1]}
            )  # fmt: skip
    return pd.DataFrame(rows)


# --- The figure ---


@CATEGORIES.table("signs-categories")
def signs_table(names: Names) -> pd.DataFrame:
    """Test 1."""
    return names.signs


@CATEGORIES.table("difference-categories")
def difference_table(names: Names) -> pd.DataFrame:
    """Test 2."""
    return difference(names.policies, names.forecast)


@CATEGORIES.table("survival-categories")
def survival_table(names: Names) -> pd.DataFrame:
    """Test 3."""
    return names.survival


@CATEGORIES.table("ends-categories")
def ends_table(names: Names) -> pd.DataFrame:
    """Accuracy and distinct members."""
    return names.ends


def ends(steps: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and distinct members before and after, with intervals over categories and seeds."""
    table = steps[steps["step"] == steps.groupby("run")["step"].transform("max")]
    rows = []
    for (run, split), part in table.groupby(["run", "split"], observed=True):
        row: dict[str, Any] = {"run": run, "split": split, "n_seeds": part["seed"].nunique()}
        for name in ("pass@1", "distinct@64"):
            values = part.pivot_table(name, "seed", "problem_id", observed=True).to_numpy()
            low, high = HOW.interval(values[:, :, None])
            row |= {name: values.mean(), f"{name}_low": low[0], f"{name}_high": high[0]}
        rows.append(row)
    return pd.DataFrame(rows)


@CATEGORIES.figure("categories", "A real model, forecast before it was trained", number=19)
def categories(names: Names) -> Drawn:
    """Effective answers by run and by category, members that survive, accuracy."""
    each = _each_category(names)
    figure, axes = plt.subplots(2, 2, figsize=(10.6, 8.6))
    _draw_signs(axes[0, 0], names.signs)
    _draw_categories(axes[0, 1], each)
    _draw_survival(axes[1, 0], names.survival)
    _draw_ends(axes[1, 1], names.ends)
    return figure, each


def _each_category(names: Names) -> pd.DataFrame:
    """Forecast and found log ratio of every category and template."""
    parts = []
    for (run, split), table in log_ratios(names.policies).items():
        if template_of(run):
            told = _forecast(names.forecast, template_of(run), table, PASSES)
            part = {"run": run, "split": split, "problem_id": table.columns, "forecast": told}
            parts.append(pd.DataFrame({**part, "found": table.mean().to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def _draw_signs(ax: Axes, table: pd.DataFrame) -> None:
    styles = lab_styles(RUNS)
    for place, (run, look) in enumerate(styles.items()):
        for offset, split in ((-0.14, "id"), (0.14, "ood")):
            row = table[(table["run"] == run) & (table["split"] == split)]
            ax.errorbar(row["estimate"], [place + offset], xerr=spans(row), color=look.color,
                        marker="o", markerfacecolor=look.color if split == "id" else "none",
                        linestyle="none", capsize=3)  # fmt: skip
            ax.plot(row["forecast"], [place + offset], marker="|", markersize=12,
                    markeredgewidth=2, color=ax.spines["left"].get_edgecolor(),
                    linestyle="none")  # fmt: skip
    ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
    ax.set_yticks(range(len(styles)), [name_of(run) for run in styles])
    ax.invert_yaxis()
    ax.set(title="Effective answers, after against before",
           xlabel="log ratio (bar: forecast; open: held-out categories)")  # fmt: skip


def _draw_categories(ax: Axes, table: pd.DataFrame) -> None:
    edges = [table[["forecast", "found"]].min().min(), table[["forecast", "found"]].max().max()]
    ax.plot(edges, edges, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
    for run, look in lab_styles(f"sdsd/{name}" for name in TEMPLATES).items():
        for split in SPLITS:
            part = table[(table["run"] == run) & (table["split"] == split)]
            ax.scatter(part["forecast"], part["found"], s=22, linewidth=0.9, edgecolor=look.color,
                       facecolor=look.color if split == "id" else "none",
                       label=run if split == "id" else None)  # fmt: skip
    ax.set(title="Category by category", xlabel="forecast log ratio", ylabel="found log ratio")
    ax.legend()


def _draw_survival(ax: Axes, table: pd.DataFrame) -> None:
    table = table[table["split"] == "ood"]
    styles = lab_styles(RUNS)
    for offset, template in zip((-0.2, 0, 0.2), TEMPLATES, strict=True):
        part = table[table["template"] == template].set_index("run").loc[list(styles)]
        look = lab_styles([f"sdsd/{template}"])[f"sdsd/{template}"]
        ax.errorbar(part["partial"], np.arange(len(part)) + offset, xerr=spans(part, "partial"),
                    color=look.color, marker=look.marker, linestyle="none", capsize=2,
                    label=template)  # fmt: skip
    ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
    ax.set_yticks(range(len(styles)), [name_of(run) for run in styles])
    ax.invert_yaxis()
    ax.set(title="Which members survive, held out",
           xlabel="correlation with each template's forecast, given the base")  # fmt: skip
    ax.legend(title="forecast for")


def _draw_ends(ax: Axes, table: pd.DataFrame) -> None:
    for run, look in lab_styles(["base", *RUNS]).items():
        for split in SPLITS:
            row = table[(table["run"] == run) & (table["split"] == split)]
            ax.errorbar(row["pass@1"], row["distinct@64"], xerr=spans(row, "pass@1", "pass@1_"),
                        yerr=spans(row, "distinct@64", "distinct@64_"), color=look.color,
                        marker=look.marker, linestyle="none", elinewidth=0.7,
                        markerfacecolor=look.color if split == "id" else "none",
                        label=run if split == "id" else None)  # fmt: skip
    ax.set(title="Accuracy and distinct members", xlabel="pass@1", ylabel="distinct@64")
    ax.legend(loc="lower left")


@categories.found
def _(tables: Tables) -> str:
    gaps = [
        f"{SPLITS[row['split']]} {span(row)} ({row['positive']} of {row['n_categories']})"
        for row in tables["difference-categories"].to_dict("records")
    ]
    return f"""A language model of 135 million parameters names members of 60 categories; three
        wordings of its teacher's prompt, each with a forecast from the base alone, before training.
        Log ratio of effective answers, "repeated" less "different", category by category:
        {"; ".join(gaps)}.

{categories_in_short(tables)}"""


def _tests(tables: Tables) -> str:
    """Say which of the tests that were written down before training came out."""
    ratios = tables["signs-categories"].dropna(subset="forecast")
    same = (ratios["low"] * ratios["forecast"] > 0) & (ratios["high"] * ratios["forecast"] > 0)
    words = [f"{row['run'].removeprefix('sdsd/')} {SPLITS[row['split']]}"
             for row in ratios[~same].to_dict("records")]  # fmt: skip
    first = "every template and split" if not words else f"all but {', '.join(words)}"
    second = (tables["difference-categories"]["low"] > 0).all()
    members = [_survived(tables["survival-categories"], split) for split in SPLITS]
    return f"""Tests fixed before training: the sign is the forecast's, and its interval excludes
        zero, for {first}; the difference of "repeated" and "different" is
        {"positive" if second else "not clearly positive"}, trained on and held out. Correlation
        of the members' log-probabilities after training with the forecast, given the base's:
        {"; ".join(members)}."""


def _survived(table: pd.DataFrame, split: str) -> str:
    """Say how members went along with each template's forecast, and with the nulls."""
    table = table[table["split"] == split]
    mine = table["run"] == "sdsd/" + table["template"]
    trained = table["run"].str.startswith("sdsd")
    own = ", ".join(f"{row['template']} {span(row, 2, 'partial')}"
                    for row in table[mine].to_dict("records"))  # fmt: skip
    other, none = table[trained & ~mine]["partial"], table[~trained]
    most = none.sort_values("partial").iloc[-1]
    return f"""{SPLITS[split]} {own}, with another template's forecast {other.min():.2f} to
        {other.max():.2f}, without a demonstration {none["partial"].min():.2f} to
        {most["partial"]:.2f} ({most["run"]} with "{most["template"]}")"""


SHOWN = {
    "sdsd/repeated": "SDSD, teacher: the answered question, and the question again (`repeated`)",
    "sdsd/different": "SDSD, teacher: examples that differ from the answers (`different`)",
    "sdsd/copying": "SDSD, teacher: examples that are the answers (`copying`)",
    "grpo": "GRPO",
    "dkpo": "distinct@2 policy optimisation",
}


def categories_in_short(tables: Tables) -> str:
    """Forecast and found ratios of effective answers, and accuracy, run by run."""
    ratios = tables["signs-categories"].set_index(["split", "run"])
    last = tables["ends-categories"].set_index(["split", "run"])
    heads = ["", "forecast before training", "found", "forecast, held out", "found, held out",
             "pass@1"]  # fmt: skip
    rows = []
    for run, words in SHOWN.items():
        cells = [words]
        for split in SPLITS:
            row = np.exp(ratios.loc[(split, run), ["forecast", "estimate", "low", "high"]])
            cells += ["" if np.isnan(row["forecast"]) else f"x {row['forecast']:.2f}"]
            cells += [f"x {span(row)}"]
        before, after = (last.loc[("id", name), "pass@1"] for name in ("base", run))
        rows.append([*cells, f"{before:.2f} -> {after:.2f}"])
    return f"{rows_of(heads, rows)}\n\n{_tests(tables)}"
