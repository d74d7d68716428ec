"""Each atom's machine code: the opcode that its record promises, and a golden listing of the whole of it.

Listings belong to one compiler version; another is held to the promised opcodes only. Refresh with `--refresh`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from kernelagent.dsl.atoms import Atom
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.compiler import CompileOptions, compile_cubin, find_toolchain
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.sass import Sass, read_all
from support.atom_kernels import kernel, listing, wrapped
from support.cuda import needs_binary_tools, needs_compiler

GOLDENS = Path(__file__).parent / "goldens"
ARCHS = tuple(archs())
EVERY = [(arch, atom) for arch in ARCHS for atom in wrapped(arch)]

pytestmark = [needs_compiler, needs_binary_tools]


@cache
def compiled(arch: str) -> dict[str, Sass]:
    kernels = "".join(kernel(atom) for atom in wrapped(arch))
    source = prelude(arch, kernels) + kernels
    return read_all(compile_cubin(source, arch, CompileOptions(line_info=False)).cubin)


@pytest.mark.parametrize(("arch", "atom"), EVERY, ids=lambda x: getattr(x, "name", x))
def test_the_promised_opcode_is_there(arch: str, atom: Atom) -> None:
    sass = compiled(arch)[f"test_{atom.name}"]
    promised = atom.opcode(arch)
    assert promised
    assert any(re.match(promised, i.opcode) for i in sass.instructions), "\n".join(listing(sass))
    assert sass.usage.local_bytes == sass.usage.stack_bytes == 0


@pytest.mark.parametrize("arch", [a for a in ARCHS if a != "sm_86"])  # that of sm_86 repeats sm_80
def test_listings_are_as_committed(arch: str, refresh: bool) -> None:
    path = GOLDENS / f"atoms_{arch}.txt"
    head = f"# {_version()}"
    sections = (f"## {a.name}\n" + "\n".join(listing(compiled(arch)[f"test_{a.name}"])) for a in wrapped(arch))
    text = "\n\n".join((head, *sections)) + "\n"
    if refresh:
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8")
    if not golden.startswith(f"{head}\n"):
        pytest.skip(f"the listings are of {golden.partition(chr(10))[0]}")
    assert text == golden, "if the change is meant: pytest tests/compile/test_atom_sass.py --refresh"


def _version() -> str:
    """Kind and version of the compiler, without what surrounds it."""
    return " ".join(find_toolchain().identity.split()[:2])
