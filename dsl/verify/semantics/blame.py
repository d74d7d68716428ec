"""Which line to look at when a kernel's term is not the reference's: where the first strange part of it was made.

A part is strange when the reference's term has no such part. Parts are told apart by their keys; where they were made
is found by what they are made of, since names of positions change on the way to the store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from kernelagent.dsl import ir
from kernelagent.dsl.index import Element as IndexElement
from kernelagent.dsl.verify.semantics.constants import UNREACHED, literal
from kernelagent.dsl.verify.semantics.kernel import Made
from kernelagent.dsl.verify.semantics.terms import (
    Atom,
    Bracket,
    Call,
    Element,
    Extremum,
    Parameter,
    Poly,
    Reduction,
    Whole,
    parts,
)

Mark: TypeAlias = tuple[str, frozenset[str]]
"""What an atom is (a word, or the name of an array), and the arrays and scalars in it."""


def mark(a: Atom) -> Mark:
    match a:
        case Element(array, _):
            return array, frozenset((array,))
        case Parameter(name):
            return name, frozenset((name,))
        case Whole(inner):
            return "size", frozenset((inner.array,) if isinstance(inner, IndexElement) else ())
        case Call(word, _) | Extremum(word, _) | Reduction(word, _, _):
            kind = word if isinstance(a, Call) else f"{type(a).__name__} {word}"
        case Bracket(relation, _):
            kind = f"[{relation}]"
        case _:
            kind = type(a).__name__
    leaves = [leaf for p in a.inner for leaf in parts(p)]
    return kind, frozenset(n for leaf in leaves if isinstance(leaf, Element | Parameter) for n in mark(leaf)[1])


def strange(found: Poly, expected: Poly) -> list[Atom]:
    """Atoms of `found` that `expected` has not, inner ones first. Parts with a bound name mean nothing alone."""
    known = {a.key for a in parts(expected)}
    result: dict[str, Atom] = {}
    for a in parts(found):
        if a.key not in known and not any(name.startswith("#") for name in a.free):
            result.setdefault(a.key, a)
    return list(result.values())


def made_at(history: Iterable[Made]) -> dict[Mark, int]:
    """The first line that made an atom of each mark."""
    lines: dict[Mark, int] = {}
    for made in history:
        for a in parts(made.term):
            found = mark(a)
            lines[found] = min(lines.get(found, made.line), made.line)
    return lines


def line_of(found: Poly, expected: Poly, history: Iterable[Made]) -> int | None:
    """The line to look at, None when nothing points to one. `history`: lines with the terms that they made."""
    made = made_at(history)
    candidates = [a for a in strange(found, expected) if mark(a) in made and not isinstance(a, Whole)]
    inside = {p.key for a in candidates if _stabilises(a) for body in a.inner for p in parts(body)}
    telling = [a for a in candidates if not _stabilises(a) and a.key not in inside] or candidates
    return made[mark(telling[0])] if telling else None


def _stabilises(a: Atom) -> bool:
    """A maximum that is left over: what was to cancel it is more likely wrong than it."""
    return isinstance(a, Reduction | Extremum) and a.word == "max"


def strange_literal(kernel: ir.Kernel, expected: set[str]) -> int | None:
    """A literal of the text that the reference has not, nor its negative, and that is no 0, 1, 2 or infinity."""
    for let in lets(kernel.body):
        if isinstance(let.operation, ir.Full) and isinstance(let.operation.value, float):
            term = literal(let.operation.value)
            plain = term.constant is not None and abs(term.constant) in (0, 1, 2)
            if not plain and term.key not in expected and (-term).key not in expected and "inf" not in term.text():
                return let.value.origin.span.line
    return None


def unreached(kernel: ir.Kernel) -> Iterator[int]:
    """Lines of literals so large that they are read as infinity."""
    for let in lets(kernel.body):
        match let.operation:
            case (
                ir.Full(float(value))
                | ir.Fill(_, float(value))
                | ir.Load(fill=float(value))
                | ir.Gather(fill=float(value))
            ):
                if UNREACHED <= abs(value) < math.inf:
                    yield let.value.origin.span.line


def lets(body: Sequence[ir.Statement]) -> Iterator[ir.Let]:
    """Every value of a kernel, in text order."""
    for statement in body:
        match statement:
            case ir.Let():
                yield statement
            case ir.For():
                yield from lets(statement.body)
            case ir.If():
                yield from lets(statement.then)
                yield from lets(statement.otherwise)
