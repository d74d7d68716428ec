"""Functions of terms that keep the normal form: powers, exponentials, logarithms, maxima, selections.

A function of a term with brackets at its top level is split by them: f([c] * a + b) is [c] * f(a + b) + [not c] * f(b),
so that brackets and infinities never stand inside another function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.verify.semantics.known import Known, primitive
from kernelagent.dsl.verify.semantics.terms import (
    EVEN,
    INFINITY,
    ODD,
    ONE,
    ZERO,
    Atom,
    Bracket,
    Call,
    Extremum,
    Group,
    Infinity,
    Mono,
    Parameter,
    Poly,
    Undenoted,
    Whole,
    atom,
    constant_power,
    exponential,
    monomial,
    number,
    to_index,
)

_SPLITS = 8
_LARGEST_POWER = 16


# Splitting by brackets ----------------------------------------------------------------------------


def brackets(p: Poly) -> list[Bracket]:
    """The brackets that stand as factors of p's monomials, each once."""
    found = {a.key: a for m, _ in p.terms for a, _ in m.factors if isinstance(a, Bracket)}
    return [found[k] for k in sorted(found)]


def decide_bracket(p: Poly, bracket: Bracket, holds: bool) -> Poly:
    """p where the bracket's condition holds (or fails)."""
    total: dict[Mono, Fraction] = {}
    for mono, coefficient in p.terms:
        if any(a == bracket for a, _ in mono.factors):
            if not holds:
                continue
            mono = Mono(((a, e) for a, e in mono.factors if a != bracket), mono.exponent)
        total[mono] = total.get(mono, Fraction(0)) + coefficient
    return Poly(total)


def split(function: Callable[[Sequence[Poly]], Poly], args: Sequence[Poly], depth: int = _SPLITS) -> Poly:
    """`function(args)` with every bracket decided first."""
    found = next((b for a in args for b in brackets(a)), None)
    if found is None:
        return function(args)
    if depth == 0:
        raise Undenoted("a function of too many selections")
    yes = split(function, [decide_bracket(a, found, True) for a in args], depth - 1)
    no = split(function, [decide_bracket(a, found, False) for a in args], depth - 1)
    return no if yes == no else atom(found) * (yes - no) + no


def infinite(p: Poly) -> int:
    """The sign of a formally infinite term; 0 for a finite one. Raises Undenoted where the sign is not known."""
    for mono, coefficient in p.terms:
        if any(isinstance(a, Infinity) for a, _ in mono.factors):
            if len(mono.factors) > 1 or mono.exponent is not None:
                raise Undenoted("an infinity times something of unknown sign")
            return 1 if coefficient > 0 else -1
    return 0


# Powers, exponentials, logarithms -----------------------------------------------------------------


def exp(p: Poly) -> Poly:
    def of(args: Sequence[Poly]) -> Poly:
        sign = infinite(args[0])
        if sign > 0:
            raise Undenoted("exp of infinity")
        return ZERO if sign else _exp_of_finite(args[0])

    return split(of, (p,))


def _exp_of_finite(p: Poly) -> Poly:
    """exp(a + r * log(b)) is exp(a) * b^r for rational r: where the logarithm exists, b is positive."""
    rest, outside = ZERO, ONE
    for mono, coefficient in p.terms:
        single = mono.factors[0] if len(mono.factors) == 1 and mono.exponent is None else None
        if single is not None and isinstance(single[0], Call) and single[0].word == "log" and single[1] == 1:
            outside = outside * power(single[0].args[0], coefficient)
        else:
            rest = rest + Poly({mono: coefficient})
    return outside * exponential(rest) if rest.terms else outside


def log(p: Poly) -> Poly:
    """log(c * exp(a) * b) is a + log(c * b): the exponential is positive wherever the logarithm exists."""

    def of(args: Sequence[Poly]) -> Poly:
        shift, rest = without_exponential(args[0])
        if rest == ONE:
            return shift
        single = rest.terms[0][0].factors if len(rest.terms) == 1 and rest.terms[0][1] == 1 else ()
        if len(single) == 1 and _keeps_sign(single[0][1]):
            base, exponent = single[0]
            return shift + log(base.base if isinstance(base, Group) else atom(base)).scaled(exponent)
        quotient = _quotient(rest)
        if quotient is not None:
            return shift + log(quotient[0]) - log(quotient[1])
        return shift + atom(Call("log", (rest,)))

    return split(of, (p,))


def _quotient(p: Poly) -> tuple[Poly, Poly] | None:
    """(a, b) with p = a / b for a exponential, so that b is positive where p is: 1 - 1 / (1 + exp(x))."""
    divisors = [a for m, _ in p.terms for a, e in m.factors if isinstance(a, Group) and e < 0]
    if not divisors or any(d != divisors[0] for d in divisors):
        return None
    above = p * divisors[0].base
    single = above.terms[0] if len(above.terms) == 1 else None
    return (above, divisors[0].base) if single is not None and not single[0].factors and single[1] > 0 else None


def _keeps_sign(exponent: Fraction) -> bool:
    """Whether b^e is positive only where b is: log(b^e) is e * log(b) then. Bases of roots are positive anyway."""
    return exponent != 1 and (exponent.denominator != 1 or exponent.numerator % 2 == 1)


def without_exponential(p: Poly) -> tuple[Poly, Poly]:
    """(a, q) with p = exp(a) * q and q independent of how the common exponential was written."""
    candidates = {(m.exponent or ZERO).key: m.exponent or ZERO for m, _ in p.terms}
    if not any(m.exponent for m, _ in p.terms):
        return ZERO, p
    forms = [(shift, p * exponential(-shift)) for shift in candidates.values()]
    return min(forms, key=lambda form: form[1].key)


def power(p: Poly, exponent: Fraction) -> Poly:
    """p ** exponent. Bases of fractional exponents are taken to be positive."""
    if exponent == 1:
        return p
    if exponent == 0:
        return ONE
    return split(lambda args: _power(args[0], exponent), (p,))


def _power(p: Poly, exponent: Fraction) -> Poly:
    if not p.terms:
        if exponent > 0:
            return ZERO
        raise Undenoted("division by zero")
    if infinite(p):
        if exponent < 0:
            return ZERO
        raise Undenoted("a power of infinity")
    if exponent.denominator == 1 and 0 < exponent <= _LARGEST_POWER:
        result = p
        for _ in range(int(exponent) - 1):
            result = result * p
        return result
    return _power_of_one_term(p, exponent) if len(p.terms) == 1 else _power_of_sum(p, exponent)


def _power_of_one_term(p: Poly, exponent: Fraction) -> Poly:
    (mono, coefficient) = p.terms[0]
    outside = exponential(mono.exponent.scaled(exponent)) if mono.exponent else ONE
    if exponent.denominator == 1:
        raised = monomial({a: e * exponent for a, e in mono.factors})
        power_of = Poly({raised: Fraction(1)}) if isinstance(raised, Mono) else raised
        return (power_of * outside).scaled(coefficient ** int(exponent))
    outer, rest = _parted(mono.factors)
    if coefficient > 0:
        outside = outside * constant_power(coefficient, exponent)
    outside = outside * _raised(outer, exponent)
    if not rest:
        return outside if coefficient > 0 else outside * atom(Group(number(coefficient)), exponent)
    base = Poly({Mono(rest.items()): Fraction(1) if coefficient > 0 else coefficient})
    return outside * atom(Group(base), exponent)


def _parted(factors: Iterable[tuple[Atom, Fraction]]) -> tuple[dict[Atom, Fraction], dict[Atom, Fraction]]:
    """(factors that are positive wherever the term has a value, others)."""
    found: tuple[dict[Atom, Fraction], dict[Atom, Fraction]] = ({}, {})
    for a, e in factors:
        found[0 if _positive(a, e) else 1][a] = e
    return found


def _positive(a: Atom, exponent: Fraction) -> bool:
    """Roots, sizes, named constants: they may leave a root as they are."""
    if isinstance(a, Whole):
        return isinstance(a.atom, Symbol) and a.atom.kind == "dim"
    return exponent.denominator != 1 or (isinstance(a, Parameter) and not a.name.startswith("$"))


def _raised(factors: Mapping[Atom, Fraction], exponent: Fraction) -> Poly:
    raised = monomial({a: e * exponent for a, e in factors.items()})
    return Poly({raised: Fraction(1)}) if isinstance(raised, Mono) else raised


def _power_of_sum(p: Poly, exponent: Fraction) -> Poly:
    shift, rest = without_exponential(p)
    outside = exponential(shift.scaled(exponent))
    content, rest = _content(rest)
    if exponent.denominator == 1:
        outside = outside * _raised(dict(content.factors), exponent)
        leading = rest.terms[0][1]
        rest, outside = rest.scaled(1 / leading), outside.scaled(leading ** int(exponent))
        return outside * atom(Group(rest), exponent)
    common, others = _parted(content.factors)
    scale = rest.content
    outside = outside * _raised(common, exponent) * constant_power(scale, exponent)
    rest = rest.scaled(1 / scale) * Poly({Mono(others.items()): Fraction(1)})
    return outside * atom(Group(rest), exponent)


def _content(p: Poly) -> tuple[Mono, Poly]:
    """(common factors, rest): every atom with the smallest exponent that it has in any monomial."""
    smallest: dict[Atom, Fraction] = {}
    for atom_ in {a for m, _ in p.terms for a, _ in m.factors}:
        if not isinstance(atom_, Bracket):
            smallest[atom_] = min(dict(m.factors).get(atom_, Fraction(0)) for m, _ in p.terms)
    common = Mono(smallest.items())
    if not common.factors:
        return common, p
    inverse = Poly({Mono((a, -e) for a, e in common.factors): Fraction(1)})
    return common, p * inverse


def divide(a: Poly, b: Poly) -> Poly:
    return a * power(b, Fraction(-1))


def sigmoid(p: Poly) -> Poly:
    return power(ONE + exp(-p), Fraction(-1))


def tanh(p: Poly) -> Poly:
    return ONE - power(exp(p.scaled(Fraction(2))) + ONE, Fraction(-1)).scaled(Fraction(2))


def call(word: str, *args: Poly) -> Poly:
    """An uninterpreted function; odd and even ones have an argument with positive leading coefficient."""

    def of(parts: Sequence[Poly]) -> Poly:
        first = parts[0]
        if any(infinite(p) for p in parts):
            raise Undenoted(f"{word} of infinity")
        negative = bool(first.terms) and first.terms[0][1] < 0
        if negative and word in ODD:
            return -atom(Call(word, (-first,)))
        if negative and word in EVEN:
            return atom(Call(word, (-first,)))
        return ZERO if not first.terms and word in ODD else atom(Call(word, tuple(parts)))

    return split(of, args)


# Maxima, conditions, selections -------------------------------------------------------------------


def extremum(word: str, args: Iterable[Poly]) -> Poly:
    """The largest ("max") or smallest ("min") of the terms."""
    return split(lambda parts: _extremum(word, parts), tuple(args))


def _extremum(word: str, args: Sequence[Poly]) -> Poly:
    sign = 1 if word == "max" else -1
    flat: dict[str, Poly] = {}
    constants: list[Fraction] = []
    for arg in args:
        for part in _extremum_args(word, arg):
            direction = infinite(part) * sign
            if direction > 0:
                return part
            if direction == 0 and part.constant is not None:
                constants.append(part.constant)
            elif direction == 0:
                flat[part.key] = part
    if constants:
        extreme = number(max(constants) if sign > 0 else min(constants))
        flat[extreme.key] = extreme
    if not flat:
        return -INFINITY if sign > 0 else INFINITY
    parts = tuple(flat[k] for k in sorted(flat))
    return parts[0] if len(parts) == 1 else atom(Extremum("max" if sign > 0 else "min", parts))


def _extremum_args(word: str, p: Poly) -> tuple[Poly, ...]:
    single = sole_atom(p)
    return single.args if isinstance(single, Extremum) and single.word == word else (p,)


def sole_atom(p: Poly) -> Atom | None:
    """The atom that p is, None when it is more."""
    if len(p.terms) != 1 or p.terms[0][1] != 1:
        return None
    mono = p.terms[0][0]
    return mono.factors[0][0] if len(mono.factors) == 1 and mono.factors[0][1] == 1 and not mono.exponent else None


def holds(relation: str, i: Index, known: Known) -> Poly:
    """[i >= 0] or [i == 0], decided where it is known."""
    tidy = known.tidy(i)
    truth = known.truth(relation, tidy)
    if truth is not None:
        return ONE if truth else ZERO
    if relation == "==" and known.nonnegative(-tidy):
        relation = ">="
    elif relation == "==" and known.nonnegative(tidy):
        relation, tidy = ">=", -tidy
    if relation == "==":
        return atom(Bracket("==", min(tidy, -tidy, key=str)))
    return atom(Bracket(">=", primitive(tidy)))


def compare(word: str, a: Poly, b: Poly, known: Known) -> Poly:
    """1 where `a word b`, else 0; word is one of lt le gt ge eq ne."""
    if word in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[word], b, a, known)
    if word == "ne":
        return ONE - compare("eq", a, b, known)
    return split(lambda parts: _compare(word, parts[0], parts[1], known), (a, b))


def _compare(word: str, a: Poly, b: Poly, known: Known) -> Poly:
    difference = b - a
    sign = infinite(difference)
    if sign:
        return ONE if sign > 0 and word != "eq" else ZERO
    i = to_index(difference)
    if i is not None:
        return holds("==", i, known) if word == "eq" else holds(">=", i - 1 if word == "lt" else i, known)
    if word == "eq":
        return ONE - positive(difference) - positive(-difference)
    return positive(difference) if word == "lt" else ONE - positive(-difference)


def positive(p: Poly) -> Poly:
    """[p > 0] of reals, divided by the content."""
    constant = p.constant
    if constant is not None:
        return ONE if constant > 0 else ZERO
    return atom(Bracket(">", p.scaled(1 / p.content)))


def select(condition: Poly, a: Poly, b: Poly) -> Poly:
    """a where the condition (0 or 1) holds, else b; the larger or smaller of both is recognised."""
    if condition.constant is not None:
        return a if condition.constant else b
    difference = a - b
    chosen = _as_extremum(condition, a, b, difference)
    return chosen if chosen is not None else condition * difference + b


def _as_extremum(condition: Poly, a: Poly, b: Poly, difference: Poly) -> Poly | None:
    for test, yes, no, gap in ((condition, a, b, difference), (ONE - condition, b, a, -difference)):
        single = sole_atom(test)
        if isinstance(single, Bracket) and isinstance(single.subject, Poly) and gap.terms:
            scaled = gap.scaled(1 / gap.content)
            if single.subject == scaled:
                return extremum("max", (yes, no))
            if single.subject == -scaled:
                return extremum("min", (yes, no))
    return None
