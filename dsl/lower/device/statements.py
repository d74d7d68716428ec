"""Statements of the tile IR -> device statements: stores, branches, loops and the rings that feed products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Compare, Index, Symbol, cdiv, index, maximum, minimum
from kernelagent.dsl.lanes import Distribution, Mode, normal, same, striped
from kernelagent.dsl.lower.device.build import Builder, Ring, Scope, access_text
from kernelagent.dsl.lower.device.place_values import elements, extents, only, view_axis
from kernelagent.dsl.lower.device.stage import Staged
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES
from kernelagent.dsl.lower.rewrite import operands, walk_statements
from kernelagent.dsl.lower.unsupported import Unsupported

STAGES = 3
"""Of a ring where no policy says more: two copies in flight cover the latency of global memory."""
SECTOR_BYTES = 32
"""What one request to global memory moves at least."""


@dataclass(frozen=True)
class Ahead:
    """An iteration of a loop: whether it exists, and what its variables are."""

    exists: Compare
    at: Mapping[str, Index]


class Lowering(Builder):
    """The whole kernel, statement by statement."""

    def block(self, body: Sequence[ir.Statement], ring: Ring | None = None) -> Scope:
        """The statements in a scope of their own, which is returned still open for what must follow."""
        scope = Scope(ring=ring)
        self.scopes.append(scope)
        for statement in body:
            self.statement(statement)
        return scope

    def statement(self, statement: ir.Statement) -> None:
        match statement:
            case ir.Let(value, operation):
                self.let_statement(statement, value, operation)
            case ir.Store():
                self.store(statement)
            case ir.Scatter():
                self.scatter(statement)
            case ir.For():
                self.loop(statement)
            case ir.If():
                self.branch(statement)

    def let_statement(self, let: ir.Let, value: ir.Value, operation: ir.Operation) -> None:
        self.definitions[value.number] = operation
        if value.number in self.plan.unheld:
            self.stage_here(let)
        elif value.number in self.deferred:
            pass
        elif isinstance(operation, ir.Binary) and (mma := self.accumulates(operation)):
            product, acc = mma
            layout = self.plan.products[product.number].result
            inner = self.definitions[product.number]
            assert isinstance(inner, ir.Mma)
            self.hold(value, self.product(replace(product, name=value.name), inner, self.get(acc, layout)))
        else:
            self.hold(value, self.compute(value, operation, self.home(value)))

    def hold(self, value: ir.Value, fragment: dev.Fragment) -> None:
        self.remember(value, fragment)
        home = self.home(value)
        if home is not None and fragment.layout is not None and not same(home, fragment.layout):
            self.remember(value, self.convert(fragment, home))

    def accumulates(self, operation: ir.Binary) -> tuple[ir.Value, ir.Value] | None:
        """(product, other operand) when this adds a deferred product."""
        for product, acc in ((operation.b, operation.a), (operation.a, operation.b)):
            if product.number in self.deferred:
                return product, acc
        return None

    def stage_here(self, let: ir.Let) -> None:
        """A staged load outside its ring is copied where the text loads it."""
        number = let.value.number
        if any(s.ring is not None and number in s.ring.buffers for s in self.scopes):
            return
        for operand in self.plan.operands.values():
            if operand.staged.load.value.number == number:
                self.stage_once(operand.staged)
                return

    # Stores ------------------------------------------------------------------------------------------

    def store(self, store: ir.Store) -> None:
        layout = self.store_layout(store)
        value = self.get(store.value, layout)
        view = restricted(store.view, store.start, store.value.type, None)
        wide = self.width(view, store.start, layout) if layout is not None else 1
        if store.value.type.rank > 1:
            self.note(f"store to {view.array}", access_text(wide, view.dtype), self.why_width(wide), store.origin)
        self.emit(dev.Store(view, store.start, value, store.origin, wide))

    def store_layout(self, store: ir.Store) -> Distribution | None:
        """The value's own layout if it writes whole sectors (whole 16-byte pieces where alignment allows), else the
        blocked one."""
        home = self.home(store.value)
        if home is None:
            return None
        size = bits(store.value.type.dtype)
        axis = view_axis(store.view)
        best = striped(extents(store.value), self.plan.threads, max(1, ACCESS_BYTES * 8 // size), axis)
        possible = self.width(store.view, store.start, best) if axis == len(home.shape) - 1 else 1
        own = self.width(store.view, store.start, home)
        enough = SECTOR_BYTES * 8 // size
        if elements(store.value) < 2 * self.plan.threads or (own >= possible and run_along(home, axis) >= enough):
            return home
        if own < possible or run_along(home, axis) < min(enough, extents(store.value)[axis]):
            return best
        return home

    def scatter(self, scatter: ir.Scatter) -> None:
        home = self.home(scatter.value)
        value = self.get(scatter.value, home)
        if scatter.indices is None or scatter.axis is None:
            view = restricted(scatter.view, scatter.start, scatter.value.type, None)
            self.emit(dev.Store(view, scatter.start, value, scatter.origin, 1, scatter.atomic))
            return
        assert home is not None
        view = restricted(scatter.view, scatter.start, scatter.value.type, scatter.axis)
        line = only(home, scatter.axis)
        indices = self.get(scatter.indices, line)
        for live in (scatter.indices.type.live[0], scatter.value.type.live[scatter.axis]):
            indices = self.masked(indices, (live,), -1)  # void rows go nowhere
        self.emit(dev.Scatter(view, scatter.start, scatter.axis, indices, value, scatter.origin, scatter.atomic))

    # Control -----------------------------------------------------------------------------------------

    def branch(self, branch: ir.If) -> None:
        condition = branch.condition
        test = self.get(condition, None) if isinstance(condition, ir.Value) else condition
        then = self.block(branch.then)
        ends = [self.get(m.then, self.home(m.result)) for m in branch.merged]
        self.scopes.pop()
        otherwise = self.block(branch.otherwise)
        others = [self.get(m.otherwise, self.home(m.result)) for m in branch.merged]
        self.scopes.pop()
        merged: list[dev.Merged] = []
        for m, a, b in zip(branch.merged, ends, others, strict=True):
            result = self.fresh(m.result.name, m.result.type.dtype, a.shape, a.layout, m.result.origin)
            merged.append(dev.Merged(a, b, result))
            self.remember(m.result, result)
        made = dev.If(test, tuple(then.body), tuple(otherwise.body), tuple(merged), branch.origin)
        self.emit(made)

    def loop(self, loop: ir.For) -> None:
        self.plan.multiples.enter(loop.variables, loop.lo, loop.step)
        self.defer_products(loop.body)
        staged = self.staged_in(loop)
        carried = [self.enter_carried(c) for c in loop.carried]
        if not staged:
            scope = self.block(loop.body)
            made = self.closed(loop, loop.variables, loop.lo, loop.hi, loop.step, scope, carried)
            self.emit(replace(made, unroll=self.unroll(loop)))
        else:
            self.ring(loop, staged, carried)
        for c, (_, inside) in zip(loop.carried, carried, strict=True):
            self.remember(c.result, self.results[inside.number])

    def unroll(self, loop: ir.For) -> int:
        """How often the compiler repeats the body of a loop: once, unless policy says more."""
        times = self.plan.policy.integer("unroll", 1)
        if times > 1:
            self.note("unroll", str(times), "policy", loop.origin)
        return times

    def enter_carried(self, c: ir.Carried) -> tuple[dev.Fragment, dev.Fragment]:
        layout = self.home(c.inside)
        initial = self.get(c.initial, layout)
        inside = self.fresh(c.inside.name, c.inside.type.dtype, initial.shape, initial.layout, c.inside.origin)
        self.remember(c.inside, inside)
        return initial, inside

    def closed(
        self,
        loop: ir.For,
        variables: tuple[Symbol, ...],
        lo: tuple[Index, ...],
        hi: tuple[Index, ...],
        step: tuple[Index, ...],
        scope: Scope,
        carried: list[tuple[dev.Fragment, dev.Fragment]],
    ) -> dev.For:
        """The loop around an open scope, which is closed."""
        records: list[dev.Carried] = []
        for c, (initial, inside) in zip(loop.carried, carried, strict=True):
            end = self.get(c.end, inside.layout)
            result = self.fresh(c.result.name, inside.dtype, inside.shape, inside.layout, c.result.origin)
            self.results[inside.number] = result
            records.append(dev.Carried(initial, inside, end, result))
        self.scopes.pop()
        return dev.For(variables, lo, hi, step, tuple(records), tuple(scope.body), loop.origin)

    def defer_products(self, body: Sequence[ir.Statement]) -> None:
        """Products that are only added to something accumulate there."""
        lets = {s.value.number: s.operation for s in body if isinstance(s, ir.Let)}
        readers: dict[int, int] = {}
        for statement in walk_statements(tuple(body)):
            for v in operands(statement.operation) if isinstance(statement, ir.Let) else _read(statement):
                readers[v.number] = readers.get(v.number, 0) + 1
        for operation in lets.values():
            if isinstance(operation, ir.Binary) and operation.word == "add":
                for x in (operation.b, operation.a):
                    if isinstance(lets.get(x.number), ir.Mma) and readers[x.number] == 1:
                        self.deferred.add(x.number)
                        break

    # Rings -------------------------------------------------------------------------------------------

    def staged_in(self, loop: ir.For) -> list[Staged]:
        """Staged loads that the loop's body makes in each iteration, once each."""
        here = {s.value.number for s in loop.body if isinstance(s, ir.Let)}
        found: dict[int, Staged] = {}
        for operand in self.plan.operands.values():
            number = operand.staged.load.value.number
            if number in here:
                found[number] = operand.staged
        return list(found.values())

    def ring(self, loop: ir.For, staged: list[Staged], carried: list[tuple[dev.Fragment, dev.Fragment]]) -> None:
        """A ring of stages: copies run `stages - 1` iterations ahead of the products that read them.

        One barrier an iteration does two things: what all threads copied for this iteration becomes visible, and
        the stage about to be overwritten has been read by all.
        """
        stages = self.stage_count(loop.origin)
        ahead = stages - 1
        number = iteration_number(loop)
        ring = Ring(number % stages, {s.load.value.number: self.stage_buffer(s, stages) for s in staged})
        self.ringed |= set(ring.buffers.values())
        pending = any(isinstance(s, dev.Copy) and s.asynchronous for s in self.probe(staged, ring))
        for k in range(ahead):
            self.fill_stage(staged, ring, first_plus(loop, k), index(k), pending, loop.origin)
        scope = Scope(ring=ring)
        self.scopes.append(scope)
        if ahead == 0:
            self.emit(dev.BlockBarrier(loop.origin))
            self.fill_stage(staged, ring, None, index(0), pending, loop.origin)
        if pending:
            self.emit(dev.WaitGroup(max(0, ahead - 1), loop.origin))
        self.emit(dev.BlockBarrier(loop.origin))
        if ahead:
            self.fill_stage(staged, ring, later(loop, ahead), (number + ahead) % stages, pending, loop.origin)
        for statement in loop.body:
            self.statement(statement)
        made = self.closed(loop, loop.variables, loop.lo, loop.hi, loop.step, scope, carried)
        self.emit(replace(made, unroll=self.unroll(loop)))
        if pending:
            self.emit(dev.WaitGroup(0, loop.origin))

    def probe(self, staged: list[Staged], ring: Ring) -> list[dev.Statement]:
        return [self.copy(s, ring.buffers[s.load.value.number], index(0), {}) for s in staged]

    def fill_stage(
        self, staged: list[Staged], ring: Ring, ahead: Ahead | None, stage: Index, pending: bool, origin: ir.Origin
    ) -> None:
        """One iteration's copies (None: the current one's), a group of their own even when there is nothing left."""
        changes = ahead.at if ahead else {}
        copies = [self.copy(s, ring.buffers[s.load.value.number], stage, changes) for s in staged]
        if ahead is None:
            self.scopes[-1].body += copies
        else:
            self.emit(dev.If(ahead.exists, tuple(copies), (), (), origin))
        if pending:
            self.emit(dev.Commit(origin))

    def stage_count(self, origin: ir.Origin) -> int:
        """The policy's stages, or the usual ones."""
        stages = self.plan.policy.integer("stages", STAGES)
        fits = "what fits" if "stages" in self.plan.policy.words else "default"
        self.note("stages", str(stages), "policy" if "stages" in self.plan.policy.spans else fits, origin)
        return stages


def _read(statement: ir.Statement) -> tuple[ir.Value, ...]:
    from kernelagent.dsl.lower.rewrite import statement_values

    return statement_values(statement)


def iteration_number(loop: ir.For) -> Index:
    """How many iterations came before. Raises Unsupported where inner bounds depend on outer variables."""
    number, total = index(0), index(1)
    for k in reversed(range(len(loop.variables))):
        number = number + total * ((index(loop.variables[k]) - loop.lo[k]) // loop.step[k])
        total = total * _count(loop, k)
    return number


def _count(loop: ir.For, k: int) -> Index:
    count = cdiv(loop.hi[k] - loop.lo[k], loop.step[k])
    if count.symbols() & set(loop.variables):
        raise Unsupported("a flattened loop whose inner bounds depend on its outer variables")
    return count


def first_plus(loop: ir.For, steps: int) -> Ahead:
    """The iteration `steps` after the first."""
    return _ahead(loop, index(steps), loop.lo[-1] + loop.step[-1] * steps)


def later(loop: ir.For, steps: int) -> Ahead:
    """The iteration `steps` after the current one."""
    return _ahead(loop, iteration_number(loop) + steps, index(loop.variables[-1]) + loop.step[-1] * steps)


def _ahead(loop: ir.For, number: Index, only_variable: Index) -> Ahead:
    """An iteration by number; a loop of one variable just steps it."""
    if len(loop.variables) == 1:
        return Ahead(Compare("<", only_variable, loop.hi[0]), {loop.variables[0].name: only_variable})
    total = index(1)
    at: dict[str, Index] = {}
    for k in reversed(range(len(loop.variables))):
        count = _count(loop, k)
        digit = number // total if k + 1 < len(loop.variables) else number
        at[loop.variables[k].name] = loop.lo[k] + (digit % count if k else digit) * loop.step[k]
        total = total * count
    return Ahead(Compare("<", number, total), at)


def restricted(view: ir.View, start: tuple[Index, ...], tile: ir.TileType, skip: int | None) -> ir.View:
    """The view without positions that are void in the tile; nothing changes where the view's own end says it."""
    axes = list(view.axes)
    for k, (live, at) in enumerate(zip(tile.live, start, strict=True)):
        if k == skip:
            continue
        axis = axes[k]
        lo, hi = axis.lo, axis.hi
        extent = tile.shape[k]
        if live.hi not in (extent, hi - at, minimum(extent, hi - at)):
            hi = minimum(hi, at + live.hi)
        if live.lo.constant != 0:
            lo = maximum(lo, at + live.lo)
        axes[k] = ir.ViewAxis(axis.length, lo, hi)
    return replace(view, axes=tuple(axes))


def run_along(layout: Distribution, axis: int) -> int:
    """Elements that neighbouring registers and then neighbouring threads cover without a hole along `axis`."""
    reached = 1
    for mode in sorted((m for m in (*layout.values, *_fast(layout)) if m.axis == axis), key=lambda m: m.stride):
        if mode.stride != reached:
            break
        reached *= mode.extent
    return reached


def _fast(layout: Distribution) -> tuple[Mode, ...]:
    """Lane modes of one warp."""
    kept: list[Mode] = []
    seen = 1
    for mode in layout.lanes:
        if seen >= 32:
            break
        kept.append(Mode(min(mode.extent, 32 // seen), mode.axis, mode.stride))
        seen *= mode.extent
    return normal(kept)
