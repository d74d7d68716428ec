"""Each element of an Out array is stored exactly once.

The argument, for all sizes: along each array axis the stores lie side by side; each store's loops cut its part
into tiles that lie side by side; and no loop around a store goes unused (it would store the same elements again).

    axis of the array      how it is covered
    integer coordinate v   a loop variable v over 0 .. dim-1 with step 1
    view axis, offset c    [c, c + length), by a loop from 0 to the length whose step is the tile's extent,
                           or by one tile at least as long
    parts of one tile      stores that lie side by side in each iteration: as one store of the whole tile
    slices [f(v), f(v+1))  a loop over v from 0 with step 1, which has at least one, f(0) = 0, f(end) = dim
    a group of a partition [offsets[e], offsets[e + 1]), by a loop over all groups e
    several view axes      digits of a mixed-radix number (a reshaped view), each covered as above
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelagent.dsl.index import Compare, Index, Symbol, element, index, minimum
from kernelagent.dsl.ir import Array, For, Kernel, Value, position
from kernelagent.dsl.verify.beside import joined
from kernelagent.dsl.verify.branches import by_sizes
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import Place, Touch, touches


class _Unshown(Exception):
    """The argument does not apply; the text says where it stops."""


@dataclass(frozen=True)
class _Part:
    """[lo, hi) of one array axis, every element stored exactly once by one store statement."""

    lo: Index
    hi: Index


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for each Out array: PROVED for all sizes, or UNKNOWN with the place where the argument stops.

    Where a branch on sizes is in the way, of each arm by itself.
    """
    found = _of_all(kernel)
    variants = by_sizes(kernel) if any(o.verdict != "PROVED" for o in found) else [kernel]
    if len(variants) == 1:
        return found
    each = zip(*(_of_all(variant) for variant in variants), strict=True)
    return [next((o for o in arms if o.verdict != "PROVED"), arms[0]) for arms in each]


def _of_all(kernel: Kernel) -> list[Obligation]:
    stores = [t for t in touches(kernel) if t.kind in ("store", "scatter")]
    outs = [a for a in kernel.arrays if a.role == "Out"]
    return [_prove(kernel, out, [s for s in stores if s.view.array == out.name]) for out in outs]


def _prove(kernel: Kernel, out: Array, stores: list[Touch]) -> Obligation:
    subject, line = f"{kernel.name}: {out.name}", stores[0].place.line if stores else out.span.line
    try:
        if not stores:
            raise _Unshown(f"{out.name} is never stored")
        _cover(out, joined(stores, _whole_along), Ranges.of(kernel))
    except _Unshown as reason:
        return Obligation("coverage", "UNKNOWN", line, str(reason), subject)
    detail = f"each element of {out.name} is stored exactly once: its tiles lie side by side, for all sizes"
    return Obligation("coverage", "PROVED", line, detail, subject)


def _cover(out: Array, stores: list[Touch], ranges: Ranges) -> None:
    """`ranges` knows the assumptions only: what holds at one store need not hold where it does not run."""
    parts = [_parts(out, store, ranges) for store in stores]
    whole = [_Part(index(0), dim) for dim in out.dims]
    split = [axis for axis in range(len(out.dims)) if any(not _same(p[axis], whole[axis]) for p in parts)]
    if len(split) > 1:
        raise _Unshown(f"the stores of {out.name} divide more than one axis")
    if not split:
        if len(stores) > 1:
            raise _Unshown(f"{out.name} is stored by {len(stores)} statements that each cover it")
        return
    _side_by_side([p[split[0]] for p in parts], out.dims[split[0]], ranges, out.name)


def _same(part: _Part, other: _Part) -> bool:
    return part.lo == other.lo and part.hi == other.hi


def _side_by_side(parts: list[_Part], dim: Index, ranges: Ranges, name: str) -> None:
    reached = index(0)
    left = list(parts)
    while left:
        following = next((p for p in left if ranges.equal(p.lo, reached)), None)
        if following is None:
            raise _Unshown(f"no store of {name} is shown to begin at {reached}")
        left.remove(following)
        reached = following.hi
    if not ranges.equal(reached, dim):
        raise _Unshown(f"the stores of {name} are shown up to {reached}, not up to {dim}")


def _parts(out: Array, store: Touch, always: Ranges) -> list[_Part]:
    """`always` knows the assumptions only."""
    if store.kind == "scatter":
        raise _Unshown("the positions of a scatter are data")
    unused = {v.name for v in store.place.variables() if not _once(store.place, v)} - _pinned(store.place)
    found = [_axis_part(store, c, dim, unused, always) for c, dim in zip(store.view.coordinates, out.dims, strict=True)]
    parts = [_one_after_another(store, part, unused, always) for part in found]
    if unused:
        moved = ", ".join(sorted(unused))
        raise _Unshown(f"the steps of the loop over {moved} are not shown to store side by side, each along an axis")
    return parts


def _once(place: Place, variable: Symbol) -> bool:
    """Whether the loop over `variable` runs exactly once, whatever the sizes."""
    loop, axis = _loop(place, variable)
    length, step = (loop.hi[axis] - loop.lo[axis]).constant, loop.step[axis].constant
    return length is not None and step is not None and 0 < length <= step


def _pinned(place: Place) -> set[str]:
    """Loop variables that a guard `v == constant` fixes to their first position: they count once."""
    pinned: set[str] = set()
    for guard in place.guards:
        variable = _first_position(guard, place)
        if variable is None:
            raise _Unshown("the store stands under a condition")
        pinned.add(variable)
    return pinned


def _first_position(guard: object, place: Place) -> str | None:
    if isinstance(guard, Value) or not isinstance(guard, Compare) or guard.relation != "==":
        return None
    for variable in place.variables():
        loop, axis = _loop(place, variable)
        at = guard.a - guard.b
        runs = loop.hi[axis].constant is not None and place.ranges.nonnegative(loop.hi[axis] - 1 - loop.lo[axis])
        if runs and at in (index(variable) - loop.lo[axis], loop.lo[axis] - index(variable)):
            return variable.name
    return None


def _loop(place: Place, variable: Symbol) -> tuple[For, int]:
    found = place.loop_of(variable.name)
    assert found is not None, "a variable of the place belongs to one of its loops"
    return found


def _axis_part(store: Touch, coordinate: Index, dim: Index, unused: set[str], always: Ranges) -> _Part:
    digits = [s for s in coordinate.symbols() if s.kind == "position"]
    if not digits:
        return _integer_part(store.place, coordinate, unused)
    factors = {}
    rest = coordinate
    for digit in digits:
        parts = coordinate.affine(digit)
        if parts is None:
            raise _Unshown(f"position {coordinate} is not affine")
        factors[digit] = parts[0]
        rest = rest - parts[0] * index(digit)
    ordered = sorted(digits, key=lambda d: len(str(factors[d])) if factors[d] != index(1) else 0)
    reached = index(1)
    for digit in ordered:
        if not store.place.ranges.equal(factors[digit], reached):
            raise _Unshown(f"the view's axes overlap, or leave gaps, in {coordinate}")
        reached = reached * _digit_length(store, digit, unused, always)
    return _groups_joined(store, _Part(rest, rest + reached), dim, unused)


def _groups_joined(store: Touch, part: _Part, dim: Index, unused: set[str]) -> _Part:
    """[offsets[e], offsets[e + 1]) for e = 0, 1, ... is the whole axis when offsets partitions it."""
    for array, total in store.place.ranges.partitions.items():
        for variable in store.place.variables():
            e = index(variable)
            bounds = (element(array, (e,)), element(array, (e + 1,)))
            if variable.name not in unused or (part.lo, part.hi) != bounds or total != dim:
                continue
            loop, axis = _loop(store.place, variable)
            whole = store.place.ranges.groups[array]
            if (loop.lo[axis], loop.hi[axis], loop.step[axis]) == (index(0), whole, index(1)):
                unused.discard(variable.name)
                return _Part(index(0), dim)
    return part


def _one_after_another(store: Touch, part: _Part, unused: set[str], always: Ranges) -> _Part:
    """[f(v), f(v + 1)) for v = a, a + 1 .. b - 1 is [f(a), f(b)) where f does not fall: slices that a loop moves."""
    ranges = store.place.ranges
    for variable in store.place.variables():
        loop, axis = _loop(store.place, variable)
        if variable.name not in unused or loop.step[axis] != index(1):
            continue
        following = part.lo.substitute({variable.name: index(variable) + 1})
        if not (ranges.equal(part.hi, following) and ranges.nonnegative(part.hi - part.lo)):
            continue
        _independent(loop, axis)
        if not always.nonnegative(loop.hi[axis] - loop.lo[axis] - 1):
            lack = f"`assume({loop.hi[axis]} > {loop.lo[axis]})`"
            raise _Unshown(f"slices follow each other by the loop over {variable}, but it may have no step: {lack}")
        unused.discard(variable.name)
        first, last = (part.lo.substitute({variable.name: end}) for end in (loop.lo[axis], loop.hi[axis]))
        return _Part(first, last)
    return part


def _integer_part(place: Place, coordinate: Index, unused: set[str]) -> _Part:
    variables = [v for v in place.variables() if v.name in unused and v in coordinate.symbols()]
    if not variables:
        return _Part(coordinate, coordinate + 1)
    if len(variables) > 1:
        raise _Unshown(f"{coordinate} counts with several loops at once: {', '.join(v.name for v in variables)}")
    return _strided(place, coordinate, variables[0], unused)


def _strided(place: Place, coordinate: Index, variable: Symbol, unused: set[str]) -> _Part:
    loop, axis = _loop(place, variable)
    parts = coordinate.affine(variable)
    if parts is None or parts[0] != index(1) or loop.step[axis] != index(1):
        raise _Unshown(f"{coordinate} does not count one by one")
    _independent(loop, axis)
    unused.discard(variable.name)
    return _Part(parts[1] + loop.lo[axis], parts[1] + loop.hi[axis])


def _digit_length(store: Touch, digit: Symbol, unused: set[str], always: Ranges) -> Index:
    """The length of one view axis, once it is shown that the tiles cover it exactly once."""
    axis = next((a for a in range(len(store.view.axes)) if position(a) == digit), None)
    if axis is None:
        raise _Unshown(f"{digit} is no axis of the view")
    bounds, start, extent = store.view.axes[axis], store.start[axis], store.shape[axis]
    if bounds.lo != index(0) or bounds.hi != bounds.length:
        raise _Unshown("a window is stored through")
    variables = [v for v in store.place.variables() if v in start.symbols() and v.name in unused]
    if not variables:
        _one_tile(store, axis, start, extent, bounds.length)
    elif len(variables) == 1:
        _many_tiles(store, start, extent, bounds.length, variables[0], always)
        unused.discard(variables[0].name)
    else:
        raise _Unshown(f"the start {start} counts with several loops")
    _wholly_live(store, axis, start, extent, bounds.length)
    return bounds.length


def _one_tile(store: Touch, axis: int, start: Index, extent: Index, length: Index) -> None:
    ranges = store.place.ranges
    if start.substitute(_only_positions(store.place)) != index(0):
        raise _Unshown(f"the store starts at {start} of axis {axis}, and no loop moves it")
    if not ranges.nonnegative(extent - length):
        raise _Unshown(f"one tile of {extent} is not shown to cover the {length} elements of axis {axis}")


def _only_positions(place: Place) -> dict[str, Index]:
    """Loop variables that take one position only, with that position."""
    once = [v for v in place.variables() if _once(place, v)]
    return {v.name: (found := _loop(place, v))[0].lo[found[1]] for v in once}


def _many_tiles(store: Touch, start: Index, extent: Index, length: Index, variable: Symbol, always: Ranges) -> None:
    loop, axis = _loop(store.place, variable)
    scale, rest = start.affine(variable) or (index(0), start)
    if rest != index(0) or (scale.constant or 0) < 1:
        raise _Unshown(f"the store starts at {start}, not at a multiple of the loop variable {variable}")
    if scale * loop.step[axis] != extent:
        raise _Unshown(f"the store moves by {scale * loop.step[axis]} from tile to tile, but the tile has {extent}")
    around = _around(store.place, loop, always)
    if loop.lo[axis] != index(0) or not _reaches(around, scale * loop.hi[axis], length):
        covered = f"{loop.lo[axis]} to {scale * loop.hi[axis]}"
        raise _Unshown(f"the tiles run from {covered}, the view has {length} elements")
    _independent(loop, axis)


def _reaches(around: Ranges, end: Index, length: Index) -> bool:
    """Whether tiles from 0 to `end` reach the length: some, or none where the length is none, too."""
    if around.nonnegative(end - length):
        return True
    some, none = around.where(Compare(">=", end, index(1))), around.where(Compare("<=", end, index(0)))
    return some.nonnegative(end - length) and none.nonnegative(-length)


def _around(place: Place, loop: For, always: Ranges) -> Ranges:
    """What is known in front of a loop: inside it one knows that it has a step, which is to be shown."""
    for outer in place.loops[: place.loops.index(loop)]:
        always = always.inside(outer)
    return always


def _independent(loop: For, axis: int) -> None:
    counted = set(loop.variables)
    if counted & (loop.lo[axis].symbols() | loop.hi[axis].symbols()):
        raise _Unshown(f"the range of {loop.variables[axis]} depends on another variable of its loop")


def _whole_along(store: Touch, axis: int) -> bool:
    bounds = store.view.axes[axis]
    try:
        _wholly_live(store, axis, store.start[axis], store.shape[axis], bounds.length)
    except _Unshown:
        return False
    return True


def _wholly_live(store: Touch, axis: int, start: Index, extent: Index, length: Index) -> None:
    """Live positions must include every position of the tile that lies inside the view."""
    live, ranges = store.live[axis], store.place.ranges
    inside = minimum(extent, length - start)
    if live.lo != index(0) and not ranges.nonnegative(-live.lo):
        raise _Unshown(f"positions before {live.lo} of the stored tile may be void")
    if live.hi not in (extent, inside) and not ranges.nonnegative(live.hi - inside):
        raise _Unshown(f"positions from {live.hi} of the stored tile may be void")
