"""u4 arrays as targets take them: two elements a byte along the last axis, the first in the low half."""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from numpy.typing import NDArray


def pack(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Bytes (..., n / 2), row major, of an array (..., n) with one element (0 .. 15) a byte.

    Raises KernelError (`u4-pairs`) for an odd last axis: rows start with whole bytes.
    """
    if array.ndim == 0 or array.shape[-1] % 2:
        raise odd_rows(name, array.shape)
    nibbles = array.astype(np.uint8)
    return np.asarray(nibbles[..., 0::2] | nibbles[..., 1::2] << 4, np.uint8, order="C")


def odd_rows(name: str, shape: tuple[int, ...]) -> KernelError:
    """What to say of an array whose rows are not whole bytes."""
    message = f"`{name}` is u4 of shape {shape}: two elements share a byte, so its last axis must be even"
    return KernelError([Diagnostic("u4-pairs", message, hint="pad the last axis by one", facts={"shape": list(shape)})])
