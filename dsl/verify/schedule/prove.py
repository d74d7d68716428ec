"""Everything that is shown about a schedule, one obligation a family (or a statement, where lines differ).

    protocol, uniformity          search over all interleavings and trip counts (`protocol`)
    races, definedness, completion  a block at every small trip count until its state comes back (`order`)
    bounds, coverage              what is accessed and stored, as tiles, for all sizes (`verify.bounds`, `coverage`)
    alignment                     divisibility, for all sizes of the class (`alignment`), and boxes (`boxes`)
    flow                          whole launches over finite fields against the kernel of tiles (`whole`); without one,
                                  with the coordinates of all elements (`tagged`)
    banks, coalescing, resources  counted (`banks`, `coalescing`, `limits`)

A fault that a run shows is a counterexample, and then only faults are reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod

from kernelagent.dsl.verify import coverage
from kernelagent.dsl.verify.families import prove_bounds
from kernelagent.dsl.verify.records import Family, Findings, Obligation, ScheduleCounterexample, Verdict
from kernelagent.dsl.verify.schedule.aliasing import prove_aliasing
from kernelagent.dsl.verify.schedule.alignment import prove_alignment
from kernelagent.dsl.verify.schedule.banks import prove_banks
from kernelagent.dsl.verify.schedule.boxes import prove_boxes
from kernelagent.dsl.verify.schedule.budget import Exhausted, check_iterations, check_kernel, exhausted, within
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.claimed import limit_of, settled
from kernelagent.dsl.verify.schedule.coalescing import prove_coalescing
from kernelagent.dsl.verify.schedule.expected import prove_expectations
from kernelagent.dsl.verify.schedule.explain import counterexample, line_of, said
from kernelagent.dsl.verify.schedule.extremes import FAR, far_from_zero, lopsided, suits
from kernelagent.dsl.verify.schedule.limits import prove_resources
from kernelagent.dsl.verify.schedule.machine import DIVIDED, Event
from kernelagent.dsl.verify.schedule.order import Ordered, examine
from kernelagent.dsl.verify.schedule.overflow import prove_overflow
from kernelagent.dsl.verify.schedule.protocol import prove_protocol, prove_uniformity
from kernelagent.dsl.verify.schedule.rounding import prove_rounding
from kernelagent.dsl.verify.schedule.sizes import Sizes, empty_calls, tile_count, trips
from kernelagent.dsl.verify.schedule.spanning import branches_unlike, sizes_to_run, unlike
from kernelagent.dsl.verify.schedule.tagged import flow
from kernelagent.dsl.verify.schedule.tiles import as_tiles, by_data
from kernelagent.dsl.verify.schedule.turns import stored_tiles
from kernelagent.dsl.verify.schedule.uneven import uneven_calls
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.schedule.whole import Launch, launch

ORDER: tuple[Family, ...] = ("races", "definedness", "completion")
SHOWN: Mapping[Family, str] = {
    "races": "no two threads touch the same bytes of shared memory unordered",
    "definedness": "every byte of shared memory is written before it is read",
    "completion": "asynchronous copies and products are waited for, and fenced, before what they touch is used",
}
GUESSED: tuple[Family, ...] = ("bounds", "coverage", "alignment")
"""What depends on index data of which no text says what it may hold."""
DATA = "positions come from data, and only a level-one text says what that may hold"
ZERO = "an index is divided by 0 at some sizes, and only a level-one text assumes that it is not"


class _Wrong(Exception):
    """A fault was found: nothing else is told of the schedule."""

    def __init__(self, faults: Findings) -> None:
        self.faults = faults


def prove(case: Case, quick: bool = False) -> Findings:
    """All families of one schedule; `quick` leaves out the solver, the search over protocols, two launches, inputs
    far from zero, and most trip counts where blocks take tile after tile. What its budget does not suffice for is
    UNKNOWN."""
    with within():
        try:
            return _prove(case, quick)
        except _Wrong as wrong:
            return wrong.faults
        except (Unmodelled, LookupError, ZeroDivisionError) as lack:
            return _left_open(case, f"not modelled: {lack}")


def _prove(case: Case, quick: bool) -> Findings:
    about = subject(case)
    ordered = _ordered(case, quick)
    protocol = prove_uniformity(case.kernel) if quick else prove_protocol(case.kernel)
    found = _right(protocol + _faults(case, ordered.events, ordered.sizes or {}))
    if ordered.events:
        ordered = Ordered(reason=_guessed(ordered.events))
    shared = _right(prove_aliasing(case, about, ordered.iterations, quick))
    ran = _run(case, ordered, quick)
    far = Findings() if quick else _far(case, ran.sizes)
    found += shared + _right(prove_rounding(case, about) + far + prove_overflow(case, about))
    shown = _shown(case, ran, solver=not quick and not exhausted())
    claims = settled(case, about, (*shown, *shared.obligations), ran.sizes)
    claims += prove_expectations(case, about, ran.sizes, ran.lacks, shown)
    return found + Findings(shown) + _hardware(case) + claims


def _right(found: Findings) -> Findings:
    """What was found, unless a counterexample is in it. Raises _Wrong."""
    if found.counterexamples:
        raise _Wrong(Findings(tuple(o for o in found.obligations if o.verdict == "REFUTED"), found.counterexamples))
    return found


def _faults(case: Case, events: Sequence[Event], sizes: Sizes) -> Findings:
    wrong = _certain(case, events)
    return _refuted(case, wrong, sizes) if wrong else Findings()


# Whole launches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ran:
    """Launches without a fault, those of empty arrays, why others were not run, and what a block at every trip count
    showed."""

    launches: tuple[Launch, ...]
    empty: tuple[Launch, ...]
    lacks: tuple[str, ...]
    ordered: Ordered

    @property
    def sizes(self) -> list[Sizes]:
        return [made.sizes for made in self.launches]


def _run(case: Case, ordered: Ordered, quick: bool) -> _Ran:
    """Raises _Wrong with the first launch that shows a fault."""
    launches: list[Launch] = []
    empty: list[Launch] = []
    lacks: list[str] = []
    for sizes in islice(_to_run(case, ordered, launches, lacks), 1 if quick else None):
        made = _launched(case, sizes)
        if isinstance(made, str):
            lacks.append(made)
        elif not made.events:
            launches.append(made)
        else:
            _right(_faults(case, made.events, sizes))
            lacks.append(_guessed(made.events))
    for sizes in [] if quick else empty_calls(case, [made.sizes for made in launches]):
        made = _launched(case, sizes)
        if isinstance(made, str):
            ordered = replace(ordered, reason=ordered.reason or f"{made}, at {_told(sizes)}")
        else:
            _right(_faults(case, made.events, sizes))
            empty.append(made)
    return _Ran(tuple(launches), tuple(empty), tuple(lacks), ordered)


def _certain(case: Case, events: Sequence[Event]) -> list[Event]:
    """Faults that no `assume` of a text that is not there could rule out."""
    if case.oracle is not None:
        return list(events)
    guessed = GUESSED if by_data(case.kernel) else ()
    return [e for e in events if e.family not in guessed and e.kind != DIVIDED]


def _guessed(events: Sequence[Event]) -> str:
    return ZERO if any(e.kind == DIVIDED for e in events) else DATA


def _to_run(case: Case, ordered: Ordered, launches: list[Launch], lacks: list[str]) -> Iterator[Sizes]:
    try:
        yield from sizes_to_run(case, ordered.iterations, launches)
        yield from uneven_calls(case, [made.sizes for made in launches])
    except Exhausted as lack:
        lacks.append(f"not modelled: {lack}")


def _left_open(case: Case, why: str) -> Findings:
    """Nothing was shown."""
    families: tuple[Family, ...] = ("protocol", *ORDER, *GUESSED, "aliasing", "flow")
    return Findings(tuple(Obligation(family, "UNKNOWN", None, why, subject(case)) for family in families))


def _shown(case: Case, ran: _Ran, solver: bool) -> tuple[Obligation, ...]:
    ordered, launches = _order(case, ran.ordered), _symbolic(case, ran.launches, solver)
    proved = (*ordered, *launches, *_flow(case, ran))
    return tuple(_with_sizes(case, o, ran.launches) for o in proved)


def _hardware(case: Case) -> Findings:
    """A claim that counting refutes needs no run."""
    found = counted(case)
    return Findings(tuple(found), tuple(_claimed(case, o) for o in found if o.verdict == "REFUTED"))


def _with_sizes(case: Case, obligation: Obligation, launches: Sequence[Launch]) -> Obligation:
    """All blocks ran at the launches' sizes, and whatever is bounded held; with data, only with what was drawn."""
    if obligation.verdict != "PROVED_BOUNDED" or by_data(case.kernel):
        return obligation
    return replace(obligation, sizes=tuple(dict(made.sizes) for made in launches))


def _claimed(case: Case, obligation: Obligation) -> ScheduleCounterexample:
    """A claim about the schedule that counting refutes: no run is needed to see it."""
    line, kernel = obligation.line, case.kernel
    return ScheduleCounterexample(
        obligation.family, obligation.detail, (line,) if line else (), {}, {}, kernel=kernel.name,
        shape_class=kernel.shape_class.name, line=line,
    )  # fmt: skip


def counted(case: Case) -> list[Obligation]:
    """What needs no run: the hardware's share, against what the author claims of it."""
    try:
        check_kernel(case.kernel)
    except Exhausted as lack:
        families: tuple[Family, ...] = ("banks", "coalescing")
        return [Obligation(family, "UNKNOWN", None, str(lack), subject(case)) for family in families]
    found = prove_banks(case.kernel, subject(case), limit_of(case.kernel, "bank_conflicts"))
    found += prove_coalescing(case, subject(case), limit_of(case.kernel, "sectors"))
    return found + prove_boxes(case.kernel, subject(case)) + prove_resources(case.kernel, subject(case))


def _ordered(case: Case, quick: bool) -> Ordered:
    try:
        check_kernel(case.kernel)
        return examine(case, quick)
    except (Unmodelled, LookupError, ZeroDivisionError) as lack:
        return Ordered(reason=f"not modelled: {lack}")


def _launched(case: Case, sizes: Sizes) -> Launch | str:
    try:
        check_kernel(case.kernel)
        check_iterations((trips(case.kernel, sizes) or 1) * tile_count(case.kernel, sizes))
        return launch(case, sizes)
    except (Unmodelled, LookupError, ZeroDivisionError) as lack:
        return f"not modelled: {lack}"


def _far(case: Case, ran: Sequence[Sizes]) -> Findings:
    """Inputs far from zero, and on one side of it, at the sizes with the fewest elements of those that were run."""
    if not ran:
        return Findings()
    sizes = min(ran, key=lambda s: prod(s.values()))
    try:
        events = tuple(lopsided(case, sizes)) or (tuple(far_from_zero(case, sizes)) if suits(case) else ())
    except (Unmodelled, LookupError, ZeroDivisionError):
        return Findings()  # branches on data: nothing is claimed
    if events:
        return _refuted(case, events, sizes)
    if not suits(case):
        return Findings()
    detail = f"where the kernel has numbers for inputs about {FAR:g} from zero, so has the schedule, at {_told(sizes)}"
    return Findings((Obligation("stability", "TESTED", None, detail, subject(case)),))


def _told(sizes: Sizes) -> str:
    return ", ".join(f"{d}={n}" for d, n in sizes.items())


# Verdicts --------------------------------------------------------------------------------------------


def subject(case: Case) -> str:
    return f"{case.kernel.name} ({case.kernel.shape_class.name})"


def _order(case: Case, ordered: Ordered) -> Iterator[Obligation]:
    verdict: Verdict = "PROVED" if not ordered.reason else "PROVED_BOUNDED" if ordered.runs else "UNKNOWN"
    detail = f"shown by a block at {ordered.runs}" if ordered.runs else ""
    if ordered.reason:
        detail = f"{detail}; {ordered.reason}" if detail else ordered.reason
    for family in ORDER:
        said = f"{SHOWN[family]}: {detail}" if ordered.runs else detail
        yield Obligation(family, verdict, None, said, subject(case))


def _symbolic(case: Case, launches: Sequence[Launch], solver: bool) -> Iterator[Obligation]:
    """What holds for all sizes; what is not shown for all held in the launches."""
    tiles = as_tiles(case.kernel, case.shapes.entry.assumes)
    shown = [*coverage.prove(stored_tiles(case.kernel, case.shapes.entry.assumes)), *prove_bounds(tiles, solver)]
    shown += prove_alignment(case.kernel, case.shapes.entry.assumes, subject(case))
    for obligation in shown:
        yield obligation if obligation.verdict == "PROVED" else _bounded(obligation, launches)


def _bounded(obligation: Obligation, launches: Sequence[Launch]) -> Obligation:
    if not launches:
        return obligation
    detail = f"held in all blocks at {_sizes(launches)}; not shown for all sizes: {obligation.detail}"
    return Obligation(obligation.family, "PROVED_BOUNDED", obligation.line, detail, obligation.subject)


def _flow(case: Case, ran: _Ran) -> Iterator[Obligation]:
    """Blocks of inner tiles, of every edge, and of every trip count until the state returns compute the formula of the
    kernel; what else there is differs from one of them by a shift."""
    if case.oracle is None:
        yield from _traced(case, ran)
        return
    compared = [made for made in ran.launches if made.compared]
    if not compared:
        why = ran.lacks[0] if ran.lacks else "no sizes were small enough to run"
        yield Obligation("flow", "UNKNOWN", None, why, subject(case))
        return
    fields = all(made.fields for made in compared)
    reason = ran.ordered.reason or unlike(case, compared, ran.empty, ran.ordered.iterations)
    verdict: Verdict = "TESTED" if not fields else "PROVED_BOUNDED" if reason else "PROVED"
    detail = f"each output is the kernel's formula of the same elements, at {_sizes(compared)}"
    if fields:
        detail += ", as numbers of finite fields of about 2^27 (another formula agrees by a chance below 2^-20)"
    detail += f"; not shown for all sizes: {reason}" if reason else "; every other tile is one of these moved"
    yield Obligation("flow", verdict, None, detail, subject(case))


def _traced(case: Case, ran: _Ran) -> Iterator[Obligation]:
    """As `_flow`, but without a kernel to compare with: what each element says of where it comes from."""
    traced = [made for made in ran.launches if made.traces is not None]
    if not traced:
        why = ran.lacks[0] if ran.lacks else "branches on data, or no sizes were small enough to run"
        yield Obligation("flow", "UNKNOWN", None, why, subject(case))
        return
    reason = ran.ordered.reason or branches_unlike(case, traced, ran.empty)
    verdict: Verdict = "PROVED_BOUNDED" if reason else "PROVED"
    verdict = "TESTED" if by_data(case.kernel) else verdict  # one set of index data
    yield from flow([made.traces for made in traced if made.traces], verdict, _sizes(traced), subject(case))


def _sizes(launches: Sequence[Launch]) -> str:
    return "(" + "), (".join(", ".join(f"{d}={n}" for d, n in made.sizes.items()) for made in launches) + ")"


def _refuted(case: Case, events: Sequence[Event], sizes: Sizes) -> Findings:
    obligations: dict[tuple[Family, int], Obligation] = {}
    for event in events:
        if any(family == event.family for family, _ in obligations):
            continue
        walk = [event.other] if event.kind == "not-stored" and event.other else []
        for number, site in enumerate((event.site, *walk)):  # a store is missing in the tile, and so in the walk
            found = Obligation(event.family, "REFUTED", line_of(site), said(event), subject(case))
            obligations[event.family, number] = found
    return Findings(tuple(obligations.values()), tuple(counterexample(e, case.kernel, sizes) for e in events))
