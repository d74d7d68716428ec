"""Sums are accumulated in a type that is wide enough: f32 (or f64) for floats, 32 bits for integers.

A sum that is carried in a narrow type is UNKNOWN: somebody may want it. One that is carried in a wide type and goes
through a narrow one in every iteration is REFUTED: it is not what its type says.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.ir import (
    Binary,
    Broadcast,
    Carried,
    Cast,
    ExpandDims,
    Fill,
    For,
    If,
    Kernel,
    Let,
    Mma,
    Operation,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Value,
    Where,
)  # fmt: skip
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import walk


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for each kernel that sums: PROVED, UNKNOWN with the first narrow accumulator, or REFUTED with the
    first cast that rounds a wide one."""
    rounded = next(_rounded(kernel), None)
    if rounded is not None:
        return [_refuted(kernel, *rounded)]
    sums = list(_sums(kernel))
    if not sums:
        return []
    narrow = [(value, line) for value, line in sums if _narrow(value.type.dtype)]
    if not narrow:
        detail = "every sum, product and mma is accumulated in f32, f64 or 32-bit integers"
        return [Obligation("accumulator", "PROVED", None, detail, kernel.name)]
    value, line = narrow[0]
    detail = f"{value.name or 'a sum'} is accumulated in {value.type.dtype}: rounding grows with the number of terms"
    return [Obligation("accumulator", "UNKNOWN", line, detail, kernel.name)]


def _refuted(kernel: Kernel, carried: Carried, cast: Value, line: int) -> Obligation:
    name, wide, narrow = carried.inside.name or "a sum", carried.end.type.dtype, cast.type.dtype
    lost = "digits are lost with every step" if is_float(wide) else "it wraps around"
    detail = (
        f"{name} is carried in {wide}, but cast to {narrow} in every iteration: {lost}. Without the cast it is right"
    )
    return Obligation("accumulator", "REFUTED", line, f"{detail}; carry it in {narrow} if that is meant", kernel.name)


def _narrow(dtype: str) -> bool:
    return bits(dtype) < 32 and dtype != "bool"


def _sums(kernel: Kernel) -> Iterator[tuple[Value, int]]:
    """Values that accumulate, with their lines: reductions, scans, mma, and names carried through an addition."""
    made: dict[int, Operation] = {}
    for statement, place in walk(kernel):
        match statement:
            case Let(value, operation):
                made[value.number] = operation
                if isinstance(operation, Mma) or (
                    isinstance(operation, Reduce | Scan) and operation.word in ("sum", "prod")
                ):
                    yield value, place.line
    for statement, place in walk(kernel):
        if isinstance(statement, For):
            for carried in statement.carried:
                if is_float(carried.end.type.dtype) and _adds_to(carried.end, carried.inside, made):
                    yield carried.end, place.line


def _rounded(kernel: Kernel) -> Iterator[tuple[Carried, Value, int]]:
    """Sums that loops carry in a wide type, with the narrow value that they go through and its line."""
    made: dict[int, tuple[Operation, int]] = {}
    ends: dict[int, tuple[Value, ...]] = {}
    loops: list[For] = []
    for statement, place in walk(kernel):
        match statement:
            case Let(value, operation):
                made[value.number] = (operation, place.line)
            case For(carried=carried):
                loops.append(statement)
                ends.update({c.result.number: (c.end, c.initial) for c in carried})
                ends.update({c.inside.number: (c.initial,) for c in carried})
            case If(merged=merged):
                ends.update({m.result.number: (m.then, m.otherwise) for m in merged})
    for one in (c for loop in loops for c in loop.carried if not _narrow(c.end.type.dtype)):
        path = _Path(one.inside, made, ends)
        if path.leads(one.end) and path.adds and path.narrow is not None:
            yield one, path.narrow, made[path.narrow.number][1]


class _Path:
    """The way of a carried value to its next iteration: through sums, factors, selections, moves and casts.

    `adds`: something is added on it; `narrow`: a value of fewer than 32 bits on it. What is made of the carried value
    otherwise, such as an operand of a product, is not the sum.
    """

    def __init__(
        self, target: Value, made: dict[int, tuple[Operation, int]], ends: dict[int, tuple[Value, ...]]
    ) -> None:
        self.target, self._made, self._ends = target, made, ends
        self._known: dict[int, bool] = {}
        self.adds = False
        self.narrow: Value | None = None

    def leads(self, value: Value) -> bool:
        """Whether `value` is made of the target on such a way; notes what lies on it."""
        if value.number == self.target.number:
            return True
        if value.number not in self._known:
            self._known[value.number] = False
            found = [self.leads(part) for part in self._parts(value)]
            self._known[value.number] = any(found)
            if any(found):
                self._note(value)
        return self._known[value.number]

    def _parts(self, value: Value) -> tuple[Value, ...]:
        if value.number not in self._made:
            return self._ends.get(value.number, ())
        match self._made[value.number][0]:
            case Binary("add" | "sub" | "mul" | "div", a, b) | Where(_, a, b):
                return (a, b)
            case Cast(x) | Reshape(x) | Broadcast(x) | ExpandDims(x) | Permute(x) | Fill(x):
                return (x,)
        return ()

    def _note(self, value: Value) -> None:
        operation = self._made[value.number][0] if value.number in self._made else None
        self.adds |= isinstance(operation, Binary) and operation.word in ("add", "sub")
        if isinstance(operation, Cast) and _narrow(value.type.dtype) and not _narrow(operation.x.type.dtype):
            self.narrow = self.narrow or value


def _adds_to(value: Value, target: Value, made: dict[int, Operation]) -> bool:
    """Whether `value` is `target` plus something, through moves and casts."""
    match made.get(value.number):
        case Binary("add" | "sub", a, b):
            return any(_reaches(x, target, made) for x in (a, b))
        case Cast(x) | Reshape(x) | Broadcast(x) | ExpandDims(x) | Permute(x) | Fill(x):
            return _adds_to(x, target, made)
    return False


def _reaches(value: Value, target: Value, made: dict[int, Operation]) -> bool:
    if value.number == target.number:
        return True
    match made.get(value.number):
        case Cast(x) | Reshape(x) | Broadcast(x) | ExpandDims(x) | Permute(x) | Fill(x):
            return _reaches(x, target, made)
        case Binary("add" | "sub" | "mul", a, b):
            return _reaches(a, target, made) or _reaches(b, target, made)
    return False
