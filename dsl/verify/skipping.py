"""Loops that leave tiles out: what they never load, their mask would have hidden.

A loop over part of an axis, such as the one that ends at the diagonal of causal attention, is as good as the loop over
the whole axis when every position outside its bounds is masked. For each such loop with a mask inside, the mask is read
as a condition on positions (`coords`, `iota`, index integers), the position along the loop's axis is put anywhere
outside the bounds, and z3 is asked whether the condition can hold there for some row that exists.

Only what is shown is said. A loop whose mask keeps some of what it leaves out is no fault by itself: another loop or
another iteration may come for it (split loops). Whether anybody does is for the comparison with the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Index,
    Mod,
    Negation,
    Relation,
    Symbol,
    condition_indices,
    index,
    maximum,
    minimum,
    substitute_condition,
)
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import Touch, touches, walk

RELATIONS: Mapping[str, Relation] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
OUTSIDE = Symbol("position left out", "position")
Made = Mapping[int, ir.Operation]
Axes = Sequence[Index]
"""The position along each axis of a tile."""


@dataclass(frozen=True)
class _Part:
    """A loop variable that runs over [lo, hi) of an axis with positions [first, end)."""

    loop: ir.For
    variable: Symbol
    lo: Index
    hi: Index
    first: Index
    end: Index
    array: str
    known: Ranges

    @property
    def line(self) -> int:
        return self.loop.origin.span.line


@dataclass(frozen=True)
class _Mask:
    """A tile whose elements stand where `kept` holds at `positions`, a constant elsewhere."""

    value: ir.Value
    inside: ir.Value
    kept: Condition
    positions: tuple[Symbol, ...]
    line: int


def prove(kernel: ir.Kernel) -> list[Obligation]:
    """One obligation for each loop whose mask hides all that it leaves out."""
    made = {s.value.number: s.operation for s, _ in walk(kernel) if isinstance(s, ir.Let)}
    found: dict[tuple[int, str], Obligation] = {}
    for part in _parts(kernel):
        key = (part.line, part.variable.name)
        if key not in found and (hidden := _hidden(part, made)) is not None:
            found[key] = _said(part, hidden, kernel.name)
    return list(found.values())


def _said(part: _Part, mask: _Mask, kernel: str) -> Obligation:
    detail = (
        f"the loop over {part.variable.name} leaves out positions of {part.array} that the mask of line {mask.line} "
        "hides, for all sizes"
    )
    return Obligation("skipping", "PROVED", part.line, detail, kernel)


def _parts(kernel: ir.Kernel) -> Iterator[_Part]:
    """Loops over less than a whole axis of what they load."""
    for touch in touches(kernel):
        for depth, loop in enumerate(touch.place.loops):
            if loop.kind != "tiles" and touch.kind == "load":
                yield from _of_loop(touch, loop, _known_outside(kernel, touch.place.loops[:depth]))


def _known_outside(kernel: ir.Kernel, loops: Sequence[ir.For]) -> Ranges:
    known = Ranges.of(kernel)
    for loop in loops:
        known = known.inside(loop)
    return known


def _of_loop(touch: Touch, loop: ir.For, known: Ranges) -> Iterator[_Part]:
    for variable, lo, hi in zip(loop.variables, loop.lo, loop.hi, strict=True):
        for start, axis in zip(touch.start, touch.view.axes, strict=True):
            if start == index(variable) and (lo, hi) != (axis.lo, axis.hi):
                yield _Part(loop, variable, lo, hi, axis.lo, axis.hi, touch.view.array, known)


# Masks -------------------------------------------------------------------------------------------------


def _hidden(part: _Part, made: Made) -> _Mask | None:
    """The mask that hides all that the loop leaves out: the one of the last `where`, if there are several in a row."""
    masks = {m.value.number: m for m in _masks(part.loop, made)}
    consumed = {n for m in masks.values() for n in _before(m.inside, made) if n in masks}
    last = [m for n, m in masks.items() if n not in consumed]
    if not last or not all(_hides(part, _chain(m, masks, made)) for m in last):
        return None
    return last[0]


def _masks(loop: ir.For, made: Made) -> Iterator[_Mask]:
    for statement in loop.body:
        if isinstance(statement, ir.Let) and isinstance(statement.operation, ir.Where):
            found = _mask(statement.value, statement.operation, made)
            if found is not None:
                yield found


def _mask(value: ir.Value, where: ir.Where, made: Made) -> _Mask | None:
    positions = tuple(Symbol(f"place {a}", "position") for a in range(len(value.type.shape)))
    axes = [index(p) for p in positions]
    kept = condition_of(where.condition, axes, made)
    line = value.origin.span.line
    if kept is None or _constant(where.a, made) == _constant(where.b, made):
        return None
    if _constant(where.a, made):
        return _Mask(value, where.b, Negation(kept), positions, line)
    return _Mask(value, where.a, kept, positions, line)


def _constant(value: ir.Value, made: Made) -> bool:
    match made.get(value.number):
        case ir.Full():
            return True
        case ir.Broadcast(x) | ir.Cast(x) | ir.ExpandDims(x):
            return _constant(x, made)
    return False


def _before(value: ir.Value, made: Made) -> Iterator[int]:
    """Values that an element is made of, element by element."""
    yield value.number
    match made.get(value.number):
        case ir.Where(_, a, b) | ir.Binary(_, a, b):
            yield from _before(a, made)
            yield from _before(b, made)
        case ir.Unary(_, x) | ir.Cast(x) | ir.Fill(x):
            yield from _before(x, made)


def _chain(mask: _Mask, masks: Mapping[int, _Mask], made: Made) -> list[_Mask]:
    return [mask, *(masks[n] for n in _before(mask.inside, made) if n in masks)]


def _hides(part: _Part, masks: Sequence[_Mask]) -> bool:
    """Whether no position of the axis outside [lo, hi) is kept by all masks, whatever the row."""
    from kernelagent.dsl.verify.solver import contradicts

    kept = [_at(part, mask) for mask in masks]
    found = [k for k in kept if k is not None]
    if not found:
        return False
    out = index(OUTSIDE)
    sides = ([Compare(">=", out, maximum(part.hi, part.first))], [Compare("<", out, minimum(part.lo, part.end))])
    axis = [Compare(">=", out, part.first), Compare("<", out, part.end)]
    rows = [c for mask in masks for c in _rows(mask, part.variable)]
    return all(contradicts([*_facts(part.known), *rows, *axis, *side, *found]) for side in sides)


def _at(part: _Part, mask: _Mask) -> Condition | None:
    """The mask at the position that is left out: the axis along which the loop's variable then disappears."""
    for place in mask.positions:
        moved = substitute_condition(mask.kept, {place.name: index(OUTSIDE) - index(part.variable)})
        left = frozenset(s for i in condition_indices(moved) for s in i.symbols())
        if part.variable not in left and OUTSIDE in left and place not in left:
            return moved
    return None


def _rows(mask: _Mask, moved: Symbol) -> Iterator[Condition]:
    """Positions lie inside the tile and are live, as far as that does not depend on the loop itself."""
    for place, extent, live in zip(mask.positions, mask.value.type.shape, mask.value.type.live, strict=True):
        yield Compare("<", index(place), extent)
        if moved not in live.hi.symbols() | live.lo.symbols():
            yield Compare("<", index(place), live.hi)
            yield Compare(">=", index(place), live.lo)


def _facts(known: Ranges) -> Iterator[Condition]:
    for fact in known.statements():
        yield Compare(">=", fact, index(0))
    for dividend, divisor in known.divisibilities():
        yield Compare("==", index(Mod(dividend, divisor)), index(0))


# Tiles of integers, as formulas of positions ----------------------------------------------------------------


def condition_of(value: ir.Value, axes: Axes, made: Made) -> Condition | None:
    """A tile of booleans at a place, None where it is made of data."""
    match made.get(value.number):
        case ir.FromCondition(condition):
            return condition
        case ir.Binary(word, a, b) if word in RELATIONS and not is_float(a.type.dtype):
            x, y = integer_of(a, axes, made), integer_of(b, axes, made)
            return None if x is None or y is None else Compare(RELATIONS[word], x, y)
        case ir.Binary("and" | "or" as word, a, b):
            parts = (condition_of(a, axes, made), condition_of(b, axes, made))
            known = tuple(p for p in parts if p is not None)
            if word == "and" and known:  # what the other half says can only hide more
                return AllOf(known)
            return AnyOf(known) if len(known) == 2 else None
        case ir.Unary("not", x):
            inner = _exactly(x, axes, made)
            return None if inner is None else Negation(inner)
        case ir.Broadcast(x) | ir.ExpandDims(x) | ir.Permute(x):
            return condition_of(x, _moved(value, axes, made), made)
    return None


def _exactly(value: ir.Value, axes: Axes, made: Made) -> Condition | None:
    """As `condition_of`, None where part of the condition is data: its negation would hide too little."""
    match made.get(value.number):
        case ir.Binary("and", a, b):
            x, y = _exactly(a, axes, made), _exactly(b, axes, made)
            return None if x is None or y is None else AllOf((x, y))
        case ir.Broadcast(x) | ir.ExpandDims(x) | ir.Permute(x):
            return _exactly(x, _moved(value, axes, made), made)
    return condition_of(value, axes, made)


def integer_of(value: ir.Value, axes: Axes, made: Made) -> Index | None:
    """A tile of integers at a place, None where it is made of data."""
    match made.get(value.number):
        case ir.Iota(start):
            return start + axes[0]
        case ir.FromIndex(found):
            return found
        case ir.Full(number) if isinstance(number, int) and not isinstance(number, bool):
            return index(number)
        case ir.Cast(x) if not is_float(x.type.dtype):
            return integer_of(x, axes, made)
        case ir.Binary(word, a, b):
            left, right = integer_of(a, axes, made), integer_of(b, axes, made)
            return None if left is None or right is None else _combined(word, left, right)
        case ir.Broadcast(x) | ir.ExpandDims(x) | ir.Permute(x):
            return integer_of(x, _moved(value, axes, made), made)
    return None


def _combined(word: ir.BinaryWord, x: Index, y: Index) -> Index | None:
    match word:
        case "add":
            return x + y
        case "sub":
            return x - y
        case "mul":
            return x * y
        case "maximum":
            return maximum(x, y)
        case "minimum":
            return minimum(x, y)
        case "floordiv" if y.constant is not None and y.constant > 0:
            return x // y
        case "mod" if y.constant is not None and y.constant > 0:
            return x % y
    return None


def _moved(value: ir.Value, axes: Axes, made: Made) -> Axes:
    """Places of the operand of a broadcast, an expansion or a permutation."""
    match made[value.number]:
        case ir.Broadcast(x):
            if not x.type.shape:
                return ()
            return [index(0) if extent == index(1) else a for a, extent in zip(axes, x.type.shape, strict=True)]
        case ir.ExpandDims(_, inserted):
            return [a for axis, a in enumerate(axes) if axis not in inserted]
        case ir.Permute(x, order):
            places = dict(zip(order, axes, strict=True))
            return [places[axis] for axis in range(len(x.type.shape))]
    raise AssertionError(value)


__all__ = ["condition_of", "integer_of", "prove"]
