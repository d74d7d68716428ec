"""Which line to look at when a kernel's term is not the reference's: where the first strange part of it was made.

A part is strange when the reference's term has no such part. Parts are told apart by their keys; where they were made
is found by what they are made of, since names of positions change on the way to the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from kernelagent.dsl import ir
from kernelagent.dsl.index import Element as IndexElement
from kernelagent.dsl.verify.semantics.constants import literal
from kernelagent.dsl.verify.semantics.kernel import Made
from kernelagent.dsl.verify.semantics.terms import (
    Atom,
    Bracket,
    Call,
    Element,
    Extremum,
    Group,
    Mono,
    Parameter,
    Poly,
    Reduction,
    Whole,
)

Mark: TypeAlias = tuple[str, frozenset[str]]
"""What an atom is (a word, or the name of an array), and the arrays and scalars in it."""


def parts(p: Poly) -> Iterator[Atom]:
    """Every atom of a term, inner ones first."""
    for mono, _ in p.terms:
        yield from _of_mono(mono)


def _of_mono(mono: Mono) -> Iterator[Atom]:
    if mono.exponent is not None:
        yield from parts(mono.exponent)
    for factor, _ in mono.factors:
        for inner in _inner(factor):
            yield from parts(inner)
        yield factor


def _inner(a: Atom) -> Sequence[Poly]:
    match a:
        case Call(_, args) | Extremum(_, args):
            return args
        case Group(base):
            return (base,)
        case Reduction(_, _, body):
            return (body,)
        case Bracket(_, subject) if isinstance(subject, Poly):
            return (subject,)
    return ()


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
    leaves = [leaf for p in _inner(a) for leaf in parts(p)]
    return kind, frozenset(n for leaf in leaves if isinstance(leaf, Element | Parameter) for n in mark(leaf)[1])


def strange(found: Poly, expected: Poly) -> list[Atom]:
    """Atoms of `found` that `expected` has not, inner ones first."""
    known = {a.key for a in parts(expected)}
    result: dict[str, Atom] = {}
    for a in parts(found):
        if a.key not in known:
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
    for atom in strange(found, expected):
        if mark(atom) in made and not isinstance(atom, Whole):
            return made[mark(atom)]
    return None


def strange_literal(kernel: ir.Kernel, expected: set[str]) -> int | None:
    """A literal of the text that the reference has not, nor its negative, and that is no 0, 1, 2 or infinity."""
    for let in lets(kernel.body):
        if isinstance(let.operation, ir.Full) and isinstance(let.operation.value, float):
            term = literal(let.operation.value)
            plain = term.constant is not None and abs(term.constant) in (0, 1, 2)
            if not plain and term.key not in expected and (-term).key not in expected and "inf" not in term.text():
                return let.value.origin.span.line
    return None


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
