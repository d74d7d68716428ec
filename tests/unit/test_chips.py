"""Chip files: sources, consistency of the figures, names, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.solar import chips
from kernelagent.solar.cpu import Cpu

from kernelagent import solar

SHIPPED = ("a100-sxm-80gb", "b200", "h100-sxm", "h200-sxm")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))


def figures(rates: chips.Rates) -> list[chips.Figure]:
    found = [rates.dram, *rates.matrix.values(), *rates.fma.values()]
    return [*found, rates.special] if rates.special else found


@pytest.mark.parametrize("name", SHIPPED)
def test_every_figure_has_a_source(name: str) -> None:
    chip = solar.load_chip(name)
    assert chip.measured is None
    for figure in figures(chip.peak):
        assert figure.value > 0
        assert any(word in figure.source for word in ("datasheet", "whitepaper", "Programming Guide"))
        assert ".com/" in figure.source


@pytest.mark.parametrize("name", SHIPPED)
def test_rates_agree_with_units_and_clock(name: str) -> None:
    """128 (Ampere: 64) f32 lanes and 16 special functions a clock in each multiprocessor."""
    chip = solar.load_chip(name)
    lanes = 64 if chip.arch == "sm_80" else 128
    assert chip.peak.fma["f32"].value == pytest.approx(2 * lanes * chip.units * chip.clock_ghz * 1e9, rel=0.01)
    assert chip.peak.special is not None
    assert chip.peak.special.value == pytest.approx(16 * chip.units * chip.clock_ghz * 1e9, rel=0.01)
    assert "f32" not in chip.peak.matrix  # no full-precision f32 in tensor cores
    assert chip.peak.matrix["bf16"].value == chip.peak.matrix["f16"].value


@pytest.mark.parametrize(
    ("alias", "name"),
    [("H100", "h100-sxm"), ("h200 sxm", "h200-sxm"), ("A100", "a100-sxm-80gb"), ("NVIDIA_H200", "h200-sxm")],
)
def test_aliases(alias: str, name: str) -> None:
    assert solar.load_chip(alias).name == name


def test_unknown_chip_has_neighbours() -> None:
    with pytest.raises(solar.UnknownChip, match="did you mean") as caught:
        solar.load_chip("h100-sxn")
    assert caught.value.nearest[0] == "h100-sxm"
    with pytest.raises(solar.UnknownChip, match="known: a100"):
        solar.load_chip("zzzzzzzz")


def test_names() -> None:
    assert solar.chip_names() == (*SHIPPED, "this")


@pytest.mark.parametrize("name", SHIPPED)
def test_round_trip(name: str, tmp_path: Path) -> None:
    chip = solar.load_chip(name)
    chips.write_chip(chip, tmp_path / "copy.toml")
    assert chips.read_chip(tmp_path / "copy.toml") == chip
    assert [p.name for p in tmp_path.iterdir()] == ["copy.toml"]


@pytest.mark.parametrize("text", ["name = ", 'name = "x"\n', 'name = "x"\n[peak.dram]\nvalue = 1\n'])
def test_broken_file_names_itself(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(chips.ChipError, match=r"mine\.toml"):
        chips.read_chip(path)


@pytest.mark.parametrize(
    ("flags", "family", "bits", "lanes"),
    [
        ({"avx2", "fma", "avx512f"}, 6, 512, 32),  # two 512-bit ports
        ({"avx2", "fma", "avx512f"}, 25, 512, 16),  # Zen 4: 512 bits in two halves
        ({"avx2", "fma"}, 23, 256, 16),
    ],
)
def test_lanes(flags: set[str], family: int, bits: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpu = Cpu("Some(R) CPU @ 2.5GHz", 4, frozenset(flags), family, 1, 1 << 20, 3.0)
    assert (cpu.vector_bits, cpu.fma_lanes_per_clock) == (bits, lanes)
    assert cpu.slug == f"some-4c-{bits}b"
