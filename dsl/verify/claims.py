"""What the author claims of a kernel: `expect`, `conformity`, `separation`, executed at small sizes with coordinates.

Coordinates do not depend on data, so a run shows its sizes whole. A claim that no element reaches, or that holds
whatever the coordinates are, is told apart: it says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.index import Compare, Condition, Index, evaluate_condition
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.labels import Claimed, Labels, Meeting, Unlabelled, dims_of
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation, Verdict, worst
from kernelagent.dsl.verify.shapes import deepened, sizes

if TYPE_CHECKING:
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.trials import Trial

RUNS = 3
"""Sizes at which claims are executed."""
ITERATIONS = 3
"""Of sequential loops, where that many are accepted."""
CANARY = 1
"""By how much coordinates are moved to see whether a claim can fail."""
UNREACHED, VACUOUS = "nothing reaches this claim", "this claim cannot fail"
"""How the details of claims that say nothing begin."""


@dataclass
class _Shown:
    """All runs: `claims` by place and dim, `products` by line, what kept a run from ending."""

    trials: list[Trial] = field(default_factory=list)
    claims: dict[tuple[str, int, int], dict[str, tuple[Claimed, Trial]]] = field(default_factory=dict)
    moved: dict[tuple[str, int, int], dict[str, int]] = field(default_factory=dict)  # wrong elements when moved
    products: dict[tuple[str, int], tuple[Meeting | None, Trial]] = field(default_factory=dict)
    lack: str = ""


def examine(
    module: ir.Module, choice: Choice, shown: Sequence[Obligation], work_limit: int, seconds: float
) -> tuple[Findings, tuple[Diagnostic, ...]]:
    """Obligations of the family `claims`, and diagnostics of claims that say nothing. `shown`: of other families."""
    if not _any(module):
        return Findings(), ()
    runs = _runs(module, choice, work_limit, time.thread_time() + seconds)
    findings, diagnostics = Findings(), []
    for key, statement in _expects(module):
        made, said = _settled(module, key, statement, runs)
        findings += made
        diagnostics += said
    for made in _general(module, runs, shown):
        findings += made
    diagnostics += empty(module, findings.obligations)
    return findings, (*diagnostics, *_without_schedule(module, choice.target))


def _without_schedule(module: ir.Module, target: str) -> Iterator[Diagnostic]:
    """Claims about GPU schedules where none is made."""
    for claim in (c for k in module.kernels for c in k.claims):
        if claim.limit is not None and not target.startswith("sm_"):
            message = f"nothing is compiled for a GPU here, so `{claim.text}` is not looked at"
            yield Diagnostic("claim-unreached", message, claim.span, "note", "check it with `--target cuda`")


def _any(module: ir.Module) -> bool:
    return any(k.claims for k in module.kernels) or any(True for _ in _expects(module))


def _expects(module: ir.Module) -> Iterator[tuple[tuple[str, int, int], ir.Expect]]:
    from kernelagent.dsl.elaborate.checks import walk

    for kernel in module.kernels:
        for statement in walk(kernel.body):
            if isinstance(statement, ir.Expect):
                span = statement.origin.span
                yield (kernel.name, span.line, span.column), statement


# Runs ----------------------------------------------------------------------------------------------------


def _runs(module: ir.Module, choice: Choice, work_limit: int, end: float) -> _Shown:
    shown = _Shown()
    dims = sorted({d for k in module.kernels for d in k.dims})
    for first in sizes(module, choice.tunables):
        if len(shown.trials) >= RUNS or (shown.trials and time.thread_time() > end):
            break
        found = deepened(module, first, choice.tunables, ITERATIONS) or first
        trial = draw(module.entry, found, choice.dtypes, choice.scalars, choice.tunables, seed=len(shown.trials))
        try:
            for dim in dims:
                _run(module, choice, trial, dim, work_limit, shown)
        except (KernelError, RunError, WorkLimit, Unlabelled) as lack:
            shown.lack = str(lack)
            break
        shown.trials.append(trial)
    return shown


def _run(module: ir.Module, choice: Choice, trial: Trial, dim: str, work_limit: int, shown: _Shown) -> None:
    names = dims_of(module)
    labels, moved = Labels(dim, names), Labels(dim, names, CANARY)
    for domain in (labels, moved):
        options = Options(work_limit=work_limit, target=choice.target, domain=domain, claims=True)
        execute(module, trial.arrays, trial.scalars, trial.tunables, options, choice.instances)
    for key, claimed in labels.claims.items():
        _keep(shown, key, dim, claimed, trial)
        counted = shown.moved.setdefault(key, {})
        counted[dim] = counted.get(dim, 0) + moved.claims[key].wrong
    for place, meeting in labels.products.items():
        known = shown.products.get(place)
        if known is None or known[0] is None:
            shown.products[place] = meeting, trial


def _keep(shown: _Shown, key: tuple[str, int, int], dim: str, claimed: Claimed, trial: Trial) -> None:
    """Runs at several sizes as one."""
    known = shown.claims.setdefault(key, {}).get(dim)
    if known is None:
        shown.claims[key][dim] = claimed, trial
        return
    before, first_trial = known
    merged = replace(
        before, reached=before.reached + claimed.reached, known=before.known + claimed.known,
        wrong=before.wrong or claimed.wrong, first=before.first or claimed.first,
    )  # fmt: skip
    shown.claims[key][dim] = merged, first_trial if before.first else trial


# Verdicts ------------------------------------------------------------------------------------------------


def _settled(
    module: ir.Module, key: tuple[str, int, int], statement: ir.Expect, runs: _Shown
) -> tuple[Findings, list[Diagnostic]]:
    name, line, _ = key
    subject = f"{name}: expect {', '.join(statement.dims)}"
    found = [(c, t) for c, t in runs.claims.get(key, {}).values() if c.statement.dims]
    wrong = [(c, t) for c, t in found if c.first is not None]
    if wrong:
        counterexamples = tuple(_counterexample(c, t, line) for c, t in wrong)
        refuted = Obligation("claims", "REFUTED", line, counterexamples[0].message, subject)
        return Findings((refuted,), counterexamples), []
    if not runs.trials:
        why = runs.lack or "no sizes were found that the kernel accepts"
        return Findings((Obligation("claims", "UNKNOWN", line, why, subject),)), []
    if not any(c.reached for c, _ in found):
        return _empty(statement, subject, "claim-unreached", "no element reaches this claim", "put it where tiles are")
    unable = [dim for dim in statement.dims if not runs.moved[key].get(dim)]  # each coordinate by itself
    if unable and (data := _gathered(module, statement, unable)) is not None:
        return _empty(statement, subject, "claim-vacuous", *data)
    if unable and len(unable) < len(statement.dims):
        why = f"nothing that is known along {', '.join(unable)} comes here"
        hint = "claim the coordinate before a reduction or a constant takes its place, or say it with `tag`"
        return _empty(statement, subject, "claim-vacuous", why, hint)
    if unable:
        hint = "claim coordinates of what was loaded, before a reduction or a constant takes their place"
        return _empty(statement, subject, "claim-vacuous", "this claim holds whatever was loaded", hint)
    detail = f"held for every element at ({'), ('.join(t.text() for t in runs.trials)})"
    return Findings((Obligation("claims", "PROVED_BOUNDED", line, detail, subject),)), []


def _gathered(module: ir.Module, statement: ir.Expect, unable: Sequence[str]) -> tuple[str, str] | None:
    """Why nothing is known along a dim, and the way out, where the axis is one that `gather` takes from data."""
    from kernelagent.dsl.elaborate.checks import walk

    lets = {s.value: s.operation for k in module.kernels for s in walk(k.body) if isinstance(s, ir.Let)}
    made, value = lets.get(statement.value), statement.value
    if not isinstance(made, ir.Gather) or statement.dims[made.axis] not in unable:
        return None
    source, name, dims = lets.get(made.indices), value.name or "the tile", ", ".join(statement.dims)
    data = source.view.array if isinstance(source, ir.Load) else made.indices.name or "a tile"
    at = ", ".join(map(str, statement.start))
    hint = f"label it where it is loaded: `{value.name or 't'} = tag({value.name or 't'}, ({dims}), ({at}))`"
    return f"axis {made.axis} of {name} comes from data ({data}): tag it", hint


def _empty(statement: ir.Expect, subject: str, code: str, why: str, hint: str) -> tuple[Findings, list[Diagnostic]]:
    span = statement.origin.span
    said = Diagnostic(code, f"`expect`: {why}", span, "warning", hint)
    return Findings((Obligation("claims", "UNKNOWN", span.line, why, subject),)), [said]


def _counterexample(claimed: Claimed, trial: Trial, line: int) -> Counterexample:
    first = claimed.first
    assert first is not None
    name = claimed.statement.value.name or "the tile"
    found = f"{first.dim}={first.found}" if first.found >= 0 else f"a mixture along {first.dim}"
    where = ", ".join(f"{n}={v}" for n, v in first.variables.items() if n not in trial.sizes)
    message = f"{name}{list(first.element)} comes from {found}, claimed {first.dim}={first.expected}"
    loaded = claimed.statement.value.origin.span.line
    return Counterexample(
        "claims", f"{message} ({where})" if where else message, tuple(dict.fromkeys((line, loaded))), dict(trial.sizes),
        dict(trial.tunables), None, first.element, (dict(first.variables),), f"{first.dim}={first.expected}", found,
        f"{claimed.wrong} elements at these sizes", trial.replay(),
    )  # fmt: skip


def _general(module: ir.Module, runs: _Shown, shown: Iterable[Obligation]) -> Iterator[Findings]:
    """`conformity` and `separation`; claims about schedules are settled where there is one."""
    shown = list(shown)
    for kernel in module.kernels:
        for claim in kernel.claims:
            if claim.word == "conformity":
                yield _conformity(kernel, claim, runs)
            elif claim.word == "separation":
                alone = [o for o in shown if o.family in ("coverage", "aliasing")]
                yield Findings((separation(claim, alone, kernel.name),))


def _conformity(kernel: ir.Kernel, claim: ir.Claim, runs: _Shown) -> Findings:
    line, subject = claim.span.line, f"{kernel.name}: {claim.text}"
    mine = {at: found for (name, at), found in sorted(runs.products.items(), key=str) if name == kernel.name}
    for at, (meeting, trial) in mine.items():
        if meeting is not None:
            shown = _met(meeting, trial, (at, line))
            return Findings((Obligation("claims", "REFUTED", at, shown.message, subject),), (shown,))
    if not mine or not runs.trials:
        why = runs.lack or (NO_PRODUCT if not _multiplies(kernel) else f"{VACUOUS}: {NOTHING_ALONG_K}")
        return Findings((Obligation("claims", "UNKNOWN", line, why, subject),))
    where = "), (".join(t.text() for t in runs.trials)
    lines = f"line{'s' * (len(mine) > 1)} {', '.join(map(str, sorted(mine)))}"
    detail = f"both operands carry the same k in the products of {lines}, at ({where})"
    return Findings((Obligation("claims", "PROVED_BOUNDED", line, detail, subject),))


NO_PRODUCT = f"{UNREACHED}: the kernel has no product"
NOTHING_ALONG_K = "no product has operands with a common dim along k"


def _multiplies(kernel: ir.Kernel) -> bool:
    from kernelagent.dsl.elaborate.checks import walk

    return any(isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma) for s in walk(kernel.body))


def _met(meeting: Meeting, trial: Trial, lines: tuple[int, int]) -> Counterexample:
    a, b = (f"{meeting.dim}={n}" if n >= 0 else f"a mixture along {meeting.dim}" for n in (meeting.left, meeting.right))
    where = ", ".join(f"{n}={v}" for n, v in meeting.variables.items() if n not in trial.sizes)
    message = f"at k={meeting.k} of the tiles the left operand comes from {a}, the right one from {b} ({where})"
    return Counterexample(
        "claims", message, lines, dict(trial.sizes), dict(trial.tunables), None, None, (dict(meeting.variables),), a, b,
        "", trial.replay(),
    )  # fmt: skip


def separation(claim: ir.Claim, shown: Sequence[Obligation], subject: str) -> Obligation:
    """As what shows it: each element is stored once, by one iteration, and (of a schedule) nothing races."""
    verdict: Verdict = worst(o.verdict for o in shown)
    detail = "no two writers meet: " + ("; ".join(dict.fromkeys(o.detail for o in shown)) or "nothing is shown")
    return Obligation("claims", verdict, claim.span.line, detail, f"{subject}: {claim.text}")


def empty(module: ir.Module, shown: Sequence[Obligation]) -> Iterator[Diagnostic]:
    """Claims of headers that say nothing, in any shape class. `shown`: where they were settled."""
    if any(o.verdict == "REFUTED" for o in shown):
        return
    every = {(k.name, c.text): c for k in module.kernels for c in k.claims}  # said twice, told once
    for claim in every.values():
        end = f": {claim.text}"
        mine = [o for o in shown if o.family == "claims" and o.line == claim.span.line and o.subject.endswith(end)]
        for code, begin, hint in _EMPTY:
            if mine and all(o.detail.startswith(begin) for o in mine):
                yield Diagnostic(code, f"`{claim.text}`: {mine[0].detail}", claim.span, "warning", hint)


_EMPTY = (
    ("claim-unreached", UNREACHED, "delete the claim"),
    ("claim-vacuous", VACUOUS, "claim less, or delete it: it is proved of any schedule with these accesses"),
)


# Assumptions ---------------------------------------------------------------------------------------------


def contradiction(module: ir.Module) -> Diagnostic | None:
    """Assumptions that no sizes satisfy: looked for among small ones, then asked of the solver."""
    stated = list(_statements(module.entry.assumes))
    data = [c for a, c in stated if a.condition is None]  # sizes satisfy the others
    if not stated or any(_satisfied(found, data) for found in sizes(module, {})):
        return None
    from kernelagent.dsl.verify.solver import contradicts

    if not contradicts([c for _, c in stated]):
        return None
    least = list(stated)
    for one in stated:
        rest = [s for s in least if s is not one]
        if rest and contradicts([c for _, c in rest]):
            least = rest
    assumed = {a.text: a.span for a, _ in least}
    text, span = " and ".join(f"`{t}`" for t in assumed), list(assumed.values())[-1]
    hint = "drop or widen one of them: no call is accepted, and whatever is proved is proved of nothing"
    return Diagnostic("assume-contradiction", f"no sizes satisfy {text}", span, "error", hint)


def _statements(assumes: Sequence[ir.Assume]) -> Iterator[tuple[ir.Assume, Condition]]:
    """What is assumed of sizes, and that every range of an array's data has something in it."""
    ranges: dict[str, list[tuple[ir.Assume, Index, Index]]] = {}
    for assume in assumes:
        match assume:
            case ir.Assume(condition=None, data=("range", array, (lo, hi))):
                mine = ranges.setdefault(array, [])
                yield assume, Compare("<", lo, hi)
                for _, low, high in mine:
                    yield assume, Compare("<", low, hi)
                    yield assume, Compare("<", lo, high)
                mine.append((assume, lo, hi))
            case ir.Assume(condition=condition) if condition is not None:
                yield assume, condition


def _satisfied(found: Mapping[str, int], conditions: Sequence[Condition]) -> bool:
    try:
        return all(evaluate_condition(c, found) for c in conditions)
    except LookupError:  # of scalars or data: some may
        return True


__all__ = ["UNREACHED", "VACUOUS", "contradiction", "empty", "examine", "separation"]
