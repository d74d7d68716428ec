"""Warpgroup products by exhaustion: fragments are bijections, references are the product, choices are whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom, Detour, atom, atoms, held, warpgroup_support, wgmma_for
from kernelagent.dsl.atoms import wgmma as family
from kernelagent.dsl.atoms.support import DTYPES, TRANSPOSITIONS
from kernelagent.dsl.catalogue import entries
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import Distribution, Mode, covers, same
from numpy.typing import NDArray

Values = NDArray[Any]

PRODUCTS = atoms("wgmma", "sm_90a")
SOME = [a for a in PRODUCTS if a.shape[1] in (8, 24, 64, 256)]


def layout(product: Atom, name: str) -> Distribution:
    found = product.operand(name).layout
    assert found is not None
    return found


def distribute(tile: Values, over: Distribution) -> Values:
    registers = np.zeros((over.threads, over.registers), tile.dtype)
    for thread, value, at in over.elements():
        registers[thread, value] = tile[at]
    return registers


def is_bijective(over: Distribution) -> bool:
    held_at = [at for _, _, at in over.elements()]
    return len(held_at) == len(set(held_at)) and set(held_at) == set(np.ndindex(over.shape))


@pytest.mark.parametrize("n", range(8, 257, 8))
def test_accumulators_are_bijections(n: int) -> None:
    over = family.d_layout(n)
    assert (over.threads, over.registers) == (128, n // 2)
    assert is_bijective(over)
    assert covers(over)


@pytest.mark.parametrize("packed", [1, 2, 4])
def test_operands_in_registers_are_bijections(packed: int) -> None:
    over = family.a_layout(8 * packed, packed)
    assert (over.threads, over.registers) == (128, 4 * packed)
    assert is_bijective(over)


def test_the_manuals_pictures() -> None:
    """Thread 70: warp 2, g = 1, t = 2."""
    d = family.d_layout(256)
    assert [d.coordinates(70, v) for v in (0, 1, 2, 3, 4, 127)] == [
        (33, 4), (33, 5), (41, 4), (41, 5), (33, 12), (41, 253),
    ]  # fmt: skip
    assert held(atom("wgmma_m64n8k16_bf16_ra"), "a", 70, 1) == ((41, 4), (41, 5))
    assert held(atom("wgmma_m64n8k16_f16_ra"), "a", 70, 2) == ((33, 12), (33, 13))
    assert held(atom("wgmma_m64n8k8_tf32_ra"), "a", 70, 3) == ((41, 6),)
    assert held(atom("wgmma_m64n8k32_e4m3_ra"), "a", 70, 2) == tuple((33, k) for k in (24, 25, 26, 27))


@pytest.mark.parametrize("product", SOME, ids=lambda a: a.name)
def test_references_are_the_product(product: Atom) -> None:
    assert product.reference is not None
    m, n, k = (int(extent) for extent in product.shape)
    numbers = np.random.default_rng(1)
    a, b, c = (numbers.integers(-99, 100, shape) for shape in ((m, k), (k, n), (m, n)))
    given = a if product.operand("a").layout is None else distribute(a, layout(product, "a"))
    over = layout(product, "d")
    result = product.reference(given, b, distribute(c, over))
    assert (result == distribute(a @ b + c, over)).all()


@pytest.mark.parametrize("n", [16, 64, 128, 256])
def test_slices_of_accumulators_are_operands_of_16_bits(n: int) -> None:
    """Columns 16 s to 16 s + 15 of a product are a of a further product once they are packed in pairs."""
    d, a = family.d_layout(n), family.a_layout(16, 2)
    for part in range(n // 16):
        for thread, value, (row, column) in a.elements():
            assert d.coordinates(thread, 8 * part + value) == (row, column + 16 * part)
    assert same(Distribution((64, 16), d.lanes, (*d.values[:2], Mode(2, 1, 8))), a)


def test_slices_of_accumulators_are_no_operands_of_8_bits() -> None:
    d, a = family.d_layout(32), family.a_layout(32, 4)
    assert any(d.coordinates(t, v) != at for t, v, at in a.elements())


# Records ------------------------------------------------------------------------------------------------------


def test_every_width_is_there() -> None:
    floats, integers = family.sizes("bf16"), family.sizes("i8")
    assert floats == tuple(range(8, 257, 8))
    assert integers == (8, 16, 24, 32, *range(48, 257, 16))
    assert len(PRODUCTS) == 2 * (5 * 32 + 18)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda a: a.name)
def test_records_follow_the_shape(product: Atom) -> None:
    m, n, k = (int(extent) for extent in product.shape)
    a, b, d = (product.operand(name) for name in ("a", "b", "d"))
    assert (m, n % 8, k * bits(a.dtype)) == (64, 0, 256)
    assert layout(product, "d").shape == (m, n)
    assert d.count == layout(product, "d").registers
    assert b.space == "descriptor"
    if product.name.endswith("_ra"):
        assert layout(product, "a").shape == (m, k)
        assert a.count is not None
        assert a.count * a.per_register == layout(product, "a").registers
    else:
        assert a.space == "descriptor"
    assert (product.scope, product.proxy, product.completion) == ("warpgroup", "async", "group")
    assert product.archs == ("sm_90a",)


# Choices ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposition", TRANSPOSITIONS)
def test_each_cell_is_an_atom_a_detour_or_a_diagnostic(dtype: str, transposition: str) -> None:
    match warpgroup_support(dtype, transposition).choice:
        case Diagnostic(code=code, hint=hint):
            assert code in entries()
            assert hint
        case Detour(atom=used, reason=reason):
            assert used.runs_on("sm_90a")
            assert reason
        case Atom() as used:
            assert used.kind == "wgmma"
            assert dtype in ("f16", "bf16") or transposition == "NT"


def test_narrow_and_wide_operands_want_k_along_rows() -> None:
    ways = {
        (dtype, t): getattr(warpgroup_support(dtype, t).choice, "name", "")
        for dtype in ("f8e4m3", "i8")
        for t in TRANSPOSITIONS
    }
    assert ways == {
        ("f8e4m3", "NN"): "mma-sync",
        ("f8e4m3", "NT"): "wgmma_m64n64k32_e4m3",
        ("f8e4m3", "TN"): "mma-sync",
        ("f8e4m3", "TT"): "a-through-registers",
        ("i8", "NN"): "mma-sync",
        ("i8", "NT"): "wgmma_m64n64k32_s8",
        ("i8", "TN"): "mma-sync",
        ("i8", "TT"): "a-through-registers",
    }


def test_operands_from_registers() -> None:
    assert wgmma_for("bf16", "bf16", "f32", "exact", "R", "MN", 128) == atom("wgmma_m64n128k16_bf16_ra")
    assert wgmma_for("f32", "f32", "f32", "tf32", "R", "K", 8) == atom("wgmma_m64n8k8_tf32_ra")


@pytest.mark.parametrize(
    ("dtype", "acc", "n", "says", "hint"),
    [
        ("bf16", "f32", 12, "12 wide", "8 or 16"),
        ("bf16", "f32", 512, "512 wide", "n = 256"),
        ("i8", "i32", 40, "40 wide", "32 or 48"),
        ("bf16", "f16", 64, "accumulate in f16", "f32"),
        ("i16", "i32", 64, "multiplies i16", "cast"),
    ],
)
def test_refusals_name_what_is_possible(dtype: str, acc: str, n: int, says: str, hint: str) -> None:
    answer = wgmma_for(dtype, dtype, acc, "exact", "K", "K", n)
    assert isinstance(answer, Diagnostic)
    assert says in answer.message
    assert answer.hint is not None
    assert hint in answer.hint
