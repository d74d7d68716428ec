"""An array-API namespace that records operations instead of doing them.

Arrays that depend on no input (index ranges, masks) are computed, so that the work behind a constant mask is
counted exactly. A function that is not modelled here still gets its result's shape, from numpy run on zeros; it is
listed as unmodelled and its work is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from kernelagent.problems import arrays
from kernelagent.problems.dtypes import is_float, known, numpy_dtype
from kernelagent.problems.problem import Problem, Workload
from kernelagent.solar.graph import WHOLE, Graph, Kind, Node
from kernelagent.solar.traced import TracedArray, TraceError
from kernelagent.solar.work import COSTS, Work, arithmetic, pointwise
from numpy.typing import NDArray

__all__ = ["Namespace", "TraceError", "TracedArray", "trace"]

FOLD_LIMIT = 1 << 24  # elements of a constant that is still computed
SHAPE_LIMIT = 1 << 26  # elements for which an unmodelled function may be run on zeros
_RESULT_IS_BOOL = {
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "isnan", "isfinite",
    "logical_and", "logical_or", "logical_not", "logical_xor",
}  # fmt: skip
_API_DTYPES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint32": "u32", "uint8": "u8", "bool": "bool",
}  # fmt: skip
Axis = int | tuple[int, ...] | None


def trace(problem: Problem, workload: Workload | str) -> Graph:
    """The operation graph of the reference on this workload.

    Raises TraceError when the reference looks at values, leaves the array API, or returns the wrong shapes.
    """
    work = problem.workload(workload) if isinstance(workload, str) else workload
    xp = Namespace()
    shapes = arrays.shapes(problem, work)
    inputs = {t.name: xp.input(t.name, shapes[t.name], t.dtype) for t in problem.inputs}
    result = problem.reference(xp, **inputs, **arrays.scalars(problem, work))
    outputs = result if isinstance(result, tuple | list) else (result,)
    wanted = [shapes[t.name] for t in problem.outputs]
    traced = [xp.lift(o) for o in outputs]
    if [o.shape for o in traced] != wanted:
        raise TraceError(f"{problem.name}: the reference returns shapes {[o.shape for o in traced]}, not {wanted}")
    return Graph(
        nodes=tuple(xp.nodes),
        inputs={name: a.node.number for name, a in inputs.items()},
        outputs=tuple(o.node.number for o in traced),
        output_dtypes=tuple(t.dtype for t in problem.outputs),
    )


class Namespace:
    """The `xp` that references are given. Functions not defined here are looked up in numpy and unmodelled."""

    __name__ = "kernelagent.solar.tracing"
    inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    # recording -----------------------------------------------------------------------------------

    def record(
        self,
        kind: Kind,
        word: str,
        inputs: Iterable[TracedArray],
        shape: tuple[int, ...],
        dtype: str,
        work: Work | None = None,
        **facts: Any,
    ) -> TracedArray:
        dead = facts.pop("dead", None)
        numbers = tuple(i.node.number for i in inputs)
        node = Node(len(self.nodes), kind, word, numbers, shape, dtype, work or Work(), **facts)
        self.nodes.append(node)
        return TracedArray(self, node, dead=dead)

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> TracedArray:
        return self.record("input", name, (), shape, dtype)

    def constant(self, value: NDArray[Any], dtype: str | None = None) -> TracedArray:
        node = Node(len(self.nodes), "constant", "constant", (), value.shape, dtype or _name_of(value.dtype))
        self.nodes.append(node)
        return TracedArray(self, node, value)

    def lift(self, x: Any) -> TracedArray:
        return x if isinstance(x, TracedArray) else self.constant(np.asarray(x))

    # pointwise -----------------------------------------------------------------------------------

    def apply(self, word: str, *operands: Any) -> TracedArray:
        """A pointwise operation; Python scalars are weak and cost nothing to read."""
        folded = self._fold(word, operands)
        if folded is not None:
            return folded
        traced = [o for o in operands if isinstance(o, TracedArray)]
        shape = _broadcast(*(o.shape for o in traced))
        operand_dtype = promote(operands)
        dtype = "bool" if word in _RESULT_IS_BOOL else operand_dtype
        work = _division(operands[1], shape, operand_dtype) if word == "divide" else None
        work = work or pointwise(word, math.prod(shape), operand_dtype)
        live, dead = _survives(word, operands, shape)
        return self.record("pointwise", word, traced, shape, dtype, work, live=live, dead=dead)

    def where(self, condition: Any, a: Any, b: Any) -> TracedArray:
        folded = self._fold("where", (condition, a, b))
        if folded is not None:
            return folded
        mask, values = self.lift(condition), [o for o in (a, b) if isinstance(o, TracedArray)]
        shape = _broadcast(mask.shape, *(v.shape for v in values))
        dtype = promote((a, b))
        known_mask = mask.value is not None
        picked = Fraction(int(np.count_nonzero(mask.value)), max(1, mask.size)) if mask.value is not None else WHOLE
        dead = b if known_mask and not isinstance(b, TracedArray) else None
        work = Work() if known_mask else pointwise("where", math.prod(shape), dtype)
        operands = values if known_mask else [*values, mask]
        takes_first = isinstance(a, TracedArray)
        return self.record(
            "pointwise", "where" if takes_first else "where_else", operands, shape, dtype, work,
            live=picked if dead is not None else WHOLE, picked=picked if takes_first else WHOLE, dead=dead,
        )  # fmt: skip

    def pow(self, x: Any, exponent: Any) -> TracedArray:
        if exponent in (2, 2.0):
            return self.apply("square", x)
        return self.apply("sqrt", x) if exponent == 0.5 else self.apply("pow", x, exponent)

    def clip(self, x: Any, min: Any = None, max: Any = None) -> TracedArray:
        return self.apply("clip", x, *(b for b in (min, max) if b is not None))

    def astype(self, x: TracedArray, dtype: str, copy: bool = True, device: Any = None) -> TracedArray:
        if x.value is not None:
            return self.constant(x.value.astype(numpy_dtype(dtype)), dtype)
        return self.record("pointwise", "cast", (x,), x.shape, dtype, live=x.node.live, dead=x.dead)

    # reductions ----------------------------------------------------------------------------------

    def sum(self, x: Any, axis: Axis = None, keepdims: bool = False, dtype: str | None = None) -> TracedArray:
        return self._reduce("sum", x, axis, keepdims, dtype)

    def prod(self, x: Any, axis: Axis = None, keepdims: bool = False, dtype: str | None = None) -> TracedArray:
        return self._reduce("prod", x, axis, keepdims, dtype)

    def max(self, x: Any, axis: Axis = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("max", x, axis, keepdims)

    def min(self, x: Any, axis: Axis = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("min", x, axis, keepdims)

    def any(self, x: Any, axis: Axis = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("any", x, axis, keepdims, "bool")

    def all(self, x: Any, axis: Axis = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("all", x, axis, keepdims, "bool")

    def argmax(self, x: Any, axis: int | None = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("argmax", x, axis, keepdims, "i64")

    def argmin(self, x: Any, axis: int | None = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("argmin", x, axis, keepdims, "i64")

    def mean(self, x: Any, axis: Axis = None, keepdims: bool = False) -> TracedArray:
        total = self.sum(x, axis=axis, keepdims=keepdims)
        return self.apply("divide", total, self.lift(x).size // max(1, total.size))

    def var(self, x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> TracedArray:
        d = x - self.mean(x, axis=axis, keepdims=True)
        total = self.sum(self.apply("square", d), axis=axis, keepdims=keepdims)
        return self.apply("divide", total, d.size // max(1, total.size) - correction)

    def std(self, x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> TracedArray:
        return self.apply("sqrt", self.var(x, axis=axis, keepdims=keepdims, correction=correction))

    def _reduce(self, word: str, x: Any, axis: Axis, keepdims: bool, dtype: str | None = None) -> TracedArray:
        a = self.lift(x)
        if a.value is not None:
            return self.constant(np.asarray(getattr(np, word)(a.value, axis=axis, keepdims=keepdims)))
        shape = _reduced(a.shape, axis, keepdims)
        steps = a.size - math.prod(shape)
        added = word in ("sum", "prod") and is_float(a.dtype)
        work = Work(flops={arithmetic(a.dtype): steps}) if added else Work(compares=steps)
        neutral = {"sum": 0.0, "max": -math.inf, "min": math.inf, "prod": 1.0}
        share = a.node.live if word in neutral and a.dead == neutral[word] else WHOLE
        return self.record("reduce", word, (a,), shape, dtype or a.dtype, work, share=share)

    # contractions --------------------------------------------------------------------------------

    def matmul(self, x1: Any, x2: Any) -> TracedArray:
        a, b = self.lift(x1), self.lift(x2)
        left = a.shape if a.ndim > 1 else (1, *a.shape)
        right = b.shape if b.ndim > 1 else (*b.shape, 1)
        if left[-1] != right[-2]:
            raise TraceError(f"matmul of {a.shape} and {b.shape}: {left[-1]} is not {right[-2]}")
        batch = _broadcast(left[:-2], right[:-2])
        shape = (*batch, *left[-2:-1][: a.ndim > 1], *right[-1:][: b.ndim > 1])
        return self._contract("matmul", a, b, shape, math.prod(batch) * left[-2] * right[-1] * left[-1])

    def tensordot(self, x1: Any, x2: Any, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> TracedArray:
        a, b = self.lift(x1), self.lift(x2)
        if isinstance(axes, int):
            axes = (range(a.ndim - axes, a.ndim), range(axes))
        left, right = {i % a.ndim for i in axes[0]}, {i % b.ndim for i in axes[1]}
        summed = math.prod(a.shape[i] for i in left)
        kept = [n for i, n in enumerate(a.shape) if i not in left]
        shape = (*kept, *(n for i, n in enumerate(b.shape) if i not in right))
        return self._contract("tensordot", a, b, shape, math.prod(shape) * summed)

    def vecdot(self, x1: Any, x2: Any, axis: int = -1) -> TracedArray:
        a, b = self.lift(x1), self.lift(x2)
        shape = _broadcast(a.shape, b.shape)
        return self._contract("vecdot", a, b, _reduced(shape, axis, False), math.prod(shape))

    def _contract(self, word: str, a: TracedArray, b: TracedArray, shape: tuple[int, ...], macs: int) -> TracedArray:
        dtype = promote((a, b))
        share = min((o.node.live for o in (a, b) if o.dead == 0.0), default=WHOLE)
        return self.record("contraction", word, (a, b), shape, dtype, Work(macs={dtype: macs}), share=share)

    # views and movement --------------------------------------------------------------------------

    def reshape(self, x: Any, shape: Sequence[int], copy: bool | None = None) -> TracedArray:
        a = self.lift(x)
        extents = tuple(int(n) for n in shape)
        if -1 in extents:
            rest = math.prod(n for n in extents if n != -1)
            extents = tuple(a.size // rest if n == -1 else n for n in extents)
        if math.prod(extents) != a.size:
            raise TraceError(f"reshape of {a.shape} to {extents}")
        return self._view("reshape", a, extents, lambda v: v.reshape(extents))

    def permute_dims(self, x: Any, axes: Sequence[int]) -> TracedArray:
        a, order = self.lift(x), tuple(axes)
        return self._view("permute", a, tuple(a.shape[i] for i in order), lambda v: np.transpose(v, order))

    def matrix_transpose(self, x: Any) -> TracedArray:
        n = self.lift(x).ndim
        return self.permute_dims(x, (*range(n - 2), n - 1, n - 2))

    def moveaxis(self, x: Any, source: int, destination: int) -> TracedArray:
        order = list(range(self.lift(x).ndim))
        order.insert(destination % len(order), order.pop(source % len(order)))
        return self.permute_dims(x, order)

    def expand_dims(self, x: Any, axis: int = 0) -> TracedArray:
        a = self.lift(x)
        at = axis % (a.ndim + 1)
        return self._view("expand", a, (*a.shape[:at], 1, *a.shape[at:]), lambda v: np.expand_dims(v, axis))

    def squeeze(self, x: Any, axis: int | tuple[int, ...]) -> TracedArray:
        a = self.lift(x)
        return self._view("expand", a, _reduced(a.shape, axis, False), lambda v: np.squeeze(v, axis))

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> TracedArray:
        extents = tuple(shape)
        return self._view("broadcast", self.lift(x), extents, lambda v: np.broadcast_to(v, extents))

    def subscript(self, x: TracedArray, key: Any) -> TracedArray:
        """Basic indexing is a view; an integer array as the only index gathers."""
        if isinstance(key, TracedArray):
            return self.take(x, key, axis=0)
        shape = np.broadcast_to(np.empty(()), x.shape)[key].shape
        expands = math.prod(shape) == x.size
        return self._view("expand" if expands else "slice", x, shape, lambda v: v[key])

    def take(self, x: TracedArray, indices: Any, axis: int = 0) -> TracedArray:
        i, at = self.lift(indices), axis % x.ndim
        return self.record("gather", "take", (x, i), (*x.shape[:at], *i.shape, *x.shape[at + 1 :]), x.dtype)

    def take_along_axis(self, x: TracedArray, indices: Any, axis: int = -1) -> TracedArray:
        i, at = self.lift(indices), axis % x.ndim
        shape = tuple(i.shape[d] if d == at else n for d, n in enumerate(_broadcast_but(x.shape, i.shape, at)))
        return self.record("gather", "take_along_axis", (x, i), shape, x.dtype)

    def concat(self, parts: Sequence[Any], axis: int = 0) -> TracedArray:
        pieces = [self.lift(p) for p in parts]
        first, at = pieces[0].shape, axis % pieces[0].ndim
        joined = sum(p.shape[at] for p in pieces)
        return self.record("copy", "concat", pieces, (*first[:at], joined, *first[at + 1 :]), promote(pieces))

    def stack(self, parts: Sequence[Any], axis: int = 0) -> TracedArray:
        pieces = [self.lift(p) for p in parts]
        at = axis % (pieces[0].ndim + 1)
        shape = (*pieces[0].shape[:at], len(pieces), *pieces[0].shape[at:])
        return self.record("copy", "stack", pieces, shape, promote(pieces))

    def flip(self, x: Any, axis: Axis = None) -> TracedArray:
        a = self.lift(x)
        return self.record("copy", "flip", (a,), a.shape, a.dtype)

    def roll(self, x: Any, shift: Any, axis: Axis = None) -> TracedArray:
        a = self.lift(x)
        return self.record("copy", "roll", (a,), a.shape, a.dtype)

    def tril(self, x: Any, k: int = 0) -> TracedArray:
        return self.where(np.tril(np.ones(self.lift(x).shape[-2:], bool), k), x, 0.0)

    def triu(self, x: Any, k: int = 0) -> TracedArray:
        return self.where(np.triu(np.ones(self.lift(x).shape[-2:], bool), k), x, 0.0)

    def _view(
        self, word: str, a: TracedArray, shape: tuple[int, ...], fold: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> TracedArray:
        if a.value is not None:
            return self.constant(fold(a.value), a.dtype)
        keeps = word != "slice"  # which elements of a slice lie behind the mask is not followed
        live, dead = (a.node.live, a.dead) if keeps else (WHOLE, None)
        return self.record("view", word, (a,), shape, a.dtype, live=live, dead=dead)

    # everything else -----------------------------------------------------------------------------

    def _fold(self, word: str, operands: Sequence[Any]) -> TracedArray | None:
        """Compute an operation on constants; None if an operand is not known or the result is too large."""
        if any(isinstance(o, TracedArray) and o.value is None for o in operands):
            return None
        values: list[Any] = [o.value if isinstance(o, TracedArray) else o for o in operands]
        if math.prod(_broadcast(*(np.shape(v) for v in values))) > FOLD_LIMIT or not hasattr(np, word):
            return None
        with np.errstate(all="ignore"):
            return self.constant(np.asarray(getattr(np, word)(*values)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _API_DTYPES:
            return _API_DTYPES[name]
        if name in COSTS:
            return lambda *operands: self.apply(name, *operands)
        if name in _CREATION:
            return lambda *args, device=None, **kwargs: self._create(name, *args, **kwargs)
        if not callable(getattr(np, name, None)):
            raise AttributeError(f"the array API has no {name!r}; see problems.extra for erf, rsqrt and similar")
        return lambda *args, **kwargs: self._unmodelled(name, args, kwargs)

    def _create(self, name: str, *args: Any, dtype: str | None = None, **kwargs: Any) -> TracedArray:
        if name == "asarray" and args and isinstance(args[0], TracedArray):
            return args[0] if dtype is None else self.astype(args[0], dtype)
        plain = [np.broadcast_to(np.empty(()), a.shape) if isinstance(a, TracedArray) else a for a in args]
        inherited = next((a.dtype for a in args if isinstance(a, TracedArray)), None)
        wanted = dtype or inherited
        value = getattr(np, name)(*plain, **({"dtype": numpy_dtype(wanted)} if wanted else {}), **kwargs)
        return self.constant(value, wanted)

    def _unmodelled(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> TracedArray:
        """Shape and dtype from numpy on zeros; the work stays unknown."""
        traced = [a for a in _flat([*args, *kwargs.values()]) if isinstance(a, TracedArray)]
        if sum(a.size for a in traced) > SHAPE_LIMIT:
            raise TraceError(f"{name} is not modelled, and its arrays are too large to find its result's shape")
        try:
            with np.errstate(all="ignore"):
                result = getattr(np, name)(*_zeros(list(args)), **{k: _zeros(v) for k, v in kwargs.items()})
        except (TypeError, ValueError, IndexError) as error:
            raise TraceError(f"{name} is not modelled, and numpy cannot run it: {error}") from None
        if not isinstance(result, np.ndarray | np.generic):
            raise TraceError(f"{name} is not modelled and does not return an array")
        return self.record("unmodelled", name, traced, result.shape, _name_of(result.dtype))


_CREATION = {
    "arange", "asarray", "empty", "empty_like", "eye", "full", "full_like", "linspace", "ones", "ones_like",
    "zeros", "zeros_like",
}  # fmt: skip


def promote(operands: Iterable[Any]) -> str:
    """Common dtype: the widest float, else the widest integer; Python scalars only turn integers into floats."""
    items = list(operands)
    dtypes = [o.dtype for o in items if isinstance(o, TracedArray)]
    floats = {d for d in dtypes if is_float(d)}
    if floats:
        return floats.pop() if len(floats) == 1 else "f64" if "f64" in floats else "f32"
    if any(isinstance(o, float) for o in items) or not dtypes:
        return "f64"
    return max(dtypes, key=lambda d: (d != "bool", numpy_dtype(d).itemsize))


def _division(divisor: Any, shape: tuple[int, ...], dtype: str) -> Work:
    """A multiplication for each element and a reciprocal for each divisor, which may be one for a whole row."""
    work = pointwise("multiply", math.prod(shape), dtype)
    return replace(work, special=divisor.size) if isinstance(divisor, TracedArray) and work.flops else work


def _survives(word: str, operands: Sequence[Any], shape: tuple[int, ...]) -> tuple[Fraction, float | None]:
    """What is left of a mask's constants after a pointwise operation: (live fraction, their value)."""
    for position, operand in enumerate(operands):
        if isinstance(operand, TracedArray) and operand.dead is not None and operand.size == math.prod(shape):
            dead = _after(word, position, operand.dead, operands)
            if dead is not None:
                return operand.node.live, dead
    return WHOLE, None


def _after(word: str, position: int, dead: float, operands: Sequence[Any]) -> float | None:
    """Value of `word` where operand `position` holds the constant `dead` and the others are finite."""
    scalar = next((o for o in operands if isinstance(o, int | float)), None)
    if dead == -math.inf:
        keeps = word == "add" or (word == "subtract" and position == 0)
        scaled = word in ("multiply", "divide") and scalar is not None and scalar > 0 and position == 0
        return dead if keeps or scaled else 0.0 if word in ("exp", "exp2") else None
    if dead == 0.0:
        return dead if word == "multiply" or (word == "divide" and position == 0) else None
    return None


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise TraceError(f"shapes {', '.join(map(str, shapes))} do not broadcast") from None


def _broadcast_but(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return _broadcast((*a[:axis], 1, *a[axis + 1 :]), (*b[:axis], 1, *b[axis + 1 :]))


def _reduced(shape: tuple[int, ...], axis: Axis, keepdims: bool) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
    dropped = {a % len(shape) for a in axes} if shape else set()
    if keepdims:
        return tuple(1 if i in dropped else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in dropped)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _zeros(value: Any) -> Any:
    if isinstance(value, TracedArray):
        return np.zeros(value.shape, numpy_dtype(value.dtype)) if value.value is None else value.value
    return type(value)(_zeros(v) for v in value) if isinstance(value, list | tuple) else value


def _name_of(dtype: np.dtype[Any]) -> str:
    for name in known():
        if numpy_dtype(name) == dtype:
            return name
    raise TraceError(f"arrays of {dtype} are not modelled")
