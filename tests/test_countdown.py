"""Countdown: the task, data/countdown/make.py, and the table that was made with it."""

import ast
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from passk_lab.lab.tasks import countdown
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.countdown import EXAMPLES, CountdownTask, Game
from passk_lab.lab.tasks.text import TextEncoder, grade
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_metadata, read_rollouts
from tests.helpers import letter_tokenizer, refuses

FOLDER = Path(__file__).parent.parent / "data" / "countdown"
ROLLOUTS = FOLDER / "rollouts.parquet"


@pytest.fixture(scope="module")
def make():
    """The script, which needs torch."""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("countdown_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def canonical(text):
    return countdown._canonical(countdown._parse(text))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4 + 5 - 3", "4 + 5 - 3"),
        (" 4+5-3.", "4+5-3"),
        ("(1 + 7) * 3 = 24", "(1 + 7) * 3"),
        ("2 * 6\nThat makes 12.", "2 * 6"),
        ("\n\n-1 + 5", "-1 + 5"),
        ("12", "12"),
        *((text, None) for text in ("The answer is 4 + 5", "4 × 5", "4 + 5 – 3", "(4 + 5")),
        *((text, None) for text in ("= 3 + 4", "", "   ")),
    ],
)
def test_extraction(text, answer):
    assert countdown._extract(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "2**9", "7//2", "2(3)", "(2)(3)", "()", "+3", "3 4", "007", "12345", "1.5", "1e3", "1_0",
        "~3", "3!", "1,2", "x", "３ + 4", "3 +\n4", "3 + 4\n", "1 +" * 40 + " 1",
        "__import__('os').system('true')", "(lambda: 1)()",
    ],
)  # fmt: skip
def test_grammar_refuses(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert countdown._parse(text) is None


@pytest.mark.parametrize(
    ("same", "form"),
    [
        (["3 + 4*2", "(2*4) + 3", "(3) + ((4*2))"], "3 + 2*4"),
        (["9 - (4 - 1)", "9 - 4 + 1", "1 + 9 - 4", "-4 + 9 + 1", "1 - (4 - 9)"], "1 + 9 - 4"),
        (["8/(4/2)", "8/4*2", "2*8/4", "2/4*8", "2/(4/8)"], "2*8/4"),
        (["8/4/2", "8/(4*2)", "8/(2*4)"], "8/2/4"),
        (["(7 - 3)*2", "2*(7 - 3)", "-2*(3 - 7)", "2*(-3 + 7)", "-(3 - 7)*2"], "2*(7 - 3)"),
        (["(2 - 5)*(1 - 3)", "(3 - 1)*(5 - 2)"], "(3 - 1)*(5 - 2)"),
        (["9 - (3 - 5)*2", "9 + (5 - 3)*2"], "9 + 2*(5 - 3)"),
        (["3 - 7", "-7 + 3", "-(7 - 3)"], "3 - 7"),
        (["2*(3 - 7)", "-2*(7 - 3)"], "-2*(7 - 3)"),
        (["-3 - 5", "-(5 + 3)"], "-3 - 5"),
        (["8/(3 - 8/3)", "-8/(8/3 - 3)"], "8/(3 - 8/3)"),
        (["4/(5 - 5)*2", "2*4/(5 - 5)"], "2*4/(5 - 5)"),
        (["9 + 2*(5 - 5)", "9 - 2*(5 - 5)"], "9 + 2*(5 - 5)"),
    ],
)
def test_one_form_for_one_solution(same, form):
    assert {canonical(text) for text in same} == {form}
    assert canonical(form) == form


def pairs_or_negated(inner):
    operators = st.sampled_from([ast.Add(), ast.Sub(), ast.Mult(), ast.Div()])
    pairs = st.builds(ast.BinOp, inner, operators, inner)
    return pairs | st.builds(ast.UnaryOp, st.just(ast.USub()), inner)


TREES = st.recursive(st.integers(1, 9).map(ast.Constant), pairs_or_negated, max_leaves=6)
LAWS = [
    ["a + b", "b + a", "a - -b"], ["a - b", "-b + a", "-(b - a)"], ["a*b", "b*a", "-a*-b"],
    ["a/b", "-a/-b"], ["a + (b + c)", "a + b + c"], ["a + (b - c)", "a + b - c"],
    ["a*(b*c)", "a*b*c"], ["a*(b/c)", "a*b/c"], ["a/(b/c)", "a*(c/b)"],
]  # fmt: skip


@given(st.tuples(TREES, TREES, TREES))
def test_laws_of_arithmetic_keep_the_form(trees):
    names = {ord(n): f"({ast.unparse(tree)})" for n, tree in zip("abc", trees, strict=True)}
    for same in LAWS:
        meant = [ast.parse(text.translate(names), mode="eval").body for text in same]
        assert len({countdown._canonical(tree) for tree in meant}) == 1


@pytest.mark.slow
@given(TREES)
def test_the_form_keeps_value_and_numbers(tree):
    form = countdown._canonical(tree)
    again = ast.parse(form, mode="eval").body
    assert countdown._canonical(again) == form

    def leaves(node):
        return sorted(n.value for n in ast.walk(node) if isinstance(n, ast.Constant))

    assert leaves(again) == leaves(tree)
    try:
        value = countdown._evaluate(tree)
    except ZeroDivisionError:
        assume(False)
    assert countdown._evaluate(again) == value


@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_expressions"), [(2, 6), (3, 68), (4, 1170)])
def test_one_form_for_each_rational_function(n, n_expressions):
    """With unrelated large primes for leaves, equal values are equal functions (OEIS A140606)."""
    leaves = tuple(ast.Constant(prime) for prime in (1009, 2503, 5003, 9001)[:n])
    pairs = {(countdown._canonical(tree), value) for tree, value in countdown._expressions(leaves)}
    assert len(pairs) == n_expressions
    assert len({form for form, _ in pairs}) == len({value for _, value in pairs}) == len(pairs)


def test_solutions_of_a_known_game():
    assert Game((3, 1, 2), 6).solutions() == {"1 + 2 + 3", "1*2*3", "2*3/1"}
    assert Game((1, 1), 5).solutions() == set()
    # The well-known hard one: 8 / (3 - 8/3) is the only way.
    assert Game((3, 3, 8, 8), 24).solutions() == {"8/(3 - 8/3)"}


@pytest.mark.slow
@given(st.permutations([1, 4, 6]), st.integers(1, 30))
def test_solutions_are_right_in_any_order(numbers, target):
    found = Game(tuple(numbers), target).solutions()
    assert found == Game((1, 4, 6), target).solutions()
    assert all(countdown._evaluate(countdown._parse(text)) == target for text in found)


@pytest.mark.slow
def test_problems_are_chosen_by_solutions_and_never_twice(make):
    example = EXAMPLES[0]
    data = [
        Game(example[0], example[1]),  # shown in the prompt
        Game((1, 2, 3), 6),
        Game((3, 1, 2), 6),  # the same in another order
        Game((7, 8, 9), 24),  # one solution
        Game((1, 4, 6), 10),
    ]
    chosen = make.choose_problems(data, make.Settings(n_problems=2, min_solutions=3))
    assert list(chosen) == [1, 4]
    assert [g.problem_id for g in chosen.values()] == ["make 6 from 1 2 3", "make 10 from 1 4 6"]
    more = make.Settings(n_problems=3, min_solutions=3)
    refuses("only 2 of 3 problems found; lower --problems", make.choose_problems, data, more)


def test_examples_of_the_prompt_are_right():
    for numbers, target, text in EXAMPLES:
        tree = countdown._parse(text)
        assert countdown._evaluate(tree) == target
        used = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert sorted(used) == sorted(numbers)


def test_grading():
    game = Game((1, 4, 6), 10)
    texts = ["6 + 4*1", "6 * 4", "no idea", "6 + 4", "1/(4 - 4)"]
    table = grade([game], pd.DataFrame({"problem_id": game.problem_id, "text": texts}))
    assert table["correct"].tolist() == [True, False, False, False, False]
    assert table["answer"].tolist()[:2] == ["6 + 1*4", "4*6"]
    assert table["answer"].isna().tolist() == [False, False, True, False, False]
    answers = [game.read(text) for text in texts]
    assert [game.score(answer) for answer in answers] == [1.0, 0.05, 0.01, 0.05, 0.01]


@pytest.fixture(scope="module")
def task():
    """The task for a tokenizer of single characters, a line break among them."""
    games = (Game((1, 4, 6), 10), Game((3, 1, 2), 6))
    encoder = TextEncoder(letter_tokenizer(eos_token="<end>"))
    return CountdownTask(games, encoder, context_length=1024)


@pytest.mark.slow
def test_task_holds_its_promises(task):
    check_task(task, n=4)
    assert len(task.ends) == 2


def test_replies_end_with_a_line(task):
    tokens = task.encode_answer("6+4 *1=10\nThat is right.")
    assert task.decode(tokens) == "6 + 1*4"
    assert task.decode(task.encode_answer("6+4*1")) == "6 + 1*4"
    assert task.decode(task.encode_answer("6+4*1")[:-1]) is None


@pytest.fixture(scope="module")
def table():
    return read_rollouts(ROLLOUTS)


@pytest.fixture(scope="module")
def note():
    return read_metadata(ROLLOUTS)


@pytest.mark.slow
def test_table_is_complete(table, note, make):
    config = note["config"]
    assert set(table["problem_id"]) == set(note["problems"])
    assert len(note["problems"]) == config["n_problems"]
    sizes = counts(table)["n_samples"]
    assert len(sizes) == config["n_problems"] * len(config["temperatures"])
    assert (sizes == config["n_samples"]).all()
    assert list(table.columns) == make.COLUMNS
    assert set(table["temperature"]) == set(config["temperatures"])
    assert not table.drop(columns="answer").isna().any(axis=None)


def test_grades_agree_with_exact_arithmetic(table, note):
    """The verifier works in floating point on text; here each answer is looked up among all."""
    solved = {
        name: Game(tuple(facts["numbers"]), facts["target"]).solutions()
        for name, facts in note["problems"].items()
    }
    assert {name: len(forms) for name, forms in solved.items()} == {
        name: facts["n_solutions"] for name, facts in note["problems"].items()
    }
    expected = [a in solved[p] for p, a in zip(table["problem_id"], table["answer"], strict=True)]
    assert table["correct"].tolist() == expected
    assert ((table["score"] == 1) == table["correct"]).all()


@pytest.mark.slow
@pytest.mark.slow
def test_the_table_is_graded_as_it_was(table, note):
    games = {
        name: Game(tuple(facts["numbers"]), facts["target"])
        for name, facts in note["problems"].items()
    }
    assert_frame_equal(grade(list(games.values()), table), table)
    answers = table["answer"].astype(object).where(table["answer"].notna(), None)
    scores = [games[p].score(a) for p, a in zip(table["problem_id"], answers, strict=True)]
    assert scores == table["score"].tolist()


def test_probabilities_are_possible(table, note):
    assert (table["logprob"] < 0).all()
    assert table["n_tokens"].between(1, note["config"]["max_new_tokens"]).all()
    assert (table["token_entropy"] > 0).all()
    # E[-logprob] is the expected sum of the tokens' entropies, so their means are near.
    for _, run in table.groupby("run"):
        difference = -run["logprob"] - run["token_entropy"] * run["n_tokens"]
        error = difference.groupby(run["problem_id"]).mean()
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))
