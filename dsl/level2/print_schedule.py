"""Device kernel -> level-two text: everything that was decided, named and in order, with the line each came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.normal import normal_form, reserved_names, shared_names, unique
from kernelagent.dsl.level2.print_words import Expressions
from kernelagent.dsl.level2.scopes import Alias, Edges, Walk
from kernelagent.dsl.level2.text import (
    condition_text,
    distribution_text,
    index_text,
    indices_text,
    number_text,
    tuple_text,
)
from kernelagent.dsl.level2.traverse import defined_in
from kernelagent.dsl.schedule import ShapeClass

WIDTH = 118


def print_schedule(kernel: dev.DeviceKernel) -> str:
    """The kernel as level-two text; `parse_schedule` gives its normal form back, up to origins and choices."""
    kernel = normal_form(kernel)
    nested = frozenset(x.number for x in defined_in(kernel) if not x.name)
    labels = _labels_by_name(kernel)
    return _Printer(kernel, nested, Walk(labels, nested).kernel(kernel)).text()


def _labels_by_name(kernel: dev.DeviceKernel) -> dict[int, int]:
    first: dict[str, int] = {}
    return {x.number: first.setdefault(x.name or f"%{x.number}", x.number) for x in defined_in(kernel)}


class _Printer:
    def __init__(self, kernel: dev.DeviceKernel, nested: frozenset[int], edges: Edges) -> None:
        self.kernel, self.edges, self.nested = kernel, edges, nested
        self.names = {x.number: x.name for x in defined_in(kernel)}
        self.layouts: dict[Distribution, str] = {}
        self.taken = {*reserved_names(kernel), *shared_names(kernel), *self.names.values()}
        self.expressions = Expressions(kernel, nested, self.layout)
        self.lines: list[str] = []

    def layout(self, d: Distribution) -> str:
        """The name of a distribution, by its shape."""
        if d not in self.layouts:
            self.layouts[d] = unique("d" + "x".join(map(str, d.shape)), self.taken)
        return self.layouts[d]

    def text(self) -> str:
        if self.kernel.roles:
            self.roles()
        else:
            self.grid(self.kernel.grid, 1)
        body, self.lines = self.lines, []
        self.header()
        return "\n".join([*self.lines, *body, ""])

    def add(self, depth: int, text: str, origin: ir.Origin | None = None) -> None:
        mark = f"  # line {origin.span.line}" if origin is not None else ""
        self.lines.append("    " * depth + text + mark)

    # Header --------------------------------------------------------------------------------------

    def header(self) -> None:
        k = self.kernel
        self.lines += ["edition(1)", "level(2)", ""]
        self.lines += [f"# {' '.join(str(choice).split())}" for choice in k.choices]
        self.lines += ["", "@kernel"] if k.choices else ["@kernel"]
        self.lines += _signature(k)
        words = [k.target, f"threads={k.threads}"] + [f"min_blocks={k.min_blocks}"] * (k.min_blocks != 1)
        down, right = k.grid.together
        words += [f"cluster={k.cluster if right == 1 else f'({down}, {right})'}"] * (k.cluster != 1)
        if _plain_dims(k.arrays) != k.dims:
            words.append(f"dims={tuple_text(k.dims)}")
        self.add(1, f"schedule({', '.join(words)})")
        self.add(1, _shape_class(k.shape_class))
        if k.claims:
            self.add(1, f"claim({', '.join(c.text for c in k.claims)})")
        for d, name in self.layouts.items():
            self.add(1, f"{name} = {distribution_text(d)}")
        for buffer in k.buffers:
            self.add(1, f"{buffer.name} = {_buffer(buffer)}", buffer.origin)
        for barrier in k.barriers:
            self.add(1, f"{barrier.name} = {_barrier(barrier)}", barrier.origin)
        self.lines.append("")

    # Roles and grids -----------------------------------------------------------------------------

    def roles(self) -> None:
        self.block(self.kernel.prologue, 1)
        for role in self.kernel.roles:
            words = [f'"{role.name}"', f"warps=({role.first_warp}, {role.first_warp + role.warps})"]
            words += [f"registers={role.registers}"] * (role.registers is not None)
            self.lines.append("")
            self.add(1, f"with role({', '.join(words)}):")
            self.grid(role.grid, 2)
            self.block(role.after, 2)

    def grid(self, grid: dev.Grid, depth: int) -> None:
        self.add(depth, f"for {_targets(grid.variables)} in {_tiles(grid)}:", grid.origin)
        self.block(grid.body, depth + 1)
        if grid.inner is not None:
            self.grid(grid.inner, depth + 1)
        elif not grid.body:
            self.add(depth + 1, "pass")

    # Statements ----------------------------------------------------------------------------------

    def block(self, body: Sequence[dev.Statement], depth: int) -> None:
        for statement in body:
            match statement:
                case dev.Let(fragment, operation):
                    if fragment.number not in self.nested:
                        text = self.expressions.operation(fragment, operation)
                        self.add(depth, f"{fragment.name} = {text}", fragment.origin)
                case dev.For():
                    self.loop(statement, depth)
                case dev.If():
                    self.branch(statement, depth)
                case _:
                    self.add(depth, self.expressions.effect(statement), statement.origin)

    def loop(self, loop: dev.For, depth: int) -> None:
        self.aliases(self.edges.before[id(loop)], depth)
        one = len(loop.variables) == 1
        bounds = [index_text(b[0]) if one else indices_text(b) for b in (loop.lo, loop.hi, loop.step)]
        bounds += [f"unroll={loop.unroll}"] * (loop.unroll != 1) + _count(loop.counter)
        self.add(depth, f"for {_targets(loop.variables)} in range({', '.join(bounds)}):", loop.origin)
        self.arm(loop.body, self.edges.after[id(loop)], depth + 1)

    def branch(self, branch: dev.If, depth: int) -> None:
        condition = branch.condition
        shown = isinstance(condition, dev.Fragment)
        text = self.expressions.operand(condition) if shown else condition_text(condition)  # type: ignore[arg-type]
        self.add(depth, f"if {text}:", branch.origin)
        then, otherwise = self.edges.arms[id(branch)]
        self.arm(branch.then, then, depth + 1)
        if branch.otherwise or otherwise:
            self.add(depth, "else:")
            self.arm(branch.otherwise, otherwise, depth + 1)

    def arm(self, body: Sequence[dev.Statement], aliases: list[Alias], depth: int) -> None:
        self.block(body, depth)
        self.aliases(aliases, depth)
        if not body and not aliases:
            self.add(depth, "pass")

    def aliases(self, aliases: Iterable[Alias], depth: int) -> None:
        pairs = [(self.names[a.target], self.names[a.source]) for a in aliases]
        if pairs:
            self.add(depth, f"{', '.join(t for t, _ in pairs)} = {', '.join(s for _, s in pairs)}")


# Pieces ----------------------------------------------------------------------------------------------


def _signature(k: dev.DeviceKernel) -> list[str]:
    parts = [(f"{a.name}: {_array_type(a)}", " = None" if a.optional else "") for a in k.arrays]
    for s in k.scalars:
        parts.append((f"{s.name}: {s.dtype}", "" if s.default is None else f" = {number_text(s.default)}"))
    needs_star = any(default and not later for (_, default), (_, later) in pairwise(parts))
    texts = [head + default for head, default in parts]
    if needs_star:
        texts.insert(next(n for n, (_, default) in enumerate(parts) if default), "*")
    head = f"def {k.name}("
    if len(head) + len(", ".join(texts)) + 2 <= WIDTH:
        return [f"{head}{', '.join(texts)}):"]
    return [head, *(f"        {t}," for t in texts), "):"]


def _array_type(a: ir.Array) -> str:
    return f"{a.role}[{', '.join([a.dtype, *map(index_text, a.dims)])}]"


def _plain_dims(arrays: Iterable[ir.Array]) -> tuple[str, ...]:
    """Dims in the order in which the signature names them by themselves."""
    found: dict[str, None] = {}
    for dim in (d for a in arrays for d in a.dims):
        match dim:
            case Index(terms=(((Symbol(name, "dim"),), 1),)):
                found[name] = None
            case _:
                pass
    return tuple(found)


def _shape_class(c: ShapeClass) -> str:
    guards = []
    for g in c.guards:
        guards.append(
            f"{g.kind}({g.subject})" if g.kind == "unit_stride" and not g.value else f"{g.kind}({g.subject}, {g.value})"
        )
    name = f'"{c.name}"'
    return f"shape_class({', '.join([name, *guards])})"


def _buffer(b: dev.SharedBuffer) -> str:
    words = [b.dtype, tuple_text(map(str, b.shape))] + [f"stages={b.stages}"] * (b.stages != 1)
    if b.swizzle is not None:
        words.append(f"swizzle=({b.swizzle.bits}, {b.swizzle.base}, {b.swizzle.shift})")
    words += [f"pad={b.pad}"] * (b.pad != 0) + [f"panel={b.panel}"] * (b.panel != 0) + [f"offset={b.offset}"]
    return f"shared({', '.join(words)})"


def _barrier(b: dev.MBarrier) -> str:
    words = [f"arrivals={b.arrivals}"] + [f"stages={b.stages}"] * (b.stages != 1) + [f"offset={b.offset}"]
    return f"mbarrier({', '.join(words)})"


def _count(counter: Symbol | None) -> list[str]:
    return [] if counter is None else [f"count={counter.name}"]


def _targets(variables: tuple[Symbol, ...]) -> str:
    return ", ".join(v.name for v in variables) or "()"


def _tiles(grid: dev.Grid) -> str:
    words = [indices_text(grid.hi), indices_text(grid.step)]
    if any(at != index(0) for at in grid.lo):
        words.append(f"start={indices_text(grid.lo)}")
    words += [f"raster={grid.raster}"] * (grid.raster != "row") + [f"group={grid.group}"] * (grid.group != 8)
    words += ["persistent=True"] * grid.persistent + _count(grid.counter)
    return f"tiles({', '.join(words)})"
