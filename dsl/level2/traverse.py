"""Fragments of device statements: what a statement reads, what it defines, and the same with other fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kernelagent.dsl import device as dev

Rename = Callable[[dev.Fragment], dev.Fragment]


def operands(operation: dev.Operation) -> tuple[dev.Fragment, ...]:
    """Fragments that the operation reads, in the order in which the text names them."""
    match operation:
        case dev.Gather(indices=indices):
            return (indices,)
        case dev.Pointwise(arguments=parts) | dev.Reindex(parts=parts):
            return parts
        case dev.Stretch(x) | dev.Reduce(x=x) | dev.ArgReduce(x=x) | dev.Scan(x=x):
            return (x,)
        case dev.Mma(a=a, b=b, acc=acc):
            return tuple(x for x in (a, b, acc) if isinstance(x, dev.Fragment))
        case _:
            return ()


def reads(statement: dev.Statement) -> tuple[dev.Fragment, ...]:
    """Fragments that the statement itself reads in its expression, nested statements and joins aside."""
    match statement:
        case dev.Let(operation=operation):
            return operands(operation)
        case dev.Store(value=value) | dev.StoreShared(value=value):
            return (value,)
        case dev.Scatter(indices=indices, value=value):
            return (indices, value)
        case dev.If(condition=dev.Fragment() as condition):
            return (condition,)
        case _:
            return ()


def joins(statement: dev.Statement) -> tuple[dev.Fragment, ...]:
    """Fragments that a loop or branch hands over: starts, ends, and both arms' values."""
    match statement:
        case dev.For(carried=carried):
            return tuple(x for c in carried for x in (c.initial, c.end))
        case dev.If(merged=merged):
            return tuple(x for m in merged for x in (m.then, m.otherwise))
        case _:
            return ()


def defined(body: tuple[dev.Statement, ...]) -> Iterator[dev.Fragment]:
    """Every fragment that the statements define, in text order."""
    for statement in body:
        match statement:
            case dev.Let(fragment=fragment):
                yield fragment
            case dev.For(carried=carried, body=inner):
                yield from (c.inside for c in carried)
                yield from defined(inner)
                yield from (c.result for c in carried)
            case dev.If(then=then, otherwise=otherwise, merged=merged):
                yield from defined(then)
                yield from defined(otherwise)
                yield from (m.result for m in merged)
            case _:
                pass


def grids(grid: dev.Grid) -> Iterator[dev.Grid]:
    """The grid and its inner grids, outermost first."""
    found: dev.Grid | None = grid
    while found is not None:
        yield found
        found = found.inner


def defined_in(kernel: dev.DeviceKernel) -> Iterator[dev.Fragment]:
    for grid in grids(kernel.grid):
        yield from defined(grid.body)


# The same with other fragments -----------------------------------------------------------------------


def with_fragments(kernel: dev.DeviceKernel, change: Rename) -> dev.DeviceKernel:
    """Every fragment, where it is defined and where it is read, replaced."""
    return replace(kernel, grid=_grid(kernel.grid, change))


def _grid(grid: dev.Grid, change: Rename) -> dev.Grid:
    inner = None if grid.inner is None else _grid(grid.inner, change)
    return replace(grid, body=_block(grid.body, change), inner=inner)


def _block(body: tuple[dev.Statement, ...], change: Rename) -> tuple[dev.Statement, ...]:
    return tuple(_statement(s, change) for s in body)


def _statement(statement: dev.Statement, change: Rename) -> dev.Statement:
    match statement:
        case dev.Let(fragment, operation):
            return dev.Let(change(fragment), _operation(operation, change))
        case dev.Store(value=value) | dev.StoreShared(value=value):
            return replace(statement, value=change(value))
        case dev.Scatter(indices=indices, value=value):
            return replace(statement, indices=change(indices), value=change(value))
        case dev.For(carried=carried, body=body):
            return replace(statement, carried=tuple(_carried(c, change) for c in carried), body=_block(body, change))
        case dev.If():
            return _branch(statement, change)
        case _:
            return statement


def _carried(c: dev.Carried, change: Rename) -> dev.Carried:
    return dev.Carried(change(c.initial), change(c.inside), change(c.end), change(c.result))


def _branch(statement: dev.If, change: Rename) -> dev.If:
    condition = statement.condition
    return replace(
        statement,
        condition=change(condition) if isinstance(condition, dev.Fragment) else condition,
        then=_block(statement.then, change),
        otherwise=_block(statement.otherwise, change),
        merged=tuple(dev.Merged(change(m.then), change(m.otherwise), change(m.result)) for m in statement.merged),
    )


def _operation(operation: dev.Operation, change: Rename) -> dev.Operation:
    match operation:
        case dev.Gather(indices=indices):
            return replace(operation, indices=change(indices))
        case dev.Pointwise(word, arguments):
            return dev.Pointwise(word, tuple(map(change, arguments)))
        case dev.Reindex(kind, parts, arguments):
            return dev.Reindex(kind, tuple(map(change, parts)), arguments)
        case dev.Stretch(x) | dev.Reduce(x=x) | dev.ArgReduce(x=x) | dev.Scan(x=x):
            return replace(operation, x=change(x))
        case dev.Mma(a=a, b=b, acc=acc):
            a = change(a) if isinstance(a, dev.Fragment) else a
            b = change(b) if isinstance(b, dev.Fragment) else b
            return replace(operation, a=a, b=b, acc=change(acc))
        case _:
            return operation
