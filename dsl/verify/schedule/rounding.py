"""Sums that a loop carries keep their precision: rounded once an iteration, their error grows with the trip count.

A schedule may round what its kernel rounds. Without a kernel nobody says what was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.level2 import traverse
from kernelagent.dsl.lower import rewrite
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.cases import Case

Step = tuple[int, str]
"""A value that another is made of: its number and dtype."""


@dataclass(frozen=True)
class _Made:
    """What a value is made of, and where."""

    parts: tuple[Step, ...]
    line: int


def prove_rounding(case: Case, subject: str) -> Findings:
    """An obligation for a schedule whose loops carry floats, unless its kernel rounds them too; and one for numbers
    that are rounded to a dtype that the kernel does not have."""
    if (foreign := _foreign(case)) is not None:
        detail = f"a {foreign[1]} is made {foreign[2]}, which the kernel has nowhere"
        return _refuted(case, foreign[0], detail, "digits are lost that the kernel keeps", subject)
    carried = list(_in_schedule(case.kernel))
    if not carried:
        return Findings()
    narrow = next((line for line in carried if line is not None), None)
    if narrow is None:
        detail = "what loops carry in f32 or f64 is not rounded to less on its way to the next iteration"
        return Findings((Obligation("accumulator", "PROVED", None, detail, subject),))
    if case.oracle is None:
        detail = "what a loop carries is rounded in every iteration"
        return Findings((Obligation("accumulator", "UNKNOWN", narrow, detail, subject),))
    if any(_in_kernel(k) for k in case.oracle.kernels):
        return Findings()
    detail = "what a loop carries is rounded in every iteration, which the kernel does not do"
    return _refuted(case, narrow, detail, "the error of the sum grows with the number of iterations", subject)


def _foreign(case: Case) -> tuple[int, str, str] | None:
    """Line, source and target of a cast to a narrower float that no value or array of the kernel of tiles is."""
    if case.oracle is None:
        return None
    own = {a.dtype for a in case.kernel.arrays}
    for kernel in case.oracle.kernels:
        own |= {s.value.type.dtype for s in rewrite.walk_statements(kernel.body) if isinstance(s, ir.Let)}
    for s in dev.statements(case.kernel):
        match s:
            case dev.Let(fragment, dev.Pointwise("cast", (x,))) if is_float(x.dtype) and is_float(fragment.dtype):
                if bits(fragment.dtype) < bits(x.dtype) and fragment.dtype not in own:
                    return fragment.origin.span.line, x.dtype, fragment.dtype
    return None


def _refuted(case: Case, line: int, detail: str, why: str, subject: str) -> Findings:
    shown = ScheduleCounterexample(
        family="accumulator", message=detail, lines=(line,), sizes={}, tunables={}, kind="rounded",
        kernel=case.kernel.name, shape_class=case.kernel.shape_class.name, line=line,
        why=why,
    )  # fmt: skip
    return Findings((Obligation("accumulator", "REFUTED", line, detail, subject),), (shown,))


def _in_schedule(kernel: dev.DeviceKernel) -> Iterator[int | None]:
    """For each float that a loop carries the line that rounds it, None if none does."""
    made: dict[int, _Made] = {}
    statements = list(dev.statements(kernel))
    for s in statements:
        match s:
            case dev.Let(fragment, operation):
                parts = tuple((x.number, x.dtype) for x in traverse.operands(operation))
                made[fragment.number] = _Made(parts, fragment.origin.span.line)
            case dev.For(carried=carried, origin=origin):
                for c in carried:
                    made[c.result.number] = _Made(((c.end.number, c.end.dtype),), origin.span.line)
            case dev.If(merged=merged, origin=origin):
                for m in merged:
                    parts = tuple((x.number, x.dtype) for x in (m.then, m.otherwise))
                    made[m.result.number] = _Made(parts, origin.span.line)
    for s in statements:
        for c in s.carried if isinstance(s, dev.For) else ():
            if is_float(c.end.dtype) and bits(c.end.dtype) >= 32:
                yield _narrowed((c.end.number, c.end.dtype), c.inside.number, made)


def _in_kernel(kernel: ir.Kernel) -> bool:
    """Whether the kernel itself rounds what a loop carries."""
    made: dict[int, _Made] = {}
    loops: list[ir.For] = []
    for s in rewrite.walk_statements(kernel.body):
        match s:
            case ir.Let(value, operation):
                parts = tuple((x.number, x.type.dtype) for x in rewrite.operands(operation))
                made[value.number] = _Made(parts, 1)
            case ir.For(carried=carried):
                loops.append(s)
                for c in carried:
                    made[c.result.number] = _Made(((c.end.number, c.end.type.dtype),), 1)
            case ir.If(merged=merged):
                for m in merged:
                    parts = tuple((x.number, x.type.dtype) for x in (m.then, m.otherwise))
                    made[m.result.number] = _Made(parts, 1)
    wide = [c for loop in loops for c in loop.carried if bits(c.end.type.dtype) >= 32]
    return any(_narrowed((c.end.number, c.end.type.dtype), c.inside.number, made) for c in wide)


def _narrowed(end: Step, inside: int, made: Mapping[int, _Made]) -> int | None:
    """The line of the value in less than 32 bits that lies between `inside` and `end`; None if there is none."""
    known: dict[int, bool] = {}
    reaches = _reaching(inside, made, known)
    left, seen = [end[0]] if reaches(end[0]) and end[0] != inside else [], {end[0]}
    while left:
        for number, dtype in made[left.pop()].parts:
            if number in seen or number == inside or not reaches(number):
                continue
            if is_float(dtype) and bits(dtype) < 32:
                return made[number].line
            seen.add(number)
            left.append(number)
    return None


def _reaching(target: int, made: Mapping[int, _Made], known: dict[int, bool]) -> Callable[[int], bool]:
    """Whether a value is made of the target."""

    def reaches(number: int) -> bool:
        if number not in known:
            known[number] = False
            parts = made[number].parts if number in made else ()
            known[number] = number == target or any(reaches(n) for n, _ in parts)
        return known[number]

    return reaches


__all__ = ["prove_rounding"]
