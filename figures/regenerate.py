"""Make every figure of this folder from the saved rollouts: ``make figures``.

    python figures/regenerate.py                     everything
    python figures/regenerate.py theory              one study of several
    python figures/regenerate.py --check paths       draw elsewhere and compare the numbers

Each figure is an SVG and the CSV that it shows; ``manifest.json`` says from which data, with which
settings and versions. Everywhere the same data give the same numbers, to nine digits;
the hashes of pictures only say which ones were committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gallery import blocks, fill_page, write_gallery
from studies import STUDIES
from tqdm import tqdm
from writing import differences, write

from passk_lab.rollouts import atomic_write

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["passk-lab", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "jinja2"]


def main(arguments: list[str] | None = None) -> int:
    """Draw or check the studies; return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="default: all")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; compare numbers with the tables here"
    )
    options = parser.parse_args(arguments)
    figures = ROOT / "figures"
    try:
        if options.check:
            return check(options.studies, figures)
        drawn = draw(options.studies, figures)
    except (ValueError, OSError) as error:
        print(f"figures/regenerate.py: error: {error}", file=sys.stderr)
        return 2
    write_gallery(figures)
    fill_page(ROOT / "docs" / "paper.md", blocks(figures))
    print("wrote figures/README.md: what each figure found")
    path = figures / "manifest.json"
    before = json.loads(path.read_text())["studies"] if path.exists() else {}
    manifest = {
        "command": "python figures/regenerate.py",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "studies": {study.name: (before | drawn)[study.name] for study in STUDIES},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


def draw(names: list[str], figures: Path, pictures: bool = True) -> dict[str, dict[str, Any]]:
    """Draw studies into a folder, two side by side; return their entries of the manifest."""
    if unknown := set(names) - {study.name for study in STUDIES}:
        known = ", ".join(study.name for study in STUDIES)
        raise ValueError(f"no study is called {min(unknown)!r}; they are {known}")
    entries = {}
    with ProcessPoolExecutor(2) as pool:
        chosen = [study.name for study in STUDIES if not names or study.name in names]
        futures = {name: pool.submit(draw_study, name, figures, pictures) for name in chosen}
        for name, future in tqdm(futures.items(), desc="studies", disable=None):
            entries[name] = future.result()
            if pictures:
                tqdm.write(f"{name}: wrote {', '.join(entries[name]['pictures'])}")
    return entries


def draw_study(name: str, figures: Path, pictures: bool) -> dict[str, Any]:
    """Draw a study into a folder; return its entry of the manifest."""
    study = next(study for study in STUDIES if study.name == name)
    entry: dict[str, Any] = {}
    if study.data is not None:
        data = ROOT / study.data
        if not data.exists():
            raise FileNotFoundError(f"{study.data}: no such file; it belongs to the repository")
        files = sorted(data.glob("*.parquet")) if data.is_dir() else [data]
        entry = {"data": study.data, "data_sha256": hashes(files)}
    entry |= {"seed": study.seed, "n_resamples": study.n_resamples}
    written = write(study, ROOT, figures, pictures)
    return {
        **entry,
        "tables": sorted(file.name for file in written if file.suffix == ".csv"),
        "pictures": hashes(sorted(file for file in written if file.suffix != ".csv")),
    }


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """Name and SHA-256 of files."""
    found = {}
    for path in files:
        with open(path, "rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check(names: list[str], figures: Path) -> int:
    """Make the tables in a temporary folder and say where they differ; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        draw(names, Path(folder), pictures=False)
        tables = sorted(Path(folder).glob("*.csv"))
        found = [line for table in tables for line in differences(table, figures / table.name)]
    print("\n".join([*found, f"{len(tables)} tables compared, {len(found)} differences"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
