"""A kernel that reads u4 arrays: they are packed on the way into the emulator."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.emulator.execute import emulate

from kernelagent import dsl

WIDEN = """
edition(1)

@kernel
def widen(x: In[u4, M, N], y: Out[f32, M, N], BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), cast(load(x, (i, j), (BM, BN)), f32))
"""


@pytest.mark.parametrize("shape", [(40, 64), (3, 34), (64, 2)])
def test_every_element_arrives(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 16, shape)
    y = np.zeros(shape, np.float32)
    found = emulate(dsl.parse(WIDEN), {"x": values.astype(ml_dtypes.uint4), "y": y})
    assert found.ok, found.findings
    np.testing.assert_array_equal(y, values)


def test_odd_rows_are_refused() -> None:
    arrays = {"x": np.zeros((4, 5), ml_dtypes.uint4), "y": np.zeros((4, 5), np.float32)}
    with pytest.raises(KernelError, match="even"):
        emulate(dsl.parse(WIDEN), arrays)
