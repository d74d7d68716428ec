"""Warpgroup products `wgmma.mma_async`: d += a (64, k) @ b (k, n), four warps, d in registers, b in shared memory.

Layouts with w = warp in the group, g = lane / 4, t = lane % 4: those of mma.sync, 16 rows a warp. b, and a unless the
atom's name ends in `_ra`, lie in shared memory behind a descriptor (`shared_operand`). `reference(a, b, c)` takes a as
tile (64, k) or as registers (128 threads, values), b as tile (k, n), c as registers (128, n / 2), and returns d; it is
written from the manual's per-lane formulas, not from the distributions, which the tests prove against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl.atoms import mma
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.dtypes import bits, is_integer
from kernelagent.dsl.lanes import Distribution, Mode
from numpy.typing import NDArray

Values = NDArray[Any]

M, WARPS, THREADS = 64, 4, 128
K_BYTES = 32
"""Every product takes 32 bytes of k, whatever the dtype."""
ROW, COLUMN = mma.ROW, mma.COLUMN


def sizes(dtype: str) -> tuple[int, ...]:
    """The n of the products of a dtype: 8 to 256 in steps of 8, but of 16 from 32 on for integers."""
    every = range(8, 257, 8)
    return tuple(n for n in every if not is_integer(dtype) or n <= 32 or n % 16 == 0)


def d_layout(n: int) -> Distribution:
    """D over (m, n): row 16 w + g (+ 8), columns 8 j + 2t and 2t + 1, j slowest."""
    lanes = (Mode(4, COLUMN, 2), Mode(8, ROW, 1), Mode(WARPS, ROW, mma.M))
    values = (Mode(2, COLUMN, 1), Mode(2, ROW, 8), Mode(n // 8, COLUMN, 8))
    return Distribution((M, n), lanes, tuple(m for m in values if m.extent > 1))


def a_layout(k: int, packed: int) -> Distribution:
    """A in registers over (m, k): each warp holds the fragment that mma.sync takes, of its own 16 rows."""
    warp = mma.a_layout(k, packed)
    return Distribution((M, k), (*warp.lanes, Mode(WARPS, ROW, mma.M)), warp.values)


def multiply(a: Values, b: Values, c: Values, packed: int) -> Values:
    """The reference for `a` as a tile (64, k) or as registers (128, values)."""
    thread = np.arange(THREADS)
    row, member = 16 * (thread // 32) + thread % 32 // 4, thread % 4
    if a.shape[0] == THREADS:
        a = _gathered(a, row, member, packed)
    product = a @ b
    found = [product[row + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * member + i % 2] for i in range(c.shape[1])]
    return np.asarray(c + np.stack(found, axis=1))


def _gathered(registers: Values, row: Values, member: Values, packed: int) -> Values:
    """The tile behind the registers of a."""
    tile = np.zeros((M, 8 * packed), registers.dtype)
    for i in range(registers.shape[1]):
        register, within = divmod(i, packed)
        tile[row + 8 * (register % 2), packed * member + within + 4 * packed * (register // 2)] = registers[:, i]
    return tile


@dataclass(frozen=True)
class _Kind:
    """What the products of one pair of operand types have in common; `sass` is the opcode and its end."""

    name: str
    dtype: str
    sass: tuple[str, str]
    precision: str

    @property
    def integer(self) -> bool:
        return is_integer(self.dtype)

    @property
    def k(self) -> int:
        return 8 * K_BYTES // bits(self.dtype)

    @property
    def both_majors(self) -> bool:
        """Whether m or n may run along rows in shared memory, too."""
        return bits(self.dtype) == 16


_EXACT = "products exact; sums in f32, low bits truncated, order unspecified"
_TF32 = "operands read as tf32: their low 13 bits are ignored; products exact; sums in f32, low bits truncated"
_EIGHT_BIT = "products exact; sums keep about 14 bits within a product of k 32, f32 between them"

KINDS = (
    _Kind("f16", "f16", ("HGMMA", r"\.F32$"), _EXACT),
    _Kind("bf16", "bf16", ("HGMMA", r"\.F32\.BF16$"), _EXACT),
    _Kind("tf32", "f32", ("HGMMA", r"\.F32\.TF32$"), _TF32),
    _Kind("e4m3", "f8e4m3", ("QGMMA", r"\.F32\.E4M3\.E4M3$"), _EIGHT_BIT),
    _Kind("e5m2", "f8e5m2", ("QGMMA", r"\.F32\.E5M2\.E5M2$"), _EIGHT_BIT),
    _Kind("s8", "i8", ("IGMMA", r"\.S8\.S8$"), "exact modulo 2**32"),
)


def name(kind: str, n: int, from_registers: bool = False) -> str:
    """The atom's name; `kind` is one of f16, bf16, tf32, e4m3, e5m2, s8."""
    k = next(found.k for found in KINDS if found.name == kind)
    return f"wgmma_m{M}n{n}k{k}_{kind}{'_ra' if from_registers else ''}"


def _wgmma(kind: _Kind, n: int, from_registers: bool) -> Atom:
    accumulator = "i32" if kind.integer else "f32"
    packed = 32 // bits(kind.dtype)
    a = Operand("a", kind.dtype, "descriptor", carrier="u64")
    if from_registers:
        a = Operand("a", kind.dtype, layout=a_layout(kind.k, packed), count=4, carrier="u32")
    turns = tuple(f"t{side}" for side in ("b" if from_registers else "ab")) if kind.both_majors else ()
    opcode, ending = kind.sass
    return Atom(
        name=name(kind.name, n, from_registers),
        kind="wgmma",
        archs=("sm_90a",),
        shape=(M, n, kind.k),
        operands=(
            Operand("d", accumulator, direction="inout", layout=d_layout(n), count=n // 2),
            a,
            Operand("b", kind.dtype, "descriptor", carrier="u64"),
            *(Operand(turn, "i32", "immediate") for turn in turns),
            Operand("add", "i32", "immediate", usual=1),
        ),
        reference=lambda a, b, c: multiply(a, b, c, packed),
        source="PTX ISA 9.0, wgmma.mma_async: register fragments, shared memory matrix layout",
        scope="warpgroup",
        completion="group",
        proxy="async",
        accumulator=accumulator,
        precision=kind.precision,
        ptx=_ptx(kind, n, turns),
        sass=(("sm_90a", rf"{opcode}\.{M}x{n}x{kind.k}{ending}"),),
    )


def _ptx(kind: _Kind, n: int, turns: tuple[str, ...]) -> str:
    """`add` is scale-d: 1 adds to d, 0 begins a sum and does not read d; floats have scales of their operands, too,
    which are 1."""
    types = f"s32.{kind.name}.{kind.name}" if kind.integer else f"f32.{kind.name}.{kind.name}"
    scales = "" if kind.integer else ", 1, 1"
    turned = "".join(f", ${turn}" for turn in turns)
    return (
        "{ .reg .pred p; setp.ne.b32 p, $add, 0; "
        f"wgmma.mma_async.sync.aligned.m{M}n{n}k{kind.k}.{types} $d, $a, $b, p{scales}{turned}; }}"
    )


def _group(called: str, kind: str, ptx: str, sass: str, operands: tuple[Operand, ...] = ()) -> Atom:
    return Atom(
        name=called,
        kind=kind,
        archs=("sm_90a",),
        shape=(),
        operands=operands,
        reference=None,
        source="PTX ISA 9.0, wgmma.fence, wgmma.commit_group, wgmma.wait_group",
        scope="warpgroup",
        completion="sync" if kind == "fence" else "group",
        ptx=ptx,
        sass=(("sm_90a", sass),),
    )


_GROUPS = (
    _group("wgmma_fence", "fence", "wgmma.fence.sync.aligned;", r"WARPGROUP\.ARRIVE"),
    _group("wgmma_commit", "commit", "wgmma.commit_group.sync.aligned;", r"[HQI]GMMA"),  # a mark on the last product
    _group(
        "wgmma_wait",
        "wait",
        "wgmma.wait_group.sync.aligned $pending;",
        r"WARPGROUP\.DEPBAR\.LE",
        (Operand("pending", "i32", "immediate"),),
    ),
)

ATOMS: tuple[Atom, ...] = (
    *_GROUPS,
    *(_wgmma(kind, n, ra) for kind in KINDS for ra in (False, True) for n in sizes(kind.dtype)),
)
