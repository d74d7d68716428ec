"""The table of the GPU kernels that needs no GPU: docs/gpu-kernels.md, from facts that this command collects.

    python benchmarks/gpu/table.py              # collects, writes the facts and the page (about two minutes)
    python benchmarks/gpu/table.py --page       # the page again from the committed facts
    python benchmarks/gpu/table.py --check      # collects again; exit 1 with a diff where the committed facts differ
    python benchmarks/gpu/table.py gemm_fp8     # prints the facts of the cases whose names hold the word

Needs a CUDA compiler, nvdisasm, cuobjdump and a C++ compiler. What depends on the CUDA compiler's version (registers,
spills, counts of instructions) is compared only where it is the committed one.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import static
from cases import CASES
from kernelagent.dsl.targets.cpu.compiler import NoCompiler
from kernelagent.dsl.targets.cuda.compiler import find_toolchain
from kernelagent.dsl.targets.cuda.tools import MissingTool
from page import missing, page
from static import Record

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "benchmarks" / "results" / "gpu-static.json"
PAGE = ROOT / "docs" / "gpu-kernels.md"
REFRESH = "if the change is meant: python benchmarks/gpu/table.py"


def main() -> int:
    options = _options()
    if options.words:
        chosen = [i for i, case in enumerate(CASES) if any(word in case.name for word in options.words)]
        print(json.dumps(collect(options.processes, chosen), indent=2))
        return 0
    if options.page:
        return write(json.loads(FACTS.read_text(encoding="utf-8")))
    record = {"toolchain": find_toolchain().identity, "cases": collect(options.processes, range(len(CASES)))}
    if options.check:
        return check(record)
    return write(record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only cases whose name holds one of these; prints, writes nothing")
    parser.add_argument("--page", action="store_true", help="collect nothing, write the page of the committed facts")
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def collect(processes: int, which: Any) -> list[Record]:
    """The facts of cases by their positions, in that order."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(_facts, which))


def _facts(number: int) -> Record:
    return static.facts(CASES[number])


def write(record: Record) -> int:
    """1 where something is missing."""
    FACTS.write_text(written(record), encoding="utf-8")
    PAGE.write_text(page(record, FACTS.parent), encoding="utf-8")
    print(f"wrote {FACTS.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}")
    return lacking(record)


def lacking(record: Record) -> int:
    """1, and what is missing, where a case falls short."""
    lacks = list(missing(record["cases"]))
    print("".join(f"missing: {lack}\n" for lack in lacks), end="")
    return int(bool(lacks))


def written(record: Record) -> str:
    """JSON with a case a line."""
    cases = ",\n".join(json.dumps(case) for case in record["cases"])
    return f'{{"toolchain": {json.dumps(record["toolchain"])}, "cases": [\n{cases}\n]}}\n'


def check(fresh: Record) -> int:
    """1 where the page is not that of the committed facts, these are not the fresh ones, or something is missing."""
    committed = json.loads(FACTS.read_text(encoding="utf-8"))
    same = committed["toolchain"] == fresh["toolchain"]
    if not same:
        print(f"the compiler is {fresh['toolchain']}, the facts are of {committed['toolchain']}: figures not compared")
    pages = (PAGE.read_text(encoding="utf-8").splitlines(), page(committed, FACTS.parent).splitlines())
    differences = [*_diff("the page", *pages), *_diff("the facts", lines(committed, same), lines(fresh, same))]
    print("\n".join(differences) or "the table is as committed")
    if differences:
        print(REFRESH)
    return int(bool(differences)) | lacking(fresh)


def _diff(what: str, old: list[str], new: list[str]) -> list[str]:
    return list(difflib.unified_diff(old, new, f"{what} as committed", f"{what} now", lineterm="", n=0))


FIGURES = ("registers", "blocks", "warps_share", "limiter")
"""Of a class, what another compiler may change."""


def lines(record: Record, figures: bool) -> list[str]:
    """The facts one a line, for comparison; without figures that belong to the compiler, unless asked for."""
    found: list[str] = []
    for case in record["cases"]:
        for build in case["builds"]:
            head = f"{case['case']} {build['arch']}"
            found.append(f"{head}: {'refused: ' + build['refused'] if build['refused'] else 'builds'}")
            found += [f"{head}: {w} {n if figures else n > 0}" for w, n in build["opcodes"].items()]
            found += [f"{head}: {k['kernel']} {_class(c, figures)}" for k in build["kernels"] for c in k["classes"]]
        found += [f"{case['case']} {_run(run)}" for run in case["runs"]]
    return found


def _class(facts: Record, figures: bool) -> str:
    spills = {"spills": facts["spill_bytes"] if figures else facts["spill_bytes"] > 0}
    kept = {k: v for k, v in facts.items() if figures or k not in FIGURES}
    kept = {k: v for k, v in kept.items() if k not in ("spill_bytes", "local_accesses")} | spills
    return ", ".join(f"{k} {v}" for k, v in kept.items())


def _run(run: Record) -> str:
    """Errors differ in their last digits with the mathematics library: only whether they are allowed is compared."""
    fine = run["worst"] is not None and run["worst"] <= 1
    kept = {k: v for k, v in run.items() if k != "worst"} | {"within the bound": fine}
    return ", ".join(f"{k} {v}" for k, v in kept.items())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (MissingTool, NoCompiler) as lack:
        print(f"{lack}; {getattr(lack, 'hint', '')}", file=sys.stderr)
        sys.exit(3)
