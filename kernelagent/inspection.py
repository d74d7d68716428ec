"""What a kernel text becomes on a GPU: schedules, emitted code, machine code and what it takes. No GPU is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelagent.dsl.check_gpu import GpuCalls, classes, compile_classes, resources
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.ir import Module
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.targets.cuda.artifact import Binary, CudaArtifact, CudaOptions, guard_text
from kernelagent.dsl.targets.cuda.cache import read_entry
from kernelagent.dsl.targets.cuda.inspect import Inspection
from kernelagent.dsl.targets.cuda.inspect import inspect as inspect_cubin
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from kernelagent.named import refuse_unknown


@dataclass(frozen=True)
class Part:
    """One kernel in one shape class. `used` is None where nothing was compiled, `machine` too where the machine code
    could not be read, `schedule` is empty where nothing was lowered."""

    kernel: str
    shape_class: str
    guards: tuple[str, ...]
    dims: Mapping[str, int]
    choices: tuple[str, ...]
    body: str
    schedule: str = ""
    used: Mapping[str, Any] | None = None
    machine: Inspection | None = None

    def to_dict(self, schedule: bool, body: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "kernel": self.kernel, "shape_class": self.shape_class, "guards": list(self.guards),
            "dims": dict(self.dims), "report": list(self.choices),
        }  # fmt: skip
        record |= dict(self.used or {})
        record |= {"schedule": self.schedule} if schedule else {}
        record |= {"body": self.body} if body else {}
        if self.machine:
            sass = self.machine.sass.to_dict()
            record |= {"opcodes": sass["opcodes"], "widths": sass["widths"], "instructions": sass["instructions"]}
            record["occupancy_limits"] = self.machine.occupancy.limits
        return record

    def __str__(self) -> str:
        sizes = "".join(f", {d}={n}" for d, n in self.dims.items())
        relies = f", which relies on {', '.join(self.guards)}" if self.guards else ", for every call"
        lines = [f"{self.kernel}{sizes}: {self.shape_class} class{relies}"]
        lines += [f"  choice         {choice}" for choice in dict.fromkeys(self.choices)]
        return "\n".join([*lines, *([str(self.machine)] if self.machine else self._said())])

    def _said(self) -> list[str]:
        """What the compiler said, where nothing else can be had."""
        u = self.used
        if u is None:
            return []
        return [
            f"  registers      {u['registers']} a thread",
            f"  spills         {u['spill_store_bytes']} and {u['spill_load_bytes']} bytes a thread",
            f"  shared memory  {u['static_shared_bytes']} static + {u['dynamic_shared_bytes']} dynamic bytes",
            f"  occupancy      {u['occupancy']:.0%}, limited by {u['limiter']}",
        ]


@dataclass(frozen=True)
class Inspected:
    """Every kernel and shape class of a text, in call order. `faults`: why the gate lets no call through; `unread`: why
    there are no opcodes."""

    arch: str
    compiler: str | None
    parts: tuple[Part, ...]
    faults: tuple[Diagnostic, ...] = ()
    unread: str | None = None

    def to_dict(self, schedule: bool = False, body: bool = False) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "compiler": self.compiler,
            "diagnostics": [d.to_dict() for d in self.faults],
            "kernels": [p.to_dict(schedule, body) for p in self.parts],
            "unread": self.unread,
        }


def inspect_text(text: str, calls: GpuCalls | None = None, machine_code: bool = True) -> Inspected:
    """Inspect the entry of a text. Without `machine_code` no compiler is needed: schedules and emitted code only.

    Raises KernelError for what the text gets wrong or the architecture cannot do, CallError for names that it does not
    have, MissingTool for a missing compiler. Without a disassembler opcodes are missing, and `unread` says so.
    """
    calls = calls or GpuCalls()
    refuse_unknown(text, calls.dtypes, calls.dims)
    module = read_module(text)
    if not machine_code:
        return Inspected(calls.arch, None, tuple(_lowered(module, calls)))
    artifacts = compile_classes(module, calls, CudaOptions(gate=False))
    unread = _no_disassembler()
    parts = tuple(_compiled(a, b, unread is None) for a in artifacts for b in a.binaries())
    faults = tuple(d for a in artifacts for d in a.diagnostics)
    return Inspected(calls.arch, artifacts[0].compiler, parts, faults, unread)


def _no_disassembler() -> str | None:
    """Why machine code cannot be read here."""
    from kernelagent.dsl.targets.cuda import tools

    lacks = [name for name in ("nvdisasm", "cuobjdump") if tools.find_program(name) is None]
    if not lacks:
        return None
    return f"no opcodes: {' and '.join(lacks)} not found; pip install {' '.join(f'nvidia-cuda-{n}' for n in lacks)}"


def _lowered(module: Module, calls: GpuCalls) -> Iterator[Part]:
    for chosen in classes(module, calls):
        for unit in device_units(module, chosen, calls.arch):
            yield from (_part(code, chosen.dims) for code in unit.classes)


def _part(code: DeviceCode, dims: Mapping[str, int]) -> Part:
    from kernelagent.dsl.level2 import print_schedule

    schedule = code.schedule
    guards = tuple(guard_text(g.kind, g.subject, g.value) for g in schedule.shape_class.guards)
    choices = tuple(str(c) for c in schedule.choices)
    return Part(schedule.name, schedule.shape_class.name, guards, dims, choices, code.body, print_schedule(schedule))


def _compiled(artifact: CudaArtifact, binary: Binary, readable: bool) -> Part:
    machine = _machine(artifact, binary) if readable else None
    return Part(
        binary.kernel, binary.shape_class, binary.guard_texts, artifact.dims, binary.report, binary.body,
        used=resources(artifact, binary), machine=machine,
    )  # fmt: skip


def _machine(artifact: CudaArtifact, binary: Binary) -> Inspection:
    compiled = read_entry(Path(binary.cubin_path).parent)
    shared = binary.resources.dynamic_shared_bytes
    return inspect_cubin(compiled, artifact.arch, binary.threads, shared, binary.function)
