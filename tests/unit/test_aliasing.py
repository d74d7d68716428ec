"""Arrays that are loaded and stored: iterations, blocks, threads and calls that meet in them are told, others never."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
from kernelagent.dsl.check_schedule import check_schedule
from kernelagent.dsl.check_text import check
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.ir import Kernel
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cpu.loader import check_overlap as check_cpu
from kernelagent.dsl.targets.cuda.loader import Held
from kernelagent.dsl.targets.cuda.loader import check_overlap as check_cuda
from kernelagent.dsl.verify.aliasing import prove as prove_tiles
from kernelagent.dsl.verify.draw import draw as draw_trial
from kernelagent.dsl.verify.proofs import traced
from kernelagent.dsl.verify.records import Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.aliasing import prove_aliasing
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.telling import told
from kernelagent.dsl.verify.trials import run_trial
from support.faults import FOLDER, Program, programs

HEAD = "edition(1)\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))


def read(name: str, kind: str) -> list[Any]:
    records = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))[kind]
    return [pytest.param(r, id=r["name"].replace(" ", "-")) for r in records]


def lines_of(text: str, pieces: list[str]) -> set[int]:
    found = {n for n, line in enumerate(text.splitlines(), 1) for p in pieces if p in line}
    assert all(p in text for p in pieces)
    return found


def aliasing(obligations: tuple[Obligation, ...]) -> set[str]:
    return {o.verdict for o in obligations if o.family == "aliasing"}


def written(file: str) -> list[Any]:
    return [pytest.param(p, id=p.name.replace(" ", "-")) for p in programs(file)]


# Tile level ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", read("aliasing", "fault"))
def test_iterations_that_meet_are_refuted(record: Mapping[str, Any]) -> None:
    text = HEAD + record["text"].lstrip("\n")
    report = check(text, quick=False)
    assert not [d for d in report.diagnostics if d.severity == "error"]
    assert aliasing(report.obligations) == {"REFUTED"}
    (found,) = report.counterexamples
    assert found.family == "aliasing"
    assert set(found.lines) <= lines_of(text, record["lines"])
    assert set(found.lines) & lines_of(text, record["lines"][:1])
    assert found.element is not None
    assert len(found.iterations) == 2
    assert found.array == "x"
    assert told(report.counterexamples, text)[0].count("\n") < 12


@pytest.mark.parametrize("record", read("aliasing", "fault")[:6])
def test_counterexamples_happen_again(record: Mapping[str, Any]) -> None:
    text = HEAD + record["text"].lstrip("\n")
    module, (found,) = parse(text), check(text).counterexamples
    again = run_trial(module, draw_trial(module.entry, **found.replay)).counterexamples
    assert [(c.message, c.lines, c.element) for c in again] == [(found.message, found.lines, found.element)]


@pytest.mark.parametrize("record", read("aliasing_correct", "correct"))
def test_what_keeps_apart_is_never_refuted(record: Mapping[str, Any]) -> None:
    report = check(HEAD + record["text"].lstrip("\n"), quick=False)
    assert report.ok, report.counterexamples or report.diagnostics
    assert aliasing(report.obligations) == ({"PROVED"} if record.get("proved", True) else {"TESTED"})


@pytest.mark.parametrize("record", read("aliasing_refused", "refused"))
def test_what_elaboration_refuses_needs_no_proof(record: Mapping[str, Any]) -> None:
    text = HEAD + record["text"].lstrip("\n")
    with pytest.raises(KernelError) as refusal:
        parse(text)
    found = [(d.code, d.span.line) for d in refusal.value.diagnostics if d.span]
    assert any(c == record["code"] and line in lines_of(text, [record["line"]]) for c, line in found), found


def test_kernels_that_only_read_or_only_write_an_array_say_so() -> None:
    text = HEAD + "@kernel\ndef k(x: In[f32, N], y: Out[f32, N], B=16):\n    for i in tiles((N,), (B,)):\n        "
    report = check(text + "store(y, (i,), load(x, (i,), (B,)))\n")
    (shown,) = [o for o in report.obligations if o.family == "aliasing"]
    assert shown.verdict == "PROVED"
    assert "no array is both loaded and stored" in shown.detail
    assert "In arrays may overlap" in shown.detail


# Law: what is proved never goes wrong in a run ---------------------------------------------------------

ROWS = ("i", "i", "i", "i + 1", "i - 1", "2 * i", "M - 1 - i", "0", "r", "i + r", "r + 1", "M - 1 - r")
COLUMNS = ("j", "j", "j", "j + 2", "j - 1", "2 * j", "i + j", "r", "j + r", "r + 2")
EXTENTS = ("1", "2", "3")


@st.composite
def in_place(draw: st.DrawFn) -> str:
    """A kernel of a square array: a grid, perhaps a loop, loads in front of a store and perhaps behind it."""
    looped = draw(st.booleans())
    steps = draw(st.tuples(*[st.sampled_from(EXTENTS)] * 3))
    rows, columns = (tuple(p for p in places if looped or "r" not in p) for places in (ROWS, COLUMNS))

    def access() -> tuple[str, str]:
        at, extents = [draw(st.sampled_from(rows)), draw(st.sampled_from(columns))], list(steps[:2])
        if draw(st.booleans()):
            extents = [draw(st.sampled_from(EXTENTS)), draw(st.sampled_from(EXTENTS))]
        view = draw(st.sampled_from(("x", "x", "x", "x.T", "x[1:M]")))
        turn = -1 if view == "x.T" else 1
        return f"{view}, ({', '.join(at[::turn])})", f"({', '.join(extents[::turn])})"

    target = access()
    loads = [access() if draw(st.booleans()) else target for _ in range(draw(st.integers(1, 2)))]
    lines = [f"v{n} = load({at}, {shape}, fill=0)" for n, (at, shape) in enumerate(loads)]
    store = f"store({target[0]}, full({target[1]}, 1.0, f32))"
    lines.insert(draw(st.sampled_from((0, len(lines), len(lines)))), store)
    lines += [f"atomic_add(y, (i,), sum(v{n}, axis=1))" for n in range(len(loads))]  # else nobody wants them
    head = f"    for i, j in tiles((M, M), ({steps[0]}, {steps[1]})):\n"
    if looped:
        head += f"        for r in range(0, M, {steps[2]}):\n"
    indent = " " * (12 if looped else 8)
    return f"{HEAD}@kernel\ndef k(x: InOut[f32, M, M], y: Acc[f32, M]):\n{head}" + "".join(
        f"{indent}{line}\n" for line in lines
    )


@settings(max_examples=60, derandomize=True)
@given(in_place())
def test_what_is_proved_holds_in_runs(text: str) -> None:
    try:
        module = parse(text)
    except KernelError:
        return
    assert isinstance(module.entry, Kernel)
    (shown,) = prove_tiles(module.entry)
    if shown.verdict != "PROVED":
        return
    for size in (1, 2, 3, 5, 7):
        found = run_trial(module, draw_trial(module.entry, {"M": size})).counterexamples
        assert not [c for c in found if c.family == "aliasing"], text


# Schedules -------------------------------------------------------------------------------------------


def case_of(program: Program) -> Case:
    module = scheduled(program.text())
    (case,) = cases(module, Choices({}, {}, {}, {}), module.schedule.target)
    return case


@pytest.mark.parametrize("program", written("aliasing_schedules"))
def test_schedules_whose_tiles_or_threads_meet_are_refuted(program: Program) -> None:
    case = case_of(program)
    findings = prove_aliasing(case, "", 3, quick=True)
    assert aliasing(findings.obligations) == {"REFUTED"}
    first = findings.counterexamples[0]
    assert set(first.lines) <= program.numbers((*program.lines, *program.others))
    assert first.element is not None


@pytest.mark.parametrize("program", written("aliasing_schedules")[::4])
def test_they_happen_again_and_are_told_with_the_reason(program: Program) -> None:
    text = program.text()
    report = check_schedule(text, quick=True)
    assert {c.family for c in report.counterexamples} == {"aliasing"}
    first = report.counterexamples[0]
    assert isinstance(first, ScheduleCounterexample)
    assert first.line in first.lines
    module = scheduled(text)
    steps = traced(module, [Choices({}, {}, {}, {})], module.schedule.target, first)
    assert first.why
    assert steps[-2:] == [f"  => {first.message}", f"     {first.why}"]


@pytest.mark.parametrize("program", written("aliasing_schedules_correct"))
def test_schedules_that_keep_apart_are_never_refuted(program: Program) -> None:
    findings = prove_aliasing(case_of(program), "", 3)
    assert not findings.counterexamples
    known = program.base != "rows_in_place"
    assert aliasing(findings.obligations) <= ({"PROVED", "PROVED_BOUNDED"} if known else {"UNKNOWN", "TESTED"})


def test_both_blocks_are_named() -> None:
    program = next(p for p in programs("aliasing_schedules") if p.name == "columns of the tile to the right")
    (found,) = prove_aliasing(case_of(program), "", 3, quick=True).counterexamples
    assert "block 0 (i=0, j=0) and stored by block 1 (i=0, j=128)" in found.message
    assert found.element == (0, 128)


def test_the_family_is_part_of_every_proof() -> None:
    program = next(p for p in programs("aliasing_schedules_correct") if p.base == "halve")
    assert aliasing(prove(case_of(program), quick=True).obligations) == {"PROVED"}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("record", read("aliasing_correct", "correct"))
def test_the_compiler_keeps_them_apart(record: Mapping[str, Any], arch: str) -> None:
    from kernelagent.dsl.level2.module import read_module
    from kernelagent.dsl.verify.proofs import prove_schedules

    module = read_module(HEAD + record["text"].lstrip("\n"))
    findings = prove_schedules(module, [Choices({}, {}, {}, {})], arch, quick=True).findings
    assert not findings.counterexamples
    assert aliasing(findings.obligations) <= {"PROVED", "PROVED_BOUNDED", "TESTED"}


def test_check_for_a_gpu_says_it_of_text_and_schedules() -> None:
    record = tomllib.loads((FOLDER / "aliasing.toml").read_text(encoding="utf-8"))["fault"][0]
    report = check_gpu(HEAD + record["text"].lstrip("\n"), "emu", GpuCalls(arch="sm_90a"))
    assert not report.ok
    assert [c.family for c in report.counterexamples] == ["aliasing"]


# Calls -----------------------------------------------------------------------------------------------

UPDATE = parse(
    HEAD
    + """@kernel
def k(a: In[f32, M, N], b: In[f32, M, N], x: InOut[f32, M, N], y: Out[f32, M, N], BM=8, BN=32):
    for i, j in tiles((M, N), (BM, BN)):
        v = load(a, (i, j), (BM, BN)) + load(b, (i, j), (BM, BN))
        store(y, (i, j), v)
        store(x, (i, j), load(x, (i, j), (BM, BN)) + v)
"""
).entry


def views(**chosen: Any) -> dict[str, Any]:
    """Four arrays of 8 x 16 in memory of their own, but for those chosen."""
    return {n: chosen.get(n, np.zeros((8, 16), np.float32)) for n in ("a", "b", "x", "y")}


BUFFER = np.zeros((40, 32), np.float32)
MEETING: Mapping[str, Mapping[str, Any]] = {
    "an input is the output": {"a": BUFFER[:8, :16], "y": BUFFER[:8, :16]},
    "an input is updated": {"b": BUFFER[:8, :16], "x": BUFFER[:8, :16]},
    "output and updated array": {"x": BUFFER[:8, :16], "y": BUFFER[:8, :16]},
    "one row in common": {"a": BUFFER[:8, :16], "x": BUFFER[7:15, :16]},
    "rows in turn": {"a": BUFFER[:16:2, :16], "y": BUFFER[1:17:2, :16]},
    "rows of two halves side by side": {"a": BUFFER[:8, :16], "y": BUFFER[:8, 16:]},
}
APART: Mapping[str, Mapping[str, Any]] = {
    "nothing in common": {},
    "inputs are one array": {"a": BUFFER[:8, :16], "b": BUFFER[:8, :16]},
    "inputs overlap": {"a": BUFFER[:8, :16], "b": BUFFER[3:11, :16]},
    "an input is one row again and again": {"a": np.broadcast_to(BUFFER[0, :16], (8, 16))},
    "one behind the other": {"a": BUFFER[:8, :16], "x": BUFFER[8:16, :16]},
    "no elements": {n: BUFFER[:0, :16] for n in ("a", "b", "x", "y")},
}


def held(arrays: Mapping[str, Any]) -> dict[str, Held]:
    def one(a: Any) -> Held:
        return Held(a.ctypes.data, a.shape, tuple(s // 4 for s in a.strides), "f32")

    return {n: one(a) for n, a in arrays.items()}


@pytest.mark.parametrize("name", MEETING)
def test_calls_whose_written_arrays_share_memory_are_refused(name: str) -> None:
    with pytest.raises(KernelError, match="shares memory"):
        check_cpu(UPDATE, views(**MEETING[name]))
    with pytest.raises(KernelError, match="shares memory"):
        check_cuda(UPDATE, held(views(**MEETING[name])))


@pytest.mark.parametrize("name", APART)
def test_calls_whose_inputs_share_memory_are_taken(name: str) -> None:
    check_cpu(UPDATE, views(**APART[name]))
    check_cuda(UPDATE, held(views(**APART[name])))
