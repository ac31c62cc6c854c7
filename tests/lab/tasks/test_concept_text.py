"""The Concept Graph in words: every edge once, answers read back, one verifier."""

import re

import pytest

from passk_lab.lab.tasks import ConceptTask, ConceptTextTask
from passk_lab.lab.tasks.base import check_task
from passk_lab.lab.tasks.text import TextEncoder
from tests.helpers import letter_tokenizer, refuses

concept_questions = ConceptTextTask.questions_of
PAPER = ConceptTask(n_chains=3, n_names=18, repeat=True, lengths=(9, 13), larger=18)


@pytest.mark.parametrize("split", ["id", "larger", "harder"])
def test_the_text_is_the_graph(split):
    for question in concept_questions(PAPER, split, 5, 0):
        nodes = dict(re.findall(r"^(\d+): (\w+), \w+$", question.text, re.M))
        concepts = re.findall(r"^\d+: \w+, (\w+)$", question.text, re.M)
        edges = re.findall(r"^(\d+)\((\w+)\)--(\d+)\((\w+)\)$", question.text, re.M)
        chains = question.prompt.chains
        assert len(nodes) == 1 + 4 + sum(len(chain.names) for chain in chains)
        assert len(set(concepts) - {"start", "shape"}) == 4
        n_cut = sum(chain.cut >= 0 for chain in chains)
        assert len(edges) == sum(len(chain.names) + 1 for chain in chains) - n_cut
        assert all(nodes[a] == x and nodes[b] == y for a, x, b, y in edges)
        # Walks by ids from the start find the right answers, and nothing else ends at the target.
        after = {}
        for a, _, b, _ in edges:
            after.setdefault(a, []).append(b)
        start = next(number for number, name in nodes.items() if name == "start")
        target = re.search(r"with the name (\w+)\.", question.text)[1]
        found, todo = set(), [[start]]
        while todo:
            path = todo.pop()
            if nodes[path[-1]] == target:
                found.add("-".join(nodes[number] for number in path[1:]))
            todo += [[*path, node] for node in after.get(path[-1], [])]
        assert found == set(question.prompt.answers)


def test_names_repeat_in_the_papers_size():
    prompt = PAPER.sample(1, 0)[0]
    of_one = [name for chain in prompt.chains[:3] for name in chain.names]
    assert len(set(of_one)) < len(of_one)
    refuses("equal names need ids", PAPER.encode, prompt)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"\boxed{start, robin, wren, star}", "robin-wren-star"),
        (r"first \boxed{x}, no: \boxed{Robin -> Wren -> star}.", "robin-wren-star"),
        (r"\boxed{\text{start, robin, wren, star}}", "robin-wren-star"),
        (r"\boxed{}", None),
        ("robin, wren, star", None),
        (None, None),
    ],
)
def test_answers_are_read(reply, answer):
    question = concept_questions(PAPER, "id", 1, 0)[0]
    assert question.read(reply) == answer
    right = next(iter(question.prompt.answers))
    boxed = rf"So: \boxed{{start, {right.replace('-', ', ')}}}"
    assert question.accepts(question.read(boxed))


def test_a_task_for_a_language_model():
    questions = concept_questions(PAPER, "id", 20, 0)
    assert questions == concept_questions(PAPER, "id", 20, 0)
    encoder = TextEncoder(letter_tokenizer(eos_token="</s>", pad_token="<pad>"))
    task = ConceptTextTask(questions, encoder, max_answer_tokens=200, context_length=10_000)
    check_task(task, n=4)
    right = next(iter(questions[0].prompt.answers))
    concept = questions[0].prompt.answers[right].concept
    reply = rf"\boxed{{start, {right.replace('-', ', ')}}}"
    assert task.verify(questions[0], reply)
    assert task.concepts_of(questions[0], reply) == {concept}
    assert task.concepts_of(questions[0], None) == frozenset()
