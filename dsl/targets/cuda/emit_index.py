"""Index integers and conditions as C expressions on `int`, on `ka_i64` where a product of sizes may leave 32 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Atom,
    Compare,
    Condition,
    Element,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Monomial,
    Negation,
    Select,
    Symbol,
    children,
    index,
)
from kernelagent.dsl.ir import Array

NO_TEXTS: Mapping[str, str] = {}
_BEYOND_INT = ("i64", "u32")


def plain(name: str) -> str:
    """A name as a part of a C identifier; different names stay different."""
    return "".join(c if (c.isalnum() and c.isascii()) or c == "_" else f"u{ord(c):x}_" for c in name)


def array_name(array: str) -> str:
    return f"a_{plain(array)}"


def scalar_name(scalar: str) -> str:
    return f"s_{plain(scalar)}"


def symbol_name(symbol: Symbol) -> str:
    prefix = {"dim": "d_", "loop": "v_", "param": "s_"}[symbol.kind]
    return prefix + plain(symbol.name)


@dataclass(frozen=True)
class Range:
    """A loop variable: lo, lo + step, ... below hi."""

    lo: Index
    hi: Index
    step: Index


@dataclass
class IndexTexts:
    """Prints indices of one kernel; `ranges` holds what is known about the loop variables in scope."""

    arrays: Mapping[str, Array]
    scalars: Mapping[str, str] = field(default_factory=dict)  # dtypes of runtime scalars
    ranges: dict[Symbol, Range] = field(default_factory=dict)

    def text(self, value: Index, texts: Mapping[str, str] = NO_TEXTS) -> str:
        """A C expression, parenthesised unless it is a name, a literal or a call. `texts` replaces symbols by name."""
        if value.constant is not None:
            return _literal(value.constant)
        wide = self.wide(value)
        parts = [self._term(m, c, wide, texts) for m, c in value.terms]
        if self._starts_wide(value) and not self._wide_term(*value.terms[0], wide):
            parts[0] = f"(ka_i64){parts[0]}"  # the sum is computed from the left
        text = parts[0] + "".join(f" - {p[1:]}" if p.startswith("-") else f" + {p}" for p in parts[1:])
        single = len(value.terms) == 1 and value.terms[0][1] == 1 and len(value.terms[0][0]) == 1
        return text if single else f"({text})"

    def ctype(self, value: Index) -> str:
        return "ka_i64" if self.wide(value) else "int"

    def wide(self, value: Index) -> bool:
        """Whether a value may leave 32 bits: products of sizes, sums with scalars, and data that is 64 bits wide."""
        for monomial, coefficient in value.terms:
            if len(monomial) > 1 or abs(coefficient) >= 2**31:
                return True
            if monomial and self._wide_atom(monomial[0]):
                return True
            if _is_scalar(monomial) and (len(value.terms) > 1 or abs(coefficient) > 1):
                return True
        return False

    def _starts_wide(self, value: Index) -> bool:
        """Whether a sum is computed in 64 bits from its first term on, because a scalar may have any value."""
        return len(value.terms) > 1 and any(_is_scalar(monomial) for monomial, _ in value.terms)

    def _wide_term(self, monomial: Monomial, coefficient: int, wide: bool) -> bool:
        """Whether C computes a term of a value in 64 bits."""
        if not monomial:
            return abs(coefficient) >= 2**31
        return (wide and (len(monomial) > 1 or abs(coefficient) > 1)) or self._wide_atom(monomial[0])

    def steps(self, value: Index) -> Iterator[tuple[Index, bool]]:
        """What `text` computes on the way to a value, from the left, and whether in 64 bits."""
        wide, so_far, total = self.wide(value), self._starts_wide(value), index(0)
        for monomial, coefficient in value.terms:
            for part in (p for atom in monomial for p in self._computed_from(atom)):
                yield from self.steps(part)
            term = Index(((monomial, coefficient),))
            term_wide = self._wide_term(monomial, coefficient, wide)
            so_far, total = so_far or term_wide, total + term
            if len(monomial) > 1 or abs(coefficient) > 1:
                yield term, term_wide
            yield total, so_far

    def _wide_atom(self, atom: Atom) -> bool:
        match atom:
            case Symbol(name, kind):
                return kind == "param" and self.scalars.get(name) in _BEYOND_INT
            case Element(array, _):
                return self.arrays[array].dtype in _BEYOND_INT
            case FloorDiv(a, b) | Extremum(_, a, b):
                return self.wide(a) or self.wide(b)
            case Mod(_, b):
                return self.wide(b)
            case Select(_, then, otherwise):
                return self.wide(then) or self.wide(otherwise)

    def _computed_from(self, atom: Atom) -> tuple[Index, ...]:
        return (-atom.a,) if isinstance(atom, FloorDiv) and self._rounds_up(atom) else children(atom)

    def _term(self, monomial: Monomial, coefficient: int, wide: bool, texts: Mapping[str, str]) -> str:
        factors: list[str] = []
        for atom in monomial:
            up = self._divided_up(atom, texts)  # -a // b rounds down where a // b rounded up is meant
            factors.append(up or self._atom(atom, texts))
            coefficient = -coefficient if up else coefficient
        if not factors:
            return str(coefficient) if abs(coefficient) < 2**31 else f"{coefficient}ll"
        if wide and len(factors) > 1:
            factors[0] = f"(ka_i64){factors[0]}"
        if coefficient in (1, -1):
            return ("-" if coefficient < 0 else "") + " * ".join(factors)
        return " * ".join([f"{coefficient}{'ll' if wide else ''}", *factors])

    def _atom(self, atom: Atom, texts: Mapping[str, str]) -> str:
        match atom:
            case Symbol(name, _):
                if name not in texts and self._wide_atom(atom) and self.scalars[name] == "u32":
                    return f"(ka_i64){symbol_name(atom)}"  # else sums with it would wrap at 0
                return texts[name] if name in texts else symbol_name(atom)
            case Element(array, at):
                coordinates = ", ".join(self.text(c, texts) for c in at)
                held = "ka_i64" if self._wide_atom(atom) else "int"
                return f"({held})ka_scalar(ka_at({array_name(array)}, {coordinates}))"
            case FloorDiv(a, b) | Mod(a, b):
                return self._divided(atom, a, b, texts)
            case Extremum(which, a, b):
                held = "ka_i64" if self.wide(a) or self.wide(b) else "int"
                return f"ka_{which}({self._as(held, a, texts)}, {self._as(held, b, texts)})"
            case Select(condition, then, otherwise):
                choice = f"{self.text(then, texts)} : {self.text(otherwise, texts)}"
                return f"({self.condition(condition, texts)} ? {choice})"

    def _divided_up(self, atom: Atom, texts: Mapping[str, str]) -> str | None:
        """The negative of a // b, as an unsigned division that rounds up, where -a and b are never negative."""
        if not isinstance(atom, FloorDiv) or not self._rounds_up(atom):
            return None
        divisor, wide = atom.b.constant, self.wide(atom.a)
        assert divisor is not None
        unsigned, suffix = ("ka_u64", "ull") if wide else ("ka_u32", "u")
        rounded = f"(({unsigned}){self.text(-atom.a, texts)} + {divisor - 1}{suffix}) / {divisor}{suffix}"
        return f"({'ka_i64' if wide else 'int'})({rounded})"

    def _rounds_up(self, atom: FloorDiv) -> bool:
        return (atom.b.constant or 0) > 0 and self.never_negative(-atom.a)

    def _divided(self, atom: FloorDiv | Mod, a: Index, b: Index, texts: Mapping[str, str]) -> str:
        """Division of what cannot be negative is unsigned: shifts and masks for powers of two."""
        wide = self.wide(a) or self.wide(b)
        result = "ka_i64" if self._wide_atom(atom) else "int"
        divisor = b.constant
        if divisor is not None and divisor > 0:
            unsigned, suffix = ("ka_u64", "ull") if wide else ("ka_u32", "u")
            if self.never_negative(a):
                sign = "/" if isinstance(atom, FloorDiv) else "%"
                return f"({result})(({unsigned}){self.text(a, texts)} {sign} {divisor}{suffix})"
        held = "ka_i64" if wide else "int"
        word = "floordiv" if isinstance(atom, FloorDiv) else "mod"
        text = f"ka_{word}({self._as(held, a, texts)}, {self._as(held, b, texts)})"
        return text if held == result else f"({result}){text}"

    def _as(self, ctype: str, value: Index, texts: Mapping[str, str]) -> str:
        text = self.text(value, texts)
        return text if self.ctype(value) == ctype else f"({ctype}){text}"

    def condition(self, condition: Condition, texts: Mapping[str, str] = NO_TEXTS) -> str:
        match condition:
            case Compare(relation, a, b):
                return f"({self.text(a, texts)} {relation} {self.text(b, texts)})"
            case Negation(part):
                return f"(!{self.condition(part, texts)})"
            case AllOf(parts):
                return "(" + (" && ".join(self.condition(p, texts) for p in parts) or "true") + ")"
            case AnyOf(parts):
                return "(" + (" || ".join(self.condition(p, texts) for p in parts) or "false") + ")"

    # What is known ---------------------------------------------------------------------------------

    def never_negative(self, value: Index) -> bool:
        """Whether value >= 0 follows from signs alone."""
        return all(self._monomial_sign(m) * c > 0 for m, c in value.terms)

    def _monomial_sign(self, monomial: Monomial) -> int:
        """1: never negative, -1: never positive, 0: not known."""
        sign = 1
        for atom in monomial:
            if isinstance(atom, FloorDiv) and self.never_negative(-atom.a) and self.never_negative(atom.b):
                sign = -sign
            elif not self._atom_not_negative(atom):
                return 0
        return sign

    def _atom_not_negative(self, atom: Atom) -> bool:
        match atom:
            case Symbol(_, kind):
                known = self.ranges.get(atom)
                return kind in ("dim", "position") or (known is not None and self._rises_from_zero(known))
            case FloorDiv(a, b):
                return self.never_negative(a) and self.never_negative(b)
            case Mod(_, b):
                return self.never_negative(b)
            case Extremum("max", a, b):
                return self.never_negative(a) or self.never_negative(b)
            case Extremum(_, a, b):
                return self.never_negative(a) and self.never_negative(b)
            case _:
                return False

    def _rises_from_zero(self, known: Range) -> bool:
        return self.never_negative(known.lo) and self.never_negative(known.step)

    def below(self, start: Index, extent: int, hi: Index, divides: Mapping[str, int]) -> bool:
        """Whether start + extent <= hi is known: constants, or a loop variable whose steps divide what it runs over.

        `divides` has known divisors of index texts (guards of the shape class).
        """
        if (room := (hi - start).constant) is not None:
            return room >= extent
        for symbol, known in self.ranges.items():
            affine = start.affine(symbol)
            step, offset = known.step.constant, affine[1].constant if affine else None
            if affine is None or affine[0].constant != 1 or step is None or offset is None:
                continue
            if known.lo.constant == 0 and known.hi == hi and 0 < offset + extent <= step:
                return _divided_by(hi, step, divides)
        return False


def _is_scalar(monomial: Monomial) -> bool:
    return len(monomial) == 1 and isinstance(monomial[0], Symbol) and monomial[0].kind == "param"


def _divided_by(value: Index, step: int, divides: Mapping[str, int]) -> bool:
    """Whether every term is a multiple of `step`."""
    for monomial, coefficient in value.terms:
        known = divides.get(str(Index(((monomial, 1),)))) if monomial else 1
        if (coefficient * (known or 1)) % step:
            return False
    return True


def _literal(value: int) -> str:
    text = str(value) if abs(value) < 2**31 else f"{value}ll"
    return text if value >= 0 else f"({text})"
