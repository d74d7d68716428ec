"""From text to typed values: fixtures, promotion, names, loops, branches, inline functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernelagent.dsl import ir, parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate.checks import walk
from kernelagent.dsl.index import Compare, index, symbol
from kernelagent.dsl.spec import violations

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "kernels").glob("*.tile"))
HEAD = """edition(1)
{top}
@kernel
def k(x: In[T, M, N], h: In[bf16, M, N], n8: In[i8, M, N], idx: In[i32, M], y: Out[f32, M, N], scale: f32 = 1.0,
      n: i32 = 1, flag: const = True, BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        v = load(x, (i, j), (BM, BN))
        b = load(h, (i, j), (BM, BN))
        q = load(n8, (i, j), (BM, BN))
{body}        store(y, (i, j), zeros((BM, BN), f32))
"""


def kernel(body: str, top: str = "") -> ir.Kernel:
    lines = "".join(f"        {line}\n" for line in body.strip("\n").splitlines())
    (found,) = parse(HEAD.format(top=top, body=lines)).kernels
    assert violations(found) == []
    return found


def lets(found: ir.Kernel) -> Iterator[ir.Let]:
    return (s for s in walk(found.body) if isinstance(s, ir.Let))


def value(body: str, name: str = "w", top: str = "") -> ir.Value:
    """The last value with this name."""
    return [s.value for s in lets(kernel(body, top)) if s.value.name == name][-1]


def type_of(body: str) -> str:
    t = value(body).type
    return f"{t.dtype}({', '.join(map(str, t.shape))})"


def codes(body: str, top: str = "") -> list[str]:
    with pytest.raises(KernelError) as caught:
        kernel(body, top)
    return [d.code for d in caught.value.diagnostics if d.severity == "error"]


@pytest.mark.parametrize("path", FIXTURES, ids=[p.stem for p in FIXTURES])
def test_the_examples_of_the_language_parse_and_type(path: Path) -> None:
    module = parse(path.read_text(encoding="utf-8"))
    assert module.kernels
    for found in module.kernels:
        assert violations(found) == []


# Numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("w = v + v", "f32(BM, BN)"),
        ("w = b * 0.1", "f32(BM, BN)"),
        ("w = b + v", "f32(BM, BN)"),
        ("w = maximum(b, b)", "f32(BM, BN)"),
        ("w = -b", "f32(BM, BN)"),
        ("w = where(b > 0.0, b, 0.1)", "bf16(BM, BN)"),
        ("w = where(b > 0.0, b, v)", "f32(BM, BN)"),
        ("w = where(v > 0.0, v, 0)", "T(BM, BN)"),
        ("w = max(b, axis=1)", "f32(BM)"),
        ("w = max(b, axis=-1, keepdims=True)", "f32(BM, 1)"),
        ("w = sum(b)", "f32()"),
        ("w = sum(b, axis=(0, 1))", "f32()"),
        ("w = q + 1", "i8(BM, BN)"),
        ("w = cast(q, i32) // 3", "i32(BM, BN)"),
        ("w = q > 0", "bool(BM, BN)"),
        ("w = (q > 0) & (v > 0.0)", "bool(BM, BN)"),
        ("w = ~(q > 0)", "bool(BM, BN)"),
        ("w = argmax(v, axis=1)", "i32(BM)"),
        ("w = mma(b, b.T)", "f32(BM, BM)"),
        ("w = mma(v, v.T)", "f32(BM, BM)"),
        ("w = mma(q, q.T)", "i32(BM, BM)"),
        ("w = coords(i, BM) + n", "i32(BM)"),
        ("w = scan(b, axis=1, op=sum)", "f32(BM, BN)"),
        ("w = v ** 3", "f32(BM, BN)"),
        ("w = v / N", "f32(BM, BN)"),
        ("w = 1.0 / N", "f32()"),
        ("w = scale * 2.0", "f32()"),
        ("w = cast(n, f32)", "f32()"),
        ("w = stack(v, v)", "T(BM, BN, 2)"),
        ("w = stack(v, v)[:, :, 1]", "T(BM, BN)"),
        ("w = v[:, None, :]", "T(BM, 1, BN)"),
        ("w = permute(v[:, :, None], (2, 0, 1))", "T(1, BM, BN)"),
        ("w = reshape(v, (BM, 1, BN))", "T(BM, 1, BN)"),
        ("w = reshape(fill(v, 0), (BM * BN,))", "T(BM*BN)"),
        ("w = iota(16) % 4", "i32(16)"),
        ("w = exp(v) if N > 4 else v * 2.0", "f32(BM, BN)"),
        ("w = any(v > 0.0, axis=1)", "bool(BM)"),
        ("w = full((BM,), scale, f32)", "f32(BM)"),
        ("w = full((BM,), -inf, f32)", "f32(BM)"),
        ("w = zeros(BM, bf16)", "bf16(BM)"),
    ],
)
def test_types(body: str, expected: str) -> None:
    assert type_of(body).replace(" * ", "*") == expected


def test_arithmetic_on_a_dtype_variable_needs_a_float() -> None:
    assert kernel("w = v + 1.0").dtype_needs == (("T", "float"),)
    assert kernel("w = where(b > 0.0, v, v)").dtype_needs == ()


def test_casts_and_broadcasts_are_explicit() -> None:
    operations = [type(s.operation).__name__ for s in lets(kernel("w = b * max(b, axis=1)[:, None]"))]
    assert operations[3:] == ["Cast", "Reduce", "ExpandDims", "Cast", "Broadcast", "Binary", "Full"]


def test_literals_fold() -> None:
    found = kernel("a = 2.0 * 3.0 - 1\nw = v * a")
    assert next(s.operation.value for s in lets(found) if isinstance(s.operation, ir.Full)) == 5.0


# Names -------------------------------------------------------------------------------------------


def test_values_have_the_authors_names() -> None:
    names = {s.value.name for s in lets(kernel("p, r = exp(v), exp(b)\nt = p * r"))}
    assert {"v", "b", "p", "r", "t"} <= names


def test_top_level_constants() -> None:
    found = kernel("w = v * SCALE + OFFSET", top="SCALE = 0.5\nOFFSET = -(1.0 / 4)")
    assert {s.operation.value for s in lets(found) if isinstance(s.operation, ir.Full)} >= {0.5, -0.25}


def test_inline_functions_are_hygienic() -> None:
    top = "@inline\ndef f(a, scale):\n    v = a * scale\n    i = v + 1\n    return v, i\n"
    found = kernel("w, u = f(v, 3.0)\nz = v + 1.0", top)
    z = next(s for s in lets(found) if s.value.name == "z").operation
    assert isinstance(z, ir.Binary)
    inner = next(s.value for s in lets(found) if s.value.name == "i")
    assert [c.line for c in inner.origin.calls] == [15]  # the call
    assert codes("w = f(v)", "@inline\ndef f(a):\n    return a + N\n") == ["unknown-word"]


def test_inline_without_result_may_store() -> None:
    text = """edition(1)

@inline
def put(a, i, value, BN=64):
    store(a, (i,), value)

@kernel
def k(x: In[f32, N], y: Out[f32, N], BN=64):
    for i in tiles((N,), (BN,)):
        put(y, i, value=load(x, (i,), (BN,)))
"""
    (found,) = parse(text).kernels
    assert any(isinstance(s, ir.Store) for s in walk(found.body))


def test_bool_constants_are_conditions() -> None:
    found = kernel("w = v\nif flag and N > 2:\n    w = v * 2.0\nelse:\n    w = v * 3.0")
    (branch,) = [s for s in walk(found.body) if isinstance(s, ir.If)]
    assert str(branch.condition) == "(flag != 0) and (N > 2)"


# Loops -------------------------------------------------------------------------------------------


def loops(found: ir.Kernel, kind: str = "range") -> list[ir.For]:
    return [s for s in walk(found.body) if isinstance(s, ir.For) and s.kind == kind]


def test_carried_names() -> None:
    found = kernel("l = zeros((BM,), f32)\nfor n_ in range(0, N, 8):\n    t = sum(v, axis=1)\n    l += t\nw = l * 2.0")
    (loop,) = loops(found)
    (carried,) = loop.carried
    assert (carried.initial.name, carried.inside.name, carried.result.name) == ("l", "l", "l")
    assert carried.result.number != carried.inside.number
    w = next(s for s in lets(found) if s.value.name == "w").operation
    assert isinstance(w, ir.Binary)
    assert w.a.number == carried.result.number


def test_a_carried_name_keeps_what_is_live_in_every_iteration() -> None:
    found = kernel("m = full((BM,), -inf, f32)\nfor n_ in range(0, 4, 1):\n    m = maximum(m, max(v, axis=1))")
    (carried,) = loops(found)[0].carried
    assert [str(x.hi) for x in carried.initial.type.live] == ["BM"]
    assert [str(x.hi) for x in carried.inside.type.live] == ["min(BM, M - i)"]
    assert carried.inside.type == carried.result.type


def test_two_loops_over_one_name_get_two_symbols() -> None:
    found = kernel("for n_ in range(0, 4, 1):\n    a = v\nfor n_ in range(0, 4, 1):\n    c = v")
    assert [loop.variables[0].name for loop in loops(found)] == ["n_", "n__2"]


def test_tuple_bounds_are_one_loop() -> None:
    (loop,) = loops(kernel("for r, s, c in pipeline((0, 0, 0), (3, 3, N), (1, 1, BN)):\n    a = v"), "pipeline")
    assert [v.name for v in loop.variables] == ["r", "s", "c"]
    assert [str(h) for h in loop.hi] == ["3", "3", "N"]


def test_range_with_one_and_two_bounds() -> None:
    found = loops(kernel("for a in range(N):\n    c = v\nfor a in range(2, N):\n    c = v"))
    assert [(str(f.lo[0]), str(f.hi[0]), str(f.step[0])) for f in found] == [("0", "N", "1"), ("2", "N", "1")]


@pytest.mark.parametrize(
    "body",
    [
        "l = zeros((BM,), f32)\nfor n_ in range(4):\n    l = zeros((BM,), i32)",
        "a = 1\nfor n_ in range(4):\n    a = a + 1",
        "t = (1, 2)\nfor n_ in range(4):\n    t = (2, 3)",
    ],
)
def test_carried_names_keep_their_type(body: str) -> None:
    assert codes(body) == ["carried-type"]


def test_a_literal_may_be_bound_again_to_the_same() -> None:
    assert loops(kernel("a = 1\nfor n_ in range(4):\n    a = 1"))[0].carried == ()


def test_deep_nests_of_loops_are_refused() -> None:
    body = "".join("    " * n + f"for a{n} in range(2):\n" for n in range(9)) + "    " * 9 + "pass"
    assert set(codes(body)) == {"too-large"}


# Branches ----------------------------------------------------------------------------------------


def test_merged_values_indices_and_conditions() -> None:
    body = "if N > 4:\n    a, m, t = 1, v, N > 8\nelse:\n    a, m, t = 2, v * 1.0, N > 9\n"
    assert codes(body + "w = m + 1.0") == ["ended-with-if"]  # T here and f32 there
    found = kernel(body.replace("v * 1.0", "cast(v * 2.0, T)") + "w = load(x, (a, 0), (BM, BN)) if t else v")
    (branch,) = [s for s in walk(found.body) if isinstance(s, ir.If)]
    assert [m.result.name for m in branch.merged] == ["m"]
    loads = [s.operation for s in lets(found) if isinstance(s.operation, ir.Load)]
    assert str(loads[-1].start[0]) == "(1 if N > 4 else 2)"


def test_a_name_bound_in_both_arms_survives() -> None:
    found = kernel("if n > 4:\n    m = exp(v)\nelse:\n    m = v + 1.0\nw = m * 2.0")
    (branch,) = [s for s in walk(found.body) if isinstance(s, ir.If)]
    assert branch.condition == Compare(">", symbol("n", "param"), index(4))
    assert branch.merged[0].result.type.dtype == "f32"


def test_data_decides_as_a_rank_0_bool() -> None:
    found = kernel("w = v\nif any(v > 0.0) and N > 2:\n    w = fill(v, 0)")
    (branch,) = [s for s in walk(found.body) if isinstance(s, ir.If)]
    assert isinstance(branch.condition, ir.Value)
    assert (branch.condition.type.dtype, branch.condition.type.shape) == ("bool", ())


def test_decided_conditions_leave_no_branch() -> None:
    found = kernel("if 2 > 1:\n    w = v\nelse:\n    w = exq(v)")
    assert [s for s in walk(found.body) if isinstance(s, ir.If)] == []


# Optional arrays ---------------------------------------------------------------------------------

OPTIONAL = """edition(1)

@kernel
def k(x: In[f32, N], y: Out[f32, N], res: In[f32, N] = None, BN=64):
    for i in tiles((N,), (BN,)):
        v = load(x, (i,), (BN,))
        if res is not None:
            v = v + load(res, (i,), (BN,))
        store(y, (i,), v)
"""


def test_optional_arrays() -> None:
    (present,) = parse(OPTIONAL).kernels
    (absent,) = parse(OPTIONAL, absent=frozenset({"res"})).kernels
    assert [a.name for a in present.arrays if a.optional] == ["res"]
    assert [a.name for a in absent.arrays] == ["x", "y"]
    assert len(list(lets(present))) > len(list(lets(absent)))
    with pytest.raises(KernelError) as caught:
        parse(OPTIONAL, absent=frozenset({"x"}))
    assert caught.value.diagnostics[0].code == "not-optional"


# Programs ----------------------------------------------------------------------------------------


def test_a_program_binds_the_dims_of_its_calls() -> None:
    module = parse((Path(__file__).parents[1] / "fixtures" / "kernels" / "splitk_gemm.tile").read_text())
    program = module.entry
    assert isinstance(program, ir.Program)
    assert [t.name for t in program.temps] == ["part"]
    assert {n: str(d) for n, d in program.calls[0].dims} == {"M": "M", "K": "K", "N": "N", "S": "S"}
    assert dict(program.calls[1].arrays) == {"part": "part", "y": "y"}


# Header ------------------------------------------------------------------------------------------


def test_assumes_and_policies() -> None:
    text = """edition(1)

@kernel
def k(x: In[f32, M, N], t: In[i32, E + 1], u: In[i32, E], y: Out[f32, M, N], BM=32, BN=64):
    on(sm_90a, BM=128, stages=3, cluster=(2, 1), via=tma)
    on(persistent=True)
    require(deterministic)
    assume(N in (64, 128), M % BM == 0, partition(t, M), 0 <= u <= M, distinct(u))
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), load(x, (i, j), (BM, BN)))
"""
    (found,) = parse(text).kernels
    first, second, third = found.policies
    assert (first.target, dict(first.words)) == ("sm_90a", {"BM": 128, "stages": 3, "cluster": (2, 1), "via": "tma"})
    assert (second.target, second.required, third.required) == (None, False, True)
    data = [a.data for a in found.assumes if a.data]
    assert [d[:2] for d in data] == [("partition", "t"), ("range", "u"), ("distinct", "u")]
    assert [str(b) for b in data[1][2]] == ["0", "M + 1"]
