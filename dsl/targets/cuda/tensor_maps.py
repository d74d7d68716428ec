"""Tensor maps as the driver encodes them: 128 bytes that a kernel takes by value.

The encoding holds the array's address and strides, so an array that moves needs a new one. It takes microseconds and
belongs outside of what is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.targets.cuda.tools import MissingTool
from kernelagent.dsl.tensor_map import TensorMap

if TYPE_CHECKING:
    import numpy as np

BYTES = 128

_TYPES = {
    "f16": "FLOAT16", "bf16": "BFLOAT16", "f32": "FLOAT32", "f64": "FLOAT64", "f8e4m3": "UINT8", "f8e5m2": "UINT8",
    "i8": "UINT8", "u8": "UINT8", "bool": "UINT8", "i16": "UINT16", "i32": "INT32", "u32": "UINT32", "i64": "INT64",
}  # fmt: skip
"""The driver's name of each dtype. It matters where copies add; elsewhere only the width does."""


def encode(bound: TensorMap) -> np.ndarray[Any, Any]:
    """The map as one record of 16 words, which CuPy passes by value.

    Raises MissingTool without cuda-bindings or a driver, KernelError (`tensor-map`) for what the driver refuses.
    """
    import numpy as np

    driver = _driver()
    error, encoded = driver.cuTensorMapEncodeTiled(*arguments(bound, driver))
    if error != driver.CUresult.CUDA_SUCCESS:
        raise KernelError([_refused(bound, error.name)])
    words = tuple(int(word) for word in encoded.opaque)
    return np.array((words,), dtype=[("opaque", "<u8", (BYTES // 8,))])


def arguments(bound: TensorMap, driver: Any) -> tuple[Any, ...]:
    """What `cuTensorMapEncodeTiled` is called with: zeros outside the array, no interleaving."""
    spec = bound.spec
    wide, narrow = driver.cuuint64_t, driver.cuuint32_t
    swizzle = f"CU_TENSOR_MAP_SWIZZLE_{f'{spec.swizzle}B' if spec.swizzle else 'NONE'}"
    promotion = f"CU_TENSOR_MAP_L2_PROMOTION_{f'L2_{spec.promotion}B' if spec.promotion else 'NONE'}"
    return (
        driver.CUtensorMapDataType[f"CU_TENSOR_MAP_DATA_TYPE_{_TYPES[spec.dtype]}"],
        spec.rank,
        bound.address,
        [wide(extent) for extent in bound.dims],
        [wide(stride) for stride in bound.strides[1:]],
        [narrow(extent) for extent in spec.box],
        [narrow(step) for step in spec.element_strides],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle[swizzle],
        driver.CUtensorMapL2promotion[promotion],
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )


def _driver() -> Any:
    """The driver's bindings, initialised."""
    purpose = "to encode tensor maps"
    try:
        from cuda.bindings import driver
    except ImportError:
        raise MissingTool("cuda-bindings", purpose, 'pip install "cuda-bindings==13.0.*"') from None
    try:
        (error,) = driver.cuInit(0)
    except RuntimeError:  # what the bindings say when they cannot open libcuda
        raise MissingTool("the CUDA driver", purpose, "install the NVIDIA driver of a Hopper GPU") from None
    if error != driver.CUresult.CUDA_SUCCESS:
        raise MissingTool(f"a GPU ({error.name})", purpose, "run on a machine with a Hopper GPU")
    return driver


def _refused(bound: TensorMap, error: str) -> Diagnostic:
    spec = bound.spec
    facts = {"array": spec.array, "box": spec.box, "dims": bound.dims, "strides": bound.strides, "error": error}
    message = f"tensor map of {spec.array}: the driver refuses it ({error})"
    return Diagnostic("tensor-map", message, hint="use the schedule without tensor maps", facts=facts)
