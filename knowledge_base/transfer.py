"""The best known texts of a problem: what to try first on a workload that was never seen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from kernelagent.knowledge_base.learning import OFF_CHIP, SUCCESS, UNTIMED, Features, similarity
from kernelagent.knowledge_base.records import Lead, Step, Trial

_MAX_DEPTH = 10_000  # a lineage is a chain; a merged log from elsewhere might hold a cycle


def best_known(
    trials: Iterable[Trial], problem: str, features: Features, chip: str, target: str, limit: int = 5
) -> list[Lead]:
    """Texts of earlier runs on this problem and target, best first; slower ones than their seed are left out.

    A text's worth is the mean of log(seed time / time) over the workloads where it was timed, weighted by the
    similarity of workload and chip and shrunk by one imaginary trial of no gain per unit of weight 0.25.
    """
    log = {t.id: t for t in trials if t.problem == problem and t.target == target}
    by_text: dict[str, list[tuple[float, float, Trial]]] = defaultdict(list)
    for trial in sorted(log.values(), key=lambda t: t.id):
        gain = gain_over_seed(trial, log)
        if gain is not None:
            near = similarity(trial.features, features) * (1.0 if trial.chip == chip else OFF_CHIP)
            by_text[trial.text_sha].append((near, gain, trial))
    failed = {t.text_sha for t in log.values() if t.status not in SUCCESS and t.status != UNTIMED}
    leads = [_lead(entries, log) for sha, entries in by_text.items() if sha not in failed]
    ranked = sorted((lead for lead in leads if lead.log_gain > 0), key=lambda lead: (-lead.log_gain, lead.text_sha))
    return ranked[:limit]


def lineage(trial: Trial, log: Mapping[str, Trial]) -> list[Trial]:
    """The trial and its ancestors, seed first; stops where the log does not know the parent."""
    chain = [trial]
    while chain[-1].parent in log and len(chain) < _MAX_DEPTH:
        chain.append(log[chain[-1].parent or ""])
    return chain[::-1]


def gain_over_seed(trial: Trial, log: Mapping[str, Trial]) -> float | None:
    """Log speed-up of a timed trial over the first text of its lineage, from rewards: each was timed beside its parent.

    None for a seed, an untimed trial, or a lineage with a gap.
    """
    if trial.status not in SUCCESS or trial.time_ms is None:
        return None
    chain = lineage(trial, log)
    steps = [t.reward for t in chain if t.parent is not None]
    known = [reward for reward in steps if reward is not None]
    return math.fsum(known) if steps and len(known) == len(steps) else None


def steps_of(trial: Trial) -> list[Step]:
    """What one trial did to its parent's text: its own action, or, for a text taken over from a base, all of that
    text's steps, which the trial keeps under `steps` in its arguments. A text that was written freely is one step
    that nobody can repeat: no technique, no move, no sizes. Nothing for a seed."""
    kept = trial.move_arguments.get("steps")
    if isinstance(kept, list):
        return [Step(s["technique"], s["move"], s["arguments"], s.get("log_gain")) for s in kept]
    if trial.parent is None:
        return []
    return [Step(trial.technique, trial.move, trial.move_arguments, trial.reward)]


def _steps(trial: Trial, log: Mapping[str, Trial]) -> tuple[Step, ...]:
    """The recorded actions of a lineage."""
    return tuple(step for t in lineage(trial, log) for step in steps_of(t))


def _lead(entries: list[tuple[float, float, Trial]], log: Mapping[str, Trial]) -> Lead:
    total = math.fsum(near for near, _, _ in entries)
    mean = math.fsum(near * gain for near, gain, _ in entries) / (total + 0.25)
    _, _, best = max(entries, key=lambda entry: (entry[0] * entry[1], entry[2].id))
    steps = max((_steps(t, log) for _, _, t in entries), key=len)
    workloads = tuple(sorted({t.workload for _, _, t in entries}))
    nearest = max(n for n, _, _ in entries)
    return Lead(best.text, best.text_sha, mean, nearest, workloads, best.id, steps, dict(best.features))
