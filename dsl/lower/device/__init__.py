"""Tile IR -> device schedule, one pass a file. The order is that of `lower_device`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.lower.device import choose_grid, hopper
from kernelagent.dsl.lower.device.build import Plan
from kernelagent.dsl.lower.device.choose_atoms import choose_atoms
from kernelagent.dsl.lower.device.grids import innermost, with_innermost
from kernelagent.dsl.lower.device.order_shared import order_shared
from kernelagent.dsl.lower.device.place_shared import place_shared
from kernelagent.dsl.lower.device.place_values import place_values
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.device.stage import stage_loads
from kernelagent.dsl.lower.device.statements import Lowering
from kernelagent.dsl.lower.device.widen import known_multiples, shape_class
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.lower.simplify import simplify
from kernelagent.dsl.schedule import Choice

PASSES_VERSION = 3
"""Part of every cache key; raise it when a pass changes what is emitted."""


@dataclass(frozen=True)
class Machine:
    """What the passes must know of an architecture: `shared_bytes` is what one block may opt in to."""

    name: str
    shared_bytes: int


def lower_device(kernel: ir.Kernel, machine: Machine, policy: Policy, aligned: bool = True) -> dev.DeviceKernel:
    """The device schedule of an instantiated kernel for one shape class.

    Raises Unsupported for what no pass can express, KernelError where a limit of the chip is exceeded or binding policy
    cannot be honoured.
    """
    simple = simplify(kernel)
    reason: list[Choice] = []
    if machine.name == "sm_90a" and aligned:
        try:
            return _lower_hopper(simple, kernel, machine, policy)
        except hopper.Unsuited as why:
            roles = () if policy.words.get("roles") in (False, 1) else ("roles",)
            policy.give_up(("cluster", "via", *roles), str(why), why.hint)
            reason = [Choice("roles", "none", str(why), costs=bool(roles) and _multiplies(simple))]
    return _lower_plain(simple, kernel, machine, policy, aligned, reason)


def _multiplies(kernel: ir.Kernel) -> bool:
    return any(isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma) for s in walk_statements(kernel.body))


def _lower_hopper(simple: ir.Kernel, kernel: ir.Kernel, machine: Machine, policy: Policy) -> dev.DeviceKernel:
    """With a copying role and warpgroup products; fewer stages until everything fits. Raises hopper.Unsuited."""
    wanted = policy.integer("stages", hopper.MOST_STAGES)
    needed = 0
    for count in range(wanted, 0, -1):
        choices: list[Choice] = []
        road = hopper.choose_road(simple, policy, choices)
        threads = hopper.WARPGROUP * road.groups
        registers = hopper.CONSUMER_REGISTERS[road.groups * (1 + road.turns)] or 255
        summed, anew = hopper.promote(simple, road.products, registers, policy, choices)
        homes = place_values(summed, road.products, threads, choices)
        shape = shape_class(simple, True)
        chosen = policy.replaced("stages", count)
        plan = Plan(
            summed, shape, threads, road.products, homes, road.operands, road.unheld, chosen,
            known_multiples(simple, shape), choices,
        )  # fmt: skip
        persistent = bool(policy.get("persistent", False)) or ragged(simple) or road.turns
        cluster = choose_grid.cluster(simple, policy)
        builder = hopper.HopperLowering(plan, road.groups, persistent, cluster.blocks, cluster.along)
        builder.anew, builder.turns = anew, road.turns
        walk = policy.replaced("persistent", True) if road.turns else policy
        grid = _grid(builder, summed.body, (), ir.Origin(simple.span), walk, True, choices)
        if not any(isinstance(s, dev.For) for s in builder.producer):
            raise hopper.Unsuited("no loop brings operands")
        made = hopper.assemble(builder, grid, kernel, machine.name)
        needed = needed or made.shared_bytes
        if made.shared_bytes <= machine.shared_bytes:
            fewer = _fewer_stages(policy, wanted, count, needed, machine)
            made = replace(made, choices=tuple(dict.fromkeys((*choices, *fewer))))
            return choose_grid.clustered(_by_tensor_maps(made, policy), cluster, policy)
    raise hopper.Unsuited(f"{made.shared_bytes} bytes of shared memory even with one stage")


def _by_tensor_maps(made: dev.DeviceKernel, policy: Policy) -> dev.DeviceKernel:
    """With the line about `via=tma`: that is how operands come here. Other ways are dropped."""
    if policy.words.get("via") != "tma":
        return made
    line = Choice("via", str(policy["via"]), "policy: operands come through tensor maps")
    return replace(made, choices=(*made.choices, line))


def _lower_plain(
    simple: ir.Kernel, kernel: ir.Kernel, machine: Machine, policy: Policy, aligned: bool, reason: list[Choice]
) -> dev.DeviceKernel:
    """With fewer stages until everything fits. Raises KernelError (`shared-limit`) where one is too many."""
    made = _lower_stages(simple, kernel, machine, policy, aligned, list(reason))
    needed, wanted = made.shared_bytes, max((b.stages for b in made.buffers), default=1)
    for count in range(wanted - 1, 0, -1):
        if made.shared_bytes <= machine.shared_bytes:
            break
        made = _lower_stages(simple, kernel, machine, policy.replaced("stages", count), aligned, list(reason))
    _check_limits(made, machine, kernel)
    ring = max((b.stages for b in made.buffers), default=1)
    if made.shared_bytes == needed:
        return made
    return replace(made, choices=(*made.choices, *_fewer_stages(policy, wanted, ring, needed, machine)))


def _fewer_stages(policy: Policy, wanted: int, count: int, needed: int, machine: Machine) -> tuple[Choice, ...]:
    """The line that says why there are fewer stages. Raises KernelError where their number is binding."""
    if count == wanted:
        return ()
    why = f"{wanted} stages take {needed} bytes of shared memory, a block of {machine.name} has {machine.shared_bytes}"
    if "stages" not in policy.spans:
        return (Choice("stages", str(count), why, costs=True),)
    facts = {"bytes": needed, "limit": machine.shared_bytes, "most_stages": count}
    return (policy.drop("stages", why, f"stages={count} is the most that fits", "shared-limit", facts),)


def _lower_stages(
    simple: ir.Kernel, kernel: ir.Kernel, machine: Machine, policy: Policy, aligned: bool, choices: list[Choice]
) -> dev.DeviceKernel:
    products, threads = choose_atoms(simple, machine.name, policy, choices)
    operands, unheld = stage_loads(simple, products)
    homes = place_values(simple, products, threads, choices)
    shape = shape_class(simple, aligned)
    multiples = known_multiples(simple, shape)
    plan = Plan(simple, shape, threads, products, homes, operands, unheld, policy, multiples, choices)
    builder = Lowering(plan)
    grid = _grid(builder, simple.body, (), ir.Origin(simple.span), policy, bool(products), choices)
    body = innermost(grid).body
    buffers = place_shared(body, builder.buffers)
    again = grid.persistent or grid.inner is not None
    updated = frozenset(a.name for a in kernel.arrays if a.role == "InOut")
    body = order_shared(body, buffers, frozenset(builder.ringed), again, updated)
    return dev.DeviceKernel(
        kernel.name, machine.name, shape, threads, kernel.arrays, kernel.scalars, kernel.dims, buffers,
        with_innermost(grid, body), tuple(dict.fromkeys(choices)), claims=kernel.claims,
    )  # fmt: skip


def _grid(
    builder: Lowering,
    body: tuple[ir.Statement, ...],
    before: tuple[ir.Statement, ...],
    origin: ir.Origin,
    policy: Policy,
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
    raster, group = choose_grid.raster(loop, policy, products, choices)
    nested = inner if inner.variables else None
    persistent = choose_grid.persistent(policy, nested is not None, loop, choices)
    return dev.Grid(
        loop.variables, loop.lo, loop.hi, loop.step, () if nested else inner.body, loop.origin, raster, group,
        persistent, nested,
    )  # fmt: skip


def ragged(kernel: ir.Kernel) -> bool:
    """Whether a grid stands inside another."""
    loops = [s for s in walk_statements(kernel.body) if isinstance(s, ir.For) and s.kind == "tiles"]
    return len(loops) > 1


def _check_limits(made: dev.DeviceKernel, machine: Machine, kernel: ir.Kernel) -> None:
    if made.shared_bytes > machine.shared_bytes:
        sizes = ", ".join(f"{b.name} {dev.stage_bytes(b) * b.stages}" for b in made.buffers)
        message = f"{made.shared_bytes} bytes of shared memory; a block of {machine.name} has {machine.shared_bytes}"
        facts = {"bytes": made.shared_bytes, "limit": machine.shared_bytes, "buffers": sizes}
        share = made.shared_bytes / machine.shared_bytes
        hint = f"use tiles that take {share:.1f} times less; with one stage each, buffers take: {sizes}"
        raise KernelError([Diagnostic("shared-limit", message, kernel.span, hint=hint, facts=facts)])


__all__ = ["PASSES_VERSION", "Machine", "innermost", "lower_device"]
