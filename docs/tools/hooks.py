"""mkdocs hooks: API pages, what lies outside docs/ (pages, figures, notebooks), and links to all.

Every page keeps the links that work where it lies in the repository; here they are turned into
those of the site. A link to a file that the site doesn't have becomes plain text. Public names in
backticks lead to their documentation.
"""

from __future__ import annotations

import argparse
import ast
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

from passk_lab.cli import _parser as command_parser

LOG = logging.getLogger("mkdocs.hooks")
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
ADDRESS = re.compile(r' (href|src)="([^"#:]+)(#[^"]*)?"')
# What mkdocs-jupyter adds and the site can't use: MathJax and Mermaid from a network (formulas are
# KaTeX's here), and the style sheets a second time, written as a list.
FOREIGN = re.compile(
    r"<!-- Load mathjax -->.*?</script>\s*<!-- .*?-->|<script type.*?</script>"
    r"|<style>\s*\[.*?</style>",
    re.DOTALL,
)
# A code cell with the tag hide-input: its list of tags, what stands before the code, the code.
FOLDED = re.compile(
    r'<div class="celltoolbar">(?:\s*<[^>]*>)*hide-input(?:\s*</\w+>){4}(.*?)'
    r'(<div class="highlight-ipynb.*?</pre>\s*</div>)',
    re.DOTALL,
)
NAME = re.compile(r"(?<!<b>)<code>(?:passk_lab\.[a-z_.]*)?(\w+)</code>(?!</a)")


@event_priority(50)  # before mkdocs-jupyter, which looks for notebooks
def on_files(files: Any, config: Any) -> Any:
    """Add a page for each room of the package, the pages from outside docs/, and the figures."""
    outside = dict(PAGES)
    for figure in sorted((ROOT / "figures").glob("*.svg")):
        outside[f"figures/{figure.name}"] = f"figures/{figure.name}"
    for path, place in outside.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "commands.md", content=command_page()))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        # mkdocs-jupyter knows files by their folder alone.
        place = f"notebooks/{path.name}"
        files.append(File(place, str(ROOT), config.site_dir, config.use_directory_urls))
    for room in ROOMS:
        page = api_page(room)
        files.append(File.generated(config, f"api/{room.name}.md", content=page))
    return files


def command_page() -> str:
    """Show the help of every command, as the command prints it."""
    parser: Any = command_parser()
    (commands,) = parser._subparsers._group_actions
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

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        place, documentation = locate(target, page)
        if files.get_file_from_path(place) is None and not documentation:
            return text
        target = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({target}{anchor})"

    return markdown if is_notebook(page) else LINK.sub(link, markdown)


def locate(target: str, page: Any) -> tuple[str, bool]:
    """Place in the site of what a page's link leads to, and whether it lies in docs/."""
    here = page.file.src_uri
    home = here if is_notebook(page) else PLACES.get(here, f"docs/{here}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    return PAGES.get(path, path.removeprefix("docs/")), path.startswith("docs/")


def is_notebook(page: Any) -> bool:
    """Whether mkdocs-jupyter writes the page, and leaves its links as they are."""
    return page.file.src_uri.endswith(".ipynb")


def fit_notebook(html: str, page: Any, files: Any) -> str:
    """Fold plumbing, turn relative links into the site's; styled tables look as others do."""

    def link(match: re.Match[str]) -> str:
        name, target, anchor = match.groups(default="")
        place, documentation = locate(target, page)
        file = files.get_file_from_path(place)
        if file is None and documentation:
            LOG.warning("%s leads to %s, which is no page", page.file.src_uri, target)
        return f' {name}="{file.url_relative_to(page.file)}{anchor}"' if file else ""

    html = FOREIGN.sub("", html).replace('<table id="T_', '<table class="dataframe" id="T_')
    html = FOLDED.sub(r"\1<details><summary>Code</summary>\2</details>", html)
    return ADDRESS.sub(link, html)


def on_page_content(html: str, page: Any, files: Any, **_: Any) -> str:
    """Link public names in running text to their documentation."""
    names = public_names()
    if is_notebook(page):
        html = fit_notebook(html, page, files)

    def link(match: re.Match[str]) -> str:
        path = names.get(match[1])
        return f'<autoref identifier="{path}" optional>{match[0]}</autoref>' if path else match[0]

    return NAME.sub(link, html)
