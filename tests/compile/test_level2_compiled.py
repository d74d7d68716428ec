"""Level-two texts as cubins: compiled as written, kept in the cache, found again by the loader."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.targets.cuda.artifact import CudaOptions
from kernelagent.dsl.targets.cuda.build import compile
from kernelagent.dsl.targets.cuda.loader import Program
from support.cuda import needs_compiler
from support.level2_texts import TEXTS

SHARED = {"gemm": 36864, "hopper": 163904, "ping pong": 49216}


@needs_compiler
@pytest.mark.parametrize("name", SHARED)
def test_a_schedule_compiles_as_written(name: str, tmp_path: Path) -> None:
    module = read_module(TEXTS[name])
    arch = "sm_80" if name == "gemm" else "sm_90a"
    artifact = compile(module, arch=arch, options=CudaOptions(cache_dir=tmp_path))
    ((binary,),) = artifact.units
    assert binary.shape_class == "aligned"
    assert binary.resources.dynamic_shared_bytes == SHARED[name]
    assert not binary.resources.spills
    assert not binary.notes  # no product of a warpgroup was serialised
    assert Program.of(artifact).units[0].classes[0].body == binary.body
