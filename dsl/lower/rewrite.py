"""Generic walks and rewrites of tile IR statements and of schedule expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Condition, Index, substitute_condition


def operands(operation: ir.Operation) -> tuple[ir.Value, ...]:
    """The values that an operation reads."""
    match operation:
        case ir.Gather(indices=indices):
            return (indices,)
        case ir.Unary(x=x) | ir.Cast(x) | ir.Broadcast(x) | ir.ExpandDims(x=x) | ir.Reshape(x) | ir.Permute(x=x):
            return (x,)
        case ir.Fill(x=x) | ir.Reduce(x=x) | ir.ArgReduce(x=x) | ir.Scan(x=x) | ir.Take(x=x) | ir.Tag(x=x):
            return (x,)
        case ir.Binary(a=a, b=b) | ir.Mma(a=a, b=b):
            return (a, b)
        case ir.Where(condition, a, b):
            return (condition, a, b)
        case ir.Stack(parts):
            return parts
        case _:
            return ()


def map_operands(operation: ir.Operation, change: Callable[[ir.Value], ir.Value]) -> ir.Operation:
    """The operation with each operand replaced."""
    match operation:
        case ir.Gather(indices=indices):
            return replace(operation, indices=change(indices))
        case ir.Unary(x=x) | ir.Cast(x) | ir.Broadcast(x) | ir.ExpandDims(x=x) | ir.Reshape(x) | ir.Permute(x=x):
            return replace(operation, x=change(x))
        case ir.Fill(x=x) | ir.Reduce(x=x) | ir.ArgReduce(x=x) | ir.Scan(x=x) | ir.Take(x=x) | ir.Tag(x=x):
            return replace(operation, x=change(x))
        case ir.Binary(a=a, b=b) | ir.Mma(a=a, b=b):
            return replace(operation, a=change(a), b=change(b))
        case ir.Where(condition, a, b):
            return ir.Where(change(condition), change(a), change(b))
        case ir.Stack(parts):
            return ir.Stack(tuple(change(p) for p in parts))
        case _:
            return operation


def statement_values(statement: ir.Statement) -> tuple[ir.Value, ...]:
    """Values that a statement reads itself, not those its body reads."""
    match statement:
        case ir.Let(_, operation):
            return operands(operation)
        case ir.Store(value=value) | ir.Expect(value=value):
            return (value,)
        case ir.Scatter(value=value, indices=indices):
            return (value,) if indices is None else (value, indices)
        case ir.For(carried=carried):
            return tuple(v for c in carried for v in (c.initial, c.end))
        case ir.If(condition=condition, merged=merged):
            arms = tuple(v for m in merged for v in (m.then, m.otherwise))
            return (*arms, condition) if isinstance(condition, ir.Value) else arms


def bodies(statement: ir.Statement) -> tuple[tuple[ir.Statement, ...], ...]:
    match statement:
        case ir.For(body=body):
            return (body,)
        case ir.If(then=then, otherwise=otherwise):
            return (then, otherwise)
        case _:
            return ()


def walk_statements(body: tuple[ir.Statement, ...]) -> Iterator[ir.Statement]:
    for statement in body:
        yield statement
        for inner in bodies(statement):
            yield from walk_statements(inner)


def map_values(body: tuple[ir.Statement, ...], change: Callable[[ir.Value], ir.Value]) -> tuple[ir.Statement, ...]:
    """Replace every value that is read."""
    return tuple(_map_statement(s, change) for s in body)


def _map_statement(statement: ir.Statement, change: Callable[[ir.Value], ir.Value]) -> ir.Statement:
    match statement:
        case ir.Let(value, operation):
            return ir.Let(value, map_operands(operation, change))
        case ir.Store(value=value) | ir.Expect(value=value):
            return replace(statement, value=change(value))
        case ir.Scatter(value=value, indices=indices):
            return replace(statement, value=change(value), indices=None if indices is None else change(indices))
        case ir.For(carried=carried, body=body):
            kept = tuple(replace(c, initial=change(c.initial), end=change(c.end)) for c in carried)
            return replace(statement, carried=kept, body=map_values(body, change))
        case ir.If(condition=condition, then=then, otherwise=otherwise, merged=merged):
            return replace(
                statement,
                condition=change(condition) if isinstance(condition, ir.Value) else condition,
                then=map_values(then, change),
                otherwise=map_values(otherwise, change),
                merged=tuple(replace(m, then=change(m.then), otherwise=change(m.otherwise)) for m in merged),
            )


# Expressions -------------------------------------------------------------------------------------


def children(expression: sch.Expression) -> tuple[sch.Expression, ...]:
    match expression:
        case sch.Apply(arguments=arguments):
            return arguments
        case sch.Fetch(coordinates=coordinates):
            return tuple(c for c in coordinates if not isinstance(c, Index))
        case _:
            return ()


def walk_expression(expression: sch.Expression, seen: set[int] | None = None) -> Iterator[sch.Expression]:
    """Every node of the DAG once."""
    seen = set() if seen is None else seen
    if id(expression) in seen:
        return
    seen.add(id(expression))
    yield expression
    for child in children(expression):
        yield from walk_expression(child, seen)


Replacement = Callable[[sch.Read], "sch.Expression | None"]


class Substitution:
    """Renames index symbols in expressions and replaces buffer reads; sharing is kept."""

    def __init__(self, symbols: Mapping[str, Index], reads: Replacement = lambda _: None) -> None:
        self.symbols = symbols
        self.reads = reads
        self.memo: dict[int, tuple[sch.Expression, sch.Expression]] = {}  # the key's object is kept alive

    def index(self, index: Index) -> Index:
        return index.substitute(self.symbols) if self.symbols else index

    def bound(self, bound: sch.Bound) -> sch.Bound:
        return sch.Bound(self.index(bound.index), self.index(bound.lo), self.index(bound.hi))

    def expression(self, expression: sch.Expression) -> sch.Expression:
        known = self.memo.get(id(expression))
        if known is None:
            known = (expression, self._apply(expression))
            self.memo[id(expression)] = known
        return known[1]

    def coordinates(self, coordinates: tuple[Index | sch.Expression, ...]) -> tuple[Index | sch.Expression, ...]:
        return tuple(self.index(c) if isinstance(c, Index) else self.expression(c) for c in coordinates)

    def _apply(self, expression: sch.Expression) -> sch.Expression:
        match expression:
            case sch.Constant() | sch.Parameter():
                return expression
            case sch.Position(index, dtype):
                return sch.Position(self.index(index), dtype)
            case sch.Truth(condition, dtype):
                return sch.Truth(self._condition(condition), dtype)
            case sch.Read(buffer, coordinates, dtype):
                read = sch.Read(buffer, tuple(self.index(c) for c in coordinates), dtype)
                return self.reads(read) or read
            case sch.Fetch(array, coordinates, dtype, inside, fill):
                bounds = tuple(self.bound(b) for b in inside)
                return sch.Fetch(array, self.coordinates(coordinates), dtype, bounds, fill)
            case sch.Apply(word, arguments, dtype):
                return sch.Apply(word, tuple(self.expression(a) for a in arguments), dtype)

    def _condition(self, condition: Condition) -> Condition:
        return substitute_condition(condition, self.symbols) if self.symbols else condition


def map_output(output: sch.Output, substitution: Substitution) -> sch.Output:
    if isinstance(output, sch.Prefetch):
        return replace(output, coordinates=tuple(substitution.index(c) for c in output.coordinates))
    if isinstance(output, sch.WritePairs):
        at = tuple(substitution.index(c) for c in output.coordinates)
        even, odd = (substitution.expression(v) for v in output.values)
        return sch.WritePairs(output.array, at, (even, odd))
    value = substitution.expression(output.value)
    if isinstance(output, sch.WriteArray):
        inside = tuple(substitution.bound(b) for b in output.inside)
        return replace(output, coordinates=substitution.coordinates(output.coordinates), value=value, inside=inside)
    return replace(output, coordinates=tuple(substitution.index(c) for c in output.coordinates), value=value)


def output_expressions(output: sch.Output) -> Iterator[sch.Expression]:
    """Every expression node below an output."""
    if isinstance(output, sch.Prefetch):
        return
    if isinstance(output, sch.WritePairs):
        seen: set[int] = set()
        yield from walk_expression(output.values[0], seen)
        yield from walk_expression(output.values[1], seen)
        return
    yield from walk_expression(output.value)
    for coordinate in output.coordinates:
        if not isinstance(coordinate, Index):
            yield from walk_expression(coordinate)
