"""How each of the lab's methods is drawn, in every figure alike.

Variants of a method keep near its hue; controls are grey.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from passk_lab.plots import MethodStyle

STYLES = {
    "base": MethodStyle("#4d4d4d", "-", "o", ""),
    "grpo": MethodStyle("#0072b2", "--", "s", "////"),
    "grpo/kl": MethodStyle("#00308f", (0, (6, 1.5)), "p", "//"),
    "rloo": MethodStyle("#3d9bd6", (0, (1, 1)), "<", "||||"),
    "rft": MethodStyle("#009e73", "-.", "D", "xxxx"),
    "sdsd": MethodStyle("#d55e00", "-", "^", "\\\\\\\\"),
    "sdsd/live": MethodStyle("#8f2f00", (0, (8, 1.5, 1, 1.5)), "d", "\\\\"),
    "sdsd/ema-0.05": MethodStyle("#a50026", (0, (6, 1, 1, 1, 1, 1)), "X", "\\\\++"),
    "sdsd/frozen": MethodStyle("#e39263", (0, (2, 1)), "8", "\\\\.."),
    "sdsd-forward": MethodStyle("#c98a00", (0, (5, 1, 1, 1, 1, 1)), "P", "----"),
    "sdsd-jsd": MethodStyle("#b5579a", ":", "v", "..."),
    "sdsd-uniform": MethodStyle("#4b0f47", (0, (7, 2)), ">", "\\\\--"),
    "sdsd-centred": MethodStyle("#332288", (0, (3, 1)), "X", "++++"),
    "rl-modulated": MethodStyle("#7d7d1e", (0, (4, 1, 1, 1)), "h", "////--"),
    "mara": MethodStyle("#22a294", (0, (9, 3)), "H", "xx"),
    "srpo": MethodStyle("#cc6677", (0, (3, 1, 1, 1)), "*", "++"),
    "pkpo": MethodStyle("#0b5c2b", (0, (1, 2)), "D", "--"),
    "grpo-diversity": MethodStyle("#117733", "-", "D", "oo"),
    "grpo-floor": MethodStyle("#56b4e9", (0, (5, 1)), "v", "///"),
    "ucpo": MethodStyle("#6f5fb5", (0, (2, 1, 1, 1)), "h", "||"),
    "dkpo/2": MethodStyle("#88a61b", (0, (6, 2, 1, 2)), "P", "xx."),
    "dkpo/4": MethodStyle("#5c7010", (0, (2, 2)), "X", "xx-"),
    "sdsd-3": MethodStyle("#ff5fa2", (0, (4, 1)), ">", "\\\\.."),
    "sdsd-composed": MethodStyle("#aa4499", (0, (1, 3)), "<", "\\\\||"),
    "dkpo": MethodStyle("#74c7ef", (0, (6, 2, 1, 2)), "*", "xx"),
    "dkpo/mixed": MethodStyle("#1b4f8f", (0, (3, 2)), "D", "xx/"),
    "rft/balanced": MethodStyle("#66c2a5", (0, (2, 1)), "d", "xxx."),
    "sdsd-composed/balanced": MethodStyle("#dda0dd", (0, (2, 3)), ">", "\\\\||."),
    "sdsd-anchored/dkpo": MethodStyle("#5a1033", (0, (4, 1, 1, 1)), "P", "\\\\o"),
    "sdsd/repeated": MethodStyle("#e8a317", "-", "p", "//.."),
    "sdsd/different": MethodStyle("#c2410c", (0, (4, 1)), "v", "\\\\-"),
    "sdsd/copying": MethodStyle("#6b1d0f", (0, (2, 1)), "D", "\\\\x"),
    "sdsd-anchored": MethodStyle("#882255", (0, (5, 2, 1, 2)), "d", "\\\\oo"),
    "control-other": MethodStyle("#8a8f96", (0, (4, 2)), "1", ".."),
    "control-wrong": MethodStyle("#6a7480", (0, (2, 2)), "2", "||"),
    "control-none": MethodStyle("#a9afb6", (0, (1, 1.5)), "3", "oo"),
}

# As figures name them, where that isn't the name of the run.
LABELS = {
    "base": "Base",
    "grpo": "GRPO",
    "grpo/kl": "GRPO + KL",
    "rloo": "RLOO",
    "rft": "RFT",
    "sdsd": "SDSD",
    "sdsd/live": "SDSD, live teacher",
    "sdsd/ema-0.05": "SDSD, faster teacher",
    "sdsd/frozen": "SDSD, frozen teacher",
    "sdsd-forward": "SDSD, forward KL",
    "sdsd-jsd": "SDSD, JSD",
    "sdsd-uniform": "SDSD, balanced",
    "sdsd-centred": "SDSD, centred",
    "rl-modulated": "GRPO, teacher's weights",
    "mara": "MARA",
    "srpo": "SRPO",
    "pkpo": "PKPO",
    "grpo-diversity": "GRPO + diversity",
    "grpo-floor": "GRPO + floor",
    "ucpo": "UCPO",
    "dkpo/2": "DKPO, k = 2",
    "dkpo/4": "DKPO, k = 4",
    "sdsd-3": "SDSD, K = 3",
    "sdsd-composed": "SDSD, composed teacher",
    "dkpo": "DKPO",
    "dkpo/mixed": "DKPO + GRPO",
    "rft/balanced": "RFT, balanced",
    "sdsd-composed/balanced": "SDSD, composed, balanced",
    "sdsd-anchored/dkpo": "SDSD, anchored + DKPO",
    "sdsd/repeated": "SDSD, “repeated”",
    "sdsd/different": "SDSD, “different”",
    "sdsd/copying": "SDSD, “copying”",
    "sdsd-anchored": "SDSD, anchored teacher",
    "control-other": "other prompt's answer",
    "control-wrong": "wrong demonstration",
    "control-none": "no demonstration",
}


def name_of(run: str) -> str:
    """Name a run as figures and captions do."""
    return LABELS.get(run, run)


def spans(table: pd.DataFrame, name: str = "estimate", ends: str = "") -> np.ndarray:
    """Lengths of the error bars about an estimate, [2, rows]."""
    found = table[[f"{ends}low", f"{ends}high"]].to_numpy().T - table[name].to_numpy()
    return np.abs(found)


def lab_styles(runs: Iterable[str]) -> dict[str, MethodStyle]:
    """Give each of some runs its style, in their order."""
    return {run: STYLES[run] for run in runs}
