"""Join the rollouts and policies of a finished suite into the files beside this one.

``python data/paths/make.py lab`` reads what ``passk-lab train --suite paths --out lab`` wrote.

To stay small, the table of rollouts is kept sorted: the samples of a problem by answer. As samples
are exchangeable, nothing is lost; so that nobody takes the first few for random ones, ``sample_id``
is one fixed permutation in every problem. Log-probabilities are rounded to 1e-4 nats, entropies to
1e-3.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab._files import atomic_write
from passk_lab.rollouts import read_metadata, read_rollouts

HERE = Path(__file__).resolve().parent
SORT = ["run", "split", "seed", "step", "problem_id", "answer", "logprob"]
COLUMNS = [
    "run", "split", "seed", "step", "problem_id", "sample_id", "correct", "answer", "logprob",
    "n_tokens", "token_entropy",
]  # fmt: skip


def compact(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Sort the samples of each problem by answer and give them a fixed permutation of ids."""
    table = rollouts[COLUMNS].copy()
    table["logprob"] = table["logprob"].round(4)
    table["token_entropy"] = table["token_entropy"].round(3)
    table = table.sort_values(SORT, ignore_index=True)
    place = table.groupby(SORT[:5], sort=False, observed=True).cumcount().to_numpy()
    order = np.random.default_rng(0).permutation(place.max() + 1)
    table["sample_id"] = order[place]
    return table


def write(tables: list[pd.DataFrame], path: Path, note: dict[str, object]) -> None:
    """Write tables as parquet with narrow types and dictionaries."""
    narrow = {
        "condition": pa.dictionary(pa.int8(), pa.string()),
        "run": pa.dictionary(pa.int8(), pa.string()),
        "split": pa.dictionary(pa.int8(), pa.string()),
        "problem_id": pa.dictionary(pa.int16(), pa.string()),
        "answer": pa.dictionary(pa.int32(), pa.string()),
        "seed": pa.int8(),
        "step": pa.int16(),
        "sample_id": pa.int16(),
        "n_tokens": pa.int8(),
        "logprob": pa.float32(),
        "token_entropy": pa.float32(),
        "concepts": pa.int16(),
    }
    arrow = pa.concat_tables(pa.Table.from_pandas(t, preserve_index=False) for t in tables)
    fields = [pa.field(f.name, narrow.get(f.name, f.type)) for f in arrow.schema]
    metadata = {b"passk_lab": json.dumps(note).encode()}
    arrow = arrow.cast(pa.schema(fields, metadata))
    with atomic_write(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd", compression_level=19)


def main() -> None:
    """Read a suite's folder and write the files beside this one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    lab = parser.parse_args().lab
    files = sorted((lab / "rollouts").glob("*.parquet"))
    note: dict[str, object] = {"command": "python data/paths/make.py lab"}
    for file in files:
        said = read_metadata(file)
        run = said.pop("run")
        said.pop("seed")
        said.get("train", {}).pop("seed", None)
        note[run] = {key: said[key] for key in ("train", "versions", "device") if key in said}
        note["task"] = said["task"]
    write([compact(read_rollouts(file)) for file in files], HERE / "rollouts.parquet", note)
    policies = [pd.read_parquet(lab / "policies" / file.name) for file in files]
    write([p.sort_values(["split", "step"]) for p in policies], HERE / "policies.parquet", note)
    conditions = sorted((lab / "map").glob("*/policies/*.parquet"))
    mapped = [pd.read_parquet(f).assign(condition=f.parent.parent.name) for f in conditions]
    if mapped:
        write([p.sort_values(["split", "step"]) for p in mapped], HERE / "map.parquet", note)
    with atomic_write(HERE / "sweep.csv") as temporary:
        temporary.write_bytes((lab / "sweep.csv").read_bytes())


if __name__ == "__main__":
    main()
