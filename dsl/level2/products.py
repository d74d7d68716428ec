"""Rules about `mma`: shapes, dtypes and layouts against the atom."""

from __future__ import annotations

from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.lanes import WARP, Distribution, tiled
from kernelagent.dsl.level2.accesses import buffer_of, shared_shape
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.rules import Broken, Machine, Type, layout_hint, same_layout, shape_text, type_of

FMA = "fma"
"""Prefix of products without a matrix instruction: each thread multiplies and adds its own elements."""


def multiply(m: Machine, o: dev.Mma, dtype: str | None, layout: Distribution | None) -> Type:
    a, b, acc = _matrix(m, o.a, "a"), _matrix(m, o.b, "b"), type_of(o.acc)
    shapes = a.shape, b.shape, acc.shape
    if [len(s) for s in shapes] != [2, 2, 2] or a.shape[1] != b.shape[0] or acc.shape != (a.shape[0], b.shape[1]):
        message = f"a {shape_text(a.shape)}, b {shape_text(b.shape)} and acc {shape_text(acc.shape)}"
        raise Broken(
            "mma-shape", f"{message} are not (m, k), (k, n) and (m, n)", "write `.T` on a transposed stage", "b"
        )
    if not o.atom.startswith(FMA):
        _check_atom(m, o, a, b, acc)
    return acc


def _matrix(m: Machine, x: dev.Fragment | dev.Shared, part: str) -> Type:
    if isinstance(x, dev.Fragment):
        return type_of(x)
    return Type(buffer_of(m, x, part).dtype, shared_shape(m, x, part), None)


def _check_atom(m: Machine, o: dev.Mma, a: Type, b: Type, acc: Type) -> None:
    """Shapes divide, dtypes agree, fragments lie as the atom wants them."""
    from kernelagent.dsl.atoms import Atom, atoms

    known: dict[str, Atom] = {x.name: x for x in atoms("mma", m.target)}
    atom = known.get(o.atom)
    if atom is None:
        close = nearest(o.atom, list(known))
        hint = f"did you mean `{close}`?" if close else f"{m.target} has {', '.join(known)}"
        raise Broken("mma-atom", f"`{o.atom}` is no matrix atom of {m.target}", hint, "atom", nearest=close)
    for x, name, part in ((a, "a", "a"), (b, "b", "b"), (acc, "d", "acc")):
        wanted = atom.operand(name).dtype
        if x.dtype != wanted and (x.dtype, wanted) != ("f32", "tf32"):
            message = f"`{part}` is {x.dtype}, but {atom.name} takes {wanted}"
            raise Broken("mma-dtype", message, f"`cast` to {wanted}, or use another atom", part, nearest=wanted)
    extents = {"m": acc.shape[0], "n": acc.shape[1], "k": a.shape[1]}
    for (letter, extent), each in zip(extents.items(), atom.shape, strict=True):
        if not isinstance(each, int) or extent % each:
            message = f"{letter} = {extent} is no multiple of the atom's {each}"
            raise Broken("mma-shape", message, f"use tiles whose {letter} is a multiple of {each}", "atom")
    grid = _warp_grid(m, atom, acc)
    _check_register_operand(atom, a, "a", (grid[0], 1) if grid[1] == 1 else None)
    _check_register_operand(atom, b, "b", (1, grid[1]) if grid[0] == 1 else None)


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
