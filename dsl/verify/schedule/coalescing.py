"""Sectors of 32 bytes that a warp's access to global memory touches, against the least that its bytes need.

Counted in a tile inside large dense arrays of the shape class, where every array begins at a sector: addresses of a
whole tile are affine in the tile's position, so other tiles differ by a multiple of the alignment that the class asks
for. Positions that data decides are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Element, Index
from kernelagent.dsl.ir import View
from kernelagent.dsl.lanes import WARP, Distribution
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.records import Obligation, Verdict
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.footprints import ALONE
from kernelagent.dsl.verify.schedule.places import Integers, held, owners, view_positions
from kernelagent.dsl.verify.shapes import completed

SECTOR = 32
LARGE = (1024, 2048, 512, 4096, 256, 128)
"""Extents that are tried for all dims: beyond any tile."""


@dataclass(frozen=True)
class Touched:
    """Sectors of all requests of a statement, the least, and the most of one request."""

    line: int
    array: str
    word: str
    sectors: int
    least: int

    @property
    def ratio(self) -> float:
        return self.sectors / self.least


def prove_coalescing(case: Case, subject: str, most: float | None = None) -> list[Obligation]:
    """One obligation for all accesses that touch no sector too many, one for each other line and array. `most`: the
    ratio that the author claims at most."""
    sizes = large(case)
    if sizes is None:
        return []
    worst: dict[tuple[int, str], Touched] = {}
    for made in touched(case.kernel, sizes):
        key = made.line, made.array
        if key not in worst or worst[key].ratio < made.ratio:
            worst[key] = made
    found = [_obligation(t, subject, most) for t in worst.values() if t.sectors > t.least]
    if best := [t for t in worst.values() if t.sectors == t.least]:
        lines = ", ".join(map(str, sorted({t.line for t in best})))
        detail = f"warps touch no sector of {SECTOR} bytes more than they need: lines {lines}"
        found.append(Obligation("coalescing", "PROVED", None, detail, subject))
    return found


def _obligation(made: Touched, subject: str, most: float | None) -> Obligation:
    detail = f"{made.word} of {made.array} touch {made.sectors} sectors of {SECTOR} bytes where {made.least} would do "
    detail += f"({made.ratio:.3g}x), in dense arrays that begin at a sector"
    where = f"{subject}: {made.array}"
    if most is None:
        return Obligation("coalescing", "PROVED", made.line, f"{detail}; a hint, no fault", where)
    verdict: Verdict = "REFUTED" if made.ratio > most else "PROVED"
    return Obligation("coalescing", verdict, made.line, f"{detail}; claimed: at most {most:g}", where, claimed=True)


def large(case: Case) -> Mapping[str, int] | None:
    """Sizes far beyond a tile that the kernel and its class take."""
    from kernelagent.dsl.verify.schedule.sizes import fits

    for extent in LARGE:
        found = completed(case.shapes, dict.fromkeys(case.kernel.dims, extent))
        if found is not None and fits(case.kernel, found):
            return found
    return None


def touched(kernel: dev.DeviceKernel, sizes: Mapping[str, int], apart: bool = False) -> Iterator[Touched]:
    """Of each load, store and copy by threads, in text order. `apart`: as if every access of a lane lay far from all
    others, which is the most that its width allows."""
    known = {**dict.fromkeys(_names(kernel), 0), **sizes}
    shapes = {a.name: [d.evaluate(sizes) for d in a.dims] for a in kernel.arrays}
    for s in dev.statements(kernel):
        match s:
            case dev.Let(fragment=fragment, operation=dev.Load(view=view, start=start, vector=vector)):
                layout, line, word, writes = fragment.layout or ALONE, fragment.origin.span.line, "loads", False
            case dev.Store(view=view, start=start, value=value, vector=vector, origin=origin):
                layout, line, word, writes = value.layout or ALONE, origin.span.line, "stores", True
            case dev.Copy(view=view, start=start, layout=layout, vector=vector, origin=origin):
                line, word, writes = origin.span.line, "copies", True
            case _:
                continue
        if layout is ALONE or _by_data(view, start):
            continue
        flat = _addresses(view, start, layout, known, shapes[view.array])
        if flat is not None:
            flat = _apart(flat, vector) if apart else flat
            sectors, least = _count(flat, layout, vector, bits(view.dtype), writes)
            yield Touched(line, view.array, word, sectors, least)


def _names(kernel: dev.DeviceKernel) -> set[str]:
    """Loop variables, counters and scalars: the first tile stands for all."""
    found = {s.name for s in kernel.scalars}
    for grid in every_grid(kernel):
        found |= {v.name for v in grid.variables} | ({grid.counter.name} if grid.counter else set())
    for s in dev.statements(kernel):
        if isinstance(s, dev.For):
            found |= {v.name for v in s.variables} | ({s.counter.name} if s.counter else set())
    return found


def _by_data(view: View, start: tuple[Index, ...]) -> bool:
    return any(isinstance(a, Element) for x in (*view.coordinates, *start) for a in x.atoms())


def _addresses(
    view: View, start: tuple[Index, ...], layout: Distribution, known: Mapping[str, Any], shape: list[int]
) -> Integers | None:
    """(threads, registers) elements from the start of a dense array, -1 outside the view."""
    starts = tuple(s.evaluate(known, lambda array, at: 0) for s in start)
    at, inside = view_positions(view, starts, held(layout), known, lambda array, coordinates: 0)
    flat: Any = 0
    for coordinate, extent in zip(at, shape, strict=True):
        inside = inside & (coordinate >= 0) & (coordinate < extent)
        flat = flat * extent + coordinate
    return np.where(inside, flat, -1) if inside.any() else None


def _apart(flat: Integers, vector: int) -> Integers:
    """Each run of `vector` registers of a thread at a place of its own."""
    runs = np.arange(flat.size // vector).reshape(len(flat), -1) * (SECTOR * 8 * vector)
    return np.where(flat < 0, -1, runs.repeat(vector, axis=1) + np.arange(flat.shape[1]) % vector)


def _count(flat: Integers, layout: Distribution, vector: int, width: int, writes: bool) -> tuple[int, int]:
    """Sectors of all requests of the block, and the least for their bytes."""
    if writes:
        flat = np.where(owners(layout)[:, None], flat, -1)
    threads = len(flat)
    full = np.full((-(-threads // WARP) * WARP, flat.shape[1]), -1, np.int64)
    full[:threads] = flat
    requests = full.reshape(-1, WARP, flat.shape[1] // vector, vector).transpose(0, 2, 1, 3).reshape(-1, WARP * vector)
    elements = _different(requests)
    sectors = _different(np.where(requests < 0, -1, requests * width // 8 // SECTOR))
    return int(sectors.sum()), int((-(-elements * width // (8 * SECTOR))).sum())


def _different(rows: Integers) -> Integers:
    """How many numbers of each row differ, -1 aside."""
    ordered = np.sort(rows, axis=1)
    return np.asarray(((ordered >= 0) & (np.diff(ordered, axis=1, prepend=-2) != 0)).sum(1))


__all__ = ["SECTOR", "Touched", "large", "prove_coalescing", "touched"]
