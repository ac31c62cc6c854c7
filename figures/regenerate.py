"""Make every figure of this folder from the saved rollouts: ``make figures``.

Each figure is a PNG, an SVG and the CSV that it shows; ``manifest.json`` says from which data,
with which settings and versions. The same data and versions give the same bytes. The full report
of each study goes to ``report/``, which is not kept in the repository.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
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

from passk_lab.report import build_report, write_figures
from passk_lab.rollouts._atomic import atomic_write

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
        "files": hashes(files),
    }
    return entry, said


def regenerate_theory(figures: Path) -> Drawn:
    """Draw the figures that need no data."""
    return {"seed": theory.SEED, "files": hashes(theory.draw(figures))}, []


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
        "files": hashes(files),
    }


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """Name and SHA-256 of files, in order."""
    return {file.name: sha256(file) for file in sorted(files)}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Regenerate everything; return the exit code."""
    figures = ROOT / "figures"
    # The longest first: two of them are drawn side by side.
    work: dict[str, tuple[Callable[..., Drawn], tuple[Any, ...]]] = {
        "paths": (regenerate_paths, (figures,)),
        "teacher": (regenerate_teacher, (figures,)),
        **{s.name: (regenerate, (s, figures, ROOT / "report" / s.name)) for s in STUDIES},
        "science": (regenerate_science, (figures,)),
        "theory": (regenerate_theory, (figures,)),
    }
    studies = {}
    with ProcessPoolExecutor(2) as pool:
        futures = {name: pool.submit(draw, *given) for name, (draw, given) in work.items()}
        try:
            for name, future in tqdm(futures.items(), desc="studies", disable=None):
                studies[name], said = future.result()
                files = [file for file in studies[name]["files"] if file.endswith(".png")]
                tqdm.write(f"{name}: wrote figures/ {', '.join(files)}")
                for line in said:
                    tqdm.write(line)
        except (ValueError, OSError) as error:
            pool.shutdown(cancel_futures=True)
            print(f"figures/regenerate.py: error: {error}", file=sys.stderr)
            return 2
    gallery.write_gallery(figures)
    print("wrote figures/README.md: what each figure found")
    manifest = {
        "command": "python figures/regenerate.py",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "studies": studies,
    }
    with atomic_write(figures / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
