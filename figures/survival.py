"""Figure 8: which answers survive training, told from the base's scores by its teacher."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from palette import STYLES, name_of, spans
from registry import Drawn, Tables
from scipy.special import logsumexp
from teacher import TEACHER, Bias, before_and_after
from words import rows_of, span

from passk_lab.stats import Resampling, policy_values
from passk_lab.teacher import expected_tilt

HOW = Resampling(n_resamples=10_000, random_state=0)
K = 64
KEYS = ["problem_id", "answer"]
NULL = "policy gradient, exact"
RUNS = (
    "sdsd", "sdsd/frozen", "sdsd-composed", "sdsd-uniform", "grpo", "grpo/kl", "rft", "mara", NULL
)  # fmt: skip
COLUMNS = ("pairs", "by_base", "by_forecast", "mode_by_base", "mode_by_forecast")

Floats = npt.NDArray[np.float64]


# --- Association of what was forecast with what came ---


def moments(pairs: pd.DataFrame, told: str, *given: str) -> Floats:
    """Sums of products of what is forecast, found (``logprob_after``) and given, less their means.

    Within each seed and problem: [seeds, problems, n * n] for n columns.
    """
    groups = pairs.groupby(["seed", "problem_id"], sort=True)
    columns = [told, "logprob_after", *given]
    centred = (pairs[columns] - groups[columns].transform("mean")).to_numpy()
    products = np.einsum("ni,nj->nij", centred, centred).reshape(len(pairs), -1)
    table = pd.DataFrame(products).groupby(groups.ngroup().to_numpy()).sum().to_numpy()
    return table.reshape(pairs["seed"].nunique(), -1, products.shape[1])


def partial_correlation(moments: Floats) -> Floats:
    """Correlation of the first two columns given the others, from moments [n, columns squared]."""
    size = round(np.sqrt(moments.shape[1]))
    m = moments.reshape(-1, size, size)
    rest = m[:, :2, :2] - m[:, :2, 2:] @ np.linalg.solve(m[:, 2:, 2:], m[:, 2:, :2])
    return np.asarray(rest[:, 0, 1] / np.sqrt(rest[:, 0, 0] * rest[:, 1, 1]))


def survivals(pairs: pd.DataFrame) -> Floats:
    """What `COLUMNS` names, [seeds, problems, 5].

    A path survives if 64 samples find it more likely than not. Of the pairs of a problem's paths of
    which one survives: how many there are, and in how many the survivor is the likelier one by the
    base, and by the forecast (ties: half). And whether the likeliest path is the one of the base,
    of the forecast.
    """
    rows = []
    for _, part in pairs.groupby(["seed", "problem_id"], sort=True):
        after = part["logprob_after"].to_numpy()
        alive = after > np.log(-np.expm1(np.log(0.5) / K))  # p > 1 - 2^(-1/K)
        row = [float(alive.sum() * (~alive).sum())]
        scores = [part[name].to_numpy() for name in ("logprob", "forecast")]
        row += [float(np.sign(s[alive, None] - s[~alive]).sum() / 2 + row[0] / 2) for s in scores]
        rows.append(row + [float(s.argmax() == after.argmax()) for s in scores])
    return np.array(rows).reshape(pairs["seed"].nunique(), -1, len(COLUMNS))


def ratios(means: Floats) -> Floats:
    """AUC by the base and by the forecast, and the gain; the same for the likeliest path."""
    auc = means[:, 1:3] / means[:, :1]
    return np.column_stack([auc, auc[:, 1] - auc[:, 0], means[:, 3:5], means[:, 4] - means[:, 3]])


MEASURES = ("auc_base", "auc_forecast", "auc_gain", "mode_base", "mode_forecast", "mode_gain")


def associated(pairs: pd.DataFrame) -> dict[str, float]:
    """Every measure of one run with its interval over seeds and problems."""
    found: dict[str, float] = {}
    for names, values, measure in (
        (MEASURES, survivals(pairs), ratios),
        (
            ("partial",),
            moments(pairs, "tilt", "logprob", "climbed"),
            lambda m: partial_correlation(m)[:, None],
        ),
    ):
        ends = HOW.percentiles(measure(HOW.replicates(values)), values.shape[1])
        estimate = measure(values.mean(axis=(0, 1))[None])[0]
        for name, *numbers in zip(names, estimate, *ends, strict=True):
            found |= dict(zip((name, f"{name} low", f"{name} high"), numbers, strict=True))
    return found


# --- The exact policy gradient, which sees no demonstration ---


def climbed(base: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Log-probabilities of correct paths where the exact policy gradient has such an accuracy.

    Every problem is a softmax over its answers with logits of its own, moved along the gradient
    of its accuracy A: d log p_i = (p_i (r_i - A) - Σ_j p_j² (r_j - A)) dt. Wrong answers are those
    that were listed, which share the probability that correct ones leave.
    """
    names, code = np.unique(base["problem_id"], return_inverse=True)
    place = base.groupby("problem_id").cumcount().to_numpy()
    shape = len(names), int(place.max()) + 1
    theta, right = np.full(shape, -np.inf), np.zeros(shape)
    theta[code, place], right[code, place] = base["log_mass"], base["correct"]
    step = 0.05

    def law(theta: Floats) -> tuple[Floats, Floats]:
        p = np.exp(theta - logsumexp(theta, axis=1, keepdims=True))
        return p, (p * right).sum(axis=1, keepdims=True)

    p, total = law(theta)
    while total.mean() < accuracy:
        before = theta
        theta = theta + step * p * (right - total)
        p, total = law(theta)
        if total.mean() - accuracy > 1e-3:
            theta, step = before, step / 2
            p, total = law(theta)
    after = base.assign(climbed=np.log(p[code, place]))
    return after[after["correct"]]


def masses(answers: pd.DataFrame) -> pd.DataFrame:
    """Log-probability of every listed answer, the wrong ones scaled to what is left for them."""
    p = np.exp(answers["logprob"])
    sums = p.groupby([answers["problem_id"], answers["correct"]]).transform("sum")
    right = p.where(answers["correct"], 0).groupby(answers["problem_id"]).transform("sum")
    rest = p / sums * (1 - right).clip(lower=1e-9)
    return answers.assign(log_mass=np.log(p.where(answers["correct"], rest)))


# --- The figure ---


@TEACHER.figure("survival-paths", "Which answers survive", number=8)
def survival(bias: Bias) -> Drawn:
    """Whether the base's scores by its teacher tell which correct paths survive training."""
    tilts = expected_tilt(bias.own, bias.answers, "probability", drop_self=False)
    listed = masses(tilts)
    listed["forecast"] = listed["logprob"] + listed["tilt"]  # up to what a problem's paths share
    told = listed.loc[listed["correct"], [*KEYS, "logprob", "tilt", "forecast"]]
    rows = []
    for problems, policies in (("new", bias.policies), ("trained on", bias.seen)):
        grpo = policies[(policies["run"] == "grpo") & (policies["step"] == policies["step"].max())]
        accuracy = float(policy_values(grpo, "pass_at_k", 1, ["run"])[0].values.mean())
        flow = climbed(listed, accuracy)
        known = told.merge(flow[[*KEYS, "climbed"]], on=KEYS)
        rng = np.random.default_rng(0)
        for run in (run for run in RUNS if run == NULL or run in set(policies["run"])):
            if run == NULL:  # a little noise, for what is given can't also be found
                noisy = flow["climbed"] + rng.normal(0, 0.1, len(flow))
                after = flow.assign(seed=0, logprob_after=noisy)
            else:
                after = before_and_after(policies, run)
            pairs = after[[*KEYS, "seed", "logprob_after"]].merge(known, on=KEYS)
            rows.append({"problems": problems, "run": run, **associated(pairs)})
    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharey=True)
    places = {run: -place for place, run in enumerate(RUNS)}
    titles = {
        "auc_gain": ("Which path survives", "AUC of the forecast less AUC of the base's shares"),
        "mode_gain": ("Which path wins", "share told right by the forecast less by the base"),
        "partial": ("How far each path moves", "partial correlation with the tilt"),
    }
    for ax, (measure, (title, label)) in zip(axes, titles.items(), strict=True):
        ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=1)
        for (asked, drawn), part in table.groupby(["problems", "run"], sort=False):
            run = str(drawn)
            color = STYLES[run].color if run in STYLES else STYLES["base"].color
            new = asked == "new"
            ax.errorbar(
                part[measure],
                places[run] + (0.14 if new else -0.14),
                xerr=spans(part, measure, f"{measure} "),
                fmt="o" if new else "s",
                color=color,
                markerfacecolor=color if new else "none",
                capsize=2,
            )
        ax.set(title=title, xlabel=label)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(list(places.values()), [name_of(run) for run in places])
    ink = axes[0].spines["left"].get_edgecolor()
    for marker, fill, label in (("o", ink, "new problems"), ("s", "none", "problems trained on")):
        axes[2].plot([], [], marker, color=ink, markerfacecolor=fill, label=label)
    axes[2].legend(loc="lower right")
    return figure, table


@survival.found
def _(tables: Tables) -> str:
    table = tables["survival-paths"]
    new = table[table["problems"] == "new"].set_index("run")

    sdsd = new.loc["sdsd"]
    rows = [
        [
            name_of(run),
            *(span(new.loc[run], 2, name, f"{name} ") for name in ("auc_gain", "partial")),
        ]
        for run in RUNS
    ]
    heads = ("", "gain in AUC by the forecast", "partial correlation with the tilt")
    return f"""Of two correct paths of a problem of which one survives SDSD, the base's own shares
        name the survivor in {sdsd["auc_base"]:.3f} of the pairs, the forecast (the base tilted once
        by its teacher) in {sdsd["auc_forecast"]:.3f}. The exact policy gradient, which sees no
        demonstration, is the null.

{rows_of(heads, rows)}"""
