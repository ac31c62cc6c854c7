"""Figures inside the page: one for light and dark, each run by itself, each mark with its value."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from xml.etree import ElementTree as ET

from passk_lab._text import visible
from passk_lab.plots.style import DARK

_NAMES = {color: f"--c{place}" for place, color in enumerate(DARK)}
_COLOR = re.compile("|".join(DARK))
_RUN = re.compile(r"run-(\d+)")
_REFERENCE = re.compile(r"#([\w-]+)")
_LONG = re.compile(r"-?\d+\.\d{3,}")


def colors() -> str:
    """Declare the colours of the figures, light and dark."""
    light, dark = (
        ";".join(f"{name}:{of[color]}" for color, name in _NAMES.items())
        for of in ({color: color for color in DARK}, DARK)
    )
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def inline(svg: bytes, prefix: str, alt: str, tips: Mapping[str, Sequence[str]]) -> str:
    """Turn a figure of matplotlib into an element of the page.

    The page's security policy forbids attributes ``style``, so that they become attributes of their
    own. Groups that are called "run-3" get ``data-run="3"``, and where one has as many marks as the
    run has ``tips``, each mark gets its title. Other ids begin with ``prefix``.
    """
    root = ET.fromstring(svg)
    used = set(_REFERENCE.findall(svg.decode()))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _plain(element, used, prefix)
    for group in [*root.iter("defs"), root]:
        for unused in group.findall("style") + group.findall("metadata"):
            group.remove(unused)
    for run, said in tips.items():
        mine = [group for group in root.iter("g") if group.get("data-run") == run]
        bars = [[path for group in mine for path in group.findall("path")]]
        for marks in [list(group.iter("use")) for group in mine] + bars:
            if len(marks) == len(said):
                for mark, words in zip(marks, said, strict=True):
                    ET.SubElement(mark, "title").text = visible(words)
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": visible(alt)}
    root.set("stroke-linejoin", "round")
    for element in root.iter():
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
    return ET.tostring(root, encoding="unicode")


def _plain(element: ET.Element, used: set[str], prefix: str) -> None:
    name = element.attrib.pop("id", "")
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "style":
            pairs = (part.split(":", 1) for part in value.split(";") if ":" in part)
            found = {name.strip(): said.strip() for name, said in pairs}
        else:
            value = " ".join(value.split())
            found = {key.rpartition("}")[2]: _LONG.sub(_short, value) if key in "dxy" else value}
        for one, said in found.items():
            said = _COLOR.sub(lambda match: f"var({_NAMES[match[0]]})", said)
            element.set(one, _REFERENCE.sub(rf"#{prefix}\1", said))
    if run := _RUN.fullmatch(name):
        element.set("data-run", run[1])
    elif name in used:
        element.set("id", f"{prefix}{name}")


def _short(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}"


def keys(svg: str, runs: Collection[str]) -> dict[str, str]:
    """Take from a figure what stands for each run: a line and its mark, as a small picture."""
    root = ET.fromstring(svg)
    shapes = {f"#{path.get('id')}": path for path in root.iter("path")}
    found: dict[str, str] = {}
    for group in root.iter("g"):
        run, line, use = group.get("data-run", ""), group.find("path"), group.find(".//use")
        if run not in runs or line is None or use is None:
            continue
        mark = shapes[use.get("href", "")]
        picture = ET.Element("svg", {"viewBox": "-18 -6 36 12", "class": "key"})
        for part, d in ((line, "M-18 0H18"), (use, mark.get("d", ""))):
            kept = {k: v for k, v in part.items() if k.startswith(("stroke", "fill"))}
            ET.SubElement(picture, "path", {**kept, "d": d})
        found[run] = ET.tostring(picture, encoding="unicode")
    return found
