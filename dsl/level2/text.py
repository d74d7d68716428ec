"""Index integers, conditions, numbers and views as text that parses back to the same records."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.views import permuted, whole
from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Atom,
    Compare,
    Condition,
    Element,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Monomial,
    Negation,
    Select,
    Symbol,
    index,
)
from kernelagent.dsl.lanes import Distribution, Mode


def tuple_text(parts: Iterable[str]) -> str:
    """`(a, b)`, `(a,)`, `()`."""
    items = list(parts)
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def number_text(value: float | int | bool) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)


# Index integers --------------------------------------------------------------------------------------


def index_text(value: Index) -> str:
    text = ""
    for monomial, coefficient in value.terms:
        negative, term = _term(monomial, coefficient, first=not text)
        text += (" - " if negative else " + ") + term if text else ("-" if negative else "") + term
    return text or "0"


def _term(monomial: Monomial, coefficient: int, first: bool) -> tuple[bool, str]:
    """Whether the term is subtracted, and its text without the sign."""
    negative, count = coefficient < 0, abs(coefficient)
    if not monomial:
        return negative, str(count)
    match monomial:
        case (FloorDiv(a, b),) if all(c < 0 for _, c in a.terms) and a.terms:
            negative, factors = not negative, [f"cdiv({index_text(-a)}, {index_text(b)})"]  # -((-a) // b)
        case (atom,) if count == 1 and not (first and negative):
            factors = [_atom(atom)]
        case _:
            factors = [_factor(a) for a in monomial]
    return negative, " * ".join([str(count)] * (count != 1) + factors)


def _factor(atom: Atom) -> str:
    return f"({_atom(atom)})" if isinstance(atom, (FloorDiv, Mod)) else _atom(atom)


def _atom(atom: Atom) -> str:
    match atom:
        case Symbol(name, "position"):
            return f"axis({name.removeprefix('@')})"
        case Symbol(name, _):
            return name
        case Element(array, coordinates):
            return f"{array}[{', '.join(map(index_text, coordinates))}]"
        case FloorDiv(a, b):
            return f"{_operand(a)} // {_operand(b)}"
        case Mod(a, b):
            return f"{_operand(a)} % {_operand(b)}"
        case Extremum(which, a, b):
            return f"{which}imum({index_text(a)}, {index_text(b)})"
        case Select(condition, then, otherwise):
            return f"({index_text(then)} if {condition_text(condition)} else {index_text(otherwise)})"


def _operand(value: Index) -> str:
    match value.terms:
        case (((atom,), 1),):
            return _factor(atom)
        case (((), coefficient),) if coefficient >= 0:
            return str(coefficient)
        case ():
            return "0"
    return f"({index_text(value)})"


def indices_text(values: Iterable[Index]) -> str:
    return tuple_text(map(index_text, values))


# Conditions ------------------------------------------------------------------------------------------


def condition_text(condition: Condition) -> str:
    match condition:
        case Compare(relation, a, b):
            return f"{index_text(a)} {relation} {index_text(b)}"
        case Negation(part):
            return f"not ({condition_text(part)})"
        case AllOf(parts) | AnyOf(parts):
            if not parts:
                return "True" if isinstance(condition, AllOf) else "False"
            word = " and " if isinstance(condition, AllOf) else " or "
            return word.join(_part(p) for p in parts)


def _part(condition: Condition) -> str:
    plain = isinstance(condition, Compare) or (isinstance(condition, (AllOf, AnyOf)) and not condition.parts)
    return condition_text(condition) if plain else f"({condition_text(condition)})"


# Views -----------------------------------------------------------------------------------------------


def view_text(view: ir.View, array: ir.Array) -> str:
    """The shortest form that means the same: the array, rows of it, a transposition, else everything in full."""
    plain = whole(array)
    for source, text in ((plain, array.name), *_rows(view, plain)):
        if source == view:
            return text
        if len(source.axes) == 2 and permuted(source, (1, 0)) == view:
            return f"{text}.T"
    return _full(view)


def _rows(view: ir.View, plain: ir.View) -> list[tuple[ir.View, str]]:
    """`x[b, h]` with the view's own leading coordinates."""
    count = len(plain.axes) - len(view.axes)
    fixed = view.coordinates[: max(count, 0)]
    if count <= 0 or any(s.kind == "position" for c in fixed for s in c.symbols()):
        return []
    return [(leading_rows(plain, fixed), f"{view.array}[{', '.join(map(index_text, fixed))}]")]


def leading_rows(view: ir.View, fixed: tuple[Index, ...]) -> ir.View:
    """The view at these positions along its first axes."""
    count = len(fixed)
    table = {ir.position(d).name: i for d, i in enumerate(fixed)}
    table |= {ir.position(d).name: index(ir.position(d - count)) for d in range(count, len(view.axes))}
    return ir.View(view.array, view.dtype, view.axes[count:], tuple(c.substitute(table) for c in view.coordinates))


def _full(view: ir.View) -> str:
    shape = indices_text(a.length for a in view.axes)
    text = f"view({view.array}, {shape}, at={indices_text(view.coordinates)}"
    if any(a.lo != index(0) or a.hi != a.length for a in view.axes):
        inside = tuple_text(f"({index_text(a.lo)}, {index_text(a.hi)})" for a in view.axes)
        text += f", inside={inside}"
    return text + ")"


# Distributions ---------------------------------------------------------------------------------------


def modes_text(modes: tuple[Mode, ...]) -> str:
    return tuple_text(map(str, modes))


def distribution_text(d: Distribution) -> str:
    shape = tuple_text(map(str, d.shape))
    return f"distribution({shape}, lanes={modes_text(d.lanes)}, values={modes_text(d.values)})"
