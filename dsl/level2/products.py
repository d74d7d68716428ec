"""Rules about `mma`: shapes, dtypes and layouts against the atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.lanes import WARP, Distribution, tiled
from kernelagent.dsl.level2.accesses import buffer_of, shared_shape
from kernelagent.dsl.level2.hopper import WARPGROUP, check_box_buffer, check_groups
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.rules import Broken, Machine, Type, layout_hint, same_layout, shape_text, type_of
from kernelagent.dsl.tensor_map import CHUNK

if TYPE_CHECKING:
    from kernelagent.dsl.atoms import Atom
    from kernelagent.dsl.atoms.shared_operand import Major, Side

FMA = "fma"
"""Prefix of products without a matrix instruction: each thread multiplies and adds its own elements."""

WGMMA = "wgmma"
"""Prefix of asynchronous products of warpgroups."""


def multiply(m: Machine, o: dev.Mma, dtype: str | None, layout: Distribution | None) -> Type:
    a, b, acc = _matrix(m, o.a, "a"), _matrix(m, o.b, "b"), type_of(o.acc)
    shapes = a.shape, b.shape, acc.shape
    if [len(s) for s in shapes] != [2, 2, 2] or a.shape[1] != b.shape[0] or acc.shape != (a.shape[0], b.shape[1]):
        message = f"a {shape_text(a.shape)}, b {shape_text(b.shape)} and acc {shape_text(acc.shape)}"
        raise Broken(
            "mma-shape", f"{message} are not (m, k), (k, n) and (m, n)", "write `.T` on a transposed stage", "b"
        )
    if o.atom.startswith(WGMMA):
        _check_wgmma(m, o, a, b, acc)
    elif not o.atom.startswith(FMA):
        _check_atom(m, o, a, b, acc)
    return acc


def _matrix(m: Machine, x: dev.Fragment | dev.Shared, part: str) -> Type:
    if isinstance(x, dev.Fragment):
        return type_of(x)
    return Type(buffer_of(m, x, part).dtype, shared_shape(m, x, part), None)


def _check_atom(m: Machine, o: dev.Mma, a: Type, b: Type, acc: Type) -> None:
    """Shapes divide, dtypes agree, fragments lie as the atom wants them."""
    from kernelagent.dsl.atoms import atoms

    atom = _known(m, o.atom, {x.name: x for x in atoms("mma", m.target)})
    _check_dtypes(atom, a, b, acc)
    _check_extents(atom, a, acc)
    grid = _warp_grid(m, atom, acc)
    _check_register_operand(atom, a, "a", (grid[0], 1) if grid[1] == 1 else None)
    _check_register_operand(atom, b, "b", (1, grid[1]) if grid[0] == 1 else None)
    sources: tuple[tuple[Side, dev.Fragment | dev.Shared], ...] = (("a", o.a), ("b", o.b))
    for side, source in sources:
        if isinstance(source, dev.Shared):
            _check_matrix_rows(m, atom, side, source)


def _check_matrix_rows(m: Machine, atom: Atom, side: Side, source: dev.Shared) -> None:
    """ldmatrix reads rows of 16 aligned bytes: padding and swizzle keep them whole (PTX, `ldmatrix`)."""
    from kernelagent.dsl.atoms.fetch import fetch

    buffer = buffer_of(m, source, side)
    if not fetch(atom, side, source.axes[1 if side == "a" else 0] == len(buffer.shape) - 1).rows:
        return
    run, row = 128 // bits(buffer.dtype), buffer.panel or buffer.shape[-1] + buffer.pad
    torn = buffer.swizzle is not None and 1 << buffer.swizzle.base < run
    if torn or row % run or buffer.offset % 16:
        message = f"`{side}` is fetched in rows of 16 bytes, which `{buffer.name}` does not keep whole and aligned"
        hint = f"let shape[-1] + pad and the swizzle's pieces be multiples of {run} elements, the offset of 16 bytes"
        raise Broken("shared-width", message, hint, side, run=run, row=row)


def _known(m: Machine, name: str, known: dict[str, Atom]) -> Atom:
    if name in known:
        return known[name]
    close = nearest(name, list(known))
    listed = ", ".join(known) if 0 < len(known) < 20 else "no product of this kind" if not known else "many others"
    hint = f"did you mean `{close}`?" if close else f"{m.target} has {listed}"
    raise Broken("mma-atom", f"`{name}` is no matrix atom of {m.target}", hint, "atom", nearest=close)


def _check_dtypes(atom: Atom, a: Type, b: Type, acc: Type) -> None:
    for x, name, part in ((a, "a", "a"), (b, "b", "b"), (acc, "d", "acc")):
        wanted = atom.operand(name).dtype
        if x.dtype != wanted and (x.dtype, wanted) != ("f32", "tf32"):
            message = f"`{part}` is {x.dtype}, but {atom.name} takes {wanted}"
            raise Broken("mma-dtype", message, f"`cast` to {wanted}, or use another atom", part, nearest=wanted)


def _check_extents(atom: Atom, a: Type, acc: Type, groups: int = 1) -> None:
    extents = {"m": acc.shape[0], "n": acc.shape[1], "k": a.shape[1]}
    for (letter, extent), each in zip(extents.items(), atom.shape, strict=True):
        unit = int(each) * (groups if letter == "m" else 1)
        if extent % unit:
            message = f"{letter} = {extent} is no multiple of the atom's {each}"
            message += f" for each of {groups} warpgroups" if unit != each else ""
            raise Broken("mma-shape", message, f"use tiles whose {letter} is a multiple of {unit}", "atom")


def _warp_grid(m: Machine, atom: Any, acc: Type) -> tuple[int, int]:
    """How the accumulator's layout splits the tile over warps."""
    warps, layout = m.threads // WARP, atom.operand("d").layout
    grids = [(rows, warps // rows) for rows in range(1, warps + 1) if warps % rows == 0]
    legal = [g for g in grids if all(e % (n * each) == 0 for e, n, each in zip(acc.shape, g, atom.shape, strict=False))]
    for grid in legal:
        if same_layout(acc.layout, tidy(tiled(layout, acc.shape, grid))):
            return grid
    needed = tidy(tiled(layout, acc.shape, legal[0])) if legal else None
    message = f"`acc` does not lie as {atom.name} leaves it, repeated over {warps} warps"
    raise Broken("mma-layout", message, layout_hint(needed), "acc", warps=warps)


def _check_wgmma(m: Machine, o: dev.Mma, a: Type, b: Type, acc: Type) -> None:
    """Warpgroups share the rows; b, and a unless it lies in registers, is what a descriptor can say."""
    from kernelagent.dsl.atoms import atoms

    every = {x.name: x for x in atoms("wgmma", m.target)}
    atom = _known(m, o.atom, {n: x for n, x in every.items() if not n.endswith("_ra")})
    check_groups(m)
    groups = m.threads // WARPGROUP
    _check_dtypes(atom, a, b, acc)
    _check_extents(atom, a, acc, groups)
    needed = tidy(tiled(_layout(atom, "d"), acc.shape, (groups, 1)))
    if not same_layout(acc.layout, needed):
        message = f"`acc` does not lie as {atom.name} leaves it, repeated over {groups} warpgroups"
        raise Broken("mma-layout", message, layout_hint(needed), "acc", warpgroups=groups)
    if isinstance(o.a, dev.Fragment):
        left = tidy(tiled(_layout(every[f"{atom.name}_ra"], "a"), a.shape, (groups, 1)))
        if not same_layout(a.layout, left):
            raise Broken("mma-layout", f"`a` does not lie as {atom.name} takes it", layout_hint(left), "a")
    else:
        _check_descriptor(m, atom, "a", o.a)
    if isinstance(o.b, dev.Fragment):
        raise Broken("wgmma-operand", f"`b` of {atom.name} comes from shared memory", "store it to a buffer", "b")
    _check_descriptor(m, atom, "b", o.b)


def _layout(atom: Atom, operand: str) -> Distribution:
    layout = atom.operand(operand).layout
    assert layout is not None  # registers have one
    return layout


def _check_descriptor(m: Machine, atom: Atom, side: Side, source: dev.Shared) -> None:
    """A descriptor says how panels lie, if the tile is cut as the instruction walks it."""
    from kernelagent.dsl.atoms.shared_operand import descriptor
    from kernelagent.dsl.targets.cuda.emit_hopper import swizzle_bytes

    buffer = buffer_of(m, source, side)
    check_box_buffer(buffer, side)
    row = buffer.panel * bits(buffer.dtype) // 8
    if buffer.swizzle is None and row != CHUNK:
        hint = f"swizzle rows of 32, 64 or 128 bytes, or write panel={CHUNK * 8 // bits(buffer.dtype)}"
        message = f"panels of `{buffer.name}` have rows of {row} bytes without a swizzle; a descriptor knows {CHUNK}"
        raise Broken("panel", message, hint, side, row=row)
    tile = (buffer.shape[source.axes[0]], buffer.shape[source.axes[1]])
    major: Major = "K" if source.axes[1 if side == "a" else 0] == 1 else "MN"
    try:
        descriptor(atom, side, tile, major, swizzle_bytes(buffer))
    except KernelError as error:
        first = error.diagnostics[0]
        raise Broken(first.code, first.message, first.hint or "use another tile", side, **first.facts) from None


def _check_register_operand(atom: Any, x: Type, part: str, warps: tuple[int, int] | None) -> None:
    if x.layout is None:
        return
    if warps is None:
        message = f"`{part}` lies in registers, but its rows or columns are needed by several warps"
        raise Broken("mma-layout", message, "put it into shared memory, or give each warp whole lines", part)
    needed = tidy(tiled(atom.operand(part).layout, x.shape, warps))
    if not same_layout(x.layout, needed):
        message = f"`{part}` does not lie as {atom.name} takes it"
        raise Broken("mma-layout", message, layout_hint(needed), part)
