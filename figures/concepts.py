"""Figures 11 to 14: the paper's Concept Graph, with the paper's values beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import BY, HOW, side_by_side
from palette import STYLES, lab_styles, name_of
from registry import Drawn, Study, Tables
from words import rows_of, span

from passk_lab.plots import plot_pass_at_k, plot_progress
from passk_lab.stats import bootstrap_mean, paired_differences, policy_curve, policy_values

KS = (1, 2, 4, 8, 16, 32, 64)
MAIN = ("grpo", "grpo-diversity", "sdsd")
PANELS = {"id": "in distribution", "larger": "larger", "harder": "harder"}
TITLES = {"id": "In distribution", "larger": "Larger graphs", "harder": "Harder graphs"}
BASES = {
    "obedient": "obedient teacher",
    "stubborn": "stubborn teacher",
    "short": "short lengths seen",
    "copying": "teacher copies the chain",
}
# The paper's name of a run.
OTHER = {"grpo+diversity": "grpo-diversity"}
MODEL = "Qwen3-1.7B"


class Concepts:
    """Exact policies, what samples show, use of demonstrations, and the paper's values."""

    def __init__(self, data: Path) -> None:
        self.policies = pd.read_parquet(data / "policies.parquet")
        # Each route is a concept of its own: what a set of answers covers.
        self.policies["concepts"] = np.where(self.policies["easy"], 1, 2)
        self.samples = pd.read_parquet(data / "samples.parquet")
        self.use = pd.read_parquet(data / "use.parquet")
        self.last = int(self.policies["step"].max())
        paper = pd.read_csv(data.parent / "paper" / "curves.csv", dtype={"figure": str})
        self.paper = paper.assign(run=paper["method"].replace(OTHER))

        self.values = cache(self._values)

    def at(self, condition: str = "obedient") -> pd.DataFrame:
        """Policies at the end of training, the base's among them."""
        table = self.policies[self.policies["condition"] == condition]
        table = table[(table["step"] == self.last) | (table["run"] == "base")]
        return table.assign(step=self.last).drop(columns="condition")

    def _values(
        self, split: str, metric: str, k: int, condition: str = "obedient"
    ) -> dict[str, np.ndarray]:
        """Values [seeds, problems, 1] of every run at the end."""
        policies = self.at(condition)
        return side_by_side(policy_values(policies[policies["split"] == split], metric, k, BY))

    def entropies(self, condition: str = "obedient") -> dict[str, np.ndarray]:
        """Mean token entropy of each problem's samples in distribution, as `values`, at the end."""
        table = self.samples
        table = table[(table["condition"] == condition) & (table["split"] == "id")]
        table = table[(table["step"] == self.last) | (table["run"] == "base")]
        return _by_run(table, "token_entropy")

    def told(self, figure: str, quantity: str) -> pd.DataFrame:
        """Values of the paper's figure, of its first model."""
        table = self.paper
        of_figure = (table["figure"] == figure) & table["model"].isin([MODEL, "-"])
        return table[of_figure & table["quantity"].str.startswith(quantity)]

    @cached_property
    def entropy(self) -> pd.DataFrame:
        """Means over problems in distribution of what 64 samples show, a row a run, step, seed."""
        table = self.samples
        table = table[(table["condition"] == "obedient") & (table["split"] == "id")]
        columns = ["concepts", "valid_concepts", "token_entropy"]
        return table.groupby(["run", "step", "seed"], observed=True)[columns].mean().reset_index()


CONCEPTS = Study("concepts", Concepts, "data/concepts", HOW["n_resamples"])


@CONCEPTS.figure("pass_at_k-concepts", "The paper's experiment, and here", number=11)
def pass_at_k(data: Concepts) -> Drawn:
    """pass@k of the paper's three methods on its three kinds of graphs, above; ours, below."""
    ours = policy_curve(data.at(), "pass_at_k", KS, BY, **HOW)
    ours = ours[ours["run"].isin(("base", *MAIN)) & ours["split"].isin(PANELS)]
    told = data.told("3", "pass@k")
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), sharex=True, sharey=True)
    styles = lab_styles(["base", *MAIN])
    parts = []
    for (above, below), (split, panel) in zip(axes.T, PANELS.items(), strict=True):
        part = told[told["panel"] == panel].rename(columns={"x": "k", "value": "estimate"})
        part = part.assign(low=part["estimate"], high=part["estimate"], split=split)
        plot_pass_at_k(part.sort_values("run"), above, {r: styles[r] for r in MAIN})
        plot_pass_at_k(ours[ours["split"] == split], below, styles)
        above.set_title(f"{TITLES[split]}: the paper")
        below.set_title(f"{TITLES[split]}: here")
        for ax in (above, below):
            ax.label_outer()
            ax.set_ylim(-0.02, 1.02)
            ax.get_legend().remove()
        parts.append(part[["run", "split", "k", "estimate"]].assign(source="paper"))
    handles = [look.handle() for look in styles.values()]
    figure.legend(handles, list(styles), loc="outside lower center", ncols=len(styles))
    table = pd.concat([ours.assign(source="here"), *parts])
    return figure, table


@pass_at_k.found
def _(tables: Tables) -> str:
    holds = tables["signature-concepts"]["holds"]
    return f"""{holds.sum()} of {len(holds)} claims of the paper hold here.

{signature_in_short(tables)}"""


@CONCEPTS.figure("routes-concepts", "Routes and entropy over training", number=12)
def routes(data: Concepts) -> Drawn:
    """Concepts among 64 samples over training, in the paper and here, and token entropy."""
    means = data.entropy
    base = means[means["run"] == "base"]
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4))
    styles = lab_styles(MAIN)
    told = data.told("3", "unique concepts in 64")
    told = told[told["panel"] == "in distribution"].rename(
        columns={"x": "step", "value": "estimate"}
    )
    told = told.assign(low=told["estimate"], high=told["estimate"], split="id")
    plot_progress(told, axes[0], styles)
    axes[0].set(title="Concepts in 64 samples: the paper", ylabel="concepts", ylim=(0.9, 2.1))
    parts = [told[["run", "step", "estimate"]].assign(source="paper", metric="concepts")]
    for ax, metric, title in (
        (axes[1], "valid_concepts", "Right concepts in 64 samples: here"),
        (axes[2], "token_entropy", "Token entropy: here"),
    ):
        rows = []
        for run in MAIN:
            mine = pd.concat([base.assign(run=run), means[means["run"] == run]])
            for step, part in mine.groupby("step"):
                values = part[metric].to_numpy()
                low, high = values.min(), values.max()
                row = {
                    "run": run,
                    "step": step,
                    "estimate": values.mean(),
                    "low": low,
                    "high": high,
                }
                rows.append({**row, "metric": metric, "source": "here", "n_seeds": len(values)})
        table = pd.DataFrame(rows)
        plot_progress(table, ax, styles)
        ax.set(title=title, ylabel=metric.replace("valid_", "").replace("_", " "))
        parts.append(table)
    axes[1].set_ylim(0.9, 2.1)
    axes[2].set_ylim(bottom=0)
    for ax in axes[[0, 2]]:
        ax.get_legend().remove()
    return figure, pd.concat(parts, ignore_index=True)


@routes.found
def _(tables: Tables) -> str:
    table = tables["routes-concepts"]
    last = table[
        (table["source"] == "here")
        & (table["step"] == table[table["source"] == "here"]["step"].max())
    ]
    ends = last.pivot_table("estimate", "run", "metric", sort=False)
    ends = ends[["valid_concepts", "token_entropy"]]
    rows = [[name_of(str(run)), *(f"{mean:.2f}" for mean in row)] for run, row in ends.iterrows()]
    return f"""At the end of training; a policy that has only the choice between the two chains of
        one route left has {np.log(2) / 5:.2f} nats a token.

{rows_of(("", "right concepts in 64 samples", "token entropy (nats)"), rows)}"""


@CONCEPTS.table("findings-concepts")
def findings(data: Concepts) -> pd.DataFrame:
    """Every run of every condition at the end, with intervals over seeds and problems.

    ``route_entropy`` and ``chain_entropy``: of the choice of the route, and of the chain within
    it, in nats a correct answer; ``one_route``: share of problems of which one route has more than
    0.95 of the correct probability, as training polarises them.
    """
    parts = []
    for condition in BASES:
        measured = {
            f"pass@{k} {split}": data.values(split, "pass_at_k", k, condition)
            for split in (*PANELS, "larger-mid", "mirror")
            for k in (1, 64)
        }
        kept = data.values("id", "concept_coverage_at_k", 64, condition)
        measured["routes@64 id"] = {run: 2 * values for run, values in kept.items()}
        measured["effective_answers id"] = data.values("id", "effective_answers", 1, condition)
        measured["token_entropy id"] = data.entropies(condition)
        measured |= _choices(data.at(condition))
        found = []
        for run in dict.fromkeys(run for values in measured.values() for run in values):
            mine = {name: values[run] for name, values in measured.items() if run in values}
            together = np.concatenate(list(mine.values()), axis=2)
            low, high = bootstrap_mean(together, **HOW)
            row: dict[str, Any] = {"condition": condition, "measure": list(mine), "run": run}
            row |= {"estimate": together.mean(axis=(0, 1)), "low": low, "high": high}
            found.append(pd.DataFrame({**row, "n_seeds": len(together)}))
        parts += [part for _, part in pd.concat(found).groupby("measure", sort=False)]
    return pd.concat(parts)


def _by_run(table: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Values [seeds, problems, 1] of each run."""
    wide = table.pivot_table(column, ["run", "seed"], "problem_id", observed=True)
    return {str(run): part.to_numpy(float)[:, :, None] for run, part in wide.groupby("run")}


def _choices(policies: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """What is left to choose among correct answers: the route, and the chain within a route."""
    problem = ["run", "seed", "problem_id"]
    table = policies[policies["split"] == "id"]
    table = table.assign(p=np.exp(table["logprob"]))
    table["p"] /= table.groupby(problem, observed=True)["p"].transform("sum")
    route = table.groupby([*problem, "easy"], observed=True)["p"].transform("sum")
    table["route_entropy id"] = -table["p"] * np.log(route)
    table["chain_entropy id"] = -table["p"] * np.log(table["p"] / route)
    table["easy_p"] = table["p"] * table["easy"]
    measures = ["route_entropy id", "chain_entropy id"]
    sums = table.groupby(problem, observed=True)[[*measures, "easy_p"]].sum().reset_index()
    sums["one_route id"] = (sums["easy_p"] > 0.95) | (sums["easy_p"] < 0.05)
    return {name: _by_run(sums, name) for name in (*measures, "one_route id")}


@CONCEPTS.table("signature-concepts")
def signature(data: Concepts) -> pd.DataFrame:
    """What the paper reports, row by row, beside what is found here."""
    return pd.DataFrame(list(_signature(data)))


def gap_between(values: dict[str, np.ndarray], run: str, other: str) -> pd.Series:
    """Paired difference of two runs, with its interval."""
    pair = {name: values[name] for name in (run, other)}
    return paired_differences(pair, other, **HOW).iloc[0]


def _signature(data: Concepts) -> Iterator[dict[str, Any]]:
    told = data.told("3", "pass@k").set_index(["panel", "run", "x"])["value"]
    first = {split: data.values(split, "pass_at_k", 1) for split in PANELS}
    reach = data.values("harder", "pass_at_k", 64)
    kept = data.values("id", "concept_coverage_at_k", 64)
    ends = data.entropy[data.entropy["step"] == data.last]

    def row(name: str, claim: str, paper: str, gap: pd.Series, holds: bool, here: str) -> dict:
        low, high = gap["low"], gap["high"]
        return {"row": name, "claim": claim, "paper": paper, "here": here,
                "difference": gap["difference"], "low": low, "high": high,
                "holds": holds}  # fmt: skip

    gap = gap_between(first["id"], "sdsd", "grpo")
    yield row(
        "a", "SDSD's pass@1 in distribution is level with GRPO's",
        f"{told['in distribution', 'sdsd', 1]:.2f} and {told['in distribution', 'grpo', 1]:.2f}",
        gap, abs(gap["difference"]) < 0.05, f"difference {span(gap, 3, 'difference')}",
    )  # fmt: skip
    gap = gap_between(first["larger"], "sdsd", "grpo")
    yield row(
        "b", "SDSD's pass@1 is best on larger graphs",
        f"{told['larger', 'sdsd', 1]:.2f} against {told['larger', 'grpo', 1]:.2f}",
        gap, gap["low"] > 0, f"SDSD less GRPO {span(gap, 3, 'difference')}",
    )  # fmt: skip
    gap = gap_between(reach, "sdsd", "grpo")
    means = {run: reach[run].mean() for run in MAIN}
    yield row(
        "c", "on harder graphs SDSD's pass@64 is far below GRPO's, and GRPO+diversity solves them",
        ", ".join(f"{name_of(run)} {told['harder', run, 64]:.2f}" for run in MAIN[:2]),
        gap, gap["high"] < 0 and means["grpo-diversity"] > means["grpo"],
        ", ".join(f"{name_of(run)} {mean:.2f}" for run, mean in means.items()),
    )  # fmt: skip
    gap = gap_between(kept, "sdsd", "grpo")
    yield row(
        "d", "SDSD covers the fewest routes",
        "concepts in 64 samples 1.04, GRPO 1.15, GRPO+diversity 1.79", gap, gap["high"] < 0,
        ", ".join(f"{name_of(run)} {2 * kept[run].mean():.2f}" for run in MAIN),
    )  # fmt: skip
    entropy = ends.groupby("run", observed=True)["token_entropy"].mean()
    nothing = pd.Series({"difference": np.nan, "low": np.nan, "high": np.nan})
    yield row(
        "e", "SDSD's token entropy falls to 0", "0", nothing, entropy["sdsd"] < 0.05,
        ", ".join(f"{name_of(run)} {entropy[run]:.2f}" for run in MAIN),
    )  # fmt: skip
    far = entropy["grpo-diversity"] - entropy["grpo"]
    yield row(
        "f", "token entropy can't tell GRPO from GRPO+diversity", "0.24 and 0.28", nothing,
        abs(far) < 0.05, f"{entropy['grpo']:.2f} and {entropy['grpo-diversity']:.2f}",
    )  # fmt: skip
    gap = gap_between(kept, "sdsd-external/weight-1", "sdsd")
    yield row(
        "g", "diverse external demonstrations don't widen the student",
        "1.04 to 1.15 concepts whatever is shown", gap, 2 * gap["high"] < 0.1,
        f"{2 * kept['sdsd-external/weight-1'].mean():.2f} routes where GRPO+diversity "
        f"demonstrates, {2 * kept['sdsd'].mean():.2f} without",
    )  # fmt: skip
    gap = gap_between(kept, "sdsd-3", "sdsd")
    yield row(
        "h", "three teachers (K = 3) don't widen it either",
        "science questions: pass@16 78.5 and 78.7", gap, 2 * gap["high"] < 0.1,
        f"{2 * kept['sdsd-3'].mean():.2f} and {2 * kept['sdsd'].mean():.2f} routes",
    )  # fmt: skip


def signature_table(tables: Tables) -> str:
    """The paper's claims, its values, ours and whether a claim holds here."""
    columns = ["row", "claim", "paper", "here", "holds"]
    heads = ("", "the paper says", "its values", "here", "")
    return rows_of(heads, _signature_rows(tables, columns)) + "\n"


def signature_in_short(tables: Tables) -> str:
    """The claims alone, and whether they hold here."""
    return rows_of(("the paper says", "here"), _signature_rows(tables, ["claim", "holds"])) + "\n"


def _signature_rows(tables: Tables, columns: list[str]) -> list[list[str]]:
    table = tables["signature-concepts"]
    said = table.assign(holds=table["holds"].map({True: "holds", False: "not here"}))
    return said[columns].astype(str).to_numpy().tolist()


@CONCEPTS.table("use-concepts")
def use(data: Concepts) -> pd.DataFrame:
    """What a demonstration makes of student and teacher over training, mean over seeds."""
    keys = ["condition", "run", "who", "step", "demo"]
    columns = ["correct", "same_route", "same_answer"]
    return data.use.groupby(keys, observed=True)[columns].mean().round(6).reset_index()


START, END = ("base", "student", 0), ("sdsd", "teacher", 300)


def what_decides(tables: Tables) -> str:
    """Under which conditions a row of the signature holds, in sentences."""
    table = tables["findings-concepts"].set_index(["condition", "measure", "run"])

    def of(run: str, measure: str = "pass@64 harder", condition: str = "obedient") -> str:
        return span(table.loc[(condition, measure, run)])

    use = tables["use-concepts"].set_index(["condition", "run", "who", "step", "demo"])[
        "same_route"
    ]
    obeyed = {who: use["obedient", *who, "hard"] for who in (START, END)}
    lines = [
        f"""**The teacher's obedience** decides (c) and (d). Where the base follows a
        demonstration's route, SDSD's pass@64 on harder graphs is {of("sdsd")} and GRPO's
        {of("grpo")}; where it hardly does, {of("sdsd", condition="stubborn")} and
        {of("grpo", condition="stubborn")}, so that SDSD is the wider one and keeps
        {of("sdsd", "routes@64 id", "stubborn")} routes.""",
        f"""**A teacher that keeps its use of demonstrations** (`sdsd-composed`) comes nearest to
        the paper: pass@1 {of("sdsd-composed", "pass@1 id")} in distribution, routes
        {of("sdsd-composed", "routes@64 id")}, pass@1 on harder graphs
        {of("sdsd-composed", "pass@1 harder")} and pass@64 {of("sdsd-composed")}. Plain SDSD's
        teacher takes the route of a hard demonstration in {obeyed[START]:.2f} at the start and
        {obeyed[END]:.2f} at the end.""",
        f"""**The KL term** decides whether GRPO is wider than SDSD at all. Without it GRPO's
        pass@64 on harder graphs is {of("grpo/kl-0")}, SDSD's {of("sdsd/kl-0")}; with it
        {of("grpo")} and {of("sdsd")}: it keeps GRPO wide and hardly helps SDSD.""",
        f"""**Three teachers** change nothing (K = 3: {of("sdsd-3")}). **Rewards for diversity**
        keep both routes at little cost: GRPO+diversity pass@1
        {of("grpo-diversity", "pass@1 id")}, routes {of("grpo-diversity", "routes@64 id")}; the
        policy gradient of distinct@2, which needs no concepts, {of("dkpo/2", "pass@1 id")} and
        {of("dkpo/2", "routes@64 id")}.""",
        f"""**MARA** solves the harder graphs (pass@64 {of("mara")}) because it moves to the hard
        route, not because it keeps both: routes {of("mara", "routes@64 id")}, and on the mirror,
        where the hard route is cut, pass@64 {of("mara", "pass@64 mirror")}. One split tells a
        model that is wide from one that went the other way only together with its mirror.""",
    ]
    return "\n\n".join(" ".join(line.split()) for line in lines) + "\n"


def seeds_of(data: Concepts, condition: str, split: str, metric: str, k: int) -> pd.DataFrame:
    """Means over problems of each run and seed."""
    rows = [
        {"run": run, "seed": seed, "value": value}
        for run, values in data.values(split, metric, k, condition).items()
        for seed, value in enumerate(values[:, :, 0].mean(axis=1))
    ]
    return pd.DataFrame(rows)


@CONCEPTS.figure("obedience-concepts", "Whether the teacher obeys a demonstration", number=13)
def obedience(data: Concepts) -> Drawn:
    """Harder graphs after training from three bases, a dot a seed."""
    measures = (("harder", "pass_at_k", 64, "pass@64, harder graphs"),
                ("id", "pass_at_k", 1, "pass@1, in distribution"),
                ("larger", "pass_at_k", 1, "pass@1, larger graphs"))  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    styles = lab_styles(["base", *MAIN])
    parts = []
    for ax, (split, metric, k, title) in zip(axes, measures, strict=True):
        for place, condition in enumerate(BASES):
            found = seeds_of(data, condition, split, metric, k)
            parts.append(found.assign(condition=condition, split=split, measure=f"pass@{k}"))
            for offset, (run, look) in zip((-0.3, -0.1, 0.1, 0.3), styles.items(), strict=True):
                values = found.loc[found["run"] == run, "value"]
                ax.scatter(values, np.full(len(values), place + offset), color=look.color,
                           marker=look.marker, s=36, alpha=0.8, linewidth=0.8,
                           label=run if place == 0 else None)  # fmt: skip
        ax.set(xlabel=title, xlim=(-0.03, 1.03))
        ax.set_yticks(range(len(BASES)), list(BASES.values()))
    axes[0].invert_yaxis()  # of all: they share it
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)
    return figure, pd.concat(parts)


@obedience.found
def _(tables: Tables) -> str:
    table = tables["obedience-concepts"]
    part = table[(table["split"] == "harder") & (table["run"] == "sdsd")]
    said = [
        f"{BASES[str(name)]}: {', '.join(f'{value:.2f}' for value in sorted(rows['value']))}"
        for name, rows in part.groupby("condition", sort=False)
    ]
    return f"""SDSD's pass@64 on harder graphs, seed by seed: {"; ".join(said)}."""


@CONCEPTS.figure("external-concepts", "Do diverse demonstrations help?", number=14)
def external(data: Concepts) -> Drawn:
    """As the paper's Figure 5: routes of the demonstrations against the student's."""
    told = data.paper[data.paper["figure"] == "5"]
    told = told.pivot_table("value", "x", "quantity").reset_index()
    rows = [_paper_row(row) for row in told.to_dict("records")]
    for condition in BASES:
        kept = data.values("id", "concept_coverage_at_k", 64, condition)
        solved = data.values("id", "pass_at_k", 1, condition)
        for run in kept:
            kind, _, name = run.partition("/")
            if kind == "sdsd-external":
                shown = kept[SHOWN_BY.get(name, f"grpo-diversity/{name}")][0].mean()
                low, high = bootstrap_mean(kept[run], **HOW)
                row = {"source": condition, "run": run, "demonstrations": 2 * shown}
                row |= {"student": 2 * kept[run].mean(), "low": 2 * low[0], "high": 2 * high[0]}
                rows.append({**row, "accuracy": solved[run].mean(), "n_seeds": len(kept[run])})
    table = pd.DataFrame(rows).sort_values(["source", "demonstrations"])
    figure, ax = plt.subplots(figsize=(6.4, 4.8))
    looks = {"paper": ("*", STYLES["base"]), "obedient": ("o", STYLES["sdsd"]),
             "stubborn": ("s", STYLES["grpo"])}  # fmt: skip
    for source, part in table.groupby("source"):
        marker, look = looks[str(source)]
        spread = np.abs(part[["low", "high"]].to_numpy().T - part["student"].to_numpy())
        ax.errorbar(part["demonstrations"], part["student"], yerr=spread, marker=marker,
                    linestyle="none", color=look.color, capsize=2,
                    label=BASES.get(str(source), "the paper"))  # fmt: skip
    ax.plot([1, 2], [1, 2], color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
    ax.set(xlabel="routes in 64 demonstrations", ylabel="routes in 64 samples of the student",
           xlim=(0.98, 2.05), ylim=(0.98, 2.05))  # fmt: skip
    ax.legend(loc="upper left")
    return figure, table


SHOWN_BY = {"grpo": "grpo", "base": "base", "weight-1": "grpo-diversity"}


def _paper_row(row: dict[Any, Any]) -> dict[str, Any]:
    student = next(value for name, value in row.items() if "concepts" in str(name))
    return {"source": "paper", "run": "", "demonstrations": row["x"], "student": student,
            "low": student, "high": student}  # fmt: skip


@external.found
def _(tables: Tables) -> str:
    table = tables["external-concepts"]
    said = []
    for source, part in table.groupby("source", sort=False):
        if source != "paper":
            ends = part.iloc[[0, -1]]
            first, last = (
                f"{row['demonstrations']:.2f} routes shown, {row['student']:.2f} kept at pass@1 "
                f"{row['accuracy']:.2f}"
                for _, row in ends.iterrows()
            )
            said.append(f"{BASES[str(source)]}: {first}; {last}")
    told = table.loc[table["source"] == "paper", "student"]
    return f"""The least and the most diverse demonstrations. {". ".join(said)}. In the paper
        students keep {told.min():.2f} to {told.max():.2f} concepts whatever they are shown."""
