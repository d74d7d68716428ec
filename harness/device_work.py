"""What a GPU schedule does for one tile, counted from its statements: products, shared and global bytes, arithmetic.

Counts only; `static_model` turns them into time. A loop keeps what its iterations do apart from what stands around it,
because how far its copies run ahead decides how much of their latency shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index, evaluate_condition
from kernelagent.dsl.ir import View
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.raster import place
from kernelagent.dsl.walks import tile_at, tile_counts

Environment = Mapping[str, int]


class Work(dict[str, float]):
    """Amounts by resource, 0 where none is named: `wgmma DTYPE`, `mma DTYPE` (flop), `scalar` and `special`
    (operations), `shared` (bytes through shared memory), `read` and `written` (bytes between the multiprocessor and the
    second-level cache)."""

    def __missing__(self, resource: str) -> float:
        return 0.0

    def add(self, more: Mapping[str, float]) -> None:
        for resource, amount in more.items():
            self[resource] += amount


SPECIAL = frozenset({
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "sigmoid", "div", "pow",
})  # fmt: skip
"""Words that take the special-function unit at least once."""


@dataclass(frozen=True)
class Access:
    """Global memory that a tile touches: `bytes` in all, the first box of them at `start` of the view.

    `first` gives the loop variables around it their first value: an operand is told by where it begins.
    """

    view: View
    start: tuple[Index, ...]
    first: Environment
    bytes: float
    written: bool

    def depends_on(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the names (of grid variables) that say where the box lies."""
        used = {s.name for index in (*self.start, *self.view.coordinates) for s in index.symbols()}
        return tuple(name for name in names if name in used)

    def place(self, environment: Environment) -> tuple[int, ...]:
        """Coordinates in the array at a tile: tiles with the same place share what they read."""
        known = {**environment, **self.first}
        known |= {f"@{axis}": s.evaluate(known) for axis, s in enumerate(self.start)}
        free = {s.name: 0 for c in self.view.coordinates for s in c.symbols() if s.name not in known}
        return tuple(c.evaluate({**free, **known}) for c in self.view.coordinates)


@dataclass
class Part:
    """A tile (trips 1), or a loop inside one: what one iteration does outside of inner loops.

    `ahead`: iterations whose copies are in flight together, 1 where each waits for its own. `deferred`: bytes that bulk
    stores write while later work goes on.
    """

    trips: int = 1
    ahead: int = 1
    work: Work = field(default_factory=Work)
    deferred: float = 0.0
    parts: list[Part] = field(default_factory=list)

    @property
    def fetches(self) -> bool:
        return self.work["read"] > 0

    @property
    def total(self) -> Work:
        """Of all iterations, inner loops included."""
        found = Work(self.work)
        for part in self.parts:
            found.add(part.total)
        return Work({name: amount * self.trips for name, amount in found.items()})


@dataclass(frozen=True)
class TileWork:
    """One tile of a kernel. `groups`: warpgroups that compute beside a copying role, 0 without roles; `turns`: roles
    among which they are divided, each with tiles of its own where there are several."""

    part: Part
    accesses: tuple[Access, ...]
    groups: int
    turns: int = 1


def tile_work(kernel: dev.DeviceKernel, environment: Environment) -> TileWork:
    """The work of the tile whose grid variables `environment` gives, with the dims and integer scalars of the call."""
    if not kernel.roles:
        counter = _Counter(kernel)
        return TileWork(counter.part(_bodies(kernel.grid), environment), tuple(counter.accesses), 0)
    counters = [_Counter(kernel) for _ in kernel.roles]
    first = {**environment, **{r.grid.counter.name: 0 for r in kernel.roles if r.grid.counter is not None}}
    parts = [c.part(_bodies(role.grid), first) for c, role in zip(counters, kernel.roles, strict=True)]
    accesses = tuple(a for counter in counters for a in counter.accesses)
    consumers = sum(role.warps for role in kernel.roles[1:]) // 4
    return TileWork(_together(parts), accesses, max(1, consumers), max(1, len(kernel.roles) - 1))


def _bodies(grid: dev.Grid) -> tuple[dev.Statement, ...]:
    return (*grid.body, *(_bodies(grid.inner) if grid.inner is not None else ()))


def _together(parts: Sequence[Part]) -> Part:
    """Roles side by side: loops of the same number of iterations are one loop, since they meet in its barriers."""
    made = Part(trips=parts[0].trips)
    for part in parts:
        made.work.add(part.work)
        made.deferred += part.deferred
        made.ahead = max(made.ahead, part.ahead)
    depth = max(len(p.parts) for p in parts)
    rows = [[p.parts[k] for p in parts if k < len(p.parts)] for k in range(depth)]
    for row in rows:
        same = len({p.trips for p in row}) == 1
        made.parts += [_together(row)] if same else row
    return made


class _Counter:
    """Walks the statements of one role, or of a block without roles."""

    def __init__(self, kernel: dev.DeviceKernel) -> None:
        self.kernel = kernel
        self.accesses: list[Access] = []
        self.first: dict[str, int] = {}  # loop variables at their first value: where a tile's boxes begin
        self.widths = {a.name: bits(a.dtype) / 8 for a in kernel.arrays}

    def part(self, body: Sequence[dev.Statement], environment: Environment, trips: int = 1, times: int = 1) -> Part:
        """`times`: how often the part is reached in a tile."""
        made = Part(trips)
        self._statements(body, environment, made, trips * times, trips > 1 or times > 1)
        return made

    def _statements(
        self, body: Sequence[dev.Statement], environment: Environment, into: Part, times: int, looped: bool
    ) -> None:
        for statement in body:
            match statement:
                case dev.For():
                    self._loop(statement, environment, into, times)
                case dev.If():
                    self._statements(self._taken(statement, environment), environment, into, times, looped)
                case dev.Copy(target=target, asynchronous=True) if not looped and self._ring(target) > 1:
                    continue  # the first stages of a ring: its loop counts every copy
                case _:
                    self._count(statement, environment, into, times)

    def _loop(self, loop: dev.For, environment: Environment, into: Part, times: int) -> None:
        """Inner bounds are taken at the middle of the outer range: a triangle counts half."""
        inner = dict(environment)
        trips = 1
        for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            first, last, stride = lo.evaluate(inner), hi.evaluate(inner), step.evaluate(inner)
            count = max(0, -(-(last - first) // stride))
            self.first[variable.name] = first
            inner[variable.name] = first + stride * ((count - 1) // 2 if count else 0)
            trips *= count
        if loop.counter is not None:
            inner[loop.counter.name] = 0
        if trips:
            into.parts.append(self.part(loop.body, inner, trips, times))

    def _taken(self, branch: dev.If, environment: Environment) -> tuple[dev.Statement, ...]:
        """The arm at the middle of the loops; of a branch on data, the longer one."""
        if isinstance(branch.condition, dev.Fragment):
            return max(branch.then, branch.otherwise, key=len)
        return branch.then if evaluate_condition(branch.condition, environment) else branch.otherwise

    def _ring(self, target: dev.Shared) -> int:
        return self.kernel.buffer(target.buffer).stages

    # One statement ---------------------------------------------------------------------------------

    def _count(self, statement: dev.Statement, environment: Environment, into: Part, times: int) -> None:
        match statement:
            case dev.Let(fragment, dev.Load(view, start) | dev.Gather(view, start)):
                into.work["read"] += self._touch(view, start, fragment.shape, environment, times, False)
            case dev.Let(fragment, operation):
                into.work.add(self._operation(fragment, operation))
            case dev.Copy(target=target, view=view, start=start):
                self._copy(target, view, start, self._extent(target), 1, environment, into, times)
            case dev.CopyBulk(target=target, view=view, start=start, shape=shape, shared_by=sharers):
                self._copy(target, view, start, shape, sharers, environment, into, times)
            case dev.Store(view=view, start=start, value=value) | dev.Scatter(view=view, start=start, value=value):
                into.work["written"] += self._touch(view, start, value.shape, environment, times, True)
            case dev.StoreBulk(view=view, start=start, shape=shape):
                moved = self._touch(view, start, shape, environment, times, True)
                into.deferred += moved
                into.work.add({"written": moved, "shared": moved})
            case dev.StoreShared(value=value):
                into.work["shared"] += _bytes(value)
            case _:
                return  # barriers, fences and waits move nothing; what they cost is in the model's latencies

    def _extent(self, target: dev.Shared) -> tuple[int, ...]:
        shape = self.kernel.buffer(target.buffer).shape
        return tuple(shape[a] for a in target.axes)

    def _copy(
        self, target: dev.Shared, view: View, start: Sequence[Index], shape: Sequence[int], sharers: int,
        environment: Environment, into: Part, times: int,
    ) -> None:  # fmt: skip
        """Every block receives the whole box in shared memory; of a shared one it reads its part."""
        into.ahead = max(into.ahead, self._ring(target))
        moved = self._touch(view, start, shape, environment, times, False)
        into.work.add({"read": moved / sharers, "shared": moved})

    def _touch(
        self, view: View, start: Sequence[Index], shape: Sequence[int], environment: Environment, times: int,
        written: bool,
    ) -> float:  # fmt: skip
        """Bytes of a box, clipped to the view; noted for what the whole grid reads."""
        lengths = [axis.length.evaluate(environment) for axis in view.axes]
        extents = list(shape)[-len(lengths) :] if lengths else []
        count = math.prod(min(e, n) for e, n in zip(extents, lengths, strict=False))
        moved = count * self.widths[view.array]
        self.accesses.append(Access(view, tuple(start), dict(self.first), moved * times, written))
        return moved

    def _operation(self, fragment: dev.Fragment, operation: dev.Operation) -> Work:
        elements = math.prod(fragment.shape)
        match operation:
            case dev.Mma():
                return self._product(operation)
            case dev.LoadShared():
                return Work({"shared": _bytes(fragment)})
            case dev.Pointwise(word) if word in SPECIAL:
                return Work({"special": elements, "scalar": 2 * elements})
            case dev.Pointwise():
                return Work({"scalar": elements})
            case dev.Reduce(_, x) | dev.ArgReduce(_, x) | dev.Scan(_, x):
                return Work({"scalar": math.prod(x.shape)})
            case _:
                return Work()  # renamed registers and constants

    def _product(self, mma: dev.Mma) -> Work:
        """Flop by unit and dtype, and what the operands take of shared memory."""
        m, n = mma.acc.shape
        (_, k), dtype = self._operand(mma.a)
        scope = atom(mma.atom).scope
        flop = 2.0 * m * n * k
        if scope == "lane":
            return Work({"scalar": flop / 2})
        rows, columns = _sharers(mma.acc) if scope == "warp" else (m // 64, max(1, -(-n // 256)))
        width = bits(dtype) / 8
        a = m * k * width * columns if isinstance(mma.a, dev.Shared) else 0.0
        b = k * n * width * rows if isinstance(mma.b, dev.Shared) else 0.0
        unit = "wgmma" if scope == "warpgroup" else "mma"
        return Work({f"{unit} {dtype}": flop, "shared": a + b})

    def _operand(self, operand: dev.Fragment | dev.Shared) -> tuple[tuple[int, ...], str]:
        if isinstance(operand, dev.Fragment):
            return operand.shape, operand.dtype
        return self._extent(operand), self.kernel.buffer(operand.buffer).dtype


def _bytes(fragment: dev.Fragment) -> float:
    return math.prod(fragment.shape) * bits(fragment.dtype) / 8


def _sharers(acc: dev.Fragment) -> tuple[int, int]:
    """Warps along rows and columns of a product of single warps: each reads its own rows of `a` and columns of `b`."""
    counts = {0: 1, 1: 1}
    left = WARP
    for mode in acc.layout.lanes if acc.layout is not None else ():
        inside = math.gcd(mode.extent, left)
        left //= inside
        if mode.axis in counts:
            counts[mode.axis] *= mode.extent // inside
    return counts[0], counts[1]


# The grid ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiles:
    """The tiles of a grid in the order in which blocks take them: values of the grid's variables by number."""

    count: int
    at: Callable[[int], dict[str, int]]
    middle: dict[str, int]  # each variable halfway: what depends on it linearly is there at its mean


def tiles_of(kernel: dev.DeviceKernel, environment: Environment) -> Tiles:
    """Of a ragged nest the outer tiles, each with its inner grid at the middle."""
    grid = kernel.grid
    counts = tile_counts(grid, environment)

    def at(number: int) -> dict[str, int]:
        return tile_at(grid, place(grid.raster, grid.group, grid.together, counts, number), environment)

    return Tiles(math.prod(counts), at, tile_at(grid, [(n - 1) // 2 for n in counts], environment))


def inner_tiles(kernel: dev.DeviceKernel, environment: Environment) -> tuple[int, dict[str, int]]:
    """How many tiles one outer tile of a ragged nest has, and the middle one."""
    count, at = 1, dict(environment)
    level = kernel.grid.inner
    while level is not None:
        tiles = tiles_of(replace(kernel, grid=replace(level, inner=None)), at)
        count *= tiles.count
        at |= tiles.middle if tiles.count else {v.name: 0 for v in level.variables}
        level = level.inner
    return count, at
