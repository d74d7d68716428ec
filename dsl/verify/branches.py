"""Branches on sizes alone: a call takes one arm everywhere, so what holds of each arm by itself holds of the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from kernelagent.dsl import ir
from kernelagent.dsl.index import Compare, Condition, Element, Negation, Relation, condition_indices

MOST = 3
"""Conditions that are told apart: 8 kernels."""
_OPPOSITE: Mapping[Relation, Relation] = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
Truths = Mapping[Condition, bool]


def by_sizes(kernel: ir.Kernel) -> list[ir.Kernel]:
    """The kernel once for each truth of its conditions on sizes: with the arms that are taken, under the assumption
    that they are. Just the kernel where there is no such condition, or too many."""
    conditions = list(dict.fromkeys(_conditions(kernel.body)))
    if not 0 < len(conditions) <= MOST:
        return [kernel]
    chosen = (dict(zip(conditions, truths, strict=True)) for truths in product((True, False), repeat=len(conditions)))
    return [_taken(kernel, truths) for truths in chosen]


def _conditions(body: Sequence[ir.Statement]) -> Iterator[Condition]:
    for s in body:
        match s:
            case ir.For():
                yield from _conditions(s.body)
            case ir.If(condition=condition):
                if not isinstance(condition, ir.Value) and _of_sizes(condition):
                    yield condition
                yield from _conditions((*s.then, *s.otherwise))


def _of_sizes(condition: Condition) -> bool:
    values = list(condition_indices(condition))
    data = any(isinstance(a, Element) for v in values for a in v.atoms())
    return not data and all(s.kind in ("dim", "param", "tunable", "const") for v in values for s in v.symbols())


def _taken(kernel: ir.Kernel, truths: Truths) -> ir.Kernel:
    known = (condition if truth else _opposite(condition) for condition, truth in truths.items())
    assumed = tuple(ir.Assume(condition, None, str(condition), kernel.span) for condition in known)
    return replace(kernel, body=_body(kernel.body, truths), assumes=(*kernel.assumes, *assumed))


def _opposite(condition: Condition) -> Condition:
    match condition:
        case Compare(relation, a, b):
            return Compare(_OPPOSITE[relation], a, b)
    return Negation(condition)


def _body(body: Sequence[ir.Statement], truths: Truths) -> tuple[ir.Statement, ...]:
    found: list[ir.Statement] = []
    for s in body:
        match s:
            case ir.For():
                found.append(replace(s, body=_body(s.body, truths)))
            case ir.If(condition=condition) if not isinstance(condition, ir.Value) and condition in truths:
                found += _arm(s, truths[condition], truths)
            case ir.If():
                found.append(replace(s, then=_body(s.then, truths), otherwise=_body(s.otherwise, truths)))
            case _:
                found.append(s)
    return tuple(found)


def _arm(branch: ir.If, truth: bool, truths: Truths) -> Iterator[ir.Statement]:
    """The arm's statements, and the names that both arms bind."""
    yield from _body(branch.then if truth else branch.otherwise, truths)
    for merged in branch.merged:
        yield ir.Let(merged.result, ir.Broadcast(merged.then if truth else merged.otherwise))


__all__ = ["by_sizes"]
