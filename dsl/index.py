"""Exact symbolic integers: sizes, positions and bounds of the tile language.

An `Index` is a polynomial with integer coefficients over atoms (symbols, floor divisions, minima,
elements read from integer arrays ...). The polynomial form is canonical, so `==` on two indices is
equality of polynomials: `BM` never equals `BN`, `i + BM - i` equals `BM`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

SymbolKind = Literal["dim", "tunable", "const", "param", "loop", "position"]
Relation = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, order=True)
class Symbol:
    """A named integer; names are unique within a kernel (the elaborator renames on clashes)."""

    name: str
    kind: SymbolKind

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Element:
    """One element of an integer `In` array, read as a scalar: `offsets[e]`."""

    array: str
    coordinates: tuple[Index, ...]

    def __str__(self) -> str:
        return f"{self.array}[{', '.join(map(str, self.coordinates))}]"


@dataclass(frozen=True)
class FloorDiv:
    """`a // b`, rounding towards minus infinity."""

    a: Index
    b: Index

    def __str__(self) -> str:
        return f"{_wrap(self.a)} // {_wrap(self.b)}"


@dataclass(frozen=True)
class Mod:
    """`a % b` with the sign of the divisor."""

    a: Index
    b: Index

    def __str__(self) -> str:
        return f"{_wrap(self.a)} % {_wrap(self.b)}"


@dataclass(frozen=True)
class Extremum:
    """`min(a, b)` or `max(a, b)`; arguments are sorted, so the form is canonical."""

    which: Literal["min", "max"]
    a: Index
    b: Index

    def __str__(self) -> str:
        return f"{self.which}({self.a}, {self.b})"


@dataclass(frozen=True)
class Select:
    """`then if condition else otherwise`."""

    condition: Condition
    then: Index
    otherwise: Index

    def __str__(self) -> str:
        return f"({self.then} if {self.condition} else {self.otherwise})"


Atom: TypeAlias = Symbol | Element | FloorDiv | Mod | Extremum | Select
Monomial: TypeAlias = tuple[Atom, ...]  # sorted by key; () is the constant term
Environment: TypeAlias = Mapping[str, int]
ReadElement: TypeAlias = Callable[[str, tuple[int, ...]], int]


@dataclass(frozen=True, repr=False)
class Index:
    """A polynomial: pairs (monomial, non-zero coefficient) in canonical order."""

    terms: tuple[tuple[Monomial, int], ...]

    def __hash__(self) -> int:
        """Computed once: positions are keys of many tables, and nested deeply."""
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = hash(self.terms)
            self.__dict__["_hash"] = known
        return known

    def __reduce__(self) -> tuple[type[Index], tuple[object, ...]]:
        return Index, (self.terms,)  # a hash is good for one process

    def __add__(self, other: Index | int) -> Index:
        right = index(other).terms
        return _from_terms([*self.terms, *right]) if right else self

    def __radd__(self, other: int) -> Index:
        return self + other

    def __neg__(self) -> Index:
        return Index(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Index | int) -> Index:
        return self + (-index(other))

    def __rsub__(self, other: int) -> Index:
        return index(other) - self

    def __mul__(self, other: Index | int) -> Index:
        right = index(other).terms
        return _from_terms((_sorted(m1 + m2), c1 * c2) for m1, c1 in self.terms for m2, c2 in right)

    def __rmul__(self, other: int) -> Index:
        return self * other

    def __floordiv__(self, other: Index | int) -> Index:
        return floordiv(self, index(other))

    def __mod__(self, other: Index | int) -> Index:
        return mod(self, index(other))

    @property
    def constant(self) -> int | None:
        """The value when it is a literal, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    def atoms(self) -> Iterator[Atom]:
        """Every atom, nested ones included."""
        for monomial, _ in self.terms:
            for atom in monomial:
                yield atom
                for child in children(atom):
                    yield from child.atoms()

    def symbols(self) -> frozenset[Symbol]:
        return frozenset(a for a in self.atoms() if isinstance(a, Symbol))

    def substitute(self, values: Mapping[str, Index | int]) -> Index:
        """Replace symbols by name and re-normalise. Raises ZeroDivisionError on `// 0`."""
        total = index(0)
        for monomial, coefficient in self.terms:
            product = index(coefficient)
            for atom in monomial:
                product = product * _substitute_atom(atom, values)
            total = total + product
        return total

    def evaluate(self, environment: Environment, read: ReadElement | None = None) -> int:
        """Value under `environment` (symbol name -> int). `read` supplies array elements.

        Raises KeyError for an unbound symbol and ZeroDivisionError for a zero divisor.
        """
        total = 0
        for monomial, coefficient in self.terms:
            product = coefficient
            for atom in monomial:
                product *= _evaluate_atom(atom, environment, read)
            total += product
        return total

    def affine(self, symbol: Symbol) -> tuple[Index, Index] | None:
        """`(coefficient, rest)` with self == coefficient * symbol + rest, or None if not affine in it."""
        coefficient, rest = index(0), index(0)
        for monomial, c in self.terms:
            hits = sum(a == symbol for a in monomial)
            others = tuple(a for a in monomial if a != symbol)
            if hits > 1 or any(symbol in child.symbols() for a in others for child in children(a)):
                return None
            part = Index(((others, c),))
            coefficient, rest = (coefficient + part, rest) if hits else (coefficient, rest + part)
        return coefficient, rest

    def __repr__(self) -> str:
        return f"Index({self})"

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return str(self.terms[0][0][0])
        text = " + ".join(_term_text(m, c) for m, c in self.terms)
        return text.replace("+ -", "- ")


@dataclass(frozen=True)
class Compare:
    relation: Relation
    a: Index
    b: Index

    def __str__(self) -> str:
        return f"{self.a} {self.relation} {self.b}"


@dataclass(frozen=True)
class AllOf:
    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(f"({p})" for p in self.parts) or "True"


@dataclass(frozen=True)
class AnyOf:
    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(f"({p})" for p in self.parts) or "False"


@dataclass(frozen=True)
class Negation:
    part: Condition

    def __str__(self) -> str:
        return f"not ({self.part})"


Condition: TypeAlias = Compare | AllOf | AnyOf | Negation
TRUE: Condition = AllOf(())
FALSE: Condition = AnyOf(())


def index(value: Index | Atom | int) -> Index:
    """Lift an int or an atom to an Index."""
    if isinstance(value, Index):
        return value
    if isinstance(value, int):
        return Index((((), value),) if value else ())
    return Index((((value,), 1),))


def symbol(name: str, kind: SymbolKind) -> Index:
    return index(Symbol(name, kind))


def element(array: str, coordinates: Iterable[Index]) -> Index:
    return index(Element(array, tuple(coordinates)))


def floordiv(a: Index, b: Index) -> Index:
    """`a // b`; terms of `a` that the constant `b` divides leave the division."""
    divisor, value = b.constant, a.constant
    if divisor == 0:
        raise ZeroDivisionError(f"{a} // 0")
    if a == b:
        return index(1)
    if divisor is None:
        quotient = _exact_quotient(a, b)
        return quotient if quotient is not None else index(FloorDiv(a, b))
    if value is not None:
        return index(value // divisor)
    whole = Index(tuple((m, c // divisor) for m, c in a.terms if c % divisor == 0))
    rest = Index(tuple((m, c) for m, c in a.terms if c % divisor))
    known = rest.constant
    return whole + (known // divisor if known is not None else index(FloorDiv(rest, b)))


def mod(a: Index, b: Index) -> Index:
    divisor, value = b.constant, a.constant
    if divisor == 0:
        raise ZeroDivisionError(f"{a} % 0")
    if divisor is not None and value is not None:
        return index(value % divisor)
    if divisor is None:
        return index(0) if _exact_quotient(a, b) is not None else index(Mod(a, b))
    rest = Index(tuple((m, c % divisor) for m, c in a.terms if c % divisor))
    known = rest.constant
    return index(known % divisor) if known is not None else index(Mod(rest, b))


def cdiv(a: Index, b: Index) -> Index:
    """Smallest q with q * b >= a, for b > 0."""
    return -floordiv(-a, b)


def minimum(a: Index, b: Index) -> Index:
    return _extremum("min", a, b)


def maximum(a: Index, b: Index) -> Index:
    return _extremum("max", a, b)


def select(condition: Condition, then: Index, otherwise: Index) -> Index:
    known = decide(condition)
    if known is not None:
        return then if known else otherwise
    return then if then == otherwise else index(Select(condition, then, otherwise))


def decide(condition: Condition) -> bool | None:
    """The truth of a condition that needs no knowledge about its symbols, else None."""
    match condition:
        case Compare(relation, a, b):
            difference = (a - b).constant
            return None if difference is None else _holds(relation, difference)
        case Negation(part):
            known = decide(part)
            return None if known is None else not known
        case AllOf(parts) | AnyOf(parts):
            absorbing = isinstance(condition, AnyOf)
            known_parts = [decide(p) for p in parts]
            if absorbing in known_parts:
                return absorbing
            return None if None in known_parts else not absorbing


def substitute_condition(condition: Condition, values: Mapping[str, Index | int]) -> Condition:
    match condition:
        case Compare(relation, a, b):
            return Compare(relation, a.substitute(values), b.substitute(values))
        case Negation(part):
            return Negation(substitute_condition(part, values))
        case AllOf(parts):
            return AllOf(tuple(substitute_condition(p, values) for p in parts))
        case AnyOf(parts):
            return AnyOf(tuple(substitute_condition(p, values) for p in parts))


def evaluate_condition(condition: Condition, environment: Environment, read: ReadElement | None = None) -> bool:
    match condition:
        case Compare(relation, a, b):
            return _holds(relation, a.evaluate(environment, read) - b.evaluate(environment, read))
        case Negation(part):
            return not evaluate_condition(part, environment, read)
        case AllOf(parts):
            return all(evaluate_condition(p, environment, read) for p in parts)
        case AnyOf(parts):
            return any(evaluate_condition(p, environment, read) for p in parts)


def condition_indices(condition: Condition) -> Iterator[Index]:
    """The integer expressions that a condition compares."""
    match condition:
        case Compare(_, a, b):
            yield a
            yield b
        case Negation(part):
            yield from condition_indices(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from condition_indices(part)


def _holds(relation: Relation, difference: int) -> bool:
    match relation:
        case "<":
            return difference < 0
        case "<=":
            return difference <= 0
        case ">":
            return difference > 0
        case ">=":
            return difference >= 0
        case "==":
            return difference == 0
        case "!=":
            return difference != 0


def _extremum(which: Literal["min", "max"], a: Index, b: Index) -> Index:
    difference = (a - b).constant
    if difference is not None:
        return a if (difference <= 0) == (which == "min") else b
    first, second = sorted((a, b), key=str)
    return index(Extremum(which, first, second))


def _exact_quotient(a: Index, b: Index) -> Index | None:
    """q with a == q * b for a single-monomial b, when every term of `a` contains it."""
    if len(b.terms) != 1:
        return None
    divisor, coefficient = b.terms[0]
    quotient: list[tuple[Monomial, int]] = []
    for monomial, c in a.terms:
        rest = _remove(monomial, divisor)
        if rest is None or c % coefficient:
            return None
        quotient.append((rest, c // coefficient))
    return _from_terms(quotient)


def _remove(monomial: Monomial, factors: Monomial) -> Monomial | None:
    rest = list(monomial)
    for factor in factors:
        if factor not in rest:
            return None
        rest.remove(factor)
    return tuple(rest)


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Index:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    if len(kept) > 1:
        kept.sort(key=lambda term: _monomial_key(term[0]))
    return Index(tuple(kept))


def _sorted(monomial: Monomial) -> Monomial:
    return monomial if len(monomial) < 2 else tuple(sorted(monomial, key=str))


@lru_cache(maxsize=1 << 16)
def _monomial_key(monomial: Monomial) -> tuple[bool, int, str]:
    """Variables before the constant term: `i + BM - 1` reads as people write it."""
    return (not monomial, -len(monomial), "*".join(map(str, monomial)))


def children(atom: Atom) -> tuple[Index, ...]:
    """The index integers that an atom is computed from."""
    match atom:
        case Symbol():
            return ()
        case Element(_, coordinates):
            return coordinates
        case FloorDiv(a, b) | Mod(a, b) | Extremum(_, a, b):
            return (a, b)
        case Select(condition, then, otherwise):
            return (*condition_indices(condition), then, otherwise)


def _substitute_atom(atom: Atom, values: Mapping[str, Index | int]) -> Index:
    match atom:
        case Symbol(name, _):
            return index(values[name]) if name in values else index(atom)
        case Element(array, coordinates):
            return element(array, (c.substitute(values) for c in coordinates))
        case FloorDiv(a, b):
            return floordiv(a.substitute(values), b.substitute(values))
        case Mod(a, b):
            return mod(a.substitute(values), b.substitute(values))
        case Extremum(which, a, b):
            return _extremum(which, a.substitute(values), b.substitute(values))
        case Select(condition, then, otherwise):
            replaced = substitute_condition(condition, values)
            return select(replaced, then.substitute(values), otherwise.substitute(values))


def _evaluate_atom(atom: Atom, environment: Environment, read: ReadElement | None) -> int:
    match atom:
        case Symbol(name, _):
            return environment[name]
        case Element(array, coordinates):
            if read is None:
                raise KeyError(str(atom))
            return read(array, tuple(c.evaluate(environment, read) for c in coordinates))
        case FloorDiv(a, b):
            return a.evaluate(environment, read) // b.evaluate(environment, read)
        case Mod(a, b):
            return a.evaluate(environment, read) % b.evaluate(environment, read)
        case Extremum(which, a, b):
            values = a.evaluate(environment, read), b.evaluate(environment, read)
            return min(values) if which == "min" else max(values)
        case Select(condition, then, otherwise):
            taken = then if evaluate_condition(condition, environment, read) else otherwise
            return taken.evaluate(environment, read)


def _term_text(monomial: Monomial, coefficient: int) -> str:
    if not monomial:
        return str(coefficient)
    product = " * ".join(map(_atom_text, monomial))
    if coefficient == 1:
        return product
    return f"-{product}" if coefficient == -1 else f"{coefficient} * {product}"


def _atom_text(atom: Atom) -> str:
    return f"({atom})" if isinstance(atom, (FloorDiv, Mod)) else str(atom)


def _wrap(value: Index) -> str:
    text = str(value)
    return f"({text})" if " " in text and not text.endswith("]") else text
