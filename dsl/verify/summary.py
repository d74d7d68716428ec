"""What a check says to a person: faults first, then what is open, then one line a family of what holds.

    print("\\n".join(summary(report, text, "gemm.tile")))

Beside a fault nothing that holds is listed, so that what a refuted kernel is told stays within `MOST_LINES` lines and
`MOST_TOKENS` tokens. What accesses cost is no proof of anything good: it has a block of its own, as have the roads that
the compiler did not take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from kernelagent.dsl.verify.records import (
    BESIDE,
    Counterexample,
    DeviceCounterexample,
    Family,
    Obligation,
    Verdict,
    counts,
)
from kernelagent.dsl.verify.telling import told

if TYPE_CHECKING:
    from kernelagent.dsl.check_text import CheckReport
    from kernelagent.dsl.diagnostics import Diagnostic

WIDTH = 100
"""Columns of every line that is not a quotation."""
_PROBLEMS: tuple[Verdict, ...] = ("REFUTED", "UNKNOWN", "TESTED", "PROVED_BOUNDED")
_OPEN_BESIDE_FAULTS = 2
_FAMILY_WIDTH = 12
_CLASS = re.compile(r"^\w+ \((?P<shape_class>[^()]+)\)")
"""How obligations of schedules name what they are about."""
_COSTS: frozenset[Family] = frozenset(("banks", "coalescing"))
_HINT = "; a hint, no fault"

_LEVELS: Mapping[str, Callable[[str], str]] = {
    "EQUAL_OVER_REALS": lambda _: "equal over the reals",
    "FIELD_TESTED": lambda runs: f"equal in {runs} runs over finite fields",
    "NUMERICALLY_TESTED": lambda runs: f"agrees with the reference in {runs} runs",
}

_HOLDS: Mapping[Family, str] = {
    "schedule": "the rules of level-two texts are kept",
    "coverage": "each element of {arrays} is stored exactly once, for all sizes",
    "bounds": "{accesses} stay inside their arrays, for all sizes",
    "overflow": "every index fits its bits; a call where one would not is refused",
    "alignment": "{accesses} of several elements begin at multiples of their width, for all sizes",
    "definedness": "what is read was written before, what is stored is live",
    "races": "accesses to the same bytes are ordered, stages reused in time",
    "completion": "asynchronous work is waited for, and fenced, before it is used",
    "protocol": "barriers neither deadlock nor take one phase for another",
    "uniformity": "barriers are reached by all threads that they are for",
    "aliasing": "no block reads what another one writes",
    "flow": "the right elements meet, and each result is stored at its own place",
    "accumulator": "sums are kept in f32, f64 or 32-bit integers",
    "banks": "no two lanes meet in a bank",
    "coalescing": "no sector is touched without need",
    "resources": "shared memory, threads, registers and barriers fit the chip",
    "skipping": "loops leave out no tile that counts",
    "claims": "what the author claims holds",
    "semantics": "{arrays}: equal to the reference over the reals",
    "stability": "no step overflows where the reference does not",
}
"""One line for all proved obligations of a family."""

_ONE_HOLDS: Mapping[Family, str] = {
    "bounds": "1 access stays inside its array, for all sizes",
    "alignment": "1 access of several elements begins at a multiple of its width, for all sizes",
}
"""Of a single access."""


def summary(report: CheckReport, text: str, filename: str = "kernel", verbose: bool = False) -> list[str]:
    """All lines but diagnostics, machine resources and the last one. `verbose`: every obligation has a line."""
    faults = told(shown_faults(report.counterexamples), text, filename)
    named = {c.family for c in report.counterexamples}
    shown = [o for o in report.obligations if not (o.verdict == "REFUTED" and o.family in named)]
    shown = shown if verbose else [o for o in shown if not _warned(o, report.diagnostics)]
    costs = [o for o in shown if is_cost(o)]
    blocks = [*faults]
    if not report.ok and not verbose:
        blocks += _beside_faults(shown)
    else:
        blocks += obligation_lines(shown if verbose else _without_costs(shown, costs), verbose)
        blocks += _block("performance notes (no faults):", _merged(costs, _cost))
        blocks += _block("compiler notes:", list(report.notes))
    return blocks


def _warned(obligation: Obligation, diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether a warning says the same of a claim."""
    if obligation.family != "claims" or obligation.verdict != "UNKNOWN":
        return False
    mine = (d for d in diagnostics if d.span is not None and d.span.line == obligation.line)
    return any(d.message.endswith(f": {obligation.detail}") for d in mine)


def _without_costs(obligations: Sequence[Obligation], costs: Sequence[Obligation]) -> list[Obligation]:
    """Where some access costs more than it need to, the performance notes speak for its family."""
    told_there = {o.family for o in costs}
    return [o for o in obligations if o.family not in told_there or o.verdict != "PROVED" or o.claimed]


def shown_faults(counterexamples: Sequence[Counterexample]) -> list[Counterexample]:
    """Those that are told here, an element once, with a line if one is known; what emulated runs showed is told as
    diagnostics at lines of the text."""
    at_lines = {_where(c) for c in counterexamples if c.lines}
    here = (c for c in counterexamples if not isinstance(c, DeviceCounterexample))
    return [c for c in here if c.lines or c.element is None or _where(c) not in at_lines]


def _where(c: Counterexample) -> tuple[object, ...]:
    return c.array, c.element, tuple(c.sizes.items())


def last_line(report: CheckReport, filename: str) -> str:
    """`softmax.tile: ok, PROVED (22 PROVED, 1 UNKNOWN in semantics), equal over the reals, 0.5 s`."""
    counted = ", ".join(_counted(report.obligations))
    verdict = f"{report.verdict} ({counted})" if counted else ""
    word = "ok" if report.ok else "wrong" if report.verdict == "REFUTED" else "refused"
    parts = (word, verdict, _compared(report), f"{report.seconds:.1f} s")
    return f"{filename}: {', '.join(part for part in parts if part)}"


def _compared(report: CheckReport) -> str:
    """How far values were compared: a kernel that computes something else is as safe."""
    shown = any(o.family in ("numeric", "semantics") for o in report.obligations)
    return level_text(report.semantics) or ("" if shown or not report.ok else "compared with no reference")


def level_text(level: str) -> str:
    """A level of semantics in words, "" for none."""
    name, _, runs = level.removesuffix(")").partition("(")
    return _LEVELS[name](runs) if name in _LEVELS else ""


def _counted(obligations: Sequence[Obligation]) -> Iterator[str]:
    """How many have each verdict, the best first, and in which families the others are."""
    found = counts(obligations)
    for verdict in ("PROVED", *reversed(_PROBLEMS)):
        if verdict in found:
            families = list(dict.fromkeys(o.family for o in obligations if o.verdict == verdict))
            where = "" if verdict == "PROVED" else f" in {_listed(families)}"
            yield f"{found[verdict]} {verdict}{where}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def is_cost(obligation: Obligation) -> bool:
    """What an access costs more than it need to, of which the author has claimed nothing."""
    unasked = obligation.family in _COSTS and not obligation.claimed
    return unasked and obligation.verdict == "PROVED" and obligation.line is not None


# Lines -------------------------------------------------------------------------------------------------


def obligation_lines(obligations: Sequence[Obligation], verbose: bool = False) -> list[str]:
    """What is not proved first, each with its detail; then a line for each family that is, or (`verbose`) for each
    obligation."""
    groups = [(v, _of(obligations, v)) for v in _PROBLEMS]
    rows = [(v, family, line) for v, same in groups for family, line in _merged_by_family(same)]
    proved = _of(obligations, "PROVED")
    every = _classes(obligations)
    held = _merged_by_family(proved) if verbose else _families(proved, every)
    rows += [("PROVED", family, line) for family, line in held]
    width = max((len(v) for v, _, _ in rows), default=0)
    return [line for v, family, told_ in rows for line in _wrapped(f"{v:{width}}  {family:{_FAMILY_WIDTH}} ", told_)]


def _of(obligations: Iterable[Obligation], verdict: Verdict) -> list[Obligation]:
    return [o for o in obligations if o.verdict == verdict]


def _families(proved: Sequence[Obligation], every: Collection[str]) -> Iterator[tuple[Family, str]]:
    """Safety and flow before what stands beside them; with the shape classes where it is not `every` one."""
    found: dict[Family, list[Obligation]] = {}
    for one in sorted(proved, key=lambda o: o.family in BESIDE):
        found.setdefault(one.family, []).append(one)
    for family, same in found.items():
        some = _in_classes(same) if len(_classes(same)) < len(every) else ""
        yield family, _holds(family, same) + some


def _holds(family: Family, same: Sequence[Obligation]) -> str:
    """A family in one line; what is said once in its own words where that is short."""
    if any(o.claimed for o in same):
        return "within what the author claims"
    if len({o.detail for o in same}) == 1 and family in ("resources", "stability"):
        return same[0].detail
    number = len({(o.line, o.subject) for o in same})
    if number == 1 and family in _ONE_HOLDS:
        return _ONE_HOLDS[family]
    return _HOLDS.get(family, same[0].detail).format(arrays=_arrays(same), accesses=f"{number} accesses")


def _arrays(same: Sequence[Obligation]) -> str:
    return ", ".join(dict.fromkeys(o.subject.rpartition(" ")[2] for o in same))


def _in_classes(same: Sequence[Obligation]) -> str:
    found = _classes(same)
    return f" ({', '.join(found)})" if found else ""


def _classes(same: Iterable[Obligation]) -> list[str]:
    """Shape classes that are named, each once."""
    return list(dict.fromkeys(m["shape_class"] for o in same if (m := _CLASS.match(o.subject))))


def _merged_by_family(same: Sequence[Obligation]) -> Iterator[tuple[Family, str]]:
    """Obligations that say the same of several lines or shape classes, once."""
    for family in dict.fromkeys(o.family for o in same):
        for line in _merged([o for o in same if o.family == family], lambda o: o.detail):
            yield family, line


def _merged(same: Sequence[Obligation], text: Callable[[Obligation], str]) -> list[str]:
    found: dict[str, list[Obligation]] = {}
    for one in same:
        found.setdefault(text(one), []).append(one)
    return [_place(group) + said + _in_classes(group) for said, group in found.items()]


def _cost(one: Obligation) -> str:
    return one.detail.removesuffix(_HINT)


def _place(same: Sequence[Obligation]) -> str:
    numbers = sorted({o.line for o in same if o.line is not None})
    if not numbers:
        return ""
    few = ", ".join(map(str, numbers[:4])) + (", ..." if len(numbers) > 4 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {few}: "


def _wrapped(head: str, text: str) -> list[str]:
    indent = " " * len(head)
    lines = wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    return lines or [head.rstrip()]


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(w for line in lines for w in _wrapped("  ", line))] if lines else []


def _beside_faults(obligations: Sequence[Obligation]) -> list[str]:
    """Refuted without a counterexample, and what nobody knows: told apart from what is refuted."""
    refuted = obligation_lines(_of(obligations, "REFUTED")[:_OPEN_BESIDE_FAULTS])
    open_ = obligation_lines(_of(obligations, "UNKNOWN")[:_OPEN_BESIDE_FAULTS])
    return [*refuted[:4], *open_[:4]]


__all__ = ["WIDTH", "is_cost", "last_line", "level_text", "obligation_lines", "shown_faults", "summary"]
