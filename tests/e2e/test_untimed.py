"""`optimize run --target cuda` without a device, as a person meets it: the whole road, everything labelled UNTIMED."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cuda import needs_compiler

ROOT = Path(__file__).resolve().parents[2]
PROBLEM = "docs/ladder/gemm_hopper/problem.py"
NO_COMPILER = """
from kernelagent.dsl.targets.cuda import compiler, tools
compiler._find_nvrtc = lambda: None
tools.find_program = lambda name: None
"""


def kernelagent(*arguments: str, home: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    return subprocess.run(
        [sys.executable, "-c", before + "from kernelagent.cli import main; main()", *arguments],
        capture_output=True, text=True, timeout=280, cwd=ROOT, check=False,
        env=environment | {"KERNELAGENT_HOME": str(home)},
    )  # fmt: skip


@needs_compiler
def test_the_whole_road(tmp_path: Path) -> None:
    """One run, then everything that shows it: it takes a while, since all caches are empty."""
    done = kernelagent("optimize", "run", PROBLEM, "--target", "cuda", "--trials", "1", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    the_promised_keys_hold_no_time(record)
    the_first_trial_reaches_the_roles_of_hopper(record, tmp_path)
    every_view_is_labelled(record, tmp_path)
    the_readme_shows_what_is_printed(done.stderr)


def the_promised_keys_hold_no_time(record: dict[str, Any]) -> None:
    assert record["target"] == "cuda"
    assert record["chip"] == "h100-sxm"
    assert record["untimed"] is True
    assert record["sol"]["bound"] == "matrix"
    assert record["sol"]["time_ms"] == pytest.approx(1.111, abs=1e-3)
    assert (record["ceiling"], record["baselines"], record["trials"]) == (None, [], 1)
    best = record["best"]
    assert (best["status"], best["time_ms"], best["speedup"], best["score"]) == ("UNTIMED", None, {}, None)
    assert best["proofs"]["PROVED"] >= 5
    assert best["confirmed"]
    assert best["estimate"]["time_ms"] > record["sol"]["time_ms"]
    assert "on(sm_90a" in Path(best["text_path"]).read_text(encoding="utf-8")


def the_first_trial_reaches_the_roles_of_hopper(record: dict[str, Any], home: Path) -> None:
    shown = json.loads(kernelagent("runs", "show", record["run"], "--json", home=home).stdout)
    estimates = [t["estimate_ms"] for t in shown["trials"]]
    assert {t["status"] for t in shown["trials"]} == {"UNTIMED"}
    assert {t["time_ms"] for t in shown["trials"]} == {None}
    assert min(estimates) < 0.3 * estimates[0]


def every_view_is_labelled(record: dict[str, Any], home: Path) -> None:
    shown = kernelagent("runs", "show", record["run"], home=home).stdout
    assert "UNTIMED: ms are estimates of a static model" in shown
    assert shown.count("est. ") == 2
    assert "UNTIMED" in kernelagent("runs", "list", home=home).stdout
    board = kernelagent("leaderboard", home=home).stdout
    assert "UNTIMED: no device was at hand" in board
    assert "| estimate ms |" in board
    stats = json.loads(kernelagent("kb", "stats", "--json", home=home).stdout)
    assert stats["statuses"] == {"UNTIMED": 2}
    assert stats["gains"] == []


def the_readme_shows_what_is_printed(stderr: str) -> None:
    """Lines up to their figures; those that end in dots up to there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"kernelagent optimize run {PROBLEM} --target cuda" in text
    shown = re.search(r"<!-- untimed -->\n```text\n(.*?)```", text, flags=re.DOTALL)
    assert shown is not None
    printed = [_plain(line) for line in stderr.splitlines()]
    for line in shown.group(1).splitlines():
        start = _plain(line.removesuffix(" ..."))
        assert any(p.startswith(start) for p in printed), (line, printed)


def _plain(line: str) -> str:
    """Figures and widths may change with the compiler."""
    return re.sub(r"\s+", " ", re.sub(r"\d+\.\d+", "N", line))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--target", "cuda", "--chip", "h101"), 2, "did you mean h100"),
        (("--target", "cuda", "--chip", "b200"), 2, "no target for b200"),
        (("--target", "cuda", "--chip", "h100", "--arch", "sm_80"), 2, "not of sm_80"),
        (("--target", "cuda", "--arch", "sm_70"), 2, "no chip has the architecture"),
        (("--chip", "h100"), 2, "add --target cuda"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    wrong = kernelagent("optimize", "run", PROBLEM, *arguments, "--trials", "1", home=tmp_path)
    assert wrong.returncode == code, wrong.stderr
    assert said in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_without_a_compiler_nothing_is_claimed(tmp_path: Path) -> None:
    lacking = kernelagent("optimize", "run", PROBLEM, "--target", "cuda", home=tmp_path, before=NO_COMPILER)
    assert lacking.returncode == 3, lacking.stderr
    assert "Traceback" not in lacking.stderr
