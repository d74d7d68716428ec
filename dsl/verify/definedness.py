"""Nothing undefined is ever read.

Void cannot reach an output: a store writes live positions only, every operation derives its live positions from
its operands', and `load` makes live only what lies inside the view.
"""

from __future__ import annotations

from kernelagent.dsl.ir import Kernel
from kernelagent.dsl.verify.records import Obligation


def prove(kernel: Kernel) -> list[Obligation]:
    """One obligation for the kernel's values."""
    detail = "only live elements are stored, and every live element was loaded from inside its view or computed"
    return [Obligation("definedness", "PROVED", None, detail, kernel.name)]
