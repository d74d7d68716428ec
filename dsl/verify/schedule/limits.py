"""What a block asks of a multiprocessor, against what the architecture has."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.targets.cuda.archs import Arch, arch
from kernelagent.dsl.verify.records import Obligation

NAMED_BARRIERS = 16
"""Of a block (PTX ISA 9.0, "bar, barrier")."""


def prove_resources(kernel: dev.DeviceKernel, subject: str) -> list[Obligation]:
    """One obligation: PROVED with the numbers, REFUTED with the first that is too large."""
    machine = arch(kernel.target)
    used = asked(kernel, machine)
    over = [f"{n} {what}, {machine.name} has {most}" for what, n, most in used if n > most]
    if over:
        return [Obligation("resources", "REFUTED", None, "; ".join(over), subject)]
    detail = ", ".join(f"{n} of {most} {what}" for what, n, most in used)
    return [Obligation("resources", "PROVED", None, detail, subject)]


def asked(kernel: dev.DeviceKernel, machine: Arch) -> list[tuple[str, int, int]]:
    """(what, how much, at most). Registers only where roles ask for some: else the compiler keeps the limit."""
    found = [
        ("bytes of shared memory", kernel.shared_bytes, machine.shared_per_block),
        ("threads", kernel.threads, machine.threads_per_block),
        ("named barriers", _named(kernel), NAMED_BARRIERS),
    ]
    registers = [r.registers for r in kernel.roles]
    if registers and all(r is not None for r in registers):
        total = sum(r.threads * (r.registers or 0) for r in kernel.roles)
        found.append(("registers", total, machine.registers_per_block))
    return found


def _named(kernel: dev.DeviceKernel) -> int:
    """Barrier 0 is that of the whole block."""
    numbers = {0}
    for s in dev.statements(kernel):
        match s:
            case dev.RoleBarrier(number=number):
                numbers.add(number)
            case dev.Turn(number=number):
                numbers |= {number, number + 1}
    return max(numbers) + 1


__all__ = ["asked", "prove_resources"]
