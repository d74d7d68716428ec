"""Other values than floats for the interpreter: the same tiles, masks and loops, another arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.interpreter.held import Array

if TYPE_CHECKING:
    from kernelagent.dsl.interpreter.machine import Machine
    from kernelagent.dsl.interpreter.operations import Operation


class Domain(Protocol):
    """What stands for floats. Integers and bools stay as they are."""

    dtype: np.dtype[Any]
    """What numpy holds a value in."""

    def enter(self, data: Array) -> Array:
        """The values that an array of floats given by the caller stands for."""
        ...

    def garbage(self) -> Any:
        """A value that should never reach an output."""
        ...

    def operation(self, machine: Machine, statement: ir.Let) -> Operation | None:
        """The closure of an operation that computes with floats, None for one that only moves them."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """A domain whose values say where they come from."""

    def expect(self, machine: Machine, statement: ir.Expect) -> Callable[[], None]:
        """The closure that compares."""
        ...


@runtime_checkable
class Adding(Protocol):
    """A domain whose values are added to what an array holds in a way of its own."""

    def sum(self, old: Array, new: Array) -> Array:
        """Element by element, in any order."""
        ...


def add_at(held: Array, places: tuple[Array, ...], values: Array, add: Callable[[Array, Array], Array]) -> None:
    """As `np.add.at`, with another addition: an element that is listed several times gets all its values."""
    flat = np.ravel_multi_index(np.broadcast_arrays(*places), held.shape).ravel()
    left = np.broadcast_to(values, np.broadcast_shapes(*(np.shape(p) for p in places))).ravel()
    while len(flat):
        elements, first = np.unique(flat, return_index=True)
        held.flat[elements] = add(held.flat[elements], left[first])
        flat, left = np.delete(flat, first), np.delete(left, first)
