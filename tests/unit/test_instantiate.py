"""Choices are put in: precedence, folding, constants, diagnostics; policy by target."""

from __future__ import annotations

import pytest
from kernelagent.dsl import instantiate, ir, parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.elaborate.checks import walk
from kernelagent.dsl.instantiation import fixed_dims, policies_for, resolve_tunables, specificity
from kernelagent.dsl.spec import violations

TEXT = """edition(1)

@kernel
def k(x: In[T, M, D], y: Out[T, M, D], causal: const = True, BM=choices(32, 64), SPLIT=False):
    on(cpu, BM=64)
    on(avx512, BM=128, unroll=4)
    on(sm_90a, BM=256, stages=3)
    on(persistent=True, raster=8)
    assume(D in (64, 128), BM % 32 == 0)
    for i in tiles((M,), (BM,)):
        v = load(x, (i, 0), (BM, D))
        w = cast(v * 2.0, T)
        if causal:
            w = cast(v + 1.0, T)
        if SPLIT:
            u = w + 1.0
        else:
            u = w + 2.0
        store(y, (i, 0), cast(u, T))
"""
(KERNEL,) = parse(TEXT).kernels


def make(**choices: object) -> ir.Kernel:
    given: dict[str, object] = {"dtypes": {"T": "f32"}, "dims": {"D": 64}} | choices
    found = instantiate(KERNEL, **given)  # type: ignore[arg-type]
    assert violations(found) == []
    return found


def refused(**choices: object) -> Diagnostic:
    with pytest.raises(KernelError) as caught:
        make(**choices)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.hint
    return diagnostic


def operations(kernel: ir.Kernel) -> list[str]:
    return [type(s.operation).__name__ for s in walk(kernel.body) if isinstance(s, ir.Let)]


def literals(kernel: ir.Kernel) -> list[float]:
    return [s.operation.value for s in walk(kernel.body) if isinstance(s, ir.Let) and isinstance(s.operation, ir.Full)]


def test_everything_is_constant_afterwards() -> None:
    found = make()
    assert (found.tunables, found.dtype_variables, found.dtype_needs, found.dims) == ((), (), (), ("M",))
    assert [s.name for s in found.scalars] == []
    assert {str(e) for s in walk(found.body) if isinstance(s, ir.Let) for e in s.value.type.shape} <= {"64", "1"}
    assert [a.dtype for a in found.arrays] == ["f32", "f32"]
    assert str(found.arrays[0].dims[1]) == "64"


def test_decided_branches_and_dead_values_vanish() -> None:
    assert not [s for s in walk(make().body) if isinstance(s, ir.If)]
    assert literals(make()) == [1.0, 2.0]
    assert literals(make(consts={"causal": False})) == [2.0, 2.0]
    assert literals(make(tunables={"SPLIT": True})) == [1.0, 1.0]


def test_identity_casts_vanish() -> None:
    assert "Cast" not in operations(make())
    assert operations(make(dtypes={"T": "bf16"})).count("Cast") == 4


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        ("cpu", {}, 64),
        ("avx512", {}, 128),
        ("avx2", {}, 64),
        ("sm_90a", {}, 256),
        ("sm_80", {}, 32),
        ("cpu", {"BM": 32}, 32),
    ],
)
def test_tunables_caller_then_most_specific_then_default(target: str, given: dict[str, int], expected: int) -> None:
    assert resolve_tunables(KERNEL, given, target)["BM"] == expected


def test_specificity() -> None:
    assert [specificity(s, "avx512") for s in ("avx512", "cpu", None, "cuda", "avx2")] == [2, 1, 0, None, None]


def test_fixed_dims() -> None:
    assert fixed_dims(KERNEL) == ("D",)
    assert fixed_dims(parse(TEXT.replace("(BM, D)", "(BM, 64)")).kernels[0]) == ()


def test_live_intervals_are_simplified_again() -> None:
    text = """edition(1)

@kernel
def k(x: In[f32, M, N], y: Out[f32, M], BM=1, BN=64):
    for i in tiles((M,), (BM,)):
        acc = zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            acc += sum(load(x, (i, j), (BM, BN)), axis=1)
        store(y, (i,), acc)
"""
    found = instantiate(parse(text).kernels[0])
    rows = [s.value.type.live[0] for s in walk(found.body) if isinstance(s, ir.Let)]
    assert {str(r.hi) for r in rows} == {"1"}
    (loop,) = [s for s in walk(found.body) if isinstance(s, ir.For) and s.carried]
    assert str(loop.carried[0].result.type.live[0].hi) == "1"


@pytest.mark.parametrize(
    ("choices", "code", "shown"),
    [
        ({"dims": {}}, "missing-choice", "`D`"),
        ({"dtypes": {}}, "missing-choice", "`T`"),
        ({"dims": {"D": 96}}, "illegal-choice", "D=96"),
        ({"tunables": {"BM": 48}}, "illegal-choice", "BM=48"),
        ({"tunables": {"BN": 48}}, "unknown-choice", "`BN`"),
        ({"tunables": {"BM": True}}, "tunable-range", "True"),
        ({"tunables": {"BM": 0}}, "extent-range", "0"),
        ({"consts": {"casual": True}}, "unknown-choice", "`casual`"),
        ({"dtypes": {"T": "i32"}}, "dtype-need", "i32"),
        ({"dtypes": {"T": "f64"}}, "dtype-need", "f64"),
        ({"dtypes": {"T": "float32"}}, "unknown-dtype", "float32"),
        ({"dims": {"D": 64, "Q": 1}}, "unknown-choice", "`Q`"),
    ],
)
def test_choices_that_are_refused(choices: dict[str, object], code: str, shown: str) -> None:
    diagnostic = refused(**choices)
    assert diagnostic.code == code
    assert shown in diagnostic.message


def test_nearest_names_are_suggested() -> None:
    assert refused(consts={"casual": True}).hint == "did you mean `causal`?"


def test_literals_are_judged_when_the_dtype_is_known() -> None:
    text = """edition(1)

@kernel
def k(x: In[T, N], y: Out[T, N], BN=64):
    for i in tiles((N,), (BN,)):
        store(y, (i,), load(x, (i,), (BN,), fill=300))
"""
    (kernel,) = parse(text).kernels
    assert violations(instantiate(kernel, {"T": "i32"})) == []
    with pytest.raises(KernelError) as caught:
        instantiate(kernel, {"T": "u8"})
    assert caught.value.diagnostics[0].code == "literal-range"


# Policy ------------------------------------------------------------------------------------------


def test_policy_without_meaning_is_dropped_with_a_line() -> None:
    found = policies_for(KERNEL, "avx512")
    assert dict(found.words) == {"unroll": 4, "raster": 8}
    assert found.binding == {"unroll"}
    assert found.report == ("line 8: persistent=True dropped: no meaning on avx512",)


def test_scoped_policy_is_binding() -> None:
    found = policies_for(KERNEL, "sm_90a")
    assert dict(found.words) == {"stages": 3, "persistent": True, "raster": 8}
    assert found.binding == {"stages"}
    text = TEXT.replace("on(cpu, BM=64)", "on(cpu, BM=64, cluster=2)")
    with pytest.raises(KernelError) as caught:
        policies_for(parse(text).kernels[0], "cpu")
    assert caught.value.diagnostics[0].code == "policy-refused"
    with pytest.raises(KernelError):
        policies_for(parse(TEXT.replace("on(cpu, BM=64)", "require(roles=2)")).kernels[0], "cpu")


def test_required_policy_wins() -> None:
    text = TEXT.replace("on(cpu, BM=64)", "require(raster=4)")
    found = policies_for(parse(text).kernels[0], "avx512")
    assert (found.words["raster"], found.binding) == (4, {"raster", "unroll"})
