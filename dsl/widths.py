"""Indices that a target computes in so many bits: which fit for every size, and which calls are refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kernelagent.dsl.binding import MAX_DIM
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.dtypes import DTYPES, bits, is_integer
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.intervals import Interval, Intervals, Loop
from kernelagent.dsl.ir import Array, Assume, Scalar
from kernelagent.dsl.schedule import Guard

BLOCKS = Symbol("blocks of the launch", "param")
"""How many blocks a launch has: what dispatch knows beside the sizes."""
MOST_BLOCKS = 2**31 - 1
"""Of a grid along x (CUDA Programming Guide, "Compute Capabilities")."""
SAFE = (1 << 24, 1 << 20, 1 << 16, 1 << 12)
"""Largest dims that are tried for sizes at which nothing needs to be looked at."""


@dataclass(frozen=True)
class Computed:
    """An index that a target computes: `value` and up to `below` less or `above` more (a lane's part), in `bits` bits
    (`unsigned` or not), inside `loops`. `what` names it. It is the `place` of an element (or leads to one), a `count`
    of tiles or iterations, or a `value` that the author wants as a number of some dtype."""

    value: Index
    bits: int
    loops: tuple[Loop, ...]
    line: int
    what: str
    below: int = 0
    above: int = 0
    kind: Literal["place", "count", "value"] = "place"
    unsigned: bool = False

    def fits(self, known: Intervals) -> bool:
        low, high = self.span(known)
        return self.holds(low) and self.holds(high)

    def holds(self, number: int) -> bool:
        """Whether the bits suffice for a number."""
        half = 1 << (self.bits - 1)
        return 0 <= number < 2 * half if self.unsigned else -half <= number < half

    def span(self, known: Intervals) -> Interval:
        """Smallest and largest value. `known`: inside the loops."""
        low, high = known.of(self.value)
        return low - self.below, high + self.above


@dataclass(frozen=True)
class Signature:
    """What calls of a kernel may be: its parameters, what it assumes, and the guards of a shape class. Data of which
    nothing is assumed is known by its dtype where that has at most `known_bits`."""

    name: str
    arrays: tuple[Array, ...]
    dims: tuple[str, ...]
    scalars: tuple[Scalar, ...]
    assumes: tuple[Assume, ...]
    span: Span
    guards: tuple[Guard, ...] = ()
    known_bits: int = 16

    def sizes(self, most: int = MAX_DIM) -> dict[str, Interval]:
        """What dims and integer scalars may be in any call, or in those up to `most`."""
        found: dict[str, Interval] = {d: (0, most) for d in self.dims}
        for guard in self.guards:
            if guard.kind == "range" and guard.subject in found:
                found[guard.subject] = (0, min(most, guard.value))
        for scalar in self.scalars:
            if is_integer(scalar.dtype) or scalar.dtype == "bool":
                low, high = values_of(scalar.dtype)
                found[scalar.name] = (low, high) if most == MAX_DIM else (max(low, -most), min(high, most))
        found[BLOCKS.name] = (1, MOST_BLOCKS)
        return found

    def data(self, symbols: Mapping[str, Interval]) -> dict[str, Interval]:
        """What elements of integer arrays are: as assumed, or as narrow dtypes have it. The others are left out."""
        narrow = (a for a in self.arrays if is_integer(a.dtype) and bits(a.dtype) <= self.known_bits)
        found = {a.name: values_of(a.dtype) for a in narrow}
        known = Intervals(symbols, {})
        for assume in self.assumes:
            match assume.data:
                case ("range", array, (lo, hi)):
                    found[array] = (known.of(lo)[0], known.of(hi - 1)[1])
                case ("partition", array, (total,)):
                    found[array] = (0, known.of(total)[1])
        return found


def values_of(dtype: str) -> Interval:
    """Smallest and largest value of an integer dtype."""
    if dtype == "bool":
        return 0, 1
    largest = int(DTYPES[dtype].largest)
    return (-largest - 1 if DTYPES[dtype].kind == "int" else 0), largest


def unfit(
    found: Sequence[Computed], symbols: Mapping[str, Interval], arrays: Mapping[str, Interval]
) -> tuple[list[Computed], list[Computed]]:
    """Those that may leave their bits, and those that depend on data of which nothing is known."""
    root, places = Intervals(symbols, arrays), dict[tuple[Loop, ...], Intervals]()
    wide: list[Computed] = []
    unknown: list[Computed] = []
    for each in found:
        try:
            if each.loops not in places:
                places[each.loops] = root.inside(each.loops)
            known = places[each.loops]
            if known.reached and not each.fits(known):
                wide.append(each)
        except KeyError:
            unknown.append(each)
    return wide, unknown


def wider(found: Sequence[Computed], signature: Signature, most: int = MAX_DIM) -> list[Computed]:
    """Those that may leave their bits at sizes up to `most`."""
    symbols = signature.sizes(most)
    return unfit(found, symbols, signature.data(symbols))[0]


@dataclass(frozen=True)
class Limits:
    """The indices that do not fit for every size that a kernel takes. `safe`: they fit where no dim is larger (and
    there are no integer scalars)."""

    signature: Signature
    found: tuple[Computed, ...]
    safe: int

    @classmethod
    def of(cls, signature: Signature, found: Sequence[Computed]) -> Limits:
        wide = wider(tuple(dict.fromkeys(found)), signature)
        scalars = any(is_integer(s.dtype) for s in signature.scalars)
        safe = (most for most in SAFE if not wider(wide, signature, most))
        return cls(signature, tuple(wide), 0 if scalars else next(safe, 0))

    def refuse(self, sizes: Mapping[str, int], blocks: int = 1) -> None:
        """Raises KernelError (`dim-range`) for a call of `blocks` blocks in which an index would leave its bits.
        `sizes` has dims and integer scalars by name."""
        if not self.found or blocks == 0 or all(sizes[d] <= self.safe for d in self.signature.dims):
            return
        symbols = {n: (v, v) for n, v in {**sizes, BLOCKS.name: blocks}.items()}
        data = self.signature.data(symbols)
        for each in unfit(self.found, symbols, data)[0]:
            raise KernelError([self._refusal(each, each.span(Intervals(symbols, data, each.loops)))])

    def _refusal(self, each: Computed, span: Interval) -> Diagnostic:
        number = next(n for n in span if not each.holds(n))
        where = f"{each.what} (line {each.line})"
        message = f"`{self.signature.name}` cannot take this call: {where} comes to {number} and has {each.bits} bits"
        hint = "pass smaller sizes or scalars; large arrays may be passed in parts"
        facts = {"value": number, "bits": each.bits, "line": each.line}
        return Diagnostic("dim-range", message, self.signature.span, hint=hint, facts=facts)
