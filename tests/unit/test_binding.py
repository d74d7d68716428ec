"""Calls against signatures: dims, dtypes, scalars, assumptions, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import bind, parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError

TEXT = """edition(1)

@kernel
def k(x: In[T, M, K], s: In[f32, M, K // 128], t: In[i32, E + 1], c: In[f32, E, 3], y: Out[T, M, K],
      n: i32, scale: f32 = 0.5, flag: const = True, BM=32, BK=128):
    assume(K % 128 == 0, partition(t, M), n < M, BM < 100)
    for i, j in tiles((M, K), (BM, BK)):
        if flag:
            v = load(x, (i, j), (BM, BK)) * scale
        else:
            v = load(x, (i, j), (BM, BK)) + load(s, (i, j // 128), (BM, 1))
        store(y, (i, j), cast(where(coords(i, BM)[:, None] < n + t[0] + E, v, c[0, 0]), T))
"""
MODULE = parse(TEXT)
GOOD: dict[str, tuple[tuple[int, ...], Any]] = {
    "x": ((10, 256), "bf16"),
    "s": ((10, 2), "f32"),
    "t": ((5,), "i32"),
    "c": ((4, 3), "f32"),
    "y": ((10, 256), "bf16"),
}


def refused(changes: dict[str, Any], scalars: dict[str, Any] | None = None) -> tuple[Diagnostic, ...]:
    arrays = {n: a for n, a in (GOOD | changes).items() if a is not None}
    with pytest.raises(KernelError) as caught:
        bind(MODULE, arrays, {"n": 3} if scalars is None else scalars)
    assert all(d.hint and d.span for d in caught.value.diagnostics)
    return caught.value.diagnostics


def test_a_call_fixes_dims_dtypes_and_scalars() -> None:
    found = bind(MODULE, GOOD, {"n": 3, "flag": False})
    assert found.dims == {"M": 10, "K": 256, "E": 4}
    assert found.dtypes == {"T": "bf16"}
    assert found.scalars == {"n": 3, "scale": 0.5}
    assert found.consts == {"flag": False}
    assert found.environment == {"M": 10, "K": 256, "E": 4, "n": 3, "flag": 0}


def test_outputs_may_be_left_out() -> None:
    assert bind(MODULE, {n: a for n, a in GOOD.items() if n != "y"}, {"n": 3}).dims["K"] == 256


def test_numpy_dtypes_are_known() -> None:
    arrays = GOOD | {"x": ((10, 256), np.dtype("float32")), "y": ((10, 256), np.float32), "t": ((5,), np.dtype("i4"))}
    assert bind(MODULE, arrays, {"n": 3}).dtypes == {"T": "f32"}


@pytest.mark.parametrize(
    ("changes", "code", "shown"),
    [
        ({"x": ((10, 256, 1), "bf16")}, "rank", "(10, 256, 1) for (M, K)"),
        ({"y": ((10, 128), "bf16")}, "dim-mismatch", "128, but K is 256 (K=256 from `x`)"),
        ({"s": ((10, 3), "f32")}, "dim-mismatch", "K // 128 is 2"),
        ({"t": ((4,), "i32")}, "dim-mismatch", "E + 1 is 5"),
        ({"c": ((4, 2), "f32")}, "dim-mismatch", "2, but 3 is 3"),
        ({"y": ((10, 256), "f32")}, "array-dtype", "f32, but bf16 is declared (T was fixed by `x`)"),
        ({"s": ((10, 2), "f16")}, "array-dtype", "f16, but f32"),
        ({"x": ((10, 256), "i32"), "y": ((10, 256), "i32")}, "dtype-need", "i32"),
        ({"x": ((10, 256), "complex64")}, "unknown-dtype", "complex64"),
        ({"s": None}, "missing-array", "`s`"),
        ({"z": ((1,), "f32")}, "unknown-array", "`z`"),
        ({"x": ((10, 2**40), "bf16")}, "dim-range", str(2**40)),
    ],
)
def test_mismatches_name_the_values(changes: dict[str, Any], code: str, shown: str) -> None:
    diagnostic = next(d for d in refused(changes) if d.code == code)
    assert shown in diagnostic.message


def test_a_renamed_array_is_matched_to_the_nearest_parameter() -> None:
    text = TEXT.replace("x:", "xx:").replace("load(x", "load(xx")
    with pytest.raises(KernelError) as caught:
        bind(parse(text), GOOD, {"n": 3})
    hints = {d.code: d.hint for d in caught.value.diagnostics}
    assert hints == {"unknown-array": "did you mean `xx`?", "missing-array": "rename the parameter to `x`"}


@pytest.mark.parametrize(
    ("scalars", "code"),
    [
        ({}, "missing-scalar"),
        ({"n": 3, "scael": 1.0}, "unknown-scalar"),
        ({"n": 2**31}, "scalar-range"),
        ({"n": 3.5}, "scalar-range"),
        ({"n": True}, "scalar-range"),
        ({"n": 3, "scale": "1"}, "scalar-range"),
        ({"n": 3, "scale": 1e39}, "scalar-range"),
        ({"n": 3, "flag": 0.5}, "scalar-range"),
    ],
)
def test_scalars(scalars: dict[str, Any], code: str) -> None:
    assert [d.code for d in refused({}, scalars)] == [code]


def test_infinite_scalars_are_fine() -> None:
    assert bind(MODULE, GOOD, {"n": 3, "scale": float("-inf")}).scalars["scale"] == float("-inf")


def test_assumptions_on_sizes_are_checked_with_their_line() -> None:
    arrays = {"x": ((10, 200), "bf16"), "y": ((10, 200), "bf16"), "s": ((10, 1), "f32")}
    (diagnostic,) = refused(arrays)
    assert diagnostic.code == "assume-violated"
    assert "`assume(K % 128 == 0)` at line 6: K=200" in diagnostic.message
    (diagnostic,) = refused({}, {"n": 10})
    assert "M=10, n=10" in diagnostic.message


def test_every_mismatch_is_reported_at_once() -> None:
    codes = [d.code for d in refused({"s": ((9, 3), "f16"), "t": ((1, 1), "i32")})]
    assert sorted(codes) == ["array-dtype", "rank"]  # sizes follow when ranks and dtypes are right
    assert [d.code for d in refused({"s": ((9, 3), "f32"), "y": ((9, 256), "bf16")})] == ["dim-mismatch"] * 3


def test_zero_sizes_are_legal() -> None:
    arrays = {"x": ((0, 256), "bf16"), "y": ((0, 256), "bf16"), "s": ((0, 2), "f32")}
    assert bind(MODULE, GOOD | arrays, {"n": -1}).dims["M"] == 0


def test_programs_bind_too() -> None:
    text = """edition(1)

@kernel
def a(x: In[f32, N], y: Out[f32, N], BN=64):
    for i in tiles((N,), (BN,)):
        store(y, (i,), load(x, (i,), (BN,)))

@program
def p(x: In[f32, N], y: Out[f32, N]):
    t = temp(f32, (N,))
    a(x, t)
    a(t, y)
"""
    assert bind(parse(text), {"x": ((7,), "f32"), "y": ((7,), "f32")}).dims == {"N": 7}


def test_an_optional_array_must_be_left_out_when_parsing() -> None:
    text = """edition(1)

@kernel
def k(x: In[f32, N], y: Out[f32, N], res: In[f32, N] = None, BN=64):
    for i in tiles((N,), (BN,)):
        v = load(x, (i,), (BN,))
        if res is not None:
            v = v + load(res, (i,), (BN,))
        store(y, (i,), v)
"""
    arrays = {"x": ((7,), "f32"), "y": ((7,), "f32")}
    with pytest.raises(KernelError) as caught:
        bind(parse(text), arrays)
    assert "absent={'res'}" in (caught.value.diagnostics[0].hint or "")
    assert bind(parse(text, absent=frozenset({"res"})), arrays).dims == {"N": 7}


def test_a_dim_that_only_an_output_has_by_itself_is_named_when_that_is_left_out() -> None:
    module = parse("""edition(1)
@kernel
def k(x: In[f32, B, 2 * P], y: Out[f32, B, P], BB=4, BP=8):
    for b, p in tiles((B, P), (BB, BP)):
        store(y, (b, p), load(x[:, 0:P], (b, p), (BB, BP)) - 1.0)
""")
    assert bind(module, {"x": ((3, 6), "f32"), "y": ((3, 3), "f32")}).dims == {"B": 3, "P": 3}
    with pytest.raises(KernelError) as raised:
        bind(module, {"x": ((3, 6), "f32")})
    (found,) = raised.value.diagnostics
    assert (found.code, "`P`" in found.message) == ("dim-unbound", True)
