"""The C++ compiler of the emulator: which one there is. What identifies and calls it is the CPU target's."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from kernelagent.dsl.targets.cpu.compiler import Compiler, NoCompiler, identity_of


class NoCxxCompiler(NoCompiler):
    """No C++ compiler was found. The message says what to install."""

    def __init__(self, tried: Sequence[str]) -> None:
        super().__init__(tried)
        self.args = (
            f"no C++ compiler found (tried {', '.join(tried)}); the emulator needs one: install g++ or clang, set CXX, "
            "or run: pip install ziglang. The cpu target needs a C compiler only",
        )


def find_cxx(asked: str = "auto") -> Compiler:
    """$CXX, g++, c++, clang++, then ziglang if it is installed; or exactly the one that is asked for.

    Raises NoCxxCompiler.
    """
    candidates = _candidates() if asked == "auto" else [tuple(asked.split())]
    for command in candidates:
        identity = identity_of(command)
        if identity is not None:
            return Compiler(command, identity)
    raise NoCxxCompiler([" ".join(c) for c in candidates])


def _candidates() -> list[tuple[str, ...]]:
    named = os.environ.get("CXX", "").split()
    found = [tuple(named)] if named else []
    found += [(name,) for name in ("g++", "c++", "clang++")]
    if find_spec("ziglang") is not None:
        found.append((sys.executable, "-m", "ziglang", "c++"))
    return found
