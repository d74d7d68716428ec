"""The C compiler: which one there is, what identifies it, and how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


class NoCompiler(Exception):
    """No C compiler was found. The message says what to install."""

    def __init__(self, tried: Sequence[str]) -> None:
        self.tried = tuple(tried)
        super().__init__(
            f"no C compiler found (tried {', '.join(tried)}); install gcc or clang, set CC, or run: pip install ziglang"
        )


class CompilerFailed(Exception):
    """The compiler did not accept emitted code: a fault of this package or of the compiler, not of the kernel."""

    def __init__(self, command: Sequence[str], output: str) -> None:
        self.command = tuple(command)
        self.output = output
        super().__init__(f"the C compiler failed: {output.strip().splitlines()[0] if output.strip() else 'no output'}")


@dataclass(frozen=True)
class Compiler:
    """`command` starts a call; `identity` is the first line of its version."""

    command: tuple[str, ...]
    identity: str

    def build(self, source: Path, target: Path, flags: Sequence[str], link: Sequence[str]) -> None:
        """Compile one file into a shared object. Raises CompilerFailed."""
        command = [*self.command, *flags, "-o", str(target), str(source), *link]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompilerFailed(command, done.stderr)


def find_compiler(asked: str = "auto") -> Compiler:
    """$CC, cc, gcc, clang, then ziglang if it is installed; or exactly the one that is asked for.

    Raises NoCompiler.
    """
    candidates = _candidates() if asked == "auto" else [tuple(asked.split())]
    for command in candidates:
        identity = identity_of(command)
        if identity is not None:
            return Compiler(command, identity)
    raise NoCompiler([" ".join(c) for c in candidates])


def _candidates() -> list[tuple[str, ...]]:
    named = os.environ.get("CC", "").split()
    found = [tuple(named)] if named else []
    found += [(name,) for name in ("cc", "gcc", "clang")]
    if find_spec("ziglang") is not None:
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


@lru_cache(maxsize=16)
def identity_of(command: tuple[str, ...]) -> str | None:
    """First line of the compiler's version, None if it does not run."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None
