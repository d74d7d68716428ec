"""Held-out mutants of schedules: written from the guide of level-two texts, by nobody who knew the verifier.

`fixtures/heldout/` holds for each base a kernel (`<base>.tile`), its printed schedule (`<base>.schedule.tile`) and the
edits drawn (`<base>.toml`, by `heldout_edits`) with the families and lines argued before the first run, and frozen.
Only after it came `equivalent`: the edit leaves the schedule as good as it was, for the reason that stands there, and
the emulator and the interpreter agree with that at small sizes; and `undecided`, for one that is counted nowhere.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.module import target_of
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import Case, cases
from support.mutants import Outcome

FOLDER = Path(__file__).parents[1] / "fixtures" / "heldout"
DIMS: Mapping[str, Mapping[str, int]] = {"attention_wide": {"D": 48}, "hopper_attention_pingpong": {"D": 64}}
"""Dims that are tile extents."""

Verdict = Literal["right", "elsewhere", "survives", "refused"]


@dataclass(frozen=True)
class Heldout:
    """One mutant. `families`, `lines`: where a report may put the fault; `touched`: the changed lines among them.
    `equivalent`: why it is no fault, else empty; `undecided`: why nobody can say."""

    base: str
    operator: str
    first: int
    removed: int
    new: tuple[str, ...]
    families: frozenset[str]
    lines: frozenset[int]
    touched: frozenset[int]
    equivalent: str = ""
    undecided: str = ""

    @property
    def name(self) -> str:
        new = hashlib.sha256("\n".join(self.new).encode()).hexdigest()[:4]
        return f"{self.base}:{self.first} {self.operator} {new}"

    @property
    def is_fault(self) -> bool:
        return not self.equivalent and not self.undecided

    @property
    def text(self) -> str:
        kept = schedule(self.base).rstrip("\n").split("\n")
        kept[self.first - 1 : self.first - 1 + self.removed] = self.new
        return "\n".join(kept) + "\n"

    @property
    def edit(self) -> str:
        """What was changed, shortly."""
        old = schedule(self.base).split("\n")[self.first - 1 : self.first - 1 + self.removed]
        return f"{_short(old)} -> {_short(self.new) or 'nothing'}"


def _short(lines: Sequence[str]) -> str:
    return " / ".join(line.strip()[:150] for line in lines[:4])


def bases() -> list[str]:
    return sorted(p.name.removesuffix(".schedule.tile") for p in FOLDER.glob("*.schedule.tile"))


@cache
def schedule(base: str) -> str:
    return (FOLDER / f"{base}.schedule.tile").read_text(encoding="utf-8")


@cache
def base_case(base: str) -> Case:
    """The unchanged schedule with the kernel that it computes."""
    arch = target_of(schedule(base))
    assert arch is not None
    kernel = parse_schedule(schedule(base))
    module = parse((FOLDER / f"{base}.tile").read_text(encoding="utf-8"))
    consts = {"causal": True} if base == "attention_wide" else {}
    choices = Choices({}, {}, consts, dict(DIMS.get(base, {})))
    found = list(cases(module, choices, arch))
    same = next(c for c in found if c.kernel.shape_class.name == kernel.shape_class.name)
    return replace(same, kernel=kernel)


def heldout(base: str) -> list[Heldout]:
    """Those of the base's file, in order."""
    records = tomllib.loads((FOLDER / f"{base}.toml").read_text(encoding="utf-8"))["mutant"]
    return [_read(base, record) for record in records]


def _read(base: str, record: Mapping[str, Any]) -> Heldout:
    families, lines, touched = (frozenset(record[name]) for name in ("families", "lines", "touched"))
    return Heldout(
        base, record["operator"], record["first"], record["removed"], tuple(record["new"]), families, lines, touched,
        record.get("equivalent", ""), record.get("undecided", ""),
    )  # fmt: skip


# Verdicts ---------------------------------------------------------------------------------------------


def outcome(base: str, text: str) -> Outcome:
    """What the rules of level two and the verifier say, against the base's kernel."""
    from kernelagent.dsl.verify.schedule.prove import prove

    try:
        kernel = parse_schedule(text)
    except KernelError as refusal:
        lines = tuple(d.span.line if d.span else 0 for d in refusal.diagnostics)
        return Outcome(("schedule",) * len(lines), lines, (), tuple(d.message for d in refusal.diagnostics))
    findings = prove(replace(base_case(base), kernel=kernel))
    refuted = [o for o in findings.obligations if o.verdict == "REFUTED"]
    others = tuple(n for c in findings.counterexamples for n in c.lines)
    unknown = tuple(f"{o.family}: {o.detail}" for o in findings.obligations if o.verdict == "UNKNOWN")
    return Outcome(
        tuple(o.family for o in refuted), tuple(o.line or 0 for o in refuted), others,
        tuple(o.detail for o in refuted), unknown,
    )  # fmt: skip


def verdict(mutant: Heldout, said: Outcome) -> Verdict:
    """`right`: an obligation of an expected family is refuted at an expected line. `elsewhere`: another family or line.
    `refused`: by the rules of level two."""
    if not said.refuted:
        return "survives"
    if "schedule" in said.families:
        return "refused"
    pairs = zip(said.families, said.lines, strict=True)
    return "right" if any(f in mutant.families and n in mutant.lines for f, n in pairs) else "elsewhere"


def is_wrong(mutant: Heldout, said: Verdict) -> bool:
    """A fault that is not shown at the right place, or a good schedule that is refuted."""
    bad = ("elsewhere", "survives") if mutant.is_fault else ("right", "elsewhere")
    return said in bad and not mutant.undecided


@dataclass(frozen=True)
class Score:
    """Of faults: `right` by the verifier, `refused` by the rules of level two, refuted `elsewhere`, not at all
    (`survives`). `wronged`: of the `equivalent` ones, those refuted. Names of all that is wrong."""

    faults: int
    right: int
    refused: int
    elsewhere: tuple[str, ...]
    survives: tuple[str, ...]
    equivalent: int
    wronged: tuple[str, ...]
    undecided: int

    @property
    def share(self) -> float:
        """Of the faults, those refuted by the right family at the right line, or refused."""
        return (self.right + self.refused) / self.faults


def score(judged: Sequence[tuple[Heldout, Verdict]]) -> Score:
    faults = [(m, v) for m, v in judged if m.is_fault]
    good = [(m, v) for m, v in judged if m.equivalent]
    names = {v: tuple(m.name for m, said in faults if said == v) for v in ("right", "refused", "elsewhere", "survives")}
    return Score(
        len(faults), len(names["right"]), len(names["refused"]), names["elsewhere"], names["survives"], len(good),
        tuple(m.name for m, v in good if is_wrong(m, v)), sum(bool(m.undecided) for m, _ in judged),
    )  # fmt: skip
