"""Iterations do not meet in global memory: what one stores, once, no other touches, and it loads before it stores.

Only an InOut array can be both loaded and stored (elaboration refuses to load an Out or an Acc, and to store an In),
and arguments that are written share memory with no other: dispatch refuses such a call. So what is left to show is
about the accesses of one InOut array, two by two, one of them a store. For all sizes:

    each variable v of `tiles` gives both accesses the same cell along one axis of the array,
        [c * v + r, c * v + r + |c| * step)      c and r of dims and of variables that have a cell already
    or, where `offsets` is a partition, [offsets[v], offsets[v + 1]). Cells of different v do not meet, so elements that
    both touch are touched in one iteration. There the load stands in front of the store; sequential loops around both
    have cells too, and a load may lie in those of later steps, not of earlier ones.

That an element is stored once is shown by cells for all loops around a store. Accesses that lie on two sides of one
position of an axis never meet, whatever the iterations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kernelagent.dsl.index import Index, Symbol, element, index, minimum
from kernelagent.dsl.ir import Array, For, Kernel, Load, Program, position
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import Place, Touch, touches

CONTRACT = "a call in which a written array shares memory with another is refused; In arrays may overlap"


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for each InOut array, or one for a kernel without any: PROVED for all sizes, or UNKNOWN."""
    updated = [a for a in kernel.arrays if a.role == "InOut"]
    if not updated:
        return [Obligation("aliasing", "PROVED", None, f"no array is both loaded and stored; {CONTRACT}", kernel.name)]
    found = list(touches(kernel))
    return [_prove(kernel, a, [t for t in found if t.view.array == a.name]) for a in updated]


def _prove(kernel: Kernel, array: Array, found: Sequence[Touch]) -> Obligation:
    subject, line = f"{kernel.name}: {array.name}", found[0].place.line if found else array.span.line
    reason = unshown(found) or stored_again(found)
    if reason:
        return Obligation("aliasing", "UNKNOWN", line, reason, subject)
    loaded = any(not _writes(t) for t in found)
    what = "loads only what it alone stores, before its one store" if loaded else "stores elements of its own, once"
    return Obligation("aliasing", "PROVED", line, f"an iteration {what}, for all sizes; {CONTRACT}", subject)


def prove_program(program: Program, shown: Iterable[Obligation]) -> list[Obligation]:
    """That calls meet in memory in order only. Elaboration refuses a temporary that is read or updated before a call
    has written it, a second call that writes it, and an array that a call writes and has twice. Left to show is that
    the call which writes a temporary writes it whole: that is the coverage of its kernel, `shown` before."""
    if not program.temps:
        return []
    temps = {t.name for t in program.temps}
    writers = {
        f"{call.kernel}: {formal}" for call in program.calls for formal, actual in call.arrays if actual in temps
    }
    left = [o for o in shown if o.family == "coverage" and o.verdict != "PROVED" and o.subject in writers]
    names = ", ".join(sorted(temps))
    if left:
        detail = f"{left[0].detail}, so parts of {names} may be read that no call has written"
        return [Obligation("aliasing", "UNKNOWN", program.span.line, detail, f"{program.name}: {left[0].subject}")]
    detail = f"{names}: written whole by one call, then read; no call has an array twice that it writes; {CONTRACT}"
    return [Obligation("aliasing", "PROVED", program.span.line, detail, program.name)]


def unshown(found: Sequence[Touch], ordered: bool = True) -> str:
    """Which two accesses of one array, in text order, are not shown to keep apart; "" if all are.

    `ordered`: text order is the order in time, and is part of what is shown.
    """
    for number, later in enumerate(found):
        for earlier in found[: number + 1]:
            if (_writes(earlier) or _writes(later)) and (reason := _meeting(earlier, later, ordered)):
                return reason
    return ""


def stored_again(found: Sequence[Touch]) -> str:
    """Which stores of one array are not shown to store each element at most once, within an iteration too; "" if all
    are."""
    stores = [t for t in found if _writes(t)]
    for number, later in enumerate(stores):
        for earlier in stores[: number + 1]:
            if not _alone(earlier, later) and not _on_two_sides(earlier, later):
                lines = dict.fromkeys((earlier.place.line, later.place.line))
                return f"{later.view.array} may be stored twice (line {' and '.join(map(str, lines))})"
    return ""


def _alone(earlier: Touch, later: Touch) -> bool:
    """Whether one statement stores other elements at every step of every loop around it."""
    together = _Together.of(earlier, later)
    return earlier is later and together is not None and not together.separate(_counted(later.place))


def _writes(touch: Touch) -> bool:
    return touch.kind in ("store", "scatter", "add")


def _meeting(earlier: Touch, later: Touch, ordered: bool) -> str:
    """Why two accesses may meet; "" if they do not, or only in one iteration with the load in front."""
    reason = _meeting_in_cells(earlier, later, ordered)
    return "" if reason and _on_two_sides(earlier, later) else reason


def _meeting_in_cells(earlier: Touch, later: Touch, ordered: bool) -> str:
    lines = f"line {earlier.place.line}" if earlier is later else f"lines {earlier.place.line} and {later.place.line}"
    name = later.view.array
    together = _Together.of(earlier, later)
    if together is None:
        return f"{lines} touch {name} in different walks over tiles"
    if left := together.separate(_counted(earlier.place, "tiles")):
        return f"iterations that differ in {', '.join(left)} may meet in {name} ({lines})"
    if (_writes(earlier) and _writes(later)) or not ordered:
        return ""
    if _writes(earlier):
        return f"{name} is loaded (line {later.place.line}) behind a store (line {earlier.place.line})"
    common = _common(earlier.place, later.place)
    if left := together.separate(common, len(common) == 1):
        return f"a later step of {', '.join(left)} may load what an earlier one stored in {name} ({lines})"
    return ""


# Loops -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counted:
    """A loop variable with its range."""

    variable: Symbol
    lo: Index
    hi: Index
    step: Index


def _variables(loop: For) -> Iterator[_Counted]:
    for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
        yield _Counted(variable, lo, hi, step)


def _counted(place: Place, kind: str = "") -> list[_Counted]:
    """Variables of the loops around a place, the outermost first; only of `tiles`, if asked."""
    return [c for loop in place.loops if kind in ("", loop.kind) for c in _variables(loop)]


def _common(a: Place, b: Place) -> list[_Counted]:
    """Variables of the sequential loops around both."""
    both = [x for x, y in zip(a.loops, b.loops, strict=False) if x is y]
    return [c for loop in both if loop.kind != "tiles" for c in _variables(loop)]


def _loop_symbols(value: Index) -> set[Symbol]:
    return {s for s in value.symbols() if s.kind in ("loop", "position")}


def _first(value: Index, counted: Iterable[_Counted]) -> Index:
    """The value at the first step of loops (outermost first)."""
    for one in reversed(list(counted)):
        value = value.substitute({one.variable.name: one.lo})
    return value


# Cells -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """[lo, hi) at one step; `rising`: those of later steps lie behind it."""

    lo: Index
    hi: Index
    rising: bool

    @property
    def ahead(self) -> tuple[Index | None, Index | None]:
        """This cell and those of all later steps."""
        return (self.lo, None) if self.rising else (None, self.hi)


@dataclass
class _Together:
    """Two accesses of one array. `known`: variables that are equal wherever both touch one element."""

    store: Touch
    other: Touch
    known: set[Symbol]

    @classmethod
    def of(cls, a: Touch, b: Touch) -> _Together | None:
        """None where they stand in walks that count differently."""
        if _counted(a.place, "tiles") != _counted(b.place, "tiles"):
            return None
        return cls(a, b, set()) if _writes(a) else cls(b, a, set())

    def separate(self, wanted: Sequence[_Counted], ahead: bool = False) -> list[str]:
        """Find cells for the variables; the names of those left without. `ahead`: the other access may lie in the cells
        of later steps."""
        left = [c for c in wanted if c.variable not in self.known and not self._fixed(c)]
        self.known |= {c.variable for c in wanted} - {c.variable for c in left}
        while found := [c for c in left if self._has_cell(c, ahead)]:
            self.known |= {c.variable for c in found}
            left = [c for c in left if c not in found]
        return [c.variable.name for c in left]

    def _fixed(self, counted: _Counted) -> bool:
        """Whether both accesses happen at one step only: there is no other, or a branch asks for it."""
        length, step = (counted.hi - counted.lo).constant, counted.step.constant
        if length is not None and step is not None and length <= step:
            return True
        at = index(counted.variable)
        return all(t.place.ranges.equal(at, counted.lo) for t in (self.store, self.other))

    def _has_cell(self, counted: _Counted, ahead: bool) -> bool:
        pairs = zip(self.store.view.coordinates, self.other.view.coordinates, strict=True)
        if any(self._cell_along(counted, a, b, ahead) for a, b in (*pairs, *self._same_positions())):
            return True
        lists = self._lists()
        return lists is not None and lists._has_cell(counted, ahead)

    def _lists(self) -> _Together | None:
        """The accesses to the list of positions that both take from: other entries of a list of `distinct` ones are
        other elements."""
        a, b = self.store.listing, self.other.listing
        if a is None or b is None or a.view.array != b.view.array:
            return None
        if self.store.listed != self.other.listed or not self._one_view():
            return None
        if a.view.array not in self.store.place.ranges.distinct:
            return None
        return _Together(_entries(self.store, a), _entries(self.other, b), self.known)

    def _same_positions(self) -> Iterator[tuple[Index, Index]]:
        """Positions of the view tell elements apart as well as an array's own, where both go through the same view. No
        store goes through a window, so its positions are different elements."""
        for axis in range(len(self.store.view.axes)) if self._one_view() else ():
            yield index(position(axis)), index(position(axis))

    def _one_view(self) -> bool:
        """Whether equal positions are equal elements: the views are one, wherever both touch an element."""
        view = self.store.view
        outer = {s for c in view.coordinates for s in _loop_symbols(c) if s.kind == "loop"}
        return view == self.other.view and outer <= self.known

    def _cell_along(self, counted: _Counted, of_store: Index, of_other: Index, ahead: bool) -> bool:
        return any(
            _within(self.store, of_store, c.lo, c.hi)
            and _within(self.other, of_other, *((c.lo, c.hi) if not ahead else c.ahead))
            for c in self._cells(counted, of_store, of_other)
        )

    def _cells(self, counted: _Counted, of_store: Index, of_other: Index) -> Iterator[_Cell]:
        """Cells that begin with one of the tiles, or groups of a partition."""
        ranges = self.store.place.ranges
        starts = [self._begin(self.store, of_store, counted), self._begin(self.other, of_other, counted)]
        for start in dict.fromkeys(starts):
            slope, rest = start.affine(counted.variable) or (index(0), index(counted.variable))
            if not _loop_symbols(rest) <= self.known or _loop_symbols(slope):
                continue
            if ranges.nonnegative(slope):
                yield _Cell(start, start + slope * counted.step, True)
            elif ranges.nonnegative(-slope):
                yield _Cell(start, start - slope * counted.step, False)
        for array in self.store.place.ranges.partitions if counted.step == index(1) else ():
            v = index(counted.variable)
            yield _Cell(element(array, (v,)), element(array, (v + 1,)), True)

    def _begin(self, touch: Touch, coordinate: Index, counted: _Counted) -> Index:
        """A coordinate of the tile's first element, at the first step of loops that have no cell."""
        starts = {position(a).name: s for a, s in enumerate(touch.start)}
        free = [c for c in _counted(touch.place) if c.variable not in self.known and c.variable != counted.variable]
        return _first(coordinate.substitute(starts), free)


def _entries(touch: Touch, listing: Load) -> Touch:
    """The load of the positions that a gather or scatter takes."""
    assert touch.listed is not None
    extent = touch.shape[touch.listed]
    return replace(touch, view=listing.view, start=listing.start, shape=(extent,), listed=None, listing=None)


def _within(touch: Touch, coordinate: Index, lo: Index | None, hi: Index | None) -> bool:
    """Whether a coordinate of everything that is touched is in [lo, hi); None: no bound."""
    return any(
        (lo is None or ranges.nonnegative(coordinate - lo)) and (hi is None or ranges.nonnegative(hi - 1 - coordinate))
        for ranges in (_positions(touch, coordinate, False), _positions(touch, coordinate, True))
    )


def _positions(touch: Touch, coordinate: Index, clipped: bool) -> Ranges:
    """What is known of the positions in a tile; `clipped`: of those that lie in the view."""
    ranges, names = touch.place.ranges, {s.name for s in coordinate.symbols() if s.kind == "position"}
    for axis, bounds in enumerate(touch.view.axes):
        if position(axis).name not in names:
            continue
        if axis == touch.listed:
            ranges = ranges.counting(position(axis), bounds.lo, bounds.hi)
            continue
        start, end = touch.start[axis], touch.start[axis] + touch.shape[axis]
        ranges = ranges.counting(position(axis), start, minimum(end, bounds.hi) if clipped else end)
    return ranges


# Two sides of a position -----------------------------------------------------------------------------


def _on_two_sides(a: Touch, b: Touch) -> bool:
    """Whether along some axis all that one access ever touches lies in front of all that the other does."""
    return any(
        _in_front(a, x, b, y) or _in_front(b, y, a, x)
        for x, y in zip(a.view.coordinates, b.view.coordinates, strict=True)
        if a is not b
    )


def _in_front(a: Touch, of_a: Index, b: Touch, of_b: Index) -> bool:
    """At the position where b begins in the first steps of its loops."""
    starts = {position(k).name: s for k, s in enumerate(b.start)}
    at = _first(of_b.substitute(starts), _counted(b.place))
    if _loop_symbols(at):
        return False
    before = (_positions(a, of_a, clipped) for clipped in (False, True))
    behind = (_positions(b, of_b, clipped) for clipped in (False, True))
    return any(r.nonnegative(of_b - at) for r in behind) and any(r.nonnegative(at - 1 - of_a) for r in before)


__all__ = ["CONTRACT", "prove", "prove_program", "stored_again", "unshown"]
