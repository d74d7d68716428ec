"""A kernel text with its syntax tree, and edits that leave everything else, comments included, as it was.

Texts are parsed by `ast` and never executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

LIMIT_CHARACTERS = 200_000


class MoveError(Exception):
    """The move is unknown, its arguments are wrong, or it does not apply to this text: a search skips it."""


@dataclass(frozen=True)
class Edit:
    """Replace text[start:end]."""

    start: int
    end: int
    new: str


class Source:
    """Text, tree, and the way from one to the other."""

    def __init__(self, text: str) -> None:
        if len(text) > LIMIT_CHARACTERS:
            raise MoveError(f"the text has {len(text)} characters, more than {LIMIT_CHARACTERS}")
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise MoveError(f"the text does not parse: {error}") from None
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def segment(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> str:
        return self.text[self.start(node) : self.end(node)]

    def replace(self, node: ast.expr | ast.stmt | ast.arg, new: str) -> Edit:
        return Edit(self.start(node), self.end(node), new)

    def before(self, statement: ast.stmt, lines: Sequence[str]) -> Edit:
        """Insert lines, indented alike, above a statement."""
        at = self.line_start(statement)
        indent = self.indent(statement)
        return Edit(at, at, "".join(f"{indent}{line}\n" for line in lines))

    def after(self, statement: ast.stmt, lines: Sequence[str]) -> Edit:
        """Insert lines, indented alike, below a statement."""
        at = self.line_end(statement)
        gap = "" if self.text[:at].endswith("\n") else "\n"
        indent = self.indent(statement)
        return Edit(at, at, gap + "".join(f"{indent}{line}\n" for line in lines))

    def remove(self, statement: ast.stmt) -> Edit:
        """The statement's whole lines, its comment included."""
        return Edit(self.line_start(statement), self.line_end(statement), "")

    def lines_of(self, statements: Sequence[ast.stmt]) -> str:
        """The whole lines of adjacent statements, comments between them included."""
        return self.text[self.line_start(statements[0]) : self.line_end(statements[-1])]

    def line_start(self, statement: ast.stmt) -> int:
        """Offset of the line a statement starts on. Raises MoveError when it shares the line with another."""
        start = self._starts[statement.lineno - 1]
        if self.text[start : self.start(statement)].strip():
            raise MoveError(f"line {statement.lineno} holds more than one statement")
        return start

    def line_end(self, statement: ast.stmt) -> int:
        assert statement.end_lineno is not None
        end = self._starts[statement.end_lineno]
        rest = self.text[self.end(statement) : end].strip()
        if rest and not rest.startswith("#"):
            raise MoveError(f"line {statement.end_lineno} holds more than one statement")
        return end

    def indent(self, statement: ast.stmt) -> str:
        return self.text[self.line_start(statement) : self.start(statement)]

    def _offset(self, line: int, column: int) -> int:
        """`ast` counts columns in UTF-8 bytes."""
        text = self._lines[line - 1] if line <= len(self._lines) else ""
        return self._starts[line - 1] + len(text.encode()[:column].decode())


@lru_cache(maxsize=64)
def read(text: str) -> Source:
    """The source of a text; trees are shared, so nobody may change them."""
    return Source(text)


@lru_cache(maxsize=4096)
def below(node: ast.AST) -> tuple[ast.AST, ...]:
    """The node and all nodes below it, in the order of `ast.walk`; kept, because moves ask for them again and again."""
    return tuple(ast.walk(node))


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; at one place, in the order given. Raises MoveError when two overlap."""
    done = 0
    parts: list[str] = []
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.start < done:
            raise MoveError("the edits overlap")
        parts += [text[done : edit.start], edit.new]
        done = edit.end
    return "".join([*parts, text[done:]])


def functions(source: Source, *decorators: str) -> list[ast.FunctionDef]:
    """Top-level functions with one of these decorators: `kernel`, `program`, `inline`."""
    return [
        node
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id in decorators for d in node.decorator_list)
    ]


def named(source: Source, kernel: str | None) -> list[ast.FunctionDef]:
    """The kernels and programs meant by an optional name. Raises MoveError when there is none."""
    found = [f for f in functions(source, "kernel", "program") if kernel in (None, f.name)]
    if not found:
        raise MoveError(f"the text has no kernel {kernel!r}" if kernel else "the text has no kernel")
    return found


def called(node: ast.AST, *words: str) -> bool:
    """Is the node a call of one of these words?"""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in words


def calls(node: ast.AST, *words: str) -> Iterator[ast.Call]:
    for child in below(node):
        if isinstance(child, ast.Call) and called(child, *words):
            yield child


def loops(function: ast.AST, *words: str) -> list[ast.For]:
    """The `for` loops over these words, outermost first."""
    return [n for n in below(function) if isinstance(n, ast.For) and called(n.iter, *words)]


def arguments_of(loop: ast.For) -> list[ast.expr]:
    assert isinstance(loop.iter, ast.Call)
    return loop.iter.args


def blocks(function: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every statement list inside a function, its own first."""
    for node in below(function):
        for field in ("body", "orelse"):
            value = getattr(node, field, None)
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def target_names(target: ast.expr) -> list[str]:
    """Names bound by an assignment or loop target."""
    return [n.id for n in below(target) if isinstance(n, ast.Name)]


def reads(nodes: Iterable[ast.AST]) -> set[str]:
    """Names whose value is used; `x += y` uses x."""
    found: set[str] = set()
    for node in nodes:
        for child in below(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
                found.add(child.id)
            elif isinstance(child, ast.AugAssign):
                found.update(target_names(child.target))
    return found


def bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that are assigned, loop variables included."""
    return {
        child.id
        for node in nodes
        for child in below(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
    }


def same(a: ast.AST, b: ast.AST) -> bool:
    """Equal up to layout."""
    return ast.dump(a) == ast.dump(b)


def fresh(source: Source, stem: str) -> str:
    """A name that occurs nowhere in the text."""
    taken = {n.id for n in below(source.tree) if isinstance(n, ast.Name)}
    taken |= {n.arg for n in below(source.tree) if isinstance(n, ast.arg)}
    taken |= {f.name for f in source.tree.body if isinstance(f, ast.FunctionDef)}
    candidates = (stem if n == 0 else f"{stem}_{n}" for n in range(len(taken) + 1))
    return next(name for name in candidates if name not in taken)


def renamed(source: Source, nodes: Iterable[ast.AST], names: dict[str, str]) -> list[Edit]:
    """Edits that replace names by texts wherever they occur below the nodes."""
    return [
        source.replace(child, names[child.id])
        for node in nodes
        for child in below(node)
        if isinstance(child, ast.Name) and child.id in names
    ]


def extract(source: Source, start: int, end: int, edits: Iterable[Edit]) -> str:
    """text[start:end] with those edits made that lie inside."""
    inside = [Edit(e.start - start, e.end - start, e.new) for e in edits if start <= e.start and e.end <= end]
    return edited(source.text[start:end], inside)


def assignment(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """`(name, value)` of `name = value`, else None."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            return target.id, statement.value
    return None


def accumulation(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """`(a, x)` of `a += x` or `a = a + x`, else None."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
        return (statement.target.id, statement.value) if isinstance(statement.target, ast.Name) else None
    plain = assignment(statement)
    if plain is None or not isinstance(plain[1], ast.BinOp) or not isinstance(plain[1].op, ast.Add):
        return None
    left = plain[1].left
    return (plain[0], plain[1].right) if isinstance(left, ast.Name) and left.id == plain[0] else None
