"""Path finding: enumeration, verifier, tokens, authors, documents and splits."""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from passk_lab.lab.tasks._path_documents import (
    ANSWER,
    DEMO,
    DEMO_END,
    EOS,
    FIRST_NODE,
    QUESTION,
    WAYPOINT,
    favourites,
    spoil,
)
from passk_lab.lab.tasks._path_graphs import enumerate_paths, random_graphs
from passk_lab.lab.tasks.paths import PathPrompt, PathTask, _draw_waypoints
from tests.helpers import refusals, refuses

TASK = PathTask()
FAN = PathPrompt(
    edges=((3, 2), (0, 1), (1, 4), (0, 4), (2, 1), (0, 2), (0, 3), (2, 4), (4, 0)), start=0, goal=4
)
FAN_PATHS = ["0-1-4", "0-2-1-4", "0-2-4", "0-3-2-1-4", "0-3-2-4", "0-4"]
LINE = PathPrompt(((0, 1), (1, 2), (0, 2)), 0, 2)


def walk(adjacency, node, goal, seen):
    """Plain depth-first search."""
    if node == goal:
        yield tuple(seen)
        return
    for following in np.flatnonzero(adjacency[node]):
        if following not in seen:
            yield from walk(adjacency, following, goal, [*seen, following])


def paths_of(table, graph):
    rows = table.paths[table.graph == graph]
    return [tuple(row[row >= 0].tolist()) for row in rows]


def is_right(prompt, nodes):
    """Verifier written another way."""
    edges = set(prompt.edges)
    good = all(step in edges for step in pairwise(nodes))
    good &= len(nodes) == len(set(nodes)) and (nodes[0], nodes[-1]) == (prompt.start, prompt.goal)
    return good and (prompt.waypoint is None or prompt.waypoint in nodes)


def nodes_of(answer):
    return [int(part) for part in answer.split("-")]


def read_document(task, tokens):
    """What a row of tokens says; tokens carry no concepts."""
    row = [int(token) for token in tokens if token != task.pad_id]
    asked, answer = row.index(QUESTION), row.index(ANSWER)
    start, goal = row[asked + 2] - FIRST_NODE, row[asked + 4] - FIRST_NODE
    edges = [divmod(c - FIRST_NODE - task.max_nodes, task.max_nodes) for c in row[1:asked]]
    head = row[:answer]
    waypoint = row[head.index(WAYPOINT) + 1] - FIRST_NODE if WAYPOINT in head else None
    demo = None
    if DEMO in head:
        demo = task.decode([*row[head.index(DEMO) + 1 : head.index(DEMO_END)], EOS])
    prompt = PathPrompt(tuple(edges), start, goal, waypoint)
    return SimpleNamespace(prompt=prompt, demo=demo, answer=task.decode(row[answer + 1 :]))


def posterior_of(task, prompt, demo=None):
    return task._posterior(prompt, demo, *task._laws(prompt))


def frequent(happened, p):
    """As often as it should; a right generator fails once in 100,000 times."""
    return stats.binomtest(int(happened.sum()), len(happened), p).pvalue > 1e-5


@pytest.mark.parametrize(("n_nodes", "n_labels"), [(2, 2), (5, 8), (9, 12), (12, 12)])
def test_enumeration_is_depth_first_search(n_nodes, n_labels):
    rng = np.random.default_rng(n_nodes)
    most = min(2 * n_nodes + 4, n_nodes * (n_nodes - 1))
    graphs = random_graphs(150, n_nodes, (1, most), n_labels, rng)
    adjacency = graphs.adjacency()
    table, count = enumerate_paths(adjacency, graphs.start, graphs.goal)
    for graph in range(len(graphs)):
        expected = sorted(
            walk(adjacency[graph], graphs.start[graph], graphs.goal[graph], [graphs.start[graph]])
        )
        assert paths_of(table, graph) == expected
        assert count[graph] == table.count[graph] == len(expected)
    assert np.array_equal(table.length, (table.paths >= 0).sum(1))


def test_limit_drops_only_the_rich_graphs():
    graphs = random_graphs(300, 9, (15, 20), 9, np.random.default_rng(1))
    arguments = graphs.adjacency(), graphs.start, graphs.goal
    full, count = enumerate_paths(*arguments)
    limited, bound = enumerate_paths(*arguments, limit=4)
    rich = count > 4
    assert rich.any()
    assert np.array_equal(bound > 4, rich)
    assert np.array_equal(bound[~rich], count[~rich])
    keep = ~rich[full.graph]
    assert np.array_equal(limited.paths, full.paths[keep])
    assert np.array_equal(limited.graph, full.graph[keep])


def test_too_many_partial_paths_are_refused(monkeypatch):
    monkeypatch.setattr("passk_lab.lab.tasks._path_graphs._MAX_ROWS", 1000)
    task = PathTask(n_nodes=10, max_nodes=10, larger_edges=(22, 28))
    edges = tuple((u, v) for u in range(10) for v in range(10) if u != v)
    refuses("edges: more than 1,000 partial paths", task.correct_answers, PathPrompt(edges, 0, 9))


def test_random_graphs_are_what_they_claim():
    graphs = random_graphs(4000, 9, (15, 20), 12, np.random.default_rng(3))
    n_edges = (graphs.edges >= 0).sum(1)
    adjacency = graphs.adjacency()
    assert np.array_equal(adjacency.sum((1, 2)), n_edges)  # no edge twice
    assert not adjacency[:, np.arange(12), np.arange(12)].any()
    used = np.zeros((4000, 12), dtype=bool)
    np.put_along_axis(used, graphs.labels, True, axis=1)
    assert (used.sum(1) == 9).all()
    assert not (adjacency & ~(used[:, :, None] & used[:, None, :])).any()
    # Number of edges, labels and first edge are uniform.
    assert stats.chisquare(np.bincount(n_edges - 15, minlength=6)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(graphs.start, minlength=12)).pvalue > 1e-4
    first = np.bincount(graphs.edges[:, 0], minlength=144).reshape(12, 12)
    assert stats.chisquare(first[~np.eye(12, dtype=bool)]).pvalue > 1e-4


@pytest.mark.parametrize(
    "answer",
    [
        "3-2-4", "0-2-1", "0",  # another start, another end
        "0-3-4", "0-11-4", "0-99-4",  # no such edge
        "0-4-0-4", "0-3-2-1-4-0",  # a node twice
        "00-4", " 0-4", "0-4\n", "٠-4",  # not canonical
        "", None, "0-4-", "-0-4", "path",
    ],
)  # fmt: skip
def test_verifier_refuses(answer):
    assert TASK.verify(FAN, answer) is False


def test_correct_answers_are_exactly_what_the_verifier_accepts():
    assert TASK.correct_answers(FAN) == FAN_PATHS
    assert all(TASK.verify(FAN, answer) is True for answer in FAN_PATHS)
    prompt = replace(FAN, waypoint=1)
    right = ["0-1-4", "0-2-1-4", "0-3-2-1-4"]
    assert TASK.correct_answers(prompt) == right
    assert [answer for answer in FAN_PATHS if TASK.verify(prompt, answer)] == right
    for prompt in TASK.sample(50, 5):
        answers = TASK.correct_answers(prompt)
        assert TASK.min_paths <= len(set(answers)) == len(answers) <= TASK.max_paths
        assert all(TASK.verify(prompt, answer) for answer in answers)
        assert all(is_right(prompt, nodes_of(answer)) for answer in answers)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=13), st.lists(st.integers(0, 165)))
def test_answer_round_trip(nodes, rest):
    answer = "-".join(map(str, nodes))
    tokens = TASK.encode_answer(answer)
    assert len(tokens) == len(nodes) + 1
    assert TASK.decode([*tokens, *rest]) == answer
    assert TASK.decode(np.array(tokens)) == answer
    assert TASK.decode(tokens[:-1]) is None


@given(st.lists(st.integers(0, 165), max_size=16))
def test_decode_never_raises_and_is_canonical(tokens):
    answer = TASK.decode(tokens)
    if answer is not None:
        assert TASK.encode_answer(answer) == tokens[: tokens.index(EOS) + 1]
    assert TASK.verify(FAN, answer) in (True, False)


labels = st.integers(0, 11)
edges = st.lists(st.tuples(labels, labels), min_size=1, max_size=28, unique=True).map(tuple)
prompts = st.builds(PathPrompt, edges, labels, labels, st.none() | labels)
answers = st.lists(labels, min_size=1, max_size=12).map(lambda nodes: "-".join(map(str, nodes)))


@given(prompts, st.none() | answers, answers, st.integers(0, 5))
def test_document_round_trip(prompt, demo, answer, n_pad):
    tokens = TASK.encode(prompt, demo) + TASK.encode_answer(answer) + [TASK.pad_id] * n_pad
    assert max(tokens) < TASK.vocab_size
    document = read_document(TASK, tokens)
    assert (document.prompt, document.demo, document.answer) == (prompt, demo, answer)


def test_a_generated_answer_may_be_nonsense():
    document = read_document(TASK, [*TASK.encode(FAN), DEMO, 12, DEMO_END, EOS])
    assert (document.prompt, document.demo, document.answer) == (FAN, None, None)


def test_concepts():
    prompt = replace(FAN, concepts=(0, 1, 2, 2, 0, -1, -1, -1, -1, -1, -1, -1))
    assert TASK.concepts_of(prompt, "0-4") == {0}
    assert TASK.concepts_of(prompt, "0-3-2-1-4") == {0, 1, 2}
    assert TASK.concepts_of(prompt, "0-7-1") == {0, 1}  # a wrong answer; 7 isn't in the graph
    assert TASK.concepts_of(prompt, None) == frozenset()
    refuses("has no concepts", TASK.concepts_of, FAN, "0-4")
    refuses("answer: 'x'", TASK.concepts_of, prompt, "x")


def test_styles():
    table = TASK._table(FAN)
    rows = favourites(table, TASK.styles)[:, 0]
    assert TASK.styles == ("shortest", "longest", "smallest_first", "largest_first")
    assert [FAN_PATHS[row] for row in rows] == ["0-4", "0-3-2-1-4", "0-1-4", "0-4"]
    # Ties go to the first sequence of labels.
    table = TASK._table(replace(FAN, edges=tuple(e for e in FAN.edges if e != (0, 4))))
    row = favourites(table, ["shortest"])[0, 0]
    assert table.paths[row].tolist()[:4] == [0, 1, 4, -1]


def test_label_styles_are_greedy():
    for prompt in TASK.sample(40, 8):
        paths = [nodes_of(answer) for answer in TASK.correct_answers(prompt)]
        rows = favourites(TASK._table(prompt), ["smallest_first", "largest_first"])
        for row, choose in zip(rows[:, 0], (min, max), strict=True):
            left, depth = paths, 0
            while len(left) > 1:
                label = choose(path[depth] for path in left)
                left, depth = [path for path in left if path[depth] == label], depth + 1
            assert paths[row] == left[0]


def test_posterior_by_hand():
    # 0-1-4 is the path of smallest_first (prior .15) only: .85 + .15/6 against .15/6.
    posterior = posterior_of(TASK, FAN, "0-1-4")
    weights = np.array([0.5, 0.2, 0.15, 0.15]) * [0.025, 0.025, 0.875, 0.025]
    assert posterior == pytest.approx(weights / weights.sum())
    law = TASK.document_law(FAN, "0-1-4")
    styled = 0.85 * posterior
    assert law["0-1-4"] == pytest.approx(0.88 * (styled[2] + 0.025))
    assert law["0-4"] == pytest.approx(0.88 * (styled[0] + styled[3] + 0.025))
    assert law["0-2-4"] == pytest.approx(0.88 * 0.025)
    assert posterior_of(TASK, FAN) == pytest.approx([0.5, 0.2, 0.15, 0.15])


def test_law_is_coherent():
    for prompt in TASK.sample(30, 2):
        base = TASK.document_law(prompt)
        shown = {answer: p / 0.7 for answer, p in base.items()}  # law of the demonstration
        posterior = {c: posterior_of(TASK, prompt, c) for c in shown}
        assert all(p.sum() == pytest.approx(1) for p in posterior.values())
        assert sum(base.values()) == pytest.approx(0.7)
        average = sum(p * posterior[c] for c, p in shown.items())
        assert average == pytest.approx(TASK.style_shares)
        laws = {c: TASK.document_law(prompt, c) for c in shown}
        for c in shown:
            assert sum(laws[c].values()) == pytest.approx(0.88)
            for y in shown:  # a coherent joint: P(c) P(y | c) is symmetric
                assert shown[c] * laws[c][y] == pytest.approx(shown[y] * laws[y][c])


def repeat_graph(monkeypatch, seed):
    """Make every document about the same graph."""
    rng = np.random.default_rng(seed)
    graphs, table = TASK._accepted(1, TASK.n_nodes, TASK.edges, rng)

    def accepted(self, n, *_):
        rows = np.zeros(n, dtype=np.intp)
        copies = np.tile(table.paths, (n, 1)), np.repeat(np.arange(n), len(table.graph))
        return graphs.take(rows), type(table).of_sorted(copies[1], copies[0], n)

    monkeypatch.setattr(PathTask, "_accepted", accepted)


def chi_square(observed, expected):
    """Statistic and degrees of freedom; cells below 5 are pooled."""
    small = np.asarray(expected) < 5
    observed, expected = (
        np.append(np.array(x, float)[~small], np.sum(x, where=small)) for x in (observed, expected)
    )
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    return ((observed - expected) ** 2 / expected).sum(), len(expected) - 1


@pytest.mark.parametrize("seed", range(5))
def test_posterior_and_law_against_the_generator(monkeypatch, seed):
    repeat_graph(monkeypatch, seed)
    n = 20_000
    documents = replace(TASK, waypoint_share=0).documents(n, seed + 100)
    rows = [row.tobytes() for row in documents.tokens]
    parsed = {row: read_document(TASK, np.frombuffer(row, dtype=np.int64)) for row in set(rows)}
    read = [parsed[row] for row in rows]
    prompt = read[0].prompt

    shown = Counter(document.demo for document in read)
    law = TASK.document_law(prompt)
    shares = np.array([*law.values()]) / 0.7
    demo_counts = [shown[c] for c in law]
    posterior_fit = [chi_square(demo_counts, shares * sum(demo_counts))]
    prior_fit, law_fit, base_fit = [], [], []
    demos = np.array([document.demo or "" for document in read])
    given = np.array([document.answer or "" for document in read])
    for c in [None, *law]:
        here = demos == (c or "")
        n_here = int(here.sum())
        if n_here < 50:
            continue
        styles = np.bincount(documents.style[here], minlength=4)
        posterior_fit.append(chi_square(styles, n_here * posterior_of(TASK, prompt, c)))
        exact = TASK.document_law(prompt, c)
        counts = Counter(given[here].tolist())
        right = [counts[answer] for answer in law]
        wrong = n_here - sum(right)
        assert wrong == documents.wrong[here].sum()
        mass = [*exact.values(), 1 - sum(exact.values())]
        law_fit.append(chi_square([*right, wrong], n_here * np.array(mass)))
        if c is not None:
            prior_fit.append(chi_square(styles, n_here * posterior_of(TASK, prompt)))
            base_fit.append(chi_square([*right, wrong], n_here * np.array([*0.88 * shares, 0.12])))

    def p_value(fits):
        statistic, freedom = np.sum(fits, axis=0)
        return stats.chi2.sf(statistic, freedom)

    assert p_value(posterior_fit) > 1e-4
    assert p_value(law_fit) > 1e-4
    # The same data refute an author who doesn't matter, so the test can fail.
    assert p_value(prior_fit) < 1e-12
    assert p_value(base_fit) < 1e-12


@pytest.mark.parametrize(("share", "chunk"), [(0.05, 64), (1.0, 4096)])
def test_documents_are_what_they_claim(share, chunk, monkeypatch):
    monkeypatch.setattr("passk_lab.lab.tasks.paths._CHUNK", chunk)
    task = replace(TASK, waypoint_share=share)
    documents = task.documents(600, 4)
    assert documents.tokens.dtype == np.int64
    assert documents.mask.dtype == bool
    assert documents.tokens.shape == documents.mask.shape
    assert len(documents.tokens) == len(documents.style) == len(documents.wrong) == 600
    assert documents.tokens.shape[1] <= task.context_length
    assert (documents.tokens[:, -1] != TASK.pad_id).any()
    for index, row in enumerate(documents.tokens):
        document = read_document(task, row)
        prompt = document.prompt
        assert (document.demo is not None) == documents.demo[index]
        assert (prompt.waypoint is not None) == documents.waypoint[index]
        assert document.answer is not None
        assert task.verify(prompt, document.answer) != documents.wrong[index]
        if document.demo is not None:
            assert is_right(prompt, nodes_of(document.demo))
        if prompt.waypoint is not None:
            free = task.correct_answers(replace(prompt, waypoint=None))
            assert 1 <= len(task.correct_answers(prompt)) < len(free)
        encoded = task.encode(prompt, document.demo)
        whole = encoded + task.encode_answer(document.answer)
        assert row.tolist() == whole + [task.pad_id] * (len(row) - len(whole))
        assert np.flatnonzero(documents.mask[index]).tolist() == list(
            range(len(encoded), len(whole))
        )


@pytest.mark.parametrize("seed", range(3))
def test_frequencies(seed):
    documents = TASK.documents(20_000, seed)
    for index, share in enumerate(TASK.style_shares):
        assert frequent(documents.style == index, share)
    assert frequent(documents.demo, TASK.demo_share)
    assert frequent(documents.wrong[documents.demo], TASK.wrong_after_demo)
    assert frequent(documents.wrong[~documents.demo], TASK.wrong)
    assert frequent(documents.waypoint, TASK.waypoint_share)


def test_waypoints_are_uniform_over_the_nodes_that_qualify():
    _, table = TASK._accepted(3000, 9, (15, 20), np.random.default_rng(0))
    waypoints = _draw_waypoints(table, 1.0, np.random.default_rng(1))
    position = []
    for graph, waypoint in enumerate(waypoints):
        rows = table.paths[table.offsets[graph] : table.offsets[graph + 1]].tolist()
        count = Counter(node for row in rows for node in row if node >= 0)
        options = sorted(node for node, paths in count.items() if paths < len(rows))
        assert waypoint in options
        if len(options) == 4:
            position.append(options.index(waypoint))
    assert len(position) > 300
    assert stats.chisquare(np.bincount(position, minlength=4)).pvalue > 1e-4


def test_every_label_and_edge_is_trained():
    tokens = TASK.documents(6000, 0).tokens
    seen = set(np.unique(tokens).tolist())
    loops = {22 + 13 * label for label in range(12)}
    assert set(range(TASK.vocab_size)) - seen == loops


def test_mistakes_are_wrong_and_of_three_kinds():
    graphs, table = TASK._accepted(4000, 9, (15, 20), np.random.default_rng(0))
    paths = table.paths.astype(np.int64)
    adjacency, goal = graphs.adjacency()[table.graph], graphs.goal[table.graph]
    wrong, kind = spoil(paths, adjacency, goal, np.random.default_rng(1))
    assert set(kind.tolist()) == {0, 1, 2}
    assert (np.bincount(kind) > len(kind) / 6).all()
    for row in range(0, len(wrong), 7):
        path, answer = paths[row][paths[row] >= 0], wrong[row][wrong[row] >= 0].tolist()
        length = len(answer)
        assert (wrong[row][length:] == -1).all()
        assert answer[0] == path[0]
        steps = [adjacency[row, u, v] for u, v in pairwise(answer)]
        if kind[row] == 0:
            assert answer[-1] != goal[row]
            assert all(steps)
            assert len(set(answer)) == length
            assert answer[:-1] == path[: length - 1].tolist()
        elif kind[row] == 1:
            assert answer[-1] == goal[row]
            assert steps.count(False) == 1
            assert length == len(path) - 1
        else:
            assert answer[-1] == goal[row]
            assert length == len(path) + 1
            assert set(answer) == set(path.tolist())


def test_same_seed_same_documents():
    rng = np.random.default_rng(3)
    one, same = TASK.documents(500, 3), TASK.documents(500, rng)
    for name in ("tokens", "mask", "style", "demo", "wrong", "waypoint"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    for other in (TASK.documents(500, 4), TASK.documents(500, rng)):
        assert not np.array_equal(one.tokens[:, :9], other.tokens[:, :9])


def test_data_does_not_limit_training():
    TASK.documents(512, 0)
    best = 0.0
    for seed in range(3):
        begun = time.process_time()
        TASK.documents(4096, seed)
        best = max(best, 4096 / (time.process_time() - begun))
    assert best > 3000, f"{best:.0f} documents a CPU second"


@pytest.mark.parametrize(
    ("draw", "split", "n_edges", "n_concepts"),
    [
        (TASK.sample, "id", (15, 20), [1, 1, 1, 2, 2, 2]),
        (TASK.larger, "ood-larger", (22, 28), [2] * 6),
    ],
)
def test_samples(draw, split, n_edges, n_concepts):
    sample = draw(400, 0)
    assert len({prompt.problem_id for prompt in sample}) == 400
    for prompt in sample:
        assert n_edges[0] <= len(set(prompt.edges)) == len(prompt.edges) <= n_edges[1]
        assert prompt.start != prompt.goal
        assert prompt.waypoint is None
        kinds = [kind for kind in prompt.concepts if kind >= 0]
        assert len(prompt.concepts) == 12
        assert sorted(Counter(kinds).values()) == n_concepts
        assert all(prompt.concepts[u] >= 0 <= prompt.concepts[v] for u, v in prompt.edges)
        assert prompt.split == split
        assert prompt.problem_id.startswith(f"{split}-")
        answers = TASK.correct_answers(prompt)
        assert 3 <= len(answers) <= 10
        longest = max(answers, key=len)
        tokens = TASK.encode(prompt, longest) + TASK.encode_answer(longest)
        assert max(tokens) < TASK.vocab_size
        assert len(tokens) <= TASK.context_length


def test_same_seed_same_prompts_in_another_process():
    code = (
        "from passk_lab.lab.tasks.paths import PathTask;"
        "print(*[p.problem_id for p in PathTask().sample(5, 11)])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.split() == [prompt.problem_id for prompt in TASK.sample(5, 11)]
    assert output.split() != [prompt.problem_id for prompt in TASK.sample(5, 12)]


def test_ids_tell_prompts_apart():
    other = {"edges": FAN.edges[::-1], "start": 1, "waypoint": 2, "concepts": (0,) * 12}
    other["split"] = "ood-blocked"
    variants = [replace(FAN, **{name: value}) for name, value in other.items()]
    assert len({prompt.problem_id for prompt in (FAN, *variants)}) == 6
    assert replace(FAN).problem_id == FAN.problem_id


@pytest.mark.parametrize("min_paths", [2, 3])
def test_blocked(min_paths):
    made = 0
    for index, prompt in enumerate(TASK.sample(100, 1)):
        law = TASK.document_law(prompt)
        path = max(law, key=law.__getitem__)
        blocked = TASK.blocked(prompt, path, index, min_paths)
        uses = [
            sum(step not in list(pairwise(nodes_of(answer))) for answer in law)
            for step in pairwise(nodes_of(path))
        ]
        assert (blocked is None) == (max(uses) < min_paths)
        if blocked is None:
            continue
        made += 1
        assert blocked.split == "ood-blocked"
        assert len(set(prompt.edges) - set(blocked.edges)) == 1
        assert [edge for edge in prompt.edges if edge in blocked.edges] == list(blocked.edges)
        remaining = TASK.correct_answers(blocked)
        assert len(remaining) >= min_paths
        assert path not in remaining
        assert set(remaining) < set(law)
        assert blocked == TASK.blocked(prompt, path, index, min_paths)
    assert made > 60


def test_where_no_prompt_can_be_made():
    assert TASK.blocked(LINE, "0-2", 0) is None
    assert TASK.waypoint(PathPrompt(((0, 1), (1, 2), (2, 3)), 0, 3), 0) is None
    assert TASK.waypoint(FAN, 0, min_paths=5) is None


@pytest.mark.parametrize("min_paths", [1, 2])
def test_waypoint(min_paths):
    made = 0
    for index, prompt in enumerate(TASK.sample(100, 2)):
        asked = TASK.waypoint(prompt, index, min_paths)
        before = TASK.correct_answers(prompt)
        if asked is None:
            counts = Counter(node for answer in before for node in nodes_of(answer))
            assert not any(min_paths <= count < len(before) for count in counts.values())
            continue
        made += 1
        after = TASK.correct_answers(asked)
        assert asked.split == "ood-waypoint"
        assert min_paths <= len(after) < len(before)
        assert after == [answer for answer in before if asked.waypoint in nodes_of(answer)]
        assert (asked.edges, asked.start, asked.goal) == (prompt.edges, prompt.start, prompt.goal)
    assert made > 75


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_nodes": 13}, "n_nodes: 13 must be between 2 and max_nodes, which is 12"),
        ({"n_nodes": 1}, "n_nodes: 1"), ({"max_nodes": 101}, "max_nodes: 101"),
        ({"edges": (20, 15)}, "edges: "), ({"edges": (15, 73)}, "edges: .* between 1 and 72"),
        ({"larger_edges": (0, 3)}, "larger_edges: "), ({"min_paths": 0}, "min_paths: 0"),
        ({"min_paths": 11}, "min_paths: 11 must be between 1 and max_paths, which is 10"),
        ({"n_concepts": 0}, "n_concepts: 0"), ({"max_tries": 0}, "max_tries: 0"),
        ({"follow": 1.1}, "follow: 1.1 must be between 0 and 1"),
        ({"wrong": float("nan")}, "wrong: nan"), ({"wrong_after_demo": -0.1}, "wrong_after_demo"),
        ({"demo_share": 2}, "demo_share"), ({"waypoint_share": -1}, "waypoint_share"),
        ({"styles": ("shortest", "tallest")}, "unknown style 'tallest'; known are shortest"),
        ({"styles": ("longest", "longest")}, "styles: .* different names"),
        ({"styles": (), "style_shares": ()}, "styles"),
        ({"style_shares": (0.5, 0.5)}, "style_shares: 2 numbers for 4 styles"),
        ({"style_shares": (0.5, 0.2, 0.15, 0.1)}, "style_shares: .* sum to 1"),
        ({"style_shares": (1.5, -0.5, 0, 0)}, "style_shares"),
        ({"style_shares": (float("nan"), 0.5, 0.5, 0)}, "style_shares"),
        ({"context_length": 64}, "context_length: 64 is too small, .* takes 65 tokens"),
        ({"larger_edges": (40, 60)}, "context_length: 80 is too small"),
    ],
)  # fmt: skip
def test_bad_settings(settings, message):
    refuses(message, PathTask, **settings)


def test_context_length_that_just_fits():
    task = replace(TASK, context_length=65)
    longest = "-".join(map(str, range(12)))
    prompt = PathPrompt(tuple((u, v) for u in range(12) for v in range(12))[:28], 0, 11, 3)
    assert len(task.encode(prompt, longest)) + task.max_answer_tokens == 65
    crowded = replace(prompt, edges=(*prompt.edges, (5, 5)))
    refuses(r"context_length: prompt id-.* take 66 tokens", task.encode, crowded, longest)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edges": (1, 2)}, "min_paths: gave up after .* lower min_paths or allow more edges"),
        ({"edges": (60, 72), "context_length": 140},
         "max_paths: gave up after .* raise max_paths or allow fewer edges"),
    ],
)  # fmt: skip
def test_impossible_graphs_are_given_up(settings, message):
    task = PathTask(max_tries=300, **settings)
    for draw in (task.sample, task.documents):
        refuses(message, draw, 10, 0)


def test_rare_graphs_are_found():
    task = PathTask(n_nodes=5, edges=(8, 12), min_paths=10, max_paths=10, max_tries=5000)
    assert all(len(task.correct_answers(prompt)) == 10 for prompt in task.sample(5, 0))


test_bad_arguments = refusals(
    (lambda: TASK.sample(0), "n: 0 must be 1 or more"),
    (lambda: TASK.documents(-1), "n: -1"),
    (lambda: TASK.encode(replace(FAN, goal=12)), r"node 12 isn't one of the labels 0 \.\.\. 11"),
    (lambda: TASK.encode(FAN, "0-x"), "answer: '0-x' isn't a path"),
    (lambda: TASK.encode_answer("0-12"), "node 12"),
    (lambda: TASK.encode_answer(""), "answer: ''"),
    (lambda: TASK.correct_answers(replace(FAN, goal=0)), "goal: .* starts at its goal"),
    (lambda: posterior_of(TASK, FAN, "0-3-4"), "demo: '0-3-4' isn't a correct path"),
    (lambda: TASK.document_law(replace(FAN, start=4, goal=3, edges=((3, 4),))), "no correct path"),
    (lambda: TASK.document_law(PathPrompt(((1, 0),), 0, 1)), "no correct path"),  # one way
    (lambda: TASK.blocked(LINE, "0-3"), "path: '0-3' isn't a correct path"),
    (lambda: TASK.waypoint(replace(FAN, waypoint=2)), "has a waypoint already"),
    (
        lambda: posterior_of(replace(TASK, follow=1.0), FAN, "0-2-4"),
        "demo: no author writes '0-2-4' when follow is 1",
    ),
)


def test_n_must_be_whole():
    with pytest.raises(TypeError):
        TASK.sample(2.5, 0)
