"""Which loads go straight to shared memory: operands of products that are plain windows of an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from kernelagent.dsl import ir
from kernelagent.dsl.device import Swizzle
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lower.device.choose_atoms import FMA, Product
from kernelagent.dsl.lower.device.place_values import extents, view_axis
from kernelagent.dsl.lower.rewrite import statement_values, walk_statements

LINE_BYTES = 128
"""All banks of shared memory once."""


@dataclass(frozen=True)
class Staged:
    """A load that is copied to shared memory. The buffer's last axis is the one contiguous in memory:
    `axes[j]` is the buffer axis behind axis j of the loaded tile (rank 2, leading axes merged)."""

    load: ir.Let
    shape: tuple[int, int]  # of the buffer
    axes: tuple[int, int]


@dataclass(frozen=True)
class Operand:
    """An operand of a product as a view of a staged load."""

    staged: Staged
    axes: tuple[int, int]  # axis j of the operand is buffer axis axes[j]


def stage_loads(kernel: ir.Kernel, products: Mapping[int, Product]) -> tuple[dict[int, Operand], set[int]]:
    """Operands by value number, and the numbers of values that are never held in registers.

    Several products may read one load, but nothing else may: a load is staged for all of them or for none.
    """
    definitions = {s.value.number: s for s in walk_statements(kernel.body) if isinstance(s, ir.Let)}
    readers = _readers(kernel)
    written = {a.name for a in kernel.arrays if a.role != "In"}
    staged: dict[int, list[tuple[list[ir.Let], Operand | None]]] = {}
    for let in definitions.values():
        if not isinstance(let.operation, ir.Mma):
            continue
        for x in (let.operation.a, let.operation.b):
            chain = _chain(x, definitions, readers)
            if chain is not None:
                operand = _staged_operand(chain, products[let.value.number], written)
                staged.setdefault(chain[-1].value.number, []).append((chain, operand))
    found: dict[int, Operand] = {}
    dead: set[int] = set()
    for reads in staged.values():
        for chain, operand in reads if all(o is not None for _, o in reads) else []:
            assert operand is not None
            found[chain[0].value.number] = operand
            dead |= {link.value.number for link in chain}
    return found, dead


def _staged_operand(chain: list[ir.Let], product: Product, written: set[str]) -> Operand | None:
    load = chain[-1]
    assert isinstance(load.operation, ir.Load)
    if load.operation.view.array in written or not _same_dtype(load.value.type.dtype, product):
        return None
    return _operand(chain)


def _same_dtype(dtype: str, product: Product) -> bool:
    if product.atom == FMA:
        return bits(dtype) >= 8
    return dtype == product.operand_dtype or (dtype == "f32" and product.operand_dtype == "tf32")


def _readers(kernel: ir.Kernel) -> dict[int, list[ir.Statement]]:
    found: dict[int, list[ir.Statement]] = {}
    for statement in walk_statements(kernel.body):
        for value in statement_values(statement):
            found.setdefault(value.number, []).append(statement)
    return found


def _feeds_products(x: ir.Value, readers: Mapping[int, list[ir.Statement]]) -> bool:
    """Whether only products read a value, itself or transposed and reshaped."""
    for reader in readers.get(x.number, []):
        match reader:
            case ir.Let(_, ir.Mma()):
                pass
            case ir.Let(value, ir.Permute() | ir.Reshape()) if _feeds_products(value, readers):
                pass
            case _:
                return False
    return True


def _chain(
    x: ir.Value, definitions: Mapping[int, ir.Let], readers: Mapping[int, list[ir.Statement]]
) -> list[ir.Let] | None:
    """The operand, through transpositions and reshapes, down to a load whose void is zero."""
    links: list[ir.Let] = []
    while x.number in definitions and _feeds_products(x, readers):
        let = definitions[x.number]
        links.append(let)
        match let.operation:
            case ir.Load(fill=fill) if fill in (None, 0):
                return links
            case ir.Permute(source, _) if source.type.rank == 2:
                x = source
            case ir.Reshape(source):
                x = source
            case _:
                return None
    return None


def _operand(chain: list[ir.Let]) -> Operand | None:
    """Follow the axes from the load to the operand; None where a reshape mixes the contiguous axis."""
    load = chain[-1]
    assert isinstance(load.operation, ir.Load)
    shape = extents(load.value)
    memory = view_axis(load.operation.view)
    flat = _flat(shape)
    if flat is None or (memory != len(shape) - 1 and len(shape) != 2):
        return None
    order = (0, 1)
    for link in reversed(chain[:-1]):
        if isinstance(link.operation, ir.Permute):
            order = (order[1], order[0]) if link.operation.axes == (1, 0) else order
        elif _flat(extents(link.value)) != (flat[order[0]], flat[order[1]]):
            return None
    turned = len(shape) == 2 and memory == 0
    axes = (1, 0) if turned else (0, 1)
    buffer = (flat[axes[0]], flat[axes[1]])
    staged = Staged(load, buffer, axes)
    return Operand(staged, (axes[order[0]], axes[order[1]]))


def _flat(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rank 2 with the leading axes merged; unit axes behind the last long one do not count."""
    if len(shape) < 2:
        return None
    return prod(shape[:-1]), shape[-1]


def swizzle_for(columns: int, dtype: str) -> Swizzle | None:
    """Rows of a power of two of at least 32 bytes: 16-byte pieces are exchanged so that eight rows of one column
    lie in different banks (128-, 64- and 32-byte patterns). None: pad instead."""
    piece = 128 // bits(dtype)
    line = LINE_BYTES * 8 // bits(dtype)
    if columns & (columns - 1) or columns < 2 * piece:
        return None
    base = piece.bit_length() - 1
    if columns >= line:
        return Swizzle(3, base, columns.bit_length() - 1 - base)
    return Swizzle((columns // piece).bit_length() - 1, base, 3)


def pad_for(columns: int, dtype: str) -> int:
    """Elements behind each row of an unswizzled buffer: an odd number of 16-byte pieces from row to row puts the
    pieces of eight rows into different banks."""
    piece = 128 // bits(dtype)
    whole, rest = divmod(columns, piece)
    return piece if rest or whole % 2 == 0 else 0
