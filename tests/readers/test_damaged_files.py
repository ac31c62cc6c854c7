"""Damaged files are read or refused with a message; no reader fails in another way.

The script benchmarks/robustness.py does the same for hours, docs/robustness.md says for how long.
"""

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passk_lab.readers import FORMATS

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import damage  # noqa: E402

sys.path.remove(BENCHMARKS)

CASES = damage.cases()


def test_every_reader_is_tried():
    assert {case.format for case in CASES} == set(FORMATS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_the_files_are_good_before(case, tmp_path):
    assert damage.outcome(case, damage.original(case), tmp_path) == "read"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False))
def test_damage_is_read_or_refused(case, draw):
    content = damage.damage(draw, damage.original(case), case.damaged)
    with tempfile.TemporaryDirectory() as folder:
        assert damage.outcome(case, content, Path(folder)) in ("read", "refused")
