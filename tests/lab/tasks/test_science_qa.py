import gzip
import json
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pint")

from passk_lab.lab.tasks._quantities import (
    check_unit,
    find_quantities,
    in_unit,
    plain_text,
)
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.science_qa import Question, ScienceTask, load_questions
from passk_lab.lab.tasks.text import TextEncoder, grade
from passk_lab.rollouts.table import validate_rollouts
from tests.helpers import letter_tokenizer, refuses

SHIPPED = Path(__file__).parents[3] / "data" / "science" / "questions.jsonl"
CHOICES = (("A", "iron"), ("B", "neon"), ("C", "a gas"), ("D", "All of the above"))
METAL = Question("mine:1", "Which is a metal?", "A", CHOICES)
ACCELERATION = Question("mine:2", "How large is a?", "12.5 m/s^2")


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (r"$v = 3{,}000 \times 10^{5}\ \text{m/s}$", 3e8, "m/s"), ("3.0 x 10^8 m/s", 3e8, "m/s"),
        ("8.314 J mol^-1 K^-1 is R", 8.314, "J/(mol K)"), ("8.314 J/mol·K", 8.314, "J/(mol K)"),
        ("8.314 J/mol K", 8.314, "J/(mol K)"), ("8.314 J/mol/K", 8.314, "J/(mol K)"),
        ("8.314 joules per mole per kelvin", 8.314, "J/(mol K)"), ("5 m in total", 5, "m"),
        ("7 m as well", 7, "m"), ("10 N m of torque", 10, "N m"), ("−5 m", -5, "m"),
        ("1,234.5 kJ/mol.", 1234.5, "kJ/mol"), (".5 g", 0.5, "g"), ("25 °C", 25, "degC"),
        ("25 degrees Celsius", 25, "degC"), ("4.184 J/(g °C)", 4.184, "J/(g K)"),
        ("4.184 J/g°C", 4.184, "J/(g K)"), ("9.8 m/s²", 9.8, "m/s^2"),
        ("9.8 m·s⁻²", 9.8, "m/s^2"), ("9.8 meters per second squared", 9.8, "m/s^2"),
        ("3*10^-8 C", 3e-8, "C"), ("1.5e5Pa", 1.5e5, "Pa"), ("100%", 100, "%"),
        ("5 cubic centimeters", 5, "cm^3"), ("5 kg·m/s^2", 5, "N"),
        ("about **2.9** metres", 2.9, "m"), ("6.02e23 /mol", 6.02e23, "1/mol"),
    ],
)  # fmt: skip
def test_first_quantity(text, value, unit):
    found = find_quantities(plain_text(text))[0]
    assert found.factors, text
    of_one = find_quantities(plain_text(f"1 {unit}"))[-1].factors
    assert in_unit(found, of_one) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["3 apples", "4 a day", "5.", "2 in all", "pH 3.2", "7 pH", "8 is"]
)
def test_words_are_no_units(text):
    (found,) = find_quantities(plain_text(text))
    assert found.factors == ()


@pytest.mark.parametrize(
    ("given_", "asked", "value"),
    [
        ("36 km/h", "m/s", 10.0), ("1 kWh", "MJ", 3.6), ("25 °C", "K", 298.15),
        ("25 C", "degC", 25.0), ("0.5", "%", 0.5), ("1 eV", "J", 1.602176634e-19),
        ("1 L", "cm^3", 1000.0), ("760 mmHg", "kPa", 101.325), ("2 M", "mol/L", 2.0),
    ],
)  # fmt: skip
def test_conversions_are_the_textbooks(given_, asked, value):
    assert in_unit(find_quantities(given_)[0], check_unit(asked)) == pytest.approx(value, rel=1e-6)


def test_units():
    for text, unit in (("5 m", "s"), ("5 degC", "m"), ("5 J", "J/K"), ("5 m", "")):
        assert in_unit(find_quantities(text)[0], check_unit(unit)) is None
    refuses("isn't understood from '/blorps'", check_unit, "m/blorps")


@given(
    st.floats(-1e12, 1e12, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-12),
    st.sampled_from(["m", "m/s^2", "kJ/mol", "J/(mol*K)", "g/cm^3", "N*m", "1/s", "%", ""]),
    st.sampled_from(["{}", "The answer is {}.", "x = {}, so", r"\boxed{{{}}}", "**{}**"]),
)
def test_what_is_written_is_read(value, unit, frame):
    text = frame.format(f"{value!r} {unit}".rstrip())
    found = find_quantities(plain_text(text))
    assert len(found) == 1
    assert in_unit(found[0], check_unit(unit)) == pytest.approx(value, rel=1e-12)
    assert found[0].factors == check_unit(unit)


@settings(max_examples=200)
@given(st.text(alphabet=string.printable + "×·°µΩ²⁻¹−{}\\^$", max_size=80))
def test_any_text_is_read(text):
    for question in (METAL, ACCELERATION):
        answer = question.read(text)
        assert answer is None or isinstance(answer, str)


@pytest.mark.parametrize(
    "text",
    ["1," * 20_000, "5 " + "m " * 20_000, "\\frac{" * 8_000, "⁻" * 20_000, "Answer: " * 9_000],
)
def test_long_nonsense_is_read(text):
    # A model that repeats itself: quadratic work here would take minutes.
    assert METAL.read(text) is None
    assert ACCELERATION.read(text) != ACCELERATION.answer


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("A", ["Answer: A", "Answer:\nA", "A", "A) iron", "The answer is: A. iron and so on",
               "A is the right one"]),
        ("B", ["The answer is (B).", r"$\boxed{\text{B}}$", "B. neon", "answer: b",
               "The answer is neon.", "Answer: A\nNo, wait.\nAnswer: B"]),
        ("C", ["The correct answer is option C because it is."]),
        ("D", ["**Answer:** (D) All of the above", "**Answer: D**", "all of the above."]),
        (None, ["Answer: A or B", "Answer: A, B", "A and B", "the answer is a type of gas",
                "The answer is A type of gas", "A gas is lighter", "Answer: none", "Answer: E",
                "I think A", "", None]),
    ],
)  # fmt: skip
def test_choices(answer, texts):
    assert [METAL.read(text) for text in texts] == [answer] * len(texts)


def test_choices_that_look_like_labels():
    smiles = (("A", "CC"), ("B", "C=CC(=O)O"), ("C", "C#N"), ("D", "B"))
    question = Question("mine:3", "Which is an acid?", "B", smiles)
    assert [question.read(f"Answer: {text}") for _, text in smiles] == list("ABCD")
    assert question.read("Answer: C") == "C"


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("12.5 m/s^2", ["Answer: 12.5", "Answer: 12.6 m/s^2", "Answer: a = F/m = 25/2 = 12.5 m/s²",
                        r"\boxed{12.5\,\text{m/s}^2}", "So a = 12.5 m/s^2 and that's it.",
                        "Answer: 1250 cm/s^2", "Answer: 12.5 N/kg"]),
        ("12.8 m/s^2", ["Answer: 12.8"]),
        ("12.5 m·s^-1", ["Answer: 12.5 m/s"]),
        ("3 m/s^2", ["Answer: unknown, of 3 kinds"]),
        (None, ["Answer: nobody knows", "No idea"]),
    ],
)  # fmt: skip
def test_numbers(answer, texts):
    assert [ACCELERATION.read(text) for text in texts] == [answer] * len(texts)


@given(st.floats(0.01, 1e6), st.floats(0, 0.5), st.floats(-1, 1))
def test_tolerance(truth, tolerance, error):
    question = Question("q:1", "?", f"{truth!r} m", tolerance=tolerance)
    reply = truth * (1 + error)
    right = abs(reply - truth) <= tolerance * abs(truth)
    assert (question.read(f"Answer: {reply!r} m") == question.answer) == right


def test_numbers_without_tolerance_are_told_apart():
    question = Question("q:1", "?", "3 m", tolerance=0)
    assert question.read("3.0000000001") == "3.0000000001 m"
    assert question.read("3.0") == "3 m"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": "E", "choices": CHOICES}, "'E' is none of the choices' labels"),
        ({"answer": "A", "choices": (*CHOICES, ("A", "x"))}, "label occurs twice"),
        ({"answer": "fast"}, "not a number with a unit"),
        ({"answer": "3 blorps"}, "isn't understood"),
        ({"answer": "3 m", "tolerance": -1.0}, "must be 0 or more"),
    ],
)
def test_bad_questions(fields, message):
    refuses(message, Question, "q:1", "?", **fields)


def choice(**fields):
    made = {"question": "Which?", "answerKey": "B", "type": "mcq-4-choices", "domain": "Chemistry"}
    made["choices"] = {"text": ["x", "y", "z", "w"], "label": ["A", "B", "C", "D"]}
    return {**made, **fields}


def number(**fields):
    return {"question": "How much?", "answer": "3 m", "type": "number", **fields}


def written(path, *records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" if r else "\n" for r in records))
    return path


def test_names_are_files_and_lines(tmp_path):
    written(tmp_path / "b" / "two.jsonl", number(), None, number(tolerance=0.1))
    written(tmp_path / "one.jsonl", choice())
    found = load_questions(tmp_path)
    assert [q.problem_id for q in found] == ["b/two.jsonl:1", "b/two.jsonl:3", "one.jsonl:1"]
    assert [q.tolerance for q in found[:2]] == [0.02, 0.1]
    assert (found[2].answer, found[2].choices[1], found[2].domain) == ("B", ("B", "y"), "Chemistry")
    alone = load_questions(tmp_path / "b" / "two.jsonl")
    assert [q.problem_id for q in alone] == ["two.jsonl:1", "two.jsonl:3"]
    with gzip.open(tmp_path / "b" / "three.jsonl.gz", "wt") as file:
        file.write(json.dumps(number()))
    assert load_questions(tmp_path / "b" / "three.jsonl.gz")[0].problem_id == "three.jsonl.gz:1"


def test_texts_beyond_the_labels_are_left_out(tmp_path):
    five = {"text": list("vwxyz"), "label": list("ABCD")}
    found = load_questions(written(tmp_path / "q.jsonl", choice(choices=five)))
    assert [text for _, text in found[0].choices] == list("vwxy")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "?"}, "line 2: type '' can't be graded"),
        (choice(answerKey=""), "line 2: field 'answerKey' is ''"),
        (choice(answerKey="F"), "line 2: answer 'F' is none of the choices"),
        (choice(choices={"text": ["x"], "label": ["A", "B"]}), "line 2: choices: 2 labels for 1"),
        (choice(choices=None), "line 2"),
        ({"type": "number", "answer": "3"}, "line 2: no field 'question'"),
        (number(answer=3), "line 2: field 'answer' is 3, not a text"),
        (number(answer="3 blorps"), "line 2: unit 'blorps'"),
        (number(tolerance="wide"), "line 2: could not convert"),
    ],
)
def test_bad_lines_are_named(tmp_path, record, message):
    refuses(message, load_questions, written(tmp_path / "q.jsonl", number(), record))


def test_other_types_can_be_passed_over(tmp_path):
    path = written(tmp_path / "q.jsonl", {"question": "?", "type": "open-ended-qa"}, number())
    assert [q.problem_id for q in load_questions(path, others="skip")] == ["q.jsonl:2"]
    alone = written(path, {"question": "?", "type": "open-ended-qa"})
    refuses("no question", load_questions, alone, others="skip")


def test_where_there_is_nothing(tmp_path):
    refuses(r"holds no \.jsonl", load_questions, tmp_path, error=FileNotFoundError)
    refuses("no such file or folder", load_questions, "nowhere.jsonl", error=FileNotFoundError)


def test_names_of_the_hub(tmp_path, monkeypatch):
    written(tmp_path / "data" / "q.jsonl", number())
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot(name, **options):
        asked.append((name, options["repo_type"]))
        if name == "nobody/nothing":
            raise hub.errors.LocalEntryNotFoundError("not found")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert load_questions("someone/questions")[0].problem_id == "data/q.jsonl:1"
    refuses("hub doesn't give it", load_questions, "nobody/nothing", error=FileNotFoundError)
    assert asked == [("someone/questions", "dataset"), ("nobody/nothing", "dataset")]


def test_grade():
    texts = ["Answer: A", "Answer: C", "12.5", None]
    table = pd.DataFrame({"problem_id": np.repeat(["mine:1", "mine:2"], 2), "text": texts})
    graded = validate_rollouts(grade([METAL, ACCELERATION], table))
    assert graded["correct"].tolist() == [True, False, True, False]
    assert graded["answer"].tolist()[:3] == ["A", "C", "12.5 m/s^2"]
    assert pd.isna(graded["answer"].iloc[3])
    refuses("row 2: question 'mine:2' is missing", grade, [METAL], table)
    refuses("column 'text' is missing", grade, [METAL], table.drop(columns="text"))


@pytest.fixture(scope="module")
def tokenizer():
    chat = (
        "{% for m in messages %}<user>{{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<user>assistant: {% endif %}"
    )
    special = {"eos_token": "<end>", "pad_token": "<end>", "unk_token": "<unk>"}
    return letter_tokenizer(extra=["<user>"], chat_template=chat, **special)


@pytest.fixture(scope="module")
def task(tokenizer):
    return ScienceTask((METAL, ACCELERATION), TextEncoder(tokenizer), 64, 1024)


def test_task_holds_its_promises(task):
    check_task(task, n=4)
    assert task.pad_id == 1  # neither the end token, which is the tokenizer's own padding
    assert task.decode([task.eos_id]) is None
    assert task.verify(METAL, "Iron rusts.\nAnswer: A")


def test_prompts_are_chats_with_the_question(task, tokenizer):
    text = tokenizer.decode(task.encode(METAL))
    assert text == f"<user>user: {METAL.text}<end><user>assistant: "
    for label, content in CHOICES:
        assert f"{label}. {content}" in text
    shown = tokenizer.decode(task.encode(METAL, "Iron rusts.\nAnswer: A"))
    assert METAL.text in shown
    assert "Correct solution:\n\nIron rusts.\nAnswer: A" in shown
    assert "the number in m/s^2" in tokenizer.decode(task.encode(ACCELERATION))


def test_draws_go_through_all_questions(task):
    drawn = task.sample(5, np.random.default_rng(0))
    assert {q.problem_id for q in drawn[:2]} == {q.problem_id for q in drawn[2:4]}
    assert drawn == task.sample(5, np.random.default_rng(0))


def test_tasks_that_cannot_work(task, tokenizer):
    refuses("there are none", ScienceTask, (), TextEncoder(tokenizer))
    refuses("two are called 'mine:1'", ScienceTask, (METAL, METAL), TextEncoder(tokenizer))
    refuses("more than 100", ScienceTask((METAL,), TextEncoder(tokenizer), 64, 100).encode, METAL)


def test_the_verifier_accepts_every_shipped_answer():
    for question in load_questions(SHIPPED):
        reply = f"It follows.\nAnswer: {question.answer}"
        assert question.read(reply) == question.answer
        wrong = f"Answer: {1.05 * question.value!r} {question.unit}"
        assert question.read(wrong) != question.answer
