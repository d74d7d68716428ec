"""What can be said about a problem without running anything: names, dims, dtypes, workloads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from kernelagent.problems.distributions import DISTRIBUTIONS, VARIANTS
from kernelagent.problems.dtypes import itemsize, known
from kernelagent.problems.findings import Finding, error, warning
from kernelagent.problems.problem import Dim, Problem, Tensor, Workload
from kernelagent.problems.sizes import evaluate, free_names

LARGEST_BYTES = 4 << 30
"""All arrays of a workload together; the float64 reference needs several times as much."""


def check_declarations(problem: Problem) -> Iterator[Finding]:
    """Findings about names, tensors and workloads."""
    yield from _names(problem)
    yield from _tensors(problem)
    yield from _workload_set(problem.workloads)
    for workload in problem.workloads:
        yield from _dims(problem, workload)
        yield from _sizes(problem, workload)


def _names(problem: Problem) -> Iterator[Finding]:
    if not problem.name.isidentifier():
        yield error("name-invalid", f"the name {problem.name!r} is not an identifier", "use letters, digits and _")
    if not problem.outputs:
        yield error("no-outputs", "there is no output", "add a Tensor to outputs")
    if not problem.inputs:
        yield error("no-inputs", "there is no input", "a kernel without inputs has a constant answer")
    tensors = [t.name for t in (*problem.inputs, *problem.outputs)]
    used = Counter([*tensors, *(s.name for s in problem.scalars)])
    for name in (n for n, count in used.items() if count > 1):
        yield error("name-twice", f"{name!r} names {used[name]} tensors or scalars", "parameters are bound by name")


def _tensors(problem: Problem) -> Iterator[Finding]:
    for tensor in (*problem.inputs, *problem.outputs):
        if tensor.dtype not in known():
            yield error("dtype-unknown", f"{tensor.name} has dtype {tensor.dtype!r}", f"one of {', '.join(known())}")
        yield from _expressions(tensor.name, tensor.dims)
    yield from _expressions("tolerance.reduction", problem.tolerance.reduction)
    for tensor in problem.inputs:
        if tensor.distribution not in DISTRIBUTIONS:
            hint = f"one of {', '.join(DISTRIBUTIONS)}"
            yield error("distribution-unknown", f"{tensor.name} is drawn from {tensor.distribution!r}", hint)
    for variant in problem.variants:
        if variant not in VARIANTS:
            yield error("variant-unknown", f"variant {variant!r} is not known", f"one of {', '.join(VARIANTS)}")


def _expressions(owner: str, dims: Iterable[Dim]) -> Iterator[Finding]:
    for dim in dims:
        try:
            free_names(dim)
        except ValueError as reason:
            yield error("dim-malformed", f"{owner}: {reason}", 'dims are names, integers or "2 * P", "K // 128"')


def _workload_set(workloads: tuple[Workload, ...]) -> Iterator[Finding]:
    if len(workloads) < 3:
        message = f"{len(workloads)} workloads: a kernel for one shape would pass"
        yield error("few-workloads", message, "give at least three: the one that matters, a small and a ragged one")
    if not any(w.ragged for w in workloads):
        hint = "add one whose sizes no tile divides, such as 131 x 1021, with ragged=True"
        yield error("no-ragged", "no workload is ragged: tails would never be tested", hint)
    for workload in workloads:
        if workload.ragged and all(n % 8 == 0 for n in workload.dims.values()):
            message = f"{workload.name} is marked ragged, but 8 divides all of its sizes"
            yield error("ragged-aligned", message, "use odd sizes for at least one dim", dims=dict(workload.dims))
    counts = Counter(w.name for w in workloads)
    for name in (n for n, count in counts.items() if count > 1):
        yield error("workload-twice", f"{counts[name]} workloads are called {name!r}", "names must differ")


def _dims(problem: Problem, workload: Workload) -> Iterator[Finding]:
    wanted = _free(problem)
    for name in sorted(wanted - set(workload.dims)):
        yield error("dim-undefined", f"{workload.name} gives no size for {name}", f"add {name!r} to its dims")
    for name in sorted(set(workload.dims) - wanted):
        yield warning("dim-unused", f"{workload.name} sets {name}, which no tensor has", "remove it or use it")
    for name, n in workload.dims.items():
        if n <= 0:
            yield error("dim-not-positive", f"{workload.name}: {name} = {n}", "sizes are at least 1")
    for name in sorted(set(workload.scalars) - {s.name for s in problem.scalars}):
        yield error("scalar-unknown", f"{workload.name} sets {name!r}, which is no scalar of the problem", "remove it")


def _sizes(problem: Problem, workload: Workload) -> Iterator[Finding]:
    try:
        moved = sum(_bytes(t, workload) for t in (*problem.inputs, *problem.outputs))
    except (KeyError, ValueError):
        return  # reported already
    if moved > LARGEST_BYTES:
        message = f"{workload.name} holds {moved / 2**30:.1f} GiB, more than {LARGEST_BYTES / 2**30:.0f} GiB"
        yield error("workload-large", message, "shrink it: the reference needs several times as much", bytes=moved)


def _free(problem: Problem) -> set[str]:
    names: set[str] = set()
    dims = [d for t in (*problem.inputs, *problem.outputs) for d in t.dims]
    for dim in (*dims, *problem.tolerance.reduction):
        try:
            names |= free_names(dim)
        except ValueError:
            continue  # reported as dim-malformed
    return names


def _bytes(tensor: Tensor, workload: Workload) -> int:
    size = itemsize(tensor.dtype) if tensor.dtype in known() else 0
    return math.prod(evaluate(d, workload.dims) for d in tensor.dims) * size
