"""A system-call filter: no sockets, no new processes, no programs, no file written, no other process touched.

A small classic-BPF program is built here, so that no library is needed. Threads are still allowed: the kernels' own
pool needs them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

from kernelagent.harness import syscalls

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_CLONE_THREAD = 0x00010000
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_X32 = 0x40000000


@dataclass(frozen=True)
class _Architecture:
    """AUDIT_ARCH value, the seccomp system call, and the numbers of asm/unistd.h that the filter looks at."""

    audit: int
    seccomp: int
    numbers: dict[str, int]


_X86_64 = _Architecture(0xC000003E, 317, {
    "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "accept4": 288,
    "fork": 57, "vfork": 58, "clone": 56, "clone3": 435, "execve": 59, "execveat": 322,
    "kill": 62, "tkill": 200, "tgkill": 234, "pidfd_open": 434, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "open": 2, "creat": 85, "openat": 257, "openat2": 437, "open_by_handle_at": 304,
    "truncate": 76, "ftruncate": 77, "rename": 82, "renameat": 264, "renameat2": 316, "mkdir": 83, "mkdirat": 258,
    "rmdir": 84, "link": 86, "linkat": 265, "unlink": 87, "unlinkat": 263, "symlink": 88, "symlinkat": 266,
    "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
    "mknod": 133, "mknodat": 259, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308,
    "unshare": 272, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249,
    "keyctl": 250, "init_module": 175, "finit_module": 313, "kexec_load": 246, "io_uring_setup": 425,
    "setrlimit": 160, "prlimit64": 302,
})  # fmt: skip

_AARCH64 = _Architecture(0xC00000B7, 277, {
    "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "socketpair": 199, "accept4": 242,
    "clone": 220, "clone3": 435, "execve": 221, "execveat": 281, "kill": 129, "tkill": 130, "tgkill": 131,
    "pidfd_open": 434, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "openat": 56,
    "openat2": 437, "open_by_handle_at": 265, "truncate": 45, "ftruncate": 46, "renameat": 38, "renameat2": 276,
    "mkdirat": 34, "linkat": 37, "unlinkat": 35, "symlinkat": 36, "fchmod": 52, "fchmodat": 53, "fchown": 55,
    "fchownat": 54, "mknodat": 33, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268,
    "unshare": 97, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218,
    "keyctl": 219, "init_module": 105, "finit_module": 273, "kexec_load": 104, "io_uring_setup": 425,
    "setrlimit": 164, "prlimit64": 261,
})  # fmt: skip

_ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}
_ABSENT = {"clone3", "openat2"}  # answered "not implemented": the C library falls back to calls the filter can read


def restrict() -> None:
    """Load the filter for all threads of this process. Raises OSError where that is impossible."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise OSError(errno.ENOSYS, f"no system-call filter for {platform.machine()}")
    program = _program(architecture, os.getpid())
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    syscalls.call(architecture.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(header))


def _program(architecture: _Architecture, own_process: int) -> bytes:
    steps = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, architecture.audit, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _refuse(errno.ENOSYS),
    ]
    for name, number in architecture.numbers.items():
        steps += _rule(name, number, own_process)
    return b"".join([*steps, _instruction(_RETURN, _ALLOW)])


def _rule(name: str, number: int, own_process: int) -> list[bytes]:
    """What happens when the loaded system-call number is `number`; otherwise the rule is skipped."""
    body = _body(name, own_process)
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def _body(name: str, own_process: int) -> list[bytes]:
    allow, refuse = _instruction(_RETURN, _ALLOW), _refuse(errno.EPERM)
    match name:
        case "clone":  # a thread, not a process
            return [_argument(0), _instruction(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse, allow]
        case "kill" | "tgkill":  # abort() signals itself
            return [_argument(0), _instruction(_EQUAL, own_process, 1, 0), refuse, allow]
        case "open" | "openat":
            flags = _argument(1 if name == "open" else 2)
            return [flags, _instruction(_ANY_BIT, _WRITE_FLAGS, 0, 1), refuse, allow]
        case "prlimit64":  # reading a limit passes no new one
            return [_argument(2), _instruction(_EQUAL, 0, 1, 0), refuse, allow]
        case _ if name in _ABSENT:
            return [_refuse(errno.ENOSYS)]
        case _:
            return [refuse]


def _argument(position: int) -> bytes:
    """Load the low half of an argument (little endian: both architectures are)."""
    return _instruction(_LOAD, 16 + 8 * position)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
