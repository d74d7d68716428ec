"""Whether a kernel takes Hopper's road: warpgroup products, operands by bulk copies, a producer and consumers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelagent.dsl import ir
from kernelagent.dsl.atoms import Atom, Detour, atom, wgmma_for
from kernelagent.dsl.atoms.shared_operand import Major
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import Distribution, tiled
from kernelagent.dsl.lower.device.choose_atoms import Product
from kernelagent.dsl.lower.device.hopper.boxes import SPAN_BYTES, Unsuited, box_axes, require_box
from kernelagent.dsl.lower.device.hopper.consumers import ROWS, WARPGROUP, alternate, no_roles
from kernelagent.dsl.lower.device.place_values import extents
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.device.stage import Operand, stage_loads
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.schedule import Choice

MOST_GROUPS = 3


@dataclass(frozen=True)
class Road:
    """What was chosen: products by value number, consumer warpgroups, operands that bulk copies bring."""

    products: Mapping[int, Product]
    groups: int
    operands: Mapping[int, Operand]
    unheld: set[int]
    turns: bool = False  # two consumers of so many warpgroups have tiles of their own


def choose_road(kernel: ir.Kernel, policy: Policy, choices: list[Choice]) -> Road:
    """Raises Unsuited."""
    lets = [s for s in walk_statements(kernel.body) if isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma)]
    if not lets:
        raise Unsuited("there are no products")
    if no_roles(policy):
        raise Unsuited("policy roles=1")
    turns = alternate(policy, kernel, choices)
    groups = _groups([extents(let.value)[0] for let in lets], 1 if turns else MOST_GROUPS)
    drafts = {let.value.number: _draft(let, groups) for let in lets}
    operands, unheld = stage_loads(kernel, drafts)
    products: dict[int, Product] = {}
    for let in lets:
        assert isinstance(let.operation, ir.Mma)
        _require_boxes(let.operation, operands, kernel)
        products[let.value.number] = _product(let, let.operation, operands, groups, choices)
    return Road(products, groups, operands, unheld, turns)


def _groups(rows: list[int], most: int) -> int:
    """Consumer warpgroups that share a tile: as many as all products' rows allow, at most 2 (3 for 192 rows)."""
    for groups in range(most, 0, -1):
        if all(r % (ROWS * groups) == 0 for r in rows) and (groups != 3 or all(r == 192 for r in rows)):
            return groups
    raise Unsuited(f"{min(rows)} rows are no multiple of {ROWS}")


def _draft(let: ir.Let, groups: int) -> Product:
    """Enough of a product to ask which loads can be staged."""
    assert isinstance(let.operation, ir.Mma)
    m, n = extents(let.value)
    k = extents(let.operation.a)[1]
    dtype = let.operation.a.type.dtype
    if dtype != let.operation.b.type.dtype:
        raise Unsuited(f"operands are {dtype} and {let.operation.b.type.dtype}")
    layout = Distribution((m, n), (), ())
    return Product("wgmma", (m, n, k), (4 * groups, 1), layout, None, dtype)


def _product(let: ir.Let, mma: ir.Mma, operands: Mapping[int, Operand], groups: int, choices: list[Choice]) -> Product:
    m, n = extents(let.value)
    k = extents(mma.a)[1]
    a_major = _major(operands.get(mma.a.number), 1)
    b_major = _major(operands.get(mma.b.number), 0)
    answer = wgmma_for(
        mma.a.type.dtype, mma.b.type.dtype, let.value.type.dtype, mma.precision, a_major, b_major, _columns(n)
    )
    if not isinstance(answer, Atom):
        raise Unsuited(answer.reason if isinstance(answer, Detour) else answer.message)
    step = int(answer.shape[2])
    if k % step:
        raise Unsuited(f"k: {k} is no multiple of {step}")
    result = tiled(_placed(answer, "d"), (m, n), (groups, 1))
    left = None
    if mma.a.number not in operands:
        left = tiled(_register_operand(answer, k), (m, k), (groups, 1))
    reason = f"{groups} consumer warpgroups of {m // groups} rows"
    choices.append(Choice(f"mma {m}x{n}x{k} {mma.a.type.dtype}", answer.name, reason, let.value.origin))
    return Product(answer.name, (m, n, k), (groups, 1), result, left, mma.a.type.dtype)


def _columns(n: int) -> int:
    if n % 8:
        raise Unsuited(f"{n} columns are no multiple of 8")
    count = -(-n // 256)
    if n % count or (n // count) % 8:
        raise Unsuited(f"{n} columns do not divide into equal products of at most 256")
    return n // count


def _placed(chosen: Atom, operand: str) -> Distribution:
    layout = chosen.operand(operand).layout
    assert layout is not None
    return layout


def _register_operand(chosen: Atom, k: int) -> Distribution:
    """Where a left operand must lie to come from registers: the accumulator's places, over (64, k)."""
    return _placed(atom(f"{chosen.name}_ra"), "a")


def _major(operand: Operand | None, k_axis: int) -> Major:
    """Which axis of a staged operand is contiguous in shared memory: "K" or "MN"."""
    if operand is None:
        return "K"
    return "K" if operand.axes[k_axis] == 1 else "MN"


# Boxes -------------------------------------------------------------------------------------------------


def _require_boxes(mma: ir.Mma, operands: Mapping[int, Operand], kernel: ir.Kernel) -> None:
    if not {mma.a.number, mma.b.number} & set(operands):
        raise Unsuited("both operands are computed")
    for x, k_axis in ((mma.a, 1), (mma.b, 0)):
        operand = operands.get(x.number)
        if operand is None:
            if k_axis == 0 and bits(x.type.dtype) != 16:
                raise Unsuited("the right operand is computed, and its k may not lie along rows")
            continue
        require_box(operand.staged, operand, k_axis, kernel)


__all__ = ["ROWS", "SPAN_BYTES", "WARPGROUP", "Road", "Unsuited", "box_axes", "choose_road"]
