"""Elements that nothing stores: which part of an array its stores reach, and the lines to look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from kernelagent.dsl.index import Symbol
from kernelagent.dsl.interpreter.held import Array as Held
from kernelagent.dsl.interpreter.memory import Cell, StoreLog
from kernelagent.dsl.interpreter.run import CallRun
from kernelagent.dsl.ir import Array, Kernel, Module, Program, position
from kernelagent.dsl.verify.sites import Touch, touches

_STORES = ("store", "scatter", "add")


def reached(call: CallRun, cell: Cell, log: StoreLog) -> str:
    """Which part of an array its stores reach, and where they stand."""
    lines = list(dict.fromkeys(t.place.line for t in _stores(call.kernel, cell.name)))
    where = f"line{'s' * (len(lines) > 1)} {' and '.join(map(str, lines))}"
    stored = np.argwhere(log.count > 0)
    if not len(stored):
        return f"nothing is stored by {where}" if lines else "no statement stores it"
    parts = _parts(stored)
    whole = [f"0..{n - 1}" for n in log.count.shape]
    if parts == whole:
        return f"{where} leaves gaps: {len(stored)} of {log.count.size} elements are stored"
    return f"{where} stores [{', '.join(parts)}] of [{', '.join(whole)}]"


def lines_of_gap(call: CallRun, cell: Cell, log: StoreLog) -> tuple[int, ...]:
    """The array's stores, and the loop that moves the one store along the axis that is left out; the array's own line
    where nothing stores to it."""
    stores = list(_stores(call.kernel, cell.name))
    lines = tuple(dict.fromkeys(t.place.line for t in stores))
    if len(lines) != 1:
        return lines or (_own_line(call.kernel, cell.name),)
    return tuple(dict.fromkeys((*lines, *_moving(call.kernel, stores[0], _short_axes(log)))))


def store_line(module: Module, array: Array) -> int:
    """The line of the last store to an array of the entry; the array's own where there is none."""
    entry, lines = module.entry, list[int]()
    if isinstance(entry, Program):
        for called in entry.calls:
            for own, given in called.arrays:
                if given == array.name:
                    lines += [t.place.line for t in _stores(module.kernel(called.kernel), own)]
    else:
        lines += [t.place.line for t in _stores(entry, array.name)]
    return lines[-1] if lines else array.span.line


def _stores(kernel: Kernel, array: str) -> Iterator[Touch]:
    return (t for t in touches(kernel) if t.kind in _STORES and t.view.array == array)


def _parts(stored: Held) -> list[str]:
    return [f"{lo}..{hi}" for lo, hi in zip(stored.min(axis=0), stored.max(axis=0), strict=True)]


def _short_axes(log: StoreLog) -> list[int]:
    """Axes of which some positions are stored nowhere; all where it is no axis by itself."""
    stored = log.count > 0
    axes = range(stored.ndim)
    short = [a for a in axes if not stored.any(axis=tuple(b for b in axes if b != a)).all()]
    return short or list(axes)


def _moving(kernel: Kernel, store: Touch, axes: list[int]) -> Iterator[int]:
    """Lines of the loops that move a store along one of these axes; the outermost first."""
    symbols = set[Symbol]()
    for axis in axes:
        symbols |= store.view.coordinates[axis].symbols()
    for view_axis, start in enumerate(store.start):
        if position(view_axis) in symbols:
            symbols |= start.symbols()
    names = {s.name for s in symbols}
    loops = (loop for loop in store.place.loops if names & {v.name for v in loop.variables})
    yield from (loop.origin.span.line for loop in loops)


def _own_line(kernel: Kernel, array: str) -> int:
    return next((a.span.line for a in kernel.arrays if a.name == array), kernel.span.line)


__all__ = ["lines_of_gap", "reached", "store_line"]
