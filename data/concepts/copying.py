"""Carry the obedient base on, with authors who copy a demonstration's chain, too.

``python data/concepts/copying.py lab-copying/base`` takes ten to twenty minutes on a core and
resumes. Such an author prefers the chain by log(1.99 / 0.01) = 5.3 nats, as much as the obedient
prefer a route.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from passk_lab.lab.experiments.concepts import SUITES
from passk_lab.lab.model import load_model
from passk_lab.lab.pretrain import PretrainConfig, pretrain
from passk_lab.lab.tasks.concepts import ConceptTask

TASK = ConceptTask(habit=0.995, copies=0.99)
MORE = PretrainConfig(steps=600, learning_rate=1e-3, warmup=50, save_every=50)


def main() -> None:
    """Train, and save the model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for the model")
    out = parser.parse_args().out
    base = load_model(Path(__file__).resolve().parent / "base")
    suite = SUITES["concepts"]
    pretrain(TASK, suite.model, MORE, out / "updates", start_from=base).save_pretrained(out)
    print(suite.base_report(load_model(out)).round(3).to_string())


if __name__ == "__main__":
    main()
