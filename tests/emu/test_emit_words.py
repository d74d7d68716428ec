"""Every word on every dtype: the emitted expressions against the interpreter, in one kernel a dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import DTYPES, is_float, numpy_dtype
from kernelagent.dsl.interpreter.numbers import BINARY, UNARY, cast, wrap
from kernelagent.dsl.lanes import striped
from numpy.typing import NDArray
from support.device_kernels import Maker, blank, correct

Array = NDArray[Any]
COUNT = 256
FLOAT_UNARY = sorted(set(UNARY) - {"not"})
INTEGER_UNARY = ["neg", "abs", "not"]
FLOAT_BINARY = ["add", "sub", "mul", "div", "maximum", "minimum", "lt", "le", "gt", "ge", "eq", "ne"]
INTEGER_BINARY = [
    "add", "sub", "mul", "floordiv", "mod", "maximum", "minimum", "and", "or", "xor", "shl", "shr", "lt", "ge", "eq",
]  # fmt: skip
COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne"}


def draw(dtype: str, seed: int) -> Array:
    """Numbers of all sizes, with the extremes."""
    rng = np.random.default_rng(seed)
    info = DTYPES[dtype]
    if dtype == "bool":
        return rng.integers(0, 2, COUNT).astype(bool)
    if is_float(dtype):
        x = rng.standard_normal(COUNT) * 10.0 ** rng.integers(-3, 3, COUNT)
        x[:6] = [0.0, -0.0, np.nan, 1.0, -1.0, 0.5]
        return x.astype(numpy_dtype(dtype))
    low = -int(info.largest) - 1 if info.kind == "int" else 0
    x = rng.integers(low, int(info.largest), COUNT, endpoint=True, dtype=np.int64)
    x[: COUNT // 2] = rng.integers(max(low, -9), 10, COUNT // 2)
    x[:4] = [low, int(info.largest), 0, 1]
    return x.astype(numpy_dtype(dtype))


def results(dtype: str, jobs: list[tuple[str, str]], a: Array, b: Array) -> dict[str, Array]:
    """Each (word, result dtype) of the drawn operands, emulated."""
    maker, layout = Maker(32), striped((COUNT,), 32, 2)
    inputs = [maker.load(maker.array(n, dtype, [COUNT]), layout) for n in "ab"]
    out: dict[str, Array] = {}
    for word, result in jobs:
        arguments = inputs[: 1 if word in UNARY or word.startswith("cast") else 2]
        made = maker.word(word.partition(" ")[0], *arguments, dtype=result)
        name = word.replace(" ", "_")
        maker.store(maker.array(name, result, [COUNT], "Out"), made)
        out[name] = blank(result, COUNT)
    correct(maker.kernel(), {"a": a, "b": b, **out})
    return out


def compare(word: str, found: Array, right: Array, exact: bool) -> None:
    if exact:
        np.testing.assert_array_equal(found, right, err_msg=word)
    else:
        np.testing.assert_allclose(found.astype("f8"), right.astype("f8"), rtol=2e-6, atol=1e-37, err_msg=word)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_words_on_floats(dtype: str) -> None:
    a, b = draw(dtype, 1), draw(dtype, 2)
    unary = FLOAT_UNARY if dtype == "f32" else ["neg", "abs", "exp", "sqrt", "floor", "ceil", "round"]
    jobs = [(w, dtype) for w in unary] + [(w, "bool" if w in COMPARISONS else dtype) for w in FLOAT_BINARY]
    found = results(dtype, jobs, a, b)
    with np.errstate(all="ignore"):
        for word in unary:
            compare(word, found[word], UNARY[word](a), word in ("neg", "abs", "floor", "ceil", "round"))
        for word in FLOAT_BINARY:
            compare(word, found[word], BINARY[word](a, b), True)


@pytest.mark.parametrize("dtype", ["i64", "i32", "i16", "i8", "u32", "u8"])
def test_words_on_integers_wrap_around(dtype: str) -> None:
    a, b = draw(dtype, 3), draw(dtype, 4)
    jobs = [(w, dtype) for w in INTEGER_UNARY] + [(w, "bool" if w in COMPARISONS else dtype) for w in INTEGER_BINARY]
    found = results(dtype, jobs, a, b)
    with np.errstate(all="ignore"):
        for word in INTEGER_UNARY:
            compare(word, found[word], wrap(UNARY[word](a), dtype), True)
        for word in INTEGER_BINARY:
            compare(word, found[word], wrap(np.asarray(BINARY[word](a, b)), dtype), True)


def test_words_on_truth_values() -> None:
    a, b = draw("bool", 5), draw("bool", 6)
    words = ["and", "or", "xor", "eq", "ne", "maximum", "minimum"]
    found = results("bool", [(w, "bool") for w in ["not", *words]], a, b)
    compare("not", found["not"], ~a, True)
    for word in words:
        compare(word, found[word], BINARY[word](a, b), True)


CASTS = [d for d in DTYPES if d != "u4"]


@pytest.mark.parametrize("source", CASTS)
def test_casts_to_every_dtype(source: str) -> None:
    a = draw(source, 7)
    found = results(source, [(f"cast {to}", to) for to in CASTS], a, a)
    for to in CASTS:
        with np.errstate(all="ignore"):
            right = cast(a, source, to)
        np.testing.assert_array_equal(
            found[f"cast_{to}"].astype("f8"), np.asarray(right).astype("f8"), err_msg=f"{source} to {to}"
        )


@pytest.mark.parametrize("dtype", ["bf16", "f8e4m3"])
def test_narrow_floats_compute_in_f32(dtype: str) -> None:
    a, b = draw(dtype, 8), draw(dtype, 9)
    found = results(dtype, [("neg", dtype), ("maximum", dtype), ("lt", "bool"), ("mul", dtype)], a, b)
    wide = a.astype("f4"), b.astype("f4")
    with np.errstate(all="ignore"):
        compare("neg", found["neg"].astype("f4"), -wide[0], True)
        compare("maximum", found["maximum"].astype("f4"), np.maximum(*wide), True)
        compare("lt", found["lt"], wide[0] < wide[1], True)
        product = np.asarray(cast(wide[0] * wide[1], "f32", dtype))
        compare("mul", found["mul"].astype("f4"), product.astype("f4"), True)


@pytest.mark.parametrize("value", [0.1, -2.5, 1e30, float("inf"), float("-inf"), float("nan"), 3.0, 2**-140])
def test_float_constants(value: float) -> None:
    maker, layout = Maker(32), striped((32,), 32, 1)
    outputs: dict[str, Array] = {}
    for dtype in ("f32", "f64", "bf16", "f16"):
        made = maker.let(dev.Constant(value), dtype, layout)
        maker.store(maker.array(f"out_{dtype}", dtype, [32], "Out"), made)
        outputs[f"out_{dtype}"] = blank(dtype, 32)
    correct(maker.kernel(), outputs)
    for dtype in ("f32", "f64", "bf16", "f16"):
        with np.errstate(over="ignore"):
            right = np.full(32, np.asarray(value, "f8" if dtype == "f64" else "f4")).astype(numpy_dtype(dtype))
        np.testing.assert_array_equal(outputs[f"out_{dtype}"].astype("f8"), right.astype("f8"))
