"""Tile IR -> schedule IR: each anchor (reduction, store, product, carried name) becomes a nest or an atom call.

Values without a buffer are expressed where they are used. Nests are built one per anchor here and merged by
`fuse_nests` afterwards, so this pass decides order and storage only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Atom, Extremum, FloorDiv, Index, Symbol, index, maximum, minimum
from kernelagent.dsl.lower import multiply
from kernelagent.dsl.lower.classify import Block, Facts
from kernelagent.dsl.lower.express import Expressions, array_coordinates, constants, place_data
from kernelagent.dsl.lower.machine import Machine
from kernelagent.dsl.lower.rewrite import operands, walk_expression


@dataclass
class Frame:
    """A statement list under construction."""

    block: Block
    nodes: list[sch.Node] = field(default_factory=list)
    packed: dict[tuple[int, str], sch.Buffer] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()  # loop variables that the list adds


class Builder:
    """One kernel's schedule. `tile_rows` is the row count of the kernel's mma register tile."""

    def __init__(
        self, kernel: ir.Kernel, facts: Facts, machine: Machine, policy: Mapping[str, object], unit_stride: bool
    ) -> None:
        self.kernel = kernel
        self.facts = facts
        self.machine = machine
        self.policy = policy
        self.buffers: dict[int, sch.Buffer] = {}
        self.all_buffers: list[sch.Buffer] = []
        self.choices: list[sch.Choice] = []
        self.frames: list[Frame] = []
        self.symbols = 0
        self.atoms: dict[str, sch.Atom] = {}
        self.unit_stride = unit_stride
        self.natural: set[str] = set()  # loop variables that start at a natural number
        self.in_place: set[int] = set()  # carried ends already standing in the carried buffer

    # Storage ---------------------------------------------------------------------------------------

    def new_buffer(
        self, name: str, dtype: str, shape: tuple[int, ...], origin: ir.Origin, columns: int = 1
    ) -> sch.Buffer:
        """Row-major; rows are padded to whole vectors, and to a multiple of `columns`."""
        layout = sch.row_major(shape, max(columns, self.machine.lanes)) if shape else sch.Layout((), ())
        scalar = prod(shape) == 1
        count = 1 if scalar else self.machine.pad_row(layout.cosize) + max(columns, self.machine.lanes)
        space = "register" if scalar else "l1"
        buffer = sch.Buffer(f"{name}_{len(self.all_buffers)}", dtype, space, layout, count, origin=origin)
        self.all_buffers.append(buffer)
        return buffer

    def buffer_of(self, value: ir.Value) -> sch.Buffer:
        """The buffer of a value, made on first request."""
        if value.number not in self.buffers:
            shape = constants(value.type.shape)
            self.buffers[value.number] = self.new_buffer(clean(value.name), value.type.dtype, shape, value.origin)
        return self.buffers[value.number]

    def expressions(self) -> Expressions:
        return Expressions(self.facts.definition, self.buffers)

    def emit(self, node: sch.Node) -> None:
        self.frames[-1].nodes.append(node)

    # Nests ------------------------------------------------------------------------------------------

    def axes(self, tile: ir.TileType) -> tuple[sch.Axis, ...]:
        made: list[sch.Axis] = []
        for live, extent in zip(tile.live, constants(tile.shape), strict=True):
            made.append(sch.Axis(self.fresh(), extent, live.lo, live.hi))
        return tuple(made)

    def fresh(self) -> Symbol:
        self.symbols += 1
        return Symbol(f"%{self.symbols}", "position")

    def write(self, buffer: sch.Buffer, value: ir.Value, origin: ir.Origin) -> None:
        """buffer = value, elementwise over the live part."""
        axes = self.axes(value.type)
        at = coordinates(axes)
        output = sch.WriteBuffer(buffer, at, self.expressions().of(value, at))
        if isinstance(output.value, sch.Read) and output.value.buffer is buffer:
            return
        self.emit(sch.Nest(axes, (output,), origin))

    def compute(self, value: ir.Value) -> sch.Buffer:
        """Give a virtual value a buffer now."""
        if value.number in self.buffers:
            return self.buffers[value.number]
        expressed = self.expressions()
        axes = self.axes(value.type)
        at = coordinates(axes)
        output = expressed.of(value, at)
        buffer = self.buffer_of(value)
        self.emit(sch.Nest(axes, (sch.WriteBuffer(buffer, at, output),), value.origin))
        return buffer

    # Statements --------------------------------------------------------------------------------------

    def build(self) -> tuple[sch.Node, ...]:
        """The body. Statements in front of the grid are repeated by each of its iterations."""
        before, grid = split_grid(self.kernel.body)
        if grid is None:
            origin = ir.Origin(self.kernel.span)
            body = self.block(self.kernel.body, ())
            return (sch.Loop((), (), (), (), body, True, origin),)
        return (self.grid(grid, before),)

    def enter(self, loop: ir.For) -> None:
        """Remember which variables cannot be negative."""
        for variable, lo in zip(loop.variables, loop.lo, strict=True):
            if is_natural(lo, self.natural):
                self.natural.add(variable.name)

    def grid(self, loop: ir.For, before: tuple[ir.Statement, ...]) -> sch.Loop:
        """A perfect nest of `tiles`: the innermost is parallel, those around it run in order."""
        self.enter(loop)
        inner_before, inner = split_grid(loop.body)
        if inner is not None:
            body: tuple[sch.Node, ...] = (self.grid(inner, (*before, *inner_before)),)
            return sch.Loop(loop.variables, loop.lo, loop.hi, loop.step, body, False, loop.origin)
        body = self.block((*before, *loop.body), self.facts.inner[id(loop)][0])
        return sch.Loop(loop.variables, loop.lo, loop.hi, loop.step, body, True, loop.origin)

    def block(
        self,
        body: Sequence[ir.Statement],
        block: Block,
        carried: tuple[ir.Carried, ...] = (),
        ends: Sequence[tuple[ir.Value, ir.Value]] = (),
        variables: Sequence[Symbol] = (),
    ) -> tuple[sch.Node, ...]:
        """A statement list; `carried` names and the `ends` of an arm are assigned after it."""
        frame = Frame(block, variables=frozenset(v.name for v in variables))
        self.frames.append(frame)
        for statement in body:
            self.statement(statement)
        self.carry(carried)
        for result, end in ends:
            self.write(self.buffers[result.number], end, end.origin)
        self.frames.pop()
        return tuple(frame.nodes)

    def statement(self, statement: ir.Statement) -> None:
        match statement:
            case ir.Let(value, operation):
                self.let(value, operation)
            case ir.Store():
                self.store(statement)
            case ir.Scatter():
                self.scatter(statement)
            case ir.For():
                self.loop(statement)
            case ir.If():
                self.branch(statement)

    def let(self, value: ir.Value, operation: ir.Operation) -> None:
        if value.number not in self.facts.buffered:
            return
        match operation:
            case ir.Reduce(word, x, axis):
                self.reduce(value, word, x, axis)
            case ir.ArgReduce(word, x, axis) | ir.Scan(word, x, axis):
                self.along(value, operation, word, x, axis)
            case ir.Mma():
                multiply.product(self, value, operation)
            case ir.Binary(a=a, b=b) if value.number in self.facts.sums:
                multiply.accumulate(self, value, *((a, b) if b.number in self.facts.deferred else (b, a)))
            case _:
                self.compute(value)

    def reduce(self, value: ir.Value, word: str, x: ir.Value, axis: int) -> None:
        axes = self.axes(x.type)
        at = coordinates(axes)
        source = self.expressions().of(x, at)
        kept = tuple(c for k, c in enumerate(at) if k != axis)
        self.emit(sch.Nest(axes, (sch.ReduceBuffer(self.buffer_of(value), kept, word, source),), value.origin))

    def along(self, value: ir.Value, operation: ir.Operation, word: str, x: ir.Value, axis: int) -> None:
        axes = self.axes(x.type)
        source = self.expressions().of(x, coordinates(axes))
        record = sch.Scan if isinstance(operation, ir.Scan) else sch.ArgReduce
        self.emit(record(word, self.buffer_of(value), source, axes, axis, value.origin))

    # Stores ------------------------------------------------------------------------------------------

    def store(self, store: ir.Store) -> None:
        axes = self.clipped(store.value.type, store.view, store.start, None)
        at = coordinates(axes)
        positions = [s + c for s, c in zip(store.start, at, strict=True)]
        target = array_coordinates(store.view, positions)
        value = self.expressions().of(store.value, at)
        self.emit(sch.Nest(axes, (sch.WriteArray(store.view.array, target, value),), store.origin))

    def clipped(
        self, tile: ir.TileType, view: ir.View, start: tuple[Index, ...], skip: int | None
    ) -> tuple[sch.Axis, ...]:
        """Axes over positions both live in the tile and inside the view."""
        made: list[sch.Axis] = []
        for k, axis in enumerate(self.axes(tile)):
            lo, hi = axis.lo, axis.hi
            if k != skip:
                lo = greater(lo, view.axes[k].lo - start[k], self.natural)
                hi = lesser(hi, view.axes[k].hi - start[k])
            made.append(sch.Axis(axis.symbol, axis.extent, lo, hi))
        return tuple(made)

    def scatter(self, scatter: ir.Scatter) -> None:
        axes = self.clipped(scatter.value.type, scatter.view, scatter.start, scatter.axis)
        if scatter.indices is not None and scatter.axis is not None:
            axes = intersected(axes, scatter.axis, scatter.indices.type.live[0])
        at = coordinates(axes)
        positions = [s + c for s, c in zip(scatter.start, at, strict=True)]
        expressed = self.expressions()
        target: list[Index | sch.Expression] = []
        for coordinate in scatter.view.coordinates:
            if scatter.indices is None or scatter.axis is None:
                target.extend(array_coordinates(replace(scatter.view, coordinates=(coordinate,)), positions))
            else:
                data = expressed.of(scatter.indices, (at[scatter.axis],))
                target.append(place_data(coordinate, positions, scatter.axis, data))
        value = expressed.of(scatter.value, at)
        output = sch.WriteArray(scatter.view.array, tuple(target), value, add=scatter.atomic)
        self.emit(sch.Nest(axes, (output,), scatter.origin))

    # Control -----------------------------------------------------------------------------------------

    def loop(self, loop: ir.For) -> None:
        self.enter(loop)
        for c in loop.carried:
            shape = constants(c.inside.type.shape)
            columns = self.machine.tile_columns if c.end.number in self.facts.sums else 1
            buffer = self.new_buffer(clean(c.inside.name), c.inside.type.dtype, shape, c.inside.origin, columns)
            self.write(buffer, c.initial, loop.origin)
            self.buffers[c.inside.number] = buffer
            self.buffers[c.result.number] = buffer
        body = self.block(loop.body, self.facts.inner[id(loop)][0], carried=loop.carried, variables=loop.variables)
        self.emit(sch.Loop(loop.variables, loop.lo, loop.hi, loop.step, body, False, loop.origin))

    def carry(self, carried: tuple[ir.Carried, ...]) -> None:
        """End of a loop body: every carried buffer takes its new value, all read before any is overwritten."""
        waiting = [c for c in carried if c.end.number not in self.in_place]
        while waiting:
            ready = [c for c in waiting if self.may_overwrite(c, waiting)]
            if not ready:
                self.carry_through_copies(waiting)
                return
            self.write(self.buffers[ready[0].inside.number], ready[0].end, ready[0].end.origin)
            waiting.remove(ready[0])

    def may_overwrite(self, c: ir.Carried, waiting: list[ir.Carried]) -> bool:
        needed = any(self.reads(o.end, c.inside) for o in waiting if o is not c)
        return not needed and self.elementwise(c.end, c.inside)

    def carry_through_copies(self, waiting: list[ir.Carried]) -> None:
        copies: list[tuple[sch.Buffer, ir.Carried]] = []
        for c in waiting:
            shape = constants(c.end.type.shape)
            copies.append((self.new_buffer("next", c.end.type.dtype, shape, c.end.origin), c))
            self.write(copies[-1][0], c.end, c.end.origin)
        for source, c in copies:
            axes = self.axes(c.end.type)
            at = coordinates(axes)
            read = sch.Read(source, at, source.dtype)
            self.emit(sch.Nest(axes, (sch.WriteBuffer(self.buffers[c.inside.number], at, read),), c.end.origin))

    def reads(self, value: ir.Value, buffered: ir.Value) -> bool:
        """Whether computing `value` here would read the buffer of `buffered`."""
        if value.number in self.buffers:
            return self.buffers[value.number] is self.buffers[buffered.number]
        return any(self.reads(x, buffered) for x in operands(self.facts.definition[value.number]))

    def elementwise(self, value: ir.Value, buffered: ir.Value) -> bool:
        """Whether element (i, j) of `value` needs only element (i, j) of `buffered`, so it may overwrite it."""
        at = coordinates(self.axes(value.type))
        target = self.buffers[buffered.number]
        return reads_only_at(self.expressions().of(value, at), target, at)

    def branch(self, branch: ir.If) -> None:
        condition = branch.condition
        test = self.expressions().of(condition, ()) if isinstance(condition, ir.Value) else condition
        for m in branch.merged:
            shape = constants(m.result.type.shape)
            made = self.new_buffer(clean(m.result.name), m.result.type.dtype, shape, m.result.origin)
            self.buffers[m.result.number] = made
        blocks = self.facts.inner[id(branch)]
        then = self.block(branch.then, blocks[0], ends=[(m.result, m.then) for m in branch.merged])
        otherwise = self.block(branch.otherwise, blocks[1], ends=[(m.result, m.otherwise) for m in branch.merged])
        self.emit(sch.Branch(test, then, otherwise, branch.origin))


def coordinates(axes: Sequence[sch.Axis]) -> tuple[Index, ...]:
    """The nest's own coordinates; an axis of extent 1 is at 0 when that is all it can be."""
    return tuple(index(a.symbol) for a in axes)


def clean(name: str) -> str:
    """A C identifier from an author's name."""
    kept = "".join(ch if ch.isalnum() and ch.isascii() else "_" for ch in name)
    return kept if kept and not kept[0].isdigit() else f"v{kept}"


def split_grid(body: Sequence[ir.Statement]) -> tuple[tuple[ir.Statement, ...], ir.For | None]:
    """The statements in front of the `tiles` loop, and that loop."""
    for k, statement in enumerate(body):
        if isinstance(statement, ir.For) and statement.kind == "tiles":
            return tuple(body[:k]), statement
    return tuple(body), None


def greater(a: Index, b: Index, natural: Set[str] = frozenset()) -> Index:
    """max(a, b); `natural` names the loop variables that are never negative."""
    return a if a == b or is_natural(a - b, natural) else maximum(a, b)


def is_natural(value: Index, natural: Set[str]) -> bool:
    """Whether a value is known not to be negative: sums of products of sizes and of `natural` variables."""
    return all(c >= 0 and all(_natural_atom(a, natural) for a in monomial) for monomial, c in value.terms)


def _natural_atom(atom: Atom, natural: Set[str]) -> bool:
    match atom:
        case Symbol(name, kind):
            return kind == "dim" or name in natural
        case Extremum("min", a, b):
            return is_natural(a, natural) and is_natural(b, natural)
        case Extremum("max", a, b):
            return is_natural(a, natural) or is_natural(b, natural)
        case FloorDiv(a, b):
            return is_natural(a, natural) and is_natural(b, natural)
        case _:
            return False


def lesser(a: Index, b: Index) -> Index:
    """min(a, b), not repeating a minimum that `a` already contains."""
    return a if a == b or contains_minimum(a, b) else minimum(a, b)


def contains_minimum(a: Index, b: Index) -> bool:
    """Whether `a` is min(..., b, ...)."""
    if len(a.terms) != 1 or a.terms[0][1] != 1 or len(a.terms[0][0]) != 1:
        return False
    atom = a.terms[0][0][0]
    if not (isinstance(atom, Extremum) and atom.which == "min"):
        return False
    return b in (atom.a, atom.b) or contains_minimum(atom.a, b) or contains_minimum(atom.b, b)


def intersected(axes: tuple[sch.Axis, ...], which: int, live: ir.Live) -> tuple[sch.Axis, ...]:
    axis = axes[which]
    narrowed = replace(axis, lo=greater(axis.lo, live.lo), hi=lesser(axis.hi, live.hi))
    return (*axes[:which], narrowed, *axes[which + 1 :])


def reads_only_at(expression: sch.Expression, buffer: sch.Buffer, at: tuple[Index, ...]) -> bool:
    return all(
        e.coordinates == at for e in walk_expression(expression) if isinstance(e, sch.Read) and e.buffer is buffer
    )
