"""The value of one element of a reference graph, as a term."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from kernelagent.dsl import index as ix
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.constants import literal
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import fresh, reduction
from kernelagent.dsl.verify.semantics.terms import (
    Binder,
    Element,
    Parameter,
    Poly,
    Undenoted,
    Word,
    atom,
    from_index,
    to_index,
)
from kernelagent.dsl.verify.semantics.words import pointwise, reduced_word

Place = tuple[Index, ...]


class ReferenceMeaning:
    """Elements of the nodes of a graph. `dims` gives the reference's dims in the kernel's names."""

    def __init__(self, graph: g.ReferenceGraph, dims: Mapping[str, Index], known: Known) -> None:
        self.graph, self.dims, self.known = graph, dict(dims), known
        self._made: dict[tuple[int, Place], Poly] = {}
        self._shapes = [tuple(self.size(n) for n in node.shape) for node in graph.nodes]

    def size(self, i: Index) -> Index:
        return self.known.tidy(i.substitute(self.dims))

    def output(self, name: str, place: Place) -> Poly:
        """The element of output `name` at `place`, in the kernel's names. Raises Undenoted."""
        return self.element(self.graph.outputs[name], place)

    def element(self, number: int, place: Place) -> Poly:
        place = tuple(map(self.known.tidy, place))
        key = (number, place)
        if key not in self._made:
            self._made[key] = self._element(number, place)
        return self._made[key]

    def _element(self, number: int, place: Place) -> Poly:
        node = self.graph.nodes[number]
        operands = node.operands
        match node.operation:
            case g.Input(name):
                return input_element(name, node.dtype, place)
            case g.ScalarInput(name):
                return atom(Parameter(f"${name}"))
            case g.Constant(value):
                return literal(value if isinstance(value, float) else int(value))
            case g.Size(value):
                return from_index(self.size(value))
            case g.Count():
                return from_index(place[0])
            case g.Pointwise(word):
                args = [self.element(o, self._stretched(o, place)) for o in operands]
                return pointwise(word, args, self.known, is_float(node.dtype))
            case g.Reduce():
                return self._reduce(node.operation, operands[0], place)
            case g.Scan(word, axis):
                return self._folded(word, (place[axis] + 1,), lambda u: self.element(operands[0], _put(place, axis, u)))
            case g.Contraction():
                return self._contraction(node.operation, operands, place)
            case g.Permute(axes):
                source = [ix.index(0)] * len(axes)
                for j, axis in enumerate(axes):
                    source[axis] = place[j]
                return self.element(operands[0], tuple(source))
            case g.Reshape():
                return self.element(operands[0], self._reshaped(self._shapes[operands[0]], self._shapes[number], place))
            case g.Broadcast():
                return self.element(operands[0], self._stretched(operands[0], place))
            case g.Subscript(entries, inserted):
                return self.element(operands[0], _subscripted(entries, inserted, place))
            case g.Gather(axis, how):
                return self._gather(axis, how, operands, place)
            case g.Join():
                return self._join(node.operation, operands, place)

    def _stretched(self, operand: int, place: Place) -> Place:
        """The operand's place under broadcasting: its axes are the last ones, those of extent 1 stay at 0."""
        shape = self._shapes[operand]
        last = place[len(place) - len(shape) :]
        return tuple(ix.index(0) if extent.constant == 1 else p for extent, p in zip(shape, last, strict=True))

    def _folded(self, word: str, shape: Sequence[Index], inner: Callable[[Place], Poly]) -> Poly:
        """The reduction over a box."""
        binders = [Binder(fresh(), (ix.index(0),), (extent,)) for extent in shape]
        known = self.known
        for binder in binders:
            known = known.counting(binder.name, binder.lo[0], binder.hi[0])
        outer, self.known = self.known, known
        try:
            body = inner(tuple(b.symbol for b in binders))
            for binder in reversed(binders):
                name: Word = reduced_word(word)
                body = reduction(name, binder, body, outer)
        finally:
            self.known = outer
        return body

    def _reduce(self, operation: g.Reduce, operand: int, place: Place) -> Poly:
        shape = self._shapes[operand]
        kept = [a for a in range(len(shape)) if a not in operation.axes]
        at = dict(zip(kept, (p for a, p in enumerate(place) if not operation.keep or a in kept), strict=True))

        def inner(positions: Place) -> Poly:
            every = {**at, **dict(zip(operation.axes, positions, strict=True))}
            return self.element(operand, tuple(every[a] for a in range(len(shape))))

        return self._folded(operation.word, [shape[a] for a in operation.axes], inner)

    def _contraction(self, operation: g.Contraction, operands: tuple[int, ...], place: Place) -> Poly:
        at = dict(zip(operation.out, place, strict=True))
        labels = dict(zip(operation.left, self._shapes[operands[0]], strict=True))
        summed = [label for label in dict.fromkeys((*operation.left, *operation.right)) if label not in at]

        def inner(positions: Place) -> Poly:
            every = {**at, **dict(zip(summed, positions, strict=True))}
            left = self.element(operands[0], tuple(every[label] for label in operation.left))
            return left * self.element(operands[1], tuple(every[label] for label in operation.right))

        return self._folded("sum", [labels[label] for label in summed], inner)

    def _gather(self, axis: int, how: str, operands: tuple[int, ...], place: Place) -> Poly:
        rank = len(self._shapes[operands[1]])
        if how == "along":
            chosen = self.element(operands[1], self._stretched(operands[1], place))
            before, after = place[:axis], place[axis + 1 :]
            own = self._shapes[operands[0]]
            before = tuple(ix.index(0) if n.constant == 1 else p for p, n in zip(before, own[:axis], strict=True))
        else:
            chosen = self.element(operands[1], place[axis : axis + rank])
            before, after = place[:axis], place[axis + rank :]
        position = to_index(chosen)
        if position is None:
            raise Undenoted("a gather at positions that are computed from floats")
        return self.element(operands[0], (*before, position, *after))

    def _join(self, operation: g.Join, operands: tuple[int, ...], place: Place) -> Poly:
        axis, at = operation.axis, place[operation.axis]
        start = ix.index(0)
        result: Poly | None = None
        for operand in operands:
            inner = (
                (*place[:axis], *place[axis + 1 :])
                if operation.stacked
                else (*place[:axis], at - start, *place[axis + 1 :])
            )
            value = self.element(operand, inner)
            length = ix.index(1) if operation.stacked else self._shapes[operand][axis]
            here = value if result is None else fn.select(fn.holds(">=", at - start, self.known), value, result)
            result, start = here, start + length
        assert result is not None
        return result

    def _reshaped(self, old: Sequence[Index], new: Sequence[Index], place: Place) -> Place:
        return reshaped(old, new, place, self.known)


def _put(place: Place, axis: int, position: Place) -> Place:
    return (*place[:axis], *position, *place[axis + 1 :])


def input_element(array: str, dtype: str, place: Place) -> Poly:
    """An element of an array: integers may be positions, so they are index expressions."""
    if is_float(dtype):
        return atom(Element(array, place))
    return from_index(ix.element(array, place))


def _subscripted(entries: Sequence[Index | tuple[Index, int]], inserted: Sequence[int], place: Place) -> Place:
    positions = iter(p for axis, p in enumerate(place) if axis not in inserted)
    result: list[Index] = []
    for entry in entries:
        result.append(entry[0] + next(positions) * entry[1] if isinstance(entry, tuple) else entry)
    return tuple(result)


def reshaped(old: Sequence[Index], new: Sequence[Index], place: Place, known: Known) -> Place:
    """The place in the old shape of an element of the new one: row major, group by group of equal products."""
    result: list[Index] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        size_i = size_j = ix.index(1)
        if i < len(old):
            size_i, i = old[i], i + 1
        if j < len(new):
            size_j, j = new[j], j + 1
        while not known.ranges.equal(size_i, size_j):
            if i < len(old) and (j == len(new) or i - first_i <= j - first_j):
                size_i, i = size_i * old[i], i + 1
            elif j < len(new):
                size_j, j = size_j * new[j], j + 1
            else:
                raise Undenoted(f"a reshape of {_text(old)} to {_text(new)}")
        result += _unflattened(old[first_i:i], _flattened(new[first_j:j], place[first_j:j]), known)
    return tuple(result)


def _text(shape: Sequence[Index]) -> str:
    return f"({', '.join(map(str, shape))})"


def _flattened(shape: Sequence[Index], place: Sequence[Index]) -> Index:
    flat = ix.index(0)
    for extent, position in zip(shape, place, strict=True):
        flat = flat * extent + position
    return flat


def _unflattened(shape: Sequence[Index], flat: Index, known: Known) -> list[Index]:
    """Positions from a flat one: the first axis takes what is left, so no remainder is needed for it."""
    result: list[Index] = []
    for axis in reversed(range(len(shape))):
        if axis == 0:
            result.append(known.tidy(flat))
        else:
            quotient = known.quotient(known.tidy(flat), known.tidy(shape[axis]))
            result.append(known.tidy(flat - quotient * shape[axis]))
            flat = quotient
    return result[::-1]


__all__ = ["Fraction", "ReferenceMeaning", "input_element", "reshaped"]
