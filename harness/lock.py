"""One timing at a time on this machine: a lock file per device, held only while samples are taken.

`flock` belongs to the open file, so the kernel releases it when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Notify = Callable[[str], None]


def folder() -> Path:
    """Where all processes of this user meet, whatever their TMPDIR; `KERNELAGENT_LOCKS` moves it."""
    chosen = os.environ.get("KERNELAGENT_LOCKS")
    if chosen:
        return Path(chosen)
    shared = Path("/tmp")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"kernelagent-{os.getuid()}"


@contextmanager
def timing_lock(device: str = "cpu", notify: Notify | None = None) -> Iterator[None]:
    """Hold the machine-wide timing lock of `device`; `notify` gets a message if another process holds it.

    Waits without limit, in the order of arrival. Raises OSError if the lock file cannot be opened.
    """
    path = folder() / f"timing-{device}.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, device, notify)
        os.pwrite(descriptor, f"{os.getpid():<10}".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # releases it


def _acquire(descriptor: int, device: str, notify: Notify | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if notify is not None:
            holder = os.pread(descriptor, 10, 0).decode(errors="replace").strip() or "unknown"
            notify(f"process {holder} is timing on {device}; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
