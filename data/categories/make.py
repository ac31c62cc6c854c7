"""Join what the suite of categories wrote into the files beside this one.

``python data/categories/make.py lab`` reads the policies of ``lab``. ``policies.parquet`` has the
base and every run after its last update, log-probabilities rounded to 0.001 nats; ``steps.parquet``
what they mean after every step that was kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts import atomic_write
from passk_lab.stats.policies import policy_values

HERE = Path(__file__).resolve().parent
KEYS = ["run", "split", "seed", "step"]
_SHORT = pa.dictionary(pa.int8(), pa.string())
NARROW = {
    **dict.fromkeys(("run", "split", "problem_id"), _SHORT),
    "answer": pa.dictionary(pa.int16(), pa.string()),
    **dict.fromkeys(("seed", "step"), pa.int8()),
}


def measured(policies: pd.DataFrame) -> pd.DataFrame:
    """pass@1, effective answers, distinct@16 and distinct@64 of every category and step."""
    parts = []
    for name, metric, k in (
        ("pass@1", "pass_at_k", 1),
        ("effective_answers", "effective_answers", 1),
        ("distinct@16", "distinct_at_k", 16),
        ("distinct@64", "distinct_at_k", 64),
    ):
        for values in policy_values(policies, metric, k, by=KEYS):
            at = dict(zip(KEYS, values.group, strict=True))
            found = values.values[0, :, 0].round(4)
            parts.append(
                pd.DataFrame({**at, "problem_id": values.problem_id, "name": name, "value": found})
            )
    table = pd.concat(parts).pivot_table("value", [*KEYS, "problem_id"], "name")
    return table.reset_index().rename_axis(columns=None)


def write(table: pd.DataFrame, name: str, note: dict[str, Any]) -> None:
    """Write a table with small types."""
    numbers = table.select_dtypes("float").columns
    arrow = pa.Table.from_pandas(
        table.astype(dict.fromkeys(numbers, np.float32)), preserve_index=False
    )
    arrow = arrow.cast(pa.schema([(f.name, NARROW.get(f.name, f.type)) for f in arrow.schema]))
    arrow = arrow.replace_schema_metadata({b"passk_lab": json.dumps(note).encode()})
    with atomic_write(HERE / f"{name}.parquet") as temporary:
        pq.write_table(arrow, temporary, compression="zstd", compression_level=19)


def read(lab: Path) -> Iterator[pd.DataFrame]:
    """Policies of every run and seed; the base is one model under all seeds."""
    files = sorted((lab / "policies").glob("*.parquet"))
    if not files:
        raise SystemExit(f"{lab}: no policies here; give the folder that the suite wrote")
    for file in files:
        table = pd.read_parquet(file)
        said = table.attrs["passk_lab"]
        if (said["run"], said["seed"] > 0) != ("base", True):
            yield table


def main() -> None:
    """Read the suite's folder and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    tables = list(read(parser.parse_args().lab))
    note: dict[str, Any] = {"command": "python data/categories/make.py lab"}
    for table in tables:
        said = dict(table.attrs["passk_lab"])
        said.get("train", {}).pop("seed", None)
        note[said.pop("run")] = {name: value for name, value in said.items() if name != "seed"}
        table.attrs = {}
    policies = pd.concat(tables, ignore_index=True)
    last = policies["step"] == policies.groupby("run")["step"].transform("max")
    order = [*KEYS, "problem_id"]
    kept = policies[last].sort_values(order, kind="stable", ignore_index=True)
    write(kept[[*order, "answer", "logprob"]].round({"logprob": 3}), "policies", note)
    write(measured(policies), "steps", note)


if __name__ == "__main__":
    main()
