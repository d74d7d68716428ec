"""Obligations: right kernels are proved, wrong ones refuted with the element, the iterations and the line."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl.check_text import check
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.families import Choice, argue
from kernelagent.dsl.verify.records import Counterexample, Obligation, counts, worst
from kernelagent.dsl.verify.shapes import orders, sizes

GEMM = """edition(1)
@kernel
def gemm(a: In[f32, M, K], b: In[f32, K, N], y: Out[f32, M, N], BM=8, BN=16, BK=8):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (k, j), (BK, BN)))
        store(y, (i, j), acc)
"""


def arguments(text: str) -> list[Obligation]:
    return argue(parse(text), Choice({}, {}, {}), solver=False)


def verdicts(text: str, family: str) -> set[str]:
    return {o.verdict for o in arguments(text) if o.family == family}


def refuted(text: str) -> Counterexample:
    report = check(text)
    assert all(d.severity != "error" for d in report.diagnostics)
    assert report.verdict == "REFUTED"
    assert not report.ok
    return report.counterexamples[0]


# Proved for all sizes ------------------------------------------------------------------------


def test_gemm_is_proved() -> None:
    found = arguments(GEMM)
    assert {o.verdict for o in found} == {"PROVED"}
    assert {o.family for o in found} == {"coverage", "bounds", "definedness", "aliasing", "accumulator", "overflow"}


COVERED = {
    "rows": """
@kernel
def f(x: In[f32, M, N], y: Out[f32, M, N]):
    for i in tiles((M,), (1,)):
        for j in pipeline(0, N, 8):
            store(y[i], (j,), load(x[i], (j,), (8,)) * 2.0)
""",
    "heads": """
@kernel
def f(x: In[f32, B, H, M, D], y: Out[f32, B, H, M, D], BM=4):
    assume(D in (8, 16))
    for b, h, i in tiles((B, H, M), (1, 1, BM)):
        store(y[b, h], (i, 0), load(x[b, h], (i, 0), (BM, D)) + 1.0)
""",
    "transposed": """
@kernel
def f(x: In[f32, M, N], y: Out[f32, N, M]):
    for i, j in tiles((M, N), (4, 8)):
        store(y.T, (i, j), load(x, (i, j), (4, 8)) + 1.0)
""",
    "two halves": """
@kernel
def f(x: In[f32, M, 8], y: Out[f32, M, 8]):
    for i in tiles((M,), (4,)):
        store(y[:, 0:4], (i, 0), load(x[:, 4:8], (i, 0), (4, 4)) + 1.0)
        store(y[:, 4:8], (i, 0), load(x[:, 0:4], (i, 0), (4, 4)) + 1.0)
""",
    "grouped": """
@kernel
def f(x: In[f32, M, N], w: In[f32, E], offsets: In[i32, E + 1], y: Out[f32, M, N]):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i, j in tiles((hi - lo, N), (4, 8)):
            store(y[lo:hi], (i, j), load(x[lo:hi], (i, j), (4, 8)) * w[e])
""",
    "column tile": """
@kernel
def f(x: In[f32, M, N], y: Out[f32, M], BM=4, BN=8):
    for i in tiles((M,), (BM,)):
        acc = zeros((BM,), f32)
        for j in range(0, N, BN):
            acc += sum(load(x, (i, j), (BM, BN), fill=0), axis=1)
        store(y, (i,), acc)
""",
}


@pytest.mark.parametrize("name", COVERED)
def test_coverage_is_proved_for_all_sizes(name: str) -> None:
    assert verdicts("edition(1)\n" + COVERED[name], "coverage") == {"PROVED"}


BOUNDED = {
    "convolution": """
@kernel
def f(x: In[f32, H, W], y: Out[f32, P, Q], BP=2, BQ=4):
    assume(P == (H + 1) // 2, Q == (W + 1) // 2)
    for i, j in tiles((P, Q), (BP, BQ)):
        acc = zeros((BP, BQ), f32)
        for r, s in pipeline((0, 0), (3, 3), (1, 1)):
            v = window(x, offset=(r - 1, s - 1), stride=(2, 2), shape=(P, Q))
            acc += load(v, (i, j), (BP, BQ), fill=0)
        store(y, (i, j), acc)
""",
    "pages": """
@kernel
def f(x: In[f32, NP, PS], table: In[i32, B, MP], lens: In[i32, B], y: Out[f32, B]):
    assume(PS in (4, 16), 0 <= table < NP, 0 <= lens <= MP * PS)
    for b in tiles((B,), (1,)):
        acc = zeros((1,), f32)
        for t in pipeline(0, lens[b], PS):
            n = minimum(PS, lens[b] - t)
            acc += sum(load(x[table[b, t // PS]][0:n], (0,), (PS,)), axis=0)
        store(y, (b,), acc)
""",
    "grouped heads": """
@kernel
def f(k: In[f32, G, D], y: Out[f32, H, D]):
    assume(H % G == 0, D in (8, 16))
    for h in tiles((H,), (1,)):
        g = h // (H // G)
        store(y[h], (0,), load(k[g], (0,), (D,)) + 1.0)
""",
    "block scales": """
@kernel
def f(x: In[f32, M, K], s: In[f32, M, K // 4], y: Out[f32, M, K]):
    assume(K % 4 == 0)
    for i, j in tiles((M, K), (1, 4)):
        store(y[i], (j,), load(x[i], (j,), (4,)) * s[i, j // 4])
""",
    "labels": """
@kernel
def f(x: In[f32, M, V], labels: In[i32, M], y: Out[f32, M]):
    assume(0 <= labels < V)
    for i in tiles((M,), (1,)):
        store(y, (i,), full((1,), 1.0, f32) * x[i, labels[i]])
""",
    "gathered": """
@kernel
def f(x: In[f32, V, 8], ids: In[i32, N], y: Out[f32, N, 8]):
    assume(0 <= ids < V)
    for i in tiles((N,), (4,)):
        store(y, (i, 0), gather(x, (load(ids, (i,), (4,)), 0), (4, 8)) + 1.0)
""",
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_are_proved_for_all_sizes(name: str) -> None:
    assert verdicts("edition(1)\n" + BOUNDED[name], "bounds") == {"PROVED"}


@pytest.mark.parametrize("place", ["i * i // (i + 1)", "i % 2 * ((N + 1) // 2) + i // 2"])
def test_bounds_that_need_the_solver(place: str) -> None:
    text = f"""edition(1)
@kernel
def f(x: In[f32, N], y: Out[f32, N]):
    for i in tiles((N,), (1,)):
        store(y, (i,), full((1,), 1.0, f32) * x[{place}])
"""
    quick, full = check(text), check(text, quick=False)
    assert {o.verdict for o in quick.obligations if o.family == "bounds"} == {"PROVED", "TESTED"}
    assert {o.verdict for o in full.obligations if o.family == "bounds"} == {"PROVED"}


@pytest.mark.parametrize(
    ("positions", "assumed"),
    [
        ("maximum({}, 0)", "0 <= ids < V"),
        ("maximum({}, 0)", "-1 <= ids < V, V >= 1"),
        ("minimum(maximum({}, 0), V - 1)", "-5 <= ids < 2 * V, V >= 1"),
        ("maximum(0, minimum(V - 1, cast({}, i64)))", "0 <= ids <= V, V >= 1"),
    ],
)
def test_positions_kept_within_limits_are_proved(positions: str, assumed: str) -> None:
    text = "edition(1)\n" + BOUNDED["gathered"].replace("0 <= ids < V", assumed)
    loaded = "load(ids, (i,), (4,))"
    assert verdicts(text.replace(loaded, positions.format(loaded)), "bounds") == {"PROVED"}


@pytest.mark.parametrize(
    ("positions", "assumed"),
    [
        ("maximum({}, 0)", "-1 <= ids < V"),
        ("maximum({}, 0)", "0 <= ids <= V"),
        ("maximum({}, 1)", "0 <= ids < V"),
        ("minimum({}, V - 1)", "-1 <= ids < V"),
        ("maximum(cast({}, i8), 0)", "0 <= ids < V"),
        ("maximum({} + 1, 0)", "0 <= ids < V"),
        ("cast({}, i8)", "0 <= ids < V"),
        ("cast(cast({}, u8), i32)", "0 <= ids < V"),
    ],
)
def test_limits_that_are_too_wide_prove_nothing(positions: str, assumed: str) -> None:
    text = "edition(1)\n" + BOUNDED["gathered"].replace("0 <= ids < V", assumed)
    loaded = "load(ids, (i,), (4,))"
    assert verdicts(text.replace(loaded, positions.format(loaded)), "bounds") == {"PROVED", "UNKNOWN"}


def test_positions_from_data_without_an_assumption_are_refuted() -> None:
    text = "edition(1)\n" + BOUNDED["labels"].replace("    assume(0 <= labels < V)\n", "")
    found = refuted(text)
    assert found.family == "bounds"
    assert found.array == "x"


# Refuted -------------------------------------------------------------------------------------


OVERLAP = GEMM.replace("tiles((M, N), (BM, BN))", "tiles((M, N), (4, BN))")
"""Tiles of 8 rows, 4 rows apart."""


def test_an_element_stored_twice_is_refuted_with_both_iterations() -> None:
    found = refuted(OVERLAP)
    assert found.family == "coverage"
    assert found.array == "y"
    assert found.lines == (8,)
    first, second = found.iterations
    assert first["j"] == second["j"]
    assert {first["i"], second["i"]} == {0, 4}
    assert found.element is not None
    assert found.element[0] == 4
    assert found.found == 2
    assert "of" in found.scope


@pytest.mark.parametrize(
    "change", [("        store(y, (i, j)", "            store(y, (i, j)"), ("y, (i, j)", "y, (0, j)")]
)
def test_a_store_that_is_plainly_repeated_is_never_ok(change: tuple[str, str]) -> None:
    report = check(GEMM.replace(*change))
    assert not report.ok
    assert report.diagnostics or report.counterexamples


def test_an_uncovered_tail_is_refuted() -> None:
    found = refuted("""edition(1)
@kernel
def copy(x: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N // B * B,), (B,)):
        store(y, (i,), load(x, (i,), (B,)) + 1.0)
""")
    assert found.family == "coverage"
    assert found.lines == (5, 4)
    assert found.element is not None
    assert found.element[0] >= found.sizes["N"] // 4 * 4
    assert found.found == 0


def test_void_stored_where_a_value_is_needed_is_refuted() -> None:
    """`where` over two partly void loads: the chosen side is live, the result is not."""
    found = refuted("""edition(1)
@kernel
def concat(a: In[f32, N], b: In[f32, N], y: Out[f32, 2 * N], B=4):
    for i in tiles((2 * N,), (B,)):
        store(y, (i,), where(coords(i, B) < N, load(a, (i,), (B,)), load(b, (i - N,), (B,))))
""")
    assert found.family == "coverage"


def test_an_index_out_of_range_is_refuted_with_values() -> None:
    found = refuted("""edition(1)
@kernel
def shift(x: In[f32, N], y: Out[f32, N]):
    for i in tiles((N,), (1,)):
        store(y, (i,), full((1,), 1.0, f32) * x[i + 1])
""")
    assert found.family == "bounds"
    assert found.lines == (5,)
    assert found.found == found.sizes["N"]


def test_a_program_that_leaves_its_temporary_partly_unwritten_is_refuted() -> None:
    found = refuted("""edition(1)
@kernel
def first(x: In[f32, N], t: Out[f32, N], B=4):
    for i in tiles((N // B * B,), (B,)):
        store(t, (i,), load(x, (i,), (B,)) * 2.0)

@kernel
def second(t: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        store(y, (i,), load(t, (i,), (B,)) + 1.0)

@program
def both(x: In[f32, N], y: Out[f32, N]):
    t = temp(f32, (N,))
    first(x, t)
    second(t, y)
""")
    assert found.family == "coverage"
    assert found.array == "t"


def test_inout_tiles_are_proved_to_be_their_iterations_own() -> None:
    text = """edition(1)
@kernel
def grow(x: InOut[f32, M, N], BM=4, BN=8):
    for i, j in tiles((M, N), (BM, BN)):
        store(x, (i, j), load(x, (i, j), (BM, BN)) + 1.0)
"""
    assert verdicts(text, "aliasing") == {"PROVED"}
    found = refuted(text.replace("load(x, (i, j)", "load(x, (i, j + 1)").replace("(BM, BN)) +", "(BM, BN), fill=0) +"))
    assert found.family == "aliasing"


def test_sizes_too_large_to_run_end_within_the_time_and_stay_proved() -> None:
    text = GEMM.replace("BM=8, BN=16, BK=8", "BM=512, BN=1024, BK=512")
    report = check(text)
    assert report.verdict == "PROVED"
    assert report.seconds < 2


# Sizes and records ---------------------------------------------------------------------------


def test_sizes_surround_the_tile_and_obey_assumptions() -> None:
    text = """edition(1)
@kernel
def f(x: In[f32, M, K], y: Out[f32, M, P], BM=8):
    assume(K % 4 == 0, P == K // 4, M >= K)
    for i, j in tiles((M, P), (BM, 1)):
        store(y, (i, j), sum(load(x, (i, 4 * j), (BM, 4)), axis=1)[:, None])
"""
    found = list(sizes(parse(text), {}))
    assert found
    assert all(s["K"] % 4 == 0 and s["P"] == s["K"] // 4 and s["M"] >= s["K"] for s in found)
    assert {s["M"] for s in found} & {7, 9}


def test_of_every_two_dims_both_orders_are_tried() -> None:
    module = parse(GEMM.replace("BM=8, BN=16", "BM=8, BN=64"))
    found = list(orders(module, {}))
    assert all(any(s[a] > s[b] for s in found) for a in "MNK" for b in "MNK" if a != b)


@pytest.mark.parametrize("quick", [False, True])
def test_a_dim_that_is_taken_for_a_smaller_one_is_refuted(quick: bool) -> None:
    text = "edition(1)\n" + BOUNDED["gathered"].replace("N, 8]", "N, D]").replace("V, 8]", "V, D]")
    text = text.replace("(N,), (4,)", "(N, V), (4, 8)").replace("for i in", "for i, d in").replace("i, 0)", "i, d)")
    text = text.replace("(4,)), 0), (4, 8)", "(4,)), d), (4, 8)")
    (found,) = check(text, quick=quick).counterexamples
    assert (found.family, found.array) == ("coverage", "y")
    assert found.sizes["V"] < found.sizes["D"]
    assert found.element is not None
    assert found.element[1] >= found.sizes["V"]


@pytest.mark.parametrize("quick", [False, True])
def test_positions_below_another_dim_are_tried_where_it_is_the_larger_one(quick: bool) -> None:
    text = "edition(1)\n" + BOUNDED["gathered"].replace("x: In[f32, V, 8]", "x: In[f32, N, 8], z: In[f32, V]")
    (found,) = check(text, quick=quick).counterexamples
    assert (found.family, found.array) == ("bounds", "x")
    assert isinstance(found.found, int)
    assert found.found >= found.sizes["N"]


def test_verdicts_combine_to_the_worst() -> None:
    assert worst(["PROVED", "TESTED", "PROVED_BOUNDED"]) == "TESTED"
    assert worst(["PROVED", "UNKNOWN", "REFUTED"]) == "REFUTED"
    assert worst([]) == "UNKNOWN"
    assert counts([Obligation("bounds", "PROVED", 1, "")] * 2) == {"PROVED": 2}


def test_a_counterexample_replays() -> None:
    from kernelagent.dsl.verify.draw import draw
    from kernelagent.dsl.verify.trials import run_trial

    found = refuted(OVERLAP)
    module = parse(OVERLAP)
    trial = draw(module.entry, found.replay["sizes"], tunables=found.replay["tunables"], seed=found.replay["seed"])
    assert run_trial(module, trial).counterexamples[0].to_dict() == found.to_dict()


def test_drawn_data_keeps_what_the_kernel_assumes() -> None:
    from kernelagent.dsl.verify.draw import draw

    module = parse("edition(1)\n" + COVERED["grouped"])
    offsets = draw(module.entry, {"M": 9, "N": 3, "E": 4}).arrays["offsets"]
    assert offsets[0] == 0
    assert offsets[-1] == 9
    assert (np.diff(offsets) >= 0).all()
