"""Which block computes which tile, in the body and, as the number of blocks to launch, on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_index import Range, symbol_name
from kernelagent.dsl.walks import counts_of, tile_counts

EmitStatements = Callable[[Body, Sequence[dev.Statement]], None]


def launch_blocks(kernel: dev.DeviceKernel, dims: Mapping[str, int], resident: int) -> int:
    """Blocks to launch: one a tile, or for blocks that walk over tiles at most `resident` (those that fit on the
    device at once, in whole clusters). 0 when there is nothing to compute; then there is nothing to launch.

    `dims` has dims and integer scalars by name. Nests whose inner grids vary take all resident blocks.
    """
    grid = kernel.grid
    if grid.inner is not None:
        return resident
    total = prod(tile_counts(grid, dims))
    whole = max(1, resident // kernel.cluster) * kernel.cluster
    return min(total, whole) if grid.persistent else total


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
    for count in counts_of(grid):
        text = body.texts.text(count)
        held = text if body.texts.ctype(count) == "int" else f"(int){text}"
        found.append(body.const("int", "n", held if body.texts.never_negative(count) else f"ka_max({held}, 0)"))
    for axis, tiles in zip((-2, -1), grid.together, strict=True):
        if tiles > 1:  # the blocks of a cluster differ along this axis: tiles without mates get empty ones
            found[axis] = body.const("int", "n", f"({found[axis]} + {tiles - 1}) / {tiles} * {tiles}")
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
    return [*leading, *_clusters(body, grid, within, rows, columns)]


def _clusters(body: Body, grid: dev.Grid, tile: str, rows: str, columns: str) -> tuple[str, str]:
    """The raster of whole clusters, and the tile within its cluster. Orders that go down columns keep neighbours of
    a cluster together by themselves."""
    (down, right), group = grid.together, grid.group
    by_columns = grid.raster == "column" or (grid.raster == "grouped" and group % down == 0)
    if grid.together == (1, 1) or (by_columns and right == 1):
        return _raster(body, grid, tile, rows, columns)
    size = down * right
    number, member = _named(body, "cluster", f"{tile} / {size}"), _named(body, "member", f"{tile} % {size}")
    rows, columns = (_divided(body, n, by) for n, by in ((rows, down), (columns, right)))
    row, column = _raster(body, replace(grid, group=max(1, group // down)), number, rows, columns)
    if down > 1:
        row = _named(body, "place", f"{row} * {down} + {member}{f' % {down}' if right > 1 else ''}")
    if right > 1:
        column = _named(body, "place", f"{column} * {right} + {member}{f' / {down}' if down > 1 else ''}")
    return row, column


def _divided(body: Body, count: str, by: int) -> str:
    return count if by == 1 else _named(body, "n", f"{count} / {by}")


def _raster(body: Body, grid: dev.Grid, tile: str, rows: str, columns: str) -> tuple[str, str]:
    if grid.raster == "hilbert":
        return _hilbert(body, tile, rows, columns)
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


def _hilbert(body: Body, tile: str, rows: str, columns: str) -> tuple[str, str]:
    """`raster.hilbert`: about as many turns as the larger count has bits, each some additions and two products."""
    names = {stem: body.fresh(stem) for stem in ("left", "row", "column", "w", "h", "ar", "ac", "br", "bc", "high")}
    out, words = body.out, {**names, "rows": rows, "columns": columns, "tile": tile}
    out.put("const bool {high} = {rows} > {columns};".format(**words))
    start = "int {left} = {tile}, {row} = 0, {column} = 0, {ar} = {high}, {ac} = !{high}, {br} = {ac}, {bc} = {ar};"
    out.put(start.format(**words))
    out.put("int {w} = {high} ? {rows} : {columns}, {h} = {high} ? {columns} : {rows};".format(**words))
    with out.block("while ({w} > 1 && {h} > 1)".format(**words)):
        for line in _TURN:
            out.put(line.format(**words))
    out.put("{row} += {left} * ({h} == 1 ? {ar} : {br});".format(**words))
    out.put("{column} += {left} * ({h} == 1 ? {ac} : {bc});".format(**words))
    return names["row"], names["column"]


_TURN = (
    "const bool wide = 2 * {w} > 3 * {h};",
    "int half = (wide ? {w} : {h}) / 2;",
    "half += half & ({h} > 2 || wide);",
    "const int near = wide ? {h} : {w} / 2, first = half * near, rest = wide ? {w} * {h} : first + {w} * ({h} - half);",
    "const bool before = {left} < first, last = {left} >= rest;",
    "{left} -= before ? 0 : last ? rest : first;",
    "const int a = before ? 0 : last ? {w} - 1 : wide ? half : 0, b = before || wide ? 0 : half - last;",
    "{row} += {ar} * a + {br} * b;",
    "{column} += {ac} * a + {bc} * b;",
    "const bool turns = !wide && (before || last);",
    "const int width = turns ? half : wide ? (before ? half : {w} - half) : {w};",
    "{h} = turns ? (last ? {w} - near : near) : wide ? {h} : {h} - half;",
    "{w} = width;",
    "const int sign = last ? -1 : 1, ar = {ar}, ac = {ac};",
    "if (turns) {{ {ar} = sign * {br}, {ac} = sign * {bc}, {br} = sign * ar, {bc} = sign * ac; }}",
)
"""One turn of the curve, without branches but the last: where the tile lies in the parts of the rectangle."""


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
        far = any(s.kind == "param" for s in lo.symbols())
        first = f"(int)ka_min({first}, 2147483647ll)" if far else f"(int){first}"  # less than 2^31 where the loop runs
    if "(" in end:
        end = body.const(texts.ctype(hi), "end", end)
    stride = f"++{name}" if step.constant == 1 else f"{name} += {texts.text(step)}"
    return f"for (int {name} = {first}; {name} < {end}; {stride})"
