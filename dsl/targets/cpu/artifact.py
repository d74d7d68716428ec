"""What a compilation leaves behind, as plain data: enough to load and run it in another process without a compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class CpuOptions:
    """`features` is a level of `features.LEVELS` or auto. `strides` names the shape class: "dense" needs last
    strides of 1, "any" takes every stride and is slower. `threads` None: all CPUs of this process."""

    features: str = "auto"
    compiler: str = "auto"
    threads: int | None = None
    cache_dir: Path | None = None
    strides: str = "dense"


@dataclass(frozen=True)
class CpuArtifact:
    """A compiled text. `dims` are those that were fixed, `absent` the optional arrays left out; `resources` has
    arena_bytes (per thread) and binary_bytes; `report` is one line for each inferred choice."""

    key: str
    entry: str
    text: str
    dtypes: Mapping[str, str]
    tunables: Mapping[str, int | bool]
    consts: Mapping[str, int | bool]
    dims: Mapping[str, int]
    source_path: str
    library_path: str
    runtime_path: str
    level: str
    compiler: str
    strides: str
    absent: tuple[str, ...] = ()
    threads: int | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    report: tuple[str, ...] = ()
    compile_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "report": list(self.report), "absent": list(self.absent)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CpuArtifact:
        """Raises ValueError for another schema."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"artifact schema {data.get('schema')!r}, expected {SCHEMA}")
        fields = {k: v for k, v in data.items() if k != "schema"}
        return cls(**{**fields, "report": tuple(fields["report"]), "absent": tuple(fields["absent"])})
