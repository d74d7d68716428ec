"""GPU kernels on the command line, without a GPU: `check --target cuda|emu` and `inspect`, as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kernelagent.problems import load

from tests.support.cuda import TOOLCHAINS, needs_binary_tools, needs_compiler
from tests.support.gpu_texts import GEMM, SCALED, TWICE

MAIN = "from kernelagent.cli import main; main()"
NO_COMPILER = """
from kernelagent.dsl.targets.cuda import compiler, tools
compiler._find_nvrtc = lambda: None
tools.find_program = lambda name: None
"""
NO_CXX = """
from kernelagent.dsl.targets.emulator import compiler
compiler._candidates = lambda: [("no-such-compiler",)]
"""
NO_WAITS = """
from dataclasses import replace
from kernelagent.dsl.targets.cuda import units
from kernelagent.dsl.targets.emulator import execute

def faulty(*arguments):
    made = units.device_units(*arguments)
    drop = lambda code: replace(code, body=code.body.replace("ka_wait_group<1>();", ""))
    return tuple(replace(u, classes=tuple(map(drop, u.classes))) for u in made)

execute.device_units = faulty
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def kernelagent(*arguments: object, home: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    return subprocess.run(
        [sys.executable, "-c", before + MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment | {"KERNELAGENT_HOME": str(home)},
        check=False,
    )


def record(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of kernel texts."""
    folder = tmp_path_factory.mktemp("kernels")
    texts = {"gemm": GEMM, "twice": TWICE, "scaled": SCALED, "softmax": load("softmax").seed_kernel}
    texts["greedy"] = GEMM.replace("on(cuda, stages=3)", "require(stages=16)")
    texts["wrong"] = TWICE.replace("store(", "stor(")
    for name, text in texts.items():
        (folder / f"{name}.tile").write_text(text)
    return folder


# check --target cuda ---------------------------------------------------------------------------------


@needs_compiler
def test_check_cuda_reports_resources(home: Path, kernels: Path) -> None:
    done = kernelagent("check", kernels / "gemm.tile", "--target", "cuda", "--dtype", "T=bf16", "--json", home=home)
    assert done.returncode == 0, done.stderr
    found = record(done)
    assert found["ok"]
    assert {"verdict", "obligations", "counterexamples", "diagnostics", "seconds"} <= found.keys()
    assert found["resources"]["arch"] == "sm_80"
    assert found["resources"]["compiler"] == TOOLCHAINS[0].identity
    aligned, general = found["resources"]["kernels"]
    assert (aligned["shape_class"], general["shape_class"]) == ("aligned", "general")
    promised = {
        "kernel", "guards", "dims", "threads", "registers", "spill_store_bytes", "spill_load_bytes",
        "static_shared_bytes", "dynamic_shared_bytes", "blocks", "warps", "occupancy", "limiter", "report", "notes",
    }  # fmt: skip
    assert promised <= aligned.keys()
    assert aligned["dynamic_shared_bytes"] == 49152
    assert 0 < aligned["occupancy"] <= 1


@needs_compiler
def test_check_cuda_on_a_problem_prints_a_table(home: Path, kernels: Path) -> None:
    done = kernelagent(
        "check", kernels / "softmax.tile", "--target", "cuda", "--arch", "sm_89", "--problem", "softmax", "--quick",
        home=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "limited by" in done.stdout
    assert "softmax  aligned" in done.stdout


def test_what_the_chip_cannot_do_needs_no_compiler(home: Path, kernels: Path) -> None:
    path = kernels / "greedy.tile"
    done = kernelagent("check", path, "--target", "cuda", "--dtype", "T=bf16", home=home, before=NO_COMPILER)
    assert done.returncode == 1, done.stderr
    assert "error[shared-limit]" in done.stdout
    assert "262144 bytes" in done.stdout
    assert "166912" in done.stdout
    assert "stages=10 is the most that fits" in done.stdout
    assert "greedy.tile:5:5" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    again = kernelagent(
        "check", path, "--target", "emu", "--dtype", "T=bf16", "--json", home=home, before=NO_COMPILER
    )  # fmt: skip
    (diagnostic,) = record(again)["diagnostics"]
    assert again.returncode == 1
    assert diagnostic["code"] == "shared-limit"
    assert diagnostic["line"] == 5
    assert diagnostic["facts"] == {"bytes": 262144, "limit": 166912, "most_stages": 10}


def test_a_missing_compiler_is_exit_3(home: Path, kernels: Path) -> None:
    for command in (["check", "--target", "cuda"], ["inspect"]):
        done = kernelagent(command[0], kernels / "softmax.tile", *command[1:], home=home, before=NO_COMPILER)
        assert done.returncode == 3
        assert "pip install" in done.stderr
        assert "the targets cpu and emu work without it" in done.stderr
        assert "Traceback" not in done.stderr


# check --target emu ----------------------------------------------------------------------------------


def test_check_emu(home: Path, kernels: Path) -> None:
    done = kernelagent("check", kernels / "twice.tile", "--target", "emu", "--json", home=home, before=NO_COMPILER)
    assert done.returncode == 0, done.stderr
    found = record(done)
    assert (found["verdict"], found["semantics"], found["notes"]) == ("PROVED", "", [])
    assert found["counterexamples"] == []
    emulation = next(o for o in found["obligations"] if o["family"] == "emulation")
    assert "late and random" in emulation["detail"]
    assert found["obligations"][-1]["family"] == "translation"


def test_check_emu_on_a_problem(home: Path, kernels: Path) -> None:
    done = kernelagent(
        "check", kernels / "softmax.tile", "--target", "emu", "--problem", "softmax", "--quick", home=home
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TESTED  numeric      agrees with the reference at" in done.stdout
    assert "TESTED  emulation    code for sm_80" in done.stdout
    assert "ok, PROVED (" in done.stdout.splitlines()[-1]
    assert ", agrees with the reference in " in done.stdout.splitlines()[-1]


def test_findings_are_counterexamples(home: Path, kernels: Path) -> None:
    options = ["--target", "emu", "--dtype", "T=bf16", "--quick"]
    done = kernelagent("check", kernels / "gemm.tile", *options, "--json", home=home, before=NO_WAITS)
    assert done.returncode == 1, done.stderr
    found = record(done)
    assert (found["ok"], found["verdict"]) == (False, "REFUTED")
    example = found["counterexamples"][0]
    for key in ("kind", "block", "warp", "lane", "element", "line", "other_line", "message", "completion"):
        assert key in example
    assert example["line"] == 9
    shown = kernelagent("check", kernels / "gemm.tile", *options, home=home, before=NO_WAITS)
    assert shown.returncode == 1
    assert "gemm.tile:9:13" in shown.stdout
    assert "acc += mma(" in shown.stdout
    assert "^^^^^^" in shown.stdout
    assert "wrong, REFUTED" in shown.stdout


def test_a_missing_cxx_compiler_is_exit_3(home: Path, kernels: Path) -> None:
    done = kernelagent("check", kernels / "softmax.tile", "--target", "emu", home=home, before=NO_CXX)
    assert done.returncode == 3
    assert "g++" in done.stderr
    assert "Traceback" not in done.stderr


# inspect ---------------------------------------------------------------------------------------------


@needs_compiler
@needs_binary_tools
def test_inspect_prints_what_the_machine_code_is(home: Path, kernels: Path) -> None:
    done = kernelagent("inspect", kernels / "gemm.tile", "--dtype", "T=bf16", "--arch", "sm_80", home=home)
    assert done.returncode == 0, done.stderr
    for wanted in (
        "gemm: aligned class, which relies on unit_stride(a), aligned(a, 16)", "gemm: general class, for every call",
        "registers", "spills         none", "0 static + 49152 dynamic bytes", "limited by", "HMMA.16816.F32.BF16",
        "(128 bit: 24)", "choice         line 8: stages: 3 (policy)",
    ):  # fmt: skip
        assert wanted in done.stdout


@needs_compiler
@needs_binary_tools
def test_inspect_json(home: Path, kernels: Path) -> None:
    done = kernelagent(
        "inspect", kernels / "scaled.tile", "--dtype", "T=bf16", "--dim", "D=64", "--json", home=home
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = record(done)
    assert {"file", "arch", "compiler", "diagnostics", "kernels"} <= found.keys()
    aligned, general = found["kernels"]
    assert aligned["dims"] == {"D": 64}
    assert any(name.startswith("STG.E.128") for name in aligned["opcodes"])
    assert list(aligned["widths"]["LDG"]) == ["128"]
    assert "128" not in general["widths"]["LDG"]
    assert {"registers", "occupancy", "limiter", "occupancy_limits", "spill_store_bytes"} <= general.keys()


def test_inspect_schedule_and_body_need_no_compiler(home: Path, kernels: Path) -> None:
    path = kernels / "gemm.tile"
    schedule = kernelagent("inspect", path, "--dtype", "T=bf16", "--schedule", home=home, before=NO_COMPILER)
    assert schedule.returncode == 0, schedule.stderr
    assert schedule.stdout.startswith("edition(1)\nlevel(2)\n")
    assert "schedule(sm_80, threads=128" in schedule.stdout
    assert "wait_group(1)  # line 8" in schedule.stdout
    body = kernelagent("inspect", path, "--dtype", "T=bf16", "--body", "--json", home=home, before=NO_COMPILER)
    first, second = record(body)["kernels"]
    assert "ka_mma_m16n8k16_bf16" in first["body"]
    assert "schedule" not in first
    assert second["shape_class"] == "general"


def test_one_schedule_is_a_file(home: Path, kernels: Path, tmp_path: Path) -> None:
    path = kernels / "gemm.tile"
    both = kernelagent("inspect", path, "--dtype", "T=bf16", "--schedule", home=home)
    assert both.stdout.count("level(2)") == 2
    assert "note: these are 2 texts" in both.stderr
    assert "--class aligned or --class general" in both.stderr
    one = kernelagent("inspect", path, "--dtype", "T=bf16", "--schedule", "--class", "general", home=home)
    assert one.stderr == ""
    written = tmp_path / "general.tile"
    written.write_text(one.stdout)
    again = kernelagent("inspect", written, "--schedule", home=home)
    assert again.returncode == 0, again.stdout
    assert 'shape_class("general")' in again.stdout


@needs_compiler
def test_without_a_disassembler_opcodes_are_missing_only(home: Path, kernels: Path) -> None:
    before = "from kernelagent.dsl.targets.cuda import tools\nfind = tools.find_program\n"
    before += "tools.find_program = lambda name: None if name in ('nvdisasm', 'cuobjdump') else find(name)\n"
    done = kernelagent("inspect", kernels / "gemm.tile", "--dtype", "T=bf16", home=home, before=before)
    assert done.returncode == 0, done.stderr
    assert "note: no opcodes: nvdisasm and cuobjdump not found; pip install nvidia-cuda-nvdisasm" in done.stderr
    assert "  registers      2" in done.stdout


def test_inspect_of_every_member_of_a_dim(home: Path, kernels: Path) -> None:
    done = kernelagent("inspect", kernels / "scaled.tile", "--dtype", "T=f16", "--body", "--json", home=home)
    assert [k["dims"] for k in record(done)["kernels"]] == [{"D": 64}] * 2 + [{"D": 128}] * 2


# Misuse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["inspect", "none.tile"], 2, "does not exist"),
        (["inspect", "softmax.tile", "--arch", "sm_8o"], 2, "did you mean sm_8"),
        (["check", "softmax.tile", "--target", "emu", "--arch", "ampere"], 2, "known: sm_80"),
        (["check", "softmax.tile", "--target", "gpu"], 2, "'cpu', 'cuda', 'emu'"),
        (["inspect", "softmax.tile", "--dtype", "T=float16"], 2, "did you mean f16"),
        (["inspect", "softmax.tile", "--dtype", "bf16"], 2, "--dtype T=bf16"),
        (["inspect", "scaled.tile", "--dim", "D=many"], 2, "--dim D=64"),
        (["inspect", "softmax.tile", "--dtype", "X=bf16"], 2, "no dtype variable `X`"),
        (["check", "softmax.tile", "--dtype", "X=bf16"], 2, "no dtype variable `X`"),
        (["inspect", "softmax.tile", "--schedule", "--class", "best"], 2, "there are: aligned, general"),
        (["inspect", "softmax.tile", "--dim", "Q=4"], 2, "no dim `Q`"),
        (["inspect", "scaled.tile", "--dim", "D=63", "--body"], 1, "D in (64, 128)"),
        (["check", "softmax.tile", "--target", "cuda", "--problem", "softmax", "--dtype", "T=bf16"], 2, "leave out"),
    ],
)
def test_wrong_calls(arguments: list[str], code: int, said: str, home: Path, kernels: Path) -> None:
    known = {p.name: str(p) for p in kernels.glob("*.tile")}
    done = kernelagent(*(known.get(a, a) for a in arguments), home=home)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_text_is_exit_1_with_a_caret(home: Path, kernels: Path) -> None:
    path = kernels / "wrong.tile"
    for command in (["inspect"], ["check", "--target", "emu"], ["check", "--target", "cuda"]):
        done = kernelagent(command[0], path, *command[1:], home=home)
        assert done.returncode == 1
        assert "did you mean `store`" in done.stdout
        assert "^^^^" in done.stdout
    found = record(kernelagent("inspect", path, "--json", home=home))
    assert found["kernels"] == []
    assert found["diagnostics"][0]["code"] == "unknown-word"


def test_what_spills_is_refused_with_all_that_is_known(home: Path, kernels: Path, tmp_path: Path) -> None:
    """`inspect` prints registers and opcodes all the same; both commands exit with 1 and point at the line."""
    path = tmp_path / "large.tile"
    gemm = (kernels / "gemm.tile").read_text()
    path.write_text(gemm.replace("    for i, j", "    on(sm_80, BM=256, BN=128, warps=4)\n    for i, j", 1))
    given = (path, "--dtype", "T=bf16", "--arch", "sm_80")
    shown = kernelagent("inspect", *given, home=home)
    assert shown.returncode == 1
    assert "HMMA.16816" in shown.stdout
    assert "error[cuda-spills]" in shown.stdout
    assert "^" in shown.stdout.partition("error[cuda-spills]")[2]
    checked = kernelagent("check", *given, "--target", "cuda", "--json", home=home)
    assert checked.returncode == 1
    found = record(checked)
    assert not found["ok"]
    assert found["diagnostics"][0]["code"] == "cuda-spills"
    assert found["resources"]["kernels"][0]["spill_store_bytes"] > 0
