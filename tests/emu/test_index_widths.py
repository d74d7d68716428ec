"""Integer scalars in indices, from the smallest to the largest: the interpreter's values, or the call is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.targets.emulator.execute import emulate
from numpy.typing import NDArray

from tests.support.compiled import loaded

ANY = {
    "start": "load(x, (i + w,), (BM,), fill=0)",
    "condition": "v if 4 * w + i > 7 else v * 2.0",
    "quotient": "v if (i + w) // 3 > 7 else v * 2.0",
    "remainder": "v if (i - w) % 7 > 3 else v * 2.0",
    "positions": "cast(coords(i + w, BM), f32)",
}
"""Where a scalar of any size has a meaning."""
NARROW = {
    "mask": "where(coords(i, BM) >= w, v, 0.0)",
    "filled": "fill(load(x, (i - w,), (BM,)) + 1.0, 5.0)",
    "total": "v + sum(fill(load(x, (i + w,), (BM,)) + 1.0, 0.0), axis=0)",
}
"""Where it is compared with numbers of 32 bits."""
M = 130


def text_of(values: Mapping[str, str], dtype: str) -> str:
    outputs = ", ".join(f"{name}: Out[f32, M]" for name in values)
    stores = "".join(f"        store({name}, (i,), {value})\n" for name, value in values.items())
    return (
        f"edition(1)\n\n@kernel\ndef shifted(x: In[f32, M], {outputs}, w: {dtype}, BM=64):\n"
        f"    for i in tiles((M,), (BM,)):\n        v = load(x, (i,), (BM,), fill=0)\n{stores}"
    )


@pytest.mark.parametrize(
    ("values", "dtype", "scalars"),
    [
        (ANY | NARROW, "i32", (-(2**31) + 200, -5, 5, 2**30, 2**31 - 300)),
        (ANY, "i32", (-(2**31), 2**31 - 1)),
        (ANY, "u32", (5, 2**31, 2**32 - 60, 2**32 - 1)),
        (ANY, "i64", (-(2**40), -(2**32), 2**31, 2**32 + 5, 2**40)),
    ],
)
def test_compiled_code_agrees_with_the_interpreter(
    values: Mapping[str, str], dtype: str, scalars: tuple[int, ...]
) -> None:
    text = text_of(values, dtype)
    module, x = parse(text), np.arange(1, M + 1, dtype=np.float32)
    for w in scalars:
        right = execute(module, arrays(values, x), {"w": w}, {}, Options()).outputs
        cpu, gpu = arrays(values, x), arrays(values, x)
        loaded(text, cpu)(cpu, {"w": w})
        assert emulate(module, gpu, {"w": w}).ok
        for name in values:
            np.testing.assert_allclose(cpu[name], right[name], rtol=1e-6, err_msg=f"{name} on the CPU, w={w}")
            np.testing.assert_allclose(gpu[name], right[name], rtol=1e-6, err_msg=f"{name} on the GPU, w={w}")


@pytest.mark.parametrize("w", [-(2**63), 2**63 - 1])
def test_what_leaves_64_bits_is_refused(w: int) -> None:
    text = text_of(ANY, "i64")
    given = arrays(ANY, np.arange(1, M + 1, dtype=np.float32))
    for call in (lambda: loaded(text, given)(given, {"w": w}), lambda: emulate(parse(text), given, {"w": w})):
        with pytest.raises(KernelError, match="bits"):
            call()


def arrays(values: Mapping[str, str], x: NDArray[np.float32]) -> dict[str, Any]:
    return {"x": x} | {name: np.full(M, -7, np.float32) for name in values}


def test_scalars_of_every_dtype_arrive() -> None:
    """Negative 64-bit numbers, bytes, small floats."""
    dtypes = {
        "f64": -2.5,
        "f16": 0.5,
        "bf16": -4.0,
        "i64": -(2**40),
        "i16": -300,
        "u8": 200,
        "u32": 2**32 - 1,
    }
    for dtype, value in dtypes.items():
        kind = "f64" if dtype == "f64" else "f32" if dtype in ("f16", "bf16") else "i64"
        to = np.dtype({"f64": np.float64, "f32": np.float32, "i64": np.int64}[kind])
        text = f"""edition(1)

@kernel
def held(x: In[{kind}, M], y: Out[{kind}, M], w: {dtype}):
    for i in tiles((M,), (8,)):
        store(y, (i,), load(x, (i,), (8,)) + {"w" if kind in ("i64", "f64") else "cast(w, f32)"})
"""
        y = np.zeros(8, to)
        assert emulate(parse(text), {"x": np.zeros(8, to), "y": y}, {"w": value}).ok
        assert (y == value).all(), (dtype, y)
