"""What a schedule lost against what was asked for, or against the usual road: lines of its report that cost time."""

from __future__ import annotations

from collections.abc import Iterable

from kernelagent.dsl import device as dev


def notes(kernels: Iterable[dev.DeviceKernel]) -> tuple[str, ...]:
    """Dropped policy, products by single threads, no roles, fewer stages: each once, with the shape classes that it is
    about unless it is about all."""
    every: dict[str, None] = {}
    found: dict[str, dict[str, None]] = {}
    for kernel in kernels:
        every[kernel.shape_class.name] = None
        for choice in kernel.choices:
            if choice.costs:
                found.setdefault(str(choice), {})[kernel.shape_class.name] = None
    return tuple(f"{line}{_classes(classes, every)}" for line, classes in found.items())


def _classes(some: dict[str, None], every: dict[str, None]) -> str:
    return "" if len(some) == len(every) else f", {' and '.join(some)} class"


__all__ = ["notes"]
