"""Matrix products: operands as regions, packing where it pays, accumulation in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lower.classify import Facts, has_panels
from kernelagent.dsl.lower.express import constants

if TYPE_CHECKING:
    from kernelagent.dsl.lower.build import Builder, Frame


def stride_symbol(array: str, axis: int) -> Symbol:
    """The runtime stride, in elements, of an array axis."""
    return Symbol(f"{array}.stride{axis}", "param")


def product(builder: Builder, value: ir.Value, mma: ir.Mma) -> None:
    """value = a @ b into its own buffer."""
    if not has_panels(mma):
        plain_product(builder, value, mma)
        return
    shape = constants(value.type.shape)
    columns = builder.machine.tile_columns
    buffer = builder.new_buffer(value.name or "product", value.type.dtype, shape, value.origin, columns)
    builder.buffers[value.number] = buffer
    multiply(builder, buffer, mma, value, accumulate=False)


def accumulate(builder: Builder, value: ir.Value, other: ir.Value, product_value: ir.Value) -> None:
    """value = other + a @ b: `other` is put into the target first, then the product is added there."""
    mma = builder.facts.definition[product_value.number]
    assert isinstance(mma, ir.Mma)
    carried = builder.facts.ends.get(value.number)
    if carried is not None and _may_replace(builder, carried, value, other):
        buffer = builder.buffers[carried.inside.number]
        builder.in_place.add(value.number)
    else:
        shape, columns = constants(value.type.shape), builder.machine.tile_columns
        buffer = builder.new_buffer(value.name or "sum", value.type.dtype, shape, value.origin, columns)
    builder.write(buffer, other, value.origin)
    builder.buffers[value.number] = buffer
    multiply(builder, buffer, mma, value, accumulate=True)


def _may_replace(builder: Builder, carried: ir.Carried, value: ir.Value, other: ir.Value) -> bool:
    """Whether the carried buffer may be overwritten at `value`: nothing evaluated later reads the old one."""
    if (
        builder.facts.block.get(value.number) != builder.frames[-1].block
        or carried.inside.number not in builder.buffers
    ):
        return False
    at = builder.facts.position[value.number]
    return not reads_late(builder.facts, carried.inside.number, at) and builder.elementwise(other, carried.inside)


def reads_late(facts: Facts, number: int, at: int) -> bool:
    """Whether a nest after position `at` would read value `number`, directly or through virtual values."""
    for reader in facts.readers.get(number, []):
        if reader.value is None:
            if reader.position > at:
                return True
        elif reader.value in facts.buffered:
            if facts.position[reader.value] > at:
                return True
        elif reads_late(facts, reader.value, at):
            return True
    return False


def multiply(builder: Builder, buffer: sch.Buffer, mma: ir.Mma, value: ir.Value, accumulate: bool) -> None:
    """Pack what should be packed, then one call of the product atom."""
    m_extent, n_extent = constants(value.type.shape)
    k_extent = constants(mma.a.type.shape)[1]
    k_lo, k_hi = _common(mma.a.type.live[1], mma.b.type.live[0], k_extent)
    m_live, n_live = mma.a.type.live[0], mma.b.type.live[1]
    a = operand(builder, mma.a, ir.Live(index(0), m_live.hi), ir.Live(k_lo, k_hi), m_live.lo.constant == 0)
    b = operand(builder, mma.b, ir.Live(k_lo, k_hi), ir.Live(index(0), n_live.hi), n_live.lo.constant == 0)
    pack_a, pack_b = _wants_packing(builder, a, b, m_extent, n_extent, value)
    if pack_a:
        a = pack(builder, "a", mma.a, a, (m_extent, k_extent), value.origin)
    if pack_b:
        b = pack(builder, "b", mma.b, b, (k_extent, n_extent), value.origin)
    target = buffer_region(buffer, a.rows, b.columns)
    atom = product_atom(builder, pack_a, pack_b, m_extent)
    builder.emit(sch.Invoke(atom, (a, b, target), value.origin, accumulate))


def _common(a: ir.Live, b: ir.Live, extent: int) -> tuple[Index, Index]:
    """k positions live in both operands."""
    from kernelagent.dsl.lower.build import greater, lesser

    lo = a.lo if b.lo.constant == 0 else b.lo if a.lo.constant == 0 else greater(a.lo, b.lo)
    hi = a.hi if b.hi.constant == extent else b.hi if a.hi.constant == extent else lesser(a.hi, b.hi)
    return lo, hi


def operand(builder: Builder, value: ir.Value, rows: ir.Live, columns: ir.Live, direct: bool) -> sch.Region:
    """The operand where it lies if it is a plain view or a buffer, else computed into a buffer first."""
    found = region(builder, value, rows, columns) if direct or value.number in builder.buffers else None
    if found is None:
        frame = frame_of(builder, value)
        held, builder.frames = builder.frames, builder.frames[: builder.frames.index(frame) + 1]
        builder.compute(value)
        builder.frames = held
        found = region(builder, value, rows, columns)
    assert found is not None
    return found


def region(builder: Builder, value: ir.Value, rows: ir.Live, columns: ir.Live) -> sch.Region | None:
    """The operand as a strided rank-2 piece of an array or buffer, or None if it has to be computed."""
    r, c = builder.fresh(), builder.fresh()
    element = builder.expressions().of(value, (index(r), index(c)))
    if isinstance(element, sch.Read):
        base, address = element.buffer.name, buffer_offset(element.buffer, element.coordinates)
    elif isinstance(element, sch.Fetch) and not element.inside:
        plain = [x for x in element.coordinates if isinstance(x, Index)]
        if len(plain) != len(element.coordinates):
            return None
        base, address = element.array, array_offset(builder.unit_stride, element.array, plain)
    else:
        return None
    by_row = address.affine(r)
    by_column = by_row[1].affine(c) if by_row else None
    if by_row is None or by_column is None or c in by_row[0].symbols():
        return None
    row, column, start = by_row[0], by_column[0], by_column[1]
    offset = start + row * rows.lo + column * columns.lo
    sizes = rows.hi - rows.lo, columns.hi - columns.lo
    return sch.Region(base, value.type.dtype, offset, row, column, *sizes, isinstance(element, sch.Read))


def array_offset(unit_stride: bool, array: str, coordinates: list[Index]) -> Index:
    """Elements from the array's start; the last axis has stride 1 in the dense class."""
    total = index(0)
    for axis, coordinate in enumerate(coordinates):
        last = axis == len(coordinates) - 1
        total = total + (coordinate if last and unit_stride else coordinate * index(stride_symbol(array, axis)))
    return total


def buffer_offset(buffer: sch.Buffer, coordinates: tuple[Index, ...]) -> Index:
    total = index(0)
    for coordinate, stride in zip(coordinates, buffer.layout.stride, strict=True):
        assert isinstance(stride, int)
        total = total + coordinate * stride
    return total


def buffer_region(buffer: sch.Buffer, rows: Index, columns: Index) -> sch.Region:
    row, column = buffer.layout.stride
    assert isinstance(row, int)
    assert isinstance(column, int)
    return sch.Region(buffer.name, buffer.dtype, index(0), index(row), index(column), rows, columns)


def _wants_packing(
    builder: Builder, a: sch.Region, b: sch.Region, m: int, n: int, value: ir.Value
) -> tuple[bool, bool]:
    """Panels pay when they are read often; an operand read by one register tile stays where it is."""
    asked = builder.policy.get("layout")
    if asked in ("packed", "direct"):
        builder.choices.append(sch.Choice("mma operands", str(asked), "policy layout", value.origin))
    few_rows = m <= 2 * builder.machine.tile_rows(m)
    few_columns = n <= 2 * builder.machine.tile_columns
    free_a, free_b = _is_row_major_f32(a), _is_row_major_f32(b)
    pack_a = not free_a or (asked != "direct" and not (few_columns and asked is None))
    pack_b = not free_b or (asked != "direct" and not (few_rows and asked is None))
    return pack_a, pack_b


def _is_row_major_f32(region: sch.Region) -> bool:
    return region.dtype == "f32" and region.column.constant == 1


def pack(
    builder: Builder, role: str, value: ir.Value, source: sch.Region, shape: tuple[int, int], origin: ir.Origin
) -> sch.Region:
    """Panels of an operand, packed once in the outermost block where the operand is known."""
    frame = frame_of(builder, value) if _independent(builder, value, source) else builder.frames[-1]
    key = (value.number, role + str((source.offset, source.rows, source.columns)))
    if key not in frame.packed:
        size = builder.machine.pack_size_a if role == "a" else builder.machine.pack_size_b
        extent = size(shape[0], shape[1]) if role == "a" else size(shape[1], shape[0])
        name = f"panel_{role}_{len(builder.all_buffers)}"
        panel = sch.Buffer(name, "f32", "panel", sch.Layout((extent,), (1,)), extent, origin=origin)
        builder.all_buffers.append(panel)
        atom = sch.Atom(f"pack_{role}", "pack", (), (("source", "global"), ("panel", "panel")), (source.dtype, "f32"))
        builder.atoms[atom.name] = atom
        frame.packed[key] = panel
        target = sch.Region(panel.name, "f32", index(0), index(0), index(0), source.rows, source.columns)
        frame.nodes.append(sch.Invoke(atom, (source, target), origin))
        if frame is not builder.frames[-1]:
            builder.choices.append(sch.Choice(f"panels of {value.name}", "packed before the loop", "invariant", origin))
    panel = frame.packed[key]
    return sch.Region(panel.name, "f32", index(0), index(0), index(0), source.rows, source.columns)


def _independent(builder: Builder, value: ir.Value, source: sch.Region) -> bool:
    """Whether the region means the same in the block where the value is defined."""
    names = {s.name for part in (source.offset, source.rows, source.columns) for s in part.symbols()}
    outer = frame_of(builder, value)
    inner = builder.frames[builder.frames.index(outer) + 1 :]
    return not any(name in frame.variables for frame in inner for name in names)


def frame_of(builder: Builder, value: ir.Value) -> Frame:
    """The open statement list in which the value is defined; the current one if it is not a Let."""
    block = builder.facts.block.get(value.number)
    for frame in reversed(builder.frames):
        if frame.block == block:
            return frame
    return builder.frames[-1]


def product_atom(builder: Builder, packed_a: bool, packed_b: bool, m: int) -> sch.Atom:
    suffix = {(True, True): "", (False, True): "_a_rows", (True, False): "_b_rows", (False, False): "_rows"}
    tile = (builder.machine.tile_rows(m), builder.machine.tile_columns, 1)
    spaces = (("a", "panel" if packed_a else "global"), ("b", "panel" if packed_b else "global"), ("c", "l1"))
    atom = sch.Atom(f"mma{suffix[packed_a, packed_b]}", "mma", tile, spaces, ("f32", "f32", "f32"))
    builder.atoms[atom.name] = atom
    return atom


def plain_product(builder: Builder, value: ir.Value, mma: ir.Mma) -> None:
    """Products without a microkernel: a nest (m, k, n) that adds into the buffer."""
    k_extent = constants(mma.a.type.shape)[1]
    k_lo, k_hi = _common(mma.a.type.live[1], mma.b.type.live[0], k_extent)
    m_axis, n_axis = builder.axes(value.type)
    k_axis = sch.Axis(builder.fresh(), k_extent, k_lo, k_hi)
    m, n, k = index(m_axis.symbol), index(n_axis.symbol), index(k_axis.symbol)
    expressed = builder.expressions()
    dtype = value.type.dtype
    a = sch.Apply("cast", (expressed.of(mma.a, (m, k)),), dtype)
    b = sch.Apply("cast", (expressed.of(mma.b, (k, n)),), dtype)
    term = sch.Apply("mul", (a, b), dtype)
    output = sch.ReduceBuffer(builder.buffer_of(value), (m, n), "sum", term)
    builder.emit(sch.Nest((m_axis, k_axis, n_axis), (output,), value.origin))
