"""Exact work of operations: multiply-adds by operand dtype, scalar flops, special functions, comparisons.

Counts are lower bounds where an implementation has a choice: an error function is at least one special
function, a division at least a reciprocal and a multiplication.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Work:
    """`macs` and `flops` by dtype; `special` counts exp, log, sqrt, reciprocal, tanh ...; `compares` max, min,
    select and comparisons, which no chip does in its multiply-add pipe."""

    macs: Counts = field(default_factory=dict)
    flops: Counts = field(default_factory=dict)
    special: int = 0
    compares: int = 0

    def scaled(self, fraction: Fraction) -> Work:
        """The part of this work that is needed when only `fraction` of the elements are."""
        return Work(
            {d: int(n * fraction) for d, n in self.macs.items()},
            {d: int(n * fraction) for d, n in self.flops.items()},
            int(self.special * fraction),
            int(self.compares * fraction),
        )


def total(parts: Iterable[Work]) -> Work:
    """Sum of work, dtype by dtype."""
    macs: dict[str, int] = {}
    flops: dict[str, int] = {}
    special = compares = 0
    for part in parts:
        _accumulate(macs, part.macs)
        _accumulate(flops, part.flops)
        special += part.special
        compares += part.compares
    return Work(macs, flops, special, compares)


def pointwise(word: str, elements: int, dtype: str) -> Work:
    """Work of `word` on `elements` elements. Integer and boolean results count nothing in the float pipes."""
    flops, special, compares = COSTS[word]
    if dtype not in FLOATS:
        return Work()
    return Work({}, {arithmetic(dtype): flops * elements} if flops else {}, special * elements, compares * elements)


def arithmetic(dtype: str) -> str:
    """The dtype that scalar arithmetic on `dtype` is done in: 16-bit and smaller floats compute in f32."""
    return dtype if dtype == "f64" else "f32"


FLOATS = ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2")

COSTS: dict[str, tuple[int, int, int]] = {  # word: (flops, special functions, comparisons) for each element
    "add": (1, 0, 0),
    "subtract": (1, 0, 0),
    "multiply": (1, 0, 0),
    "divide": (1, 1, 0),
    "square": (1, 0, 0),
    "negative": (0, 0, 0),
    "positive": (0, 0, 0),
    "abs": (0, 0, 0),
    "cast": (0, 0, 0),
    "exp": (1, 1, 0),
    "exp2": (0, 1, 0),
    "expm1": (2, 1, 0),
    "log": (1, 1, 0),
    "log2": (0, 1, 0),
    "log1p": (2, 1, 0),
    "sqrt": (1, 1, 0),
    "rsqrt": (0, 1, 0),
    "reciprocal": (0, 1, 0),
    "tanh": (0, 1, 0),
    "erf": (1, 1, 0),
    "sin": (0, 1, 0),
    "cos": (0, 1, 0),
    "sigmoid": (2, 2, 0),
    "pow": (1, 2, 0),
    "maximum": (0, 0, 1),
    "minimum": (0, 0, 1),
    "where": (0, 0, 1),
    "clip": (0, 0, 2),
    "floor": (0, 0, 1),
    "ceil": (0, 0, 1),
    "round": (0, 0, 1),
    "sign": (0, 0, 1),
    "isnan": (0, 0, 1),
    "isfinite": (0, 0, 1),
    "less": (0, 0, 1),
    "less_equal": (0, 0, 1),
    "greater": (0, 0, 1),
    "greater_equal": (0, 0, 1),
    "equal": (0, 0, 1),
    "not_equal": (0, 0, 1),
    "logical_and": (0, 0, 0),
    "logical_or": (0, 0, 0),
    "logical_not": (0, 0, 0),
    "logical_xor": (0, 0, 0),
    "floor_divide": (1, 1, 1),
    "remainder": (2, 1, 1),
}


def _accumulate(into: dict[str, int], counts: Counts) -> None:
    for dtype, count in counts.items():
        into[dtype] = into.get(dtype, 0) + count
