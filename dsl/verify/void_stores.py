"""Why a store left an element out: which load ends where its value does.

A value is live where all that it was computed from is. The live part of a loaded tile ends at the bound of its array;
that bound, unchanged, stands among the bounds of every value that follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.checks import walk
from kernelagent.dsl.index import Extremum, Index
from kernelagent.dsl.interpreter.run import CallRun


def void_because(call: CallRun, line: int, iteration: Mapping[str, int], element: tuple[int, ...]) -> str:
    """`void there because of load(bias, (i,)) of line 10: its axis of N=65 ends`; "" where that is not known.

    `line` has a store that found its value void at this element of the array in this iteration of `tiles`.
    """
    environment = {**call.sizes, **iteration}
    for statement in walk(call.kernel.body):
        if isinstance(statement, ir.Store) and statement.origin.span.line == line:
            for end in _ends(statement, environment, element):
                if (found := _load(call.kernel, end)) is not None:
                    return _told(*found, environment)
    return ""


def _ends(store: ir.Store, environment: Mapping[str, int], element: tuple[int, ...]) -> Iterator[Index]:
    """Bounds of the value in front of the element."""
    for axis, (live, start) in enumerate(zip(store.value.type.live, store.start, strict=True)):
        place = _place(store.view, axis, element, environment)
        first = _known(start, environment)
        if place is None or first is None:
            continue
        for end in _least(live.hi):
            value = _known(end, environment)
            if value is not None and value <= place - first:
                yield end


def _place(view: ir.View, axis: int, element: tuple[int, ...], environment: Mapping[str, int]) -> int | None:
    """The view's position of an array element along an axis, where the view steps through the array."""
    symbol = ir.position(axis)
    for coordinate, there in zip(view.coordinates, element, strict=True):
        if symbol in coordinate.symbols():
            parts = coordinate.affine(symbol)
            factor, rest = (None, None) if parts is None else (parts[0].constant, _known(parts[1], environment))
            return (there - rest) // factor if factor and rest is not None else None
    return None


def _least(bound: Index) -> Iterator[Index]:
    """All that a bound is the least of."""
    atom = next(bound.atoms(), None)
    if isinstance(atom, Extremum) and atom.which == "min" and bound.terms == (((atom,), 1),):
        yield from _least(atom.a)
        yield from _least(atom.b)
    else:
        yield bound


def _known(value: Index, environment: Mapping[str, int]) -> int | None:
    try:
        return value.evaluate(environment)
    except (KeyError, ZeroDivisionError):
        return None


def _load(kernel: ir.Kernel, end: Index) -> tuple[ir.Let, int] | None:
    """The first load with this bound, and its axis."""
    for statement in walk(kernel.body):
        if isinstance(statement, ir.Let) and isinstance(statement.operation, ir.Load | ir.Gather):
            for axis, live in enumerate(statement.value.type.live):
                if end in _least(live.hi):
                    return statement, axis
    return None


def _told(let: ir.Let, axis: int, environment: Mapping[str, int]) -> str:
    operation = let.operation
    assert isinstance(operation, ir.Load | ir.Gather)
    starts = ", ".join(map(str, operation.start)) + ("," if len(operation.start) == 1 else "")
    word = "load" if isinstance(operation, ir.Load) else "gather"
    length = operation.view.axes[axis].length
    value = _known(length, environment)
    extent = str(length) if value is None or length.constant is not None else f"{length}={value}"
    line = let.value.origin.span.line
    load = f"{word}({operation.view.array}, ({starts}))"
    return f"void there because of {load} of line {line} (its axis of {extent} ends)"


__all__ = ["void_because"]
