"""Drop bounds of fetches that the nest's own range already guarantees: fill= costs nothing where nothing is void."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Extremum, Index
from kernelagent.dsl.lower.build import is_natural
from kernelagent.dsl.lower.fuse_nests import map_bodies
from kernelagent.dsl.lower.rewrite import Substitution, map_output


def drop_checks(nodes: tuple[sch.Node, ...], natural: Set[str]) -> tuple[sch.Node, ...]:
    """`natural` names the loop variables that are never negative."""
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: drop_checks(body, natural))
        if isinstance(node, sch.Nest):
            rewriting = _Unchecked(node.axes, natural)
            node = replace(node, outputs=tuple(map_output(o, rewriting) for o in node.outputs))
        result.append(node)
    return tuple(result)


class _Unchecked(Substitution):
    def __init__(self, axes: tuple[sch.Axis, ...], natural: Set[str]) -> None:
        super().__init__({})
        self.axes = axes
        self.natural = natural

    def _apply(self, expression: sch.Expression) -> sch.Expression:
        changed = super()._apply(expression)
        if isinstance(changed, sch.Fetch) and changed.inside:
            kept = tuple(b for b in changed.inside if not holds(b, self.axes, self.natural))
            return replace(changed, inside=kept)
        return changed


def holds(bound: sch.Bound, axes: tuple[sch.Axis, ...], natural: Set[str]) -> bool:
    """Whether lo <= index < hi at every point of the axes, as far as sums of sizes show."""
    low, high = bound.index, bound.index
    for axis in axes:
        affine = high.affine(axis.symbol)
        factor = affine[0].constant if affine else None
        if factor is None or factor < 0:
            return False
        if factor:
            low = low.substitute({axis.symbol.name: axis.lo})
            high = high.substitute({axis.symbol.name: axis.hi - 1})
    above = is_natural(low - bound.lo, natural)
    return above and any(is_natural(bound.hi - 1 - top, natural) for top in upper_bounds(high))


def upper_bounds(value: Index) -> Iterator[Index]:
    """`value`, and what it becomes when a minimum with a positive factor is replaced by one of its arms."""
    yield value
    for monomial, coefficient in value.terms:
        for atom in monomial:
            if isinstance(atom, Extremum) and atom.which == "min" and monomial == (atom,) and coefficient > 0:
                rest = value - Index(((monomial, coefficient),))
                for arm in (atom.a, atom.b):
                    yield from upper_bounds(rest + arm * coefficient)
