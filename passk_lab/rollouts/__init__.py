"""What came in: the rollouts table, its files, and what is counted from them."""

from passk_lab._lazy import lazy
from passk_lab.rollouts.counting import as_counts, counts
from passk_lab.rollouts.files import (
    atomic_write,
    iter_jsonl,
    read_metadata,
    read_rollouts,
    write_rollouts,
)
from passk_lab.rollouts.layout import Layout
from passk_lab.rollouts.study import Study
from passk_lab.rollouts.table import FORMAT_VERSION, MAIN_KEYS, validate_rollouts

__all__ = [
    "FORMAT_VERSION",
    "MAIN_KEYS",
    "Layout",
    "Study",
    "as_counts",
    "atomic_write",
    "counts",
    "iter_jsonl",
    "read_metadata",
    "read_rollouts",
    "validate_rollouts",
    "write_rollouts",
]

__getattr__, __dir__ = lazy(__name__, __all__)
