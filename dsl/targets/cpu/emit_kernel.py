"""A schedule as a C translation unit: parameters, the parallel grid, loops, branches and atom calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.dtypes import identity
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.lower.defer_store import earlier
from kernelagent.dsl.lower.multiply import buffer_offset
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets.cpu.ctypes_of import BYTES, COMPUTED, STORED, literal
from kernelagent.dsl.targets.cpu.emit_element import Chunk, Elements, Lines, dim_name, store_scalar
from kernelagent.dsl.targets.cpu.emit_index import array_name, condition_text, index_text, stride_name, symbol_name
from kernelagent.dsl.targets.cpu.emit_nest import emit_nest, streams_name
from kernelagent.dsl.targets.cpu.place_arena import PAGE, arena_shift
from kernelagent.dsl.targets.cpu.words import COMBINE, scalar_word

STREAM_BYTES = 4 << 20
"""Outputs of at least this size go around the caches: they would push their own inputs out of L2 and come back late."""

HEADERS = ("vector.h", "elementary.h", "convert.h", "reduce.h", "support.h", "pool.h")


@dataclass(frozen=True)
class Slot:
    """One 8-byte parameter: a pointer, a dim, a stride in elements, or the bits of a scalar."""

    kind: str
    name: str
    axis: int = 0


def slots(kernel: ir.Kernel) -> tuple[Slot, ...]:
    """The parameter block of a kernel, in order."""
    pointers = [Slot("pointer", a.name) for a in kernel.arrays]
    dims = [Slot("dim", d) for d in kernel.dims]
    strides = [Slot("stride", a.name, k) for a in kernel.arrays for k in range(len(a.dims))]
    scalars = [Slot("scalar", s.name) for s in kernel.scalars if s.dtype != "const"]
    return (*pointers, *dims, *strides, *scalars)


@dataclass(frozen=True)
class Unit:
    """A lowered kernel with what the emitter needs of its signature. `name` prefixes its C functions."""

    name: str
    kernel: ir.Kernel
    schedule: sch.Schedule
    unit_stride: bool
    lanes: int
    raster: str = "row"

    @property
    def arena_bytes(self) -> int:
        return sum(_bytes(b) for b in self.schedule.buffers if b.space != "register")


def emit_source(units: Sequence[Unit], tile_rows: int) -> str:
    """The translation unit: one entry `ka_run(runtime, blocks, threads)` that runs the kernels in order."""
    uses_mma = any(u.schedule.atoms for u in units)
    transposes = any(isinstance(n, sch.Invoke) for u in units for n in sch.walk(u.schedule.body))
    headers = [*HEADERS, *(("mma.h", "mma_half.h") if uses_mma else ("transpose.h",) if transposes else ())]
    text = [f"#define KA_MR {tile_rows}"] if uses_mma else []
    text += [f'#include "{h}"' for h in headers]
    text.append(
        "struct ka_frame { const int64_t *P; const long *outer; float **shared;"
        " const struct ka_runtime *rt; int *failed; };"
    )
    for unit in units:
        text += emit_unit(unit)
    text.append("int ka_run(const struct ka_runtime *rt, const int64_t *const *blocks, int threads) {")
    for k, unit in enumerate(units):
        text += [f"if ({unit.name}(rt, blocks[{k}], threads)) return 1;"]
    text += ["return 0;", "}"]
    return "\n".join(_indented(text)) + "\n"


def _indented(lines: Sequence[str]) -> Iterator[str]:
    depth = 0
    for line in lines:
        depth -= line.startswith("}")
        yield "  " * depth + line
        depth += line.count("{") - line.count("}") + line.startswith("}")


def emit_unit(unit: Unit) -> list[str]:
    """The functions of one kernel: the tile, the task over a range of tiles, and the call."""
    outer, grid = _grid(unit.schedule.body)
    panels = [line for shared in unit.schedule.shared for line in panels_function(unit, shared)]
    return [
        *panels,
        *_tile_function(unit, outer, grid),
        *_task_function(unit, grid),
        *_call_function(unit, outer, grid),
    ]


def _grid(body: Sequence[sch.Node]) -> tuple[list[sch.Loop], sch.Loop]:
    """The sequential loops around the parallel one."""
    outer: list[sch.Loop] = []
    loop = body[0]
    assert isinstance(loop, sch.Loop)
    while not loop.parallel:
        outer.append(loop)
        inner = loop.body[0]
        assert isinstance(inner, sch.Loop)
        loop = inner
    return outer, loop


# Functions ---------------------------------------------------------------------------------------------


def _parameters(unit: Unit) -> list[str]:
    """Names for the parameter block."""
    text: list[str] = []
    kernel = unit.kernel
    for k, slot in enumerate(slots(kernel)):
        if slot.kind == "pointer":
            array = kernel.array(slot.name)
            const = "const " if array.role == "In" else ""
            ctype = f"{const}{STORED[array.dtype]} *restrict"
            text.append(f"{ctype} const {array_name(slot.name)} = ({const}{STORED[array.dtype]} *)P[{k}];")
        elif slot.kind == "dim":
            text.append(f"const long {symbol_name(Symbol(slot.name, 'dim'))} = P[{k}];")
        elif slot.kind == "stride":
            text.append(f"const long {stride_name(slot.name, slot.axis)} = P[{k}];")
        else:
            text += _scalar(kernel, slot.name, k)
    for array in kernel.arrays:
        text += [f"const long {dim_name(array.name, k)} = {index_text(d)};" for k, d in enumerate(array.dims)]
        if array.role == "Out" and array.dtype == "f32" and array.dims:
            size = " * ".join(dim_name(array.name, k) for k in range(len(array.dims)))
            text.append(f"const int {streams_name(array.name)} = {size} * 4 >= {STREAM_BYTES};")
    return text


def _scalar(kernel: ir.Kernel, name: str, slot: int) -> list[str]:
    dtype = next(s.dtype for s in kernel.scalars if s.name == name)
    if dtype in ("f64", "f32", "f16", "bf16"):
        held = "double" if dtype == "f64" else "float"
        return [f"{held} s_{name}; __builtin_memcpy(&s_{name}, &P[{slot}], sizeof s_{name});"]
    return [
        f"const {COMPUTED[dtype]} s_{name} = ({COMPUTED[dtype]})P[{slot}];",
        f"const long {symbol_name(Symbol(name, 'param'))} = P[{slot}];",
    ]


def _tile_function(unit: Unit, outer: list[sch.Loop], grid: sch.Loop) -> list[str]:
    body = [line for node in grid.body for line in emit_node(unit, node)]
    return [
        f"static void {unit.name}_tile(const struct ka_frame *frame, long item, char *arena, int begins, int ends) {{",
        "const int64_t *restrict const P = frame->P; const long *const outer = frame->outer;",
        "(void)outer; (void)item; (void)arena; (void)begins; (void)ends;",
        *_parameters(unit),
        *_outer_variables(outer),
        *_earlier_variables(grid, unit.raster),
        *_grid_variables(grid, unit.raster),
        *arena_shift(grid.body, unit.unit_stride),
        *_buffers(unit),
        *body,
        "}",
    ]


def _outer_variables(outer: list[sch.Loop]) -> list[str]:
    variables = [v for loop in outer for v in loop.variables]
    return [f"const long {symbol_name(v)} = outer[{k}];" for k, v in enumerate(variables)]


def _grid_variables(grid: sch.Loop, raster: str, item: str = "item") -> list[str]:
    """The loop variables of one item; the last one fastest, or the first with raster "column"."""
    text: list[str] = []
    rows = list(zip(grid.variables, grid.lo, grid.hi, grid.step, strict=True))
    for variable, lo, hi, step in rows if raster == "column" else reversed(rows):
        count = f"ka_count({index_text(lo)}, {index_text(hi)}, {index_text(step)})"
        name = symbol_name(variable)
        start, stride = index_text(lo), index_text(step)
        text.append(f"const long {name} = {start} + {item} % {count} * {stride}; {item} /= {count};")
    return text


def _earlier_variables(grid: sch.Loop, raster: str) -> list[str]:
    """The loop variables of the item before, where a tile stores that one's rows."""
    if not any(isinstance(n, sch.Pipelined) for n in sch.walk(grid.body)):
        return []
    renamed = replace(grid, variables=tuple(map(earlier, grid.variables)))
    text = ["long item_before = item - !begins;", *_grid_variables(renamed, raster, "item_before")]
    return [*text, *(f"(void){symbol_name(v)};" for v in renamed.variables)]


def _buffers(unit: Unit) -> list[str]:
    text: list[str] = []
    offset = 0
    for buffer in unit.schedule.buffers:
        ctype = STORED[buffer.dtype]
        if buffer.space == "register":
            text.append(f"{ctype} {buffer.name}[1];")
            continue
        text.append(f"{ctype} *restrict const {buffer.name} = ({ctype} *)(arena + {offset});")
        offset += _bytes(buffer)
    return text


def _bytes(buffer: sch.Buffer) -> int:
    """Whole cache lines, and one more so that buffers of a power of two do not share their sets."""
    return (buffer.elements * BYTES[buffer.dtype] + 63) // 64 * 64 + 64


def _task_function(unit: Unit, grid: sch.Loop) -> list[str]:
    spare = PAGE if arena_shift(grid.body, unit.unit_stride) else 64
    return [
        f"static void {unit.name}_task(void *ctx, long begin, long end, int worker) {{",
        "const struct ka_frame *frame = ctx;",
        f"char *arena = frame->rt->arena(worker, {unit.arena_bytes + spare});",
        "if (!arena) { __atomic_store_n(frame->failed, 1, __ATOMIC_RELAXED); return; }",
        "for (long item = begin; item < end; ++item)",
        f"{unit.name}_tile(frame, item, arena, item == begin, item + 1 == end);",
        "ka_fence();",
        "}",
    ]


def _call_function(unit: Unit, outer: list[sch.Loop], grid: sch.Loop) -> list[str]:
    variables = [v for loop in outer for v in loop.variables]
    text = [
        f"static int {unit.name}(const struct ka_runtime *rt, const int64_t *P, int threads) {{",
        *_parameters(unit),
        *_zeroed(unit),
        "int failed = 0;",
    ]
    closing: list[str] = []
    for loop in outer:
        for v, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            name = symbol_name(v)
            text.append(
                f"for (long {name} = {index_text(lo)}; {name} < {index_text(hi)}; {name} += {index_text(step)}) {{"
            )
            closing.append("}")
    counts = [
        f"ka_count({index_text(a)}, {index_text(b)}, {index_text(s)})"
        for a, b, s in zip(grid.lo, grid.hi, grid.step, strict=True)
    ]
    held = ", ".join(symbol_name(v) for v in variables) or "0"
    text += [
        f"const long outer[] = {{{held}}};",
        f"float *shared[{len(unit.schedule.shared) + 1}] = {{0}};",
        "const struct ka_frame frame = {P, outer, shared, rt, &failed};",
        f"const long total = {' * '.join(counts) or '1'};",
        "const long chunk = ka_max(1, total / (16 * (threads > 0 ? threads : 1)));",
        f"const int used = total * {tile_work(grid.body)}L < {SMALL_WORK} ? 1 : threads;",
        *(line for panels in unit.schedule.shared for line in fill_panels(unit, panels)),
        f"if (total > 0) rt->parallel_for(total, chunk, {unit.name}_task, (void *)&frame, used);",
        *closing,
        "return failed;",
        "}",
    ]
    return text


SMALL_WORK = 40000
"""Vector instructions below which waking another thread costs more than it saves (about 10 microseconds)."""


def tile_work(nodes: Sequence[sch.Node]) -> int:
    """Rough vector instructions of one tile; unknown trip counts count as 8."""
    total = 0
    for node in nodes:
        match node:
            case sch.Nest(axes=axes, outputs=outputs):
                size = 1
                for axis in axes:
                    size *= axis.extent
                total += max(1, size * (2 + 4 * len(outputs)) // 16)
            case sch.Pipelined(first=first, last=last):
                total += tile_work((first, last))
            case sch.Loop(body=body):
                total += 8 * tile_work(body)
            case sch.Branch(then=then, otherwise=otherwise):
                total += max(tile_work(then), tile_work(otherwise))
            case sch.Invoke():
                total += 4096
            case _:
                total += 1024
    return total


def _zeroed(unit: Unit) -> list[str]:
    """`Acc` arrays start at zero on every call."""
    text: list[str] = []
    for array in unit.kernel.arrays:
        if array.role != "Acc":
            continue
        rank = len(array.dims)
        dims = ", ".join(dim_name(array.name, k) for k in range(rank)) or "0"
        strides = ", ".join(stride_name(array.name, k) for k in range(rank)) or "0"
        text += [
            f"{{ const int64_t dims[] = {{{dims}}}, strides[] = {{{strides}}};",
            f"ka_zero((char *){array_name(array.name)}, dims, strides, {rank}, {BYTES[array.dtype]}); }}",
        ]
    return text


# Nodes -------------------------------------------------------------------------------------------------------


def emit_node(unit: Unit, node: sch.Node) -> list[str]:
    """C statements, behind a mark of the line they come from."""
    match node:
        case sch.Nest():
            return [_mark(node.origin), *emit_nest(node, unit.lanes, unit.unit_stride)]
        case sch.Pipelined():
            return [_mark(node.origin), *emit_pipelined(unit, node)]
        case sch.Invoke():
            return [_mark(node.origin), *emit_invoke(node)]
        case sch.Loop():
            return emit_loop(unit, node)
        case sch.Branch():
            return emit_branch(unit, node)
        case sch.Scan() | sch.ArgReduce():
            return [_mark(node.origin), *emit_along(unit, node)]
        case _:
            raise Unsupported(type(node).__name__.lower())


def _mark(origin: ir.Origin) -> str:
    return f"/* line {origin.span.line} */"


def emit_pipelined(unit: Unit, node: sch.Pipelined) -> list[str]:
    """`late` is the same for all tiles of a call, so each tile is stored once."""
    store = node.last.outputs[0]
    assert isinstance(store, sch.WriteArray)
    array = array_name(store.array)
    strides = [stride_name(store.array, k) for k in range(len(store.coordinates) - 1)]
    apart = "".join(f" | {s} * 4" for s in strides)
    first, steady, last = (emit_nest(n, unit.lanes, unit.unit_stride) for n in (node.first, node.steady, node.last))
    return [
        "{",
        f"const int late = {streams_name(store.array)} && !(((long)(uintptr_t){array}{apart}) & 63);",
        "if (late && !begins)", *steady, "else", *first, "if (!late || ends)", *last,
        "}",
    ]  # fmt: skip


def emit_loop(unit: Unit, loop: sch.Loop) -> list[str]:
    text: list[str] = []
    for v, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
        x = symbol_name(v)
        text.append(
            f"for (long {x} = {index_text(lo)}, {x}_end = {index_text(hi)}; {x} < {x}_end; "
            f"{x} += {index_text(step)}) {{"
        )
    body = [line for node in loop.body for line in emit_node(unit, node)]
    return [*text, *body, *("}" for _ in loop.variables)]


def emit_branch(unit: Unit, branch: sch.Branch) -> list[str]:
    condition = branch.condition
    before: list[str] = []
    if isinstance(
        condition, sch.Constant | sch.Position | sch.Truth | sch.Parameter | sch.Read | sch.Fetch | sch.Apply
    ):
        lines = Lines([[]])
        elements = Elements(lines, {}, Chunk(None), unit.unit_stride)
        text = elements.of(condition).text
        before = [*lines.levels[0], *elements.inner]
    else:
        text = condition_text(condition)
    then = [line for node in branch.then for line in emit_node(unit, node)]
    otherwise = [line for node in branch.otherwise for line in emit_node(unit, node)]
    return ["{", *before, f"if ({text}) {{", *then, "}", "else {", *otherwise, "}", "}"]


def emit_invoke(invoke: sch.Invoke) -> list[str]:
    """Atom calls of the prelude; nothing is called on empty operands."""
    if invoke.atom.kind == "pack":
        return _pack(invoke)
    if invoke.atom.kind == "transpose":
        return _transpose(invoke)
    a, b, c = invoke.operands
    m, n, k = index_text(a.rows), index_text(b.columns), index_text(a.columns)
    beta = "1" if invoke.accumulate else "0"
    parts = [base_text(a), *([] if _is_panel(a) else [index_text(a.row)])]
    parts += [base_text(b), *([] if _is_panel(b) else [index_text(b.row)])]
    call = f"ka_{invoke.atom.name}({m}, {n}, {k}, {', '.join(parts)}, {base_text(c)}, {index_text(c.row)}, {beta});"
    if a.columns.constant or invoke.accumulate:
        return [f"if ({m} > 0 && {n} > 0 && {k} > 0) {call}"]
    row = f"{base_text(c)} + r * {index_text(c.row)}"
    clear = f"for (long r = 0; r < {m}; ++r) __builtin_memset({row}, 0, 4 * (size_t){n});"
    return [f"if ({m} > 0 && {n} > 0) {{ if ({k} > 0) {call} else {clear} }}"]


def _pack(invoke: sch.Invoke) -> list[str]:
    source, panel = invoke.operands
    suffix = "" if source.dtype == "f32" else f"_{source.dtype}"
    sizes = f"{index_text(source.rows)}, {index_text(source.columns)}"
    strides = f"{index_text(source.row)}, {index_text(source.column)}"
    call = f"ka_{invoke.atom.name}{suffix}({panel.base}, {base_text(source)}, {sizes}, {strides});"
    guarded = f"if ({index_text(source.rows)} > 0 && {index_text(source.columns)} > 0) {call}"
    if invoke.shared is None:
        return [guarded]
    held = f"frame->shared[{invoke.shared.slot}]"
    own = f"own_{panel.base}"
    return [
        f"if (!{held}) {guarded}",
        f"const float *const {own} = {held} ? {held} + {index_text(invoke.shared.offset)} : {panel.base};",
        f"const float *const {panel.base} = {own};",
    ]


def panels_function(unit: Unit, shared: sch.SharedPanels) -> list[str]:
    """The task that packs a range of shared panels."""
    source = shared.source
    target = sch.Region("panel", "f32", index(0), index(0), index(0), source.rows, source.columns)
    decode = sch.Loop(shared.variables, shared.lo, shared.hi, shared.step, (), True, ir.Origin(unit.kernel.span))
    return [
        f"static void {unit.name}_panels{shared.slot}(void *ctx, long begin, long end, int worker) {{",
        "const struct ka_frame *frame = ctx; const int64_t *restrict const P = frame->P; (void)worker;",
        *_parameters(unit),
        "for (long panel_item = begin; panel_item < end; ++panel_item) {",
        f"long item = panel_item; float *panel = frame->shared[{shared.slot}] + item * {shared.elements};",
        *_grid_variables(decode, "row"),
        *_pack(sch.Invoke(shared.atom, (source, target), ir.Origin(unit.kernel.span))),
        "}",
        "}",
    ]


def fill_panels(unit: Unit, shared: sch.SharedPanels) -> list[str]:
    """In the call: pack the shared panels if they are used more than once and are not too large."""
    rows = zip(shared.lo, shared.hi, shared.step, strict=True)
    counts = [f"ka_count({index_text(lo)}, {index_text(hi)}, {index_text(step)})" for lo, hi, step in rows]
    bytes_each = shared.elements * 4
    ready = f"used != 1 || total > 1) && panels > 0 && {index_text(shared.reuse)} > 1"
    return [
        f"{{ const long panels = {' * '.join(counts)};",
        f"if (({ready} && panels <= {shared.largest_bytes // bytes_each}) {{",
        f"shared[{shared.slot}] = rt->shared({shared.slot}, (size_t)panels * {bytes_each});",
        f"if (shared[{shared.slot}])",
        f"rt->parallel_for(panels, 1, {unit.name}_panels{shared.slot}, (void *)&frame, used);",
        "} }",
    ]


def _transpose(invoke: sch.Invoke) -> list[str]:
    source, target = invoke.operands
    rows, columns = index_text(source.rows), index_text(source.columns)
    places = f"{base_text(target)}, {index_text(target.row)}, {base_text(source)}, {index_text(source.row)}"
    stream = "0" if target.base_is_buffer else streams_name(target.base)
    return [f"if ({rows} > 0 && {columns} > 0) ka_transpose({places}, {rows}, {columns}, {stream});"]


def _is_panel(region: sch.Region) -> bool:
    return region.row.constant == 0 and region.column.constant == 0


def base_text(region: sch.Region) -> str:
    name = region.base if region.base_is_buffer else array_name(region.base)
    return name if region.offset.constant == 0 else f"{name} + {index_text(region.offset)}"


def emit_along(unit: Unit, node: sch.Scan | sch.ArgReduce) -> list[str]:
    """A scan or an arg-reduction: loops over the other axes, then a scalar loop along the axis."""
    axes = [a for k, a in enumerate(node.axes) if k != node.axis] + [node.axes[node.axis]]
    depth = {a.symbol.name: k + 1 for k, a in enumerate(axes)}
    lines = Lines([[] for _ in range(len(axes) + 1)])
    elements = Elements(lines, depth, Chunk(None), unit.unit_stride)
    value = elements.of(node.source)
    held, dtype = value.text, node.source.dtype
    along = axes[-1]
    x = symbol_name(along.symbol)
    symbols = [index(a.symbol) for a in node.axes]
    if isinstance(node, sch.Scan):
        start = [f"{COMPUTED[dtype]} total = {literal(identity(node.word, dtype), dtype)};"]
        target = f"{node.target.name}[{index_text(buffer_offset(node.target, tuple(symbols)))}]"
        combined = scalar_word(COMBINE[node.word], ["total", held], dtype, dtype)
        step = [f"total = {combined};", store_scalar(target, "total", node.target.dtype)]
        done: list[str] = []
    else:
        kept = tuple(s for k, s in enumerate(symbols) if k != node.axis)
        start = [f"int32_t best_at = -1; {COMPUTED[dtype]} best = 0;"]
        better = f"{held} {'>' if node.word == 'argmax' else '<'} best || ({held} != {held} && best == best)"
        step = [f"if (best_at < 0 || {better}) {{ best = {held}; best_at = (int32_t){x}; }}"]
        done = [f"{node.target.name}[{index_text(buffer_offset(node.target, kept))}] = best_at;"]
    inner = [*elements.inner, *step]
    text = [*lines.levels[len(axes) - 1], *start, *_for(along, inner), *done]
    for level in range(len(axes) - 1, 0, -1):
        text = [*lines.levels[level - 1], *_for(axes[level - 1], text)]
    return ["{", *text, "}"]


def _for(axis: sch.Axis, body: list[str]) -> list[str]:
    x = symbol_name(axis.symbol)
    return [f"for (long {x} = {index_text(axis.lo)}; {x} < {index_text(axis.hi)}; ++{x}) {{", *body, "}"]
