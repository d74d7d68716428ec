"""Text -> checked syntax: Python's grammar, an allow-list of its constructs, and limits on size.

Nothing here runs the text. What comes out is a `Source`: literal constants and functions whose syntax trees hold only
constructs of the language, with columns counted in characters.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kernelagent.dsl.diagnostics import MAX_DIAGNOSTICS, Diagnostic, KernelError, Span

EDITION = 1
MAX_CHARACTERS = 65_536
MAX_NODES = 20_000
MAX_DEPTH = 60
MAX_INTEGER = 2**53

Role = Literal["kernel", "inline", "program"]


@dataclass(frozen=True)
class Function:
    role: Role
    node: ast.FunctionDef


@dataclass(frozen=True)
class Source:
    """A text whose every syntax node is one of the language's."""

    text: str
    edition: int
    constants: dict[str, ast.expr]
    functions: dict[str, Function]


class Fault(Exception):
    """One diagnostic on its way to whoever can recover from it; never leaves the package."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic

    def inside(self, calls: tuple[Span, ...]) -> Fault:
        """The fault with the call sites around it, unless it knows them already."""
        return self if self.diagnostic.origin else Fault(replace(self.diagnostic, origin=calls))


def span_of(node: ast.AST) -> Span:
    """The place of a node that has been through `read`."""
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    end_line, end = getattr(node, "end_lineno", None) or line, getattr(node, "end_col_offset", None) or column + 1
    return Span(line, column + 1, end_line, end + 1)


def fault(code: str, message: str, where: ast.AST | Span, hint: str, **facts: object) -> Fault:
    """An error to raise. `hint` says what to write instead."""
    span = where if isinstance(where, Span) else span_of(where)
    return Fault(Diagnostic(code, message, span, hint=hint, facts=facts))


def read(text: str, level: int = 1) -> Source:
    """Check the text's syntax; texts above level one say `level(n)` behind their edition. Raises KernelError with
    everything that was found."""
    tree = _parse(text)
    _use_character_columns(tree, text)
    faults = [*_foreign(tree, level)]
    if not faults:
        source, faults = _top_level(tree, text, level)
        if not faults:
            return source
    raise KernelError([f.diagnostic for f in faults[:MAX_DIAGNOSTICS]])


# Python's grammar --------------------------------------------------------------------------------


def _parse(text: str) -> ast.Module:
    if len(text) > MAX_CHARACTERS:
        raise KernelError([_too_large(f"the text has {len(text)} characters; the limit is {MAX_CHARACTERS}")])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is Python's concern, not ours
            tree = ast.parse(text)
    except SyntaxError as error:
        raise KernelError([_syntax_error(error, text)]) from None
    except (ValueError, MemoryError, RecursionError, OverflowError) as error:
        raise KernelError([_too_large(f"the text cannot be read: {error or 'it is nested too deeply'}")]) from None
    _check_size(tree)
    return tree


_STRANGERS = (
    ("```", "leave out the lines with ```"),
    ("__global__", "this looks like CUDA C++: kernels are written in the tile language, see `problems new`"),
    ("#include", "this looks like C++: kernels are written in the tile language, see `problems new`"),
)
_ELSEWHERE = frozenset(("torch", "triton", "numpy", "jax", "cupy", "numba", "cutlass", "tilelang"))


def _syntax_error(error: SyntaxError, text: str) -> Diagnostic:
    line, column = error.lineno or 1, max(error.offset or 1, 1)
    end = error.end_offset if error.end_lineno == line and error.end_offset else 0
    span = Span(line, column, line, max(end, column + 1))
    usual = "correct the line; the language uses Python's syntax"
    hint = next((said for sign, said in _STRANGERS if sign in text), usual)
    return Diagnostic("syntax", f"not valid Python syntax: {error.msg}", span, hint=hint)


def _too_large(message: str, span: Span | None = None) -> Diagnostic:
    return Diagnostic("too-large", message, span or Span(1, 1, 1, 2), hint="a kernel is a page of text: shorten it")


def _check_size(tree: ast.Module) -> None:
    """Count nodes and depth without recursion."""
    stack: list[tuple[ast.AST, int]] = [(tree, 0)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            what = f"more than {MAX_NODES} parts" if count > MAX_NODES else f"nested more than {MAX_DEPTH} deep"
            raise KernelError([_too_large(f"the text is too large: {what}", span_of(node))])
        stack.extend((child, depth + 1) for child in ast.iter_child_nodes(node))


def _use_character_columns(tree: ast.Module, text: str) -> None:
    """`ast` counts columns in UTF-8 bytes; people and editors count characters."""
    if text.isascii():
        return
    lines = [line.encode() for line in text.splitlines()]

    def characters(line: int, column: int) -> int:
        return len(lines[line - 1][:column].decode(errors="replace")) if line <= len(lines) else column

    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.stmt, ast.arg, ast.keyword)):
            node.col_offset = characters(node.lineno, node.col_offset)
            if node.end_lineno is not None and node.end_col_offset is not None:
                node.end_col_offset = characters(node.end_lineno, node.end_col_offset)


# Allow-list --------------------------------------------------------------------------------------

_ALLOWED: tuple[type[ast.AST], ...] = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.keyword, ast.Assign, ast.AugAssign, ast.For, ast.If,
    ast.Expr, ast.Return, ast.Pass, ast.Name, ast.expr_context, ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp,
    ast.BoolOp, ast.Compare, ast.Call, ast.Attribute, ast.Subscript, ast.Slice, ast.IfExp, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.ImportFrom, ast.alias,
)  # fmt: skip

_FOREIGN: dict[type[ast.AST], tuple[str, str, str]] = {
    ast.While: ("while", "`while` is not in the language", "write `for i in range(lo, hi, step):` with a known bound"),
    ast.Break: ("break", "`break` is not in the language", "put the condition in the loop's bound"),
    ast.Continue: ("break", "`continue` is not in the language", "put the rest of the body under an `if`"),
    ast.Lambda: ("closure", "`lambda` is not in the language", "write an `@inline` function at the top level"),
    ast.Import: ("import", "imports are not in the language", "delete the line; every word is already there"),
    ast.ListComp: ("comprehension", "comprehensions are not in the language", "write the loop out with `for`"),
    ast.SetComp: ("comprehension", "comprehensions are not in the language", "write the loop out with `for`"),
    ast.DictComp: ("comprehension", "comprehensions are not in the language", "write the loop out with `for`"),
    ast.GeneratorExp: ("comprehension", "comprehensions are not in the language", "write the loop out with `for`"),
    ast.AnnAssign: ("annotation", "assignments take no annotation", "write `name = value`; types are inferred"),
    ast.NamedExpr: ("walrus", "`:=` is not in the language", "write an assignment on a line of its own"),
    ast.List: ("list", "lists are not in the language", "write a tuple: `(a, b)`"),
    ast.Dict: ("list", "dictionaries are not in the language", "give each value a name of its own"),
    ast.Set: ("list", "sets are not in the language", "write a tuple: `(a, b)`"),
    ast.JoinedStr: ("string", "strings are not in the language", "delete it"),
    ast.Assert: ("assert", "`assert` is not in the language", "write `assume(...)` at the top of the kernel"),
    ast.ClassDef: ("class", "classes are not in the language", "write `@kernel`, `@inline` or `@program` functions"),
    ast.Starred: ("starred", "`*` unpacking is not in the language", "write the elements out"),
    ast.Delete: ("statement", "`del` is not in the language", "delete the line; values are immutable"),
    ast.Raise: ("statement", "`raise` is not in the language", "write `assume(...)` for what callers must satisfy"),
    ast.Try: ("statement", "`try` is not in the language", "delete it; nothing raises"),
    ast.With: ("statement", "`with` is not in the language", "delete it; level one has no scopes but loops and `if`"),
    ast.Global: ("statement", "`global` is not in the language", "pass the value as a parameter"),
    ast.Nonlocal: ("statement", "`nonlocal` is not in the language", "pass the value as a parameter"),
}
_SPELLING = {ast.NotIn: "`not in`"}


def _foreign(tree: ast.Module, level: int) -> Iterator[Fault]:
    """Every construct that is Python but not of the language. Roles of level two stand behind `with`."""
    for node in ast.walk(tree):
        problem = None if level > 1 and isinstance(node, (ast.With, ast.withitem)) else _foreign_problem(node)
        if problem is not None:
            code, message, hint = problem
            yield fault(code, message, node, hint)


def _foreign_problem(node: ast.AST) -> tuple[str, str, str] | None:
    if isinstance(node, ast.Import) and (others := _ELSEWHERE & {a.name.partition(".")[0] for a in node.names}):
        hint = f"this looks like code for {min(others)}: kernels are written in the tile language, see `problems new`"
        return "import", "imports are not in the language", hint
    if type(node) in _FOREIGN:
        return _FOREIGN[type(node)]
    if not isinstance(node, _ALLOWED) and isinstance(node, ast.stmt | ast.expr):
        name = type(node).__name__
        return "statement", f"`{name}` is not in the language", "use assignments, `for`, `if` and the language's words"
    match node:
        case ast.Slice(step=ast.expr()):
            return "slice-step", "slices take no step", "use `window(view, offset=, stride=, shape=)`"
        case ast.Constant(value=value):
            return _constant_problem(value)
        case ast.Assign(targets=targets):
            return next((p for t in targets if (p := _target_problem(t))), None)
        case ast.AugAssign(target=target):
            return _target_problem(target)
        case ast.For(orelse=orelse) if orelse:
            return "for-else", "`for` takes no `else`", "put the statements after the loop"
        case ast.FunctionDef(args=arguments) if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
            return "signature", "parameters are plain names: no `*args`, `**kwargs` or `/`", "name every parameter"
        case ast.BinOp(op=ast.MatMult()):
            return "matmul-operator", "`@` is not in the language", "write `mma(a, b)`: (m, k) x (k, n) -> (m, n)"
        case ast.Name(id=name) | ast.arg(arg=name) if not name.isascii():
            return "identifier", f"`{name}`: names use ASCII letters, digits and `_`", "rename it"
    return None


def _constant_problem(value: object) -> tuple[str, str, str] | None:
    if value is ...:
        return "ellipsis", "`...` is not in the language", "write a `:` or a position for every axis"
    if isinstance(value, (complex, bytes)):
        return "literal", f"`{value!r}` is not a literal of the language", "use integers, floats, True and False"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "literal", f"the integer {_short(value)} is too large", f"integers go up to {MAX_INTEGER}"
    if isinstance(value, float) and math.isinf(value):
        return "literal", "the number overflows", "write `inf`"
    return None


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**20 else f"of {value.bit_length()} bits"


def _target_problem(target: ast.expr) -> tuple[str, str, str] | None:
    match target:
        case ast.Subscript():
            hint = "tiles are immutable: build the new tile with `where`, or write an array with `store`"
            return "item-assignment", "an element cannot be assigned", hint
        case ast.Attribute():
            return "item-assignment", "an attribute cannot be assigned", "bind a plain name"
        case ast.Tuple(elts=elements):
            return next((p for e in elements if (p := _target_problem(e))), None)
    return None


# Top level ---------------------------------------------------------------------------------------


def _top_level(tree: ast.Module, text: str, level: int) -> tuple[Source, list[Fault]]:
    faults: list[Fault] = []
    body = [s for s in tree.body if not _is_docstring(s) and not _is_language_import(s)]
    edition = _edition(body, faults)
    if level > 1 and body and level_of(body[0]) == level:
        body.pop(0)
    source = Source(text, edition, {}, {})
    for statement in body:
        try:
            _top_statement(statement, source)
        except Fault as problem:
            faults.append(problem)
    if not faults and not any(f.role != "inline" for f in source.functions.values()):
        where = Span(1, 1, 1, 2)
        faults.append(fault("no-kernel", "the text defines no kernel", where, "write a function under `@kernel`"))
    return source, faults


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def _is_language_import(statement: ast.stmt) -> bool:
    """`from kernelagent.dsl import *` helps editors and means nothing."""
    match statement:
        case ast.ImportFrom(module="kernelagent" | "kernelagent.dsl", names=[ast.alias(name="*")], level=0):
            return True
    return False


def _edition(body: list[ast.stmt], faults: list[Fault]) -> int:
    """Take the `edition(1)` line off the front of the body."""
    match body[0] if body else None:
        case ast.Expr(value=ast.Call(func=ast.Name(id="edition"), args=[ast.Constant(value=int(number))], keywords=[])):
            if number != EDITION or isinstance(number, bool):
                faults.append(
                    fault("edition-unknown", f"edition {number} is not known", body[0], f"write `edition({EDITION})`")
                )
            body.pop(0)
            return number
    where: ast.stmt | Span = body[0] if body else Span(1, 1, 1, 2)
    if isinstance(where, ast.FunctionDef):
        where = Span(where.lineno, where.col_offset + 1, where.lineno, where.col_offset + 5)
    message = "the text does not say which edition of the language it is written in"
    faults.append(fault("edition-missing", message, where, f"begin the text with the line `edition({EDITION})`"))
    return EDITION


def level_of(statement: ast.stmt) -> int | None:
    """The number in a `level(n)` line."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="level"), args=[ast.Constant(value=int(number))], keywords=[])):
            return number
    return None


def _top_statement(statement: ast.stmt, source: Source) -> None:
    match statement:
        case ast.FunctionDef():
            _add_function(statement, source)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            _refuse_duplicate(name, statement, source)
            source.constants[name] = value
        case ast.ImportFrom():
            raise fault("import", "imports are not in the language", statement, "delete the line")
        case _:
            hint = "put it in a kernel; the top level holds `NAME = literal` and @kernel, @inline, @program functions"
            raise fault("top-level", "this statement may not stand at the top level", statement, hint)


def _add_function(node: ast.FunctionDef, source: Source) -> None:
    name_span = Span(node.lineno, node.col_offset + 5, node.lineno, node.col_offset + 5 + len(node.name))
    _refuse_duplicate(node.name, name_span, source)
    match node.decorator_list:
        case [ast.Name(id="kernel" | "inline" | "program" as role)]:
            _check_function_syntax(node)
            source.functions[node.name] = Function(role, node)
        case [other, *_]:
            hint = "write one of @kernel, @inline, @program, without arguments; policy goes into `on(...)`"
            raise fault("decorator", f"`@{ast.unparse(other)}` is not a decorator of the language", other, hint)
        case _:
            hint = "write @kernel, @inline or @program above it"
            raise fault("decorator", f"the function `{node.name}` has no decorator", name_span, hint)


def _refuse_duplicate(name: str, where: ast.AST | Span, source: Source) -> None:
    if name in source.constants or name in source.functions:
        raise fault("duplicate-name", f"`{name}` is defined twice at the top level", where, "rename one of them")


def _check_function_syntax(node: ast.FunctionDef) -> None:
    if node.returns is not None:
        raise fault("signature", "functions take no result annotation", node.returns, "delete `-> ...`")
    for statement in node.body:
        for inner in ast.walk(statement):
            if isinstance(inner, ast.FunctionDef):
                span = Span(inner.lineno, inner.col_offset + 1, inner.lineno, inner.col_offset + 4)
                raise fault("closure", "functions cannot be nested", span, "move it to the top level as `@inline`")
            if isinstance(inner, (ast.ImportFrom, ast.alias)):
                raise fault("import", "imports are not in the language", inner, "delete the line")
