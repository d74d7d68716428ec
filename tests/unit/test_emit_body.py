"""Emitted bodies as text: goldens, line marks, names, level three. Their meaning is tested in the emulator.

Refresh goldens with `--refresh`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.ir import Scalar
from kernelagent.dsl.lanes import striped, tiled
from kernelagent.dsl.schedule import Choice, Guard
from kernelagent.dsl.targets.cuda.emit import emit, entry_name
from kernelagent.dsl.targets.cuda.show_lanes import lane_text
from support.device_kernels import Maker, dim, origin

GOLDENS = Path(__file__).parent / "goldens"
ROW, COLUMN, STEP = Symbol("i", "loop"), Symbol("j", "loop"), Symbol("k", "loop")


def scaled_sum() -> dev.DeviceKernel:
    """y = x * scale + z on tiles of 8 x 128, wide accesses, rows that may be cut."""
    maker = Maker(128, "scaled_sum", (Guard("unit_stride", "x"), Guard("divides", "N", 128)))
    layout = striped((8, 128), 128, 4)
    maker.scalars.append(Scalar("scale", "f32", None, Span(1, 1, 1, 2)))
    x, z, y = (maker.array(n, "f32", ["M", "N"], r) for n, r in (("x", "In"), ("z", "In"), ("y", "Out")))
    scale = maker.let(dev.Stretch(maker.let(dev.Parameter("scale"), "f32", None)), "f32", layout)
    product = maker.word("mul", maker.load(x, layout, (index(ROW), index(COLUMN)), 4), scale)
    total = maker.word("add", product, maker.load(z, layout, (index(ROW), index(COLUMN)), 4))
    maker.store(y, total, (index(ROW), index(COLUMN)), 4)
    grid = dev.Grid(
        (ROW, COLUMN), (index(0),) * 2, (dim("M"), dim("N")), (index(8), index(128)), tuple(maker.bodies[-1]), origin(1)
    )
    return maker.kernel(grid)


def gemm() -> dev.DeviceKernel:
    """A ring of two stages, operands swizzled, four warps of 64 x 64."""
    maker = Maker(128, "gemm", tuple(Guard("unit_stride", n) for n in "abc"))
    a, b, c = (maker.array(n, "bf16", d, r) for n, d, r in (("a", "MK", "In"), ("b", "NK", "In"), ("c", "MN", "Out")))
    swizzle = dev.Swizzle(2, 3, 3)
    maker.buffers += [
        dev.SharedBuffer(f"{n}_s", "bf16", (128, 32), 2, swizzle, 0, at) for n, at in (("a", 0), ("b", 16384))
    ]
    unit = atom("mma_m16n8k16_bf16").operand("d").layout
    assert unit is not None
    layout = tiled(unit, (128, 128), (2, 2))

    def fetch(k: object, stage: object) -> None:
        for name, view, row in (("a", a, ROW), ("b", b, COLUMN)):
            target = dev.Shared(f"{name}_s", index(stage), (0, 1))  # type: ignore[arg-type]
            start = (index(row), index(k))  # type: ignore[arg-type]
            maker.add(dev.Copy(target, view, start, striped((128, 32), 128, 8), 8, True, maker.here()))
        maker.add(dev.Commit(maker.here()))

    fetch(0, 0)
    zero = maker.let(dev.Constant(0), "f32", layout, "acc")
    inside = maker.fragment("f32", layout, "acc")
    maker.bodies.append([])
    fetch(index(STEP) + 32, (index(STEP) // 32 + 1) % 2)
    maker.add(dev.WaitGroup(1, maker.here()))
    maker.add(dev.BlockBarrier(maker.here()))
    stage = index(STEP) // 32 % 2
    factors = dev.Shared("a_s", stage, (0, 1)), dev.Shared("b_s", stage, (1, 0))
    end = maker.let(dev.Mma("mma_m16n8k16_bf16", *factors, inside), "f32", layout, "acc")
    maker.add(dev.BlockBarrier(maker.here()))
    body = maker.bodies.pop()
    result = maker.fragment("f32", layout, "acc")
    carried = dev.Carried(zero, inside, end, result)
    maker.add(dev.For((STEP,), (index(0),), (dim("K"),), (index(32),), (carried,), tuple(body), maker.here()))
    maker.store(c, maker.let(dev.Pointwise("cast", (result,)), "bf16", layout), (index(ROW), index(COLUMN)), 2)
    grid = dev.Grid(
        (ROW, COLUMN),
        (index(0),) * 2,
        (dim("M"), dim("N")),
        (index(128),) * 2,
        tuple(maker.bodies[-1]),
        origin(1),
        "grouped",
    )
    return maker.kernel(grid)


KERNELS = {"scaled_sum": scaled_sum, "gemm": gemm}
CALLS = re.compile(r"\bka_(?:ldg|stg|cp_async|barrier|ldmatrix|mma|wait|commit)\w*")
each_kernel = pytest.mark.parametrize("name", KERNELS)


@each_kernel
def test_bodies_are_as_committed(name: str, refresh: bool) -> None:
    path = GOLDENS / f"{name}.cu"
    text = emit(KERNELS[name]())
    if refresh:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        "if the change is meant: pytest tests/unit/test_emit_body.py --refresh"
    )


@each_kernel
def test_emission_is_deterministic(name: str) -> None:
    assert emit(KERNELS[name]()) == emit(KERNELS[name]())


def lines_of_calls(text: str) -> list[tuple[str, int]]:
    """(call, the line that __builtin_LINE gives it), by the preprocessor's rule."""
    found: list[tuple[str, int]] = []
    line = 0
    for physical in text.splitlines():
        mark = re.match(r'#line (\d+) "kernel"$', physical)
        if mark:
            line = int(mark[1])
            continue
        found += [
            (call, line)
            for call in re.findall(r"\bka_(?:ldg|stg|cp_async|barrier|ldmatrix|mma|wait|commit)\w*", physical)
        ]
        line += 1
    return found


def test_calls_carry_the_line_of_their_statement() -> None:
    lines = {"ka_ldg": {4, 6}, "ka_stg": {8}}
    for call, line in lines_of_calls(emit(scaled_sum())):
        assert line in lines[call], call
    found = lines_of_calls(emit(gemm()))
    where = {call: {at for c, at in found if c == call} for call, _ in found}
    assert where["ka_cp_async"] == {2, 3, 6, 7}
    assert where["ka_commit"] == {4, 8}
    assert where["ka_wait_group"] == {9}
    assert where["ka_barrier"] == {10, 12}
    assert {at for call, at in found if "mma" in call or "ldmatrix" in call} == {11}


def test_accumulators_are_carried_in_one_array() -> None:
    """The product accumulates in place: no copies of 128 registers in the loop or around it."""
    text = emit(gemm())
    assert len(re.findall(r"ka_f32 \w+\[128\];", text)) == 1
    inner = text[text.index("for (int v_k") : text.index("value" if "value" in text else "ka_stg")]
    assert not re.search(r"acc_\d+\[[^]]*\] = ", inner)


def test_proved_bounds_are_not_tested() -> None:
    """Columns are whole tiles by the guard, rows are not; nothing starts before 0."""
    text = emit(scaled_sum())
    assert ">=" not in text
    (test,) = {line.split("), ")[-1] for line in text.splitlines() if "ka_stg<4>" in line}
    assert test.count("<") == 1, test


def test_names_cannot_collide_or_be_keywords() -> None:
    maker = Maker(32, "double")
    view = maker.array("float", "f32", ["int"])
    value = maker.load(view, striped((32,), 32, 1))
    other = dev.Fragment(77, "d_int", "f32", (32,), value.layout, origin(9))
    maker.add(dev.Let(other, dev.Pointwise("neg", (value,))))
    maker.store(maker.array("größe", "f32", [32], "Out"), other)
    text = emit(maker.kernel())
    assert entry_name(maker.kernel()) == "k_double"
    assert "ka_array<ka_f32, 1> a_float" in text
    assert "f_d_int_77" in text
    assert text.isascii()


def test_choices_lead_the_text() -> None:
    made = replace(scaled_sum(), choices=(Choice("raster", "row", "no product", origin(4)),))
    assert emit(made).startswith("// line 4: raster: row (no product)\n")


def test_lanes_are_printed_with_their_elements() -> None:
    text = lane_text(gemm())
    assert "// acc_1: f32, 128x128; thread 4:1*2 8:0*1 2:1*64 2:0*64; register 2:1*1 2:0*8 8:1*8 4:0*16" in text
    assert "#line" not in text
    assert "ka_mma_m16n8k16_bf16(" in text
