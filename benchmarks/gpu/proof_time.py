"""How long the proofs of schedules take, over all kernels of `cases` in both shape classes, and what they show.

    python benchmarks/gpu/proof_time.py [--arch sm_80 ...] [--case NAME ...] [--write]

Needs neither a GPU nor a CUDA compiler. Seconds are CPU seconds of one core, of a schedule (one kernel in one shape
class) that is already lowered: `full` and `quick` uncached, `cached` the kept proofs of a whole text, parsed and found
again (the quickest of three times, so that it is not another program that is measured). `--write` puts the figures into
benchmarks/results/proofs.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cases import CASES
from cases import Case as Kernel
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.calls import Choices, entry_dims
from kernelagent.dsl.targets.cuda.build import sources_digest
from kernelagent.dsl.verify.proofs import prove_schedules
from kernelagent.dsl.verify.records import Findings, counts, verdict_of
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove

ARCHS = ("sm_80", "sm_90a")
RESULTS = Path(__file__).parents[1] / "results" / "proofs.json"


@dataclass(frozen=True)
class Row:
    """One schedule. `verdict` is that of `verdict_of`."""

    kernel: str
    arch: str
    shape_class: str
    full_s: float
    quick_s: float
    verdict: str
    obligations: dict[str, int]

    def __str__(self) -> str:
        name = f"{self.kernel} {self.arch} {self.shape_class}"
        return f"{name:48} {self.full_s:6.3f} s full {self.quick_s:6.3f} s quick  {self.verdict}"


def choices_of(kernel: Kernel) -> Choices:
    module = parse(kernel.text)
    consts = {s.name: kernel.scalars[s.name] for s in module.entry.scalars if s.dtype == "const"}
    return Choices(kernel.dtypes, {}, consts, entry_dims(module, kernel.shapes[0].dims))


def rows(kernel: Kernel, arch: str) -> Iterator[Row]:
    """Every schedule of a kernel, each proved twice; its lists of accesses are made anew for each."""
    chosen = choices_of(kernel)
    quick = [_proved(case, True) for case in cases(parse(kernel.text), chosen, arch)]
    for case, (quick_s, _) in zip(cases(parse(kernel.text), chosen, arch), quick, strict=True):
        full_s, findings = _proved(case, False)
        shown = findings.obligations
        yield Row(kernel.name, arch, case.kernel.shape_class.name, full_s, quick_s, verdict_of(shown), counts(shown))


def _proved(case: Case, quick: bool) -> tuple[float, Findings]:
    begin = time.process_time()
    findings = prove(case, quick)
    return time.process_time() - begin, findings


def cached(kernel: Kernel, arch: str, root: Path) -> float:
    """Seconds for the text's kept proofs, from the text on."""
    chosen = choices_of(kernel)
    prove_schedules(parse(kernel.text), [chosen], arch, root=root)
    gc.collect()  # what proving has left behind
    return min(_found_again(kernel, chosen, arch, root) for _ in range(3))


def _found_again(kernel: Kernel, chosen: Choices, arch: str, root: Path) -> float:
    begin = time.process_time()
    found = prove_schedules(parse(kernel.text), [chosen], arch, root=root)
    assert found.cached
    return time.process_time() - begin


def summary(found: list[Row], kept: list[float]) -> dict[str, object]:
    total: Counter[str] = Counter()
    for row in found:
        total.update(row.obligations)
    return {
        "schedules": len(found),
        "full_s": {"median": statistics.median(r.full_s for r in found), "worst": max(r.full_s for r in found)},
        "quick_s": {"median": statistics.median(r.quick_s for r in found), "worst": max(r.quick_s for r in found)},
        "cached_ms": {"median": statistics.median(kept) * 1000, "worst": max(kept) * 1000},
        "verdicts": dict(Counter(r.verdict for r in found)),
        "obligations": dict(total),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", choices=ARCHS, help="default: both")
    parser.add_argument("--case", action="append", help="a kernel by name; default: all")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {RESULTS.name}")
    arguments = parser.parse_args()
    sources_digest()
    record: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arch in arguments.arch or ARCHS:
            found: list[Row] = []
            kept: list[float] = []
            for kernel in CASES:
                if arguments.case and kernel.name not in arguments.case:
                    continue
                for row in rows(kernel, arch):
                    found.append(row)
                    print(row, flush=True)
                kept.append(cached(kernel, arch, Path(folder)))
            record[arch] = summary(found, kept)
            print(arch, json.dumps(record[arch]))
            record[arch] = {**summary(found, kept), "rows": [asdict(r) for r in found]}
    if arguments.write:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
