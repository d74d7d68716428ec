"""What the consumers of a Hopper schedule do: steps turned by half, tiles by turns, turns within a step; or why not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.level2 import print_schedule, verify
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.units import device_units
from support.gpu_texts import gemm_by_policy
from support.level2_kernels import check_print

ATTENTION = """edition(1)

@kernel
def attention(q: In[bf16, H, M, 128], k: In[bf16, H, N, 128], v: In[bf16, H, N, 128], o: Out[bf16, H, M, 128],
              BM=128, BN=128):
    on(sm_90a, {policy})
    for h, i in tiles((H, M), (1, BM)):
        qi = load(q[h], (i, 0), (BM, 128))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, 128), f32)
        for j in pipeline(0, N, BN):
            s = mma(qi, load(k[h], (j, 0), (BN, 128)).T)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, bf16), load(v[h], (j, 0), (BN, 128)))
            m = m_new
        store(o[h], (i, 0), cast(acc / l[:, None], bf16))
"""
GEMM = gemm_by_policy("on(sm_90a, {policy})")


def lowered(text: str, policy: str = "stages=2") -> dev.DeviceKernel:
    """The aligned class; its print is the schedule, and no rule is broken."""
    (unit,) = device_units(parse(text.replace("{policy}", policy)), Choices({}, {}, {}, {}), "sm_90a")
    code = unit.classes[0]
    check_print(code)
    assert verify(code.schedule) == []
    return code.schedule


def refused(text: str, policy: str) -> Diagnostic:
    with pytest.raises(KernelError) as caught:
        lowered(text, policy)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None
    assert diagnostic.hint
    return diagnostic


def report(kernel: dev.DeviceKernel, subject: str) -> str:
    (line,) = [f"{c.chosen}: {c.reason}" for c in kernel.choices if c.subject == subject]
    return line


def role(kernel: dev.DeviceKernel, name: str) -> dev.Role:
    return next(r for r in kernel.roles if r.name == name)


def loops(kernel: dev.DeviceKernel, name: str) -> list[dev.For]:
    return [s for s in role(kernel, name).grid.body if isinstance(s, dev.For)]


def kinds(body: tuple[dev.Statement, ...]) -> Iterator[str]:
    """The order of products and what goes around them."""
    for s in body:
        match s:
            case dev.Let(_, dev.Mma(b=dev.Shared(buffer=name))):
                yield f"mma {name}"
            case dev.Let(_, dev.Pointwise("exp")):
                yield "exp"
            case dev.WgmmaWait(pending):
                yield f"done {pending}"
            case dev.Arrive(name) | dev.WaitPhase(name):
                yield f"{type(s).__name__} {name}"
            case dev.Turn(_, begins):
                yield "take" if begins else "pass"
            case _:
                pass


# Attention ---------------------------------------------------------------------------------------------


def test_the_second_product_of_a_step_runs_under_the_next_softmax() -> None:
    kernel = lowered(ATTENTION)
    first, steps, last = loops(kernel, "consumer")
    assert list(kinds(steps.body)) == [
        "WaitPhase k_s_full", "mma k_s", "WaitPhase v_s_full", "mma v_s", "done 1", "Arrive k_s_empty", "exp", "exp",
        "done 0", "Arrive v_s_empty",
    ]  # fmt: skip
    assert list(kinds(first.body)) == ["WaitPhase k_s_full", "mma k_s", "done 0", "Arrive k_s_empty", "exp", "exp"]
    assert list(kinds(last.body)) == ["WaitPhase v_s_full", "mma v_s", "done 0", "Arrive v_s_empty"]
    assert report(kernel, "products").startswith("overlapped")


def test_one_counter_goes_through_the_loops_of_a_tile() -> None:
    first, steps, last = loops(lowered(ATTENTION), "consumer")
    assert first.counter == steps.counter is not None
    assert last.counter is None
    assert str(first.hi[0]) == str(last.hi[0]) == "min(128, N)"
    assert str(steps.lo[0]) == "128"


def test_a_wait_pins_the_scores_and_leaves_the_sums_in_flight() -> None:
    text = emit(lowered(ATTENTION))
    waits = text.split("ka_wgmma_wait<1>();")[1:]
    assert len(waits) == 1
    assert waits[0].split("ka_mbar_arrive")[0].count("ka_wgmma_settle") == 1


def test_each_operand_has_a_ring_of_its_own() -> None:
    kernel = lowered(ATTENTION)
    (fills,) = loops(kernel, "producer")
    assert [s.barrier for s in fills.body if isinstance(s, dev.Expect)] == ["k_s_full", "v_s_full"]
    assert {b.name: b.stages for b in kernel.barriers} == {
        "q_s_full": 1, "q_s_empty": 1, "k_s_full": 2, "k_s_empty": 2, "v_s_full": 2, "v_s_empty": 2,
    }  # fmt: skip


def test_the_result_takes_the_place_of_the_queries() -> None:
    stored = [s.source.buffer for s in dev.statements(lowered(ATTENTION)) if isinstance(s, dev.StoreBulk)]
    assert stored == ["q_s"]
    apart = [s.source.buffer for s in dev.statements(lowered(ATTENTION, "stages=2, persistent=True"))
             if isinstance(s, dev.StoreBulk)]  # fmt: skip
    assert apart == ["o_out_s"]


def test_an_operand_that_is_read_again_keeps_its_buffer() -> None:
    first = "        m, l, acc = full("
    again = "        store(e[h], (i, 0), cast(zeros((BM, 128), f32), bf16))\n" + first
    text = ATTENTION.replace(first, again).replace("o: Out", "e: Out[bf16, H, M, 128], o: Out")
    stored = [s.source.buffer for s in dev.statements(lowered(text)) if isinstance(s, dev.StoreBulk)]
    assert stored == ["e_out_s", "q_s"]


def test_policy_keeps_products_apart() -> None:
    kernel = lowered(ATTENTION, "stages=2, roles=cooperative")
    (steps,) = loops(kernel, "consumer")
    assert [k for k in kinds(steps.body) if k.startswith(("mma", "done"))] == ["mma k_s", "done 0", "mma v_s", "done 0"]
    assert report(kernel, "products") == "one after the other: policy"


APART = [
    ("acc = acc * r[:, None] + mma(", "acc = acc * sum(acc, axis=1)[:, None] + mma(", ""),
    ("            m = m_new\n", "            m = m_new + sum(acc, axis=1)\n", "reads its own sums"),
    ("            m = m_new\n", "            if j > 5:\n                m = m_new\n", "branches or loops"),
]


@pytest.mark.parametrize(("old", "new", "why"), APART, ids=["fine", "sums", "branch"])
def test_what_keeps_products_apart(old: str, new: str, why: str) -> None:
    kernel = lowered(ATTENTION.replace(old, new))
    assert why in report(kernel, "products")
    assert report(kernel, "products").startswith("one after" if why else "overlapped")


def test_one_stage_is_too_few() -> None:
    assert "one stage" in report(lowered(ATTENTION, "stages=1"), "products")
    assert "one stage" in refused(ATTENTION, "stages=1, roles=overlapped").message


def test_tiles_that_would_spill_are_not_overlapped() -> None:
    wide = ATTENTION.replace("BN=128", "BN=256")
    assert "registers a thread where there are 232" in refused(wide, "stages=2, roles=overlapped").message


# Turns -------------------------------------------------------------------------------------------------


def test_warpgroups_of_one_tile_take_turns() -> None:
    kernel = lowered(ATTENTION, "stages=2, roles=pingpong")
    first, steps, last = loops(kernel, "consumer")
    order = [k for k in kinds(steps.body) if k in ("take", "pass") or k.startswith(("mma", "done"))]
    assert order == ["take", "mma k_s", "mma v_s", "pass", "done 1", "done 0"]
    assert [k for k in kinds(first.body) if k in ("take", "pass")] == ["take", "pass"]
    assert not [k for k in kinds(last.body) if k in ("take", "pass")]
    text = emit(kernel)
    assert "if (tid >= 128) ka_named_arrive<2>(256);" in text
    assert "ka_named_barrier<2>(256); else ka_named_barrier<3>(256);" in text
    assert "ka_named_arrive<3>(256); else ka_named_arrive<2>(256);" in text


def test_turns_need_two_warpgroups() -> None:
    text = ATTENTION.replace("BM=128", "BM=64")
    assert "1 warpgroups" in refused(text, "stages=2, roles=pingpong").message
    loose = text.replace("on(sm_90a, {policy})", "on(roles=pingpong)")
    assert "1 warpgroups" in report(lowered(loose), "policy roles=pingpong")


def test_consumers_have_even_and_odd_tiles() -> None:
    kernel = lowered(GEMM, "stages=3, roles=pingpong")
    assert [(r.name, r.warps, r.registers) for r in kernel.roles] == [
        ("producer", 4, 40), ("even", 4, 232), ("odd", 4, 232),
    ]  # fmt: skip
    assert all(r.grid.persistent for r in kernel.roles)
    for number, name in enumerate(("even", "odd")):
        (turn,) = role(kernel, name).grid.body
        assert isinstance(turn, dev.If)
        assert str(turn.condition) == f"tile_count % 2 == {number}"
        other = "odd" if name == "even" else "even"
        order = [k for k in kinds(turn.then) if k.endswith("_done")]
        assert order == [f"WaitPhase {other}_done", f"Arrive {name}_done"]
        (counted,) = turn.otherwise
        assert isinstance(counted, dev.For)
        assert counted.body == ()
        assert counted.counter == next(s.counter for s in turn.then if isinstance(s, dev.For))


def test_each_consumer_stores_through_a_buffer_of_its_own() -> None:
    kernel = lowered(GEMM, "stages=3, roles=pingpong")
    stored = [s.source.buffer for s in dev.statements(kernel) if isinstance(s, dev.StoreBulk)]
    assert stored == ["c_out_s", "c_out_s_odd"]
    spans = sorted((b.offset, b.offset + dev.stage_bytes(b) * b.stages) for b in kernel.buffers)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("policy", "says"),
    [("roles=pingpong, BN=256", "296 registers"), ("roles=pingpong, persistent=False", "over the tiles of a block")],
)
def test_tiles_that_one_warpgroup_cannot_have(policy: str, says: str) -> None:
    assert says in refused(GEMM, policy).message


def test_a_product_that_is_scaled_counts_twice() -> None:
    scaled = GEMM.replace("acc += mma(", "acc += 2.0 * mma(")
    assert "296 registers" in refused(scaled, "roles=pingpong").message


def test_roles_have_names_or_are_none() -> None:
    assert "cooperative" in str(refused(GEMM, "roles=pairs").hint)
    assert not lowered(GEMM, "roles=1").roles
    assert lowered(GEMM, "roles=cooperative").roles == lowered(GEMM, "roles=overlapped").roles


def test_the_print_shows_turns() -> None:
    text = print_schedule(lowered(ATTENTION, "stages=2, roles=pingpong"))
    assert text.count("take_turn(2)") == text.count("pass_turn(2)") == 2
