"""Divide by a value of the row once: x / s becomes x * (1 / s) where s does not vary along the vector axis.

The result is within 1.5 units of the last place instead of 0.5, as the error of a math word may be; a divisor below
the smallest normal number counts as zero.
"""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Condition, Index, Symbol, condition_indices
from kernelagent.dsl.lower.fuse_nests import map_bodies
from kernelagent.dsl.lower.rewrite import Substitution, map_output, walk_expression


def use_reciprocals(nodes: tuple[sch.Node, ...], choices: list[sch.Choice]) -> tuple[sch.Node, ...]:
    """Rewrite the float divisions of every nest."""
    return tuple(_in_node(node, choices) for node in nodes)


def _in_node(node: sch.Node, choices: list[sch.Choice]) -> sch.Node:
    node = map_bodies(node, lambda body: use_reciprocals(body, choices))
    if not isinstance(node, sch.Nest):
        return node
    long = [axis for axis in node.axes if axis.extent > 1]
    if not long:
        return node
    rewriting = Reciprocals(long[-1].symbol)
    outputs = tuple(map_output(o, rewriting) for o in node.outputs)
    if not rewriting.found:
        return node
    choices.append(sch.Choice("division by a row's value", "one reciprocal", "within 1.5 ulp", node.origin))
    return replace(node, outputs=outputs)


class Reciprocals(Substitution):
    """Replaces f32 divisions by values that do not vary with `symbol`."""

    def __init__(self, symbol: Symbol) -> None:
        super().__init__({})
        self.symbol = symbol
        self.found = False

    def _apply(self, expression: sch.Expression) -> sch.Expression:
        changed = super()._apply(expression)
        if not (isinstance(changed, sch.Apply) and changed.word == "div" and changed.dtype == "f32"):
            return changed
        a, b = changed.arguments
        if not varies(a, self.symbol) or varies(b, self.symbol):
            return changed
        self.found = True
        reciprocal = sch.Apply("div", (sch.Constant(1.0, "f32"), b), "f32")
        return sch.Apply("mul", (a, reciprocal), "f32")


def varies(expression: sch.Expression, symbol: Symbol) -> bool:
    """Whether an element depends on a nest position."""
    return any(symbol in index.symbols() for e in walk_expression(expression) for index in own_indices(e))


def own_indices(expression: sch.Expression) -> tuple[Index, ...]:
    """Index integers of this node, not of its arguments."""
    match expression:
        case sch.Position(index):
            return (index,)
        case sch.Truth(condition):
            return _indices_of(condition)
        case sch.Read(coordinates=coordinates):
            return coordinates
        case sch.Fetch(coordinates=coordinates, inside=inside):
            plain = tuple(c for c in coordinates if isinstance(c, Index))
            return (*plain, *(b.index for b in inside))
        case _:
            return ()


def _indices_of(condition: Condition) -> tuple[Index, ...]:
    return tuple(condition_indices(condition))
