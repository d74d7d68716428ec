"""One candidate, from text to verdict."""

from __future__ import annotations

from kernelagent.harness.build import Build
from kernelagent.harness.lock import Notify
from kernelagent.harness.options import Options
from kernelagent.harness.records import Evaluation
from kernelagent.harness.session import Session
from kernelagent.problems.problem import Problem


def evaluate(
    text: str, problem: Problem, options: Options | None = None, build: Build | None = None,
    notify: Notify | None = None,
) -> Evaluation:  # fmt: skip
    """Parse, check, compile, test on every workload, and time what may be timed.

    For several candidates of one problem use a `Session`, which keeps inputs and references.
    Raises KeyError for a timed workload that the problem does not have, ValueError for an unknown target.
    """
    with Session(problem, options, build, notify) as session:
        return session.evaluate(text)
