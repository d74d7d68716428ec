"""u4 arrays with two elements a byte."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.nibbles import pack

SHAPES = st.tuples(st.integers(0, 4), st.integers(1, 6)).map(lambda s: (s[0], 2 * s[1]))


@given(arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 15)))
def test_element_i_is_nibble_i_counted_from_the_low_end(values: np.ndarray) -> None:
    packed = pack("x", values.astype(ml_dtypes.uint4))
    assert packed.flags.c_contiguous
    for row, line in zip(values, packed, strict=True):
        number = int.from_bytes(line.tobytes(), "little")
        assert [number >> 4 * i & 15 for i in range(len(row))] == row.tolist()


def test_a_transposed_array_is_packed_by_its_own_rows() -> None:
    values = np.arange(8, dtype=np.uint8).reshape(4, 2).T
    np.testing.assert_array_equal(pack("x", values), [[0x20, 0x64], [0x31, 0x75]])


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_rows_that_are_not_whole_bytes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(KernelError) as caught:
        pack("weights", np.zeros(shape, ml_dtypes.uint4))
    (found,) = caught.value.diagnostics
    assert found.code == "u4-pairs"
    assert "weights" in found.message
