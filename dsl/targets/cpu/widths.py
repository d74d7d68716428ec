"""Indices of a kernel on the CPU: all are computed in 64 bits, from the kernel's own expressions.

What the lowered loops compute are sums and differences of a few of these, so they keep a factor of two in hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import DTYPES, bits, is_integer
from kernelagent.dsl.index import Index, children, condition_indices
from kernelagent.dsl.intervals import Loop
from kernelagent.dsl.widths import Computed, Limits, Signature

BITS = 63
"""Of the 64: the last is for sums and differences."""


def limits(kernel: ir.Kernel) -> Limits:
    """What a call has to be looked at for."""
    return Limits.of(signature_of(kernel), tuple(computed(kernel)))


def signature_of(kernel: ir.Kernel) -> Signature:
    return Signature(
        kernel.name, kernel.arrays, kernel.dims, kernel.scalars, kernel.assumes, kernel.span, known_bits=32
    )


def computed(kernel: ir.Kernel) -> Iterator[Computed]:
    """Every index of a concrete kernel, and the dims of its arrays."""
    for array in kernel.arrays:
        for dim in array.dims:
            yield Computed(dim, BITS, (), kernel.span.line, f"a dim of {array.name}")
    yield from _body(kernel.body, ())


def _body(statements: Sequence[ir.Statement], loops: tuple[Loop, ...]) -> Iterator[Computed]:
    for statement in statements:
        line = (statement.value.origin if isinstance(statement, ir.Let) else statement.origin).span.line
        match statement:
            case ir.For():
                inside = (*loops, *zip(statement.variables, statement.lo, statement.hi, strict=True))
                for k, variable in enumerate(statement.variables):
                    around = inside[: len(loops) + k]
                    bounds = (statement.lo[k], statement.hi[k])
                    yield from _wide(bounds, around, line, f"the loop over {variable}")
                yield from _body(statement.body, inside)
            case ir.If(condition, then, otherwise):
                if not isinstance(condition, ir.Value):
                    yield from _wide(tuple(condition_indices(condition)), loops, line, "a condition")
                yield from _body((*then, *otherwise), loops)
            case ir.Let(value, operation):
                yield from _operation(operation, value, loops, line)
            case ir.Store(view, start, _, _) | ir.Scatter(view, start, _, _, _, _, _):
                yield from _access(view, start, loops, line)


def _operation(operation: ir.Operation, value: ir.Value, loops: tuple[Loop, ...], line: int) -> Iterator[Computed]:
    match operation:
        case ir.Load(view, start, _) | ir.Gather(view, start, _, _, _):
            yield from _access(view, start, loops, line)
        case ir.FromIndex(number):
            yield from _wide((number,), loops, line, "an index")
            if is_integer(dtype := value.type.dtype):
                what, unsigned = f"an index that becomes {dtype}", DTYPES[dtype].kind == "uint"
                yield Computed(number, bits(dtype), loops, line, what, kind="value", unsigned=unsigned)
        case ir.Iota(start):
            yield from _wide((start,), loops, line, "positions")
        case ir.FromCondition(condition):
            yield from _wide(tuple(condition_indices(condition)), loops, line, "a condition")


def _access(view: ir.View, start: Sequence[Index], loops: tuple[Loop, ...], line: int) -> Iterator[Computed]:
    yield from _wide((*start, *(b for axis in view.axes for b in (axis.lo, axis.hi))), loops, line, view.array)
    along = tuple((ir.position(a), axis.lo, axis.hi) for a, axis in enumerate(view.axes))
    yield from _wide(view.coordinates, (*loops, *along), line, f"a coordinate of {view.array}")


def _wide(values: Sequence[Index], loops: tuple[Loop, ...], line: int, what: str) -> Iterator[Computed]:
    """Values, the terms that they are sums of, and what those are computed from."""
    for value in values:
        for term in value.terms:
            for atom in term[0]:
                yield from _wide(children(atom), loops, line, what)
            yield Computed(Index((term,)), BITS, loops, line, what)
        yield Computed(value, BITS, loops, line, what)
