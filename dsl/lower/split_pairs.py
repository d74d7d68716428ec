"""Rows whose even and odd elements follow different formulas (rotary pairs): compute both on vectors, interleave.

A nest over c whose values depend on c // 2 and c % 2 becomes a nest over c' = c // 2 with two values per point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Condition, Extremum, FloorDiv, Index, Mod, Symbol, decide, index, substitute_condition
from kernelagent.dsl.lower.fuse_nests import map_bodies
from kernelagent.dsl.lower.reciprocals import own_indices
from kernelagent.dsl.lower.rewrite import Substitution, output_expressions


def split_pairs(
    nodes: tuple[sch.Node, ...], fresh: Callable[[], Symbol], choices: list[sch.Choice]
) -> tuple[sch.Node, ...]:
    """Rewrite the nests that store pairs."""
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: split_pairs(body, fresh, choices))
        if isinstance(node, sch.Nest) and _stores_pairs(node):
            choices.append(sch.Choice("even and odd elements", "computed apart", "rows of pairs", node.origin))
            node = _split(node, fresh())
        result.append(node)
    return tuple(result)


def _stores_pairs(nest: sch.Nest) -> bool:
    if len(nest.outputs) != 1 or not nest.axes or nest.axes[-1].extent % 2:
        return False
    output, axis = nest.outputs[0], nest.axes[-1]
    if not isinstance(output, sch.WriteArray) or output.add or output.value.dtype != "f32":
        return False
    if axis.lo.constant != 0 or not is_even(axis.hi):
        return False
    last = output.coordinates[-1]
    straight = isinstance(last, Index) and (affine := last.affine(axis.symbol)) is not None and affine[0].constant == 1
    indices = [i for e in output_expressions(output) for i in own_indices(e)]
    return straight and any(_halves(i, axis.symbol) for i in indices)


def _halves(value: Index, symbol: Symbol) -> bool:
    return any(
        isinstance(a, FloorDiv | Mod) and a.b.constant == 2 and a.a == index(symbol) for m, _ in value.terms for a in m
    )


def is_even(value: Index) -> bool:
    """Whether an index is known to be a multiple of 2."""
    for monomial, coefficient in value.terms:
        if coefficient % 2 == 0:
            continue
        atom = monomial[0] if len(monomial) == 1 else None
        if not (isinstance(atom, Extremum) and is_even(atom.a) and is_even(atom.b)):
            return False
    return True


def _split(nest: sch.Nest, symbol: Symbol) -> sch.Nest:
    output, axis = nest.outputs[0], nest.axes[-1]
    assert isinstance(output, sch.WriteArray)
    half = sch.Axis(symbol, axis.extent // 2, index(0), axis.hi // 2)
    even, odd = (_Folding({axis.symbol.name: index(symbol) * 2 + parity}) for parity in (0, 1))
    values = even.expression(output.value), odd.expression(output.value)
    pair = sch.WritePairs(output.array, tuple(_plain(even.coordinates(output.coordinates))), values)
    return replace(nest, axes=(*nest.axes[:-1], half), outputs=(pair,))


def _plain(coordinates: tuple[Index | sch.Expression, ...]) -> list[Index]:
    return [c for c in coordinates if isinstance(c, Index)]


class _Folding(Substitution):
    """Substitutes positions and decides the choices that became constant."""

    def _apply(self, expression: sch.Expression) -> sch.Expression:
        if isinstance(expression, sch.Apply) and expression.word == "where":
            condition = expression.arguments[0]
            known = self._decided(condition.condition) if isinstance(condition, sch.Truth) else None
            if known is not None:
                return self.expression(expression.arguments[1 if known else 2])
        return super()._apply(expression)

    def _decided(self, condition: Condition) -> bool | None:
        return decide(substitute_condition(condition, self.symbols))
