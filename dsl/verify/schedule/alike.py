"""Whether what a few tiles show holds for all: positions are affine in where a tile lies, and enough places were run.

A schedule and its kernel of tiles take, at each place (which tile, which iteration), elements at certain positions. Say
that every position is affine in the counts of the loops around it and in some *terms*, which no sum of counts gives:
`j // 128`, `labels[i]`, the start of a group. Then so is the difference of the two positions of an element that both
take, and an affine function that is zero at places which span all places is zero everywhere. So what is compared at
such places is equal at all, whatever the terms are as functions of the place, and whatever data holds. Places span
when one, the counts and the terms are linearly independent over them; that is computed for the launches that were run,
set by set of counts and terms that have to do with each other.

- Counts are steps of a loop, not its variable: of 128 elements a step, `j // 128` is a count, of 64 it is a term.
- Where a loop of several variables takes the place of the iteration some steps ahead, the digits of the iteration's
  number, `n // (3 * T) % 3`, are the counts of that iteration, and nothing else.
- Masks follow: they compare positions with bounds. Ends that data gives are terms, too.
- Positions taken from a tile of data (gather, scatter) are the data's own elements, moved but not computed with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Atom, Element, Extremum, Index, Symbol, cdiv, children, index, minimum
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.schedule.cases import Call, Case
from kernelagent.dsl.verify.schedule.masks import masked_beyond
from kernelagent.dsl.verify.sites import computed, touches, walk

MOST_PLACES = 4096
"""Places of one launch that are looked at."""


@dataclass(frozen=True)
class Axis:
    """One variable of a walk or loop."""

    variable: Symbol
    lo: Index
    hi: Index
    step: Index
    single: bool = True  # no other loop over the variable begins or steps in another way

    def bounds(self) -> tuple[Index, ...]:
        return (self.lo, self.hi, self.step)


@dataclass(frozen=True)
class Part:
    """Counts and terms that have to do with each other; in `terms` a variable stands for its count."""

    axes: tuple[Axis, ...]  # outer first
    counts: tuple[str, ...]
    terms: tuple[Index, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.terms)) or ", ".join(self.counts)


@dataclass(frozen=True)
class Unlike:
    """What keeps a tile from being another one moved."""

    reason: str


class Depends(Exception):
    """A position that is not affine; the text says which."""


def parts_of(case: Case) -> tuple[Part, ...] | Unlike:
    """What the launches of a case have to span."""
    try:
        axes = axes_of(case.kernel)
        found = {t: None for e in _accessed(case.kernel, axes) for t in terms_of(e, axes)}
        found |= {t: None for t in _ends(case.kernel, axes)}
        found |= dict.fromkeys(_of_the_oracle(case, axes))
        _sized(case, axes)
        _listed(case.kernel)
    except Depends as reason:
        return Unlike(str(reason))
    return tuple(_parts(axes, list(found)))


def unspanned(parts: Iterable[Part], calls: Sequence[Call]) -> Part | None:
    """A part that no call's places span."""
    return next((p for p in parts if not any(spans(p, call) for call in calls)), None)


def spans(part: Part, call: Call) -> bool:
    """Whether one, the counts and the terms are linearly independent over the places of a call."""
    width = 1 + len(part.counts) + len(part.terms)
    try:
        rows = [_row(part, counts, call) for counts in islice(_places(part, call), MOST_PLACES)]
    except (KeyError, ZeroDivisionError, LookupError):
        return False
    return len(rows) >= width and int(np.linalg.matrix_rank(np.array(rows, np.float64))) == width


def _row(part: Part, counts: Mapping[str, int], call: Call) -> list[int]:
    return [1, *(counts[c] for c in part.counts), *(t.evaluate(counts, call.read) for t in part.terms)]


def _places(part: Part, call: Call) -> Iterator[dict[str, int]]:
    """Counts of every place of the loops; sizes are in them too."""
    yield from _nested(part.axes, dict(call.sizes), dict(call.sizes), call)


def _nested(
    axes: Sequence[Axis], variables: dict[str, int], counts: dict[str, int], call: Call
) -> Iterator[dict[str, int]]:
    if not axes:
        yield dict(counts)
        return
    name = axes[0].variable.name
    lo, hi, step = (bound.evaluate(variables, call.read) for bound in axes[0].bounds())
    for count, at in enumerate(range(lo, hi, step)):
        variables[name], counts[name] = at, count
        yield from _nested(axes[1:], variables, counts, call)


# Loops ---------------------------------------------------------------------------------------------------


def axes_of(kernel: dev.DeviceKernel) -> dict[str, Axis]:
    """By variable, outer before inner. Roles take the same tiles."""
    found: dict[str, Axis] = {}
    for grid in every_grid(kernel):
        note(found, grid)
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.For):
            note(found, statement)
    return found


def note(found: dict[str, Axis], loop: dev.Grid | dev.For | ir.For) -> None:
    """Of two loops over a variable the first counts: whether the other differs matters to terms alone."""
    for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
        known = found.setdefault(variable.name, Axis(variable, lo, hi, step))
        if (known.lo, known.step) != (lo, step):
            found[variable.name] = replace(known, single=False)


def counted(value: Index, axes: Mapping[str, Axis]) -> Index:
    """The value with every variable replaced by the start of its loop and a count of steps, innermost first."""
    for name, axis in reversed(list(axes.items())):
        if axis.variable in value.symbols():
            value = value.substitute({name: axis.lo + axis.step * index(axis.variable)})
    return value


def once(axis: Axis) -> bool:
    """Whether a loop has one iteration at most, whatever the sizes."""
    length, step = (axis.hi - axis.lo).constant, axis.step.constant
    return length is not None and step is not None and length <= step


# Positions -----------------------------------------------------------------------------------------------


def _accessed(kernel: dev.DeviceKernel, axes: Mapping[str, Axis]) -> Iterator[Index]:
    """Every position of the schedule, with the place of later iterations as counts of their own."""
    digits = digits_of(kernel)
    for view, start in places(kernel):
        for value in (*start, *view.coordinates):
            yield replaced(value, digits)


def places(kernel: dev.DeviceKernel) -> Iterator[tuple[ir.View, tuple[Index, ...]]]:
    """View and start of every access to global memory."""
    for s in dev.statements(kernel):
        match s:
            case dev.Let(operation=dev.Load(view=view, start=start) | dev.Gather(view=view, start=start)):
                yield view, start
            case dev.Store(view=view, start=start) | dev.Scatter(view=view, start=start):
                yield view, start
            case dev.Copy(view=view, start=start) | dev.CopyBulk(view=view, start=start):
                yield view, start
            case dev.StoreBulk(view=view, start=start):
                yield view, start


def terms_of(value: Index, axes: Mapping[str, Axis]) -> Iterator[Index]:
    """Atoms of a position that depend on the place and are no counts. Raises Depends."""
    for monomial, _ in counted(value, axes).terms:
        varying = [a for a in monomial if _varies(a, axes)]
        if len(varying) > 1 or any(s.kind == "position" for a in varying for s in index(a).symbols()):
            raise Depends(f"the position {value} is not affine in the place of the tile")
        if sum(isinstance(a, Symbol) and a.kind == "position" for a in monomial) > 1:
            raise Depends(f"the position {value} is not affine in a tile's positions")
        if any(not isinstance(a, Symbol) and _has_positions(a) for a in monomial):
            raise Depends(f"the position {value} is not affine in a tile's positions")
        if varying and not isinstance(varying[0], Symbol):
            if any(s.name in axes and not axes[s.name].single for s in index(varying[0]).symbols()):
                raise Depends(f"the position {value} follows loops that begin or step in different ways")
            yield index(varying[0])


def _varies(atom: Atom, axes: Mapping[str, Axis]) -> bool:
    return any(s.name in axes and s.kind != "position" for s in index(atom).symbols())


def _has_positions(atom: Atom) -> bool:
    return any(s.kind == "position" for s in index(atom).symbols())


def _ends(kernel: dev.DeviceKernel, axes: Mapping[str, Axis]) -> Iterator[Index]:
    """Data in the ends of walks and views."""
    values = [b for axis in axes.values() for b in axis.bounds()]
    values += [b for view, _ in places(kernel) for axis in view.axes for b in (axis.lo, axis.hi)]
    yield from _data(values, axes)


def _data(values: Iterable[Index], axes: Mapping[str, Axis]) -> Iterator[Index]:
    for value in values:
        for atom in counted(value, axes).atoms():
            if isinstance(atom, Element) and _varies(atom, axes):
                yield index(atom)


# Iterations ahead ----------------------------------------------------------------------------------------


def digits_of(kernel: dev.DeviceKernel) -> dict[Atom, Index]:
    """For loops of several variables: the digits of the number of a later iteration, each a count of its own.

    Iteration n of a loop over (r, s, c), of R, S, T steps, is r = n // (S * T), s = n // T % S, c = n % T: whatever T
    is, digits of n + d are the place that iteration n + d has.
    """
    ahead = max((b.stages for b in kernel.buffers), default=1)
    found: dict[Atom, Index] = {}
    for loop in (s for s in dev.statements(kernel) if isinstance(s, dev.For) and len(s.variables) > 1):
        for steps in range(1, ahead + 1):
            found |= _loop_digits(loop, steps, True)
            found |= _loop_digits(loop, steps, False)
    return found


def _loop_digits(loop: dev.For, steps: int, first: bool) -> dict[Atom, Index]:
    """Of the iteration `steps` after the current one, or after the first."""
    counts = [cdiv(hi - lo, step) for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True)]
    if any(count.symbols() & set(loop.variables) for count in counts):
        return {}
    number, total = index(steps), index(1)
    for k in reversed(range(len(counts))):
        number += 0 if first else total * ((index(loop.variables[k]) - loop.lo[k]) // loop.step[k])
        total *= counts[k]
    found: dict[Atom, Index] = {}
    total = index(1)
    for k in reversed(range(len(counts))):
        digit = number // total if k + 1 < len(counts) else number
        digit = digit % counts[k] if k else digit
        atom = _single(digit)
        if atom is not None and counts[-1].constant is None:
            found[atom] = index(Symbol(f"{loop.variables[k].name} {steps} after {'the first' * first}", "loop"))
        total *= counts[k]
    return found


def _single(value: Index) -> Atom | None:
    match value.terms:
        case (((atom,), 1),):
            return atom
    return None


def replaced(value: Index, digits: Mapping[Atom, Index]) -> Index:
    total = index(0)
    for monomial, coefficient in value.terms:
        product = index(coefficient)
        for atom in monomial:
            product = product * digits.get(atom, index(atom))
        total = total + product
    return total


# The kernel of tiles -------------------------------------------------------------------------------------


def _of_the_oracle(case: Case, axes: Mapping[str, Axis]) -> Iterator[Index]:
    """The terms of its positions. Its loops count as the schedule's of the same name do."""
    entry = case.oracle.entry if case.oracle is not None else None
    if not isinstance(entry, ir.Kernel):
        return
    for touch in touches(entry):
        own: dict[str, Axis] = {}
        for loop in touch.place.loops:
            note(own, loop)
        values = (*touch.start, *touch.view.coordinates)
        found = [t for value in values for t in terms_of(value, own)]
        found += _data([b for axis in touch.view.axes for b in (axis.lo, axis.hi)], own)
        for term in found:
            _same_loops(term, own, axes)
            yield term


def _same_loops(term: Index, own: Mapping[str, Axis], axes: Mapping[str, Axis]) -> None:
    for name in (s.name for s in term.symbols() if s.name in own):
        if name not in axes or (own[name].lo, own[name].step) != (axes[name].lo, axes[name].step):
            raise Depends(f"the kernel's {term} follows a loop that the schedule does not have")


# Sizes ---------------------------------------------------------------------------------------------------


def _sized(case: Case, axes: Mapping[str, Axis]) -> None:
    """Raises Depends where a position, or the end of a loop, follows sizes in another way than the kernel's: but for
    polynomials only expressions that are the kernel's own are known at sizes that were not run."""
    entry = case.oracle.entry if case.oracle is not None else None
    if not isinstance(entry, ir.Kernel):
        return
    loops = [s for s, _ in walk(entry) if isinstance(s, ir.For)]
    ends = {hi for loop in loops for hi in loop.hi}
    own = {a for e in (*_expressions(entry), *ends) for a in _with_sizes(e)}
    own |= {a for e in _expressions(entry) for a in _with_sizes(counted(e, axes))}
    sized = {a for e in _bounds_of(entry) for a in _with_sizes(e)}
    placed = {a for c in computed(entry) for a in _placed(c.expression)}
    if reason := masked_beyond(case.kernel, own | sized | placed):
        raise Depends(reason)
    for value in _accessed(case.kernel, axes):
        for atom in (*_with_sizes(value), *_with_sizes(counted(value, axes))):
            if atom not in own and not _holds(atom, own):
                raise Depends(f"the position {value} follows sizes in another way than the kernel's do")
    for loop in _loops(case.kernel):
        for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True):
            first = {minimum(lo + step, end) for end in ends}  # an iteration that stands in front of the others
            if hi not in first and not any((end - hi).constant is not None for end in ends):
                line = loop.origin.span.line
                raise Depends(f"the loop of line {line} ends at {hi}, as none of the kernel's does")


def _holds(atom: Atom, own: Collection[Atom]) -> bool:
    """Whether all that depends on sizes in an atom of the place is the kernel's own."""
    return not isinstance(atom, Symbol) and all(a in own for part in children(atom) for a in _with_sizes(part))


def _loops(kernel: dev.DeviceKernel) -> Iterator[dev.For | dev.Grid]:
    yield from (s for s in dev.statements(kernel) if isinstance(s, dev.For))
    yield from every_grid(kernel)


def _expressions(entry: ir.Kernel) -> Iterator[Index]:
    for touch in touches(entry):
        yield from (*touch.start, *touch.view.coordinates)


def _bounds_of(entry: ir.Kernel) -> Iterator[Index]:
    """Extents of arrays and ends of views."""
    yield from (d for array in entry.arrays for d in array.dims)
    for touch in touches(entry):
        for axis in touch.view.axes:
            yield from (axis.lo, axis.hi, axis.length)


def _with_sizes(value: Index) -> Iterator[Atom]:
    """Atoms, and not symbols, that dims decide."""
    for monomial, _ in value.terms:
        for atom in monomial:
            if not isinstance(atom, Symbol) and any(s.kind == "dim" for s in index(atom).symbols()):
                yield atom


def _placed(value: Index) -> Iterator[Atom]:
    """Atoms, and not symbols, that no dims decide."""
    for monomial, _ in value.terms:
        for atom in monomial:
            if isinstance(atom, Extremum):
                yield from (*_placed(atom.a), *_placed(atom.b))
            elif not isinstance(atom, Symbol) and not any(s.kind == "dim" for s in index(atom).symbols()):
                yield atom


# Data that is taken as positions -------------------------------------------------------------------------


def _listed(kernel: dev.DeviceKernel) -> None:
    """Raises Depends for positions that are computed from data."""
    made = {s.fragment.number: s.operation for s in dev.statements(kernel) if isinstance(s, dev.Let)}
    for s in dev.statements(kernel):
        match s:
            case dev.Let(operation=dev.Gather(indices=indices)) | dev.Scatter(indices=indices):
                if indices is not None and not _moved(indices, made):
                    raise Depends(f"line {_line(s)} takes positions that are computed from data")


def _moved(x: dev.Fragment, made: Mapping[int, dev.Operation]) -> bool:
    match made.get(x.number):
        case dev.Load() | dev.Gather() | dev.Positions() | dev.LoadShared():
            return True
        case dev.Pointwise("cast", (y,)) | dev.Stretch(y) | dev.Reindex(_, (y,)):
            return _moved(y, made)
    return False


def _line(s: dev.Statement) -> int:
    return s.fragment.origin.span.line if isinstance(s, dev.Let) else s.origin.span.line


# Parts ---------------------------------------------------------------------------------------------------


def _parts(axes: Mapping[str, Axis], terms: Sequence[Index]) -> Iterator[Part]:
    """Terms with a variable in common, and every other loop by itself."""
    left = [({s.name for s in t.symbols() if s.name in axes}, [t]) for t in terms]
    left += [({name}, []) for name, axis in axes.items() if not once(axis)]
    joined: list[tuple[set[str], list[Index]]] = []
    for names, own in left:
        meeting = [p for p in joined if p[0] & names]
        joined = [p for p in joined if p not in meeting]
        joined.append((names.union(*(p[0] for p in meeting)), [t for p in meeting for t in p[1]] + own))
    for names, own in joined:
        near = around(names, axes)
        counts = tuple(n for n in axes if n in names and not once(axes[n]))
        yield Part(tuple(a for n, a in axes.items() if n in near), counts, tuple(own))


def around(names: set[str], axes: Mapping[str, Axis]) -> set[str]:
    """With the loops that theirs depend on, and those that are there only where these say: empty groups are nowhere."""
    found = set(names)
    while True:
        more = {s.name for n in found for b in axes[n].bounds() for s in b.symbols() if s.name in axes}
        more |= {n for n, a in axes.items() if any(s.name in found for b in a.bounds() for s in b.symbols())}
        if more <= found:
            return found
        found |= more


__all__ = [
    "Axis", "Depends", "Part", "Unlike", "around", "axes_of", "counted", "digits_of", "note", "once", "parts_of",
    "places", "replaced", "spans", "terms_of", "unspanned",
]  # fmt: skip
