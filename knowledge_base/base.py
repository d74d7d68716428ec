"""`KnowledgeBase`: the log of trials with everything that is learned from it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kernelagent.knowledge_base import catalogue, learning, transfer
from kernelagent.knowledge_base.errors import NotAnExport
from kernelagent.knowledge_base.records import SCHEMA_VERSION, Gain, Lead, Suggestion, Technique, Trial
from kernelagent.knowledge_base.store import Store


class KnowledgeBase:
    """A base in one file. Opened on use, so a run may hold it while others write.

    Methods that touch the file raise KnowledgeBaseError (locked, read-only, corrupt, newer). `secrets` are strings that
    are never written.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Iterable[str] = (), timeout_s: float = 10.0) -> None:
        self.path = Path(path)
        self.store = Store(path, secrets, timeout_s)

    def check(self) -> None:
        """Raise now what recording would raise later; a missing file is fine."""
        self.store.check()

    def record(self, trial: Trial) -> Trial:
        """Append a trial; returns it as stored, with its content-derived `id`, to be used as `parent` of the next.

        On KnowledgeBaseError the trial is in the side file that the error names; it is added by a later write.
        """
        return self.store.add([trial])[0]

    def record_all(self, trials: Iterable[Trial]) -> list[Trial]:
        return self.store.add(trials)

    def trials(
        self,
        problem: str | None = None,
        workload: str | None = None,
        chip: str | None = None,
        target: str | None = None,
        run: str | None = None,
        status: str | None = None,
        technique: str | None = None,
        limit: int | None = None,
    ) -> list[Trial]:
        """Recorded trials, oldest first; None matches everything."""
        return self.store.trials(limit, problem=problem, workload=workload, chip=chip, target=target, run=run,
                                 status=status, technique=technique)  # fmt: skip

    def trial(self, identifier: str) -> Trial | None:
        return next(iter(self.store.trials(id=identifier)), None)

    def lineage(self, identifier: str) -> list[Trial]:
        """The trial and its ancestors, seed first; empty when it is unknown."""
        trial = self.trial(identifier)
        if trial is None:
            return []
        return transfer.lineage(trial, {t.id: t for t in self.trials(problem=trial.problem)})

    def techniques(self) -> tuple[Technique, ...]:
        """The curated techniques, by name. Raises TechniqueError when a file is wrong."""
        return catalogue.curated()

    def gains(self) -> list[Gain]:
        return learning.gains(self.trials())

    def retrieve(
        self,
        features: Mapping[str, float | str],
        bottleneck: str,
        chip: str,
        target: str = "cpu",
        tags: Iterable[str] = (),
        limit: int = 8,
        seed: int | None = None,
    ) -> list[Suggestion]:
        """Techniques worth trying in this state, best first, each with its reason; see `learning.retrieve`."""
        state = learning.State(features, bottleneck, chip, target, frozenset(tags))
        return learning.retrieve(self.techniques(), self.trials(target=target), state, limit, seed)

    def best_known(
        self, problem: str, features: Mapping[str, float | str], chip: str, target: str = "cpu", limit: int = 5
    ) -> list[Lead]:
        """The texts that did best on similar workloads of this problem; see `transfer.best_known`."""
        trials = self.trials(problem=problem, target=target)
        return transfer.best_known(trials, problem, features, chip, target, limit)

    def relatives(self, run: str, problem: str, chip: str, target: str = "cpu", limit: int = 100) -> list[Trial]:
        """The latest trials of other runs of a problem on this chip and target, oldest first."""
        found = [t for t in self.trials(problem=problem, chip=chip, target=target) if t.run != run]
        return found[-limit:]

    def search(self, query: str, limit: int = 20) -> list[dict[str, str]]:
        """Techniques, then trials (newest first), in which every word of the query occurs, regardless of case.

        Each hit has `kind` ("technique" or "trial"), `name` (for a trial its id) and `text`, one line to show.
        """
        words = query.lower().split()
        hits = [t for t in self.techniques() if all(w in _searched(t) for w in words)][:limit]
        found = [{"kind": "technique", "name": t.name, "text": t.title} for t in hits]
        return found + [{"kind": "trial", "name": t.id, "text": _line(t)} for t in self.store.search(query, limit)]

    def stats(self) -> dict[str, Any]:
        """What `kb stats` prints: counts, failures by status, the gains that were measured."""
        trials = self.trials()
        return {
            "path": str(self.path),
            "schema_version": SCHEMA_VERSION,
            "bytes": self.path.stat().st_size if self.path.exists() else 0,
            "trials": len(trials),
            "runs": len({t.run for t in trials}),
            "problems": dict(sorted(Counter(t.problem for t in trials).items())),
            "chips": dict(sorted(Counter(t.chip for t in trials).items())),
            "statuses": dict(sorted(Counter(t.status for t in trials).items())),
            "failures": _failures(trials),
            "untimed": sum(t.status == learning.UNTIMED for t in trials),
            "techniques": len(self.techniques()),
            "executable_techniques": sum(bool(t.moves) for t in self.techniques()),
            "techniques_tried": len({t.technique for t in trials if t.technique}),
            "gains": [g.__dict__ for g in learning.gains(trials)],
        }

    def merge(self, other: KnowledgeBase | str | os.PathLike[str]) -> int:
        """Add the other base's trials to this one (set union); returns how many were new."""
        source = other if isinstance(other, KnowledgeBase) else KnowledgeBase(other)
        if not source.path.exists():
            raise FileNotFoundError(f"there is no knowledge base at {source.path}")
        return self._add_new(source.trials())

    def export_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Write every trial as a line of JSON, ordered by id: equal bases give equal files. Returns their number."""
        trials = sorted(self.trials(), key=lambda t: t.id)
        lines = "".join(json.dumps(t.to_dict(), sort_keys=True) + "\n" for t in trials)
        Path(path).write_text(lines, encoding="utf-8")
        return len(trials)

    def import_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Add the trials of an export; returns how many were new. Raises NotAnExport naming the line, adding none."""
        trials = []
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                try:
                    trials.append(Trial.from_dict(json.loads(line)))
                except (ValueError, AttributeError) as error:
                    raise NotAnExport(f"{path}:{number}: not a trial: {error}") from None
        return self._add_new(trials)

    def _add_new(self, trials: list[Trial]) -> int:
        before = {t.id for t in self.trials()}
        return len({t.id for t in self.store.add(trials)} - before)


def _failures(trials: Iterable[Trial]) -> dict[str, int]:
    """By status; a trial without a device to time it on did not fail."""
    fine = learning.SUCCESS | {learning.UNTIMED}
    return dict(sorted(Counter(t.status for t in trials if t.status not in fine).items()))


def _searched(technique: Technique) -> str:
    parts = (technique.name, technique.title, technique.what, technique.when, *technique.tags, *technique.bottlenecks)
    return " ".join(parts).lower()


def _line(trial: Trial) -> str:
    time = f"{trial.time_ms:.4g} ms" if trial.time_ms is not None else "untimed"
    action = trial.technique or trial.move or "seed"
    return f"{trial.problem} {trial.workload} on {trial.chip}: {action}, {trial.status}, {time}"
