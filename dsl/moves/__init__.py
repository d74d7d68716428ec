"""Moves: kernel text -> kernel text, each preserving what is computed over the real numbers.

A move edits the text at the places its syntax tree names and leaves the rest alone, comments included. It raises
`MoveError` where it does not apply. One family a file; the docstring of each says why it is sound.
"""

from kernelagent.dsl.moves import (
    attention,
    device,
    fission,
    grid,
    loops,
    moments,
    passes,
    policy,
    rows,
    tunables,
    values,
)
from kernelagent.dsl.moves.refit import refit
from kernelagent.dsl.moves.registry import Arguments, Move, applicable, apply, get, names
from kernelagent.dsl.moves.source import MoveError

FAMILIES = (attention, device, fission, grid, loops, moments, passes, policy, rows, tunables, values)

__all__ = ["FAMILIES", "Arguments", "Move", "MoveError", "applicable", "apply", "get", "names", "refit"]
