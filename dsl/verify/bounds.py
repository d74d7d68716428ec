"""Every position that is used lies inside its array, and no index is divided by zero.

Shown by interval and divisibility reasoning, for all sizes. What is not shown here stays for z3 (`solver`) or
for the runs (`trials`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernelagent.dsl.index import Atom, Element, FloorDiv, Index, Mod, Symbol, index
from kernelagent.dsl.ir import Kernel, ViewAxis, position
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.sites import ELEMENT, Computed, Place, Touch, computed, touches


@dataclass(frozen=True)
class Question:
    """`value >= 0` must hold wherever `place` is reached; `text` says it in the author's words."""

    value: Index
    place: Place
    text: str
    subject: str
    proved: bool
    from_data: bool = False  # no range of the data is assumed, so nothing can be shown


def questions(kernel: Kernel) -> list[Question]:
    """All bounds of a concrete kernel, each asked once, with the answer of interval reasoning."""
    found: dict[tuple[Index, str, int], Question] = {}
    for question in _all(kernel):
        found.setdefault((question.value, question.subject, question.place.line), question)
    return list(found.values())


def _all(kernel: Kernel) -> Iterator[Question]:
    dims = {a.name: a.dims for a in kernel.arrays}
    for touch in touches(kernel):
        yield from _of_touch(touch, dims[touch.view.array])
    for item in computed(kernel):
        yield from _of_expression(item, dims)


def _of_touch(touch: Touch, dims: tuple[Index, ...]) -> Iterator[Question]:
    view, place = touch.view, touch.place
    for axis, (coordinate, dim) in enumerate(zip(view.coordinates, dims, strict=True)):
        subject = f"{view.array} axis {axis}"
        named = named_index(view.array, axis, len(dims), coordinate)
        if _whole_axis(touch, coordinate, dim):
            yield Question(coordinate, place, f"{named} is below {dim}", subject, proved=True)
            continue
        inside = _with_positions(place.ranges, touch, coordinate)
        yield _ask(coordinate, inside, place, f"{named} is not negative", subject)
        yield _ask(dim - 1 - coordinate, inside, place, f"{named} is below {dim}", subject)
    if touch.listed is not None and not touch.filled:
        yield from _of_listed(touch, touch.view.axes[touch.listed])


_WORDS = {1: ("the index",), 2: ("the row index", "the column index")}


def named_index(array: str, axis: int, rank: int, coordinate: Index) -> str:
    """In the words of a kernel: `the row index of x`, or `the row index of x, 8 * h + p (p: any position ...),`."""
    word = _WORDS[rank][axis] if rank in _WORDS else f"index {axis}"
    positions = sorted({s for s in coordinate.symbols() if s.kind == "position"}, key=str)
    if [coordinate] == [index(p) for p in positions]:
        return f"{word} of {array}"
    if not positions:
        return f"{word} of {array}, {coordinate},"
    names = ["p"] if len(positions) == 1 else [f"p{p.name.removeprefix('@')}" for p in positions]
    told = coordinate.substitute({p.name: index(Symbol(n, "loop")) for p, n in zip(positions, names, strict=True)})
    return f"{word} of {array}, {told} ({', '.join(names)}: any position of the view),"


def _whole_axis(touch: Touch, coordinate: Index, dim: Index) -> bool:
    """The view's axis is an axis of the array, whole: its positions are in range by definition."""
    axes = enumerate(touch.view.axes)
    return any(coordinate == index(position(a)) and axis.lo == index(0) and axis.hi == dim for a, axis in axes)


def _with_positions(ranges: Ranges, touch: Touch, coordinate: Index) -> Ranges:
    """In a view, position k of an axis runs over [lo, hi) of that axis."""
    names = {s.name for s in coordinate.symbols() if s.kind == "position"}
    for axis, bounds in enumerate(touch.view.axes):
        if position(axis).name in names:
            ranges = ranges.counting(position(axis), bounds.lo, bounds.hi)
    return ranges


def _of_listed(touch: Touch, axis: ViewAxis) -> Iterator[Question]:
    """Positions that are data: shown only through a declared range of the array they come from."""
    array, made = (touch.source, index(ELEMENT)) if touch.source else touch.clamped or (None, index(ELEMENT))
    listed = Symbol(f"element of {array or 'the index tile'}", "loop")
    source = touch.place.ranges.data_range(array) if array else None
    ranges = touch.place.ranges if source is None else touch.place.ranges.counting(listed, *source)
    subject = f"{touch.view.array}, positions from data"
    value = made.substitute({ELEMENT.name: index(listed)})
    for bound, side in ((value - axis.lo, f"at least {axis.lo}"), (axis.hi - 1 - value, f"below {axis.hi}")):
        text = f"{value} is {side}"
        yield replace(_ask(bound, ranges, touch.place, text, subject), from_data=source is None)


def _of_expression(item: Computed, dims: dict[str, tuple[Index, ...]]) -> Iterator[Question]:
    place = item.place
    for atom in item.expression.atoms():
        yield from _of_atom(atom, place, dims)


def _of_atom(atom: Atom, place: Place, dims: dict[str, tuple[Index, ...]]) -> Iterator[Question]:
    match atom:
        case FloorDiv(_, b) | Mod(_, b) if b.constant is None:
            yield _ask(b - 1, place.ranges, place, f"{b} is above 0", f"divisor of {atom}")
        case Element(array, coordinates):
            for axis, (coordinate, dim) in enumerate(zip(coordinates, dims[array], strict=True)):
                subject = f"{array} axis {axis}"
                named = named_index(array, axis, len(coordinates), coordinate)
                yield _ask(coordinate, place.ranges, place, f"{named} is not negative", subject)
                yield _ask(dim - 1 - coordinate, place.ranges, place, f"{named} is below {dim}", subject)


def _ask(value: Index, ranges: Ranges, place: Place, text: str, subject: str) -> Question:
    known = Place(place.loops, place.guards, place.line, ranges)
    return Question(value, known, text, subject, ranges.nonnegative(value))
