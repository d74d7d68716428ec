"""Barrier protocols: every schedule of the compiler proved for all trip counts, and correct oddities never refuted."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.index import Compare, index
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units
from kernelagent.dsl.verify.schedule.protocol import prove_protocol
from support.gpu_cases import CASES
from support.level2_kernels import codes
from support.level2_texts import TEXTS
from support.protocol_faults import N, kernel, twice
from support.schedule_edits import edited

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"
FIXTURES = Path(__file__).parents[1] / "fixtures" / "faults"
HOPPER = TEXTS["hopper"]


def verdicts(schedule: dev.DeviceKernel) -> dict[str, str]:
    found = prove_protocol(schedule)
    assert not found.counterexamples, found.counterexamples
    return {o.family: o.verdict for o in found.obligations}


PROVED = {"uniformity": "PROVED", "protocol": "PROVED"}


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_every_kernel_is_proved_for_every_trip_count(name: str) -> None:
    for code in codes(name, "sm_90a"):
        assert verdicts(code.schedule) == PROVED


@pytest.mark.parametrize("path", sorted(LADDER.glob("*.tile")), ids=lambda p: p.stem)
def test_every_rung_of_the_ladder_is_proved(path: Path) -> None:
    module = parse(path.read_text(encoding="utf-8"))
    choices = Choices(dict.fromkeys(module.entry.dtype_variables, "bf16"), {}, {}, {})
    for code in device_units(module, choices, "sm_90a")[0].classes:
        assert verdicts(code.schedule) == PROVED


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"ping pong"}))
def test_every_text_is_proved(name: str) -> None:
    assert verdicts(kernel(name)) == PROVED


def test_what_has_no_closed_search_is_proved_for_named_launches() -> None:
    """Stages that are counted from sizes: `t * cdiv(K, 64) + k // 64`."""
    found = prove_protocol(kernel("ping pong"))
    (obligation,) = [o for o in found.obligations if o.family == "protocol"]
    assert obligation.verdict == "PROVED_BOUNDED"
    assert "launches" in obligation.detail
    assert "K=448" in obligation.detail


# Tricky and correct -----------------------------------------------------------------------------------


def ring(stages: int) -> str:
    """The guide's kernel with another depth."""
    size, first = 16384 * stages, 32768 * stages
    text = (
        HOPPER.replace("% 4]", f"% {stages}]")
        .replace("n // 4", f"n // {stages}")
        .replace("stages=4", f"stages={stages}")
    )
    text = text.replace("panel=64, offset=65536", f"panel=64, offset={size}").replace(
        "offset=131072", f"offset={first}"
    )
    text = text.replace("offset=163840", f"offset={first + 32768}")
    return text.replace("offset=163872", f"offset={first + 32768 + 8 * stages}")


@pytest.mark.parametrize("stages", [1, 2, 3, 6])
def test_a_ring_of_any_depth(stages: int) -> None:
    assert verdicts(parse_schedule(ring(stages))) == PROVED


def test_a_wait_more_than_needed() -> None:
    assert verdicts(twice(dev.WaitPhase, "consumer")(kernel("hopper"))) == PROVED
    assert verdicts(twice(dev.WaitPhase, "producer")(kernel("hopper"))) == PROVED


def test_the_first_round_need_not_wait() -> None:
    def edit(s: dev.Statement) -> tuple[dev.Statement, ...] | None:
        later = Compare(">=", N, index(4))
        return (dev.If(later, (s,), (), (), s.origin),) if isinstance(s, dev.WaitPhase) else None

    assert verdicts(edited(kernel("hopper"), edit, "producer")) == PROVED


def test_a_stage_may_be_given_back_an_iteration_late() -> None:
    late = HOPPER.replace(
        "                wgmma_wait(0)\n                arrive(free[n % 4])\n",
        """                wgmma_wait(1)
                if k > 0:
                    arrive(free[(n + 3) % 4])
            wgmma_wait(0)
            if 0 < K:
                arrive(free[(n + 3) % 4])
""",
    )
    assert verdicts(parse_schedule(late)) == PROVED


def test_a_tile_of_no_iterations_in_one_block_only() -> None:
    """The rows decide how far a block of a cluster goes; its partner may go further, and both still meet."""
    single = kernel("cluster")
    shared = edited(
        single, lambda s: (replace(s, shared_by=1),) if isinstance(s, dev.CopyBulk) and s.shared_by == 2 else None
    )
    own = edited(shared, lambda s: (replace(s, everywhere=False),) if isinstance(s, dev.Arrive) else None)
    barriers = tuple(replace(b, arrivals=4) if b.name == "free" else b for b in own.barriers)
    assert verdicts(replace(own, barriers=barriers)) == PROVED


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("hopper_*.tile")), ids=lambda p: p.stem)
def test_programs_written_from_the_specification_are_never_refuted(path: Path) -> None:
    assert "REFUTED" not in verdicts(parse_schedule(path.read_text(encoding="utf-8"))).values()


CORRECT = tomllib.loads((FIXTURES / "hopper_correct.toml").read_text(encoding="utf-8"))["program"]


@pytest.mark.parametrize("program", CORRECT, ids=lambda p: p["name"])
def test_correct_programs_written_from_the_specification_are_never_refuted(program: dict[str, object]) -> None:
    text = (FIXTURES / f"{program['base']}.tile").read_text(encoding="utf-8")
    for change in program.get("edits", []):  # type: ignore[attr-defined]
        if change.get("body"):
            pytest.skip("an edit of emitted code")
        assert change["old"] in text
        text = text.replace(change["old"], change["new"])
    assert "REFUTED" not in verdicts(parse_schedule(text)).values()
