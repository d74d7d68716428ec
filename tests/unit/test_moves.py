"""Moves as text edits: what they change, what they leave alone, and how they say no."""

from __future__ import annotations

import ast
import difflib
import inspect

import pytest
from kernelagent.dsl import moves

from kernelagent import problems

SEEDS = {name: problems.load(name).seed_kernel for name in problems.names()}

ROWS = '''edition(1)
# a comment at the top

@kernel
def rows(x: In[T, R, C], y: Out[T, R], z: Out[T, R], BR=4, BC=choices(64, 128), fast=False):
    """Two sums."""
    on(sm_90a, stages=2, BC=256)
    for i in tiles((R,), (BR,)):  # grid
        a = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            a += sum(load(x, (i, j), (BR, BC)), axis=1)  # é, a wide character
        b = zeros((BR,), f32)
        for k in pipeline(0, C, BC):
            v = load(x, (i, k), (BR, BC))
            # squares
            b += sum(v * v, axis=1)
        store(y, (i,), cast(a, T))
        store(z, (i,), cast(b, T))
'''

MASKED = """edition(1)

@kernel
def masked(q: In[T, M, D], k: In[T, N, D], v: In[T, N, D], o: Out[T, M, D], scale: f32, BM=16, BN=16):
    assume(D in (16, 32), N >= M)
    for i in tiles((M,), (BM,)):
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        for j in pipeline(0, N, BN):
            s = mma(load(q, (i, 0), (BM, D)), load(k, (j, 0), (BN, D)).T) * scale
            s = where(coords(i + N - M, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, T), load(v, (j, 0), (BN, D)))
            m = m_new
        store(o, (i, 0), cast(acc / l[:, None], T))
"""


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines removed and lines added."""
    diff = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [d[2:] for d in diff if d.startswith("- ")], [d[2:].strip() for d in diff if d.startswith("+ ")]


def added(name: str, text: str, /, **arguments: object) -> list[str]:
    return changed(text, moves.apply(name, text, **arguments))[1]


def test_there_are_enough_moves_and_each_says_why_it_is_sound() -> None:
    assert len(moves.names()) >= 12
    for name in moves.names():
        assert moves.get(name).summary.endswith("."), name
        family = next(f for f in moves.FAMILIES if f.__name__.endswith(f".{moves.get(name).family}"))
        reasons = " ".join(f"{family.__doc__} {moves.get(name).transform.__doc__}".split())
        assert "Sound because" in reasons or "preserve the meaning because" in reasons, name


@pytest.mark.parametrize("problem", SEEDS)
def test_every_applicable_move_changes_the_text_and_keeps_it_parsing(problem: str) -> None:
    text = SEEDS[problem]
    found = moves.applicable(text)
    assert len({name for name, _ in found}) >= 6
    for name, arguments in found:
        new = moves.apply(name, text, **arguments)
        assert new != text
        ast.parse(new)
        assert new.endswith("\n")
        assert max(map(len, new.splitlines())) < 240
        assert moves.apply(name, text, **arguments) == new
    assert found == moves.applicable(text)


def test_comments_and_layout_survive() -> None:
    for name, arguments in moves.applicable(ROWS):
        new = moves.apply(name, ROWS, **arguments)
        assert "# a comment at the top" in new
        assert "# grid" in new
        assert name in ("whole_row", "split_loop") or "# squares" in new, name


def test_set_tunable_keeps_choices_and_reaches_policies() -> None:
    removed, new = changed(ROWS, moves.apply("set_tunable", ROWS, name="BC", value=128))
    assert len(removed) == 2
    assert "BC=choices(128, 64)" in new[0]
    assert new[1] == "on(sm_90a, stages=2, BC=128)"
    assert "BR=8" in added("set_tunable", ROWS, name="BR", value=8)[0]
    assert "fast=True" in added("set_tunable", ROWS, name="fast", value=True)[0]


def test_scale_widen_and_choices() -> None:
    assert "BR=2" in added("scale_tunable", ROWS, name="BR", factor=0.5)[0]
    assert "BR=16" in added("widen_row_tile", ROWS, name="BR", factor=4)[0]
    assert "choices(64, 128, 32)" in added("add_choices", ROWS, name="BC", values=[64, 32])[0]
    with pytest.raises(moves.MoveError, match="grid axis"):
        moves.apply("widen_row_tile", ROWS, name="BC", factor=2)


def test_policy_is_set_in_place_appended_or_added_and_dropped() -> None:
    assert added("set_policy", ROWS, word="stages", value=3, target="sm_90a") == ["on(sm_90a, stages=3, BC=256)"]
    assert added("set_policy", ROWS, word="unroll", value=4, target="sm_90a") == [
        "on(sm_90a, stages=2, BC=256, unroll=4)"
    ]
    streamed = moves.apply("stream_stores", ROWS)
    assert changed(ROWS, streamed) == ([], ['on(cpu, via="stream")'])
    assert moves.apply("drop_policy", streamed, word="via") == ROWS
    assert changed(ROWS, moves.apply("drop_policy", ROWS, word="BC", target="sm_90a"))[1] == ["on(sm_90a, stages=2)"]
    assert added("set_policy", ROWS, word="via", value="stream", target=None) == ['on(via="stream")']
    assert "via" in moves.apply("cached_stores", streamed)


def test_merging_shares_the_range_and_renames_the_variable() -> None:
    new = moves.apply("merge_loops", ROWS)
    assert new.count("pipeline") == 1
    assert "v = load(x, (i, j), (BR, BC))" in new
    assert new.index("b = zeros") < new.index("pipeline")
    again = moves.apply("share_load", new)
    assert again.count("load(x, (i, j), (BR, BC))") == 1


def test_merging_refuses_what_depends_on_the_first_loop() -> None:
    with pytest.raises(moves.MoveError, match="carries"):
        moves.apply("merge_loops", SEEDS["softmax"])
    with pytest.raises(moves.MoveError, match="between the loops"):
        moves.apply("merge_loops", SEEDS["layernorm"])
    with pytest.raises(moves.MoveError, match="none has number 7"):
        moves.apply("merge_loops", ROWS, pair=7)


def test_online_softmax() -> None:
    new = moves.apply("fuse_passes", SEEDS["softmax"])
    assert new.count("pipeline") == SEEDS["softmax"].count("pipeline") - 1
    assert "full((BR,), -3.4e38, f32)" in new
    assert "l = l * m_scale + sum(exp(load(x, (i, j), (BR, BC)) - m_new[:, None]), axis=1)" in new
    once = moves.apply("share_load", new)
    assert once.count("load(x") == 2
    with pytest.raises(moves.MoveError):
        moves.apply("fuse_passes", new)


def test_unfusing_undoes_fusing() -> None:
    fused = moves.apply("share_load", moves.apply("fuse_passes", SEEDS["cross_entropy"]))
    again = moves.apply("unfuse_passes", fused, loop="j")
    assert again.count("pipeline") == 2
    assert "m = maximum(m, max(x_tile, axis=1))" in again
    assert "l += sum(exp(v - m[:, None]), axis=1)" in again
    assert "scale" not in again
    started = fused.replace("l = zeros((BR,), f32)", "l = full((BR,), 1.0, f32)")
    with pytest.raises(moves.MoveError, match="start as zeros"):
        moves.apply("unfuse_passes", started, loop="j")
    carried = fused.replace("max(x_tile, axis=1))", "max(x_tile, axis=1) + picked)")
    with pytest.raises(moves.MoveError):
        moves.apply("unfuse_passes", carried, loop="j")
    with pytest.raises(moves.MoveError):
        moves.apply("unfuse_passes", MASKED, loop="j")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- m[:, None]), axis=1)", "+ m[:, None]), axis=1)"),  # not an exponential of a difference
        (
            "sum(exp(load(x, (i, j), (BR, BC)) - m[:, None]), axis=1)",
            "sum(load(x, (i, j), (BR, BC)) * m[:, None], axis=1)",
        ),
        ("l = zeros((BR,), f32)", "l = m * 0.0"),  # the start uses the maximum
        ("m = full((BR,), -inf, f32)", "m = full((BR,), 0.0, f32)"),  # not a maximum of the row alone
        ("m = maximum(m, max(", "m = minimum(m, max("),
        ("l = zeros((BR,), f32)", "l = full((BR,), 1.0, f32)"),  # would be rescaled
    ],
)
def test_online_softmax_refuses_other_pairs(old: str, new: str) -> None:
    assert old in SEEDS["softmax"]
    with pytest.raises(moves.MoveError):
        moves.apply("fuse_passes", SEEDS["softmax"].replace(old, new, 1))


def test_split_reduction_refuses_what_would_revive_the_tail() -> None:
    assert "total_odd" in moves.apply("split_reduction", SEEDS["row_sum"], loop="j")
    filled = SEEDS["row_sum"].replace("(BR, BC))", "(BR, BC), fill=1.0)")
    assert filled != SEEDS["row_sum"]
    with pytest.raises(moves.MoveError):
        moves.apply("split_reduction", filled, loop="j")
    with pytest.raises(moves.MoveError, match="does not start at 0"):
        moves.apply("split_reduction", SEEDS["row_sum"].replace("pipeline(0, ", "pipeline(BC, "), loop="j")
    with pytest.raises(moves.MoveError, match="not a sum"):
        moves.apply("split_reduction", SEEDS["row_sum"].replace("pipeline(0, C,", "pipeline(0, C - 1,"), loop="j")


def test_whole_row_keeps_the_loops_for_longer_rows() -> None:
    new = moves.apply("whole_row", SEEDS["softmax"], size=2048)
    assert "if C <= BC:" in new
    assert "x_row = load(x, (i, 0), (BR, BC))" in new
    assert new.count("pipeline") == SEEDS["softmax"].count("pipeline")
    low = moves.apply("whole_row", SEEDS["softmax"], size=2048, rows=1)
    assert "BR=choices(1, 32, 16, 64)" in low
    assert low.replace("choices(1, 32,", "choices(32,") == new
    with pytest.raises(moves.MoveError):
        moves.apply("whole_row", new, size=4096)
    with pytest.raises(moves.MoveError):
        moves.apply("whole_row", SEEDS["transpose"], size=2048)


def test_causal_moves() -> None:
    skipped = moves.apply("skip_masked_tiles", MASKED)
    assert "pipeline(0, minimum(N, i + N - M + BM), BN)" in skipped
    with pytest.raises(moves.MoveError, match="already limited"):
        moves.apply("skip_masked_tiles", skipped)
    split = moves.apply("split_masked_tiles", skipped)
    assert split.count("pipeline") == 2
    assert split.count("where(") == 1
    leaky = MASKED.replace("m = m_new\n", "m = m_new + sum(s, axis=1)\n")
    with pytest.raises(moves.MoveError, match="more than a softmax"):
        moves.apply("skip_masked_tiles", leaky)


def test_values_move_only_where_nothing_changes_between() -> None:
    hoisted = moves.apply("hoist_load", MASKED)
    assert hoisted.index("q_tile = load(q") < hoisted.index("pipeline")
    rebound = ROWS.replace("            # squares\n", "            k2 = v\n            v = v + k2\n")
    with pytest.raises(moves.MoveError):
        moves.apply("recompute", rebound, name="v")
    stored = MASKED.replace("q: In[T, M, D]", "q: InOut[T, M, D]").replace("store(o,", "store(q,")
    with pytest.raises(moves.MoveError):
        moves.apply("hoist_load", stored)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("no_such_move", {}),
        ("set_tunable", {"name": "BR"}),
        ("set_tunable", {"name": "BR", "value": 4}),  # as it is
        ("set_tunable", {"name": "BR", "value": 0}),
        ("set_tunable", {"name": "BR", "value": True}),
        ("set_tunable", {"name": "BR", "value": "4); import os"}),
        ("set_tunable", {"name": "XX", "value": 4}),
        ("set_tunable", {"name": "BR", "value": 8, "kernel": "other"}),
        ("scale_tunable", {"name": "BR", "factor": 0.3}),
        ("scale_tunable", {"name": "fast", "factor": 2}),
        ("add_choices", {"name": "BR", "values": []}),
        ("set_policy", {"word": "a b", "value": 1}),
        ("set_policy", {"word": "via", "value": 'x")'}),
        ("set_policy", {"word": "via", "value": 1.5}),
        ("drop_policy", {"word": "cluster"}),
        ("prefetch", {"stages": 0}),
        ("unroll", {"factor": 1000}),
        ("direct_operands", {}),
        ("swap_raster", {"order": "column"}),
        ("interchange_tiles", {"first": "i", "second": "j"}),
        ("recompute", {"name": "a"}),
        ("divide_once", {}),
        ("fuse_passes", {}),
        ("fuse_moments", {}),
        ("split_masked_tiles", {}),
    ],
)
def test_what_does_not_apply_is_a_move_error(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(moves.MoveError):
        moves.apply(name, ROWS, **arguments)


@pytest.mark.parametrize("text", ["", "def (", "edition(1)\n", "x" * 300_000, "((((" * 5000, "\0"])
def test_texts_that_are_no_kernels(text: str) -> None:
    for name in moves.names():
        with pytest.raises(moves.MoveError):
            moves.apply(name, text, **_arguments(name))


def _arguments(name: str) -> dict[str, object]:
    """Plausible arguments for a move's required parameters."""
    plausible = {
        "name": "BR", "value": 8, "factor": 2, "values": [8], "word": "via", "stages": 2, "order": "column",
        "first": "i", "second": "j", "loop": "j", "size": 1024, "warps": 8, "how": "pingpong", "steps": 4,
    }  # fmt: skip
    parameters = inspect.signature(moves.get(name).transform).parameters.values()
    return {p.name: plausible[p.name] for p in parameters if p.default is p.empty and p.name != "text"}


def _sizes(text: str) -> dict[str, int | bool]:
    (function,) = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    return {d.name: d.values[0] for d in moves.tunables.declared(function)}


def test_refitting_keeps_an_axis_covered_and_the_tile_as_large() -> None:
    whole = moves.apply("set_tunable", moves.apply("whole_row", SEEDS["softmax"], size=1024), name="BR", value=8)
    wider = moves.refit(whole, {"R": 64, "C": 1000}, {"R": 64, "C": 4096})
    assert (_sizes(wider)["BC"], _sizes(wider)["BR"]) == (4096, 2)
    narrower = moves.refit(whole, {"R": 64, "C": 1000}, {"R": 64, "C": 250})
    assert (_sizes(narrower)["BC"], _sizes(narrower)["BR"]) == (256, 32)
    assert moves.refit(whole, {"C": 1000}, {"C": 1024}) == whole  # the same class
    assert moves.refit(whole, {"C": 5000}, {"C": 9000}) == whole  # it never covered the row
    assert moves.refit(whole, {}, {"C": 4096}) == whole
    assert moves.refit(SEEDS["transpose"], {"R": 8, "C": 8}, {"R": 99, "C": 99}) == SEEDS["transpose"]
    with pytest.raises(moves.MoveError):
        moves.refit("def (", {"C": 1}, {"C": 2})
