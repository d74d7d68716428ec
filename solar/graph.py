"""The operation graph of a reference: nodes with shapes, dtypes and exact work; no data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from kernelagent.problems.dtypes import itemsize
from kernelagent.solar.work import Work, total

Kind = Literal["input", "constant", "view", "pointwise", "reduce", "contraction", "gather", "copy", "unmodelled"]
WHOLE = Fraction(1)


@dataclass(frozen=True)
class Node:
    """One operation. `work` is that of all its elements.

    `live` is the fraction of its elements that are not known constants (behind a constant mask); `share` the
    fraction of the work that remains when such constants among the operands are skipped; `picked` is, for a
    selection by a constant mask, the fraction that it takes from its first operand.
    """

    number: int
    kind: Kind
    word: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    work: Work = field(default_factory=Work)
    live: Fraction = WHOLE
    share: Fraction = WHOLE
    picked: Fraction = WHOLE

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * itemsize(self.dtype)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order; `outputs` are node numbers, `inputs` by tensor name."""

    nodes: tuple[Node, ...]
    inputs: dict[str, int]
    outputs: tuple[int, ...]
    output_dtypes: tuple[str, ...]  # as declared: the reference's own result may be wider

    @property
    def unmodelled(self) -> tuple[str, ...]:
        """Operations whose work is not known and not counted, each once."""
        needed = self._needed()
        return tuple(dict.fromkeys(n.word for n in self.nodes if n.kind == "unmodelled" and n.number in needed))

    def work(self) -> Work:
        """Work that every implementation must do: elements behind constant masks are skipped."""
        return total(n.work.scaled(f) for n, f in self._with_fractions())

    def full_work(self) -> Work:
        """Work with nothing skipped."""
        return total(n.work for n, _ in self._with_fractions())

    def min_bytes(self) -> int:
        """Every used input read once, every output written once, each with its own dtype."""
        return self.read_bytes() + self.written_bytes()

    def read_bytes(self) -> int:
        touched = self._touched()
        sizes = {number: itemsize(self.nodes[number].dtype) for number in self.inputs.values()}
        return sum(touched[number] * size for number, size in sizes.items())

    def written_bytes(self) -> int:
        pairs = zip(self.outputs, self.output_dtypes, strict=True)
        return sum(self.nodes[o].elements * itemsize(dtype) for o, dtype in pairs)

    def unfused_bytes(self) -> int:
        """Every operation reads its operands and writes its result; views and constants are free."""
        needed = self._needed()
        moved = sum(self._traffic(n) for n in self.nodes if n.number in needed and not _free(n))
        views = (self.nodes[o] for o in self.outputs if self.nodes[o].kind in ("view", "input"))
        return moved + sum(self._storage_bytes(v) + v.bytes for v in views)

    def _traffic(self, node: Node) -> int:
        return node.bytes + sum(self._storage_bytes(self.nodes[i]) for i in node.inputs)

    def _storage_bytes(self, node: Node) -> int:
        """Bytes read when `node` is an operand: a broadcast view holds no more than what it views."""
        elements, dtype = node.elements, node.dtype
        while node.kind == "view":
            node = self.nodes[node.inputs[0]]
            elements = min(elements, node.elements)
        return 0 if node.kind == "constant" else elements * itemsize(dtype)

    def _needed(self) -> frozenset[int]:
        """Nodes that an output depends on."""
        seen: set[int] = set()
        stack = list(self.outputs)
        while stack:
            number = stack.pop()
            if number not in seen:
                seen.add(number)
                stack.extend(self.nodes[number].inputs)
        return frozenset(seen)

    def _with_fractions(self) -> Iterable[tuple[Node, Fraction]]:
        demand = self._demand()
        needed = (n for n in self.nodes if n.number in demand and not _free(n))
        return [(n, min(n.live, n.share, demand[n.number])) for n in needed]

    def _demand(self) -> dict[int, Fraction]:
        """Fraction of each needed node's elements that some consumer looks at."""
        demand = dict.fromkeys(self.outputs, WHOLE)
        for node in reversed(self.nodes):
            if node.number not in demand:
                continue
            for position, operand in enumerate(node.inputs):
                wanted = _wanted(node, position, self.nodes[operand], min(node.live, demand[node.number]))
                demand[operand] = max(demand.get(operand, Fraction(0)), wanted)
        return demand

    def _touched(self) -> list[int]:
        """Elements of each node that must be read at least: slices and gathers read only what they take."""
        touched = [0] * len(self.nodes)
        for output in self.outputs:
            touched[output] = self.nodes[output].elements
        needed = self._needed()
        for node in reversed(self.nodes):
            if node.number not in needed:
                continue
            for position, operand in enumerate(node.inputs):
                size = self.nodes[operand].elements
                touched[operand] = min(size, touched[operand] + _reads(node, position, touched[node.number], size))
        return touched


def _free(node: Node) -> bool:
    return node.kind in ("input", "constant", "view")


def _wanted(node: Node, position: int, operand: Node, own: Fraction) -> Fraction:
    """Fraction of the operand that `node` looks at, when `own` of its own elements are wanted."""
    if operand.elements < node.elements:
        return WHOLE  # stretched: some element of each row or column is wanted
    if node.word == "where" and position == 0:
        return min(own, node.picked)
    same = node.kind == "pointwise" or (node.kind == "view" and node.word in ("reshape", "permute", "expand"))
    return own if same else WHOLE


def _reads(node: Node, position: int, touched: int, size: int) -> int:
    """Elements of operand `position` (of `size`) that `node` reads."""
    if node.kind == "view":
        return touched
    if node.kind == "gather" and position == 0:
        return node.elements
    return size
