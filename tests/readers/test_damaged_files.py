"""Damaged files are read or refused with a message; no reader fails in another way.

The script benchmarks/robustness.py does the same for hours, docs/robustness.md says for how long.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passk_lab.readers import FORMATS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "robustness.py"
spec = importlib.util.spec_from_file_location("robustness", SCRIPT)
robustness = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = robustness
spec.loader.exec_module(robustness)

CASES = robustness.cases()


def test_every_reader_is_tried():
    assert {case.format for case in CASES} == set(FORMATS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_the_files_are_good_before(case, tmp_path):
    assert robustness.outcome(case, robustness.original(case), tmp_path) == "read"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False))
def test_damage_is_read_or_refused(case, draw):
    content = robustness.damage(draw, robustness.original(case), case.damaged)
    with tempfile.TemporaryDirectory() as folder:
        assert robustness.outcome(case, content, Path(folder)) in ("read", "refused")
