"""Texts made to exhaust the proofs end in UNKNOWN, in time and in memory; nothing that was not run is proved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.schedule.budget import Exhausted, deadline, exhausted, spend, within
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove
from support.level2_texts import TEXTS
from support.nasty_texts import ONE, SEVEN, TWO, level_two


def proved(source: str) -> Findings:
    module = read_module(source)
    return prove(next(cases(module, Choices({}, {}, {}, {}), module.schedule.target)))  # type: ignore[attr-defined]


LIMITS = """
import json, resource, sys, time
from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.check_gpu import GpuCalls, _of_schedules, _of_text
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.verify.schedule.budget import deadline

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # numpy and z3 reserve more than they use
for text in json.loads(sys.stdin.read()):
    begin, calls = time.process_time(), GpuCalls(arch="sm_80", proofs="recheck")
    with deadline(1.0):
        report = _of_text(text, calls, None, False, None)
        try:
            report = _of_schedules(text, calls, report, False) if report.ok else report
        except KernelError as error:
            report = CheckReport(False, "UNKNOWN", (), (), error.diagnostics)
    verdicts = sorted({o.verdict for o in report.obligations})
    said = [o.family for o in report.obligations if o.verdict == "UNKNOWN" and not o.detail]
    codes = sorted({d.code for d in report.diagnostics})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    told = [report.verdict, verdicts, codes, said, len(report.diagnostics)]
    print(json.dumps([time.process_time() - begin, peak, *told]), flush=True)
"""
SECONDS, BYTES = 20, 2 << 30
SHARES = 2
"""Texts are checked by so many processes, one behind the other: what one leaves in memory counts for the next."""


def checked(texts: list[str]) -> list[list[Any]]:
    """[seconds of CPU, peak bytes, verdict, verdicts of obligations, codes, families open without a reason, how many
    diagnostics] of each text, in one process."""
    run = subprocess.run([sys.executable, "-c", LIMITS], input=json.dumps(texts), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


EVERY = {**{f"level one, {n}": t for n, t in ONE.items()}, **{f"level two, {n}": t for n, t in TWO.items()}}


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("share", range(SHARES))
def test_what_cannot_be_shown_is_unknown_or_refused(share: int) -> None:
    names = list(EVERY)[share::SHARES]
    found = dict(zip(names, checked([EVERY[n] for n in names]), strict=True))
    assert {n: f for n, f in found.items() if f[0] > SECONDS or f[1] > BYTES} == {}
    assert {n: f[5] for n, f in found.items() if f[5]} == {}, "what is open says why"
    sizes = {"too-large", "cuda-spills"}
    assert {n: f[4] for n, f in found.items() if not f[3] and sizes.isdisjoint(f[4])} == {}, "refused for its size"
    long = {n: f[6] for n, f in found.items() if f[6] > 20 and "assume-narrows" not in f[4]}
    assert long == {}, "as much as a person reads"
    for name, (_, _, verdict, *_) in found.items():
        if "thousand million" in name or "loops in loops" in name:  # an index that does not fit its bits is refuted
            assert verdict in ("UNKNOWN", "REFUTED"), name


def test_many_symbols_are_no_obstacle() -> None:
    source = level_two(
        f"x: In[f32, {SEVEN}, N], y: Out[f32, {SEVEN}, N]",
        f"    for a, b, c, d, e, f, g, j in tiles(({SEVEN}, N), (1, 1, 1, 1, 1, 1, 1, 32)):\n"
        "        store(y[a, b, c, d, e, f], (g, j), load(x[a, b, c, d, e, f], (g, j), row, fill=0.0))\n",
    )
    found = proved(source)
    assert {o.verdict for o in found.obligations} == {"PROVED"}


def test_a_spent_budget_proves_nothing_that_needs_runs() -> None:
    with within(work=20):
        found = proved(TEXTS["gemm"])
    open_ = {o.family for o in found.obligations if o.verdict == "UNKNOWN"}
    assert {"races", "definedness", "completion", "flow"} <= open_
    assert not found.counterexamples


def test_work_is_counted_and_free_outside() -> None:
    spend(1 << 40)
    with within(work=10) as budget:
        spend(10)
        assert not exhausted()
        with pytest.raises(Exhausted, match="more work"):
            spend()
        assert exhausted()
        assert budget.reason
    assert not exhausted()


def test_the_schedules_of_a_text_share_the_time() -> None:
    with deadline(0.0), within() as first:
        assert exhausted()
        assert "more time" in first.reason
    with deadline(0.0), deadline(60.0), within():
        assert exhausted()  # the outer one ends first
    with within():
        assert not exhausted()
