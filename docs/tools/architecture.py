"""Draw the package's rooms and list them on their page: python docs/tools/architecture.py.

Floors are the layers of the import contract in pyproject.toml; an arrow leads from a room to
another that it imports from, unless a longer way leads there, too. The tests compare the picture
and the page's table of rooms with the code.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from pathlib import Path

import grimp
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "assets" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
TABLE = re.compile(r"\| room \| what \|\n.*?\n(?=\n)", re.DOTALL)
WIDTH, HEIGHT, FLOOR, COLUMN = 3.3, 0.85, 1.6, 4.0
SIDE = {"report": -1, "plots": -1, "lab": 1, "readers": 1}  # columns beside the middle


def floors() -> list[list[str]]:
    """List the rooms of each layer, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [layer.split(" | ") for layer in settings["contracts"][0]["layers"]]
    rooms = [[room for room in layer if (ROOT / "passk_lab" / room).is_dir()] for layer in layers]
    return [floor for floor in rooms if floor]


def arrows() -> set[tuple[str, str]]:
    """Find the rooms that import from each other, without shortcuts."""
    graph = grimp.build_graph("passk_lab", exclude_type_checking_imports=True, cache_dir=None)
    rooms = {f"passk_lab.{room}" for floor in floors() for room in floor}
    for room in rooms:
        graph.squash_module(room)
    below = {room: graph.find_modules_directly_imported_by(room) & rooms - {room} for room in rooms}
    reach = {room: graph.find_upstream_modules(room) for room in rooms}
    return {
        (room.removeprefix("passk_lab."), other.removeprefix("passk_lab."))
        for room in rooms
        for other in below[room]
        if not any(other in reach[between] for between in below[room] - {other})
    }


def says(room: str) -> str:
    """First line of a room's docstring."""
    tree = ast.parse((ROOT / "passk_lab" / room / "__init__.py").read_text())
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def table() -> str:
    """List the rooms, from the top down."""
    rows = [f"| `{room}` | {says(room)} |" for floor in floors() for room in floor]
    return "\n".join(["| room | what |", "|---|---|", *rows, ""])


def draw(path: Path) -> None:
    """Draw boxes and arrows that can be read on light and on dark pages."""
    plt.rcParams.update({"svg.hashsalt": "passk_lab", "svg.fonttype": "none"})
    levels = floors()
    figure, axes = plt.subplots(figsize=(8.5, 1.1 * len(levels)))
    place = {
        room: (SIDE.get(room, 0) * COLUMN, -level * FLOOR)
        for level, floor in enumerate(levels)
        for room in floor
    }
    for room, (x, y) in place.items():
        corner = x - WIDTH / 2, y - HEIGHT / 2
        style = {"boxstyle": "round,pad=0.08", "facecolor": "#e8eaf6", "edgecolor": "#7986cb"}
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, **style))
        axes.text(x, y + 0.17, room, ha="center", color="#1a237e", weight="bold", size=11)
        short = says(room).replace("`", "").split(":")[0].rstrip(".")
        style = {"ha": "center", "va": "top", "color": "#37474f", "size": 7.5}
        axes.text(x, y + 0.07, textwrap.fill(short, 32), **style)
    for upper, lower in sorted(arrows()):
        (x0, y0), (x1, y1) = place[upper], place[lower]
        start, end = (x0, y0 - HEIGHT / 2 - 0.1), (x1, y1 + HEIGHT / 2 + 0.1)
        around = x0 == x1 == 0 and y0 - y1 > 1.5 * FLOOR  # a room stands between them
        if around:
            start = (WIDTH / 2 + 0.1, y0)
        if around or (x1 == 0 and y0 - y1 > 1.5 * FLOOR):
            end = ((WIDTH / 2 + 0.1) * (1 if x0 >= 0 else -1), y1 + 0.1)
        style = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#7986cb"}
        bend = f"arc3,rad={-0.25 if around else 0}"
        gid = f"{upper}-{lower}"
        axes.add_patch(FancyArrowPatch(start, end, connectionstyle=bend, gid=gid, **style))
    axes.set(xlim=(-5.8, 5.8), ylim=(-(len(levels) - 1) * FLOOR - 0.6, 0.6))
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(PICTURE)
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
