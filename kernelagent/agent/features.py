"""Where a problem stands: features that tell how alike two workloads are, and what limits a kernel now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kernelagent.problems.problem import Problem, Workload

Features = dict[str, float | str]
Regime = Literal["near", "between", "far", "launch"]

OP_CLASSES = (
    "matmul",
    "attention",
    "row-reduction",
    "elementwise",
    "transpose",
    "gather",
    "scan",
    "epilogue",
    "program",
)
"""Classes that techniques name; a problem belongs to those among its tags."""

_SAME = {"pointwise": "elementwise", "layout": "transpose"}
"""Tags of problems that techniques call otherwise."""

NEAR = 1.25
"""Up to this many times the ceiling a kernel is limited by the resource that the bound names."""
FAR = 4.0
"""Beyond this no resource of the chip is the limit: instructions, latency or overheads are."""
LAUNCH_MS = 0.02
"""Below this a run is dominated by starting threads and touching memory once."""

_RESOURCES = (
    ("memory", ("dram", "memory", "hbm", "bandwidth", "l2")),
    ("special-function", ("special", "sfu", "transcendental", "exp")),
    ("latency", ("launch", "latency", "overhead")),
    ("compute", ("matrix", "tensor", "fma", "compute", "flop", "alu", "mma")),
)


@dataclass(frozen=True)
class Signature:
    """`bottleneck` is a word of the technique catalogue; `gap` is time / ceiling, None when either is unknown."""

    bottleneck: str
    regime: Regime
    gap: float | None

    @property
    def label(self) -> str:
        words = {"near": "at its limit", "between": "within reach", "far": "far from any limit", "launch": "tiny"}
        return f"{self.bottleneck}, {words[self.regime]}"


def op_classes(problem: Problem) -> tuple[str, ...]:
    """The op classes of a problem, from its tags."""
    tags = set(problem.tags)
    if tags & {"softmax", "normalisation", "reduction", "norm"}:
        tags.add("row-reduction")
    tags |= {_SAME[tag] for tag in tags if tag in _SAME}
    return tuple(c for c in OP_CLASSES if c in tags)


def features(problem: Problem, workload: Workload, bound: Mapping[str, Any]) -> Features:
    """Op classes, log2 of every dim and of the arithmetic intensity (multiply-adds per byte); on a GPU its
    architecture."""
    found: Features = {f"op:{name}": "yes" for name in op_classes(problem)}
    found |= {f"log2:{dim}": _log2(size) for dim, size in sorted(workload.dims.items())}
    found["log2:intensity"] = _log2((bound.get("macs") or 0) / max(1, bound.get("min_bytes") or 1))
    found["dtypes"] = ",".join(t.dtype for t in (*problem.inputs, *problem.outputs))
    if bound.get("arch"):
        found["arch"] = str(bound["arch"])
    found["ragged"] = "yes" if workload.ragged else "no"
    return found


def signature(bound: Mapping[str, Any], ceiling_ms: float | None, time_ms: float | None) -> Signature:
    """What limits a kernel that takes `time_ms`, given the bound's terms (ms by resource)."""
    resource = _resource(bound)
    if time_ms is not None and time_ms < LAUNCH_MS:
        return Signature("latency", "launch", _gap(ceiling_ms, time_ms))
    gap = _gap(ceiling_ms, time_ms)
    if gap is None:
        return Signature(resource, "between", None)
    regime: Regime = "near" if gap <= NEAR else "far" if gap > FAR else "between"
    return Signature(resource, regime, gap)


def _gap(ceiling_ms: float | None, time_ms: float | None) -> float | None:
    return time_ms / ceiling_ms if ceiling_ms and time_ms else None


def _resource(bound: Mapping[str, Any]) -> str:
    terms = {str(k): v for k, v in (bound.get("terms") or {}).items() if isinstance(v, int | float)}
    largest = max(terms, key=lambda k: terms[k], default=str(bound.get("bound") or ""))
    word = largest.lower()
    return next((name for name, parts in _RESOURCES if any(part in word for part in parts)), "memory")


def _log2(value: float) -> float:
    """Rounded, so that equal workloads have equal features on every machine."""
    return round(math.log2(value), 3) if value > 0 else -20.0
