"""Operands that bulk copies bring: their buffers and barriers, and the producer's side of each phase.

Iterations are counted over the life of the block, so that stage and phase go on across tiles: stage = count % S, and
the phase's parity = (count // S) % 2. The producer waits for the opposite parity: a fresh barrier lets it pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lower.device.build import Plan
from kernelagent.dsl.lower.device.hopper.boxes import Unsuited, along
from kernelagent.dsl.lower.device.place_values import extents
from kernelagent.dsl.lower.device.stage import Staged
from kernelagent.dsl.lower.device.statements import Lowering
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES

TILE_COUNT = Symbol("tile_count", "loop")
MOST_STAGES = 4
SPANS = (128, 64, 32, 16)
"""Bytes of a panel's rows that tensor maps swizzle and descriptors know, the shortest without a swizzle."""


class Staging(Lowering):
    """The consumers' statements so far; `producer` collects those of the copying role for the same tile."""

    def __init__(self, plan: Plan, groups: int, persistent: bool, cluster: int = 1, rows: Symbol | None = None) -> None:
        """`cluster` blocks compute tiles that differ only in the grid variable `rows`."""
        super().__init__(plan)
        self.groups = groups
        self.persistent = persistent
        self.turns = False  # consumers have tiles of their own
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
        self.beside: Callable[[], None] | None = None  # what follows the next product instead of its wait

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
        steps = along(load.view, self.arrays[load.view.array], extents(staged.load.value))
        strided = any(a.step > 1 for a in steps)  # parts of the box would not be the rows of the parts
        return 1 if strided or any(self.rows in x.symbols() for x in where) else self.cluster

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


def swizzle_of(panel: int, dtype: str) -> dev.Swizzle | None:
    """The pattern of tensor maps and descriptors for rows of 128, 64 or 32 bytes."""
    row = panel * bits(dtype) // 8
    base = (ACCESS_BYTES * 8 // bits(dtype)).bit_length() - 1
    pattern: Mapping[int, int] = {128: 3, 64: 2, 32: 1}
    return dev.Swizzle(pattern[row], base, 3) if row in pattern else None


__all__ = ["MOST_STAGES", "TILE_COUNT", "Staging", "swizzle_of"]
