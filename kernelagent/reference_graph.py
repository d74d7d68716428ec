"""A problem's reference as a graph for the verifier: run once on arrays whose sizes are symbols.

What `solar` traces has concrete sizes and no literals, for it counts work; here every operand is kept, so that the
graph means the reference for all sizes.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.problems.dtypes import is_float
from kernelagent.problems.problem import Dim, Problem

Axis = int | tuple[int, ...] | None


class Untraceable(Exception):
    """The reference looks at values or sizes, or uses a function that has no place in the graph."""


def reference_graph(problem: Problem) -> g.ReferenceGraph:
    """The graph of the problem's reference over its dims. Raises Untraceable."""
    xp = Tracer()
    inputs = {t.name: xp.record(g.Input(t.name), (), shape_of(t.dims), t.dtype) for t in problem.inputs}
    scalars = {s.name: xp.record(g.ScalarInput(s.name), (), (), s.dtype) for s in problem.scalars}
    try:
        result = problem.reference(xp, **inputs, **scalars)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, ZeroDivisionError) as reason:
        raise Untraceable(f"the reference does not run on symbolic sizes: {reason}") from None
    parts = result if isinstance(result, tuple | list) else (result,)
    outputs = {t.name: xp.lift(part).number for t, part in zip(problem.outputs, parts, strict=True)}
    return g.ReferenceGraph(tuple(xp.nodes), {n: a.number for n, a in inputs.items()}, outputs)


def shape_of(dims: Sequence[Dim]) -> tuple[Index, ...]:
    """Extents of a tensor: names and arithmetic over them."""
    return tuple(ix.index(d) if isinstance(d, int) else _arithmetic(ast.parse(d, mode="eval").body) for d in dims)


_ARITHMETIC: dict[type, Callable[[Index, Index], Index]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _arithmetic(node: ast.expr) -> Index:
    match node:
        case ast.Name(id=name):
            return ix.symbol(name, "dim")
        case ast.Constant(value=int(value)):
            return ix.index(value)
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_arithmetic(a), _arithmetic(b))
    raise Untraceable(f"a size that is not plain arithmetic: {ast.unparse(node)}")


class SymbolicArray:
    """An array of the trace: shape and dtype, no data."""

    __array_ufunc__ = None  # numpy scalars on the left defer to our reflected operators

    def __init__(self, xp: Tracer, number: int, shape: tuple[Index, ...], dtype: str) -> None:
        self.xp, self.number, self._shape, self.dtype = xp, number, shape, dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        """Extents: ints where they are constant, so that Python code may compute with them."""
        return tuple(n if (c := n.constant) is None else c for n in self._shape)

    @property
    def extents(self) -> tuple[Index, ...]:
        return self._shape

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> Any:
        return math.prod(self.shape, start=1)

    @property
    def T(self) -> SymbolicArray:
        return self.xp.permute_dims(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> SymbolicArray:
        return self.xp.matrix_transpose(self)

    def __getitem__(self, key: Any) -> SymbolicArray:
        return self.xp.subscript(self, key)

    def __matmul__(self, other: Any) -> SymbolicArray:
        return self.xp.matmul(self, other)

    def __rmatmul__(self, other: Any) -> SymbolicArray:
        return self.xp.matmul(other, self)

    def __neg__(self) -> SymbolicArray:
        return self.xp.apply("neg", self)

    def __abs__(self) -> SymbolicArray:
        return self.xp.apply("abs", self)

    def __invert__(self) -> SymbolicArray:
        return self.xp.apply("not", self)

    def __eq__(self, other: object) -> SymbolicArray:  # type: ignore[override]
        return self.xp.apply("eq", self, other)

    def __ne__(self, other: object) -> SymbolicArray:  # type: ignore[override]
        return self.xp.apply("ne", self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise Untraceable("the reference looks at a value, which a symbolic trace has not")

    __int__ = __float__ = __index__ = __bool__


def _binary(word: str) -> Callable[[SymbolicArray, Any], SymbolicArray]:
    return lambda self, other: self.xp.apply(word, self, other)


def _reflected(word: str) -> Callable[[SymbolicArray, Any], SymbolicArray]:
    return lambda self, other: self.xp.apply(word, other, self)


for _name, _word in {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floordiv", "mod": "mod", "pow": "pow",
    "and": "and", "or": "or", "xor": "xor",
}.items():  # fmt: skip
    setattr(SymbolicArray, f"__{_name}__", _binary(_word))
    setattr(SymbolicArray, f"__r{_name}__", _reflected(_word))
for _name in ("lt", "le", "gt", "ge"):
    setattr(SymbolicArray, f"__{_name}__", _binary(_name))

_WORDS = {
    "negative": "neg", "abs": "abs", "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2", "sqrt": "sqrt",
    "rsqrt": "rsqrt", "tanh": "tanh", "erf": "erf", "sin": "sin", "cos": "cos", "floor": "floor", "ceil": "ceil",
    "round": "round", "sigmoid": "sigmoid", "square": "square", "logical_not": "not", "add": "add",
    "subtract": "sub", "multiply": "mul", "divide": "div", "floor_divide": "floordiv", "remainder": "mod",
    "pow": "pow", "maximum": "maximum", "minimum": "minimum", "less": "lt", "less_equal": "le", "greater": "gt",
    "greater_equal": "ge", "equal": "eq", "not_equal": "ne", "logical_and": "and", "logical_or": "or",
    "logical_xor": "xor",
}  # fmt: skip
_BOOLEAN = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "not"})
_DTYPES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint32": "u32", "uint8": "u8", "bool": "bool",
}  # fmt: skip


class Tracer:
    """The `xp` that the reference is given: array-API functions that record nodes."""

    __name__ = "kernelagent.reference_graph"
    inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None

    def __init__(self) -> None:
        self.nodes: list[g.Node] = []

    def record(
        self, operation: g.Operation, operands: Iterable[SymbolicArray], shape: Sequence[Any], dtype: str
    ) -> SymbolicArray:
        extents = tuple(ix.index(n) for n in shape)
        self.nodes.append(g.Node(operation, tuple(o.number for o in operands), extents, dtype))
        return SymbolicArray(self, len(self.nodes) - 1, extents, dtype)

    def lift(self, x: Any) -> SymbolicArray:
        if isinstance(x, SymbolicArray):
            return x
        if isinstance(x, Index):
            return self.record(g.Size(x), (), (), "i64")
        if isinstance(x, bool | int | float):
            return self.record(g.Constant(x), (), (), "weak")
        raise Untraceable(f"the reference uses an array that it made itself: {type(x).__name__}")

    def __getattr__(self, name: str) -> Any:
        if name in _DTYPES:
            return _DTYPES[name]
        if name in _WORDS:
            return lambda *operands: self.apply(_WORDS[name], *operands)
        if name.startswith("__"):
            raise AttributeError(name)
        raise Untraceable(f"`{name}` has no place in the reference graph")

    # pointwise -----------------------------------------------------------------------------------

    def apply(self, word: str, *operands: Any) -> SymbolicArray:
        arrays = [self.lift(o) for o in operands]
        shape = _broadcast([a.extents for a in arrays])
        dtype = "bool" if word in _BOOLEAN else _promote(arrays)
        return self.record(g.Pointwise(word), arrays, shape, dtype)

    def where(self, condition: Any, a: Any, b: Any) -> SymbolicArray:
        arrays = [self.lift(o) for o in (condition, a, b)]
        return self.record(g.Pointwise("where"), arrays, _broadcast([a.extents for a in arrays]), _promote(arrays[1:]))

    def clip(self, x: Any, min: Any = None, max: Any = None) -> SymbolicArray:
        result = self.lift(x)
        if min is not None:
            result = self.apply("maximum", result, min)
        return result if max is None else self.apply("minimum", result, max)

    def astype(self, x: Any, dtype: str, copy: bool = True, device: Any = None) -> SymbolicArray:
        a = self.lift(x)
        return self.record(g.Pointwise("cast"), (a,), a.extents, dtype)

    # reductions ----------------------------------------------------------------------------------

    def _reduce(self, word: Any, x: Any, axis: Axis, keepdims: bool, dtype: str | None = None) -> SymbolicArray:
        a = self.lift(x)
        axes = tuple(range(a.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        dropped = tuple(sorted(i % a.ndim for i in axes))
        kept = [ix.index(1) if i in dropped else n for i, n in enumerate(a.extents) if keepdims or i not in dropped]
        return self.record(g.Reduce(word, dropped, keepdims), (a,), kept, dtype or a.dtype)

    def sum(self, x: Any, axis: Axis = None, keepdims: bool = False, dtype: str | None = None) -> SymbolicArray:
        return self._reduce("sum", x, axis, keepdims, dtype)

    def prod(self, x: Any, axis: Axis = None, keepdims: bool = False, dtype: str | None = None) -> SymbolicArray:
        return self._reduce("prod", x, axis, keepdims, dtype)

    def max(self, x: Any, axis: Axis = None, keepdims: bool = False) -> SymbolicArray:
        return self._reduce("max", x, axis, keepdims)

    def min(self, x: Any, axis: Axis = None, keepdims: bool = False) -> SymbolicArray:
        return self._reduce("min", x, axis, keepdims)

    def any(self, x: Any, axis: Axis = None, keepdims: bool = False) -> SymbolicArray:
        return self._reduce("any", x, axis, keepdims, "bool")

    def all(self, x: Any, axis: Axis = None, keepdims: bool = False) -> SymbolicArray:
        return self._reduce("all", x, axis, keepdims, "bool")

    def _scan(self, word: Any, x: Any, axis: int | None) -> SymbolicArray:
        a = self.lift(x)
        if axis is None and a.ndim != 1:
            raise Untraceable("running sums of several axes without `axis`")
        return self.record(g.Scan(word, (axis or 0) % a.ndim), (a,), a.extents, a.dtype)

    def cumulative_sum(self, x: Any, axis: int | None = None, dtype: str | None = None) -> SymbolicArray:
        return self._scan("sum", x, axis)

    def cumulative_prod(self, x: Any, axis: int | None = None, dtype: str | None = None) -> SymbolicArray:
        return self._scan("prod", x, axis)

    def _count(self, x: Any, axis: Axis) -> Any:
        a = self.lift(x)
        axes = range(a.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        return math.prod((a.shape[i] for i in axes), start=1)

    def mean(self, x: Any, axis: Axis = None, keepdims: bool = False) -> SymbolicArray:
        return self.apply("div", self.sum(x, axis=axis, keepdims=keepdims), self._count(x, axis))

    def var(self, x: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> SymbolicArray:
        d = self.apply("sub", x, self.mean(x, axis=axis, keepdims=True))
        total = self.sum(self.apply("square", d), axis=axis, keepdims=keepdims)
        return self.apply("div", total, self._count(x, axis) - correction)

    def std(self, x: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> SymbolicArray:
        return self.apply("sqrt", self.var(x, axis=axis, keepdims=keepdims, correction=correction))

    # contractions --------------------------------------------------------------------------------

    def matmul(self, x1: Any, x2: Any) -> SymbolicArray:
        a, b = self.lift(x1), self.lift(x2)
        left, right = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
        right[max(b.ndim - 2, 0)] = left[-1]
        batch = _broadcast([a.extents[:-2], b.extents[:-2]])
        first, second = self._stretched(a, batch), self._stretched(b, batch)
        ranks = len(batch)
        left = [*range(ranks), *([100] if a.ndim > 1 else []), 101]
        right = [*range(ranks), 101, *([102] if b.ndim > 1 else [])]
        out = [*range(ranks), *([100] if a.ndim > 1 else []), *([102] if b.ndim > 1 else [])]
        return self._contract(first, second, left, right, out)

    def _stretched(self, a: SymbolicArray, batch: tuple[Index, ...]) -> SymbolicArray:
        return a if a.extents[:-2] == batch else self.broadcast_to(a, (*batch, *a.extents[-2:]))

    def tensordot(self, x1: Any, x2: Any, axes: Any = 2) -> SymbolicArray:
        a, b = self.lift(x1), self.lift(x2)
        if isinstance(axes, int):
            axes = (range(a.ndim - axes, a.ndim), range(axes))
        left, right = list(range(a.ndim)), [100 + i for i in range(b.ndim)]
        summed = [(i % a.ndim, j % b.ndim) for i, j in zip(*axes, strict=True)]
        for i, j in summed:
            right[j] = left[i]
        shared = {i for i, _ in summed}
        return self._contract(a, b, left, right, [n for n in (*left, *right) if n not in shared])

    def vecdot(self, x1: Any, x2: Any, axis: int = -1) -> SymbolicArray:
        return self.sum(self.apply("mul", x1, x2), axis=axis)

    def _contract(
        self, a: SymbolicArray, b: SymbolicArray, left: list[int], right: list[int], out: list[int]
    ) -> SymbolicArray:
        sizes = {**dict(zip(right, b.extents, strict=True)), **dict(zip(left, a.extents, strict=True))}
        operation = g.Contraction(tuple(left), tuple(right), tuple(out))
        return self.record(operation, (a, b), [sizes[n] for n in out], _promote((a, b)))

    # views and movement --------------------------------------------------------------------------

    def reshape(self, x: Any, shape: Sequence[Any], copy: bool | None = None) -> SymbolicArray:
        a = self.lift(x)
        extents = [ix.index(n) for n in shape]
        for axis, extent in enumerate(extents):
            if extent.constant == -1:
                rest = math.prod((n for i, n in enumerate(extents) if i != axis), start=ix.index(1))
                extents[axis] = math.prod(a.extents, start=ix.index(1)) // rest
        return self.record(g.Reshape(), (a,), extents, a.dtype)

    def permute_dims(self, x: Any, axes: Sequence[int]) -> SymbolicArray:
        a = self.lift(x)
        order = tuple(i % a.ndim for i in axes)
        return self.record(g.Permute(order), (a,), [a.extents[i] for i in order], a.dtype)

    def matrix_transpose(self, x: Any) -> SymbolicArray:
        n = self.lift(x).ndim
        return self.permute_dims(x, (*range(n - 2), n - 1, n - 2))

    def moveaxis(self, x: Any, source: int, destination: int) -> SymbolicArray:
        order = list(range(self.lift(x).ndim))
        order.insert(destination % len(order), order.pop(source % len(order)))
        return self.permute_dims(x, order)

    def expand_dims(self, x: Any, axis: int = 0) -> SymbolicArray:
        a = self.lift(x)
        at = axis % (a.ndim + 1)
        return self.subscript(a, (*[slice(None)] * at, None))

    def squeeze(self, x: Any, axis: int | tuple[int, ...]) -> SymbolicArray:
        a = self.lift(x)
        dropped = {i % a.ndim for i in ((axis,) if isinstance(axis, int) else axis)}
        return self.subscript(a, tuple(0 if i in dropped else slice(None) for i in range(a.ndim)))

    def broadcast_to(self, x: Any, shape: Sequence[Any]) -> SymbolicArray:
        a = self.lift(x)
        return self.record(g.Broadcast(), (a,), shape, a.dtype)

    def subscript(self, x: SymbolicArray, key: Any) -> SymbolicArray:
        """Basic indexing; an integer array as the only index gathers."""
        if isinstance(key, SymbolicArray):
            return self.take(x, key, axis=0)
        entries: list[Index | tuple[Index, int]] = []
        inserted: list[int] = []
        shape: list[Index] = []
        for part in _without_ellipsis(key if isinstance(key, tuple) else (key,), x.ndim):
            if part is None:
                inserted.append(len(shape))
                shape.append(ix.index(1))
                continue
            extent = x.extents[len(entries)]
            if isinstance(part, slice):
                start, length, step = _sliced(part, extent)
                entries.append((start, step))
                shape.append(length)
            else:
                entries.append(_position(ix.index(part), extent))
        rest = x.extents[len(entries) :]
        entries += [(ix.index(0), 1)] * len(rest)
        return self.record(g.Subscript(tuple(entries), tuple(inserted)), (x,), (*shape, *rest), x.dtype)

    def take(self, x: SymbolicArray, indices: Any, axis: int = 0) -> SymbolicArray:
        i, at = self.lift(indices), axis % x.ndim
        shape = (*x.extents[:at], *i.extents, *x.extents[at + 1 :])
        return self.record(g.Gather(at, "take"), (x, i), shape, x.dtype)

    def take_along_axis(self, x: SymbolicArray, indices: Any, axis: int = -1) -> SymbolicArray:
        i, at = self.lift(indices), axis % x.ndim
        shape = list(_broadcast([(*x.extents[:at], *x.extents[at + 1 :]), (*i.extents[:at], *i.extents[at + 1 :])]))
        shape.insert(at, i.extents[at])
        return self.record(g.Gather(at, "along"), (x, i), shape, x.dtype)

    def concat(self, parts: Sequence[Any], axis: int = 0) -> SymbolicArray:
        pieces = [self.lift(p) for p in parts]
        at = axis % pieces[0].ndim
        shape = list(pieces[0].extents)
        for piece in pieces[1:]:
            shape[at] = shape[at] + piece.extents[at]
        return self.record(g.Join(at, stacked=False), pieces, shape, _promote(pieces))

    def stack(self, parts: Sequence[Any], axis: int = 0) -> SymbolicArray:
        pieces = [self.lift(p) for p in parts]
        at = axis % (pieces[0].ndim + 1)
        shape = (*pieces[0].extents[:at], ix.index(len(pieces)), *pieces[0].extents[at:])
        return self.record(g.Join(at, stacked=True), pieces, shape, _promote(pieces))

    def _triangle(self, x: Any, k: int, word: str) -> SymbolicArray:
        a = self.lift(x)
        rows, columns = self.arange(a.shape[-2])[:, None], self.arange(a.shape[-1])[None, :]
        return self.where(self.apply(word, columns, self.apply("add", rows, k)), a, 0.0)

    def tril(self, x: Any, k: int = 0) -> SymbolicArray:
        return self._triangle(x, k, "le")

    def triu(self, x: Any, k: int = 0) -> SymbolicArray:
        return self._triangle(x, k, "ge")

    # creation ------------------------------------------------------------------------------------

    def arange(self, start: Any, stop: Any = None, step: int = 1, **_: Any) -> SymbolicArray:
        if step != 1:
            raise Untraceable("arange with a step")
        first, last = (0, start) if stop is None else (start, stop)
        counted = self.record(g.Count(), (), (ix.index(last) - ix.index(first),), "i64")
        return counted if stop is None else self.apply("add", counted, first)

    def full(self, shape: Any, value: Any, dtype: str | None = None, **_: Any) -> SymbolicArray:
        extents = (shape,) if isinstance(shape, int | Index) else tuple(shape)
        found = self.broadcast_to(self.lift(value), extents)
        return found if dtype is None else self.astype(found, dtype)

    def zeros(self, shape: Any, **options: Any) -> SymbolicArray:
        return self.full(shape, 0.0, **options)

    def ones(self, shape: Any, **options: Any) -> SymbolicArray:
        return self.full(shape, 1.0, **options)

    def zeros_like(self, x: Any, **options: Any) -> SymbolicArray:
        return self.full(self.lift(x).extents, 0.0, **options)

    def ones_like(self, x: Any, **options: Any) -> SymbolicArray:
        return self.full(self.lift(x).extents, 1.0, **options)

    def asarray(self, x: Any, dtype: str | None = None, **_: Any) -> SymbolicArray:
        a = self.lift(x)
        return a if dtype is None else self.astype(a, dtype)


def _without_ellipsis(key: tuple[Any, ...], rank: int) -> list[Any]:
    if not any(part is Ellipsis for part in key):
        return list(key)
    at = next(i for i, part in enumerate(key) if part is Ellipsis)
    used = sum(part is not None for part in key) - 1
    return [*key[:at], *[slice(None)] * (rank - used), *key[at + 1 :]]


def _position(i: Index, extent: Index) -> Index:
    return extent + i if i.constant is not None and i.constant < 0 else i


def _sliced(part: slice, extent: Index) -> tuple[Index, Index, int]:
    """(start, length, step) of a slice that lies within the axis."""
    step = 1 if part.step is None else part.step
    if not isinstance(step, int) or step < 1:
        raise Untraceable("a slice with a step that is not a positive constant")
    start = ix.index(0) if part.start is None else _position(ix.index(part.start), extent)
    stop = extent if part.stop is None else _position(ix.index(part.stop), extent)
    return start, ix.cdiv(stop - start, ix.index(step)), step


def _broadcast(shapes: Sequence[Sequence[Index]]) -> tuple[Index, ...]:
    rank = max(len(s) for s in shapes)
    result: list[Index] = []
    for axis in range(-rank, 0):
        extents = [s[axis] for s in shapes if len(s) >= -axis]
        wide = [n for n in extents if n.constant != 1]
        if any(n != wide[0] for n in wide):
            raise Untraceable(f"extents {', '.join(map(str, wide))} do not broadcast")
        result.append(wide[0] if wide else ix.index(1))
    return tuple(result)


def _promote(arrays: Iterable[SymbolicArray]) -> str:
    """A float if any operand is one; which one does not matter over the reals."""
    dtypes = [a.dtype for a in arrays if a.dtype != "weak"]
    return next((d for d in dtypes if is_float(d)), dtypes[0] if dtypes else "f64")
