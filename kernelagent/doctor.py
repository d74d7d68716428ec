"""What this machine has, what it lacks, and what each lack costs."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One line of the report. `needed` findings that are not ok make the exit code 3."""

    name: str
    ok: bool
    needed: bool
    detail: str
    hint: str = ""


def examine() -> list[Finding]:
    """Every check, in the order of the report. None raises."""
    return [check() for check in CHECKS]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    return {"ok": all(f.ok for f in findings if f.needed), "findings": [asdict(f) for f in findings]}


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", sys.version_info >= (3, 11), True, version, "3.11 or newer is needed")


def _compiler() -> Finding:
    from .dsl.targets.cpu import compiler

    hint = "install gcc or clang, set $CC, or pip install ziglang; checks and bounds work without"
    try:
        found = compiler.find_compiler()
    except compiler.NoCompiler as lack:
        return Finding("C compiler", False, True, str(lack), hint)
    return Finding("C compiler", True, True, found.identity)


def _cxx_compiler() -> Finding:
    from .dsl.targets.emulator import compiler

    hint = "install g++ or clang, set $CXX, or pip install ziglang; only `check --target emu` needs it"
    try:
        found = compiler.find_cxx()
    except compiler.NoCxxCompiler as lack:
        return Finding("C++ compiler", False, False, str(lack), hint)
    return Finding("C++ compiler", True, False, found.identity)


def _cpu() -> Finding:
    from .dsl.targets.cpu import features

    found = features.detect()
    return Finding("CPU", True, True, f"{found.model}, {found.level}, {_cores()} cores")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sandbox() -> Finding:
    from .harness.sandbox import probe

    level = probe()
    return Finding(
        "sandbox",
        level != "none",
        False,
        level,
        "install bubblewrap for the strongest level; results record the level used",
    )


def _device() -> Finding:
    from .harness.nvml import observe

    devices = observe()
    if not devices:
        return Finding("NVIDIA GPU", False, False, "none, or no driver", "everything but GPU timing works without one")
    return Finding("NVIDIA GPU", True, False, str(devices))


def _key() -> Finding:
    has_key = bool(os.environ.get("OPENAI_API_KEY"))
    detail = "OPENAI_API_KEY is set" if has_key else "OPENAI_API_KEY is not set"
    return Finding("model key", has_key, False, detail, "without it `optimize run` uses the built-in search")


def _module(module: str, purpose: str, hint: str) -> Callable[[], Finding]:
    def check() -> Finding:
        found = importlib.util.find_spec(module) is not None
        return Finding(module, found, False, purpose if found else f"not installed: {purpose}", hint)

    return check


def _cuda_compiler() -> Finding:
    from .dsl.targets.cuda import compiler, tools

    try:
        found = compiler.find_toolchain()
    except tools.MissingTool as lack:
        return Finding("CUDA compiler", False, False, str(lack), lack.hint)
    return Finding("CUDA compiler", True, False, found.identity)


def _cuda_binary_tools() -> Finding:
    from .dsl.targets.cuda import tools

    found = {name: tools.find_program(name) for name in ("nvdisasm", "cuobjdump")}
    lacks = [name for name, place in found.items() if place is None]
    detail = f"not found: {', '.join(lacks)}" if lacks else ", ".join(str(place) for place in found.values())
    hint = f"pip install {' '.join(f'nvidia-cuda-{name}' for name in lacks)}; only machine code cannot be read without"
    return Finding("SASS tools", not lacks, False, detail, hint)


def _home() -> Finding:
    from .settings import load_settings

    home = load_settings().home
    target = home if home.exists() else next(p for p in home.parents if p.exists())
    writable = _can_write(target)
    free_gb = shutil.disk_usage(target).free / 1e9
    return Finding(
        "state", writable, True, f"{home}, {free_gb:.0f} GB free", "set KERNELAGENT_HOME to a writable folder"
    )


def _can_write(folder: Path) -> bool:
    """Tried, because rights say yes to root even where nothing can be made."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _compiler,
    _cxx_compiler,
    _cpu,
    _home,
    _sandbox,
    _device,
    _key,
    _module("torch", "torch baselines", "pip install torch"),
    _module("cupy", "GPU launches", "pip install cupy-cuda13x"),
    _cuda_compiler,
    _cuda_binary_tools,
)
