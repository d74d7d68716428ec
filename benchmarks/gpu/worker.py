"""The process that works on the device: `worker.py OUT TIMED JOBS`. Jobs: "machine", "atoms", names of cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
from cases import CASES, Case
from conformance import State, covered, faults, inputs, left_out
from correctness import compiled, failures, judge, place, runs
from device import Clock, machine, run_atom, run_probe
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.cuda.loader import Device, device, load
from prebuild import atoms_cubin, probes_cubin
from probes import ARCH, probed, probes
from report import slug
from timing import OURS, compare

Record = dict[str, Any]


def main(out: Path, timed: bool, jobs: list[str]) -> None:
    there = device()
    clock = Clock() if timed else None
    for job in jobs:
        _say({"begin": job})
        _say({"end": job, "result": _result(job, there, clock, out)})


def _say(record: Record) -> None:
    print(json.dumps(record), flush=True)


def _result(job: str, there: Device, clock: Clock | None, out: Path) -> Any:
    if job == "machine":
        return machine(there)
    if job == "atoms":
        return atoms(there, out)
    return one_case(next(c for c in CASES if c.name == job), there, clock)


def atoms(there: Device, out: Path) -> list[Record]:
    """Run and compare every atom; the vectors are kept."""
    cubin, records = atoms_cubin(there.arch), []
    vectors: dict[str, Any] = {}
    for atom in covered(there.arch):
        given = inputs(atom)
        found = run_atom(cubin, atom, given)
        records.append({"atom": atom.name, "faults": faults(atom, given, found)})
        vectors |= named(atom.name, given, found)
    np.savez_compressed(out / f"gpu-{slug(there.name)}-atoms.npz", **vectors)
    tested: frozenset[str] = frozenset()
    if there.arch == ARCH:
        records += run_probes(there, out)
        tested = probed()
    return records + [
        {"atom": a.name, "faults": [], "not_run": True} for a in left_out(there.arch) if a.name not in tested
    ]


def run_probes(there: Device, out: Path) -> list[Record]:
    """Run and compare every probe of Hopper's atoms; what they left is kept."""
    cubin, records, left = probes_cubin(), [], {}
    for probe in probes():
        found = run_probe(cubin, probe)
        records.append({"atom": probe.name, "faults": probe.faults(found)})
        left |= {f"{probe.name}/{name}": found[name] for name in probe.expected}
    raw = {key: np.ascontiguousarray(value).view(np.uint8) for key, value in left.items()}
    np.savez_compressed(out / f"gpu-{slug(there.name)}-probes.npz", **raw)
    return records


def named(atom: str, given: State, found: State) -> dict[str, Any]:
    """The arrays of one atom's vectors: what it was given, and what it changed."""
    kept = {f"{atom}/words": given.words, f"{atom}/out": found.words}
    for part in ("memory", "shared"):
        before, after = getattr(given, part), getattr(found, part)
        kept[f"{atom}/{part}"] = before
        if not np.array_equal(before, after):
            kept[f"{atom}/{part}_after"] = after
    return kept


def one_case(case: Case, there: Device, clock: Clock | None) -> Record:
    """All shapes of a case, then its timing on the large one if all were right."""
    record: Record = {"case": case.name, "refused": None, "runs": [], "timing": None}
    try:
        loaded = load(compiled(case, there.arch))
    except KernelError as refusal:
        return record | {"refused": str(refusal)}
    for run in runs(case):
        placed = place(loaded, run)
        record["runs"].append(judge(placed))
    if clock is not None and not failures([record]):
        record["timing"] = timing(case, placed, clock, there.arch)
    return record


def timing(case: Case, placed: Any, clock: Clock, arch: str) -> Record:
    """The row of a case; `failed` says why where the rival does not run here."""
    from rivals import rival

    try:
        name, call = rival(case, placed.tensors, placed.outputs)
        call()
    except (RuntimeError, AttributeError, TypeError) as lack:  # what this version of the library does not have
        return {"case": case.name, "failed": (str(lack).splitlines() or [type(lack).__name__])[0]}
    return compare(case, {OURS: placed.bound, name: call}, clock, arch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "timed", json.loads(sys.argv[3]))
