"""griffe extension: the reStructuredText in the docstrings as Markdown.

What the package's docstrings use: simple tables, footnotes (``.. [1]``), literal blocks (``::``),
names in single backticks, "See Also" lists. Examples and literal blocks stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

RULER = re.compile(r"=+( +=+)+\s*")
HEADING = re.compile(r"-{3,}\s*")
NAME = re.compile(r"(?<![`\w])`([A-Za-z_][\w.]*)`(?!`)")
CODE = re.compile(r"(``.+?``|`[^`]+`)")


class MarkdownDocstrings(griffe.Extension):
    """Rewrite every docstring of the package once it has been read."""

    def on_package(self, *, pkg: griffe.Module, loader: Any, **_: Any) -> None:
        """Walk through the package."""
        loader.resolve_aliases()
        rewrite(pkg, pkg)


def rewrite(obj: Any, package: griffe.Module) -> None:
    """Rewrite the docstrings of an object and its members."""
    if obj.docstring is not None:
        obj.docstring.value = to_markdown(obj.docstring.value, obj, package)
    for member in obj.members.values():
        if not member.is_alias:
            rewrite(member, package)


def to_markdown(text: str, obj: Any, package: griffe.Module) -> str:
    """Rewrite one docstring, section by section."""
    lines = text.splitlines()
    out: list[str] = []
    section, at = "", 0
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and HEADING.fullmatch(lines[at + 1]):
            section = line.strip()
            out += lines[at : at + 2]
            at += 2
        elif section == "Examples" or line.lstrip().startswith((">>>", "... ")):
            out.append(line)
            at += 1
        elif RULER.fullmatch(line.strip()):
            end = last_ruler(lines, at)
            out += ["", *table(lines[at : end + 1], obj, package), ""]
            at = end + 1
        elif line.rstrip().endswith("::"):
            out.append(inline(line.rstrip()[:-1], obj, package))
            at += 1
            # The block, indented more than the line that announces it.
            while at < len(lines) and (not lines[at].strip() or indent(lines[at]) > indent(line)):
                out.append(lines[at])
                at += 1
        elif line.startswith("    ") and not section:
            out.append(line)  # an indented block of a docstring's prose is code in Markdown, too
            at += 1
        else:
            footnote = re.fullmatch(r"(\s*)\.\. \[(\d+)\] (.*)", line)
            related = re.fullmatch(r"([\w.]+) : (.*)", line) if section == "See Also" else None
            if footnote:
                space, number, rest = footnote.groups()
                out += ["", f"{space}[{number}] {inline(rest, obj, package)}"]
            elif related:
                name, rest = related.groups()
                out.append(f"- {reference(name, obj, package)}: {inline(rest, obj, package)}")
            elif section in ("See Also", "References"):
                out.append(inline(line.strip(), obj, package))
            else:
                out.append(inline(line, obj, package))
            at += 1
    return "\n".join(out)


def indent(line: str) -> int:
    """Count the blanks at a line's start."""
    return len(line) - len(line.lstrip())


def last_ruler(lines: list[str], first: int) -> int:
    """Find the third ruler of a simple table, or the second if it has no heading."""
    rulers = []
    for at in range(first, len(lines)):
        if not lines[at].strip():
            break
        if RULER.fullmatch(lines[at].strip()):
            rulers.append(at)
    return rulers[min(2, len(rulers) - 1)]


def table(lines: list[str], obj: Any, package: griffe.Module) -> list[str]:
    """Turn a simple table into a Markdown table; a row without a first cell goes on."""
    starts = [match.start() for match in re.finditer("=+", lines[0])]
    ends = [*starts[1:], None]
    rows: list[list[str]] = []
    heads = 0
    for line in lines[1:]:
        if RULER.fullmatch(line.strip()):
            heads = heads or len(rows)
            continue
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    if heads == len(rows):  # no heading, two rulers
        rows.insert(0, [""] * len(starts))
    marked = [[inline(cell, obj, package, in_table=True) for cell in row] for row in rows]
    written = [f"{' ' * starts[0]}| {' | '.join(row)} |" for row in marked]
    return [written[0], f"{' ' * starts[0]}|{' --- |' * len(starts)}", *written[1:]]


def inline(text: str, obj: Any, package: griffe.Module, in_table: bool = False) -> str:
    """Rewrite names, footnote marks and signs that HTML or a table would take for their own."""
    parts = CODE.split(re.sub(r"\[(\d+)\]_", r"[\1]", text))
    for at, part in enumerate(parts):
        if at % 2:
            name = NAME.fullmatch(part)
            parts[at] = reference(name[1], obj, package) if name else part
        else:
            part = re.sub(r"<(?=[A-Za-z/!])", "&lt;", part)
            parts[at] = part.replace("|", "&#124;") if in_table else part
    return "".join(parts)


def reference(name: str, obj: Any, package: griffe.Module) -> str:
    """Link a name to where the site documents it; leave it as code where it doesn't."""
    target = find(name, obj, package)
    return f"[`{name}`][{target}]" if target else f"`{name}`"


def find(name: str, obj: Any, package: griffe.Module) -> str | None:
    """Find the path of a public object by its name as seen from a docstring."""
    scopes = [obj] if obj.is_class or obj.is_module else []
    scopes += [obj.parent] if obj.parent is not None and obj.parent.is_class else []
    scopes += [obj.module, package]
    if name.startswith("passk_lab"):
        if name == "passk_lab":
            return None
        name, scopes = name.removeprefix("passk_lab."), [package]
    for scope in scopes:
        try:
            found = scope[name]
            found = found.final_target if found.is_alias else found
        except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
            continue
        public = all(not part.startswith("_") for part in found.path.split("."))
        if public and found.path.startswith("passk_lab.") and not found.is_attribute:
            return str(found.path)
    return None
