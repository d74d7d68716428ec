"""What a compilation leaves behind, as plain data: cubins, what they take of the chip, and why they are as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernelagent.dsl.diagnostics import Diagnostic, diagnostic_from

SCHEMA = 1


@dataclass(frozen=True)
class CudaOptions:
    """`compiler` is nvrtc, nvcc, a path to an nvcc, or auto. Without `gate` machine code that spills or serialises its
    products is handed out, its faults among the artifact's diagnostics."""

    compiler: str = "auto"
    cache_dir: Path | None = None
    gate: bool = True


@dataclass(frozen=True)
class Resources:
    """What one binary takes. Registers and spilled bytes are per thread, shared bytes per block; `blocks`, `warps` and
    `occupancy` are per multiprocessor, `limiter` is the resource that is used up first."""

    registers: int
    spill_store_bytes: int
    spill_load_bytes: int
    stack_bytes: int
    static_shared_bytes: int
    dynamic_shared_bytes: int
    blocks: int
    warps: int
    occupancy: float
    limiter: str

    @property
    def spills(self) -> bool:
        return self.spill_store_bytes + self.spill_load_bytes > 0


@dataclass(frozen=True)
class Binary:
    """One kernel in one shape class. `guards` are (kind, subject, value), all of which a call must meet; `report` has
    a line for each inferred choice; `notes` are remarks of ptxas."""

    kernel: str
    shape_class: str
    guards: tuple[tuple[str, str, int], ...]
    function: str
    body: str
    cubin_path: str
    threads: int
    resources: Resources
    report: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kernel} ({self.shape_class})"

    @property
    def guard_texts(self) -> tuple[str, ...]:
        return tuple(guard_text(*guard) for guard in self.guards)


def guard_text(kind: str, subject: str, value: int) -> str:
    """`unit_stride(a)`, `divides(K, 8)` and the like."""
    return f"{kind}({subject}, {value})" if value else f"{kind}({subject})"


@dataclass(frozen=True)
class CudaArtifact:
    """A compiled text: for each kernel call of the entry its binaries, the most demanding shape class first.

    `dims` are those that were fixed, `absent` the optional arrays left out; `diagnostics` are what the gate found.
    """

    key: str
    entry: str
    text: str
    arch: str
    dtypes: Mapping[str, str]
    tunables: Mapping[str, int | bool]
    consts: Mapping[str, int | bool]
    dims: Mapping[str, int]
    units: tuple[tuple[Binary, ...], ...]
    compiler: str
    absent: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    compile_seconds: float = 0.0

    def binaries(self) -> Iterator[Binary]:
        """Every binary, kernel by kernel."""
        for unit in self.units:
            yield from unit

    @property
    def report(self) -> tuple[str, ...]:
        """One line for each inferred choice, by kernel and shape class."""
        return tuple(f"{b.name}: {line}" for b in self.binaries() for line in b.report)

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "diagnostics": [d.to_dict() for d in self.diagnostics]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CudaArtifact:
        """Raises ValueError for another schema."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"artifact schema {data.get('schema')!r}, expected {SCHEMA}")
        fields = {k: v for k, v in data.items() if k != "schema"}
        units = tuple(tuple(_binary(b) for b in unit) for unit in fields["units"])
        diagnostics = tuple(diagnostic_from(d) for d in fields["diagnostics"])
        return cls(**{**fields, "units": units, "diagnostics": diagnostics, "absent": tuple(fields["absent"])})


def _binary(data: Mapping[str, Any]) -> Binary:
    guards = tuple((str(kind), str(subject), int(value)) for kind, subject, value in data["guards"])
    lists = {"guards": guards, "report": tuple(data["report"]), "notes": tuple(data["notes"])}
    return Binary(**{**data, **lists, "resources": Resources(**data["resources"])})
