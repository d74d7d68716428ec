"""Where a measurement was made: machine, system, versions, and the commit of a checkout."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from kernelagent.harness.caches import available_cpus, last_level_cache_bytes

_PACKAGES = ("numpy", "torch", "ml_dtypes", "kernelagent")


@functools.cache
def describe() -> dict[str, Any]:
    """CPU, memory, OS, Python, package and compiler versions, git commit. Nothing that names a person or a host."""
    return {
        "cpu": _cpu_model(),
        "cores": len(available_cpus()),
        "memory_bytes": _memory_bytes(),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "compiler": _compiler(),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> str | None:
    """First line of the C compiler's version; None where there is none."""
    from kernelagent.dsl.targets import cpu

    try:
        return cpu.find_compiler().identity
    except cpu.NoCompiler:
        return None


def _commit() -> str | None:
    """The commit of the checkout this program runs from, "+" if it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5, check=True)
    return result.stdout.strip()
