"""The compiler's GPU kernels as cases of the proofs, and what is promised of them."""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.calls import Choices, entry_dims
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from support.gpu_cases import CASES
from support.gpu_cases import Case as Kernel

BY_NAME = {kernel.name: kernel for kernel in CASES}


def schedules(kernel: Kernel, arch: str) -> Iterator[Case]:
    """Every shape class of every kernel of its text."""
    module = parse(kernel.text)
    constant = {s.name for s in module.entry.scalars if s.dtype == "const"}
    consts = {name: int(value) for name, value in kernel.scalars.items() if name in constant}
    choices = Choices(dict(kernel.dtypes), {}, consts, entry_dims(module, kernel.shapes[0].dims))
    return cases(module, choices, arch)


def unshown(findings: Findings) -> list[str]:
    """Obligations that are refuted or unknown."""
    bad = [o for o in findings.obligations if o.verdict in ("REFUTED", "UNKNOWN")]
    return [f"{o.family} {o.verdict}: {o.detail}" for o in bad]


def proved_everywhere(findings: Findings) -> bool:
    """For all sizes. How numbers far from zero fare is tested, never proved."""
    return all(o.verdict == "PROVED" for o in findings.obligations if o.family != "stability")


def share_proved(arch: str) -> tuple[float, list[str]]:
    """The share of schedules with every family PROVED for all sizes, and what is refuted or unknown."""
    total = whole = 0
    bad: list[str] = []
    for kernel in CASES:
        for case in schedules(kernel, arch):
            findings = prove(case)
            total, whole = total + 1, whole + proved_everywhere(findings)
            bad += [f"{kernel.name} ({case.kernel.shape_class.name}) {text}" for text in unshown(findings)]
    return whole / total, bad
