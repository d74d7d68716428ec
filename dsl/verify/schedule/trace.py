"""A counterexample step by step: what the roles involved did up to the fault, with loop values and what each knew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import ScheduleCounterexample
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.confirm import fault_of
from kernelagent.dsl.verify.schedule.footprints import shared_of
from kernelagent.dsl.verify.schedule.replay import Seen, Step, Watched, watch_block, watch_launch

MOST_LINES = 40
_FIRST = 6
"""Steps that are kept from the beginning where there are too many."""
_WIDTH = 60
_SYNC = (
    dev.Commit, dev.WaitGroup, dev.BlockBarrier, dev.RoleBarrier, dev.Expect, dev.Arrive, dev.WaitPhase, dev.CommitBulk,
    dev.WaitBulk, dev.FenceAsync, dev.ClusterBarrier, dev.WgmmaFence, dev.WgmmaCommit, dev.WgmmaWait,
)  # fmt: skip


def trace(case: Case, found: ScheduleCounterexample, text: str) -> list[str]:
    """At most 40 lines, the fault last. Raises Unmodelled, LookupError for a run that cannot be repeated."""
    lines = text.splitlines()
    sizes = ", ".join(f"{d}={n}" for d, n in found.sizes.items())
    head = f"{found.family} of `{found.kernel}` ({found.shape_class}) at {sizes or 'all sizes'}"
    if found.trace or not found.sizes:
        steps = [f"  {event}" for event in found.trace]
    else:
        steps = list(_run(case, found, lines))
    return [head, *steps, f"  => {found.message}", *([f"     {found.why}"] if found.why else [])]


def _run(case: Case, found: ScheduleCounterexample, lines: Sequence[str]) -> Iterator[str]:
    wanted = fault_of(found)
    machine = watch_block(case, found.sizes)
    if wanted not in machine.seen:
        machine = watch_launch(case, found.sizes)
    seen = machine.seen.get(wanted)
    last = len(machine.steps) - 1 if seen is None else seen.step
    block = found.block or 0
    kept = [s for s in machine.steps[: last + 1] if s.block == block and _tells(machine, s, seen, found)]
    most = MOST_LINES - 4
    left = len(kept) - most
    for number, step in enumerate(kept):
        if left > 0 and _FIRST <= number < _FIRST + left:
            if number == _FIRST:
                yield f"  ... {left} steps"
            continue
        yield _line(machine, step, lines)


def _tells(machine: Watched, step: Step, seen: Seen | None, found: ScheduleCounterexample) -> bool:
    """Whether a step has to do with the fault: it orders something, or touches the bytes or the array."""
    roles = {found.role, ""} if seen is None or seen.event.other is None else {found.role, seen.event.other.role, ""}
    if step.role not in roles:
        return False
    statement = step.statement
    if isinstance(statement, _SYNC):
        return True
    lines = {found.line, found.other_line}
    at = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
    if at.span.line in lines and not isinstance(statement, dev.For | dev.If):
        return not isinstance(statement, dev.Let) or _buffer(statement) is not None
    return bool(found.place) and _buffer(statement) == found.place.split("[")[0]


def _buffer(statement: dev.Statement) -> str | None:
    """The buffer that a statement touches: its left operand for a product."""
    match statement:
        case dev.StoreShared() | dev.Copy() | dev.CopyBulk() | dev.StoreBulk() | dev.Let(operation=dev.LoadShared()):
            shared = shared_of(statement)
            return None if shared is None else shared.buffer
        case (
            dev.Let(operation=dev.Mma(a=dev.Shared(buffer=name)))
            | dev.Let(operation=dev.Mma(b=dev.Shared(buffer=name)))
        ):
            return name
    return None


def _line(machine: Watched, step: Step, lines: Sequence[str]) -> str:
    at = step.statement.fragment.origin if isinstance(step.statement, dev.Let) else step.statement.origin
    number = at.span.line
    source = lines[number - 1].strip()[:_WIDTH] if 0 < number <= len(lines) else ""
    loops = ", ".join(f"{k}={v}" for k, v in step.variables.items())
    note = _note(machine, step)
    said = f"  {step.role or 'all'}  {loops:24} {number:4} | {source:{_WIDTH}}"
    return f"{said.rstrip()}  [{note}]" if note else said.rstrip()


def _note(machine: Watched, step: Step) -> str:
    """What a step does to what is known."""
    opened, done = step.progress.open, step.progress.done

    def number(value: object) -> int:
        return int(value.evaluate({**machine.sizes, **step.variables}, machine.read))  # type: ignore[attr-defined]

    match step.statement:
        case dev.Commit():
            return f"closes group {opened[0] + 1}"
        case dev.WgmmaCommit():
            return f"closes group {opened[1] + 1}"
        case dev.CommitBulk():
            return f"closes group {opened[2] + 1}"
        case dev.WaitGroup(pending) | dev.WgmmaWait(pending) | dev.WaitBulk(pending):
            kind = (
                0
                if isinstance(step.statement, dev.WaitGroup)
                else 1
                if isinstance(step.statement, dev.WgmmaWait)
                else 2
            )
            return _complete(opened[kind], max(done[kind], opened[kind] - 1 - pending))
        case dev.BlockBarrier() | dev.RoleBarrier():
            return "each thread now knows what the others had done and waited for"
        case dev.Copy(target=target, asynchronous=True):
            return f"stage {number(target.stage)}, group {opened[0] + 1}"
        case (
            dev.StoreShared(target=target) | dev.Copy(target=target) | dev.Let(operation=dev.LoadShared(source=target))
        ):
            return f"stage {number(target.stage)}"
        case dev.CopyBulk(target=target, barrier=barrier, stage=stage):
            return f"stage {number(target.stage)}, completes {barrier}[{number(stage)}]"
        case dev.WaitPhase(barrier=barrier, stage=stage, parity=parity):
            return f"{barrier}[{number(stage)}], parity {number(parity)}"
        case dev.Arrive(barrier=barrier, stage=stage) | dev.Expect(barrier=barrier, stage=stage):
            return f"{barrier}[{number(stage)}]"
    return ""


def _complete(opened: int, done: int) -> str:
    if done < 0:
        return f"none of {opened} groups is known to be complete"
    return f"groups up to {done + 1} of {opened} are complete"


__all__ = ["MOST_LINES", "trace"]
