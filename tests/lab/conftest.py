"""What several tests of the lab start from."""

from importlib.util import find_spec
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[2] / "data" / "paths" / "base"

if find_spec("torch") is None:  # what the tasks do without
    collect_ignore_glob = ["test_*.py", "experiments/*"]
elif find_spec("trl") is None:
    collect_ignore_glob = ["test_hooks.py"]


@pytest.fixture(scope="session")
def model():
    """Random weights for the path task."""
    from passk_lab.lab.model import ModelConfig, build_model
    from passk_lab.lab.tasks.paths import PathTask

    task = PathTask()
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 2}
    return build_model(ModelConfig(task.vocab_size, task.context_length, **sizes), seed=0)


@pytest.fixture(scope="session")
def shipped():
    """The trained base of the path task."""
    from passk_lab.lab.model import load_model

    return load_model(SHIPPED)
