"""The words of the language: one table of signatures, from which calls are checked and the guide is written."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from kernelagent.dsl.elaborate.operands import Operand, source_text
from kernelagent.dsl.syntax import fault

Group = Literal[
    "kernel", "loop", "memory", "make", "elementwise", "reduce", "shape", "matrix", "index", "program", "claims"
]  # fmt: skip
Where = Literal["expression", "statement", "loop", "header", "program"]


@dataclass(frozen=True)
class Word:
    """`signature` reads as Python's: `*` starts the keyword-only part, `= ` marks what may be left out."""

    name: str
    signature: str
    group: Group
    doc: str
    where: Where = "expression"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        arguments = ast.parse(f"def f({self.signature}): pass").body[0].args  # type: ignore[attr-defined]
        plain, defaults = arguments.args, len(arguments.defaults)
        required = [Parameter(a.arg, n < len(plain) - defaults, False) for n, a in enumerate(plain)]
        keyword = [
            Parameter(a.arg, d is None, True) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
        rest = [Parameter(arguments.vararg.arg, False, False, rest=True)] if arguments.vararg else []
        return (*required, *rest, *keyword)

    @property
    def usage(self) -> str:
        return f"{self.name}({self.signature})"


@dataclass(frozen=True)
class Parameter:
    name: str
    required: bool
    keyword_only: bool
    rest: bool = False


def _group(group: Group, where: Where, *rows: tuple[str, str, str]) -> list[Word]:
    return [Word(name, signature, group, doc, where) for name, signature, doc in rows]


_TABLE = [
    *_group(
        "loop", "loop",
        ("tiles", "extents, sizes", "the grid: independent, unordered iterations over tile starts"),
        ("pipeline", "lo, hi, step", "in order; the compiler may overlap loads with work; tuples flatten a nest"),
        ("range", "lo, hi, step", "same meaning as pipeline"),
    ),
    *_group(
        "memory", "expression",
        ("load", "view, position, shape, *, fill=None", "tile of elements position .. position + shape"),
        ("gather", "view, position, shape, *, fill=None", "load where one position is a rank-1 integer tile"),
    ),
    *_group(
        "memory", "statement",
        ("store", "view, position, value", "write a tile; each element of an Out exactly once"),
        ("scatter", "view, position, value", "store where one position is a rank-1 integer tile (assume distinct)"),
        ("atomic_add", "view, position, value", "add into an Acc; a position may be a rank-1 integer tile"),
    ),
    *_group(
        "make", "expression",
        ("zeros", "shape, dtype", "all live"),
        ("full", "shape, value, dtype", "all live"),
        ("iota", "extent", "i32 0, 1, ... extent-1"),
        ("coords", "start, extent", "i32 start + iota(extent)"),
        ("cast", "x, dtype", "the only conversion; rounds to nearest even"),
        ("fill", "x, value", "void elements become value, and live"),
        ("where", "condition, a, b", "live where all three are"),
    ),
    *_group(
        "elementwise", "expression",
        ("maximum", "a, b", "tiles, scalars or index integers"),
        ("minimum", "a, b", "tiles, scalars or index integers"),
        *((w, "x", "") for w in (
            "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "sigmoid", "abs", "floor",
            "ceil", "round",
        )),
    ),
    *_group(
        "reduce", "expression",
        *((w, "x, *, axis=None, keepdims=False", "") for w in ("sum", "max", "min", "prod", "any", "all")),
        *((w, "x, *, axis=None", "lowest position within the tile, i32") for w in ("argmax", "argmin")),
        ("scan", "x, *, axis, op", "inclusive prefix; op is sum, prod, max or min"),
    ),
    *_group(
        "matrix", "expression",
        ("mma", "a, b, *, precision=None", "(m, k) x (k, n) -> (m, n) in f32 (8-bit integers: i32)"),
    ),
    *_group(
        "shape", "expression",
        ("reshape", "x, shape", "tile or view, row major"),
        ("permute", "x, axes", "tile or view; `.T` on rank 2"),
        ("stack", "*parts", "equal tiles along a new last axis"),
        ("window", "view, *, offset, stride, shape", "position p reads offset + stride * p; void outside"),
    ),
    *_group("index", "expression", ("cdiv", "a, b", "division rounded up")),
    *_group(
        "kernel", "header",
        ("on", "target, **policy", "tunables and policy for a target (or for all, without one)"),
        ("assume", "*conditions", "what callers must satisfy"),
        ("require", "*words, **policy", "policy that must be honoured"),
    ),
    *_group("claims", "header", ("claim", "*claims", "what the compiled schedule must reach")),
    *_group("claims", "expression", ("tag", "x, dims, position", "x, its elements labelled")),
    *_group("claims", "statement", ("expect", "x, dims, position", "x comes from these coordinates")),
    *_group("kernel", "header", ("choices", "*values", "tunable the tuner moves: BM=choices(32, 64)")),
    *_group("program", "program", ("temp", "dtype, dims", "array written whole by one call, then read")),
]  # fmt: skip

WORDS: dict[str, Word] = {word.name: word for word in _TABLE}

DATA_WORDS = ("distinct", "partition")
"""Words that stand only inside `assume`."""

ROLES = ("In", "Out", "InOut", "Acc")
CLAIM_WORDS = ("bank_conflicts", "sectors", "conformity", "separation")
"""Words that stand only inside `claim`."""
RESERVED = frozenset(
    [*WORDS, *DATA_WORDS, *ROLES, "inf", "nan", "edition", "kernel", "inline", "program", "const", "True", "False"]
)
"""Names that may not be rebound (dtypes are the rest, see `dtypes.DTYPES`)."""


@dataclass
class Call:
    """A call whose arguments are matched to parameters and evaluated."""

    word: Word
    node: ast.Call
    nodes: dict[str, ast.expr]
    operands: dict[str, Operand]
    rest: tuple[Operand, ...] = ()
    rest_nodes: tuple[ast.expr, ...] = ()

    def __getitem__(self, name: str) -> Operand:
        return self.operands[name]

    def given(self, name: str) -> bool:
        return name in self.operands

    def at(self, name: str) -> ast.expr:
        return self.nodes.get(name, self.node)


def match_arguments(word: Word, node: ast.Call) -> tuple[dict[str, ast.expr], list[ast.expr]]:
    """Parameter name -> argument, and the arguments of `*rest`. Faults: arity, unknown or repeated keyword."""
    plain = [p for p in word.parameters if not p.keyword_only and not p.rest]
    takes_rest = any(p.rest for p in word.parameters)
    matched = {p.name: a for p, a in zip(plain, node.args, strict=False)}
    extra = node.args[len(plain) :]
    if extra and not takes_rest:
        raise _arity(word, node)
    for keyword in node.keywords:
        _match_keyword(word, keyword, matched)
    missing = [p.name for p in word.parameters if p.required and p.name not in matched]
    if missing:
        raise _arity(word, node, missing)
    return matched, extra


def _match_keyword(word: Word, keyword: ast.keyword, matched: dict[str, ast.expr]) -> None:
    names = [p.name for p in word.parameters if not p.rest]
    if keyword.arg is None or keyword.arg not in names:
        from kernelagent.dsl.elaborate.habits import keyword_hint

        hint = keyword_hint(word.name, keyword.arg) or f"write {word.usage}"
        raise fault("unknown-keyword", f"`{word.name}` has no keyword `{keyword.arg}`", keyword, hint)
    if keyword.arg in matched:
        raise fault("arity", f"`{keyword.arg}` is given twice", keyword, f"write {word.usage}")
    matched[keyword.arg] = keyword.value


def _arity(word: Word, node: ast.Call, missing: list[str] | None = None) -> Exception:
    from kernelagent.dsl.elaborate.habits import arity_hint

    count = len(node.args) + len(node.keywords)
    lack = f"; {', '.join(missing)} missing" if missing else ""
    hint = arity_hint(word.name, node) or f"write {word.usage}"
    message = f"`{source_text(node)}` has {count} argument{'s' * (count != 1)}, but it is {word.usage}{lack}"
    return fault("arity", message, node, hint, given=count, expected=word.usage)


Handler = Callable[..., Operand]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register the function that elaborates these words: `f(context, call) -> operand`."""

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register
