"""The texts that must compile to good GPU code mean what their oracles say, in the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.interpreter.machine import Options
from support.gpu_cases import CASES, KERNELS, Case, Shape, has_opcode

from kernelagent import dsl

TARGET = "sm_80"
TEXTS = sorted(KERNELS.glob("*.tile"))
RUNS = [
    pytest.param(case, shape, id=f"{case.name}-{'x'.join(map(str, shape.dims.values()))}")
    for case in CASES
    for shape in case.shapes
]


def _ragged(case: Case) -> Shape:
    return next(shape for shape in case.shapes if shape.kind == "ragged")


@pytest.mark.parametrize(("case", "shape"), RUNS)
def test_the_interpreter_agrees_with_the_oracle(case: Case, shape: Shape) -> None:
    inputs = case.inputs(shape.dims)
    options = Options(plant_nan=True, target=TARGET)
    arrays = {**inputs, **case.outputs(shape.dims)}
    found = dsl.interpret(dsl.parse(case.text), arrays, dict(case.scalars), options=options)
    verdict = case.verdict(inputs, found)
    assert verdict.ok, verdict


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bound_is_tight_enough_to_miss_the_last_element_of_each_input(case: Case) -> None:
    """On a ragged shape, what comes of every input's last element changed is refused: a lost tail would be seen."""
    dims = _ragged(case).dims
    inputs = case.inputs(dims)
    for name in case.ins:
        if case.dtype(name) == "i32":  # positions
            continue
        changed = inputs[name].copy()
        largest = changed.astype(np.float64).max()
        changed.flat[-1] = largest if float(changed.flat[-1]) < largest / 2 else 0
        found = {n: answer.value for n, answer in case.answers(inputs | {name: changed}).items()}
        assert not case.verdict(inputs, found).ok, name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_value_that_is_not_a_number_is_refused(case: Case) -> None:
    inputs = case.inputs(_ragged(case).dims)
    exact: dict[str, Any] = {n: answer.value.astype(np.float64) for n, answer in case.answers(inputs).items()}
    assert case.verdict(inputs, exact).ok
    last = exact[max(exact)]
    last.flat[-1] = np.nan
    assert case.verdict(inputs, exact).worst == np.inf


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_kernel_takes_the_large_shape(case: Case) -> None:
    shapes = {n: (case.shape(n, case.large.dims), case.dtype(n)) for n in (*case.ins, *case.outs)}
    dims = dsl.bind(dsl.parse(case.text), shapes, case.scalars).dims
    assert dims.items() >= dict(case.large.dims).items()


@pytest.mark.parametrize("target", ["cpu", TARGET])
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_check_refutes_nothing(path: Path, target: str) -> None:
    text = path.read_text(encoding="utf-8")
    dtypes = {"T": "bf16"} if "[T," in text else {}
    report = dsl.check(text, target=target, dtypes=dtypes)
    assert report.ok, report
    assert not report.diagnostics
    assert text.count("\n") <= 60


def test_every_text_has_a_case_with_a_full_a_ragged_and_a_tiny_shape() -> None:
    assert {case.path for case in CASES} == set(TEXTS)
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert {shape.kind for shape in case.shapes} == {"full", "ragged", "tiny"}, case.name


def test_an_opcode_is_found_by_its_name_and_modifiers() -> None:
    found = {"LDGSTS.E.BYPASS.128", "HMMA.16816.F32.BF16"}
    assert has_opcode(found, "LDGSTS.128")
    assert has_opcode(found, "HMMA.16816")
    assert not has_opcode(found, "HMMA.1688")
    assert not has_opcode(found, "LDG")
