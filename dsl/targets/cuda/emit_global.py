"""Global memory: positions and addresses of a tile's registers, loads, gathers, stores, scatters, atomics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.ir import View, position
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets.cuda.body import Body, Place, registers
from kernelagent.dsl.targets.cuda.emit_index import array_name
from kernelagent.dsl.targets.cuda.emit_words import CTYPES, literal
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    Terms,
    coordinate_terms,
    follow,
    identity,
    plus,
    run_along,
)

SCALAR = Distribution((), (), ())


@dataclass(frozen=True)
class Indices:
    """The axis of a gather or scatter whose positions are data, and where they are for each register."""

    axis: int
    place: Place
    dtype: str

    def terms(self) -> Terms:
        return self.place.terms or ()


@dataclass(frozen=True)
class _Position:
    """A position along one view axis: `base` (a name) plus the register's part; `start` as an index plus `lane`."""

    start: Index
    lane: str
    terms: Terms


class Access:
    """The registers of a tile in memory, through a view. Making it emits what does not depend on the register."""

    def __init__(
        self,
        body: Body,
        view: View,
        start: Sequence[Index],
        layout: Distribution | None,
        indices: Indices | None = None,
    ) -> None:
        self.body = body
        self.view = view
        self.indices = indices
        self.layout = layout or SCALAR
        lanes = self.layout.lanes
        self.positions: dict[int, _Position] = {}
        for axis in range(len(view.axes)):
            if indices is None or axis != indices.axis:
                lane = body.lane_sum(lanes, {axis: 1}) if lanes else "0"
                self.positions[axis] = _Position(start[axis], lane, coordinate_terms(self.layout, axis))
        self._coordinates = [self._coordinate(c) for c in view.coordinates]
        self._tests = [t for axis in self.positions for t in self._axis_tests(axis)]

    def functions(self) -> list[Terms]:
        """What register loops around this access must split."""
        data = [self.indices.terms()] if self.indices else []
        return [p.terms for p in self.positions.values()] + data

    # Coordinates --------------------------------------------------------------------------------------

    def _coordinate(self, coordinate: Index) -> tuple[str, list[tuple[int, int]], Index | None]:
        """(name of the constant part, (axis, factor) of what moves with the register, the index if not affine)."""
        rest, moving = coordinate, list[tuple[int, int]]()
        base = index(0)
        lanes: list[str] = []
        for axis in range(len(self.view.axes)):
            affine = rest.affine(position(axis))
            factor = affine[0].constant if affine else None
            if affine is None or factor is None:
                return "", [], coordinate
            rest = affine[1]
            if factor == 0:
                continue
            moving.append((axis, factor))
            if axis in self.positions:
                base = base + self.positions[axis].start * factor
                lane = self.positions[axis].lane
                lanes += [] if lane == "0" else [lane if factor == 1 else f"{lane} * {factor}"]
        return self._named(base + rest, lanes, "i"), moving, None

    def _named(self, base: Index, lanes: list[str], stem: str, sign: str = " + ") -> str:
        text = self.body.texts.text(base)
        for lane in lanes:
            text = lane if text == "0" and sign == " + " else f"{text}{sign}{lane}"
        return self.body.const(self.body.texts.ctype(base), stem, text)

    def coordinates(self, loops: Loops) -> list[str]:
        """Array coordinates of the current register, one an array axis."""
        return [self._coordinate_text(c, loops) for c in self._coordinates] or ["0"]

    def _coordinate_text(self, made: tuple[str, list[tuple[int, int]], Index | None], loops: Loops) -> str:
        name, moving, general = made
        if general is not None:
            texts = {position(a).name: self._position_text(a, loops) for a in range(len(self.view.axes))}
            return self.body.texts.text(general, texts)
        text = name
        for axis, factor in moving:
            if axis in self.positions:
                scaled = [type(t)(t.divisor, t.extent, t.weight * factor) for t in self.positions[axis].terms]
                text = plus(text, loops.sum(tuple(scaled)))
            else:
                data = self._data(loops)
                text = plus(text, data if factor == 1 else f"{data} * {factor}")
        return text

    def _position_text(self, axis: int, loops: Loops) -> str:
        if axis not in self.positions:
            return self._data(loops)
        at = self.positions[axis]
        return f"({plus(plus(self.body.texts.text(at.start), at.lane), loops.sum(at.terms))})"

    def _data(self, loops: Loops) -> str:
        assert self.indices is not None
        return self.indices.place.at(loops)

    def at(self, loops: Loops) -> str:
        return f"ka_at({array_name(self.view.array)}, {', '.join(self.coordinates(loops))})"

    # Inside --------------------------------------------------------------------------------------------

    def _axis_tests(self, axis: int) -> list[tuple[str, Terms, str]]:
        """Tests that signs and guards do not settle: (relation, register part, name of the bound)."""
        at, bounds, texts = self.positions[axis], self.view.axes[axis], self.body.texts
        extent = self.layout.shape[axis] if axis < len(self.layout.shape) else 1
        found: list[tuple[str, Terms, str]] = []
        lanes = [] if at.lane == "0" else [at.lane]
        if not texts.never_negative(at.start - bounds.lo):
            found.append((">=", at.terms, self._named(bounds.lo - at.start, lanes, "lo", " - ")))
        if not texts.below(at.start, extent, bounds.hi, self.body.divides):
            found.append(("<", at.terms, self._named(bounds.hi - at.start, lanes, "hi", " - ")))
        return found

    def inside(self, loops: Loops) -> str:
        """The condition on the current register, "true" if it always holds."""
        texts = [f"{loops.sum(terms)} {relation} {bound}" for relation, terms, bound in self._tests]
        if self.indices is not None:
            bounds, data = self.view.axes[self.indices.axis], self._data(loops)
            lo, hi = self.body.texts.text(bounds.lo), self.body.texts.text(bounds.hi)
            texts += [f"{data} >= {lo}", f"{data} < {hi}"]
        return " && ".join(texts) or "true"


def require_run(layout: Distribution | None, axis: int, vector: int, what: str) -> None:
    """Raises LayoutMismatch unless `vector` registers in a row are neighbours along `axis`."""
    run = run_along(layout, axis) if layout is not None else 1
    if run % vector:
        raise LayoutMismatch(f"{what}: {vector} elements an access, but runs of {run} along axis {axis} in {layout}")


# Loads ---------------------------------------------------------------------------------------------------


def emit_load(body: Body, let: dev.Let) -> None:
    operation, fragment = let.operation, let.fragment
    assert isinstance(operation, dev.Load | dev.Gather)
    require_run(fragment.layout, len(fragment.shape) - 1, operation.vector, f"load of {fragment.name}")
    data = None
    if isinstance(operation, dev.Gather):
        data = indices_of(body, operation.axis, operation.indices, fragment.layout)
    access = Access(body, operation.view, operation.start, fragment.layout, data)
    body.declare(fragment)
    own = identity(registers(fragment))
    loops = Loops(registers(fragment), [*access.functions(), own], operation.vector)
    with body.out.loops(loops.heads()):
        if fragment.dtype == "u4":
            load_nibbles(body, access, loops, body.place(fragment), operation)
            return
        target, fill = body.place(fragment).address(loops), literal(operation.fill, fragment.dtype)
        body.out.put(f"ka_ldg<{operation.vector}>({target}, {access.at(loops)}, {access.inside(loops)}, {fill});")


def indices_of(body: Body, axis: int, indices: dev.Fragment, layout: Distribution | None) -> Indices:
    """The data positions for each register of a tile with this layout."""
    place = body.place(indices)
    if layout is not None and indices.layout is not None:
        place = place.renamed(follow(layout, indices.layout, {axis: 0}))
    return Indices(axis, place, indices.dtype)


def load_nibbles(body: Body, access: Access, loops: Loops, target: Place, load: dev.Load | dev.Gather) -> None:
    """u4: whole bytes are loaded and taken apart; a single element takes the half that its last coordinate names."""
    out, vector, coordinates = body.out, load.vector, access.coordinates(loops)
    name, size = body.fresh("pair"), max(1, vector // 2)
    half = "0"
    if vector == 1:
        half = body.const("int", "half", f"({coordinates[-1]}) & 1")
        coordinates[-1] = f"({coordinates[-1]}) - {half}"
    out.put(f"ka_u8 {name}[{size}];")
    at = f"ka_at_u4({array_name(access.view.array)}, {', '.join(coordinates)})"
    fill = literal(int(load.fill) * 17, "u8")
    out.put(f"ka_ldg<{size}>({name}, {at}, {access.inside(loops)}, {fill});")
    to = target.address(loops)
    for element in range(vector):
        shift = f"{half} * 4" if vector == 1 else str(element % 2 * 4)
        out.put(f"({to})[{element}] = {name}[{element // 2}] >> {shift} & 15;")


# Stores ---------------------------------------------------------------------------------------------------


def emit_store(body: Body, store: dev.Store | dev.Scatter) -> None:
    """Elements inside the view, by the first thread of those that hold copies."""
    value = store.value
    vector = store.vector if isinstance(store, dev.Store) else 1
    require_run(value.layout, len(value.shape) - 1, vector, f"store of {value.name}")
    indices = indices_of(body, store.axis, store.indices, value.layout) if isinstance(store, dev.Scatter) else None
    access = Access(body, store.view, store.start, value.layout, indices)
    place = readable(body, value, vector)
    loops = Loops(registers(value), [*access.functions(), place.terms or ()], vector)
    owner = body.owns(value.layout)
    if value.dtype == "u4":
        raise Unsupported("stores of u4: two elements share a byte")
    with body.out.loops(loops.heads()):
        inside = " && ".join(t for t in (owner, access.inside(loops)) if t and t != "true") or "true"
        if store.atomic:
            body.out.put(f"ka_atomic_add({access.at(loops)}, {place.at(loops)}, {inside});")
        else:
            body.out.put(f"ka_stg<{vector}>({access.at(loops)}, {place.address(loops)}, {inside});")


def readable(body: Body, value: dev.Fragment, vector: int) -> Place:
    """The place of a value such that `vector` registers can be read through one pointer."""
    place = body.place(value)
    if value.layout is None or place.terms is None:
        return _variable(body, value, place, vector)
    run = next((t.extent for t in place.terms if t.divisor == 1 and t.weight == 1), 1)
    if vector == 1 or run % vector == 0:
        return place
    return Place(body.held(value), identity(registers(value)))


def _variable(body: Body, value: dev.Fragment, place: Place, vector: int) -> Place:
    """A literal or a scalar has an address only as a variable; one for all registers alike."""
    if vector == 1:
        name = body.fresh("x")
        body.out.put(f"const {CTYPES[value.dtype]} {name} = {place.text};")
        return Place(name, None)
    name = body.fresh("x")
    body.out.put(f"const {CTYPES[value.dtype]} {name}[{vector}] = {{{', '.join([place.text] * vector)}}};")
    return Place(name, ())
