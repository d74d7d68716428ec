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
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.rewrite import operands, walk_statements
from kernelagent.dsl.schedule import Choice

WARPS = (1, 2, 4, 8, 16, 32)
"""What a block may have."""
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


def choose_atoms(kernel: ir.Kernel, arch: str, policy: Policy, choices: list[Choice]) -> tuple[dict[int, Product], int]:
    """Products by the number of their value, and the threads of a block."""
    found = [s for s in walk_statements(kernel.body) if isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma)]
    chooser = _Chooser(arch, policy, _reduced_or_chained(kernel), choices)
    warps = chooser.warps(found)
    return {let.value.number: chooser.product(let, warps) for let in found}, warps * WARP


@dataclass(frozen=True)
class _Chooser:
    """`along_rows`: products whose rows stay in one warp where that is possible, by value number."""

    arch: str
    policy: Policy
    along_rows: set[int]
    choices: list[Choice]

    def warps(self, products: list[ir.Let]) -> int:
        """The policy's, or as many as make every product whole atoms for each warp."""
        largest = max((_extent(p.value, 0) * _extent(p.value, 1) for p in products), default=0)
        asked = self.policy.integer("warps", 8 if largest > 128 * 128 else 4)
        lack = self.lack(products, asked)
        fitting = [w for w in WARPS if self.lack(products, w) is None] if lack else []
        nearest = min(fitting, key=lambda w: (max(w, asked) // min(w, asked), w), default=asked)
        if "warps" not in self.policy.words:
            return nearest
        if nearest == asked:
            self.choices.append(Choice("warps", str(asked), "policy"))
        else:
            facts = {"warps": asked, "nearest": nearest}
            hint = f"warps={nearest} divides it"
            self.choices.append(self.policy.drop("warps", lack or "", hint, "mma-tile", facts))
        return nearest

    def lack(self, products: list[ir.Let], warps: int) -> str | None:
        """Why some product is not whole atoms for each of so many warps."""
        for let in products:
            try:
                chosen = self.atom(let)
                if chosen.scope != "lane":
                    _matrix(chosen, _shape(let), warps, let.value.number in self.along_rows)
            except DistributionError as lack:
                return str(lack)
        return None

    def answer(self, let: ir.Let) -> Atom | Detour:
        mma = cast(ir.Mma, let.operation)
        answer = mma_for(mma.a.type.dtype, mma.b.type.dtype, let.value.type.dtype, mma.precision, self.arch)
        if not isinstance(answer, (Atom, Detour)):
            raise KernelError([replace(answer, span=let.value.origin.span)])
        if self.policy.required and isinstance(answer, Detour) and answer.atom.scope != "lane":
            hint = f"`cast` the operands to {answer.operand_dtype}, or compile for an architecture that has them"
            raise KernelError([Diagnostic("mma-atom", answer.reason, let.value.origin.span, hint=hint)])
        return answer

    def atom(self, let: ir.Let) -> Atom:
        answer = self.answer(let)
        return answer if isinstance(answer, Atom) else answer.atom

    def product(self, let: ir.Let, warps: int) -> Product:
        answer, chosen, shape = self.answer(let), self.atom(let), _shape(let)
        subject = f"mma {'x'.join(map(str, shape))} {cast(ir.Mma, let.operation).a.type.dtype}"
        if chosen.scope == "lane":
            return _fma(let, shape, warps, self.choices, subject, cast(Detour, answer).reason)
        try:
            made = _matrix(chosen, shape, warps, let.value.number in self.along_rows)
        except DistributionError as lack:
            if self.policy.required or not is_float(let.value.type.dtype):
                raise KernelError([_indivisible(let, shape, chosen, str(lack))]) from None
            return _fma(let, shape, warps, self.choices, subject, str(lack))
        reason = "the tile's dtype" if isinstance(answer, Atom) else answer.reason
        how = f"{made.atom}, {made.warps[0]}x{made.warps[1]} warps"
        self.choices.append(Choice(subject, how, reason, let.value.origin))
        return made


def _shape(let: ir.Let) -> tuple[int, int, int]:
    mma = cast(ir.Mma, let.operation)
    return _extent(mma.a, 0), _extent(mma.b, 1), _extent(mma.a, 1)


def _indivisible(let: ir.Let, shape: tuple[int, int, int], chosen: Atom, why: str) -> Diagnostic:
    nearest = "x".join(str(max(1, round(n / int(a))) * int(a)) for n, a in zip(shape, chosen.shape, strict=True))
    message = f"{chosen.name} does not divide the {'x'.join(map(str, shape))} product: {why}"
    facts = {"atom": [int(a) for a in chosen.shape], "nearest": nearest}
    return Diagnostic("mma-tile", message, let.value.origin.span, hint=f"the nearest tile is {nearest}", facts=facts)


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
    choices.append(Choice(subject, "multiply-adds of single threads", why, let.value.origin, costs=True))
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
