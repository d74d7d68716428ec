"""Resource limits: memory of the address space, files, core dumps, number of tasks."""

from __future__ import annotations

import os
import resource
from pathlib import Path

LOG_BYTES = 1 << 20
"""The most that a worker can write to any file: its own captured stderr."""
SPARE_TASKS = 64


def restrict(memory_bytes: int | None) -> None:
    """Limit what this process may take; `memory_bytes` is what it may map on top of what it has mapped already."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, LOG_BYTES)
    if os.getuid() != 0:  # the limit does not bind root
        _lower(resource.RLIMIT_NPROC, _tasks_of_user() + SPARE_TASKS)
    if memory_bytes is not None:
        _lower(resource.RLIMIT_AS, mapped_bytes() + memory_bytes)


def address_space_limit() -> int | None:
    """The limit of this process in bytes, None for none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def mapped_bytes(process: int | str = "self") -> int:
    """Address space of a process now; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def _tasks_of_user() -> int:
    """Threads of all processes of this user."""
    user, count = os.getuid(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user:
                count += len(os.listdir(process / "task"))
        except OSError:
            continue  # it ended meanwhile
    return count
