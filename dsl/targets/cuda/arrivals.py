"""Arrivals that speak for a whole warp: where its lanes have to meet first.

One lane arrives at a barrier with phases for its warp. What the arrival releases is what that lane did, and what it
knows others did (PTX ISA 9.0, mbarrier.arrive: release semantics of the executing thread). Accesses that the other
lanes made each on its own, such as `store_shared`, come under it only if the warp's lanes met behind them. Products of
a warpgroup and their waits are made by whole warps together, and need nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import device as dev


def unordered_arrivals(statements: Sequence[dev.Statement], apart: bool = False, again: bool = False) -> set[int]:
    """Ids of the arrivals in front of which the lanes of a warp must meet.

    `apart`: some lane's access to shared memory stands before `statements`, and no meeting behind it. `again`: they
    are repeated, as the tiles of a block are.
    """
    found: set[int] = set()
    _repeated(statements, apart, found) if again else _walk(statements, apart, found)
    return found


def _walk(statements: Sequence[dev.Statement], apart: bool, found: set[int]) -> bool:
    """Whether the lanes are apart behind the statements."""
    for statement in statements:
        match statement:
            case dev.For(body=body):
                apart = _repeated(body, apart, found)
            case dev.If(then=then, otherwise=otherwise):
                arms = [_walk(arm, apart, found) for arm in (then, otherwise)]
                apart = any(arms)
            case dev.Arrive():
                if apart:
                    found.add(id(statement))
                apart = False
            case dev.BlockBarrier() | dev.RoleBarrier() | dev.ClusterBarrier():
                apart = False
            case _:
                apart = apart or _lane_by_lane(statement)
    return apart


def _repeated(body: Sequence[dev.Statement], apart: bool, found: set[int]) -> bool:
    behind = _walk(body, apart, found)
    if behind and not apart:
        behind = _walk(body, True, found)
    return apart or behind


def _lane_by_lane(statement: dev.Statement) -> bool:
    """Whether lanes touch shared memory each for itself, which is all but bulk copies and products of a warpgroup."""
    match statement:
        case dev.StoreShared() | dev.Copy() | dev.Let(operation=dev.LoadShared()):
            return True
        case dev.Let(operation=dev.Mma(name, a, b)):
            return not name.startswith("wgmma") and any(isinstance(x, dev.Shared) for x in (a, b))
        case _:
            return False
