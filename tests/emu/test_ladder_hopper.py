"""Every rung of the Hopper ladder: emulated in every completion order it is right, and nothing is found."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.emulator.execute import emulate

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"
RUNGS = sorted(LADDER.glob("*.tile"))
SHAPES = {"full": (256, 512, 192), "overhanging": (136, 264, 72), "odd": (33, 65, 31), "tiny": (8, 8, 8)}


def error(text: str, shape: tuple[int, int, int], completion: str) -> float:
    """Largest error in units of what rounding to bf16 and f32 sums allow; raises on any finding."""
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    a, b = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((m, k), (n, k)))
    c = np.full((m, n), np.nan, ml_dtypes.bfloat16)
    found = emulate(parse(text), {"a": a, "b": b, "c": c}, arch="sm_90a", completion=completion)  # type: ignore[arg-type]
    assert found.ok, [f.message for f in found.findings]
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    sizes = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)).T
    allowed = np.abs(exact) * 2.0**-8 + sizes * k * 2.0**-24 + 1e-30
    return float(np.max(np.abs(c.astype(np.float64) - exact) / allowed))


@pytest.mark.parametrize("rung", RUNGS, ids=lambda p: p.stem)
def test_a_rung_is_right_on_every_shape(rung: Path) -> None:
    text = rung.read_text(encoding="utf-8")
    for shape in SHAPES.values():
        assert error(text, shape, "late") <= 1


@pytest.mark.parametrize("completion", ["early", "random"])
@pytest.mark.parametrize("rung", RUNGS[3:], ids=lambda p: p.stem)
def test_copies_and_products_may_complete_at_any_legal_time(rung: Path, completion: str) -> None:
    assert error(rung.read_text(encoding="utf-8"), SHAPES["overhanging"], completion) <= 1


def test_the_ladder_has_its_rungs_and_its_page_names_them() -> None:
    page = (LADDER / "README.md").read_text(encoding="utf-8")
    assert len(RUNGS) == 8
    assert all(rung.name in page for rung in RUNGS)
