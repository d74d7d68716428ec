"""GPU architectures as data: the limits that decide how many blocks share a multiprocessor."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kernelagent.dsl.diagnostics import Diagnostic, KernelError


@dataclass(frozen=True)
class Arch:
    """One table of archs.toml. Sizes in bytes, registers of 32 bits.

    `shared_per_block` is the most that a kernel may opt in to; the driver takes `shared_reserved_per_block` more for
    every resident block. Registers are given to warps in units of `register_unit`, within one of
    `register_partitions` equal parts of the file. `barriers_per_sm` is None where barriers never limit residency.
    """

    name: str
    title: str
    capability: tuple[int, int]
    threads_per_block: int
    threads_per_sm: int
    warps_per_sm: int
    blocks_per_sm: int
    registers_per_thread: int
    registers_per_block: int
    registers_per_sm: int
    register_unit: int
    register_partitions: int
    shared_per_sm: int
    shared_per_block: int
    shared_reserved_per_block: int
    shared_unit: int
    cubin_shared: int
    barriers_per_sm: int | None = None


@cache
def archs() -> dict[str, Arch]:
    """Every architecture, by the name that compilers take."""
    table = tomllib.loads(files("kernelagent.dsl.targets.cuda").joinpath("archs.toml").read_text(encoding="utf-8"))
    return {name: Arch(name=name, **{**row, "capability": tuple(row["capability"])}) for name, row in table.items()}


def arch(name: str) -> Arch:
    """The architecture of this name. Raises KernelError (`unknown-arch`) with the nearest one for others."""
    known = archs()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"
    facts = {"arch": name, "known": list(known)}
    raise KernelError([Diagnostic("unknown-arch", f"no architecture is called {name!r}", hint=hint, facts=facts)])
