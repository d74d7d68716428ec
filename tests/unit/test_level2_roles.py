"""Rules of Hopper's schedules, one broken at a time: what is said, and what correct but odd schedules may do."""

from __future__ import annotations

import pytest
from kernelagent.dsl.catalogue import diagnose
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.level2 import parse_schedule, print_schedule, same_schedule, verify
from support.level2_texts import TEXTS

GEMM, CLUSTER, PING_PONG = TEXTS["hopper"], TEXTS["cluster"], TEXTS["ping pong"]


def found(text: str, code: str) -> Diagnostic:
    diagnostics = diagnose(text, 2)
    matching = [d for d in diagnostics if d.code == code]
    assert matching, [(d.code, d.message) for d in diagnostics]
    assert matching[0].hint
    return matching[0]


def changed(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


WAIT_LAST = """                wgmma_wait(0)
                arrive(free[n % 4])
"""

# what is changed in the guide's kernel, the code, and what the message says
BROKEN: list[tuple[tuple[tuple[str, str], ...], str, str]] = [
    ((("filled[n % 4], 32768", "filled[n % 4], 0"),), "expect-bytes", "0 bytes"),
    ((("expect(filled[n % 4], 32768)", "expect(filled[(n + 1) % 4], 32768)"),), "expect-bytes", "stage"),
    ((("                expect(filled[n % 4], 32768)\n", ""),), "expect-bytes", "announced by no"),
    ((("wait(free[n % 4],", "wait(free[4],"),), "stage", "stage 4 of `free`"),
    ((("wait(free[n % 4],", "wait(free,"),), "stage", "has 4 stages"),
    ((("wait(free[n % 4],", "wait(fre[n % 4],"),), "unknown-word", "fre"),
    ((("    barrier_init(free)\n", ""),), "barrier-init", "`free` is initialised 0 times"),
    ((("    barrier_init(free)\n", "    barrier_init(free)\n    barrier_init(free)\n"),), "barrier-init", "2 times"),
    ((("    fence_init()\n", ""),), "barrier-init", "visible"),
    ((("barrier_init(free)", "barrier_init(free[0])"),), "not-a-barrier", "free"),
    ((("            acc = full(", "            barrier_init(free)\n            acc = full("),), "barrier-init", "role"),
    ((("arrivals=1,", "arrivals=2,"),), "arrivals", "1 from `producer` (expect)"),
    ((("                arrive(free[n % 4])\n", ""),), "arrivals", "gets none"),
    ((("offset=163872", "offset=163876"),), "mbarrier", "163876"),
    ((("stages=4, offset=163872", "stages=0, offset=163872"),), "mbarrier", "0 stages"),
    ((("registers=40", "registers=44"),), "role-registers", "44 registers"),
    ((("registers=40", "registers=16"),), "role-registers", "16 registers"),
    (
        (("warps=(4, 12)", "warps=(4, 11)"), ("lanes=((4, 1, 2), (8, 0, 1), (8, 0, 16))", "lanes=((224, -1, 0),)")),
        "layout-cover",
        "224 threads",
    ),
    ((("threads=384", "threads=512"),), "role-warps", "the block 16"),
    ((('role("consumer"', 'role("producer"'),), "duplicate-name", "producer"),
    ((('role("consumer"', 'role("con sumer"'),), "not-a-literal", "con sumer"),
    (
        (("fence_async()", "fence_async()\n            if 0 < M:\n                barrier()"),),
        "barrier-in-role",
        "consumer",
    ),
    ((("commit_bulk()\n        wait_bulk(0)\n", "commit_bulk()\n"),), "bulk-store-pending", "role ends"),
    ((("            commit_bulk()\n", ""),), "bulk-store-pending", "nothing waits for it"),
    (
        (
            (
                "            wait_bulk(0)\n            role_barrier(1)\n",
                "            role_barrier(1)\n            wait_bulk(0)\n",
            ),
        ),
        "bulk-store-pending",
        "only the issuing thread",
    ),
    (
        (("fence_async()\n            role_barrier(1)", "role_barrier(1)\n            fence_async()"),),
        "fence-async",
        "without `role_barrier(1)`",
    ),
    (
        (("            wait_bulk(0)\n            role", "            wait_bulk(-1)\n            role"),),
        "wait-count",
        "-1",
    ),
    ((("wgmma_wait(0)", "wgmma_wait(-1)"),), "wait-count", "-1"),
    ((("                wgmma_commit()\n", ""),), "wgmma-pending", "acc"),
    (((WAIT_LAST, "                arrive(free[n % 4])\n                wgmma_wait(0)\n"),), "early-release", "free"),
    (
        (
            ("                wgmma_fence()\n", ""),
            (
                "            for k in range(0, K, 64, count=n):\n                wait(filled",
                "            wgmma_fence()\n            for k in range(0, K, 64, count=n):\n"
                "                acc = acc + acc\n                wait(filled",
            ),
        ),
        "wgmma-fence",
        "`acc` is touched",
    ),
    ((("atom=wgmma_m64n128k16_bf16", "atom=wgmma_m64n128k16_bf61"),), "mma-atom", "bf61"),
    ((("atom=wgmma_m64n128k16_bf16", "atom=wgmma_m64n96k16_bf16"),), "mma-shape", "n = 128"),
    ((("atom=wgmma_m64n128k16_bf16", "atom=wgmma_m64n128k16_f16"),), "mma-dtype", "f16"),
    (
        (
            ("lanes=((4, 1, 2), (8, 0, 1), (8, 0, 16))", "lanes=((4, 1, 2), (8, 0, 16), (8, 0, 1))"),
            ("values=((2, 1, 1), (2, 0, 8), (16, 1, 8))", "values=((2, 1, 1), (2, 0, 8), (16, 1, 8))"),
        ),
        "mma-layout",
        "acc",
    ),
    (
        (
            (
                "w_s = shared(bf16, (128, 64), stages=4, swizzle=(3, 3, 3), panel=64",
                "w_s = shared(bf16, (128, 64), stages=4, panel=32",
            ),
        ),
        "panel",
        "64 bytes without a swizzle",
    ),
    (
        (
            (
                "y_s = shared(bf16, (128, 128), swizzle=(3, 3, 3), panel=64",
                "y_s = shared(bf16, (128, 128), swizzle=(3, 3, 4), panel=64",
            ),
        ),
        "panel",
        "(3, 3, 4)",
    ),
    ((("panel=64, offset=65536", "panel=48, offset=65536"),), "panel", "48"),
    (
        (
            ("panel=64, offset=131072", "panel=64, offset=131584"),
            ("offset=163840", "offset=164352"),
            ("offset=163872", "offset=164384"),
        ),
        "panel",
        "131584",
    ),
    ((("aligned(w, 16), ", ""),), "access-alignment", "`w`"),
    ((("unit_stride(a), ", ""),), "access-alignment", "`a`"),
    ((("copy_bulk(a_s[n % 4], a,", "copy_bulk(a_s[n % 4], y,"),), "load-of-output", "y"),
    ((("store_bulk(y, (i, j), y_s)", "store_bulk(a, (i, j), y_s)"),), "store-to-input", "a"),
    (
        (("store_bulk(y, (i, j), y_s)", "store_bulk(view(y, (M - 1, N), at=(axis(0), axis(1))), (i, j), y_s)"),),
        "bulk-view",
        "ends inside",
    ),
    ((("copy_bulk(a_s[n % 4], a, (i, k)", "copy_bulk(a_s[n % 4], a, (i,)"),), "index-rank", "rank 2"),
    (
        (("offset=163872)\n", "offset=163872)\n    big = shared(bf16, (128, 512), offset=163968)\n"),),
        "shared-limit",
        "232448",
    ),
    ((("count=n", "count=4"),), "counter", "4"),
    ((("schedule(sm_90a, threads=384)", "schedule(sm_90a, threads=384, cluster=32)"),), "cluster", "32"),
    ((("role_barrier(1)", "role_barrier(0)"),), "role-barrier", "0"),
    ((("wgmma_wait(0)", "take_turn(2)\n                wgmma_wait(0)"),), "turn", "not ended"),
    ((("wgmma_wait(0)", "pass_turn(2)\n                wgmma_wait(0)"),), "turn", "not begun"),
    (
        (("wgmma_wait(0)", "take_turn(2)\n                take_turn(2)\n                pass_turn(2)"),),
        "turn",
        "inside",
    ),
    ((("wgmma_wait(0)", "take_turn(15)\n                pass_turn(15)"),), "turn", "15 and 16"),
    ((("wgmma_wait(0)", "take_turn(1)\n                pass_turn(1)"),), "role-barrier", "both use barrier 1"),
]


@pytest.mark.parametrize(("edits", "code", "says"), BROKEN, ids=[f"{b[1]}-{n}" for n, b in enumerate(BROKEN)])
def test_one_mistake(edits: tuple[tuple[str, str], ...], code: str, says: str) -> None:
    diagnostic = found(changed(GEMM, *edits), code)
    assert says in diagnostic.message
    assert diagnostic.span is not None


def test_two_warpgroups_take_turns() -> None:
    turns = ("wgmma_wait(0)", "take_turn(2)\n                pass_turn(2)\n                wgmma_wait(0)")
    assert diagnose(changed(GEMM, turns), 2) == ()
    alone = PING_PONG.replace(turns[0], turns[1].replace(" " * 16, " " * 20))
    assert "`even` has 128 threads" in found(alone, "turn").message


def test_what_clusters_demand() -> None:
    assert "no clusters" in found(TEXTS["gemm"].replace("threads=128,", "threads=128, cluster=2,"), "cluster").message
    lonely = changed(CLUSTER, (", cluster=2", ""), ("shared_by=2", "shared_by=1"))
    assert "without clusters" in found(lonely, "cluster").message
    uneven = CLUSTER.replace(
        "            store(y, (i, j), acc)\n        cluster_barrier()", "            store(y, (i, j), acc)"
    )
    assert "`producer` has 1 cluster barriers and `consumer` 0" in found(uneven, "cluster").message
    own = CLUSTER.replace("fence_init()\n    cluster_barrier()", "fence_init()\n    barrier()")
    assert "cluster_barrier()" in str(found(own, "barrier-init").hint)
    alone = CLUSTER.replace(", everywhere=True", "")
    assert "4 from `consumer`" in found(alone, "arrivals").message
    assert "everywhere=True" in (found(alone, "arrivals").hint or "")
    part = changed(CLUSTER, ("cluster=2", "cluster=4"), ("arrivals=8", "arrivals=16"))
    assert "cluster of 4" in found(part, "cluster").message


def test_role_barriers_belong_to_one_role() -> None:
    text = PING_PONG.replace(
        "                acc = full(", "                role_barrier(1)\n                acc = full("
    )
    assert "both use role barrier 1" in found(text, "role-barrier").message
    first, second = text.split('    with role("odd"')
    assert diagnose(first + '    with role("odd"' + second.replace("role_barrier(1)", "role_barrier(2)"), 2) == ()


# Correct ones ----------------------------------------------------------------------------------------

OVERLAPPED = changed(
    GEMM,
    (WAIT_LAST, """                wgmma_wait(1)
                if k > 0:
                    arrive(free[(n + 3) % 4])
            wgmma_wait(0)
            if 0 < K:
                arrive(free[(n + 3) % 4])
"""),
)  # fmt: skip
"""The products of a step run into the next one."""

CHAINED = changed(
    GEMM,
    ("                acc = mma(a_s[n % 4], w_s[n % 4].T, acc, atom=wgmma_m64n128k16_bf16)\n",
     "                acc = mma(a_s[n % 4], w_s[n % 4].T, acc, atom=wgmma_m64n128k16_bf16)\n" * 2),
)  # fmt: skip
"""Two products of one group, the second on the first one's sum."""

FENCED_ONCE = changed(
    GEMM,
    ("                wgmma_fence()\n", ""),
    ("            acc = full(tile, 0.0, f32)\n", "            acc = full(tile, 0.0, f32)\n            wgmma_fence()\n"),
)
"""Nobody touches the sum between the products, so that one fence serves them all."""

PLAIN_STORE = changed(
    GEMM,
    ("            wait_bulk(0)\n            role_barrier(1)\n            store_shared(y_s, cast(acc, bf16), vector=2)\n"
     "            fence_async()\n            role_barrier(1)\n            store_bulk(y, (i, j), y_s)\n"
     "            commit_bulk()\n        wait_bulk(0)\n", "            store(y, (i, j), cast(acc, bf16), vector=2)\n"),
)  # fmt: skip

ONE_ROLE = """
edition(1)
level(2)

@kernel
def copied(x: In[f32, M, N], y: Out[f32, M, N]):
    schedule(sm_90a, threads=128)
    shape_class("aligned", unit_stride(x), aligned(x, 16), unit_stride(y), aligned(y, 16))
    box = shared(f32, (64, 32), swizzle=(3, 2, 3), panel=32, offset=0)
    landed = mbarrier(arrivals=1, offset=8192)

    barrier_init(landed)
    fence_init()
    barrier()

    with role("all", warps=(0, 4)):
        for i, j in tiles((M, N), (64, 32), persistent=True, count=t):
            expect(landed, 8192)
            copy_bulk(box, x, (i, j), landed)
            wait(landed, t % 2)
            store_bulk(y, (i, j), box)
            commit_bulk()
            wait_bulk(0)
            barrier()
"""
"""All warps in one role; what a bulk copy wrote needs no fence before a bulk store."""

CORRECT = {
    "overlapped": OVERLAPPED, "chained": CHAINED, "fenced once": FENCED_ONCE, "plain store": PLAIN_STORE,
    "one role": ONE_ROLE, "cluster": CLUSTER, "ping pong": PING_PONG,
    "opposite parity": changed(GEMM, ("(n // 4 + 1) % 2", "1 - (n // 4) % 2")),
    "no registers": changed(GEMM, (", registers=40", ""), (", registers=232", "")),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRECT)
def test_correct_schedules_are_accepted(name: str) -> None:
    assert diagnose(CORRECT[name], 2) == ()
    kernel = parse_schedule(CORRECT[name])
    assert verify(kernel) == []
    assert same_schedule(parse_schedule(print_schedule(kernel)), kernel)


def test_loops_of_level_one_may_be_named_like_words_of_level_two() -> None:
    for name in ("wait", "role", "expect_"):
        text = changed(GEMM, ("for k in", f"for {name} in"), ("(i, k)", f"(i, {name})"), ("(j, k)", f"(j, {name})"))
        assert diagnose(text, 2) == ()
        assert same_schedule(parse_schedule(print_schedule(parse_schedule(text))), parse_schedule(text))


def test_emitted_names_are_plain() -> None:
    """What stands in the text in quotes cannot become code."""
    text = GEMM.replace('shape_class("aligned"', 'shape_class("x\\nint evil;"')
    assert found(text, "not-a-literal")
