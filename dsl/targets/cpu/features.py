"""What this machine's CPU can do, and the compiler flags that go with it.

A *feature level* names one path through the prelude: `avx512`, `avx2`, `neon` or `portable`. A machine runs its best
level and every level below it, so tests and users can ask for a lower one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

LEVELS: tuple[str, ...] = ("avx512", "avx2", "neon", "portable")
"""Best first; a machine supports those of its architecture."""

LANES: dict[str, int] = {"avx512": 16, "avx2": 8, "neon": 4, "portable": 4}
"""32-bit lanes of a vector, `KA_LANES` of the prelude."""

_NEEDED_AVX2 = {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe"}
_NEEDED = {
    "avx512": _NEEDED_AVX2 | {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"},
    "avx2": _NEEDED_AVX2,
}
_X86_AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe", "-mpopcnt")
# Single features rather than -march=x86-64-v4: zig spells that name otherwise.
_ARCHITECTURE_FLAGS = {
    "avx512": (
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512cd", "-mprefer-vector-width=512"),
        *_X86_AVX2,
    ),
    "avx2": _X86_AVX2,
    "neon": (),  # part of every 64-bit ARM
    "portable": ("-DKA_PORTABLE=1",),
}
COMMON_FLAGS: tuple[str, ...] = (
    "-std=gnu11",  # contraction to fma stays at each compiler's default, which is on
    "-O3",
    "-fPIC",
    "-fwrapv",  # tile integers wrap
    "-fno-math-errno",
    "-fno-trapping-math",
)
LINK_FLAGS: tuple[str, ...] = ("-shared", "-lm")
RUNTIME_FLAGS: tuple[str, ...] = ("-pthread", "-fvisibility=hidden")
"""Beyond the others, for `pool.c`."""


@dataclass(frozen=True)
class CpuFeatures:
    """The CPU as the compiler and the tile chooser see it. Cache sizes in bytes, 0 if unknown; per core for l1d, l2."""

    level: str
    architecture: str
    model: str
    cpus: int
    l1d_bytes: int
    l2_bytes: int
    l3_bytes: int

    @property
    def lanes(self) -> int:
        return LANES[self.level]

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels that this machine can run, best first."""
        if self.level == "neon":
            return ("neon", "portable")
        return LEVELS[LEVELS.index(self.level) :] if self.level == "portable" else _x86_levels(self.level)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CpuFeatures:
        return cls(**data)


def flags(level: str) -> tuple[str, ...]:
    """Compiler flags of a feature level, common ones included. Raises ValueError for an unknown level."""
    if level not in _ARCHITECTURE_FLAGS:
        raise ValueError(f"unknown CPU feature level {level!r}; known: {', '.join(LEVELS)}")
    return COMMON_FLAGS + _ARCHITECTURE_FLAGS[level]


def prelude_folder() -> Path:
    """Where the headers lie: pass it to the compiler with -I."""
    return Path(__file__).parent / "prelude"


@lru_cache(maxsize=1)
def detect() -> CpuFeatures:
    """The features of the machine that runs this process."""
    architecture = platform.machine().lower()
    names = _cpu_flags()
    return CpuFeatures(
        level=level_of(architecture, names),
        architecture=architecture,
        model=_model_name(),
        cpus=_usable_cpus(),
        l1d_bytes=_cache_bytes(1),
        l2_bytes=_cache_bytes(2),
        l3_bytes=_cache_bytes(3),
    )


def level_of(architecture: str, names: frozenset[str]) -> str:
    """The best level of an architecture (as `platform.machine` spells it) whose CPU flags are `names`."""
    if architecture in ("arm64", "aarch64"):
        return "neon"
    if architecture in ("x86_64", "amd64"):
        for level in ("avx512", "avx2"):
            if names >= _NEEDED[level]:
                return level
    return "portable"


def _x86_levels(best: str) -> tuple[str, ...]:
    return tuple(level for level in LEVELS[LEVELS.index(best) :] if level != "neon")


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_flags() -> frozenset[str]:
    """CPU flags under Linux's names. The kernel lists only those whose registers it saves."""
    if sys.platform == "linux":
        return frozenset(_cpuinfo("flags").split())
    if sys.platform == "darwin":
        return frozenset(name for name in _NEEDED["avx512"] if _darwin_has(name))
    return frozenset()


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _model_name() -> str:
    if sys.platform == "linux":
        return _cpuinfo("model name") or platform.processor()
    return platform.processor()


def _sysctl(name: str) -> int:
    """An integer sysctl of macOS, 0 if there is none."""
    libc = ctypes.CDLL(None)
    value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
    failed = libc.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0 if failed else value.value


def _darwin_has(flag: str) -> bool:
    spelled = {"avx2": "avx2_0", "bmi1": "bmi1", "bmi2": "bmi2", "f16c": "f16c", "fma": "fma", "movbe": "movbe"}
    return _sysctl(f"hw.optional.{spelled.get(flag, flag)}") == 1


def _cache_bytes(level: int) -> int:
    """Size of a data or unified cache."""
    if sys.platform == "darwin":
        return _sysctl({1: "hw.l1dcachesize", 2: "hw.l2cachesize", 3: "hw.l3cachesize"}[level])
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            if int((folder / "level").read_text()) == level and kind != "Instruction":
                return _parse_size((folder / "size").read_text().strip())
        except (OSError, ValueError):
            continue
    return 0


def _parse_size(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)
