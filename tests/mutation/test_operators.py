"""The changes of a snippet, and that the tree is itself again after each."""

from __future__ import annotations

import ast

import pytest

from tests.mutation.operators import mutants


def changes(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [m.after for m in mutants(tree)]
    assert ast.unparse(tree) == ast.unparse(ast.parse(source))
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["pass", "a <= b", "a >= b"]),
        ("x = a and not b", ["a or not b", "b"]),
        ("x = 3", ["x = 4", "x = 2"]),
        ("x = a[-1]", ["a[-2]", "a[-0]"]),
        ("x = 0.5", ["x = 0.45"]),
        ("x = 1e-9", ["x = 0.1"]),
        ("x = True", ["x = False"]),
        ("x = abs(a)", ["a"]),
        ("x = np.abs(a)", ["a"]),
        ("x = f(a, axis=b)", ["f(a)"]),
        ("x = max(a)", ["min(a)"]),
        ("x = a.any()", ["a.all"]),
        ("x += a", ["pass", "x -= a"]),
        ("if f(a): pass", ["not f(a)"]),
        ("for a in b: continue", ["pass", "break"]),
        ("raise ValueError(1)", ["pass"]),
    ],
)
def test_each_kind_of_change(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "x = 'text'",
        "x = f'{a + 1:.3f}'",
        "x = zip(a, b, strict=True)",
        "x = np.asarray(a, dtype=b)",
        "x: Tuple[1] = a",
        "@f(1)\ndef g(a: 2) -> 3: return a",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_a_mutant_says_where_it_is_and_compiles_as_changed() -> None:
    tree = ast.parse("class A:\n    def f(self, x):\n        return x + 1\n")
    first, *_ = mutants(tree)
    assert (first.where, first.line) == ("A.f", 3)
    assert (first.before, first.after) == ("x + 1", "x - 1")
    with first.applied():
        names: dict[str, type] = {}
        exec(compile(tree, "snippet", "exec"), names)
    assert names["A"]().f(5) == 4
