"""Statements of a kernel with roles: one warp copies operands ahead, warpgroups multiply and finish the tile.

The two meet in rings of full and empty barriers. Iterations are counted over the life of the block, so that stage and
phase go on across tiles: stage = count % S, and the phase's parity = (count // S) % 2. The producer waits for the
opposite parity: a fresh barrier lets it pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Compare, Index, Symbol, index
from kernelagent.dsl.lanes import permuted, same
from kernelagent.dsl.lower.device.build import Plan, Ring, Scope, live_along
from kernelagent.dsl.lower.device.hopper.choose import Unsuited, box_axes
from kernelagent.dsl.lower.device.place_values import elements, extents, view_axis
from kernelagent.dsl.lower.device.stage import Staged
from kernelagent.dsl.lower.device.statements import Lowering, restricted
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES

TILE_COUNT = Symbol("tile_count", "loop")
MOST_STAGES = 4
SPANS = (128, 64, 32, 16)
"""Bytes of a panel's rows that tensor maps swizzle and descriptors know, the shortest without a swizzle."""


class HopperLowering(Lowering):
    """The consumers' statements; `producer` collects those of the copying role for the same tile."""

    def __init__(self, plan: Plan, groups: int, persistent: bool, cluster: int = 1, rows: Symbol | None = None) -> None:
        """`cluster` blocks compute tiles that differ only in the grid variable `rows`."""
        super().__init__(plan)
        self.groups = groups
        self.persistent = persistent
        self.cluster = cluster
        self.rows = rows
        self.shares = False  # whether some operand is copied once for the whole cluster
        self.producer: list[dev.Statement] = []
        self.barriers: list[dev.MBarrier] = []
        self.releases: list[dev.Statement] = []  # of buffers that live for a whole tile
        self.stored_by_bulk = False
        self.depth = 0
        self.ringing = False  # copies belong to a ring
        self.overlapped = False  # the products of a step are waited for in the next one

    # Barriers ----------------------------------------------------------------------------------------

    def barrier(self, name: str, arrivals: int, stages: int, origin: ir.Origin) -> str:
        self.barriers.append(dev.MBarrier(name, arrivals, stages, origin=origin))
        return name

    def pair(self, base: str, stages: int, origin: ir.Origin, blocks: int = 1) -> tuple[str, str]:
        """Full: the producer's announcement and the bytes. Empty: one arrival of each consumer warp, of all `blocks`
        into which the producer's copies go."""
        full = self.barrier(f"{base}_full", 1, stages, origin)
        return full, self.barrier(f"{base}_empty", 4 * self.groups * blocks, stages, origin)

    def sharers(self, staged: Staged) -> int:
        """How many blocks of the cluster want the same elements."""
        load = staged.load.operation
        assert isinstance(load, ir.Load)
        if self.cluster == 1 or self.rows is None or staged.shape[0] % (8 * self.cluster):
            return 1
        bounds = [x for a in load.view.axes for x in (a.lo, a.hi)]
        where = (*load.start, *load.view.coordinates, *bounds)
        return 1 if any(self.rows in x.symbols() for x in where) else self.cluster

    def fill(
        self, staged: list[tuple[Staged, str]], barriers: tuple[str, str], count: Index, stages: int, origin: ir.Origin
    ) -> list[dev.Statement]:
        """The producer's side of one phase."""
        full, empty = barriers
        stage = count % stages
        total = sum(s.shape[0] * s.shape[1] * bits(s.load.value.type.dtype) // 8 for s, _ in staged)
        made: list[dev.Statement] = [
            dev.WaitPhase(empty, stage, (count // stages + 1) % 2, origin),
            dev.Expect(full, stage, total, origin),
        ]
        return made + [self.bulk(s, name, full, stage) for s, name in staged]

    def bulk(self, staged: Staged, buffer: str, barrier: str, stage: Index) -> dev.CopyBulk:
        load = staged.load
        assert isinstance(load.operation, ir.Load)
        axes = staged.axes if load.value.type.rank == 2 else (0, 1)
        target = dev.Shared(buffer, stage, axes)
        view, start = load.operation.view, load.operation.start
        shape, origin = extents(load.value), load.value.origin
        sharers = self.sharers(staged) if self.ringing else 1
        return dev.CopyBulk(target, view, start, shape, barrier, stage, origin, sharers)

    # Staging -----------------------------------------------------------------------------------------

    def stage_buffer(self, staged: Staged, stages: int) -> str:
        load = staged.load
        dtype = load.value.type.dtype
        assert isinstance(load.operation, ir.Load)
        name = self.panelled(load.operation.view.array, dtype, staged.shape, load.value.origin, stages)
        chosen = f"{staged.shape[0]}x{staged.shape[1]} {dtype}, {stages} stages, by bulk copies"
        self.note(f"shared {name}", chosen, "operand of a product", load.value.origin)
        self.ringed.add(name)
        return name

    def panelled(self, name: str, dtype: str, shape: tuple[int, int], origin: ir.Origin, stages: int = 1) -> str:
        """A buffer in the form that boxes write and descriptors read: panels of up to 128 bytes, swizzled."""
        row = shape[1] * bits(dtype) // 8
        if row % SPANS[-1]:
            raise Unsuited(f"{name}: rows of {row} bytes are no box")
        panel = next(span for span in SPANS if row % span == 0) * 8 // bits(dtype)
        return self.buffer(name, dtype, shape, origin, stages, swizzle_of(panel, dtype), 0, panel)

    def stage_once(self, staged: Staged) -> None:
        """An operand of the whole tile: a ring of one stage that turns once a tile."""
        if self.depth:
            raise Unsuited("an operand is loaded once inside a loop")
        origin = staged.load.value.origin
        name = self.stage_buffer(staged, 1)
        self.staged[staged.load.value.number] = name
        barriers = self.pair(name, 1, origin)
        count = index(TILE_COUNT)
        self.producer += self.fill([(staged, name)], barriers, count, 1, origin)
        self.emit(dev.WaitPhase(barriers[0], index(0), count % 2, origin))
        self.releases.append(dev.Arrive(barriers[1], index(0), origin))

    def ring(self, loop: ir.For, staged: list[Staged], carried: list[tuple[dev.Fragment, dev.Fragment]]) -> None:
        if self.depth:
            raise Unsuited("operands are loaded in nested loops")
        stages = self.stage_count(loop.origin)
        buffers = {s.load.value.number: self.stage_buffer(s, stages) for s in staged}
        counter = Symbol(f"{'_'.join(v.name for v in loop.variables)}_count", "loop")
        count = index(counter)
        blocks = max(self.sharers(s) for s in staged)
        self.shares |= blocks > 1
        barriers = self.pair("_".join(v.name for v in loop.variables), stages, loop.origin, blocks)
        pairs = [(s, buffers[s.load.value.number]) for s in staged]
        self.ringing = True
        copies = tuple(self.fill(pairs, barriers, count, stages, loop.origin))
        self.ringing = False
        self.producer.append(
            dev.For(loop.variables, loop.lo, loop.hi, loop.step, (), copies, loop.origin, counter=counter)
        )
        scope = Scope(ring=Ring(count % stages, buffers))
        self.scopes.append(scope)
        self.depth += 1
        self.emit(dev.WaitPhase(barriers[0], count % stages, (count // stages) % 2, loop.origin))
        self.overlapped = stages > 1 and self.only_accumulates(loop)
        for statement in loop.body:
            self.statement(statement)
        if self.overlapped:
            self.release_earlier(loop, barriers[1], count, stages, blocks > 1)
        else:
            self.emit(dev.Arrive(barriers[1], count % stages, loop.origin, blocks > 1))
        made = self.closed(loop, loop.variables, loop.lo, loop.hi, loop.step, scope, carried)
        self.depth -= 1
        self.emit(replace(made, counter=counter))
        if self.overlapped:
            self.emit(dev.WgmmaWait(0, loop.origin))
            last = dev.Arrive(barriers[1], (count - 1) % stages, loop.origin, blocks > 1)
            self.emit(dev.If(Compare("<", loop.lo[-1], loop.hi[-1]), (last,), (), (), loop.origin))
        self.overlapped = False

    def only_accumulates(self, loop: ir.For) -> bool:
        """Whether nothing in the loop looks at the sums, so that a step's products may run into the next step."""
        if len(loop.variables) > 1:
            return False
        for statement in loop.body:
            match statement:
                case ir.Let(value, ir.Mma()) if value.number in self.deferred:
                    continue
                case ir.Let(_, ir.Binary() as sum_) if self.accumulates_later(sum_):
                    continue
                case ir.Let(value, _) if value.number in self.plan.unheld:
                    continue
                case _:
                    return False
        return True

    def accumulates_later(self, operation: ir.Binary) -> bool:
        return operation.word == "add" and (operation.a.number in self.deferred or operation.b.number in self.deferred)

    def release_earlier(self, loop: ir.For, empty: str, count: Index, stages: int, everywhere: bool) -> None:
        """One group stays in flight: its stage is given back in the next step."""
        origin = loop.origin
        self.emit(dev.WgmmaCommit(origin))
        self.emit(dev.WgmmaWait(1, origin))
        earlier = dev.Arrive(empty, (count - 1) % stages, origin, everywhere)
        begun = Compare(">", index(loop.variables[0]), loop.lo[0])
        self.emit(dev.If(begun, (earlier,), (), (), origin))

    # Products ----------------------------------------------------------------------------------------

    def product(self, value: ir.Value, mma: ir.Mma, acc: dev.Fragment | None) -> dev.Fragment:
        """One group of asynchronous products, waited for at once unless the loop overlaps its steps."""
        chosen = self.plan.products[value.number]
        if acc is None:
            acc = self.let(dev.Constant(0), value, chosen.result, name="zero")
        elif acc.layout is None or not same(acc.layout, chosen.result):
            acc = self.convert(acc, chosen.result)
        k = (mma.a.type.live[1], mma.b.type.live[0])
        a = self.operand(mma.a, chosen, chosen.left, live_along(mma.a, 1, k))
        b = self.operand(mma.b, chosen, None, live_along(mma.b, 0, k))
        origin = value.origin
        self.emit(dev.WgmmaFence(origin))
        made = self.let(dev.Mma(chosen.atom, a, b, acc), value, chosen.result)
        if not self.overlapped:
            self.emit(dev.WgmmaCommit(origin))
            self.emit(dev.WgmmaWait(0, origin))
        return made

    def through_shared(self, fragment: dev.Fragment, value: ir.Value) -> dev.Shared:
        """A computed operand: written in the descriptor's form, then shown to the asynchronous proxy."""
        assert fragment.layout is not None
        across = permuted(fragment.layout, (1, 0))
        axes = (1, 0) if across.contiguous() > fragment.layout.contiguous() else (0, 1)
        run = max(across.contiguous(), fragment.layout.contiguous())
        shape = (fragment.shape[axes[0]], fragment.shape[axes[1]])
        name = self.panelled(fragment.name, fragment.dtype, shape, fragment.origin)
        here = dev.Shared(name, index(0), axes)
        wide = min(run & -run, ACCESS_BYTES * 8 // bits(fragment.dtype))
        self.emit(dev.StoreShared(here, fragment, fragment.origin, wide))
        self.emit(dev.FenceAsync(fragment.origin))
        self.note(f"operand {value.name}", f"through {name}", "it is computed, not in the atom's layout", value.origin)
        return here

    # Stores ------------------------------------------------------------------------------------------

    def store(self, store: ir.Store) -> None:
        """Through swizzled shared memory and a bulk store where the array allows it."""
        home = self.home(store.value)
        view = restricted(store.view, store.start, store.value.type, None)
        why = self.no_bulk(store, view)
        if why is not None or home is None:
            if home is not None and elements(store.value) > self.plan.threads:
                self.note(f"store to {store.view.array}", "by registers", why or "", store.origin)
            super().store(store)
            return
        value = self.get(store.value, home)
        assert value.layout is not None
        shape = extents(store.value)
        name = self.panelled(f"{store.view.array}_out", value.dtype, (shape[0], shape[1]), store.origin)
        here = dev.Shared(name, index(0), (0, 1))
        if self.persistent:
            self.emit(dev.WaitBulk(0, store.origin))
        wide = min(value.layout.contiguous(), ACCESS_BYTES * 8 // bits(value.dtype))
        self.emit(dev.StoreShared(here, value, store.origin, wide & -wide))
        self.emit(dev.FenceAsync(store.origin))
        self.emit(dev.StoreBulk(here, view, store.start, shape, store.origin))
        self.emit(dev.CommitBulk(store.origin))
        self.note(f"store to {store.view.array}", f"bulk, through {name}", "whole boxes of a dense array", store.origin)
        self.stored_by_bulk = True

    def no_bulk(self, store: ir.Store, view: ir.View) -> str | None:
        """Why a store cannot go through a tensor map."""
        shape = extents(store.value)
        array = self.arrays[view.array]
        if len(shape) != 2 or view_axis(view) != 1 or self.depth:
            return "the tile is no matrix with contiguous rows" if not self.depth else "it is inside a loop"
        size = bits(view.dtype)
        if size not in (8, 16, 32) or shape[1] * size // 8 % 16 or shape[0] > 256:
            return "its rows are no boxes"
        try:
            where = box_axes(view, array, shape)
        except Unsuited as lack:
            return str(lack)
        for axis, dim in where.items():
            affine = view.coordinates[dim].affine(ir.position(axis))
            assert affine is not None
            bounds = view.axes[axis]
            if bounds.hi + affine[1] != array.dims[dim] or bounds.lo.constant != 0:
                return "the view ends inside the array"
        return None


def swizzle_of(panel: int, dtype: str) -> dev.Swizzle | None:
    """The pattern of tensor maps and descriptors for rows of 128, 64 or 32 bytes."""
    row = panel * bits(dtype) // 8
    base = (ACCESS_BYTES * 8 // bits(dtype)).bit_length() - 1
    pattern: Mapping[int, int] = {128: 3, 64: 2, 32: 1}
    return dev.Swizzle(pattern[row], base, 3) if row in pattern else None


__all__ = ["MOST_STAGES", "TILE_COUNT", "HopperLowering", "swizzle_of"]
