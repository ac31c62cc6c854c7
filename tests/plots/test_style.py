"""Styles: distinct, stable, and to be told apart by any eyes."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from passk_lab import plots

# As many runs as the palette has colours, the baseline's among them.
RUNS = ["base", *(f"run-{i}" for i in range(1, 10))]


def test_runs_have_distinct_styles():
    styles = plots.method_styles(RUNS, "base")
    assert len({s.color for s in styles.values()}) == len(RUNS)
    assert len({s.marker for s in styles.values()}) == len(RUNS)


def test_colours_do_not_depend_on_the_order():
    one = plots.method_colors(["b", "a", "base", "c"])
    assert one == plots.method_colors(["c", "base", "a", "b"])
    assert len(set(one.values())) == 4


def test_baseline_is_grey_and_takes_no_colour():
    grey = plots.method_colors(["base"], "base")["base"]
    colors = plots.method_colors(["T=1", "T=0.6", "base"], baseline="T=1")
    assert colors["T=1"] == grey
    assert colors["base"] != grey
    assert {**colors, "T=1": None} == {"T=1": None, **plots.method_colors(["T=0.6", "base"])}


def test_more_runs_than_colours():
    names = [f"step{i:03d}" for i in range(30)]
    assert list(plots.method_styles(names)) == names


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_with_the_background(dark):
    def luminance(color):
        channels = np.array(to_rgb(color))
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    with plots.style(dark):
        paper = luminance(plt.rcParams["axes.facecolor"])
    for name, color in plots.method_colors(RUNS, "base", dark).items():
        bright, dim = sorted([luminance(color), paper], reverse=True)
        # Lines are graphics: WCAG 2 asks for 3 to 1; below it, orange on white.
        assert (bright + 0.05) / (dim + 0.05) > 2.5, name


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("n_runs", "apart"), [(3, 20), (6, 5)])
def test_colours_differ_for_any_eyes(n_runs, apart, dark, seen):
    colors = plots.method_colors(RUNS[:n_runs], "base", dark)
    for one, other in itertools.combinations(colors, 2):
        assert np.linalg.norm(seen(colors[one]) - seen(colors[other])) > apart, (one, other)


def test_style_ends_with_its_block():
    before = mpl.rcParams.copy()
    with plots.style():
        assert plt.rcParams["axes.spines.top"] is False
    assert mpl.rcParams == before
