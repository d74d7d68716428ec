"""Warp-wide calls of the emulator against the atoms' references: the generated tables, the operand types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom, atom
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.targets.emulator import ArrayArgument
from kernelagent.dsl.targets.emulator.tables import MMA, tables_header
from numpy.typing import NDArray
from support.emulated import small

SHAPES = {"bf16": "m16n8k16", "f16": "m16n8k16", "tf32": "m16n8k8"}


def operand_values(record: Atom, name: str, random: np.random.Generator) -> NDArray[Any]:
    """One small number for each lane and value; integers, so that every sum is exact."""
    operand = record.operand(name)
    assert operand.layout is not None
    low = 0 if operand.dtype == "u8" else -4
    return random.integers(low, 5, (32, operand.layout.registers)).astype(np.float32)


def packed(values: NDArray[Any], dtype: str) -> NDArray[np.int32]:
    """Values in registers as the unit takes them, low elements in low bits."""
    return values.astype(numpy_dtype(dtype)).view(np.int32)


@pytest.mark.parametrize("name", MMA)
def test_matrix_products_are_those_of_the_atoms(name: str) -> None:
    record = atom(f"mma_{SHAPES.get(name, 'm16n8k32')}_{name}")
    random = np.random.default_rng(0)
    a, b = (operand_values(record, which, random) for which in "ab")
    c = random.integers(-9, 9, (32, 4)).astype(numpy_dtype(record.operand("d").dtype))
    assert record.reference is not None
    want = record.reference(a.astype(c.dtype), b.astype(c.dtype), c)
    ra, rb = packed(a, record.operand("a").dtype), packed(b, record.operand("b").dtype)
    ctype = f"ka_{record.operand('d').dtype}"
    body = f"""ka_i32 a[{ra.shape[1]}], b[{rb.shape[1]}]; {ctype} d[4];
        for (int i = 0; i < {ra.shape[1]}; i++) ka_ldg<1>(&a[i], ka_at(ra, tid, i), true, 0);
        for (int i = 0; i < {rb.shape[1]}; i++) ka_ldg<1>(&b[i], ka_at(rb, tid, i), true, 0);
        ka_ldg<4>(d, ka_at(c, tid, 0), true, ({ctype})0);
        ka_{record.name}(d, (ka_u32 *)a, (ka_u32 *)b);
        ka_stg<4>(ka_at(c, tid, 0), d, true);"""
    arrays = [ArrayArgument("ra", ra), ArrayArgument("rb", rb), ArrayArgument("c", c, "inout")]
    report = small(body, arrays, threads=32)
    assert report.ok, report.findings
    np.testing.assert_array_equal(c, want)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("suffix", ["", "_trans"])
def test_ldmatrix_is_that_of_the_atom(count: int, suffix: str) -> None:
    record = atom(f"ldmatrix_x{count}{suffix}")
    memory = np.arange(256, dtype=np.int32) * 0x10001 + 0x8000
    rows = np.random.default_rng(count).permutation(64)[:32] * 16
    assert record.reference is not None
    want = record.reference(memory.view(np.uint8), rows)
    got = np.zeros((32, count), np.int32)
    body = f"""for (int i = 0; i < 8; i++) {{ ka_i32 v; ka_ldg<1>(&v, ka_at(memory, i * 32 + tid), true, 0);
            ka_sts<1>((i * 32 + tid) * 4, &v); }}
        ka_barrier();
        ka_i32 at; ka_ldg<1>(&at, ka_at(rows, tid), true, 0);
        ka_u32 r[{count}]; ka_{record.name}(r, at);
        for (int i = 0; i < {count}; i++) ka_stg<1>(ka_at(got, tid, i), (ka_i32 *)&r[i], true);"""
    arrays = [
        ArrayArgument("memory", memory),
        ArrayArgument("rows", rows.astype(np.int32)),
        ArrayArgument("got", got, "out"),
    ]
    report = small(body, arrays, threads=32)
    assert report.kinds() <= {"torn-matrix"}  # the rows come from everywhere, as no tile's do
    np.testing.assert_array_equal(got.view(np.uint32), want)


@pytest.mark.parametrize(
    ("call", "source"),
    [
        ("ka_shfl_xor(v, 5)", lambda lane: lane ^ 5),
        ("ka_shfl_up(v, 3)", lambda lane: lane - 3 if lane >= 3 else lane),
        ("ka_shfl(v, (tid + 7) % 32)", lambda lane: (lane + 7) % 32),
    ],
)
@pytest.mark.parametrize("ctype", ["ka_f32", "ka_f64", "ka_i64", "ka_i32"])
def test_shuffles_move_values_between_lanes(call: str, source: Any, ctype: str) -> None:
    y = np.zeros(64, np.float32)
    body = f"{ctype} v = tid; v = {call}; ka_f32 f = ka_cast<ka_f32>(v); ka_stg<1>(ka_at(y, tid), &f, true);"
    report = small(body, [ArrayArgument("y", y, "out")])
    assert report.ok, report.findings
    np.testing.assert_array_equal(y, [32 * (t // 32) + source(t % 32) for t in range(64)])


def test_the_generated_tables_name_every_atom_once() -> None:
    header = tables_header()
    assert header.count("{16, 16, 8, 4, 4,") == 2  # k, bits, values of a, b, d: bf16 and f16
    assert header.count("{32, 8, 16, 8, 4,") == 4
    assert header.count("{8, 32, 4, 2, 4,") == 1
