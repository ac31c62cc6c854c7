"""Countdown: write an expression that uses each number once and comes to the target.

Replies come from language models, so nothing in them is evaluated: a strict grammar decides what is
an expression, and exact arithmetic whether it is right. A *canonical* answer stands for all
rearrangements of an expression, so distinct correct answers are different solutions.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

from passk_lab.lab.tasks.text import TextTask

__all__ = ["EXAMPLES", "CountdownTask", "Game"]

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

_ALLOWED = re.compile(r"[0-9+\-*/() ]{1,80}")
_DIGITS = re.compile(r"[0-9]{5}")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _extract(reply: str) -> str | None:
    """First line of a reply up to an equals sign, without a full stop, if it is an expression."""
    line = reply.strip().split("\n")[0].split("=")[0].strip().removesuffix(".").strip()
    return line if _parse(line) is not None else None


def _parse(text: str) -> ast.expr | None:
    """Tree of an arithmetic expression; None for any other text (``2**9``, ``2(3)``, words).

    Whole numbers of at most four digits, ``+ - * /``, a minus before a term, brackets and spaces;
    at most 80 characters.
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


def _evaluate(node: ast.expr) -> Fraction:
    """Exact value of a tree; ZeroDivisionError where it divides by zero."""
    if isinstance(node, ast.BinOp):
        value = _OPERATIONS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
        return Fraction(value)
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand)
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
        return 1, _Form(0, _evaluate(node))
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


def _canonical(node: ast.expr) -> str:
    """Write an expression in the form that all its rearrangements share.

    Nested sums and products are flattened, a bracket with a negative value is turned round and its
    sign pulled out, and terms and factors are sorted. So two expressions are the same solution
    exactly when one becomes the other by reordering, rebracketing and moving signs. Nothing is
    worked out: 2*2 and 2 + 2, or 6*1 and 6/1, are different solutions.

    Examples
    --------
    >>> for text in ("(2*4) + 3", "9 - (4 - 1)", "(2 - 5) * (1 - 3)"):
    ...     print(_canonical(ast.parse(text, mode="eval").body))
    3 + 2*4
    1 + 9 - 4
    (3 - 1)*(5 - 2)
    """
    return _render(*_simplify(node))


def _expressions(leaves: tuple[ast.expr, ...]) -> Iterator[tuple[ast.expr, Fraction]]:
    if len(leaves) == 1:
        yield leaves[0], _evaluate(leaves[0])
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


@dataclass(frozen=True)
class Game:
    """One game: come to ``target`` with each of ``numbers`` used exactly once.

    Examples
    --------
    >>> game = Game((2, 2, 1), 4)
    >>> game.problem_id, game.accepts(game.read("2*2/1 = 4")), game.accepts("2 + 2")
    ('make 4 from 2 2 1', True, False)
    >>> sorted(game.solutions())
    ['(2 + 2)/1', '1*(2 + 2)', '1*2*2', '2 + 1*2', '2 + 2/1', '2*2/1']
    """

    numbers: tuple[int, ...]
    target: int

    @property
    def problem_id(self) -> str:
        """The game in words."""
        return f"make {self.target} from {' '.join(map(str, self.numbers))}"

    @property
    def text(self) -> list[dict[str, str]]:
        """The examples and the question as turns of a chat."""
        turns = []
        for numbers, target, answer in (*EXAMPLES, (self.numbers, self.target, None)):
            question = f"Target: {target}\nNumbers: {', '.join(map(str, numbers))}"
            turns.append({"role": "user", "content": question})
            if answer is not None:
                turns.append({"role": "assistant", "content": answer})
        return turns

    def solutions(self) -> set[str]:
        """Canonical forms of all solutions, by trying every expression (up to four numbers)."""
        trees = _expressions(tuple(ast.Constant(number) for number in self.numbers))
        return {_canonical(tree) for tree, value in trees if value == self.target}

    def read(self, reply: str | None) -> str | None:
        """Canonical form of the expression in a reply; None where there is none."""
        return _canonical_answer(reply)

    def accepts(self, answer: str | None) -> bool:
        """Whether an answer uses the numbers and comes to the target."""
        return self.score(answer) == 1

    def score(self, answer: str | None) -> float:
        """reasoning-gym's reward: 1 right, 0.05 wrong, 0.01 no answer or one without a value."""
        tree = None if answer is None else _parse(answer)
        if tree is None:
            return 0.01
        try:
            value = _evaluate(tree)
        except ZeroDivisionError:
            return 0.01
        used = sorted(int(number) for number in re.findall("[0-9]+", str(answer)))
        return 1.0 if value == self.target and used == sorted(self.numbers) else 0.05


@dataclass(frozen=True)
class CountdownTask(TextTask[Game]):
    """Games of Countdown as a task; answers are canonical expressions.

    Parameters and errors are those of `TextTask`. A reply ends with its first line.
    """

    max_answer_tokens: int = 24

    name: ClassVar[str] = "countdown"

    @cached_property
    def ends(self) -> frozenset[int]:
        """The end of the turn, and all tokens that hold a line break."""
        tokenizer = self.encoder.tokenizer
        breaks = (t for t in range(self.vocab_size) if "\n" in tokenizer.decode([t]))
        return frozenset({self.eos_id, *breaks})

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Canonical answer in generated tokens; None where they hold none or were cut off."""
        return _canonical_answer(super().decode(tokens))

    def correct_answers(self, prompt: Game) -> list[str]:
        """All correct answers, each once."""
        return sorted(prompt.solutions())


def _canonical_answer(reply: str | None) -> str | None:
    answer = None if reply is None else _extract(reply)
    tree = None if answer is None else _parse(answer)
    return None if tree is None else _canonical(tree)
