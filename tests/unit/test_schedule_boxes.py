"""Boxes of tensor maps: what their addresses need is stated and holds; taken away, it is refuted."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import Verdict
from kernelagent.dsl.verify.schedule.boxes import prove_boxes
from support.mutants import base_case

BASE = "hopper_nt"


def kernel() -> dev.DeviceKernel:
    return base_case(BASE).kernel


def verdicts(kernel: dev.DeviceKernel) -> dict[str, Verdict]:
    return {o.subject: o.verdict for o in prove_boxes(kernel, "gemm")}


def arrays_of_boxes(kernel: dev.DeviceKernel) -> set[str]:
    moved = (dev.CopyBulk, dev.StoreBulk)
    return {s.view.array for s in dev.statements(kernel) if isinstance(s, moved)}


def test_every_array_that_boxes_move_is_proved() -> None:
    boxed = arrays_of_boxes(kernel())
    assert len(boxed) >= 2
    assert verdicts(kernel()) == {f"gemm: {array}": "PROVED" for array in boxed}


def test_a_class_that_takes_any_address_is_refuted() -> None:
    for kind in ("aligned", "unit_stride"):
        shape = kernel().shape_class
        for array in arrays_of_boxes(kernel()):
            kept = tuple(g for g in shape.guards if (g.kind, g.subject) != (kind, array))
            found = verdicts(replace(kernel(), shape_class=replace(shape, guards=kept)))
            assert {s for s, v in found.items() if v == "REFUTED"} == {f"gemm: {array}"}


def test_rows_at_multiples_of_8_bytes_are_refuted() -> None:
    shape = kernel().shape_class
    guards = tuple(replace(g, value=8) if g.kind == "aligned" else g for g in shape.guards)
    assert set(verdicts(replace(kernel(), shape_class=replace(shape, guards=guards))).values()) == {"REFUTED"}


def test_a_buffer_between_two_swizzles_is_refuted_with_the_byte() -> None:
    moved = tuple(replace(b, offset=b.offset + 512) if b.swizzle else b for b in kernel().buffers)
    found = prove_boxes(replace(kernel(), buffers=moved), "gemm")
    assert {o.verdict for o in found} == {"REFUTED"}
    assert all("starts at byte" in o.detail and "no multiple of" in o.detail for o in found)


def test_schedules_without_boxes_say_nothing() -> None:
    assert prove_boxes(base_case("gemm_nt").kernel, "gemm") == []
