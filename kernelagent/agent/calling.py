"""A kernel text as a Python function on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernelagent.errors import CallError
from kernelagent.problems.problem import Problem

Scalar = float | int | bool


class CallableKernel:
    """`kernel(*inputs, out=None, **scalars)` -> the output array, or a tuple of them.

    Inputs come in the problem's order, C-contiguous, with the problem's dtypes; outputs are allocated, or written to
    `out` (an array, or a tuple in the problem's order). Scalars default to the problem's values. A binary is compiled
    once for each class of sizes and kept.
    """

    def __init__(self, text: str, problem: Problem) -> None:
        from kernelagent import dsl

        self.text = text
        self.problem = problem
        self._module = dsl.parse(text)
        self._loaded: list[Any] = []

    def __call__(self, *inputs: Any, out: Any = None, **scalars: Scalar) -> Any:
        """Raises CallError for the wrong number of arrays or axes, KernelError for sizes or dtypes that do not fit."""
        import numpy as np

        named = self._named(inputs)
        values = {**{s.name: s.value for s in self.problem.scalars}, **scalars}
        outputs = self._outputs(named, out)
        arrays = {**{name: np.asarray(array) for name, array in named.items()}, **outputs}
        self._binary(arrays, values)(arrays, values)
        found = tuple(outputs[t.name] for t in self.problem.outputs)
        return found[0] if len(found) == 1 else found

    def _named(self, inputs: tuple[Any, ...]) -> dict[str, Any]:
        names = [t.name for t in self.problem.inputs]
        if len(inputs) != len(names):
            message = f"{self.problem.name} takes {len(names)} arrays ({', '.join(names)}), not {len(inputs)}"
            raise CallError(message)
        return dict(zip(names, inputs, strict=True))

    def _outputs(self, named: Mapping[str, Any], out: Any) -> dict[str, Any]:
        """The given arrays, or new ones of the sizes that the inputs imply."""
        import numpy as np

        from kernelagent.problems.dtypes import numpy_dtype
        from kernelagent.problems.sizes import evaluate

        tensors = self.problem.outputs
        if out is not None:
            given = out if isinstance(out, tuple | list) else (out,)
            if len(given) != len(tensors):
                raise CallError(f"out= needs {len(tensors)} arrays, not {len(given)}")
            return {t.name: array for t, array in zip(tensors, given, strict=True)}
        dims = self._dims(named)
        shapes = {t.name: tuple(evaluate(d, dims) for d in t.dims) for t in tensors}
        return {t.name: np.empty(shapes[t.name], numpy_dtype(t.dtype)) for t in tensors}

    def _dims(self, named: Mapping[str, Any]) -> dict[str, int]:
        """Dims that are plain names, read off the inputs' shapes; the kernel's own check compares the rest."""
        dims: dict[str, int] = {}
        for tensor in self.problem.inputs:
            shape = tuple(getattr(named[tensor.name], "shape", ()))
            if len(shape) != len(tensor.dims):
                message = f"{tensor.name} has {len(shape)} axes, the problem says {len(tensor.dims)}"
                raise CallError(message)
            dims |= {d: n for d, n in zip(tensor.dims, shape, strict=True) if isinstance(d, str) and d.isidentifier()}
        return dims

    def _binary(self, arrays: Mapping[str, Any], scalars: Mapping[str, Scalar]) -> Any:
        """A loaded kernel for these sizes: one that was made before, or a new one."""
        from kernelagent import dsl
        from kernelagent.dsl.targets import cpu

        shapes = {name: (tuple(a.shape), str(a.dtype)) for name, a in arrays.items()}
        binding = dsl.bind(self._module.entry, shapes, scalars)
        for loaded in self._loaded:
            fixed = loaded.artifact.dims.items()
            if all(binding.dims.get(name) == size for name, size in fixed) and loaded.artifact.dtypes == binding.dtypes:
                return loaded
        self._loaded.append(cpu.load(cpu.compile(self._module, binding.dtypes, {}, binding.consts, binding.dims)))
        return self._loaded[-1]
