"""Indices in so many bits: intervals, what a body computes, which calls are refused, what is refuted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.index import Index, Symbol, floordiv, index, maximum, minimum, mod, symbol
from kernelagent.dsl.intervals import Intervals, Loop
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from kernelagent.dsl.targets.cpu.widths import limits as cpu_limits
from kernelagent.dsl.targets.cuda import emit_index
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.units import DeviceUnit, device_units
from kernelagent.dsl.targets.cuda.widths import COUNTED
from kernelagent.dsl.verify import overflow
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.overflow import prove_overflow
from kernelagent.dsl.widths import Limits

KERNELS = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kernels"
NONE = Choices({}, {}, {}, {})
CHOICES: Mapping[str, Choices] = {
    "gemm_nt": Choices({"T": "bf16"}, {}, {}, {}),
    "attention": Choices({"T": "bf16"}, {}, {"causal": True}, {"D": 64}),
    "conv3x3_s2": Choices({"T": "bf16"}, {}, {}, {}),
    "column_sums": Choices({"T": "f32"}, {}, {}, {}),
    "gemm_moe": Choices({"T": "bf16"}, {}, {}, {}),
    "softmax": Choices({"T": "f32"}, {}, {}, {}),
}


def found_cases(name: str, arch: str) -> list[Case]:
    return list(cases(parse((KERNELS / f"{name}.tile").read_text(encoding="utf-8")), CHOICES[name], arch))


def units(name: str, arch: str) -> tuple[DeviceUnit, ...]:
    return device_units(parse((KERNELS / f"{name}.tile").read_text(encoding="utf-8")), CHOICES[name], arch)


# Intervals -----------------------------------------------------------------------------------------------

N, S = symbol("N", "dim"), symbol("S", "dim")
OUTER, INNER = Symbol("i", "loop"), Symbol("j", "loop")
ATOMS = st.sampled_from([N, S, index(OUTER), index(INNER), index(3), index(-2)])


@st.composite
def indices(draw: st.DrawFn, depth: int = 2) -> Index:
    if depth == 0:
        return draw(ATOMS)
    a, b = draw(indices(depth=depth - 1)), draw(indices(depth=depth - 1))
    match draw(st.sampled_from(["+", "-", "*", "//", "%", "min", "max"])):
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return floordiv(a, maximum(b, index(1)))
        case "%":
            return mod(a, maximum(b, index(2)))
        case "min":
            return minimum(a, b)
    return maximum(a, b)


@given(indices(), st.integers(1, 6), st.integers(1, 6))
def test_no_value_lies_outside_its_interval(value: Index, n: int, s: int) -> None:
    loops: tuple[Loop, ...] = ((OUTER, index(0), N), (INNER, index(OUTER), N + S))
    known = Intervals({"N": (n, n), "S": (s, s)}, {}, loops)
    low, high = known.of(value)
    for i in range(n):
        for j in range(i, n + s):
            assert low <= value.evaluate({"N": n, "S": s, "i": i, "j": j}) <= high


def test_ends_of_parts_are_exact() -> None:
    """`s * N // S` to `(s + 1) * N // S`, for s < S: the last part ends at N, whatever S is."""
    known = Intervals({"N": (0, 1000), "S": (0, 50)}, {}, ((Symbol("s", "loop"), index(0), S),))
    s = index(Symbol("s", "loop"))
    assert known.of(floordiv((s + 1) * N, S)) == (0, 1000)


def test_a_loop_without_iterations_is_not_reached() -> None:
    assert not Intervals({"N": (0, 0)}, {}, ((OUTER, index(0), N),)).reached
    assert Intervals({"N": (0, 1)}, {}, ((OUTER, index(0), N),)).reached


# What the emitter computes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", CHOICES)
def test_what_the_emitter_prints_fits_at_the_largest_sizes_that_are_taken(
    name: str, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of indices is made from the schedule; this holds it against what is really printed."""
    which = 0 if arch == "sm_90a" else -1  # roles and tensor maps, and the plain road
    for unit in units(name, arch):
        schedule, limits = unit.classes[which].schedule, unit.limits[which]
        printed = _printed(schedule, monkeypatch)
        assert printed
        for sizes in _largest(limits, schedule):
            _fit(printed, limits, sizes)


Printed = set[tuple[Index, bool, tuple[Loop, ...]]]
"""What is computed, whether in 64 bits, inside which loops."""


def _printed(kernel: dev.DeviceKernel, monkeypatch: pytest.MonkeyPatch) -> Printed:
    seen: Printed = set()
    plain = emit_index.IndexTexts.text

    def text(self: emit_index.IndexTexts, value: Index, texts: Mapping[str, str] = emit_index.NO_TEXTS) -> str:
        if not texts:
            loops = tuple((v, r.lo, r.hi) for v, r in self.ranges.items())
            seen.update((part, wide, loops) for part, wide in self.steps(value))
        return plain(self, value, texts)

    with monkeypatch.context() as patched:
        patched.setattr(emit_index.IndexTexts, "text", text)
        emit(kernel)
    return seen


def _largest(limits: Limits, kernel: dev.DeviceKernel) -> Iterator[dict[str, int]]:
    """For each dim the largest that is taken where the others are 64."""
    base = dict.fromkeys(kernel.dims, 64) | {s.name: 0 for s in kernel.scalars}
    for dim in kernel.dims:
        low, high = 64, 2**31 - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _taken(limits, {**base, dim: middle}) else (low, middle - 1)
        yield {**base, dim: low}


def _taken(limits: Limits, sizes: Mapping[str, int]) -> bool:
    try:
        limits.refuse(sizes, 264)
    except KernelError:
        return False
    return True


def _fit(printed: Printed, limits: Limits, sizes: Mapping[str, int]) -> None:
    symbols = {n: (v, v) for n, v in sizes.items()}
    data, places = limits.signature.data(symbols), dict[tuple[Loop, ...], Intervals]()
    for part, wide, loops in printed:
        if loops not in places:
            counted = [(v, lo, index(COUNTED) if hi.constant == 2**31 - 1 else hi) for v, lo, hi in loops]
            places[loops] = Intervals(symbols, data, counted)
        low, high = places[loops].of(part)
        half = 1 << (63 if wide else 31)
        assert not places[loops].reached or (-half <= low and high < half), (str(part), low, high, dict(sizes))


# Calls that are refused ------------------------------------------------------------------------------------


def test_a_call_with_too_many_tiles_is_refused_and_others_are_not() -> None:
    (unit,) = units("gemm_nt", "sm_80")
    limits = unit.limits[-1]
    limits.refuse({"M": 2**20, "N": 2**20, "K": 2**20}, 2**26)
    with pytest.raises(KernelError) as refused:
        limits.refuse({"M": 2**23, "N": 2**23, "K": 64}, 2**32)
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "dim-range"
    assert "the number of tiles" in diagnostic.message


def test_a_loop_that_would_step_past_31_bits_is_refused() -> None:
    (unit,) = units("softmax", "sm_80")
    limits = unit.limits[-1]
    limits.refuse({"M": 4, "N": 2**30}, 4)
    with pytest.raises(KernelError, match="the loop over j"):
        limits.refuse({"M": 4, "N": 2**31 - 1}, 4)
    limits.refuse({"M": 0, "N": 2**31 - 1}, 0)  # nothing is launched


TEXT = """edition(1)

@kernel
def shifted(x: In[f32, M], y: Out[f32, M], w: {dtype}, BM=64):
    for i in tiles((M,), (BM,)):
        v = load(x, (i,), (BM,), fill=0)
        store(y, (i,), {value})
"""


def test_scalars_of_any_size_are_taken_or_refused() -> None:
    (unit,) = device_units(parse(TEXT.format(dtype="i64", value="where(3 * i + w < 3, v, 0.0)")), NONE, "sm_80")
    for w in (-(2**40), 2**40, 2**61):
        unit.limits[-1].refuse({"M": 130, "w": w}, 3)
    for w in (2**63 - 1, -(2**63)):
        unit.limits[-1].refuse({"M": 130, "w": w}, 0)
    with pytest.raises(KernelError, match="64 bits"):
        unit.limits[-1].refuse({"M": 130, "w": 2**63 - 1}, 3)


def test_an_index_fits_the_dtype_that_it_becomes() -> None:
    """The interpreter stops there; compiled code would cut it."""
    text = TEXT.replace("f32, M", "i8, M").format(dtype="i32", value="v + M").replace("fill=0", "fill=0")
    module = parse(text)
    (call,) = concrete_calls(module, NONE)
    (unit,) = device_units(module, NONE, "sm_80")
    for limits in (cpu_limits(call.kernel), *unit.limits):
        limits.refuse({"M": 127, "w": 0}, 2)
        with pytest.raises(KernelError, match="128 and has 8 bits"):
            limits.refuse({"M": 128, "w": 0}, 2)
    (obligation,) = overflow.prove(call.kernel)
    assert obligation.verdict == "PROVED"
    assert "an index that becomes i8, M" in obligation.detail


def test_products_of_three_sizes_may_leave_64_bits() -> None:
    text = """edition(1)

@kernel
def parts(x: In[f32, M], y: Out[f32, S], K: i32, BM=64):
    for s in tiles((S,), (1,)):
        acc = zeros((1,), f32)
        for i in range(s * M * S // (S * S), M, BM):
            acc += sum(load(x, (i,), (BM,), fill=0), axis=0)
        store(y, (s,), acc)
"""
    (call,) = concrete_calls(parse(text), NONE)
    (obligation,) = overflow.prove(call.kernel)
    assert obligation.verdict == "PROVED"
    assert "refused" in obligation.detail
    with pytest.raises(KernelError, match="bits"):
        cpu_limits(call.kernel).refuse({"M": 2**31 - 1, "S": 2**31 - 1, "K": 0})


# Proofs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", CHOICES)
def test_schedules_of_the_compiler_are_wide_enough(name: str, arch: str) -> None:
    for case in found_cases(name, arch):
        (obligation,) = prove_overflow(case, "").obligations
        assert obligation.verdict == "PROVED"
        assert "refused at dispatch" in obligation.detail


def narrowed(case: Case, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """The proof for an emitter that computes every index in 32 bits."""
    monkeypatch.setattr(emit_index.IndexTexts, "wide", lambda self, value: False)
    return prove_overflow(case, "")


def test_products_in_32_bits_are_refuted_with_the_numbers_that_the_machine_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = narrowed(found_cases("column_sums", "sm_80")[0], monkeypatch)
    (obligation,), (shown,) = findings.obligations, findings.counterexamples
    assert (obligation.family, obligation.verdict, obligation.line) == ("overflow", "REFUTED", 8)
    loops = {k: v for part in shown.iterations for k, v in part.items()}
    exact = shown.sizes["M"] * loops["s"]
    assert shown.expected == exact >= 2**31
    with np.errstate(over="ignore"):
        assert shown.found == int(np.int32(shown.sizes["M"]) * np.int32(loops["s"]))
    assert all(n <= 2**24 for n in shown.sizes.values())
