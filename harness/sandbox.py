"""How a worker shuts itself in, and which level it reached.

Level, strongest first, each with a system-call filter where the system allows one:

- bubblewrap: started by it, read-only system, no network, own process ids
- userns: own user, network and IPC namespaces, and Landlock or the filter against writing
- landlock: reading below a few folders only, no writing, no TCP
- rlimits: memory, files and tasks limited, nothing else
- none: trusted code (baselines)

Every primitive is tried; what cannot be had is left out and the level says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from kernelagent.harness import landlock, namespaces, rlimits, seccomp, syscalls

Level = Literal["bubblewrap", "userns", "landlock", "rlimits", "none"]
LEVELS: tuple[Level, ...] = ("bubblewrap", "userns", "landlock", "rlimits", "none")

_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/nix", "/sys", "/proc/self",
                   "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys", "/dev/null",
                   "/dev/urandom")  # fmt: skip


class Sandbox:
    """Built up in two steps, because namespaces need a process without threads and limits come after imports."""

    def __init__(self, strongest: Level) -> None:
        """`strongest` is the level asked for: primitives above it are not tried."""
        self._allowed = LEVELS[LEVELS.index(strongest) :]
        self.primitives: list[str] = []
        self.missing: list[str] = []
        if "bubblewrap" in self._allowed:
            self.primitives.append("bubblewrap")
        elif "userns" in self._allowed and self._try("namespaces", namespaces.enter):
            syscalls.die_with_parent()

    def close(self, readable: Iterable[str], memory_bytes: int | None) -> None:
        """Second step, before anything untrusted is loaded. Nothing is restricted at level "none"."""
        if self._allowed == ("none",):
            return
        self._try("rlimits", lambda: rlimits.restrict(memory_bytes))
        if self._allowed != ("rlimits", "none"):
            self._try("landlock", lambda: landlock.restrict(readable))
            self._try("seccomp", seccomp.restrict)

    @property
    def level(self) -> Level:
        have = set(self.primitives)
        if "bubblewrap" in have:
            return "bubblewrap"
        if "namespaces" in have and have & {"landlock", "seccomp"}:
            return "userns"
        if "landlock" in have:
            return "landlock"
        return "rlimits" if "rlimits" in have else "none"

    def _try(self, name: str, enter: object) -> bool:
        assert callable(enter)
        if sys.platform != "linux" and name != "rlimits":
            self.missing.append(f"{name}: not on {sys.platform}")
            return False
        try:
            enter()
        except (OSError, ValueError) as error:  # setrlimit raises either
            self.missing.append(f"{name}: {getattr(error, 'strerror', None) or error}")
            return False
        self.primitives.append(name)
        return True


def readable_folders(extra: Iterable[str] = ()) -> list[str]:
    """What a worker must be able to read: the system's libraries, the interpreter, this program, and `extra`."""
    package = Path(__file__).resolve().parent.parent
    python = [sys.prefix, sys.base_prefix, *(p for p in sys.path if p and os.path.isdir(p))]
    return list(dict.fromkeys([*_SYSTEM_FOLDERS, *python, str(package), *extra]))


def probe() -> Level:
    """The level that a worker reaches on this machine, found by starting one. Raises WorkerFailure."""
    from kernelagent.harness.process import Worker, WorkerOptions

    with Worker(WorkerOptions()) as worker:
        worker.confine()
        return worker.level
