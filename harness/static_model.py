"""An ESTIMATE of a kernel's time on a GPU, from its schedule, what the compiler says it takes, and the chip's rates.

It orders candidates where no device is at hand. It is no measurement: nothing it says may be recorded as a time.

One tile costs a multiprocessor `busy`, what its resources need when they overlap (products, shared memory, the path to
the second-level cache, memory, arithmetic), and takes `alone`, what a single block needs from its start to its last
store: latencies that its ring does not hide, products and arithmetic one behind the other. With r blocks resident, r
tiles take max(r * busy, alone); whole and partial rounds of tiles on the multiprocessor with the most of them add up.
What a wave of blocks reads together is counted once in memory traffic, so the order of tiles shows.
Figures, each with its source: `static_model.toml`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index
from kernelagent.harness.device_work import (
    Access,
    Environment,
    Part,
    Tiles,
    TileWork,
    Work,
    inner_tiles,
    tile_work,
    tiles_of,
)

VERSION = 1
"""Of the model: estimates of different versions do not compare."""
CACHED_SHARE = 0.75
"""Of the second-level cache: arrays that together take less are read from memory once."""
SAMPLED_WAVES, SAMPLED_TILES = 4, 1024
EXPOSED = 1.25
"""A tile that takes a block this much longer than it keeps the resources busy is bound by latency."""


class NotEstimated(Exception):
    """The schedule depends on data, or the chip's file lacks a rate; the text says which."""


@dataclass(frozen=True)
class ChipRates:
    """What the model needs of a chip: `matrix` in flop/s by operand dtype, `fma` in flop/s (f32), `special` in
    operations/s, `dram` in bytes/s, for the whole chip of `units` multiprocessors."""

    name: str
    arch: str
    units: int
    clock_hz: float
    cache_bytes: int
    dram: float
    matrix: Mapping[str, float]
    fma: float
    special: float


@dataclass(frozen=True)
class Machine:
    """What the model assumes of an architecture (see static_model.toml)."""

    shared_bytes_per_clock: float
    cache_bytes_per_clock: float
    latency_clocks: float
    mma_share: float
    overlap: float
    start_clocks: float
    launch_us: float


@dataclass(frozen=True)
class Estimate:
    """`terms`: ms that each resource alone would need, spread evenly over the chip; `bound` is the largest of them, or
    `latency`. `busiest`: tiles on the multiprocessor that has most; `resident`: blocks on one at a time."""

    time_ms: float
    bound: str
    terms: Mapping[str, float]
    tiles: int
    busiest: int
    resident: int
    memory_bytes: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "time_ms": self.time_ms, "bound": self.bound, "terms": dict(self.terms), "tiles": self.tiles,
            "busiest": self.busiest, "resident": self.resident, "memory_bytes": self.memory_bytes, "model": VERSION,
        }  # fmt: skip


@cache
def machine(arch: str) -> Machine:
    """Raises NotEstimated for an architecture without figures."""
    table = tomllib.loads(files("kernelagent.harness").joinpath("static_model.toml").read_text(encoding="utf-8"))
    if arch not in table or arch == "every":
        raise NotEstimated(f"the static model has no figures for {arch}")
    return Machine(**{name: float(figure["value"]) for name, figure in (table[arch] | table["every"]).items()})


def estimate(kernel: dev.DeviceKernel, environment: Environment, resident: int, chip: ChipRates) -> Estimate:
    """The estimate of one kernel at the sizes of `environment` (dims and integer scalars by name).

    `resident`: blocks that share a multiprocessor, from the registers and shared memory the compiler reports.
    Raises NotEstimated.
    """
    try:
        return _estimate(kernel, environment, max(1, resident), chip)
    except KeyError as unknown:
        raise NotEstimated(f"{kernel.name}: its work depends on {unknown}, which is known at run time only") from None


def together(parts: Sequence[Estimate]) -> Estimate:
    """Kernels of a program, one behind the other; resources and resident blocks are those of the longest."""
    longest = max(parts, key=lambda e: e.time_ms)
    names = dict.fromkeys(name for e in parts for name in e.terms)
    terms = {name: sum(e.terms.get(name, 0.0) for e in parts) for name in names}
    time, moved = sum(e.time_ms for e in parts), sum(e.memory_bytes for e in parts)
    return Estimate(time, longest.bound, terms, longest.tiles, longest.busiest, longest.resident, moved)


def _estimate(kernel: dev.DeviceKernel, environment: Environment, resident: int, chip: ChipRates) -> Estimate:
    model = _Model(machine(chip.arch), chip)
    tiles = tiles_of(kernel, environment)
    if not tiles.count:
        return Estimate(model.launch * 1e3, "latency", {}, 0, 0, resident, 0.0)
    inner, at = inner_tiles(kernel, {**environment, **tiles.middle})
    count = tiles.count * inner
    work = tile_work(kernel, at)
    moved = memory_bytes(kernel, environment, work, tiles, min(tiles.count, chip.units * resident), chip)
    persistent = kernel.grid.persistent or kernel.grid.inner is not None
    terms = {**model.seconds(work.part.total), "dram": moved / count / (chip.dram / chip.units)}
    busy = model.overlapped(terms.values())
    alone = model.alone(work, persistent)
    busiest = -(-count // chip.units)
    full, rest = divmod(busiest, resident)
    seconds = full * max(resident * busy, alone) + (max(rest * busy, alone) if rest else 0.0)
    total = model.launch + model.start + seconds
    spread = {name: 1e3 * t * count / chip.units for name, t in terms.items() if t}
    exposed = alone > EXPOSED * resident * busy or not spread
    bound = "latency" if exposed else max(spread, key=lambda name: spread[name])
    return Estimate(1e3 * total, bound, spread, count, busiest, resident, moved)


@dataclass(frozen=True)
class _Model:
    """Seconds of one multiprocessor."""

    machine: Machine
    chip: ChipRates

    @property
    def launch(self) -> float:
        return self.machine.launch_us * 1e-6

    @property
    def start(self) -> float:
        return self.machine.start_clocks / self.chip.clock_hz

    @property
    def latency(self) -> float:
        return self.machine.latency_clocks / self.chip.clock_hz

    def overlapped(self, times: Iterable[float]) -> float:
        """Resources at work together: the longest, and a little for those nearly as long."""
        found = [t for t in times if t > 0]
        p, longest = self.machine.overlap, max(found, default=0.0)
        return longest * sum((t / longest) ** p for t in found) ** (1 / p) if found else 0.0

    def seconds(self, work: Work) -> dict[str, float]:
        """What each resource needs for some work by itself."""
        chip, clock = self.chip, self.chip.clock_hz
        return {
            "matrix": sum(self._matrix(name, flop) for name, flop in work.items() if " " in name),
            "shared": work["shared"] / (self.machine.shared_bytes_per_clock * clock),
            "cache": self._path(work["read"] + work["written"]),
            "scalar": work["scalar"] / (chip.fma / 2 / chip.units),
            "special": work["special"] / (chip.special / chip.units),
        }

    def _path(self, moved: float) -> float:
        return moved / (self.machine.cache_bytes_per_clock * self.chip.clock_hz)

    def _matrix(self, name: str, flop: float) -> float:
        unit, dtype = name.split(" ")
        rate = self.chip.matrix.get(dtype)
        if rate is None:
            raise NotEstimated(f"the file of {self.chip.name} has no rate for products of {dtype}")
        share = self.machine.mma_share if unit == "mma" else 1.0
        return flop / (share * rate / self.chip.units)

    def serial(self, work: Work) -> float:
        """Without overlap between products and arithmetic; shared memory feeds the products meanwhile."""
        found = self.seconds(work)
        return max(found["matrix"], found["shared"]) + found["scalar"] + found["special"]

    def alone(self, work: TileWork, persistent: bool) -> float:
        """One tile in one block that has the multiprocessor to itself. A copying role that walks over tiles fills the
        ring for the next one meanwhile, and bulk stores of a walking block run under it. Roles that take turns finish
        a tile while another's products run."""
        part, groups = work.part, max(1, work.groups)
        ahead = persistent and work.groups > 0
        begin = 0.0 if persistent else self.start
        fetch = self.latency + self._path(part.work["read"]) if part.fetches and not ahead else 0.0
        written = part.work["written"] - (part.deferred if persistent else 0.0)
        around = fetch + self.serial(part.work) / groups + self._path(written)
        inside = sum(self.loop(p, groups, ahead) for p in part.parts)
        return begin + (around + inside if work.turns == 1 else max(inside, around + inside / work.turns))

    def loop(self, part: Part, groups: int, filled: bool) -> float:
        """Iterations of a loop: as fast as its ring, its dependent steps and its resources let it be."""
        path = self._path(part.work["read"])
        waited = (self.latency if part.fetches else 0.0) + path + self.serial(part.work)
        steps = max(
            waited / part.ahead, self.serial(part.work) / groups, self.overlapped(self.seconds(part.work).values())
        )
        fill = self.latency + path if part.ahead > 1 and part.fetches and not filled else 0.0
        written = self._path(part.work["written"] - part.deferred)
        return part.trips * (steps + written + sum(self.loop(p, groups, filled) for p in part.parts)) + fill


# Memory traffic ------------------------------------------------------------------------------------


def memory_bytes(
    kernel: dev.DeviceKernel, environment: Environment, work: TileWork, tiles: Tiles, wave: int, chip: ChipRates
) -> float:
    """Bytes between memory and the second-level cache: what a wave of blocks reads together is read once, and arrays
    that stay in the cache are read once in all. Of a ragged nest every array counts once."""
    sizes = {a.name: _array_bytes(a.dims, a.dtype, environment) for a in kernel.arrays}
    touched = {access.view.array for access in work.accesses}
    once = sum(sizes[name] for name in touched)
    if kernel.grid.inner is not None or once <= CACHED_SHARE * chip.cache_bytes:
        return once
    waves = _sampled(tiles, wave)
    total = 0.0
    for access in work.accesses:
        places = sum(_places(access, together, environment) for together in waves)
        most = access.bytes * tiles.count
        found = most * places / sum(map(len, waves))
        total += min(most, max(found, sizes[access.view.array]))
    return total


def _places(access: Access, together: Sequence[Environment], environment: Environment) -> int:
    """Different boxes that the tiles of a wave touch through one access."""
    names = access.depends_on(together[0])
    different = {tuple(at[name] for name in names) for at in together}
    return len({access.place({**environment, **dict(zip(names, at, strict=True))}) for at in different})


def _sampled(tiles: Tiles, wave: int) -> list[list[dict[str, int]]]:
    """Tiles of some whole waves, evenly over the grid; fewer waves where each is large."""
    count = tiles.count // wave
    wanted = max(1, min(SAMPLED_WAVES, SAMPLED_TILES // wave))
    numbers = sorted({count * k // wanted for k in range(wanted)})
    return [[tiles.at(wave * n + k) for k in range(wave)] for n in numbers]


def _array_bytes(dims: Sequence[Index], dtype: str, environment: Environment) -> float:
    return math.prod(d.evaluate(environment) for d in dims) * bits(dtype) / 8
