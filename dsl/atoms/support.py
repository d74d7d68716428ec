"""What the matrix units do with each dtype, transposition and architecture: an atom, a named detour, or a diagnostic.

Transpositions are of A[M, K] and B[K, N] as stored: in NN both are row major, in NT b is stored as [N, K].
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelagent.dsl.atoms.choose import WARPGROUP_ARCH, Choice, Detour, mma_for, wgmma_for
from kernelagent.dsl.atoms.fetch import Fetch, fetch
from kernelagent.dsl.atoms.record import Atom
from kernelagent.dsl.atoms.shared_operand import Major
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.dtypes import is_integer

DTYPES = ("f16", "bf16", "tf32", "f32", "f64", "f8e4m3", "f8e5m2", "i8", "u8", "i16")
TRANSPOSITIONS = ("NN", "NT", "TN", "TT")
ARCHS = ("sm_80", "sm_89", "sm_90a")

_WORDS = {
    "ldmatrix": "ldmatrix",
    "ldmatrix_trans": "ldmatrix.trans",
    "words": "32-bit loads",
    "elements": "byte loads, packed",
}


@dataclass(frozen=True)
class Cell:
    """`choice` and, where a matrix atom is used, how its operands are fetched from shared memory."""

    dtype: str
    transposition: str
    arch: str
    choice: Choice
    a: Fetch | None = None
    b: Fetch | None = None

    @property
    def detours(self) -> tuple[str, ...]:
        """Why the way is not straight, one sentence each."""
        named = (self.choice.reason,) if isinstance(self.choice, Detour) else ()
        fetched = (f.detour for f in (self.a, self.b) if f is not None and f.detour)
        return (*named, *dict.fromkeys(fetched))

    def __str__(self) -> str:
        match self.choice:
            case Diagnostic(message=message):
                return f"refused: {message}"
            case Detour(name=name, atom=used):
                head = f"`{used.name}` ({name})"
            case Atom(name=name):
                head = f"`{name}`"
        ways = [f"{f.side.upper()} {_WORDS[f.via]}" for f in (self.a, self.b) if f is not None]
        return ": ".join((head, ", ".join(ways))) if ways else head


def support(dtype: str, transposition: str, arch: str) -> Cell:
    """One cell. `dtype` is an element type, or "tf32" for f32 operands with `precision=tf32`."""
    choice = mma_for(*_product(dtype), arch)
    used = choice.atom if isinstance(choice, Detour) else choice
    if isinstance(used, Diagnostic) or used.kind != "mma":
        return Cell(dtype, transposition, arch, choice)
    a = fetch(used, "a", k_contiguous=transposition[0] == "N")
    b = fetch(used, "b", k_contiguous=transposition[1] == "T")
    return Cell(dtype, transposition, arch, choice, a, b)


def warpgroup_support(dtype: str, transposition: str, n: int = 64) -> Cell:
    """As `support`, of sm_90a's warpgroup products of width `n`; operands lie in shared memory as they are stored."""
    a_major: Major = "K" if transposition[0] == "N" else "MN"
    b_major: Major = "K" if transposition[1] == "T" else "MN"
    return Cell(dtype, transposition, WARPGROUP_ARCH, wgmma_for(*_product(dtype), a_major, b_major, n))


def _product(dtype: str) -> tuple[str, str, str, str]:
    """Operand dtypes, accumulator and precision of a table's dtype."""
    operand, precision = ("f32", "tf32") if dtype == "tf32" else (dtype, "exact")
    accumulator = "i32" if is_integer(operand) else "f64" if operand == "f64" else "f32"
    return operand, operand, accumulator, precision


def support_markdown() -> str:
    """The whole table, one row a dtype and transposition, the warpgroup's products last, detours explained below."""
    heads = (*ARCHS, f"{WARPGROUP_ARCH}, warpgroup (n = 64)")
    lines = [f"| dtype | A, B | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    reasons: dict[str, None] = {}
    for dtype in DTYPES:
        for transposition in TRANSPOSITIONS:
            cells = [support(dtype, transposition, arch) for arch in ARCHS]
            cells.append(warpgroup_support(dtype, transposition))
            lines.append(f"| {dtype} | {transposition} | {' | '.join(map(str, cells))} |")
            reasons |= dict.fromkeys(r for cell in cells for r in cell.detours)
    return "\n".join((*lines, "", *(f"- {reason}." for reason in reasons))) + "\n"
