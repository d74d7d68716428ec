"""Cubins that were compiled before, by the content of everything that they depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.cuda.compiler import (
    UNIT,
    Compiled,
    CompileOptions,
    Toolchain,
    compile_cubin,
    find_toolchain,
)

CUBIN = "kernel.cubin"


@dataclass(frozen=True)
class Entry:
    """A cubin in the cache: `path` is the file that a launcher loads."""

    key: str
    path: Path
    compiled: Compiled


def cached_cubin(
    source: str,
    arch: str,
    options: CompileOptions | None = None,
    versions: Mapping[str, Any] | None = None,
    toolchain: Toolchain | None = None,
    cache_dir: Path | None = None,
) -> Entry:
    """Compile, or find what this very compiler made of this source before.

    `versions` are those of the prelude, atoms and passes behind the source; they only make keys differ. Headers in
    `options.includes` count by content. Raises what compile_cubin raises; a failed compilation leaves no entry.
    """
    options, toolchain = options or CompileOptions(), toolchain or find_toolchain()
    key = cache.key_of(_facts(source, arch, options, versions or {}, toolchain))
    made: list[Compiled] = []

    def build(folder: Path) -> None:
        made.append(compile_cubin(source, arch, options, toolchain))
        _write(folder, source, made[0])

    folder = cache.entry(cache.cache_root("cuda", cache_dir), key, build)
    return Entry(key, folder / CUBIN, made[0] if made else read_entry(folder))


def _facts(
    source: str, arch: str, options: CompileOptions, versions: Mapping[str, Any], toolchain: Toolchain
) -> dict[str, Any]:
    return {
        "source": source,
        "arguments": options.arguments(arch),
        "includes": [cache.folder_hash(Path(folder), (".h", ".cuh")) for folder in options.includes],
        "versions": dict(versions),
        "toolchain": (toolchain.kind, toolchain.identity),
    }


def _write(folder: Path, source: str, compiled: Compiled) -> None:
    (folder / UNIT).write_text(source, encoding="utf-8")
    (folder / CUBIN).write_bytes(compiled.cubin)
    record = {"log": compiled.log, "toolchain": compiled.toolchain, "arch": compiled.arch}
    (folder / "compiled.json").write_text(json.dumps(record))


def read_entry(folder: Path) -> Compiled:
    """What was compiled into an entry's folder (that of a cubin's path)."""
    record = json.loads((folder / "compiled.json").read_text())
    return Compiled((folder / CUBIN).read_bytes(), seconds=0.0, cached=True, **record)
