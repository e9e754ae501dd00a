"""The changes that are made to a module, one at a time, on its syntax tree.

Left alone: annotations, decorators, docstrings, the texts of errors and other strings (a misspelt
column is a KeyError, which shows), `dtype` of array makers, and `strict` of `zip`, which guards.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
TWINS = ("min max", "minimum maximum", "any all", "argmin argmax", "idxmin idxmax", "zeros ones")
NAMES = {a: b for pair in TWINS for a, b in (pair.split(), pair.split()[::-1])}
GUARDS = ("strict", "dtype")
SKIPPED_FIELDS = ("annotation", "returns", "decorator_list")
TOLERANCE = 1e-3
"""A constant below it is a tolerance, and is made coarse; others are moved by a tenth."""


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change: `before` becomes `after`, in the function `where` on `line`."""

    where: str
    line: int
    before: str
    after: str
    parent: ast.AST
    field: str
    index: int | None
    replacement: ast.AST

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The tree with this change, within the block."""
        kept = getattr(self.parent, self.field)
        if self.index is None:
            changed: object = self.replacement
        else:
            changed = [*kept[: self.index], self.replacement, *kept[self.index + 1 :]]
        setattr(self.parent, self.field, changed)
        try:
            yield
        finally:
            setattr(self.parent, self.field, kept)


def mutants(tree: ast.AST) -> list[Mutant]:
    """All single changes of a module, in the order of its lines."""
    return list(_within(tree, "", tree))


def _within(node: ast.AST, where: str, shown: ast.AST) -> Iterator[Mutant]:
    """Changes below `node`; `shown` is the expression or statement that is printed."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS:
            continue
        children = value if isinstance(value, list) else [value]
        for position, child in enumerate(children):
            if not isinstance(child, ast.AST) or _untouched(node, child):
                continue
            index = position if isinstance(value, list) else None
            name = getattr(child, "name", None)
            inner = ".".join(filter(None, (where, name))) if isinstance(name, str) else where
            around = shown if _small(child) else child
            for replacement in _replacements(field, child):
                line = getattr(child, "lineno", 0)
                found = Mutant(where, line, _text(around), "", node, field, index, replacement)
                with found.applied():
                    after = _text(replacement if around is child else around)
                yield replace(found, after=after)
            yield from _within(child, inner, around)


def _untouched(node: ast.AST, child: ast.AST) -> bool:
    docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    text = isinstance(child, ast.JoinedStr) or isinstance(node, ast.Raise)
    guard = isinstance(child, ast.keyword) and child.arg in GUARDS
    return docstring or text or guard


def _small(node: ast.AST) -> bool:
    """Whether it says little by itself, so that what is around it is printed."""
    leaf = isinstance(
        node, ast.Constant | ast.Name | ast.Slice | ast.Tuple | ast.List | ast.arguments
    )
    return leaf or isinstance(node, ast.keyword) or _negative(node)


def _negative(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"{node.name}({ast.unparse(node.args)})"
    if isinstance(node, ast.If | ast.For | ast.While | ast.With):
        node = _with(node, body=[ast.Expr(ast.Constant(...))], orelse=[])
    return " ".join(ast.unparse(node).split())


def _replacements(field: str, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of `node`, each with the node's own position."""
    for new in _statements(node) if isinstance(node, ast.stmt) else _other(node):
        yield ast.fix_missing_locations(ast.copy_location(new, node))
    if field == "test" and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield ast.fix_missing_locations(
            ast.copy_location(ast.UnaryOp(ast.Not(), node), node)  # type: ignore[arg-type]
        )


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue):
        yield ast.Pass()
    if isinstance(node, ast.AugAssign):
        for new in SWAPPED.get(type(node.op), ()):
            yield _with(node, op=new())
    if isinstance(node, ast.Continue):
        yield ast.Break()


def _other(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for new in SWAPPED[type(op)]:
                yield _with(node, ops=[*node.ops[:i], new(), *node.ops[i + 1 :]])
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        for new in SWAPPED.get(type(node.op), ()):
            yield _with(node, op=new())
    elif isinstance(node, ast.UnaryOp) and not _negative(node):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield _with(node, id=NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _with(node, attr=NAMES[node.attr])
    elif isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, *GUARDS):
                yield _with(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
        if getattr(node.func, "id", getattr(node.func, "attr", "")) == "abs" and node.args:
            yield node.args[0]


def _constants(value: object) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from (ast.Constant(value + 1), ast.Constant(value - 1))
    elif isinstance(value, float):
        yield ast.Constant(0.1 if abs(value) < TOLERANCE else 0.9 * value)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
