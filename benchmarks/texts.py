"""Diversity of texts: speed, exactness and memory against peers, in one run.

    python benchmarks/texts.py

Rewrites the last part of results.md, which ``run.py`` writes as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import compared, function_of_file, machine, run_script, seconds, table

HEADING = "# Diversity of texts\n"
PACKAGES = ("numpy", "scipy", "nltk", "sacrebleu", "vendi-score", "diversity", "rapidfuzz")

# What a process of its own does to the texts of a file, to measure its peak memory. The first line
# is only imported, the second also run.
VENDI = "vendi(np.random.default_rng(0).normal(size=(2000, 384)))"
PROGRAMS = {
    "self-BLEU-4, passk_lab": ("from passk_lab.metrics import self_bleu", "self_bleu(texts)"),
    "self-BLEU-4, nltk in a loop": (
        "from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu",
        "words = [t.split() for t in texts]; smooth = SmoothingFunction().method1; "
        "[sentence_bleu(words[:i] + words[i + 1:], w, smoothing_function=smooth) "
        "for i, w in enumerate(words)]",
    ),
    "self-BLEU-4, sacrebleu in a loop": (
        "from sacrebleu import sentence_bleu",
        "[sentence_bleu(t, texts[:i] + texts[i + 1:]) for i, t in enumerate(texts)]",
    ),
    "Vendi score, passk_lab": ("from passk_lab.metrics import vendi_score as vendi", VENDI),
    "Vendi score, vendi-score `score_dual`": (
        "from vendi_score.vendi import score_dual as vendi",
        VENDI,
    ),
    "Vendi score, vendi-score `score_X`": ("from vendi_score.vendi import score_X as vendi", VENDI),
}

SUMMARY = """
import re, resource, time
import numpy as np, pandas as pd
from passk_lab.stats.diversity import summary
rng = np.random.default_rng(0)
words = np.array([f"w{i}" for i in range(20_000)])
shares = 1 / np.arange(1, 20_001)
texts = [" ".join(t) for t in words[rng.choice(20_000, (100_000, 200), p=shares / shares.sum())]]
table = pd.DataFrame({
    "run": np.where(np.arange(100_000) % 100 < 50, "a", "b"),
    "problem_id": np.repeat([f"p{i}" for i in range(1_000)], 100), "text": texts,
    "correct": rng.random(100_000) < 0.5, "answer": rng.integers(0, 8, 100_000).astype(str)})
start, busy = time.perf_counter(), time.process_time()
found = summary(table, "a", n_jobs=2, random_state=0)
print(time.perf_counter() - start, time.process_time() - busy, len(found))
from joblib.externals.loky import get_reusable_executor
get_reusable_executor().shutdown()  # children are accounted for when they have ended
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def texts_of(n: int, n_words: int) -> list[str]:
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 2_001)
    words = np.array([f"w{i}" for i in range(2_000)])
    drawn = rng.choice(2_000, (n, n_words), p=shares / shares.sum())
    return [" ".join(row) for row in words[drawn]]


def bench_self_bleu(texts: list[str]) -> str:
    import sacrebleu
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    from passk_lab.metrics import self_bleu

    words = [text.split() for text in texts]
    smooth = SmoothingFunction().method1
    others = [words[:i] + words[i + 1 :] for i in range(len(words))]

    def nltk() -> float:
        pairs = zip(others, words, strict=True)
        return float(np.mean([sentence_bleu(o, w, smoothing_function=smooth) for o, w in pairs]))

    def sacre() -> float:
        rest = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
        scores = [sacrebleu.sentence_bleu(t, r).score for t, r in zip(texts, rest, strict=True)]
        return float(np.mean(scores)) / 100

    apart = {
        "nltk": self_bleu(texts, tokenizer="whitespace", smoothing="method1") - nltk(),
        "sacrebleu": self_bleu(texts) - sacre(),
    }
    calls = {
        "passk_lab `self_bleu`": lambda: self_bleu(texts),
        "nltk `sentence_bleu` in a loop": nltk,
        "sacrebleu `sentence_bleu` in a loop": sacre,
    }
    gaps = " and ".join(f"{abs(gap):.0e} from {name}'s" for name, gap in apart.items())
    note = f"\nWith the same tokens and smoothing the values are {gaps}.\n"
    return f"## Self-BLEU-4 of {len(texts)} texts of 100 words\n\n" + compared(calls, 1) + note


def bench_vendi() -> str:
    from vendi_score import vendi

    from passk_lab.metrics import vendi_score

    rows = np.random.default_rng(0).normal(size=(2_000, 384))
    calls = {
        "passk_lab `vendi_score`": lambda: vendi_score(rows),
        "vendi-score `score_dual`": lambda: vendi.score_dual(rows),
        "vendi-score `score_X`": lambda: vendi.score_X(rows),
    }
    gap = abs(vendi_score(rows) / vendi.score_X(rows) - 1)
    note = (
        f"\nThe values are {gap:.0e} apart, relatively. `score_dual` solves the same problem of "
        "d x d, and so takes as long where n > d; ours takes the smaller of n and d by itself.\n"
    )
    return "## Vendi score of 2,000 embeddings of 384 numbers\n\n" + compared(calls) + note


def bench_rouge(texts: list[str]) -> str:
    from passk_lab.metrics import rouge_l_homogenisation

    peer = function_of_file("diversity", "diversity/homogenization.py", "homogenization_score")
    calls = {
        "passk_lab `rouge_l_homogenisation`": lambda: rouge_l_homogenisation(texts),
        "diversity `homogenization_score`": lambda: peer(texts, "rougel", verbose=False),
    }
    gap = abs(rouge_l_homogenisation(texts) - peer(texts, "rougel", verbose=False))
    note = f"\nThe values are {gap:.0e} apart; the peer rounds to three digits.\n"
    title = f"## ROUGE-L homogenisation of {len(texts)} texts of 100 words\n\n"
    return title + compared(calls, 1) + note


def bench_memory(texts: list[str]) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.json")
        path.write_text(json.dumps(texts))
        for name, (imports, call) in PROGRAMS.items():
            read = (
                f"import json, sys, numpy as np\n{imports}\ntexts = json.load(open(sys.argv[1]))\n"
            )
            peaks = [run_script(code, path)[1] * 1e3 for code in (read, read + call)]
            rows.append([name, f"{peaks[1] - peaks[0]:.0f}", f"{peaks[1]:.0f}"])
    header = ["program (a process of its own)", "peak memory above its imports, MB", "in all, MB"]
    title = f"## Memory for the same tasks, self-BLEU of {len(texts)} texts\n\n"
    return title + table(header, rows)


def bench_summary() -> str:
    done = subprocess.run(
        [sys.executable, "-c", SUMMARY], check=True, capture_output=True, text=True
    )
    took, busy, n_rows, peak, busy_workers = done.stdout.split()
    cpu = float(busy) + float(busy_workers)
    return (
        "## All metrics of 100,000 texts of 200 words\n\n"
        "`passk_lab.stats.diversity_summary` of two runs on 1,000 problems, 50 texts of each, with "
        "paired differences, on 2 processes, without embeddings: "
        f"{seconds(float(took))} for {n_rows} rows, {seconds(cpu)} of processor time in all. "
        f"Peak memory of the main process, with the table: {int(peak) * 1024 / 1e9:.2f} GB.\n"
    )


def report() -> str:
    texts = texts_of(200, 100)
    parts = [
        HEADING,
        machine("python benchmarks/texts.py", PACKAGES),
        bench_self_bleu(texts),
        bench_vendi(),
        bench_rouge(texts[:50]),
        bench_memory(texts[:100]),
        bench_summary(),
    ]
    return "\n".join(parts)


def main() -> None:
    target = Path(__file__).parent / "results.md"
    before, _, _ = target.read_text().partition(HEADING)
    text = report()
    target.write_text(before.rstrip("\n") + "\n\n" + text)
    print(text)


if __name__ == "__main__":
    main()
