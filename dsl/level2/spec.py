"""The device IR's rules, executable: what every pass may rely on and must keep.

`verify(kernel)` is run by the tests after every step that makes a device kernel. Types, effects and resources are
judged by `rules` and `resources`, which the parser of level-two text uses too; here are the rules about records:
each fragment is defined once, in front of its uses, and read as it was defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.index import Condition, Element, Index, Symbol, condition_indices
from kernelagent.dsl.ir import View, position
from kernelagent.dsl.level2 import resources, roles
from kernelagent.dsl.level2.accesses import check_guards
from kernelagent.dsl.level2.effects import check_grid, check_statement
from kernelagent.dsl.level2.normal import check_writable, shared_names
from kernelagent.dsl.level2.operations import result_type
from kernelagent.dsl.level2.rules import Broken, Machine, check_layout, machine_of, same_layout, type_of
from kernelagent.dsl.level2.traverse import Part, counters, grids, parts, reads


def verify(kernel: dev.DeviceKernel) -> list[str]:
    """Every broken rule, as text; empty for a well-formed kernel."""
    try:
        check_writable(kernel)
    except KernelError as foreign:
        return [foreign.diagnostics[0].message]
    checker = _Checker(kernel, machine_of(kernel))
    checker.resources()
    for part in parts(kernel):
        checker.part(part)
    if not checker.found:
        checker.found += [f"{_where(where)}: {b.message} [{b.code}]" for where, b in roles.broken_rules(kernel)]
    return checker.found


def _where(where: roles.Where) -> str:
    return where if isinstance(where, str) else f"line {where.span.line}"


@dataclass
class _Checker:
    kernel: dev.DeviceKernel
    machine: Machine
    found: list[str] = field(default_factory=list)
    known: dict[int, dev.Fragment] = field(default_factory=dict)  # in scope
    ever: set[int] = field(default_factory=set)
    symbols: set[str] = field(default_factory=set)

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            self.found.append(text)

    def judged(self, where: str, rule: Callable[[], object]) -> None:
        try:
            rule()
        except Broken as broken:
            self.found.append(f"{where}: {broken.message} [{broken.code}]")

    # Resources -----------------------------------------------------------------------------------

    def resources(self) -> None:
        k = self.kernel
        names = shared_names(k)
        self.require(len(set(names)) == len(names), "names of buffers and barriers are unique")
        for barrier in k.barriers:
            self.judged(f"barrier {barrier.name}", lambda b=barrier: roles.check_barrier(k.target, b))  # type: ignore[misc]
        for buffer in k.buffers:
            self.judged(f"buffer {buffer.name}", lambda b=buffer: resources.check_buffer(b))  # type: ignore[misc]
        try:
            machine = resources.check_schedule(k)
        except Broken as broken:
            self.found.append(f"schedule: {broken.message} [{broken.code}]")
            return
        self.judged("schedule", lambda: resources.check_shared_limit(k, machine))
        self.judged("schedule", lambda: resources.check_together(k))
        for a, b in resources.overlapping(k):
            self.judged("buffers", lambda a=a, b=b: resources.check_overlap(k, a, b))  # type: ignore[misc]

    # Statements ----------------------------------------------------------------------------------

    def part(self, part: Part) -> None:
        """Statements that share their names; the next ones see nothing of them."""
        self.symbols = {*self.kernel.dims, *(s.name for s in self.kernel.scalars)}
        self.known, whole = {}, self.machine
        self.machine = whole.of_role(part.role)
        if part.grid is None:
            self.block(part.blocks[0])
        else:
            self.grids(part.grid, {c.name for c in counters(part.grid)})
        self.machine = whole

    def grids(self, outermost: dev.Grid, counted: set[str]) -> None:
        self.require(not counted or bool(self.machine.role), f"{', '.join(counted)} count in roles only")
        self.symbols |= counted
        for grid in grids(outermost):
            self.judged("grid", lambda g=grid: check_grid(g))  # type: ignore[misc]
            self.bounds(grid.variables, (*grid.lo, *grid.hi, *grid.step), "the grid")
            self.symbols |= {v.name for v in grid.variables}
            for statement in grid.body:
                self.statement(statement)

    def bounds(self, variables: tuple[Symbol, ...], parts: Iterable[Index], where: str) -> None:
        self.indices(parts, where)
        for variable in variables:
            self.require(variable.name not in self.symbols, f"{where}: {variable} is a variable already")
            self.require(variable.kind == "loop", f"{where}: {variable} is of kind loop")

    def indices(self, parts: Iterable[Index], where: str, extra: frozenset[str] = frozenset()) -> None:
        for part in parts:
            for atom in part.atoms():
                if isinstance(atom, Symbol):
                    self.require(atom.name in self.symbols or atom.name in extra, f"{where}: {atom} is not in scope")
                elif isinstance(atom, Element):
                    array = self.machine.arrays.get(atom.array)
                    self.require(
                        array is not None and array.role == "In", f"{where}: {atom} is an element of an In array"
                    )

    def block(self, body: tuple[dev.Statement, ...]) -> None:
        outer = dict(self.known)
        for statement in body:
            self.statement(statement)
        self.known = outer

    def statement(self, statement: dev.Statement) -> None:
        where = _place(statement)
        before = len(self.found)
        for x in reads(statement):
            self.use(x, where)
        self.positions(statement, where)
        if len(self.found) == before:
            self.judged(where, lambda: self.rule(statement))
        match statement:
            case dev.Let(fragment, _):
                self.define(fragment, where)
            case dev.For():
                self.loop(statement, where)
            case dev.If():
                self.branch(statement, where)
            case _:
                pass

    def rule(self, statement: dev.Statement) -> None:
        m = self.machine
        match statement:
            case dev.Let(fragment, operation):
                if fragment.layout is not None and fragment.shape:
                    check_layout(m, fragment.layout)
                made = result_type(m, operation, fragment.dtype, fragment.layout)
                self.require(
                    made == type_of(fragment), f"{_place(statement)}: {operation} gives {made}, not {type_of(fragment)}"
                )
            case dev.Copy(layout=layout):
                check_layout(m, layout)
                check_statement(m, statement)
            case _:
                check_statement(m, statement)
        for view, vector in wide_accesses(statement):
            check_guards(self.kernel, view, vector)

    def positions(self, statement: dev.Statement, where: str) -> None:
        view, parts = view_of(statement), [*indices_of(statement)]
        self.indices(parts, where)
        if view is not None:
            own = frozenset(position(axis).name for axis in range(len(view.axes)))
            self.indices(view.coordinates, where, own)
            self.indices([i for a in view.axes for i in (a.length, a.lo, a.hi)], where)

    def define(self, x: dev.Fragment, where: str) -> None:
        self.require(x.number not in self.ever, f"{where}: %{x.number} is defined once")
        self.require(
            (x.layout.shape if x.layout else ()) == x.shape, f"{where}: %{x.number} and its layout have one shape"
        )
        self.ever.add(x.number)
        self.known[x.number] = x

    def use(self, x: dev.Fragment, where: str) -> None:
        known = self.known.get(x.number)
        if known is None:
            self.found.append(f"{where}: %{x.number} ({x.name}) is read where its definition does not dominate")
        else:
            same = (known.dtype, known.shape) == (x.dtype, x.shape) and same_layout(known.layout, x.layout)
            self.require(same, f"{where}: %{x.number} ({x.name}) is read with another type than it is defined with")

    def loop(self, loop: dev.For, where: str) -> None:
        self.bounds(loop.variables, (*loop.lo, *loop.hi, *loop.step), where)
        for c in loop.carried:
            self.use(c.initial, where)
        outer = dict(self.known)
        self.symbols |= {v.name for v in loop.variables}
        for c in loop.carried:
            self.define(c.inside, where)
        for statement in loop.body:
            self.statement(statement)
        for c in loop.carried:
            self.use(c.end, where)
        self.known = outer
        self.symbols -= {v.name for v in loop.variables}
        for c in loop.carried:
            self.define(c.result, where)

    def branch(self, branch: dev.If, where: str) -> None:
        outer = dict(self.known)
        for body, ends in (
            (branch.then, [m.then for m in branch.merged]),
            (branch.otherwise, [m.otherwise for m in branch.merged]),
        ):
            for statement in body:
                self.statement(statement)
            for x in ends:
                self.use(x, where)
            self.known = dict(outer)
        for m in branch.merged:
            self.define(m.result, where)


def _place(statement: dev.Statement) -> str:
    origin = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
    name = f" {statement.fragment.name}" if isinstance(statement, dev.Let) and statement.fragment.name else ""
    return f"line {origin.span.line}: {type(statement).__name__}{name}"


def wide_accesses(statement: dev.Statement) -> list[tuple[View, int]]:
    """Views that the statement accesses in global memory, with the elements of one access."""
    match statement:
        case dev.Let(operation=dev.Load(view=view, vector=vector) | dev.Gather(view=view, vector=vector)):
            return [(view, vector)]
        case dev.Store(view=view, vector=vector) | dev.Copy(view=view, vector=vector):
            return [(view, vector)]
        case _:
            return []


def view_of(statement: dev.Statement) -> View | None:
    match statement:
        case dev.Let(operation=dev.Load(view=view) | dev.Gather(view=view)):
            return view
        case dev.Store(view=view) | dev.Scatter(view=view) | dev.Copy(view=view):
            return view
        case dev.CopyBulk(view=view) | dev.StoreBulk(view=view) | dev.Expectation(view=view):
            return view
        case _:
            return None


def indices_of(statement: dev.Statement) -> Iterable[Index]:
    """Index integers of the statement itself, those of its view aside."""
    match statement:
        case dev.Let(operation=dev.FromIndex(index)) | dev.Let(operation=dev.Positions(index)):
            yield index
        case dev.Let(operation=dev.FromCondition(condition)) | dev.If(condition=condition):
            if not isinstance(condition, dev.Fragment):
                yield from _compared(condition)
        case dev.Let(operation=dev.Load(start=start) | dev.Gather(start=start)):
            yield from start
        case dev.Let(operation=dev.LoadShared(source=source)):
            yield source.stage
        case dev.Let(operation=dev.Mma(a=a, b=b)):
            yield from (x.stage for x in (a, b) if isinstance(x, dev.Shared))
        case dev.Store(start=start) | dev.Scatter(start=start) | dev.Let(operation=dev.Tag(start=start)):
            yield from start
        case dev.Expectation(value=value, start=start):
            yield from start if isinstance(value, dev.Fragment) else (*start, value.stage)
        case dev.StoreShared(target=target):
            yield target.stage
        case dev.Copy(target=target, start=start):
            yield target.stage
            yield from start
        case dev.CopyBulk(target=target, start=start, stage=stage):
            yield from (target.stage, stage, *start)
        case dev.StoreBulk(source=source, start=start):
            yield from (source.stage, *start)
        case dev.Expect(stage=stage) | dev.Arrive(stage=stage):
            yield stage
        case dev.WaitPhase(stage=stage, parity=parity):
            yield from (stage, parity)
        case _:
            pass


def _compared(condition: Condition) -> Iterable[Index]:
    return condition_indices(condition)


__all__ = ["verify"]
