"""Every index that an emitted body computes, in how many bits, and which calls are refused because one would not fit.

Positions, bounds and tile numbers are `int`, products of sizes and sums with scalars `ka_i64`; offsets into arrays are
64-bit sums of positions times strides. Sizes are below 2^31, so most indices fit whatever the sizes; of those that do
not, the largest values at the sizes of a call decide whether it is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import mul

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import DTYPES, bits, is_integer
from kernelagent.dsl.index import Index, Symbol, cdiv, condition_indices, index, maximum
from kernelagent.dsl.intervals import Loop
from kernelagent.dsl.ir import Assume, View, position
from kernelagent.dsl.targets.cuda.emit_index import IndexTexts
from kernelagent.dsl.walks import counts_of
from kernelagent.dsl.widths import BLOCKS, Computed, Limits, Signature

COUNTED = 2**31 - (1 << 10)
"""Iterations that the counter of a ring may come to: what is added to it for stages ahead fits as well."""
RESIDENT = 1 << 20
"""More blocks than any device holds at once: how far a tile's number may be advanced past the last tile."""


def signature_of(kernel: dev.DeviceKernel, assumes: tuple[Assume, ...]) -> Signature:
    span = kernel.grid.origin.span
    guards = kernel.shape_class.guards
    return Signature(kernel.name, kernel.arrays, kernel.dims, kernel.scalars, assumes, span, guards)


def limits(kernel: dev.DeviceKernel, assumes: tuple[Assume, ...]) -> Limits:
    """What dispatch has to look at."""
    return Limits.of(signature_of(kernel, assumes), tuple(computed(kernel)))


def computed(kernel: dev.DeviceKernel) -> Iterator[Computed]:
    """Every index of a kernel's body, and of its launch."""
    walk = _Walk(kernel)
    yield from walk.body(kernel.prologue, ())
    for grid in [r.grid for r in kernel.roles] or [kernel.grid]:
        yield from walk.grid(grid, (), (), kernel.grid.persistent or bool(kernel.grid.inner))
    for role in kernel.roles:
        yield from walk.body(role.after, ())


class _Walk:
    def __init__(self, kernel: dev.DeviceKernel) -> None:
        self.texts = IndexTexts({a.name: a for a in kernel.arrays}, {s.name: s.dtype for s in kernel.scalars})
        self.cluster = kernel.cluster

    # Grids ------------------------------------------------------------------------------------------

    def grid(
        self, grid: dev.Grid, loops: tuple[Loop, ...], outer: tuple[Index, ...], persistent: bool
    ) -> Iterator[Computed]:
        """`outer`: tiles of the grids around, persistent or not like the kernel's own."""
        line = grid.origin.span.line
        counts = [maximum(n, index(0)) for n in counts_of(grid)]
        for k, tiles in enumerate(grid.together):
            axis = len(counts) - 2 + k
            if axis >= 0 and tiles > 1:
                counts[axis] = (counts[axis] + (tiles - 1)) // tiles * tiles
        bounds = zip(grid.variables, grid.lo, grid.hi, grid.step, counts, strict=True)
        for variable, lo, hi, step, count in bounds:
            what = f"the tiles over {variable}"
            yield from self.steps(lo, loops, line, what)
            yield from self.steps(hi - lo, loops, line, what)
            last = lo + (count - 1) * step if any(n > 1 for n in grid.together) else hi - 1
            yield Computed(last, 32, loops, line, what)
        inside = (*loops, *zip(grid.variables, grid.lo, grid.hi, strict=True))
        if grid.inner is not None:
            yield from self.body(grid.body, inside)
            yield from self.grid(grid.inner, inside, (*outer, *counts), True)
            return
        yield from self._numbers(grid, counts, loops, persistent)
        yield from self._counters(grid, (*outer, *counts), inside, persistent)
        yield from self.body(grid.body, (*inside, *((c, index(0), index(COUNTED)) for c in counters(grid))))

    def _numbers(
        self, grid: dev.Grid, counts: Sequence[Index], loops: tuple[Loop, ...], persistent: bool
    ) -> Iterator[Computed]:
        """Numbers of tiles, and what the raster computes of them."""
        line, total = grid.origin.span.line, _product(counts)
        beyond = RESIDENT if persistent else 0
        yield Computed(total, 32, loops, line, "the number of tiles", above=beyond, kind="count")
        if len(counts) > 1 and grid.raster == "grouped":
            width = counts[-1] * grid.group
            yield Computed(width, 32, loops, line, "the tiles of a group of rows", kind="count")
        if len(counts) > 1 and grid.raster == "hilbert":
            for count in counts[-2:]:
                yield Computed(count * 3, 32, loops, line, "three times a side of the curve", kind="count")

    def _counters(
        self, grid: dev.Grid, counts: Sequence[Index], loops: tuple[Loop, ...], persistent: bool
    ) -> Iterator[Computed]:
        """How often the rings of a block have gone on, over all its tiles."""
        tiles = cdiv(_product(counts), index(BLOCKS)) if persistent else index(1)
        ahead = 2**31 - COUNTED
        if grid.counter is not None:
            yield Computed(tiles, 32, loops, grid.origin.span.line, "the tiles of a block", above=ahead, kind="count")
        for s in dev.walk(grid.body):
            if isinstance(s, dev.For) and s.counter is not None:
                trips = _product([maximum(n, index(0)) for n in _trips(s)])
                what = "the iterations of a block over all its tiles"
                yield Computed(tiles * trips, 32, loops, s.origin.span.line, what, above=ahead, kind="count")

    # Statements -------------------------------------------------------------------------------------

    def body(self, statements: Sequence[dev.Statement], loops: tuple[Loop, ...]) -> Iterator[Computed]:
        for s in statements:
            yield from self._statement(s, loops)

    def _statement(self, s: dev.Statement, loops: tuple[Loop, ...]) -> Iterator[Computed]:
        match s:
            case dev.Let(fragment, operation):
                yield from self._operation(operation, fragment, loops)
            case dev.Store(view=view, start=start, value=value, origin=origin):
                yield from self.access(view, start, value.shape, loops, origin.span.line)
            case dev.Scatter(view=view, start=start, value=value, axis=axis, origin=origin):
                yield from self.access(view, start, value.shape, loops, origin.span.line, axis)
            case dev.Copy(view=view, start=start, layout=layout, origin=origin):
                yield from self.access(view, start, layout.shape, loops, origin.span.line)
            case (
                dev.CopyBulk(view=view, start=start, shape=shape, origin=origin)
                | dev.StoreBulk(view=view, start=start, shape=shape, origin=origin)
            ):
                yield from self._coordinates(view, start, shape, loops, origin.span.line, None)
            case dev.For():
                yield from self._for(s, loops)
            case dev.Expect() | dev.Arrive() | dev.WaitPhase():
                parity = (s.parity,) if isinstance(s, dev.WaitPhase) else ()
                for value in (s.stage, *parity):
                    yield from self.steps(value, loops, s.origin.span.line, "a stage")
            case dev.If(condition=condition, then=then, otherwise=otherwise, origin=origin):
                if not isinstance(condition, dev.Fragment):
                    for side in condition_indices(condition):
                        yield from self.steps(side, loops, origin.span.line, "a condition")
                yield from self.body((*then, *otherwise), loops)

    def _operation(
        self, operation: dev.Operation, fragment: dev.Fragment, loops: tuple[Loop, ...]
    ) -> Iterator[Computed]:
        line = fragment.origin.span.line
        match operation:
            case dev.Load(view=view, start=start):
                yield from self.access(view, start, fragment.shape, loops, line)
            case dev.Gather(view=view, start=start, axis=axis):
                yield from self.access(view, start, fragment.shape, loops, line, axis)
            case dev.FromIndex(value):
                yield from self.steps(value, loops, line, "an index")
                if is_integer(dtype := fragment.dtype):
                    unsigned = DTYPES[dtype].kind == "uint"
                    what = f"an index that becomes {dtype}"
                    yield Computed(value, bits(dtype), loops, line, what, kind="value", unsigned=unsigned)
            case dev.Positions(start):
                yield from self.steps(start, loops, line, "positions")
                if not self.texts.wide(start):  # else they wrap, as numbers of i32 do
                    yield Computed(start, 32, loops, line, "positions", above=fragment.shape[0] - 1)
            case dev.FromCondition(condition):
                for value in condition_indices(condition):
                    yield from self.steps(value, loops, line, "a condition")

    def _for(self, loop: dev.For, loops: tuple[Loop, ...]) -> Iterator[Computed]:
        line, inside = loop.origin.span.line, loops
        for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            what = f"the loop over {variable}"
            yield from self.steps(lo, inside, line, what)
            yield from self.steps(hi, inside, line, what)
            inside = (*inside, (variable, lo, hi))
            yield Computed(index(variable) + step, 32, inside, line, what)
        yield from self.body(loop.body, inside)

    # Accesses ---------------------------------------------------------------------------------------

    def access(
        self, view: View, start: Sequence[Index], shape: Sequence[int], loops: tuple[Loop, ...], line: int,
        data: int | None = None,
    ) -> Iterator[Computed]:  # fmt: skip
        """Coordinates of a tile's elements, and how far its registers are from the view's ends; those along the axis
        `data` are read from an array and compared as they are."""
        yield from self._coordinates(view, start, shape, loops, line, data)
        for axis, bounds in enumerate(view.axes):
            if axis == data:
                continue
            lanes = shape[axis] - 1 if axis < len(shape) else 0
            for end in (bounds.lo, bounds.hi):
                what = f"how far elements are from an end of {view.array}"
                yield from self.steps(end - start[axis], loops, line, what)
                yield Computed(end - start[axis], self._bits(end - start[axis]), loops, line, what, below=lanes)

    def _coordinates(
        self, view: View, start: Sequence[Index], shape: Sequence[int], loops: tuple[Loop, ...], line: int,
        data: int | None,
    ) -> Iterator[Computed]:  # fmt: skip
        origin = {position(a).name: s for a, s in enumerate(start) if a != data}
        along = tuple(
            (position(a), s, s + (shape[a] if a < len(shape) else 1)) for a, s in enumerate(start) if a != data
        )
        for d, coordinate in enumerate(view.coordinates):
            if data is not None and position(data) in coordinate.symbols():
                continue
            what = f"coordinate {d} of {view.array}"
            first = coordinate.substitute(origin)
            yield from self.steps(first, loops, line, what)
            yield Computed(coordinate, self._bits(first), (*loops, *along), line, what)

    def steps(self, value: Index, loops: tuple[Loop, ...], line: int, what: str) -> Iterator[Computed]:
        """All that is computed on the way to a value."""
        for part, wide in self.texts.steps(value):
            yield Computed(part, 64 if wide else 32, loops, line, what)

    def _bits(self, value: Index) -> int:
        return 64 if self.texts.wide(value) else 32


def counters(grid: dev.Grid) -> tuple[Symbol, ...]:
    """Of the rings of a role that walks over a grid of tiles."""
    loops = (s.counter for s in dev.walk(grid.body) if isinstance(s, dev.For))
    return tuple(dict.fromkeys(c for c in (grid.counter, *loops) if c is not None))


def _trips(loop: dev.For) -> list[Index]:
    return [cdiv(hi - lo, step) for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True)]


def _product(counts: Sequence[Index]) -> Index:
    return reduce(mul, counts, index(1))
