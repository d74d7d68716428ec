"""Products by every atom: operands in shared memory in both orders, swizzled and padded, and in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.dtypes import bits, numpy_dtype
from kernelagent.dsl.index import index
from kernelagent.dsl.lanes import Distribution, Mode, striped, tiled
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch
from numpy.typing import NDArray
from support.device_kernels import Maker, blank, correct

Array = NDArray[Any]
ATOMS = [
    "m16n8k16_bf16",
    "m16n8k16_f16",
    "m16n8k8_tf32",
    "m16n8k32_s8",
    "m16n8k32_u8",
    "m16n8k32_e4m3",
    "m16n8k32_e5m2",
]
M, N, K = 64, 32, 64
WARPS = (2, 2)


def sample(dtype: str, shape: tuple[int, int], seed: int) -> Array:
    """Small integers: sums are exact in every dtype."""
    low = 0 if dtype.startswith("u") else -4
    return np.random.default_rng(seed).integers(low, 5, shape).astype(numpy_dtype(dtype))


def staged(
    maker: Maker, name: str, dtype: str, shape: tuple[int, int], turned: bool, swizzle: dev.Swizzle | None, pad: int
) -> dev.Shared:
    """An array copied to shared memory as it lies; the reference is (m, k) or (k, n)."""
    stored = (shape[1], shape[0]) if turned else shape
    view = maker.array(name, dtype, stored)
    maker.buffers.append(dev.SharedBuffer(f"{name}_s", dtype, stored, 1, swizzle, pad, maker_offset(maker)))
    target = dev.Shared(f"{name}_s", index(0), (0, 1))
    vector = 128 // bits(dtype)
    layout = striped(stored, maker.threads, vector)
    copy = dev.Copy(target, view, (index(0), index(0)), layout, vector, name == "a", maker.here())
    maker.add(copy)
    return dev.Shared(f"{name}_s", index(0), (1, 0) if turned else (0, 1))


def maker_offset(maker: Maker) -> int:
    used = max((b.offset + dev.stage_bytes(b) for b in maker.buffers), default=0)
    return -(-used // 128) * 128


def product(
    name: str,
    turned: tuple[bool, bool],
    swizzle: dev.Swizzle | None = None,
    pad: int = 0,
    warps: tuple[int, int] = WARPS,
) -> tuple[Maker, str, str]:
    """c = a b + a b, so that the accumulator is read as well."""
    chosen = atom(f"mma_{name}")
    dtype, acc = chosen.operand("a").dtype, chosen.operand("d").dtype
    maker = Maker(32 * warps[0] * warps[1])
    a = staged(maker, "a", dtype, (M, K), turned[0], swizzle, pad)
    b = staged(maker, "b", dtype, (K, N), turned[1], swizzle, pad)
    maker.add(dev.Commit(maker.here()))
    maker.add(dev.WaitGroup(0, maker.here()))
    maker.add(dev.BlockBarrier(maker.here()))
    unit = chosen.operand("d").layout
    assert unit is not None
    layout = tiled(unit, (M, N), warps)
    value = maker.let(dev.Constant(0), acc, layout)
    for _ in range(2):
        value = maker.let(dev.Mma(chosen.name, a, b, value), acc, layout)
    maker.store(maker.array("c", acc, (M, N), "Out"), value, vector=2)
    return maker, dtype, acc


def run(maker: Maker, dtype: str, acc: str, turned: tuple[bool, bool]) -> None:
    a, b = sample(dtype, (M, K), 1), sample(dtype, (K, N), 2)
    c = blank(acc, M, N)
    held = {"a": a.T.copy() if turned[0] else a, "b": b.T.copy() if turned[1] else b, "c": c}
    correct(maker.kernel(), held)
    np.testing.assert_array_equal(c, 2 * (a.astype("f4") @ b.astype("f4")))


@pytest.mark.parametrize("name", ATOMS)
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_operands_in_both_orders(name: str, turned: tuple[bool, bool]) -> None:
    run(*product(name, turned, dev.Swizzle(2, *_swizzle(name))), turned)


def _swizzle(name: str) -> tuple[int, int]:
    """Chunks of 16 bytes, moved by the number of 128-byte lines."""
    chunk = {"bf16": 3, "f16": 3, "tf32": 2}.get(name.rpartition("_")[2], 4)
    return chunk, 3


@pytest.mark.parametrize("warps", [(1, 1), (4, 1), (1, 4), (4, 2)])
@pytest.mark.parametrize("turned", [(False, True), (True, False)])
def test_warps_share_the_tile_in_any_grid(warps: tuple[int, int], turned: tuple[bool, bool]) -> None:
    maker, dtype, acc = product("m16n8k16_bf16", turned, None, 8, warps)
    run(maker, dtype, acc, turned)


@pytest.mark.parametrize("name", ATOMS)
def test_operands_in_registers(name: str) -> None:
    chosen = atom(f"mma_{name}")
    dtype, acc = chosen.operand("a").dtype, chosen.operand("d").dtype
    maker = Maker(128)
    units = {o: chosen.operand(o).layout for o in "abd"}
    copies = {"a": Mode(2, -1, 0), "b": Mode(2, -1, 0)}
    fragments = {}
    for side, shape in (("a", (M, K)), ("b", (K, N))):
        unit = units[side]
        assert unit is not None
        outer = (copies["a"], Mode(2, 0, M // 2)) if side == "a" else (Mode(2, 1, N // 2), copies["b"])
        per_warp = (M // 2, K) if side == "a" else (K, N // 2)
        layout = Distribution(shape, (*unit.lanes, *outer), tiled(unit, per_warp, (1, 1)).values)
        fragments[side] = maker.load(maker.array(side, dtype, shape), layout)
    unit = units["d"]
    assert unit is not None
    layout = tiled(unit, (M, N), (2, 2))
    zero = maker.let(dev.Constant(0), acc, layout)
    value = maker.let(dev.Mma(chosen.name, fragments["a"], fragments["b"], zero), acc, layout)
    maker.store(maker.array("c", acc, (M, N), "Out"), value)
    a, b, c = sample(dtype, (M, K), 1), sample(dtype, (K, N), 2), blank(acc, M, N)
    correct(maker.kernel(), {"a": a, "b": b, "c": c})
    np.testing.assert_array_equal(c, a.astype("f4") @ b.astype("f4"))


def test_accumulator_pairs_are_the_next_products_left_operand() -> None:
    """Attention's second product: the result of the first, rounded, without a move between threads."""
    chosen, maker = atom("mma_m16n8k16_bf16"), Maker(64)
    unit = chosen.operand("d").layout
    assert unit is not None
    first, second = tiled(unit, (M, K), (2, 1)), tiled(unit, (M, N), (2, 1))
    p = maker.load(maker.array("p", "f32", (M, K)), first)
    b = staged(maker, "b", "bf16", (K, N), False, None, 8)
    maker.add(dev.BlockBarrier(maker.here()))
    rounded = maker.let(dev.Pointwise("cast", (p,)), "bf16", first)
    zero = maker.let(dev.Constant(0), "f32", second)
    value = maker.let(dev.Mma(chosen.name, rounded, b, zero), "f32", second)
    maker.store(maker.array("c", "f32", (M, N), "Out"), value)
    p_data, b_data, c = sample("f32", (M, K), 3), sample("bf16", (K, N), 4), blank("f32", M, N)
    correct(maker.kernel(), {"p": p_data, "b": b_data, "c": c})
    np.testing.assert_array_equal(c, p_data @ b_data.astype("f4"))


@pytest.mark.parametrize("turned", [(False, False), (True, True)])
@pytest.mark.parametrize("dtype", ["f32", "i32"])
def test_products_without_a_matrix_instruction(dtype: str, turned: tuple[bool, bool]) -> None:
    maker = Maker(128)
    a = staged(maker, "a", dtype, (M, K), turned[0], dev.Swizzle(3, 2, 3), 0)
    b = staged(maker, "b", dtype, (K, N), turned[1], None, 4)
    maker.add(dev.Commit(maker.here()))
    maker.add(dev.WaitGroup(0, maker.here()))
    maker.add(dev.BlockBarrier(maker.here()))
    layout = striped((M, N), 128, 4)
    zero = maker.let(dev.Constant(0), dtype, layout)
    value = maker.let(dev.Mma(f"fma_{dtype}", a, b, zero), dtype, layout)
    value = maker.let(dev.Mma(f"fma_{dtype}", a, b, value), dtype, layout)
    maker.store(maker.array("c", dtype, (M, N), "Out"), value, vector=4)
    run(maker, dtype, dtype, turned)


def test_layouts_that_are_not_the_atoms_are_refused() -> None:
    maker, _, _ = product("m16n8k16_bf16", (False, True))
    layout = striped((M, N), 128, 2)
    zero = maker.let(dev.Constant(0), "f32", layout)
    a, b = dev.Shared("a_s", index(0), (0, 1)), dev.Shared("b_s", index(0), (1, 0))
    maker.let(dev.Mma("mma_m16n8k16_bf16", a, b, zero), "f32", layout)
    with pytest.raises(LayoutMismatch, match="no grid of 4 warps"):
        emit(maker.kernel())


def test_rows_that_ldmatrix_cannot_read_are_refused() -> None:
    maker, _, _ = product("m16n8k16_bf16", (False, True), pad=4)
    with pytest.raises(LayoutMismatch, match="16-byte rows"):
        emit(maker.kernel())
