"""Programs and packages of the CUDA toolkit: where they are, and what to say when they are not."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from importlib import metadata
from pathlib import Path


class MissingTool(Exception):
    """Something of the CUDA toolkit is not installed. `hint` says what to install and what works without it."""

    def __init__(self, tool: str, purpose: str, install: str) -> None:
        self.tool = tool
        self.hint = f"{install}; the targets cpu and emu work without it"
        super().__init__(f"{tool} was not found; it is needed {purpose}")


@lru_cache(maxsize=32)
def wheel_version(distribution: str) -> str | None:
    """The version of an installed distribution, None if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=8)
def wheel_folder(name: str) -> Path | None:
    """`include`, `bin` or `lib` of the CUDA 13 wheels, which share one folder."""
    from importlib.util import find_spec

    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root) / "cu13" / name
        if folder.is_dir():
            return folder
    return None


def toolkit_folders() -> tuple[Path, ...]:
    """Roots of installed toolkits: $CUDA_HOME, $CUDA_PATH, then the usual place."""
    named = [os.environ[v] for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    return tuple(Path(p) for p in (*named, "/usr/local/cuda"))


def find_program(name: str) -> str | None:
    """A program of the toolkit: from the wheels, on PATH, or below a toolkit folder."""
    wheels = wheel_folder("bin")
    places = [str(wheels)] if wheels else []
    places += [os.environ.get("PATH", os.defpath), *(str(root / "bin") for root in toolkit_folders())]
    return shutil.which(name, path=os.pathsep.join(places))
