"""Nothing undefined is ever read.

Void cannot reach an output: a store writes live positions only, every operation derives its live positions from
its operands', and `load` makes live only what lies inside the view. What is left to show is that an InOut element
is loaded before it is stored, and by the same iteration.
"""

from __future__ import annotations

from kernelagent.dsl.index import index
from kernelagent.dsl.ir import Array, Kernel
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import Touch, touches


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for the kernel's values and one for each InOut array."""
    found = [t for t in touches(kernel)]
    detail = "only live elements are stored, and every live element was loaded from inside its view or computed"
    values = Obligation("definedness", "PROVED", None, detail, kernel.name)
    inouts = [a for a in kernel.arrays if a.role == "InOut"]
    return [values, *(_inout(kernel, a, [t for t in found if t.view.array == a.name]) for a in inouts)]


def _inout(kernel: Kernel, array: Array, found: list[Touch]) -> Obligation:
    subject = f"{kernel.name}: {array.name}"
    line = found[0].place.line if found else array.span.line
    reason = _unshown(array, found)
    if reason:
        return Obligation("definedness", "UNKNOWN", line, reason, subject)
    detail = f"each tile of {array.name} is loaded once, then stored, by the one iteration that owns it"
    return Obligation("definedness", "PROVED", line, detail, subject)


def _unshown(array: Array, found: list[Touch]) -> str:
    """Why the argument does not apply; "" when it does: same view, same tile, load before store, own iteration."""
    if [t.kind for t in found] != ["load", "store"]:
        return f"{array.name} is not simply loaded once and stored once"
    load, store = found
    if (load.view, load.start, load.shape) != (store.view, store.start, store.shape):
        return f"{array.name} is stored at another tile than it is loaded from"
    if [loop.kind for loop in store.place.loops] != ["tiles"] or load.place.loops != store.place.loops:
        return f"{array.name} is touched inside a loop in the iteration"
    return "" if _moves(store) else f"tiles of {array.name} may overlap between iterations"


def _moves(store: Touch) -> bool:
    """Whether every loop variable moves the store by whole tiles along an axis of its own."""
    (loop,) = store.place.loops
    free = {v: step for v, step in zip(loop.variables, loop.step, strict=True)}
    for start, extent in zip(store.start, store.shape, strict=True):
        for variable, step in list(free.items()):
            if start == index(variable) and step == extent:
                del free[variable]
    for coordinate in store.view.coordinates:
        for variable, step in list(free.items()):
            if coordinate == index(variable) and step == index(1):
                del free[variable]
    return not free
