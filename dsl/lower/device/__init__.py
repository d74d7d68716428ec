"""Tile IR -> device schedule, one pass a file. The order is that of `lower_device`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.lower.device import hopper
from kernelagent.dsl.lower.device.build import Plan
from kernelagent.dsl.lower.device.choose_atoms import choose_atoms
from kernelagent.dsl.lower.device.order_shared import order_shared
from kernelagent.dsl.lower.device.place_shared import place_shared
from kernelagent.dsl.lower.device.place_values import place_values
from kernelagent.dsl.lower.device.stage import stage_loads
from kernelagent.dsl.lower.device.statements import Lowering
from kernelagent.dsl.lower.device.widen import known_multiples, shape_class
from kernelagent.dsl.lower.simplify import simplify
from kernelagent.dsl.schedule import Choice

PASSES_VERSION = 1
"""Part of every cache key; raise it when a pass changes what is emitted."""


@dataclass(frozen=True)
class Machine:
    """What the passes must know of an architecture: `shared_bytes` is what one block may opt in to."""

    name: str
    shared_bytes: int


def lower_device(
    kernel: ir.Kernel, machine: Machine, policy: Mapping[str, object], aligned: bool = True
) -> dev.DeviceKernel:
    """The device schedule of an instantiated kernel for one shape class.

    Raises Unsupported for what no pass can express, KernelError where a limit of the chip is exceeded.
    """
    simple = simplify(kernel)
    reason: list[Choice] = []
    if machine.name == "sm_90a" and aligned:
        try:
            return _lower_hopper(simple, kernel, machine, policy)
        except hopper.Unsuited as why:
            reason = [Choice("roles", "none", str(why))]
    return _lower_plain(simple, kernel, machine, policy, aligned, reason)


def _lower_hopper(
    simple: ir.Kernel, kernel: ir.Kernel, machine: Machine, policy: Mapping[str, object]
) -> dev.DeviceKernel:
    """With a copying role and warpgroup products; fewer stages until everything fits. Raises hopper.Unsuited."""
    stages = policy.get("stages")
    wanted = stages if isinstance(stages, int) else hopper.MOST_STAGES
    for count in range(wanted, 0, -1):
        choices: list[Choice] = []
        road = hopper.choose_road(simple, policy, choices)
        threads = hopper.WARPGROUP * road.groups
        homes = place_values(simple, road.products, threads, choices)
        shape = shape_class(simple, True)
        chosen = {**policy, "stages": count}
        plan = Plan(
            simple, shape, threads, road.products, homes, road.operands, road.unheld, chosen,
            known_multiples(simple, shape), choices, machine.shared_bytes,
        )  # fmt: skip
        builder = hopper.HopperLowering(plan, road.groups, bool(policy.get("persistent", False)))
        grid = _grid(builder, simple.body, (), ir.Origin(simple.span), policy, True, choices)
        if grid.inner is not None:
            raise hopper.Unsuited("the grid is ragged")
        if not any(isinstance(s, dev.For) for s in builder.producer):
            raise hopper.Unsuited("no loop brings operands")
        made = hopper.assemble(builder, grid, grid.body, kernel, machine.name)
        if made.shared_bytes <= machine.shared_bytes:
            return replace(made, choices=tuple(dict.fromkeys(choices)))
    raise hopper.Unsuited(f"{made.shared_bytes} bytes of shared memory even with one stage")


def _lower_plain(
    simple: ir.Kernel,
    kernel: ir.Kernel,
    machine: Machine,
    policy: Mapping[str, object],
    aligned: bool,
    choices: list[Choice],
) -> dev.DeviceKernel:
    products, threads = choose_atoms(simple, machine.name, policy, choices)
    operands, unheld = stage_loads(simple, products)
    homes = place_values(simple, products, threads, choices)
    shape = shape_class(simple, aligned)
    multiples = known_multiples(simple, shape)
    plan = Plan(
        simple, shape, threads, products, homes, operands, unheld, policy, multiples, choices, machine.shared_bytes
    )
    builder = Lowering(plan)
    grid = _grid(builder, simple.body, (), ir.Origin(simple.span), policy, bool(products), choices)
    body = innermost(grid).body
    buffers = place_shared(body, builder.buffers)
    again = grid.persistent or grid.inner is not None
    updated = frozenset(a.name for a in kernel.arrays if a.role == "InOut")
    body = order_shared(body, buffers, frozenset(builder.ringed), again, updated)
    made = dev.DeviceKernel(
        kernel.name, machine.name, shape, threads, kernel.arrays, kernel.scalars, kernel.dims, buffers,
        _with_innermost(grid, body), tuple(dict.fromkeys(choices)),
    )  # fmt: skip
    _check_limits(made, machine, kernel)
    return made


def _grid(
    builder: Lowering,
    body: tuple[ir.Statement, ...],
    before: tuple[ir.Statement, ...],
    origin: ir.Origin,
    policy: Mapping[str, object],
    products: bool,
    choices: list[Choice],
) -> dev.Grid:
    """The `tiles` loops of a kernel; statements in front of them are repeated in every tile."""
    split = next((k for k, s in enumerate(body) if isinstance(s, ir.For) and s.kind == "tiles"), None)
    if split is None:
        scope = builder.block((*before, *body))
        builder.scopes.pop()
        return dev.Grid((), (), (), (), tuple(scope.body), origin)
    loop = cast(ir.For, body[split])
    builder.plan.multiples.enter(loop.variables, loop.lo, loop.step)
    inner = _grid(builder, loop.body, (*before, *body[:split]), loop.origin, policy, products, choices)
    raster, group = _raster(loop, policy, products, choices)
    persistent = bool(policy.get("persistent", False))
    nested = inner if inner.variables else None
    return dev.Grid(
        loop.variables, loop.lo, loop.hi, loop.step, () if nested else inner.body, loop.origin, raster, group,
        persistent, nested,
    )  # fmt: skip


GROUP = 8
"""Tile rows that share one column sweep, so that both operands' tiles stay in the second-level cache."""


def _raster(
    loop: ir.For, policy: Mapping[str, object], products: bool, choices: list[Choice]
) -> tuple[Literal["row", "column", "grouped"], int]:
    asked = policy.get("raster")
    if asked in ("row", "column", "grouped"):
        return asked, GROUP
    if products and len(loop.variables) >= 2:
        choices.append(
            Choice("raster", f"grouped by {GROUP} rows", "operand tiles are read again from cache", loop.origin)
        )
        return "grouped", GROUP
    return "row", GROUP


def innermost(grid: dev.Grid) -> dev.Grid:
    return grid if grid.inner is None else innermost(grid.inner)


def _with_innermost(grid: dev.Grid, body: tuple[dev.Statement, ...]) -> dev.Grid:
    if grid.inner is None:
        return replace(grid, body=body)
    return replace(grid, inner=_with_innermost(grid.inner, body))


def _check_limits(made: dev.DeviceKernel, machine: Machine, kernel: ir.Kernel) -> None:
    if made.shared_bytes > machine.shared_bytes:
        sizes = ", ".join(f"{b.name} {dev.stage_bytes(b) * b.stages}" for b in made.buffers)
        message = f"{made.shared_bytes} bytes of shared memory; a block of {machine.name} has {machine.shared_bytes}"
        hint = "use smaller tiles or fewer stages"
        raise KernelError([Diagnostic("shared-limit", message, kernel.span, hint=hint, facts={"buffers": sizes})])


__all__ = ["PASSES_VERSION", "Machine", "innermost", "lower_device"]
