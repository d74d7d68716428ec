"""What a kernel asks of a machine, as far as its text decides it."""

from __future__ import annotations

import math

from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.ir import Let, Module, Value
from kernelagent.dsl.verify.families import Choice, concrete_kernels
from kernelagent.dsl.verify.sites import walk


def largest_tiles(module: Module, choice: Choice) -> dict[str, int]:
    """Kernel name -> bytes of its largest value; values whose extents a dim decides are left out."""
    found: dict[str, int] = {}
    for kernel in concrete_kernels(module, choice):
        values = [s.value for s, _ in walk(kernel) if isinstance(s, Let)]
        found[kernel.name] = max((_bytes(v) for v in values), default=0)
    return found


def _bytes(value: Value) -> int:
    extents = [e.constant for e in value.type.shape]
    if any(e is None for e in extents):
        return 0
    return math.prod(e for e in extents if e is not None) * bits(value.type.dtype) // 8
