"""The operation graph of a reference, as data: what a kernel's meaning is compared with.

Whoever has the reference makes this record (the verifier imports no problem). Extents are `Index` expressions over the
reference's own dims, so one graph stands for all sizes. Operands of pointwise operations broadcast as numpy's do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kernelagent.dsl.index import Index

Shape: TypeAlias = tuple[Index, ...]


@dataclass(frozen=True)
class Input:
    """The input array `name`."""

    name: str


@dataclass(frozen=True)
class ScalarInput:
    """The runtime scalar `name`."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A literal, rank 0 or stretched to the node's shape."""

    value: float | int | bool


@dataclass(frozen=True)
class Size:
    """A size as a number, rank 0."""

    value: Index


@dataclass(frozen=True)
class Count:
    """0, 1, 2 ... along the only axis."""


@dataclass(frozen=True)
class Pointwise:
    """`word` is a unary or binary word of the tile IR, "where", or "cast"."""

    word: str


@dataclass(frozen=True)
class Reduce:
    """Over `axes`, which stay with extent 1 when `keep`."""

    word: Literal["sum", "prod", "max", "min", "any", "all"]
    axes: tuple[int, ...]
    keep: bool


@dataclass(frozen=True)
class Scan:
    """Inclusive prefixes along `axis`."""

    word: Literal["sum", "prod"]
    axis: int


@dataclass(frozen=True)
class Contraction:
    """Sum over the labels that are not in `out` of the product of both operands; one label for each axis."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    out: tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """Row-major reshape to the node's shape."""


@dataclass(frozen=True)
class Permute:
    """Axis j of the result is axis `axes[j]` of the operand."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Broadcast:
    """Axes of extent 1 are stretched to the node's shape."""


@dataclass(frozen=True)
class Subscript:
    """Basic indexing. One entry for each axis of the operand: a position (the axis is dropped), or (start, step).

    `inserted` are the positions of new axes of extent 1 in the result.
    """

    entries: tuple[Index | tuple[Index, int], ...]
    inserted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gather:
    """Position `axis` comes from the second operand: for the whole axis ("take") or element by element ("along").

    The positions lie inside the axis: where they do not, the reference has no answer either.
    """

    axis: int
    how: Literal["take", "along"]


@dataclass(frozen=True)
class Join:
    """The operands one behind the other along `axis`, which is new when `stacked`."""

    axis: int
    stacked: bool


Operation: TypeAlias = (
    Input | ScalarInput | Constant | Size | Count | Pointwise | Reduce | Scan | Contraction | Reshape | Permute
    | Broadcast | Subscript | Gather | Join
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One array of the reference. `operands` are numbers of earlier nodes."""

    operation: Operation
    operands: tuple[int, ...]
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class ReferenceGraph:
    """Nodes in topological order; inputs and outputs by tensor name.

    `missing` says why there is no graph (then there are no nodes): a reference that looks at values, say.
    """

    nodes: tuple[Node, ...] = ()
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    missing: str = ""
