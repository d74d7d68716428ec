"""Prepared inputs: one workload, seed and variant in shared memory, with its expected outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from kernelagent.harness.memory import Arena, plan
from kernelagent.harness.oracle import Expected, expect
from kernelagent.problems.problem import Problem, Workload
from numpy.typing import NDArray

from kernelagent import problems


@dataclass(frozen=True)
class InputKey:
    """Which inputs. `variant` is a distribution name of `problems.variants`."""

    workload: str
    seed: int
    variant: str = "default"

    def __str__(self) -> str:
        return f"{self.workload}/{self.variant}/{self.seed}"


class InputSet:
    """Inputs and outputs of one workload in an arena that every worker maps, and what the outputs must be.

    `workload` is given where the key's is not one of the problem's; `like` then names that whose binary is run.
    """

    def __init__(self, problem: Problem, key: InputKey, workload: Workload | None = None, like: str = "") -> None:
        self.problem, self.key, self.like = problem, key, like or key.workload
        self.workload: Workload = workload or problem.workload(key.workload)
        self.scalars = problems.scalars(problem, self.workload)
        drawn = self._drawn()
        self.arena = _arena(problem, self.workload)
        for name, array in drawn.items():
            self.arena.array(name)[...] = array
        self._fingerprints = {name: self.arena.fingerprint(name) for name in drawn}

    @cached_property
    def expected(self) -> dict[str, Expected]:
        inputs = {name: self.arena.array(name) for name in self.arena.inputs()}
        return expect(self.problem, self.workload, inputs, self.scalars)

    def outputs(self) -> dict[str, NDArray[Any]]:
        return {name: self.arena.array(name) for name in self.arena.outputs()}

    def mutated_input(self) -> str | None:
        """Which input changed since it was drawn, and about where; None if none did."""
        for name, before in self._fingerprints.items():
            pages = np.flatnonzero(self.arena.fingerprint(name) != before)
            if pages.size:
                return f"input {name} was changed, at or after {self.arena.place(name, int(pages[0]))}"
        return None

    def restore(self) -> None:
        """Draw the inputs again after a candidate has changed them."""
        for name, array in self._drawn().items():
            self.arena.array(name)[...] = array
        self.arena.fill_guards()

    def close(self) -> None:
        self.arena.close()

    def _drawn(self) -> dict[str, NDArray[Any]]:
        return problems.make_inputs(self.problem, self.workload, self.key.seed, self.key.variant)


def _arena(problem: Problem, workload: Workload) -> Arena:
    shapes = problems.shapes(problem, workload)
    inputs = [(t.name, t.dtype, shapes[t.name], False) for t in problem.inputs]
    outputs = [(t.name, t.dtype, shapes[t.name], True) for t in problem.outputs]
    return Arena.create(plan([*inputs, *outputs]))
