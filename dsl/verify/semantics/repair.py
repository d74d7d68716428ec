"""Where a kernel that is not its reference went wrong: the small edit after which it is.

An edit counts when the edited text agrees with the reference on every trial and is then shown equal to it over the
reals. So the line that is pointed at is one at which a small change is enough; another may be as good. The number of
edits is bounded, not the time: the answer does not depend on the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.instances import Instances
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference, failures
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.blame import lets
from kernelagent.dsl.verify.semantics.edits import Edit, edits
from kernelagent.dsl.verify.trials import Trial

TRIED = 90
"""Edits that type and are run."""

_PROOFS = 3
"""Edits that agree on every trial, and are looked at closely."""

_FEWEST = 10

_WORK, _TOGETHER = 6_000_000, 30_000_000
"""Of the interpreter, for one run, and for the first runs of all edits."""


@dataclass(frozen=True)
class Repair:
    """After `edit` the text is equal to the reference over the reals."""

    edit: Edit

    @property
    def text(self) -> str:
        edit = self.edit
        return f"line {edit.line}: `{edit.new}` for `{edit.old}` (verified: equal to the reference over the reals)"


def repaired(
    module: Module, choice: Choice, graph: g.ReferenceGraph, reference: Reference, lines: Sequence[int]
) -> Repair | None:
    """The first edit that mends the text; None where none was found."""
    if graph.missing:
        return None
    trials = _ordered(module, choice, reference)
    agreeing = (
        (edit, other)
        for edit, other in _alternatives(module, choice, reference, trials[0], lines, graph)
        if _agrees(other, reference, trials[1:], choice)
    )
    for edit, other in islice(agreeing, _PROOFS):
        if _equal(other, choice, graph) and _safe(other, choice):
            return Repair(edit)
    return None


def _ordered(module: Module, choice: Choice, reference: Reference) -> list[Trial]:
    """The smallest trial on which the kernel fails, then the others."""
    trials = sorted(reference.trials, key=lambda t: sum(int(np.size(a)) for a in t.arrays.values()))
    failing = next((n for n, t in enumerate(trials) if not _agrees(module, reference, (t,), choice)), 0)
    return [trials[failing], *trials[:failing], *trials[failing + 1 :]]


def _alternatives(
    module: Module, choice: Choice, reference: Reference, trial: Trial, lines: Sequence[int], graph: g.ReferenceGraph
) -> Iterator[tuple[Edit, Module]]:
    """Edited texts that agree on one trial."""
    tried, most = 0, _most(module, choice, trial)
    for edit in edits(module.text, lines, _literals(graph), _ranks(module)):
        try:
            other = parse(edit.applied(module.text))
        except (KernelError, SyntaxError):
            continue
        tried += 1
        if tried > most:
            return
        if _agrees(other, reference, (trial,), choice):
            yield edit, other


def _most(module: Module, choice: Choice, trial: Trial) -> int:
    """How many edits are run: fewer where a run takes much."""
    options = Options(widen=True, target=choice.target)
    tunables = {**choice.tunables, **trial.tunables}
    try:
        work = execute(module, trial.arrays, trial.scalars, tunables, options, choice.instances).work
    except (KernelError, RunError):
        return TRIED
    return max(_FEWEST, min(TRIED, _TOGETHER // max(work, 1)))


def _ranks(module: Module) -> dict[str, int]:
    return {let.value.name: let.value.type.rank for k in module.kernels for let in lets(k.body) if let.value.name}


def _literals(graph: g.ReferenceGraph) -> list[str]:
    values = [n.operation.value for n in graph.nodes if isinstance(n.operation, g.Constant)]
    return list(dict.fromkeys(repr(abs(float(v))) for v in values if v == v and abs(v) not in (0, 1)))


def _agrees(module: Module, reference: Reference, trials: Sequence[Trial], choice: Choice) -> bool:
    alone = replace(choice, instances=Instances())
    try:
        return all(next(failures(module, reference, t, alone, _WORK, (True,)), None) is None for t in trials)
    except (KernelError, RunError, WorkLimit):
        return False


def _equal(module: Module, choice: Choice, graph: g.ReferenceGraph) -> bool:
    from kernelagent.dsl.verify.semantics.prove import read

    return all(d.settled for d in read(module, replace(choice, instances=Instances()), graph).differences)


def _safe(module: Module, choice: Choice) -> bool:
    """Whether nothing else of the text is refuted: an edit may lead out of an array, or leave elements out."""
    from kernelagent.dsl.check_text import examine

    alone = replace(choice, instances=Instances())
    return all(o.verdict != "REFUTED" for o in examine(module, alone, None, quick=True).obligations)


__all__ = ["Repair", "repaired"]
