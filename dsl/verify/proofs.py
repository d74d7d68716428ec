"""Proofs of the schedules of a text: one run for each shape class, kept on disk until the text or the verifier changes.

    findings = prove_schedules(module, [choices], "sm_80")

A report is keyed by the text, its entry and choices, the architecture, and the digest of the sources of compiler and
verifier, so that another version's proofs are never taken for this one's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kernelagent.dsl.device import DeviceKernel
from kernelagent.dsl.lower.device.notes import notes
from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.progress import say
from kernelagent.dsl.verify.records import Findings, ScheduleCounterexample, findings_from

if TYPE_CHECKING:
    from kernelagent.dsl.ir import Module
    from kernelagent.dsl.verify.schedule.cases import Case

VERIFIER_VERSION = 1
"""Raise it when a verdict means something else; sources that differ are told apart without it."""
REPORT = "proofs.json"
Use = Literal["cached", "fresh", "recheck"]
"""`recheck`: prove again and say where the kept report differs."""


@dataclass(frozen=True)
class Proofs:
    """What was shown. `cached`: none of it in this call. `stale`: what a recheck found to be different. `notes`: lines
    of the compiler's report that cost time."""

    findings: Findings
    cached: bool
    key: str
    stale: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`resources.proofs` of a check."""
        return {"key": self.key, "cached": self.cached, "verifier": VERIFIER_VERSION}


def prove_schedules(
    module: Module,
    choices: Sequence[Choices],
    arch: str,
    quick: bool = False,
    oracle: Module | None = None,
    use: Use = "cached",
    root: Path | None = None,
    workloads: Sequence[Mapping[str, int]] = (),
) -> Proofs:
    """The schedules that the compiler makes for each of `choices`, or the one that a level-two text is.

    `oracle`: the level-one text that says what a level-two text computes. `workloads`: sizes of the dims at which what
    is not shown for all sizes is to be shown. Raises KernelError for what the architecture refuses.
    """
    from kernelagent.dsl.verify.schedule.budget import deadline

    place = cache.cache_root("proofs", root)
    key = key_of(module, choices, arch, quick, oracle, workloads)
    kept = _kept(place, key)
    if kept is None and quick:
        kept = _kept(place, key_of(module, choices, arch, False, oracle, workloads))
    if kept is not None and use == "cached":
        return Proofs(kept[0], True, key, notes=kept[1])
    findings, lowered = Findings(), list[DeviceKernel]()
    with deadline():
        for chosen in choices:
            findings += _proved(module, chosen, arch, quick, oracle, lowered, workloads)
    lost = notes(lowered)
    _keep(place, key, {**findings.to_dict(), "notes": lost}, use == "recheck")
    stale = _differences(kept[0], findings) if kept is not None and use == "recheck" else ()
    return Proofs(findings, False, key, stale, lost)


def traced(
    module: Module, choices: Sequence[Choices], arch: str, found: ScheduleCounterexample, oracle: Module | None = None
) -> list[str]:
    """The run that a counterexample is of, step by step. Raises KernelError."""
    from kernelagent.dsl.verify.schedule.trace import trace

    for chosen in choices:
        for case in _cases(module, chosen, arch, oracle):
            if (case.kernel.name, case.kernel.shape_class.name) == (found.kernel, found.shape_class):
                return trace(case, found, module.text)
    return []


def _cases(module: Module, chosen: Choices, arch: str, oracle: Module | None) -> list[Case]:
    from kernelagent.dsl.level2.module import ScheduledModule
    from kernelagent.dsl.verify.schedule.against import against
    from kernelagent.dsl.verify.schedule.cases import cases

    made = list(cases(module, chosen, arch))
    if isinstance(module, ScheduledModule) and oracle is not None:
        return [against(case, module, oracle, chosen) for case in made]
    return made


def _proved(
    module: Module,
    chosen: Choices,
    arch: str,
    quick: bool,
    oracle: Module | None,
    lowered: list[DeviceKernel],
    workloads: Sequence[Mapping[str, int]],
) -> Findings:
    """Of every schedule, which is added to `lowered`."""
    from kernelagent.dsl.level2.module import ScheduledModule, scheduled
    from kernelagent.dsl.verify.schedule.at import settled_at
    from kernelagent.dsl.verify.schedule.confirm import confirmed
    from kernelagent.dsl.verify.schedule.mend import mended
    from kernelagent.dsl.verify.schedule.prove import prove

    def rebuilt(text: str) -> Case:
        return _cases(scheduled(text), chosen, arch, oracle)[0]

    findings = Findings()
    for case in _cases(module, chosen, arch, oracle):
        lowered.append(case.kernel)
        say(f"proving the schedule of {case.kernel.name} ({case.kernel.shape_class.name})")
        found = confirmed(case, prove(case, quick))
        found = found if quick else settled_at(case, found, workloads)
        if found.counterexamples and isinstance(module, ScheduledModule) and not quick:
            say("looking for a fix")
            found = mended(module.text, rebuilt, found)
        findings += found
    return findings


def key_of(
    module: Module,
    choices: Sequence[Choices],
    arch: str,
    quick: bool,
    oracle: Module | None,
    workloads: Sequence[Mapping[str, int]] = (),
) -> str:
    """Hex digest of everything that the proofs depend on."""
    from kernelagent.dsl.targets.cuda.build import sources_digest

    facts = {
        "text": module.text,
        "entry": module.entry.name,
        "arrays": [a.name for a in module.entry.arrays],  # optional ones may be absent
        "choices": [asdict(c) for c in choices],
        "arch": arch,
        "quick": quick,
        "oracle": None if oracle is None else oracle.text,
        "workloads": [] if quick else [dict(w) for w in workloads],
        "verifier": (VERIFIER_VERSION, sources_digest()),
    }
    return cache.key_of(facts)


# The store -------------------------------------------------------------------------------------------------


def _kept(root: Path, key: str) -> tuple[Findings, tuple[str, ...]] | None:
    """Findings and notes."""
    path = cache.place(root, key) / REPORT
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return findings_from(record), tuple(record["notes"])


def _keep(root: Path, key: str, record: Mapping[str, Any], again: bool) -> None:
    def write(folder: Path) -> None:
        (folder / REPORT).write_text(json.dumps(record), encoding="utf-8")

    folder = cache.entry(root, key, write)
    if again:
        write(folder)


def beside(folder: Path, record: Mapping[str, Any]) -> None:
    """A report as `proofs.json` in the folder of a compiled kernel, which appears whole or not at all."""
    if not folder.is_dir():
        return
    text, path = json.dumps(record, default=str), folder / REPORT
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        made = folder / f".{REPORT}.{os.getpid()}"
        made.write_text(text, encoding="utf-8")
        made.replace(path)


def _differences(kept: Findings, found: Findings) -> tuple[str, ...]:
    """Obligations whose verdict is another one than in the kept report."""
    before, after = _verdicts(kept), _verdicts(found)
    names = sorted(before.keys() | after.keys(), key=str)
    said = [f"{n}: kept {before.get(n, 'nothing')}, now {after.get(n, 'nothing')}" for n in names]
    return tuple(s for s, n in zip(said, names, strict=True) if before.get(n) != after.get(n))


def _verdicts(findings: Findings) -> Mapping[str, Any]:
    return {f"{o.subject} {o.family} line {o.line} {o.detail}": o.verdict for o in findings.obligations}


__all__ = ["REPORT", "VERIFIER_VERSION", "Proofs", "Use", "beside", "key_of", "prove_schedules", "traced"]
