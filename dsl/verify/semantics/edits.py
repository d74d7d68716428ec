"""Small edits of a kernel text, the likeliest slips first: what repair tries where a kernel is not its reference.

Each edit replaces a stretch of one line. Texts are parsed with `ast` and never run; an edit that does not type, or
changes nothing, is found out by whoever tries it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_SIGNS: dict[type, tuple[str, ...]] = {
    ast.Add: ("-", "*"), ast.Sub: ("+", "/"), ast.Mult: ("/", "+"), ast.Div: ("*",),
}  # fmt: skip
_OPERATORS: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type, tuple[str, ...]] = {
    ast.Lt: ("<=", ">="), ast.LtE: ("<", ">="), ast.Gt: (">=", "<="), ast.GtE: (">", "<="),
}  # fmt: skip
_WORDS = {
    "exp": ("exp2",), "exp2": ("exp",), "log": ("log2",), "log2": ("log",), "sqrt": ("rsqrt",), "rsqrt": ("sqrt",),
    "maximum": ("minimum",), "minimum": ("maximum",), "max": ("min", "sum"), "min": ("max",), "sum": ("max",),
    "argmax": ("argmin",), "argmin": ("argmax",), "cdiv": (),
}  # fmt: skip
_DIVISORS = 3
"""Sizes that a value is divided by."""

_FUNCTIONS = frozenset({"exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sigmoid", "abs", "erf"})


@dataclass(frozen=True)
class Edit:
    """`new` for `old` at a place of the text: line and column count from 1."""

    line: int
    column: int
    old: str
    new: str
    rank: int = 0  # smaller is tried first

    def applied(self, text: str) -> str:
        lines = text.splitlines(keepends=True)
        line, start = lines[self.line - 1], self.column - 1
        lines[self.line - 1] = line[:start] + self.new + line[start + len(self.old) :]
        return "".join(lines)


def edits(text: str, lines: Sequence[int], literals: Sequence[str], ranks: Mapping[str, int]) -> list[Edit]:
    """Edits of a text, each once. Those of `lines` come first among their kind; `literals` are numbers that the
    reference has, `ranks` those of the values that have names."""
    if not text.isascii():
        return []
    found: dict[tuple[int, int, str, str], Edit] = {}
    for function in ast.parse(text).body:
        if isinstance(function, ast.FunctionDef) and not _is_program(function):
            for edit in _Writer(text, function, literals, ranks).all():
                found.setdefault((edit.line, edit.column, edit.old, edit.new), edit)
    nearness = {line: number for number, line in enumerate(dict.fromkeys(lines))}
    return sorted(found.values(), key=lambda e: (e.rank, nearness.get(e.line, len(nearness)), e.line, e.column))


def _is_program(function: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "program" for d in function.decorator_list)


class _Writer:
    def __init__(self, text: str, function: ast.FunctionDef, literals: Sequence[str], ranks: Mapping[str, int]) -> None:
        self.lines, self.function, self.literals, self.ranks = text.splitlines(), function, literals, ranks
        self.named = _names(function)
        self.exponential = "exp2" if "exp2(" in text and "exp(" not in text else "exp"
        self._writers: Mapping[type, Callable[..., Iterator[Edit | None]]] = {
            ast.BinOp: self._operator, ast.UnaryOp: self._negation, ast.Compare: self._comparison,
            ast.Call: self._call, ast.Constant: self._constant, ast.Name: self._name, ast.Assign: self._assignment,
            ast.AugAssign: self._sum, ast.Subscript: self._axes, ast.Attribute: self._transposed,
        }  # fmt: skip

    def all(self) -> Iterator[Edit]:
        for statement in self.function.body:
            for node in ast.walk(statement):
                for edit in self._writers.get(type(node), _nothing)(node):
                    if edit is not None and edit.old != edit.new:
                        yield edit

    def _source(self, node: ast.expr | ast.stmt) -> str:
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            return ""
        return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset]

    def _replaced(self, node: ast.expr | ast.stmt, new: str, rank: int) -> Edit | None:
        old = self._source(node)
        return Edit(node.lineno, node.col_offset + 1, old, new, rank) if old and new else None

    # Expressions -------------------------------------------------------------------------------

    def _operator(self, node: ast.BinOp) -> Iterator[Edit | None]:
        left, right = self._source(node.left), self._source(node.right)
        if not left or not right:
            return
        if isinstance(node.op, ast.Pow):
            yield self._replaced(node, left, 0)
        if type(node.op) not in _SIGNS:
            return
        before, after = self._around(node, node.left), self._around(node, node.right)
        for number, sign in enumerate(_SIGNS[type(node.op)]):
            yield self._replaced(node, f"{before[0]}{left}{before[1]} {sign} {after[0]}{right}{after[1]}", 2 * number)
        yield self._replaced(node, left, 1)
        yield self._replaced(node, right, 1)
        if isinstance(node.op, ast.Sub):
            yield self._replaced(node, f"(-{right})", 2)
        yield from self._regrouped(node)

    def _regrouped(self, node: ast.BinOp) -> Iterator[Edit | None]:
        """a - b / c as (a - b) / c, and the other way round."""
        outer, inner = _OPERATORS[type(node.op)], node.right
        if isinstance(inner, ast.BinOp) and type(inner.op) in _OPERATORS and outer in "+-":
            parts = (self._source(node.left), self._source(inner.left), self._source(inner.right))
            yield self._replaced(node, f"({parts[0]} {outer} {parts[1]}) {_OPERATORS[type(inner.op)]} {parts[2]}", 1)
        inner = node.left
        if isinstance(inner, ast.BinOp) and type(inner.op) in _OPERATORS and outer in "*/":
            parts = (self._source(inner.left), self._source(inner.right), self._source(node.right))
            yield self._replaced(node, f"({parts[0]} {_OPERATORS[type(inner.op)]} {parts[1]} {outer} {parts[2]})", 1)

    def _around(self, node: ast.BinOp, side: ast.expr) -> tuple[str, str]:
        """Brackets that stand around an operand."""
        line = self.lines[node.lineno - 1]
        if side is node.left:
            opened = line[node.col_offset : side.col_offset].count("(")
        else:
            opened = line[side.end_col_offset or 0 : node.end_col_offset].count(")")
        return "(" * opened, ")" * opened

    def _negation(self, node: ast.UnaryOp) -> Iterator[Edit | None]:
        if isinstance(node.op, ast.USub):
            yield self._replaced(node, self._source(node.operand), 0)

    def _comparison(self, node: ast.Compare) -> Iterator[Edit | None]:
        right = node.comparators[0]
        left, other = self._source(node.left), self._source(right)
        for sign in _COMPARISONS.get(type(node.ops[0]), ()):
            yield self._replaced(node, f"{left} {sign} {other}", 0)
        if type(node.ops[0]) in _COMPARISONS or isinstance(node.ops[0], ast.Eq):
            sign = self.lines[node.lineno - 1][node.left.end_col_offset : right.col_offset].strip()
            for step in (" + 1", " - 1"):
                yield self._replaced(node, f"{left} {sign} {other}{step}", 3)

    def _call(self, node: ast.Call) -> Iterator[Edit | None]:
        word = node.func.id if isinstance(node.func, ast.Name) else ""
        for other in _WORDS.get(word, ()):
            yield self._replaced(node.func, other, 0)
        if word in _FUNCTIONS:
            inner = self._source(node.args[0])
            yield self._replaced(node, f"({inner})", 2)
            yield self._replaced(node, f"{word}(-({inner}))", 2)
        for keyword in node.keywords:
            if keyword.arg == "fill":
                for value in ("0", "-inf"):
                    yield self._replaced(keyword.value, value, 0)
                yield self._unfilled(node, keyword)
        if word == "load" and not node.keywords:
            yield self._replaced(node, f"{self._source(node)[:-1]}, fill=0)", 4)
        if word in ("pipeline", "range") and len(node.args) > 1:
            yield from self._bounds(node.args[0], node.args[1])

    def _unfilled(self, node: ast.Call, keyword: ast.keyword) -> Edit | None:
        whole = self._source(node)
        return self._replaced(node, whole.replace(f", fill={self._source(keyword.value)}", ""), 0)

    def _bounds(self, lo: ast.expr, hi: ast.expr) -> Iterator[Edit | None]:
        if not isinstance(lo, ast.Tuple):
            yield self._replaced(lo, "0", 0)
            for dim in self.named.dims:
                yield self._replaced(hi, dim, 1)

    def _constant(self, node: ast.Constant) -> Iterator[Edit | None]:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return
        near = ("0", "1", str(node.value + 1), str(node.value - 1), *self.named.groups[0])
        others = near if isinstance(node.value, int) else ()
        for other in others:
            yield self._replaced(node, other, 1)
        if isinstance(node.value, float):
            scaled = (repr(node.value * 2), repr(node.value / 2), "1.0", "0.0", "-inf")
            for other in (*self.literals, *scaled):
                yield self._replaced(node, other, 1)

    def _name(self, node: ast.Name) -> Iterator[Edit | None]:
        if not isinstance(node.ctx, ast.Load):
            return
        for group in self.named.groups:
            if node.id in group:
                for other in group:
                    if self._alike(node.id, other):
                        yield self._replaced(node, other, 3)
        if node.id in self.ranks:
            for dim in self.named.dims[:_DIVISORS]:
                yield self._replaced(node, f"({node.id} / {dim})", 5)
        if node.id in self.named.dims:
            yield self._replaced(node, f"({node.id} + 1)", 2)

    def _alike(self, name: str, other: str) -> bool:
        return self.ranks.get(name) == self.ranks.get(other)

    # Statements --------------------------------------------------------------------------------

    def _assignment(self, node: ast.Assign) -> Iterator[Edit | None]:
        target = node.targets[0]
        if not isinstance(target, ast.Name):
            return
        name, value = target.id, self._source(node.value)
        if name in self.named.carried and value and name not in {n.id for n in _loaded(node.value)}:
            yield self._replaced(node, f"{name} += {value}", 0)
        first = node.value.left if isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add) else None
        for own in _loaded(node.value):
            if own.id == name:
                for factor in self._factors(name):
                    yield self._replaced(own, f"{name} * {factor}" if own is first else f"({name} * {factor})", 0)

    def _sum(self, node: ast.AugAssign) -> Iterator[Edit | None]:
        name, value = self._source(node.target), self._source(node.value)
        sign = _OPERATORS.get(type(node.op))
        if sign is None or not value:
            return
        yield self._replaced(node, f"{name} = {value}", 1)
        yield self._replaced(node, f"{name} {'-' if sign == '+' else '+'}= {value}", 0)
        for factor in self._factors(name):
            yield self._replaced(node, f"{name} = {name} * {factor} {sign} {value}", 1)

    def _factors(self, name: str) -> Iterator[str]:
        """What a carried value may have to be rescaled by: other values computed in the same loop."""
        for other in self.named.computed:
            lower = self.ranks.get(name, 0) - self.ranks.get(other, 0)
            if other != name and lower in (0, 1):
                yield f"{other}[:, None]" if lower else other
        for old, new in self.named.renewed:
            lower = self.ranks.get(name, 0) - self.ranks.get(new, 0)
            if old != name and lower in (0, 1):
                yield f"{self.exponential}({old} - {new})" + ("[:, None]" if lower else "")

    def _axes(self, node: ast.Subscript) -> Iterator[Edit | None]:
        value, inside = self._source(node.value), self._source(node.slice)
        turned = {":, None": "None, :", "None, :": ":, None"}.get(inside.strip("()"))
        if turned is not None:
            yield self._replaced(node, f"{value}[{turned}]", 3)

    def _transposed(self, node: ast.Attribute) -> Iterator[Edit | None]:
        if node.attr == "T":
            yield self._replaced(node, self._source(node.value), 3)


def _nothing(_node: ast.AST) -> Iterator[Edit | None]:
    return iter(())


def _loaded(node: ast.expr) -> list[ast.Name]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]


@dataclass(frozen=True)
class _Named:
    """Names of a kernel: index names, tiles (in `groups` each may stand for another), dims, what a loop carries, what
    it computes, and carried values with their new ones (`m = m_new`)."""

    groups: tuple[tuple[str, ...], ...]
    dims: tuple[str, ...]
    carried: frozenset[str]
    computed: tuple[str, ...]
    renewed: tuple[tuple[str, str], ...]


def _names(function: ast.FunctionDef) -> _Named:
    loops = [n for n in ast.walk(function) if isinstance(n, ast.For)]
    indices = [t.id for loop in loops for t in ast.walk(loop.target) if isinstance(t, ast.Name)]
    arrays = [a.arg for a in function.args.args if isinstance(a.annotation, ast.Subscript)]
    scalars = [a.arg for a in function.args.args if isinstance(a.annotation, ast.Name)]
    assigned = _assigned(function)
    inner = [name for loop in loops for name in _assigned(loop)]
    carried = frozenset(n for n in inner if assigned.count(n) > 1)
    tiles = tuple(dict.fromkeys((*assigned, *scalars)))
    groups = (tuple(dict.fromkeys(indices)), tiles, tuple(arrays))
    return _Named(groups, _dims(function), carried, tuple(dict.fromkeys(inner)), _renewed(function))


def _renewed(function: ast.FunctionDef) -> tuple[tuple[str, str], ...]:
    return tuple(
        (n.targets[0].id, n.value.id)
        for n in ast.walk(function)
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and isinstance(n.value, ast.Name)
    )


def _assigned(node: ast.AST) -> list[str]:
    targets: list[ast.expr] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign):
            targets += inner.targets
        elif isinstance(inner, ast.AugAssign):
            targets.append(inner.target)
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def _dims(function: ast.FunctionDef) -> tuple[str, ...]:
    found: list[str] = []
    for argument in function.args.args:
        if isinstance(argument.annotation, ast.Subscript) and isinstance(argument.annotation.slice, ast.Tuple):
            found += [e.id for e in argument.annotation.slice.elts[1:] if isinstance(e, ast.Name)]
    return tuple(dict.fromkeys(found))


__all__ = ["Edit", "edits"]
