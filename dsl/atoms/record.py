"""What an instruction is, as data: the record that lowering, preludes, emulator, proofs and tests all read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import Distribution

Direction = Literal["in", "out", "inout"]
Scope = Literal["lane", "warp", "warpgroup", "block", "cluster"]
Completion = Literal["sync", "group", "mbarrier", "counter"]
Proxy = Literal["generic", "async"]
Space: TypeAlias = str
"""Where an operand lies: register, shared, global, tmem, immediate ... an open set.

descriptor: in shared memory, named by a 64-bit descriptor; tensor_map: a map among the kernel's parameters.
"""

Reference: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Operand:
    """One operand of an atom.

    `layout` places the atom's tile over the lanes of the issuer; for an operand in memory it says which elements each
    lane names. `count` is how many machine registers of `carrier` a lane passes, None for one scalar by value.
    `carrier` is the dtype of those registers where it is not `dtype` itself: packed operands travel as u32. `usual` is
    the value of an immediate that callers may leave out.
    """

    name: str
    dtype: str
    space: Space = "register"
    direction: Direction = "in"
    layout: Distribution | None = None
    count: int | None = None
    carrier: str | None = None
    usual: int | None = None

    @property
    def register_dtype(self) -> str:
        return self.carrier or self.dtype

    @property
    def per_register(self) -> int:
        """Elements packed into one register."""
        return max(1, bits(self.register_dtype) // bits(self.dtype))


@dataclass(frozen=True)
class Atom:
    """One instruction (or fixed short sequence) of one or more machines.

    `archs` are the first architectures that have it: "sm_80" means that and every later one, "sm_90a" exactly that
    one, a CPU feature level exactly that level. `shape` gives extents, names for those that are free. The CUDA
    prelude's function is `ka_` + name, its body is `ptx` with `$operand` in place of registers and addresses.
    `sass` is a regular expression that some opcode of the compiled body must match, by first architecture, the
    newest entry that serves an architecture counting. `alignment` is that of addresses, in bytes. `reference` is the
    numpy meaning, None where nothing is computed; its signature is given by the family's file. `source` names the
    section of the manual.
    """

    name: str
    kind: str
    archs: tuple[str, ...]
    shape: tuple[int | str, ...]
    operands: tuple[Operand, ...]
    reference: Reference | None
    source: str
    scope: Scope = "lane"
    completion: Completion = "sync"
    proxy: Proxy = "generic"
    accumulator: str | None = None
    precision: str = "exact"
    alignment: int = 1
    ptx: str = ""
    sass: tuple[tuple[str, str], ...] = ()

    @property
    def orders_memory(self) -> bool:
        """Whether accesses to memory may not move across it."""
        in_memory = any(o.space not in ("register", "immediate") for o in self.operands)
        return in_memory or self.kind in ("barrier", "commit", "fence", "wait")

    def operand(self, name: str) -> Operand:
        """The operand of this name. Raises StopIteration for others."""
        return next(o for o in self.operands if o.name == name)

    def runs_on(self, arch: str) -> bool:
        return any(serves(first, arch) for first in self.archs)

    def opcode(self, arch: str) -> str | None:
        """The regular expression of the opcode expected on `arch`, None where nothing is promised."""
        fitting = [pattern for first, pattern in self.sass if serves(first, arch)]
        return fitting[-1] if fitting else None


def serves(first: str, arch: str) -> bool:
    """Whether `arch` has what appeared with `first`."""
    if first == arch:
        return True
    if not (first.startswith("sm_") and arch.startswith("sm_")) or first[-1] in "af":
        return False
    return _number(first) <= _number(arch)


def _number(arch: str) -> int:
    return int(arch.removeprefix("sm_").rstrip("af"))
