"""Every metric has a name, and its place in the documentation."""

from pathlib import Path

import pytest

from passk_lab.metrics import METRICS, find_metric

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"


def table() -> str:
    """The metrics by name, as the page of definitions shows them."""
    rows = ["| name | what | needs | better |", "|---|---|---|---|"]
    for name, metric in sorted(METRICS.items()):
        asked = f"`{name}:0.5`" if metric.option else f"`{name}`"
        columns = ", ".join(f"`{column}`" for column in metric.columns) or "`correct`"
        extra = f", extra `{metric.extra}`" if metric.extra else ""
        rows.append(f"| {asked} | {metric.says} | {columns}{extra} | {metric.better} |")
    return "\n".join(rows) + "\n"


def test_the_page_lists_every_metric():
    shown = PAGE.read_text().partition("## Every metric by name\n")[2]
    assert table() in shown, f"put this table into {PAGE.name}:\n\n{table()}"


def test_a_line_says_what_each_metric_is():
    for name, metric in METRICS.items():
        assert metric.says.endswith("."), name
        assert len(metric.says) < 100, name


def test_names_carry_a_setting():
    metric, options = find_metric("g_pass_at_k:0.25")
    assert (metric.name, options) == ("g_pass_at_k", {"tau": 0.25})
    with pytest.raises(ValueError, match="pass_at_k has no setting"):
        find_metric("pass_at_k:1")


if __name__ == "__main__":
    print(table())
