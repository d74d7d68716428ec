"""`make gpu` where there is no GPU: it compiles, says so, and writes no results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda import loader, tools
from support.cuda import needs_compiler
from support.gpu_cases import RUN

pytestmark = needs_compiler


def _has_device() -> bool:
    try:
        loader.device()
    except tools.MissingTool:
        return False
    return True


@pytest.mark.skipif(_has_device(), reason="there is a GPU")
def test_everything_is_compiled_and_nothing_is_claimed(tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, str(RUN), "softmax_f32", "--out", str(out)],
        capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Nothing was run and nothing was timed." in done.stdout
    assert "1 cases were compiled for sm_80, sm_89, sm_90a" in done.stdout
    assert not out.exists()


def test_a_checkout_that_is_not_installed_will_do(tmp_path: Path) -> None:
    """As on a machine where nothing can be installed: only the packages that the compiler imports are there."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import checkout; import kernelagent.dsl as d; print(d.__path__)"
    )
    hidden = [p for p in sys.path if p.endswith("site-packages")]
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(RUN.parent)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={"PYTHONPATH": ":".join(hidden)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(RUN.parents[2] / "dsl") in done.stdout
