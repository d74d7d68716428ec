"""Findings of the emulator: records, grouping, places, sentences. Nothing is compiled here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kernelagent.dsl.device import SharedBuffer, Swizzle, stage_bytes
from kernelagent.dsl.targets.emulator.compiler import NoCxxCompiler, find_cxx
from kernelagent.dsl.targets.emulator.facts import shared_place
from kernelagent.dsl.targets.emulator.messages import _SENTENCES
from kernelagent.dsl.targets.emulator.report import MOST_OF_A_KIND, EmulatorReport, findings_from


def record(kind: str, **values: Any) -> dict[str, Any]:
    """As the runner prints it."""
    plain: dict[str, Any] = {
        "kind": kind, "detail": "", "call": "ka_lds", "block": 2, "thread": 37, "line": 9, "array": -1, "at": -1,
        "bytes": 4, "coordinates": [], "other_block": -1, "other_thread": -1, "other_line": 0, "number": 0,
        "waits": [], "count": 1,
    }  # fmt: skip
    return plain | values


def test_a_record_becomes_a_finding_with_names_warps_and_lanes() -> None:
    raw = record("global-out-of-bounds", array=1, coordinates=[3, 70], count=12)
    (found,) = findings_from([raw], ["a", "b"], [])
    assert (found.array, found.coordinates, found.place) == ("b", (3, 70), "b[3, 70]")
    assert (found.block, found.thread, found.warp, found.lane) == (2, 37, 1, 5)
    assert (found.occurrences, found.shared_offset, found.other_line, found.severity) == (12, None, None, "error")
    assert found.message == "ka_lds of thread 37 of block 2 touches b[3, 70]"


def test_a_race_names_both_parties() -> None:
    raw = record("race", detail="read-write", at=64, other_thread=3, other_line=7, other_block=2)
    (found,) = findings_from([raw], [], [SharedBuffer("tile", "f32", (4, 8))])
    assert (found.line, found.other_line, found.other_thread, found.shared_offset) == (9, 7, 3, 64)
    assert "shared byte 64 (tile[2, 0])" in found.message
    assert "thread 3 reads at line 7" in found.message


def test_of_each_kind_the_most_frequent_groups_are_kept_in_the_order_of_the_run() -> None:
    raw = [record("misaligned", detail="shared", at=i, line=i, count=i, number=16) for i in range(1, 11)]
    raw.append(record("divergence", detail="warp", other_thread=1, other_line=3))
    found = findings_from(raw, [], [])
    kept = [f for f in found if f.kind == "misaligned"]
    assert [f.line for f in kept] == list(range(11 - MOST_OF_A_KIND, 11))
    assert sum(f.omitted for f in kept) == 10 - MOST_OF_A_KIND
    assert found[-1].kind == "divergence"


def test_notes_do_not_make_a_report_fail() -> None:
    (note,) = findings_from([record("unwaited-copy")], [], [])
    assert note.severity == "note"
    assert EmulatorReport((), 0.1, 0.0, notes=(note,)).ok
    assert not EmulatorReport((note,), 0.1, 0.0).ok


def test_a_report_is_plain_data() -> None:
    found = findings_from([record("race", detail="write-read", at=0)], [], [])
    text = json.dumps(EmulatorReport(tuple(found), 0.1, 0.0).to_dict())
    assert json.loads(text)["findings"][0]["warp"] == 1


def test_a_deadlock_says_who_waits_where() -> None:
    waits = [["ka_barrier", 9, 96, 0, 2, ""], ["return", 0, 1, 96, 2, ""], ["ka_shfl", 4, 31, 97, 2, ""]]
    (found,) = findings_from([record("deadlock", waits=waits)], [], [])
    assert found.message == (
        "block 2 can never go on: 96 threads from 0 on wait in ka_barrier (line 9); thread 96 has returned; "
        "31 threads from 97 on wait in ka_shfl (line 4)"
    )


@pytest.mark.parametrize("kind", sorted(_SENTENCES))
def test_every_kind_says_a_sentence(kind: str) -> None:
    details = {
        "race": "write-write", "global-race": "read-write", "block-race": "write-read", "missing-wait": "bulk",
        "overwrite-in-flight": "wgmma", "missing-proxy-fence": "read", "barrier-init": "unseen",
        "barrier-count": "arrivals", "transaction-bytes": "fewer", "exit-in-flight": "arrive",
        "register-in-flight": "read", "register-count": "step",
    }  # fmt: skip
    raw = record(
        kind, detail=details.get(kind, ""), at=8, array=0, coordinates=[1], number=11, other_thread=2, other_block=1
    )
    (found,) = findings_from([raw], ["x"], [])
    assert "None" not in found.message
    assert "-1" not in found.message


# Places in shared memory ------------------------------------------------------------------------------------

SWIZZLED = SharedBuffer("a", "bf16", (128, 32), stages=3, swizzle=Swizzle(2, 3, 3), offset=1024)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_byte_of_a_swizzled_stage_leads_to_its_element(stage: int) -> None:
    for row in range(0, 128, 7):
        for column in range(0, 32, 5):
            moved = row * 32 + (column ^ ((row >> 1 & 3) << 3))
            at = 1024 + stage * stage_bytes(SWIZZLED) + moved * 2
            assert shared_place(at, [SWIZZLED]) == f"a[{stage}][{row}, {column}]"


def test_padding_counts_and_overlapping_buffers_are_all_named() -> None:
    padded = SharedBuffer("p", "f32", (4, 8), pad=1)
    scratch = SharedBuffer("s", "f32", (16,))
    assert shared_place(9 * 4, [padded, scratch]) == "p[1, 0] or s[9]"
    assert shared_place(35 * 4, [padded, scratch]) == "p[3, 8]"  # a pad
    assert shared_place(4096, [padded, scratch]) == ""


def test_a_missing_compiler_says_what_to_install() -> None:
    with pytest.raises(NoCxxCompiler, match=r"no C\+\+ compiler found \(tried no-such-compiler\).*install g\+\+"):
        find_cxx("no-such-compiler")
