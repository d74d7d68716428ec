"""Content-addressed store of compiled kernels. An entry is a folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def cache_root(target: str, asked: Path | None = None) -> Path:
    """Where a target's entries lie: the given folder, else cache/TARGET below $KERNELAGENT_HOME or the data folder."""
    if asked is not None:
        return Path(asked)
    home = os.environ.get("KERNELAGENT_HOME")
    if home:
        return Path(home) / "cache" / target
    from platformdirs import user_data_dir

    return Path(user_data_dir("kernelagent")) / "cache" / target


def key_of(facts: Mapping[str, Any]) -> str:
    """Hex digest of everything that the binary depends on."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def folder_hash(folder: Path, suffixes: tuple[str, ...] = (".h", ".c")) -> str:
    """Digest of the C files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def place(root: Path, key: str) -> Path:
    """The folder of `key`, whether it exists or not."""
    return root / key[:2] / key


def entry(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of `key`; `build` fills a temporary folder that is then renamed into place.

    Two processes may build the same entry: the first rename wins and both use it.
    """
    target = place(root, key)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        build(made)
        made.chmod(0o755)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target
