"""Join the rollouts and policies of a finished suite into the files beside this one.

``python data/paths/make.py lab`` reads what ``passk-lab train --suite paths --out lab`` wrote.

To stay small,

- ``rollouts.parquet`` has the samples of the runs in ``SAMPLED`` after the last update in
  distribution, and on larger graphs those of four with the first seed. ``entropy.parquet`` has what
  figures need of all others: means of each problem. Exact probabilities of all runs are in
  ``policies.parquet``;
- log-probabilities and entropies of rollouts are rounded to 0.01 nats, those of policies to 0.001;
- the samples of a problem are sorted by answer. As samples are exchangeable, nothing is lost; so
  that nobody takes the first few for random ones, ``sample_id`` is one fixed permutation in every
  problem.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts import atomic_write, read_metadata, read_rollouts

HERE = Path(__file__).resolve().parent
KEYS = ["run", "split", "seed", "step", "problem_id"]
SAMPLED = (
    "base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-uniform", "mara", "control-other",
)  # fmt: skip
ON_LARGER = ("base", "grpo", "mara", "sdsd")
COLUMNS = [
    *KEYS, "sample_id", "correct", "answer", "logprob", "n_tokens", "token_entropy"
]  # fmt: skip


def compact(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Sort the samples of each problem by answer and give them a fixed permutation of ids."""
    usual = (rollouts["split"] == "id") & rollouts["run"].isin(SAMPLED)
    larger = (rollouts["split"] == "ood-larger") & rollouts["run"].isin(ON_LARGER)
    at_end = rollouts["step"] == rollouts["step"].max()
    wanted = at_end & (usual | (larger & (rollouts["seed"] == 0)))
    table = rollouts.loc[wanted, COLUMNS].copy()
    table["logprob"] = table["logprob"].round(2)
    table["token_entropy"] = table["token_entropy"].round(2)
    table = table.sort_values([*KEYS, "answer", "logprob"], ignore_index=True)
    if table.empty:  # a run of which no samples are kept
        return table
    place = table.groupby(KEYS, sort=False, observed=True).cumcount().to_numpy()
    order = np.random.default_rng(0).permutation(place.max() + 1)
    table["sample_id"] = order[place]
    return table


def entropies(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Mean token entropy and accuracy of each problem in distribution."""
    usual = rollouts[rollouts["split"] == "id"]
    means = usual.groupby(KEYS, observed=True, sort=False)[["token_entropy", "correct"]].mean()
    return means.round(4).reset_index()


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
        # One dictionary and one page a column: answers repeat from run to run.
        pq.write_table(
            arrow, temporary, compression="zstd", compression_level=19, row_group_size=1 << 24,
            dictionary_pagesize_limit=1 << 24, data_page_size=1 << 28, max_rows_per_page=1 << 30,
        )  # fmt: skip


def exact(path: Path) -> pd.DataFrame:
    """Read a policies file, rounded and in order."""
    table = pd.read_parquet(path)
    return table.assign(logprob=table["logprob"].round(3)).sort_values(["split", "step"])


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
    sampled = [read_rollouts(file) for file in files]
    write([compact(table) for table in sampled], HERE / "rollouts.parquet", note)
    write([entropies(table) for table in sampled], HERE / "entropy.parquet", note)
    policies = [exact(lab / "policies" / file.name) for file in files]
    write(policies, HERE / "policies.parquet", note)
    conditions = sorted((lab / "map").glob("*/policies/*.parquet"))
    mapped = [exact(file).assign(condition=file.parent.parent.name) for file in conditions]
    mapped = [table[table["split"] == "id"] for table in mapped]
    write(mapped, HERE / "map.parquet", note)
    seen = [exact(file) for file in sorted((lab / "seen" / "policies").glob("*.parquet"))]
    seen = [table[table["split"] == "id"] for table in seen]
    write(seen, HERE / "seen.parquet", note)
    with atomic_write(HERE / "sweep.csv") as temporary:
        temporary.write_bytes((lab / "sweep.csv").read_bytes())


if __name__ == "__main__":
    main()
