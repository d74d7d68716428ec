"""Recorded answers: a JSON-lines file of texts, or the proposals of an earlier run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelagent.agent.events import Event, RunError, read_events

from .base import Context, Proposal, ProposerExhausted


class ReplayProposer:
    """Gives the recorded answers of trial 1, 2, ...; within a trial the later ones answer a repair.

    The position follows from the trial's number alone, so a resumed run goes on where it was.
    """

    name = "replay"

    def __init__(self, answers: Sequence[Sequence[Proposal]]) -> None:
        self._answers = answers

    def propose(self, context: Context) -> Proposal:
        answers = self._of(context.number)
        if not answers:
            raise ProposerExhausted(f"the recording ends after {len(self._answers)} trials")
        return answers[min(self._attempt(context, answers), len(answers) - 1)]

    def repairs(self, context: Context) -> bool:
        answers = self._of(context.number)
        return self._attempt(context, answers) < len(answers)

    def _of(self, number: int) -> Sequence[Proposal]:
        return self._answers[number - 1] if 0 < number <= len(self._answers) else ()

    def _attempt(self, context: Context, answers: Sequence[Proposal]) -> int:
        """One past the answer that failed; 0 for the first of a trial."""
        if context.failed is None:
            return 0
        failed = context.failed.proposal
        return next((i + 1 for i, a in enumerate(answers) if a.text == failed.text), len(answers))


def replay_file(path: str | os.PathLike[str]) -> ReplayProposer:
    """From JSON lines, each a text or an object with `text` and other fields of a proposal; or from a run's folder.

    Raises RunError naming the line that is wrong.
    """
    source = Path(path)
    if source.is_dir() or source.name == "events.jsonl":
        return replay_events(read_events(source))
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read the recording {source}: {error}") from None
    return ReplayProposer([[_answer(line, f"{source}:{i}")] for i, line in enumerate(lines, start=1) if line.strip()])


def replay_events(events: Sequence[Event]) -> ReplayProposer:
    """The proposals of a run, by trial."""
    answers: dict[int, list[Proposal]] = {}
    for event in events:
        if event["kind"] == "proposal" and event["number"] > 0:
            found = answers.setdefault(event["number"], [])
            del found[event["attempt"] :]  # asked again after an interruption: the later answer counts
            found.append(_free(Proposal.from_dict(event["proposal"])))
    return ReplayProposer([answers.get(number, []) for number in range(1, max(answers, default=0) + 1)])


def _free(proposal: Proposal) -> Proposal:
    """Without cost, and without a parent: trials of the replay have ids of their own."""
    return Proposal(proposal.text, proposal.technique, proposal.move, proposal.arguments, None, note="replayed",
                    failure=proposal.failure)  # fmt: skip


def _answer(line: str, place: str) -> Proposal:
    try:
        record: Any = json.loads(line)
    except ValueError:
        raise RunError(f"{place}: not JSON") from None
    if isinstance(record, str):
        return Proposal(record)
    if isinstance(record, Mapping) and isinstance(record.get("text"), str | None):
        return Proposal.from_dict({"text": None, **record})
    raise RunError(f"{place}: neither a text nor an object with a `text`")
