"""Schedule IR of GPU targets: what one block of threads does, with every space, copy, wait and barrier in the open.

Values are register fragments in SSA form, each with a distribution over the block's threads. There is no void at
this level: loads and copies name their fill, reductions are over whole tiles. Shared memory is named buffers with
stages and swizzles; asynchronous copies complete by commit groups. The records print as level-two text and are
parsed from it (`level2`), and `targets/cuda` emits them lane by lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernelagent.dsl.fragments import Fragment as Fragment
from kernelagent.dsl.fragments import MBarrier as MBarrier
from kernelagent.dsl.fragments import Shared as Shared
from kernelagent.dsl.fragments import SharedBuffer as SharedBuffer
from kernelagent.dsl.fragments import stage_bytes as stage_bytes
from kernelagent.dsl.fragments import stage_elements as stage_elements
from kernelagent.dsl.index import Condition, Index, Symbol
from kernelagent.dsl.ir import Array, Claim, Origin, Scalar, View
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.schedule import Choice, ShapeClass
from kernelagent.dsl.swizzle import Swizzle as Swizzle

# Operations that make a fragment --------------------------------------------------------------------


@dataclass(frozen=True)
class Constant:
    """All elements equal."""

    value: float | int | bool


@dataclass(frozen=True)
class FromIndex:
    """Rank 0, from an index integer."""

    index: Index


@dataclass(frozen=True)
class FromCondition:
    """Rank-0 bool."""

    condition: Condition


@dataclass(frozen=True)
class Parameter:
    """A runtime scalar, rank 0."""

    name: str


@dataclass(frozen=True)
class Positions:
    """start + own position along the only axis, i32."""

    start: Index


@dataclass(frozen=True)
class Load:
    """Global -> registers, `vector` elements an access; outside the view the constant `fill`."""

    view: View
    start: tuple[Index, ...]
    fill: float | int
    vector: int = 1


@dataclass(frozen=True)
class Gather:
    """As Load, but position `axis` comes from `indices` (rank 1, distributed as the result's axis)."""

    view: View
    start: tuple[Index, ...]
    axis: int
    indices: Fragment
    fill: float | int
    vector: int = 1


@dataclass(frozen=True)
class LoadShared:
    """Shared -> registers, `vector` elements an access along the buffer's own last axis."""

    source: Shared
    vector: int = 1


@dataclass(frozen=True)
class Pointwise:
    """A unary or binary word of the tile IR, "where" or "cast"; arguments have the result's layout or rank 0."""

    word: str
    arguments: tuple[Fragment, ...]


@dataclass(frozen=True)
class Stretch:
    """Broadcast: extent-1 axes (and rank 0) to the result's shape; a renaming of registers."""

    x: Fragment


@dataclass(frozen=True)
class Reindex:
    """expand(axes) | permute(axes) | reshape | stack | take(position): registers renamed, nothing moves between
    threads. `reshape` drops or adds unit axes only or keeps each thread's registers in order."""

    kind: Literal["expand", "permute", "reshape", "stack", "take"]
    parts: tuple[Fragment, ...]
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reduce:
    """Over `axis`, in registers and by shuffles: the lane modes along it lie within one warp."""

    word: Literal["sum", "max", "min", "prod", "any", "all"]
    x: Fragment
    axis: int


@dataclass(frozen=True)
class ArgReduce:
    """Lowest position of the extremum along `axis`, i32; the first NaN wins. Same rule on lane modes as Reduce."""

    word: Literal["argmax", "argmin"]
    x: Fragment
    axis: int


@dataclass(frozen=True)
class Scan:
    """Inclusive prefix along `axis`: within a thread's registers, then by shuffles over one warp."""

    word: Literal["sum", "max", "min", "prod"]
    x: Fragment
    axis: int


@dataclass(frozen=True)
class Mma:
    """acc + a (m, k) @ b (k, n), accumulated in registers; operands in shared memory are fetched fragment by
    fragment, operands in registers are already in the atom's layout."""

    atom: str
    a: Fragment | Shared
    b: Fragment | Shared
    acc: Fragment


@dataclass(frozen=True)
class Tag:
    """`x` itself, its elements labelled: position p of axis a counts as coordinate start[a] + p of dim dims[a].

    Stands in texts only: no code comes of it."""

    x: Fragment
    dims: tuple[str, ...]
    start: tuple[Index, ...]


Operation: TypeAlias = (
    Constant | FromIndex | FromCondition | Parameter | Positions | Load | Gather | LoadShared | Pointwise | Stretch
    | Reindex | Reduce | ArgReduce | Scan | Mma | Tag
)  # fmt: skip


# Statements -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Let:
    fragment: Fragment
    operation: Operation


@dataclass(frozen=True)
class Store:
    """Registers -> global, elements inside the view; of copies one thread writes. `atomic` adds."""

    view: View
    start: tuple[Index, ...]
    value: Fragment
    origin: Origin
    vector: int = 1
    atomic: bool = False


@dataclass(frozen=True)
class Scatter:
    """As Store, position `axis` from `indices` (rank 1, distributed as the value's axis)."""

    view: View
    start: tuple[Index, ...]
    axis: int
    indices: Fragment
    value: Fragment
    origin: Origin
    atomic: bool = False


@dataclass(frozen=True)
class StoreShared:
    target: Shared
    value: Fragment
    origin: Origin
    vector: int = 1


@dataclass(frozen=True)
class Copy:
    """Global -> shared, `vector` elements a thread and step, in the order of `layout` (threads and steps over the
    tile). Asynchronous copies belong to the next commit group; outside the view, zero."""

    target: Shared
    view: View
    start: tuple[Index, ...]
    layout: Distribution
    vector: int
    asynchronous: bool
    origin: Origin


@dataclass(frozen=True)
class Commit:
    """Close a group of asynchronous copies (each thread's own)."""

    origin: Origin


@dataclass(frozen=True)
class WaitGroup:
    """At most `pending` of this thread's newest groups are still in flight afterwards."""

    pending: int
    origin: Origin


@dataclass(frozen=True)
class BlockBarrier:
    """All threads of the block; orders their shared-memory accesses."""

    origin: Origin


# Hopper: barriers with phases, bulk copies, asynchronous products. `stage` and `parity` are index integers.


@dataclass(frozen=True)
class BarrierInit:
    """One thread of the block initialises every stage of a barrier."""

    barrier: str
    origin: Origin


@dataclass(frozen=True)
class FenceInit:
    """Initialised barriers become visible to the cluster and to bulk copies."""

    origin: Origin


@dataclass(frozen=True)
class Expect:
    """One thread of the role arrives and announces the bytes that this phase will receive."""

    barrier: str
    stage: Index
    bytes: int
    origin: Origin


@dataclass(frozen=True)
class Arrive:
    """One thread of each warp of the role arrives. `everywhere`: at the barrier of every block of the cluster."""

    barrier: str
    stage: Index
    origin: Origin
    everywhere: bool = False


@dataclass(frozen=True)
class WaitPhase:
    """All threads of the role wait until the phase of this parity (0 or 1) has completed."""

    barrier: str
    stage: Index
    parity: Index
    origin: Origin


@dataclass(frozen=True)
class CopyBulk:
    """Global -> shared through a tensor map, issued by one thread; zero outside the array (not the view). All bytes
    of the box count on the barrier's stage. `shared_by`: that many blocks of the cluster each copy their part of the
    rows to all of them."""

    target: Shared
    view: View
    start: tuple[Index, ...]
    shape: tuple[int, ...]
    barrier: str
    stage: Index
    origin: Origin
    shared_by: int = 1


@dataclass(frozen=True)
class StoreBulk:
    """Shared -> global through a tensor map, issued by one thread of the role, clipped to the array."""

    source: Shared
    view: View
    start: tuple[Index, ...]
    shape: tuple[int, ...]
    origin: Origin


@dataclass(frozen=True)
class CommitBulk:
    """Close the issuing thread's group of bulk stores."""

    origin: Origin


@dataclass(frozen=True)
class WaitBulk:
    """At most `pending` of the issuing thread's newest groups may still read shared memory."""

    pending: int
    origin: Origin


@dataclass(frozen=True)
class FenceAsync:
    """This thread's writes to shared memory become visible to bulk stores and asynchronous products."""

    origin: Origin


@dataclass(frozen=True)
class RoleBarrier:
    """All threads of the executing role; orders their shared-memory accesses. `number` 1..15."""

    number: int
    origin: Origin


@dataclass(frozen=True)
class Turn:
    """The role's two warpgroups alternate: `begins`, a warpgroup waits until the other has ended its turn (the first
    one of the role goes first); else it ends its own. Barriers `number` and `number` + 1 are theirs."""

    number: int
    begins: bool
    origin: Origin


@dataclass(frozen=True)
class ClusterBarrier:
    """All threads of all blocks of the cluster."""

    origin: Origin


@dataclass(frozen=True)
class WgmmaFence:
    """Registers written before are seen by the asynchronous products behind it."""

    origin: Origin


@dataclass(frozen=True)
class WgmmaCommit:
    """Close the warpgroup's group of asynchronous products."""

    origin: Origin


@dataclass(frozen=True)
class WgmmaWait:
    """At most `pending` groups of products are still in flight; the others' results may be touched."""

    pending: int
    origin: Origin


@dataclass(frozen=True)
class Expectation:
    """A claim: each element of a fragment or a stage has the coordinates that `Tag` would give it or, with `view`, is
    the element of that view at `start` and its own position. Stands in texts only: no code comes of it."""

    value: Fragment | Shared
    dims: tuple[str, ...]
    start: tuple[Index, ...]
    origin: Origin
    view: View | None = None


@dataclass(frozen=True)
class Carried:
    """`inside` at the top of the body is `initial`, then `end` of the iteration before; `result` after the loop."""

    initial: Fragment
    inside: Fragment
    end: Fragment
    result: Fragment


@dataclass(frozen=True)
class For:
    """Nested counted loops, the last variable fastest; uniform over the block. `unroll` 1: not at all. `counter` is
    an index integer that counts iterations over the whole life of the block (or role), across tiles."""

    variables: tuple[Symbol, ...]
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]
    carried: tuple[Carried, ...]
    body: tuple[Statement, ...]
    origin: Origin
    unroll: int = 1
    counter: Symbol | None = None


@dataclass(frozen=True)
class Merged:
    then: Fragment
    otherwise: Fragment
    result: Fragment


@dataclass(frozen=True)
class If:
    """Uniform over the block: a condition on index integers or a rank-0 bool fragment."""

    condition: Condition | Fragment
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]
    merged: tuple[Merged, ...]
    origin: Origin


Statement: TypeAlias = (
    Let | Store | Scatter | StoreShared | Copy | Commit | WaitGroup | BlockBarrier | For | If | BarrierInit | FenceInit
    | Expect | Arrive | WaitPhase | CopyBulk | StoreBulk | CommitBulk | WaitBulk | FenceAsync | RoleBarrier
    | Turn | ClusterBarrier | WgmmaFence | WgmmaCommit | WgmmaWait | Expectation
)  # fmt: skip


# Grids and schedules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """One `tiles` loop. `inner` (with scalar `before` it) makes a ragged nest: the extents of the inner grid depend
    on the outer variables or on data, and blocks walk all its tiles in turn (always persistent).

    `raster` ("row", "column", "grouped" by `group` rows of tiles, or "hilbert") orders one plain grid's tiles
    (`raster.py`); `persistent` blocks stride over the tiles instead of taking one each. `together`: rows and columns
    of tiles that follow each other, those of one cluster.
    """

    variables: tuple[Symbol, ...]
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]
    body: tuple[Statement, ...]
    origin: Origin
    raster: Literal["row", "column", "grouped", "hilbert"] = "row"
    group: int = 8
    persistent: bool = False
    inner: Grid | None = None
    counter: Symbol | None = None  # counts the tiles of the block (or role)
    together: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Role:
    """`warps` whole warps from `first_warp` on, with a walk over the tiles of their own. Fragments inside are
    distributed over the role's threads. `registers` per thread (a multiple of 8) are asked for at the start;
    None: what the launch gave. `after` runs once behind the last tile."""

    name: str
    first_warp: int
    warps: int
    grid: Grid
    registers: int | None = None
    after: tuple[Statement, ...] = ()

    @property
    def threads(self) -> int:
        return self.warps * 32


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel scheduled for one target and one shape class.

    With `roles` the block first runs `prologue` (all threads), then each role its own grid; `grid` then has no body
    and says only which tiles there are. `cluster` blocks, the grid's `together`, run together.
    """

    name: str
    target: str
    shape_class: ShapeClass
    threads: int
    arrays: tuple[Array, ...]
    scalars: tuple[Scalar, ...]
    dims: tuple[str, ...]
    buffers: tuple[SharedBuffer, ...]
    grid: Grid
    choices: tuple[Choice, ...] = ()
    min_blocks: int = 1  # resident blocks per SM that the register allocator must allow
    barriers: tuple[MBarrier, ...] = ()
    roles: tuple[Role, ...] = ()
    prologue: tuple[Statement, ...] = ()
    cluster: int = 1
    claims: tuple[Claim, ...] = ()  # what the author says of the schedule; no code comes of them

    def barrier(self, name: str) -> MBarrier:
        return next(b for b in self.barriers if b.name == name)

    def buffer(self, name: str) -> SharedBuffer:
        return next(b for b in self.buffers if b.name == name)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a block."""
        buffers = (b.offset + stage_bytes(b) * b.stages for b in self.buffers)
        return max((*buffers, *(b.offset + 8 * b.stages for b in self.barriers)), default=0)


def walk(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement, outer before inner, in text order."""
    for statement in body:
        yield statement
        match statement:
            case For():
                yield from walk(statement.body)
            case If():
                yield from walk(statement.then)
                yield from walk(statement.otherwise)
            case _:
                pass


def statements(kernel: DeviceKernel) -> Iterator[Statement]:
    """Every statement of the kernel: the prologue, then each grid, those in front of inner grids first."""
    yield from walk(kernel.prologue)
    for grid in (kernel.grid, *(role.grid for role in kernel.roles)):
        level: Grid | None = grid
        while level is not None:
            yield from walk(level.body)
            level = level.inner
    for role in kernel.roles:
        yield from walk(role.after)
