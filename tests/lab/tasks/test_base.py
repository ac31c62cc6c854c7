"""The check of a task finds what is broken, and passes what isn't."""

import subprocess
import sys
from pathlib import Path

import pytest

from passk_lab.lab.tasks import TASKS
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.paths import PathTask
from tests.helpers import refuses


@pytest.mark.parametrize(
    "task", [PathTask(), PathTask(n_nodes=5, max_nodes=6, edges=(8, 12), larger_edges=(10, 14))]
)
def test_path_task_passes(task):
    check_task(task, n=40)


class Proxy:
    """A path task with some of its members replaced."""

    def __init__(self, **replaced):
        self._task, self._replaced = PathTask(), replaced

    def __getattr__(self, name):
        return self._replaced[name] if name in self._replaced else getattr(self._task, name)


GOOD = PathTask()


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"pad_id": 2}, "pad_id and eos_id are the same"),
        ({"vocab_size": 20}, "encode at prompt .*: token .* is outside 0 ... 19"),
        ({"sample": lambda n, rng: GOOD.sample(n + 1, rng)}, "gave 17 prompts"),
        ({"verify": lambda prompt, answer: True}, "verify accepts None"),
        ({"verify": lambda prompt, answer: False}, "verify refuses"),
        ({"correct_answers": lambda prompt: []}, "correct_answers is empty"),
        ({"correct_answers": lambda prompt: GOOD.correct_answers(prompt) * 2}, "repeats one"),
        ({"context_length": 30}, "context_length is 30"),
        ({"max_answer_tokens": 3}, "longer than max_answer_tokens"),
        ({"encode": lambda prompt, demo=None: [0, 1]}, "encode uses pad_id"),
        ({"encode_answer": lambda answer: GOOD.encode_answer(answer)[:-1]}, "only eos_id"),
        ({"decode": lambda tokens: "0-1"}, "isn't the answer"),
        (
            {"decode": lambda tokens: GOOD.decode([*tokens, GOOD.eos_id])},
            "finds .* without its eos_id",
        ),
    ],
)
def test_broken_tasks_are_found(replaced, message):
    refuses(f"task check: .*{message}", check_task, Proxy(**replaced))


def test_answers_need_not_be_listable():
    def unknown(prompt):
        raise NotImplementedError

    check_task(Proxy(correct_answers=unknown))


def test_the_docs_name_every_task():
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert all(f"`{name}`" in page for name in TASKS)


@pytest.mark.parametrize("task", ["paths", "science_qa", "countdown", "categories"])
def test_importing_a_task_is_light(task):
    heavy = {"torch", "transformers", "pint", "matplotlib", "sklearn", "reasoning_gym"}
    code = f"import sys, passk_lab.lab.tasks.{task}; print({heavy} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
