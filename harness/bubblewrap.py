"""bubblewrap, where it is installed: a worker in its own namespaces over a read-only view of the system."""

from __future__ import annotations

import functools
import shutil
import subprocess

_OPTIONS = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--die-with-parent",
            "--new-session")  # fmt: skip


@functools.cache
def command() -> tuple[str, ...] | None:
    """What to put before a worker's command line, or None where bubblewrap is missing or does not work."""
    binary = shutil.which("bwrap")
    if binary is None:
        return None
    prefix = (binary, *_OPTIONS, "--")
    try:
        probe = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return prefix if probe.returncode == 0 else None
