"""Moves preserve what is computed: the interpreter gives the same values before and after, on small ragged shapes."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import moves
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter.run import interpret

from kernelagent import problems

DIMS = {"R": 5, "C": 37, "M": 11, "N": 13, "K": 21, "B": 1, "H": 2, "G": 1, "D": 16, "S": 7, "P": 9}
SMALL = {"BR": 2, "BC": 8, "BM": 4, "BN": 4, "BK": 8, "BS": 3, "BP": 4}
"""Tile sizes that give several iterations, and a ragged last one, along every axis."""


@functools.cache
def _inputs(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    problem = problems.load(name)
    needed = set(problem.workloads[0].dims)
    assert needed <= DIMS.keys(), needed
    workload = problems.Workload("tiny", {d: DIMS[d] for d in needed}, problem.workloads[0].scalars)
    arrays = problems.make_inputs(problem, workload, seed=3)
    outputs = problems.make_outputs(problem, workload)
    return {**arrays, **outputs}, problems.scalars(problem, workload)


def _values(name: str, text: str, tunables: dict[str, int]) -> dict[str, np.ndarray]:
    arrays, scalars = _inputs(name)
    module = parse(text)
    known = {t.name for t in module.entry.tunables}
    chosen = {k: v for k, v in tunables.items() if k in known}
    found = interpret(module, arrays, scalars, chosen, plant_nan=True, widen=True)
    return {t.name: found[t.name] for t in problems.load(name).outputs}


@functools.cache
def _expected(name: str) -> dict[str, np.ndarray]:
    return _values(name, problems.load(name).seed_kernel, SMALL)


def _require_same(name: str, text: str, tunables: dict[str, int]) -> None:
    for output, value in _values(name, text, tunables).items():
        np.testing.assert_allclose(value, _expected(name)[output], rtol=1e-10, atol=1e-12, err_msg=text)


STRUCTURAL = tuple(n for n in moves.names() if moves.get(n).family not in ("policy", "device", "tunables"))


@pytest.mark.parametrize("name", problems.names())
def test_each_structural_move_preserves_the_values(name: str) -> None:
    seed = problems.load(name).seed_kernel
    for move, arguments in moves.applicable(seed, only=STRUCTURAL):
        new = moves.apply(move, seed, **arguments)
        _require_same(name, new, SMALL)
        if move == "whole_row":
            _require_same(name, new, {**SMALL, "BC": 64})  # the arm that holds the row in one tile


@settings(max_examples=40)
@given(st.data())
def test_sequences_of_random_moves_preserve_the_values(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(problems.names()))
    text = problems.load(name).seed_kernel
    for _ in range(data.draw(st.integers(1, 4))):
        choices = moves.applicable(text, only=STRUCTURAL if data.draw(st.booleans()) else None)
        if not choices:
            break
        move, arguments = data.draw(st.sampled_from(choices))
        text = moves.apply(move, text, **arguments)
    _require_same(name, text, SMALL)


def _neighbour() -> Any:
    """The neighbouring test file, for its texts (tests are no package)."""
    spec = importlib.util.spec_from_file_location("move_texts", Path(__file__).with_name("test_moves.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _written(text: str, tunables: dict[str, int]) -> dict[str, np.ndarray]:
    """Outputs of a hand-written text on drawn arrays."""
    module = parse(text)
    draw = np.random.default_rng(5)
    arrays = {
        a.name: draw.standard_normal([d.evaluate(DIMS) for d in a.dims]).astype(np.float32) for a in module.entry.arrays
    }
    return interpret(module, arrays, {s.name: 0.3 for s in module.entry.scalars}, tunables, plant_nan=True, widen=True)


WRITTEN = {"ROWS": {"BR": 2, "BC": 8}, "MASKED": {"BM": 4, "BN": 4}}
"""Texts with what no seed offers (mergeable loops, an unlimited causal loop), and their tile sizes."""


def _require_written_same(name: str, text: str) -> None:
    expected = _written(getattr(_neighbour(), name), WRITTEN[name])
    for output, value in _written(text, WRITTEN[name]).items():
        np.testing.assert_allclose(value, expected[output], rtol=1e-10, atol=1e-12, err_msg=text)


@pytest.mark.parametrize("name", WRITTEN)
def test_each_structural_move_on_a_written_text_preserves_the_values(name: str) -> None:
    text = getattr(_neighbour(), name)
    found = moves.applicable(text, only=STRUCTURAL)
    assert found
    for move, arguments in found:
        _require_written_same(name, moves.apply(move, text, **arguments))


@settings(max_examples=25)
@given(st.data())
def test_moves_that_no_seed_offers_preserve_the_values_too(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(WRITTEN)))
    text = getattr(_neighbour(), name)
    for _ in range(data.draw(st.integers(1, 5))):
        choices = moves.applicable(text, only=STRUCTURAL)
        if not choices:
            break
        move, arguments = data.draw(st.sampled_from(choices))
        text = moves.apply(move, text, **arguments)
    _require_written_same(name, text)
