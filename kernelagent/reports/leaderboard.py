"""The best kernels of all runs, ranked per (problem, workload, chip): correctness first, then time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernelagent.dsl.verify.summary import level_text
from kernelagent.harness.permits import permit
from kernelagent.views.summary import share

from .svg import Bar, gap_chart, progress_chart

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One finished or interrupted run. Times in ms; `sol_fraction` is bound / time.

    An untimed run has no time: `estimate_ms` is a static model's, and ranks it among untimed runs only.
    """

    run: str
    problem: str
    workload: str
    chip: str
    target: str
    proposer: str
    status: str
    time_ms: float | None
    seed_ms: float | None
    sol_ms: float | None
    ceiling_ms: float | None
    score: float | None
    suspect: str | None
    verdict: str
    baselines: dict[str, float]
    trials: int
    failures: dict[str, int]  # status -> count, of the trials that did not pass
    progress: tuple[tuple[int, float], ...]  # (trial, best ms so far)
    kernel: str | None  # path of the winning text
    text: str
    untimed: bool = False
    estimate_ms: float | None = None
    label: str = ""  # what the verdict obliges us to say beside a time
    semantics: str = ""  # how far the kernel was shown to be its reference

    @property
    def sol_fraction(self) -> float | None:
        reference = self.ceiling_ms or self.sol_ms
        return reference / self.time_ms if reference and self.time_ms else None

    @property
    def best_torch(self) -> tuple[str, float] | None:
        rivals = [(ms, name) for name, ms in self.baselines.items() if name.startswith("torch")]
        return (min(rivals)[1], min(rivals)[0]) if rivals else None

    @property
    def advice(self) -> str:
        """What a person should use."""
        if self.status == "REFUTED":
            return "no kernel: refuted"
        if self.untimed:
            return "no kernel" if self.estimate_ms is None else "time it on the chip"
        if self.time_ms is None:
            return "no kernel"
        rival = self.best_torch
        if rival and rival[1] < self.time_ms:
            return f"keep torch ({rival[0]} takes {rival[1]:.3f} ms)"
        return "use the kernel"

    @property
    def standing(self) -> str:
        """The status, with what the verdict obliges us to say beside a time, and how far it is the reference."""
        return ", ".join(part for part in (self.status, self.label, level_text(self.semantics)) if part)


def collect(runs: Path) -> list[Entry]:
    """Every run under `runs` that has a result, best first within its (problem, workload, chip), untimed ones last."""
    found = [entry for folder in sorted(runs.glob("*")) if (entry := read_run(folder))]
    return sorted(found, key=_order)


def _order(entry: Entry) -> tuple[object, ...]:
    """Timed runs first; estimates order untimed ones among themselves."""
    value = entry.estimate_ms if entry.untimed else entry.time_ms
    return (entry.problem, entry.workload, entry.chip, entry.untimed, value is None, value or 0.0)


def read_run(folder: Path) -> Entry | None:
    """The entry of one run folder, from its events alone; None where nothing was evaluated yet."""
    from kernelagent.agent.events import read_events
    from kernelagent.agent.outcome import result_record

    path = folder / "events.jsonl"
    if not path.exists():
        return None
    events = read_events(path)
    record = result_record(events)
    return None if record is None else entry_of(folder, record, events)


def entry_of(folder: Path, record: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Entry:
    best = record.get("best") or {}
    kernel = folder / "best.tile"
    return Entry(
        run=record["run"],
        problem=record["problem"],
        workload=record["workload"],
        chip=record.get("chip", "this"),
        target=record["target"],
        proposer=record.get("proposer", ""),
        status=best.get("status", "no kernel"),
        time_ms=best.get("time_ms"),
        seed_ms=record.get("seed_ms"),
        sol_ms=(record.get("sol") or {}).get("time_ms"),
        ceiling_ms=(record.get("ceiling") or {}).get("time_ms"),
        score=best.get("score"),
        suspect=best.get("suspect"),
        verdict=_verdict(best.get("proofs") or {}),
        semantics=best.get("semantics") or "",
        label=permit(best["verdict"], best.get("covered", False)).label if best.get("verdict") else "",
        baselines={b["name"]: b["time_ms"] for b in record.get("baselines", []) if b.get("time_ms")},
        trials=record.get("trials", 0),
        failures=_failures(events),
        progress=_progress(events),
        kernel=str(kernel) if kernel.exists() else None,
        text=kernel.read_text(encoding="utf-8") if kernel.exists() else "",
        untimed=bool(record.get("untimed")),
        estimate_ms=(best.get("estimate") or {}).get("time_ms"),
    )


def _verdict(proofs: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(proofs.items())) or "-"


def _failures(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        if event["kind"] == "trial-finished" and event["status"] not in ("PASSED", "UNTIMED"):
            counts[event["status"]] = counts.get(event["status"], 0) + 1
    return counts


def _progress(events: Iterable[Mapping[str, Any]]) -> tuple[tuple[int, float], ...]:
    points: list[tuple[int, float]] = []
    for event in events:
        if event["kind"] == "trial-finished" and event["status"] == "PASSED" and event.get("time_ms"):
            best = min(event["time_ms"], points[-1][1]) if points else event["time_ms"]
            points.append((event["number"], best))
    return tuple(points)


def best_entries(entries: Iterable[Entry]) -> list[Entry]:
    """The first (fastest correct) entry of each (problem, workload, chip); timed and untimed ones apart."""
    best: dict[tuple[str, str, str, bool], Entry] = {}
    for entry in entries:
        best.setdefault((entry.problem, entry.workload, entry.chip, entry.untimed), entry)
    return list(best.values())


def to_json(entries: Iterable[Entry]) -> dict[str, Any]:
    rows = [asdict(e) | {"sol_fraction": e.sol_fraction, "advice": e.advice} for e in entries]
    return {"schema_version": SCHEMA_VERSION, "entries": json.loads(json.dumps(rows))}


def to_markdown(entries: Iterable[Entry]) -> str:
    """One table; the columns say which machine, which rival and how far from the bound."""
    lines = [
        "| problem | workload | chip | best ms | bound ms | of bound | vs seed | vs numpy | vs torch | status "
        "| advice |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    best = best_entries(entries)
    lines += [_markdown_row(entry) for entry in best if not entry.untimed]
    untimed = [entry for entry in best if entry.untimed]
    return "\n".join([*lines, *(_untimed_table(untimed) if untimed else [])]) + "\n"


def _untimed_table(entries: Iterable[Entry]) -> list[str]:
    """A table of its own: estimates never stand beside times."""
    return [
        "",
        "UNTIMED: no device was at hand; kernels are proved, compiled and emulated, and ranked by a static model.",
        "",
        "| problem | workload | chip | estimate ms | bound ms | status | advice |",
        "|---|---|---|---:|---:|---|---|",
        *(
            f"| {e.problem} | {e.workload} | {e.chip} | {number(e.estimate_ms)} | {number(e.sol_ms)} | {e.standing} "
            f"| {e.advice} |"
            for e in entries
        ),
    ]


def _markdown_row(entry: Entry) -> str:
    cells = [
        entry.problem,
        entry.workload,
        entry.chip,
        number(entry.time_ms),
        number(entry.ceiling_ms or entry.sol_ms),
        percent(entry.sol_fraction),
        speedup(entry, entry.seed_ms),
        speedup(entry, entry.baselines.get("numpy")),
        speedup(entry, entry.best_torch[1] if entry.best_torch else None),
        entry.standing,
        entry.advice,
    ]
    return "| " + " | ".join(cells) + " |"


def to_html(entries: Iterable[Entry]) -> str:
    """One self-contained page: no script, no external file."""
    import jinja2

    everything = list(entries)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kernelagent.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, percent=percent, speedup=speedup, progress=_progress_svg)
    environment.globals.update(level_text=level_text)
    best = best_entries(everything)
    timed, untimed = [e for e in best if not e.untimed], [e for e in best if e.untimed]
    return environment.get_template("leaderboard.html.j2").render(
        entries=everything, best=timed, untimed=untimed, gap=_gap_svg(timed)
    )


def _gap_svg(best: Iterable[Entry]) -> str:
    bars = [
        Bar(
            f"{e.problem} · {e.workload}",
            e.sol_fraction,
            f"{number(e.time_ms)} ms, {percent(e.sol_fraction)}",
            e.advice != "use the kernel",
        )
        for e in best
        if e.sol_fraction is not None
    ]
    return gap_chart(sorted(bars, key=lambda b: -b.fraction)) if bars else ""


def _progress_svg(entry: Entry) -> str:
    return progress_chart(entry.progress, entry.ceiling_ms or entry.sol_ms)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def percent(value: float | None) -> str:
    return "-" if value is None else share(value)


def speedup(entry: Entry, rival_ms: float | None) -> str:
    return "-" if rival_ms is None or entry.time_ms is None else f"{rival_ms / entry.time_ms:.2f}x"
