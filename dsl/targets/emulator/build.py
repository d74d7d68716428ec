"""Emitted body -> shared object, and the runner that loads it; both kept in the cache."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.cpu.compiler import Compiler
from kernelagent.dsl.targets.emulator.compiler import find_cxx
from kernelagent.dsl.targets.emulator.tables import tables_header

PRELUDE = Path(__file__).parent / "prelude"

COMMON = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-strict-aliasing", "-ffp-contract=off", "-w")
BODY_FLAGS = (*COMMON, "-O1", "-fPIC", "-shared", "-ftrivial-auto-var-init=pattern", "-fno-math-errno")
"""Uninitialised registers hold a pattern, so that a forgotten value shows in the result."""
RUNNER_FLAGS = (*COMMON, "-O2", "-rdynamic")
LINK = ("-lm", "-ldl")
_OF_HOPPER = re.compile(
    r"\bka_(mbar|tma|wgmma|named|cluster|registers|stmatrix|elect|fence_async|descriptor)|\bKA_MAP\b"
)
"""Calls of `hopper.h`; other bodies do without it, as it takes time to read."""


@dataclass(frozen=True)
class Built:
    """`seconds` is what building took, near 0 when both were found."""

    library: Path
    runner: Path
    seconds: float


def build(source: str, kernel_name: str, cache_dir: Path | None = None, compiler: str = "auto") -> Built:
    """The body as a shared object and the runner, built or found. Raises NoCxxCompiler, CompilerFailed."""
    begin = time.perf_counter()
    found = find_cxx(compiler)
    root = cache.cache_root("emulator", cache_dir)
    runner = _runner(root, found)
    header = "hopper.h" if _OF_HOPPER.search(source) else "kernel.h"
    text = f'#include "{header}"\n{source}\n#line 1 "entry"\nKA_ENTRY({kernel_name})\n'
    key = cache.key_of({"body": text, **_facts(found, BODY_FLAGS)})
    folder = cache.entry(root, key, lambda made: _build_body(made, text, found))
    return Built(folder / "body.so", runner, time.perf_counter() - begin)


def _build_body(folder: Path, text: str, compiler: Compiler) -> None:
    path = folder / "body.cpp"
    path.write_text(text)
    compiler.build(path, folder / "body.so", (*BODY_FLAGS, f"-I{PRELUDE}"), LINK)


def _runner(root: Path, compiler: Compiler) -> Path:
    tables = tables_header()
    key = cache.key_of({"tables": tables, **_facts(compiler, RUNNER_FLAGS)})

    def make(folder: Path) -> None:
        (folder / "tables.h").write_text(tables)
        flags = (*RUNNER_FLAGS, f"-I{PRELUDE}", f"-I{folder}")
        compiler.build(PRELUDE / "runner.cpp", folder / "runner", flags, LINK)

    return cache.entry(root, key, make) / "runner"


def _facts(compiler: Compiler, flags: tuple[str, ...]) -> dict[str, object]:
    return {"compiler": (compiler.command, compiler.identity), "flags": (*flags, *LINK), "prelude": _prelude_hash()}


@lru_cache(maxsize=1)
def _prelude_hash() -> str:
    return cache.folder_hash(PRELUDE, (".h", ".cpp"))
