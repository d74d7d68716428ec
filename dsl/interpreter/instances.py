"""Concrete kernels of one text, made once for each set of choices."""

from __future__ import annotations

from collections.abc import Mapping

from kernelagent.dsl.instantiation import instantiate
from kernelagent.dsl.ir import Kernel

_Items = tuple[tuple[str, object], ...]


class Instances:
    """Remembers what `instantiate` made. For the kernels of one module: they are told apart by name."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, bool, _Items, _Items, _Items, _Items], Kernel] = {}

    def get(
        self,
        kernel: Kernel,
        dtypes: Mapping[str, str],
        tunables: Mapping[str, int | bool],
        consts: Mapping[str, int],
        target: str,
        dims: Mapping[str, int],
        claims: bool = False,
    ) -> Kernel:
        """`instantiate` with these arguments. Raises KernelError as it does."""
        key = (kernel.name, target, claims, _items(dtypes), _items(tunables), _items(consts), _items(dims))
        if key not in self._made:
            self._made[key] = instantiate(kernel, dtypes, tunables, consts, target, dims, claims)
        return self._made[key]


def _items(values: Mapping[str, object]) -> _Items:
    return tuple(sorted(values.items()))
