"""The theorem that emitted code rests on: each fetch brings into the registers what the matrix atom wants there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom, Fetch, atom, atoms, fetch, held
from kernelagent.dsl.atoms.fetch import Side
from kernelagent.dsl.dtypes import bits
from numpy.typing import NDArray

PAD = 16
"""Bytes between rows in memory, so that running over a row's end cannot go unnoticed."""

SIDES: tuple[Side, ...] = ("a", "b")
CASES = list(itertools.product(atoms("mma", "sm_90a"), SIDES, (True, False), (True, False)))


def name_of(value: object) -> str:
    return getattr(value, "name", str(value))


each_case = pytest.mark.parametrize(("product", "side", "k_contiguous", "wide"), CASES, ids=name_of)


class Stored:
    """A tile in shared memory whose elements are (a byte of) their own numbers, rows along k or across it."""

    def __init__(self, way: Fetch, width: int, k_contiguous: bool, shift: int = 0) -> None:
        self.bytes_each = width // 8
        rows_along_last = (way.side == "a") == k_contiguous
        self.order = (0, 1) if rows_along_last else (1, 0)
        self.tile = way.tile
        rows, columns = (way.tile[axis] for axis in self.order)
        self.pitch = columns * self.bytes_each + PAD
        self.mask = (1 << width) - 1
        self.shift = shift
        self.memory: NDArray[Any] = np.full(rows * self.pitch, 0xEE, np.uint8)
        for at in np.ndindex(way.tile):
            start = self.address(at)
            raw = self.number(at).to_bytes(self.bytes_each, "little")
            self.memory[start : start + self.bytes_each] = list(raw)

    def address(self, at: tuple[int, ...]) -> int:
        return at[self.order[0]] * self.pitch + at[self.order[1]] * self.bytes_each

    def number(self, at: tuple[int, ...]) -> int:
        return (at[0] * self.tile[1] + at[1] + 1 >> self.shift) & self.mask


def wanted(product: Atom, way: Fetch, stored: Stored, lane: int, register: int) -> int:
    """The register's bits by the atom's own layout; b's further atoms lie 8 columns on."""
    count = product.operand(way.side).count
    assert count is not None
    repeat, own = divmod(register, count)
    word = 0
    for i, (row, column) in enumerate(held(product, way.side, lane, own)):
        word |= stored.number((row, column + 8 * repeat)) << 8 * stored.bytes_each * i
    return word


@each_case
def test_ldmatrix_feeds_the_registers_that_the_product_wants(
    product: Atom, side: Side, k_contiguous: bool, wide: bool
) -> None:
    way = fetch(product, side, k_contiguous, wide)
    width = bits(product.operand(side).dtype)
    if not way.via.startswith("ldmatrix"):
        assert not k_contiguous
        assert width != 16
        return
    load = atom(way.atom)
    assert load.reference is not None
    for shift in (0, 8):  # numbers exceed a byte: 8-bit elements carry one half at a time
        stored = Stored(way, width, k_contiguous, shift)
        addresses = [stored.address(way.row(lane)) for lane in range(32)]
        assert all(address % load.alignment == 0 for address in addresses)
        registers = load.reference(stored.memory, addresses)
        expected = [[wanted(product, way, stored, lane, r) for r in range(registers.shape[1])] for lane in range(32)]
        assert registers.tolist() == expected


@each_case
def test_a_fetch_fills_whole_atoms(product: Atom, side: Side, k_contiguous: bool, wide: bool) -> None:
    way = fetch(product, side, k_contiguous, wide)
    operand = product.operand(side)
    assert operand.layout is not None
    assert operand.count is not None
    rows, columns = operand.layout.shape
    assert way.tile == (rows, columns * way.repeats)
    assert way.repeats == (2 if wide and side == "b" and way.via.startswith("ldmatrix") else 1)
    if way.via.startswith("ldmatrix"):
        assert atom(way.atom).operand("r").count == operand.count * way.repeats
    else:
        assert atom(way.atom).shape == ((4,) if way.via == "words" else (1,))


@pytest.mark.parametrize("name", ["mma_m16n8k32_s8", "mma_m16n8k32_e4m3"])
def test_no_transposing_load_can_feed_8_bit_operands(name: str) -> None:
    """Each half of a register that .trans fills is two bytes side by side in one row, whatever rows the lanes name;
    with rows across k these are two n of one k, and the atom wants four k of one n."""
    load = atom("ldmatrix_x4_trans")
    assert load.reference is not None
    memory = np.arange(256, dtype=np.uint8)
    registers = load.reference(memory, 16 * np.random.default_rng(3).permutation(16)[np.arange(32) % 16])
    low, high = registers & 0xFF, registers >> 8 & 0xFF
    assert (high == low + 1).all()
    assert (low // 16 == high // 16).all()
    for lane, register in itertools.product(range(32), range(2)):
        elements = held(atom(name), "b", lane, register)
        assert len({k for k, _ in elements}) == 4
        assert len({n for _, n in elements}) == 1


@pytest.mark.parametrize("transposed", ["", "_trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_undoes_ldmatrix(count: int, transposed: str) -> None:
    load, store = atom(f"ldmatrix_x{count}{transposed}"), atom(f"stmatrix_x{count}{transposed}")
    assert load.reference is not None
    assert store.reference is not None
    numbers = np.random.default_rng(2)
    memory = numbers.integers(0, 256, 1024).astype(np.uint8)
    addresses = 16 * numbers.permutation(64)[:32]
    registers = load.reference(memory, addresses)
    blank = np.zeros_like(memory)
    written = store.reference(blank, addresses, registers)
    named = np.concatenate([np.arange(a, a + 16) for a in addresses[: 8 * count]])
    assert (written[named] == memory[named]).all()
    assert np.delete(written, named).sum() == 0


def test_accumulator_pairs_are_what_stmatrix_takes() -> None:
    """c packed to 16 bits: register 0 is rows 0-7, register 1 rows 8-15 of the 16 x 8 tile."""
    product, store = atom("mma_m16n8k16_bf16"), atom("stmatrix_x2")
    layout = product.operand("d").layout
    assert layout is not None
    assert store.reference is not None
    number = lambda at: at[0] * 8 + at[1] + 1  # noqa: E731
    packed = np.zeros((32, 2), np.uint32)
    for lane, value, at in layout.elements():
        packed[lane, value // 2] |= np.uint32(number(at) << 16 * (value % 2))
    memory = store.reference(np.zeros(256, np.uint8), [16 * (lane % 16) for lane in range(32)], packed)
    assert memory.view(np.uint16).reshape(16, 8).tolist() == [[number((r, c)) for c in range(8)] for r in range(16)]
