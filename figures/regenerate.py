"""Make every figure of this folder from the saved rollouts: ``make figures``.

    python figures/regenerate.py                     everything
    python figures/regenerate.py theory              one study of several
    python figures/regenerate.py --check paths       draw elsewhere and compare the numbers

Each figure is a PNG, an SVG and the CSV that it shows; ``manifest.json`` says from which data,
with which settings and versions. Everywhere the same data give the same numbers, to nine digits.
The full report of each study goes to ``report/``, which is not kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gallery
import paths
import science
import teacher
import theory
from tqdm import tqdm
from writing import differences

from passk_lab.report import build_report, write_figures
from passk_lab.rollouts import atomic_write

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "data" / "paths"
SCIENCE = ROOT / "data" / "science"
SEED = 0
N_RESAMPLES = 10_000
PACKAGES = (
    "passk-lab",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "pillow",
    "jinja2",
)


@dataclass(frozen=True)
class Study:
    """Saved rollouts, and the run that the others are compared with."""

    name: str
    data: str
    baseline: str


STUDIES = (
    # Temperature 1 samples the model's own distribution; a lower one sharpens it.
    Study("countdown", "data/countdown/rollouts.parquet", baseline="T=1.0"),
)


# An entry of the manifest, and lines to print.
Drawn = tuple[dict[str, Any], list[str]]


def regenerate(study: Study, figures: Path, report: Path) -> Drawn:
    """Write a study's report and figures."""
    data = ROOT / study.data
    if not data.exists():
        raise FileNotFoundError(f"{study.data}: no such file; it belongs to the repository")
    result = build_report(
        data, study.baseline, out=report, n_resamples=N_RESAMPLES, random_state=SEED
    )
    runs = list(dict.fromkeys(run for s in result.sections for run in s.curve["run"]))
    files: list[Path] = []
    for place, section in enumerate(result.sections):
        suffix = f"-{study.name}" + (f"-{place}" if len(result.sections) > 1 else "")
        files += write_figures(section, runs, study.baseline, out=figures, suffix=suffix)[1]
    said = [f"wrote report/{study.name}/index.html"]
    for v in result.verdicts:
        said.append(f"{study.name}, {v.run} against {v.baseline}: {v.label}")
        said += [f"  {line}" for line in v.evidence]
    entry = {
        "data": study.data,
        "data_sha256": sha256(data),
        "baseline": study.baseline,
        "seed": SEED,
        "n_resamples": N_RESAMPLES,
        **listed(files),
    }
    return entry, said


def regenerate_theory(figures: Path) -> Drawn:
    """Draw the figures that need no data."""
    return {"seed": theory.SEED, **listed(theory.draw(figures))}, []


def regenerate_paths(figures: Path) -> Drawn:
    """Draw what training did in the path-finding lab."""
    return _lab(paths.draw(LAB, figures), paths.N_RESAMPLES), []


def regenerate_teacher(figures: Path) -> Drawn:
    """Draw the teacher's bias in the path-finding lab."""
    return _lab(teacher.draw(LAB, figures), teacher.N_RESAMPLES), []


def regenerate_science(figures: Path) -> Drawn:
    """Draw what training did to a language model on science questions."""
    return _lab(science.draw(SCIENCE, figures), science.N_RESAMPLES, SCIENCE), []


def _lab(files: list[Path], n_resamples: int, data: Path = LAB) -> dict[str, Any]:
    return {
        "data": data.relative_to(ROOT).as_posix(),
        "data_sha256": hashes(data.glob("*.parquet")),
        "seed": SEED,
        "n_resamples": n_resamples,
        **listed(files),
    }


def listed(files: list[Path]) -> dict[str, Any]:
    """Name the tables, and the pictures with their hashes."""
    return {
        "tables": sorted(file.name for file in files if file.suffix == ".csv"),
        "pictures": hashes(file for file in files if file.suffix != ".csv"),
    }


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """Name and SHA-256 of files, in order."""
    return {file.name: sha256(file) for file in sorted(files)}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        drawn = draw(options.studies, figures, ROOT / "report")
    except (ValueError, OSError) as error:
        print(f"figures/regenerate.py: error: {error}", file=sys.stderr)
        return 2
    gallery.write_gallery(figures)
    print("wrote figures/README.md: what each figure found")
    path = figures / "manifest.json"
    before = json.loads(path.read_text())["studies"] if path.exists() else {}
    manifest = {
        "command": "python figures/regenerate.py",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "studies": before | drawn,
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


def draw(names: list[str], figures: Path, reports: Path) -> dict[str, dict[str, Any]]:
    """Draw studies into a folder; return their entries of the manifest."""
    # The longest first: two of them are drawn side by side.
    work: dict[str, tuple[Callable[..., Drawn], tuple[Any, ...]]] = {
        "paths": (regenerate_paths, (figures,)),
        "teacher": (regenerate_teacher, (figures,)),
        **{s.name: (regenerate, (s, figures, reports / s.name)) for s in STUDIES},
        "science": (regenerate_science, (figures,)),
        "theory": (regenerate_theory, (figures,)),
    }
    if unknown := set(names) - set(work):
        raise ValueError(f"no study is called {min(unknown)!r}; they are {', '.join(work)}")
    entries = {}
    with ProcessPoolExecutor(2) as pool:
        futures = {n: pool.submit(f, *x) for n, (f, x) in work.items() if not names or n in names}
        for name, future in tqdm(futures.items(), desc="studies", disable=None):
            entries[name], said = future.result()
            files = [file for file in entries[name]["pictures"] if file.endswith(".png")]
            tqdm.write(f"{name}: wrote {', '.join(files)}")
            for line in said:
                tqdm.write(line)
    return entries


def check(names: list[str], figures: Path) -> int:
    """Draw studies into a temporary folder and say where numbers differ; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder, "figures")
        elsewhere.mkdir()
        draw(names, elsewhere, Path(folder, "report"))
        tables = sorted(elsewhere.glob("*.csv"))
        found = [line for table in tables for line in differences(table, figures / table.name)]
    print("\n".join([*found, f"{len(tables)} tables compared, {len(found)} differences"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
