"""Mutation scores of the verifier: changed schedules that it refutes, and good ones that it must not.

    python benchmarks/gpu/mutation.py [--set heldout|own] [--base NAME ...] [--write]

`heldout` was written from the guide of level-two texts alone and frozen before the verifier saw it; `own` is the set
that the verifier was built with. Needs neither a GPU nor a compiler. `--write` puts the figures of whole sets into
benchmarks/results/heldout.json, beside those of the first run on the held-out set, which stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "heldout.json"
SETS = ("heldout", "own")

sys.path.insert(0, str(ROOT / "tests"))

from support import heldout, mutants  # noqa: E402 - tests are no package


def heldout_judged(bases: Sequence[str]) -> Iterator[tuple[heldout.Heldout, heldout.Verdict]]:
    """Every held-out mutant of the bases with what was said of it; what is wrong is printed."""
    for base in bases:
        own = heldout.outcome(base, heldout.schedule(base))
        if own.refuted:
            print(f"{base} itself: {own.families} at {own.lines}: {own.messages}")
        for mutant in heldout.heldout(base):
            said = heldout.outcome(base, mutant.text)
            verdict = heldout.verdict(mutant, said)
            if heldout.is_wrong(mutant, verdict):
                found = [f"{f}@{n}" for f, n in zip(said.families, said.lines, strict=True)]
                print(f"{mutant.name}: {verdict}: {mutant.edit}; said {found} {list(said.unknown)[:1]}")
            yield mutant, verdict


def heldout_score(bases: Sequence[str]) -> dict[str, Any]:
    return figures(heldout.score(list(heldout_judged(bases))))


def figures(score: heldout.Score) -> dict[str, Any]:
    return {**asdict(score), "share": round(score.share, 4)}


def own_score(bases: Sequence[str]) -> dict[str, Any]:
    judged = [(m, mutants.why_not(m, mutants.outcome(b, m.text))) for b in bases for m in mutants.mutants(b)]
    faults = [(m, why) for m, why in judged if m.truth == "fault"]
    wrong = {why: [m.name for m, said in judged if said == why] for _, why in judged if why}
    right = sum(not why for _, why in faults)
    return {
        "faults": len(faults), "right": right, "equivalent": len(judged) - len(faults), "wrong": wrong,
        "share": round(right / max(1, len(faults)), 4),
    }  # fmt: skip


def commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def write(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The latest scores of sets; the first run's stay."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if "first_run" not in before and "heldout" in scores:
        before["first_run"] = {"commit": commit(), "date": str(date.today()), "heldout": scores["heldout"]}
    latest = {**before.get("latest", {}), **scores, "commit": commit(), "date": str(date.today())}
    RESULTS.write_text(json.dumps({**before, "latest": latest}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--set", action="append", choices=SETS, help="default: both")
    asked.add_argument("--base", action="append", help="only this base; nothing is written then")
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    scores: dict[str, dict[str, Any]] = {}
    for name in options.set or SETS:
        known, judge = (heldout.bases(), heldout_score) if name == "heldout" else (mutants.bases(), own_score)
        scores[name] = judge([b for b in known if not options.base or b in options.base])
        print(f"{name}: {json.dumps(scores[name])}")
    if options.write and not options.base:
        write(scores)


if __name__ == "__main__":
    main()
