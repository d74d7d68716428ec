"""Trials that the base could not take are kept beside it, one JSON object a line, until it can."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kernelagent.knowledge_base.records import Trial


def path_of(base: Path) -> Path:
    return base.with_name(base.name + ".pending.jsonl")


def keep(base: Path, trials: Iterable[Trial]) -> Path | None:
    """Append the trials to the side file. None when even that cannot be written."""
    lines = "".join(json.dumps(t.to_dict(), sort_keys=True) + "\n" for t in trials)
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path_of(base), "a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return None
    return path_of(base)


def absorb(base: Path, write: Callable[[list[Trial]], None]) -> int:
    """Hand the kept trials to `write` and remove them once it returned. Lines cut short by a crash stay."""
    if not path_of(base).exists():
        return 0
    try:
        with _locked(path_of(base), "r+") as file:
            trials, rest = read_lines(file)
            if trials:
                write(trials)
            file.seek(0)
            file.truncate()
            file.writelines(rest)
            if not rest:
                path_of(base).unlink()
    except (FileNotFoundError, PermissionError):
        return 0  # another process absorbed them, or they are not ours to remove
    return len(trials)


def read_lines(lines: Iterable[str]) -> tuple[list[Trial], list[str]]:
    """The trials of well-formed lines, and the lines that are none."""
    trials: list[Trial] = []
    rest: list[str] = []
    for line in lines:
        try:
            trials.append(Trial.from_dict(json.loads(line)))
        except ValueError:
            rest.append(line)
    return trials, rest


@contextmanager
def _locked(path: Path, mode: str) -> Iterator[IO[str]]:
    """Open under an exclusive lock; start over when the file was removed while we waited."""
    while True:
        with open(path, mode, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _same(file, path):
                yield file
                return


def _same(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
