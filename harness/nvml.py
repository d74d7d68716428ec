"""What NVML says about a GPU's clocks, power and throttling. Observes only."""

from __future__ import annotations

from typing import Any


def observe(device: int = 0) -> dict[str, Any] | None:
    """Clocks (MHz), power (W), temperature (C) and throttle reasons of a GPU; None without a driver or that device."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no library, no driver, no permission: there is no GPU for us
        return None
    try:
        return _read(pynvml, pynvml.nvmlDeviceGetHandleByIndex(device))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _read(pynvml: Any, handle: Any) -> dict[str, Any]:
    return {
        "name": pynvml.nvmlDeviceGetName(handle),
        "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        "policy": "observed, not locked",
    }
