"""Figures: the right data drawn, one style, the same bytes twice, hostile names harmless."""

from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from passk_lab import plots
from tests.helpers import refusals, refuses

pytestmark = pytest.mark.slow  # figures drawn to the last pixel

# As many runs as the palette has colours, the baseline's among them.
RUNS = ["base", *(f"run-{i}" for i in range(1, 10))]


@pytest.fixture(autouse=True)
def _close_figures():
    mpl.use("agg")
    yield
    plt.close("all")


def curve(runs, ks=(1, 2, 4, 8, 16)) -> pd.DataFrame:
    rows = [(run, k, 1 - (0.9 - 0.05 * i) ** k, 10) for i, run in enumerate(runs) for k in ks]
    table = pd.DataFrame(rows, columns=["run", "k", "estimate", "n_problems"])
    return table.assign(low=table["estimate"] - 0.05, high=table["estimate"] + 0.05)


def test_what_an_extrapolation_rests_on_is_seen():
    ks = [1, 2, 4, 8, 16, 64]
    basis = ["samples", "samples", "samples", "fits", "fits", "bounds"]
    table = curve(["base"], ks).assign(basis=basis)
    table = table.assign(fit_low=table["estimate"] - 0.01, fit_high=table["estimate"] + 0.02)
    ax = plots.plot_pass_at_k(table)
    thin, marked = ax.get_lines()
    assert thin.get_xdata().tolist() == ks[:5]
    assert (thin.get_marker(), marked.get_xdata().tolist()) == ("None", ks[:3])
    bounds, fits = (band.get_paths()[0].vertices for band in ax.collections)
    assert bounds[:, 0].max() == fits[:, 0].max() == 64
    assert np.ptp(fits[fits[:, 0] == 64, 1]) == pytest.approx(0.03)
    assert np.ptp(bounds[bounds[:, 0] == 64, 1]) == pytest.approx(0.1)


def differences(runs) -> pd.DataFrame:
    table = curve(runs).rename(columns={"estimate": "difference"})
    table[["difference", "low", "high"]] -= 0.4
    return table


def crossings(run, at=2.5, low=1.5, high=6.0) -> pd.DataFrame:
    return pd.DataFrame([{"run": run, "k_cross": at, "low": low, "high": high, "k_max": 16}])


def rates(runs, n=10) -> pd.DataFrame:
    correct = np.random.default_rng(0).integers(0, n + 1, 50 * len(runs))
    counts = {"run": np.repeat(runs, 50), "n_samples": n, "n_correct": correct}
    return plots.pass_rates(pd.DataFrame(counts))


def line_colors(ax, table, column="estimate") -> dict[str, str]:
    """The colour of each run's line, found by its data."""
    return {
        run: to_hex(line.get_color())
        for run, rows in table.groupby("run")
        for line in ax.get_lines()
        if len(line.get_ydata()) == len(rows) and np.allclose(line.get_ydata(), rows[column])
    }


def legend_names(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_marker_is_drawn():
    names = [*RUNS, "stick"]
    styles = plots.method_styles(RUNS) | {"stick": plots.MethodStyle("#6a7480", "-", "1", "")}
    curve = pd.DataFrame({"run": names, "k": 1, "estimate": 0.5, "low": 0.4, "high": 0.6})
    ax = plots.plot_pass_at_k(curve, styles=styles)
    lines = [line for line in ax.get_lines() if line.get_marker() != "None"]
    assert len(lines) == len(names)
    for line in [*lines, *ax.get_legend().get_lines()]:
        filled = MarkerStyle(line.get_marker()).is_filled()
        assert filled or line.get_markeredgewidth() > 0, line.get_marker()


class TestCurves:
    def test_draws_each_run_and_its_interval(self):
        table = curve(["base", "sdsd"])
        ax = plots.plot_pass_at_k(table)
        assert line_colors(ax, table) == plots.method_colors(["base", "sdsd"])
        bands = [c.get_paths()[0].vertices[:, 1] for c in ax.collections]
        assert len(bands) == 2
        assert np.concatenate(bands).min() == pytest.approx(table["low"].min())
        assert np.concatenate(bands).max() == pytest.approx(table["high"].max())
        assert legend_names(ax) == ["base", "sdsd"]

    def test_log_axis_with_whole_numbers(self):
        ax = plots.plot_pass_at_k(curve(["base"], ks=(1, 2, 4, 8, 16, 32, 64, 100)))
        ax.figure.canvas.draw()
        assert ax.get_xscale() == "log"
        labels = [text.get_text() for text in ax.get_xticklabels()]
        assert labels == ["1", "2", "4", "8", "16", "32", "64", "100"]

    def test_ticks_do_not_crowd(self):
        ax = plots.plot_pass_at_k(curve(["base"], ks=(1, 64, 70, 2**20 + 1)))
        ax.figure.canvas.draw()
        ticks = [int(text.get_text()) for text in ax.get_xticklabels()]
        assert len(ticks) <= 13
        assert ticks[-1] == 2**20 + 1
        assert all(b / a > 1.25 for a, b in itertools.pairwise(ticks))

    def test_intervals_of_one_k_are_drawn_side_by_side(self):
        curve = pd.DataFrame({"run": ["a", "b"], "k": 1, "estimate": [0.4, 0.5],
                              "low": [0.3, 0.45], "high": [0.6, 0.55]})  # fmt: skip
        looks = plots.method_styles(["a", "b"], None)
        ax = plots.plot_pass_at_k(curve, styles=looks)
        bars = [part for part in ax.collections if isinstance(part, LineCollection)]
        ends = [bar.get_segments()[0] for bar in bars]
        assert [tuple(end[:, 1]) for end in ends] == [(0.3, 0.6), (0.45, 0.55)]
        assert ends[0][0, 0] < 1 < ends[1][0, 0]

    def test_one_k_alone(self):
        ax = plots.plot_pass_at_k(curve(["base"], ks=(1,)))
        low, high = ax.get_xlim()
        assert low < 1 < high

    def test_given_axes_are_used(self):
        ax = plt.figure().subplots()
        assert plots.plot_distinct_at_k(curve(["base"]), ax) is ax
        assert ax.get_ylim()[0] == 0
        assert "distinct" in ax.get_ylabel()

    def test_dark_axes_take_dark_colours(self):
        table = curve(["base"])
        with plots.style(dark=True):
            ax = plots.plot_pass_at_k(table, Figure().subplots())
        assert line_colors(ax, table) == plots.method_colors(["base"], dark=True)

    def test_rows_in_any_order(self):
        table = curve(["base"]).sample(frac=1, random_state=0)
        line = plots.plot_pass_at_k(table).get_lines()[0]
        assert list(line.get_xdata()) == sorted(table["k"])


class TestDifferences:
    def test_zero_line_and_crossing(self):
        ax = plots.plot_differences(differences(["grpo", "sdsd"]), crossings("sdsd"))
        flat = [line for line in ax.get_lines() if set(np.atleast_1d(line.get_ydata())) == {0}]
        stars = [line for line in flat if line.get_marker() == "*"]
        assert [float(star.get_xdata()[0]) for star in stars] == [2.5]
        assert any(list(line.get_xdata()) == [1.5, 6.0] for line in flat)
        color = plots.method_colors(["grpo", "sdsd"])["sdsd"]
        assert to_hex(stars[0].get_color()) == color
        assert legend_names(ax) == ["grpo", "sdsd\nmeets baseline at k ≈ 2.5 [1.5, 6]"]

    @pytest.mark.parametrize(
        ("crossing", "legend"),
        [([np.nan] * 3, "sdsd"), ((4.0, 1.0, np.inf), None)],
        ids=["none", "interval covers every k"],
    )
    def test_no_star(self, crossing, legend):
        ax = plots.plot_differences(differences(["sdsd"]), crossings("sdsd", *crossing))
        assert not [line for line in ax.get_lines() if line.get_marker() == "*"]
        assert legend is None or legend_names(ax) == [legend]

    def test_interval_beyond_the_last_k_stays_inside(self):
        ax = plots.plot_differences(differences(["sdsd"]), crossings("sdsd", 8.0, 2.0, np.inf))
        last = ax.get_xlim()[1]
        assert max(np.max(line.get_xdata()) for line in ax.get_lines()) <= last
        assert legend_names(ax) == ["sdsd\nmeets baseline at k ≈ 8 [2, >16]"]
        ax.figure.canvas.draw()


class TestPassRates:
    def test_bins_are_exact(self):
        counts = pd.DataFrame({"run": "r", "n_samples": 5, "n_correct": [0, 1, 2, 3, 4, 5]})
        assert plots.pass_rates(counts)["problems"].tolist() == [1, 1, 1, 1, 1, 0, 1]

    @pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 64, 1000])
    def test_bins_agree_with_their_limits(self, n):
        counts = pd.DataFrame({"run": "r", "n_samples": n, "n_correct": range(n + 1)})
        table = plots.pass_rates(counts)
        assert table["problems"].sum() == n + 1
        rate = np.arange(n + 1) / n
        for row in table.itertuples():
            # A tolerance keeps 3/5 in the bin that ends with 0.6.
            inside = (rate > row.low + 1e-12) & (rate <= row.high + 1e-12) & (rate < 1)
            inside = rate == row.low if row.low == row.high else inside
            assert row.problems == inside.sum(), row.bin

    def test_shares_add_up_and_are_drawn(self):
        table = rates(["base", "sdsd"])
        assert table.groupby("run")["share"].sum().tolist() == pytest.approx([1, 1])
        ax = plots.plot_pass_rates(table)
        heights = [bar.get_height() for group in ax.containers for bar in group]
        assert heights == pytest.approx(table["share"].tolist())
        colors = [to_hex(group[0].get_facecolor()) for group in ax.containers]
        assert colors == list(plots.method_colors(["base", "sdsd"]).values())


def test_same_colour_in_every_figure():
    runs = ["grpo", "odd name", "sdsd"]
    expected = plots.method_colors(runs)
    for draw, table, column in (
        (plots.plot_pass_at_k, curve(runs), "estimate"),
        (plots.plot_distinct_at_k, curve(runs), "estimate"),
        (plots.plot_differences, differences(runs), "difference"),
    ):
        assert line_colors(draw(table), table, column) == expected
    bars = plots.plot_pass_rates(rates(runs)).containers
    assert [to_hex(group[0].get_facecolor()) for group in bars] == [expected[r] for r in runs]


DRAW = {
    "curve": lambda runs: plots.plot_pass_at_k(curve(runs)),
    "distinct": lambda runs: plots.plot_distinct_at_k(curve(runs)),
    "differences": lambda runs: plots.plot_differences(differences(runs), crossings(runs[0])),
    "rates": lambda runs: plots.plot_pass_rates(rates(runs)),
}


@pytest.mark.parametrize("kind", DRAW)
def test_same_bytes_twice(kind, tmp_path):
    for name in ("one", "two"):
        png, svg = plots.save_figure(DRAW[kind](["base", "x", "y"]).figure, tmp_path / name)
        assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert svg.read_text().rstrip().endswith("</svg>")
    for ending in ("png", "svg"):
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two


@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize(
    "name",
    ["_hidden", "$x^{$", "a\x00b\x1b[31m", "--><script>alert(1)</script>", "基线 🙂", "x" * 500,
     "line\nbreak", "\\frac{", " "],
)  # fmt: skip
def test_hostile_names(kind, name, tmp_path):
    import xml.etree.ElementTree as ElementTree

    ax = DRAW[kind]([name, "other"])
    _, svg = plots.save_figure(ax.figure, tmp_path / "figure")
    root = ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    assert len(legend_names(ax)) == 2
    assert all(len(line) <= 60 for text in legend_names(ax) for line in text.split("\n"))
    assert all(text.replace("\n", "").isprintable() for text in legend_names(ax))


def test_nothing_is_cut_off(tmp_path):
    """Every label and the legend lie inside the figure, also with ten runs and long names."""
    for runs in (["base", "sdsd"], RUNS, [f"a-rather-long-name-of-a-run-{i}" for i in range(8)]):
        for draw in DRAW.values():
            fig = draw(runs).figure
            fig.canvas.draw()
            box = fig.get_tightbbox(fig.canvas.get_renderer())
            width, height = fig.get_size_inches()
            assert min(box.x0, box.y0) >= -0.01
            assert max(box.x1 - width, box.y1 - height) <= 0.01


def test_svg_loads_nothing(tmp_path):
    _, svg = plots.save_figure(DRAW["rates"](["base", "x"]).figure, tmp_path / "figure")
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', svg.read_text())
    assert links
    assert all(next(filter(None, link)).startswith("#") for link in links)


def pass_at_k(change, **options):
    return lambda: plots.plot_pass_at_k(change(curve(["sdsd"])), **options)


test_errors = refusals(
    (pass_at_k(lambda table: table.drop(columns="low")), "no column 'low'"),
    (pass_at_k(lambda table: table[:0]), "empty"),
    (
        pass_at_k(lambda table: pd.concat(table.assign(split=s) for s in ("id", "ood"))),
        r"several splits \(id, ood\)",
    ),
    (pass_at_k(lambda table: table, styles=plots.method_styles(["base"])), "lacks the run 'sdsd'"),
)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "figure"
    refuses("can't write into", plots.save_figure, plt.figure(), target, error=OSError)


@pytest.mark.parametrize("n_runs", [2, 12, 40])
def test_intervals_of_a_single_k_lie_side_by_side(n_runs):
    names = [f"r{i:02d}" for i in range(n_runs)]
    spread = {"k": 1, "low": 0.2, "high": 0.6}
    curve = pd.DataFrame({"run": names, "estimate": 0.4, **spread})
    for ax in (
        plots.plot_pass_at_k(curve),
        plots.plot_differences(curve.rename(columns={"estimate": "difference"})),
    ):
        drawn = [line for line in ax.collections if isinstance(line, LineCollection)]
        at = [line.get_segments()[0][:, 0] for line in drawn]
        assert {tuple(line.get_segments()[0][:, 1]) for line in drawn} == {(0.2, 0.6)}
        low, high = ax.get_xlim()
        assert low < np.min(at) < 1 < np.max(at) < high
        assert len(np.unique(at)) == n_runs
