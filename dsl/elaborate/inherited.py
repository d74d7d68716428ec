"""What a program demands because the kernels that it calls do: their assumptions, in the program's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl.index import Condition, Index, condition_indices, decide, substitute_condition


def inherited(
    calls: Iterable[ir.Call], kernels: Mapping[str, ir.Kernel], arrays: Iterable[ir.Array]
) -> Iterator[ir.Assume]:
    """Assumptions on dims, and on the contents of arrays that the program is given, of every call."""
    given = {a.name for a in arrays if a.role == "In"}
    for call in calls:
        dims = dict(call.dims)
        for assume in kernels[call.kernel].assumes:
            if assume.condition is not None:
                condition = _renamed(assume.condition, dims)
                if condition is not None:
                    yield replace(assume, condition=condition)
            elif assume.data is not None:
                kind, name, bounds = assume.data
                array = dict(call.arrays).get(name)
                if array in given and all(_of_dims((b,), dims) for b in bounds):
                    yield replace(assume, data=(kind, array, tuple(b.substitute(dims) for b in bounds)))


def _renamed(condition: Condition, dims: Mapping[str, Index]) -> Condition | None:
    """The condition on the program's dims; None where it is about other things, or always true."""
    if not _of_dims(condition_indices(condition), dims):
        return None
    renamed = substitute_condition(condition, dims)
    told = decide(renamed) is not True and all(s.kind == "dim" for i in condition_indices(renamed) for s in i.symbols())
    return renamed if told else None


def _of_dims(indices: Iterable[Index], dims: Mapping[str, Index]) -> bool:
    return all(s.name in dims for i in indices for s in i.symbols())
