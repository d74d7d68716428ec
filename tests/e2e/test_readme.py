"""The README's examples run: Python blocks as they stand, kernels through the checker, shell blocks regenerated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cuda import needs_binary_tools, needs_compiler

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


SLIPS = {
    "position-scaled": (
        "load(x, (i, j), (BR, BC))\n            m_new",
        "load(x, (i * BR, j), (BR, BC))\n            m_new",
    ),
    "no-rescale": ("l = l * exp(m - m_new) + sum", "l = l + sum"),
    "right": ("BR=4, BC=1024", "BR=4, BC=1024"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_the_checker_says(slip: str, tmp_path: Path) -> None:
    """The outputs shown are those of the command on the kernel shown, with one slip or none. Of a right kernel some
    lines are shown."""
    shown = re.search(
        rf"<!-- check: {slip} -->\n```text\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert shown is not None
    right, wrong = SLIPS[slip]
    assert right in KERNELS[0]
    (tmp_path / "softmax.tile").write_text(KERNELS[0].replace(right, wrong, 1))
    command = [sys.executable, "-c", "from kernelagent.cli import main; main()"]
    arguments = ["check", "softmax.tile", "--problem", "softmax"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == (0 if slip == "right" else 1)
    if slip == "right":
        assert_lines(shown.group(1), done.stdout)
    else:
        assert shown.group(1).strip() in done.stdout


def assert_lines(shown: str, printed: str) -> None:
    """Every line shown is one that is printed, or begins one where it ends in dots; in the same order."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        start = line.removesuffix(", ...")
        assert any(p == line or (start != line and p.startswith(start)) for p in lines), line


GPU = {
    "inspect": ["inspect", "gemm.tile", "--arch", "sm_80"],
    "emulated": ["check", "gemm.tile", "--target", "emu"],
    "refused": ["check", "gemm.tile", "--target", "cuda"],
}


@needs_compiler
@needs_binary_tools
@pytest.mark.parametrize("name", GPU)
def test_what_is_said_about_a_gpu_kernel(name: str, tmp_path: Path) -> None:
    """Some lines of the command's output on the kernel shown."""
    text = README.read_text(encoding="utf-8")
    kernel = re.search(r"<!-- gpu kernel -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    shown = re.search(rf"<!-- gpu: {name} -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    assert kernel is not None
    assert shown is not None
    policy = "require(cuda, stages=16)" if name == "refused" else "on(cuda, stages=3)"
    (tmp_path / "gemm.tile").write_text(kernel.group(1).replace("on(cuda, stages=3)", policy))
    command = [sys.executable, "-c", "from kernelagent.cli import main; main()", *GPU[name], "--dtype", "T=bf16"]
    environment = os.environ | {"KERNELAGENT_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == (1 if name == "refused" else 0), done.stderr
    assert_lines(shown.group(1), done.stdout)


def test_a_schedule_that_looks_right_is_refuted(tmp_path: Path) -> None:
    """The printed schedule with two lines exchanged: the loop shown is in it, and the report shown is printed."""
    text = README.read_text(encoding="utf-8")
    kernel = re.search(r"<!-- gpu kernel -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    loop = re.search(r"<!-- schedule: exchanged -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    shown = re.search(r"<!-- refuted: exchanged -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    assert kernel is not None
    assert loop is not None
    assert shown is not None
    (tmp_path / "gemm.tile").write_text(kernel.group(1))
    printed = _kernelagent(tmp_path, "inspect", "gemm.tile", "--dtype", "T=bf16", "--schedule", "--class", "aligned")
    assert printed.returncode == 0, printed.stderr
    right = "edition(1)" + printed.stdout.split("edition(1)")[1]
    wrong, count = re.subn(r"( +wait_group\(1\).*\n)( +barrier\(\).*\n)", r"\2\1", right)
    assert count == 1
    assert loop.group(1).strip() in re.sub(r"  # line \d+", "", wrong)
    (tmp_path / "gemm_sm80.tile").write_text(wrong)
    done = _kernelagent(tmp_path, "check", "gemm_sm80.tile")
    assert done.returncode == 1
    assert shown.group(1).strip() in done.stdout


def _kernelagent(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kernelagent.cli import main; main()", *arguments]
    environment = os.environ | {"KERNELAGENT_HOME": str(folder / "home")}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_the_table_is_the_committed_result() -> None:
    results = README.parent / "benchmarks" / "results" / "suite-cpu.md"
    shown = re.search(
        r"<!-- suite -->\n(.*?)<!-- end of suite -->", README.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert shown is not None
    assert shown.group(1).strip() == results.read_text(encoding="utf-8").strip()


def test_every_command_is_in_the_readme() -> None:
    from kernelagent.cli import COMMANDS

    text = README.read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if f"kernelagent {name}" not in text]
    assert missing == []
