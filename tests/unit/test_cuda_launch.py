"""What of a launch can be seen without a GPU: the bytes of an array argument, and the error without CuPy."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda.launch import array_argument, load
from kernelagent.dsl.targets.cuda.tools import MissingTool


def test_an_array_is_its_pointer_and_strides() -> None:
    found = array_argument(0x7F0000001000, (64, 1))
    assert found.tobytes() == struct.pack("<Qqq", 0x7F0000001000, 64, 1)
    assert found.size == 1  # CuPy passes a numpy array by value only if it is one record
    assert array_argument(8, (-1,)).tobytes() == struct.pack("<Qq", 8, -1)


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingTool, match="CuPy was not found") as lack:
        load(Path("kernel.cubin"), "k")
    assert "cupy-cuda13x" in lack.value.hint
