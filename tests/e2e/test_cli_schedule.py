"""A schedule on the command line: printed from a kernel, checked by itself and against it, compiled, inspected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cuda import needs_compiler
from tests.support.gpu_texts import GEMM

MAIN = "from kernelagent.cli import main; main()"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A kernel, and its aligned schedule for sm_80 as `inspect --schedule` prints it."""
    folder = tmp_path_factory.mktemp("texts")
    kernel, schedule = folder / "gemm.tile", folder / "gemm_sm80.tile"
    kernel.write_text(GEMM)
    done = kernelagent("inspect", kernel, "--dtype", "T=bf16", "--schedule", folder=folder)
    assert done.returncode == 0, done.stderr
    schedule.write_text("edition(1)" + done.stdout.split("edition(1)")[1])
    return kernel, schedule


def kernelagent(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=environment | {"KERNELAGENT_HOME": str(folder)}, check=False,
    )  # fmt: skip


def test_a_printed_schedule_is_accepted(files: tuple[Path, Path]) -> None:
    done = kernelagent("check", files[1], folder=files[1].parent)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("UNKNOWN  semantics    what the schedule should compute")
    assert "PROVED   schedule     the rules of level-two texts are kept" in done.stdout


def test_a_schedule_is_compared_with_its_kernel(files: tuple[Path, Path]) -> None:
    kernel, schedule = files
    done = kernelagent(
        "check", schedule, "--target", "emu", "--against", kernel, "--quick", "--json", folder=schedule.parent
    )
    record = json.loads(done.stdout)
    assert (done.returncode, record["ok"], record["verdict"]) == (0, True, "PROVED")


def test_a_changed_schedule_is_refuted_at_its_line(files: tuple[Path, Path]) -> None:
    schedule = files[1]
    wrong = schedule.with_name("wrong.tile")
    text = schedule.read_text()
    wait = next(line for line in text.splitlines() if line.lstrip().startswith("wait_group("))
    wrong.write_text(text.replace(wait + "\n", "", 1))
    done = kernelagent("check", wrong, "--target", "emu", "--quick", "--json", folder=schedule.parent)
    record = json.loads(done.stdout)
    assert (done.returncode, record["verdict"]) == (1, "REFUTED")
    lines = wrong.read_text().splitlines()
    assert any("mma(" in lines[c["line"] - 1] for c in record["counterexamples"])


def test_mistakes_show_their_place(files: tuple[Path, Path]) -> None:
    wrong = files[1].with_name("typo.tile")
    wrong.write_text(files[1].read_text().replace("barrier()", "barier()"))
    done = kernelagent("check", wrong, folder=wrong.parent)
    assert done.returncode == 1
    assert "error[unknown-word]" in done.stdout
    assert "did you mean `barrier`?" in done.stdout


def test_calls_that_make_no_sense(files: tuple[Path, Path]) -> None:
    kernel, schedule = files
    for arguments in (("check", schedule, "--problem", "softmax"), ("check", kernel, "--against", kernel)):
        done = kernelagent(*arguments, folder=schedule.parent)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@needs_compiler
def test_a_schedule_compiles_and_is_inspected(files: tuple[Path, Path]) -> None:
    schedule = files[1]
    done = kernelagent("inspect", schedule, "--json", folder=schedule.parent)
    record = json.loads(done.stdout)
    assert (done.returncode, record["arch"]) == (0, "sm_80")
    assert len(record["kernels"]) == 1
    assert record["kernels"][0]["spill_store_bytes"] == 0
    again = kernelagent("inspect", schedule, "--schedule", folder=schedule.parent)
    assert "\n".join(_bare(again.stdout)) == "\n".join(_bare(schedule.read_text()))


def _bare(text: str) -> list[str]:
    """Lines without comments and blank ones."""
    return [line.split("#")[0].rstrip() for line in text.splitlines() if line.split("#")[0].strip()]
