"""Traced arrays: shape and dtype of every intermediate value of a reference, and the node that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kernelagent.solar.graph import Node

if TYPE_CHECKING:
    import numpy as np
    from kernelagent.solar.tracing import Namespace
    from numpy.typing import NDArray


class TraceError(Exception):
    """The reference cannot be traced: it looks at values, or leaves the array API."""


class TracedArray:
    """An array-API array without data. `value` is known only for arrays that depend on no input (masks)."""

    __array_ufunc__ = None  # numpy scalars on the left defer to our reflected operators

    def __init__(self, xp: Namespace, node: Node, value: NDArray[Any] | None = None, dead: float | None = None) -> None:
        self.xp, self.node, self.value = xp, node, value
        self.dead = dead  # the constant that the elements outside `node.live` hold

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> str:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.node.elements

    @property
    def device(self) -> str:
        return "tracer"

    @property
    def T(self) -> TracedArray:
        if self.ndim != 2:
            raise TraceError(f".T of an array of rank {self.ndim}; the array API allows rank 2")
        return self.xp.permute_dims(self, (1, 0))

    @property
    def mT(self) -> TracedArray:
        return self.xp.matrix_transpose(self)

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return self.xp

    def __getitem__(self, key: Any) -> TracedArray:
        return self.xp.subscript(self, key)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[TracedArray]:
        return (self[i] for i in range(self.shape[0]))

    def __matmul__(self, other: Any) -> TracedArray:
        return self.xp.matmul(self, other)

    def __rmatmul__(self, other: Any) -> TracedArray:
        return self.xp.matmul(other, self)

    def __neg__(self) -> TracedArray:
        return self.xp.apply("negative", self)

    def __pos__(self) -> TracedArray:
        return self

    def __abs__(self) -> TracedArray:
        return self.xp.apply("abs", self)

    def __invert__(self) -> TracedArray:
        return self.xp.apply("logical_not", self)

    def __pow__(self, other: Any) -> TracedArray:
        return self.xp.pow(self, other)

    def __eq__(self, other: object) -> TracedArray:  # type: ignore[override]
        return self.xp.apply("equal", self, other)

    def __ne__(self, other: object) -> TracedArray:  # type: ignore[override]
        return self.xp.apply("not_equal", self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self._known())

    def __int__(self) -> int:
        return int(self._known())

    def __float__(self) -> float:
        return float(self._known())

    __index__ = __int__

    def _known(self) -> np.generic | Any:
        if self.value is None or self.value.size != 1:
            raise TraceError("the reference looks at a value (in an `if`, `int()` or `float()`), which a trace has not")
        return self.value.reshape(())[()]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"arrays of the array API have no attribute {name!r}")

    def __repr__(self) -> str:
        return f"TracedArray({self.node.word}, shape={self.shape}, dtype={self.dtype})"


def _binary(word: str) -> Callable[[TracedArray, Any], TracedArray]:
    return lambda self, other: self.xp.apply(word, self, other)


def _reflected(word: str) -> Callable[[TracedArray, Any], TracedArray]:
    return lambda self, other: self.xp.apply(word, other, self)


_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}

for _name, _word in _OPERATORS.items():
    setattr(TracedArray, f"__{_name}__", _binary(_word))
    setattr(TracedArray, f"__r{_name}__", _reflected(_word))
for _name, _word in _COMPARISONS.items():
    setattr(TracedArray, f"__{_name}__", _binary(_word))
