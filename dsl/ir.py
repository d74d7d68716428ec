"""Tile IR: what a kernel text means, typed, before anything is decided about machines.

Values are immutable tiles in SSA form. Extents, positions and bounds are symbolic `Index`
expressions over dims, tunables and loop variables; `instantiate` replaces tunables and dtypes by
concrete ones. Every statement and value keeps the span of the text it came from and the call sites
of the `@inline` functions it passed through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.index import Condition, Index, Symbol

DType: TypeAlias = str
"""f64 f32 f16 bf16 f8e4m3 f8e5m2 i64 i32 i16 i8 u32 u8 u4 bool, or the name of a dtype variable."""


@dataclass(frozen=True)
class Origin:
    """Where something comes from: its own span and the spans of the inline calls around it."""

    span: Span
    calls: tuple[Span, ...] = ()


# Values ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Live:
    """Live positions of one tile axis, [lo, hi) counted from the tile's own start; else void.

    Always 0 <= lo and hi <= extent when evaluated; hi <= lo means that nothing is live.
    """

    lo: Index
    hi: Index


@dataclass(frozen=True)
class TileType:
    """dtype, extents (positive constants once instantiated) and live interval of each axis."""

    dtype: DType
    shape: tuple[Index, ...]
    live: tuple[Live, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Value:
    """An SSA value. `number` is unique in the kernel; `name` is the author's name, for messages."""

    number: int
    type: TileType
    name: str
    origin: Origin


# Views of arrays -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewAxis:
    """One axis of a view: positions 0 .. length-1 exist, those in [lo, hi) are inside the memory.

    For plain slices lo is 0 and hi is length; `window` may have positions that lie outside its source.
    """

    length: Index
    lo: Index
    hi: Index


@dataclass(frozen=True)
class View:
    """A window on a parameter array. `coordinates[d]` is the array coordinate along array axis d
    as an Index over the symbols `position(0)`, `position(1)`, ... of the view's own axes."""

    array: str
    dtype: DType
    axes: tuple[ViewAxis, ...]
    coordinates: tuple[Index, ...]


def position(axis: int) -> Symbol:
    """The symbol that stands for a view's own position along `axis` in `View.coordinates`."""
    return Symbol(f"@{axis}", "position")


# Operations ------------------------------------------------------------------------------------

UnaryWord = Literal[
    "neg", "abs", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos",
    "floor", "ceil", "round", "sigmoid", "not",
]  # fmt: skip
BinaryWord = Literal[
    "add", "sub", "mul", "div", "floordiv", "mod", "pow", "maximum", "minimum",
    "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "shl", "shr",
]  # fmt: skip
ReduceWord = Literal["sum", "max", "min", "prod", "any", "all"]


@dataclass(frozen=True)
class Load:
    """Elements start .. start+shape of the view; live inside the view; `fill` revives the void ones."""

    view: View
    start: tuple[Index, ...]
    fill: float | int | None = None


@dataclass(frozen=True)
class Gather:
    """Like Load, but position `axis` comes from a rank-1 integer tile; `start[axis]` is ignored."""

    view: View
    start: tuple[Index, ...]
    axis: int
    indices: Value
    fill: float | int | None = None


@dataclass(frozen=True)
class Full:
    """A tile of one constant (`zeros`, `full`, literals and rank-0 constants)."""

    value: float | int | bool


@dataclass(frozen=True)
class FromIndex:
    """A rank-0 value from an index integer, converted to the value's dtype."""

    index: Index


@dataclass(frozen=True)
class FromCondition:
    """A rank-0 bool from a condition on index integers."""

    condition: Condition


@dataclass(frozen=True)
class ScalarParam:
    """The runtime scalar parameter `name`, rank 0."""

    name: str


@dataclass(frozen=True)
class Iota:
    """i32 values start, start+1, ... along the only axis (`coords`, `iota`)."""

    start: Index


@dataclass(frozen=True)
class Unary:
    word: UnaryWord
    x: Value


@dataclass(frozen=True)
class Binary:
    """Operands have the result's shape (see Broadcast) and one common dtype (see Cast)."""

    word: BinaryWord
    a: Value
    b: Value


@dataclass(frozen=True)
class Where:
    condition: Value
    a: Value
    b: Value


@dataclass(frozen=True)
class Cast:
    """Round to nearest even; inserted by the elaborator wherever arithmetic widens."""

    x: Value


@dataclass(frozen=True)
class Broadcast:
    """Stretch extent-1 axes (and rank 0) to the value's shape; equal ranks otherwise."""

    x: Value


@dataclass(frozen=True)
class ExpandDims:
    """`x[:, None]`: insert axes of extent 1 at these positions of the result."""

    x: Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """Row-major reshape of a tile; merged or split axes are wholly live, unit axes come and go freely."""

    x: Value


@dataclass(frozen=True)
class Permute:
    """Axis j of the result is axis `axes[j]` of x."""

    x: Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Fill:
    """Void elements become `value` and live."""

    x: Value
    value: float | int | bool


@dataclass(frozen=True)
class Reduce:
    """Over the live positions of one axis, which is dropped; identity where none is live."""

    word: ReduceWord
    x: Value
    axis: int


@dataclass(frozen=True)
class ArgReduce:
    """Lowest position within the tile of the extremum (first NaN wins), i32; -1 where none is live."""

    word: Literal["argmax", "argmin"]
    x: Value
    axis: int


@dataclass(frozen=True)
class Scan:
    """Inclusive prefix along `axis`, skipping void."""

    word: Literal["sum", "max", "min", "prod"]
    x: Value
    axis: int


@dataclass(frozen=True)
class Mma:
    """(m, k) x (k, n) -> (m, n) with f32 or i32 accumulation; a k counts if live in both operands."""

    a: Value
    b: Value
    precision: Literal["exact", "tf32"] = "exact"


@dataclass(frozen=True)
class Stack:
    """Stack equal tiles along a new last axis."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Take:
    """Constant subscript of the last axis: `x[:, 0]`; drops the axis."""

    x: Value
    position: int


@dataclass(frozen=True)
class Tag:
    """`x` itself, its elements labelled: position p of axis a counts as coordinate start[a] + p of dim dims[a]."""

    x: Value
    dims: tuple[str, ...]
    start: tuple[Index, ...]


Operation: TypeAlias = (
    Load | Gather | Full | FromIndex | FromCondition | ScalarParam | Iota | Unary | Binary | Where | Cast | Broadcast
    | ExpandDims | Reshape | Permute | Fill | Reduce | ArgReduce | Scan | Mma | Stack | Take | Tag
)  # fmt: skip


# Statements ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Let:
    value: Value
    operation: Operation


@dataclass(frozen=True)
class Store:
    """Write elements that are live and inside the view. `view.array` is an Out or InOut."""

    view: View
    start: tuple[Index, ...]
    value: Value
    origin: Origin


@dataclass(frozen=True)
class Scatter:
    """Store (or, with `atomic`, add) where position `axis` comes from a rank-1 integer tile, or,
    with `indices` None and `atomic`, at plain positions (`atomic_add`)."""

    view: View
    start: tuple[Index, ...]
    axis: int | None
    indices: Value | None
    value: Value
    atomic: bool
    origin: Origin


@dataclass(frozen=True)
class Expect:
    """A claim: each live element of `value` comes from the coordinates that `Tag` would give it."""

    value: Value
    dims: tuple[str, ...]
    start: tuple[Index, ...]
    origin: Origin


@dataclass(frozen=True)
class Carried:
    """A name bound before a loop and rebound inside: `inside` is its value at the top of the body,
    `end` the value at the bottom, `result` the value after the loop (`initial` if zero iterations)."""

    initial: Value
    inside: Value
    end: Value
    result: Value


LoopKind = Literal["tiles", "pipeline", "range"]


@dataclass(frozen=True)
class For:
    """Nested counted loops written as one: variable j runs lo[j], lo[j]+step[j], ... below hi[j],
    the last one fastest. `tiles` iterations are independent and unordered."""

    kind: LoopKind
    variables: tuple[Symbol, ...]
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]
    carried: tuple[Carried, ...]
    body: tuple[Statement, ...]
    origin: Origin


@dataclass(frozen=True)
class Merged:
    """A name bound alike in both arms of an `if`."""

    then: Value
    otherwise: Value
    result: Value


@dataclass(frozen=True)
class If:
    """`condition` is on index integers, or a rank-0 bool value."""

    condition: Condition | Value
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]
    merged: tuple[Merged, ...]
    origin: Origin


Statement: TypeAlias = Let | Store | Scatter | For | If | Expect


# Kernels ---------------------------------------------------------------------------------------

Role = Literal["In", "Out", "InOut", "Acc"]


@dataclass(frozen=True)
class Array:
    """An array parameter. Arrays are dense row major unless strides are given at the call."""

    name: str
    role: Role
    dtype: DType
    dims: tuple[Index, ...]
    span: Span
    optional: bool = False


@dataclass(frozen=True)
class Scalar:
    """A runtime scalar (`scale: f32`), an integer parameter (`n: i32`, an index integer), or a
    compile-time constant (`causal: const = True`)."""

    name: str
    dtype: DType | Literal["const"]
    default: float | int | bool | None
    span: Span


@dataclass(frozen=True)
class Tunable:
    """`BM=64` or `BM=choices(32, 64)`; `choices` empty: the tuner leaves it alone."""

    name: str
    default: int | bool
    choices: tuple[int | bool, ...]
    span: Span


@dataclass(frozen=True)
class Assume:
    """`condition` restricts sizes; `data` restricts the contents of an integer array:
    ("range", array, lo, hi) means lo <= every element < hi (hi inclusive bounds are normalised),
    ("distinct", array) or ("partition", array, total)."""

    condition: Condition | None
    data: tuple[str, str, tuple[Index, ...]] | None
    text: str
    span: Span


ClaimWord = Literal["bank_conflicts", "sectors", "conformity", "separation"]


@dataclass(frozen=True)
class Claim:
    """`claim(bank_conflicts <= 2)`: what the schedule must reach; `limit` None for words that have none."""

    word: ClaimWord
    limit: int | None
    text: str
    span: Span


@dataclass(frozen=True)
class Policy:
    """`on(target, BM=128, stages=2)`: tunable values and policy words; `target` None is unscoped.
    `required` comes from `require(...)`."""

    target: str | None
    words: tuple[tuple[str, int | bool | str | tuple[int, ...]], ...]
    required: bool
    span: Span


@dataclass(frozen=True)
class Kernel:
    """A typed kernel, generic over dims, tunables and dtype variables."""

    name: str
    arrays: tuple[Array, ...]
    scalars: tuple[Scalar, ...]
    tunables: tuple[Tunable, ...]
    dims: tuple[str, ...]
    dtype_variables: tuple[str, ...]
    dtype_needs: tuple[tuple[str, str], ...]  # (variable, "float") when arithmetic is done on it
    assumes: tuple[Assume, ...]
    policies: tuple[Policy, ...]
    body: tuple[Statement, ...]
    span: Span
    claims: tuple[Claim, ...] = ()

    def array(self, name: str) -> Array:
        return next(a for a in self.arrays if a.name == name)


@dataclass(frozen=True)
class Temp:
    """A program's temporary: written whole by one call, then only read."""

    name: str
    dtype: DType
    dims: tuple[Index, ...]
    span: Span


@dataclass(frozen=True)
class Call:
    """A kernel call in a program. `arrays`: parameter name -> array or temp name of the program;
    `scalars`/`tunables`: parameter name -> program scalar name, tunable name or literal."""

    kernel: str
    arrays: tuple[tuple[str, str], ...]
    scalars: tuple[tuple[str, Index | str | float | int | bool], ...]
    tunables: tuple[tuple[str, Index], ...]
    dims: tuple[tuple[str, Index], ...]  # kernel dim -> Index over the program's dims and tunables
    span: Span


@dataclass(frozen=True)
class Program:
    """Straight-line calls of kernels of the same text."""

    name: str
    arrays: tuple[Array, ...]
    scalars: tuple[Scalar, ...]
    tunables: tuple[Tunable, ...]
    dims: tuple[str, ...]
    dtype_variables: tuple[str, ...]
    assumes: tuple[Assume, ...]
    policies: tuple[Policy, ...]
    temps: tuple[Temp, ...]
    calls: tuple[Call, ...]
    span: Span

    def array(self, name: str) -> Array:
        return next(a for a in self.arrays if a.name == name)


@dataclass(frozen=True)
class Module:
    """A parsed text. The entry is the only program, else the only kernel."""

    text: str
    edition: int
    kernels: tuple[Kernel, ...]
    programs: tuple[Program, ...]
    warnings: tuple[object, ...] = field(default=())  # Diagnostics of severity warning or note

    @property
    def entry(self) -> Kernel | Program:
        return self.programs[-1] if self.programs else self.kernels[-1]

    def kernel(self, name: str) -> Kernel:
        return next(k for k in self.kernels if k.name == name)
