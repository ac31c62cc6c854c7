from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from passk_lab.lab.sampling import Samples
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.categories import (
    _SHOTS,
    TEMPLATES,
    CategoryQuestion,
    CategoryTask,
    load_categories,
)
from passk_lab.lab.tasks.text import TextEncoder
from tests.helpers import letter_tokenizer, refusals, refuses

SHIPPED = Path(__file__).parents[3] / "data" / "categories"
TOOL = CategoryQuestion("a tool", (("axe",), ("wrench", "spanner"), ("knife", "knives")))
PLACE = CategoryQuestion("an African country", (("Burkina Faso",), ("Chad",)))


@pytest.fixture(scope="module")
def tokenizer():
    return letter_tokenizer(eos_token="<end>", pad_token="<end>", unk_token="<unk>")


@pytest.fixture(scope="module")
def task(tokenizer):
    return CategoryTask((TOOL, PLACE), TextEncoder(tokenizer, chat=False), 16, 512)


def test_shipped_lists():
    questions = load_categories(SHIPPED)
    assert len(questions) == 60
    names = [question.problem_id.casefold() for question in questions]
    assert names == sorted(names)
    assert not {category for category, *_ in _SHOTS} & {q.category for q in questions}
    assert min(len(question.members) for question in questions) >= 7
    assert (SHIPPED / "categories.tsv").stat().st_size < 40_000


@pytest.mark.parametrize("text", [
    "axe", "Axe", "axes", "Axes", "wrenches", "Wrench", "spanner", "Spanners", "knives",
])  # fmt: skip
def test_right_texts(text):
    names = {"a": "axe", "w": "wrench", "s": "wrench", "k": "knife"}
    assert TOOL.read(text) == names[text[0].lower()]
    assert TOOL.accepts(TOOL.read(text))


@pytest.mark.parametrize("text", [
    None, "", "an axe", "axe.", "axe\n", " axe", "AXE", "axess", "hammer", "Chad", "wrench spanner",
])  # fmt: skip
def test_wrong_texts(text):
    assert TOOL.read(text) is None
    assert not TOOL.accepts(text)


def test_proper_names_have_no_plural():
    assert PLACE.read("burkina faso") == "Burkina Faso"
    assert PLACE.read("Chads") is None
    assert set(PLACE.spellings.values()) == {"Burkina Faso", "Chad"}


def test_templates_are_what_they_are_called():
    assert TOOL.text == (
        "Question: Name a color.\nAnswer: blue\n"
        "Question: Name a day of the week.\nAnswer: Friday\n"
        "Question: Name a tool.\nAnswer:"
    )
    asked = "Question: Name a tool.\nAnswer:"
    assert TOOL.shown("axe", "repeated") == f"{TOOL.text} axe\n{asked}"
    for template in ("different", "copying"):
        blocks = TOOL.shown("axe", template).split("Question: ")[1:]
        lines = [dict(part.split(":") for part in b.splitlines()[1:]) for b in blocks]
        assert [line["Example"] for line in lines][-1] == " axe"
        assert lines[-1]["Answer"] == ""
        same = [line["Example"] == line["Answer"] for line in lines[:2]]
        assert same == [template == "copying"] * 2
    assert len({TOOL.shown("axe", template) for template in TEMPLATES}) == 3


def test_task_holds_its_promises(task):
    check_task(task, n=2)
    for template in TEMPLATES:
        changed = CategoryTask(task.questions, task.encoder, 16, 512, template)
        check_task(changed, n=2)
        text = task.encoder.tokenizer.decode(changed.encode(TOOL, "axe"))
        assert text == TOOL.shown("axe", template)


def test_answers_end_with_the_line_or_the_end_token(task):
    break_ = task.encoder.tokenizer("\n")["input_ids"]
    word = task.encode_answer("Axe")[:-1]
    assert task.ends == {task.eos_id, *break_}
    for end in task.ends:
        assert task.decode([*word, end]) == "Axe"
        assert task.decode([*word, end, *word]) == "Axe"
        assert task.decode([*word[1:], end]) is None  # without the space: other tokens
        assert task.decode([*word, word[0], end]) is None
    assert task.decode(word) is None
    assert task.decode([task.eos_id]) is None


def test_spelled_lists_every_right_text_with_every_end(task):
    members, tokens = task.spelled(TOOL)
    assert len(tokens) == len(TOOL.spellings) * 2
    for member, answer in zip(members, tokens, strict=True):
        assert TOOL.read(task.decode(answer)) == member
    short = CategoryTask(task.questions, task.encoder, 6, 512)
    refuses("'wrench' doesn't fit into max_answer_tokens=6", short.spelled, TOOL)
    assert [*short.encode_answer("axe")][:-1] in [t[:-1] for t in short.spelled(axes())[1]]


def axes():
    return CategoryQuestion("a tool", (("axe",), ("saw",)))


def test_rollouts_of_one_member_are_one_answer(task):
    texts = ["Axes", "axe", "spanner", "hammer"]
    answers = [task.encode_answer(text) for text in texts]
    size = max(map(len, answers))
    tokens = torch.tensor([a + [task.pad_id] * (size - len(a)) for a in answers])
    mask = torch.tensor([[i < len(a) for i in range(size)] for a in answers])
    nothing = torch.zeros(tokens.shape)
    found, correct = Samples(tokens, mask, nothing, nothing).graded(task, [TOOL])
    assert found == ["axe", "axe", "wrench", "hammer"]
    assert correct.tolist() == [[True, True, True, False]]


def test_draws_are_of_the_given_categories(task):
    drawn = task.sample(4, np.random.default_rng(0))
    assert {q.problem_id for q in drawn[:2]} == {"tool", "African country"}


@pytest.mark.parametrize(("lines", "message"), [
    ([], "there is no category"),
    (["a tool\taxe"], "line 2: category 'a tool' has fewer than two members"),
    (["tool\taxe, saw"], "line 2: category 'tool' has no article"),
    (["a tool"], "line 2: this line has not two columns"),
    (["a tool\taxe, saw\tx"], "line 2: this line has not two columns"),
    (["a tool\taxe, , saw"], "line 2: category 'a tool': '' is no spelling"),
    (["a tool\taxe, saw/axe"], "line 2: .* 'axe' is a spelling of 'axe' and of 'saw'"),
    (["a tool\taxe, saw", "a tool\tfile, awl"], "line 3: 'tool' is there twice"),
])  # fmt: skip
def test_bad_lines_are_named(tmp_path, lines, message):
    file = tmp_path / "categories.tsv"
    file.write_text("".join(f"{line}\n" for line in chain(["category\tmembers"], lines)))
    refuses(message, load_categories, file)
    refuses(message, load_categories, tmp_path)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "other.tsv").write_text("name\tmembers\n")
    refuses("line 1: columns are", load_categories, tmp_path / "other.tsv")
    refuses("No such file", load_categories, tmp_path / "no.tsv", error=FileNotFoundError)


test_bad_questions = refusals(
    (lambda: CategoryQuestion("a ", (("x",), ("y",))), "has no article"),
    (lambda: CategoryQuestion("a b", (("x  z",), ("y",))), "'x  z' is no spelling"),
    (lambda: CategoryQuestion("a b", (("x",), ("X",))), "'X' is a spelling of 'x' and of 'X'"),
)


def test_unknown_template(task):
    refuses("'hint' is none of repeated", CategoryTask, (TOOL,), task.encoder, 16, 512, "hint")
