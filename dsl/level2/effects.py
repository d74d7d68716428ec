"""Rules about statements: stores and copies, waits, what loops and branches hand over, the grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.level2.accesses import (
    ACCESS_BYTES,
    ASYNC_BYTES,
    buffer_of,
    check_global_vector,
    check_indices,
    check_shared_rows,
    check_shared_tile,
    check_shared_vector,
    check_view,
    check_width,
    memory_axis,
    merged_shape,
)
from kernelagent.dsl.level2.expectations import check_labelled
from kernelagent.dsl.level2.hopper import check_hopper
from kernelagent.dsl.level2.rules import Broken, Machine, Type, run_along, type_of


def check_statement(m: Machine, statement: dev.Statement) -> None:
    """Effects and joins, without the statements inside. Raises Broken."""
    match statement:
        case dev.Store():
            _store(m, statement)
        case dev.Scatter():
            _scatter(m, statement)
        case dev.StoreShared(target=target, value=value, vector=vector):
            check_shared_tile(m, target, type_of(value), "target")
            check_shared_vector(m, target, vector, value.layout, "target")
        case dev.Copy():
            _copy(m, statement)
        case dev.Expectation():
            check_labelled(m, statement)
        case dev.WaitGroup(pending=pending) if pending < 0:
            raise Broken(
                "wait-count", f"{pending} groups cannot be in flight", "write 0 or more", "pending", pending=pending
            )
        case dev.For():
            _loop(statement)
        case dev.If(condition=dev.Fragment() as condition) if type_of(condition) != Type("bool", (), None):
            message = f"the condition is {type_of(condition)}, not one bool"
            raise Broken("not-a-condition", message, "compare rank-0 values, or write `any(x, axis=0)`", "condition")
        case dev.If(merged=merged):
            for join in merged:
                _check_join((join.then, join.otherwise, join.result), "both arms of the `if`")
        case _:
            check_hopper(m, statement)


def _roles(atomic: bool) -> tuple[str, ...]:
    return ("Acc",) if atomic else ("Out", "InOut")


def _store(m: Machine, s: dev.Store) -> None:
    check_view(m, s.view, s.start, s.value.shape, _roles(s.atomic))
    _check_stored_dtype(s.view, s.value)
    check_global_vector(m, s.view, s.vector, s.value.layout)


def _scatter(m: Machine, s: dev.Scatter) -> None:
    check_view(m, s.view, s.start, s.value.shape, _roles(s.atomic))
    _check_stored_dtype(s.view, s.value)
    check_indices(s.axis, s.indices, type_of(s.value), 1, s.view)


def _check_stored_dtype(view: ir.View, value: dev.Fragment) -> None:
    if value.dtype != view.dtype:
        message = f"the value is {value.dtype}, but `{view.array}` is {view.dtype}; stores never convert"
        raise Broken("dtype", message, f"write `cast(x, {view.dtype})`", "value", value=value.dtype, array=view.dtype)


def _copy(m: Machine, c: dev.Copy) -> None:
    check_view(m, c.view, c.start, c.layout.shape, ("In", "InOut"))
    buffer = buffer_of(m, c.target, "target")
    shape = merged_shape(c.layout.shape, c.target.axes, buffer)
    check_shared_tile(m, c.target, Type(c.view.dtype, shape, None), "target")
    whole = len(c.layout.shape) == len(buffer.shape)
    axis = c.target.axes.index(len(buffer.shape) - 1) if whole else len(c.layout.shape) - 1
    legal = ASYNC_BYTES if c.asynchronous else ACCESS_BYTES
    if c.vector > 1 and memory_axis(c.view) != axis:
        message = f"the view of `{c.view.array}` is not contiguous along axis {axis}, the buffer's last"
        raise Broken("access-run", message, "write vector=1, or transpose the buffer", "vector", axis=axis)
    check_width(c.vector, c.view.dtype, legal, run_along(c.layout, axis) if c.vector > 1 else 1, f"axis {axis}")
    check_shared_rows(buffer, c.vector)


def _loop(loop: dev.For) -> None:
    if loop.unroll < 1:
        raise Broken("unroll-bound", f"unroll={loop.unroll}", "write a literal of 1 or more", "unroll")
    _check_steps(loop.step)
    for c in loop.carried:
        _check_join((c.initial, c.inside, c.end, c.result), "the loop's start and end")


def _check_steps(steps: tuple[Any, ...]) -> None:
    for step in steps:
        if step.constant is None or step.constant < 1:
            raise Broken(
                "loop-step", f"the step {step} is not a positive constant", "write a literal of 1 or more", "step"
            )


def _check_join(parts: tuple[dev.Fragment, ...], where: str) -> None:
    first = type_of(parts[0])
    for x in parts[1:]:
        if type_of(x) != first:
            kind = "distribution" if (x.dtype, x.shape) == (first.dtype, first.shape) else "type"
            then = "in other threads or registers" if kind == "distribution" else str(type_of(x))
            message = f"`{parts[-1].name}` changes its {kind} between {where}: {first}, then {then}"
            hint = "convert it to the same dtype, shape and distribution, or use another name"
            raise Broken("carried-layout" if kind == "distribution" else "carried-type", message, hint, "carried")


def check_grid(grid: dev.Grid) -> None:
    _check_steps(grid.step)
    if grid.inner is not None and grid.raster != "row":
        raise Broken("grid", "only a plain grid has a raster", "delete `raster=`", "raster")
    if grid.inner is not None and grid.counter:
        raise Broken("grid", "only the innermost grid counts its tiles", "move `count=` to the inner `tiles`", "count")
    if grid.inner is not None:
        for statement in grid.body:
            if not (isinstance(statement, dev.Let) and not statement.fragment.shape):
                raise Broken("grid", "work between nested grids", "only scalars are computed between nested `tiles`")
    if grid.group < 1:
        raise Broken("grid", f"group={grid.group}", "write 1 or more", "group")


def touched(statement: dev.Statement) -> Iterator[str]:
    """Buffers that the statement itself reads or writes."""
    match statement:
        case dev.StoreShared(target=target) | dev.Copy(target=target) | dev.CopyBulk(target=target):
            yield target.buffer
        case dev.StoreBulk(source=source):
            yield source.buffer
        case dev.Let(operation=dev.LoadShared(source=source)):
            yield source.buffer
        case dev.Let(operation=dev.Mma(a=a, b=b)):
            yield from (x.buffer for x in (a, b) if isinstance(x, dev.Shared))
        case _:
            pass
