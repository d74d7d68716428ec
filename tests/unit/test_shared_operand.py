"""Descriptors against the manual: what the instruction reads is what a box of a tensor map has put there.

The decoder and the walk are written from PTX ISA 9.0, "Asynchronous warpgroup level matrix shared memory layout",
without the code that they test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import boxes
from kernelagent.dsl.atoms import Descriptor, atom, descriptor, widest_swizzle
from kernelagent.dsl.atoms.shared_operand import Major, Side, encode
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.tensor_map import TensorMapSpec
from numpy.typing import NDArray

Values = NDArray[Any]

ATOMS = {16: "wgmma_m64n{n}k16_bf16", 8: "wgmma_m64n{n}k32_e4m3", 32: "wgmma_m64n{n}k8_tf32"}
DTYPES = {16: "bf16", 8: "u8", 32: "f32"}
BASE = 3 * 1024


def walk(bits: int, width: int, major: Major, mn: Values, k: Values) -> Values:
    """Byte address of element (mn, k) by the canonical layouts; all but the swizzle counts in elements."""
    each = width // 8
    start, lbo, sbo = ((bits >> shift & 0x3FFF) * 16 for shift in (0, 16, 32))
    assert bits >> 49 & 7 == 0  # base offset: patterns start at multiples of their period
    kind = bits >> 62
    t = 16 // each
    w = {0: 1, 1: 8, 2: 4, 3: 2}[kind]
    if major == "K":
        along = (k % t) * each + (k // t) * (lbo if kind == 0 else t * each)
        linear = along + (mn % 8) * w * t * each + (mn // 8) * sbo
    else:
        across, outer = (sbo, lbo) if kind == 0 else (lbo, sbo)
        linear = (mn % t + (mn // t % w) * t) * each + (mn // (t * w)) * across
        linear += (k % 8) * w * t * each + (k // 8) * outer
    address = start + linear
    for bit in range({0: 0, 3: 1, 2: 2, 1: 3}[kind]):
        address ^= (address >> (7 + bit) & 1) << (4 + bit)
    return np.asarray(address)


def placed(found: Descriptor, dtype: str) -> Values:
    """Byte address of each element (mn, k) after the boxes of the tile were loaded, one behind the other."""
    panels = found.panels
    spec = TensorMapSpec("a", dtype, (1, 0), panels.box, panels.swizzle)
    inside = boxes.places(spec)[:, 0].reshape(panels.rows, panels.span_elements)
    starts = BASE + panels.panel_bytes * np.arange(panels.count)
    whole = np.concatenate([start + inside for start in starts], axis=1)
    return whole if panels.major == "K" else whole.T


def legal(width: int, major: Major, swizzle: int, k: int, atom_mn: int) -> bool:
    row = (k if major == "K" else atom_mn) * width // 8
    return (major == "K" or width == 16) and row % max(swizzle, 16) == 0


@pytest.mark.parametrize("width", [16, 8, 32])
@pytest.mark.parametrize("major", ["K", "MN"])
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize("side", ["a", "b"])
def test_the_instruction_reads_what_the_boxes_wrote(width: int, major: Major, swizzle: int, side: Side) -> None:
    """Tiles of 32, 64, 128 and 256 bytes of k, some wider than the atom; each k step, each part of the tile."""
    tried = 0
    for n in (8, 24, 64, 96, 192, 256):
        product = atom(ATOMS[width].format(n=n))
        atom_mn, atom_k = int(product.shape[0 if side == "a" else 1]), int(product.shape[2])
        for k in (8 * size // width for size in (32, 64, 128, 256)):
            mn = 2 * atom_mn if side == "a" or n <= 96 else atom_mn
            tile = (mn, k) if side == "a" else (k, mn)
            if not legal(width, major, swizzle, k, atom_mn):
                with pytest.raises(KernelError):
                    descriptor(product, side, tile, major, swizzle)
                continue
            found = descriptor(product, side, tile, major, swizzle)
            if found.panels.rows > 256:
                continue
            tried += 1
            where = placed(found, DTYPES[width])
            assert BASE % found.base_alignment == 0
            assert found.panels.panel_bytes % found.base_alignment == 0
            rows, columns = np.meshgrid(np.arange(atom_mn), np.arange(atom_k), indexing="ij")
            for step in range(k // atom_k):
                for first in range(0, mn, atom_mn):
                    start = BASE + found.start(step, first)
                    read = walk(encode(start, found.lbo, found.sbo, swizzle), width, major, rows, columns)
                    part = where[first : first + atom_mn, step * atom_k : (step + 1) * atom_k]
                    assert (read == part).all(), (n, k, step, first)
    assert tried or not any(legal(width, major, swizzle, 256, n) for n in (64, 256))


def test_figures_of_known_kernels() -> None:
    """128-byte rows of 64 bf16: 1024 bytes to the next 8 rows, a k step of 32 bytes; turned, one of 2048 bytes."""
    product = atom("wgmma_m64n256k16_bf16")
    k_major = descriptor(product, "a", (128, 64), "K", 128)
    assert (k_major.lbo, k_major.sbo, k_major.step_bytes, k_major.base_alignment) == (0, 1024, 32, 1024)
    assert k_major.start(3, 64) == 64 * 128 + 96
    turned = descriptor(product, "b", (64, 256), "MN", 128)
    assert (turned.lbo, turned.sbo, turned.step_bytes) == (64 * 128, 1024, 2048)
    assert (turned.panels.count, turned.panels.box, turned.turn) == (4, (64, 64), 1)


def test_panels_of_n_are_boxes_with_zeros_outside() -> None:
    """b of 256 columns as four boxes from an array of 200: the product sees zeros behind its edge."""
    product = atom("wgmma_m64n256k16_bf16")
    found = descriptor(product, "b", (16, 256), "MN", 128)
    spec = TensorMapSpec("b", "bf16", (1, 0), found.panels.box, 128)
    array = np.arange(1, 16 * 200 + 1, dtype=np.uint16).reshape(16, 200)
    memory = np.concatenate([boxes.load(spec, array, (64 * panel, 0)) for panel in range(4)])
    rows, columns = np.meshgrid(np.arange(256), np.arange(16), indexing="ij")
    at = walk(encode(found.start(0), found.lbo, found.sbo, 128), 16, "MN", rows, columns)
    read = memory.view(np.uint16)[at // 2].T
    assert (read[:, :200] == array).all()
    assert not read[:, 200:].any()


def test_starts_wrap_as_the_fields_do() -> None:
    """The upper bits of an address in a cluster's window name the block; descriptors mean the own one."""
    assert encode(0x5000400, 0, 1024, 128) == encode(0x400, 0, 1024, 128) == 1 << 62 | 64 << 32 | 64


@pytest.mark.parametrize(
    ("name", "side", "tile", "major", "widest"),
    [
        ("wgmma_m64n256k16_bf16", "a", (128, 64), "K", 128),
        ("wgmma_m64n256k16_bf16", "a", (128, 32), "K", 64),
        ("wgmma_m64n256k16_bf16", "a", (128, 48), "K", 32),
        ("wgmma_m64n96k16_bf16", "b", (64, 96), "MN", 64),
        ("wgmma_m64n8k16_bf16", "b", (64, 8), "MN", 0),
        ("wgmma_m64n64k32_e4m3", "b", (64, 64), "MN", None),
        ("wgmma_m64n64k32_e4m3", "b", (128, 64), "K", 128),
        ("wgmma_m64n64k16_bf16_ra", "a", (64, 64), "K", None),
    ],
)
def test_the_widest_swizzle(name: str, side: Side, tile: tuple[int, int], major: Major, widest: int | None) -> None:
    assert widest_swizzle(atom(name), side, tile, major) == widest


@pytest.mark.parametrize(
    ("name", "side", "tile", "major", "swizzle", "says", "hint"),
    [
        ("wgmma_m64n96k16_bf16", "b", (64, 96), "MN", 128, "do not divide 192", "swizzle=64"),
        ("wgmma_m64n96k16_bf16", "b", (32, 96), "K", 128, "do not divide 64", "swizzle=64"),
        ("wgmma_m64n64k32_s8", "b", (64, 64), "MN", 64, "8-bit elements", "B[n, k]"),
        ("wgmma_m64n64k8_tf32", "a", (64, 64), "MN", 64, "32-bit elements", "A[m, k]"),
        ("wgmma_m64n64k16_f16", "a", (96, 40), "K", 0, "96 x 40", "128 x 48"),
        ("wgmma_m64n64k16_f16", "a", (64, 64), "K", 256, "256 bytes", "32, 64 or 128"),
        ("wgmma_m64n64k16_f16_ra", "a", (64, 64), "K", 128, "from registers", "wgmma_m64n64k16_f16 "),
    ],
)
def test_refusals_name_what_works(
    name: str, side: Side, tile: tuple[int, int], major: Major, swizzle: int, says: str, hint: str
) -> None:
    with pytest.raises(KernelError) as caught:
        descriptor(atom(name), side, tile, major, swizzle)
    (found,) = caught.value.diagnostics
    assert found.code == "wgmma-operand"
    assert says in found.message
    assert found.hint is not None
    assert hint in found.hint
