"""Kernel texts as the loop handles them: digests and files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha(text: str) -> str:
    """SHA-256 of the text in UTF-8, hexadecimal: the name of a kernel."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_kernel(folder: Path, text: str) -> Path:
    """Keep the text under its name in `folder/kernels`."""
    path = folder / "kernels" / f"{sha(text)[:16]}.tile"
    write_atomically(path, text)
    return path


def write_atomically(path: Path, text: str) -> None:
    """A reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
