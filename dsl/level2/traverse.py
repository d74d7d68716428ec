"""Fragments of device statements: what a statement reads, what it defines, and the same with other fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Symbol

Rename = Callable[[dev.Fragment], dev.Fragment]
Block = tuple[dev.Statement, ...]


def operands(operation: dev.Operation) -> tuple[dev.Fragment, ...]:
    """Fragments that the operation reads, in the order in which the text names them."""
    match operation:
        case dev.Gather(indices=indices):
            return (indices,)
        case dev.Pointwise(arguments=parts) | dev.Reindex(parts=parts):
            return parts
        case dev.Stretch(x) | dev.Reduce(x=x) | dev.ArgReduce(x=x) | dev.Scan(x=x) | dev.Tag(x=x):
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
        case dev.Expectation(value=dev.Fragment() as value):
            return (value,)
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


def every_grid(kernel: dev.DeviceKernel) -> Iterator[dev.Grid]:
    """The grids of the kernel, then those of each role."""
    for walk in (kernel.grid, *(role.grid for role in kernel.roles)):
        yield from grids(walk)


ALONE = (dev.WaitPhase, dev.Expect, dev.CopyBulk, dev.For, dev.If)
"""Statements that need but one thread."""


def runs_alone(role: dev.Role) -> bool:
    """Whether one thread does all that the role does for its tiles; its other warps go on behind the last tile."""
    return all(isinstance(s, ALONE) for grid in grids(role.grid) for s in dev.walk(grid.body))


@dataclass(frozen=True)
class Part:
    """Statements that share their fragments: the prologue, one walk over the tiles (outer grids first), or what a role
    does behind its last tile. `role` None: all threads of the block. `grid` None: outside of tiles."""

    role: dev.Role | None
    grid: dev.Grid | None
    blocks: tuple[Block, ...]


def parts(kernel: dev.DeviceKernel) -> Iterator[Part]:
    """What threads run, in text order."""
    if not kernel.roles:
        yield Part(None, kernel.grid, tuple(g.body for g in grids(kernel.grid)))
        return
    yield Part(None, None, (kernel.prologue,))
    for role in kernel.roles:
        yield Part(role, role.grid, tuple(g.body for g in grids(role.grid)))
        if role.after:
            yield Part(role, None, (role.after,))


def walks(kernel: dev.DeviceKernel) -> tuple[dev.Grid, ...]:
    """The outermost grids that are walked: the kernel's, or one for each role."""
    return tuple(role.grid for role in kernel.roles) or (kernel.grid,)


def defined_in(kernel: dev.DeviceKernel) -> Iterator[dev.Fragment]:
    for part in parts(kernel):
        for block in part.blocks:
            yield from defined(block)


def counters(grid: dev.Grid) -> Iterator[Symbol]:
    """Names that count tiles or iterations, each once."""
    found: dict[Symbol, None] = {}
    for level in grids(grid):
        found |= {level.counter: None} if level.counter else {}
        found |= {s.counter: None for s in dev.walk(level.body) if isinstance(s, dev.For) and s.counter}
    yield from found


# The same with other statements and fragments --------------------------------------------------------


def with_blocks(kernel: dev.DeviceKernel, change: Callable[[Block], Block]) -> dev.DeviceKernel:
    """Every block that stands outside of loops and branches replaced."""

    def in_grid(grid: dev.Grid) -> dev.Grid:
        inner = None if grid.inner is None else in_grid(grid.inner)
        return replace(grid, body=change(grid.body), inner=inner)

    roles = tuple(replace(r, grid=in_grid(r.grid), after=change(r.after)) for r in kernel.roles)
    return replace(kernel, grid=in_grid(kernel.grid), prologue=change(kernel.prologue), roles=roles)


def with_fragments(kernel: dev.DeviceKernel, change: Rename) -> dev.DeviceKernel:
    """Every fragment, where it is defined and where it is read, replaced."""
    return with_blocks(kernel, lambda block: renamed(block, change))


def renamed(body: Block, change: Rename) -> Block:
    return tuple(_statement(s, change) for s in body)


def _statement(statement: dev.Statement, change: Rename) -> dev.Statement:
    match statement:
        case dev.Let(fragment, operation):
            return dev.Let(change(fragment), _operation(operation, change))
        case dev.Store(value=value) | dev.StoreShared(value=value):
            return replace(statement, value=change(value))
        case dev.Expectation(value=dev.Fragment() as value):
            return replace(statement, value=change(value))
        case dev.Scatter(indices=indices, value=value):
            return replace(statement, indices=change(indices), value=change(value))
        case dev.For(carried=carried, body=body):
            return replace(statement, carried=tuple(_carried(c, change) for c in carried), body=renamed(body, change))
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
        then=renamed(statement.then, change),
        otherwise=renamed(statement.otherwise, change),
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
        case dev.Stretch(x) | dev.Reduce(x=x) | dev.ArgReduce(x=x) | dev.Scan(x=x) | dev.Tag(x=x):
            return replace(operation, x=change(x))
        case dev.Mma(a=a, b=b, acc=acc):
            a = change(a) if isinstance(a, dev.Fragment) else a
            b = change(b) if isinstance(b, dev.Fragment) else b
            return replace(operation, a=a, b=b, acc=change(acc))
        case _:
            return operation
