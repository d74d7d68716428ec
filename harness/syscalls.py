"""Raw system calls and prctl through ctypes: what the sandbox needs and Python does not offer."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """A system call by number; integers and ctypes pointers as arguments. Raises OSError."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(libc().syscall(ctypes.c_long(number), *converted))
    if result < 0:
        raise last_error()
    return result


def prctl(option: int, value: int) -> None:
    """Raises OSError."""
    if libc().prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise last_error()


def last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends. Linux only; forgotten when the
    credentials change, so it is called again after entering a user namespace."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
