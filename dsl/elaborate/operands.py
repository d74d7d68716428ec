"""What an expression of the language can mean while it is elaborated.

Index integers, conditions on them and literals are known to the compiler and cost nothing at run time; a `Value` is
computed by the kernel. Rank-0 values come from runtime scalars, float elements and whole reductions.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.index import AllOf, AnyOf, Compare, Condition, Index, Negation


@dataclass(frozen=True)
class Number:
    """A float literal; it takes the dtype of what it meets."""

    value: float


@dataclass(frozen=True)
class DTypeName:
    """A dtype or a dtype variable, as in `cast(x, T)`."""

    name: str


@dataclass(frozen=True)
class Word:
    """A word of the language used as a value (`op=sum`)."""

    name: str


@dataclass(frozen=True)
class Runtime:
    """A runtime scalar; each use reads it anew, so that every use is dominated by its definition."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Absent:
    """`None`, or an optional array that the caller left out."""

    name: str


@dataclass(frozen=True)
class Poison:
    """The result of something that was already reported."""


Operand: TypeAlias = (
    Index | Number | Compare | AllOf | AnyOf | Negation | ir.Value | ir.View | DTypeName | Word | Runtime | Absent
    | Poison | tuple["Operand", ...]
)  # fmt: skip
"""Integer literals are constant indices; True and False are constant conditions; tuples nest."""

CONDITIONS = (Compare, AllOf, AnyOf, Negation)


@dataclass(frozen=True)
class Bound:
    """A name in scope. `kind` says what it is in messages and whether it may be rebound (only "local")."""

    operand: Operand
    kind: str
    span: Span
    loop: int = 0  # how many loops are around the binding


@dataclass(frozen=True)
class Ended:
    """A name that exists no more: its loop or its `if` is over."""

    reason: str
    span: Span
    hint: str
    code: Literal["ended-with-loop", "ended-with-if"]


def is_condition(operand: Operand) -> bool:
    return isinstance(operand, CONDITIONS)


def as_condition(operand: Operand) -> Condition | None:
    return operand if isinstance(operand, CONDITIONS) else None


def shape_text(shape: tuple[Index, ...]) -> str:
    """`(BM, BN)`, as authors write it."""
    inner = ", ".join(map(str, shape))
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def type_text(type_: ir.TileType) -> str:
    """`f32(BM, BN)`; plain `f32` for rank 0."""
    return type_.dtype if not type_.shape else type_.dtype + shape_text(type_.shape)


def view_text(view: ir.View) -> str:
    return view.dtype + shape_text(tuple(a.length for a in view.axes))


def describe(operand: Operand) -> str:
    """What an operand is, for messages."""
    match operand:
        case ir.Value(type=type_):
            return f"the tile {type_text(type_)}" if type_.shape else f"the scalar {type_text(type_)}"
        case ir.View():
            return f"the array view {view_text(operand)}"
        case Index():
            return f"the index integer {operand}"
        case Number(value):
            return f"the literal {value!r}"
        case DTypeName(name):
            return f"the dtype {name}"
        case Word(name):
            return f"the word `{name}`"
        case Runtime(name, dtype):
            return f"the runtime scalar `{name}` ({dtype})"
        case Absent(name):
            return f"the absent array `{name}`" if name != "None" else "None"
        case tuple():
            return f"a tuple of {len(operand)}"
        case Poison():
            return "a value in error"
        case _:
            return f"the condition {operand}"


def source_text(node: ast.AST, limit: int = 48) -> str:
    """The expression as text, shortened for messages."""
    text = ast.unparse(node)
    return text if len(text) <= limit else text[: limit - 3] + "..."
