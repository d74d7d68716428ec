"""ldmatrix and stmatrix: a warp moves 1, 2 or 4 matrices of 8 x 8 16-bit elements between shared memory and registers.

Lane l names the 16-byte row l % 8 of matrix l / 8; register i of a lane holds two elements of matrix i.
`reference(memory, addresses)` takes bytes and 32 byte addresses and returns registers (32, count) of u32; that of
stmatrix takes (memory, addresses, registers) and returns the new bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Direction, Operand
from kernelagent.dsl.lanes import Distribution, Mode
from numpy.typing import NDArray

Bytes = NDArray[Any]

MATRIX, ROW, COLUMN = 0, 1, 2


def fragment(count: int, transposed: bool) -> Distribution:
    """Elements that each lane holds, over (matrix, row, column): row l / 4, columns 2 (l % 4) + {0, 1}, or turned."""
    pair, line = (ROW, COLUMN) if transposed else (COLUMN, ROW)
    lanes = (Mode(4, pair, 2), Mode(8, line, 1))
    return Distribution((count, 8, 8), lanes, (Mode(2, pair, 1), Mode(count, MATRIX, 1)))


def rows(count: int) -> Distribution:
    """Elements that each lane's address names; lanes beyond 8 * count name none (held as copies)."""
    lanes = (Mode(8, ROW, 1), Mode(count, MATRIX, 1), Mode(4 // count, -1, 0))
    return Distribution((count, 8, 8), lanes, (Mode(8, COLUMN, 1),))


def load(memory: Bytes, addresses: Bytes, count: int, transposed: bool) -> Bytes:
    """The reference of ldmatrix, lane by lane as the manual words it."""
    out = np.zeros((32, count), np.uint32)
    for i in range(count):
        matrix = np.stack([memory[a : a + 16].view(np.uint16) for a in addresses[8 * i : 8 * i + 8]])
        matrix = matrix.T if transposed else matrix
        for lane in range(32):
            low, high = (int(matrix[lane // 4, 2 * (lane % 4) + j]) for j in (0, 1))
            out[lane, i] = low | high << 16
    return out


def store(memory: Bytes, addresses: Bytes, registers: Bytes, transposed: bool) -> Bytes:
    """The reference of stmatrix: the inverse of `load`."""
    out = memory.copy()
    for i in range(registers.shape[1]):
        matrix = np.zeros((8, 8), np.uint16)
        for lane in range(32):
            word = int(registers[lane, i])
            matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2] = (word & 0xFFFF, word >> 16)
        matrix = matrix.T if transposed else matrix
        for row, address in enumerate(addresses[8 * i : 8 * i + 8]):
            out[address : address + 16] = np.ascontiguousarray(matrix[row]).view(np.uint8)
    return out


def _move(word: str, count: int, transposed: bool) -> Atom:
    loads = word == "ldmatrix"
    suffix, dot = ("_trans", ".trans") if transposed else ("", "")
    direction: Direction = "out" if loads else "in"
    registers = Operand("r", "u32", direction=direction, layout=fragment(count, transposed), count=count)
    at = Operand("at", "u32", space="shared", layout=rows(count))
    sides = "$r, [$at]" if loads else "[$at], $r"
    reference = (
        (lambda memory, addresses: load(memory, addresses, count, transposed))
        if loads
        else (lambda memory, addresses, r: store(memory, addresses, r, transposed))
    )
    opcode = rf"{'LDSM' if loads else 'STSM'}\.16\.{'MT88' if transposed else 'M88'}{f'.{count}' if count > 1 else ''}$"
    section = "warp-level matrix load: ldmatrix" if loads else "warp-level matrix store: stmatrix"
    return Atom(
        name=f"{word}_x{count}{suffix}",
        kind=word,
        archs=("sm_80" if loads else "sm_90",),
        shape=(count, 8, 8),
        operands=(registers, at) if loads else (at, registers),
        reference=reference,
        source=f"PTX ISA 9.0, {section}",
        scope="warp",
        alignment=16,
        ptx=f"{word}.sync.aligned.m8n8.x{count}{dot}.shared.b16 {sides};",
        sass=(("sm_80" if loads else "sm_90", opcode),),
    )


ATOMS: tuple[Atom, ...] = tuple(
    _move(word, count, transposed)
    for word in ("ldmatrix", "stmatrix")
    for transposed in (False, True)
    for count in (1, 2, 4)
)
