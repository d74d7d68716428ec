"""The moves by name: `apply`, `names`, `applicable`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kernelagent.dsl.moves.source import MoveError, Source, read

Arguments = dict[str, Any]
Transform = Callable[..., str]
Propose = Callable[[Source], Iterable[Arguments]]


@dataclass(frozen=True)
class Move:
    """`transform(text, **arguments)` gives the new text; `propose` lists arguments that may apply."""

    name: str
    family: str
    transform: Transform
    propose: Propose

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.transform) or "").split("\n", 1)[0]


REGISTRY: dict[str, Move] = {}


def move(propose: Propose) -> Callable[[Transform], Transform]:
    """Register a move under its function's name, in the family of its module."""

    def register(transform: Transform) -> Transform:
        family = transform.__module__.rsplit(".", 1)[-1]
        REGISTRY[transform.__name__] = Move(transform.__name__, family, transform, propose)
        return transform

    return register


def names() -> tuple[str, ...]:
    return tuple(sorted(REGISTRY))


def get(name: str) -> Move:
    if name not in REGISTRY:
        raise MoveError(f"there is no move {name!r}; known: {', '.join(names())}")
    return REGISTRY[name]


def apply(name: str, text: str, /, **arguments: Any) -> str:
    """The text after the move. Raises MoveError when it does not apply, or would change nothing."""
    chosen = get(name)
    _require_arguments(chosen, arguments)
    new = chosen.transform(text, **arguments)
    if new == text:
        raise MoveError(f"{name} changes nothing here")
    read(new)  # an edit that broke the syntax is a MoveError too
    return new


def applicable(text: str, only: Iterable[str] | None = None) -> list[tuple[str, Arguments]]:
    """Moves with arguments that apply to the text, tried out, in a fixed order."""
    source = read(text)
    found: list[tuple[str, Arguments]] = []
    for name in names() if only is None else sorted(set(only)):
        found += [(name, a) for a in _distinct(get(name).propose(source)) if _applies(name, text, a)]
    return found


def _applies(name: str, text: str, arguments: Arguments) -> bool:
    try:
        apply(name, text, **arguments)
    except MoveError:
        return False
    return True


def _distinct(proposals: Iterable[Arguments]) -> list[Arguments]:
    kept: list[Arguments] = []
    for arguments in proposals:
        if arguments not in kept:
            kept.append(arguments)
    return kept


def _require_arguments(chosen: Move, arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(chosen.transform).bind("", **arguments)
    except TypeError as error:
        raise MoveError(f"{chosen.name}: {error}") from None
