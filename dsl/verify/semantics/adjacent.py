"""Sums whose ranges lie side by side, or one in the other, as one sum."""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import opened, reduction, renamed_names, rewrite
from kernelagent.dsl.verify.semantics.terms import Binder, Mono, Poly, Reduction

_ROUNDS = 12


def joined_ranges(p: Poly, known: Known) -> Poly:
    """Sums over [a, b) and [b, c) of the same body become one sum over [a, c); [a, c) less [b, c) becomes [a, b)."""
    for _ in range(_ROUNDS):
        found = next(_adjacent(p, known), None)
        if found is None:
            return p
        p = found
    return p


def _adjacent(p: Poly, known: Known) -> Iterator[Poly]:
    terms = [(m, c, a) for m, c in p.terms for a in _sums(m)]
    for mono, coefficient, first in terms:
        for other, other_coefficient, second in terms:
            if mono == other or abs(coefficient) != abs(other_coefficient):
                continue
            if first.word != second.word or _others(mono, first) != _others(other, second):
                continue
            added = coefficient == other_coefficient
            joined = _joined(first, second, known) if added else _left(first, second, known)
            if joined is not None:
                pair = Poly({mono: coefficient, other: other_coefficient})
                yield p - pair + joined * Poly({_others(mono, first): coefficient})


def _sums(mono: Mono) -> Iterator[Reduction]:
    for a, e in mono.factors:
        if isinstance(a, Reduction) and a.word == "sum" and e == 1:
            yield a


def _others(mono: Mono, found: Reduction) -> Mono:
    return Mono(((a, e) for a, e in mono.factors if a != found), mono.exponent)


def _joined(first: Reduction, second: Reduction, known: Known) -> Poly | None:
    """One sum, when the second goes on where the first ends, perhaps counted from elsewhere."""
    for binders, body, position, other in _alike(first, second, known):
        x, y = binders[position], other
        inside = _inside(binders[:position], known)
        for end in x.hi:
            cut, bounded = [i for i in x.hi if i != end], [i for i in y.lo if i != end]
            if end not in y.lo or not set(cut) <= set(y.hi) or not set(bounded) <= set(x.lo):
                continue
            lengths = [end - i for i in x.lo if i not in bounded] + [i - end for i in y.hi if i not in cut]
            if all(map(inside.nonnegative, lengths)):
                return _sum((*binders[:position], Binder(x.name, x.lo, y.hi), *binders[position + 1 :]), body, known)
    return None


def _left(whole: Reduction, part: Reduction, known: Known) -> Poly | None:
    """The first sum less the second, where the second goes over the end, or the beginning, of the first's range."""
    for binders, body, position, y in _alike(whole, part, known):
        x, before, after = binders[position], binders[:position], binders[position + 1 :]
        inside = _inside(before, known)
        for start in y.lo if x.hi == y.hi else ():
            kept = [i for i in y.lo if i != start]
            if set(kept) <= set(x.lo) and all(inside.nonnegative(start - i) for i in x.lo if i not in kept):
                return _sum((*before, Binder(x.name, x.lo, (*x.hi, start)), *after), body, known)
        for end in y.hi if x.lo == y.lo else ():
            kept = [i for i in y.hi if i != end]
            if set(kept) <= set(x.hi) and all(inside.nonnegative(i - end) for i in x.hi if i not in kept):
                return _sum((*before, Binder(x.name, (*x.lo, end), x.hi), *after), body, known)
    return None


def _alike(first: Reduction, second: Reduction, known: Known) -> Iterator[tuple[tuple[Binder, ...], Poly, int, Binder]]:
    """Both in the same names, where they differ in the range of one binder: binders and body of the first, which, and
    the second's range in its place."""
    if len(first.binders) != len(second.binders):
        return
    (ours, body), (theirs, other) = opened(first, known), opened(second, known)
    renaming = {y.name: x.symbol for x, y in zip(ours, theirs, strict=True)}
    theirs = tuple(_renamed(y, renaming) for y in theirs)
    other = renamed_names(other, renaming)
    different = [n for n, (x, y) in enumerate(zip(ours, theirs, strict=True)) if _bounds(x) != _bounds(y)]
    if len(different) != 1:
        return
    (position,) = different
    if other == body:
        yield ours, body, position, theirs[position]
    elif len(ours) == 1:
        yield from _shifted(ours, body, theirs[0], other, known)


def _shifted(
    ours: tuple[Binder, ...], body: Poly, theirs: Binder, other: Poly, known: Known
) -> Iterator[tuple[tuple[Binder, ...], Poly, int, Binder]]:
    """The second range counted so that its body is the first's."""
    (x,) = ours
    for shift in {end - start for end in (*x.lo, *x.hi) for start in (*theirs.lo, *theirs.hi)}:
        if rewrite(other, {x.name: x.symbol - shift}, known) == body:
            lo, hi = (tuple(known.tidy(i + shift) for i in bounds) for bounds in (theirs.lo, theirs.hi))
            yield ours, body, 0, Binder(x.name, lo, hi)


def _renamed(binder: Binder, names: dict[str, Index]) -> Binder:
    lo, hi = (tuple(i.substitute(names) for i in bounds) for bounds in (binder.lo, binder.hi))
    own = next(iter(names[binder.name].symbols())).name
    return Binder(own, lo, hi)


def _bounds(binder: Binder) -> tuple[frozenset[Index], frozenset[Index]]:
    return frozenset(binder.lo), frozenset(binder.hi)


def _inside(binders: tuple[Binder, ...], known: Known) -> Known:
    for binder in binders:
        known = known.counting(binder.name, known.extremum("max", binder.lo), known.extremum("min", binder.hi))
    return known


def _sum(binders: tuple[Binder, ...], body: Poly, known: Known) -> Poly:
    result = body
    for binder in reversed(binders):
        result = reduction("sum", binder, result, known)
    return result


__all__ = ["joined_ranges"]
