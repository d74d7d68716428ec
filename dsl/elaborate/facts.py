"""What is known about index integers at a point of a kernel, and a small prover over it.

The prover answers "is this never negative?" by replacing loop variables with their extremes and looking at signs. It
is sound and incomplete: `False` means "not shown", never "refuted".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce

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
    Select,
    Symbol,
    index,
)
from kernelagent.dsl.index import maximum as plain_maximum
from kernelagent.dsl.index import minimum as plain_minimum
from kernelagent.dsl.ir import Assume, For

_DEPTH = 8


@dataclass
class Facts:
    """Loops around the point (outermost first) and what the kernel assumes.

    `known` holds indices that are >= 0; `ranges` maps an integer array to [lo, hi) of its elements.
    """

    loops: list[tuple[Symbol, Index, Index]] = field(default_factory=list)  # variable, lo, hi
    known: list[Index] = field(default_factory=list)
    divisible: list[tuple[Index, Index]] = field(default_factory=list)  # (a, b): a % b == 0
    members: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ranges: dict[str, tuple[Index, Index]] = field(default_factory=dict)
    distinct: set[str] = field(default_factory=set)
    partitions: dict[str, Index] = field(default_factory=dict)
    _shown: dict[tuple[Index, int], bool] = field(default_factory=dict)  # answers while the facts stay the same

    def enter(self, variables: Iterable[Symbol], lo: Iterable[Index], hi: Iterable[Index]) -> None:
        self.loops.extend(zip(variables, lo, hi, strict=True))
        self._shown.clear()

    def copied(self) -> Facts:
        """The same knowledge, to be added to: answers that this one gives are not the other's."""
        return Facts(
            list(self.loops), list(self.known), list(self.divisible), dict(self.members), dict(self.ranges),
            set(self.distinct), dict(self.partitions),
        )  # fmt: skip

    def know(self, *values: Index) -> None:
        """Take in indices that are >= 0."""
        self.known += values
        self._shown.clear()

    def leave(self, count: int) -> None:
        del self.loops[len(self.loops) - count :]
        self._shown.clear()

    def enter_loop(self, loop: For) -> None:
        self.enter(loop.variables, loop.lo, loop.hi)

    def add(self, assume: Assume) -> None:
        """Take in a statement about sizes or about the contents of an integer array."""
        self._shown.clear()
        if assume.condition is not None:
            self.add_condition(assume.condition)
        match assume.data:
            case ("range", array, (lo, hi)):
                self.ranges[array] = (lo, hi)
            case ("distinct", array, _):
                self.distinct.add(array)
            case ("partition", array, (total,)):
                self.partitions[array] = total
                self.ranges[array] = (index(0), total + 1)

    def add_condition(self, condition: Condition) -> None:
        self._shown.clear()
        match condition:
            case AllOf(parts):
                for part in parts:
                    self.add_condition(part)
            case AnyOf(parts):
                self._add_membership(parts)
            case Compare("==", a, b):
                self.known += [a - b, b - a]
                self._add_divisibility(a, b)
            case Compare(relation, a, b) if relation != "!=":
                difference = b - a if relation in ("<", "<=") else a - b
                self.known.append(difference - (1 if relation in ("<", ">") else 0))

    def _add_membership(self, parts: tuple[Condition, ...]) -> None:
        found: dict[str, list[int]] = {}
        for part in parts:
            match part:
                case Compare("==", Index(terms=(((Symbol(name, _),), 1),)), b) if b.constant is not None:
                    found.setdefault(name, []).append(b.constant)
                case _:
                    return
        if len(found) == 1:
            self.members.update({name: tuple(values) for name, values in found.items()})

    def _add_divisibility(self, a: Index, b: Index) -> None:
        match (a, b.constant):
            case (Index(terms=(((Mod(dividend, divisor),), 1),)), 0):
                self.divisible.append((dividend, divisor))

    # Signs ---------------------------------------------------------------------------------------

    def nonnegative(self, value: Index, depth: int = _DEPTH) -> bool:
        """Whether `value` is shown to be >= 0 wherever the point is reached."""
        if value.constant is not None:
            return value.constant >= 0
        if depth == 0:
            return False
        key = (value, depth)
        if key not in self._shown:
            self._shown[key] = self._show_nonnegative(value, depth)
        return self._shown[key]

    def _show_nonnegative(self, value: Index, depth: int) -> bool:
        if all(c >= 0 and all(self._atom_nonnegative(a, depth) for a in m) for m, c in value.terms):
            return True
        return self._split_extremum(value, depth) or self._eliminate_loop(value, depth) or self._use_known(value, depth)

    def less_equal(self, a: Index, b: Index) -> bool:
        return a == b or self.nonnegative(b - a)

    def _atom_nonnegative(self, atom: Atom, depth: int) -> bool:
        match atom:
            case Symbol(name, kind):
                if kind in ("dim", "tunable", "position"):
                    return True
                return any(v.name == name and self.nonnegative(lo, depth - 1) for v, lo, _ in self.loops) or (
                    any(k == index(atom) for k in self.known)
                )
            case Element(array, _):
                return array in self.ranges and self.nonnegative(self.ranges[array][0], depth - 1)
            case FloorDiv(a, b):
                return self.nonnegative(a, depth - 1) and self.nonnegative(b, depth - 1)
            case Mod(_, b):
                return self.nonnegative(b, depth - 1)
            case Extremum(which, a, b):
                test = all if which == "min" else any
                return test(self.nonnegative(x, depth - 1) for x in (a, b))
            case Select(_, a, b):
                return self.nonnegative(a, depth - 1) and self.nonnegative(b, depth - 1)

    def _split_extremum(self, value: Index, depth: int) -> bool:
        for monomial, coefficient in value.terms:
            if len(monomial) == 1 and isinstance(monomial[0], Extremum):
                atom = monomial[0]
                test = all if (coefficient > 0) == (atom.which == "min") else any
                parts = (_replace_term(value, atom, part) for part in (atom.a, atom.b))
                return test(self.nonnegative(part, depth - 1) for part in parts)
        return False

    def _eliminate_loop(self, value: Index, depth: int) -> bool:
        """Put the innermost loop variable at the extreme that makes `value` smallest."""
        used = value.symbols()
        for variable, lo, hi in reversed(self.loops):
            if variable not in used:
                continue
            parts = value.affine(variable)
            if parts is None:
                return False
            coefficient, rest = parts
            if self.nonnegative(coefficient, depth - 1):
                return self.nonnegative(coefficient * lo + rest, depth - 1)
            if self.nonnegative(-coefficient, depth - 1):
                return self.nonnegative(coefficient * (hi - 1) + rest, depth - 1)
            return False
        return False

    def _use_known(self, value: Index, depth: int) -> bool:
        facts = [*self.known, *self._element_facts(value)]
        return depth > _DEPTH - 3 and any(self._helps(fact, value, depth) for fact in facts)

    def _helps(self, fact: Index, value: Index, depth: int) -> bool:
        """Subtracting a fact is worth a try only when it takes away a negative term of the value."""
        negative = {m for m, c in value.terms if c < 0}
        helps = any(c < 0 and m in negative for m, c in fact.terms)
        return helps and self.nonnegative(value - fact, min(depth - 1, _DEPTH - 2))

    def _element_facts(self, value: Index) -> Iterator[Index]:
        """Bounds of the array elements in `value`, and order within partitions."""
        terms = [(a, c) for m, c in value.terms for a in m if isinstance(a, Element) and a.array in self.ranges]
        for element, coefficient in terms:
            lo, hi = self.ranges[element.array]
            yield hi - 1 - index(element) if coefficient < 0 else index(element) - lo
        for low, down in terms:
            for high, up in terms:
                if down < 0 < up and low.array == high.array and low.array in self.partitions:
                    (a,), (b,) = low.coordinates, high.coordinates
                    if ((b - a).constant or 0) > 0:
                        yield index(high) - index(low)

    # Simplified minima and maxima ----------------------------------------------------------------

    def minimum(self, *values: Index) -> Index:
        """The least value, without the arguments that are shown not to matter."""
        parts = list(dict.fromkeys(p for v in values for p in _arguments("min", v)))
        kept = self._undominated(parts, self.less_equal)
        return reduce(plain_minimum, sorted(kept, key=str))

    def maximum(self, *values: Index) -> Index:
        parts = list(dict.fromkeys(p for v in values for p in _arguments("max", v)))
        kept = self._undominated(parts, lambda a, b: self.less_equal(b, a))
        return reduce(plain_maximum, sorted(kept, key=str))

    def _undominated(self, parts: list[Index], decides: Callable[[Index, Index], bool]) -> list[Index]:
        kept = list(parts)
        for part in parts:
            others = [p for p in kept if p is not part]
            if others and any(decides(o, part) for o in others):
                kept = others
        return kept

    def clamp(self, value: Index, lo: Index, hi: Index) -> Index:
        return self.maximum(self.minimum(value, hi), lo)

    # Equality ------------------------------------------------------------------------------------

    def equal(self, a: Index, b: Index) -> bool:
        """Equality as expressions, using known divisibility (`K // 128 * 128 == K`) and equal dims."""
        if a == b:
            return True
        if self._expand_quotients(a) == self._expand_quotients(b):
            return True
        return (a - b) in self.known and (b - a) in self.known

    def divides(self, divisor: Index, value: Index) -> bool:
        """Whether `value % divisor == 0` is known."""
        if index(0) == value % divisor or (value, divisor) in self.divisible:
            return True
        name = _single_symbol(value)
        known = self.members.get(name) if name else None
        c = divisor.constant
        if known is not None and c is not None:
            return all(m % c == 0 for m in known)
        return any(v == value and d % divisor == index(0) for v, d in self.divisible)

    def _expand_quotients(self, value: Index) -> Index:
        """Replace `a` by `b * (a // b)` where the division is exact and occurs in `value` or is assumed."""
        replacements: dict[str, Index] = {}
        pairs = [(f.a, f.b) for f in value.atoms() if isinstance(f, FloorDiv)] + self.divisible
        for a, b in pairs:
            name = _single_symbol(a)
            if name and name not in replacements and b.constant != 1 and self.divides(b, a):
                replacements[name] = b * index(FloorDiv(a, b))
        return value.substitute(replacements) if replacements else value


def _single_symbol(value: Index) -> str | None:
    match value.terms:
        case (((Symbol(name, _),), 1),):
            return name
    return None


def _arguments(which: str, value: Index) -> Iterator[Index]:
    match value.terms:
        case (((Extremum() as e,), 1),) if e.which == which:
            yield from _arguments(which, e.a)
            yield from _arguments(which, e.b)
        case _:
            yield value


def _replace_term(value: Index, atom: Atom, by: Index) -> Index:
    """Replace the monomial that consists of `atom` alone."""
    total = index(0)
    for monomial, coefficient in value.terms:
        total = total + (by * coefficient if monomial == (atom,) else Index(((monomial, coefficient),)))
    return total
