"""Everything that can be said about a kernel's machine code without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernelagent.dsl.targets.cuda.archs import arch as arch_named
from kernelagent.dsl.targets.cuda.compiler import Compiled, CompileOptions, compile_cubin
from kernelagent.dsl.targets.cuda.occupancy import Occupancy, occupancy
from kernelagent.dsl.targets.cuda.sass import Sass, read_sass

HARDWARE = (
    *("HMMA", "IMMA", "QMMA", "HGMMA", "IGMMA", "QGMMA"),
    *("LDSM", "STSM", "LDGSTS", "UTMALDG", "UTMASTG", "LDG", "STG", "LDS", "STS", "LDL", "STL"),
    *("BAR", "SHFL", "ATOM", "ATOMG", "ATOMS", "RED", "REDG", "MUFU"),
)
"""Opcode families that a printed inspection lists, in this order."""


@dataclass(frozen=True)
class Inspection:
    """`spill_*_bytes` are None for a bare cubin: only the compiler's log has them; `sass` counts their instructions."""

    function: str
    arch: str
    threads: int
    registers: int
    spill_store_bytes: int | None
    spill_load_bytes: int | None
    static_shared_bytes: int
    dynamic_shared_bytes: int
    occupancy: Occupancy
    sass: Sass
    notes: tuple[str, ...] = ()
    toolchain: str = ""

    @property
    def spills(self) -> bool:
        """Whether any thread uses local memory."""
        return bool(self.sass.spill_loads or self.sass.spill_stores or self.spill_store_bytes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "arch": self.arch,
            "threads": self.threads,
            "registers": self.registers,
            "spill_store_bytes": self.spill_store_bytes,
            "spill_load_bytes": self.spill_load_bytes,
            "static_shared_bytes": self.static_shared_bytes,
            "dynamic_shared_bytes": self.dynamic_shared_bytes,
            "occupancy": self.occupancy.to_dict(),
            "sass": self.sass.to_dict(),
            "notes": list(self.notes),
            "toolchain": self.toolchain,
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def inspect(
    code: str | bytes | Compiled,
    arch: str,
    threads: int,
    dynamic_shared_bytes: int = 0,
    function: str | None = None,
    options: CompileOptions | None = None,
) -> Inspection:
    """Inspect CUDA C++ (compiled here), a compiled record, or a bare cubin, launched with blocks of `threads`.

    Raises what compile_cubin and read_sass raise, and ValueError for a cubin of another architecture.
    """
    limits = arch_named(arch)
    compiled = compile_cubin(code, arch, options) if isinstance(code, str) else code
    cubin = compiled if isinstance(compiled, bytes) else compiled.cubin
    sass = read_sass(cubin, function)
    if sass.arch != arch:
        raise ValueError(f"the cubin is for {sass.arch}, not {arch}")
    said = None if isinstance(compiled, bytes) else compiled.kernel(sass.function)
    shared = sass.usage.shared_bytes + dynamic_shared_bytes
    return Inspection(
        function=sass.function,
        arch=arch,
        threads=threads,
        registers=sass.usage.registers,
        spill_store_bytes=said.spill_store_bytes if said else None,
        spill_load_bytes=said.spill_load_bytes if said else None,
        static_shared_bytes=sass.usage.shared_bytes,
        dynamic_shared_bytes=dynamic_shared_bytes,
        occupancy=occupancy(limits, threads, sass.usage.registers, shared, said.barriers if said else 1),
        sass=sass,
        notes=() if isinstance(compiled, bytes) else compiled.notes,
        toolchain="" if isinstance(compiled, bytes) else compiled.toolchain,
    )


def _lines(found: Inspection) -> list[str]:
    resident = found.occupancy
    limits = ", ".join(f"{name} {blocks}" for name, blocks in resident.limits.items())
    lines = [
        f"{found.function} for {found.arch}, {found.threads} threads a block",
        f"  registers      {found.registers} a thread",
        f"  spills         {_spills(found)}",
        f"  shared memory  {found.static_shared_bytes} static + {found.dynamic_shared_bytes} dynamic bytes",
        f"  occupancy      {resident.blocks} blocks, {resident.warps} warps ({resident.fraction:.0%}), "
        f"limited by {resident.limiter} (blocks by {limits})",
        f"  instructions   {len(found.sass.instructions)}",
    ]
    lines += [f"    {line}" for line in _opcode_lines(found.sass)]
    return lines + [f"  note           {note}" for note in found.notes]


def _spills(found: Inspection) -> str:
    if not found.spills:
        return "none"
    counted = f"{found.sass.spill_stores} stores, {found.sass.spill_loads} loads"
    if found.spill_store_bytes is None:
        return counted
    return f"{counted} ({found.spill_store_bytes} and {found.spill_load_bytes} bytes a thread)"


def _opcode_lines(sass: Sass) -> list[str]:
    """`LDG      12  (128 bit: 8, 32 bit: 4)`, then the full names of matrix opcodes."""
    lines = []
    for family in HARDWARE:
        if not sass.families[family]:
            continue
        bits = sorted(sass.widths.get(family, {}).items(), reverse=True)
        if bits:
            detail = ", ".join(f"{width} bit: {count}" for width, count in bits)
        else:
            detail = ", ".join(f"{name}: {n}" for name, n in sorted(sass.opcodes.items()) if name.startswith(family))
        lines.append(f"{family:8} {sass.families[family]:4}  ({detail})")
    return lines
