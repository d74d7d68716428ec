"""Is the answer right? Two runs on poisoned outputs, every element against the oracle, guards and inputs untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from kernelagent.harness.comparison import Comparison, compare, element_name, others
from kernelagent.harness.inputs import InputSet
from kernelagent.harness.memory import POISONS, Fingerprint
from kernelagent.harness.records import Status
from numpy.typing import NDArray


class Runner(Protocol):
    """What correctness needs of a subject: run once on the arrays of a set. Raises WorkerFailure."""

    def run(self, inputs: InputSet) -> None: ...


@dataclass(frozen=True)
class Finding:
    """What was found on one input set. `accepted` are the fingerprints of a right answer, for later bitwise checks.

    `unsure`: only the soft bound is broken, which has to be confirmed on fresh inputs.
    """

    status: Status
    max_error: float | None = None
    max_ratio: float | None = None
    detail: str = ""
    unsure: bool = False
    accepted: Mapping[str, Fingerprint] = field(default_factory=dict)


def examine(runner: Runner, inputs: InputSet, deterministic: bool = True) -> Finding:
    """Run twice on poisoned outputs and judge. Raises WorkerFailure if the subject crashes or hangs."""
    broken = _run_poisoned(runner, inputs, POISONS[0])
    if broken:
        return broken
    finding = judge(inputs)
    if finding.status != "PASSED" and not finding.unsure:
        return finding
    first = fingerprints(inputs)
    broken = _run_poisoned(runner, inputs, POISONS[1])
    if broken:
        return broken
    difference = _difference(runner, inputs, first) if deterministic else ""
    if difference:
        return Finding("INCORRECT_NUMERICAL", finding.max_error, finding.max_ratio, difference)
    return Finding(finding.status, finding.max_error, finding.max_ratio, finding.detail, finding.unsure, first)


def judge(inputs: InputSet) -> Finding:
    """Compare the outputs that lie in the set's arrays with the oracle."""
    found = inputs.outputs()
    soft = {name: compare(found[name], e) for name, e in inputs.expected.items()}
    if all(c.right for c in soft.values()):
        return Finding("PASSED", _largest_error(soft), _largest_ratio(soft))
    hard = {name: compare(found[name], inputs.expected[name], hard=True) for name, c in soft.items() if not c.right}
    unsure = all(c.right for c in hard.values())
    name, worst = next((n, c) for n, c in (soft if unsure else hard).items() if not c.right)
    detail = _unwritten(name, found[name], worst) or worst.detail
    return Finding("INCORRECT_NUMERICAL", _largest_error(soft), _largest_ratio(soft), detail, unsure)


def fingerprints(inputs: InputSet) -> dict[str, Fingerprint]:
    """Of all outputs as they lie in the set's arrays."""
    return {name: inputs.arena.fingerprint(name) for name in inputs.arena.outputs()}


def same_bits(found: Mapping[str, Fingerprint], accepted: Mapping[str, Fingerprint]) -> bool:
    return all(np.array_equal(found[name], accepted[name]) for name in accepted)


def _run_poisoned(runner: Runner, inputs: InputSet, poison: int) -> Finding | None:
    """One run; what it damaged besides its outputs, if anything."""
    inputs.arena.poison(poison)
    runner.run(inputs)
    outside = inputs.arena.broken_guard()
    if outside:
        return Finding("RUNTIME_ERROR", detail=outside)
    mutated = inputs.mutated_input()
    if mutated:
        inputs.restore()
        return Finding("REWARD_HACK", detail=mutated)
    return None


def _unwritten(name: str, found: NDArray[Any], comparison: Comparison) -> str:
    """The message for elements that still hold the poison, or "" if there are none."""
    raw = _bits(found).reshape(-1, found.dtype.itemsize)
    untouched = np.flatnonzero((raw == POISONS[0]).all(axis=1))
    if not untouched.size:
        return ""
    place = element_name(name, found, int(untouched[0]))
    return f"{place} was never written; {untouched.size} unwritten, {others(comparison.wrong, found.size)}"


def _difference(runner: Runner, inputs: InputSet, first: Mapping[str, Fingerprint]) -> str:
    """Where two runs on the same inputs differ, or "". A third run names the element, if it differs again."""
    for name, page in _differing_pages(first, fingerprints(inputs)):
        before = inputs.arena.array(name).copy()
        runner.run(inputs)
        exact = _first_difference(name, before, inputs.arena.array(name))
        return f"two runs on the same inputs differ {exact or f'at or after {inputs.arena.place(name, page)}'}"
    return ""


def _differing_pages(first: Mapping[str, Fingerprint], second: Mapping[str, Fingerprint]) -> Iterator[tuple[str, int]]:
    for name in first:
        pages = np.flatnonzero(first[name] != second[name])
        if pages.size:
            yield name, int(pages[0])


def _first_difference(name: str, a: NDArray[Any], b: NDArray[Any]) -> str:
    differs = (_bits(a).reshape(-1, a.dtype.itemsize) != _bits(b).reshape(-1, a.dtype.itemsize)).any(axis=1)
    places = np.flatnonzero(differs)
    if not places.size:
        return ""
    place = int(places[0])
    values = a.reshape(-1)[place], b.reshape(-1)[place]
    return f"at {element_name(name, a, place)}: {values[0]}, then {values[1]}; {places.size} differ"


def _bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _largest_error(comparisons: Mapping[str, Comparison]) -> float:
    return max(c.max_error for c in comparisons.values())


def _largest_ratio(comparisons: Mapping[str, Comparison]) -> float:
    return max(c.max_ratio for c in comparisons.values())
