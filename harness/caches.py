"""Size of the last-level cache, and how to empty the caches before a timed run."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SYSFS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
FALLBACK_BYTES = 64 << 20
"""Assumed last-level cache where the system does not say: larger than most."""


def last_level_cache_bytes(root: Path = _SYSFS) -> int:
    """The largest cache of CPU 0 in bytes, from sysfs; FALLBACK_BYTES where it cannot be read."""
    sizes = [_parse_size(_read(path)) for path in root.glob("cpu0/cache/index*/size")]
    return max(sizes, default=0) or FALLBACK_BYTES


def flush_bytes() -> int:
    """How much must be read to push everything else out: twice the last-level cache."""
    return 2 * last_level_cache_bytes()


def flush(buffer: NDArray[Any], cpus: list[int]) -> None:
    """Read all of `buffer`, a share of it from each of `cpus`, so that private caches are emptied too.

    Reading leaves clean lines: nobody pays later for writing them back.
    """
    shares = np.array_split(buffer, len(cpus))
    threads = [threading.Thread(target=_read_on, args=pair) for pair in zip(cpus, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _read_on(cpu: int, share: NDArray[Any]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})  # of this thread only
    np.max(share)


def available_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _parse_size(text: str) -> int:
    if text and text[-1] in _UNITS and text[:-1].isdigit():
        return int(text[:-1]) * _UNITS[text[-1]]
    return int(text) if text.isdigit() else 0
