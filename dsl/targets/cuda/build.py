"""Text -> cubins: lower, emit, compile, keep in the cache. A text that was compiled before is not lowered again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.lower.device import PASSES_VERSION
from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.calls import Choices, absent_arrays, entry_dims
from kernelagent.dsl.targets.cuda.archs import arch as arch_named
from kernelagent.dsl.targets.cuda.artifact import Binary, CudaArtifact, CudaOptions, Resources
from kernelagent.dsl.targets.cuda.cache import Entry, cached_cubin
from kernelagent.dsl.targets.cuda.compiler import Toolchain, find_toolchain
from kernelagent.dsl.targets.cuda.emit import entry_name
from kernelagent.dsl.targets.cuda.gate import faults
from kernelagent.dsl.targets.cuda.occupancy import occupancy
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.tools import MissingTool
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from kernelagent.dsl.verify.progress import say

EMITTER_VERSION = 1
"""Part of every cache key; raise it when the emitted code changes."""
ARTIFACT = "artifact.json"


def compile(
    module: ir.Module,
    dtypes: Mapping[str, str] | None = None,
    tunables: Mapping[str, int | bool] | None = None,
    consts: Mapping[str, int | bool] | None = None,
    dims: Mapping[str, int] | None = None,
    arch: str = "sm_80",
    options: CudaOptions | None = None,
) -> CudaArtifact:
    """Compile every kernel of the entry of a text, in all its shape classes, or find them in the cache.

    `dims` may hold every size; only those used as tile extents are fixed. Raises KernelError for a text that the
    architecture cannot run (before any compiler is called) and for what the gate refuses (spills, products that do
    not overlap), MissingTool without a compiler.
    """
    begin = time.perf_counter()
    options = options or CudaOptions()
    arch_named(arch)
    chosen = Choices(dtypes or {}, tunables or {}, consts or {}, entry_dims(module, dims or {}))
    toolchain = _toolchain(module, chosen, arch, options)
    key = _key(module, chosen, arch, toolchain)
    found = _remembered(key, options)
    if found is None:
        units = device_units(module, chosen, arch)
        binaries = tuple(tuple(_binary(c, arch, toolchain, options.cache_dir) for c in u.classes) for u in units)
        found = _artifact(key, module, chosen, arch, binaries, toolchain)
        found = replace(found, diagnostics=tuple(faults(found, module)))
        _remember(found, options)
    if options.gate and found.diagnostics:
        raise KernelError(list(found.diagnostics))
    return replace(found, compile_seconds=time.perf_counter() - begin)


def _toolchain(module: ir.Module, chosen: Choices, arch: str, options: CudaOptions) -> Toolchain:
    """The compiler. Where there is none, what is wrong with the text is said first."""
    try:
        return find_toolchain(options.compiler)
    except MissingTool:
        device_units(module, chosen, arch)
        raise


def _artifact(
    key: str,
    module: ir.Module,
    chosen: Choices,
    arch: str,
    units: tuple[tuple[Binary, ...], ...],
    toolchain: Toolchain,
) -> CudaArtifact:
    return CudaArtifact(
        key=key,
        entry=module.entry.name,
        text=module.text,
        arch=arch,
        dtypes=dict(chosen.dtypes),
        tunables=dict(chosen.tunables),
        consts=dict(chosen.consts),
        dims=dict(chosen.dims),
        units=units,
        compiler=toolchain.identity,
        absent=absent_arrays(module),
    )


def _binary(code: DeviceCode, arch: str, toolchain: Toolchain, cache_dir: Path | None) -> Binary:
    versions = {"passes": PASSES_VERSION, "emitter": EMITTER_VERSION}
    schedule = code.schedule
    say(f"compiling {schedule.name} ({schedule.shape_class.name}) for {arch}")
    entry = cached_cubin(prelude(arch, code.body) + code.body, arch, None, versions, toolchain, cache_dir)
    return Binary(
        kernel=schedule.name,
        shape_class=schedule.shape_class.name,
        guards=tuple((g.kind, g.subject, g.value) for g in schedule.shape_class.guards),
        function=entry_name(schedule),
        body=code.body,
        cubin_path=str(entry.path),
        threads=schedule.threads,
        resources=_resources(entry, code),
        report=tuple(str(choice) for choice in schedule.choices),
        notes=entry.compiled.notes,
    )


def _resources(entry: Entry, code: DeviceCode) -> Resources:
    said = entry.compiled.kernel(entry_name(code.schedule))
    shared, threads = code.schedule.shared_bytes, code.schedule.threads
    resident = occupancy(
        arch_named(entry.compiled.arch), threads, said.registers, said.shared_bytes + shared, said.barriers
    )
    return Resources(
        said.registers, said.spill_store_bytes, said.spill_load_bytes, said.stack_bytes, said.shared_bytes, shared,
        resident.blocks, resident.warps, resident.fraction, resident.limiter,
    )  # fmt: skip


# The cache of artifacts ------------------------------------------------------------------------------


def _key(module: ir.Module, chosen: Choices, arch: str, toolchain: Toolchain) -> str:
    facts = {
        "text": module.text,
        "entry": module.entry.name,
        "absent": absent_arrays(module),
        "choices": asdict(chosen),
        "arch": arch,
        "toolchain": (toolchain.kind, toolchain.identity),
        "compiler": sources_digest(),
    }
    return cache.key_of(facts)


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Digest of this compiler's own sources: what another version of it made is not taken for its work."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".cuh", ".toml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _remembered(key: str, options: CudaOptions) -> CudaArtifact | None:
    """The artifact of an earlier compilation whose cubins are still there."""
    path = cache.place(cache.cache_root("cuda", options.cache_dir), key) / ARTIFACT
    if not path.is_file():
        return None
    found = CudaArtifact.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return found if all(Path(b.cubin_path).is_file() for b in found.binaries()) else None


def _remember(found: CudaArtifact, options: CudaOptions) -> None:
    def write(folder: Path) -> None:
        (folder / ARTIFACT).write_text(json.dumps(found.to_dict()), encoding="utf-8")

    cache.entry(cache.cache_root("cuda", options.cache_dir), found.key, write)
