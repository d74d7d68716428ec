"""Recorded answers for sm_90a and schedules changed by hand: accepted at the end, refused with what was said before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.level2 import is_level_two, parse_schedule, verify
from support.cuda import needs_compiler

import kernelagent

REPLAYS = Path(__file__).parent.parent / "fixtures" / "replays"
KERNELS = sorted((REPLAYS / "sm_90a").glob("*.jsonl"))
SCHEDULES = sorted((REPLAYS / "schedules").glob("*.jsonl"))
COMPILED = ("softmax_bf16",)
PROVED = ("gemm_nt", "softmax", "transpose")
EARLY = frozenset({"shared-limit", "carried-live-shrinks", "bulk-store-pending", "arrivals"})
"""Codes of mistakes that are seen without a proof or a compiler."""


def attempts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(attempt: dict[str, Any]) -> kernelagent.CheckReport:
    call = dict(attempt["call"])
    if "against" in call:
        call["against"] = attempts(REPLAYS / f"{call['against']}.jsonl")[-1]["text"]
    return kernelagent.check(attempt["text"], quick=True, **call)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))


def test_the_replays_are_there() -> None:
    assert (len(KERNELS), len(SCHEDULES)) == (13, 6)
    assert set(COMPILED) <= {path.stem for path in KERNELS}
    assert set(PROVED) <= {path.stem for path in SCHEDULES}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_the_last_kernel_is_a_kernel(path: Path) -> None:
    last = attempts(path)[-1]
    report = kernelagent.check(last["text"], quick=True, dtypes=last["call"].get("dtypes"))
    assert report.ok, report


@needs_compiler
@pytest.mark.parametrize("name", COMPILED)
def test_the_last_kernel_is_proved_and_compiled(name: str) -> None:
    report = check(attempts(REPLAYS / "sm_90a" / f"{name}.jsonl")[-1])
    assert report.ok, report
    assert report.verdict in ("PROVED", "PROVED_BOUNDED", "TESTED")


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda path: path.stem)
def test_the_last_schedule_keeps_the_rules(path: Path) -> None:
    text = attempts(path)[-1]["text"]
    assert is_level_two(text)
    verify(parse_schedule(text))


@pytest.mark.parametrize("name", PROVED)
def test_the_last_schedule_has_its_kernels_values(name: str) -> None:
    last = attempts(REPLAYS / "schedules" / f"{name}.jsonl")[-1]
    report = check({**last, "call": {"against": last["call"]["against"]}})
    assert report.ok, report
    assert report.verdict in ("PROVED", "PROVED_BOUNDED", "TESTED")


def early() -> list[Any]:
    paths = [*KERNELS, *SCHEDULES, REPLAYS / "schedules" / "wrong" / "edits.jsonl"]
    found = [(f"{p.stem}-{n}", a) for p in paths for n, a in enumerate(attempts(p)) if EARLY & set(a["said"])]
    return [pytest.param(a, id=name) for name, a in found]


@pytest.mark.parametrize("attempt", early())
def test_mistakes_are_refused_with_the_code_that_was_said(attempt: dict[str, Any]) -> None:
    report = check(attempt)
    assert not report.ok
    assert {d.code for d in report.diagnostics if d.severity == "error"} == set(attempt["said"])
    assert all(d.hint for d in report.diagnostics if d.severity == "error")
