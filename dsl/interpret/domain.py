"""Other values than floats for the interpreter: the same tiles, masks and loops, another arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.interpret.held import Array

if TYPE_CHECKING:
    from kernelagent.dsl.interpret.machine import Machine
    from kernelagent.dsl.interpret.operations import Operation


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
