"""What the lowering decides: fusion, buffers, packing, streams; read from the printed schedule."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.report import report, schedule_text
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from kernelagent.dsl.targets.cpu.place_arena import arena_shift
from kernelagent.dsl.targets.cpu.units import lowered

KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"


def schedule(name: str, policy: str = "") -> sch.Schedule:
    text = (KERNELS / f"{name}.tile").read_text()
    module = parse(text.replace("    for", f"    on(cpu, {policy})\n    for", 1) if policy else text)
    calls = concrete_calls(module, Choices({"T": "f32"}, {}, {}, {"D": 64}))
    return lowered(calls, "avx512", True)[0].schedule


def nests(made: sch.Schedule) -> list[sch.Nest]:
    return [n for n in sch.walk(made.body) if isinstance(n, sch.Nest)]


def invokes(made: sch.Schedule) -> list[sch.Invoke]:
    return [n for n in sch.walk(made.body) if isinstance(n, sch.Invoke)]


def test_softmax_is_three_passes_with_one_row_buffer() -> None:
    made = schedule("softmax")
    grid = made.body[0]
    assert isinstance(grid, sch.Loop)
    first, late = grid.body
    assert isinstance(first, sch.Nest)
    assert isinstance(late, sch.Pipelined)
    assert [b.layout.shape for b in made.buffers if b.space == "l1"] == [(1, 4096), (1,)]
    kinds = [type(o).__name__ for o in late.first.outputs]
    assert kinds == ["WriteBuffer", "ReduceBuffer", "Prefetch"]


def test_softmax_stores_a_row_while_it_computes_the_next() -> None:
    """In the same pass and before the buffer is overwritten; only the store's place is that of the row before."""
    late = next(n for n in sch.walk(schedule("softmax").body) if isinstance(n, sch.Pipelined))
    assert late.steady.outputs[1:] == late.first.outputs
    store, own = late.steady.outputs[0], late.last.outputs[0]
    assert isinstance(store, sch.WriteArray)
    assert isinstance(own, sch.WriteArray)
    assert (store.via, own.via) == ("late", "stream")
    assert str(store.coordinates[0]) == str(own.coordinates[0]).replace("%7", "%3").replace("i", "0i")
    assert any(line.startswith("line 9: store to y: put off") for line in report(schedule("softmax")))


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("rmsnorm", ""),  # the store reads the array again: there is no buffer
        ("bias_gelu_residual", ""),  # one pass
        ("softmax", 'via="cached"'),
        ("softmax", "unroll=2"),
    ],
)
def test_other_stores_are_not_put_off(name: str, policy: str) -> None:
    assert not any(isinstance(n, sch.Pipelined) for n in sch.walk(schedule(name, policy).body))


def test_a_pass_that_reads_what_the_next_tile_has_overwritten_is_not_put_off() -> None:
    """The maximum that the store needs is that of its own row, found before the pass it would be joined to."""
    text = (KERNELS / "softmax.tile").read_text()
    text = (
        text.replace("max(row, axis=1)[:, None])", "top[:, None])")
        .replace("        e = exp", "        top = max(row, axis=1)\n        e = exp")
        .replace("cast(e / sum(e, axis=1)[:, None], T)", "cast(e / sum(e, axis=1)[:, None] + top[:, None], T)")
    )
    made = lowered(concrete_calls(parse(text), Choices({"T": "f32"}, {}, {}, {})), "avx512", True)[0].schedule
    assert not any(isinstance(n, sch.Pipelined) for n in sch.walk(made.body))


def test_a_fast_path_for_short_rows_is_prefetched_and_placed_as_the_row_alone() -> None:
    text = (KERNELS / "softmax.tile").read_text().replace("    assume(N <= BN)\n", "")
    head, body = text.split("for i in tiles((M,), (1,)):\n")
    fast = "".join(f"    {line}\n" for line in body.splitlines())
    slow = "            for j in pipeline(0, N, BN):\n                store(y, (i, j), load(x, (i, j), (1, BN)))\n"
    branched = f"{head}for i in tiles((M,), (1,)):\n        if N <= BN:\n{fast}        else:\n{slow}"
    made = lowered(concrete_calls(parse(branched), Choices({"T": "f32"}, {}, {}, {})), "avx512", True)[0].schedule
    grid = made.body[0]
    assert isinstance(grid, sch.Loop)
    branch = grid.body[0]
    assert isinstance(branch, sch.Branch)
    alone = schedule("softmax")
    kinds = [[type(o).__name__ for o in n.outputs] for n in sch.walk(branch.then) if isinstance(n, sch.Nest)]
    assert kinds == [[type(o).__name__ for o in n.outputs] for n in nests(alone)]
    assert arena_shift(grid.body, True) == arena_shift(branch.then, True) != []


def test_elementwise_chains_need_no_buffer() -> None:
    made = schedule("bias_gelu_residual")
    assert made.buffers == ()
    assert len(nests(made)) == 1


def test_gemm_accumulates_in_place_and_shares_its_panels() -> None:
    made = schedule("gemm")
    assert [i.atom.name for i in invokes(made)] == ["pack_a", "pack_b", "mma"]
    assert invokes(made)[-1].accumulate
    assert {s.atom.name: [v.name for v in s.variables] for s in made.shared} == {
        "pack_a": ["i", "k"],
        "pack_b": ["j", "k"],
    }
    assert [b.name.split("_")[0] for b in made.buffers] == ["acc", "panel", "panel"]


def test_attention_packs_queries_once_and_keys_for_all_tiles() -> None:
    made = schedule("attention_causal", policy='layout="packed"')
    grid = made.body[0]
    assert isinstance(grid, sch.Loop)
    before_loop = [n for n in grid.body if isinstance(n, sch.Invoke)]
    assert [n.operands[0].base for n in before_loop] == ["q"]
    assert {s.source.base for s in made.shared} == {"k", "v"}


def test_small_operands_stay_where_they_lie() -> None:
    """64 columns are two register tiles: packing q and p would not pay."""
    assert [i.atom.name for i in invokes(schedule("attention_causal"))] == ["pack_b", "mma_a_rows"] * 2


def test_layout_direct_packs_only_what_must_be_turned() -> None:
    assert [i.atom.name for i in invokes(schedule("gemm", policy='layout="direct"'))] == ["mma_rows"]
    names = [i.atom.name for i in invokes(schedule("linear_gelu", policy='layout="direct"'))]
    assert names == ["pack_b", "mma_a_rows"]


def test_policy_via_and_stages() -> None:
    cached = schedule("softmax", policy='via="cached"')
    assert all(o.via == "cached" for n in nests(cached) for o in n.outputs if isinstance(o, sch.WriteArray))
    assert all(n.unroll == 3 for n in nests(schedule("softmax", policy="unroll=3")))
    plain = schedule("softmax", policy="stages=1")
    assert not any(isinstance(o, sch.Prefetch) for n in nests(plain) for o in n.outputs)


def test_a_pass_that_only_stores_asks_for_the_next_row() -> None:
    passes = nests(schedule("rmsnorm"))
    asked = [[str(o.coordinates[0]) for o in n.outputs if isinstance(o, sch.Prefetch)] for n in passes]
    assert [len(a) for a in asked] == [1, 1]
    assert asked[0][0] != asked[1][0]


def test_buffers_lie_apart_from_the_rows_read_and_written() -> None:
    grid = schedule("softmax").body[0]
    assert isinstance(grid, sch.Loop)
    (line,) = arena_shift(grid.body, True)
    assert line.startswith("arena += ka_apart(a_x + ")
    assert ", a_y + " in line
    unbuffered = schedule("rmsnorm").body[0]
    assert isinstance(unbuffered, sch.Loop)
    assert arena_shift(unbuffered.body, True) == []


def test_transpose_goes_through_registers_from_array_to_array() -> None:
    made = schedule("transpose")
    assert [i.atom.name for i in invokes(made)] == ["transpose"]
    source, target = invokes(made)[0].operands
    assert (source.base, target.base) == ("x", "y")
    assert not target.base_is_buffer
    assert nests(made) == []
    assert made.buffers == ()


def test_choices_name_their_line_and_reason() -> None:
    lines = report(schedule("softmax"))
    assert any(line.startswith("line 9: store to y: stream") for line in lines)


@pytest.mark.parametrize("name", ["softmax", "gemm", "attention_causal", "transpose", "linear_gelu"])
def test_schedules_print(name: str) -> None:
    made = schedule(name)
    text = schedule_text(made)
    assert text.startswith(f"schedule {made.name} for cpu-avx512, class dense")
    assert all(buffer.name in text for buffer in made.buffers)
    assert "parallel" in text


def test_layouts() -> None:
    assert sch.row_major((3, 5), 4) == sch.Layout((3, 5), (8, 1))
    assert sch.row_major((3, 5), 4).cosize == 2 * 8 + 5
    nested = sch.Layout(((2, 2), 3), ((1, 6), 2))
    assert nested.cosize == 1 + 6 + 4 + 1
    assert str(nested) == "((2,2),3):((1,6),2)"
    assert sch.Layout((0, 3), (3, 1)).cosize == 0
