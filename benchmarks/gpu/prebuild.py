"""Compiling the cases and the atoms' kernels into the cache, on all processors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cases import CASES, Case
from conformance import covered, kernel
from correctness import compiled
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from probes import ARCH, probes

ATOMS = "atoms"


def compile_all(cases: Sequence[Case], archs: Sequence[str], with_atoms: bool) -> list[str]:
    """What was refused, a sentence each."""
    jobs = [(case.name, arch) for arch in archs for case in cases]
    jobs += [(ATOMS, arch) for arch in archs if with_atoms]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [told for told in pool.map(_compile, jobs) if told]


def _compile(job: tuple[str, str]) -> str | None:
    name, arch = job
    try:
        if name == ATOMS:
            atoms_cubin(arch)
            if arch == ARCH:
                probes_cubin()
        else:
            compiled(next(c for c in CASES if c.name == name), arch)
    except KernelError as refusal:
        return f"{name} for {arch}: {refusal}"
    return None


def probes_cubin() -> Path:
    """One cubin with the kernels of all probes of Hopper's atoms."""
    source = "".join(probe.source for probe in probes())
    return cached_cubin(prelude(ARCH, source) + source, ARCH).path


def atoms_cubin(arch: str) -> Path:
    """One cubin with a kernel for each atom that `conformance` covers."""
    return cached_cubin(prelude(arch) + "".join(map(kernel, covered(arch))), arch).path
