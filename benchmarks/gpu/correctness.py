"""Every case on a device against its fp64 oracle: small shapes whole, large ones where outputs stand for themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import device
import numpy as np
from cases import Case
from kernelagent.dsl.binding import bind
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.cuda.artifact import CudaArtifact
from kernelagent.dsl.targets.cuda.build import compile as compile_text
from kernelagent.dsl.targets.cuda.loader import BoundProgram, LoadedProgram
from oracles import NUMPY, Array, Arrays

Record = dict[str, Any]
REPEATS = 3
"""Further runs on the same inputs: an error that moves is a race."""
SAMPLE = 48


def compiled(case: Case, arch: str) -> CudaArtifact:
    """The artifact of a case, from the cache if it is there. Raises KernelError for what the chip lacks."""
    module, dims = parse(case.text), case.shapes[0].dims
    arrays = {**case.inputs(dims), **case.outputs(dims)}
    shapes = {name: (a.shape, from_numpy(a.dtype)) for name, a in arrays.items()}
    binding = bind(module.entry, shapes, case.scalars)
    return compile_text(module, binding.dtypes, {}, binding.consts, binding.dims, arch)


# Slices of large shapes ---------------------------------------------------------------------------------

INDEPENDENT: Mapping[str, tuple[str, ...]] = {
    "gemm_batched": ("B", "M"), "gemm_moe": ("N",), "gemm_grouped": ("N",), "gemm_fp8_blocks": ("M",),
    "transpose": ("M",), "rope": ("B", "H"), "column_sums": ("N",), "column_sums_atomic": ("N",), "conv3x3_s2": ("B",),
    **dict.fromkeys(("attention", "attention_wide"), ("B", "H", "G")),
}  # fmt: skip
"""Dims along which outputs do not depend on each other, where they are not M alone."""
KEPT: Mapping[str, int] = {"B": 1, "H": 2, "N": 16}
"""How many positions are kept of dims that have more behind each."""


def sample(case: Case, dims: Mapping[str, int], most: int = SAMPLE, seed: int = 0) -> dict[str, Array]:
    """By dim, the positions that are checked: some, with the first and the last, in order."""
    generator = np.random.default_rng(seed)
    found = {}
    for dim in INDEPENDENT.get(case.kernel, ("M",)):
        count = min(dims[dim], most, KEPT.get(dim, most))
        inner = generator.choice(np.arange(1, dims[dim] - 1), max(0, count - 2), replace=False) if count > 2 else []
        ends = [0, dims[dim] - 1] if count > 1 else [dims[dim] - 1]
        found[dim] = np.unique(np.concatenate([ends, inner]).astype(np.int64))
    if case.kernel.startswith("attention"):  # the heads of one group
        group = dims["H"] // dims["G"]
        found["G"] = np.array([dims["G"] - 1])
        found["H"] = np.arange(dims["H"] - group, dims["H"])
    return found


def axes(case: Case, array: str, kept: Mapping[str, Array]) -> Iterator[tuple[int, Array]]:
    """Axes of an array that are cut, and what stays of them."""
    for axis, entry in enumerate({**case.ins, **case.outs}[array].split()[1:]):
        if entry in kept:
            yield axis, kept[entry]


def sliced(case: Case, name: str, array: Array, kept: Mapping[str, Array]) -> Array:
    for axis, positions in axes(case, name, kept):
        array = np.take(array, positions, axis)
    return array


# Runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A case on one shape. `odd_rows`: arrays whose rows start at odd places, for the class of all strides."""

    case: Case
    kind: str
    dims: Mapping[str, int]
    odd_rows: bool = False


def runs(case: Case) -> Iterator[Run]:
    """Small shapes, ragged ones again in odd rows, then the large one."""
    for shape in case.shapes:
        yield Run(case, shape.kind, shape.dims)
        if shape.kind == "ragged":
            yield Run(case, shape.kind, shape.dims, odd_rows=True)
    yield Run(case, "large", case.large.dims)


@dataclass(frozen=True)
class Placed:
    """A run on the device, before it starts: `bound()` enqueues it."""

    run: Run
    inputs: Arrays
    tensors: Mapping[str, Any]
    outputs: Mapping[str, Any]
    bound: BoundProgram
    classes: tuple[str, ...]


def place(loaded: LoadedProgram, run: Run) -> Placed:
    """Inputs on the device, and outputs of bits that no kernel writes."""
    case, inputs = run.case, run.case.inputs(run.dims)
    tensors = {name: device.to_device(a) for name, a in inputs.items()}
    if run.odd_rows:
        tensors = {n: t if case.dtype(n) == "u4" else device.with_odd_rows(t) for n, t in tensors.items()}
    outputs = {n: _room(case, n, run) for n in case.outs}
    bound = loaded.bind({**tensors, **outputs}, case.scalars)
    binaries = loaded.program.binaries
    classes = tuple(binaries[item.unit][item.shape_class].shape_class for item in bound.launches)
    return Placed(run, inputs, tensors, outputs, bound, classes)


def _room(case: Case, name: str, run: Run) -> Any:
    return device.poisoned(case.shape(name, run.dims), np.dtype(NUMPY[case.dtype(name)]), run.odd_rows)


def judge(placed: Placed) -> Record:
    """Run, and compare with the oracle; then run again and compare with the first time."""
    run = placed.run
    placed.bound()
    device.synchronize()
    kept = sample(run.case, run.dims) if run.kind == "large" else {}
    return {
        "kind": run.kind,
        "dims": dict(run.dims),
        "odd_rows": run.odd_rows,
        "classes": list(placed.classes),
        "worst": _verdict(run.case, placed.inputs, placed.outputs, kept),
        "not_numbers": [name for name, t in placed.outputs.items() if device.any_nan(t)],
        "moves": _moves(placed),
    }


def _verdict(case: Case, inputs: Arrays, outputs: Mapping[str, Any], kept: Mapping[str, Array]) -> float | None:
    """The largest error as a share of the bound, over the kept positions; None for what is not a number."""
    given = {name: sliced(case, name, a, kept) for name, a in inputs.items()}
    found = {}
    for name, tensor in outputs.items():
        for axis, positions in axes(case, name, kept):
            tensor = device.rows_of(tensor, axis, positions)
        found[name] = device.from_device(tensor, NUMPY[case.dtype(name)])
    worst = case.verdict(given, found).worst
    return float(f"{worst:.3g}") if np.isfinite(worst) else None


def _moves(placed: Placed) -> bool:
    """Whether further runs give other bits. Atomic additions come in any order: there it is expected."""
    if "atomic" in placed.run.case.kernel:
        return False
    first = {name: t.clone() for name, t in placed.outputs.items()}
    for _ in range(REPEATS):
        placed.bound()
        if not all(device.same_bits(t, first[name]) for name, t in placed.outputs.items()):
            return True
    return False


def failures(records: list[Record]) -> list[str]:
    """What is wrong, one sentence each. A refusal is no failure: the chip lacks what the kernel needs."""
    told = []
    for record in records:
        for run in record["runs"]:
            name = f"{record['case']} {'x'.join(map(str, run['dims'].values()))}{' in odd rows' * run['odd_rows']}"
            if run["worst"] is None or run["worst"] > 1:
                told.append(f"{name}: {run['worst']} of the bound")
            if run["not_numbers"]:
                told.append(f"{name}: {', '.join(run['not_numbers'])} has elements that are not numbers or not written")
            if run["moves"]:
                told.append(f"{name}: results change from run to run")
    return told
