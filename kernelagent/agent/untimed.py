"""A laboratory without a device: candidates for a GPU are proved, compiled, emulated and ranked by a static model.

Nothing here is a time. An evaluation that passes has the status UNTIMED and carries an estimate beside it; the estimate
is for ranking within the run, and neither the knowledge base nor the leaderboard takes it for a measurement.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.errors import CallError, EnvironmentLack
from kernelagent.harness import Evaluation, Timing, WorkloadResult
from kernelagent.harness.permits import permit
from kernelagent.harness.records import Status
from kernelagent.harness.static_model import VERSION, ChipRates, Estimate, NotEstimated
from kernelagent.problems.problem import Problem, Workload

from .estimating import compiled_estimate, rates_of
from .laboratory import CandidateFailed, Report, Rivals
from .matching import diagnose
from .texts import sha

if TYPE_CHECKING:
    from kernelagent.dsl.check_text import CheckReport
    from kernelagent.solar.chips import Chip

RULE = "proved, compiled through the static gates, emulated; not timed"
DEFAULT_CHIP = "h100-sxm"


def chip_for(name: str | None, arch: str | None) -> Chip:
    """The named chip, else the first whose architecture is `arch`, else an H100.

    Raises CallError for a chip that is no GPU, whose architecture the compiler does not have, or that is not of `arch`;
    UnknownChip for an unknown name.
    """
    from kernelagent.dsl.targets.cuda.archs import archs
    from kernelagent.solar import chip_names, load_chip

    if name is None and arch is not None:
        found = [c for c in map(load_chip, (n for n in chip_names() if n != "this")) if c.arch == arch]
        if not found:
            raise CallError(f"no chip has the architecture '{arch}'", f"known to the compiler: {', '.join(archs())}")
        return found[0]
    chip = load_chip(name or DEFAULT_CHIP)
    if chip.kind != "gpu":
        raise CallError(f"{chip.name} is no GPU", "name one with --chip; `kernelagent chips list` shows them")
    if chip.arch not in archs():
        raise CallError(f"the compiler has no target for {chip.name} ({chip.arch})", f"it has {', '.join(archs())}")
    if arch is not None and arch != chip.arch:
        raise CallError(f"{chip.name} is a chip of {chip.arch}, not of {arch}", "leave out --arch or --chip")
    return chip


def rates_for(chip: str) -> ChipRates:
    """Of a chip by name, for the static model. Raises NotEstimated."""
    from kernelagent.solar import load_chip

    return rates_of(load_chip(chip))


class UntimedBench:
    """One problem, one workload, one chip that is described but not present."""

    target = "cuda"

    def __init__(self, problem: Problem, workload: Workload, chip: Chip) -> None:
        from kernelagent.dsl.targets.cuda.compiler import find_toolchain
        from kernelagent.dsl.targets.cuda.tools import MissingTool

        try:
            self._compiler = find_toolchain("auto").identity
        except MissingTool as missing:
            raise EnvironmentLack(str(missing), getattr(missing, "hint", None)) from None
        self._problem, self._workload, self._chip = problem, workload, chip
        self.rates = rates_of(chip)

    @property
    def chip(self) -> str:
        return self._chip.name

    @property
    def arch(self) -> str:
        return self._chip.arch

    def environment(self) -> dict[str, Any]:
        from kernelagent.harness import environment

        return {**environment.describe(), "cuda_compiler": str(self._compiler), "static_model": VERSION}

    def bound(self) -> tuple[Report, Report]:
        """The datasheet's speed of light on the chip; nothing was measured on one, so there is no ceiling."""
        from kernelagent.solar import TraceError, bound

        try:
            return {**bound(self._problem, self._workload, self._chip).to_dict(), "arch": self.arch}, {}
        except TraceError as error:
            return {"unmodelled": [str(error)], "arch": self.arch}, {}

    def baselines(self) -> Rivals:
        return Rivals(())

    def late_baselines(self) -> Rivals:
        return Rivals(())

    def check(self, text: str) -> tuple[Diagnostic, ...]:
        return diagnose(text, self._problem)

    def evaluate(self, text: str) -> Evaluation:
        """Proofs in their quick form, both shape classes compiled, one emulated completion order."""
        return self._judged(text, quick=True)

    def confirm(self, text: str) -> Evaluation:
        """All proofs, and copies that complete late and at random."""
        return self._judged(text, quick=False)

    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        raise CandidateFailed("there is no device: nothing is timed")

    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        raise CandidateFailed("there is no device: nothing is timed")

    def close(self) -> None:
        """Nothing is held."""

    def _judged(self, text: str, quick: bool) -> Evaluation:
        from kernelagent.checking import check_gpu_for, covered

        begin = time.perf_counter()
        report = check_gpu_for(text, self._problem, "both", self.arch, quick, self._workload)
        refuted = not permit(report.verdict).timed
        status: Status = "REFUTED" if refuted else "UNTIMED" if report.ok else "COMPILE_ERROR"
        result = self._result(text, status, report)
        return Evaluation(
            self._problem.name, sha(text), status, (result,), tuple(d.to_dict() for d in report.diagnostics),
            dict(Counter(str(o.verdict) for o in report.obligations)), report.verdict, environment=self.environment(),
            report=_choices(report), covered=covered(report, text, self._problem, self._workload),
            seconds=time.perf_counter() - begin, semantics=report.semantics,
        )  # fmt: skip

    def _result(self, text: str, status: Status, report: CheckReport) -> WorkloadResult:
        """With the estimate, or why there is none."""
        if status != "UNTIMED":
            return WorkloadResult(self._workload.name, status, RULE, None, None, _why(report))
        try:
            found = compiled_estimate(text, self._problem, self._workload, self.rates)
        except (NotEstimated, KernelError) as unknown:
            return WorkloadResult(self._workload.name, status, RULE, None, None, f"no estimate: {unknown}")
        return WorkloadResult(
            self._workload.name, status, RULE, None, None, _said(found, self.chip), estimate=found.to_dict()
        )


def _said(found: Estimate, chip: str) -> str:
    return (
        f"estimate of the static model ({VERSION}) for {chip}, no time: {found.time_ms:.4g} ms, bound by {found.bound}"
    )


def _why(report: CheckReport) -> str:
    """The first thing that is wrong; a counterexample says it best."""
    if report.counterexamples:
        return str(report.counterexamples[0])[:500]
    return next((f"{d.code}: {d.message}" for d in report.diagnostics if d.severity == "error"), "")[:500]


def _choices(report: CheckReport) -> tuple[str, ...]:
    """What the compiler chose, each line once."""
    kernels = report.resources.get("kernels", ())
    return tuple(dict.fromkeys(line for kernel in kernels for line in kernel["report"]))
