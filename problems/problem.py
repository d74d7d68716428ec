"""What a problem is: named tensors, workloads, a reference and a seed kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Dim = str | int
"""A dim name, or a literal extent. Names may be arithmetic over dims ("E + 1", "K // 128")."""


@dataclass(frozen=True)
class Tensor:
    """A named array of a problem.

    `distribution` (inputs only) names an entry of `problems.distributions`: normal, uniform, positive,
    integer labels and so on; `options` are its keyword arguments, dim names allowed as values.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...]
    distribution: str = "normal"
    options: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScalarInput:
    """A runtime scalar; `value` may be overridden by a workload."""

    name: str
    dtype: str
    value: float | int | bool


@dataclass(frozen=True)
class Workload:
    """One set of sizes. `ragged` marks sizes that no usual tile divides."""

    name: str
    dims: Mapping[str, int]
    scalars: Mapping[str, float | int | bool] = field(default_factory=dict)
    ragged: bool = False


@dataclass(frozen=True)
class Tolerance:
    """|y - y64| <= reduction_bound + relative * |y64| + absolute * scale, see harness/correctness.py.

    `reduction` names the dims whose product is the length of the longest reduction ("" for none).
    """

    relative: float = 1e-5
    absolute: float = 1e-6
    reduction: tuple[Dim, ...] = ()


Reference = Callable[..., Any]
"""`reference(xp, **inputs_and_scalars)` -> array, or a tuple in the order of `outputs`.

`xp` is an array-API namespace: numpy, cupy, torch through array-api-compat, or the tracer of `solar`.
Only functions of the array API standard, plus those of `problems.extra` (erf, rsqrt ...), may be used.
"""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A computation, how to draw its inputs, and how to tell a right answer from a wrong one.

    `seed_kernel` is what a search starts from and is measured against: plain, with the same tile size (32) everywhere
    and no policy, so that it is tuned for no machine.

    The first workload is the headline: the one that a run optimises unless told otherwise. `variants` names the
    further distributions (`problems.distributions.VARIANTS`) that correctness draws floating inputs from.

    Baselines, given the runtime scalars as well, write to preallocated outputs (`out` is an array, or a tuple in
    the order of `outputs`):
    `numpy_reference(numpy, out=out, **inputs)` returns nothing;
    `torch_reference(torch, out=None, **inputs)` returns its result, and leaves it in `out` when that is given.
    """

    name: str
    title: str = ""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    workloads: tuple[Workload, ...]
    reference: Reference
    seed_kernel: str = ""
    scalars: tuple[ScalarInput, ...] = ()
    tolerance: Tolerance = Tolerance()
    tags: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("uniform", "positive", "same_sign")
    torch_reference: Reference | None = None
    numpy_reference: Reference | None = None

    @property
    def headline(self) -> Workload:
        return self.workloads[0]

    def workload(self, name: str) -> Workload:
        """Raises KeyError, naming the known ones, for an unknown workload."""
        for workload in self.workloads:
            if workload.name == name:
                return workload
        raise KeyError(f"{self.name} has no workload {name!r}; known: {', '.join(w.name for w in self.workloads)}")
