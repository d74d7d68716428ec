"""Every index of a kernel fits the 64 bits that the CPU computes it in, and the dtype that it becomes as a number.

GPU code computes most indices in 32 bits: `schedule.overflow` has those.
"""

from __future__ import annotations

from kernelagent.dsl.ir import Kernel
from kernelagent.dsl.targets.cpu.widths import computed, signature_of
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.widths import Computed, unfit


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for a concrete kernel. What does not hold for all sizes is refused when the kernel is called."""
    signature, found = signature_of(kernel), tuple(dict.fromkeys(computed(kernel)))
    symbols = signature.sizes()
    wide, unknown = unfit(found, symbols, signature.data(symbols))
    if unknown:
        detail = f"{unknown[0].what} depends on data of which nothing is assumed"
        return [Obligation("overflow", "UNKNOWN", unknown[0].line, detail, kernel.name)]
    detail = f"all {len(found)} indices fit 64 bits, and the dtypes that they become"
    if wide:
        refused = "; ".join(dict.fromkeys(map(_told, wide)))
        detail = f"{detail}, or the call is refused: {refused}"
    return [Obligation("overflow", "PROVED", None, detail, kernel.name)]


def _told(each: Computed) -> str:
    return f"{each.what}, {each.value} (line {each.line})"


__all__ = ["prove"]
