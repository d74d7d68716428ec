"""CUDA compilers and tools of this machine, as parameters and reasons to skip."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda import tools
from kernelagent.dsl.targets.cuda.compiler import Toolchain, find_toolchain

FIXTURES = Path(__file__).parents[1] / "fixtures" / "cuda"


def _there(kind: str) -> Toolchain | None:
    try:
        return find_toolchain(kind)
    except tools.MissingTool:
        return None


TOOLCHAINS = [found for kind in ("nvrtc", "nvcc") if (found := _there(kind))]
"""Those that are here, NVRTC first."""

needs_compiler = pytest.mark.skipif(not TOOLCHAINS, reason="neither NVRTC's wheels nor nvcc is installed")
needs_binary_tools = pytest.mark.skipif(
    not all(tools.find_program(name) for name in ("nvdisasm", "cuobjdump")),
    reason="nvdisasm and cuobjdump are not installed",
)
each_toolchain = pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=lambda t: t.kind)


def source(name: str) -> str:
    return (FIXTURES / name).read_text()
