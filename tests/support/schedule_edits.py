"""Edits of schedules as records: what the rules of level two would refuse can be given to a proof too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kernelagent.dsl import device as dev

Edit = Callable[[dev.Statement], Sequence[dev.Statement] | None]
"""What stands in a statement's place; None: the statement itself."""


def edited(kernel: dev.DeviceKernel, edit: Edit, role: str | None = None) -> dev.DeviceKernel:
    """Every statement (of a role; "prologue": in front of the roles) replaced. Something must change."""
    prologue = _block(kernel.prologue, edit) if role in (None, "prologue") else kernel.prologue
    roles = tuple(_role(r, edit) if role in (None, r.name) else r for r in kernel.roles)
    made = replace(kernel, prologue=prologue, roles=roles)
    assert made != kernel, "the edit changes nothing"
    return made


def _role(role: dev.Role, edit: Edit) -> dev.Role:
    return replace(role, grid=_grid(role.grid, edit), after=_block(role.after, edit))


def _grid(grid: dev.Grid, edit: Edit) -> dev.Grid:
    inner = None if grid.inner is None else _grid(grid.inner, edit)
    return replace(grid, body=_block(grid.body, edit), inner=inner)


def _block(body: Sequence[dev.Statement], edit: Edit) -> tuple[dev.Statement, ...]:
    made: list[dev.Statement] = []
    for statement in body:
        new = edit(statement)
        for s in (statement,) if new is None else new:
            match s:
                case _ if new is not None:
                    made.append(s)  # what was put in stays as it is
                case dev.For():
                    made.append(replace(s, body=_block(s.body, edit)))
                case dev.If():
                    made.append(replace(s, then=_block(s.then, edit), otherwise=_block(s.otherwise, edit)))
                case _:
                    made.append(s)
    return tuple(made)


def without(
    kernel: dev.DeviceKernel, kind: type[dev.Statement], role: str | None = None, **fields: object
) -> dev.DeviceKernel:
    """No statement of a kind, or of those with such fields."""
    return edited(kernel, lambda s: () if _is(s, kind, fields) else None, role)


def with_fields(
    kernel: dev.DeviceKernel, kind: type[dev.Statement], role: str | None, new: dict[str, object], **fields: object
) -> dev.DeviceKernel:
    """Other fields in every statement of a kind, or of those with such fields."""
    return edited(kernel, lambda s: (replace(s, **new),) if _is(s, kind, fields) else None, role)  # type: ignore[arg-type]


def with_barrier(kernel: dev.DeviceKernel, name: str, arrivals: int) -> dev.DeviceKernel:
    return replace(
        kernel, barriers=tuple(replace(b, arrivals=arrivals) if b.name == name else b for b in kernel.barriers)
    )


def swapped(
    kernel: dev.DeviceKernel, role: str, first: type[dev.Statement], second: type[dev.Statement]
) -> dev.DeviceKernel:
    """The first statement of one kind in a loop moved in front of the first of another."""

    def edit(statement: dev.Statement) -> Sequence[dev.Statement] | None:
        if not isinstance(statement, dev.For):
            return None
        body = list(statement.body)
        at = next((n for n, s in enumerate(body) if isinstance(s, first)), None)
        to = next((n for n, s in enumerate(body) if isinstance(s, second)), None)
        if at is None or to is None:
            return None
        body.insert(to, body.pop(at))
        return (replace(statement, body=tuple(body)),)

    return edited(kernel, edit, role)


def _is(statement: dev.Statement, kind: type[dev.Statement], fields: dict[str, object]) -> bool:
    return isinstance(statement, kind) and all(getattr(statement, n) == v for n, v in fields.items())
