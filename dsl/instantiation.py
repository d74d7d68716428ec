"""Generic kernel -> concrete kernel: tunables, compile-time constants, dtypes and fixed dims are put in.

Extents are constants afterwards; conditions that became constant are decided, casts that became identities vanish, and
live intervals are derived again, since more can be shown about concrete sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.choices import (
    EffectivePolicy,
    Value,
    check_dtype,
    fixed_dims,
    policies_for,
    refuse,
    remaining_assumes,
    resolve_consts,
    resolve_dims,
    resolve_dtypes,
    resolve_tunables,
    specificity,
)
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import Condition, Index, decide, index, substitute_condition

__all__ = [
    "EffectivePolicy", "check_dtype", "fixed_dims", "instantiate", "operands_of", "policies_for", "resolve_tunables",
    "specificity",
]  # fmt: skip


def instantiate(
    kernel: ir.Kernel,
    dtypes: Mapping[str, str] | None = None,
    tunables: Mapping[str, Value] | None = None,
    consts: Mapping[str, Value] | None = None,
    target: str = "cpu",
    dims: Mapping[str, int] | None = None,
    claims: bool = False,
) -> ir.Kernel:
    """The kernel for these choices. Raises KernelError when a choice is missing, unknown or illegal.

    `dims` fixes dims at compile time; those of `fixed_dims(kernel)` must be among them. `tag` and `expect` are erased
    unless `claims`: they compute nothing.
    """
    chosen = resolve_tunables(kernel, tunables or {}, target)
    constants = resolve_consts(kernel, consts or {})
    concrete = resolve_dtypes(kernel, dtypes or {})
    fixed = resolve_dims(kernel, dims or {})
    values: dict[str, Index] = {n: index(int(v)) for n, v in {**chosen, **constants, **fixed}.items()}
    assumes = remaining_assumes(kernel, values)
    facts = Facts()
    for assume in assumes:
        facts.add(assume)
    work = _Instance(values, concrete, facts, claims)
    body = _without_dead(work.block(kernel.body))
    return replace(
        kernel,
        arrays=tuple(work.array(a) for a in kernel.arrays),
        scalars=tuple(s for s in kernel.scalars if s.dtype != "const"),
        tunables=(),
        dims=tuple(d for d in kernel.dims if d not in fixed),
        dtype_variables=(),
        dtype_needs=(),
        assumes=assumes,
        body=body,
    )


# Substitution ------------------------------------------------------------------------------------


class _Instance:
    """One walk over the body: substitutes, folds, and types every value again."""

    def __init__(
        self, values: Mapping[str, Index], concrete: Mapping[str, str], facts: Facts, claims: bool = False
    ) -> None:
        self.claims = claims
        self.values, self.concrete, self.facts = values, concrete, facts
        self.known: dict[int, ir.Value] = {}  # generic value number -> concrete value

    def index(self, i: Index, span: Span) -> Index:
        try:
            return i.substitute(self.values)
        except ZeroDivisionError:
            raise refuse("division-by-zero", f"`{i}` divides by zero here", span, "choose other values") from None

    def indices(self, items: Iterable[Index], span: Span) -> tuple[Index, ...]:
        return tuple(self.index(i, span) for i in items)

    def dtype(self, name: str) -> str:
        return self.concrete.get(name, name)

    def array(self, array: ir.Array) -> ir.Array:
        return replace(array, dtype=self.dtype(array.dtype), dims=self.indices(array.dims, array.span))

    def extents(self, shape: Iterable[Index], span: Span) -> tuple[Index, ...]:
        result = self.indices(shape, span)
        for extent in result:
            if extent.constant is None or extent.constant < 1:
                hint = "choose values that make it a positive constant"
                raise refuse("extent-range", f"the extent is {extent}", span, hint, value=str(extent))
        return result

    # Statements --------------------------------------------------------------------------------

    def block(self, body: Iterable[ir.Statement]) -> tuple[ir.Statement, ...]:
        result: list[ir.Statement] = []
        for statement in body:
            result += self.statement(statement)
        return tuple(result)

    def statement(self, statement: ir.Statement) -> Sequence[ir.Statement]:
        match statement:
            case ir.Let():
                return self.let(statement)
            case ir.Store(view, start, value, origin):
                span = origin.span
                return [ir.Store(self.view(view, span), self.indices(start, span), self.value(value), origin)]
            case ir.Scatter():
                return [self.scatter(statement)]
            case ir.For():
                return [self.loop(statement)]
            case ir.If():
                return self.branch(statement)
            case ir.Expect(value, dims, start, origin):
                kept = ir.Expect(self.value(value), dims, self.indices(start, origin.span), origin)
                return [kept] if self.claims else []

    def let(self, statement: ir.Let) -> Sequence[ir.Statement]:
        value, span = statement.value, statement.value.origin.span
        dtype, shape = self.dtype(value.type.dtype), self.extents(value.type.shape, span)
        if isinstance(statement.operation, ir.Tag) and not self.claims:
            self.known[value.number] = self.value(statement.operation.x)
            return []
        operation = self.operation(statement.operation, dtype, span)
        if isinstance(operation, ir.Cast | ir.Broadcast | ir.Reshape):
            source = operation.x
            if (source.type.dtype, source.type.shape) == (dtype, shape):
                self.known[value.number] = source
                return []
        try:
            lives = live.live_of(operation, shape, self.facts)
        except live.PartlyLive as problem:
            message = f"axis {problem.axis} is rearranged but not wholly live for these choices"
            raise refuse("reshape-partly-live", message, span, "load with `fill=0` first") from None
        concrete = replace(value, type=ir.TileType(dtype, shape, lives))
        self.known[value.number] = concrete
        return [ir.Let(concrete, operation)]

    def scatter(self, s: ir.Scatter) -> ir.Scatter:
        span = s.origin.span
        indices = self.value(s.indices) if s.indices is not None else None
        view, start = self.view(s.view, span), self.indices(s.start, span)
        return ir.Scatter(view, start, s.axis, indices, self.value(s.value), s.atomic, s.origin)

    def loop(self, loop: ir.For) -> ir.For:
        span = loop.origin.span
        lo, hi = self.indices(loop.lo, span), self.indices(loop.hi, span)
        step = self.extents(loop.step, span)
        starts = [self.value(c.initial) for c in loop.carried]
        inside = [self.retyped(c.inside) for c in loop.carried]
        self.facts.enter(loop.variables, lo, hi)
        body = self.block(loop.body)
        ends = [self.value(c.end) for c in loop.carried]
        self.facts.leave(len(loop.variables))
        results = [self.retyped(c.result) for c in loop.carried]
        carried = tuple(ir.Carried(*parts) for parts in zip(starts, inside, ends, results, strict=True))
        return ir.For(loop.kind, loop.variables, lo, hi, step, carried, body, loop.origin)

    def retyped(self, value: ir.Value) -> ir.Value:
        """A carried value: its live part is what the generic kernel found, in concrete terms."""
        span = value.origin.span
        shape = self.extents(value.type.shape, span)
        lives = tuple(
            ir.Live(self.facts.maximum(self.index(v.lo, span)), self.facts.minimum(self.index(v.hi, span)))
            for v in value.type.live
        )
        concrete = replace(value, type=ir.TileType(self.dtype(value.type.dtype), shape, lives))
        self.known[value.number] = concrete
        return concrete

    def branch(self, branch: ir.If) -> Sequence[ir.Statement]:
        condition = branch.condition
        if isinstance(condition, ir.Value):
            decider: Condition | ir.Value = self.value(condition)
            known = None
        else:
            decider = self.condition(condition, branch.origin.span)
            known = decide(decider)
        if known is not None:
            body = self.block(branch.then if known else branch.otherwise)
            for merged in branch.merged:
                self.known[merged.result.number] = self.value(merged.then if known else merged.otherwise)
            return body
        then, otherwise = self.block(branch.then), self.block(branch.otherwise)
        merged_values = tuple(self.merged(m) for m in branch.merged)
        return [ir.If(decider, then, otherwise, merged_values, branch.origin)]

    def merged(self, merged: ir.Merged) -> ir.Merged:
        then, otherwise = self.value(merged.then), self.value(merged.otherwise)
        lives = live.intersect_all([then.type.live, otherwise.type.live], self.facts)
        result = replace(merged.result, type=ir.TileType(then.type.dtype, then.type.shape, lives))
        self.known[merged.result.number] = result
        return ir.Merged(then, otherwise, result)

    # Operations --------------------------------------------------------------------------------

    def value(self, value: ir.Value) -> ir.Value:
        return self.known[value.number]

    def condition(self, condition: Condition, span: Span) -> Condition:
        try:
            return substitute_condition(condition, self.values)
        except ZeroDivisionError:
            raise refuse("division-by-zero", f"`{condition}` divides by zero here", span, "choose others") from None

    def view(self, view: ir.View, span: Span) -> ir.View:
        axes = tuple(ir.ViewAxis(*self.indices((a.length, a.lo, a.hi), span)) for a in view.axes)
        return ir.View(view.array, self.dtype(view.dtype), axes, self.indices(view.coordinates, span))

    def operation(self, operation: ir.Operation, dtype: str, span: Span) -> ir.Operation:
        match operation:
            case ir.Load(view, start, fill):
                return ir.Load(self.view(view, span), self.indices(start, span), self.literal(fill, dtype, span))
            case ir.Gather(view, start, axis, indices, fill):
                found, at = self.view(view, span), self.indices(start, span)
                return ir.Gather(found, at, axis, self.value(indices), self.literal(fill, dtype, span))
            case ir.Full(value):
                literal = self.literal(value, dtype, span)
                assert literal is not None
                return ir.Full(literal)
            case ir.Fill(x, value):
                literal = self.literal(value, dtype, span)
                assert literal is not None
                return ir.Fill(self.value(x), literal)
            case ir.FromIndex(i):
                return self.from_index(self.index(i, span), dtype, span)
            case ir.FromCondition(condition):
                found_condition = self.condition(condition, span)
                known = decide(found_condition)
                return ir.Full(known) if known is not None else ir.FromCondition(found_condition)
            case ir.Iota(start):
                return ir.Iota(self.index(start, span))
            case ir.ScalarParam():
                return operation
            case ir.Tag(x, dims, start):
                return ir.Tag(self.value(x), dims, self.indices(start, span))
            case ir.Stack(parts):
                return ir.Stack(tuple(self.value(p) for p in parts))
        operands: dict[str, Any] = {n: self.value(v) for n, v in vars(operation).items() if isinstance(v, ir.Value)}
        return replace(operation, **operands)

    def from_index(self, i: Index, dtype: str, span: Span) -> ir.Operation:
        if i.constant is None:
            return ir.FromIndex(i)
        literal = self.literal(i.constant, dtype, span)
        assert literal is not None
        return ir.Full(literal)

    def literal(self, value: float | int | bool | None, dtype: str, span: Span) -> float | int | bool | None:
        if value is None:
            return None
        if not types.represents(value, dtype) or (isinstance(value, float) and not types.is_float(dtype)):
            hint = f"choose a value that {dtype} holds"
            raise refuse("literal-range", f"{value!r} does not fit in {dtype}", span, hint, dtype=dtype)
        return float(value) if types.is_float(dtype) else value


# Dead values -------------------------------------------------------------------------------------


def operands_of(operation: ir.Operation) -> tuple[ir.Value, ...]:
    """The values that an operation reads, in order."""
    if isinstance(operation, ir.Stack):
        return operation.parts
    return tuple(v for v in vars(operation).values() if isinstance(v, ir.Value))


def _without_dead(body: tuple[ir.Statement, ...]) -> tuple[ir.Statement, ...]:
    """Drop values that nothing reads; operations have no effects."""
    used: set[int] = set()
    return _live_statements(body, used)


def _live_statements(body: tuple[ir.Statement, ...], used: set[int]) -> tuple[ir.Statement, ...]:
    kept: list[ir.Statement] = []
    for statement in reversed(body):
        match statement:
            case ir.Let(value, operation):
                if value.number not in used:
                    continue
                used.update(v.number for v in operands_of(operation))
            case ir.Store(value=value) | ir.Expect(value=value):
                used.add(value.number)
            case ir.Scatter(value=value, indices=indices):
                used.update(v.number for v in (value, indices) if v is not None)
            case ir.For(carried=carried):
                used.update(v.number for c in carried for v in (c.initial, c.end))
                statement = replace(statement, body=_live_statements(statement.body, used))
            case ir.If(condition=condition, merged=merged):
                used.update(v.number for m in merged for v in (m.then, m.otherwise))
                if isinstance(condition, ir.Value):
                    used.add(condition.number)
                then = _live_statements(statement.then, used)
                statement = replace(statement, then=then, otherwise=_live_statements(statement.otherwise, used))
        kept.append(statement)
    return tuple(reversed(kept))
