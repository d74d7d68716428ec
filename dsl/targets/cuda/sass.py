"""What machine code a cubin holds: opcodes, access widths, registers, stack, and the lines they come from.

Read with nvdisasm and cuobjdump, which need no GPU. SASS is documented only by its list of opcodes (CUDA Binary
Utilities, "Instruction Set Reference"); modifiers follow the opcode after dots.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from kernelagent.dsl.targets.cuda import tools
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.compiler import KERNEL_TEXT

_TARGET = re.compile(r"^\s*\.target\s+(\S+)")
_SECTION = re.compile(r"^\s*\.section\s+\.text\.([^,\s]+),")
_PLACE = re.compile(r'^\s*//## File "([^"]*)", line (\d+)( inlined at)?')
_INSTRUCTION = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<predicate>@!?\w+\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>[^;]*);"
)
_USAGE = re.compile(r"Function\s+(\S+?):\s*\n\s*(.*)")
_SIZES = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128, "256": 256}
_LOADS_AND_STORES = {"LD", "ST", "LDG", "STG", "LDS", "STS", "LDL", "STL", "LDC", "LDGSTS", "LDSM", "STSM"}
_PER_LANE = frozenset(_LOADS_AND_STORES | {"ATOM", "ATOMG", "ATOMS", "RED", "REDG"})
_MATRICES = frozenset({"LDSM", "STSM"})
_NEVER = frozenset({"@!PT", "@!UPT"})  # the compiler's fillers around some instructions: they never execute


@dataclass(frozen=True)
class Place:
    """A line of a source file, as #line marks name it."""

    file: str
    line: int


@dataclass(frozen=True)
class Instruction:
    """One machine instruction. `places` lead from the innermost inlined function out to the kernel."""

    address: int
    opcode: str
    operands: str
    predicate: str = ""
    places: tuple[Place, ...] = ()

    @property
    def family(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def line(self) -> int | None:
        """The line of the kernel's text, None for code that no mark leads to it."""
        return next((p.line for p in self.places if p.file == KERNEL_TEXT), None)

    @property
    def width(self) -> int | None:
        """Bits that a lane moves, None for what is no per-lane memory access."""
        if self.family not in _PER_LANE:
            return None
        modifiers = self.opcode.split(".")[1:]
        if self.family in _MATRICES:  # LDSM.16.M88.4: four matrices, one register a lane each
            return 32 * int(modifiers[-1]) if modifiers[-1] in ("2", "4") else 32
        return next((_SIZES[m] for m in modifiers if m in _SIZES), 32)

    def is_a(self, opcode: str) -> bool:
        """Whether the opcode is this one or this one with further modifiers."""
        return self.opcode == opcode or self.opcode.startswith(f"{opcode}.")


@dataclass(frozen=True)
class Usage:
    """Resources that the cubin asks for: 32-bit registers per thread, bytes of stack and local memory per thread,
    bytes of static shared memory per block without what the driver reserves."""

    registers: int
    stack_bytes: int
    local_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Sass:
    """The machine code of one kernel, without padding and without fillers that never execute."""

    function: str
    arch: str
    usage: Usage
    instructions: tuple[Instruction, ...]

    @cached_property
    def opcodes(self) -> Counter[str]:
        """How often each opcode occurs, modifiers included."""
        return Counter(i.opcode for i in self.instructions)

    @cached_property
    def families(self) -> Counter[str]:
        """How often each opcode occurs, modifiers left out."""
        return Counter(i.family for i in self.instructions)

    @cached_property
    def widths(self) -> dict[str, Counter[int]]:
        """By memory opcode, how many instructions move how many bits a lane."""
        found: dict[str, Counter[int]] = {}
        for instruction in self.instructions:
            if instruction.width is not None:
                found.setdefault(instruction.family, Counter())[instruction.width] += 1
        return found

    @property
    def spill_loads(self) -> int:
        """Loads from local memory: spills, and arrays that could not be held in registers."""
        return self.families["LDL"]

    @property
    def spill_stores(self) -> int:
        return self.families["STL"]

    def count(self, opcode: str) -> int:
        """How many instructions are `opcode`, with any further modifiers: HMMA, HMMA.16816, LDG.E.128."""
        return sum(i.is_a(opcode) for i in self.instructions)

    def at_line(self, line: int) -> tuple[Instruction, ...]:
        """Instructions that come from a line of the kernel's text."""
        return tuple(i for i in self.instructions if i.line == line)

    def to_dict(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "arch": self.arch,
            "registers": self.usage.registers,
            "stack_bytes": self.usage.stack_bytes,
            "local_bytes": self.usage.local_bytes,
            "shared_bytes": self.usage.shared_bytes,
            "spill_loads": self.spill_loads,
            "spill_stores": self.spill_stores,
            "instructions": len(self.instructions),
            "opcodes": dict(sorted(self.opcodes.items())),
            "widths": {name: {str(k): n for k, n in sorted(c.items())} for name, c in sorted(self.widths.items())},
        }


def read_sass(cubin: bytes, function: str | None = None) -> Sass:
    """The code of a function, or of the only one. Raises KeyError for another name, MissingTool without the tools."""
    found = read_all(cubin)
    if function is None and len(found) == 1:
        return next(iter(found.values()))
    if function not in found:
        raise KeyError(f"{function}: functions are {', '.join(found)}")
    return found[function]


def read_all(cubin: bytes) -> dict[str, Sass]:
    """The code of each function of a cubin. Raises MissingTool without nvdisasm and cuobjdump, ValueError for bytes
    that are no cubin."""
    with tempfile.TemporaryDirectory(prefix="kernelagent-sass-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        code = _run("nvdisasm", "-c", "-gi", str(path))
        usage = _run("cuobjdump", "-res-usage", str(path))
    arch, functions = parse_code(code)
    usages = parse_usage(usage, arch)
    return {name: Sass(name, arch, usages[name], found) for name, found in functions.items() if name in usages}


def _run(name: str, *arguments: str) -> str:
    program = tools.find_program(name)
    if program is None:
        install = f"pip install nvidia-cuda-nvdisasm nvidia-cuda-cuobjdump ({name} is in nvidia-cuda-{name})"
        raise tools.MissingTool(name, "to read machine code", install)
    # cuobjdump calls nvdisasm, which lies beside it in the wheels
    path = os.pathsep.join((str(Path(program).parent), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode:
        raise ValueError(f"{name} cannot read this: {done.stderr.strip()}")
    return done.stdout


def parse_code(text: str) -> tuple[str, dict[str, tuple[Instruction, ...]]]:
    """Architecture and functions of what `nvdisasm -c -gi` prints."""
    arch = next((m[1] for line in text.splitlines() if (m := _TARGET.match(line))), "")
    heads = list(_section_starts(text))
    ends = [start for _, start in heads[1:]] + [len(text)]
    return arch, {name: _instructions(text[start:end]) for (name, start), end in zip(heads, ends, strict=True)}


def _section_starts(text: str) -> Iterator[tuple[str, int]]:
    offset = 0
    for line in text.splitlines(keepends=True):
        if match := _SECTION.match(line):
            yield match[1], offset
        offset += len(line)


def _instructions(text: str) -> tuple[Instruction, ...]:
    found: list[Instruction] = []
    places: tuple[Place, ...] = ()
    inside = False  # a mark that says "inlined at" goes on in the next one
    for line in text.splitlines():
        if match := _PLACE.match(line):
            place = Place(PurePosixPath(match[1]).name, int(match[2]))
            places = (*places, place) if inside else (place,)
            inside = match[3] is not None
        elif match := _INSTRUCTION.match(line):
            predicate = (match["predicate"] or "").strip()
            if predicate not in _NEVER:
                opcode, operands = match["opcode"], match["operands"].strip()
                found.append(Instruction(int(match["address"], 16), opcode, operands, predicate, places))
    while found and found[-1].opcode == "NOP":  # fills the last cache line
        found.pop()
    return tuple(found)


def parse_usage(text: str, arch: str) -> dict[str, Usage]:
    """By function, what `cuobjdump -res-usage` prints."""
    reserved = archs()[arch].cubin_shared if arch in archs() else 0
    return {name: _usage(line, reserved) for name, line in _USAGE.findall(text)}


def _usage(line: str, reserved: int) -> Usage:
    values = {key: int(value) for key, _, value in (item.rpartition(":") for item in line.split())}
    shared = max(0, values["SHARED"] - reserved)
    return Usage(values["REG"], values["STACK"], values["LOCAL"], shared)
