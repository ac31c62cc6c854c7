"""Reading a million rollouts of text beside DuckDB, all in one run; writes reading.md beside this.

    python benchmarks/reading.py

Both write the rollouts into a parquet file, and count the samples and modes of each problem, each
time in a process of its own. Times are the processor's, the best of several rounds in which they
take turns; memory is the least peak. The counts must be equal.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import machine, run_process, table
from tqdm import tqdm

HERE = Path(__file__).parent
N_PROBLEMS, N_SAMPLES = 1_000, 500  # of each of two runs
ROUNDS = 3
WORDS = ("so", "the", "sum", "of", "these", "numbers", "is", "therefore", "we", "get", "hence")
FILES = {
    "rollouts.jsonl": "JSONL",
    "rollouts.jsonl.gz": "JSONL, gzip",
    "rollouts.csv": "CSV",
    "nested.jsonl": "JSONL with a nested field",
}
NOTE = """\
A million rollouts, {} of each of {:,} problems and two runs: two names, the number of the
sample, verdict, answer, and a text of twelve words. Processor's seconds and peak memory of a
process. `passk-lab convert` also checks every value, refuses rollouts that occur twice, and notes
the file's SHA-256; DuckDB does none of this. Our counting reads every column, for a report asks for
the others later; DuckDB reads those that it counts. Imports are in the times: {:.2f} s of ours
(with pandas, pyarrow and duckdb), at most {:.2f} s of DuckDB's (pyarrow, too, where it counts).
"""
DOUBTS = """Arrow reads what is certain to come out as the strict reader has it. Lines with nested
fields, fields left out or numbers of two types are parsed one by one, in blocks of four megabytes.
"""

START = {
    "passk_lab": "import passk_lab.readers.reading",
    "DuckDB": "import duckdb, pyarrow",
}
CONVERT = {
    "passk_lab": """
import sys
from passk_lab.readers import convert
print(len(convert("plain", sys.argv[1], sys.argv[2])))
""",
    "DuckDB": """
import sys, duckdb
duckdb.execute("SET enable_progress_bar = false")
copy = f"COPY (FROM {sys.argv[3]}('{sys.argv[1]}')) TO '{sys.argv[2]}' (COMPRESSION zstd)"
print(duckdb.execute(copy).fetchone()[0])
""",
}
COUNT = {
    "passk_lab": """
import sys, passk_lab
found = passk_lab.counts(sys.argv[1])
right = found["correct_mode_counts"]
print(len(found), found["n_samples"].sum(), found["n_correct"].sum(), right.map(len).sum())
""",
    "DuckDB": """
import sys, duckdb, pyarrow.compute as pc
duckdb.execute("SET enable_progress_bar = false")
found = duckdb.sql(f'''
    SELECT run, problem_id, sum(n)::BIGINT AS n_samples, sum(c)::BIGINT AS n_correct,
        list(n ORDER BY n DESC) AS mode_counts,
        list(c ORDER BY c DESC) FILTER (c > 0) AS correct_mode_counts
    FROM (SELECT run, problem_id, answer, count(*) AS n, count(*) FILTER (correct) AS c
          FROM {sys.argv[3]}('{sys.argv[1]}') GROUP BY ALL)
    GROUP BY run, problem_id ORDER BY run, problem_id
''').to_arrow_table()
sums = [pc.sum(found[name]).as_py() for name in ("n_samples", "n_correct")]
print(len(found), *sums, pc.sum(pc.list_value_length(found["correct_mode_counts"])).as_py())
""",
}


def rollouts() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for problem in range(N_PROBLEMS):
        for run in ("base", "tuned"):
            correct = rng.random(N_SAMPLES) < rng.beta(0.5, 1)
            answers = np.where(
                correct, rng.integers(0, 8, N_SAMPLES), rng.integers(8, 200, N_SAMPLES)
            )
            words = np.array(WORDS)[rng.integers(0, len(WORDS), (N_SAMPLES, 12))]
            for sample, answer in enumerate(answers.tolist()):
                yield {
                    "run": run,
                    "problem_id": f"problem-{problem:05d}",
                    "sample_id": sample,
                    "correct": bool(correct[sample]),
                    "answer": str(answer),
                    "text": f"{' '.join(words[sample])}, {answer}.",
                }


def write(folder: Path) -> None:
    records = list(rollouts())
    pd.DataFrame(records).to_csv(folder / "rollouts.csv", index=False)
    with (
        open(folder / "rollouts.jsonl", "w") as plain,
        open(folder / "nested.jsonl", "w") as nested,
    ):
        for record in records:
            plain.write(json.dumps(record) + "\n")
            nested.write(json.dumps(record | {"usage": {"tokens": 14}}) + "\n")
    with (
        open(folder / "rollouts.jsonl", "rb") as file,
        gzip.open(folder / "rollouts.jsonl.gz", "wb", compresslevel=6) as packed,
    ):
        shutil.copyfileobj(file, packed)


def measure(folder: Path, name: str, codes: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Least processor's seconds and memory of each program."""
    function = "read_csv" if name.endswith(".csv") else "read_ndjson"
    spent: dict[str, list[tuple[float, float]]] = {program: [] for program in codes}
    said = set()
    for _ in range(ROUNDS):
        for program, code in codes.items():
            arguments = (folder / name, folder / "out.parquet", function)
            printed, busy, memory = run_process(code, *arguments)
            spent[program].append((busy, memory))
            said.add(printed)
    assert len(said) == 1, said
    return {
        program: (min(a for a, _ in one), min(b for _, b in one)) for program, one in spent.items()
    }


def report(folder: Path) -> str:
    starts = measure(folder, "", START)
    jobs = {"to parquet": CONVERT, "counts": COUNT}
    todo = [(name, job) for name in FILES for job in jobs]
    rows = []
    for name, job in tqdm(todo, leave=False):
        found = measure(folder, name, jobs[job])
        (ours, memory), (theirs, their_memory) = found.values()
        cells = [f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.1f}"]
        rows.append([FILES[name], job, *cells, f"{memory:.2f}", f"{their_memory:.2f}"])
    header = ["file", "job", "ours", "DuckDB", "ratio"]
    begin, their_begin = (busy for busy, _ in starts.values())
    return "\n".join(
        [
            "# Reading text\n",
            machine("python benchmarks/reading.py", ["duckdb", "pandas", "pyarrow"]),
            NOTE.format(N_SAMPLES, N_PROBLEMS, begin, their_begin),
            table([*header, "our memory, GB", "DuckDB's, GB"], rows),
            DOUBTS,
        ]
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        text = report(Path(folder))
    (HERE / "reading.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
