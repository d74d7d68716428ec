"""Bulk copies of boxes between global and shared memory, each issued by one thread.

Coordinates are those of the box's first element, innermost axis first; they may lie outside the array. Loads count
the bytes of the whole box on a barrier, wherever it lies; stores and additions are clipped and complete by groups of
the issuing thread. `reference` of loads takes (map, array, coordinates) and returns the bytes of the box as they lie
in shared memory; that of stores and additions (map, array, coordinates, bytes) and returns the new array (`boxes`).
"""

from __future__ import annotations

from kernelagent.dsl import boxes
from kernelagent.dsl.atoms.record import Atom, Completion, Operand, Reference

RANKS = (1, 2, 3, 4, 5)

_MAP = Operand("map", "u64", "tensor_map")
_BARRIER = Operand("barrier", "u64", "shared", "inout")
_FROM_GLOBAL = "shared::cluster.global.tile.mbarrier::complete_tx::bytes"
_TO_GLOBAL = "global.shared::cta"


def _box(
    name: str,
    rank: int,
    head: tuple[Operand, ...],
    reference: Reference,
    ptx: str,
    sass: str,
    tail: tuple[Operand, ...] = (),
    completion: Completion = "group",
) -> Atom:
    """`ptx` has COORDINATES in place of the map and the coordinates."""
    corner = tuple(Operand(f"c{axis}", "i32") for axis in range(rank))
    place = f"[$map, {{{', '.join(f'${c.name}' for c in corner)}}}]"
    return Atom(
        name=f"{name}_{rank}d",
        kind="tma_load" if completion == "mbarrier" else "tma_store",
        archs=("sm_90",),
        shape=tuple(f"box{axis}" for axis in range(rank)),
        operands=(*head, *tail, *corner),
        reference=reference,
        source="PTX ISA 9.0, cp.async.bulk.tensor, cp.reduce.async.bulk.tensor",
        completion=completion,
        proxy="async",
        alignment=128,
        ptx=ptx.replace("COORDINATES", place),
        sass=(("sm_90", sass),),
    )


def _load(rank: int) -> Atom:
    return _box(
        "tma_load",
        rank,
        (Operand("at", "u8", "shared", "out"), _MAP, _BARRIER),
        boxes.load,
        f"cp.async.bulk.tensor.{rank}d.{_FROM_GLOBAL} [$at], COORDINATES, [$barrier];",
        rf"UTMALDG\.{rank}D$",
        completion="mbarrier",
    )


def _multicast(rank: int) -> Atom:
    return _box(
        "tma_load_multicast",
        rank,
        (Operand("at", "u8", "shared", "out"), _MAP, _BARRIER),
        boxes.load,
        f"cp.async.bulk.tensor.{rank}d.{_FROM_GLOBAL}.multicast::cluster [$at], COORDINATES, [$barrier], $mask;",
        rf"UTMALDG\.{rank}D\.MULTICAST",
        (Operand("mask", "i16"),),
        completion="mbarrier",
    )


def _store(rank: int) -> Atom:
    return _box(
        "tma_store",
        rank,
        (_MAP, Operand("at", "u8", "shared")),
        boxes.store,
        f"cp.async.bulk.tensor.{rank}d.{_TO_GLOBAL}.tile.bulk_group COORDINATES, [$at];",
        rf"UTMASTG\.{rank}D",
    )


def _add(rank: int) -> Atom:
    return _box(
        "tma_add",
        rank,
        (_MAP, Operand("at", "u8", "shared")),
        boxes.add,
        f"cp.reduce.async.bulk.tensor.{rank}d.{_TO_GLOBAL}.add.tile.bulk_group COORDINATES, [$at];",
        rf"UTMAREDG\.{rank}D\.ADD",
    )


def _group(name: str, kind: str, ptx: str, sass: str, operands: tuple[Operand, ...] = ()) -> Atom:
    return Atom(
        name=name,
        kind=kind,
        archs=("sm_90",),
        shape=(),
        operands=operands,
        reference=None,
        source="PTX ISA 9.0, cp.async.bulk.commit_group, cp.async.bulk.wait_group",
        completion="group",
        ptx=ptx,
        sass=(("sm_90", sass),),
    )


_PENDING = (Operand("pending", "i32", "immediate"),)

ATOMS: tuple[Atom, ...] = (
    *(make(rank) for make in (_load, _multicast, _store, _add) for rank in RANKS),
    _group("tma_commit", "commit", "cp.async.bulk.commit_group;", "UTMACMDFLUSH"),
    _group("tma_wait", "wait", "cp.async.bulk.wait_group $pending;", r"DEPBAR\.LE", _PENDING),
    _group("tma_wait_read", "wait", "cp.async.bulk.wait_group.read $pending;", r"DEPBAR\.LE", _PENDING),
)
