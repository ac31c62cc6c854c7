"""Join what the Concept Graph suite wrote into the files beside this one.

``python data/concepts/make.py lab`` reads ``lab``, of the obedient base, and the folders
``lab-stubborn``, ``lab-short`` and ``lab-copying`` beside it, as far as they are there; what the
files hold of other runs stays. Log-probabilities are rounded to 0.001 nats, and an answer is its
place among the correct ones of its problem.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from passk_lab.rollouts import atomic_write

HERE = Path(__file__).resolve().parent
CONDITIONS = {"obedient": "", "stubborn": "-stubborn", "short": "-short", "copying": "-copying"}
# Whose models in the middle of training are kept.
FOLLOWED = ("grpo", "grpo-diversity", "sdsd", "sdsd-composed")
KINDS = ("policies", "samples", "use")
_SHORT = pa.dictionary(pa.int8(), pa.string())
NARROW = {
    **dict.fromkeys(("condition", "run", "split", "who", "demo"), _SHORT),
    "problem_id": pa.dictionary(pa.int16(), pa.string()),
    **dict.fromkeys(("seed", "answer", "n_samples", "n_correct", "concepts"), pa.int8()),
    "valid_concepts": pa.int8(),
    "step": pa.int16(),
    **dict.fromkeys(("logprob", "token_entropy", "correct"), pa.float32()),
    **dict.fromkeys(("same_route", "same_answer"), pa.float32()),
}  # fmt: skip


def compact(file: Path, condition: str) -> pd.DataFrame:
    """Read a file of one run and seed, rounded; answers by number."""
    table = pd.read_parquet(file)
    if "answer" in table:
        keys = ["split", "step", "problem_id"]
        table["answer"] = table.groupby(keys, sort=False).cumcount()
    numbers = table.select_dtypes("float").columns
    table[numbers] = table[numbers].round(3)
    table.insert(0, "condition", condition)
    return table.sort_values(["split", "step"] if "split" in table else "step", kind="stable")


def main() -> None:
    """Read the suite's folders and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    lab = parser.parse_args().lab
    for kind in KINDS:
        target = HERE / f"{kind}.parquet"
        note, runs = before(target)
        note["command"] = "python data/concepts/make.py lab"
        for condition, suffix in CONDITIONS.items():
            for file in sorted((lab.parent / f"{lab.name}{suffix}" / kind).glob("*.parquet")):
                said = dict(pd.read_parquet(file, columns=["run"]).attrs["passk_lab"])
                key = (condition, said.pop("run"), said.pop("seed"))
                said.get("train", {}).pop("seed", None)
                note[f"{condition}: task"] = said.pop("task")
                note[f"{condition}: {key[1]}"] = said
                if key[1] != "base" or key[2] == 0:
                    runs[key] = compact(file, condition)
        parts = (narrow(kept(runs[key])) for key in sorted(runs))
        arrow = pa.concat_tables(parts).unify_dictionaries()
        arrow = arrow.replace_schema_metadata({b"passk_lab": json.dumps(note).encode()})
        with atomic_write(target) as temporary:
            # One page a column: runs share their problems.
            pq.write_table(
                arrow, temporary, compression="zstd", compression_level=19, row_group_size=1 << 24,
                dictionary_pagesize_limit=1 << 24, data_page_size=1 << 28,
                max_rows_per_page=1 << 30,
            )  # fmt: skip


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that a figure reads: samples in distribution; the last step, but of runs followed."""
    if "n_samples" in table:
        table = table[table["split"] == "id"]
    if not table["run"].isin(FOLLOWED).all():
        table = table[table["step"] == table["step"].max()]
    return table


def narrow(table: pd.DataFrame) -> pa.Table:
    """Give the columns their small types."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    return arrow.cast(pa.schema([(f.name, NARROW.get(f.name, f.type)) for f in arrow.schema]))


def before(target: Path) -> tuple[dict[str, Any], dict[Any, pd.DataFrame]]:
    """What a file says of its runs, and the rows of each."""
    if not target.exists():
        return {}, {}
    note = json.loads(pq.read_schema(target).metadata[b"passk_lab"])
    table = pd.read_parquet(target)
    for name in table.select_dtypes("category"):
        table[name] = table[name].astype(str)
    return note, dict(iter(table.groupby(["condition", "run", "seed"], sort=False)))


if __name__ == "__main__":
    main()
