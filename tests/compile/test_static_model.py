"""What the static model is told of a kernel is what the compiler says: blocks that share a multiprocessor."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.cuda.build import compile
from support.cuda import needs_compiler

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"


@needs_compiler
@pytest.mark.parametrize("rung", sorted(LADDER.glob("*.tile")), ids=lambda p: p.stem)
def test_blocks_of_a_rung_on_a_multiprocessor(rung: Path) -> None:
    artifact = compile(parse(rung.read_text(encoding="utf-8")), arch="sm_90a")
    assert artifact.units[0][0].resources.blocks == (2 if rung.stem < "04" else 1)
