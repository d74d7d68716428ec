"""One lane arrives for its warp: what the others stored is seen only where the lanes met in front of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.targets.emulator.execute import emulate
from support.handed_over import HANDED_OVER

ROWS = 300


def run(monkeypatch: pytest.MonkeyPatch, meets: bool) -> tuple[Any, bool]:
    """What the emulator found, and whether the values are right."""
    if not meets:
        monkeypatch.setattr("kernelagent.dsl.targets.cuda.body.unordered_arrivals", lambda *a, **k: set())
    x = np.random.default_rng(0).standard_normal((ROWS, 32)).astype("f4")
    y = np.zeros_like(x)
    module = read_module(HANDED_OVER.replace("MEET", "fence_async()"))
    made = emulate(module, {"x": x, "y": y}, arch="sm_90a", completion="late")
    return made, bool((x == y).all())


def test_lanes_that_met_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    made, right = run(monkeypatch, meets=True)
    assert made.ok, [f.message for f in made.findings]
    assert right


def test_without_the_meeting_there_is_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = run(monkeypatch, meets=False)
    assert not made.ok
    assert "which thread 1 stored" in made.findings[0].message
