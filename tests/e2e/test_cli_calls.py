"""Options that would change nothing are refused, and names that are asked for are explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from kernelagent.dsl.catalogue import entries, families
from kernelagent.dsl.verify.records import Family

MAIN = "from kernelagent.cli import main; main()"
DOCS = Path(__file__).parents[2] / "docs" / "proofs.md"
COPY = """edition(1)

@kernel
def copy(x: In[T, R, C], y: Out[T, R, C], BR=4, BC=64):
    for i, j in tiles((R, C), (BR, BC)):
        store(y, (i, j), load(x, (i, j), (BR, BC)))
"""


def kernelagent(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "copy.tile"
    path.write_text(COPY)
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--recheck",), "--recheck is for proofs of schedules"),
        (("--arch", "sm_80"), "add --target cuda, or leave out --arch sm_80"),
        (("--dim", "C=64"), "--dim fixes extents of GPU code only"),
        (("--target", "cuda", "--dim", "C=64"), "no tile has the extent `C`"),
        (("--target", "cuda", "--arch", "sm_77"), "known: sm_80, sm_86, sm_89, sm_90a"),
    ],
)
def test_options_that_say_nothing_are_refused(arguments: tuple[str, ...], said: str, kernel: Path) -> None:
    done = kernelagent("check", kernel, *arguments, folder=kernel.parent)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_architecture_than_the_schedules_is_refused(kernel: Path) -> None:
    arguments = ("--dtype", "T=bf16", "--arch", "sm_80", "--schedule")
    printed = kernelagent("inspect", kernel, *arguments, folder=kernel.parent)
    assert printed.returncode == 0, printed.stderr
    kernel.write_text(printed.stdout)
    done = kernelagent("check", kernel, "--arch", "sm_90a", folder=kernel.parent)
    assert done.returncode == 2
    assert "the schedule is for sm_80, not sm_90a" in done.stderr


def test_a_kernels_counterexample_has_no_trace(kernel: Path) -> None:
    kernel.write_text(COPY.replace("tiles((R, C)", "tiles((R, C - 1)"))
    done = kernelagent("check", kernel, "--trace", 1, folder=kernel.parent)
    assert done.returncode == 2
    assert "[1] is of the kernel of tiles" in done.stderr
    assert "only schedules have a trace" in done.stderr


def test_families_are_explained(tmp_path: Path) -> None:
    done = kernelagent("explain", "races", folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "races: a family of proofs; it holds when")
    assert families().keys() == set(get_args(Family))


@pytest.mark.parametrize("name", sorted(families().keys() & entries().keys()))
def test_a_name_of_both_is_explained_as_both(name: str, tmp_path: Path) -> None:
    done = kernelagent("explain", name, folder=tmp_path)
    assert done.returncode == 0
    assert entries()[name].title in done.stdout
    assert f"{name}: a family of proofs" in done.stdout


@pytest.mark.parametrize(("word", "said"), [("bound", "did you mean 'bounds'?"), ("quux", "lists all codes")])
def test_only_near_names_are_suggested(word: str, said: str, tmp_path: Path) -> None:
    done = kernelagent("explain", word, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_families_say_what_the_documentation_says() -> None:
    rows = re.findall(r"^\| (`[a-z`, ]+`) \| (.+) \|$", DOCS.read_text().split("## Which verdict")[0], re.MULTILINE)
    told = {name: text.removesuffix(" (below)") for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(told) > 15
    assert told.items() <= families().items()


def test_every_verdict_level_and_status_is_explained() -> None:
    from kernelagent.dsl.verify.records import _LEVELS, Verdict
    from kernelagent.harness.records import Status

    from kernelagent.cli.explain import STATUSES, VERDICTS

    assert {*get_args(Verdict), *_LEVELS} - {""} == set(VERDICTS)
    assert {*get_args(Status)} - set(VERDICTS) == set(STATUSES)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("PROVED_BOUNDED", "for the sizes that the detail names"),
        ("field_tested(3)", "finite fields"),
        ("untimed", "there is no device"),
        ("BOUNDS", "every coordinate of every access lies inside its array"),
    ],
)
def test_words_of_reports_are_explained_however_they_are_written(word: str, said: str, tmp_path: Path) -> None:
    done = kernelagent("explain", word, folder=tmp_path)
    assert done.returncode == 0
    assert said in done.stdout


def test_the_list_of_codes_ends_with_families_verdicts_and_statuses(tmp_path: Path) -> None:
    shown = kernelagent("explain", folder=tmp_path).stdout
    assert "families of proofs: bounds, overflow" in shown
    assert "verdicts: PROVED, PROVED_BOUNDED" in shown
    assert "statuses of trials: PASSED" in shown


def test_arrays_of_another_problem_are_told_with_the_problems_own(kernel: Path) -> None:
    done = kernelagent("check", kernel.name, "--problem", "gemm_nt", folder=kernel.parent)
    assert done.returncode == 1
    assert "the arrays of gemm_nt are: a, b, c; they are bound by name" in done.stdout


def test_a_gap_says_what_is_stored_and_where(kernel: Path) -> None:
    kernel.write_text(COPY.replace("store(y, (i, j)", "store(y, (i, j + 1)"))
    done = kernelagent("check", kernel.name, folder=kernel.parent)
    assert done.returncode == 1
    assert re.search(r"why: line 6 stores \[0\.\.\d+, 1\.\.\d+\] of \[0\.\.\d+, 0\.\.\d+\]", done.stdout)
