"""The speed of light of a problem on a chip: the time of its most used resource at that resource's full rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from kernelagent.problems.problem import Problem, Workload
from kernelagent.solar.chips import Chip, Rates, load_chip
from kernelagent.solar.graph import Graph
from kernelagent.solar.tracing import trace
from kernelagent.solar.work import Work

Basis = Literal["datasheet", "nominal", "measured"]


@dataclass(frozen=True)
class Limit:
    """`terms`: milliseconds each resource needs at least; `time_ms` is the largest, of resource `bound`."""

    time_ms: float
    bound: str
    terms: dict[str, float]
    basis: Basis

    def to_dict(self) -> dict[str, Any]:
        return {"time_ms": self.time_ms, "bound": self.bound, "terms": dict(self.terms), "basis": self.basis}


@dataclass(frozen=True)
class Bracket:
    """Work behind a constant mask (causal attention) may be skipped: `low` skips all of it, `high` none."""

    macs: tuple[int, int]
    time_ms: tuple[float, float]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {"macs": list(self.macs), "time_ms": list(self.time_ms), "reason": self.reason}


@dataclass(frozen=True)
class SolReport:
    """The bound of one workload on one chip.

    `macs`, `flops`, `special_ops` are what must be done; `min_bytes` reads every input and writes every output
    once, `unfused_bytes` is the traffic of one kernel per operation. `sol` uses datasheet (for a CPU: nominal)
    figures, `ceiling` this machine's measured rates, None where none were measured.
    """

    problem: str
    chip: str
    workload: str
    macs: int
    flops: int
    special_ops: int
    min_bytes: int
    unfused_bytes: int
    sol: Limit
    ceiling: Limit | None
    unmodelled: tuple[str, ...]
    bracket: Bracket | None
    notes: tuple[str, ...]
    cached_floor_ms: float

    @property
    def time_ms(self) -> float:
        return self.sol.time_ms

    @property
    def bound(self) -> str:
        """The resource that limits: dram, matrix, fma or special."""
        return self.sol.bound

    @property
    def terms(self) -> dict[str, float]:
        return self.sol.terms

    def suspect(self, time_ms: float) -> str | None:
        """Why a cold-cache time is not plausible, or None.

        On a CPU, whose outputs may stay in the last-level cache when the clock stops and whose memory rate is
        itself measured, the comparison allows for both.
        """
        if time_ms >= self.cached_floor_ms:
            return None
        return (
            f"{time_ms:.4g} ms is {self.cached_floor_ms / max(time_ms, 1e-12):.2f}x faster than the speed of light "
            f"of {self.chip} ({self.cached_floor_ms:.4g} ms, {self.bound}); work was skipped or the time is wrong"
        )

    def to_dict(self) -> dict[str, Any]:
        """One entry of `workloads` in the document of `kernelagent sol --json`."""
        return {
            "name": self.workload,
            "problem": self.problem,
            "chip": self.chip,
            "macs": self.macs,
            "flops": self.flops,
            "special_ops": self.special_ops,
            "min_bytes": self.min_bytes,
            "unfused_bytes": self.unfused_bytes,
            "time_ms": self.time_ms,
            "bound": self.bound,
            "terms": dict(self.terms),
            "basis": self.sol.basis,
            "ceiling": self.ceiling.to_dict() if self.ceiling else None,
            "unmodelled": list(self.unmodelled),
            "bracket": self.bracket.to_dict() if self.bracket else None,
            "notes": list(self.notes),
        }


def bound(problem: Problem, workload: Workload | str, chip: Chip | str) -> SolReport:
    """Trace the reference and bound it. Raises TraceError and UnknownChip."""
    machine = load_chip(chip) if isinstance(chip, str) else chip
    work = problem.workload(workload) if isinstance(workload, str) else workload
    return from_graph(problem.name, work.name, trace(problem, work), machine)


def document(problem: Problem, chip: Chip | str, workloads: Iterable[Workload | str] | None = None) -> dict[str, Any]:
    """`{"problem", "chip", "workloads": [..]}`: the JSON of the `sol` command."""
    machine = load_chip(chip) if isinstance(chip, str) else chip
    chosen = problem.workloads if workloads is None else workloads
    reports = [bound(problem, w, machine).to_dict() for w in chosen]
    return {"problem": problem.name, "chip": machine.name, "workloads": reports}


def from_graph(problem: str, workload: str, graph: Graph, chip: Chip) -> SolReport:
    """The report of a traced graph on a chip."""
    needed, everything, moved = graph.work(), graph.full_work(), graph.min_bytes()
    sol = limit(needed, moved, chip.peak, "nominal" if chip.kind == "cpu" else "datasheet")
    full = limit(everything, moved, chip.peak, sol.basis)
    return SolReport(
        problem=problem,
        chip=chip.name,
        workload=workload,
        macs=sum(needed.macs.values()),
        flops=sum(needed.flops.values()),
        special_ops=needed.special,
        min_bytes=moved,
        unfused_bytes=graph.unfused_bytes(),
        sol=sol,
        ceiling=limit(needed, moved, chip.measured, "measured") if chip.measured else None,
        unmodelled=(*graph.unmodelled, *_without_rate(needed, chip.peak)),
        bracket=_bracket(needed, everything, sol, full),
        notes=_notes(needed, chip),
        cached_floor_ms=_cached_floor(needed, graph, chip),
    )


def limit(work: Work, moved: int, rates: Rates, basis: Basis) -> Limit:
    """Milliseconds of each resource; multiply-adds of a dtype without matrix units run in the FMA pipe."""
    terms = {"dram": moved / rates.dram.value}
    matrix = sum(2 * n / rates.matrix[d].value for d, n in work.macs.items() if d in rates.matrix)
    fma = sum(2 * n / rates.fma[d].value for d, n in work.macs.items() if d not in rates.matrix and d in rates.fma)
    fma += sum(n / rates.fma[d].value for d, n in work.flops.items() if d in rates.fma)
    terms |= {"matrix": matrix} if matrix else {}
    terms |= {"fma": fma} if fma else {}
    if rates.special and work.special:
        terms["special"] = work.special / rates.special.value
    terms = {name: seconds * 1e3 for name, seconds in terms.items()}
    slowest = max(terms, key=lambda name: terms[name])
    return Limit(terms[slowest], slowest, terms, basis)


def _without_rate(work: Work, rates: Rates) -> tuple[str, ...]:
    missing = [d for d in work.macs if d not in rates.matrix and d not in rates.fma]
    return tuple(f"{d} multiply-adds (the chip's file has no rate for them)" for d in missing)


def _bracket(needed: Work, everything: Work, low: Limit, high: Limit) -> Bracket | None:
    if needed == everything:
        return None
    return Bracket(
        macs=(sum(needed.macs.values()), sum(everything.macs.values())),
        time_ms=(low.time_ms, high.time_ms),
        reason="a constant mask hides part of the work; the bound skips all of it",
    )


def _notes(work: Work, chip: Chip) -> tuple[str, ...]:
    notes = []
    if work.macs.get("f32") and "f32" not in chip.peak.matrix and chip.kind == "gpu":
        notes.append("f32 multiply-adds stay f32: they run in the FMA pipe, not as tf32 in the tensor cores")
    if work.special and chip.peak.special is None:
        notes.append("no special-function unit: exp, log, reciprocal ... are left out of `sol`, not of `ceiling`")
    if chip.dram_is_measured:
        notes.append("no datasheet for this memory: `sol` takes the fastest streaming rate ever measured here")
    return tuple(notes)


def _cached_floor(work: Work, graph: Graph, chip: Chip) -> float:
    """The time below which a measurement is suspect."""
    if not chip.dram_is_measured:
        return limit(work, graph.min_bytes(), chip.peak, "datasheet").time_ms
    to_memory = graph.read_bytes() + max(0, graph.written_bytes() - chip.cache_bytes)
    return 0.9 * limit(work, to_memory, chip.peak, "nominal").time_ms
