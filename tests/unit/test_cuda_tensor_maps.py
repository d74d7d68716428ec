"""What the driver is asked for when a tensor map is encoded; the encoding itself needs a driver (tests/gpu)."""

from __future__ import annotations

import re

import pytest
from kernelagent.dsl.targets.cuda import tensor_maps
from kernelagent.dsl.targets.cuda.tools import MissingTool
from kernelagent.dsl.tensor_map import ELEMENTS, SWIZZLES, TensorMapSpec

driver = pytest.importorskip("cuda.bindings.driver")

DTYPES = sorted(ELEMENTS)


def test_arguments_are_in_the_drivers_order_and_units() -> None:
    """Dims in elements, strides in bytes without that of the innermost axis, innermost first."""
    spec = TensorMapSpec("a", "bf16", (2, 1, 0), (64, 8, 2), 128, (1, 2, 1))
    kind, rank, address, dims, strides, box, steps, interleave, swizzle, promotion, fill = tensor_maps.arguments(
        spec.bind(0x7F00, (5, 100, 200), (20800, 208, 1)), driver
    )
    assert kind.name == "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16"
    assert (rank, address) == (3, 0x7F00)
    numbers = [[int(n) for n in values] for values in (dims, strides, box, steps)]
    assert numbers == [[200, 100, 5], [416, 41600], [64, 8, 2], [1, 2, 1]]
    names = [value.name for value in (interleave, swizzle, promotion, fill)]
    assert names == [
        "CU_TENSOR_MAP_INTERLEAVE_NONE",
        "CU_TENSOR_MAP_SWIZZLE_128B",
        "CU_TENSOR_MAP_L2_PROMOTION_L2_128B",
        "CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE",
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("swizzle", SWIZZLES)
def test_every_dtype_and_swizzle_has_a_name_of_its_width(dtype: str, swizzle: int) -> None:
    each = TensorMapSpec("a", dtype, (0,), (16,)).element_bytes
    spec = TensorMapSpec("a", dtype, (0,), ((swizzle or 128) // each,), swizzle, promotion=0)
    kind, *_, named, promotion, _ = tensor_maps.arguments(spec.bind(0, (1000,), (1,)), driver)
    assert re.findall(r"\d+$", kind.name) == [str(8 * each)]
    assert named.name.endswith(f"SWIZZLE_{swizzle}B" if swizzle else "SWIZZLE_NONE")
    assert promotion.name.endswith("NONE")


def _has_driver() -> bool:
    try:
        return bool(driver.cuInit(0)[0] == driver.CUresult.CUDA_SUCCESS)
    except RuntimeError:
        return False


@pytest.mark.skipif(_has_driver(), reason="there is a driver")
def test_without_a_driver_the_reason_is_named() -> None:
    bound = TensorMapSpec("a", "f32", (0,), (32,)).bind(0, (1000,), (1,))
    with pytest.raises(MissingTool) as caught:
        tensor_maps.encode(bound)
    assert "to encode tensor maps" in str(caught.value)
    assert "driver" in caught.value.hint or "GPU" in caught.value.hint
