"""The house rules that no linter checks: lengths, the number of public names, pinned packages."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.helpers import refuses

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "passk_lab"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITION = (*FUNCTION, ast.ClassDef)

HEAVY = {"duckdb", "matplotlib", "pandas", "pyarrow", "scipy", "sklearn", "torch"}

MAX_FUNCTION = 60  # lines without the docstring
MAX_MODULE = 600
MAX_PUBLIC = 207  # without the readers, one a format


def functions(tree: ast.Module, module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function and method, by its dotted name."""
    todo: list[tuple[str, ast.AST]] = [(module, tree)]
    while todo:
        name, node = todo.pop()
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}" if isinstance(child, DEFINITION) else name
            if isinstance(child, FUNCTION):
                yield inner, child
            todo.append((inner, child))


def code_lines(node: ast.FunctionDef) -> int:
    """Lines of a function from `def` to its end, less its docstring."""
    documented = node.body[0] if ast.get_docstring(node) else None
    docstring = documented.end_lineno - documented.lineno + 1 if documented else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_functions_fit_a_screen():
    long = {
        name
        for module, path in MODULES.items()
        for name, node in functions(ast.parse(path.read_text()), module)
        if code_lines(node) > MAX_FUNCTION
    }
    assert not long, "split them, or find the object that is missing"


def test_modules_are_short():
    long = {module for module, path in MODULES.items() if path.read_text().count("\n") > MAX_MODULE}
    assert not long, "make two modules of each"


def test_few_public_names():
    public = [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        if not re.search(r"(^|\.)_(?!_)", module)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, DEFINITION) and not node.name.startswith(("_", "read_"))
    ]
    assert len(public) <= MAX_PUBLIC, "make what only its module uses private"


def test_importing_is_light():
    script = f"import passk_lab, sys; print(*{HEAVY} & sys.modules.keys())"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("room", [name for name in MODULES if name.endswith("__init__")])
def test_tab_shows_public_names_and_modules(room):
    name = f"passk_lab.{room}".removesuffix(".__init__").removesuffix("__init__").rstrip(".")
    if ".lab" in name:
        pytest.importorskip("torch")
    package = importlib.import_module(name)
    shown = dir(package)
    inside = re.compile(rf"{re.escape(room.removesuffix('__init__'))}([a-z]\w*)(\.__init__)?")
    modules = {found[1] for module in MODULES if (found := inside.fullmatch(module))}
    others = {"__version__"} if name == "passk_lab" else set()
    assert set(shown) == {*package.__all__, *modules} | others
    for one in shown:
        assert getattr(package, one) is not None, one  # also what nobody has loaded yet
    refuses("no attribute 'nothing_like_it'", getattr, package, "nothing_like_it",
            error=AttributeError)  # fmt: skip


@pytest.mark.slow
def test_core_needs_no_extra():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    core = [
        f"passk_lab.{module}".removesuffix(".__init__")
        for module in MODULES
        if not module.startswith(("lab.", "__main__"))
    ]
    script = f"""
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == extra or name.startswith(extra + ".") for extra in {extras}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for module in {core}:
    importlib.import_module(module)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def canonical(name: str) -> str:
    """A package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_installed_is_pinned():
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    todo = [requirements.Requirement(line) for line in chain.from_iterable(lists)]
    installed: set[str] = set()
    seen: set[str] = set()
    while todo:
        wanted = todo.pop()
        if str(wanted) in seen or canonical(wanted.name) == "passk-lab":
            continue
        seen.add(str(wanted))
        try:
            found = importlib.metadata.distribution(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that isn't installed
        installed.add(canonical(wanted.name))
        for line in found.requires or ():
            needed = requirements.Requirement(line)
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, extras)):
                todo.append(needed)
    pinned = {
        canonical(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert installed <= pinned, f"constraints.txt lacks {sorted(installed - pinned)}"
