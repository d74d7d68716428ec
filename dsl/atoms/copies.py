"""Memory accesses of one lane: vectors of 1 to 16 bytes in global and shared memory, and cp.async between them.

`reference` of loads takes (memory, at, registers, inside) and returns registers; of stores (memory, at, registers,
inside) and returns memory; of cp.async (shared, at, source, inside) and returns shared memory, zero filled where not
inside. Memory is bytes, registers are u32; accesses below 4 bytes use the low bits of one register.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand
from numpy.typing import NDArray

Bytes = NDArray[Any]

SIZES = (1, 2, 4, 8, 16)
"""Bytes of a vector access."""

ASYNC_SIZES = (4, 8, 16)
"""Bytes of an asynchronous copy."""

_TYPES = {1: "u8", 2: "u16", 4: "b32", 8: "v2.b32", 16: "v4.b32"}
_SASS_SIZE = {1: r"\.(U8|S8)", 2: r"\.U16", 4: "", 8: r"\.64", 16: r"\.128"}
_PREDICATED = "{ .reg .pred p; setp.ne.b32 p, $inside, 0; @p %s; }"


def read(memory: Bytes, at: int, registers: Bytes, inside: bool, size: int) -> Bytes:
    if not inside:
        return registers
    padded = np.zeros(max(4, size), np.uint8)
    padded[:size] = memory[at : at + size]
    return padded.view(np.uint32)


def write(memory: Bytes, at: int, registers: Bytes, inside: bool, size: int) -> Bytes:
    out = memory.copy()
    if inside:
        out[at : at + size] = np.asarray(registers, np.uint32).view(np.uint8)[:size]
    return out


def fill(shared: Bytes, at: int, source: Bytes, inside: bool, size: int) -> Bytes:
    out = shared.copy()
    out[at : at + size] = source[:size] if inside else 0
    return out


def _access(word: str, size: int) -> Atom:
    """ldg, stg, lds, sts with the size in bits."""
    loads, is_global = word.startswith("ld"), word.endswith("g")
    space = "global" if is_global else "shared"
    count = max(1, size // 4)
    registers = Operand("r", "u32", direction=("inout" if is_global else "out") if loads else "in", count=count)
    at = Operand("at", "u8", space=space, direction="in" if loads else "out")
    instruction = f"ld.{space}.{_TYPES[size]} $r, [$at]" if loads else f"st.{space}.{_TYPES[size]} [$at], $r"
    inside = (Operand("inside", "bool"),) if is_global else ()
    opcode = f"{'LD' if loads else 'ST'}{'G' if is_global else 'S'}"
    function = read if loads else write
    return Atom(
        name=f"{word}_b{8 * size}",
        kind="load" if loads else "store",
        archs=("sm_80",),
        shape=(size,),
        operands=((registers, at) if loads else (at, registers)) + inside,
        reference=lambda memory, position, r, live=True: function(memory, position, r, live, size),
        source=f"PTX ISA 9.0, Data movement: {'ld' if loads else 'st'}",
        alignment=size,
        ptx=_PREDICATED % instruction if is_global else f"{instruction};",
        sass=(("sm_80", rf"{opcode}(\.E)?{_SASS_SIZE[size]}$"),),
    )


def _cp_async(size: int) -> Atom:
    """Bypasses L1 at 16 bytes, the only size for which the machine can."""
    cache, hint = ("cg", ".L2::128B") if size == 16 else ("ca", "")
    bypass = r"\.BYPASS\.LTC128B" if size == 16 else ""
    return Atom(
        name=f"cp_async_{size}",
        kind="async_copy",
        archs=("sm_80",),
        shape=(size,),
        operands=(
            Operand("at", "u8", space="shared", direction="out"),
            Operand("source", "u8", space="global"),
            Operand("inside", "bool"),
        ),
        reference=lambda shared, at, source, inside: fill(shared, at, source, inside, size),
        source="PTX ISA 9.0, cp.async",
        completion="group",
        alignment=size,
        ptx="{ .reg .pred p; .reg .b32 n; setp.ne.b32 p, $inside, 0; "
        f"selp.b32 n, {size}, 0, p; cp.async.{cache}.shared.global{hint} [$at], [$source], {size}, n; }}",
        sass=(("sm_80", rf"LDGSTS\.E{bypass}{_SASS_SIZE[size] if size > 4 else ''}"),),
    )


def _group(name: str, kind: str, ptx: str, sass: str, operands: tuple[Operand, ...] = ()) -> Atom:
    return Atom(
        name=name,
        kind=kind,
        archs=("sm_80",),
        shape=(),
        operands=operands,
        reference=None,
        source="PTX ISA 9.0, cp.async.commit_group, cp.async.wait_group",
        completion="group",
        ptx=ptx,
        sass=(("sm_80", sass),),
    )


ATOMS: tuple[Atom, ...] = (
    *(_access(word, size) for word in ("ldg", "stg", "lds", "sts") for size in SIZES),
    *(_cp_async(size) for size in ASYNC_SIZES),
    _group("commit", "commit", "cp.async.commit_group;", "LDGDEPBAR"),
    _group(
        "wait_group", "wait", "cp.async.wait_group $pending;", r"DEPBAR\.LE", (Operand("pending", "i32", "immediate"),)
    ),
)
