"""The toy of the paper's Figure 2: a hundred actions, four bumps, two of them rewarded.

The base has its bumps near actions 12, 38, 62 and 88, and the first and the third quarter are
rewarded. RL maximises E r - beta KL(p || base). Self-distillation has the teacher T_c(y)
proportional to p(y) K(y, c), with K a kernel around a correct sample c of the student, and
minimises E_c KL(p || T_c) + beta KL(p || base). As T_c moves with p, its gradient is that of the
reward E_c log K(y, c): of a Gaussian kernel a parabola around the mean of the correct actions.

    python data/paper/toy.py    # writes toy.csv and toy-policies.csv beside this file; a minute
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.float64]

ACTIONS = np.arange(100)
_PEAKS, _HEIGHTS, _WIDTHS = (12, 38, 62, 88), (0.0155, 0.031, 0.0055, 0.0115), (6.7, 6.5, 6.7, 6.5)
REWARDED = (ACTIONS < 25) | ((ACTIONS >= 50) & (ACTIONS < 75))
BASE = sum(
    height * np.exp(-(((ACTIONS - peak) / width) ** 2) / 2)
    for peak, height, width in zip(_PEAKS, _HEIGHTS, _WIDTHS, strict=True)
)
BASE /= BASE.sum()
BETAS = (0.0, 0.1, 0.5)
# Of the actions' distance in units of the width.
KERNELS: dict[str, Callable[[Floats], Floats]] = {
    "Gaussian": lambda z: -(z**2) / 2,
    "Laplace": lambda z: -np.abs(z),
    "Cauchy": lambda z: -np.log1p(z**2),
}
WIDTHS = (3.0, 6.0, 12.0, 20.0)
_COVERED = 0.05  # a quarter counts as covered from this probability on


@dataclass(frozen=True)
class Training:
    """How a policy is trained: exact or sampled gradients of logits, by plain steps or by Adam."""

    name: str
    adam: bool
    sampled: bool
    rate: float
    steps: int
    group: int = 16


TRAININGS = (
    Training("exact gradient flow", adam=False, sampled=False, rate=1.0, steps=20_000),
    Training("exact gradients, Adam", adam=True, sampled=False, rate=0.02, steps=4_000),
    Training("sampled, Adam", adam=True, sampled=True, rate=0.02, steps=4_000),
)


def log_kernel(kernel: str, width: float) -> Floats:
    """Log K(y, c), [100, 100]."""
    return KERNELS[kernel]((ACTIONS[:, None] - ACTIONS) / width)


def coverage(p: Floats) -> Floats:
    """Share of the two rewarded quarters that hold at least a twentieth of the probability."""
    return np.mean([p[..., :25].sum(-1) >= _COVERED, p[..., 50:75].sum(-1) >= _COVERED], axis=0)


def reward(p: Floats) -> Floats:
    """Probability of a rewarded action."""
    return np.asarray(p @ REWARDED)


def rl_optimum(beta: float) -> Floats:
    """The base tilted by the reward; at beta = 0 the limit, which keeps the base's ratios."""
    if beta == 0:
        return np.where(REWARDED, BASE, 0) / reward(BASE)
    return np.asarray(softmax(np.log(BASE) + REWARDED / beta))


def frozen_optimum(beta: float, log_k: Floats) -> Floats:
    """Proposition 2: a frozen teacher, demonstrations from the base."""
    return np.asarray(softmax(np.log(BASE) + gain(BASE, log_k) / (1 + beta)))


def gain(p: Floats, log_k: Floats) -> Floats:
    """E_c log K(y, c) over the correct actions of the policy."""
    right = p * REWARDED
    return np.asarray(right / right.sum(-1, keepdims=True) @ log_k.T)


def trained(
    method: str, beta: float, training: Training, log_k: Floats | None = None, n_seeds: int = 5
) -> Floats:
    """Policies [n_seeds, 100] after training from the base (exact ones have one seed)."""
    rows = n_seeds if training.sampled else 1
    rng = np.random.default_rng(0)
    logits = np.tile(np.log(BASE), (rows, 1))
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, training.steps + 1):
        log_p = log_softmax(logits, axis=-1)
        p = np.exp(log_p)
        value = _value(method, p, log_k, training, rng) - beta * (log_p - np.log(BASE))
        if training.sampled and method == "grpo":
            gradient = _sampled_rl(p, training.group, rng)
            pull = beta * (log_p - np.log(BASE))
            gradient -= p * (pull - (p * pull).sum(-1, keepdims=True))
        else:
            gradient = p * (value - (p * value).sum(-1, keepdims=True))
        if training.adam:
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            logits += training.rate * first / (1 - 0.9**step) / scale
        else:
            logits += training.rate * gradient
    return np.asarray(softmax(logits, axis=-1))


def _value(
    method: str, p: Floats, log_k: Floats | None, training: Training, rng: np.random.Generator
) -> Floats:
    if method == "grpo":
        return REWARDED * np.ones_like(p)
    assert log_k is not None
    if not training.sampled:
        return gain(p, log_k)
    right = p * REWARDED
    drawn = rng.multinomial(training.group, right / right.sum(-1, keepdims=True))
    return np.asarray(drawn / training.group @ log_k.T)


def _sampled_rl(p: Floats, group: int, rng: np.random.Generator) -> Floats:
    """Policy gradient of a group with standardised rewards."""
    drawn = rng.multinomial(group, p)
    hits = (drawn * REWARDED).sum(-1, keepdims=True) / group
    spread = np.sqrt(hits * (1 - hits) * group / (group - 1)) + 1e-4
    weight = drawn * (REWARDED - hits) / spread / group
    return np.asarray(weight - weight.sum(-1, keepdims=True) * p)


def results() -> pd.DataFrame:
    """Mean reward and coverage of every method, beta, kernel and training, a row a seed."""
    rows = []

    def add(p: Floats, **what: object) -> None:
        for seed, one in enumerate(np.atleast_2d(p)):
            numbers = {"reward": float(reward(one)), "coverage": float(coverage(one))}
            numbers |= {"mean_action": float(one @ ACTIONS)}
            rows.append({**what, "seed": seed, **numbers})

    for beta in BETAS:
        add(rl_optimum(beta), method="grpo", beta=beta, kernel="", width=0.0, training="optimum")
        for kernel, width in product(KERNELS, WIDTHS):
            p = frozen_optimum(beta, log_kernel(kernel, width))
            at = {"beta": beta, "training": "optimum, frozen teacher"}
            add(p, method="sdsd", kernel=kernel, width=width, **at)
        for training in TRAININGS:
            at = {"beta": beta, "training": training.name}
            add(trained("grpo", beta, training), method="grpo", kernel="", width=0.0, **at)
            for kernel, width in product(KERNELS, WIDTHS):
                p = trained("sdsd", beta, training, log_kernel(kernel, width))
                add(p, method="sdsd", kernel=kernel, width=width, **at)
    return pd.DataFrame(rows)


def policies(beta: float = 0.1, width: float = 12.0) -> pd.DataFrame:
    """Whole policies at one beta and one Gaussian kernel, a column each."""
    log_k = log_kernel("Gaussian", width)
    found = {
        "base": BASE,
        "grpo, optimum": rl_optimum(beta),
        "sdsd, optimum, frozen teacher": frozen_optimum(beta, log_k),
    }
    for training in TRAININGS:
        found[f"grpo, {training.name}"] = trained("grpo", beta, training)[0]
        found[f"sdsd, {training.name}"] = trained("sdsd", beta, training, log_k)[0]
    return pd.DataFrame({"action": ACTIONS, **found})


if __name__ == "__main__":
    here = Path(__file__).parent
    results().to_csv(here / "toy.csv", index=False, float_format="%.5g")
    policies().to_csv(here / "toy-policies.csv", index=False, float_format="%.5g")
