"""Moves: kernel text -> kernel text, each preserving what is computed over the real numbers.

A move edits the text at the places its syntax tree names and leaves the rest alone, comments included. It raises
`MoveError` where it does not apply. One family a file; the docstring of each says why it is sound.
"""

from . import policy, tunables
from .registry import Arguments, Move, applicable, apply, get, names
from .source import MoveError

__all__ = ["Arguments", "Move", "MoveError", "applicable", "apply", "get", "names", "policy", "tunables"]
