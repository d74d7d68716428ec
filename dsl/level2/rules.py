"""The rules of level two, each stated once: the parser reports them with a place, `spec.verify` as text.

Here are the terms in which they speak, and the rules about distributions. `operations` has what each operation gives,
`products`, `accesses`, `effects` and `resources` the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.lanes import Distribution, Mode, covers, insert, normal, same, unit
from kernelagent.dsl.level2.normal import tidy

Shape = tuple[int, ...]


class Broken(Exception):
    """A broken rule. `part` names the argument at fault; `facts` are the values of the message."""

    def __init__(self, code: str, message: str, hint: str, part: str = "", **facts: object) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.part, self.facts = code, message, hint, part, facts


@dataclass(frozen=True)
class Type:
    """What a fragment is, without its name."""

    dtype: str
    shape: Shape
    layout: Distribution | None

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}" if self.shape else self.dtype


@dataclass(frozen=True)
class Machine:
    """What statements are judged against. `threads` are those of the executing role; `partial`: of a role beside
    others. `widths`: thread counts that distributions may have at their declaration."""

    target: str
    threads: int
    arrays: Mapping[str, ir.Array]
    buffers: Mapping[str, dev.SharedBuffer]
    scalars: Mapping[str, ir.Scalar]
    barriers: Mapping[str, dev.MBarrier] = field(default_factory=dict)
    cluster: int = 1
    together: tuple[int, int] = (1, 1)
    role: str = ""
    partial: bool = False
    widths: frozenset[int] = frozenset()

    def of_role(self, role: dev.Role | None) -> Machine:
        """The same for the statements of a role."""
        if role is None:
            return replace(self, widths=frozenset())
        partial = role.threads != self.threads
        return replace(self, threads=role.threads, role=role.name, partial=partial, widths=frozenset())


def machine_of(kernel: dev.DeviceKernel) -> Machine:
    return Machine(
        kernel.target,
        kernel.threads,
        {a.name: a for a in kernel.arrays},
        {b.name: b for b in kernel.buffers},
        {s.name: s for s in kernel.scalars},
        {b.name: b for b in kernel.barriers},
        kernel.cluster,
        kernel.grid.together,
    )


def type_of(x: dev.Fragment) -> Type:
    return Type(x.dtype, x.shape, tidy(x.layout))


def shape_text(shape: Shape) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def same_layout(a: Distribution | None, b: Distribution | None) -> bool:
    return same(a, b) if a and b else a is b


# Distributions -----------------------------------------------------------------------------------------


def check_layout(m: Machine, d: Distribution) -> None:
    """A distribution covers its tile and has the threads of the block or role."""
    for part, mode in (*(("lanes", m) for m in d.lanes), *(("values", m) for m in d.values)):
        if mode.extent < 1 or not -1 <= mode.axis < len(d.shape) or (mode.axis >= 0 and mode.stride < 1):
            message = f"the mode {mode} does not fit the shape {shape_text(d.shape)}"
            raise Broken(
                "layout-mode", message, "modes are (extent, axis, stride); axis -1 holds copies", part, mode=str(mode)
            )
    if d.threads not in m.widths:
        check_threads(m, d, "lanes")
    if any(mode.axis < 0 for mode in d.values) or not covers(d):
        held = d.threads // d.copies * d.registers
        message = (
            f"{d.threads} threads with {d.registers} registers ({held} places without copies) do not hold each of the "
            f"{prod(d.shape)} elements of {shape_text(d.shape)} once"
        )
        hint = "along each axis the extents multiply to the axis, each stride being the product of the smaller ones"
        raise Broken("layout-cover", message, hint, places=held, elements=prod(d.shape))


def check_threads(m: Machine, d: Distribution, part: str) -> None:
    """A distribution is over the threads that run the statement."""
    if d.threads != m.threads:
        whose = f"the role `{m.role}`" if m.role else "the block"
        message = f"the lanes make {d.threads} threads, but {whose} has {m.threads}"
        hint = "let the lane extents multiply to the threads; add (n, -1, 0) where n threads hold copies"
        raise Broken("layout-threads", message, hint, part, lanes=d.threads, threads=m.threads)


def run_along(d: Distribution, axis: int) -> int:
    """Consecutive registers that hold consecutive elements along `axis`."""
    run = 1
    for mode in normal(d.values):
        if mode.axis != axis or mode.stride != run:
            break
        run *= mode.extent
    return run


def stretch_source(d: Distribution, shape: Shape) -> Distribution:
    """What a tile of this shape must be to stretch to `d`."""
    for axis, (narrow, wide) in enumerate(zip(shape, d.shape, strict=True)):
        if narrow != wide:
            d = unit(d, axis)
    return d


def expanded(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    for axis in sorted(axes):
        d = insert(d, axis)
    return d


def flat_digits(d: Distribution) -> tuple[tuple[Mode, ...], tuple[Mode, ...]]:
    """Thread and register digits as steps in the row-major tile."""

    def steps(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        return normal(Mode(m.extent, min(m.axis, 0), m.stride * prod(d.shape[m.axis + 1 :])) for m in modes)

    return steps(d.lanes), steps(d.values)


def layout_hint(d: Distribution | None) -> str:
    return (
        "give both the same distribution, or exchange through shared memory"
        if d is None
        else (f"needed: lanes={_modes(d.lanes)}, values={_modes(d.values)}; or exchange through shared memory")
    )


def _modes(modes: tuple[Mode, ...]) -> str:
    return f"({', '.join(map(str, modes))}{',' if len(modes) == 1 else ''})"
