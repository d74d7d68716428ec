"""Proofs by exhaustion: fragments are bijections, and the matrix atoms compute the product through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom, Operand, atom, atoms, held
from kernelagent.dsl.lanes import Distribution, covers
from numpy.typing import NDArray

Values = NDArray[Any]

PRODUCTS = atoms("mma", "sm_90a")
PLACED = [(a, o) for a in atoms() if a.kind != "wgmma" for o in a.operands if o.layout is not None]

each_product = pytest.mark.parametrize("product", PRODUCTS, ids=lambda a: a.name)


def layout(product: Atom, name: str) -> Distribution:
    found = product.operand(name).layout
    assert found is not None
    return found


def distribute(tile: Values, over: Distribution) -> Values:
    """Registers (threads, values) that hold the tile."""
    registers = np.zeros((over.threads, over.registers), tile.dtype)
    for thread, value, at in over.elements():
        registers[thread, value] = tile[at]
    return registers


def collect(registers: Values, over: Distribution) -> Values:
    tile = np.zeros(over.shape, registers.dtype)
    for thread, value, at in over.elements():
        tile[at] = registers[thread, value]
    return tile


def through_registers(product: Atom, a: Values, b: Values, c: Values) -> Values:
    assert product.reference is not None
    registers = (distribute(tile, layout(product, name)) for name, tile in (("a", a), ("b", b), ("d", c)))
    return collect(product.reference(*registers), layout(product, "d"))


@pytest.mark.parametrize(("owner", "operand"), PLACED, ids=lambda x: x.name)
def test_layouts_are_bijections(owner: Atom, operand: Operand) -> None:
    """Every element is held exactly as often as the layout declares copies, and nothing else is held."""
    over = operand.layout
    assert over is not None
    assert over.threads == 32
    found: dict[tuple[int, ...], int] = {}
    for _, _, at in over.elements():
        found[at] = found.get(at, 0) + 1
    assert set(found) == set(np.ndindex(over.shape))
    assert set(found.values()) == {over.copies}
    assert over.copies == 1 or operand.space == "shared"
    assert covers(over)


@each_product
def test_registers_are_as_many_as_the_layout_fills(product: Atom) -> None:
    for operand in product.operands:
        assert operand.layout is not None
        assert operand.count is not None
        assert operand.count * operand.per_register == operand.layout.registers


@each_product
def test_shapes_follow_the_layouts(product: Atom) -> None:
    m, n, k = product.shape
    assert layout(product, "a").shape == (m, k)
    assert layout(product, "b").shape == (k, n)
    assert layout(product, "d").shape == (m, n)


@each_product
def test_the_product_of_every_pair_of_unit_matrices(product: Atom) -> None:
    """b holds 256^(position): each digit of a result counts how often that element of b was taken."""
    m, n, k = (int(extent) for extent in product.shape)
    b = np.array([256**i for i in range(k * n)], object).reshape(k, n)
    zero = np.zeros((m, n), object)
    for row, inner in np.ndindex(m, k):
        a = np.zeros((m, k), object)
        a[row, inner] = 1
        expected = zero.copy()
        expected[row] = b[inner]
        assert (through_registers(product, a, b, zero) == expected).all()


@each_product
def test_products_of_small_integers_are_exact(product: Atom) -> None:
    m, n, k = (int(extent) for extent in product.shape)
    numbers = np.random.default_rng(1)
    a, b, c = (numbers.integers(-8, 9, shape) for shape in ((m, k), (k, n), (m, n)))
    assert (through_registers(product, a, b, c) == a @ b + c).all()


def test_packed_registers_hold_neighbouring_k() -> None:
    """The manual's pictures, spelled out for lane 5 (g = 1, t = 1)."""
    assert held(atom("mma_m16n8k16_bf16"), "a", 5, 1) == ((9, 2), (9, 3))
    assert held(atom("mma_m16n8k16_bf16"), "a", 5, 2) == ((1, 10), (1, 11))
    assert held(atom("mma_m16n8k16_f16"), "b", 5, 1) == ((10, 1), (11, 1))
    assert held(atom("mma_m16n8k8_tf32"), "a", 5, 3) == ((9, 5),)
    assert held(atom("mma_m16n8k32_s8"), "a", 5, 2) == ((1, 20), (1, 21), (1, 22), (1, 23))
    assert held(atom("mma_m16n8k32_e4m3"), "b", 5, 0) == ((4, 1), (5, 1), (6, 1), (7, 1))
