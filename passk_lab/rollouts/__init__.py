"""What came in: the rollouts table, its files, and what is counted from them."""

from passk_lab.rollouts.table import (
    FORMAT_VERSION,
    MAIN_KEYS,
    counts,
    iter_jsonl,
    read_metadata,
    read_rollouts,
    validate_rollouts,
    write_rollouts,
)

__all__ = [
    "FORMAT_VERSION",
    "MAIN_KEYS",
    "counts",
    "iter_jsonl",
    "read_metadata",
    "read_rollouts",
    "validate_rollouts",
    "write_rollouts",
]
