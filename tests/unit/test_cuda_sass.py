"""Printed machine code: opcodes, widths, places. The texts in tests/fixtures/cuda came from nvdisasm 13.5."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda import tools
from kernelagent.dsl.targets.cuda.sass import Instruction, Place, Sass, Usage, parse_code, parse_usage, read_sass

FIXTURES = Path(__file__).parents[1] / "fixtures" / "cuda"


@pytest.fixture(name="tile")
def _tile() -> Sass:
    arch, functions = parse_code((FIXTURES / "nvdisasm_sm_89.txt").read_text())
    return Sass("tile", arch, Usage(27, 0, 0, 2048), functions["tile"])


def test_matrix_opcodes_have_their_modifiers(tile: Sass) -> None:
    assert tile.arch == "sm_89"
    assert tile.opcodes["HMMA.16816.F32.BF16"] == 1
    assert tile.opcodes["QMMA.16832.F32.E4M3.E4M3"] == 1
    assert tile.families["IMMA"] == 1
    assert tile.count("HMMA") == tile.count("HMMA.16816") == 1
    assert tile.count("HMMA.1681") == 0


def test_widths_are_bits_a_lane(tile: Sass) -> None:
    assert tile.widths["LDGSTS"] == {128: 1}
    assert tile.widths["LDG"] == {128: 1}
    assert tile.widths["STG"] == {128: 1}
    assert tile.widths["LDSM"] == {64: 1, 128: 1}
    assert tile.widths["RED"] == {32: 1}
    assert "LDGDEPBAR" not in tile.widths
    assert "HMMA" not in tile.widths


@pytest.mark.parametrize(
    ("opcode", "width"),
    [
        ("LDG.E", 32),
        ("LDG.E.U16.CONSTANT", 16),
        ("STG.E.U8", 8),
        ("LDGSTS.E.BYPASS.LTC128B.128", 128),
        ("LDGSTS.E.LTC128B.64", 64),
        ("LDGSTS.E", 32),
        ("LDSM.16.M88", 32),
        ("LDSM.16.MT88.4", 128),
        ("STSM.16.M88.2", 64),
        ("ATOMG.E.ADD.64.STRONG.GPU", 64),
        ("BAR.SYNC", None),
        ("UTMALDG.2D", None),
    ],
)
def test_width_of_an_opcode(opcode: str, width: int | None) -> None:
    assert Instruction(0, opcode, "").width == width


def test_inlined_atoms_lead_to_the_line_of_the_kernel(tile: Sass) -> None:
    (copy,) = [i for i in tile.instructions if i.family == "LDGSTS"]
    assert copy.places == (Place("kernel.cu", 6), Place("kernel", 7))
    assert copy.line == 7
    assert [i.family for i in tile.at_line(12)] == ["QMMA"]
    assert tile.instructions[0].line is None


def test_padding_and_fillers_are_left_out(tile: Sass) -> None:
    assert tile.families["NOP"] == 0
    assert tile.families["UIADD3"] == 0  # each under @!UPT
    assert tile.instructions[-1].opcode == "BRA"
    assert len(tile.instructions) == 34


def test_predicates_are_kept() -> None:
    text = '\t.target\tsm_80\n\t.section\t.text.k,"ax",@progbits\n        /*0270*/              @!P1 STG.E [R2], R0 ;\n'
    (found,) = parse_code(text)[1]["k"]
    assert (found.predicate, found.opcode, found.operands, found.address) == ("@!P1", "STG.E", "[R2], R0", 0x270)
    assert found.places == ()


def test_usage_leaves_out_what_the_driver_reserves() -> None:
    text = (FIXTURES / "cuobjdump_sm_90a.txt").read_text()
    found = parse_usage(text, "sm_90a")
    assert found == {"spill": Usage(32, 40, 0, 0), "tile": Usage(28, 0, 0, 2048)}
    assert parse_usage(text, "sm_89")["tile"].shared_bytes == 3072  # there the figure has no reserve in it


def test_the_record_is_plain_data(tile: Sass) -> None:
    record = tile.to_dict()
    assert record["registers"] == 27
    assert record["widths"]["LDSM"] == {"64": 1, "128": 1}
    assert record["spill_loads"] == record["spill_stores"] == 0


def test_a_missing_tool_names_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_program", lambda name: None)
    with pytest.raises(tools.MissingTool, match="nvdisasm was not found") as lack:
        read_sass(b"")
    assert "pip install nvidia-cuda-nvdisasm" in lack.value.hint
    assert "cpu" in lack.value.hint
