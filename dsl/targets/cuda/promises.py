"""What a schedule promises of its machine code: its atoms' opcodes, its roles' registers, the chip's limits.

A product that the compiler did without the matrix unit, or a box that it moved by ordinary loads, would compute the
same values: only the machine code shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import Atom, atom
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.targets.cuda.archs import arch as arch_named
from kernelagent.dsl.targets.cuda.inspect import Inspection
from kernelagent.dsl.targets.cuda.ptxas import serialising
from kernelagent.dsl.targets.cuda.sass import Sass

_ALWAYS: dict[type, str] = {
    dev.BlockBarrier: "barrier", dev.Commit: "commit", dev.WaitGroup: "wait_group",
    dev.BarrierInit: "mbar_init", dev.FenceInit: "mbar_fence_init",
    dev.Expect: "mbar_expect", dev.WaitPhase: "mbar_wait", dev.CommitBulk: "tma_commit", dev.WaitBulk: "tma_wait_read",
    dev.FenceAsync: "fence_async", dev.RoleBarrier: "named_barrier", dev.Turn: "named_barrier",
    dev.ClusterBarrier: "cluster_barrier",
    dev.WgmmaFence: "wgmma_fence", dev.WgmmaCommit: "wgmma_commit", dev.WgmmaWait: "wgmma_wait",
}  # fmt: skip
"""Statements that are one atom each."""
_SPECIAL = frozenset({"exp", "exp2", "rsqrt", "recip"})
"""Words of the special-function unit."""
WIDEST = 128
"""Bits of the widest access of a lane; narrower ones may be merged or split."""


def promised(kernel: dev.DeviceKernel) -> tuple[Atom, ...]:
    """The atoms that a schedule names, each once: products, copies, the widest accesses, barriers, registers."""
    names = [name for statement in dev.statements(kernel) if (name := _atom_of(kernel, statement))]
    names += [name for role in kernel.roles if (name := _registers_of(kernel, role))]
    return tuple(atom(name) for name in dict.fromkeys(names))


def _atom_of(kernel: dev.DeviceKernel, statement: dev.Statement) -> str | None:
    match statement:
        case dev.Let(_, dev.Mma(name)):
            return name
        case dev.Let(made, dev.Load(vector=vector) | dev.Gather(vector=vector)):
            return "ldg_b128" if vector * bits(made.dtype) == WIDEST else None
        case dev.Store(value=value, vector=vector, atomic=False):
            return "stg_b128" if vector * bits(value.dtype) == WIDEST else None
        case dev.Let(made, dev.Pointwise(word)):
            return word if made.dtype == "f32" and word in _SPECIAL else None
        case dev.Copy(target, vector=vector, asynchronous=True):
            return f"cp_async_{vector * bits(kernel.buffer(target.buffer).dtype) // 8}"
        case dev.CopyBulk(shared_by=shared_by):
            return f"tma_load{'_multicast' if shared_by > 1 else ''}_{len(statement.view.coordinates)}d"
        case dev.StoreBulk():
            return f"tma_store_{len(statement.view.coordinates)}d"
        case dev.Arrive(everywhere=everywhere):
            return "mbar_arrive_at" if everywhere else "mbar_arrive"
        case _:
            return _ALWAYS.get(type(statement))


def _registers_of(kernel: dev.DeviceKernel, role: dev.Role) -> str | None:
    if role.registers is None:
        return None
    return "registers_less" if role.registers < launched(kernel) else "registers_more"


def launched(kernel: dev.DeviceKernel) -> int:
    """Registers a thread that a block with roles starts with: an equal share of the multiprocessor's."""
    return min(arch_named(kernel.target).registers_per_sm // kernel.threads, 256) // 8 * 8


def opcode(promise: Atom, arch: str) -> str:
    """The promised opcode in words: the record's expression without its marks."""
    return re.sub(r"[\\$()?]", "", promise.opcode(arch) or "")


def count(promise: Atom, sass: Sass) -> int:
    """How many instructions are what the atom promises."""
    pattern = promise.opcode(sass.arch)
    return sum(n for name, n in sass.opcodes.items() if pattern is None or re.match(pattern, name))


# What was not kept -----------------------------------------------------------------------------------


def broken(kernel: dev.DeviceKernel, found: Inspection) -> Iterator[str]:
    """Every promise that the machine code does not keep, a sentence each."""
    limits = arch_named(kernel.target)
    for promise in promised(kernel):
        if not count(promise, found.sass):
            yield f"no {opcode(promise, kernel.target)} ({promise.name})"
    yield from _broken_registers(kernel, found)
    shared = found.static_shared_bytes + found.dynamic_shared_bytes
    if shared > limits.shared_per_block:
        yield f"{shared} bytes of shared memory, a block has {limits.shared_per_block}"
    yield from serialising(found.notes)


def _broken_registers(kernel: dev.DeviceKernel, found: Inspection) -> Iterator[str]:
    most = arch_named(kernel.target).registers_per_sm
    declared = {role.registers for role in kernel.roles if role.registers is not None}
    asked = set(asked_registers(found.sass))
    if asked != declared:
        yield f"roles declare {sorted(declared)} registers, the code asks for {sorted(asked)}"
    if found.registers * found.threads > most:
        yield f"{found.threads} threads of {found.registers} registers, a multiprocessor has {most}"
    each = [(role.registers or found.registers) * role.threads for role in kernel.roles]
    if sum(each) > most:
        yield f"roles take {' + '.join(map(str, each))} registers, a multiprocessor has {most}"


def asked_registers(sass: Sass) -> tuple[int, ...]:
    """The numbers of all setmaxnreg."""
    return tuple(int(i.operands.split()[-1], 16) for i in sass.instructions if i.family == "USETMAXREG")
