"""Which block computes which tile, in the body and, as the number of blocks to launch, on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, Symbol, cdiv
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_index import Range, symbol_name

EmitStatements = Callable[[Body, Sequence[dev.Statement]], None]


def launch_blocks(kernel: dev.DeviceKernel, dims: Mapping[str, int], resident: int) -> int:
    """Blocks to launch: one a tile, or for blocks that walk over tiles at most `resident` (those that fit on the
    device at once). 0 when there is nothing to compute; then there is nothing to launch.

    `dims` has dims and integer scalars by name. Nests whose inner grids vary take all resident blocks.
    """
    grid = kernel.grid
    if grid.inner is not None:
        return resident
    counts = [max(0, c.evaluate(dims)) for c in _counts(grid)]
    if kernel.cluster > 1:
        counts[-2] = -(-counts[-2] // kernel.cluster) * kernel.cluster
    total = prod(counts)
    return min(total, resident // kernel.cluster * kernel.cluster) if grid.persistent else total


def _counts(grid: dev.Grid) -> list[Index]:
    """Tiles along each variable, negative for empty ranges."""
    return [cdiv(hi - lo, step) for lo, hi, step in zip(grid.lo, grid.hi, grid.step, strict=True)]


def emit_grid(body: Body, grid: dev.Grid, statements: EmitStatements) -> None:
    body.out.at(grid.origin)
    if grid.inner is None and not grid.persistent:
        _emit_tile(body, grid, "ka_block()", statements)
        return
    body.out.put("int next = ka_block();")
    _emit_walk(body, grid, statements)


def _emit_walk(body: Body, grid: dev.Grid, statements: EmitStatements) -> None:
    """Blocks take tiles in turn: `next` is this block's next tile, counted from the first of the current grid."""
    out = body.out
    if grid.inner is not None:
        with ExitStack() as nest, body.scope():
            for variable, lo, hi, step in zip(grid.variables, grid.lo, grid.hi, grid.step, strict=True):
                nest.enter_context(out.block(loop_head(body, variable, lo, hi, step)))
            statements(body, grid.body)
            _emit_walk(body, grid.inner, statements)
        return
    counts = _emit_counts(body, grid)
    total = body.fresh("tiles")
    out.put(f"const int {total} = {' * '.join(counts) or '1'};")
    with out.block(f"for (; next < {total}; next += ka_blocks())"):
        _emit_tile(body, grid, "next", statements, counts)
    out.put(f"next -= {total};")


def _emit_counts(body: Body, grid: dev.Grid) -> list[str]:
    found: list[str] = []
    for count in _counts(grid):
        text = body.texts.text(count)
        held = text if body.texts.ctype(count) == "int" else f"(int){text}"
        found.append(body.const("int", "n", held if body.texts.never_negative(count) else f"ka_max({held}, 0)"))
    cluster = body.whole.cluster
    if cluster > 1:  # the blocks of a cluster differ in the row: a last row without a mate gets an empty one
        found[-2] = body.const("int", "n", f"({found[-2]} + {cluster - 1}) / {cluster} * {cluster}")
    return found


def _emit_tile(
    body: Body, grid: dev.Grid, number: str, statements: EmitStatements, counts: list[str] | None = None
) -> None:
    """The loop variables of tile `number`, then the body."""
    for variable, lo, hi, step in zip(grid.variables, grid.lo, grid.hi, grid.step, strict=True):
        body.texts.ranges[variable] = Range(lo, hi, step)
    counts = _emit_counts(body, grid) if counts is None else counts
    places = _emit_places(body, grid, counts, number)
    for variable, lo, step, place in zip(grid.variables, grid.lo, grid.step, places, strict=True):
        scaled = place if step.constant == 1 else f"{place} * {body.texts.text(step)}"
        text = scaled if lo.constant == 0 else f"{body.texts.text(lo)} + {scaled}"
        body.out.put(f"const int {symbol_name(variable)} = {text};")
    with body.scope():
        statements(body, grid.body)
    if grid.counter is not None:
        body.out.put(f"++{symbol_name(grid.counter)};")


def _emit_places(body: Body, grid: dev.Grid, counts: list[str], number: str) -> list[str]:
    """The tile's position along each variable. The raster orders the last two; variables before them are slowest."""
    if len(counts) < 2:
        return [number for _ in counts]
    tile = body.const("int", "tile", number) if number.isidentifier() else _named(body, "tile", number)
    rows, columns = counts[-2:]
    within = tile
    leading: list[str] = []
    if len(counts) > 2:
        plane = _named(body, "plane", f"{rows} * {columns}")
        within, left = _named(body, "tile", f"{tile} % {plane}"), _named(body, "outer", f"{tile} / {plane}")
        for count in reversed(counts[1:-2]):
            leading.insert(0, _named(body, "place", f"{left} % {count}"))
            left = _named(body, "outer", f"{left} / {count}")
        leading.insert(0, left)
    return [*leading, *_raster(body, grid, within, rows, columns)]


def _raster(body: Body, grid: dev.Grid, tile: str, rows: str, columns: str) -> tuple[str, str]:
    if grid.raster == "row":
        return _named(body, "place", f"{tile} / {columns}"), _named(body, "place", f"{tile} % {columns}")
    if grid.raster == "column":
        return _named(body, "place", f"{tile} % {rows}"), _named(body, "place", f"{tile} / {rows}")
    # `group` rows of tiles, column by column: neighbouring blocks share operands in L2
    width = _named(body, "width", f"{grid.group} * {columns}")
    first = _named(body, "first", f"{tile} / {width} * {grid.group}")
    high = _named(body, "high", f"ka_min({rows} - {first}, {grid.group})")
    inner = _named(body, "inner", f"{tile} % {width}")
    return _named(body, "place", f"{first} + {inner} % {high}"), _named(body, "place", f"{inner} / {high}")


def _named(body: Body, stem: str, text: str) -> str:
    name = body.fresh(stem)
    body.out.put(f"const int {name} = {text};")
    return name


def loop_head(body: Body, variable: Symbol, lo: Index, hi: Index, step: Index) -> str:
    """The `for` of a counted loop; what is known about the variable is noted. Its end is computed once."""
    body.texts.ranges[variable] = Range(lo, hi, step)
    name, texts = symbol_name(variable), body.texts
    first, end = texts.text(lo), texts.text(hi)
    if texts.wide(lo):
        first = f"(int){first}"  # positions are below 2^31 wherever the loop runs
    if "(" in end:
        end = body.const(texts.ctype(hi), "end", end)
    stride = f"++{name}" if step.constant == 1 else f"{name} += {texts.text(step)}"
    return f"for (int {name} = {first}; {name} < {end}; {stride})"
