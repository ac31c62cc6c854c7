"""Write ``README.md`` of this folder: every figure, and in a sentence what it found.

All numbers are read from the CSV beside each figure, so that text and figure can't disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from pathlib import Path

from concepts import signature_table, what_decides
from conditions import fronts
from paths import runs_table
from registry import Item, Tables
from settings import where_it_fails
from studies import STUDIES

from passk_lab.rollouts import atomic_write

HEAD = """# Figures

`make figures` draws these from `data/` and writes this page. Each is an SVG for light and dark
pages and the CSV that it shows; `manifest.json` has the data's hashes, settings and versions.
Numbers in brackets are 95 % intervals: over problems, and in the path-finding lab over training
seeds, too.
"""


def shown() -> list[Item]:
    """Figures of the page: the numbered ones first, the others in the order of their studies."""
    items = [item for study in STUDIES for item in study.items if item.told is not None]
    return sorted(items, key=lambda item: inf if item.number is None else item.number)


def blocks(figures: Path) -> dict[str, str]:
    """What was found, by the name of the figure, and the tables that pages show."""
    tables = Tables(figures)
    found = {
        "signature": signature_table(tables),
        "what decides": what_decides(tables),
        "where it fails": where_it_fails(tables),
        "fronts": fronts(tables),
        "runs": runs_table(tables),
    }
    for item in shown():
        assert item.told is not None
        found[item.name] = flowed(item.told(tables))
    return found


def flowed(text: str) -> str:
    """Join the lines of each paragraph; those of a table stay."""
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(p if p.startswith("|") else " ".join(p.split()) for p in parts) + "\n"


def write_gallery(figures: Path) -> Path:
    """Write the page for the figures of a folder."""
    found = blocks(figures)
    parts = [HEAD]
    for item in shown():
        title = item.heading
        parts.append(f"## {title}\n\n![{title}]({item.name}.svg)\n\n{found[item.name]}")
    parts.append(f"## The paper and here\n\n{found['signature']}")
    parts.append(f"## Every run of the lab\n\n{found['runs']}")
    path = figures / "README.md"
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(parts))
    return path


def fill_page(page: Path, found: Mapping[str, str]) -> None:
    """Write what was found between a page's marks ``<!-- name -->`` and ``<!-- end -->``."""

    def filled(mark: re.Match[str]) -> str:
        return f"<!-- {mark[1]} -->\n{found[mark[1]]}<!-- end -->"

    text = re.sub(r"<!-- ([\w @-]+) -->\n(?:.*?)<!-- end -->", filled, page.read_text(), flags=re.S)
    with atomic_write(page) as temporary:
        temporary.write_text(text)
