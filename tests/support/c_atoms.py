"""Small C files that include the prelude, compiled for a feature level and loaded."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from kernelagent.dsl.targets.cpu import features
from numpy.typing import NDArray

LEVELS = features.detect().levels
"""Levels that this machine can run."""

_FOLDER = tempfile.TemporaryDirectory(prefix="atoms-")


def compiler() -> list[str]:
    if named := os.environ.get("CC"):
        return shlex.split(named)
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert found, "these tests need a C compiler"
    return [found]


@cache
def build(text: str, level: str, extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The C text as a loaded library. Warnings are errors: the prelude must be clean."""
    stem = Path(_FOLDER.name) / f"{abs(hash((text, level, extra))):x}"
    source, library = stem.with_suffix(".c"), stem.with_suffix(".so")
    source.write_text(text)
    warnings = ("-Wall", "-Wextra", "-Werror")
    command = [*compiler(), *features.flags(level), *warnings, f"-I{features.prelude_folder()}", *extra]
    subprocess.run([*command, str(source), "-o", str(library), *features.LINK_FLAGS], check=True, timeout=120)
    return ctypes.CDLL(str(library))


@cache
def build_runtime(level: str) -> ctypes.CDLL:
    text = (features.prelude_folder() / "pool.c").read_text()
    library = build(text, level, features.RUNTIME_FLAGS)
    library.ka_runtime_get.restype = ctypes.c_void_p
    library.ka_arena.restype = library.ka_shared.restype = ctypes.c_void_p
    library.ka_arena.argtypes = library.ka_shared.argtypes = [ctypes.c_int, ctypes.c_size_t]
    library.ka_copy_parallel.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] + [ctypes.c_int] * 2
    return library


def at(array: NDArray[np.generic], offset: int = 0) -> ctypes.c_void_p:
    """Address of an array, `offset` elements in."""
    return ctypes.c_void_p(array.ctypes.data + offset * array.itemsize)


def guarded(shape: int | tuple[int, ...], before: int = 64, after: int = 64, fill: float = -777.0) -> Guarded:
    return Guarded(np.prod(shape, dtype=int), shape, before, after, fill)


class Guarded:
    """A float array between guard zones that must keep their fill."""

    def __init__(self, size: int, shape: int | tuple[int, ...], before: int, after: int, fill: float) -> None:
        self.memory = np.full(before + size + after, fill, np.float32)
        self.array = self.memory[before : before + size].reshape(shape)
        self.before, self.end, self.fill = before, before + size, fill

    def check(self) -> None:
        assert (self.memory[: self.before] == self.fill).all(), "written before the start"
        assert (self.memory[self.end :] == self.fill).all(), "written beyond the end"
