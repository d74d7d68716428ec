"""A schedule as a kernel of tiles: only its loops, branches, and what it loads and stores, where.

Threads, stages and orders are left out, so what is argued of tiles for all sizes (`verify.bounds`, `verify.coverage`)
can be argued of what the schedule really accesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Element, Index, index
from kernelagent.dsl.ir import Origin, View


def as_tiles(kernel: dev.DeviceKernel, assumes: tuple[ir.Assume, ...]) -> ir.Kernel:
    """The accesses of all walks, one behind the other."""
    walks = tuple(role.grid for role in kernel.roles) or (kernel.grid,)
    maker = _Maker()
    body = tuple(s for walk in walks for s in maker.grid(walk))
    span = kernel.grid.origin.span
    return ir.Kernel(kernel.name, kernel.arrays, kernel.scalars, (), kernel.dims, (), (), assumes, (), body, span)


def by_data(kernel: dev.DeviceKernel) -> bool:
    """Whether integer arrays say where something lies, or how often something runs."""
    for walk in (kernel.grid, *(role.grid for role in kernel.roles)):
        grid: dev.Grid | None = walk
        while grid is not None:
            if _read((*grid.lo, *grid.hi)):
                return True
            grid = grid.inner
    return any(_placed_by_data(s) for s in dev.statements(kernel))


def _placed_by_data(s: dev.Statement) -> bool:
    match s:
        case dev.Scatter() | dev.Let(operation=dev.Gather()):
            return True
        case dev.For(lo=lo, hi=hi):
            return _read((*lo, *hi))
        case dev.Let(operation=dev.Load(view=view, start=start)) | dev.Store(view=view, start=start):
            return _read((*view.coordinates, *start))
        case dev.Copy(view=view, start=start) | dev.CopyBulk(view=view, start=start):
            return _read((*view.coordinates, *start))
    return False


def _read(positions: Sequence[Index]) -> bool:
    return any(isinstance(a, Element) for p in positions for a in p.atoms())


class _Maker:
    """Statements of tiles; values that decide positions keep where they come from."""

    def __init__(self) -> None:
        self.values: dict[int, ir.Value] = {}
        self.numbers = count(1)

    def grid(self, grid: dev.Grid) -> Iterator[ir.Statement]:
        inner = list(self.body(grid.body))
        if grid.inner is not None:
            inner += self.grid(grid.inner)
        yield ir.For("tiles", grid.variables, grid.lo, grid.hi, grid.step, (), tuple(inner), grid.origin)

    def body(self, statements: Sequence[dev.Statement]) -> Iterator[ir.Statement]:
        for statement in statements:
            yield from self.statement(statement)

    def statement(self, s: dev.Statement) -> Iterator[ir.Statement]:
        match s:
            case dev.Let():
                yield from self.let(s)
            case dev.Copy(view=view, start=start, layout=layout, origin=origin):
                yield self.load(view, start, layout.shape, origin)
            case dev.CopyBulk(view=view, start=start, shape=shape, origin=origin):
                yield self.load(view, start, shape, origin)
            case dev.Store(view=view, start=start, value=value, origin=origin, atomic=atomic):
                made = self.value(value.dtype, value.shape, origin)
                if atomic:
                    yield ir.Scatter(view, start, None, None, made, True, origin)
                else:
                    yield ir.Store(view, start, made, origin)
            case dev.StoreBulk(view=view, start=start, shape=shape, origin=origin):
                yield ir.Store(view, start, self.value(view.dtype, shape, origin), origin)
            case dev.Scatter(view=view, start=start, axis=axis, indices=indices, value=value, origin=origin):
                made = self.value(value.dtype, value.shape, origin)
                yield ir.Scatter(view, start, axis, self.known(indices), made, s.atomic, origin)
            case dev.For():
                body = tuple(self.body(s.body))
                yield ir.For("pipeline", s.variables, s.lo, s.hi, s.step, (), body, s.origin)
            case dev.If():
                yield from self.branch(s)

    def branch(self, s: dev.If) -> Iterator[ir.Statement]:
        """Two ways to store the same elements are one store."""
        then, otherwise = tuple(self.body(s.then)), tuple(self.body(s.otherwise))
        if _stored(then) and _stored(then) == _stored(otherwise):
            yield from (x for x in then if isinstance(x, ir.Store))
            then, otherwise = (tuple(x for x in arm if not isinstance(x, ir.Store)) for arm in (then, otherwise))
        if not (then or otherwise):
            return
        condition = self.known(s.condition) if isinstance(s.condition, dev.Fragment) else s.condition
        yield ir.If(condition, then, otherwise, (), s.origin)

    def let(self, s: dev.Let) -> Iterator[ir.Statement]:
        fragment = s.fragment
        made = self.known(fragment)
        match s.operation:
            case dev.Load(view=view, start=start):
                positions = not is_float(fragment.dtype)  # void elements are masked before they say where
                yield ir.Let(made, ir.Load(view, start, None if positions else 0))
            case dev.Gather(view=view, start=start, axis=axis, indices=indices):
                yield ir.Let(made, ir.Gather(view, start, axis, self.known(indices), None))
            case dev.Pointwise("cast", (x,)):
                yield ir.Let(made, ir.Cast(self.known(x)))
            case dev.Reindex("reshape" | "expand", (x,)):
                yield ir.Let(made, ir.Reshape(self.known(x)))
            case dev.Stretch(x):
                yield ir.Let(made, ir.Broadcast(self.known(x)))
            case dev.FromIndex(expression):
                yield ir.Let(made, ir.FromIndex(expression))
            case dev.FromCondition(condition):
                yield ir.Let(made, ir.FromCondition(condition))
            case dev.Positions(start):
                yield ir.Let(made, ir.Iota(start))

    def load(self, view: View, start: tuple[Index, ...], shape: tuple[int, ...], origin: Origin) -> ir.Statement:
        return ir.Let(self.value(view.dtype, shape, origin), ir.Load(view, start, 0))

    def known(self, fragment: dev.Fragment) -> ir.Value:
        if fragment.number not in self.values:
            self.values[fragment.number] = self.value(fragment.dtype, fragment.shape, fragment.origin)
        return self.values[fragment.number]

    def value(self, dtype: str, shape: tuple[int, ...], origin: Origin) -> ir.Value:
        """A tile that is live everywhere: schedules have no void."""
        extents = tuple(index(e) for e in shape)
        live = tuple(ir.Live(index(0), e) for e in extents)
        return ir.Value(next(self.numbers), ir.TileType(dtype, extents, live), "", origin)


def _stored(statements: tuple[ir.Statement, ...]) -> list[tuple[View, tuple[Index, ...], tuple[Index, ...]]]:
    return [(s.view, s.start, s.value.type.shape) for s in statements if isinstance(s, ir.Store)]
