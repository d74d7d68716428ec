"""Own user, network and IPC namespaces: no interface but a downed loopback, no privilege outside."""

from __future__ import annotations

import os
from pathlib import Path

from kernelagent.harness import syscalls


def enter() -> None:
    """Move this (still single-threaded) process into new namespaces, under its own user id.

    Raises OSError where the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    flags = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC
    if syscalls.libc().unshare(flags):
        raise syscalls.last_error()
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
