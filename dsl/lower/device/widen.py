"""How wide a memory access may be: what is known to divide positions, bounds and strides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import gcd

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import Atom as IndexAtom
from kernelagent.dsl.index import Element, Extremum, FloorDiv, Index, Mod, Select, Symbol
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.lower.device.place_values import view_axis
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.schedule import Guard, ShapeClass

ACCESS_BYTES = 16
"""The widest access of one thread."""


@dataclass
class Multiples:
    """For each symbol an integer that divides it; absent: 1."""

    of: dict[str, int] = field(default_factory=dict)

    def divisor(self, value: Index) -> int:
        """A number that divides `value` whatever the symbols are; 0 for the constant 0."""
        found = 0
        for monomial, coefficient in value.terms:
            product = abs(coefficient)
            for atom in monomial:
                product *= self._atom(atom)
            found = gcd(found, product)
        return found

    def _atom(self, atom: IndexAtom) -> int:
        match atom:
            case Symbol(name, _):
                return self.of.get(name, 1)
            case Extremum(_, a, b) | Select(_, a, b):
                return gcd(self.divisor(a), self.divisor(b)) or 1
            case Mod(a, b):
                return gcd(self.divisor(a), self.divisor(b)) or 1
            case FloorDiv(a, b) if b.constant:
                quotient, rest = divmod(self.divisor(a), b.constant)
                return quotient if rest == 0 and quotient else 1
            case Element() | FloorDiv():
                return 1

    def enter(self, variables: Iterable[Symbol], lo: Iterable[Index], step: Iterable[Index]) -> None:
        """A loop variable is lo plus steps."""
        for variable, first, by in zip(variables, lo, step, strict=True):
            self.of[variable.name] = gcd(self.divisor(first), self.divisor(by)) or 1


def shape_class(kernel: ir.Kernel, aligned: bool) -> ShapeClass:
    """The aligned class: unit last strides, bases and other strides in whole 16-byte pieces, and last dims likewise,
    of the arrays that are moved in more than single elements.

    Everything else goes to the general class, which assumes nothing.
    """
    if not aligned:
        return ShapeClass("general")
    guards: list[Guard] = []
    runs = _read_in_runs(kernel)
    for array in kernel.arrays:
        if array.name in runs:
            guards += [Guard("unit_stride", array.name), Guard("aligned", array.name, ACCESS_BYTES)]
    dims = _last_dims(kernel, runs)
    guards += [Guard("divides", name, count) for name, count in sorted(dims.items())]
    return ShapeClass("aligned", tuple(guards))


def _read_in_runs(kernel: ir.Kernel) -> set[str]:
    """Arrays of which some tile has neighbouring elements: tables and scales that are read one by one have none."""
    found: set[str] = set()
    for statement in walk_statements(kernel.body):
        match statement:
            case ir.Let(value, ir.Load(view) | ir.Gather(view)) | ir.Store(view, _, value):
                if value.type.rank and value.type.shape[view_axis(view)].constant != 1:
                    found.add(view.array)
            case ir.Scatter(view=view):
                found.add(view.array)
    return found


def _last_dims(kernel: ir.Kernel, runs: set[str]) -> dict[str, int]:
    """Dims that are the last of some such array of rank 2 or more: how many elements make 16 bytes."""
    found: dict[str, int] = {}
    for array in (a for a in kernel.arrays if a.name in runs):
        name = _symbol(array.dims[-1]) if array.dims else None
        if name is not None and name in kernel.dims and (len(array.dims) > 1 or _moved_whole(array)):
            found[name] = max(found.get(name, 1), ACCESS_BYTES * 8 // bits(array.dtype))
    return found


def _moved_whole(array: ir.Array) -> bool:
    return array.dtype not in ("i32", "i64")  # index tables are read element by element


def _symbol(value: Index) -> str | None:
    match value.terms:
        case (((Symbol(name, "dim"),), 1),):
            return name
    return None


def known_multiples(kernel: ir.Kernel, shape: ShapeClass) -> Multiples:
    """What the class's guards and the kernel's assumes say about dims."""
    known = Multiples({g.subject: g.value for g in shape.guards if g.kind == "divides"})
    facts = Facts()
    for assume in kernel.assumes:
        facts.add(assume)
    for dividend, divisor in facts.divisible:
        name = _symbol(dividend)
        if name is not None and divisor.constant:
            known.of[name] = max(known.of.get(name, 1), divisor.constant)
    return known


def width(
    view: ir.View,
    start: tuple[Index, ...],
    layout: Distribution,
    shape: ShapeClass,
    multiples: Multiples,
    arrays: Mapping[str, ir.Array],
) -> int:
    """Elements per access of a thread, at most 16 bytes; 1 where nothing is known."""
    if shape.name != "aligned" or not start:
        return 1
    last = len(start) - 1
    offset = view.coordinates[-1].affine(ir.position(last))
    if offset is None or offset[0].constant != 1 or _elsewhere(view, last):
        return 1
    axis = view.axes[last]
    run = largest_power(layout.contiguous(), ACCESS_BYTES * 8 // bits(view.dtype))
    parts = [start[last], axis.lo, axis.hi, offset[1], arrays[view.array].dims[-1]]
    for part in parts:
        run = largest_power(gcd(run, multiples.divisor(part)) or run, run)
    for mode in (*layout.lanes, *layout.values):
        if mode.axis == last and mode.stride >= run:
            run = gcd(run, mode.stride)
    return run


def _elsewhere(view: ir.View, axis: int) -> bool:
    """Whether the view's last axis also moves along another array axis."""
    symbol = ir.position(axis)
    return any(symbol in c.symbols() for c in view.coordinates[:-1])


def largest_power(number: int, limit: int) -> int:
    """The largest power of two that divides `number` and is at most `limit`."""
    found = 1
    while found * 2 <= limit and number % (found * 2) == 0:
        found *= 2
    return found
