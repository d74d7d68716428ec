"""The README's examples run: Python blocks as they stand, kernels through the checker, shell blocks regenerated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
KERNELS = [b for b in BLOCKS if b.startswith("edition(1)")]
PROGRAMS = [b for b in BLOCKS if not b.startswith("edition(1)")]


@pytest.mark.parametrize("text", KERNELS)
def test_kernels_are_proved(text: str) -> None:
    from kernelagent import check

    report = check(text, "softmax", quick=True)
    assert report.ok, report.diagnostics
    assert not report.diagnostics


def test_programs_run_in_order(tmp_path: Path) -> None:
    """One script of all Python blocks, as a reader would type them."""
    assert len(PROGRAMS) >= 2
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    script = tmp_path / "readme.py"
    script.write_text("\n".join(PROGRAMS) + "\nassert result.best['status'] == 'PASSED'\nassert y.shape == (8, 64)\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment | {"KERNELAGENT_HOME": str(tmp_path / "home")},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_in_the_readme() -> None:
    from kernelagent.cli import COMMANDS

    text = README.read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if f"kernelagent {name}" not in text]
    assert missing == []
