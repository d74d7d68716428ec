"""Reductions in canonical form.

A sum goes over one monomial: sums are split into monomials, factors without a bound name leave, a condition on a
bound name becomes a bound of its range, a condition of equality puts the value in. So the sum of squared differences
from the mean and E[x^2] - mean^2 are the same term. Bound names are chosen by the term's own height: alike terms have
equal keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.telescope import placed, telescoped
from kernelagent.dsl.verify.semantics.terms import (
    INFINITY,
    ONE,
    ZERO,
    Binder,
    Bracket,
    Infinity,
    Mono,
    Poly,
    Reduction,
    Undenoted,
    Whole,
    Word,
    atom,
    from_index,
)

_PERMUTED = 4
_UNROLLED = 8
"""Ranges of so many places are written out."""

_fresh = itertools.count()


def restart() -> None:
    """Fresh names from the first on, for a text that shares no term with what was read before."""
    global _fresh
    _fresh = itertools.count()


def fresh() -> str:
    """A name that nothing uses. Terms never keep it: closing a binder renames it."""
    return f"?{next(_fresh)}"


def reduction(word: Word, binder: Binder, body: Poly, known: Known) -> Poly:
    """The reduction of `body` over the binder's range, in canonical form. The binder's name is fresh."""
    if word == "sum":
        return summation(binder, body, known)
    if word == "prod":
        return _close("prod", (binder,), body, known) if binder.name in body.free else _repeated(binder, body, known)
    return _extreme(word, binder, body, known)


def _repeated(binder: Binder, body: Poly, known: Known) -> Poly:
    length = (known.extremum("min", binder.hi) - known.extremum("max", binder.lo)).constant
    if length is None:
        raise Undenoted("a product of a number of equal factors that is not constant")
    return fn.power(body, Fraction(length))


# Sums ---------------------------------------------------------------------------------------------


def summation(binder: Binder, body: Poly, known: Known) -> Poly:
    total = ZERO
    for mono, coefficient in body.terms:
        total = total + _sum_of(binder, mono, known).scaled(coefficient)
    return total


def _sum_of(binder: Binder, mono: Mono, known: Known) -> Poly:
    outer, inner = parted(mono, binder.name)
    if any(isinstance(a, Infinity) for a, _ in inner.factors):
        raise Undenoted("a sum of infinities")
    for condition, _ in inner.factors:
        if isinstance(condition, Bracket) and isinstance(condition.subject, Index):
            rest = Mono(((a, e) for a, e in inner.factors if a != condition), inner.exponent)
            conditioned = _conditioned(binder, condition.relation, condition.subject, rest, known)
            if conditioned is not None:
                return outer * conditioned
    if not inner.factors and inner.exponent is None:
        return outer * _ones(binder, known)
    quotients = _quotients(binder, inner, known)
    if quotients is not None:
        return outer * quotients
    return outer * _join_nested(binder, inner, known)


def _ones(binder: Binder, known: Known) -> Poly:
    """How many there are: a size where it is one, else the sum of ones, which may be joined with others."""
    lo, hi = known.prune("max", binder.lo), known.prune("min", binder.hi)
    length = known.tidy(known.extremum("min", [end - start for end in hi for start in lo]))
    if known.nonnegative(length):
        return from_index(length)
    return _close("sum", (binder,), ONE, known)


def _quotients(binder: Binder, inner: Mono, known: Known) -> Poly | None:
    """Hermite's identity: the sum of (a + u) // n over n consecutive u is a, of the first u on."""
    single = inner.factors[0] if len(inner.factors) == 1 and inner.exponent is None else None
    if single is None or not isinstance(single[0], Whole) or single[1] != 1:
        return None
    quotient, symbol = single[0].atom, ix.Symbol(binder.name, "loop")
    if not isinstance(quotient, ix.FloorDiv) or symbol in quotient.b.symbols() or not quotient.b.constant:
        return None
    affine = quotient.a.affine(symbol)
    slope = affine[0].constant if affine is not None else None
    lo, hi = known.prune("max", binder.lo), known.prune("min", binder.hi)
    if affine is None or slope not in (1, -1) or len(lo) != 1 or len(hi) != 1 or hi[0] - lo[0] != quotient.b:
        return None
    first = lo[0] if slope == 1 else hi[0] - 1
    return from_index(affine[1] + first * slope)


def parted(mono: Mono, name: str) -> tuple[Poly, Mono]:
    """(factors without `name`, factors with it); the exponential is parted term by term."""
    outside = [(a, e) for a, e in mono.factors if name not in a.free]
    inside = [(a, e) for a, e in mono.factors if name in a.free]
    if mono.exponent is None:
        return Poly({Mono(outside): Fraction(1)}), Mono(inside)
    free = Poly({m: c for m, c in mono.exponent.terms if name not in m.free})
    bound = Poly({m: c for m, c in mono.exponent.terms if name in m.free})
    return Poly({Mono(outside, free): Fraction(1)}), Mono(inside, bound)


def _conditioned(binder: Binder, relation: str, subject: Index, rest: Mono, known: Known) -> Poly | None:
    """The sum under a condition on the bound name; None where it is no bound of the range."""
    affine = subject.affine(ix.Symbol(binder.name, "loop"))
    slope = affine[0].constant if affine is not None else None
    if affine is None or not slope:
        return None
    body = Poly({rest: Fraction(1)})
    offset = affine[1]
    if relation == "==":
        if abs(slope) != 1:
            return None
        place = -offset if slope > 0 else offset
        bounds = [place - lo for lo in binder.lo] + [hi - 1 - place for hi in binder.hi]
        truths = [known.truth(">=", known.tidy(b)) for b in bounds]
        if False in truths:
            return ZERO
        return None if None in truths else rewrite(body, {binder.name: place}, known)
    if slope > 0:
        first = ix.cdiv(-offset, ix.index(slope))
        return summation(Binder(binder.name, (*binder.lo, first), binder.hi), body, known)
    last = ix.floordiv(offset, ix.index(-slope)) + 1
    return summation(Binder(binder.name, binder.lo, (*binder.hi, last)), body, known)


def _join_nested(binder: Binder, inner: Mono, known: Known) -> Poly:
    """A sum of g * (sum of f) is one sum of g * f, unless several sums are multiplied."""
    nested = [(a, e) for a, e in inner.factors if isinstance(a, Reduction) and a.word == "sum"]
    if len(nested) != 1 or nested[0][1] != 1:
        return _close("sum", (binder,), Poly({inner: Fraction(1)}), known)
    found = nested[0][0]
    assert isinstance(found, Reduction)
    binders, body = opened(found, known)
    others = Mono(((a, e) for a, e in inner.factors if a != found), inner.exponent)
    whole = Poly({others: Fraction(1)}) * body
    joined = telescoped("sum", binder, binders, whole, known)
    if joined is not None:
        return joined
    binders, whole = placed(binder, binders, whole, known)
    return _close("sum", (binder, *binders), whole, known)


# A few places -------------------------------------------------------------------------------------


def written_out(word: Word, binder: Binder, body: Poly, known: Known) -> Poly | None:
    """The reduction place by place, where the range always has a few: taps of a convolution, halves of a pair."""
    if binder.name not in body.free:
        return None
    places = _few(binder, known)
    if places is None:
        return None
    terms = [rewrite(body, {binder.name: place}, known) for place in places]
    if word in ("max", "min"):
        return fn.extremum(word, terms)
    total = ZERO if word == "sum" else ONE
    for term in terms:
        total = total + term if word == "sum" else total * term
    return total


def _few(binder: Binder, known: Known) -> tuple[Index, ...] | None:
    lengths = [(end - start).constant for end in binder.hi for start in binder.lo]
    if not any(n is not None and 0 < n <= _UNROLLED for n in lengths):
        return None  # asking what is largest takes long
    lo, hi = known.prune("max", binder.lo), known.prune("min", binder.hi)
    length = (hi[0] - lo[0]).constant if len(lo) == len(hi) == 1 else None
    return None if length is None else tuple(lo[0] + step for step in range(length))


# Maxima -------------------------------------------------------------------------------------------


def _extreme(word: Word, binder: Binder, body: Poly, known: Known) -> Poly:
    single = _only(binder, known)
    if single is not None:
        return rewrite(body, {binder.name: single}, known)
    leaves = [
        _extreme(word, b, p, known) if b != binder else _extreme_of(word, b, p, known)
        for b, p in _cases(word, binder, body, known)
    ]
    return fn.extremum(word, leaves)


def _cases(word: Word, binder: Binder, body: Poly, known: Known) -> Iterator[tuple[Binder, Poly]]:
    """Body and range for each way to decide the conditions on the bound name."""
    for condition in fn.brackets(body):
        if isinstance(condition.subject, Index) and condition.relation == "==" and binder.name in condition.free:
            yield from _one_and_others(word, binder, body, condition, known)
            return
        if isinstance(condition.subject, Index) and condition.relation == ">=" and binder.name in condition.free:
            for subject, truth in ((condition.subject, True), (-condition.subject - 1, False)):
                inside = narrowed(binder, subject)
                if inside is None:
                    raise Undenoted(f"a {word} under the condition {condition.text()}")
                yield from _cases(word, inside, fn.decide_bracket(body, condition, truth), known)
            return
    yield binder, body


def _only(binder: Binder, known: Known) -> Index | None:
    """The one value that the name has."""
    if not any(end - start == ix.index(1) for end in binder.hi for start in binder.lo):
        return None  # asking what is largest takes long
    lo, hi = known.prune("max", binder.lo), known.prune("min", binder.hi)
    return lo[0] if len(lo) == len(hi) == 1 and hi[0] - lo[0] == ix.index(1) else None


def _one_and_others(
    word: Word, binder: Binder, body: Poly, condition: Bracket, known: Known
) -> Iterator[tuple[Binder, Poly]]:
    """The place where the equation holds by itself, and what is on both sides of it."""
    subject = condition.subject
    assert isinstance(subject, Index)
    sides = [
        narrowed(narrowed(binder, subject) or binder, -subject),
        narrowed(binder, subject - 1),
        narrowed(binder, -subject - 1),
    ]
    for inside, truth in zip(sides, (True, False, False), strict=True):
        if inside is None:
            raise Undenoted(f"a {word} under the condition {condition.text()}")
        yield from _cases(word, inside, fn.decide_bracket(body, condition, truth), known)


def narrowed(binder: Binder, subject: Index) -> Binder | None:
    """The range where `subject >= 0`."""
    affine = subject.affine(ix.Symbol(binder.name, "loop"))
    slope = affine[0].constant if affine is not None else None
    if affine is None or not slope:
        return None
    if slope > 0:
        return Binder(binder.name, (*binder.lo, ix.cdiv(-affine[1], ix.index(slope))), binder.hi)
    return Binder(binder.name, binder.lo, (*binder.hi, ix.floordiv(affine[1], ix.index(-slope)) + 1))


def _extreme_of(word: Word, binder: Binder, body: Poly, known: Known) -> Poly:
    def of(args: list[Poly]) -> Poly:
        (p,) = args
        sign = fn.infinite(p)
        if sign:
            lowest = -INFINITY if word == "max" else INFINITY
            if (sign < 0) == (word == "max"):
                return lowest
            raise Undenoted(f"a {word} that may be infinite")
        shift = Poly({m: c for m, c in p.terms if binder.name not in m.free})
        rest = p - shift
        if not rest.terms:
            nonempty = known.extremum("min", binder.hi) - known.extremum("max", binder.lo) - 1
            return p if known.nonnegative(nonempty) else _close(word, (binder,), p, known)
        scale = rest.content
        closed = _extreme_closed(word, binder, rest.scaled(1 / scale), known)
        return closed.scaled(scale) + shift

    return fn.split(lambda args: of(list(args)), (body,))


def _extreme_closed(word: Word, binder: Binder, body: Poly, known: Known) -> Poly:
    single = fn.sole_atom(body)
    if isinstance(single, Reduction) and single.word == word:
        binders, inner = opened(single, known)
        joined = telescoped(word, binder, binders, inner, known)
        return joined if joined is not None else _close(word, (binder, *binders), inner, known)
    return _close(word, (binder,), body, known)


# Binders ------------------------------------------------------------------------------------------


def _close(word: Word, binders: tuple[Binder, ...], body: Poly, known: Known) -> Poly:
    """The atom, with the smallest key among the orders of its binders. An empty range gives the identity."""
    pruned = tuple(Binder(b.name, known.prune("max", b.lo), known.prune("min", b.hi)) for b in binders)
    if word == "sum" and any(_empty(b, known) for b in pruned):
        return ZERO
    base = body.height
    orders = itertools.permutations(pruned) if len(pruned) <= _PERMUTED else iter((pruned,))
    candidates = [_named(word, order, body, base, known) for order in orders if _ordered(order)]
    return min(candidates, key=lambda p: p.key)


def _empty(binder: Binder, known: Known) -> bool:
    return any(known.nonnegative(lo - hi) for lo in binder.lo for hi in binder.hi)


def _ordered(binders: tuple[Binder, ...]) -> bool:
    """Ranges may use the names of binders further out only."""
    inner = {b.name for b in binders}
    for binder in binders:
        if binder.names() & inner:
            return False
        inner.discard(binder.name)
    return True


def _named(word: Word, binders: tuple[Binder, ...], body: Poly, base: int, known: Known) -> Poly:
    renamed: dict[str, Index] = {}
    result: list[Binder] = []
    for level, binder in enumerate(binders):
        name = f"#{base + len(binders) - level}"
        lo = tuple(i.substitute(renamed) for i in binder.lo)
        hi = tuple(i.substitute(renamed) for i in binder.hi)
        result.append(Binder(name, lo, hi))
        renamed[binder.name] = ix.symbol(name, "loop")
    if not body.fragile:
        return atom(Reduction(word, tuple(result), renamed_names(body, renamed)))
    closed, sign = rewrite(body, renamed, known), Fraction(1)
    if word == "sum" and len(closed.terms) == 1:
        sign = closed.terms[0][1]
    return atom(Reduction(word, tuple(result), closed.scaled(1 / sign))).scaled(sign)


def opened(found: Reduction, known: Known) -> tuple[tuple[Binder, ...], Poly]:
    """Binders with fresh names, and the body in these names."""
    renaming: dict[str, Index] = {}
    binders: list[Binder] = []
    for binder in found.binders:
        name = fresh()
        lo = tuple(i.substitute(renaming) for i in binder.lo)
        hi = tuple(i.substitute(renaming) for i in binder.hi)
        binders.append(Binder(name, lo, hi))
        renaming[binder.name] = ix.symbol(name, "loop")
    return tuple(binders), renamed_names(found.body, renaming)


# Substitution -------------------------------------------------------------------------------------


def renamed_names(p: Poly, names_: Mapping[str, Index]) -> Poly:
    """p with index symbols renamed to other symbols; no fact is needed, for nothing can become simpler."""
    from kernelagent.dsl.verify.semantics.rewriting import Rewriting

    return Rewriting(names_, None, None).poly(p)


def rewrite(p: Poly, symbols: Mapping[str, Index], known: Known) -> Poly:
    """p with index symbols replaced, in canonical form again."""
    from kernelagent.dsl.verify.semantics.rewriting import Rewriting

    return Rewriting(symbols, None, known).poly(p)


__all__ = [
    "fresh",
    "opened",
    "parted",
    "reduction",
    "renamed_names",
    "restart",
    "rewrite",
    "summation",
    "written_out",
]  # fmt: skip
