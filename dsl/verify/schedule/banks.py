"""Bank conflicts of every access to shared memory: how often the fullest bank is asked for one after the other.

Shared memory has 32 banks of 4-byte words; a warp's access is served 32 lanes at a time up to 4 bytes a lane, 16 lanes
for 8 bytes, 8 lanes for 16 bytes, as are the 8 rows of each ldmatrix matrix (CUDA C++ Programming Guide, "Shared
Memory"). Lanes that read one word share it. Stages begin at multiples of 128 bytes, so what one stage shows holds for
all; buffers that begin elsewhere only turn the banks. Addresses do not depend on sizes: what is counted is proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom, fetch
from kernelagent.dsl.atoms.fetch import Fetch, Side
from kernelagent.dsl.atoms.fetch import held as named
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import WARP, Distribution, drop
from kernelagent.dsl.swizzle import BANKS, WORD
from kernelagent.dsl.targets.cuda.emit_mma import warp_grid
from kernelagent.dsl.verify.records import Obligation, Verdict
from kernelagent.dsl.verify.schedule.footprints import ALONE, Accessing, accesses, shared_of
from kernelagent.dsl.verify.schedule.places import Integers, held, owners, referred, register_bytes, tile_bytes

INACTIVE = -1


@dataclass(frozen=True)
class Requests:
    """(instructions, lanes): the byte in a stage at which each lane accesses `width` bytes; INACTIVE: no access."""

    addresses: Integers
    width: int


@dataclass(frozen=True)
class Served:
    """How an access is served: `degree` is the worst of all phases, `lanes` of a phase that has it. `phases` are those
    of all instructions of a block."""

    line: int
    buffer: str
    what: str
    width: int
    degree: int
    lanes: tuple[int, ...]
    phases: int


def prove_banks(kernel: dev.DeviceKernel, subject: str, most: int | None = None) -> list[Obligation]:
    """One obligation for all accesses without conflicts, one for each line and buffer with any. `most`: the degree
    that the author claims at most."""
    worst: dict[tuple[int, str], Served] = {}
    for served in bank_conflicts(kernel):
        key = served.line, served.buffer
        if key not in worst or worst[key].degree < served.degree:
            worst[key] = served
    free = [s for s in worst.values() if s.degree == 1]
    found = [_obligation(s, subject, most) for s in worst.values() if s.degree > 1]
    if free:
        lines = ", ".join(map(str, sorted({s.line for s in free})))
        detail = f"no two lanes of a phase meet in a bank, in all stages: lines {lines}"
        found.append(Obligation("banks", "PROVED", None, detail, subject))
    return found


def _obligation(served: Served, subject: str, most: int | None) -> Obligation:
    where = f"{subject}: {served.buffer}"
    detail = f"{served.what} of {served.width} bytes take {served.degree} turns instead of 1: lanes "
    detail += f"{_lanes(served.lanes)} meet in one bank, in all stages"
    if most is None:
        return Obligation("banks", "PROVED", served.line, f"{detail}; a hint, no fault", where)
    verdict: Verdict = "REFUTED" if served.degree > most else "PROVED"
    return Obligation("banks", verdict, served.line, f"{detail}; claimed: at most {most}", where, claimed=True)


def _lanes(lanes: tuple[int, ...]) -> str:
    return ", ".join(map(str, lanes[:8])) + (" ..." if len(lanes) > 8 else "")


def bank_conflicts(kernel: dev.DeviceKernel) -> Iterator[Served]:
    """Of each access in text order; bulk copies have no lanes."""
    for statement, operand, _ in accesses(kernel):
        made = requests(kernel, statement, operand)
        if made is None:
            continue
        shared = shared_of(statement, operand)
        assert shared is not None
        lets = isinstance(statement, dev.Let)
        origin = statement.fragment.origin if lets else statement.origin  # type: ignore[union-attr]
        degree, lanes, phases = conflicts(made)
        yield Served(origin.span.line, shared.buffer, _what(statement, operand), made.width, degree, lanes, phases)


def _what(statement: Accessing, operand: str) -> str:
    match statement:
        case dev.StoreShared():
            return "stores"
        case dev.Copy():
            return "copies"
        case dev.Let(operation=dev.Mma()):
            return f"fetches of operand {operand}"
    return "loads"


# Counting ------------------------------------------------------------------------------------------------


def conflicts(made: Requests) -> tuple[int, tuple[int, ...], int]:
    """The worst degree, the lanes of such a phase that want its fullest bank, and how many phases there are."""
    lanes = made.addresses.shape[1]
    group = min(lanes, BANKS * WORD // max(made.width, WORD))
    phases = made.addresses.reshape(-1, group)
    words = phases[:, :, None] // WORD + np.arange(max(made.width // WORD, 1))
    words = np.where(phases[:, :, None] < 0, INACTIVE, words).reshape(len(phases), -1)
    ordered = np.sort(words, axis=1)
    fresh = (ordered >= 0) & (np.diff(ordered, axis=1, prepend=INACTIVE - 1) != 0)
    load = np.zeros((len(phases), BANKS), np.int64)
    rows, columns = np.nonzero(fresh)
    np.add.at(load, (rows, ordered[rows, columns] % BANKS), 1)
    phase = int(load.max(1).argmax())
    bank = int(load[phase].argmax())
    wanting = (words[phase].reshape(group, -1) % BANKS == bank).any(1) & (phases[phase] >= 0)
    first = phase * group % lanes
    return max(int(load[phase, bank]), 1), tuple(first + int(k) for k in np.flatnonzero(wanting)), len(phases)


# Addresses -----------------------------------------------------------------------------------------------


def requests(kernel: dev.DeviceKernel, statement: Accessing, operand: str = "") -> Requests | None:
    """Of all warps; None for bulk copies."""
    shared = shared_of(statement, operand)
    assert shared is not None
    buffer = kernel.buffer(shared.buffer)
    match statement:
        case dev.StoreShared(value=value, vector=vector):
            return _by_registers(buffer, shared, value.layout or ALONE, vector, True)
        case dev.Copy(layout=layout, vector=vector):
            return _by_registers(buffer, shared, layout, vector, True)
        case dev.Let(fragment=fragment, operation=dev.LoadShared(vector=vector)):
            return _by_registers(buffer, shared, fragment.layout or ALONE, vector, False)
        case dev.Let(fragment=fragment, operation=dev.Mma(atom=name)):
            if name.startswith("wgmma"):
                return _by_rows(buffer)
            if name.startswith("fma"):
                return _by_lines(buffer, shared, fragment, operand)
            return _by_fragments(buffer, shared, fragment, name, "a" if operand == "a" else "b")
    return None


def _by_registers(
    buffer: dev.SharedBuffer, shared: dev.Shared, layout: Distribution, vector: int, writes: bool
) -> Requests:
    at = register_bytes(buffer, shared.axes, layout, layout.shape)[:, ::vector]
    if writes:
        at = np.where(owners(layout)[:, None], at, INACTIVE)
    return Requests(_warps(at), vector * bits(buffer.dtype) // 8)


def _warps(at: Integers) -> Integers:
    """(threads, accesses) -> (warps * accesses, lanes)."""
    threads = len(at)
    full = -(-threads // WARP) * WARP
    padded = np.full((full, at.shape[1]), INACTIVE, np.int64)
    padded[:threads] = at
    return padded.reshape(-1, WARP, at.shape[1]).transpose(0, 2, 1).reshape(-1, WARP)


def _by_rows(buffer: dev.SharedBuffer) -> Requests:
    """An asynchronous product takes 8 rows of 16 bytes at a time, as boxes lay them."""
    each = max(128 // bits(buffer.dtype), 1)
    at = tile_bytes(buffer, tuple(range(len(buffer.shape))), tuple(buffer.shape))
    at = at.reshape(-1, buffer.shape[-1])[:, ::each]
    rows = len(at) // 8 * 8
    return Requests(at[:rows].reshape(-1, 8, at.shape[1]).transpose(0, 2, 1).reshape(-1, 8), 16)


def _by_lines(buffer: dev.SharedBuffer, shared: dev.Shared, fragment: dev.Fragment, operand: str) -> Requests:
    """Products without a matrix instruction: each thread loads the elements of its own rows or columns, for each k."""
    layout = fragment.layout
    assert layout is not None
    tile = tile_bytes(buffer, shared.axes, referred(buffer, shared))
    if operand == "b":
        tile = tile.T
    mine = held(drop(layout, 1 if operand == "a" else 0))[0]
    at = tile[mine]  # (threads, registers, k)
    return Requests(_warps(at.reshape(len(at), -1)), bits(buffer.dtype) // 8)


def _by_fragments(
    buffer: dev.SharedBuffer, shared: dev.Shared, fragment: dev.Fragment, name: str, side: Side
) -> Requests:
    """As `emit_mma` fetches: for each warp, each step along k and each repetition one instruction (or one a word)."""
    made, layout = atom(name), fragment.layout
    unit = made.operand("d").layout
    assert layout is not None
    assert unit is not None
    tile = tile_bytes(buffer, shared.axes, referred(buffer, shared))
    warps = warp_grid(layout, unit, layout.threads)
    own, k_axis = (0, 1) if side == "a" else (1, 0)
    per_warp = tile.shape[own] // warps[own]
    atom_extent = int(made.shape[0 if side == "a" else 1])
    contiguous = shared.axes[k_axis] == len(buffer.shape) - 1
    way = fetch(made, side, contiguous, side == "b" and per_warp // atom_extent % 2 == 0)
    starts = [
        (w * per_warp + r * way.tile[own], k)
        for w in range(warps[own])
        for r in range(per_warp // way.tile[own])
        for k in range(0, tile.shape[k_axis], way.tile[k_axis])
    ]
    lanes, width = _lane_offsets(way, name, side, bits(buffer.dtype) // 8)
    base = np.array(starts)[:, ::-1] if side == "b" else np.array(starts)
    at = base[:, None, None, :] + lanes[None]  # (starts, accesses, lanes, 2)
    return Requests(tile[at[..., 0], at[..., 1]].reshape(-1, lanes.shape[1]), width)


def _lane_offsets(way: Fetch, name: str, side: Side, size: int) -> tuple[Integers, int]:
    """(accesses, lanes, 2) coordinates in the atom's tile, and bytes a lane. Lanes beyond the matrices of an ldmatrix
    repeat others' rows."""
    if way.rows:
        return np.array([[way.row(lane) for lane in range(WARP)]]), 16
    made = atom(name)
    operand = made.operand(side)
    count = operand.count
    assert count is not None
    found = [[named(made, side, lane, r)[e] for lane in range(WARP)]
             for r in range(count) for e in range(operand.per_register)]  # fmt: skip
    return np.array(found), size


__all__ = ["INACTIVE", "Requests", "Served", "bank_conflicts", "conflicts", "prove_banks", "requests"]
