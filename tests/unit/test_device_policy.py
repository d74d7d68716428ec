"""Policy on GPUs: honoured, dropped with a line, or refused before any compiler is called."""

from __future__ import annotations

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.device import For, walk
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.gpu_texts import TOTAL_BY_POLICY, gemm_by_policy

GEMM = gemm_by_policy(dtype="T", tile=(128, 128, 32))
ADDED = """edition(1)

@kernel
def total(x: In[f32, M, N], y: Acc[f32, N], BM=64, BN=64):
    require(deterministic)
    for i, j in tiles((M, N), (BM, BN)):
        atomic_add(y, (j,), sum(load(x, (i, j), (BM, BN)), axis=0))
"""
SHARED_LIMIT = {"sm_80": 166912, "sm_89": 101376}


def lowered(text: str, policy: str, arch: str = "sm_80", dtype: str = "bf16") -> DeviceCode:
    """The aligned class of the only kernel."""
    module = parse(text.format(policy=policy))
    dtypes = {v: dtype for v in module.entry.dtype_variables}
    (unit,) = device_units(module, Choices(dtypes, {}, {}, {}), arch)
    return unit.classes[0]


def refused(text: str, policy: str, arch: str = "sm_80", dtype: str = "bf16") -> Diagnostic:
    with pytest.raises(KernelError) as caught:
        lowered(text, policy, arch, dtype)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None
    assert diagnostic.hint
    return diagnostic


def lines(code: DeviceCode, word: str) -> list[str]:
    return [str(c) for c in code.schedule.choices if word in str(c)]


# Honoured --------------------------------------------------------------------------------------------


def test_stages_are_those_asked_for() -> None:
    for stages in (1, 2, 5):
        schedule = lowered(GEMM, f"on(cuda, stages={stages})").schedule
        assert {b.stages for b in schedule.buffers if b.name in ("a_s", "b_s")} == {stages}


@pytest.mark.parametrize("warps", [1, 2, 8, 16])
def test_warps_are_those_asked_for(warps: int) -> None:
    code = lowered(GEMM, f"on(sm_80, warps={warps})")
    assert code.schedule.threads == 32 * warps
    assert lines(code, "warps: ") == [f"warps: {warps} (policy)"]


def test_raster_and_persistent() -> None:
    grid = lowered(GEMM, "on(raster=column, persistent=True)").schedule.grid
    assert (grid.raster, grid.persistent) == ("column", True)
    grid = lowered(GEMM, "on(raster=3)").schedule.grid
    assert (grid.raster, grid.group) == ("grouped", 3)


@pytest.mark.parametrize("text", [GEMM, TOTAL_BY_POLICY], ids=["ring", "plain loop"])
def test_unroll_reaches_every_loop(text: str) -> None:
    code = lowered(text, "on(cuda, unroll=4)")
    assert {s.unroll for s in walk(code.schedule.grid.body) if isinstance(s, For)} == {4}
    assert "#pragma unroll 4" in code.body


def test_without_policy_small_tiles_get_fewer_warps() -> None:
    """16x16 is two pieces of 16x8: two warps, not single threads multiplying."""
    code = lowered(GEMM, "on(cuda, BM=16, BN=16)")
    assert code.schedule.threads == 64
    assert "mma_m16n8k16_bf16" in code.body


# Dropped ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["cluster=2", "roles=2", "via=tma", "layout=blocked"])
def test_what_the_chip_has_not_is_dropped_with_a_line(word: str) -> None:
    (line,) = lines(lowered(GEMM, f"on({word})"), "policy ")
    assert line.startswith(f"policy {word}: dropped (")


@pytest.mark.parametrize("word", ["stages=3", "raster=column"])
def test_what_has_nothing_to_act_on_is_dropped_with_a_line(word: str) -> None:
    """No operands of a product, and a grid of one variable; `require` is refused even so."""
    (line,) = lines(lowered(TOTAL_BY_POLICY, f"on(cuda, {word})"), "policy ")
    assert line.startswith(f"policy {word}: dropped (")
    assert refused(TOTAL_BY_POLICY, f"require({word})").code == "policy-refused"


def test_stages_that_do_not_fit_become_fewer() -> None:
    code = lowered(GEMM, "on(stages=16)", "sm_89")
    assert code.schedule.shared_bytes <= SHARED_LIMIT["sm_89"]
    (line,) = lines(code, "policy stages=16: dropped")
    assert "262144 bytes" in line
    assert "101376" in line


def test_default_stages_become_fewer_where_tiles_are_large() -> None:
    code = lowered(GEMM, "on(cuda, BK=128)", "sm_89")
    assert {b.stages for b in code.schedule.buffers if b.name == "a_s"} == {1}
    assert lines(code, "3 stages take 196608 bytes")


def test_warps_that_do_not_divide_become_the_nearest() -> None:
    code = lowered(GEMM, "on(warps=32, BM=32, BN=32)")
    assert code.schedule.threads == 8 * 32
    assert lines(code, "policy warps=32: dropped")


# Refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["require(stages=16)", "on(cuda, stages=16)", "on(sm_80, stages=16)"])
def test_the_largest_number_of_stages_is_named(policy: str) -> None:
    diagnostic = refused(GEMM, policy)
    assert diagnostic.code == "shared-limit"
    assert diagnostic.facts == {"bytes": 262144, "limit": SHARED_LIMIT["sm_80"], "most_stages": 10}
    assert "262144" in diagnostic.message
    assert "166912" in diagnostic.message
    assert diagnostic.hint == "stages=10 is the most that fits"
    assert diagnostic.span is not None
    assert diagnostic.span.line == 5
    assert lowered(GEMM, "require(stages=10)").schedule.shared_bytes == 163840


def test_tiles_beyond_shared_memory() -> None:
    diagnostic = refused(GEMM, "require(BM=512, BK=256)")
    assert diagnostic.code == "shared-limit"
    assert diagnostic.facts["bytes"] > diagnostic.facts["limit"] == SHARED_LIMIT["sm_80"]
    assert "a_s 262144" in str(diagnostic.hint)


def test_a_tile_that_no_atom_divides() -> None:
    diagnostic = refused(GEMM, "require(BM=40, BN=60)")
    assert diagnostic.code == "mma-tile"
    assert diagnostic.hint == "the nearest tile is 32x64x32"
    body = lowered(GEMM, "on(cuda, BM=40, BN=60)").body  # without `require`: single threads multiply
    assert "mma_m16n8k16" not in body.replace("// ", "")


def test_warps_that_no_split_allows() -> None:
    diagnostic = refused(GEMM, "require(BM=32, BN=32, warps=32)")
    assert diagnostic.code == "mma-tile"
    assert diagnostic.hint == "warps=8 divides it"
    assert diagnostic.facts == {"warps": 32, "nearest": 8}


def test_a_dtype_that_the_architecture_lacks() -> None:
    """8-bit floats multiply from sm_89 on; before that a detour, which `require` does not take."""
    assert "mma_m16n8k16_f16" in lowered(GEMM, "on(warps=4)", "sm_80", "f8e4m3").body
    assert refused(GEMM, "require(warps=4)", "sm_80", "f8e4m3").code == "mma-atom"
    assert "mma_m16n8k32_e4m3" in lowered(GEMM, "require(warps=4)", "sm_89", "f8e4m3").body


@pytest.mark.parametrize("policy", ["on(sm_80, cluster=2)", "require(roles=2)", "on(cuda, via=tma)"])
def test_what_the_chip_has_not_is_refused_where_it_is_binding(policy: str) -> None:
    diagnostic = refused(GEMM, policy)
    assert diagnostic.code == "policy-refused"
    assert "sm_80" in diagnostic.message


def test_integers_have_no_detour() -> None:
    text = GEMM.replace("In[T", "In[i8").replace("Out[T", "Out[i32").replace("BN), f32)", "BN), i32)")
    diagnostic = refused(text.replace("cast(acc, T)", "acc"), "on(cuda, BM=40)")
    assert diagnostic.code == "mma-tile"
    assert diagnostic.hint == "the nearest tile is 32x128x32"


def test_atomic_sums_are_not_deterministic() -> None:
    assert refused(ADDED, "").code == "policy-refused"
    assert lowered(ADDED.replace("require(deterministic)", "on(cuda, BM=32)"), "").schedule.threads


# The words themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy", ["on(warps=3)", "on(warps=64)", "on(warps=True)", "on(raster=diagonal)", "on(raster=0)", "on(cluster=0)"]
)
def test_values_that_a_word_does_not_take(policy: str) -> None:
    with pytest.raises(KernelError) as caught:
        parse(GEMM.format(policy=policy))
    assert caught.value.diagnostics[0].code == "policy-value"


def test_on_the_cpu_warps_mean_nothing() -> None:
    from kernelagent.dsl.instantiation import policies_for

    found = policies_for(parse(GEMM.format(policy="on(warps=4)")).kernels[0], "avx2")
    assert found.report == ("line 5: warps=4 dropped: no meaning on avx2",)
