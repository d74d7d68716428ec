"""Wide accesses for all sizes: each begins at a multiple of its width and lies inside its view or outside, whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Element, Extremum, FloorDiv, Index, Mod, Monomial, Select, Symbol
from kernelagent.dsl.ir import Assume, View, position
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.records import Obligation

ENDLESS = 0
"""The multiple of zero: every number divides it."""


@dataclass(frozen=True)
class _Wide:
    """A statement whose accesses have `vector` elements along axis `axis` of its tile."""

    view: View
    start: tuple[Index, ...]
    vector: int
    line: int


def prove_alignment(kernel: dev.DeviceKernel, assumes: tuple[Assume, ...], subject: str) -> list[Obligation]:
    """One obligation for each statement with wide accesses."""
    known = multiples(kernel, assumes)
    return [_prove(kernel, wide, known, subject) for wide in _wide(kernel)]


def _wide(kernel: dev.DeviceKernel) -> Iterator[_Wide]:
    for s in dev.statements(kernel):
        match s:
            case dev.Let(fragment=fragment, operation=dev.Load(view=view, start=start, vector=vector)) if vector > 1:
                yield _Wide(view, start, vector, fragment.origin.span.line)
            case dev.Store(view=view, start=start, vector=vector) if vector > 1:
                yield _Wide(view, start, vector, s.origin.span.line)
            case dev.Copy(view=view, start=start, vector=vector) if vector > 1:
                yield _Wide(view, start, vector, s.origin.span.line)


def _prove(kernel: dev.DeviceKernel, wide: _Wide, known: Mapping[str, int], subject: str) -> Obligation:
    lack = _lack(kernel, wide, known)
    size = wide.vector * bits(wide.view.dtype) // 8
    where = f"{subject}: {wide.view.array}"
    if lack:
        return Obligation("alignment", "UNKNOWN", wide.line, f"accesses of {size} bytes: {lack}", where)
    detail = f"accesses of {size} bytes begin at multiples of it and are cut by no bound, for all sizes of the class"
    return Obligation("alignment", "PROVED", wide.line, detail, where)


def _lack(kernel: dev.DeviceKernel, wide: _Wide, known: Mapping[str, int]) -> str:
    """What is not shown, "" if everything is."""
    view, vector = wide.view, wide.vector
    last = view.coordinates[-1]
    along = next((a for a in range(len(view.axes)) if position(a) in last.symbols()), None)
    if along is None:
        return "the view does not run along the array's rows"
    first = last.substitute({position(a).name: s for a, s in enumerate(wide.start)})
    if multiple(first, known) % vector:
        return f"{first} is not shown to be a multiple of {vector}"
    for bound in (view.axes[along].lo, view.axes[along].hi):
        inside = bound - wide.start[along]
        if multiple(inside, known) % vector:
            return f"a tile is not shown to end after a multiple of {vector} elements: {inside}"
    return _pitch(kernel, wide)


def _pitch(kernel: dev.DeviceKernel, wide: _Wide) -> str:
    """Rows and the array itself begin at multiples: what the shape class asks for."""
    size = wide.vector * bits(wide.view.dtype) // 8
    guards = kernel.shape_class.guards
    array = wide.view.array
    aligned = [g.value for g in guards if (g.kind, g.subject) == ("aligned", array)]
    if not any(value % size == 0 for value in aligned):
        return f"the shape class does not ask that {array} is aligned to {size} bytes"
    if not any((g.kind, g.subject) == ("unit_stride", array) for g in guards):
        return f"the shape class does not ask for unit stride of {array}"
    return ""


# Divisibility ------------------------------------------------------------------------------------------


def multiples(kernel: dev.DeviceKernel, assumes: tuple[Assume, ...]) -> dict[str, int]:
    """For each dim and loop variable a number that divides it, 1 left out."""
    from kernelagent.dsl.index import Compare

    known = {g.subject: g.value for g in kernel.shape_class.guards if g.kind == "divides"}
    for assume in assumes:
        match assume.condition:
            case Compare("==", Index(terms=(((Mod(a, b),), 1),)), zero) if zero.constant == 0 and b.constant:
                match a.terms:
                    case (((Symbol(name, "dim"),), 1),):
                        known[name] = known.get(name, 1) * b.constant // gcd(known.get(name, 1), b.constant)
    for variables, lo, step in _loops(kernel):
        for variable, first, width in zip(variables, lo, step, strict=True):
            found = gcd(multiple(first, known), multiple(width, known))
            if found != 1:
                known[variable.name] = found
    return known


def _loops(kernel: dev.DeviceKernel) -> Iterator[tuple[tuple[Symbol, ...], tuple[Index, ...], tuple[Index, ...]]]:
    for grid in every_grid(kernel):
        yield grid.variables, grid.lo, grid.step
    for s in dev.statements(kernel):
        if isinstance(s, dev.For):
            yield s.variables, s.lo, s.step


def multiple(value: Index, known: Mapping[str, int]) -> int:
    """The largest number that is shown to divide a value, 0 for zero itself."""
    found = ENDLESS
    for monomial, coefficient in value.terms:
        found = gcd(found, coefficient * _of_product(monomial, known))
    return found


def _of_product(monomial: Monomial, known: Mapping[str, int]) -> int:
    product = 1
    for atom in monomial:
        match atom:
            case Symbol(name, _):
                product *= known.get(name, 1)
            case Extremum(_, a, b) | Select(_, a, b):
                product *= gcd(multiple(a, known), multiple(b, known))
            case FloorDiv(a, b) if b.constant and multiple(a, known) % b.constant == 0:
                product *= max(multiple(a, known) // b.constant, 1)
            case FloorDiv() | Mod() | Element():
                pass
    return product
