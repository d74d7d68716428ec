"""What values index data may take: enough to say when a gather or a scatter is unproved."""

from __future__ import annotations

import ast

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.index import Index, index

Range = tuple[Index, Index]
"""lo <= every live element < hi."""


def value_range(k: Context, value: ir.Value, depth: int = 8) -> Range | None:
    """Bounds of an integer tile's live elements, where they follow from `assume` and simple arithmetic."""
    operation = k.definitions.get(value.number)
    if operation is None or depth == 0:
        return None
    match operation:
        case ir.Load(view, _, fill) if view.array in k.facts.ranges:
            lo, hi = k.facts.ranges[view.array]
            if not isinstance(fill, int):
                return (lo, hi) if fill is None else None
            return k.facts.minimum(lo, index(fill)), k.facts.maximum(hi, index(fill + 1))
        case ir.Iota(start):
            extent = value.type.shape[0]
            return start, start + extent if value.type.live[0].hi == extent else start + value.type.live[0].hi
        case ir.FromIndex(at):
            return at, at + 1
        case ir.Full(number) if isinstance(number, int):
            return index(number), index(number + 1)
        case ir.Cast(x) | ir.Broadcast(x) | ir.ExpandDims(x, _) | ir.Reshape(x) | ir.Permute(x, _) | ir.Take(x, _):
            return value_range(k, x, depth - 1)
        case ir.Binary(word, a, b):
            return _binary_range(k, word, a, b, depth)
        case ir.Where(_, a, b):
            return _joined(k, value_range(k, a, depth - 1), value_range(k, b, depth - 1))
    return None


def _joined(k: Context, a: Range | None, b: Range | None) -> Range | None:
    if a is None or b is None:
        return None
    return k.facts.minimum(a[0], b[0]), k.facts.maximum(a[1], b[1])


def _binary_range(k: Context, word: str, a: ir.Value, b: ir.Value, depth: int) -> Range | None:
    x, y = value_range(k, a, depth - 1), value_range(k, b, depth - 1)
    if word == "mod" and y is not None and y[1] == y[0] + 1 and k.facts.nonnegative(y[0] - 1):
        return index(0), y[0]
    if x is None or y is None:
        return None
    match word:
        case "add":
            return x[0] + y[0], x[1] + y[1] - 1
        case "sub":
            return x[0] - y[1] + 1, x[1] - y[0]
        case "maximum" | "minimum" if (kept := _idle(k, word, x, y) or _idle(k, word, y, x)) is not None:
            return kept
        case "minimum":
            return k.facts.minimum(x[0], y[0]), k.facts.minimum(x[1], y[1])
        case "maximum":
            return k.facts.maximum(x[0], y[0]), k.facts.maximum(x[1], y[1])
        case "mul" if y[1] == y[0] + 1 and k.facts.nonnegative(y[0]):
            return x[0] * y[0], (x[1] - 1) * y[0] + 1
        case "floordiv" if y[1] == y[0] + 1 and k.facts.nonnegative(y[0] - 1):
            return x[0] // y[0], (x[1] - 1) // y[0] + 1
    return None


def _idle(k: Context, word: str, x: Range, limit: Range) -> Range | None:
    """x where the limit changes none of its elements."""
    idle = k.facts.less_equal(limit[1] - 1, x[0]) if word == "maximum" else k.facts.less_equal(x[1] - 1, limit[0])
    return x if idle else None


def source_arrays(k: Context, value: ir.Value, depth: int = 8) -> set[str]:
    """The arrays that an index tile was loaded from."""
    operation = k.definitions.get(value.number)
    if depth == 0 or operation is None:
        return set()
    if isinstance(operation, ir.Load | ir.Gather):
        return {operation.view.array}
    operands = [x for x in vars(operation).values() if isinstance(x, ir.Value)]
    return set().union(*(source_arrays(k, x, depth - 1) for x in operands)) if operands else set()


def check_gathered(k: Context, view: ir.View, axis: int, indices: ir.Value, node: ast.expr) -> None:
    """Warn when nothing says that the indices lie inside the view."""
    found, length = value_range(k, indices), view.axes[axis].length
    if found and k.facts.nonnegative(found[0]) and k.facts.less_equal(found[1], length):
        return
    arrays = sorted(source_arrays(k, indices))
    name = arrays[0] if arrays else indices.name or "idx"
    assumed = k.facts.ranges.get(name)
    if found is not None and assumed is not None:
        where = ast.unparse(node.elts[axis] if isinstance(node, ast.Tuple) and axis < len(node.elts) else node)
        message, hint = _beyond(name, where, found, assumed, length)
        k.warn("index-unproved", message, node, hint)
        return
    hint = f"write `assume(0 <= {name} < {length})`" + (", or `fill=0`" if view else "")
    k.warn("index-unproved", f"`{name}` may hold positions outside 0 ... {length} - 1", node, hint)


def _beyond(name: str, where: str, found: Range, assumed: Range, length: Index) -> tuple[str, str]:
    """Message and hint where what is assumed of an array's data is not enough for a position computed from it."""
    low, high = (0 if n is None else n for n in (found[0].constant, (found[1] - length).constant))
    positions = f"positions are 0 ... {length} - 1"
    reaches = f"reach {found[1] - 1}" if high > 0 or low >= 0 else f"be {found[0]}"
    hint = f"assume less of `{name}`, or write `fill=0`"
    if (low < 0 or high > 0) and found[1] - found[0] == assumed[1] - assumed[0]:  # moved as a whole
        lo, hi = assumed[0] - min(low, 0), assumed[1] - max(high, 0)
        hint = f"write `assume({lo} <= {name} < {hi})`, or `fill=0`"
    return f"`{where}` may {reaches}: {positions}", hint


def distinct_indices(k: Context, value: ir.Value, depth: int = 8) -> bool:
    """Whether the live elements of an index tile are known to differ."""
    operation = k.definitions.get(value.number)
    match operation:
        case ir.Iota():
            return True
        case ir.Load(view, _, None):
            return view.array in k.facts.distinct
        case ir.Cast(x) | ir.Reshape(x) if depth:
            return distinct_indices(k, x, depth - 1)
        case ir.Binary("add" | "sub", a, b) if depth:
            return (distinct_indices(k, a, depth - 1) and _uniform(k, b)) or (
                distinct_indices(k, b, depth - 1) and _uniform(k, a)
            )
    return False


def _uniform(k: Context, value: ir.Value) -> bool:
    operation = k.definitions.get(value.number)
    return isinstance(operation, ir.Broadcast) and operation.x.type.rank == 0
