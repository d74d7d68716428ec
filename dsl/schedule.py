"""Schedule IR: where values live, in which order they are computed, by whom, with which instructions.

One level below the tile IR: buffers in named spaces instead of values, loop nests and atom calls instead of
operations. The records serve every target. A CPU schedule is the subset without barriers, tokens and roles;
a GPU schedule adds stages, asynchronous copies and participants without new kinds of record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernelagent.dsl.index import Condition, Index, Symbol
from kernelagent.dsl.ir import DType, Origin
from kernelagent.dsl.layout import Layout as Layout
from kernelagent.dsl.layout import row_major as row_major

Space: TypeAlias = str
"""An open set: global, l1 (thread-local arena), register, panel (packed operands), shared, tmem, ..."""

# Storage ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """`stages` copies of `layout` in `space`; `elements` per stage may exceed the cosize (padding)."""

    name: str
    dtype: DType
    space: Space
    layout: Layout
    elements: int
    stages: int = 1
    alignment: int = 64  # bytes
    origin: Origin | None = None


# Concurrency (the CPU uses none of these) ----------------------------------------------------------


@dataclass(frozen=True)
class Participants:
    """Who takes part: `count` members of `scope` (lane, thread, warp, warpgroup, block, cluster, device)."""

    scope: str
    count: int


@dataclass(frozen=True)
class Barrier:
    """`arrive` must arrive (and `bytes` must land, for transaction barriers) before `wait` may pass."""

    name: str
    kind: Literal["sync", "named", "mbarrier", "counter"]
    arrive: Participants
    wait: Participants
    bytes: int = 0
    stages: int = 1


@dataclass(frozen=True)
class Token:
    """Completion of an asynchronous operation: observed by `Wait`, through `barrier` or a commit group."""

    name: str
    completion: Literal["sync", "group", "mbarrier", "counter"]
    barrier: str | None = None


@dataclass(frozen=True)
class Role:
    """A group of participants that runs its own part of the body."""

    name: str
    participants: Participants
    registers: int | None = None


@dataclass(frozen=True)
class Atom:
    """A chosen instruction or microkernel. `operands` pairs each operand's name with its space."""

    name: str
    kind: Literal["mma", "pack", "transpose", "copy", "math", "reduce"]
    shape: tuple[int, ...]  # register tile: (m, n, k) for mma
    operands: tuple[tuple[str, Space], ...]
    dtypes: tuple[DType, ...]
    issuer: str = "thread"
    completion: Literal["sync", "group", "mbarrier", "counter"] = "sync"


# Element expressions --------------------------------------------------------------------------------
# Compared by identity: an expression is a node of a DAG, and a shared node is computed once.


@dataclass(frozen=True, eq=False)
class Constant:
    value: float | int | bool
    dtype: DType


@dataclass(frozen=True, eq=False)
class Position:
    """An index integer as a tile element."""

    index: Index
    dtype: DType


@dataclass(frozen=True, eq=False)
class Truth:
    """A condition on index integers; dtype bool."""

    condition: Condition
    dtype: DType = "bool"


@dataclass(frozen=True, eq=False)
class Parameter:
    """A runtime scalar."""

    name: str
    dtype: DType


@dataclass(frozen=True, eq=False)
class Read:
    """An element of a buffer."""

    buffer: Buffer
    coordinates: tuple[Index, ...]
    dtype: DType


@dataclass(frozen=True)
class Bound:
    """lo <= index < hi."""

    index: Index
    lo: Index
    hi: Index


@dataclass(frozen=True, eq=False)
class Fetch:
    """An element of an array. A coordinate that is an expression is data (gather). Memory is touched
    only where all of `inside` holds (and data coordinates are in range); elsewhere the value is `fill`."""

    array: str
    coordinates: tuple[Index | Expression, ...]
    dtype: DType
    inside: tuple[Bound, ...] = ()
    fill: float | int | bool = 0


@dataclass(frozen=True, eq=False)
class Apply:
    """A unary or binary word of the tile IR, `cast`, or `where` (condition, then, otherwise)."""

    word: str
    arguments: tuple[Expression, ...]
    dtype: DType


Expression: TypeAlias = Constant | Position | Truth | Parameter | Read | Fetch | Apply


# Nodes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One loop of a nest: `symbol` runs over [lo, hi) inside [0, extent)."""

    symbol: Symbol
    extent: int
    lo: Index
    hi: Index

    @property
    def full(self) -> bool:
        """Whether the whole extent is known to be visited."""
        return self.lo.constant == 0 and self.hi.constant == self.extent


@dataclass(frozen=True)
class WriteBuffer:
    buffer: Buffer
    coordinates: tuple[Index, ...]
    value: Expression


@dataclass(frozen=True)
class ReduceBuffer:
    """`buffer[coordinates] = word over the nest's axes that coordinates do not name`; identity if none."""

    buffer: Buffer
    coordinates: tuple[Index, ...]
    word: str
    value: Expression


@dataclass(frozen=True)
class WriteArray:
    """`add` is an atomic addition. `inside` guards data coordinates. `via` stream goes around the caches; late does so
    with the row of an earlier tile, which starts on a whole line."""

    array: str
    coordinates: tuple[Index | Expression, ...]
    value: Expression
    inside: tuple[Bound, ...] = ()
    add: bool = False
    via: Literal["cached", "stream", "late"] = "cached"


@dataclass(frozen=True)
class WritePairs:
    """Elements at `coordinates` and right behind it along the last array axis, two for each point of the nest."""

    array: str
    coordinates: tuple[Index, ...]
    values: tuple[Expression, Expression]


@dataclass(frozen=True)
class Prefetch:
    """Ask for the cache line of an element; no effect on values, and any address is harmless."""

    array: str
    coordinates: tuple[Index, ...]


Output: TypeAlias = WriteBuffer | ReduceBuffer | WriteArray | WritePairs | Prefetch


@dataclass(frozen=True)
class Nest:
    """All outputs at every point of the axes, the last axis fastest. Points are independent but for reductions."""

    axes: tuple[Axis, ...]
    outputs: tuple[Output, ...]
    origin: Origin
    unroll: int | None = None  # None: the target chooses


@dataclass(frozen=True)
class Pipelined:
    """A pass and the store that follows it, the store one tile late.

    A thread's first tile runs `first`; every later one `steady`, which is `first` behind the store of the tile before;
    its last one runs `last` too, which is that store. Where the rows of the array stored to do not start on whole
    lines, every tile runs `first` and `last`.
    """

    first: Nest
    steady: Nest
    last: Nest

    @property
    def origin(self) -> Origin:
        return self.last.origin


@dataclass(frozen=True)
class RowGroup:
    """Nests over the same first axis, run row by row: a row stays in the nearest cache."""

    axis: Axis
    nests: tuple[Nest, ...]
    origin: Origin


@dataclass(frozen=True)
class Region:
    """A rank-2 operand of an atom: element (r, c) lies at `offset + r * row + c * column` elements of `base`,
    r in [0, rows), c in [0, columns)."""

    base: str
    dtype: DType
    offset: Index
    row: Index
    column: Index
    rows: Index
    columns: Index
    base_is_buffer: bool = True


@dataclass(frozen=True)
class SharedUse:
    """Read panels that were packed before the grid, `offset` elements into shared memory `slot`, if they were."""

    slot: int
    offset: Index


@dataclass(frozen=True)
class SharedPanels:
    """Panels that several tiles read, packed before the grid: one of `elements` for each value of `variables` (the
    last fastest), if `reuse` (tiles per panel) is above 1 and all of them take at most `largest_bytes`."""

    name: str
    slot: int
    elements: int
    atom: Atom
    source: Region
    variables: tuple[Symbol, ...]
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]
    reuse: Index
    largest_bytes: int


@dataclass(frozen=True)
class Invoke:
    """An atom on regions; operands in the atom's order. `token` is set for asynchronous atoms."""

    atom: Atom
    operands: tuple[Region, ...]
    origin: Origin
    accumulate: bool = True
    token: Token | None = None
    shared: SharedUse | None = None


@dataclass(frozen=True)
class Scan:
    """Inclusive prefix of `source` along axis `axis` into `target`, only over the axis's [lo, hi)."""

    word: str
    target: Buffer
    source: Expression
    axes: tuple[Axis, ...]
    axis: int
    origin: Origin


@dataclass(frozen=True)
class ArgReduce:
    """Lowest position of the extremum along `axis`; -1 where the axis is empty."""

    word: str
    target: Buffer
    source: Expression
    axes: tuple[Axis, ...]
    axis: int
    origin: Origin


@dataclass(frozen=True)
class Wait:
    """Nothing after this runs before at most `pending` newer operations of the token's kind are in flight."""

    token: Token
    pending: int = 0


@dataclass(frozen=True)
class Arrive:
    barrier: str


@dataclass(frozen=True)
class InRole:
    role: Role
    body: tuple[Node, ...]


@dataclass(frozen=True)
class Loop:
    """Nested counted loops, the last variable fastest. `parallel` iterations are distributed over threads."""

    variables: tuple[Symbol, ...]
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]
    body: tuple[Node, ...]
    parallel: bool
    origin: Origin


@dataclass(frozen=True)
class Branch:
    """`condition` on index integers, or a bool element."""

    condition: Condition | Expression
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    origin: Origin


Node: TypeAlias = Nest | Pipelined | RowGroup | Invoke | Scan | ArgReduce | Wait | Arrive | InRole | Loop | Branch


# Schedules -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guard:
    """One fact that dispatch checks: unit_stride(array), aligned(array, bytes), divides(index, by), range."""

    kind: Literal["unit_stride", "aligned", "divides", "range"]
    subject: str
    value: int = 0


@dataclass(frozen=True)
class ShapeClass:
    """What a binary may rely on. The general class has no guards."""

    name: str
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Something the compiler decided or dropped, and why: a line of the report. `costs`: policy that is not honoured,
    or a slower road than the usual one."""

    subject: str
    chosen: str
    reason: str
    origin: Origin | None = None
    costs: bool = False

    def __str__(self) -> str:
        line = f"line {self.origin.span.line}: " if self.origin else ""
        return f"{line}{self.subject}: {self.chosen} ({self.reason})"


@dataclass(frozen=True)
class Schedule:
    """A lowered kernel."""

    name: str
    target: str
    shape_class: ShapeClass
    buffers: tuple[Buffer, ...]
    atoms: tuple[Atom, ...]
    body: tuple[Node, ...]
    choices: tuple[Choice, ...]
    shared: tuple[SharedPanels, ...] = ()
    barriers: tuple[Barrier, ...] = ()
    roles: tuple[Role, ...] = ()


def walk(nodes: tuple[Node, ...]) -> Iterator[Node]:
    """Every node, outer before inner, in text order."""
    for node in nodes:
        yield node
        match node:
            case Loop() | InRole():
                yield from walk(node.body)
            case Branch():
                yield from walk(node.then)
                yield from walk(node.otherwise)
            case RowGroup():
                yield from node.nests
            case Pipelined():
                yield from (node.first, node.steady, node.last)
            case _:
                pass
