"""The rules of the tile IR hold after each step, and notice when they are broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl import instantiate, ir, parse
from kernelagent.dsl.index import Symbol, index, symbol
from kernelagent.dsl.instantiation import fixed_dims
from kernelagent.dsl.spec import is_concrete, violations

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "kernels").glob("*.tile"))
KERNELS = [kernel for path in FIXTURES for kernel in parse(path.read_text(encoding="utf-8")).kernels]
TEXT = """edition(1)

@kernel
def k(x: In[T, M, N], y: Out[T, M, N], BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for n in range(0, 4, 1):
            acc += load(x, (i, j), (BM, BN), fill=0)
        store(y, (i, j), cast(acc, T))
"""
(KERNEL,) = parse(TEXT).kernels


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_generic_and_concrete_kernels_are_well_formed(kernel: ir.Kernel, dtype: str) -> None:
    assert violations(kernel) == []
    dims = {d: 16 if d == "R" else 64 for d in fixed_dims(kernel)}
    concrete = instantiate(kernel, dict.fromkeys(kernel.dtype_variables, dtype), dims=dims)
    assert violations(concrete) == []
    assert is_concrete(concrete)


def grid() -> ir.For:
    (found,) = KERNEL.body
    assert isinstance(found, ir.For)
    return found


def with_body(*statements: ir.Statement) -> ir.Kernel:
    return replace(KERNEL, body=(replace(grid(), body=statements),))


def zeros() -> ir.Let:
    found = grid().body[0]
    assert isinstance(found, ir.Let)
    return found


def loop() -> ir.For:
    found = grid().body[1]
    assert isinstance(found, ir.For)
    return found


def last_store() -> ir.Store:
    found = grid().body[-1]
    assert isinstance(found, ir.Store)
    return found


def elsewhere() -> ir.Store:
    return replace(last_store(), start=(symbol("q", "loop"),) * 2)


def narrowed(let: ir.Let, **changes: object) -> ir.Let:
    return replace(let, value=replace(let.value, type=replace(let.value.type, **changes)))


def carried_of_other_dtype() -> ir.Kernel:
    (c,) = loop().carried
    other = replace(c.result, type=replace(c.result.type, dtype="i32"))
    broken = replace(loop(), carried=(replace(c, result=other),))
    return with_body(zeros(), broken, *grid().body[2:])


BROKEN: list[tuple[str, Callable[[], ir.Kernel], str]] = [
    ("a value is used before it is defined", lambda: with_body(*grid().body[1:]), "does not dominate"),
    ("a value is defined twice", lambda: with_body(zeros(), *grid().body), "defined once"),
    ("a carried value changes its dtype", carried_of_other_dtype, "keeps its dtype and shape"),
    ("a store converts", lambda: with_body(*grid().body[:-1], replace(last_store(), value=zeros().value)), "convert"),
    ("a position has another rank", lambda: with_body(*grid().body[:-1], replace(last_store(), start=())), "ranks"),
    ("a foreign symbol", lambda: with_body(*grid().body[:-1], elsewhere()), "not in scope"),
    ("an unknown dtype", lambda: with_body(narrowed(zeros(), dtype="f31"), *grid().body[1:]), "is a dtype"),
    ("live of another rank", lambda: with_body(narrowed(zeros(), live=()), *grid().body[1:]), "one live interval"),
    ("live that the rule does not give", lambda: with_body(
        narrowed(zeros(), live=(ir.Live(index(0), index(1)),) * 2), *grid().body[1:]), "the rule gives"),
    ("a loop variable that exists already", lambda: replace(KERNEL, body=(replace(
        grid(), variables=(Symbol("M", "loop"), Symbol("j", "loop"))),)), "new"),
    ("an output is written as an Acc", lambda: replace(
        KERNEL, arrays=(KERNEL.arrays[0], replace(KERNEL.arrays[1], role="Acc"))), "may be written so"),
    ("an input is written", lambda: replace(
        KERNEL, arrays=(KERNEL.arrays[0], replace(KERNEL.arrays[1], role="In"))), "may be written so"),
]  # fmt: skip


@pytest.mark.parametrize(("title", "make", "expected"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_kernels_are_noticed(title: str, make: Callable[[], ir.Kernel], expected: str) -> None:
    found = violations(make())
    assert any(expected in text for text in found), found


def replaced_operations() -> list[tuple[str, ir.Operation]]:
    a = zeros().value
    row = ir.Value(900, ir.TileType("f32", a.type.shape[:1], a.type.live[:1]), "", a.origin)
    return [
        ("Binary of unlike shapes", ir.Binary("add", a, row)),
        ("Where decided by floats", ir.Where(a, a, a)),
        ("Reduce along an axis that is not there", ir.Reduce("sum", a, 5)),
        ("Permute with a repeated axis", ir.Permute(a, (0, 0))),
        ("Cast that changes nothing", ir.Cast(a)),
        ("Broadcast of another rank", ir.Broadcast(row)),
        ("Mma of unlike inner extents", ir.Mma(a, a)),
        ("any of floats", ir.Reduce("any", a, 0)),
        ("not of floats", ir.Unary("not", a)),
        ("a literal that does not fit", ir.Full(True)),
        ("an unknown scalar", ir.ScalarParam("nobody")),
        ("an index of rank 2", ir.FromIndex(index(1))),
        ("coordinates of rank 2", ir.Iota(index(0))),
    ]


@pytest.mark.parametrize(("title", "operation"), replaced_operations(), ids=[t for t, _ in replaced_operations()])
def test_each_operation_has_its_rule(title: str, operation: ir.Operation) -> None:
    a = zeros()
    row = ir.Value(900, ir.TileType("f32", a.value.type.shape[:1], a.value.type.live[:1]), "", a.value.origin)
    wrong = ir.Value(901, a.value.type, "", a.value.origin)
    kernel = with_body(a, ir.Let(row, ir.Reduce("sum", a.value, 1)), ir.Let(wrong, operation), *grid().body[1:])
    assert [text for text in violations(kernel) if text.startswith("%901")]
