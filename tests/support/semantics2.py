"""Judges `tests/fixtures/semantics2`: the whole of `check --problem` on each kernel, its verdict and seconds.

    python tests/support/semantics2.py [--only PART] [--write FILE] [--processes N]

Run from the repository's root. Seconds are of the process that judged. Exit status 1 where a wrong kernel is called
equal, a right one refuted, or the check fails itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.verify.records import Counterexample, Obligation
from support.semantics2_cases import cases

from kernelagent.checking import check_for

EQUAL = "EQUAL_OVER_REALS"
_RANKS = (EQUAL, "FIELD_TESTED", "NUMERICALLY_TESTED", "UNKNOWN")


@dataclass(frozen=True)
class Judged:
    """What was said of a case. `shown`: refuted with an input on which two outputs differ; `line`: where the first
    counterexample that has a line points."""

    name: str
    expect: str
    said: str
    shown: bool
    line: str
    seconds: float
    detail: str

    @property
    def good(self) -> bool:
        return self.said == EQUAL if self.expect == "equal" else self.said == "REFUTED" and self.shown

    @property
    def false(self) -> bool:
        """Unsound: a wrong kernel called equal, a right one refuted, or no answer at all."""
        return self.said == "crash" or self.said == (EQUAL if self.expect == "wrong" else "REFUTED")


def judge(number: int) -> Judged:
    """The case of this number, as `check --problem` sees it."""
    case = cases()[number]
    begin = time.process_time()
    try:
        report = check_for(case.text, case.of, target="cpu", quick=False)
    except Exception:  # noqa: BLE001 - whatever the check raises is its own mistake, and is counted
        said, detail, shown, line = "crash", traceback.format_exc().strip().rsplit("\n", 1)[-1], False, ""
    else:
        said, detail = verdict(report)
        shown = any(_differs(c) for c in report.counterexamples)
        line = next((_line(case.text, c) for c in report.counterexamples if _differs(c) and c.lines), "")
    return Judged(case.name, case.expect, said, shown, line, round(time.process_time() - begin, 2), detail)


def verdict(report: CheckReport) -> tuple[str, str]:
    """REFUTED by values, or the weakest level of the outputs, with its detail."""
    refuted = [o for o in report.obligations if o.verdict == "REFUTED"]
    if refuted:
        return "REFUTED", f"{refuted[0].family}: {refuted[0].detail}"
    found = [o for o in report.obligations if o.family == "semantics"]
    if not found:
        return "nothing", "; ".join(d.message for d in report.diagnostics)
    return max(((_level(o), o.detail) for o in found), key=lambda pair: _RANKS.index(pair[0]))


def score(found: list[Judged]) -> dict[str, Any]:
    """How many of each kind did as expected, what was said of them, and the times."""
    seconds = sorted(j.seconds for j in found)
    kinds = {kind: [j for j in found if j.expect == kind] for kind in ("equal", "wrong")}
    return {
        "kernels": len(found),
        "verdicts": {kind: dict(Counter(j.said for j in each)) for kind, each in kinds.items()},
        "as_expected": {kind: f"{sum(j.good for j in each)}/{len(each)}" for kind, each in kinds.items()},
        "false": sorted(j.name for j in found if j.false),
        "median_seconds": seconds[len(seconds) // 2],
        "worst_seconds": seconds[-1],
        "over_five_seconds": sum(s > 5.0 for s in seconds),
    }


def _differs(failure: Counterexample) -> bool:
    return failure.expected is not None and failure.expected != failure.found


def _line(text: str, failure: Counterexample) -> str:
    return text.splitlines()[failure.lines[0] - 1].strip()


def _level(obligation: Obligation) -> str:
    return (obligation.level or obligation.verdict).partition("(")[0]


def _told(judged: Judged) -> str:
    mark = "!!" if judged.false else "  " if judged.good else "- "
    return f"{mark} {judged.expect:5} {judged.said:18} {judged.seconds:5.2f} s  {judged.name}: {judged.detail}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of a problem's or kernel's name")
    parser.add_argument("--write", type=Path, help="keep score and verdicts in this file")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    numbers = [n for n, case in enumerate(cases()) if asked.only in case.name]
    found: list[Judged] = []
    with ProcessPoolExecutor(asked.processes) as pool:
        for judged in pool.map(judge, numbers):
            found.append(judged)
            print(_told(judged), flush=True)
    total = score(found)
    print(json.dumps(total, indent=1))
    if asked.write:
        record = {"score": total, "verdicts": [asdict(j) for j in found]}
        asked.write.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any(j.false for j in found))


if __name__ == "__main__":
    raise SystemExit(main())
