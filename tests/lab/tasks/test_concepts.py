"""The Concept Graph: prompts, splits, tokens, verifier, authors and their law."""

from collections import Counter
from itertools import chain as joined
from itertools import pairwise

import numpy as np
import pytest

from passk_lab.lab.tasks import concepts as module
from passk_lab.lab.tasks._concept_names import CONCEPTS, SHAPES
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.concepts import SPLITS, ConceptTask
from tests.helpers import refusals

TASK = ConceptTask()
BIG = ConceptTask(n_chains=3, n_names=18)


def edges_of(prompt):
    """All edges of a prompt as pairs of words, written another way."""
    names = list(CONCEPTS.values())
    found = set()
    for one in prompt.chains:
        words = [names[one.concept][name] for name in one.names]
        steps = zip(["start", *words], [*words, SHAPES[one.shape]], strict=True)
        found |= {step for at, step in enumerate(steps) if at != one.cut + 1 or one.cut < 0}
    return found


def follows(prompt, answer):
    """Verifier written another way: every step is an edge, and it ends at the target."""
    words = ["start", *answer.split("-")]
    return set(pairwise(words)) <= edges_of(prompt) and words[-1] == SHAPES[prompt.target]


def test_names_are_unique_and_free_of_the_separator():
    words = [*joined.from_iterable(CONCEPTS.values()), *SHAPES]
    assert len(set(words)) == len(words)
    assert not any("-" in word for word in words)
    assert {len(names) for names in CONCEPTS.values()} == {18}


@pytest.mark.parametrize("task", [TASK, BIG, ConceptTask(n_concepts=6, n_chains=1, longest_seen=4)])
def test_the_task_keeps_its_promises(task):
    check_task(task)


@pytest.mark.parametrize("split", SPLITS)
def test_splits(split):
    for prompt in BIG.split(split, 30, 1):
        assert prompt.problem_id.startswith(f"{split}-")
        routes = Counter(one.route for one in prompt.chains)
        assert routes == {"easy": 3, "hard": 3, "": 6}
        # Concept by concept, the easy route listed before the hard one.
        order = [one.route for one in prompt.chains if one.route]
        assert order == ["easy"] * 3 + ["hard"] * 3
        assert len({one.concept for one in prompt.chains if one.route == "easy"}) == 1
        lengths = {route: {len(one.names) for one in prompt.chains if one.route == route}
                   for route in ("easy", "hard")}  # fmt: skip
        easy, hard = {"id": (3, 4), "larger-mid": (4, 4), "larger": (6, 6)}.get(split, (3, 3))
        assert lengths == {"easy": {easy}, "hard": {hard}}
        cut = {one.route for one in prompt.chains if one.cut >= 0}
        assert cut == {"harder": {"easy"}, "mirror": {"hard"}}.get(split, set())
        right = BIG.correct_answers(prompt)
        assert len(right) == (3 if cut else 6)
        assert all(follows(prompt, answer) for answer in right)
        # An answer along a cut chain takes an edge that is missing.
        for one in prompt.chains:
            along = "-".join(one.words)
            assert follows(prompt, along) == BIG.verify(prompt, along) == (along in right)


def test_prompts_are_drawn_evenly_and_again():
    again = TASK.sample(400, 3)
    assert again == TASK.sample(400, 3)
    easy = Counter(next(c.concept for c in p.chains if c.route == "easy") for p in again)
    assert min(easy.values()) > 65  # of 100 expected, 4 standard deviations
    assert len({p.target for p in again}) == len(SHAPES)


def test_tokens_name_every_edge_once():
    prompt = TASK.split("harder", 1, 0)[0]
    tokens = TASK.encode(prompt)
    n_edges = sum(len(c.names) + 1 - (c.cut >= 0) for c in prompt.chains)
    assert len(tokens) == 1 + n_edges + 3
    assert len(set(tokens)) == len(tokens)
    demo = TASK.correct_answers(prompt)[0]
    shown = TASK.encode(prompt, demo)
    answer = TASK.encode_answer(demo)[:-1]
    assert shown == [*tokens[:-1], module.DEMO, *answer, module.DEMO_END, module.ANSWER]


@pytest.mark.parametrize("words", ["robin", "robin-wren", "star", "star-robin-star", ""])
def test_what_is_no_answer_decodes_to_none(words):
    first = TASK._first
    tokens = []
    for word in filter(None, words.split("-")):
        if word in SHAPES:
            tokens.append(first[0] + SHAPES.index(word))
        else:
            tokens.append(first[1] + CONCEPTS["bird"].index(word))
    assert TASK.decode([*tokens, module.EOS]) is None


def test_concepts_of_right_and_wrong_answers():
    prompt = TASK.sample(1, 0)[0]
    assert TASK.concepts_of(prompt, "robin-oak-star") == {0, 2}
    assert TASK.concepts_of(prompt, None) == frozenset()


@pytest.mark.parametrize("habit", [0.86, 0.97, 1.0])
def test_documents_follow_the_law(habit):
    """Routes of documents without slips, against the posterior that is claimed."""
    task = ConceptTask(habit=habit, slip=0, slip_after_demo=0, stray=0, list_share=0)
    rng = np.random.default_rng(0)
    seen = {"": Counter(), "easy": Counter(), "hard": Counter()}
    original, prompts = task._draw, []

    def draw(*args):
        prompts.append(original(*args))
        return prompts[-1]

    object.__setattr__(task, "_draw", draw)
    for _ in range(4000):
        before, after = task._document(rng)
        prompt = prompts[-1]
        route_of = {tuple(task.encode_answer("-".join(c.words))): c.route for c in prompt.chains}
        shown = ""
        if module.DEMO in before:
            demo = before[before.index(module.DEMO) + 1 : before.index(module.DEMO_END)]
            shown = route_of[(*demo, module.EOS)]
        seen[shown][route_of[tuple(after)]] += 1
    for shown, found in seen.items():
        n, p = found.total(), task.route_law(shown)["easy"]
        assert abs(found["easy"] / n - p) < 4 * np.sqrt(p * (1 - p) / n) + 1e-12
    assert seen["easy"].total() / (seen["easy"].total() + seen["hard"].total()) == pytest.approx(
        task.demo_easy, abs=0.05
    )


def test_the_law_is_bayes_rule():
    task = ConceptTask(habit=0.9, easy_share=0.8)
    easy_author = (0.8 - 0.1) / 0.8  # prefers the easy route
    shown = {"easy": (0.9, 0.1), "hard": (0.1, 0.9)}
    for demo, (by_easy, by_hard) in shown.items():
        weight = easy_author * by_easy / (easy_author * by_easy + (1 - easy_author) * by_hard)
        assert task.route_law(demo)["easy"] == pytest.approx(weight * 0.9 + (1 - weight) * 0.1)
    # What demonstrations tell is lost on average.
    mean = sum(task.route_law(demo)["easy"] * p for demo, p in task.route_law().items())
    assert mean == pytest.approx(0.8)


def test_slips_make_wrong_answers_at_the_stated_rate():
    task = ConceptTask(slip=0.1, demo_share=0, stray=0, list_share=0, longest_seen=3, larger=3)
    rng = np.random.default_rng(0)
    hits = []
    for prompt in task.sample(3000, rng):
        one = prompt.chains[0]
        written = task.decode(task._written(prompt, one, 0.1, rng))
        hits.append(written == "-".join(one.words))
    # As many chances to slip as the chain has nodes.
    expected = np.mean([0.9 ** len(p.chains[0].names) for p in task.sample(3000, 0)])
    assert np.mean(hits) == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(3000))


test_refuses = refusals(
    (lambda: ConceptTask(n_concepts=2), "n_concepts=2"),
    (lambda: ConceptTask(n_chains=3), "n_names=12 must be between 18"),
    (lambda: ConceptTask(habit=0.7), "habit=0.7 must be above"),
    (lambda: ConceptTask(slip=1.2), "slip=1.2"),
    (lambda: ConceptTask(lengths=(1, 4)), "at least 2 nodes"),
    (lambda: TASK.split("ood", 1), "split 'ood' is none of"),
    (lambda: TASK.sample(0), "n: 0 must be 1"),
    (lambda: TASK.encode_answer("robin-wren"), "no list of names and a shape"),
    (lambda: TASK.encode_answer("robin-apple-star"), "'apple' in 'robin-apple-star' is none"),
)
