"""Every rung of the Hopper ladder as machine code: no spills, nothing serialised, and the instructions of its idea."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.compiler import compile_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.sass import read_sass
from kernelagent.dsl.targets.cuda.units import device_units
from support.cuda import needs_binary_tools, needs_compiler

RUNGS = sorted((Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper").glob("*.tile"))


@needs_compiler
@needs_binary_tools
@pytest.mark.parametrize("rung", RUNGS, ids=lambda p: p.stem)
def test_a_rung_compiles_to_what_it_teaches(rung: Path) -> None:
    (unit,) = device_units(parse(rung.read_text(encoding="utf-8")), Choices({}, {}, {}, {}), "sm_90a")
    code = unit.classes[0]
    compiled = compile_cubin(prelude("sm_90a", code.body) + code.body, "sm_90a")
    sass = read_sass(compiled.cubin)
    number = int(rung.stem[:2])
    assert not sass.spill_loads
    assert not sass.spill_stores
    assert not compiled.serialised
    families = sass.families
    if number < 4:
        assert families["HMMA"]
        assert families["LDSM"]
        assert families["LDGSTS"]
        assert not families["HGMMA"]
    else:
        assert families["HGMMA"]
        assert families["UTMALDG"]
        assert families["UTMASTG"]
        assert not families["HMMA"]
    assert bool(sass.count("UTMALDG.2D.MULTICAST")) == (number == 8)
    assert code.schedule.shared_bytes <= 227 * 1024
