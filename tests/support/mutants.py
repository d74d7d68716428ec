"""Mutants of schedules: read from their files, given to the verifier, and scored.

`fixtures/mutants/` holds for each base a kernel (`<base>.tile`), the schedule that was made of it and that is changed
(`<base>.schedule.tile`), and the changes (`<base>.toml`), each with whether it is a fault or leaves the schedule as
good as it was. `mutant_truth` decided that, without the verifier.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.module import target_of
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import Case, cases
from support.mutation_operators import FAMILIES, OPERATORS
from support.mutation_texts import Change, Text

FOLDER = Path(__file__).parents[1] / "fixtures" / "mutants"
CHOICES: Mapping[str, Choices] = {
    "attention_causal": Choices({}, {}, {"causal": True}, {"D": 16}),
    "attention_full": Choices({}, {}, {"causal": False}, {"D": 16}),
    "hopper_attention": Choices({}, {}, {"causal": True}, {"D": 64}),
}
"""Of bases that need any."""
MOST = {"drop-sync": 5, "move-sync": 4, "stage": 4, "start": 3, "alias": 2, "layout": 1, "vector": 1, "swap": 3}
"""Mutants of an operator for one base; 2 of the others."""

Truth = Literal["fault", "equivalent", "undecided"]


@dataclass(frozen=True)
class Mutant:
    base: str
    change: Change
    truth: Truth
    shown: str = ""

    @property
    def text(self) -> str:
        return self.change.applied(schedule(self.base).lines)

    @property
    def name(self) -> str:
        return f"{self.base}:{self.change.first} {self.change.operator}"


@dataclass(frozen=True)
class Outcome:
    """What was said of a mutant. `families` and `lines`: of all refuted obligations, or of the parser's refusal;
    `other_lines`: of the second parties of counterexamples. `unknown`: what was left open."""

    families: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    other_lines: tuple[int, ...] = ()
    messages: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def refuted(self) -> bool:
        return bool(self.families)


# Bases ------------------------------------------------------------------------------------------------


def bases() -> list[str]:
    return sorted(p.name.removesuffix(".schedule.tile") for p in FOLDER.glob("*.schedule.tile"))


@cache
def schedule(base: str) -> Text:
    return Text((FOLDER / f"{base}.schedule.tile").read_text(encoding="utf-8"))


@cache
def base_case(base: str) -> Case:
    """The unchanged schedule with the kernel that it computes."""
    text = schedule(base).text
    arch = target_of(text)
    assert arch is not None
    kernel = parse_schedule(text)
    module = parse((FOLDER / f"{base}.tile").read_text(encoding="utf-8"))
    found = list(cases(module, CHOICES.get(base, Choices({}, {}, {}, {})), arch))
    same = [c for c in found if c.kernel.shape_class.name == kernel.shape_class.name]
    return replace((same or found)[0], kernel=kernel)


# Mutants ----------------------------------------------------------------------------------------------


def mutants(base: str) -> list[Mutant]:
    """Those of the base's file, in order."""
    path = FOLDER / f"{base}.toml"
    records = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"] if path.exists() else []
    return [Mutant(base, _change(r), r["truth"], r.get("shown", "")) for r in records]


def _change(record: Mapping[str, object]) -> Change:
    fields = {k: v for k, v in record.items() if k not in ("truth", "shown")}
    return Change(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})  # type: ignore[arg-type]


def chosen(base: str, most: Mapping[str, int] = MOST) -> list[Change]:
    """Some changes of every operator; the same ones every time. None that changes nothing, or what another does, and of
    an operator at most one that the rules of level two refuse."""
    text, found, seen = schedule(base), [], {schedule(base).text}
    for operator in OPERATORS:
        by_name: dict[str, list[Change]] = {}
        for change in operator(text):
            by_name.setdefault(change.operator, []).append(change)
        for name, changes in by_name.items():
            random.Random(f"{base} {name}").shuffle(changes)
            taken: list[bool] = []
            for change in changes:
                made = change.applied(text.lines)
                if len(taken) >= most.get(name, 2) or made in seen:
                    continue
                seen.add(made)
                refused = _refused(made)
                if not (refused and True in taken):
                    taken.append(refused)
                    found.append(change)
    return sorted(found, key=lambda c: (c.first, c.operator, c.new))


def _refused(text: str) -> bool:
    try:
        parse_schedule(text)
    except KernelError:
        return True
    return False


def written(found: Sequence[Mutant]) -> str:
    """The file of a base's mutants."""
    return "\n".join(_record(m) for m in found)


def _record(mutant: Mutant) -> str:
    change = mutant.change
    rows = [
        "[[mutant]]",
        f'operator = "{change.operator}"',
        f"first = {change.first}",
        f"removed = {change.removed}",
        "new = [" + ", ".join(f"'''{line}'''" for line in change.new) + "]",
        f"lines = {sorted(set(change.lines))}",
        f'truth = "{mutant.truth}"',
    ]
    shown = re.sub(r"[^ -~]|[\"\\]", "'", mutant.shown)[:160]
    return "\n".join(rows + [f'shown = "{shown}"'] * bool(shown)) + "\n"


# Verdicts ---------------------------------------------------------------------------------------------


def outcome(base: str, text: str) -> Outcome:
    """What the rules of level two and the verifier say."""
    from kernelagent.dsl.verify.schedule.prove import prove

    try:
        kernel = parse_schedule(text)
    except KernelError as refusal:
        lines = tuple(d.span.line if d.span else 0 for d in refusal.diagnostics)
        return Outcome(("schedule",) * len(lines), lines, (), tuple(d.message for d in refusal.diagnostics))
    findings = prove(replace(base_case(base), kernel=kernel))
    refuted = [o for o in findings.obligations if o.verdict == "REFUTED"]
    others = tuple(n for c in findings.counterexamples for n in c.lines)
    return Outcome(
        tuple(o.family for o in refuted), tuple(o.line or 0 for o in refuted), others,
        tuple(o.detail for o in refuted),
        tuple(f"{o.family}: {o.detail}" for o in findings.obligations if o.verdict == "UNKNOWN"),
    )  # fmt: skip


def right(mutant: Mutant, said: Outcome) -> bool:
    """Whether an obligation of a right family is refuted at a right line."""
    wanted = FAMILIES[mutant.change.operator] | {"schedule"}
    return any(f in wanted and n in mutant.change.lines for f, n in zip(said.families, said.lines, strict=True))


def why_not(mutant: Mutant, said: Outcome) -> str:
    """What is wrong with the verdict, "" if nothing is."""
    if mutant.truth == "equivalent":
        return "refuted, but as good as it was" if said.refuted and "schedule" not in said.families else ""
    if not said.refuted:
        return "survives"
    return "" if right(mutant, said) else "refuted elsewhere"


def described(mutant: Mutant, said: Outcome, why: str) -> str:
    change = mutant.change
    new = (
        " / ".join(x.strip() for x in change.new) or f"without: {schedule(mutant.base).lines[change.first - 1].strip()}"
    )
    found = [f"{f}@{n} {m[:90]}" for f, n, m in zip(said.families, said.lines, said.messages, strict=True)][:3]
    found += [f"?{u[:90]}" for u in said.unknown][:2]
    return (
        f"{mutant.name} [{mutant.truth}: {mutant.shown[:60]}] {why}: {new}; lines {sorted(set(change.lines))}; {found}"
    )


# Scores -----------------------------------------------------------------------------------------------


def check(base: str, floor: int) -> None:
    """Score the base's mutants: at least `floor` faults are refuted rightly, nothing that is as good is refuted, and
    the schedule itself is not. Prints the score and what is missed."""
    own = outcome(base, schedule(base).text)
    assert not own.refuted, own
    judged = [(m, outcome(base, m.text)) for m in mutants(base)]
    missed = [described(m, said, why) for m, said in judged if m.truth == "fault" and (why := why_not(m, said))]
    wronged = [described(m, said, why) for m, said in judged if m.truth == "equivalent" and (why := why_not(m, said))]
    faults = sum(m.truth == "fault" for m, _ in judged)
    print(f"{base}: {faults - len(missed)} of {faults} faults, {len(judged) - faults} equivalent", *missed, sep="\n  ")
    assert not wronged, wronged
    assert faults - len(missed) >= floor, missed
