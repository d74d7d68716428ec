"""The second held-out set of faults (`tests/fixtures/heldout2`): reading it, running `check` on it, scoring it.

    python tests/support/heldout2.py [--out scores.json] [--workers 2] [--only PART] [--wrap COMMAND]

Each case is one call of the command line in a process of its own, with an empty cache of proofs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures" / "heldout2"
LIMIT_S = 180.0
SAME_FAMILY = {"numeric": "semantics", "value": "semantics", "schedule": "language"}


@dataclass(frozen=True)
class Case:
    """One text of the set. `lines` are the line numbers at which a report is right."""

    level: int
    base: str
    name: str
    fault: bool
    text: str
    lines: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    author_error: str = ""

    @property
    def key(self) -> str:
        return f"level{self.level}/{self.base}/{self.name}"


@dataclass
class Outcome:
    """What `check` said of a case. `reports` are its faults: family, lines, message."""

    key: str
    fault: bool
    result: str
    verdict: str = ""
    semantics: str = ""
    seconds: float = 0.0
    right_family: bool = False
    right_line: bool = False
    crashed: str = ""
    author_error: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)


def cases() -> list[Case]:
    """Every case of the set; bases and printed schedules are correct cases named "base"."""
    return [case for level in (1, 2) for folder in sorted((FOLDER / f"level{level}").iterdir()) for case in _of(folder)]


def apply(text: str, edits: Sequence[Sequence[str]]) -> str:
    """The text after its edits; each `old` must occur exactly once."""
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"{text.count(old)} times: {old}")
        text = text.replace(old, new)
    return text


def _of(folder: Path) -> Iterable[Case]:
    level = int(folder.parent.name[-1])
    base = (folder / ("base.tile" if level == 1 else "schedule.tile")).read_text()
    document = tomllib.loads((folder / "cases.toml").read_text())
    yield Case(level, folder.name, "base", False, base)
    for kind in ("fault", "correct"):
        for entry in document[kind]:
            text = apply(base, entry["edit"])
            lines = tuple(n for n, line in enumerate(text.splitlines(), 1) if _holds(line, entry.get("lines", ())))
            families = tuple(entry.get("families", ()))
            error = entry.get("author_error", "")
            yield Case(level, folder.name, entry["name"], kind == "fault", text, lines, families, error)


def _holds(line: str, parts: Iterable[str]) -> bool:
    return any(part in line for part in parts)


def run(case: Case, wrap: Sequence[str] = ()) -> Outcome:
    """One call of `check`, and what it says."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "kernel.tile"
        file.write_text(case.text)
        start = time.perf_counter()
        code, out, err = _call([*wrap, *_command(case, file)], {**os.environ, "KERNELAGENT_HOME": home})
        seconds = round(time.perf_counter() - start, 1)
    try:
        report = json.loads(out)
    except json.JSONDecodeError:
        report = {}
    said = _read(case, report, code)
    said.seconds = round(float(report.get("seconds", seconds)), 1) if wrap else seconds
    said.crashed = _crash(code, report, err)
    return said


def _command(case: Case, file: Path) -> list[str]:
    folder = FOLDER / f"level{case.level}" / case.base
    call = [str(Path(sys.executable).with_name("kernelagent")), "check", str(file), "--json"]
    if case.level == 2:
        return [*call, "--against", str(folder / "base.tile")]
    problem = folder / "problem.py"
    return [*call, "--problem", str(problem)] if problem.exists() else call


def _call(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {LIMIT_S} s"
    return done.returncode, done.stdout, done.stderr


def _crash(code: int, report: Mapping[str, Any], err: str) -> str:
    if "Traceback" in err or code not in (0, 1) or not report:
        return f"exit {code}: {err.strip()[-300:]}"
    return ""


def _read(case: Case, report: Mapping[str, Any], code: int) -> Outcome:
    verdict, semantics = str(report.get("verdict", "")), str(report.get("semantics", ""))
    found = _faults(report, with_warnings=case.families == ("stability",))
    left = [o for o in report.get("obligations", ()) if o["verdict"] in ("UNKNOWN", "TESTED", "PROVED_BOUNDED")]
    said = Outcome(case.key, case.fault, "", verdict, semantics, reports=found, author_error=case.author_error)
    said.open = [{k: o[k] for k in ("family", "verdict", "line", "detail")} for o in left]
    reported = bool(found) or (code == 1 and bool(report))
    if case.fault:
        said.result = "reported" if reported else "missed"
        right = [r for r in found if r["family"] in case.families]
        said.right_family = bool(right)
        said.right_line = any(set(r["lines"]) & set(case.lines) for r in right)
    else:
        said.result = "REFUTED" if reported else verdict or "none"
    return said


def _faults(report: Mapping[str, Any], with_warnings: bool) -> list[dict[str, Any]]:
    """Counterexamples, refuted obligations without one, diagnostics."""
    found = [_fault(c["family"], [*c.get("lines", ()), c.get("line"), c.get("other_line")], c["message"])
             for c in report.get("counterexamples", ())]  # fmt: skip
    told = {f["family"] for f in found}
    for obligation in report.get("obligations", ()):
        family = SAME_FAMILY.get(obligation["family"], obligation["family"])
        warned = with_warnings and family == "stability" and obligation["verdict"] != "PROVED"
        if (obligation["verdict"] == "REFUTED" and family not in told) or warned:
            found.append(_fault(family, [obligation["line"]], obligation["detail"]))
    for one in report.get("diagnostics", ()):
        if one["severity"] == "error":
            family = one["code"] if one["code"] in told else "language"
            found.append(_fault(family, [one["line"]], f"{one['code']}: {one['message']}"))
        elif with_warnings:
            found.append(_fault("stability", [one["line"]], f"{one['code']}: {one['message']}"))
    return found


def _fault(family: str, lines: Iterable[int | None], message: str) -> dict[str, Any]:
    kept = sorted({line for line in lines if line is not None})
    return {"family": SAME_FAMILY.get(family, family), "lines": kept, "message": message}


def score(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by level: faults reported, with the right family, at the right line; correct ones by verdict."""
    return {f"level{level}": _score([o for o in outcomes if o.key.startswith(f"level{level}/")]) for level in (1, 2)}


def _score(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    faults, correct = [o for o in outcomes if o.fault], [o for o in outcomes if not o.fault]
    verdicts = sorted({o.result for o in correct})
    return {
        "faults": len(faults),
        "reported": sum(o.result == "reported" for o in faults),
        "right_family": sum(o.right_family for o in faults),
        "right_line": sum(o.right_line for o in faults),
        "correct": len(correct),
        "correct_by_verdict": {v: sum(o.result == v for o in correct) for v in verdicts},
        "crashed": sum(bool(o.crashed) for o in outcomes),
        "over_20_s": sum(o.seconds > 20 for o in outcomes),
    }


def main() -> None:
    """Run the set (or the cases whose key holds PART) and print its score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the outcomes to this JSON file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", metavar="PART")
    parser.add_argument("--wrap", default="", metavar="COMMAND", help="a command in front of each call")
    asked = parser.parse_args()
    chosen = [case for case in cases() if asked.only in case.key]
    outcomes = []
    with ThreadPoolExecutor(asked.workers) as pool:
        for said in pool.map(partial(run, wrap=asked.wrap.split()), chosen):
            outcomes.append(said)
            print(said.key, said.result, said.seconds, said.crashed, flush=True)
    scores = {"all": score(outcomes), "without_author_errors": score([o for o in outcomes if not o.author_error])}
    print(json.dumps(scores, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps({"scores": scores, "outcomes": [asdict(o) for o in outcomes]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
