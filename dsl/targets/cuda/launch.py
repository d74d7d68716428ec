"""Launching a cubin through CuPy. Pointers, dims and scalars arrive as one flat tuple; nothing is converted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelagent.dsl.targets.cuda.tools import MissingTool

if TYPE_CHECKING:
    import numpy as np

DEFAULT_SHARED_BYTES = 48 * 1024
"""What a block may have without opting in to more (CUDA Programming Guide, "Compute Capabilities")."""


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel on the current device."""

    function: Any  # cupy.RawKernel

    def __call__(
        self, grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...], shared_bytes: int = 0
    ) -> None:
        """Launch on CuPy's current stream and return at once.

        `arguments` are in the order of the kernel's parameters: numpy scalars, what `array_argument` gives, or CuPy
        arrays for bare pointers. The driver's errors are cupy exceptions, those of the run come when it is waited for.
        """
        if shared_bytes > DEFAULT_SHARED_BYTES:
            self.function.max_dynamic_shared_size_bytes = shared_bytes
        self.function(grid, (threads, 1, 1), arguments, shared_mem=shared_bytes)


def array_argument(pointer: int, strides: Sequence[int]) -> np.ndarray[Any, Any]:
    """`ka_array` by value: a device pointer and the stride of each axis in elements (8 + 8 * rank bytes).

    CuPy passes a numpy array of one record by value.
    """
    import numpy as np

    return np.array((pointer, tuple(strides)), dtype=[("data", "<u8"), ("stride", "<i8", (len(strides),))])


def load(cubin: Path, name: str) -> LoadedKernel:
    """Load a kernel from a cubin file onto the current device. Raises MissingTool without CuPy."""
    try:
        import cupy
    except ImportError:
        install = "pip install cupy-cuda13x (cupy-cuda12x with a CUDA 12 driver)"
        raise MissingTool("CuPy", "to launch kernels on a GPU", install) from None
    return LoadedKernel(cupy.RawModule(path=str(cubin)).get_function(name))
