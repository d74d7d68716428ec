"""Which matrix instruction serves a product of two dtypes, or the way round, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernelagent.dsl.atoms import wgmma
from kernelagent.dsl.atoms.record import Atom
from kernelagent.dsl.atoms.shared_operand import Major, majors
from kernelagent.dsl.atoms.tables import atom
from kernelagent.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Detour:
    """A product that `atom` computes after operands were converted to `operand_dtype` (or by other units).

    `exact`: the detour itself loses nothing; what the atom's own accumulator does is in its record.
    """

    name: str
    atom: Atom
    operand_dtype: str
    reason: str
    exact: bool = True


Choice: TypeAlias = Atom | Detour | Diagnostic

_NATIVE = {
    "f16": "mma_m16n8k16_f16",
    "bf16": "mma_m16n8k16_bf16",
    "tf32": "mma_m16n8k8_tf32",
    "i8": "mma_m16n8k32_s8",
    "u8": "mma_m16n8k32_u8",
    "f8e4m3": "mma_m16n8k32_e4m3",
    "f8e5m2": "mma_m16n8k32_e5m2",
}


def mma_for(a_dtype: str, b_dtype: str, acc_dtype: str, precision: str, arch: str) -> Choice:
    """The atom for a (m, k) @ b (k, n) accumulated in `acc_dtype`; `precision` is "exact" or "tf32"."""
    if not atom(_NATIVE["f16"]).runs_on(arch):
        return _refused(f"{arch} has none of the known matrix instructions", "sm_80 and later have them", arch=arch)
    if a_dtype != b_dtype:
        return _refused(f"mma operands are {a_dtype} and {b_dtype}", "`cast` one to the other's dtype")
    kind = "tf32" if (a_dtype, precision) == ("f32", "tf32") else a_dtype
    if kind in ("f32", "f64"):
        chosen: Atom | Detour = _by_lanes(kind)
    elif kind in _NATIVE:
        native = atom(_NATIVE[kind])
        chosen = native if native.runs_on(arch) else _through_f16(kind, arch)
    else:
        return _refused(f"no matrix instruction multiplies {a_dtype}", "`cast` to bf16, f16 or i8 first", arch=arch)
    accumulator = (chosen.atom if isinstance(chosen, Detour) else chosen).accumulator
    if accumulator != acc_dtype:
        hint = f"{a_dtype} products accumulate in {accumulator}"
        return _refused(f"mma of {a_dtype} does not accumulate in {acc_dtype}", hint, arch=arch)
    return chosen


def _by_lanes(dtype: str) -> Detour:
    """Matrix units have no f32 operands, and their f64 rate is not worth a second kind of fragment."""
    reason = "matrix units round f32 operands to tf32" if dtype == "f32" else "f64 is left to the lanes"
    return Detour("fma-by-lanes", atom(f"fma_{dtype}"), dtype, f"{reason}: each lane multiplies and adds")


def _through_f16(dtype: str, arch: str) -> Detour:
    """Every finite value of both 8-bit floats is an f16, and infinities and NaN go over."""
    reason = f"{arch} has no 8-bit float mma: operands become f16, which holds every {dtype}"
    return Detour("f8-as-f16", atom(_NATIVE["f16"]), "f16", reason)


# Warpgroup products -------------------------------------------------------------------------------------------

WARPGROUP_ARCH = "sm_90a"

_WARPGROUP = {
    "f16": "f16", "bf16": "bf16", "tf32": "tf32", "i8": "s8", "f8e4m3": "e4m3", "f8e5m2": "e5m2",
}  # fmt: skip


def wgmma_for(
    a_dtype: str, b_dtype: str, acc_dtype: str, precision: str, a_major: Major | Literal["R"], b_major: Major, n: int
) -> Choice:
    """The warpgroup's atom of width `n` for a (m, k) @ b (k, n), b in shared memory; sm_90a.

    Majors say along what the rows of shared memory run; `a_major` "R": a is in registers. What the machine lacks goes
    through a's registers or to `mma_for`'s choice, each a Detour; other products are refused as there.
    """
    plain = mma_for(a_dtype, b_dtype, acc_dtype, precision, WARPGROUP_ARCH)
    kind = _WARPGROUP.get("tf32" if (a_dtype, precision) == ("f32", "tf32") else a_dtype)
    if not isinstance(plain, Atom):
        return plain
    if kind is None:
        return _by_warps(plain, a_dtype, f"warpgroup products of {a_dtype} are not among the atoms")
    if n not in wgmma.sizes(a_dtype):
        return _refused_width(a_dtype, n)
    product = atom(wgmma.name(kind, n, a_major == "R"))
    if b_major not in majors(product):
        return _by_warps(plain, a_dtype, f"warpgroup products of {kind} want b stored as [n, k]")
    if a_major not in ("R", *majors(product)):
        reason = f"warpgroup products of {kind} want a stored as [m, k]: a goes through registers"
        return Detour("a-through-registers", atom(wgmma.name(kind, n, True)), a_dtype, reason)
    return product


def _by_warps(plain: Atom, dtype: str, reason: str) -> Detour:
    return Detour("mma-sync", plain, dtype, f"{reason}: each warp multiplies by itself")


def _refused_width(dtype: str, n: int) -> Diagnostic:
    below = [s for s in wgmma.sizes(dtype) if s < n][-1:]
    above = [s for s in wgmma.sizes(dtype) if s > n][:1]
    hint = f"take n = {' or '.join(map(str, (*below, *above)))}"
    return _refused(f"no warpgroup product of {dtype} is {n} wide", hint, n=n, dtype=dtype, arch=WARPGROUP_ARCH)


def _refused(message: str, hint: str, **facts: object) -> Diagnostic:
    return Diagnostic("mma-atom", message, hint=hint, facts=facts)
