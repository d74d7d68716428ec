"""The loop as a graph of plain functions. One trial reads:

    plan    what limits the best kernel, and what helped in that state before
    write   the proposer writes a text
    check   parse, type, match the problem; a wrong text goes to `repair` and comes back
    evaluate   compile, test, time
    learn   the trial is written down, in the log and in the knowledge base
    steer   go on, or stop and say why

`bound` runs first. The graph's own state is small and made of JSON values; everything else is on the `Desk`. The event
log is what a run is resumed from; the checkpoints beside it are for LangGraph's tools.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.proposers.base import Failed, Proposal, ProposerExhausted

from .desk import Desk
from .duels import duel
from .steering import Decision, decide
from .texts import sha, write_atomically, write_kernel
from .trials import evaluation_estimate, evaluation_record, evaluation_time, make_trial

RECURSION_LIMIT = 1_000_000
"""Steps of the graph. The loop ends by its budgets and by steering; LangGraph's own limit must not cut it short."""


class LoopState(TypedDict, total=False):
    """What travels between nodes. `wrong` holds diagnostics of severity error."""

    attempt: int
    proposal: dict[str, Any]
    wrong: list[dict[str, Any]]
    decision: dict[str, Any]


Node = Callable[[Desk, LoopState], LoopState]


def bound(desk: Desk, state: LoopState) -> LoopState:
    """The speed of light and the rivals, once a run."""
    if not desk.state.bounded:
        sol, ceiling = desk.laboratory.bound()
        desk.emit("bound", sol=sol, ceiling=ceiling)
    if not desk.state.trials:
        desk.rivals(desk.laboratory.baselines())
    return {}


def plan(desk: Desk, state: LoopState) -> LoopState:
    """Clear the table for the next trial."""
    return {"attempt": 0, "proposal": {}, "wrong": [], "decision": {}}


def write(desk: Desk, state: LoopState) -> LoopState:
    """The seed first, then whatever the proposer writes."""
    if not desk.state.trials:
        proposal = Proposal(desk.seed_text, note="the problem's seed kernel")
    else:
        try:
            proposal = desk.proposer.propose(desk.context())
        except ProposerExhausted as nothing:
            decision = Decision("proposer-exhausted", str(nothing), desk.state.progress.gap)
            return {"decision": decision.to_dict()}
    return {"proposal": desk.proposed(proposal, attempt=0).to_dict(), "attempt": 0}


def check(desk: Desk, state: LoopState) -> LoopState:
    """Everything that can be said about a text without compiling it."""
    proposal = Proposal.from_dict(state["proposal"])
    found = _diagnose(desk, proposal)
    if found:
        text_sha = sha(proposal.text) if proposal.text is not None else None
        desk.emit("diagnostics", number=desk.state.next_number, text_sha=text_sha,
                  diagnostics=[d.to_dict() for d in found])  # fmt: skip
    return {"wrong": [d.to_dict() for d in found if d.severity == "error"]}


def _diagnose(desk: Desk, proposal: Proposal) -> tuple[Diagnostic, ...]:
    if proposal.text is None:
        return (Diagnostic("no-kernel", proposal.failure or "the answer holds no kernel"),)
    twin = next((t for t in desk.state.trials if t.text_sha == sha(proposal.text or "")), None)
    if twin is not None:
        return (Diagnostic("same-text", f"trial {twin.number} had this text already ({twin.status})"),)
    return desk.laboratory.check(proposal.text)


def repair(desk: Desk, state: LoopState) -> LoopState:
    """Send the diagnostics back and get another text within the same trial."""
    context = desk.context(Failed(Proposal.from_dict(state["proposal"]), tuple(state["wrong"])))
    attempt = state["attempt"] + 1
    proposal = desk.proposed(desk.proposer.propose(context), attempt)
    return {"proposal": proposal.to_dict(), "attempt": attempt}


def evaluate(desk: Desk, state: LoopState) -> LoopState:
    """Compile, test on every workload, time on the run's own."""
    text = state["proposal"]["text"]
    write_kernel(desk.folder, text)
    evaluation = evaluation_record(desk.laboratory.evaluate(text))
    time_ms = evaluation_time(evaluation, desk.workload.name)
    fought = duel(desk.laboratory, text, time_ms, desk.state.best)
    desk.emit("evaluation", number=desk.state.next_number, evaluation=evaluation, duel=fought)
    return {}


def learn(desk: Desk, state: LoopState) -> LoopState:
    """Write the trial down: first in the log, then in the base."""
    found = {} if state["wrong"] else desk.state.pending_facts
    trial = make_trial(desk, Proposal.from_dict(state["proposal"]), state["wrong"], found)
    before = desk.state.best
    estimate_ms = evaluation_estimate(found.get("evaluation"), desk.workload.name)
    desk.emit("trial-finished", number=trial.number, status=trial.status, time_ms=trial.time_ms, trial=trial.to_dict(),
              **({} if estimate_ms is None else {"estimate_ms": estimate_ms}))  # fmt: skip
    desk.learn(trial)
    best = desk.state.best
    if best is not None and best is not before:
        write_atomically(desk.folder / "best.tile", best.text)
    return {}


def steer(desk: Desk, state: LoopState) -> LoopState:
    """Go on or stop, and why."""
    ended = state.get("decision") or {}
    if not ended:
        seed = desk.state.trials[0]
        if seed.time_ms is None and desk.state.best is None and desk.state.next_number == 1 and _broken(seed.status):
            decision = Decision("seed-failed", f"the seed kernel ended as {seed.status}: {seed.detail}")
        else:
            decision = decide(desk.state.progress, desk.spent, desk.state.budget, desk.state.policy)
        ended = decision.to_dict()
    desk.emit("steering", decision=ended, spent=vars(desk.spent))
    if desk.slice is not None:
        desk.slice -= 1
    return {"decision": ended}


def _broken(status: str) -> bool:
    """A seed that does not even compile says that the problem is wrong, not that the search is hard."""
    return status in ("REJECTED", "COMPILE_ERROR", "INVALID_REFERENCE")


def after_bound(desk: Desk, state: LoopState) -> str:
    """A proposal that was paid for before an interruption is not asked for again."""
    return "check" if state.get("proposal") else "plan"


def after_write(state: LoopState) -> str:
    return "steer" if state.get("decision") else "check"


def after_check(desk: Desk, state: LoopState) -> str:
    if not state["wrong"]:
        return "evaluate"
    failed = Failed(Proposal.from_dict(state["proposal"]), tuple(state["wrong"]))
    may = desk.state.trials and state["attempt"] < desk.repairs and not desk.state.budget.exhausted(desk.spent)
    return "repair" if may and desk.proposer.repairs(desk.context(failed)) else "learn"


def after_steer(desk: Desk, state: LoopState) -> str:
    over = state["decision"]["stop"] or (desk.slice is not None and desk.slice <= 0)
    return "end" if over else "plan"


NODES: tuple[Node, ...] = (bound, plan, write, check, repair, evaluate, learn, steer)


def build(desk: Desk, checkpointer: Any = None) -> Any:
    """The compiled LangGraph graph of this run."""
    os.environ.setdefault("LANGSMITH_TRACING", "false")  # nothing of a run leaves this machine unasked
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(LoopState)
    for node in NODES:
        graph.add_node(node.__name__, partial(node, desk))
    graph.add_edge(START, "bound")
    graph.add_conditional_edges("bound", partial(after_bound, desk), ["check", "plan"])
    graph.add_edge("plan", "write")
    graph.add_conditional_edges("write", after_write, ["check", "steer"])
    graph.add_conditional_edges("check", partial(after_check, desk), ["evaluate", "repair", "learn"])
    graph.add_edge("repair", "check")
    graph.add_edge("evaluate", "learn")
    graph.add_edge("learn", "steer")
    graph.add_conditional_edges("steer", partial(after_steer, desk), {"end": END, "plan": "plan"})
    return graph.compile(checkpointer=checkpointer)


def run_loop(desk: Desk) -> Decision | None:
    """Run until the loop stops, or until the desk's slice is used up; the decision, None after a mere slice."""
    import sqlite3
    from contextlib import closing

    os.environ.setdefault("LANGSMITH_TRACING", "false")
    from langgraph.checkpoint.sqlite import SqliteSaver

    path = _fresh(desk.folder / "checkpoints.sqlite")
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        graph = build(desk, SqliteSaver(connection))
        config = {"configurable": {"thread_id": desk.run}, "recursion_limit": RECURSION_LIMIT}
        final = graph.invoke(_entry(desk), config, durability="sync")
    decision = {k: v for k, v in final["decision"].items() if k != "stop"}
    return Decision(**decision) if final["decision"]["stop"] else None


def _entry(desk: Desk) -> LoopState:
    pending = desk.state.pending
    if pending is None:
        return {"attempt": 0, "proposal": {}, "decision": {}}
    return {"attempt": pending.attempt, "proposal": pending.proposal.to_dict(), "decision": {}}


def _fresh(path: Path) -> Path:
    """Checkpoints are rebuilt from the log: an old file, possibly torn by a crash, is not read."""
    for name in (path.name, path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    return path
