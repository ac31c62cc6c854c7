"""The committed figures are those of the committed data, and their page is written from them."""

import hashlib
import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "figures"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def _scripts():
    sys.path.insert(0, str(FIGURES))
    yield
    sys.path.remove(str(FIGURES))


@pytest.fixture
def gallery():
    import gallery

    return gallery


@pytest.fixture
def palette():
    import palette

    return palette


@pytest.fixture(scope="module")
def studies():
    return json.loads((FIGURES / "manifest.json").read_text())["studies"]


def test_figures_are_those_of_the_manifest(studies):
    for study in studies.values():
        for name, digest in study["pictures"].items():
            assert sha256(FIGURES / name) == digest, f"{name}: run make figures"
    listed = {n for study in studies.values() for n in (*study["pictures"], *study["tables"])}
    assert listed == {p.name for kind in ("png", "svg", "csv") for p in FIGURES.glob(f"*.{kind}")}


def test_data_are_those_of_the_manifest(studies):
    for study in studies.values():
        if isinstance(study.get("data_sha256"), dict):
            folder = ROOT / study["data"]
            assert {p.name for p in folder.glob("*.parquet")} == set(study["data_sha256"])
            for name, digest in study["data_sha256"].items():
                assert sha256(folder / name) == digest, f"{name}: run make figures"
        elif "data_sha256" in study:
            assert sha256(ROOT / study["data"]) == study["data_sha256"]


def test_the_page_says_what_the_tables_say(gallery, tmp_path):
    for path in FIGURES.glob("*.csv"):
        shutil.copy(path, tmp_path)
    assert gallery.write_gallery(tmp_path).read_text() == (FIGURES / "README.md").read_text()
    for name, _, _ in gallery.ENTRIES:
        assert (FIGURES / f"{name}.png").exists()


def test_every_figure_is_on_the_page_or_in_a_report(gallery):
    shown = {name for name, _, _ in gallery.ENTRIES}
    drawn = {path.stem for path in FIGURES.glob("*.png")}
    assert {name for name in drawn if name.endswith(("-paths", "-theory"))} <= shown


# Runs that stand together in a figure.
COMPANIES = [
    ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-uniform", "mara"),
    ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05"),
    ("base", "grpo", "sdsd", "pkpo"),
]


def test_methods_have_distinct_styles(palette):
    styles = palette.STYLES.values()
    assert len({s.color for s in styles}) == len(styles)
    assert len({str(s.linestyle) + s.marker for s in styles}) == len(styles)


@pytest.mark.parametrize("runs", COMPANIES)
def test_colours_of_methods_differ_for_any_eyes(palette, runs, seen):
    styles = palette.lab_styles(runs)
    for one, other in itertools.combinations(runs, 2):
        apart = np.linalg.norm(seen(styles[one].color) - seen(styles[other].color))
        assert apart > 9, (one, other)
