"""Choose the instruction of every product and how the block's warps share its tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from kernelagent.dsl import ir
from kernelagent.dsl.atoms import Atom, Detour, mma_for
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.lanes import WARP, Distribution, DistributionError, striped, tiled
from kernelagent.dsl.lower.rewrite import operands, walk_statements
from kernelagent.dsl.schedule import Choice

FMA = "fma_f32"
"""The detour for products that no matrix instruction takes: every thread multiplies and adds its own elements."""


@dataclass(frozen=True)
class Product:
    """One `mma` of the kernel: the tile (m, n, k), its atom, and the distributions of result and left operand."""

    atom: str
    shape: tuple[int, int, int]
    warps: tuple[int, int]
    result: Distribution
    left: Distribution | None  # what `a` must be to come from registers; None: it cannot
    operand_dtype: str  # what the operands are converted to first


def choose_atoms(
    kernel: ir.Kernel, arch: str, policy: Mapping[str, object], choices: list[Choice]
) -> tuple[dict[int, Product], int]:
    """Products by the number of their value, and the threads of a block."""
    found = [s for s in walk_statements(kernel.body) if isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma)]
    warps = _warps(policy, found)
    along_rows = _reduced_or_chained(kernel)
    products: dict[int, Product] = {}
    for let in found:
        assert isinstance(let.operation, ir.Mma)
        products[let.value.number] = _product(let, let.operation, arch, warps, let.value.number in along_rows, choices)
    return products, warps * WARP


def _warps(policy: Mapping[str, object], products: list[ir.Let]) -> int:
    asked = policy.get("warps")
    if isinstance(asked, int):
        return asked
    largest = max((_extent(p.value, 0) * _extent(p.value, 1) for p in products), default=0)
    return 8 if largest > 128 * 128 else 4


def _product(let: ir.Let, mma: ir.Mma, arch: str, warps: int, along_rows: bool, choices: list[Choice]) -> Product:
    m, n, k = _extent(mma.a, 0), _extent(mma.b, 1), _extent(mma.a, 1)
    acc = let.value.type.dtype
    answer = mma_for(mma.a.type.dtype, mma.b.type.dtype, acc, mma.precision, arch)
    subject = f"mma {m}x{n}x{k} {mma.a.type.dtype}"
    if not isinstance(answer, (Atom, Detour)):
        raise KernelError([replace(answer, span=let.value.origin.span)])
    chosen = answer if isinstance(answer, Atom) else answer.atom
    if chosen.scope == "lane":
        return _fma(let, (m, n, k), warps, choices, subject, cast(Detour, answer).reason)
    try:
        made = _matrix(chosen, (m, n, k), warps, along_rows)
    except DistributionError as lack:
        return _fma(let, (m, n, k), warps, choices, subject, str(lack))
    reason = "the tile's dtype" if isinstance(answer, Atom) else answer.reason
    choices.append(Choice(subject, f"{made.atom}, {made.warps[0]}x{made.warps[1]} warps", reason, let.value.origin))
    return made


def _matrix(chosen: Atom, shape: tuple[int, int, int], warps: int, along_rows: bool) -> Product:
    m, n, k = shape
    am, an, ak = (int(extent) for extent in chosen.shape)
    if k % ak:
        raise DistributionError(f"k: {k} elements do not divide into steps of {ak}")
    grid = _warp_grid(m, n, warps, am, an, along_rows)
    result = tiled(_placed(chosen, "d"), (m, n), grid)
    left = tiled(_placed(chosen, "a"), (m, k), (grid[0], 1)) if grid[1] == 1 else None
    return Product(chosen.name, shape, grid, result, left, chosen.operand("a").dtype)


def _placed(chosen: Atom, operand: str) -> Distribution:
    layout = chosen.operand(operand).layout
    assert layout is not None  # every matrix atom places its operands
    return layout


def _warp_grid(m: int, n: int, warps: int, am: int, an: int, along_rows: bool) -> tuple[int, int]:
    """Rows only where a row is reduced or feeds another product (it stays in one warp); else nearly square pieces,
    which read the fewest operand bytes."""
    options = [(wm, warps // wm) for wm in range(1, warps + 1) if warps % wm == 0]
    legal = [(wm, wn) for wm, wn in options if m % (wm * am) == 0 and n % (wn * an) == 0]
    if along_rows and (warps, 1) in legal:
        return (warps, 1)
    if not legal:
        raise DistributionError(f"no split of {warps} warps divides {m}x{n} into {am}x{an} pieces")
    return min(legal, key=lambda g: (m // g[0] + n // g[1], g[1]))


def _fma(
    let: ir.Let, shape: tuple[int, int, int], warps: int, choices: list[Choice], subject: str, why: str
) -> Product:
    m, n, _ = shape
    if not is_float(let.value.type.dtype):
        message, hint = f"{why}, and integers have no detour", "use tiles that the atom divides"
        raise KernelError([Diagnostic("mma-tile", message, let.value.origin.span, hint=hint)])
    result = striped((m, n), warps * WARP, 4)
    choices.append(Choice(subject, "multiply-adds of single threads", why, let.value.origin))
    return Product(FMA, shape, (warps, 1), result, None, "f32")


def _reduced_or_chained(kernel: ir.Kernel) -> set[int]:
    """Products whose rows are reduced, or whose values are the left operand of another product; and the products of
    such kernels that are carried together with them (attention's second product)."""
    reads: dict[int, set[int]] = {}
    reduced: set[int] = set()
    products: set[int] = set()
    for statement in walk_statements(kernel.body):
        match statement:
            case ir.Let(value, operation):
                sources = {x.number for x in operands(operation)}
                reads[value.number] = sources
                if isinstance(operation, ir.Mma):
                    products.add(value.number)
                    reduced.add(operation.a.number)
                elif isinstance(operation, (ir.Reduce, ir.ArgReduce, ir.Scan)):
                    reduced |= sources
            case ir.For(carried=carried):
                for c in carried:
                    reads.setdefault(c.inside.number, set()).update((c.initial.number, c.end.number))
                    reads.setdefault(c.result.number, set()).add(c.end.number)
    needed = _closure(reduced, reads) & products
    return products if needed else set()


def _closure(start: set[int], reads: Mapping[int, set[int]]) -> set[int]:
    found, waiting = set(start), list(start)
    while waiting:
        for source in reads.get(waiting.pop(), ()):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _extent(value: ir.Value, axis: int) -> int:
    extent = value.type.shape[axis].constant
    assert extent is not None  # instantiated kernels have constant extents
    return extent
