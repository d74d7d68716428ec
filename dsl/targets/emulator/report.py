"""What the emulator found: records that name thread, place and both lines, grouped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.targets.emulator.facts import Fact
from kernelagent.dsl.targets.emulator.messages import message
from numpy.typing import NDArray

MOST_OF_A_KIND = 6
"""Findings of one kind that a report keeps, those that occurred most often first."""
NOTES = frozenset({"unwaited-copy", "unread-copy"})


@dataclass(frozen=True)
class Finding:
    """One group of equal faults; the fields describe its first. Lines are of the kernel's text, 0: unknown.

    `place` is the element of a global array or of a shared buffer's stage, "" where none is known. `other_*` is the
    other party of a race or the store or copy that the message speaks of. `occurrences` counts the group.
    """

    kind: str
    message: str
    line: int
    severity: Literal["error", "note"] = "error"
    block: int | None = None
    thread: int | None = None
    array: str | None = None
    coordinates: tuple[int, ...] = ()
    shared_offset: int | None = None
    place: str = ""
    other_line: int | None = None
    other_thread: int | None = None
    other_block: int | None = None
    occurrences: int = 1
    omitted: int = 0  # further groups of this kind that the report leaves out

    @property
    def warp(self) -> int | None:
        return None if self.thread is None else self.thread // WARP

    @property
    def lane(self) -> int | None:
        return None if self.thread is None else self.thread % WARP

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "warp": self.warp, "lane": self.lane}


@dataclass(frozen=True)
class EmulatorReport:
    """`seconds` is the emulated run, `compile_seconds` the building (near 0 from the cache). `store_lines`
    gives for each element of each output the line that stored it last, 0 where none did."""

    findings: tuple[Finding, ...]
    seconds: float
    compile_seconds: float
    completion: str = "late"
    seed: int = 0
    notes: tuple[Finding, ...] = ()
    store_lines: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.findings

    def kinds(self) -> frozenset[str]:
        return frozenset(f.kind for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        record = {k: getattr(self, k) for k in ("ok", "seconds", "compile_seconds", "completion", "seed")}
        return {**record, **{k: [f.to_dict() for f in getattr(self, k)] for k in ("findings", "notes")}}


def findings_from(records: Sequence[Mapping[str, Any]], names: Sequence[str], buffers: Sequence[Any]) -> list[Finding]:
    """The runner's records as findings, in the order in which they occurred first, at most a few of each kind."""
    found = [_finding(Fact.of(r, names, buffers)) for r in records]
    kept: list[Finding] = []
    for kind, groups in Counter(f.kind for f in found).items():
        same = sorted((f for f in found if f.kind == kind), key=lambda f: -f.occurrences)
        first, *others = same[:MOST_OF_A_KIND]
        left_out = groups - len(same[:MOST_OF_A_KIND])
        kept += [Finding(**{**_fields(first), "omitted": left_out}), *others]
    order = {id(f): i for i, f in enumerate(found)}
    place = {_key(f): order[id(f)] for f in found}
    return sorted(kept, key=lambda f: place[_key(f)])


def _key(f: Finding) -> tuple[Any, ...]:
    return (f.kind, f.message, f.line, f.other_line, f.array)


def _fields(f: Finding) -> dict[str, Any]:
    return {name: getattr(f, name) for name in f.__dataclass_fields__}


def _finding(fact: Fact) -> Finding:
    return Finding(
        kind=fact.kind,
        message=message(fact),
        line=fact.line,
        severity="note" if fact.kind in NOTES else "error",
        block=_known(fact.block),
        thread=_known(fact.thread),
        array=fact.array,
        coordinates=fact.coordinates,
        shared_offset=_known(fact.at) if fact.array is None else None,
        place=fact.place,
        other_line=fact.other_line or None,
        other_thread=_known(fact.other_thread),
        other_block=_known(fact.other_block),
        occurrences=fact.count,
    )


def _known(number: int) -> int | None:
    return None if number < 0 else number
