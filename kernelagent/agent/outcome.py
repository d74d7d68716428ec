"""What a run found, as a pure function of its events: the record behind `result.json`, `--json` and the reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kernelagent.harness.permits import permit
from kernelagent.harness.score import score
from kernelagent.knowledge_base.records import Trial

from .events import Event
from .state import RunState, replay_state
from .trials import RIGHT


def result_record(events: Iterable[Event]) -> dict[str, Any] | None:
    """The promised keys of `optimize run`, and some more; None before anything was evaluated.

    Times in ms. `best` is null when no kernel was right, or when none that is right is proved well enough to win: then
    `withheld` names the fastest. After the final comparison its times replace those of the single trials, because they
    were taken side by side.
    """
    state = replay_state(events)
    return _record(state) if state.trials else None


def _record(state: RunState) -> dict[str, Any]:
    started = state.started
    return {
        "run": started["run"],
        "problem": started["problem"],
        "source": started.get("source"),
        "workload": started["workload"],
        "target": started["target"],
        "chip": started["chip"],
        "proposer": started["proposer"],
        "model": started.get("model"),
        "sol": _bound_of(state.sol),
        "ceiling": _bound_of(state.ceiling),
        "baselines": [{"name": n, "time_ms": t} for n, t in _baselines(state).items()],
        "missing_baselines": dict(state.missing_baselines),
        "seed_ms": _seed_ms(state),
        "best": _best(state),
        "withheld": _withheld(state),
        "trials": state.spent.trials,
        "tokens": state.spent.tokens,
        "tokens_estimated": state.spent.tokens_estimated,
        "cost_usd": state.spent.cost_usd,
        "seconds": round(state.spent.seconds, 3),
        "stop_reason": (state.stop or {}).get("reason"),
        "stop_detail": (state.stop or {}).get("detail"),
        "finished": state.finished is not None,
        "untimed": state.untimed,
    }


def _bound_of(report: Mapping[str, Any]) -> dict[str, Any] | None:
    return {"time_ms": report.get("time_ms"), "bound": report.get("bound")} if report else None


def _compared(state: RunState) -> dict[str, float]:
    """Time by name from the final comparison: kernels by digest, baselines by name."""
    comparison = state.comparison or {"shas": [], "timings": []}
    names = [*comparison["shas"], *(t["name"] for t in comparison["timings"][len(comparison["shas"]) :])]
    return {n: t["time_ms"] for n, t in zip(names, comparison["timings"], strict=True)}


def _baselines(state: RunState) -> dict[str, float]:
    compared = _compared(state)
    return {b["name"]: compared.get(b["name"], b["time_ms"]) for b in state.baselines}


def _seed_ms(state: RunState) -> float | None:
    seed = state.trials[0]
    return _compared(state).get(seed.text_sha, seed.time_ms)


def winner(state: RunState) -> Trial | None:
    """The fastest right kernel: by the final comparison where there was one, else by the trials' own times.

    A kernel that failed its full evaluation does not win, nor one whose verdict does not let it.
    """
    compared = _compared(state)
    rivals = [t for t in state.ranked if t.time_ms is not None and may_win(state, t)]
    finalists = [t for t in rivals if t.text_sha in compared]
    first = min(finalists or rivals, key=lambda t: (compared.get(t.text_sha, t.time_ms), t.number), default=None)
    return None if first is None else state.trials[first.number]


def refuted(state: RunState, trial: Trial) -> bool:
    """Whether the full evaluation found the kernel wrong."""
    full = state.confirmed.get(trial.text_sha)
    return full is not None and full["status"] not in RIGHT


def may_win(state: RunState, trial: Trial) -> bool:
    """Whether a right kernel is proved well enough, for the workloads' sizes; on request every right one is."""
    if refuted(state, trial):
        return False
    found = _evaluation(state, trial)
    asked = bool(state.started.get("settings", {}).get("unproved"))
    return asked or permit(found["verdict"], bool(found.get("covered"))).wins == "yes"


def _evaluation(state: RunState, trial: Trial) -> Mapping[str, Any]:
    """The full evaluation of a kernel, else that of its trial."""
    return state.confirmed.get(trial.text_sha) or (state.facts.get(trial.id) or {}).get("evaluation") or {}


def _withheld(state: RunState) -> dict[str, Any] | None:
    """The fastest right kernel, where none may win."""
    rivals = [t for t in state.ranked if t.time_ms is not None and not refuted(state, t)]
    first = min(rivals, key=lambda t: (t.time_ms, t.number), default=None)
    if first is None or winner(state) is not None:
        return None
    return {"trial": first.number, "sha": first.text_sha, "verdict": _evaluation(state, first).get("verdict")}


def _best(state: RunState) -> dict[str, Any] | None:
    trial = winner(state)
    if trial is None or trial.status not in RIGHT:
        return None
    time_ms = _compared(state).get(trial.text_sha, trial.time_ms)
    own = (state.facts.get(trial.id) or {}).get("evaluation") or {}
    evaluation = _evaluation(state, trial)
    measured: Mapping[str, Any] = next((w for w in own.get("workloads", ()) if w["name"] == trial.workload), {})
    ceiling_ms = state.ceiling_ms
    return {
        "sha": trial.text_sha,
        "text_path": "best.tile",
        "trial": trial.number,
        "technique": trial.technique,
        "status": trial.status,
        "time_ms": time_ms,
        "speedup": _speedups(state, time_ms),
        "estimate": measured.get("estimate"),
        "sol_fraction": ceiling_ms / time_ms if ceiling_ms and time_ms else None,
        "score": _score(state, time_ms, measured),
        "suspect": measured.get("suspect"),
        "proofs": evaluation.get("proofs", {}),
        "verdict": evaluation.get("verdict"),
        "covered": bool(evaluation.get("covered")),
        "semantics": evaluation.get("semantics", ""),
        "sandbox": evaluation.get("sandbox"),
        "confirmed": trial.text_sha in state.confirmed,
    }


def _score(state: RunState, time_ms: float | None, measured: Mapping[str, Any]) -> float | None:
    """Against the fastest baseline (S of the design), from side-by-side times when there are some."""
    best_base = min(_baselines(state).values(), default=None)
    bound_ms = state.ceiling_ms
    if not time_ms or not best_base or not bound_ms or best_base <= bound_ms or state.comparison is None:
        return measured.get("score")
    return score(time_ms, bound_ms, best_base)[0]


def _speedups(state: RunState, time_ms: float | None) -> dict[str, float]:
    if not time_ms:
        return {}
    seed_ms = _seed_ms(state)
    rivals = {**({"seed": seed_ms} if seed_ms else {}), **_baselines(state)}
    return {name: ms / time_ms for name, ms in rivals.items() if ms}
