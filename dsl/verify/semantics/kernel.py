"""The value of one element of a tile, as a term: symbolic execution of the tile IR at one generic position.

Loops are summarised (`loops`): inside a loop a carried value is a state, afterwards it is the closed form that
induction shows. Void needs no term: reductions and products go over the live interval of their axis, stores write live
positions, and only `fill` looks at void.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Condition, Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.constants import literal
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import fresh, reduction
from kernelagent.dsl.verify.semantics.reference import reshaped
from kernelagent.dsl.verify.semantics.terms import (
    ONE,
    Binder,
    Parameter,
    Poly,
    State,
    Undenoted,
    atom,
    from_index,
    number,
    to_index,
)
from kernelagent.dsl.verify.semantics.words import pointwise, reduced_word

Place: TypeAlias = tuple[Index, ...]
ArrayMeaning: TypeAlias = Callable[[Place], Poly]
"""Element of an array that kernels read, at array coordinates."""


@dataclass(frozen=True)
class Made:
    """A term, the line that it was computed for, the operation if there is one, and what is known there."""

    line: int
    term: Poly
    operation: ir.Operation | None = None
    known: Known | None = None


@dataclass(frozen=True)
class Stored:
    """What one store writes: `value` at array coordinates `place`, for all names that `known` bounds.

    `axes` are the names of the view positions (axes of extent 1 are at their start); `loops` are those around the
    store, outermost first.
    """

    store: ir.Store | ir.Scatter
    place: Place
    value: Poly
    axes: tuple[str, ...]
    known: Known
    loops: tuple[ir.For, ...]


@dataclass(frozen=True)
class Summary:
    """A solved loop: closed form of each carried value, at a place, before the iteration that begins at `end`."""

    loop: ir.For
    words: Mapping[str, str]  # name of a state -> the monoid of its loop
    closed: Callable[[int, Place, Index | None, Known], Poly]  # which, place, end (None: after the last iteration)


Definition: TypeAlias = ir.Operation | ir.Merged | State | tuple[Summary, int]


@dataclass
class _Frame:
    """A loop whose body is being read."""

    loop: ir.For
    number: int
    ends: dict[int, int] = field(default_factory=dict)  # value number at the bottom -> which carried


class KernelMeaning:
    """Symbolic execution of one concrete kernel. `arrays` are those that it reads."""

    def __init__(self, kernel: ir.Kernel, arrays: Mapping[str, ArrayMeaning], known: Known) -> None:
        self.kernel, self.arrays, self.known = kernel, arrays, known
        self.stored: list[Stored] = []
        self.history: list[Made] = []
        self.conditions: dict[int, tuple[Condition | ir.Value]] = {}
        self.summaries: list[Summary] = []
        self._values: dict[int, tuple[ir.Value, Definition]] = {}
        self._memo: dict[tuple[int, Place], Poly] = {}
        self._frames: list[_Frame] = []
        self._loops: list[ir.For] = []
        self._numbers = 0

    def run(self) -> list[Stored]:
        """Everything that the kernel stores. Raises Undenoted."""
        self._block(self.kernel.body)
        return self.stored

    # Statements --------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ir.Statement]) -> None:
        for statement in statements:
            match statement:
                case ir.Let(value, operation):
                    self._values[value.number] = (value, operation)
                case ir.Store():
                    self._store(statement)
                case ir.Scatter():
                    self._scatter(statement)
                case ir.For():
                    self._for(statement)
                case ir.If():
                    self._if(statement)

    def _store(self, store: ir.Store) -> None:
        outer = self.known
        axes = tuple(f"{store.view.array}.{axis}" for axis in range(len(store.view.axes)))
        tile: list[Index] = []
        view: list[Index] = []
        kind = store.value.type
        for name, start, extent, live, axis in zip(
            axes, store.start, kind.shape, kind.live, store.view.axes, strict=True
        ):
            if extent.constant == 1:
                tile.append(ix.index(0))
                view.append(start)
                continue
            lo = self.known.extremum("max", (start + live.lo, axis.lo))
            hi = self.known.extremum("min", (start + live.hi, axis.hi, axis.length))
            self.known = self.known.counting(name, lo, hi)
            view.append(ix.symbol(name, "loop"))
            tile.append(view[-1] - start)
        place = self._coordinates(store.view, view)
        value = self.element(store.value, tuple(tile))
        self.stored.append(Stored(store, place, value, axes, self.known, tuple(self._loops)))
        self.known = outer
        self._memo.clear()

    def _scatter(self, statement: ir.Scatter) -> None:
        word = "atomic_add" if statement.atomic else "scatter"
        raise Undenoted(f"`{word}` on line {statement.origin.span.line}")

    def _for(self, loop: ir.For) -> None:
        outer = self.known
        self._loops.append(loop)
        self.known = self.known.inside(loop)
        if loop.carried:
            self._carrying(loop, outer)
        else:
            self._block(loop.body)
        self.known = outer
        self._memo.clear()
        self._loops.pop()

    def _carrying(self, loop: ir.For, outer: Known) -> None:
        from kernelagent.dsl.verify.semantics.loops import summarise

        frame = _Frame(loop, self._numbers)
        self._numbers += 1
        first_store = len(self.stored)
        for which, carried in enumerate(loop.carried):
            place = tuple(ix.index(0) for _ in carried.inside.type.shape)
            self._values[carried.inside.number] = (carried.inside, State(frame.number, which, place))
            if carried.end.number not in self._values:
                frame.ends.setdefault(carried.end.number, which)
        self._frames.append(frame)
        self._block(loop.body)
        summary = summarise(self, loop, frame.number, outer)
        self._frames.pop()
        self.summaries.append(summary)
        for which, carried in enumerate(loop.carried):
            self._values[carried.result.number] = (carried.result, (summary, which))
        for position in range(first_store, len(self.stored)):
            self.stored[position] = self._resolved(self.stored[position], summary, frame.number)

    def _resolved(self, stored: Stored, summary: Summary, number_: int) -> Stored:
        """A store inside the loop: states are the closed forms of what came before this iteration."""
        from kernelagent.dsl.verify.semantics.loops import with_prefixes

        value = with_prefixes(stored.value, summary, number_, stored.known)
        return Stored(stored.store, stored.place, value, stored.axes, stored.known, stored.loops)

    def _if(self, statement: ir.If) -> None:
        outer, condition = self.known, statement.condition
        if isinstance(condition, ir.Value) and any(isinstance(s, ir.Store) for s in _inner(statement)):
            raise Undenoted(f"a store under a condition on data, line {statement.origin.span.line}")
        for body, taken in ((statement.then, True), (statement.otherwise, False)):
            if not isinstance(condition, ir.Value):
                self.known = outer.where(condition if taken else ix.Negation(condition))
            self._memo.clear()
            self._block(body)
            self.known = outer
        self._memo.clear()
        for merged in statement.merged:
            self._values[merged.result.number] = (merged.result, merged)
            self.conditions[merged.result.number] = (condition,)

    def around(self) -> tuple[ir.For, ...]:
        """The loops around the one that is being read."""
        return tuple(self._loops[:-1])

    # Values ------------------------------------------------------------------------------------

    def element(self, value: ir.Value, place: Place) -> Poly:
        """The element of a tile at a live position. A carried value's new value is a state of its own."""
        which = next((f.ends[value.number] for f in reversed(self._frames[-1:]) if value.number in f.ends), None)
        if which is not None:
            return atom(State(self._frames[-1].number, which, tuple(map(self.known.tidy, place)), ended=True))
        return self.computed(value, place)

    def computed(self, value: ir.Value, place: Place) -> Poly:
        """The element as its own operation makes it."""
        place = tuple(map(self.known.tidy, place))
        key = (value.number, place)
        if key not in self._memo:
            self._memo[key] = self._placed(value, place)
        return self._memo[key]

    def _placed(self, value: ir.Value, place: Place) -> Poly:
        line = value.origin.span.line
        try:
            made = self._computed(value, place)
        except Undenoted as reason:
            reason.line = reason.line or line
            raise
        definition = self._values[value.number][1]
        if not isinstance(definition, tuple | State):
            operation = None if isinstance(definition, ir.Merged) else definition
            self.history.append(Made(line, made, operation, self.known))
        return made

    def _computed(self, value: ir.Value, place: Place) -> Poly:
        definition = self._values[value.number][1]
        match definition:
            case State(loop, which, _, ended):
                return atom(State(loop, which, place, ended))
            case ir.Merged(then, otherwise, _):
                (condition,) = self.conditions[value.number]
                return fn.select(self._truth(condition), self.element(then, place), self.element(otherwise, place))
            case (summary, which):
                return summary.closed(which, place, None, self.known)
            case _:
                return self._operation(definition, value, place)

    def _truth(self, condition: Condition | ir.Value) -> Poly:
        return self.element(condition, ()) if isinstance(condition, ir.Value) else self.condition(condition)

    def condition(self, condition: Condition) -> Poly:
        """1 where a condition on index integers holds, else 0."""
        match condition:
            case ix.Compare(relation, a, b):
                word = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}[relation]
                return fn.compare(word, from_index(self.known.tidy(a)), from_index(self.known.tidy(b)), self.known)
            case ix.Negation(part):
                return ONE - self.condition(part)
            case ix.AllOf(parts):
                result = ONE
                for part in parts:
                    result = result * self.condition(part)
                return result
            case ix.AnyOf(parts):
                result = ONE
                for part in parts:
                    result = result * (ONE - self.condition(part))
                return ONE - result

    def _operation(self, operation: ir.Operation, value: ir.Value, place: Place) -> Poly:
        match operation:
            case ir.Load(view, start, fill):
                positions = [s + p for s, p in zip(start, place, strict=True)]
                return self._read(view, positions, fill)
            case ir.Gather():
                return self._gather(operation, place)
            case ir.Full(constant):
                return literal(constant) if isinstance(constant, float) else number(int(constant))
            case ir.FromIndex(i):
                return from_index(self.known.tidy(i))
            case ir.FromCondition(condition):
                return self.condition(condition)
            case ir.ScalarParam(name):
                return atom(Parameter(f"${name}"))
            case ir.Iota(start):
                return from_index(self.known.tidy(start + place[0]))
            case ir.Unary(word, x):
                return pointwise(word, (self.element(x, place),), self.known, is_float(value.type.dtype))
            case ir.Binary(word, a, b):
                args = (self.element(a, place), self.element(b, place))
                return pointwise(word, args, self.known, is_float(value.type.dtype))
            case ir.Where(condition, a, b):
                return fn.select(self.element(condition, place), self.element(a, place), self.element(b, place))
            case ir.Cast(x):
                return self._cast(x, value, place)
            case ir.Fill(x, constant):
                inside = self._inside([(p, v.lo, v.hi) for p, v in zip(place, x.type.live, strict=True)])
                return fn.select(inside, self.element(x, place), literal(constant))
            case ir.Reduce() | ir.Scan() | ir.Mma():
                return self._reduced(operation, place)
            case ir.ArgReduce(word):
                raise Undenoted(f"`{word}`")
        return self._moved(operation, value, place)

    def _moved(self, operation: ir.Operation, value: ir.Value, place: Place) -> Poly:
        """Operations that only say where an element comes from."""
        match operation:
            case ir.Broadcast(x):
                last = place[len(place) - x.type.rank :]
                stretched = [ix.index(0) if n.constant == 1 else p for n, p in zip(x.type.shape, last, strict=True)]
                return self.element(x, tuple(stretched))
            case ir.ExpandDims(x, axes):
                return self.element(x, tuple(p for axis, p in enumerate(place) if axis not in axes))
            case ir.Permute(x, axes):
                source = [ix.index(0)] * len(axes)
                for j, axis in enumerate(axes):
                    source[axis] = place[j]
                return self.element(x, tuple(source))
            case ir.Reshape(x):
                return self.element(x, reshaped(x.type.shape, value.type.shape, place, self.known))
            case ir.Take(x, position):
                return self.element(x, (*place, ix.index(position)))
            case ir.Stack(parts):
                result = self.element(parts[0], place[:-1])
                for position, part in enumerate(parts[1:], 1):
                    here = fn.holds("==", place[-1] - position, self.known)
                    result = fn.select(here, self.element(part, place[:-1]), result)
                return result
        raise Undenoted(type(operation).__name__)

    def _cast(self, x: ir.Value, value: ir.Value, place: Place) -> Poly:
        element = self.element(x, place)
        if is_float(x.type.dtype) and not is_float(value.type.dtype) and value.type.dtype != "bool":
            return fn.call("trunc", element)
        if value.type.dtype == "bool" and x.type.dtype != "bool":
            return fn.compare("ne", element, number(0), self.known)
        return element

    # Memory ------------------------------------------------------------------------------------

    def _coordinates(self, view: ir.View, positions: Sequence[Index]) -> Place:
        at = {ir.position(axis).name: p for axis, p in enumerate(positions)}
        return tuple(self.known.tidy(c.substitute(at)) for c in view.coordinates)

    def _read(self, view: ir.View, positions: Sequence[Index], fill: float | int | None) -> Poly:
        element = self.arrays[view.array](self._coordinates(view, positions))
        if fill is None:
            return element
        bounds = [
            (p, self.known.extremum("max", (axis.lo, ix.index(0))), self.known.extremum("min", (axis.hi, axis.length)))
            for p, axis in zip(positions, view.axes, strict=True)
        ]
        return fn.select(self._inside(bounds), element, literal(fill))

    def _inside(self, bounds: Sequence[tuple[Index, Index, Index]]) -> Poly:
        """1 where lo <= position < hi on every axis."""
        result = ONE
        for position, lo, hi in bounds:
            for low in self.known.prune("max", (lo,)):
                result = result * fn.holds(">=", position - low, self.known)
            for high in self.known.prune("min", (hi,)):
                result = result * fn.holds(">=", high - 1 - position, self.known)
        return result

    def _gather(self, operation: ir.Gather, place: Place) -> Poly:
        chosen = to_index(self.element(operation.indices, (place[operation.axis],)))
        if chosen is None:
            raise Undenoted("a gather at positions that are computed from floats")
        positions = [s + p for s, p in zip(operation.start, place, strict=True)]
        positions[operation.axis] = chosen
        return self._read(operation.view, positions, operation.fill)

    # Reductions --------------------------------------------------------------------------------

    def _reduced(self, operation: ir.Reduce | ir.Scan | ir.Mma, place: Place) -> Poly:
        match operation:
            case ir.Reduce(word, x, axis):
                live = x.type.live[axis]
                return self._fold(word, (live.lo,), (live.hi,), lambda u: self.element(x, _put(place, axis, u)))
            case ir.Scan(word, x, axis):
                live, end = x.type.live[axis], place[axis] + 1
                other = (*place[:axis], *place[axis + 1 :])
                return self._fold(word, (live.lo,), (live.hi, end), lambda u: self.element(x, _put(other, axis, u)))
            case ir.Mma(a, b):
                first, second = a.type.live[1], b.type.live[0]
                row, column = place
                lo, hi = (first.lo, second.lo), (first.hi, second.hi)
                return self._fold("sum", lo, hi, lambda u: self.element(a, (row, u)) * self.element(b, (u, column)))

    def _fold(self, word: str, lo: Place, hi: Place, body: Callable[[Index], Poly]) -> Poly:
        outer = self.known
        binder = Binder(fresh(), outer.prune("max", lo), outer.prune("min", hi))
        self.known = outer.counting(binder.name, outer.extremum("max", binder.lo), outer.extremum("min", binder.hi))
        try:
            return reduction(reduced_word(word), binder, body(binder.symbol), outer)
        finally:
            self.known = outer


def _put(place: Place, axis: int, position: Index) -> Place:
    return (*place[:axis], position, *place[axis:])


def _inner(statement: ir.If) -> list[ir.Statement]:
    return [*statement.then, *statement.otherwise]
