"""A reference graph over finite fields, at concrete sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.interpreter import numbers
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.field import Field, Unfielded
from kernelagent.dsl.verify.semantics.field_domain import FieldDomain


class FieldReference:
    """Evaluates the nodes of a graph. Floats are encoded field values; integers and bools are themselves."""

    def __init__(
        self, graph: g.ReferenceGraph, sizes: Mapping[str, int], arrays: Mapping[str, Array],
        scalars: Mapping[str, Any], domain: FieldDomain,
    ) -> None:  # fmt: skip
        self.graph, self.sizes, self.arrays, self.scalars = graph, sizes, arrays, scalars
        self.domain, self.field = domain, domain.field
        self._made: dict[int, Any] = {}

    def output(self, name: str) -> Array:
        """Encoded values of an output. Raises Unfielded."""
        number = self.graph.outputs[name]
        return self.real(number)

    def real(self, number: int) -> Array:
        """The node's values as field values."""
        value, dtype = self.node(number), self.graph.nodes[number].dtype
        if dtype == "weak":
            return self._literals(np.asarray(value))
        return value if is_float(dtype) else self.field.whole(value)

    def _literals(self, values: Any) -> Array:
        """Literals, or views of arrays of them such as `xp.zeros`."""
        found, which = np.unique(values, return_inverse=True)
        encoded = np.array([self.field.constant(n) for n in found.tolist()], np.int64)
        return encoded[which].reshape(values.shape)

    def node(self, number: int) -> Any:
        if number not in self._made:
            self._made[number] = self._node(self.graph.nodes[number])
        return self._made[number]

    def _shape(self, node: g.Node) -> tuple[int, ...]:
        return tuple(n.evaluate(self.sizes) for n in node.shape)

    def _node(self, node: g.Node) -> Any:
        operands, real = node.operands, is_float(node.dtype)
        match node.operation:
            case g.Input(name):
                data = self.arrays[name]
                return self.domain.enter(data) if real else np.asarray(data).astype(np.int64)
            case g.ScalarInput(name):
                return self.domain.enter(np.asarray(self.scalars[name], np.float64)) if real else self.scalars[name]
            case g.Constant(value):
                return value
            case g.Size(value):
                return value.evaluate(self.sizes)
            case g.Count():
                return np.arange(self._shape(node)[0])
            case g.Pointwise(word):
                return self._pointwise(word, node)
            case g.Reduce(word, axes, keep):
                return self._reduce(word, axes, keep, operands[0])
            case g.Scan(word, axis):
                return self._scan(word, axis, operands[0])
            case g.Contraction():
                return self._contraction(node.operation, operands)
            case g.Gather(axis, how):
                take = np.take if how == "take" else np.take_along_axis
                return take(self._plain(operands[0]), self._plain(operands[1]), axis=axis)
            case g.Join(axis, stacked):
                parts = [self.real(o) if real else self._plain(o) for o in operands]
                return np.stack(parts, axis=axis) if stacked else np.concatenate(parts, axis=axis)
        return self._view(node)

    def _plain(self, number: int) -> Any:
        return self.node(number)

    def _view(self, node: g.Node) -> Any:
        x = self.real(node.operands[0]) if is_float(node.dtype) else self._plain(node.operands[0])
        match node.operation:
            case g.Reshape():
                return np.reshape(x, self._shape(node))
            case g.Broadcast():
                return np.broadcast_to(x, self._shape(node))
            case g.Permute(axes):
                return np.transpose(x, axes)
            case g.Subscript(entries, inserted):
                lengths = iter(n for axis, n in enumerate(self._shape(node)) if axis not in inserted)
                key: list[Any] = []
                for entry in entries:
                    if isinstance(entry, tuple):
                        start = entry[0].evaluate(self.sizes)
                        key.append(slice(start, start + next(lengths) * entry[1], entry[1]))
                    else:
                        key.append(entry.evaluate(self.sizes))
                taken = x[tuple(key)]
                for axis in inserted:
                    taken = np.expand_dims(taken, axis)
                return taken
        raise Unfielded(type(node.operation).__name__)

    def _pointwise(self, word: str, node: g.Node) -> Any:
        operands = node.operands
        dtypes = [self.graph.nodes[o].dtype for o in operands]
        if word == "where":
            condition = self._plain(operands[0])
            if is_float(node.dtype):
                return np.where(condition, self.real(operands[1]), self.real(operands[2]))
            return np.where(condition, self._plain(operands[1]), self._plain(operands[2]))
        real = any(is_float(d) for d in dtypes) or (word == "div")
        if word == "cast":
            if is_float(dtypes[0]) and not is_float(node.dtype):
                raise Unfielded("a float made an integer")
            return self.real(operands[0]) if is_float(node.dtype) else self._plain(operands[0])
        if not real:
            values = [np.asarray(self._plain(o)) for o in operands]
            return numbers.UNARY[word](values[0]) if len(values) == 1 else numbers.BINARY[word](*values)
        if len(operands) == 1:
            return self.field.unary(word, self.real(operands[0]))
        if word == "pow" and self.graph.nodes[operands[1]].dtype == "weak":
            return self._pow(self.real(operands[0]), self.node(operands[1]))
        return self.field.binary(word, self.real(operands[0]), self.real(operands[1]))

    def _pow(self, x: Array, exponent: Any) -> Array:
        if exponent != int(exponent) or not 0 < exponent <= 16:
            raise Unfielded(f"a power of {exponent}")
        result = x
        for _ in range(int(exponent) - 1):
            result = self.field.multiply(result, x)
        return result

    def _reduce(self, word: str, axes: tuple[int, ...], keep: bool, operand: int) -> Any:
        if not is_float(self.graph.nodes[operand].dtype):
            function: Any = getattr(np, word)
            return function(self._plain(operand), axis=axes, keepdims=keep)
        x = self.real(operand)
        for axis in sorted(axes, reverse=True):
            x = self.field.reduce(word, x, axis)
        for axis in sorted(axes) if keep else ():
            x = np.expand_dims(x, axis)
        return x

    def _scan(self, word: str, axis: int, operand: int) -> Any:
        x = self.real(operand)
        parts = [np.take(x, range(end + 1), axis=axis) for end in range(x.shape[axis])]
        return np.stack([self.field.reduce(word, part, axis) for part in parts], axis=axis)

    def _contraction(self, operation: g.Contraction, operands: tuple[int, ...]) -> Array:
        """As one batched matrix product: labels in both and in the result are batch, in both only are summed."""
        a, b = self.real(operands[0]), self.real(operands[1])
        left, right, out = operation.left, operation.right, operation.out
        batch = [n for n in out if n in left and n in right]
        rows, columns = [n for n in out if n not in right], [n for n in out if n not in left]
        summed = [n for n in left if n not in out]
        sizes = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
        x = np.transpose(a, [left.index(n) for n in (*batch, *rows, *summed)])
        y = np.transpose(b, [right.index(n) for n in (*batch, *summed, *columns)])
        shape = [sizes[n] for n in batch]
        counts = [int(np.prod([sizes[n] for n in group])) for group in (rows, summed, columns)]
        product = self.field.product(x.reshape(*shape, counts[0], counts[1]), y.reshape(*shape, counts[1], counts[2]))
        order = [*batch, *rows, *columns]
        return np.transpose(product.reshape([sizes[n] for n in order]), [order.index(n) for n in out])


__all__ = ["Field", "FieldReference"]
