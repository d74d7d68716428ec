"""What the search can do to a text: moves of techniques, other moves, steps of tile sizes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

from kernelagent.dsl import moves
from kernelagent.dsl.moves.source import MoveError, functions, read
from kernelagent.dsl.moves.tunables import declared
from kernelagent.knowledge_base.records import Suggestion

SIZE_MOVES = frozenset({"set_tunable", "scale_tunable", "widen_row_tile"})
"""Moves of tile sizes: the search takes those steps itself, and learns about sizes, not about moves."""
SKIPPED = frozenset({"add_choices", "set_policy", "drop_policy", "recompute"})
"""Moves that do not change a kernel's speed by themselves, or that another move spells better."""
UNSUGGESTED_GAIN = 0.02
"""Log gain expected of a move that no suggestion names."""
LARGEST_SIZE = 1 << 14


@dataclass(frozen=True)
class Action:
    """One change of a text. `expected` is the log gain that curation and the base's evidence promise."""

    move: str
    arguments: str  # JSON object, keys sorted: hashable
    technique: str | None
    expected: float

    @property
    def key(self) -> str:
        """What the search learns about: the move with its arguments, whichever kernel of the text it is for."""
        kept = {k: v for k, v in json.loads(self.arguments).items() if k != "kernel"}
        return f"{self.move}{json.dumps(kept, sort_keys=True)}"

    @property
    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.arguments)
        return found


@dataclass(frozen=True)
class Step:
    """A text reached from `parent` by one or two actions."""

    text: str
    actions: tuple[Action, ...]


def action(move: str, arguments: Mapping[str, Any], technique: str | None = None, expected: float = 0.0) -> Action:
    return Action(move, json.dumps(dict(arguments), sort_keys=True), technique, expected)


def steps(text: str, suggestions: Sequence[Suggestion], arch: str = "") -> Iterator[Step]:
    """Every text one change away; sizes also two changes at once, because they trade against each other.

    `arch` is the GPU architecture whose schedule the moves change; empty for the CPU.
    """
    for one in (*structural(text, suggestions, arch), *size_steps(text, suggestions)):
        new = applied(text, (one,))
        if new is not None:
            yield Step(new, (one,))
    for pair in size_pairs(text):
        new = applied(text, pair)
        if new is not None:
            yield Step(new, pair)


@lru_cache(maxsize=20_000)
def applied(text: str, actions: tuple[Action, ...]) -> str | None:
    """The text after the actions, None where one does not apply."""
    try:
        for one in actions:
            text = moves.apply(one.move, text, **one.values)
    except MoveError:
        return None
    return text


def structural(text: str, suggestions: Sequence[Suggestion], arch: str = "") -> list[Action]:
    """Moves that change more than a size: those of suggested techniques first, then all others that apply."""
    names = _usable(arch)
    suggested: dict[str, Action] = {}
    for suggestion in suggestions:
        for move in suggestion.technique.moves:
            if move.name not in names:
                continue
            for arguments in move.arguments:
                one = action(
                    move.name,
                    _aimed(move.name, arguments, arch),
                    suggestion.technique.name,
                    suggestion.expected_log_gain,
                )
                suggested.setdefault(one.key, one)
    for one in _applicable(text, names):
        prior = _technique_of(one.move, suggestions)
        chosen = action(one.move, _aimed(one.move, one.values, arch), *prior)
        suggested.setdefault(chosen.key, chosen)
    return list(suggested.values())


@lru_cache(maxsize=8)
def _usable(arch: str) -> tuple[str, ...]:
    """Moves for this kind of target: policy is set for the CPU by one family and for GPUs by another."""
    other = "policy" if arch else "device"
    fits = (n for n in moves.names() if moves.get(n).family != other)
    return tuple(n for n in fits if n not in SIZE_MOVES and n not in SKIPPED)


def _aimed(move: str, arguments: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The arguments, with the architecture where the move is one of schedules."""
    device = moves.get(move).family == "device"
    return {**arguments, "target": arch} if device else dict(arguments)


def _technique_of(move: str, suggestions: Sequence[Suggestion]) -> tuple[str | None, float]:
    """The technique that a move with other arguments belongs to; half of its promise."""
    for suggestion in suggestions:
        if any(m.name == move for m in suggestion.technique.moves):
            return suggestion.technique.name, max(UNSUGGESTED_GAIN, suggestion.expected_log_gain / 2)
    return None, UNSUGGESTED_GAIN


@lru_cache(maxsize=256)
def _applicable(text: str, names: tuple[str, ...]) -> tuple[Action, ...]:
    try:
        return tuple(action(name, arguments) for name, arguments in moves.applicable(text, names))
    except MoveError:
        return ()


@lru_cache(maxsize=4096)
def sizes(text: str) -> dict[str, int | bool]:
    """Value of every tunable, named `kernel.NAME`. Empty for a text that cannot be read."""
    try:
        found = functions(read(text), "kernel", "program")
    except MoveError:
        return {}
    return {f"{f.name}.{d.name}": d.values[0] for f in found for d in declared(f)}


def size_steps(text: str, suggestions: Sequence[Suggestion]) -> list[Action]:
    """Other choices of each tunable, and twice, four times, half and a quarter of its value."""
    promised = _promised_sizes(suggestions)
    found: dict[str, Action] = {}
    for name, value, choices in _declared(text):
        for new in _values(value, choices):
            technique, expected = promised.get((name.split(".")[1], new), (None, 0.0))
            one = set_size(name, new, technique, expected)
            found.setdefault(one.arguments, one)
    return list(found.values())


def set_size(name: str, value: int | bool, technique: str | None = None, expected: float = 0.0) -> Action:
    kernel, tunable = name.split(".")
    return action("set_tunable", {"kernel": kernel, "name": tunable, "value": value}, technique, expected)


def size_pairs(text: str) -> Iterator[tuple[Action, Action]]:
    """Two sizes at once, each doubled or halved."""
    whole = [(n, v) for n, v, _ in _declared(text) if not isinstance(v, bool)]
    for (a, x), (b, y) in combinations(whole, 2):
        for new_x in (2 * x, x // 2):
            for new_y in (2 * y, y // 2):
                if min(new_x, new_y) >= 1 and max(new_x, new_y) <= LARGEST_SIZE:
                    yield set_size(a, new_x), set_size(b, new_y)


@lru_cache(maxsize=4096)
def _declared(text: str) -> tuple[tuple[str, int | bool, tuple[int | bool, ...]], ...]:
    try:
        found = functions(read(text), "kernel", "program")
    except MoveError:
        return ()
    return tuple((f"{f.name}.{d.name}", d.values[0], d.values[1:]) for f in found for d in declared(f))


def _values(value: int | bool, choices: Iterable[int | bool]) -> list[int | bool]:
    if isinstance(value, bool):
        return [not value]
    near = [value * 2, value // 2, value * 4, value // 4]
    return [v for v in dict.fromkeys([*choices, *near]) if v != value and 1 <= v <= LARGEST_SIZE]


def _promised_sizes(suggestions: Sequence[Suggestion]) -> dict[tuple[str, int], tuple[str, float]]:
    """(tunable, value) -> technique and its promise, for techniques that name a value."""
    found: dict[tuple[str, int], tuple[str, float]] = {}
    for suggestion in suggestions:
        for move in suggestion.technique.moves:
            for arguments in move.arguments if move.name == "set_tunable" else ():
                key = (arguments["name"], arguments["value"])
                found.setdefault(key, (suggestion.technique.name, suggestion.expected_log_gain / 2))
    return found


def log_sizes(text: str) -> dict[str, float]:
    """log2 of every tunable: doublings are the unit that sizes scale in."""
    return {name: math.log2(max(1, int(value))) for name, value in sizes(text).items()}
