"""What is recorded about the machine: environment, clocks, GPU."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest
from kernelagent.harness import caches, clocks, environment, nvml


def test_the_environment_names_versions_and_no_person() -> None:
    found = environment.describe()
    assert found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert found["cores"] == len(caches.available_cpus())
    text = json.dumps(found)
    assert platform.node() not in text
    assert os.path.expanduser("~") not in text


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "harness" / "environment.py"))
    assert environment._commit() is None


def test_clocks_are_observed_not_locked() -> None:
    before = clocks.observe()
    found = clocks.change(before, {**before, "throttle_count": 7} | {"policy": "observed, not locked"})
    assert found["policy"] == "observed, not locked"
    json.dumps(found)
    base = {**before, "throttle_count": 3}
    assert clocks.change(base, {**base, "throttle_count": 7})["throttle_events"] == 4
    assert clocks.change({**base, "throttle_count": None}, base)["throttle_events"] is None


@pytest.mark.parametrize(
    ("text", "size"), [("32K", 32768), ("36864K", 36864 << 10), ("2M", 2 << 20), ("", 0), ("x", 0)]
)
def test_cache_sizes_are_read(text: str, size: int) -> None:
    assert caches._parse_size(text) == size


def test_the_last_level_is_the_largest(tmp_path: Path) -> None:
    for i, size in enumerate(("32K", "1024K", "32768K")):
        folder = tmp_path / "cpu0" / "cache" / f"index{i}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert caches.last_level_cache_bytes(tmp_path) == 32 << 20
    assert caches.last_level_cache_bytes(tmp_path / "nowhere") == caches.FALLBACK_BYTES


def test_a_machine_without_a_gpu_has_no_observation() -> None:
    """With a driver the record says that nothing was locked; without one there is none, and no error."""
    found = nvml.observe()
    assert found is None or found["policy"] == "observed, not locked"


def test_a_missing_driver_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert nvml.observe() is None
