"""Tile extents of a candidate along the dims of its problem: the sizes around which it may go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.index import FloorDiv, Index
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from kernelagent.dsl.targets.cpu import CpuArtifact
from kernelagent.problems.problem import Problem
from kernelagent.problems.sizes import free_names


def fixed_dims(module: ir.Module, problem: Problem, artifact: CpuArtifact) -> frozenset[str]:
    """Dims of the problem that decide those which the binary was built for."""
    dims = _problem_dims(module.entry, problem)
    return frozenset(d for name in artifact.dims for d in dims.get(name, ()))


def tile_extents(module: ir.Module, problem: Problem, artifact: CpuArtifact) -> dict[str, tuple[int, ...]]:
    """By dim of the problem: the steps of all loops that end at it, and what it is divided by in their ends."""
    found: dict[str, set[int]] = {}
    dims = _problem_dims(module.entry, problem)
    choices = Choices(artifact.dtypes, artifact.tunables, artifact.consts, artifact.dims)
    for item in concrete_calls(module, choices):
        names = _entry_dims(item.call, item.kernel)
        for kernel_dim, extent in _loop_extents(item.kernel.body):
            for name in names.get(kernel_dim, ()):
                for dim in dims.get(name, ()):
                    found.setdefault(dim, set()).add(extent)
    return {dim: tuple(sorted(extents)) for dim, extents in found.items()}


def _problem_dims(entry: ir.Kernel | ir.Program, problem: Problem) -> dict[str, set[str]]:
    """Which dims of the problem decide each dim of the entry: arrays have the same name in both."""
    found: dict[str, set[str]] = {}
    declared = {a.name: a.dims for a in entry.arrays}
    for tensor in (*problem.inputs, *problem.outputs):
        for own, theirs in zip(declared.get(tensor.name, ()), tensor.dims, strict=False):
            for name in _dim_names(own):
                found.setdefault(name, set()).update(free_names(theirs))
    return found


def _entry_dims(call: ir.Call | None, kernel: ir.Kernel) -> Mapping[str, set[str]]:
    if call is None:
        return {d: {d} for d in kernel.dims}
    return {dim: _dim_names(size) for dim, size in call.dims}


def _loop_extents(statements: Sequence[ir.Statement]) -> Iterator[tuple[str, int]]:
    for statement in statements:
        if isinstance(statement, ir.For):
            for hi, step in zip(statement.hi, statement.step, strict=True):
                for dim in _dim_names(hi):
                    yield from ((dim, extent) for extent in (step.constant, *_divisors(hi)) if extent)
            yield from _loop_extents(statement.body)
        elif isinstance(statement, ir.If):
            yield from _loop_extents((*statement.then, *statement.otherwise))


def _divisors(hi: Index) -> list[int]:
    """`cdiv(M, BM)` counts tiles of BM."""
    return [atom.b.constant for atom in hi.atoms() if isinstance(atom, FloorDiv) and atom.b.constant]


def _dim_names(value: Index) -> set[str]:
    return {s.name for s in value.symbols() if s.kind == "dim"}
