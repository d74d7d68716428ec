"""Hidden sizes: a candidate also has to be right on small sizes that it cannot know, around its own tile extents.

A loop that ends one element early is right at every size of the problem and wrong where one element is left for the
last tile. So every dim takes, each once and in an order that only the session's seed gives away: one past each tile,
one, one less than a tile, a tile, several tiles with a rest, a small prime. A workload of the problem lends everything
else: scalars, sizes that the binary fixes, and those sizes that the kernel or the problem would not let change.

Probes look for wrong elements, not for rounding: tiny sizes cancel where the problem's own do not (the variance of a
row of one element), so the bound is wider than the oracle's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kernelagent.harness.build import Built, KernelSizes
from kernelagent.harness.correctness import Finding
from kernelagent.harness.inputs import InputKey, InputSet
from kernelagent.harness.oracle import Expected, elements
from kernelagent.harness.process import WorkerFailure
from kernelagent.harness.records import WorkloadResult
from kernelagent.harness.subject import Subject
from kernelagent.problems.problem import Problem, Workload
from kernelagent.problems.tolerances import reduction_length

PROBES = 6
"""Runs per binary: as many as one tile extent has telling sizes."""

BINARIES = 2
"""A text whose sizes are partly fixed has several binaries; this many are probed, the timed one first."""

ELEMENTS = 1 << 16
"""Most elements of all arrays of a probe, so that all probes together cost less than one timed workload."""

ARENA_BYTES = 8 * ELEMENTS + (1 << 20)
"""Address space for the arrays of one probe with their guards."""

SHORT = 16
TOLERANCES = (2.0**-12, 2.0**-16)
"""For reductions shorter than SHORT and for others, relative to an element and to the rms of its output: above what an
honest kernel's rounding comes to, far below a missing term (1/SHORT at least; 1/4097 behind a tile of 4096)."""

FLOOR = 2.0**-20
"""Of the rms at the problem's smallest workload: what cancels to nothing (the loss of one class) need not be exact."""

_DROPPED_TERMS_SHOW = "positive"
"""Where one term of a sum is left for the last tile, it must not happen to be a negligible one."""

_PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@dataclass(frozen=True)
class Probe:
    """Sizes to run at. `like` names the problem's workload whose binary is run, `variant` how inputs are drawn."""

    workload: Workload
    like: str
    variant: str


class ProbeInputs(InputSet):
    """Inputs of a probe. `floors` are the rms by output at the problem's smallest workload."""

    def __init__(self, problem: Problem, probe: Probe, seed: int, floors: Mapping[str, float]) -> None:
        super().__init__(problem, InputKey(probe.workload.name, seed, probe.variant), probe.workload, probe.like)
        self._floors = floors

    @cached_property
    def expected(self) -> dict[str, Expected]:
        tolerance = _tolerance(self.problem, self.workload)
        return {name: _widened(e, tolerance, self._floors[name]) for name, e in super().expected.items()}

    def meaningful(self) -> bool:
        """Whether the problem has an answer at these sizes: its reference runs, fits, and gives numbers."""
        try:
            return all(e.finite for e in self.expected.values())
        except Exception:  # noqa: BLE001 - the reference is the user's, and these sizes were never promised to it
            return False


@dataclass(frozen=True)
class Outcome:
    """`failure` is the first probe that a candidate fails; `line` sums up the others."""

    failure: WorkloadResult | None
    line: str


def run(
    problem: Problem, built: Built, subject: Subject, seed: int, floors: Mapping[str, float], timed: str
) -> Outcome | None:
    """Probe a candidate that is right on the problem's workloads; None if its build does not say what sizes mean."""
    if built.sizes is None:
        return None
    chooser = _Chooser(problem, built.sizes, random.Random(f"{seed} {subject.name}"), seed, floors)
    right = 0
    for base in bases(problem, built, timed):
        for inputs in chooser.choose(base):
            finding = _examine(subject, inputs, built.deterministic)
            inputs.close()
            if finding.status != "PASSED":
                return Outcome(_failed(problem, inputs.workload, finding), _line(right, right + 1, chooser.refused))
            right += 1
    return Outcome(None, _line(right, right, chooser.refused))


def bases(problem: Problem, built: Built, timed: str) -> list[Workload]:
    """The smallest workload of each binary, that of the timed workload first."""
    smallest: dict[int, Workload] = {}
    for workload in sorted(problem.workloads, key=lambda w: (w.name != timed, elements(problem, w))):
        binary = id(built.subjects.get(workload.name) or built.subjects[""])
        known = smallest.get(binary)
        if known is None or elements(problem, workload) < elements(problem, known):
            smallest[binary] = workload
    return list(smallest.values())[:BINARIES]


def sizes_of(extents: Sequence[int], rng: random.Random) -> list[int]:
    """PROBES sizes for a dim, the most telling first: one past each tile, one, then the others in random order."""
    tiles = sorted({t for t in extents if t > 1}, reverse=True)
    first = [*(t + 1 for t in tiles), 1]
    others = [n for t in tiles for n in (t - 1, t, 2 * t + 3)] + rng.sample(_PRIMES, 1 if tiles else 3)
    rng.shuffle(others)
    found = list(dict.fromkeys([*first, *others]))[:PROBES]
    return found + [rng.choice(found) for _ in range(PROBES - len(found))]


class _Chooser:
    """Turns wanted sizes into inputs that kernel and problem allow; `refused` counts sizes that the kernel does not."""

    def __init__(
        self, problem: Problem, sizes: KernelSizes, rng: random.Random, seed: int, floors: Mapping[str, float]
    ) -> None:
        self.problem, self.sizes, self.rng, self.seed, self.floors = problem, sizes, rng, seed, floors
        self.refused = 0

    def choose(self, base: Workload) -> Iterator[ProbeInputs]:
        """Different probes derived from a workload. The caller closes them."""
        free = [d for d in base.dims if d not in self.sizes.fixed]
        wanted = {d: sizes_of(self.sizes.extents.get(d, ()), self.rng) for d in free}
        shifts = self._shifts(free)
        seen = {tuple(base.dims.values())}
        for k in range(PROBES if free else 0):
            ranks = {d: (k + shifts[d]) % PROBES for d in free}
            inputs = self._probe(base, {d: wanted[d][rank] for d, rank in ranks.items()}, ranks, seen)
            if inputs is not None:
                yield inputs

    def _shifts(self, dims: Sequence[str]) -> dict[str, int]:
        """Which of its sizes each dim starts with: different ones, so that no two dims are most telling at once."""
        rounds = [s for _ in range(0, len(dims), PROBES) for s in self.rng.sample(range(PROBES), PROBES)]
        return dict(zip(dims, rounds, strict=False))

    def _probe(
        self, base: Workload, wanted: Mapping[str, int], ranks: Mapping[str, int], seen: set[tuple[int, ...]]
    ) -> ProbeInputs | None:
        """With all dims changed; if the problem has no answer there, with the most telling two; then with one."""
        telling = sorted(wanted, key=lambda d: ranks[d])
        variant = _DROPPED_TERMS_SHOW if ranks[telling[0]] == 0 else "default"
        variant = variant if variant in self.problem.variants else "default"
        for names in (telling, telling[:2], telling[:1]):
            dims = self._fitting(base, {d: wanted[d] for d in names})
            if tuple(dims.values()) in seen or self._elements(base, dims) > ELEMENTS:
                continue
            seen.add(tuple(dims.values()))
            probe = Probe(_named(base, dims), base.name, variant)
            inputs = ProbeInputs(self.problem, probe, self.seed, self.floors)
            if inputs.meaningful():
                return inputs
            inputs.close()
        return None

    def _fitting(self, base: Workload, wanted: Mapping[str, int]) -> dict[str, int]:
        """The base with as many wanted sizes as fit: first the most telling one, for which the others make room, then
        the smaller ones. What the kernel refuses is tried again at the end: it may have waited for another dim."""
        first, dims, refused = next(iter(wanted)), dict(base.dims), []
        for name in dims:
            needed = self._elements(base, {**dims, first: wanted[first]})
            if name != first and needed > ELEMENTS:
                self._change(base, dims, name, max(1, dims[name] * ELEMENTS // needed))
        for name in sorted(wanted, key=lambda d: (d != first, wanted[d] > base.dims[d])):
            if self._change(base, dims, name, wanted[name]):
                refused.append(name)
        self.refused += sum(self._change(base, dims, name, wanted[name]) for name in refused)
        return dims

    def _change(self, base: Workload, dims: dict[str, int], name: str, size: int) -> bool:
        """Change one of `dims` if that is possible; whether it is not, because the kernel refuses."""
        trial = {**dims, name: size}
        most = max(ELEMENTS, self._elements(base, dims))
        if trial == dims or not 0 < self._elements(base, trial) <= most:
            return False
        if not self.sizes.accepts(_named(base, trial), base.name):
            return True
        dims[name] = size
        return False

    def _elements(self, base: Workload, dims: Mapping[str, int]) -> int:
        """Of all arrays; 0 where one is empty or its extent has no value."""
        from kernelagent import problems

        try:
            shapes = problems.shapes(self.problem, replace(base, dims=dims)).values()
        except ValueError:
            return 0
        counts = [math.prod(shape) if min(shape, default=1) > 0 else 0 for shape in shapes]
        return sum(counts) if all(counts) else 0


def _named(base: Workload, dims: Mapping[str, int]) -> Workload:
    return replace(base, name=f"hidden({', '.join(f'{d}={n}' for d, n in dims.items())})", dims=dims)


def _tolerance(problem: Problem, workload: Workload) -> float:
    return TOLERANCES[0] if reduction_length(problem, workload) < SHORT else TOLERANCES[1]


def _widened(expected: Expected, tolerance: float, floor: float) -> Expected:
    """With a wider bound, the same for hard and soft: there is nothing to confirm."""
    absolute = max(expected.absolute, tolerance * expected.rms) + FLOOR * floor
    relative = max(expected.relative, tolerance)
    return replace(expected, relative=relative, absolute=absolute, hard_gain=expected.soft_gain)


def _examine(subject: Subject, inputs: ProbeInputs, deterministic: bool) -> Finding:
    try:
        finding = subject.examine(inputs, deterministic)
        subject.forget(inputs)
    except WorkerFailure as failure:
        return Finding(failure.status, detail=failure.detail)
    return finding


def _failed(problem: Problem, workload: Workload, finding: Finding) -> WorkloadResult:
    rule = f"|y - y64| <= {_tolerance(problem, workload):g} (|y64| + rms) at sizes that the kernel does not rule out"
    return WorkloadResult(workload.name, finding.status, rule, finding.max_error, finding.max_ratio, finding.detail)


def _line(right: int, total: int, refused: int) -> str:
    """For the report. The sizes themselves stay hidden."""
    text = f"hidden sizes: right at {right} of {total}"
    return f"{text}; {refused} more are ruled out by the kernel" if refused else text
