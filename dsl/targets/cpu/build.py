"""Text -> shared object: lower, emit, compile, keep in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.lower import PASSES_VERSION
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.calls import Choices, ConcreteCall, absent_arrays, concrete_calls, entry_dims
from kernelagent.dsl.targets.cpu import atoms, features
from kernelagent.dsl.targets.cpu.artifact import CpuArtifact, CpuOptions
from kernelagent.dsl.targets.cpu.compiler import Compiler, find_compiler
from kernelagent.dsl.targets.cpu.emit_kernel import Unit, emit_source
from kernelagent.dsl.targets.cpu.memory import refuse_memory
from kernelagent.dsl.targets.cpu.units import lowered, product_rows

EMITTER_VERSION = 5
"""Part of every cache key; raise it when the emitted code changes."""

SUPPORT = Path(__file__).parent


@dataclass(frozen=True)
class Toolchain:
    """The compiler with the flags of a feature level."""

    compiler: Compiler
    level: str

    @property
    def flags(self) -> tuple[str, ...]:
        return (*features.flags(self.level), f"-I{features.prelude_folder()}", f"-I{SUPPORT}")

    def facts(self) -> dict[str, object]:
        """What the binary depends on besides its source."""
        return {
            "compiler": (self.compiler.command, self.compiler.identity),
            "flags": (*features.flags(self.level), *features.LINK_FLAGS),
            "prelude": cache.folder_hash(features.prelude_folder()),
            "support": cache.folder_hash(SUPPORT),
            "cpu": features.detect().architecture,
            "level": self.level,
        }


def compile(
    module: ir.Module,
    dtypes: Mapping[str, str] | None = None,
    tunables: Mapping[str, int | bool] | None = None,
    consts: Mapping[str, int | bool] | None = None,
    dims: Mapping[str, int] | None = None,
    options: CpuOptions | None = None,
) -> CpuArtifact:
    """Compile the entry of a text for this machine's CPU, or find it in the cache.

    `dims` may hold every size; only those used as tile extents are fixed. Raises KernelError for a text that this
    target refuses, NoCompiler, and CompilerFailed if the C compiler does not take the emitted code.
    """
    begin = time.perf_counter()
    options = options or CpuOptions()
    level = resolve_level(options.features)
    chosen = Choices(dtypes or {}, tunables or {}, consts or {}, dims or {})
    calls = concrete_calls(module, chosen)
    try:
        units, source = emit(calls, level, options.strides == "dense")
    except Unsupported as lack:
        message = f"the cpu target cannot compile this: {lack}"
        raise KernelError([Diagnostic("cpu-unsupported", message, module.entry.span)]) from None
    toolchain = Toolchain(find_compiler(options.compiler), level)
    fixed = entry_dims(module, chosen.dims)
    key = cache.key_of(_key_facts(module, chosen, fixed, options, toolchain, source))
    root = cache.cache_root("cpu", options.cache_dir)
    folder = cache.entry(root, key, lambda made: _build(made, source, units, toolchain))
    runtime = runtime_library(root, toolchain)
    return CpuArtifact(
        key=key,
        entry=module.entry.name,
        text=module.text,
        dtypes=dict(chosen.dtypes),
        tunables=dict(chosen.tunables),
        consts=dict(chosen.consts),
        dims=fixed,
        source_path=str(folder / "kernel.c"),
        library_path=str(folder / "kernel.so"),
        runtime_path=str(runtime),
        level=level,
        compiler=toolchain.compiler.identity,
        strides=options.strides,
        absent=absent_arrays(module),
        threads=options.threads,
        resources=_resources(folder, units),
        report=report_lines(units, level),
        compile_seconds=time.perf_counter() - begin,
    )


def emit(calls: Sequence[ConcreteCall], level: str, dense: bool) -> tuple[tuple[Unit, ...], str]:
    """The lowered kernels and the C that they become. Raises KernelError or Unsupported."""
    units = lowered(calls, level, dense)
    refuse_memory(units)
    return units, emit_source(units, atoms.register_rows(level, product_rows(calls)))


def resolve_level(asked: str) -> str:
    """A feature level of this machine. Raises ValueError if the machine does not have it."""
    best = features.detect()
    if asked == "auto":
        return best.level
    if asked not in best.levels:
        raise ValueError(f"this CPU does not run {asked!r}; it runs {', '.join(best.levels)}")
    return asked


def _key_facts(
    module: ir.Module,
    chosen: Choices,
    fixed: Mapping[str, int],
    options: CpuOptions,
    toolchain: Toolchain,
    source: str,
) -> dict[str, object]:
    return {
        "text": module.text,
        "entry": module.entry.name,
        "dtypes": dict(chosen.dtypes),
        "tunables": dict(chosen.tunables),
        "consts": dict(chosen.consts),
        "dims": dict(fixed),
        "strides": options.strides,
        "absent": absent_arrays(module),
        "passes": (PASSES_VERSION, EMITTER_VERSION),
        "source": source,
        **toolchain.facts(),
    }


def _build(folder: Path, source: str, units: Sequence[Unit], toolchain: Toolchain) -> None:
    path = folder / "kernel.c"
    path.write_text(source)
    toolchain.compiler.build(path, folder / "kernel.so", toolchain.flags, features.LINK_FLAGS)
    (folder / "report.json").write_text(json.dumps(report_lines(units, toolchain.level)))


def runtime_library(root: Path, toolchain: Toolchain) -> Path:
    """The thread pool as a shared object, built once."""

    def build(folder: Path) -> None:
        source = features.prelude_folder() / "pool.c"
        flags = (*toolchain.flags, *features.RUNTIME_FLAGS)
        toolchain.compiler.build(source, folder / "runtime.so", flags, features.LINK_FLAGS)

    return cache.entry(root, cache.key_of({"runtime": 1, **toolchain.facts()}), build) / "runtime.so"


def _resources(folder: Path, units: Sequence[Unit]) -> dict[str, int]:
    return {
        "arena_bytes": max((u.arena_bytes for u in units), default=0),
        "binary_bytes": (folder / "kernel.so").stat().st_size,
    }


def report_lines(units: Sequence[Unit], level: str) -> tuple[str, ...]:
    """Each inferred choice and its reason, by kernel."""
    lines = [f"features: {level}"]
    for unit in units:
        lines.append(f"{unit.kernel.name}: arena {unit.arena_bytes} bytes per thread")
        lines += [f"{unit.kernel.name}: {choice}" for choice in unit.schedule.choices]
    return tuple(dict.fromkeys(lines))
