from dataclasses import replace

import pandas as pd
import torch

from passk_lab.lab.experiments import map as maps
from passk_lab.lab.experiments.suite import PATHS, SUITES, Suite
from passk_lab.lab.model import load_model
from passk_lab.lab.pretrain import PretrainConfig
from tests.helpers import refuses

TINY = Suite(
    pretrain=PretrainConfig(steps=3, batch_size=8, warmup=1),
    steps=(1,), policy_steps=(1,), n_problems=4, n_samples=0,
    d_model=32, n_layers=2, n_heads=2,
)  # fmt: skip


def test_other_authors_get_a_base_of_their_own(tmp_path):
    base = TINY.make_base(tmp_path / "base", progress=False)
    before = [p.clone() for p in base.parameters()]
    call = {"seeds": [0], "progress": False, "conditions": ["even-authors"], "suite": TINY}
    call["adaptation"] = PretrainConfig(steps=1, batch_size=8, warmup=1)
    files = maps.run_map(base, tmp_path / "map", **call)
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), before, strict=True))
    assert [f.stem for f in files] == ["base-0", "sdsd-0", "grpo-kl-0"]
    assert all(f.parent == tmp_path / "map" / "even-authors" / "policies" for f in files)
    own = pd.read_parquet(files[0])
    assert set(own["step"]) == {0}
    (adapted,) = (tmp_path / "map" / "even-authors" / "base").glob("checkpoint-*/model")
    assert not torch.equal(next(iter(load_model(adapted).parameters())), before[0])
    again = maps.run_map(base, tmp_path / "map", **call)
    assert again == files


def test_conditions_change_one_thing():
    assert set(maps.CONDITIONS) == set(maps.AUTHORS)
    for name, law in maps.AUTHORS.items():
        if name == "no-switch":
            assert law.wrong == law.wrong_after_demo
            continue
        graphs = ("n_nodes", "max_nodes", "edges", "min_paths", "max_paths", "wrong")
        assert all(getattr(law, g) == getattr(PATHS, g) for g in graphs), name
    suite = SUITES["paths"].runs
    for runs in maps.CONDITIONS.values():
        for name, config in runs.items():
            twin = suite[name if name in suite else name.split("/")[0]]
            assert config.prompts_per_step == twin.prompts_per_step
            assert config.ema_rate == twin.ema_rate
            assert config.group_size == twin.group_size
    said = "'chess' is unknown; the known ones: main"
    refuses(said, maps.run_map, None, None, conditions=["chess"])


def test_the_main_law_is_the_suites():
    assert SUITES["paths"].task == PATHS == maps.AUTHORS["main"]
    assert replace(PATHS, follow=0.6) != PATHS
