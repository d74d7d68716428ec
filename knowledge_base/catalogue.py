"""Loads and validates the curated techniques: `knowledge_base/techniques/*.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from kernelagent.knowledge_base.errors import TechniqueError
from kernelagent.knowledge_base.records import Move, Technique

FOLDER = Path(__file__).parent / "techniques"
TARGETS = frozenset({"cpu", "cuda"})
ARCHS = frozenset({"sm_80", "sm_86", "sm_89", "sm_90a"})
TAGS = frozenset({
    "matmul", "attention", "row-reduction", "elementwise", "transpose", "gather", "scan", "epilogue", "program",
})  # fmt: skip
BOTTLENECKS = frozenset({
    "memory", "latency", "compute", "special-function", "cache", "store-bandwidth", "load-imbalance", "overhead",
    "occupancy", "bank-conflicts", "register-pressure", "synchronisation", "precision",
})  # fmt: skip
_KEYS = {"title", "what", "when", "evidence", "bottlenecks", "targets", "tags", "claim", "moves", "archs"}


@cache
def curated() -> tuple[Technique, ...]:
    return load_folder(FOLDER)


def load_folder(folder: Path) -> tuple[Technique, ...]:
    """Every technique of a folder by name. Raises TechniqueError naming file and key."""
    return tuple(load_file(path) for path in sorted(folder.glob("*.toml")))


def load_file(path: Path) -> Technique:
    """One technique; its name is the file's. Raises TechniqueError naming file and key."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TechniqueError(f"{path.name}: not TOML: {error}") from None
    for key in record:
        _require(key in _KEYS, path, key, "is not a key of a technique")
    return Technique(
        name=path.stem.replace("_", "-"),
        title=_text(record, "title", path),
        what=_text(record, "what", path),
        when=_text(record, "when", path),
        bottlenecks=_words(record, "bottlenecks", BOTTLENECKS, path),
        targets=_words(record, "targets", TARGETS, path),
        tags=_words(record, "tags", TAGS, path),
        evidence=_text(record, "evidence", path),
        claim=_claim(record, path),
        moves=_moves(record, path),
        archs=_words(record, "archs", ARCHS, path),
    )


def _text(record: dict[str, Any], key: str, path: Path) -> str:
    value = record.get(key)
    _require(isinstance(value, str) and bool(value.strip()), path, key, "must be a text")
    return " ".join(str(value).split())


def _words(record: dict[str, Any], key: str, known: frozenset[str], path: Path) -> tuple[str, ...]:
    value = record.get(key, [])
    _require(isinstance(value, list), path, key, "must be a list")
    for word in value:
        _require(word in known, path, key, f"does not know {word!r}; known: {', '.join(sorted(known))}")
    _require(key in ("tags", "archs") or bool(value), path, key, "must not be empty")
    return tuple(value)


def _claim(record: dict[str, Any], path: Path) -> float | None:
    value = record.get("claim")
    if value is None:
        return None
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0.1 <= value <= 100
    _require(sound, path, "claim", "must be a speed-up factor between 0.1 and 100")
    return float(value)


def _moves(record: dict[str, Any], path: Path) -> tuple[Move, ...]:
    entries = record.get("moves", [])
    _require(isinstance(entries, list), path, "moves", "must be a list of tables ([[moves]])")
    return tuple(_move(entry, path) for entry in entries)


def _move(entry: Any, path: Path) -> Move:
    _require(
        isinstance(entry, dict) and set(entry) <= {"name", "arguments"}, path, "moves", "has `name` and `arguments`"
    )
    name, arguments = entry.get("name"), entry.get("arguments", [{}])
    _require(isinstance(name, str) and name.isidentifier(), path, "moves.name", "must be the name of a move")
    sound = isinstance(arguments, list) and bool(arguments) and all(isinstance(a, dict) for a in arguments)
    _require(sound, path, "moves.arguments", "must be a list of tables, one for each try")
    return Move(name, tuple(arguments))


def _require(condition: bool, path: Path, key: str, message: str) -> None:
    if not condition:
        raise TechniqueError(f"{path.name}: `{key}` {message}")
