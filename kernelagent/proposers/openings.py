"""What is tried first on a workload: the best known texts of the same problem, fitted to its sizes.

The winner of a search owes its place to steps that helped anywhere, to sizes that suit the workload where they were
found, and to steps that merely came along. So each lead is tried as the steps that are likely to hold, all at once,
then with every step that paid, then as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from kernelagent.dsl import moves
from kernelagent.dsl.moves import MoveError
from kernelagent.dsl.moves.tunables import set_tunable
from kernelagent.knowledge_base.records import Lead, Step

from .actions import SIZE_MOVES, sizes
from .base import Context, Proposal
from .past import fitted

PAID = math.log(1.02)
"""Log gain from which a step counts as one that paid: less is within reach of noise."""
SIZE_HOLDS = math.log(1.05)
"""The same for a tile size to count on another workload, where a small gain may turn."""


@dataclass(frozen=True)
class Opening:
    """A text for this workload with the steps that give it from the seed."""

    text: str
    steps: tuple[Step, ...]
    lead: Lead
    kind: str

    def proposal(self, parent: str | None) -> Proposal:
        """With `parent` the id of the seed's trial."""
        gain = f"x{math.exp(self.lead.log_gain):.2f} against the seed"
        note = f"{self.kind} on {', '.join(self.lead.workloads)}: {gain}"
        arguments = {"lead": self.lead.trial, "steps": [asdict(step) for step in self.steps]}
        return Proposal(self.text, arguments=arguments, parent=parent, note=note)


def openings(context: Context) -> Iterator[Opening]:
    """Of every lead of another run: the steps that hold, those that paid, and its own text; all fitted."""
    own = {t.id for t in context.history}
    for lead in context.leads:
        if lead.log_gain > 0 and lead.trial not in own:
            yield from _of(lead, context)


def _of(lead: Lead, context: Context) -> Iterator[Opening]:
    seed = context.history[0].text if context.history else context.problem.seed_kernel
    paid = tuple(s for s in lead.steps if _gain(s) >= PAID)
    holds = tuple(s for s in paid if _gain(s) >= SIZE_HOLDS or not _sets_sizes(s))
    composed = [(compose(seed, steps), steps, "what paid") for steps in (holds, paid)]
    for text, steps, kind in (*composed, (lead.text, lead.steps, "best known")):
        if text is not None:
            new = fitted(text, lead.features, context.workload.dims)
            yield Opening(new, (*steps, *_resized(text, new)), lead, kind)


def _gain(step: Step) -> float:
    """A step whose gain nobody measured is kept."""
    return math.inf if step.log_gain is None else step.log_gain


def _sets_sizes(step: Step) -> bool:
    return step.move in SIZE_MOVES or (step.move is None and "sizes" in step.arguments)


def compose(seed: str, steps: Sequence[Step]) -> str | None:
    """The seed after the steps; None without steps, or where one cannot be repeated."""
    text = seed
    try:
        for step in steps:
            text = _after(text, step)
    except MoveError:
        return None
    return text if steps else None


def _after(text: str, step: Step) -> str:
    """Raises MoveError for a step that does not apply, or that was written freely."""
    if step.move is not None:
        return moves.apply(step.move, text, **step.arguments)
    changes = step.arguments.get("sizes")
    if not isinstance(changes, Mapping):
        raise MoveError("this step was no move")
    for name, value in changes.items():
        kernel, tunable = name.split(".") if "." in name else (None, name)
        text = set_tunable(text, tunable, value, kernel)
    return text


def _resized(before: str, after: str) -> tuple[Step, ...]:
    """The step from one to the other, where fitting changed sizes."""
    old = sizes(before)
    changed = {name: value for name, value in sizes(after).items() if old.get(name) != value}
    return (Step(None, None, {"sizes": changed}),) if changed else ()
