"""Calibration of this machine: plausible rates, saved once, read back; the numpy fallback is labelled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kernelagent.solar import calibration, chips
from kernelagent.solar.cpu import this_cpu

from kernelagent import problems, solar


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))
    return tmp_path


def test_calibrate_saves_and_loads(home: Path) -> None:
    start = time.perf_counter()
    chip = solar.load_chip("this")
    first = time.perf_counter() - start
    assert first < 30  # three seconds on an idle machine
    assert (home / "chips" / f"{chip.name}.toml").is_file()
    start = time.perf_counter()
    assert solar.load_chip("cpu") == chip == solar.load_chip(chip.name)
    assert time.perf_counter() - start < first / 4  # read, not measured again
    assert chip.name in solar.chip_names()
    assert chip.host
    assert chip.date


def test_rates_are_plausible_and_labelled() -> None:
    chip = calibration.calibrate(save=False)
    assert chip.measured is not None
    assert chip.measured.special is not None
    assert 1e9 < chip.measured.dram.value <= chip.peak.dram.value < 1e13
    assert 1e9 < chip.measured.fma["f32"].value <= chip.peak.fma["f32"].value
    assert 1e7 < chip.measured.special.value < chip.peak.fma["f32"].value
    assert "no datasheet figure" in chip.peak.dram.source
    assert chip.peak.fma["f32"].source.startswith("nominal")
    assert chip.peak.special is None


def test_report_on_this_machine() -> None:
    report = solar.bound(problems.load("softmax"), "1024x1024", "this")
    assert report.sol.basis == "nominal"
    assert report.ceiling is not None
    assert report.ceiling.basis == "measured"
    assert report.time_ms <= report.ceiling.time_ms
    assert report.suspect(report.time_ms) is None
    assert report.suspect(report.cached_floor_ms / 2)
    assert any("special-function" in note for note in report.notes)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_compiler", lambda: None)
    measured = calibration.measure(this_cpu())
    assert measured.how.startswith("numpy only")
    assert min(measured.read, measured.copy, measured.fma, measured.exp) > 1e6
    assert measured.clock == 0.0


def test_a_compiler_that_fails_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_compiler", lambda: ["false"])
    assert calibration.measure(this_cpu()).how.startswith("numpy only")


def test_foreign_file_is_refused(home: Path) -> None:
    path = calibration._path(this_cpu())
    path.parent.mkdir(parents=True)
    path.write_text("not toml at all", encoding="utf-8")
    with pytest.raises(chips.ChipError, match="toml"):
        solar.load_chip("this")
