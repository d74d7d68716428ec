"""What this CPU is: name, cores it may use, last-level cache, and its nominal multiply-add peak."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Cpu:
    """`flags` are the feature names of /proc/cpuinfo; `max_ghz` 0 where the system does not say."""

    name: str
    cores: int
    flags: frozenset[str]
    family: int
    model: int
    cache_bytes: int
    max_ghz: float

    @property
    def slug(self) -> str:
        """A file name: model, cores and vector width, so that another machine never reads this one's rates."""
        words = re.sub(r"\(.*?\)|CPU|@.*", " ", self.name).lower()
        return "-".join([*re.findall(r"[a-z0-9.]+", words), f"{self.cores}c", f"{self.vector_bits}b"])

    @property
    def vector_bits(self) -> int:
        return 512 if "avx512f" in self.flags else 256 if "avx2" in self.flags else 128

    @property
    def fma_lanes_per_clock(self) -> int:
        """f32 multiply-adds in a clock on one core: an upper bound where the model is not known."""
        if platform.machine() in ("arm64", "aarch64"):
            return 16  # four 128-bit pipes: the widest cores that exist
        ports = 2
        if self.vector_bits == 512 and self.family == 25:
            ports = 1  # Zen 4 does 512 bits in two halves on its two 256-bit pipes
        return ports * self.vector_bits // 32


def this_cpu() -> Cpu:
    """Read /proc and /sys; elsewhere what `platform` knows."""
    text = _read(Path("/proc/cpuinfo"))
    return Cpu(
        name=_field(text, "model name") or platform.processor() or platform.machine(),
        cores=usable_cores(),
        flags=frozenset((_field(text, "flags") or _field(text, "Features")).split()),
        family=int(_field(text, "cpu family") or 0),
        model=int(_field(text, "model") or 0),
        cache_bytes=_last_level_cache(),
        max_ghz=float(_read(SYSFS / "cpu0/cpufreq/cpuinfo_max_freq") or 0) / 1e6,
    )


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _last_level_cache() -> int:
    """Bytes; 0 if unknown."""
    sizes = []
    for entry in SYSFS.glob("cpu0/cache/index*"):
        match = re.match(r"(\d+)([KM])", _read(entry / "size"))
        if match:
            sizes.append(int(match[1]) * {"K": 1 << 10, "M": 1 << 20}[match[2]])
    return max(sizes, default=0)


def _field(text: str, key: str) -> str:
    match = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
