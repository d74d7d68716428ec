"""Emitted bodies as text: goldens, line marks, names, level three. Their meaning is tested in the emulator.

Refresh goldens with `--refresh`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import striped
from kernelagent.dsl.schedule import Choice
from kernelagent.dsl.targets.cuda.emit import emit, entry_name
from kernelagent.dsl.targets.cuda.show_lanes import lane_text
from support.device_kernels import Maker, origin
from support.emit_kernels import gemm, scaled_sum

GOLDENS = Path(__file__).parent / "goldens"
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
