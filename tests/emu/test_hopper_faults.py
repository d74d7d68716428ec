"""One change to a correct Hopper product for each way to get it wrong: the kind, the line, in every completion mode."""

from __future__ import annotations

import pytest
from kernelagent.dsl.targets.emulator import EmulatorReport
from kernelagent.dsl.targets.emulator.launch import Completion
from support.emulated import COMPLETIONS
from support.hopper_bodies import ALONE, ROLE_BARRIER, TOGETHER, gemm

Place = tuple[str, int]


def lines(report: EmulatorReport) -> set[Place]:
    """Kind and line of all findings, and a deadlock's second line."""
    found = {(f.kind, f.line) for f in report.findings}
    return found | {(f.kind, f.other_line) for f in report.findings if f.kind == "deadlock" and f.other_line}


def one(*places: Place) -> set[Place]:
    return set(places)


LOADS = one(*(("overwrite-in-flight", n) for n in (32, 33, 34)))
WAIT, ARRIVE = "ka_wgmma_wait<0>();", "if (lane == 0) { ka_mbar_arrive(EMPTY + 8 * s); }"

# What is replaced, by what, and findings of which at least one comes in each mode.
FAULTS: dict[str, tuple[str, str, set[Place]]] = {
    "consumer's parity never flips": ("i / 3 & 1);", "0);", {*one(("missing-wait", 52), ("deadlock", 50)), *LOADS}),
    "consumer's first parity": ("i / 3 & 1);", "(i / 3 & 1) ^ 1);", one(("missing-wait", 52), ("deadlock", 50))),
    "producer's parity never flips": ("(i / 3 & 1) ^ 1", "1", LOADS),
    "producer's first parity": ("(i / 3 & 1) ^ 1", "i / 3 & 1", one(("deadlock", 30))),
    "full barrier counts one too many": ("(FULL + 8 * s, 1);", "(FULL + 8 * s, 2);", one(("deadlock", 50))),
    "empty barrier counts one too many": ("8 * 1);", "9);", one(("deadlock", 30))),
    "empty barrier counts one consumer only": ("8 * 1);", "4);", LOADS),
    "all lanes arrive": (ARRIVE, ARRIVE.replace("if (lane == 0)", ""), LOADS),
    "stage released before its products are waited for": (WAIT, "ka_wgmma_wait<1>();", LOADS),
    "wait behind the release": (f'{WAIT}\n#line 55 "kernel"\n', "", LOADS),
    "too few bytes expected": ("32768", "16384", one(("transaction-bytes", 31))),
    "too many bytes expected": ("32768", "32784", one(("transaction-bytes", 31))),
    "barriers used before their init is seen": ('#line 13 "kernel"\n    ka_barrier();', "", one(("barrier-init", 50))),
    "inits not fenced": ("ka_mbar_fence_init();", "", one(("barrier-init", 32))),
    "one barrier initialised for all stages": ("EMPTY + 8 * s, 8", "EMPTY, 8", one(("barrier-init", 11))),
    "no proxy fence before the store": ("ka_fence_async();", "", one(("missing-proxy-fence", 65))),
    "no barrier before the store": (f'#line 64 "kernel"\n            {ROLE_BARRIER}', "", one(("race", 65))),
    "no barrier behind the wait for the store": (
        f'#line 61 "kernel"\n            {ROLE_BARRIER}', "", one(("overwrite-in-flight", 62)),
    ),
    "store not waited for before the next tile": (
        '#line 60 "kernel"\n            if (tid % 128 == 0) ka_tma_wait_read<0>();', "",
        one(("overwrite-in-flight", 62)),
    ),
    "store not committed": ("ka_tma_commit();", "", one(("exit-in-flight", 66))),
    "store not waited for at the end": (
        '#line 70 "kernel"\n        if (tid % 128 == 0) ka_tma_wait_read<0>();', "", one(("exit-in-flight", 66)),
    ),
    "block barrier in one role": (f'#line 61 "kernel"\n            {ROLE_BARRIER}', '#line 61 "kernel"\n ka_barrier();',
                                  one(("deadlock", 61))),
    "producer makes one step less": ("k < steps; k++, i++) {\n                    const",
                                     "k < steps - 1; k++, i++) {\n                    const", one(("deadlock", 50))),
    "consumers make one step less": ("k < steps; k++, i++) {\n                const",
                                     "k < steps - 1; k++, i++) {\n                const", one(("exit-in-flight", 34))),
    "products never waited for": (WAIT, "", one(("register-in-flight", 62))),
    "products never committed": ("ka_wgmma_commit();", "", one(("register-in-flight", 62))),
    "no wgmma fence": ("ka_wgmma_fence();", "", one(("missing-wgmma-fence", 52))),
    "accumulator changed in flight": ("ka_wgmma_commit();", "ka_wgmma_commit(); acc[3] += 1.0f;",
                                      one(("register-in-flight", 54))),
    "registers do not add up": ("more<232>", "more<240>", one(("register-count", 40))),
    "registers in no step of 8": ("less<40>", "less<36>", one(("register-count", 20))),
    "more registers that are fewer": ("more<232>", "more<160>", one(("register-count", 40))),
    "descriptor with another swizzle": ("ka_descriptor<128>(s * 16384 + wg", "ka_descriptor<64>(s * 16384 + wg",
                                        one(("torn-matrix", 52))),
    "descriptor with half the distance": ("j * 32, 0, 1024", "j * 32, 0, 512", one(("overlapping-tile", 52))),
    "operand with the other major": ("<0, 1>(acc", "<0, 0>(acc", one(("torn-matrix", 52))),
    "products of the next stage": ("B + s * 16384 + j", "B + (s + 1) % 3 * 16384 + j", one(("missing-wait", 52))),
    "epilogue over a stage in use": ("C = 98304", "C = 65536", one(("overwrite-in-flight", 62))),
    "a warp leaves the group": ("ka_wgmma_fence();", "if (warp % 4 != 3) ka_wgmma_fence();", one(("divergence", 52))),
    "box off its alignment": ("ka_tma_load<2>(s * 16384, ", "ka_tma_load<2>(s * 16384 + 64, ", one(("misaligned", 32))),
    "coordinates for another rank": ("ka_tma_load<2>(s * 16384, map_a, FULL + 8 * s, k * 64, m0)",
                                     "ka_tma_load<1>(s * 16384, map_a, FULL + 8 * s, k * 64)", one(("box-rank", 32))),
}  # fmt: skip


@pytest.mark.parametrize("completion", COMPLETIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_block_is_found_at_its_line(name: str, completion: Completion) -> None:
    old, new, expected = FAULTS[name]
    assert old in ALONE
    report, _, _ = gemm(ALONE.replace(old, new), (256, 128, 256), completion, blocks=1, seconds_limit=10)
    assert expected & lines(report), report.findings
    assert "timeout" not in report.kinds()


OTHER = "ka_mbar_arrive_at(EMPTY + 8 * s, 0); ka_mbar_arrive_at(EMPTY + 8 * s, 1);"
START = '#line 13 "kernel"\n    ka_cluster_barrier();'

TOGETHER_FAULTS: dict[str, tuple[str, str, set[Place]]] = {
    "empties within the block only": (OTHER, "ka_mbar_arrive(EMPTY + 8 * s); ka_mbar_arrive(EMPTY + 8 * s);",
                                      one(("overwrite-in-flight", 33))),
    "empties of the block itself counted": ("8 * 2);", "8);", one(("overwrite-in-flight", 33))),
    "block barrier in place of the cluster's": (START, START.replace("cluster_", ""), one(("barrier-init", 33))),
    "inits not fenced for the cluster": ("ka_mbar_fence_init();", "", one(("barrier-init", 33), ("barrier-init", 55))),
    "a block leaves early": ('#line 80 "kernel"\n    ka_cluster_barrier();', "", one(("exit-in-flight", 55))),
    "both blocks load the same half": ("B + s * 16384 + rank * 8192", "B + s * 16384",
                                       one(("overwrite-in-flight", 33))),
    "multicast to oneself": ("FULL + 8 * s, 3,", "FULL + 8 * s, 1 << rank,", one(("transaction-bytes", 31))),
    "multicast to a block that is not there": ("FULL + 8 * s, 3,", "FULL + 8 * s, 7,", one(("no-such-block", 33))),
    "arrival at a block that is not there": ("EMPTY + 8 * s, 1);", "EMPTY + 8 * s, 2);", one(("no-such-block", 55))),
    "block barrier in one block": ('#line 80 "kernel"\n', '#line 80 "kernel"\n if (rank && warp < 4) ka_barrier();\n',
                                   one(("deadlock", 80))),
}  # fmt: skip


@pytest.mark.parametrize("completion", COMPLETIONS)
@pytest.mark.parametrize("name", TOGETHER_FAULTS)
def test_a_fault_of_a_cluster_is_found_at_its_line(name: str, completion: Completion) -> None:
    old, new, expected = TOGETHER_FAULTS[name]
    assert old in TOGETHER
    report, _, _ = gemm(TOGETHER.replace(old, new), (256, 128, 320), completion, cluster=2, seconds_limit=10)
    assert expected & lines(report), report.findings


def test_a_deadlock_names_barrier_phase_arrivals_and_bytes() -> None:
    report, _, _ = gemm(ALONE.replace("32768", "32784"), (128, 128, 64))
    (deadlock,) = [f for f in report.findings if f.kind == "deadlock"]
    assert (
        "256 threads from 128 on wait in ka_mbar_wait (line 50): full[0], phase 0: 0 of 1 arrivals" in deadlock.message
    )
    assert "16 of 32784 bytes are missing" in deadlock.message
    (bytes_found,) = [f for f in report.findings if f.kind == "transaction-bytes"]
    assert "(full[0]) expects 32784 bytes (line 31), the bulk copies of that phase bring 32768" in bytes_found.message


def test_loops_that_disagree_name_both_sides() -> None:
    old, new, _ = FAULTS["empty barrier counts one too many"]
    report, _, _ = gemm(ALONE.replace(old, new), (256, 256, 320))
    (deadlock,) = report.findings
    assert "thread 0 waits in ka_mbar_wait (line 30): empty[0], phase 0: 1 of 9 arrivals" in deadlock.message
    assert "256 threads from 128 on wait in ka_mbar_wait (line 50)" in deadlock.message
