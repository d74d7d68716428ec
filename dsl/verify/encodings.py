"""Inputs that make outputs say which element met which: digits of indices, one-hot partners, small random integers.

Every number is a whole one that its dtype holds exactly (bf16: up to 256, f16 and tf32: 2048, f8e4m3: 16, f8e5m2: 8),
and small enough that sums stay below 2^24 (base times number of elements, as partners hold 0 and 1), so that f32
accumulation in any order is exact.

**Codes.** In the digit runs of an array X of n elements the element of flat index e holds 1 + floor(e / B^p) mod B in
run p = 0 .. P - 1, with B^P >= n. A number has one representation in base B, so all elements of X, those of one tile
and those of all other tiles, differ in at least one run; and no code is 0, what a fill gives. In one more run ("ones")
all elements hold 1.

**Moves.** Where each output element is one element of X, equality with the schedule in the P runs means that it is the
element that the schedule moves there: another one has another code in some run, a fill has none.

**Products.** Let the output (m, n) be a sum over pairs of one element of X and one of Y: those that the schedule pairs
are X[m, k] Y[n, k] for each k once. In the digit runs of X, Y is hot: 1 where the sum of its coordinates is congruent
to t modulo K (K: the extent of k), else 0. For each n exactly one k is hot, k' = t - n mod K. In the "ones" run the
output is the number of pairs whose Y is hot: equality says there is one. In the digit runs it is the code of that
pair's X: equality says it is X[m, k']. So of all elements of X that meet a hot Y in (m, n) there is one, the right one.
The roles are then changed: of all elements of Y that meet a hot X, with k'' = t - m mod K, there is one, Y[n, k''].
Where k' = k'' these two are one pair (X[m, k'] is hot in the second runs), so the product X[m, k'] Y[n, k'] is in the
sum exactly once. Each element of X is decoded in all columns n with k' = k, which exist for all k where Y has K rows or
more; more values of t are used where it has fewer.

**The rest.** A pair (m, n, k) with other k is looked at by random runs: all arrays hold independent small integers. If
the code computes another bilinear form than the schedule, one such run agrees by chance in an output element with
probability at most 1 - (1 - 1/s)^2 for s values (Schwartz-Zippel), and the runs are independent.

**Weights.** Where `exp` makes weights (attention), digit runs of V have Q and K hot and large: scores are 0 but for one
row of K for each row of Q, where they are so large that its weight is 1 and all others are exactly 0; the output is the
code of the row of V that was taken. With Q or K coded, V is hot, and the output is the weight itself. Weights are
compared up to rounding (`tolerance`), the digits are in base 13, whose codes differ by much more. Where
`exp` has no product in front (softmax), two of the random runs have one large number in each row instead: a maximum
that misses it makes `exp` overflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits, is_float, is_integer, numpy_dtype
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.operands import Operands, operands
from kernelagent.dsl.verify.schedule.cases import Call, Case
from numpy.typing import NDArray

BASES = {
    "f64": 2039, "f32": 2039, "f16": 2039, "bf16": 251, "f8e4m3": 13, "f8e5m2": 7, "i8": 127, "u8": 251, "u4": 13,
}  # fmt: skip
"""Primes, so that neighbouring rows of round sizes differ in the first digit already."""
EXACT = 2**24
COARSE = 13
"""Base where results are compared up to rounding."""
HOT = 64
"""Amplitude at which a difference of scores, HOT^2 times a scale of 1/16 or more, makes weights 0."""
RANDOM = 3
"""Largest magnitude of random integers."""
RANDOM_RUNS = 4
PEAK = 128
"""exp(PEAK) is infinite in f32."""
SHIFTS = 3
"""Most values of t. Where K is more than that times the rows of Y, the random runs alone look at some elements."""
ONES = -1


@dataclass(frozen=True)
class Code:
    """The digit of `place` in `base` of each element's flat index, plus one; place ONES: 1."""

    base: int
    place: int

    def values(self, shape: Sequence[int]) -> NDArray[np.int64]:
        count = prod(shape)
        if self.place == ONES:
            return np.ones(tuple(shape), np.int64)
        return np.asarray(1 + np.arange(count) // self.base**self.place % self.base, np.int64).reshape(tuple(shape))


def places(count: int, base: int) -> int:
    """How many digits tell `count` elements apart."""
    found = 1
    while base**found < count:
        found += 1
    return found


def decoded(codes: Sequence[float], base: int) -> int | None:
    """The flat index with these codes, lowest place first; None where one is not a code."""
    flat = 0
    for place, code in enumerate(codes):
        if not (np.isfinite(code) and code == int(code) and 1 <= code <= base):
            return None
        flat += (int(code) - 1) * base**place
    return flat


def hot(shape: Sequence[int], modulus: int, shift: int) -> NDArray[np.int64]:
    """1 where the coordinates add up to `shift` modulo `modulus`, else 0."""
    total = np.indices(tuple(shape)).sum(axis=0)
    return np.asarray((total - shift) % modulus == 0, np.int64)


# Runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the code of `subject`. `partners`: modulus, shift and amplitude of hot arrays."""

    subject: str
    base: int
    places: int
    partners: Mapping[str, tuple[int, int, int]]

    def codes(self) -> Iterator[Code]:
        yield from (Code(self.base, p) for p in range(self.places))
        yield Code(self.base, ONES)


@dataclass(frozen=True)
class Encoding:
    """One run. `group` None: random values drawn with `seed`."""

    group: Group | None
    code: Code | None = None
    seed: int = 0

    def text(self) -> str:
        if self.group is None or self.code is None:
            return f"small random integers ({self.seed})"
        what = "ones" if self.code.place == ONES else f"digit {self.code.place} of the index in base {self.code.base}"
        hot = ", ".join(f"{n} hot modulo {m} at {t}" for n, (m, t, _) in self.group.partners.items())
        return f"{self.group.subject} holds {what}{', ' if hot else ''}{hot}"


class Plan:
    """The runs of a case at some sizes."""

    def __init__(self, case: Case, made: Call) -> None:
        self.made = made
        self.arithmetic: Operands = operands(case.kernel)
        entry = case.shapes.entry
        fixed = {a.data[1] for a in entry.assumes if a.data is not None}
        self.arrays = {a.name: a for a in case.kernel.arrays}
        self.coded = [a for a in case.kernel.arrays if a.role in ("In", "InOut") and _holds_data(a, fixed)]
        self.outputs = [a for a in case.kernel.arrays if a.role != "In"]

    def encodings(self, short: bool = False) -> list[Encoding]:
        """The order in which they are run: the first run of each group, the second of each ..., random ones. `short`:
        only the first of each group and one random one."""
        groups = [[Encoding(g, code) for code in g.codes()] for g in self.groups()]
        turns = [[e for e in turn if e is not None] for turn in zip_longest(*groups)]
        drawn = [Encoding(None, seed=s) for s in range(RANDOM_RUNS)]
        if short:
            return [*(turns[0] if turns else []), *drawn[:1]]
        return [*(e for turn in turns for e in turn), *drawn]

    def groups(self) -> Iterator[Group]:
        for subject in self.coded:
            base = self._base(subject)
            count = places(max(prod(self._shape(subject)), 1), base)
            partners = dict(self._partners(subject))
            large = self.arithmetic.weighing if subject.name not in self.arithmetic.weighing else frozenset()
            for shift in range(self._shifts(partners)):
                turned = {n: (m, shift * step, HOT if n in large else 1) for n, (m, step) in partners.items()}
                yield Group(subject.name, base, count, turned)

    def arrays_of(self, encoding: Encoding) -> dict[str, Any]:
        """All arrays of the call: those that are not coded (positions, labels, outputs) as they were drawn."""
        made = {name: np.array(a) for name, a in self.made.arrays.items()}
        generator = np.random.default_rng(encoding.seed)
        for array in self.coded:
            values = self._values(array, encoding, generator)
            made[array.name] = values.astype(numpy_dtype(array.dtype))
        return made

    # Values ------------------------------------------------------------------------------------------

    def _values(self, array: ir.Array, encoding: Encoding, generator: np.random.Generator) -> NDArray[np.int64]:
        shape, group = self._shape(array), encoding.group
        if group is None or encoding.code is None:
            return self._random(array, shape, generator, peak=encoding.seed // 2 if encoding.seed % 2 else -1)
        if array.name == group.subject:
            return encoding.code.values(shape)
        if array.name in group.partners:
            modulus, shift, amplitude = group.partners[array.name]
            return hot(shape, modulus, shift) * amplitude
        neutral = np.ones if is_float(array.dtype) else np.zeros
        return neutral(shape, np.int64)

    def _random(
        self, array: ir.Array, shape: tuple[int, ...], generator: np.random.Generator, peak: int
    ) -> NDArray[np.int64]:
        """Rounded results must not cancel: no negative numbers there. `peak` >= 0: one large number in each row, near
        the last position whose binary digits are all ones, or the one before: in the last register of the last lane, to
        which every step of a reduction must reach."""
        if (
            peak >= 0
            and array.name in self.arithmetic.weighing
            and not dict(self._partners(array))
            and 0 not in shape
            and shape
        ):
            last = (1 << max(shape[-1].bit_length() - 1 - peak, 0)) - 1
            return hot(shape, shape[-1], last) * PEAK
        if self.arithmetic.inexact:
            return generator.integers(0, 2, shape)
        low = -RANDOM if is_float(array.dtype) or array.dtype.startswith("i") else 0
        return generator.integers(low, RANDOM + 1, shape)

    def _base(self, array: ir.Array) -> int:
        """Such that all codes together are exact in f32."""
        if self.arithmetic.inexact:
            return min(BASES[array.dtype], COARSE)
        most = EXACT // max(prod(self._shape(array)), 1)
        return max((b for b in BASES.values() if b <= min(BASES[array.dtype], most)), default=min(BASES.values()))

    def _shape(self, array: ir.Array) -> tuple[int, ...]:
        return tuple(d.evaluate(self.made.sizes) for d in array.dims)

    # Partners ----------------------------------------------------------------------------------------

    def _partners(self, subject: ir.Array) -> Iterator[tuple[str, tuple[int, int]]]:
        """Arrays that meet the subject in a product, with the modulus and the step of t."""
        for other in self.coded:
            met = {(subject.name, other.name), (other.name, subject.name)} & self.arithmetic.meet
            axis = self._summed(subject, other) if met and other is not subject else None
            if axis is not None:
                yield other.name, (max(axis.evaluate(self.made.sizes), 1), self._reach(other, axis))

    def _summed(self, one: ir.Array, other: ir.Array) -> Index | None:
        """The extent of an axis of both that is summed over: the last that no output has, else the last."""
        shared = [d for d in one.dims if d in other.dims]
        kept = {d for a in self.outputs for d in a.dims}
        inner = [d for d in shared if d not in kept]
        return inner[-1] if inner else shared[-1] if shared else None

    def _reach(self, array: ir.Array, axis: Index) -> int:
        """How many different sums the coordinates of the other axes have."""
        return 1 + sum(d.evaluate(self.made.sizes) - 1 for d in array.dims if d != axis)

    def _shifts(self, partners: Mapping[str, tuple[int, int]]) -> int:
        """Values of t until every position of the summed axes has been hot in some row."""
        needed = [-(-modulus // max(step, 1)) for modulus, step in partners.values()]
        return min(max(needed, default=1), SHIFTS)

    # Comparison --------------------------------------------------------------------------------------

    def tolerance(self, dtype: str) -> float:
        """Relative; 0: values are equal."""
        if not self.arithmetic.inexact or is_integer(dtype):
            return 0.0
        return max(1.5 * self.arithmetic.step, 2.0**-16)


def _holds_data(array: ir.Array, fixed: set[str]) -> bool:
    """Whether an array is computed with; integers of 32 bits say where things are."""
    return array.name not in fixed and (is_float(array.dtype) or (bits(array.dtype) <= 8 and array.dtype in BASES))
