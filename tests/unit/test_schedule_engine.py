"""The engine of the proofs: where elements lie, who knows what, when a block's state comes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Extremum, cdiv, floordiv, index, maximum, minimum, mod, symbol
from kernelagent.dsl.lanes import striped
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.alignment import multiple
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.closing import closes
from kernelagent.dsl.verify.schedule.footprints import MANY, Footprints, accesses, elements
from kernelagent.dsl.verify.schedule.order import examine
from kernelagent.dsl.verify.schedule.places import held, many, tile_bytes
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.sizes import by_trips, trips
from support.faults import FOLDER

BASES = ("gemm_nt", "gemm_persistent", "hopper_gemm", "hopper_attention", "softmax", "transpose")


def base(name: str) -> Case:
    module = read_module((FOLDER / f"{name}.tile").read_text(encoding="utf-8"))
    return next(cases(module, Choices({}, {}, {}, {}), module.schedule.target))


@settings(max_examples=30)
@given(st.sampled_from([(8, 16), (16, 64), (4, 8, 16)]), st.sampled_from([32, 64]), st.sampled_from([1, 2, 4]))
def test_registers_lie_where_the_distribution_says(shape: tuple[int, ...], threads: int, vector: int) -> None:
    layout = striped(shape, threads, vector)
    made = held(layout)
    for thread, value, at in itertools.islice(layout.elements(), 0, None, 37):
        assert tuple(made[:, thread, value]) == at


@pytest.mark.parametrize(
    "buffer",
    [
        dev.SharedBuffer("a", "bf16", (16, 64), swizzle=dev.Swizzle(3, 3, 3)),
        dev.SharedBuffer("a", "f32", (8, 32), pad=4),
        dev.SharedBuffer("a", "bf16", (16, 128), swizzle=dev.Swizzle(3, 3, 3), panel=64),
    ],
)
def test_a_stage_holds_each_element_once(buffer: dev.SharedBuffer) -> None:
    made = tile_bytes(buffer, tuple(range(len(buffer.shape))), buffer.shape)
    assert len(np.unique(made)) == made.size
    assert made.max() < dev.stage_bytes(buffer)
    turned = tile_bytes(buffer, (1, 0), buffer.shape[::-1])
    assert (made == turned.T).all()


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
def test_many_positions_at_once_are_those_one_by_one(x: int, y: int, divisor: int) -> None:
    a, b = symbol("a", "dim"), symbol("b", "dim")
    value = (
        floordiv(a * 3 + b, index(divisor))
        + mod(b, index(divisor)) * minimum(a, b)
        + maximum(a, -b)
        + cdiv(a, b * b + 1)
    )
    at = {"a": np.array([x, y, x + y]), "b": np.array([y, x, 1])}
    found = many(value, at)
    for k in range(3):
        assert found[k] == value.evaluate({"a": int(at["a"][k]), "b": int(at["b"][k])})


@pytest.mark.parametrize("name", BASES)
def test_merged_places_are_accessed_together(name: str) -> None:
    """Every access touches a merged place wholly and by one thread, or not at all."""
    kernel = base(name).kernel
    single, merged = Footprints(kernel, merged=False), Footprints(kernel, merged=True)
    for statement, operand, first in accesses(kernel):
        exact = single.of(statement, operand, 0, 0, first)
        coarse = merged.of(statement, operand, 0, 0, first)
        assert len(np.unique(coarse.bytes)) == coarse.bytes.size <= exact.bytes.size
        if np.ndim(exact.threads) and not exact.repeated:
            assert set(np.unique(coarse.threads)) == set(np.unique(np.broadcast_to(exact.threads, exact.bytes.shape)))
    assert merged.places <= single.places


def test_copies_are_read_by_many_threads() -> None:
    kernel = base("softmax").kernel
    read = [
        elements(kernel, s, o)
        for s, o, _ in accesses(kernel)
        if isinstance(getattr(s, "operation", None), dev.LoadShared)
    ]
    assert any(f.repeated for f in read)
    assert all(np.ndim(f.threads) or f.threads == MANY for f in read)


def test_a_state_that_comes_back() -> None:
    assert closes([b"a", b"b", b"c", b"b"]) == (1, 2)
    assert closes([b"a", b"b"]) is None


@pytest.mark.parametrize("name", BASES[:4])
def test_sizes_have_the_trip_counts_that_they_stand_for(name: str) -> None:
    case = base(name)
    found = by_trips(case, 9)
    assert set(range(1, 8)) <= set(found)
    assert all(trips(case.kernel, sizes) == count for count, sizes in found.items())


@pytest.mark.parametrize("name", BASES)
def test_printed_schedules_are_proved(name: str) -> None:
    """All about order, bounds and coverage; without a kernel of tiles, sums that leave parts out are left open."""
    findings = prove(base(name))
    families = {o.family for o in findings.obligations}
    assert {"races", "definedness", "completion", "protocol", "coverage", "bounds"} <= families
    assert {o.verdict for o in findings.obligations if o.family != "flow"} <= {"PROVED", "PROVED_BOUNDED"}
    assert not findings.counterexamples


def test_the_shortest_run_with_a_fault_is_shown() -> None:
    """Without its barrier a ring's stage is read too early at the first iteration already."""
    text = (FOLDER / "gemm_nt.tile").read_text(encoding="utf-8")
    module = read_module(text.replace("            barrier()\n", "", 1))
    case = next(cases(module, Choices({}, {}, {}, {}), module.schedule.target))
    shown = examine(case)
    assert shown.events
    assert shown.sizes is not None
    assert trips(case.kernel, shown.sizes) == 1


@given(st.integers(1, 64), st.integers(1, 64))
def test_what_divides_a_sum_divides_its_terms(p: int, q: int) -> None:
    known = {"K": p, "i": q}
    value = symbol("K", "dim") * 4 + symbol("i", "loop") * 6
    found = multiple(value, known)
    for a, b in itertools.product((1, 2, 5), repeat=2):
        assert value.evaluate({"K": p * a, "i": q * b}) % found == 0
    least = multiple(index(Extremum("min", symbol("K", "dim"), symbol("i", "loop"))), known)
    assert min(p, q) % least == 0
