"""Every seed kernel in the tile language's interpreter against its problem's reference."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.run import interpret

from kernelagent import dsl, problems


def front_end(text: str) -> list[str]:
    try:
        dsl.parse(text)
    except KernelError as error:
        return [d.message for d in error.diagnostics]
    return []


@pytest.mark.parametrize("name", problems.names())
def test_seed_is_accepted_without_a_word(name: str) -> None:
    module = dsl.parse(problems.load(name).seed_kernel)
    assert module.warnings == ()
    assert module.entry.name == name
    assert problems.validate(problems.load(name), check_kernel=front_end) == []


@pytest.mark.parametrize("name", problems.names())
def test_seed_is_not_tuned(name: str) -> None:
    """The first thing that a person would write: the same tile sizes everywhere, no policy for any machine."""
    entry = dsl.parse(problems.load(name).seed_kernel).entry
    assert isinstance(entry, ir.Kernel)
    assert {t.choices for t in entry.tunables} == {(32, 16, 64)}
    assert not entry.policies


@pytest.mark.parametrize("workload", ["ragged", "small"])
@pytest.mark.parametrize("name", problems.names())
def test_seed_is_right_on_every_variant(name: str, workload: str) -> None:
    """With NaN in every element that the language calls void."""
    problem = problems.load(name)
    module, scalars = dsl.parse(problem.seed_kernel), problems.scalars(problem, workload)
    for variant in problems.variants(problem):
        inputs = problems.make_inputs(problem, workload, 1, variant)
        exact = problems.run_reference(problem, inputs, scalars)
        arrays = {**inputs, **problems.make_outputs(problem, workload)}
        found = interpret(module, arrays, scalars, plant_nan=True)
        for output, values in exact.items():
            allowed = problems.allowance(problem, problem.workload(workload), output, values)
            error = np.abs(found[output].astype(np.float64) - values)
            worst = float((error / np.maximum(allowed, np.finfo(float).tiny)).max())
            assert worst <= 0.7, f"{variant}: the seed uses {worst:.2f} of the tolerance"


def test_template_kernel_is_accepted(tmp_path: object) -> None:
    problem = problems.load(problems.write_template(str(tmp_path), "mine"))
    assert problems.validate(problem, check_kernel=front_end) == []
    inputs = problems.make_inputs(problem, "ragged", 0)
    found = interpret(dsl.parse(problem.seed_kernel), {**inputs, **problems.make_outputs(problem, "ragged")}, {})
    exact = problems.run_reference(problem, inputs, {})["y"]
    np.testing.assert_allclose(found["y"], exact, rtol=1e-6)


def test_a_refused_seed_is_a_finding() -> None:
    from dataclasses import replace

    softmax = problems.load("softmax")
    broken = replace(softmax, seed_kernel=softmax.seed_kernel.replace("maximum(m,", "largest(m,"))
    (finding,) = problems.validate(broken, check_kernel=front_end)
    assert finding.code == "seed-rejected"
    assert "largest" in finding.message
