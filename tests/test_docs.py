"""The documentation: its examples run, its site builds, loads nothing and leads nowhere wrong."""

import doctest
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import MagicMock
from urllib.parse import unquote, urlsplit

import pytest

import passk_lab
from passk_lab import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(page for page in DOCS.rglob("*.md") if EXAMPLES.search(page.read_text()))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = EXAMPLES.findall(page.read_text())
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    report: list[str] = []
    assert test.examples
    found = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    assert found.failed == 0, "".join(report)


@pytest.mark.slow
def test_first_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    page = (DOCS / "index.md").read_text()
    shown = re.search(r"```console\n\$ passk-lab (.*?)\n(.*?)```", page, re.S)
    arguments = shown[1].replace("--out report", f"--out {tmp_path / 'report'}").split()
    assert cli.main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for line in shown[2].splitlines():
        assert " ".join(line.split()) in printed


def additions():
    """Sections of CONTRIBUTING.md with code."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for title, block in re.findall(r"^## A (.*?)\n.*?^```python\n(.*?)^```", text, re.M | re.S):
        train = [pytest.mark.train] if "passk_lab.lab" in block else []
        yield pytest.param(block, id=title, marks=[pytest.mark.slow, *train])


@pytest.mark.parametrize("code", list(additions()))
def test_additions(code, tmp_path):
    if "passk_lab.lab" in code:
        pytest.importorskip("torch")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "figures")))
    run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})


RECIPES = re.findall(r"```python\n(.*?)```", (DOCS / "recipes.md").read_text(), re.S)


@pytest.mark.slow
@pytest.mark.parametrize("code", RECIPES, ids=lambda code: code.split()[1])
def test_recipes(code, monkeypatch):
    """With stand-ins for services, which take whatever is logged."""
    monkeypatch.chdir(ROOT)
    service = MagicMock()
    for name in ("wandb", "mlflow", "torch", "torch.utils", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, service)
    exec(code, {})
    logged = [name for name, *_ in service.mock_calls if re.search(r"log|add_scalar|set_tag", name)]
    assert logged or "import passk_lab" in code.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["data/math500/counts.csv", "--baseline", "Qwen2.5-7B"],
        ["data/countdown/rollouts.parquet", "--baseline", "T=1.0", "--metrics", "maj_at_k"],
        ["data/countdown/rollouts.parquet"],
    ],
    ids=["counts", "answers", "alone"],
)
def test_the_report_keeps_its_schema(arguments, tmp_path, monkeypatch):
    jsonschema = pytest.importorskip("jsonschema")
    monkeypatch.chdir(ROOT)
    assert cli.main(["report", *arguments, "--out", str(tmp_path)]) == 0
    schema = json.loads((ROOT / "passk_lab" / "report" / "summary.schema.json").read_text())
    found = json.loads((tmp_path / "summary.json").read_text())
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    # Every field is described on its page.
    page = (DOCS / "json.md").read_text()
    assert not [name for name in {*found, *found["splits"][0]} - {"split"} if name not in page]


class Links(HTMLParser):
    """What a page loads, where it leads, and what can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = {name: value for name, value in attrs if value}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag in ("script", "img", "iframe", "source") and "src" in found:
            self.loads.append(found["src"])
        elif tag in ("link", "a") and "href" in found and found.get("rel") not in ("prev", "next"):
            (self.loads if tag == "link" else self.leads).append(found["href"])


def public_names() -> set[tuple[str, str, str]]:
    """Every function and class that a room of the package exports."""
    modules = pkgutil.iter_modules(passk_lab.__path__, "passk_lab.")
    rooms = [importlib.import_module(module.name) for module in modules if module.ispkg]
    return {
        (*room.__name__.split("."), name)
        for room in rooms
        for name in getattr(room, "__all__", ())
        if inspect.isroutine(getattr(room, name)) or inspect.isclass(getattr(room, name))
    }


@pytest.mark.slow
def test_site(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("torch")  # public_names imports the lab
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    run(*command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    pages = {page.resolve(): Links(page) for page in site.rglob("*.html")}
    for page, links in pages.items():
        if page.name == "404.html":
            continue  # its links start at the site's root
        for target in (*links.loads, *links.leads):
            parts = urlsplit(target)
            if parts.scheme == "data":
                continue  # a picture in the page
            if parts.scheme or parts.netloc:
                assert target in links.leads, f"{page} loads {target}"
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), f"{page} leads to {target}"
            if parts.fragment and file in pages:
                assert unquote(parts.fragment) in pages[file].ids, f"{page} leads to {target}"
    for style in site.rglob("*.css"):
        for target in re.findall(r"url\(([^)]*)\)|@import", style.read_text(encoding="utf-8")):
            address = target.strip("\"'")
            assert not address.startswith(("http:", "https:", "//")), f"{style} loads {address}"
            if not address.startswith(("data:", "#")):
                assert (style.parent / urlsplit(address).path).exists(), f"{style} needs {address}"
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    places = {entry["location"] for entry in found if len(entry["text"]) > 100}
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        sections = [place for place in places if place.startswith(f"notebooks/{notebook.stem}/#")]
        assert len(sections) > 2, f"{notebook} can't be searched"
        page = (site / "notebooks" / notebook.stem / "index.html").read_text()
        assert page.count("<summary>Code</summary>") == notebook.read_text().count('"hide-input"')
    documented = set().union(*(links.ids for page, links in pages.items() if "api" in page.parts))
    # Re-exported names are documented at their homes.
    documented = {(*name.split(".")[:2], name.split(".")[-1]) for name in documented}
    assert public_names() <= documented, public_names() - documented


def test_architecture_is_that_of_the_code(monkeypatch):
    pytest.importorskip("grimp")
    monkeypatch.syspath_prepend(DOCS / "tools")
    architecture = importlib.import_module("architecture")
    drawn = set(re.findall(r'<g id="(\w+)-(\w+)">', architecture.PICTURE.read_text()))
    assert drawn == architecture.arrows(), "run python docs/tools/architecture.py"
    listed = architecture.TABLE.search(architecture.PAGE.read_text())[0]
    assert listed == architecture.table(), "run python docs/tools/architecture.py"


def test_every_figure_is_explained():
    page = (DOCS / "figures.md").read_text()
    shown = set(re.findall(r"\(\.\./figures/([\w@-]+\.svg)\)", page))
    assert shown == {figure.name for figure in (ROOT / "figures").glob("*.svg")}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="KaTeX needs a JavaScript runtime")
def test_formulas():
    text = (DOCS / "definitions.md").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        text += "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    shown = re.findall(r"\$\$(.+?)\$\$", text, re.S)
    inline = re.findall(r"\$([^$\n]+?)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.S))
    assert len(shown) > 10
    assert len(inline) > 50
    script = """
        const katex = require(process.argv[1]);
        for (const formula of JSON.parse(require("fs").readFileSync(0)))
            katex.renderToString(formula, {throwOnError: true, strict: "error"});
    """
    library = DOCS / "assets" / "katex" / "katex.min.js"
    run("node", "-e", script, str(library), input=json.dumps([*shown, *inline]))
