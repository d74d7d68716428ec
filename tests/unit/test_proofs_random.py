"""Random correct kernels: nothing is refuted, and nothing of safety and flow stays unknown.

`KERNELAGENT_FUZZ=100 pytest tests/unit/test_proofs_random.py` takes 100 further seeds of each family.
"""

from __future__ import annotations

import os

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.binding import bind
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.targets.calls import Choices, entry_dims
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from support.random_products import FAMILIES

SEEDS = range(6)
MORE = int(os.environ.get("KERNELAGENT_FUZZ", "0"))
FURTHER = 1000
REFUSED = {"cuda-unsupported", "shared-limit", "mma-tile"}
"""What a random kernel may ask for in vain."""


def schedules(family: str, seed: int, arch: str) -> list[Case]:
    program = FAMILIES[family](seed)
    module = parse(program.text)
    shapes = {n: (a.shape, from_numpy(a.dtype)) for n, a in program.arrays.items()}
    binding = bind(module.entry, shapes, program.scalars)
    choices = Choices(binding.dtypes, {}, binding.consts, entry_dims(module, binding.dims))
    try:
        return list(cases(module, choices, arch))
    except KernelError as refused:
        if {d.code for d in refused.diagnostics} <= REFUSED:
            return []
        raise


@pytest.mark.parametrize("seed", [*SEEDS, *range(FURTHER, FURTHER + MORE)])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_kernels_are_not_refuted(family: str, seed: int) -> None:
    for case in schedules(family, seed, ("sm_80", "sm_90a")[seed % 2]):
        found = prove(case)
        assert not found.counterexamples, found.counterexamples[0]
        unknown = [o for o in found.obligations if o.verdict == "UNKNOWN"]
        assert not unknown, unknown[0]
