"""Device schedules written by hand, statement by statement, and their runs in the emulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.ir import Array, Origin, Scalar, View, ViewAxis, position
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.schedule import Guard, ShapeClass
from kernelagent.dsl.targets.cuda.emit import emit, entry_name, launch_blocks
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorReport, run
from numpy.typing import NDArray


def origin(line: int) -> Origin:
    return Origin(Span(line, 1, line, 2))


def dim(name: str) -> Index:
    return index(Symbol(name, "dim"))


class Maker:
    """One kernel: `let` and `add` append statements to the current body, one line of text each."""

    def __init__(self, threads: int = 32, name: str = "made", guards: tuple[Guard, ...] = ()) -> None:
        self.threads, self.name, self.guards = threads, name, guards
        self.arrays: list[Array] = []
        self.dims: list[str] = []
        self.scalars: list[Scalar] = []
        self.buffers: list[dev.SharedBuffer] = []
        self.bodies: list[list[dev.Statement]] = [[]]
        self.line = 1
        self.numbers = 0

    def array(self, name: str, dtype: str, dims: Sequence[int | Index | str], role: str = "In") -> View:
        """A parameter and the view of the whole of it; named dims become parameters."""
        sizes = tuple(dim(d) if isinstance(d, str) else index(d) for d in dims)
        self.dims += [d for d in dims if isinstance(d, str) and d not in self.dims]
        self.arrays.append(Array(name, role, dtype, sizes, Span(1, 1, 1, 2)))  # type: ignore[arg-type]
        axes = tuple(ViewAxis(s, index(0), s) for s in sizes)
        return View(name, dtype, axes, tuple(index(position(a)) for a in range(len(sizes))))

    def fragment(
        self, dtype: str, layout: Distribution | None, name: str = "x", shape: tuple[int, ...] | None = None
    ) -> dev.Fragment:
        self.numbers += 1
        shape = shape if shape is not None else layout.shape if layout else ()
        return dev.Fragment(self.numbers, name, dtype, shape, layout, origin(self.line))

    def let(self, operation: dev.Operation, dtype: str, layout: Distribution | None, name: str = "x") -> dev.Fragment:
        self.line += 1
        made = self.fragment(dtype, layout, name)
        self.bodies[-1].append(dev.Let(made, operation))
        return made

    def load(
        self, view: View, layout: Distribution, start: Sequence[Index | int] | None = None, vector: int = 1
    ) -> dev.Fragment:
        at = tuple(index(s) for s in (start or [0] * len(layout.shape)))
        return self.let(dev.Load(view, at, 0, vector), view.dtype, layout, view.array)

    def word(self, word: str, *arguments: dev.Fragment, dtype: str | None = None) -> dev.Fragment:
        like = next((a for a in arguments if a.layout is not None), arguments[0])
        return self.let(dev.Pointwise(word, arguments), dtype or like.dtype, like.layout)

    def add(self, statement: dev.Statement) -> None:
        self.bodies[-1].append(statement)

    def here(self) -> Origin:
        self.line += 1
        return origin(self.line)

    def store(
        self, view: View, value: dev.Fragment, start: Sequence[Index | int] | None = None, vector: int = 1
    ) -> None:
        at = tuple(index(s) for s in (start or [0] * len(value.shape)))
        self.add(dev.Store(view, at, value, self.here(), vector))

    def grid(self, body: Sequence[dev.Statement] | None = None) -> dev.Grid:
        """One tile."""
        return dev.Grid((), (), (), (), tuple(self.bodies[-1] if body is None else body), origin(1))

    def kernel(self, grid: dev.Grid | None = None) -> dev.DeviceKernel:
        return dev.DeviceKernel(
            self.name, "sm_80", ShapeClass("made", self.guards), self.threads, tuple(self.arrays), tuple(self.scalars),
            tuple(self.dims), tuple(self.buffers), grid or self.grid(),
        )  # fmt: skip


ROLES: Mapping[str, Any] = {"In": "in", "Out": "out", "InOut": "inout", "Acc": "inout"}


def emulated(
    kernel: dev.DeviceKernel,
    arrays: Mapping[str, NDArray[Any]],
    dims: Mapping[str, int] | None = None,
    resident: int = 3,
) -> EmulatorReport:
    """Runs the emitted body; outputs are written into `arrays`."""
    sizes = dict(dims or {})
    blocks = launch_blocks(kernel, sizes, resident)
    arguments = [ArrayArgument(a.name, arrays[a.name], ROLES[a.role]) for a in kernel.arrays]
    return run(
        emit(kernel), entry_name(kernel), kernel.threads, blocks, kernel.shared_bytes, arguments,
        [sizes[d] for d in kernel.dims], completion="random", buffers=kernel.buffers,
    )  # fmt: skip


def correct(
    kernel: dev.DeviceKernel, arrays: Mapping[str, NDArray[Any]], dims: Mapping[str, int] | None = None
) -> None:
    report = emulated(kernel, arrays, dims)
    assert report.ok, [f.message for f in report.findings]


def blank(dtype: str, *shape: int) -> NDArray[Any]:
    return np.zeros(shape, numpy_dtype(dtype))
