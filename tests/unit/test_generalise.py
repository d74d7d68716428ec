"""From a few launches to all sizes: what stands for the rest is shown; faults that only the rest has are not missed.

Each fault here is right for the first tiles, for small data, or for one order of tiles, and wrong later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Compare, floordiv, index, maximum, minimum, mod, symbol
from kernelagent.dsl.ir import Kernel
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.lower.device.grids import innermost, with_innermost
from kernelagent.dsl.verify import coverage
from kernelagent.dsl.verify.records import Findings, Obligation, covers
from kernelagent.dsl.verify.schedule.alike import Axis, Part, Unlike, parts_of, spans
from kernelagent.dsl.verify.schedule.any_walk import every_word
from kernelagent.dsl.verify.schedule.arms import joined
from kernelagent.dsl.verify.schedule.at import settled_at
from kernelagent.dsl.verify.schedule.automaton import Automaton
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.counts import Count
from kernelagent.dsl.verify.schedule.order import examine
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.sizes import by_trips, deepest_ring
from kernelagent.dsl.verify.schedule.thresholds import late
from kernelagent.dsl.verify.schedule.tiles import as_tiles
from support.proved import BY_NAME, schedules


@cache
def compiled(name: str, arch: str, shape_class: str = "general") -> Case:
    return next(c for c in schedules(BY_NAME[name], arch) if c.kernel.shape_class.name == shape_class)


def edited(case: Case, old: str, new: str) -> Case:
    """The compiler's schedule as a text, changed, against the kernel that it was made of."""
    text = print_schedule(case.kernel)
    assert old in text
    return replace(case, kernel=read_module(text.replace(old, new)).schedule)


def verdict(findings: Findings, family: str) -> str:
    found = {o.verdict for o in findings.obligations if o.family == family}
    return next(iter(found)) if len(found) == 1 else str(sorted(found))


# Flow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemm_fp8_blocks", "gemm_int4", "cross_entropy", "column_sums_atomic", "column_sums"])
def test_terms_and_data_are_no_obstacle(name: str) -> None:
    assert verdict(prove(compiled(name, "sm_80")), "flow") == "PROVED"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (
            "gemm_fp8_blocks",
            "(j // 128, k // 128)",
            "(minimum(j // 128, 1), k // 128)",
        ),  # wrong from the third block on
        ("gemm_fp8_blocks", "(j // 128, k // 128)", "(j // 128, minimum(k // 128, 20))"),
        ("gemm_fp8_blocks", "sa[k // 128]", "sa[minimum(k // 128, 20)]"),
        ("gemm_int4", "(j, k // 128)", "(j, minimum(k // 128, 9))"),
        ("cross_entropy", "labels[i]]", "minimum(labels[i], 20000)]"),  # wrong for larger labels only
        ("cross_entropy", "labels[i]]", "labels[minimum(i, 30)]]"),
        ("attention_full_d64_bf16", "h // (H // G)", "h"),  # right as long as every head has keys of its own
        ("column_sums_atomic", "minimum(512, M - r)", "minimum(512, 2560 - r)"),
        ("conv3x3_s2", "% (cdiv(C, 32))", "% (minimum(cdiv(C, 32), 9))"),
        ("conv3x3_s2", "(3, 3, C), (1, 1, 32)", "(3, 3, minimum(C, 4096)), (1, 1, 32)"),
        ("cross_entropy", "minimum(4096, N - j)", "minimum(4096, minimum(N, 30000) - j)"),  # a mask
        ("cross_entropy", "minimum(4096, N - j)", "minimum(minimum(4096, N - j), 32768 - j)"),
        ("gemm_int4", "range(0, K, 32)", "range(0, minimum(K, 8192), 32)"),
    ],
)
def test_what_goes_wrong_later_is_not_proved(name: str, old: str, new: str) -> None:
    found = prove(edited(compiled(name, "sm_80"), old, new))
    assert found.counterexamples or verdict(found, "flow") in ("PROVED_BOUNDED", "UNKNOWN")


def test_a_flattened_loop_is_its_digits() -> None:
    """The place of a later iteration is what its number's digits say, whatever the number of tiles along c."""
    parts = parts_of(compiled("conv3x3_s2", "sm_80"))
    assert not isinstance(parts, Unlike)
    assert not any(part.terms for part in parts)


def test_positions_computed_from_data_are_named() -> None:
    case = compiled("gemm_moe", "sm_80")
    rows = next(s for s in dev.statements(case.kernel) if isinstance(s, dev.Let) and s.fragment.name == "row")
    moved = edited(case, "gather(x, (row, k)", "gather(x, (minimum(row, row), k)")
    found = parts_of(moved)
    assert rows.fragment.dtype == "i32"
    assert isinstance(found, Unlike)
    assert "computed from data" in found.reason


# Places that span ----------------------------------------------------------------------------------------

J = symbol("j", "loop")
N = symbol("N", "dim")


@pytest.mark.parametrize(
    ("term", "tiles", "enough"),
    [
        (None, 1, False),
        (None, 2, True),
        (floordiv(J, index(2)), 2, False),
        (floordiv(J, index(2)), 3, True),
        (floordiv(J, index(4)), 4, False),
        (floordiv(J, index(4)), 5, True),
        (mod(J, index(3)), 3, False),
        (mod(J, index(3)), 4, True),
        (minimum(J, index(5)), 6, False),
        (minimum(J, index(5)), 7, True),
        (maximum(J, index(5)), 6, False),
    ],
)
def test_a_term_is_told_from_counts(term: object, tiles: int, enough: bool) -> None:
    """An affine function of 1, the count and the term is known from these places, or is not."""
    axis = Axis(next(iter(J.symbols())), index(0), N, index(1))
    part = Part((axis,), ("j",), () if term is None else (index(term),))  # type: ignore[arg-type]
    assert spans(part, Call({"N": tiles}, {}, {})) == enough


# Walks that data decides ---------------------------------------------------------------------------------


def in_consumer(case: Case, change: Callable[[dev.Statement], dev.Statement]) -> Case:
    """The schedule with the statements of a consumer's tile changed: texts with such faults are not read."""
    roles = tuple(
        replace(r, grid=with_innermost(r.grid, tuple(map(change, innermost(r.grid).body)), innermost(r.grid).counter))
        for r in case.kernel.roles
    )
    return replace(case, kernel=replace(case.kernel, roles=roles))


def waiting_if_whole(case: Case) -> Case:
    """Only a whole tile waits for the bulk store of the tile before: a cut one behind a whole one does not."""
    whole = next(
        s.condition for s in innermost(case.kernel.roles[-1].grid).body if isinstance(s, dev.If) and s.otherwise
    )

    def change(s: dev.Statement) -> dev.Statement:
        return dev.If(whole, (s,), (), (), s.origin) if isinstance(s, dev.WaitBulk) else s

    return in_consumer(case, change)


def two_iterations(case: Case) -> Count:
    return Count(2, by_trips(case, 2)[2], None)


def test_any_tile_may_follow_any_other() -> None:
    case = compiled("gemm_moe", "sm_90a", "aligned")
    walked = every_word(case, two_iterations(case))
    assert not walked.events
    assert not walked.reason


def test_a_fault_of_one_order_of_tiles_is_met() -> None:
    case = waiting_if_whole(compiled("gemm_moe", "sm_90a", "aligned"))
    walked = every_word(case, two_iterations(case))
    assert {e.kind for e in walked.events} == {"overwritten"}


def test_a_fault_of_one_order_of_tiles_is_refuted_with_data_that_shows_it() -> None:
    ordered = examine(waiting_if_whole(compiled("gemm_moe", "sm_90a", "aligned")))
    assert "overwritten" in {e.kind for e in ordered.events}
    assert ordered.sizes is not None


def test_stages_that_depend_on_the_tile_are_no_word() -> None:
    case = compiled("gemm_grouped", "sm_80")
    i = innermost(case.kernel.grid).variables[0]
    body = innermost(case.kernel.grid).body
    loop = next(s for s in body if isinstance(s, dev.For))
    turned = replace(loop, hi=(loop.hi[0] + index(i),))
    grid = with_innermost(case.kernel.grid, tuple(turned if s is loop else s for s in body))
    other = replace(case, kernel=replace(case.kernel, grid=grid))
    walked = every_word(other, two_iterations(case))
    assert "different trip counts" in walked.reason


def test_an_automaton_is_closed_by_steered_walks() -> None:
    """Three states, two letters: one stays, the other turns; the letter is chosen one tile ahead of the state."""
    letters = ((False,), (True,))
    made = Automaton(letters)
    for _ in range(4):
        made.begin()
        made.choose()
        state = 0
        for tile in range(12):
            made.arrive(bytes([state]))
            if made.spent:
                break
            made.choose()
            state = (state + 1) % 3 if made.word[tile][0] else state
    assert made.closed
    assert not made.torn
    assert len(made.edges) == 6
    made.edges[bytes([0]), letters[0]] = bytes([2])
    made.begin()
    assert made.choose() == letters[0]
    made.arrive(bytes([0]))
    made.arrive(bytes([0]))
    assert made.torn


# Stores in both arms -------------------------------------------------------------------------------------


def covered(case: Case) -> set[str]:
    tiles = as_tiles(case.kernel, case.shapes.entry.assumes)
    return {o.verdict for o in coverage.prove(joined(tiles))}


def test_a_whole_and_a_cut_store_are_one() -> None:
    assert covered(compiled("gemm_moe", "sm_90a", "aligned")) == {"PROVED"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if i + 128 <= offsets[e + 1]", "if i + 127 <= offsets[e + 1]"),  # the last row is of the next group
        ("store_bulk(y, (i + offsets[e], j)", "store_bulk(y, (i + offsets[e + 1], j)"),
        ("store_bulk(y, (i + offsets[e], j)", "store_bulk(y, (i + offsets[e], 0)"),
    ],
)
def test_arms_that_store_other_elements_are_two(old: str, new: str) -> None:
    assert covered(edited(compiled("gemm_moe", "sm_90a", "aligned"), old, new)) == {"UNKNOWN"}


# Trip counts ---------------------------------------------------------------------------------------------


def test_windows_have_every_ninth_trip_count() -> None:
    ordered = examine(compiled("conv3x3_s2", "sm_90a", "aligned"))
    assert not ordered.events
    assert not ordered.reason


@pytest.mark.parametrize(
    ("name", "arch", "shape_class", "old", "new"),
    [
        ("gemm_nt_bf16", "sm_80", "aligned", "if k + 64 < K:", "if k + 64 < minimum(K, 8192):"),
        ("gemm_nt_bf16", "sm_80", "aligned", "if k + 64 < K:", "if k + 64 < K and k < 8192:"),
        ("gemm_nt_bf16", "sm_80", "aligned", "if 32 < K:", "if 32 < K and K < 8192:"),
        ("gemm_nt_bf16", "sm_90a", "aligned", "if k > 0:", "if k > 0 and k != 6400:"),
        ("conv3x3_s2", "sm_90a", "aligned", "if r > 0 or s > 0 or c > 0:", "if r > 0 or s > 0 or c > 640:"),
    ],
)
def test_a_branch_on_an_iteration_that_no_run_came_to_is_named(
    name: str, arch: str, shape_class: str, old: str, new: str
) -> None:
    case = compiled(name, arch, shape_class)
    assert not late(case.kernel, 1, deepest_ring(case.kernel))
    later = edited(case, old, new)
    assert "no run came to" in late(later.kernel, 8, deepest_ring(later.kernel))
    ordered = examine(later)
    assert ordered.events or ordered.reason


def test_launches_are_as_deep_as_the_ring_needs() -> None:
    """`K % 128 == 0`: one tile more does not stop short of the iterations that were asked for."""
    case = compiled("gemm_int4", "sm_80")
    found = prove(case)
    detail = next(o.detail for o in found.obligations if o.family == "flow")
    assert "K=512" in detail or "K=640" in detail
    assert isinstance(case.shapes.entry, Kernel)
    assert call(case, {"M": 1, "K": 256, "N": 1}).sizes["K"] == 256


def test_a_comparison_of_places_is_a_condition() -> None:
    """Branches on where a tile lies are letters only if some group of one tile takes each arm."""
    case = compiled("gemm_moe", "sm_90a", "aligned")
    i = innermost(case.kernel.grid).variables[0]

    def change(s: dev.Statement) -> dev.Statement:
        return replace(s, condition=Compare("<", index(i), index(5000))) if isinstance(s, dev.If) and s.otherwise else s

    walked = every_word(in_consumer(case, change), two_iterations(case))
    assert "no group of one tile" in walked.reason


# At given sizes ------------------------------------------------------------------------------------------


def test_what_is_not_shown_for_all_sizes_is_shown_at_a_workload_s() -> None:
    """Right up to K = 2688, wrong from there on: one workload is covered, the other is not."""
    case = edited(compiled("gemm_fp8_blocks", "sm_80"), "(j // 128, k // 128)", "(j // 128, minimum(k // 128, 20))")
    small, large = {"M": 40, "K": 1024, "N": 200}, {"M": 16, "K": 4096, "N": 64}
    bounded = prove(case)
    assert verdict(bounded, "flow") == "PROVED_BOUNDED"
    assert not covers(bounded.obligations, small)
    shown = settled_at(case, bounded, [small, large])
    assert covers(shown.obligations, small)
    assert not covers(shown.obligations, large)


def test_sizes_that_were_run_are_covered_but_not_with_data() -> None:
    case = edited(compiled("gemm_fp8_blocks", "sm_80"), "sa[k // 128]", "sa[minimum(k // 128, 20)]")
    bounded = prove(case)
    flow = next(o for o in bounded.obligations if o.family == "flow")
    assert flow.sizes
    assert all(covers(bounded.obligations, sizes) for sizes in flow.sizes)
    labels = prove(edited(compiled("cross_entropy", "sm_80"), "labels[i]]", "minimum(labels[i], 20000)]"))
    assert not any(o.sizes for o in labels.obligations)


def test_only_sizes_that_the_kernel_takes_are_tried() -> None:
    """Sizes that the kernel does not take are no matter of it."""
    case = compiled("gemm_fp8_blocks", "sm_80")
    open_ = Obligation("coverage", "PROVED_BOUNDED", None, "", "")
    shown = settled_at(case, Findings((open_,)), [{"M": 10, "K": 128, "N": 10}, {"M": 10, "K": 129, "N": 10}])
    assert shown.obligations[0].sizes == ({"M": 10, "K": 128, "N": 10},)  # the kernel takes no K of 129
