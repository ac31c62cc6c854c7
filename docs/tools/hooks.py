"""mkdocs hooks: API pages, pages and figures that lie outside docs/, and the links to all of them.

Every page keeps the links that work where it lies in the repository; here they are turned into
those of the site. A link to a file that the site doesn't have becomes plain text. Public names in
backticks lead to their documentation.
"""

from __future__ import annotations

import argparse
import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from passk_lab.cli import _parser as command_parser

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(path.parent for path in (ROOT / "passk_lab").glob("*/__init__.py"))

# Path in the repository -> page of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "figures/README.md": "found.md",
    "benchmarks/results.md": "benchmarks.md",
    "benchmarks/training.md": "benchmarks-training.md",
    "data/categories/README.md": "data-categories.md",
    "data/concepts/README.md": "data-concepts.md",
    "data/countdown/README.md": "data-countdown.md",
    "data/game24/README.md": "data-game24.md",
    "data/math500/README.md": "data-math500.md",
    "data/paths/README.md": "data-paths.md",
    "data/science/README.md": "data-science.md",
}
PLACES = {page: path for path, page in PAGES.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
NAME = re.compile(r"(?<!<b>)<code>(?:passk_lab\.[a-z_.]*)?(\w+)</code>(?!</a)")


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each room of the package, the pages from outside docs/, and the figures."""
    outside = dict(PAGES)
    for figure in sorted((ROOT / "figures").glob("*.svg")):
        outside[f"figures/{figure.name}"] = f"figures/{figure.name}"
    for path, place in outside.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "commands.md", content=command_page()))
    for room in ROOMS:
        page = api_page(room)
        files.append(File.generated(config, f"api/{room.name}.md", content=page))
    return files


def command_page() -> str:
    """Show the help of every command, as the command prints it."""
    (commands,) = command_parser()._subparsers._group_actions
    page = "# Commands\n\nWhat `passk-lab COMMAND --help` prints.\n"
    for name, command in commands.choices.items():
        command.formatter_class = _Wide
        page += f"\n## passk-lab {name}\n\n```text\n{command.format_help()}```\n"
    return page


class _Wide(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=92)


def api_page(room: Path) -> str:
    """Document a room of the package module by module."""
    page = f"# {room.name.capitalize()}\n"
    for path in sorted(room.rglob("*.py"), key=lambda path: path.with_suffix("").parts):
        *parents, name = path.relative_to(ROOT).with_suffix("").parts
        if name == "__init__":
            # What a room takes from its modules is documented there.
            nodes = ast.parse(path.read_text()).body
            own = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
            page += f"\n::: {'.'.join(parents)}\n    options: {{members: {own or 'false'}}}\n"
        elif not name.startswith("_"):
            page += f"\n::: {'.'.join(parents)}.{name}\n"
    return page


def public_names() -> dict[str, str]:
    """Map what the rooms export to its path; short words would too often mean something else."""
    names = {}
    for room in ROOMS:
        for node in ast.parse((room / "__init__.py").read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                for name in ast.literal_eval(node.value):
                    names[name] = f"passk_lab.{room.name}.{name}"
    return {name: path for name, path in names.items() if re.search("[A-Z_]", name)}


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


def on_page_content(html: str, **_: Any) -> str:
    """Link public names in running text to their documentation."""
    names = public_names()

    def link(match: re.Match[str]) -> str:
        path = names.get(match[1])
        return f'<autoref identifier="{path}" optional>{match[0]}</autoref>' if path else match[0]

    return NAME.sub(link, html)
