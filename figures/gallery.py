"""Write ``README.md`` of this folder: every figure, and in a sentence what it found.

All numbers are read from the CSV beside each figure, so that text and figure can't disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from passk_lab.rollouts import atomic_write

HEAD = """# Figures

`make figures` draws these from `data/` and writes this page. Each is a PNG, an SVG and the CSV that
it shows; `manifest.json` has the data's hashes, settings and versions. Numbers in brackets are 95 %
intervals: over problems, and in the path-finding lab over training seeds, too.
"""


def write_gallery(figures: Path) -> Path:
    """Write the page for the figures of a folder."""
    parts = [HEAD]
    for name, title, told in ENTRIES:
        sentence = " ".join(told(figures).split())
        parts.append(f"## {title}\n\n![{title}]({name}.png)\n\n{sentence}\n")
    parts.append(f"## Every run of the lab\n\n{runs_table(figures)}")
    path = figures / "README.md"
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(parts))
    return path


COLUMNS = (
    ("id", "pass@1", 2, "pass@1"),
    ("id", "pass@64", 3, "pass@64"),
    ("id", "distinct@64", 1, "distinct@64"),
    ("id", "coverage@64", 2, "coverage@64"),
    ("id", "token_entropy", 2, "token entropy"),
    ("ood-blocked", "pass@64", 2, "pass@64, favourite blocked"),
    ("ood-waypoint", "pass@64", 2, "pass@64, waypoint"),
)


def runs_table(figures: Path) -> str:
    """Table of all runs after the last update, the most accurate first."""
    found = Found(figures).table
    slopes = pd.read_csv(figures / "amplification-paths.csv").set_index("run")
    order = found.loc[("id", "pass@1")]["estimate"].sort_values(ascending=False).index
    names = [*(title for *_, title in COLUMNS), "slope"]
    lines = [f"| run | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for run in order:
        cells = [span(found.loc[(split, m, run)], digits) for split, m, digits, _ in COLUMNS]
        cells.append(span(slopes.loc[run]) if run in slopes.index else "1")
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def span(row: pd.Series, digits: int = 2, middle: str = "estimate", ends: str = "") -> str:
    """Format an estimate with its interval."""
    values = (row[middle], row[f"{ends}low"], row[f"{ends}high"])
    point, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{point} [{low}, {high}]"


def share(row: pd.Series, other: str) -> str:
    """Format what is left of another run's, with its interval."""
    parts = (row[f"{part} vs {other}"] for part in ("ratio", "ratio_low", "ratio_high"))
    point, low, high = (f"{value:.0%}" for value in parts)
    return f"{point} [{low}, {high}]"


class Found:
    """Lookups in the lab's findings."""

    def __init__(self, figures: Path) -> None:
        table = pd.read_csv(figures / "findings-paths.csv")
        self.table = table.set_index(["split", "metric", "run"]).sort_index()

    def __call__(self, metric: str, run: str, split: str = "id", digits: int = 2) -> str:
        """Estimate of a run."""
        return f"{self.table.loc[(split, metric, run), 'estimate']:.{digits}f}"

    def against(self, metric: str, run: str, other: str, split: str = "id") -> str:
        """Difference of a run to another, with its interval."""
        return span(self.pair(metric, run, other, split), 2, "difference")

    def ratio(self, metric: str, run: str, other: str, split: str = "id") -> str:
        """Ratio of a run to another, with its interval."""
        return span(self.pair(metric, run, other, split), 2, "ratio", "ratio_")

    def pair(self, metric: str, run: str, other: str, split: str) -> pd.Series:
        """Columns that compare a run with another."""
        row, tail = self.table.loc[(split, metric, run)], f" vs {other}"
        return row[[name for name in row.index if name.endswith(tail)]].rename(
            lambda name: name.removesuffix(tail)
        )


def optimum(figures: Path) -> str:
    table = pd.read_csv(figures / "optimum-theory.csv")
    ratios = [
        f"{run}: {part['probability'].iloc[0] / part['probability'].iloc[2]:.1f}"
        for run, part in table.groupby("law", sort=False)
    ]
    return f"""Theory, one prompt with three correct answers. How many times as likely as the rarest
        correct answer the most frequent one is: {"; ".join(ratios)}."""


def dynamics(figures: Path) -> str:
    last = pd.read_csv(figures / "dynamics-theory.csv").groupby("law", sort=False).last()
    laws = [f"{law}: {row['estimate']:.2f}" for law, row in last.iterrows()]
    return f"""Theory. Effective correct answers after {last["step"].max():.0f} generations,
        from {first_value(figures):.2f}: {"; ".join(laws)}."""


def first_value(figures: Path) -> float:
    """Effective answers at the start of the dynamics."""
    table = pd.read_csv(figures / "dynamics-theory.csv")
    return float(table.loc[table["step"] == 0, "estimate"].iloc[0])


def slopes(figures: Path) -> str:
    table = pd.read_csv(figures / "slopes-theory.csv")
    part = table[(table["n_samples"] == 64) & (table["slope"] == table["slope"].min())]
    means = [f"{row['estimator']} {row['mean']:.2f}" for _, row in part.iterrows()]
    return f"""Simulation. The true slope is {part["slope"].iloc[0]:.0f} (nothing changed); from
        64 samples of 8 answers the estimators find on average: {", ".join(means)}."""


def countdown(figures: Path) -> str:
    table = pd.read_csv(figures / "differences-countdown.csv").set_index("k")
    first, last = table.iloc[0], table.iloc[-1]
    return f"""A real model (SmolLM2-135M-Instruct), temperature 0.6 against 1.0: pass@1 changes by
        {span(first, 3, "difference")}, pass@{table.index[-1]} by {span(last, 3, "difference")}."""


def distinct_countdown(figures: Path) -> str:
    table = pd.read_csv(figures / "distinct_at_k-countdown.csv")
    last = table[table["k"] == table["k"].max()].set_index("run")
    found = [f"{run}: {span(row)}" for run, row in last.iterrows()]
    return f"Distinct correct answers in {int(table['k'].max())} samples: {'; '.join(found)}."


def crossing(figures: Path, run: str, other: str, split: str = "id") -> str:
    """Say where a run's curve crosses another's."""
    table = pd.read_csv(figures / "crossings-paths.csv").set_index(["split", "run", "baseline"])
    row = table.loc[(split, run, other)]
    if pd.isna(row["k_cross"]):
        return f"does not cross up to k = 1,024 (in {row['share']:.0%} of the replicates it does)"
    high = f"{row['high']:.0f}" if row["high"] < 1e9 else "beyond 1,024"
    return f"crosses at k = {row['k_cross']:.0f} [{row['low']:.0f}, {high}]"


def pass_at_k(figures: Path) -> str:
    found = Found(figures)
    return f"""Accuracy of one sample: base {found("pass@1", "base")}, GRPO
        {found("pass@1", "grpo")}, SDSD {found("pass@1", "sdsd")} (SDSD less GRPO
        {found.against("pass@1", "sdsd", "grpo")}). Of 64: base
        {found("pass@64", "base", digits=3)}, GRPO {found("pass@64", "grpo", digits=3)}, SDSD
        {found("pass@64", "sdsd", digits=3)} (SDSD less GRPO
        {found.against("pass@64", "sdsd", "grpo")}). Against the base's curve, SDSD's
        {crossing(figures, "sdsd", "base")}, GRPO's {crossing(figures, "grpo", "base")}. Share of
        the correct paths found in 64 samples: base {found("coverage@64", "base")}, GRPO
        {found("coverage@64", "grpo")}, SDSD {found("coverage@64", "sdsd")}."""


def distinct_at_k(figures: Path) -> str:
    found = Found(figures)
    return f"""Distinct correct paths in 64 samples: base {found("distinct@64", "base")}, GRPO
        {found("distinct@64", "grpo")}, GRPO with a penalty {found("distinct@64", "grpo/kl")}, SDSD
        {found("distinct@64", "sdsd")}. SDSD keeps {found.ratio("distinct@64", "sdsd", "grpo")} of
        what GRPO keeps, and {found.ratio("distinct@64", "sdsd", "grpo/kl")} of what GRPO with a
        penalty does."""


def entropy(figures: Path) -> str:
    found = Found(figures)
    table = pd.read_csv(figures / "entropy-paths.csv")
    alive = table[table["pass@1"] > 0.05]
    ranks = [
        f"{part[['token_entropy', 'distinct@64']].corr('spearman').iloc[0, 1]:.2f}"
        for part in (table, alive)
    ]
    return f"""Mean token entropy (nats) and distinct@64 at the end: GRPO with a penalty
        {found("token_entropy", "grpo/kl")} and {found("distinct@64", "grpo/kl")}, SDSD
        {found("token_entropy", "sdsd")} and {found("distinct@64", "sdsd")}, SDSD with the faster
        teacher {found("token_entropy", "sdsd/ema-0.05")} and
        {found("distinct@64", "sdsd/ema-0.05")}. Rank correlation over all checkpoints {ranks[0]};
        over those that still solve one problem in twenty, {ranks[1]}."""


def ood(figures: Path) -> str:
    found = Found(figures)
    names = {
        "ood-blocked": "Favourite path blocked",
        "ood-larger": "larger graphs",
        "ood-waypoint": "required waypoint",
    }
    told = [
        f"""{name}: base {found("pass@64", "base", split)}, GRPO {found("pass@64", "grpo", split)},
        GRPO with a penalty {found("pass@64", "grpo/kl", split)}, SDSD
        {found("pass@64", "sdsd", split)} (less GRPO
        {found.against("pass@64", "sdsd", "grpo", split)}, less GRPO with a penalty
        {found.against("pass@64", "sdsd", "grpo/kl", split)})"""
        for split, name in names.items()
    ]
    return f"pass@64 out of distribution. {'; '.join(told)}."


def tradeoff(figures: Path) -> str:
    table = pd.read_csv(figures / "matched-paths.csv").set_index(["metric", "baseline", "run"])
    told = []
    for run in ("sdsd", "sdsd/frozen", "sdsd-uniform", "mara"):
        row = table.loc[("coverage@64", "grpo", run)]
        told.append(f"{run} {span(row, 2, 'ratio', 'ratio_')} (at pass@1 {row['target']:.2f})")
    return f"""Coverage@64 relative to GRPO's where both are equally accurate, nine tenths of the
        way to the best accuracy that both reach: {"; ".join(told)}."""


def conditions(figures: Path) -> str:
    table = pd.read_csv(figures / "map-paths.csv")
    ahead = table[table["difference low"] > 0]["condition"].tolist()
    behind = table[table["difference high"] < 0]["condition"].tolist()
    narrower = table[table["ratio high"] < 1]["condition"].tolist()
    wider = table[table["ratio low"] > 1]["condition"].tolist()
    fewer = table[table["kept high"] < 1]["condition"].tolist()
    more = table[table["kept low"] > 1]["condition"].tolist()
    return f"""One condition changed at a time, {len(table)} in all; what is counted has an interval
        on one side. After {table["step"].max()} updates SDSD is more accurate than GRPO in
        {listed(ahead)} and less in {listed(behind)}; it covers fewer correct paths in
        {listed(fewer)} and more in {listed(more)}. At equal accuracy it covers fewer in
        {listed(narrower)} and more in {listed(wider)}."""


def listed(names: list[str]) -> str:
    """Count, and name, conditions."""
    return f"{len(names)} ({'; '.join(names)})" if names else "none"


def amplification(figures: Path) -> str:
    table = pd.read_csv(figures / "amplification-paths.csv").set_index("run")
    told = [
        f"{run} {span(table.loc[run])}"
        for run in ("sdsd", "sdsd/frozen", "sdsd-uniform", "grpo", "grpo/kl", "mara")
    ]
    return f"""Slope of log π after against before over the correct paths (1: ratios kept):
        {", ".join(told)}; the tilt of one generation alone predicts
        {span(table.loc["predicted, weight 1"])}. The controls: base against base
        {table.loc["base again", "estimate"]:.2f}, ideal RL
        {table.loc["ideal RL", "estimate"]:.2f}."""


def sources(figures: Path) -> str:
    table = pd.read_csv(figures / "sources-paths.csv")
    slope = table[table["measure"] == "slope"].set_index("source")
    return f"""What the tilt adds to the slope: {span(slope.loc["tilt"])} in all, of which the
        teacher's own preference {span(slope.loc["teacher_preference"])}, the more frequent
        demonstrations {span(slope.loc["demonstration_sampling"])} (copying them
        {span(slope.loc["sampling_copying"])}), and any context at all
        {span(slope.loc["any_context"])}."""


def forecast(figures: Path) -> str:
    table = pd.read_csv(figures / "forecast-paths.csv")
    name = "effective_answers"
    told = [
        f"""{row["run"]}, {row["problems"]} problems: forecast drop
        {row[f"{name}_drop_forecast"]:.2f}, measured
        {span(row, 2, f"{name}_drop", f"{name}_drop_")}, rank correlation over problems
        {row[f"{name}_rank"]:.2f} (the base's own number of effective paths alone:
        {row[f"{name}_rank_of_base"]:.2f})"""
        for _, row in table.iterrows()
    ]
    return f"Drop of effective correct paths, problem by problem. {'; '.join(told)}."


def trained_on(figures: Path) -> str:
    table = pd.read_csv(figures / "seen-findings-paths.csv").set_index(["metric", "run"])
    solved = [
        f"{run} {span(table.loc[('pass@1', run)])}"
        for run in ("grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05")
    ]
    found = []
    for run in ("sdsd", "sdsd/frozen", "sdsd/ema-0.05"):
        row = table.loc[("distinct@64", run)]
        shares = " and ".join(f"{share(row, other)} of {other}'s" for other in ("grpo", "grpo/kl"))
        found.append(f"{run} keeps {shares}")
    return f"""Where the problems that are asked are those that were trained on, pass@1 is
        {"; ".join(solved)}. Of the distinct correct paths in 64 samples, {"; ".join(found)}."""


def science(figures: Path) -> str:
    table = pd.read_csv(figures / "science-findings.csv").set_index(["metric", "run"])
    metrics = table.index.get_level_values("metric").unique()
    meanings = next(name for name in metrics if name.startswith("meanings@"))
    said = []
    for run in table.loc["pass@1"].index:
        rows = {name: table.loc[(name, run)] for name in metrics}
        said.append(
            f"""{run}: pass@1 {span(rows["pass@1"])}, {meanings} {span(rows[meanings])}, token
            entropy {span(rows["token_entropy"])} nats, {span(rows["n_tokens"], 0)} tokens a
            reply, {span(rows["differing"])} of the pairs of correct replies differ in meaning"""
        )
    row = table.loc[(meanings, "sdsd")]
    teacher = pd.read_csv(figures / "science-teacher.csv").set_index("quantity")
    return f"""A language model of 135 million parameters on questions that training never saw
        (three seeds, twelve updates). {"; ".join(said)}. Guessing has pass@1 0.25. SDSD keeps
        {share(row, "base")} of the base's {meanings}. What the teacher knows: shown a correct
        reply, the base's other correct replies change by {span(teacher.loc["correct"])} nats and
        its wrong ones by {span(teacher.loc["wrong"])}, a difference of
        {span(teacher.loc["correct - wrong"])} over {int(teacher.loc["correct", "n_problems"])}
        questions; above zero a demonstration would tell right from wrong.
        {teacher.loc["interaction", "estimate"]:.0%} of the PCMI among correct replies is neither
        the rollout's nor the demonstration's own."""


Told = Callable[[Path], str]
ENTRIES: tuple[tuple[str, str, Told], ...] = (
    ("optimum-theory", "1. What the optima do to correct answers", optimum),
    ("pass_at_k-paths", "2. pass@k, and how many of the correct paths are found", pass_at_k),
    ("distinct_at_k-paths", "3. Distinct correct paths", distinct_at_k),
    ("entropy-paths", "4. Token entropy and distinct paths", entropy),
    ("ood-paths", "5. Out of distribution", ood),
    ("amplification-paths", "6. Gaps among correct paths", amplification),
    ("sources-paths", "7. Where the tilt comes from", sources),
    ("forecast-paths", "8. Forecast and outcome", forecast),
    ("dynamics-theory", "9. Generations", dynamics),
    ("science", "10. Science questions with a real model", science),
    ("seen-paths", "On the problems that were trained on", trained_on),
    ("tradeoff-paths", "Accuracy and coverage in training", tradeoff),
    ("map-paths", "Where self-distillation narrows", conditions),
    ("slopes-theory", "Estimators of the slope", slopes),
    ("pass_at_k-countdown", "A real model at two temperatures", countdown),
    ("distinct_at_k-countdown", "Its distinct answers", distinct_countdown),
)
