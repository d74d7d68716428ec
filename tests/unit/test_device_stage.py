"""Operands in shared memory: no bank conflicts where ldmatrix reads and where copies write; rings of stages."""

from __future__ import annotations

from itertools import product

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.index import evaluate_condition
from kernelagent.dsl.lower.device.stage import pad_for, swizzle_for
from kernelagent.dsl.swizzle import Swizzle, bank_conflicts
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units

DTYPES = ["i8", "bf16", "f32"]
COLUMNS = [8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 256, 512]


def pieces_of(columns: int, dtype: str) -> float:
    """16-byte pieces of a row; ldmatrix and wide copies take whole ones."""
    return columns * bits(dtype) / 128


WHOLE = [(d, c) for d, c in product(DTYPES, COLUMNS) if pieces_of(c, d).is_integer()]
POWERS = [(d, c) for d, c in WHOLE if int(pieces_of(c, d)).bit_count() == 1]


def byte(row: int, column: int, columns: int, dtype: str) -> int:
    """Where an element lies in a stage of `columns` columns."""
    swizzle = swizzle_for(columns, dtype)
    at = row * (columns + (0 if swizzle else pad_for(columns, dtype))) + column
    if swizzle is not None:
        at = Swizzle(swizzle.bits, swizzle.base, swizzle.shift)(at)
    return at * bits(dtype) // 8


@pytest.mark.parametrize(("dtype", "columns"), WHOLE)
def test_eight_rows_of_one_column_lie_in_different_banks(dtype: str, columns: int) -> None:
    """What one 8x8 matrix of ldmatrix reads."""
    piece = 128 // bits(dtype)
    for first, column in product(range(0, 32, 8), range(0, columns, piece)):
        assert bank_conflicts(lambda lane: byte(first + lane, column, columns, dtype), 16, lanes=8) == 1  # noqa: B023


@pytest.mark.parametrize(("dtype", "columns"), POWERS)
def test_pieces_side_by_side_are_written_without_conflicts(dtype: str, columns: int) -> None:
    """What eight threads of a copy write at once: pieces of one row, then of the next."""
    piece = 128 // bits(dtype)
    pieces = columns // piece
    place = lambda k: byte(k // pieces, k % pieces * piece, columns, dtype)  # noqa: E731
    for first in range(0, 64, 8):
        assert bank_conflicts(lambda lane: place(first + lane), 16, lanes=8) == 1  # noqa: B023


@pytest.mark.parametrize(("dtype", "columns"), product(DTYPES, COLUMNS))
def test_a_swizzle_keeps_whole_pieces_and_moves_nothing_out_of_its_rows(dtype: str, columns: int) -> None:
    swizzle = swizzle_for(columns, dtype)
    if swizzle is None:
        assert columns & (columns - 1) or columns * bits(dtype) < 256
        return
    moved = [Swizzle(swizzle.bits, swizzle.base, swizzle.shift)(x) for x in range(16 * columns)]
    assert sorted(moved) == list(range(16 * columns))
    piece = 128 // bits(dtype)
    line = max(columns, 1024 // bits(dtype))
    for x, y in enumerate(moved):
        assert x % piece == y % piece
        assert x // line == y // line


# Rings ------------------------------------------------------------------------------------------------------

GEMM = """edition(1)

@kernel
def gemm(a: In[bf16, M, K], b: In[bf16, N, K], c: Out[f32, M, N]):
    on(cuda, stages={stages})
    for i, j in tiles((M, N), (64, 64)):
        acc = zeros((64, 64), f32)
        for {loop}:
            acc += mma(load(a, (i, k), (64, 32)), load(b, (j, k), (64, 32)).T)
        store(c, (i, j), acc)
"""
ONE = "k in pipeline(0, K, 32)"
TWO = "t, k in pipeline((0, 0), (3, K), (1, 32))"


def ring(stages: int, loop: str, aligned: bool = True) -> tuple[list[dev.Statement], dev.For]:
    """The statements in front of the ring's loop, and the loop."""
    module = parse(GEMM.format(stages=stages, loop=loop))
    unit = device_units(module, Choices({}, {}, {}, {"M": 256, "N": 256, "K": 320}), "sm_80")[0]
    body = unit.classes[0 if aligned else -1].schedule.grid.body
    at = next(k for k, s in enumerate(body) if isinstance(s, dev.For))
    made = body[at]
    assert isinstance(made, dev.For)
    return list(body[:at]), made


@pytest.mark.parametrize(("stages", "loop"), product([2, 3, 4], [ONE, TWO]))
def test_a_ring_runs_its_copies_ahead(stages: int, loop: str) -> None:
    before, made = ring(stages, loop)
    ahead = stages - 1
    assert sum(isinstance(s, dev.Commit) for s in before) == ahead  # a group for each stage, filled or not
    guards = [s for s in before if isinstance(s, dev.If)]
    assert len(guards) == ahead
    wait, barrier, fill, commit = made.body[:4]
    assert isinstance(wait, dev.WaitGroup)
    assert wait.pending == ahead - 1  # the newest may fly: all but the one read now
    assert isinstance(barrier, dev.BlockBarrier)
    assert isinstance(fill, dev.If)
    assert isinstance(commit, dev.Commit)


@pytest.mark.parametrize(("stages", "loop"), product([1, 2, 3, 4], [ONE, TWO]))
def test_each_iteration_reads_what_was_copied_for_it(stages: int, loop: str) -> None:
    """Run by hand: which (t, k) each stage holds when the product reads it."""
    before, made = ring(stages, loop)
    names = [v.name for v in made.variables]
    steps = range(0, 320, 32)
    iterations = [(t, k) for t in range(3) for k in steps] if len(names) == 2 else [(k,) for k in steps]
    held: dict[tuple[str, int], int] = {}
    sizes = {"M": 256, "N": 256, "K": 320, "i": 0, "j": 0}

    def fill(statements: list[dev.Statement] | tuple[dev.Statement, ...], at: dict[str, int]) -> None:
        for statement in statements:
            if isinstance(statement, dev.If):
                assert not isinstance(statement.condition, dev.Fragment)
                fill(statement.then if evaluate_condition(statement.condition, at) else (), at)
            elif isinstance(statement, dev.Copy):
                stage = statement.target.stage.evaluate(at)
                held[(statement.target.buffer, stage)] = statement.start[1].evaluate(at)

    fill(before, sizes)
    for iteration in iterations:
        at = {**sizes, **dict(zip(names, iteration, strict=True))}
        fill(made.body, at)
        (mma,) = [s.operation for s in made.body if isinstance(s, dev.Let) and isinstance(s.operation, dev.Mma)]
        for operand in (mma.a, mma.b):
            assert isinstance(operand, dev.Shared)
            assert held[(operand.buffer, operand.stage.evaluate(at))] == iteration[-1]


def test_one_stage_is_filled_between_two_barriers() -> None:
    _, made = ring(1, ONE)
    kinds = [type(s).__name__ for s in made.body[:6]]
    assert kinds == ["BlockBarrier", "Copy", "Copy", "Commit", "WaitGroup", "BlockBarrier"]


def test_copies_of_the_general_class_need_no_groups() -> None:
    """Two-byte elements cannot be copied asynchronously: registers in between, ordered by the barrier alone."""
    before, made = ring(3, ONE, aligned=False)
    assert not any(isinstance(s, dev.Commit | dev.WaitGroup) for s in (*before, *made.body))
    assert isinstance(made.body[0], dev.BlockBarrier)
