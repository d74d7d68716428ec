"""What the machine's clocks did while something was timed: observed, not locked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_CPUS = Path("/sys/devices/system/cpu")


def observe() -> dict[str, Any]:
    """Governors, current MHz, load average (1 min) and thermal throttle counts of the CPUs, where readable."""
    return {
        "policy": "observed, not locked",
        "governors": sorted(set(_read_all("cpufreq/scaling_governor"))) or None,
        "mhz": _current_mhz(),
        "load_average": os.getloadavg()[0],
        "throttle_count": _sum(_read_all("thermal_throttle/core_throttle_count")),
    }


def change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Two observations around a measurement as one record, with the throttle events in between."""
    counts = before["throttle_count"], after["throttle_count"]
    throttled = None if None in counts else counts[1] - counts[0]
    return {"policy": after["policy"], "before": before, "after": after, "throttle_events": throttled}


def _current_mhz() -> list[float] | None:
    exact = [int(t) / 1000 for t in _read_all("cpufreq/scaling_cur_freq") if t.isdigit()]
    if exact:
        return exact
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    return [float(m) for m in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)] or None


def _read_all(name: str) -> list[str]:
    found = []
    for path in sorted(_CPUS.glob(f"cpu[0-9]*/{name}")):
        try:
            found.append(path.read_text().strip())
        except OSError:
            continue  # some files exist but cannot be read in a virtual machine
    return found


def _sum(counts: list[str]) -> int | None:
    return sum(map(int, counts)) if counts else None
