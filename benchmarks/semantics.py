"""Equality over the reals on kernels that were written before the verifier was tried on them: verdicts and seconds.

    python benchmarks/semantics.py [--only PART] [--write]

`tests/fixtures/semantics` holds the kernels with what must be said of them. `--write` puts the score into
`results/semantics.json`, beside that of the first run, before anything was mended. Seconds are of this process's own
work. Exit status 1 where a wrong kernel is called equal, or a right one refuted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.verify.records import Obligation
from support.semantics_cases import Case, cases

from kernelagent.checking import check_for

RESULTS = Path(__file__).parent / "results" / "semantics.json"


@dataclass(frozen=True)
class Judged:
    """What `check` said of a case, and in how many seconds. `shown`: an input with two outputs that differ."""

    case: Case
    said: str
    shown: bool
    warned: bool
    nan: bool
    seconds: float
    detail: str

    @property
    def good(self) -> bool:
        wanted = {"equal": ("EQUAL_OVER_REALS",), "wrong": ("REFUTED",)}
        told = self.said in wanted.get(self.case.expect, ("FIELD_TESTED", "NUMERICALLY_TESTED", "UNKNOWN"))
        told = told or (self.case.expect == "near" and "stand for infinity" in self.detail)
        return told and (self.shown or self.case.expect != "wrong") and not self.silent

    @property
    def silent(self) -> bool:
        """A risk in floats that had to be told, and was not."""
        return (self.case.stability == "warns" and not self.warned) or (self.case.nan == "warns" and not self.nan)

    @property
    def false(self) -> bool:
        """Unsound: a wrong kernel called equal, or a right one refuted."""
        return self.said == {"wrong": "EQUAL_OVER_REALS"}.get(self.case.expect, "REFUTED")


def judge(case: Case) -> Judged:
    """The whole of `check --problem` on one case."""
    begin = time.process_time()
    report = check_for(case.text, case.of, target="cpu", quick=False)
    seconds = time.process_time() - begin
    said, detail = _said(report)
    warned = any(o.family == "stability" and o.verdict != "PROVED" for o in report.obligations)
    nan = any(o.subject == "nan" and o.verdict != "PROVED" for o in report.obligations)
    return Judged(case, said, _shown(report), warned, nan, seconds, detail)


def _said(report: CheckReport) -> tuple[str, str]:
    """REFUTED by values, or the level of the semantics, and its detail."""
    if any(o.verdict == "REFUTED" and o.family in ("semantics", "numeric") for o in report.obligations):
        (first, *_) = [o for o in report.obligations if o.verdict == "REFUTED"]
        return "REFUTED", first.detail
    found = [o for o in report.obligations if o.family == "semantics"]
    if not found:
        return "nothing", "; ".join(d.message for d in report.diagnostics)
    ranks = ["EQUAL_OVER_REALS", "FIELD_TESTED", "NUMERICALLY_TESTED", "UNKNOWN"]
    level, detail = max(((_level(o), o.detail) for o in found), key=lambda pair: ranks.index(pair[0]))
    return level, detail


def _level(obligation: Obligation) -> str:
    return (obligation.level or obligation.verdict).partition("(")[0]


def _shown(report: CheckReport) -> bool:
    return any(c.expected is not None and c.expected != c.found for c in report.counterexamples)


def line(judged: Judged) -> str:
    mark = "!!" if judged.false else "  " if judged.good else "- "
    silent = " (silent)" if judged.silent else ""
    said = f"{mark} {judged.case.expect:6} {judged.said:18}{silent} {judged.seconds:5.2f} s"
    return f"{said}  {judged.case}: {judged.detail}"


def score(found: list[Judged]) -> dict[str, Any]:
    """The numbers that are kept: how many of each kind did as expected, and the times."""
    seconds = sorted(j.seconds for j in found)
    kinds = {kind: [j for j in found if j.case.expect == kind] for kind in ("equal", "wrong", "near")}
    return {
        "kernels": len(found),
        "verdicts": {kind: dict(Counter(j.said for j in each)) for kind, each in kinds.items()},
        "as_expected": {kind: sum(j.good for j in each) for kind, each in kinds.items()},
        "false": sum(j.false for j in found),
        "silent": sum(j.silent for j in found),
        "median_seconds": round(seconds[len(seconds) // 2], 2),
        "worst_seconds": round(seconds[-1], 2),
        "over_two_seconds": sum(s > 2.0 for s in seconds),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a problem's or kernel's name")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    found = []
    for case in cases():
        if asked.only in str(case):
            found.append(judge(case))
            print(line(found[-1]), flush=True)
    total = score(found)
    print(json.dumps(total, indent=1))
    if asked.write:
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        RESULTS.write_text(json.dumps({**kept, "now": total}, indent=1) + "\n", encoding="utf-8")
    return int(any(j.false for j in found))


if __name__ == "__main__":
    raise SystemExit(main())
