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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import theory

from passk_lab._files import atomic_write
from passk_lab.report import build_report, write_figures

ROOT = Path(__file__).resolve().parent.parent
SEED = 0
N_RESAMPLES = 10_000
PACKAGES = ("passk-lab", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn", "jinja2")


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


def regenerate(study: Study, figures: Path, report: Path) -> dict[str, Any]:
    """Write a study's report and figures; return its entry of the manifest."""
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
    for v in result.verdicts:
        print(f"{study.name}, {v.run} against {v.baseline}: {v.label}")
        for line in v.evidence:
            print(f"  {line}")
    return {
        "data": study.data,
        "data_sha256": sha256(data),
        "baseline": study.baseline,
        "seed": SEED,
        "n_resamples": N_RESAMPLES,
        "files": {file.name: sha256(file) for file in sorted(files)},
    }


def regenerate_theory(figures: Path) -> dict[str, Any]:
    """Draw the figures that need no data; return their entry of the manifest."""
    files = theory.draw(figures)
    return {
        "seed": theory.SEED,
        "files": {file.name: sha256(file) for file in sorted(files)},
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Regenerate everything; return the exit code."""
    figures = ROOT / "figures"
    studies = {}
    for study in STUDIES:
        report = ROOT / "report" / study.name
        try:
            studies[study.name] = regenerate(study, figures, report)
        except (ValueError, OSError) as error:
            print(f"figures/regenerate.py: error: {error}", file=sys.stderr)
            return 2
        names = studies[study.name]["files"]
        print(f"wrote {len(names)} files into figures/: {', '.join(names)}")
        print(f"wrote report/{study.name}/index.html")
    studies["theory"] = regenerate_theory(figures)
    print(f"wrote {len(studies['theory']['files'])} files of the theory into figures/")
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
