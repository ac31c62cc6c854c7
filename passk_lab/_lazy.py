"""What `<tab>` shows of a package: its public names and modules, loaded on first use."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(
    package: str, public: Iterable[str], homes: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    public : iterable of str
        Its ``__all__``.
    homes : mapping, optional
        Name -> the module of the package that has it, for names that aren't loaded yet.
    """

    def modules() -> set[str]:
        found = pkgutil.iter_modules(sys.modules[package].__path__)
        return {module.name for module in found if not module.name.startswith("_")}

    def load(name: str) -> Any:
        if homes and name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        elif not name.startswith("_") and name in modules():
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*public, *modules()})

    return load, names
