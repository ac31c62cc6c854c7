"""Join the rollouts and policies of a finished suite into the files beside this one.

``python data/paths/make.py lab`` reads what ``passk-lab train --suite paths --out lab`` wrote, and
in it ``rates``, ``map`` and ``seen``, as far as they are there; what the files hold of other
runs stays.

To stay small,

- ``rollouts.parquet`` has the samples of the runs in ``SAMPLED`` after the last update in
  distribution, and on larger graphs those of four with the first seed. ``entropy.parquet`` has what
  figures need of all others: means of each problem. Exact probabilities of all runs are in
  ``policies.parquet``, in the middle of training of the runs in ``FOLLOWED``; of the other rates
  each problem's accuracy and distinct paths are kept, and their means on the validation problems;
- log-probabilities and entropies of rollouts are rounded to 0.01 nats, those of policies to 0.001,
  of the map's to 0.01;
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

from passk_lab.rollouts import atomic_write, read_rollouts

HERE = Path(__file__).resolve().parent
VALIDATION = "validation"
KEYS = ["run", "split", "seed", "step", "problem_id"]
SAMPLED = (
    "base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-composed", "sdsd-uniform", "mara",
)  # fmt: skip
FOLLOWED = (
    *SAMPLED,
    "sdsd-anchored",
    "pkpo",
    "dkpo",
    "dkpo/mixed",
    "control-wrong",
)
# Whose use of a demonstration is kept.
USERS = ("base", "grpo", "sdsd", "sdsd/frozen", "sdsd-composed", "sdsd-anchored")
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
    return means.round(3).reset_index()


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
        "who": pa.dictionary(pa.int8(), pa.string()),
        **dict.fromkeys(("learning_rate", "pass@1", "pass@64", "distinct@64"), pa.float32()),
        **dict.fromkeys(("correct_given_demo", "model_given_demo"), pa.float32()),
    }
    plain = [t.astype(dict.fromkeys(t.select_dtypes("category"), str)) for t in tables]
    arrow = pa.concat_tables(
        (pa.Table.from_pandas(t, preserve_index=False) for t in plain), promote_options="permissive"
    )
    fields = [pa.field(f.name, narrow.get(f.name, f.type)) for f in arrow.schema]
    metadata = {b"passk_lab": json.dumps(note).encode()}
    arrow = arrow.cast(pa.schema(fields, metadata))
    with atomic_write(path) as temporary:
        # One dictionary and one page a column: answers repeat from run to run.
        pq.write_table(
            arrow, temporary, compression="zstd", compression_level=19, row_group_size=1 << 24,
            dictionary_pagesize_limit=1 << 24, data_page_size=1 << 28, max_rows_per_page=1 << 30,
        )  # fmt: skip


def exact(path: Path, digits: int = 3) -> pd.DataFrame:
    """Read a policies file, rounded and in order."""
    table = pd.read_parquet(path)
    return table.assign(logprob=table["logprob"].round(digits)).sort_values(["split", "step"])


def followed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last update; of some runs, those in the middle of training in distribution."""
    last = table["step"] == table["step"].max()
    usual = table["run"].isin(FOLLOWED) & (table["split"] == "id")
    return table[(last | usual) & (table["split"] != VALIDATION)]


def by_rate(path: Path) -> pd.DataFrame:
    """Accuracy and distinct paths of each problem after the last update of a run."""
    table = pd.read_parquet(path)
    rate = table.attrs["passk_lab"].get("train", {}).get("learning_rate", 0.0)
    last = table[(table["step"] == table["step"].max()) & table["split"].isin(["id", VALIDATION])]
    p = np.exp(last["logprob"])
    by = [last[name] for name in ("split", "problem_id")]
    parts = {"pass@1": p, "distinct@64": 1 - (1 - p) ** 64}
    found = pd.DataFrame({name: part.groupby(by).sum() for name, part in parts.items()})
    found.insert(1, "pass@64", 1 - (1 - found["pass@1"].clip(upper=1)) ** 64)
    run = str(table["run"].iloc[0]).partition("@")[0]
    keys = {"run": run, "learning_rate": rate, "seed": int(table["seed"].iloc[0])}
    return found.round(3).reset_index().assign(**keys)


def rates(lab: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every run at every rate: in distribution by problem, on the validation problems its means."""
    folders = [lab / "policies", lab / "rates" / "policies"]
    files = [file for folder in folders for file in sorted(folder.glob("*.parquet"))]
    own = [file for file in files if file.parent == folders[0] or not file.name.startswith("base-")]
    table = pd.concat([by_rate(file) for file in own], ignore_index=True)
    keys = ["run", "learning_rate", "seed"]
    usual = table[table["split"] == "id"].drop(columns="split")
    chosen = table[table["split"] == VALIDATION].groupby(keys, sort=False)
    means = chosen[["pass@1", "pass@64", "distinct@64"]].mean().round(4).reset_index()
    return usual[[*keys, *usual.columns.drop(keys)]], means


def joined(before: pd.DataFrame, new: pd.DataFrame, keys: list[str]) -> list[pd.DataFrame]:
    """What a file held of other runs, and the new rows."""
    before = before.astype(dict.fromkeys(before.select_dtypes("category"), str))
    again = before.set_index(keys).index.isin(new.astype(before[keys].dtypes).set_index(keys).index)
    return [before[~again], new]


def used(lab: Path) -> pd.DataFrame:
    """How student and teacher use a demonstration in training."""
    table = pd.concat([pd.read_parquet(file) for file in sorted((lab / "use").glob("*.parquet"))])
    keys = ["run", "who", "seed", "step", "problem_id"]
    found = table.loc[table["run"].isin(USERS), [*keys, "correct_given_demo", "model_given_demo"]]
    return found.round(3)


def main() -> None:
    """Read a suite's folder and write the files beside this one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    lab = parser.parse_args().lab
    files = sorted((lab / "policies").glob("*.parquet"))
    note: dict[str, object] = {"command": "python data/paths/make.py lab"}
    policies = []
    for file in files:
        table = exact(file)
        said = table.attrs["passk_lab"]
        note[said["run"]] = {k: said[k] for k in ("train", "versions", "device") if k in said}
        said.get("train", {}).pop("seed", None)
        note["task"] = said["task"]
        policies.append(followed(table))
    write(policies, HERE / "policies.parquet", note)
    sampled = [read_rollouts(file) for file in sorted((lab / "rollouts").glob("*.parquet"))]
    write([compact(table) for table in sampled], HERE / "rollouts.parquet", note)
    write([entropies(table) for table in sampled], HERE / "entropy.parquet", note)
    usual, validation = rates(lab)
    keys = ["run", "learning_rate"]
    before = pd.read_parquet(HERE / "rates.parquet")
    write(joined(before, usual, keys), HERE / "rates.parquet", note)
    write([used(lab)], HERE / "use.parquet", note)
    with atomic_write(HERE / "validation.csv") as temporary:
        before = pd.read_csv(HERE / "validation.csv")
        pd.concat(joined(before, validation, keys)).to_csv(temporary, index=False)
    conditions = sorted((lab / "map").glob("*/policies/*.parquet"))
    if conditions:
        mapped = pd.concat(
            exact(file, 2).assign(condition=file.parent.parent.name) for file in conditions
        )
        mapped = mapped[mapped["split"] == "id"]
        before = pd.read_parquet(HERE / "map.parquet")
        tables = joined(before, mapped, ["condition", "run"])
        write(tables, HERE / "map.parquet", note)
    seen = [exact(file) for file in sorted((lab / "seen" / "policies").glob("*.parquet"))]
    if seen:
        write([table[table["split"] == "id"] for table in seen], HERE / "seen.parquet", note)


if __name__ == "__main__":
    main()
