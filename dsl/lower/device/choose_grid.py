"""The order in which blocks take tiles, whether they stay for several, and which of them run as one cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Symbol
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.schedule import Choice

GROUP = 8
"""Tile rows that share one column sweep, so that both operands' tiles stay in the second-level cache."""
CLUSTERS = (2, 4, 8)
"""Blocks of a cluster: every chip with clusters takes 8, and parts of boxes are equal."""


def persistent(policy: Policy, nested: bool, loop: ir.For, choices: list[Choice]) -> bool:
    """Whether blocks stride over the tiles."""
    asked = policy.get("persistent")
    if nested and asked is False:
        why = "the inner grid depends on the outer one, so blocks walk over its tiles in turn"
        choices.append(policy.drop("persistent", why, "remove `persistent`"))
    elif asked is not None:
        choices.append(Choice("persistent", str(asked), "policy", loop.origin))
    return bool(asked)


def raster(
    loop: ir.For, policy: Policy, products: bool, choices: list[Choice]
) -> tuple[Literal["row", "column", "grouped", "hilbert"], int]:
    """The order of a grid's tiles, and the rows of a group."""
    if len(loop.variables) < 2:
        return "row", GROUP
    asked = policy.get("raster")
    if isinstance(asked, int):
        choices.append(Choice("raster", f"grouped by {asked} rows", "policy", loop.origin))
        return "grouped", asked
    if asked in ("row", "column", "grouped", "hilbert"):
        choices.append(Choice("raster", asked, "policy", loop.origin))
        return asked, GROUP
    if products:
        choices.append(
            Choice("raster", f"grouped by {GROUP} rows", "operand tiles are read again from cache", loop.origin)
        )
        return "grouped", GROUP
    return "row", GROUP


# Clusters --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """`together`: rows and columns of tiles, of which one is 1. `along`: the grid variable in which the blocks differ,
    None for single blocks; then `why` says what speaks against those asked for, and `hint` what would do."""

    together: tuple[int, int] = (1, 1)
    along: Symbol | None = None
    why: str = ""
    hint: str = "remove `cluster`"

    @property
    def blocks(self) -> int:
        return self.together[0] * self.together[1]


def cluster(kernel: ir.Kernel, policy: Policy) -> Cluster:
    """The cluster that the policy asks for, if the grid has one like it. `cluster=n` is n rows of tiles."""
    asked = policy.get("cluster", 1)
    down, right = asked if isinstance(asked, tuple) else (asked, 1)
    assert isinstance(down, int)
    if down == right == 1:
        return Cluster()
    loops = [s for s in walk_statements(kernel.body) if isinstance(s, ir.For) and s.kind == "tiles"]
    if len(loops) != 1 or len(loops[0].variables) < 2:
        return Cluster(why="clusters are neighbours in one grid of two variables or more")
    fitting = min(CLUSTERS, key=lambda n: abs(n - down * right))
    if down > 1 and right > 1:
        why = f"{down} rows and {right} columns of tiles: the blocks of a cluster stand in one row or in one column"
        return Cluster(why=why, hint=f"write cluster={fitting}, or cluster=(1, {fitting})")
    if fitting != down * right:
        hint = f"write cluster={fitting if down > 1 else f'(1, {fitting})'}"
        return Cluster(why=f"{down * right} blocks; a cluster is {', '.join(map(str, CLUSTERS))} blocks", hint=hint)
    return Cluster((down, right), loops[0].variables[-2 if down > 1 else -1])


def clustered(made: dev.DeviceKernel, found: Cluster, policy: Policy) -> dev.DeviceKernel:
    """The kernel with the tiles of a cluster next to each other in its grids, and the line about clusters that were
    asked for. Raises KernelError where such a line is too little."""
    if made.cluster == 1:
        return replace(made, choices=(*made.choices, *_alone(policy, found)))
    down, right = found.together
    line = Choice("cluster", f"{down}x{right} tiles", "policy: operands that they share come by multicast")
    roles = tuple(replace(r, grid=replace(r.grid, together=found.together)) for r in made.roles)
    grid = replace(made.grid, together=found.together)
    return replace(made, grid=grid, roles=roles, choices=(*made.choices, line))


def _alone(policy: Policy, found: Cluster) -> tuple[Choice, ...]:
    if policy.get("cluster", 1) in (1, (1, 1)):
        return ()
    if found.along is None:
        return (policy.drop("cluster", found.why, found.hint),)
    down, right = found.together
    other = f"(1, {down})" if down > 1 else str(right)
    why = f"no loop brings an operand that does not depend on `{found.along.name}` in {found.blocks} parts of 8 rows"
    return (policy.drop("cluster", why, f"write cluster={other} to share the other operand, or remove it"),)
