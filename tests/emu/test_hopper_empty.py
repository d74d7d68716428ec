"""Calls without elements on Hopper: no tensor map can be made of an empty array, so another class takes the call."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.targets.emulator.execute import emulate

ROOT = Path(__file__).parents[2]
RUNG = ROOT / "docs" / "ladder" / "gemm_hopper" / "04_roles.tile"
BY_HAND = ROOT / "tests" / "fixtures" / "faults" / "hopper_gemm.tile"


def arrays(m: int, n: int, k: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return {name: np.ones(shape, ml_dtypes.bfloat16) for name, shape in (("a", (m, k)), ("b", (n, k)), ("c", (m, n)))}


@pytest.mark.parametrize(("m", "n", "k"), [(3, 8, 0), (0, 8, 8), (3, 0, 8)])
def test_no_elements_take_the_general_class(m: int, n: int, k: int) -> None:
    given = arrays(m, n, k)
    made = emulate(parse(RUNG.read_text(encoding="utf-8")), given, arch="sm_90a")
    assert (made.ok, made.classes) == (True, ("general",))
    assert not given["c"].astype(np.float32).any()


def test_a_schedule_by_hand_says_what_it_lacks() -> None:
    with pytest.raises(KernelError) as caught:
        emulate(read_module(BY_HAND.read_text(encoding="utf-8")), arrays(3, 8, 0), arch="sm_90a")
    assert caught.value.diagnostics[0].facts["guards"] == ["elements in a", "elements in b"]
