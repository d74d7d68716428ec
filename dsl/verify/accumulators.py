"""Sums are accumulated in a type that is wide enough: f32 (or f64) for floats, 32 bits for integers."""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.ir import (
    Binary,
    Broadcast,
    Cast,
    ExpandDims,
    Fill,
    For,
    Kernel,
    Let,
    Mma,
    Operation,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Value,
)  # fmt: skip
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.sites import walk


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for each kernel that sums: PROVED, or UNKNOWN with the first narrow accumulator."""
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
