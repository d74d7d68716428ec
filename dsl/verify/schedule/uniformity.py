"""Barriers and collectives are reached by all whom they are for: whole roles, whole blocks, whole warpgroups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.level2.traverse import grids
from kernelagent.dsl.verify.schedule.skeleton import WARPS_OF_GROUP, roles_of

MOST_NUMBER = 15
"""Role barriers 1..15; 0 is the block's own (PTX ISA, "barrier")."""
_MEETINGS = (dev.RoleBarrier, dev.BlockBarrier, dev.ClusterBarrier)
_BY_GROUPS = (dev.WgmmaFence, dev.WgmmaCommit, dev.WgmmaWait)


@dataclass(frozen=True)
class Uneven:
    """One broken rule, at a line of the text, in a role."""

    kind: str
    message: str
    why: str
    role: str
    line: int | None
    other_line: int | None = None
    expected: str = ""
    found: str = ""


def uneven(kernel: dev.DeviceKernel) -> Iterator[Uneven]:
    """Every broken rule; nothing where all meetings are met by all."""
    if kernel.roles:
        yield from _warps(kernel)
        yield from _numbers(kernel)
    for role in roles_of(kernel):
        body = _all(role)
        yield from _divided(role, body)
        if kernel.roles:
            yield from _block_barriers(kernel, role)
        yield from _products(role, body)


def _all(role: dev.Role) -> list[dev.Statement]:
    return [*(s for g in grids(role.grid) for s in dev.walk(g.body)), *dev.walk(role.after)]


def _warps(kernel: dev.DeviceKernel) -> Iterator[Uneven]:
    """Every warp of the block has one role."""
    owner: dict[int, str] = {}
    for role in kernel.roles:
        line = role.grid.origin.span.line
        for warp in range(role.first_warp, role.first_warp + role.warps):
            if warp in owner or not 0 <= warp < kernel.threads // WARP:
                has = f"already has role `{owner[warp]}`" if warp in owner else "is not in the block"
                message = f"role `{role.name}` takes warp {warp}, which {has}"
                why = "its threads would run two walks, or none"
                yield Uneven(
                    "role-warps", message, why, role.name, line, None, "one role for each warp", "two, or none"
                )
                return
            owner[warp] = role.name


def _numbers(kernel: dev.DeviceKernel) -> Iterator[Uneven]:
    """A role barrier counts the threads of the role that names it: two roles must not share a number."""
    owner: dict[int, tuple[dev.Role, int]] = {}
    for role in kernel.roles:
        for statement in _all(role):
            if not isinstance(statement, dev.RoleBarrier):
                continue
            line = statement.origin.span.line
            first, at = owner.setdefault(statement.number, (role, line))
            if not 1 <= statement.number <= MOST_NUMBER:
                why = "0 is the block's own barrier, and there are 16"
                yield Uneven("role-barrier", f"role barrier {statement.number} does not exist", why, role.name, line)
                return
            if first.name != role.name:
                message = f"roles `{first.name}` and `{role.name}` both use role barrier {statement.number}"
                counts = f"{first.threads} and {role.threads} threads"
                why = f"the two wait for {counts}, and each counts the other's"
                yield Uneven("role-barrier", message, why, role.name, line, at, "one role", "two roles")
                return


def _block_barriers(kernel: dev.DeviceKernel, role: dev.Role) -> Iterator[Uneven]:
    """Inside a role's walk the block's other threads do not come."""
    for grid in grids(role.grid):
        for statement in dev.walk(grid.body):
            if isinstance(statement, (dev.BlockBarrier, dev.ClusterBarrier)):
                word = "barrier()" if isinstance(statement, dev.BlockBarrier) else "cluster_barrier()"
                others = kernel.threads - role.threads
                if others == 0:
                    continue
                message = f"`{word}` stands in the walk of role `{role.name}` alone"
                why = f"it waits for all {kernel.threads} threads of the block; the other {others} are in other roles"
                line = statement.origin.span.line
                yield Uneven(
                    "divergence", message, why, role.name, line, None, f"{kernel.threads} threads", f"{role.threads}"
                )
                return


def _divided(role: dev.Role, body: list[dev.Statement]) -> Iterator[Uneven]:
    """What all threads meet in stands under no condition that they may answer differently."""
    for statement in body:
        if not isinstance(statement, dev.If) or not isinstance(statement.condition, dev.Fragment):
            continue
        if statement.condition.layout is None:
            continue
        for inner in dev.walk((*statement.then, *statement.otherwise)):
            if isinstance(inner, (*_MEETINGS, *_BY_GROUPS)) or _is_product(inner):
                name = statement.condition.name
                line = inner.fragment.origin.span.line if isinstance(inner, dev.Let) else inner.origin.span.line
                message = f"threads of role `{role.name}` meet under `{name}`, which differs from thread to thread"
                why = f"`{name}` is spread over the threads, so that some come and others do not"
                yield Uneven(
                    "divergence", message, why, role.name, line, statement.origin.span.line, "all threads", "some"
                )
                return


def _products(role: dev.Role, body: list[dev.Statement]) -> Iterator[Uneven]:
    """Asynchronous products are whole warpgroups' work."""
    if role.first_warp % WARPS_OF_GROUP == 0 and role.warps % WARPS_OF_GROUP == 0:
        return
    for statement in body:
        if _is_product(statement) or isinstance(statement, _BY_GROUPS):
            line = statement.fragment.origin.span.line if isinstance(statement, dev.Let) else statement.origin.span.line
            message = (
                f"role `{role.name}` multiplies with warps {role.first_warp} to {role.first_warp + role.warps - 1}"
            )
            why = "a product of a warpgroup needs its 4 warps, of which the first has a number that 4 divides"
            found = f"{role.warps} from warp {role.first_warp} on"
            yield Uneven("divergence", message, why, role.name, line, None, "whole warpgroups", found)
            return


def _is_product(statement: dev.Statement) -> bool:
    return (
        isinstance(statement, dev.Let)
        and isinstance(statement.operation, dev.Mma)
        and statement.operation.atom.startswith("wgmma")
    )


__all__ = ["Uneven", "uneven"]
