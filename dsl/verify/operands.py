"""Which arrays of a schedule meet in products, and what its arithmetic rounds: what test inputs depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import STEPS, bits, is_float

ROUNDED = frozenset(
    ("exp", "exp2", "log", "log2", "tanh", "erf", "sin", "cos", "sigmoid", "sqrt", "rsqrt", "div", "pow", "mod")
)
"""Words whose last bits two implementations may give differently, or whose argument is not exact behind a sum."""

Source: TypeAlias = dev.Fragment | dev.Shared | str
"""A value in registers or shared memory, or an array."""


@dataclass(frozen=True)
class Operands:
    """`meet`: pairs of arrays of which one is in the left and the other in the right operand of a product. `inexact`:
    results may differ in the last place. `weighing`: arrays that decide arguments of `exp`. `step`: the largest
    relative rounding step of any conversion."""

    meet: frozenset[tuple[str, str]]
    inexact: bool
    weighing: frozenset[str]
    step: float


def operands(kernel: dev.DeviceKernel) -> Operands:
    every = list(dev.statements(kernel))
    lets = [s for s in every if isinstance(s, dev.Let)]
    trace = _Trace(every)
    meet = {
        (a, b) for s in lets if isinstance(s.operation, dev.Mma)
        for a in trace.arrays(s.operation.a) for b in trace.arrays(s.operation.b)
    }  # fmt: skip
    words = {s.operation.word for s in lets if isinstance(s.operation, dev.Pointwise)}
    products = {s.operation.word for s in lets if isinstance(s.operation, dev.Reduce | dev.Scan)}
    inexact = bool(words & ROUNDED) or "prod" in products
    steps = [STEPS[t] for s in lets if (t := _narrowed(s)) is not None]
    powers = [o.arguments[0] for s in lets if _is_power(o := s.operation)]
    weighing = frozenset(array for x in powers for array in trace.arrays(x))
    return Operands(frozenset(meet), inexact, weighing, max(steps, default=STEPS["f32"]))


def _is_power(operation: dev.Operation) -> TypeGuard[dev.Pointwise]:
    return isinstance(operation, dev.Pointwise) and operation.word in ("exp", "exp2")


def _narrowed(let: dev.Let) -> str | None:
    """The dtype that a conversion rounds to."""
    match let.operation:
        case dev.Pointwise("cast", (x,)) if is_float(let.fragment.dtype):
            wider = not is_float(x.dtype) or bits(x.dtype) > bits(let.fragment.dtype)
            return let.fragment.dtype if wider else None
    return None


@dataclass
class _Trace:
    """Follows values back to the arrays that they come from."""

    statements: Sequence[dev.Statement]
    makers: dict[int, list[Source]] = field(default_factory=dict)
    filled: dict[str, list[Source]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for s in self.statements:
            match s:
                case dev.Let(fragment=fragment, operation=operation):
                    self.makers[fragment.number] = list(_sources(operation))
                case dev.For(carried=carried):
                    for c in carried:
                        self.makers.setdefault(c.inside.number, []).extend((c.initial, c.end))
                        self.makers.setdefault(c.result.number, []).extend((c.initial, c.end))
                case dev.If(merged=merged):
                    for m in merged:
                        self.makers.setdefault(m.result.number, []).extend((m.then, m.otherwise))
                case dev.Copy(target=target, view=view) | dev.CopyBulk(target=target, view=view):
                    self.filled.setdefault(target.buffer, []).append(view.array)
                case dev.StoreShared(target=target, value=value):
                    self.filled.setdefault(target.buffer, []).append(value)

    def arrays(self, start: Source) -> set[str]:
        found: set[str] = set()
        seen: set[int | str] = set()
        left = [start]
        while left:
            source = left.pop()
            if isinstance(source, str):
                found.add(source)
                continue
            key = source.number if isinstance(source, dev.Fragment) else source.buffer
            if key not in seen:
                seen.add(key)
                left += self.makers.get(key, []) if isinstance(key, int) else self.filled.get(key, [])
        return found


def _sources(operation: dev.Operation) -> Iterator[Source]:
    match operation:
        case dev.Load(view=view) | dev.Gather(view=view):
            yield view.array
        case dev.LoadShared(source=source):
            yield source
        case dev.Pointwise(arguments=arguments):
            yield from arguments
        case dev.Reindex(parts=parts):
            yield from parts
        case dev.Stretch(x=x) | dev.Reduce(x=x) | dev.ArgReduce(x=x) | dev.Scan(x=x):
            yield x
        case dev.Mma(a=a, b=b, acc=acc):
            yield from (a, b, acc)
