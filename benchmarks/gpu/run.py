"""`make gpu`: atoms, correctness and timing of the GPU kernels on the GPU of this machine.

    python benchmarks/gpu/run.py [--out DIR] [--no-timing] [WORD ...]     WORD: only cases whose names hold one

1. Every atom of the prelude on random and edge inputs against its numpy reference; what the device gave becomes golden
   vectors (gpu-CHIP-atoms.npz). What needs barriers, maps or warpgroups runs as `probes` (gpu-CHIP-probes.npz).
2. Every case on all its shapes, and on a large one, against an fp64 oracle, in outputs of poisoned bits.
3. Timing of the large shapes in turns with cuBLAS, cuDNN, torch's attention, or a device copy of as many bytes.

Results: gpu-CHIP.json and gpu-CHIP.md, written anew after each case. Clocks are observed, never set. A kernel that
kills or hangs its process costs its own case only. Exit 1 where something is wrong, 3 where something is not installed.
On a machine without a GPU everything is compiled for every architecture of the table, and that is said.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import checkout
from cases import CASES, Case
from kernelagent.dsl.targets.cuda.loader import Device, device
from kernelagent.dsl.targets.cuda.tools import MissingTool
from kernelagent.harness.nvml import observe
from prebuild import compile_all
from relay import relay
from report import faulty, slug, summary, written
from static import ARCHS

Record = dict[str, Any]
SECONDS = 120
"""Without an answer for so long a kernel hangs: large inputs take half a minute to draw."""


def main() -> int:
    options = _options()
    cases = [c for c in CASES if not options.words or any(word in c.name for word in options.words)]
    try:
        there = device()
    except MissingTool as lack:
        return without_device(cases, lack, not options.words)
    if find_spec("torch") is None:
        raise MissingTool("PyTorch", "for arrays and rivals", "pip install torch")
    return on_device(cases, there, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only cases whose names hold one, and no atoms")
    parser.add_argument("--out", type=Path, default=checkout.ROOT / "benchmarks" / "results", help="for the results")
    parser.add_argument("--no-timing", action="store_true", help="atoms and correctness only")
    return parser.parse_args()


def without_device(cases: Sequence[Case], lack: MissingTool, with_atoms: bool) -> int:
    """Compile for every architecture; 1 where something is refused."""
    begin = time.perf_counter()
    refused = compile_all(cases, ARCHS, with_atoms)
    took = time.perf_counter() - begin
    print(f"{lack}.\nNothing was run and nothing was timed.")
    also = " and the atoms' kernels" if with_atoms else ""
    print(f"{len(cases)} cases{also} were compiled for {', '.join(ARCHS)} in {took:.0f} s.")
    print("".join(f"refused: {line}\n" for line in refused), end="")
    return int(bool(refused))


def on_device(cases: Sequence[Case], there: Device, options: argparse.Namespace) -> int:
    began = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"compiling {len(cases)} cases for {there.arch}", flush=True)
    compile_all(cases, [there.arch], not options.words)
    record = empty(there)

    def done(job: str, result: Any) -> None:
        add(record, job, result)
        record["machine"] |= {"clocks_after": observe(), "seconds": round(time.perf_counter() - began)}
        save(record, options.out)
        print(f"{record['machine']['seconds']:4} s  {job}", flush=True)

    def crashed(job: str, reason: str) -> None:
        done(job, {"case": job, "refused": None, "runs": [], "timing": None, "crashed": reason})

    worker = [sys.executable, str(Path(__file__).with_name("worker.py")), str(options.out)]
    jobs = ["machine", *(["atoms"] if not options.words else []), *(c.name for c in cases)]
    relay([*worker, "untimed" if options.no_timing else "timed"], jobs, done, crashed, SECONDS)
    print(record["summary"])
    wrong = list(faulty(record))
    print("\n".join(wrong))
    return int(bool(wrong))


def empty(there: Device) -> Record:
    machine = {"chip": there.name, "arch": there.arch, "date": date.today().isoformat(), "clocks_before": observe()}
    return {"machine": machine, "summary": "", "atoms": [], "cases": []}


def add(record: Record, job: str, result: Any) -> None:
    """What a job gave, into the record. The machine's and the atoms' job have no case to be blamed for a crash."""
    if job in ("machine", "atoms") and "crashed" in result:
        record["cases"].append(result)
    elif job == "machine":
        record["machine"] |= result
    elif job == "atoms":
        record["atoms"] = result
    else:
        record["cases"].append(result)


def save(record: Record, out: Path) -> None:
    record["summary"] = summary(record)
    name = f"gpu-{slug(record['machine']['chip'])}"
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(written(record), encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MissingTool as lack:
        print(f"{lack}; {lack.hint}", file=sys.stderr)
        sys.exit(3)
