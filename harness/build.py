"""From a candidate's text to something a worker can load: parse, check, compile. Nothing of it runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernelagent.harness.options import Options
from kernelagent.harness.records import Status
from kernelagent.problems.problem import Problem, Workload


@dataclass(frozen=True)
class KernelSizes:
    """What a candidate says about sizes. `extents`: of its tiles along each dim of the problem; `fixed`: dims that are
    part of a binary. `accepts(workload, like)`: whether the binary for the problem's workload `like` may be called with
    the sizes of another."""

    extents: Mapping[str, tuple[int, ...]]
    fixed: frozenset[str]
    accepts: Callable[[Workload, str], bool]


@dataclass(frozen=True)
class Built:
    """`subjects` are records for `subjects.load` by workload name, "" for those not listed (a binary may hold for some
    sizes only); `readable` are the folders that loading them needs.

    `deterministic` False allows two runs to differ in bits (floating atomic additions); each must still be right.
    `sizes` None: it is only tested on the problem's workloads.
    """

    subjects: Mapping[str, Mapping[str, Any]]
    readable: tuple[str, ...] = ()
    deterministic: bool = True
    verdict: str = "TESTED"
    proofs: Mapping[str, int] = field(default_factory=dict)
    diagnostics: tuple[dict[str, Any], ...] = ()
    report: tuple[str, ...] = ()
    artifact: dict[str, Any] | None = None
    sizes: KernelSizes | None = None


class BuildFailure(Exception):
    """The text cannot be run: REJECTED, REFUTED or COMPILE_ERROR, with diagnostics and compiler output."""

    def __init__(
        self, status: Status, detail: str, diagnostics: tuple[dict[str, Any], ...] = (),
        proofs: Mapping[str, int] | None = None, report: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.status: Status = status
        self.detail = detail
        self.diagnostics = diagnostics
        self.proofs = dict(proofs or {})
        self.report = report
        super().__init__(f"{status}: {detail}")


Build = Callable[[str, Problem, Options], Built]
"""Raises BuildFailure for whatever is the text's fault."""
