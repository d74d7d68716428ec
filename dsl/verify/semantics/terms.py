"""Terms over the reals in polynomial normal form: the value of one element as a function of the inputs.

A `Poly` is a sum of monomials with rational coefficients; a `Mono` is a product of atoms with rational exponents
times the exponential of a polynomial. So exp(a) * exp(b) is exp(a + b), x / x is 1, a - a is 0, and two polynomials
are equal iff their keys are. Atoms (`atoms.py`) are everything that the normal form does not look into: elements,
reductions, maxima, brackets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from math import floor, gcd, isqrt, lcm
from typing import TypeAlias

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics.atoms import EVEN as EVEN
from kernelagent.dsl.verify.semantics.atoms import ODD as ODD
from kernelagent.dsl.verify.semantics.atoms import UNKNOWN as UNKNOWN
from kernelagent.dsl.verify.semantics.atoms import Atom as Atom
from kernelagent.dsl.verify.semantics.atoms import Binder as Binder
from kernelagent.dsl.verify.semantics.atoms import Bracket as Bracket
from kernelagent.dsl.verify.semantics.atoms import Call as Call
from kernelagent.dsl.verify.semantics.atoms import Element as Element
from kernelagent.dsl.verify.semantics.atoms import Extremum as Extremum
from kernelagent.dsl.verify.semantics.atoms import Group as Group
from kernelagent.dsl.verify.semantics.atoms import Infinity as Infinity
from kernelagent.dsl.verify.semantics.atoms import Parameter as Parameter
from kernelagent.dsl.verify.semantics.atoms import Reduction as Reduction
from kernelagent.dsl.verify.semantics.atoms import State as State
from kernelagent.dsl.verify.semantics.atoms import Whole as Whole
from kernelagent.dsl.verify.semantics.atoms import Word as Word
from kernelagent.dsl.verify.semantics.atoms import digest
from kernelagent.dsl.verify.semantics.atoms import names as names
from kernelagent.dsl.verify.semantics.atoms import state_name as state_name

_FRACTIONS = 4
"""The largest power of an exponential above a line that is divided."""

_TRIED = 1_000
"""Primes up to here are taken out of roots of numbers."""

LIMIT = 2_000
"""Monomials of one polynomial; larger ones are given up."""


class Undenoted(Exception):
    """The value has no canonical form here; the message says which construct stopped it, `line` where it stands."""

    line: int | None = None


# Monomials and polynomials -----------------------------------------------------------------------

Factors: TypeAlias = tuple[tuple[Atom, Fraction], ...]


class Mono:
    """Atoms with exponents, times exp(exponent)."""

    __slots__ = ("_free", "_height", "exponent", "factors", "key")

    def __init__(self, factors: Iterable[tuple[Atom, Fraction]], exponent: Poly | None = None) -> None:
        self.factors: Factors = tuple(sorted(((a, e) for a, e in factors if e), key=lambda f: f[0].key))
        self.exponent = exponent if exponent is not None and exponent.terms else None
        self.key = digest(self.text(keys=True))
        self._free: frozenset[str] | None = None
        self._height: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mono) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def text(self, keys: bool = False) -> str:
        parts = [_factor_text(a.key if keys else a.text(), e) for a, e in self.factors]
        if self.exponent is not None:
            parts.append(f"exp({self.exponent.key if keys else self.exponent.text()})")
        return " * ".join(parts)

    @property
    def free(self) -> frozenset[str]:
        if self._free is None:
            self._free = frozenset().union(
                *(a.free for a, _ in self.factors), self.exponent.free if self.exponent else ()
            )
        return self._free

    @property
    def fragile(self) -> bool:
        return any(a.fragile for a, _ in self.factors) or (self.exponent is not None and self.exponent.fragile)

    @property
    def height(self) -> int:
        if self._height is None:
            inner = [a.height for a, _ in self.factors]
            self._height = max((*inner, self.exponent.height if self.exponent else 0))
        return self._height


def _factor_text(text: str, exponent: Fraction) -> str:
    return text if exponent == 1 else f"{text}^{exponent}" if exponent.denominator == 1 else f"{text}^({exponent})"


class Poly:
    """A sum of monomials with non-zero rational coefficients, in canonical order."""

    __slots__ = ("_free", "_height", "_key", "terms")

    def __init__(self, terms: Mapping[Mono, Fraction]) -> None:
        if len(terms) > LIMIT:
            raise Undenoted(f"a polynomial of more than {LIMIT} terms")
        kept = [(m, c) for m, c in terms.items() if c]
        if len(kept) > 1:
            kept.sort(key=lambda t: t[0].key)
        self.terms: tuple[tuple[Mono, Fraction], ...] = tuple(kept)
        self._key: str | None = None
        self._free: frozenset[str] | None = None
        self._height: int | None = None

    @property
    def key(self) -> str:
        if self._key is None:
            self._key = digest(" + ".join(f"{c}*{m.key}" for m, c in self.terms))
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def free(self) -> frozenset[str]:
        if self._free is None:
            self._free = frozenset().union(*(m.free for m, _ in self.terms))
        return self._free

    @property
    def height(self) -> int:
        if self._height is None:
            self._height = max((m.height for m, _ in self.terms), default=0)
        return self._height

    @property
    def fragile(self) -> bool:
        return any(m.fragile for m, _ in self.terms)

    @property
    def content(self) -> Fraction:
        """The largest positive rational that divides every coefficient to an integer; 1 for zero."""
        if not self.terms:
            return Fraction(1)
        top = gcd(*(c.numerator for _, c in self.terms))
        return Fraction(top, lcm(*(c.denominator for _, c in self.terms)))

    @property
    def constant(self) -> Fraction | None:
        """The value of a literal, else None."""
        if not self.terms:
            return Fraction(0)
        mono, coefficient = self.terms[0]
        return coefficient if len(self.terms) == 1 and mono == ONE_MONO else None

    def text(self) -> str:
        if not self.terms:
            return "0"
        return " + ".join(_term_text(m, c) for m, c in self.terms).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Poly({self.text()})"

    def __add__(self, other: Poly) -> Poly:
        if not other.terms:
            return self
        if not self.terms:
            return other
        total = dict(self.terms)
        for mono, coefficient in other.terms:
            total[mono] = total.get(mono, Fraction(0)) + coefficient
        return Poly(total)

    def __neg__(self) -> Poly:
        return self.scaled(Fraction(-1))

    def __sub__(self, other: Poly) -> Poly:
        return self + (-other)

    def scaled(self, by: Fraction) -> Poly:
        return self if by == 1 else Poly({m: c * by for m, c in self.terms})

    def __mul__(self, other: Poly) -> Poly:
        known = other.constant
        if known is not None:
            return self.scaled(known)
        known = self.constant
        if known is not None:
            return other.scaled(known)
        if len(self.terms) * len(other.terms) > 4 * LIMIT:
            raise Undenoted("a product of too many terms")
        total: dict[Mono, Fraction] = {}
        rest = ZERO
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                product = _multiply(m1, m2)
                if isinstance(product, Mono):
                    total[product] = total.get(product, Fraction(0)) + c1 * c2
                else:
                    rest = rest + product.scaled(c1 * c2)
        return Poly(total) + rest


def _term_text(mono: Mono, coefficient: Fraction) -> str:
    text = mono.text()
    if not text:
        return str(coefficient)
    if coefficient == 1:
        return text
    return f"-{text}" if coefficient == -1 else f"{coefficient} * {text}"


def _multiply(a: Mono, b: Mono) -> Mono | Poly:
    """The product; a polynomial when a group gets a positive exponent, or two brackets exclude each other."""
    exponents = dict(a.factors)
    for atom, exponent in b.factors:
        exponents[atom] = exponents.get(atom, Fraction(0)) + exponent
    if a.exponent is not None and b.exponent is not None:
        return monomial(exponents, a.exponent + b.exponent)
    return monomial(exponents, a.exponent or b.exponent)


def monomial(exponents: Mapping[Atom, Fraction], exponential: Poly | None = None) -> Mono | Poly:
    """The product of these atoms; groups with exponents of one and more are multiplied out."""
    if any(isinstance(a, Infinity) for a in exponents):
        exponents = {a: e for a, e in exponents.items() if not _positive_constant(a)}
    kept: dict[Atom, Fraction] = {}
    expanded: list[tuple[Poly, int]] = []
    scale = Fraction(1)
    for atom, exponent in exponents.items():
        if isinstance(atom, Bracket):
            kept[atom] = Fraction(1)
        elif isinstance(atom, Group) and (base := atom.base.constant):
            scale, kept[atom] = scale * base ** floor(exponent), exponent - floor(exponent)
        elif isinstance(atom, Group) and exponent >= 1:
            expanded.append((atom.base, int(exponent)))
            kept[atom] = exponent - int(exponent)
        else:
            kept[atom] = exponent
    if _exclude_each_other(kept):
        return ZERO
    reduced = _partial_fraction(kept, exponential) if exponential is not None else None
    if reduced is not None:
        return reduced.scaled(scale) * _expanded(expanded)
    result = Mono(kept.items(), exponential)
    if not expanded and scale == 1:
        return result
    return Poly({result: scale}) * _expanded(expanded)


def _expanded(groups: Iterable[tuple[Poly, int]]) -> Poly:
    product = ONE
    for base, power in groups:
        for _ in range(power):
            product = product * base
    return product


def _partial_fraction(factors: Mapping[Atom, Fraction], exponential: Poly) -> Poly | None:
    """exp(t) / (1 + c exp(t)) is (1 - 1 / (1 + c exp(t))) / c, and the exponential above the line is less than that
    below. None: it is so already."""
    for divisor, exponent in factors.items():
        step = _logistic(divisor) if exponent < 0 and exponent.denominator == 1 else None
        if step is None:
            continue
        coefficient, t = step
        leading, slope = t.terms[0]
        ratio = dict(exponential.terms).get(leading, Fraction(0)) / slope
        rest = {**factors, divisor: exponent + 1}
        if 1 <= ratio <= _FRACTIONS:
            lower = exponential - t
            return (_product(rest, lower) - _product(factors, lower)).scaled(1 / coefficient)
        if -_FRACTIONS <= ratio < 0:
            return _product(rest, exponential) - _product(factors, exponential + t).scaled(coefficient)
    return None


def _logistic(divisor: Atom) -> tuple[Fraction, Poly] | None:
    """(c, t) of 1 + c exp(t)."""
    if not isinstance(divisor, Group) or len(divisor.base.terms) != 2:
        return None
    for (one, scale), (other, coefficient) in (divisor.base.terms, divisor.base.terms[::-1]):
        if one == ONE_MONO and scale == 1 and other.exponent is not None and not other.factors:
            return coefficient, other.exponent
    return None


def _product(factors: Mapping[Atom, Fraction], exponential: Poly) -> Poly:
    found = monomial({a: e for a, e in factors.items() if e}, exponential if exponential.terms else None)
    return Poly({found: Fraction(1)}) if isinstance(found, Mono) else found


def _positive_constant(a: Atom) -> bool:
    """ln 2, pi, roots of numbers: an infinity stays what it is when it is multiplied by one."""
    if isinstance(a, Group):
        return (a.base.constant or 0) > 0
    return isinstance(a, Parameter) and not a.name.startswith("$")


def _exclude_each_other(factors: Mapping[Atom, Fraction]) -> bool:
    subjects = {a.subject for a in factors if isinstance(a, Bracket) and a.relation == ">=" and not _real(a)}
    return len(subjects) > 1 and any(-s - 1 in subjects for s in subjects if isinstance(s, Index))


def _real(bracket: Bracket) -> bool:
    return isinstance(bracket.subject, Poly)


ONE_MONO = Mono(())
ZERO = Poly({})


def number(value: Fraction | int) -> Poly:
    return Poly({ONE_MONO: Fraction(value)})


ONE = number(1)


def atom(a: Atom, exponent: Fraction | int = 1) -> Poly:
    return Poly({Mono(((a, Fraction(exponent)),)): Fraction(1)})


INFINITY = atom(Infinity())


def constant_power(value: Fraction, exponent: Fraction) -> Poly:
    """value ** exponent, for a positive value: roots of primes with exponents in (0, 1), times a rational."""
    total: Poly = ONE
    for prime, times in (*_factors(value.numerator), *((p, -n) for p, n in _factors(value.denominator))):
        raised = monomial({Group(number(prime)): exponent * times})
        total = total * (Poly({raised: Fraction(1)}) if isinstance(raised, Mono) else raised)
    return total


def _factors(n: int) -> Iterator[tuple[int, int]]:
    """(factor, how often): primes below a bound, and what is left, or its root."""
    for prime in (2, *range(3, _TRIED, 2)):
        if n == 1 or prime * prime > n:
            break
        times = 0
        while n % prime == 0:
            n, times = n // prime, times + 1
        if times:
            yield prime, times
    root = isqrt(n)
    if n > 1:
        yield (root, 2) if root * root == n else (n, 1)


def exponential(p: Poly) -> Poly:
    return Poly({Mono((), p): Fraction(1)})


def from_index(i: Index) -> Poly:
    """An index integer as a number."""
    total = ZERO
    for symbols, coefficient in i.terms:
        exponents: dict[Atom, Fraction] = {}
        for symbol in symbols:
            whole = Whole(symbol)
            exponents[whole] = exponents.get(whole, Fraction(0)) + 1
        total = total + Poly({Mono(exponents.items()): Fraction(coefficient)})
    return total


def to_index(p: Poly) -> Index | None:
    """The index integer that a polynomial is, or None."""
    total = ix.index(0)
    for mono, coefficient in p.terms:
        if coefficient.denominator != 1 or mono.exponent is not None:
            return None
        product = ix.index(coefficient.numerator)
        for factor, exponent in mono.factors:
            if not isinstance(factor, Whole) or exponent.denominator != 1 or exponent < 0:
                return None
            for _ in range(int(exponent)):
                product = product * ix.index(factor.atom)
        total = total + product
    return total


# Parts -------------------------------------------------------------------------------------------


def parts(p: Poly) -> Iterator[Atom]:
    """Every atom of a term, inner ones first."""
    for mono, _ in p.terms:
        yield from _of_mono(mono)


def _of_mono(mono: Mono) -> Iterator[Atom]:
    if mono.exponent is not None:
        yield from parts(mono.exponent)
    for factor, _ in mono.factors:
        for inner in factor.inner:
            yield from parts(inner)
        yield factor
