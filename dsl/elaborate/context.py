"""The state of one kernel's elaboration: names, the block being filled, facts, and diagnostics."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Severity, Span
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.elaborate.operands import Bound, Ended, Number, Operand, Poison, source_text
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.syntax import Fault, Function, Source, fault, span_of

MAX_STATEMENTS = 5_000
MAX_VALUES = 5_000
MAX_INLINE_DEPTH = 24


Place = Literal["kernel", "tiles", "loop", "if", "inline"]
"""What the statement stands directly in."""


class Silent(Exception):
    """The expression depends on something that was already reported."""


@dataclass
class LoopFrame:
    """A loop being elaborated, and what its variables were used for."""

    kind: ir.LoopKind
    variables: tuple[Symbol, ...]
    step: tuple[Index, ...]
    row_uses: dict[str, ast.AST] = field(default_factory=dict)  # variable -> x[i] with a step that is not 1
    positions: set[str] = field(default_factory=set)  # variables used as a position of a tile


@dataclass
class Context:
    """Everything the elaborator of a kernel body hands around."""

    source: Source
    constants: dict[str, Operand]
    facts: Facts = field(default_factory=Facts)
    arrays: dict[str, ir.Array] = field(default_factory=dict)
    scalars: dict[str, ir.Scalar] = field(default_factory=dict)
    tunables: dict[str, ir.Tunable] = field(default_factory=dict)
    names: dict[str, Bound | Ended] = field(default_factory=dict)
    block: list[ir.Statement] = field(default_factory=list)
    definitions: dict[int, ir.Operation] = field(default_factory=dict)
    loops: list[LoopFrame] = field(default_factory=list)
    calls: tuple[Span, ...] = ()
    inlines: tuple[str, ...] = ()
    diagnostics: list[Diagnostic] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)  # dtype variable -> "float"
    used: set[str] = field(default_factory=set)
    symbol_names: set[str] = field(default_factory=set)
    place: Place = "kernel"
    next_number: int = 0
    statements: int = 0

    # Diagnostics ---------------------------------------------------------------------------------

    def report(self, problem: Fault) -> None:
        """Record an error; the same one is recorded once, however often its line is elaborated."""
        diagnostic = problem.inside(self.calls).diagnostic
        if all((d.code, d.span) != (diagnostic.code, diagnostic.span) for d in self.diagnostics):
            self.diagnostics.append(diagnostic)

    def warn(self, code: str, message: str, node: ast.AST | Span, hint: str, severity: Severity = "warning") -> None:
        problem = fault(code, message, node, hint)
        problem.diagnostic = replace(problem.diagnostic, severity=severity)
        self.report(problem)

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Record a fault and go on behind the block."""
        try:
            yield
        except Fault as problem:
            self.report(problem)
        except Silent:
            pass

    def count_statement(self, node: ast.AST) -> None:
        """Bound the work: `@inline` functions that call each other can grow without end."""
        self.statements += 1
        if self.statements > MAX_STATEMENTS:
            raise self._too_large(f"{MAX_STATEMENTS} statements", node)

    def _too_large(self, what: str, node: ast.AST) -> KernelError:
        message = f"the kernel grows beyond {what} once its @inline calls are expanded"
        hint = "call fewer @inline functions, or turn repeated calls into a loop"
        return KernelError([fault("too-large", message, node, hint).inside(self.calls[:1]).diagnostic])

    # Values --------------------------------------------------------------------------------------

    def origin(self, node: ast.AST) -> ir.Origin:
        return ir.Origin(span_of(node), self.calls)

    def fresh(self, type_: ir.TileType, name: str, origin: ir.Origin) -> ir.Value:
        self.next_number += 1
        return ir.Value(self.next_number, type_, name, origin)

    def emit(self, operation: ir.Operation, dtype: str, shape: live.Shape, node: ast.AST) -> ir.Value:
        """Append `value = operation` to the block; the live positions follow from the operation."""
        if self.next_number >= MAX_VALUES:
            raise self._too_large(f"{MAX_VALUES} values", node)
        try:
            lives = live.live_of(operation, shape, self.facts)
        except live.PartlyLive as problem:
            raise _partly_live(operation, problem.axis, node) from None
        value = self.fresh(ir.TileType(dtype, shape, lives), "", self.origin(node))
        self.block.append(ir.Let(value, operation))
        self.definitions[value.number] = operation
        return value

    def renamed(self, value: ir.Value, name: str) -> ir.Value:
        """Give a value that was just computed, and that nothing reads yet, the author's name."""
        if value.name:
            return value
        for place in range(len(self.block) - 1, -1, -1):
            found = self.block[place]
            if isinstance(found, ir.Let) and found.value.number == value.number:
                value = replace(value, name=name)
                self.block[place] = ir.Let(value, found.operation)
                break
        return value

    def need_float(self, dtype: str) -> None:
        """Arithmetic is done on a dtype variable: it must stand for a float."""
        if not dtypes.is_concrete(dtype):
            self.needs[dtype] = "float"

    @contextmanager
    def nested_block(self, place: Place) -> Iterator[list[ir.Statement]]:
        """Statements emitted inside go to a block of their own."""
        outer, outer_place = self.block, self.place
        self.block, self.place = [], place
        try:
            yield self.block
        finally:
            self.block, self.place = outer, outer_place

    # Names ---------------------------------------------------------------------------------------

    def lookup(self, node: ast.Name) -> Operand:
        found = self.names.get(node.id)
        if isinstance(found, Bound):
            self.used.add(node.id)
            if isinstance(found.operand, Poison):
                raise Silent
            return found.operand
        if isinstance(found, Ended):
            message = f"`{node.id}` {found.reason}"
            raise fault(found.code, message, node, found.hint, bound_at_line=found.span.line)
        if node.id in self.constants:
            return self.constants[node.id]
        raise self.unknown(node)

    def unknown(self, node: ast.Name) -> Fault:
        from kernelagent.dsl.elaborate.habits import unknown_name

        return unknown_name(node, self)

    def bind(self, name: str, operand: Operand, node: ast.AST, kind: str = "local") -> None:
        self.names[name] = Bound(operand, kind, span_of(node), len(self.loops))

    def function(self, name: str) -> Function | None:
        return self.source.functions.get(name)

    def is_loop_symbol(self, symbol: Symbol) -> bool:
        return any(symbol in frame.variables for frame in self.loops)

    def fresh_symbol(self, name: str) -> Symbol:
        """A loop variable; a second loop over the same name gets a name of its own in the IR."""
        taken = self.symbol_names
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        return Symbol(unique, "loop")


def literal_value(operand: Operand) -> float | int | bool | None:
    """The Python number behind a constant operand, else None."""
    from kernelagent.dsl.elaborate.operands import as_condition
    from kernelagent.dsl.index import decide

    match operand:
        case Number(value):
            return value
        case Index():
            return operand.constant
    condition = as_condition(operand)
    return None if condition is None else decide(condition)


def _partly_live(operation: ir.Operation, axis: int, node: ast.AST) -> Fault:
    x = operation.x if isinstance(operation, (ir.Reshape, ir.Take)) else None
    live_axis = x.type.live[axis] if x else None
    what = f"only positions {live_axis.lo} to {live_axis.hi} are live" if live_axis else "it may hold void"
    message = f"axis {axis} of `{source_text(node)}` is rearranged, but {what}; a reshaped axis must be wholly live"
    return fault("reshape-partly-live", message, node, "load with `fill=0`, or write `fill(x, 0)` first")
