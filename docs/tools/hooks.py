"""mkdocs hooks: pages and figures that lie outside docs/, and the links to them.

Every page keeps the links that work where it lies in the repository; here they are turned into
those of the site. A link to a file that the site doesn't have becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

# Path in the repository -> page of the site.
PAGES = {
    "figures/README.md": "found.md",
    "benchmarks/results.md": "benchmarks.md",
    "benchmarks/training.md": "benchmarks-training.md",
    "data/countdown/README.md": "data-countdown.md",
    "data/paths/README.md": "data-paths.md",
    "data/science/README.md": "data-science.md",
}
PLACES = {page: path for path, page in PAGES.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/, and the figures."""
    outside = dict(PAGES)
    for figure in sorted((ROOT / "figures").glob("*.png")):
        outside[f"figures/{figure.name}"] = f"figures/{figure.name}"
    for path, place in outside.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Turn a page's relative links into the site's."""
    here = page.file.src_uri
    folder = posixpath.dirname(PLACES.get(here, f"docs/{here}"))

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        inside = path.removeprefix("docs/") if path.startswith("docs/") else path
        place = PAGES.get(path, inside)
        if files.get_file_from_path(place) is None and not path.startswith("docs/"):
            return text
        target = posixpath.relpath(place, posixpath.dirname(here) or ".")
        return f"{image}[{text}]({target}{anchor})"

    return LINK.sub(link, markdown)
