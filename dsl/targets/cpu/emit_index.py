"""Index integers and conditions as C expressions on `long`."""

from __future__ import annotations

from collections.abc import Sequence

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


def symbol_name(symbol: Symbol) -> str:
    """C name of a symbol: loop and nest positions, dims, strides and integer parameters have own prefixes."""
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in symbol.name)
    prefix = {"position": "x", "loop": "v_", "dim": "d_"}.get(symbol.kind, "p_")
    return prefix + text


def array_name(array: str) -> str:
    return f"a_{array}"


def stride_name(array: str, axis: int) -> str:
    return symbol_name(Symbol(f"{array}.stride{axis}", "param"))


def index_text(value: Index) -> str:
    """A parenthesised C expression unless it is a name or a literal."""
    if value.constant is not None:
        return f"{value.constant}L" if value.constant >= 0 else f"({value.constant}L)"
    parts = [_term(monomial, coefficient) for monomial, coefficient in value.terms]
    text = parts[0] + "".join(f" - {p[1:]}" if p.startswith("-") else f" + {p}" for p in parts[1:])
    return text if text.isidentifier() else f"({text})"


def _term(monomial: Monomial, coefficient: int) -> str:
    factors = [_atom(atom) for atom in monomial]
    if not factors:
        return f"{coefficient}L"
    if coefficient in (1, -1):
        return ("-" if coefficient < 0 else "") + " * ".join(factors)
    return " * ".join([f"{coefficient}L", *factors])


def _atom(atom: Atom) -> str:
    match atom:
        case Symbol():
            return symbol_name(atom)
        case Element(array, at):
            return f"(long){array_name(array)}[{index_text(element_offset(array, at))}]"
        case FloorDiv(a, b):
            return f"ka_floordiv({index_text(a)}, {index_text(b)})"
        case Mod(a, b):
            return f"ka_mod({index_text(a)}, {index_text(b)})"
        case Extremum(which, a, b):
            return f"ka_{which}({index_text(a)}, {index_text(b)})"
        case Select(condition, then, otherwise):
            return f"({condition_text(condition)} ? {index_text(then)} : {index_text(otherwise)})"


def element_offset(array: str, at: Sequence[Index]) -> Index:
    total = index(0)
    for axis, coordinate in enumerate(at):
        total = total + coordinate * index(Symbol(f"{array}.stride{axis}", "param"))
    return total


def condition_text(condition: Condition) -> str:
    match condition:
        case Compare(relation, a, b):
            return f"({index_text(a)} {relation} {index_text(b)})"
        case Negation(part):
            return f"(!{condition_text(part)})"
        case AllOf(parts):
            return "(" + (" && ".join(condition_text(p) for p in parts) or "1") + ")"
        case AnyOf(parts):
            return "(" + (" || ".join(condition_text(p) for p in parts) or "0") + ")"
