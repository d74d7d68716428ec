"""The order of statements within one step of a ring: what need not wait goes first, what is read is given back early.

A step waits for its stage, multiplies, waits for the product and computes with it. Loads from global memory that the
step makes by itself (scales, indices) are begun before it waits, so that their latency runs beside the copies'; the
stage goes back to the producer as soon as its last reader is done, not when the step ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import AllOf, AnyOf, Compare, Condition, index
from kernelagent.dsl.lower.device.place_shared import shared_accesses


def step(
    body: Sequence[dev.Statement], given_back: dev.Statement, stages: Collection[str]
) -> list[dev.Statement]:  # fmt: skip
    """The statements of one step that waits first, with `given_back` behind the last one that reads the buffers
    `stages`."""
    loads = _ready(body)
    rest = [s for s in body if s not in loads]
    last = max((k for k, s in enumerate(rest) if _reads(s, stages)), default=len(rest) - 1)
    return [*loads, *rest[: last + 1], given_back, *rest[last + 1 :]]


def begun(loop: ir.For) -> Condition:
    """Whether a turn of the loop is not the first."""
    later = [Compare(">", index(v), lo) for v, lo in zip(loop.variables, loop.lo, strict=True)]
    return later[0] if len(later) == 1 else AnyOf(tuple(later))


def runs(loop: ir.For) -> Condition:
    """Whether the loop has any turn; its bounds do not depend on its own variables."""
    some = [Compare("<", lo, hi) for lo, hi in zip(loop.lo, loop.hi, strict=True)]
    return some[0] if len(some) == 1 else AllOf(tuple(some))


def _ready(body: Sequence[dev.Statement]) -> list[dev.Statement]:
    """Loads that need nothing that the step makes, up to its first store or branch."""
    found: list[dev.Statement] = []
    made: set[int] = set()
    for statement in body:
        match statement:
            case dev.Store() | dev.Scatter() | dev.If() | dev.For():
                break
            case dev.Let(_, dev.Load()):
                found.append(statement)
            case dev.Let(_, dev.Gather(indices=indices)) if indices.number not in made:
                found.append(statement)
            case dev.Let(fragment, _):
                made.add(fragment.number)
            case _:
                pass
    return found


def _reads(statement: dev.Statement, stages: Collection[str]) -> bool:
    """Whether the stage is still needed here: read, or waited for by products that read it."""
    inner = list(dev.walk((statement,)))
    return any(isinstance(s, dev.WgmmaWait) or any(n in stages for n, _ in shared_accesses(s)) for s in inner)


__all__ = ["begun", "runs", "step"]
