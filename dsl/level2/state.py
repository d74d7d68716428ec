"""The state of one level-two text's parse: names, the block being filled, and where each argument stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.dsl.dtypes import DTYPES
from kernelagent.dsl.elaborate import operands as level1
from kernelagent.dsl.elaborate.context import Context, Silent
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.index import AllOf, AnyOf, Compare, Index, Negation
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.effects import check_statement
from kernelagent.dsl.level2.operations import result_type
from kernelagent.dsl.level2.rules import Broken, Machine, Type
from kernelagent.dsl.level2.words import WORDS2
from kernelagent.dsl.syntax import Fault, fault, span_of


@dataclass(frozen=True)
class Phased:
    """A barrier with phases. `stage` None: none was named."""

    barrier: str
    stage: Index | None


Operand: TypeAlias = (
    Index | level1.Number | Compare | AllOf | AnyOf | Negation | dev.Fragment | dev.Shared | ir.View | Distribution
    | Phased | level1.DTypeName | level1.Word | level1.Poison | tuple["Operand", ...]
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A name of a loop or arm that is over."""

    reason: str


@dataclass
class State:
    """`base` knows dims, arrays and scalars and evaluates index integers as level one does."""

    base: Context
    machine: Machine
    names: dict[str, Operand | Ended] = field(default_factory=dict)
    block: list[dev.Statement] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    count: int = 0
    loops: int = 0

    # Diagnostics ---------------------------------------------------------------------------------

    def report(self, problem: Fault) -> None:
        if all((d.code, d.span) != (problem.diagnostic.code, problem.diagnostic.span) for d in self.diagnostics):
            self.diagnostics.append(problem.diagnostic)

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Record a fault and go on behind the block."""
        try:
            yield
        except Fault as problem:
            self.report(problem)
        except Silent:
            pass

    # Fragments -----------------------------------------------------------------------------------

    def fresh(self, name: str, made: Type, origin: ir.Origin) -> dev.Fragment:
        self.count += 1
        return dev.Fragment(self.count, name, made.dtype, made.shape, made.layout, origin)

    def emit(
        self,
        operation: dev.Operation,
        node: ast.expr,
        nodes: dict[str, ast.expr],
        dtype: str | None = None,
        layout: Distribution | None = None,
    ) -> dev.Fragment:
        """Append `fragment = operation`; its type follows from the rules. `nodes` holds the places of arguments."""
        with placed(node, nodes):
            made = result_type(self.machine, operation, dtype, layout)
        fragment = self.fresh("", made, ir.Origin(span_of(node)))
        self.block.append(dev.Let(fragment, operation))
        return fragment

    def effect(self, statement: dev.Statement, node: ast.AST, nodes: dict[str, ast.expr]) -> None:
        with placed(node, nodes):
            check_statement(self.machine, statement)
        self.block.append(statement)

    def named(self, fragment: dev.Fragment, name: str) -> dev.Fragment:
        """Give the author's name to a fragment that was just computed."""
        if fragment.name:
            return fragment
        for place in range(len(self.block) - 1, -1, -1):
            let = self.block[place]
            if isinstance(let, dev.Let) and let.fragment.number == fragment.number:
                fragment = replace(fragment, name=name)
                self.block[place] = dev.Let(fragment, let.operation)
                break
        return fragment

    @contextmanager
    def nested_block(self) -> Iterator[list[dev.Statement]]:
        outer, self.block = self.block, []
        try:
            yield self.block
        finally:
            self.block = outer

    # Names ---------------------------------------------------------------------------------------

    def lookup(self, node: ast.Name) -> Operand | None:
        """What a name of this text means; None if level one's tables must know it."""
        found = self.names.get(node.id)
        if isinstance(found, Ended):
            hint = "bind it in front of the loop or `if`, and rebind it inside"
            raise fault("ended-with-loop", f"`{node.id}` {found.reason}", node, hint)
        if isinstance(found, level1.Poison):
            raise Silent
        return found

    def unknown(self, node: ast.Name) -> Fault:
        known = [*self.names, *self.base.names, *WORDS2, *DTYPES]
        close = nearest(node.id, known)
        hint = f"did you mean `{close}`?" if close else "bind it first, or see the list of words of level two"
        message = f"`{node.id}` is not a word of level two and not a name of this kernel"
        return fault("unknown-word", message, node, hint, nearest=close)


@contextmanager
def placed(node: ast.AST | Span, nodes: dict[str, ast.expr]) -> Iterator[None]:
    """A broken rule inside becomes a diagnostic at the argument it names, else at the whole."""
    try:
        yield
    except Broken as broken:
        at = nodes.get(broken.part, node)
        raise fault(broken.code, broken.message, at, broken.hint, **broken.facts) from None
