"""Pieces of one range: nested reductions that go over consecutive pieces are one reduction.

s in 0..S of k in A(s)..A(s + 1) is k in A(0)..A(S): tiles of a loop, in either direction and of any stride, parts of a
split reduction. Pieces that begin at 0, and put s into the body (x[16 * s + u]), are moved first to where they are; a
piece inside, whose length the outer name cuts, is turned outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.terms import Binder, Bracket, Element, Poly, Whole, Word, names, parts


def telescoped(word: Word, outer: Binder, inner: tuple[Binder, ...], body: Poly, known: Known) -> Poly | None:
    """The reduction over `outer` and `inner` with one binder less; None where no pieces are consecutive."""
    for piece in inner:
        rest = [b for b in inner if b is not piece]
        if any(piece.name in b.names() or outer.name in b.names() or b.name in piece.names() for b in rest):
            continue
        if rest and outer.name not in body.free | piece.names():
            continue
        for first, second in ((outer, piece), *_turned(outer, piece)):
            found = _pieces(first, second, body, known)
            if found is not None:
                return _again(word, found.binder, rest, found.body, known)
    return None


def placed(outer: Binder, inner: tuple[Binder, ...], body: Poly, known: Known) -> tuple[tuple[Binder, ...], Poly]:
    """The same with a single inner binder that counts where its elements are, so that the body is free of `outer`."""
    if len(inner) == 1 and outer.name in body.free:
        for moved in _moved(outer, inner[0], body, known):
            return (moved.binder,), moved.body
    return inner, body


def _again(word: Word, binder: Binder, rest: list[Binder], body: Poly, known: Known) -> Poly:
    from kernelagent.dsl.verify.semantics.reductions import reduction

    result = reduction(word, binder, body, known)
    for other in reversed(rest):
        result = reduction(word, other, result, known)
    return result


@dataclass(frozen=True)
class _Piece:
    binder: Binder
    body: Poly


def _pieces(outer: Binder, piece: Binder, body: Poly, known: Known) -> _Piece | None:
    inside = known.counting(outer.name, known.extremum("max", outer.lo), known.extremum("min", outer.hi))
    for moved in _moved(outer, piece, body, known):
        joined = _joined(outer, moved.binder, known, inside)
        if joined is not None:
            return _Piece(joined, moved.body)
    return None


# Where the pieces are -----------------------------------------------------------------------------


def _moved(outer: Binder, piece: Binder, body: Poly, known: Known) -> Iterator[_Piece]:
    """The piece counted from elsewhere, so that the body does not depend on `outer`."""
    from kernelagent.dsl.verify.semantics.reductions import fresh, rewrite

    if outer.name not in body.free:
        yield _Piece(piece, body)
        return
    for shift in dict.fromkeys(_shifts(outer.name, piece, body)):
        if any(n.startswith("#") for n in names(shift)):
            continue
        name = fresh()
        moved = rewrite(body, {piece.name: ix.symbol(name, "loop") - shift}, known)
        if outer.name not in moved.free:
            lo, hi = (tuple(known.tidy(i + shift) for i in bounds) for bounds in (piece.lo, piece.hi))
            yield _Piece(Binder(name, lo, hi), moved)


def _shifts(outer: str, piece: Binder, body: Poly) -> Iterator[Index]:
    """What depends on `outer` in positions that count the piece."""
    symbol = ix.Symbol(piece.name, "loop")
    for index in _positions(body):
        affine = index.affine(symbol) if outer in names(index) and symbol in index.symbols() else None
        slope = affine[0].constant if affine is not None else None
        if affine is not None and slope in (1, -1):
            yield affine[1] * slope
            yield _part(affine[1], outer) * slope
    for bound in (*piece.lo, *piece.hi):
        if outer in names(bound):
            yield -_part(bound, outer)


def _positions(body: Poly) -> Iterator[Index]:
    for a in parts(body):
        match a:
            case Element(_, place):
                yield from place
            case Bracket(_, Index() as subject):
                yield subject
            case Whole(inner):
                yield ix.index(inner)


def _part(i: Index, name: str) -> Index:
    """The terms of `i` that `name` is in."""
    return Index(tuple(t for t in i.terms if name in names(Index((t,)))))


# Consecutive pieces -------------------------------------------------------------------------------


def _joined(outer: Binder, piece: Binder, known: Known, inside: Known) -> Binder | None:
    """One range for pieces of which each ends where the next, or the one before, begins."""
    moving, fixed = _by_name(piece.lo, outer.name)
    ends, cut = _by_name(piece.hi, outer.name)
    if len(moving) != 1 or len(ends) != 1:
        return None
    (start,), (end,) = moving, ends
    first, last = known.extremum("max", outer.lo), known.extremum("min", outer.hi)
    following = {outer.name: outer.symbol + 1}
    for low, high in ((start, end), (end, start)):
        if inside.tidy(low.substitute(following)) != inside.tidy(high):
            continue
        if not inside.nonnegative(end - start) or not _ordered(end - start, first, last, outer.name, known):
            return None
        edge = low is start
        begin = start.substitute({outer.name: first}) if edge else end.substitute({outer.name: last})
        stop = start.substitute({outer.name: last}) if edge else end.substitute({outer.name: first})
        return Binder(piece.name, (known.tidy(begin), *fixed), (known.tidy(stop), *cut))
    return None


def _ordered(length: Index, first: Index, last: Index, name: str, known: Known) -> bool:
    """No pieces make an empty range: their number is not negative, or they are equally long whatever the number."""
    return name not in names(length) or known.nonnegative(last - first)


def _by_name(bounds: Iterable[Index], name: str) -> tuple[list[Index], list[Index]]:
    listed = list(bounds)
    return [i for i in listed if name in names(i)], [i for i in listed if name not in names(i)]


# The other way round ------------------------------------------------------------------------------


def _turned(outer: Binder, piece: Binder) -> Iterator[tuple[Binder, Binder]]:
    """(piece, outer) over the same pairs: bounds of the piece that need the outer name become bounds of that."""
    lows, free_lows = _by_name(piece.lo, outer.name)
    highs, free_highs = _by_name(piece.hi, outer.name)
    free_lows += [i for i in (_widest(i, outer, -1) for i in lows) if i is not None]
    free_highs += [i for i in (_widest(i, outer, 1) for i in highs) if i is not None]
    if not free_lows or not free_highs:
        return
    turned: Binder | None = outer
    for subject in (*(_at_least(piece, i) for i in lows), *(_below(piece, i) for i in highs)):
        turned = _narrowed(turned, subject) if turned is not None and subject is not None else None
    if turned is not None:
        yield Binder(piece.name, tuple(free_lows), tuple(free_highs)), turned


def _widest(bound: Index, outer: Binder, direction: int) -> Index | None:
    """The largest (or, with direction -1, smallest) value of a bound over the outer names; None: not seen."""
    found = _divided(bound)
    symbol = ix.Symbol(outer.name, "loop")
    affine = found[1].affine(symbol) if found is not None else None
    slope = affine[0].constant if affine is not None else None
    if found is None or not slope or outer.name in names(found[3]):
        return None
    at = outer.hi[0] - 1 if slope * found[0] * direction > 0 else outer.lo[0]
    return bound.substitute({outer.name: at})


def _narrowed(binder: Binder, subject: Index) -> Binder | None:
    from kernelagent.dsl.verify.semantics.reductions import narrowed

    return narrowed(binder, subject)


def _below(piece: Binder, bound: Index) -> Index | None:
    """An index that is >= 0 exactly where the piece's name is below `bound`."""
    found = _divided(bound)
    if found is None:
        return None
    sign, dividend, divisor, rest = found
    if not divisor:
        return bound - 1 - piece.symbol
    # name < a // d + r: d (name - r + 1) <= a;  name < -(a // d) + r: a < d (r - name)
    return (
        dividend - (piece.symbol - rest + 1) * divisor if sign > 0 else (rest - piece.symbol) * divisor - dividend - 1
    )


def _at_least(piece: Binder, bound: Index) -> Index | None:
    found = _below(piece, bound)
    return None if found is None else -found - 1


def _divided(bound: Index) -> tuple[int, Index, int, Index] | None:
    """(sign, a, d, r) with bound = sign * (a // d) + r; d is 0 where there is no quotient. None: something else."""
    quotients = [(m, c) for m, c in bound.terms if any(not isinstance(a, ix.Symbol) for a in m)]
    if not quotients:
        return 1, bound, 0, ix.index(0)
    (monomial, coefficient), *more = quotients
    atom = monomial[0]
    divisor = atom.b.constant if isinstance(atom, ix.FloorDiv) and len(monomial) == 1 else None
    if more or abs(coefficient) != 1 or divisor is None or divisor < 1 or not isinstance(atom, ix.FloorDiv):
        return None
    return coefficient, atom.a, divisor, bound - Index(((monomial, coefficient),))


__all__ = ["placed", "telescoped"]
