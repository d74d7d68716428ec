"""Hold the emitted code of every kernel of the table to its schedules: verdicts, runs and seconds.

    python benchmarks/gpu/translation.py [--arch sm_80 --arch sm_90a] [--only NAME] [--seconds 6]

Needs a C++ compiler. Exit status 1 where a body differs from its schedule.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator

from cases import CASES
from cases import Case as Kernel
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.records import Findings, Obligation
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.translation import Budget, check_translation

ARCHITECTURES = ("sm_80", "sm_90a")


def schedules(kernel: Kernel, arch: str) -> Iterator[Case]:
    """Every schedule of a kernel; none where the architecture has no instructions for it."""
    module = read_module(kernel.text)
    constants = {s.name: int(kernel.scalars[s.name]) for s in module.entry.scalars if s.dtype == "const"}
    try:
        yield from cases(module, Choices(kernel.dtypes, {}, constants, kernel.shapes[0].dims), arch)
    except KernelError as refusal:
        print(f"{kernel.name:28} {arch:7} refused: {refusal.diagnostics[0].message}")


def checked(kernel: Kernel, arch: str, budget: Budget) -> Iterator[Findings]:
    for case in schedules(kernel, arch):
        begin = time.perf_counter()
        found = check_translation(case, arch, budget)
        (obligation,) = found.obligations
        print(line(kernel, arch, obligation, time.perf_counter() - begin), flush=True)
        yield found


def line(kernel: Kernel, arch: str, obligation: Obligation, seconds: float) -> str:
    return (
        f"{kernel.name:28} {arch:7} {seconds:5.1f} s  {obligation.verdict:8} {obligation.subject}: {obligation.detail}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", choices=("sm_80", "sm_89", "sm_90a"))
    parser.add_argument("--only", default="", help="part of a kernel's name")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each schedule")
    asked = parser.parse_args()
    verdicts: Counter[str] = Counter()
    for arch in asked.arch or ARCHITECTURES:
        for kernel in (k for k in CASES if asked.only in k.name):
            for found in checked(kernel, arch, Budget(runs=200, seconds=asked.seconds)):
                verdicts.update(o.verdict for o in found.obligations)
    print(", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items())))
    return 1 if verdicts["REFUTED"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
