"""Moves on the schedule of one GPU architecture: its tiles, rings, roles, clusters and the order of its grid.

They preserve the meaning because they only set policy words and tile sizes in `on(TARGET, ...)`: those choose among
schedules of the same text. `target` is the architecture whose schedule is to change; what it cannot do is a MoveError
here where the text alone shows it, and a line of the compiler's report or a diagnostic otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kernelagent.dsl.moves.policy import drop_policy, propose_kernels, set_policy, statements_for
from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import MoveError, Source, below, called, functions, loops, named, read
from kernelagent.dsl.moves.tunables import declared, policies
from kernelagent.dsl.raster import RASTERS

HOPPER = "sm_90a"
ROWS_OF_A_WARPGROUP = 64
MOST_STAGES = 16
MOST_GROUP = 64
CONSUMERS = ("cooperative", "overlapped", "pingpong")


def _kernels(text: str, kernel: str | None) -> list[ast.FunctionDef]:
    source = read(text)
    found = [f for f in named(source, kernel) if f in functions(source, "kernel")]
    if not found:
        raise MoveError("programs take no policy")
    return found


def _with_products(text: str, kernel: str | None) -> list[ast.FunctionDef]:
    """The kernels that multiply. Raises MoveError when none does."""
    found = [f for f in _kernels(text, kernel) if any(called(n, "mma") for n in below(f))]
    if not found:
        raise MoveError("the kernel has no mma")
    return found


def _require_hopper(target: str, what: str) -> None:
    if target != HOPPER:
        raise MoveError(f"{what} exist on {HOPPER} only, not on {target}")


def _grid_axes(function: ast.FunctionDef) -> int:
    """Variables of the kernel's grid; 0 without one."""
    targets = [loop.target for loop in loops(function, "tiles")]
    return max((len(t.elts) if isinstance(t, ast.Tuple) else 1 for t in targets), default=0)


# Tiles ---------------------------------------------------------------------------------------------


def product_tiles(function: ast.FunctionDef) -> dict[str, str]:
    """The tunables that are a product's tile: `rows` and `columns` of the grid, `depth` of the loop inside it.

    A grid whose last axis alone is tiled (attention's queries) has rows and no columns.
    """
    tunables = {t.name for t in declared(function) if not isinstance(t.values[0], bool)}
    found: dict[str, str] = {}
    for loop in loops(function, "tiles")[:1]:
        sizes = [n for n in _step_names(loop) if n in tunables]
        found |= dict(zip(("rows", "columns"), sizes[-2:], strict=False))
    steps = [n for loop in loops(function, "pipeline") for n in _step_names(loop) if n in tunables]
    return found | ({"depth": steps[0]} if steps and steps[0] not in found.values() else {})


def _step_names(loop: ast.For) -> list[str]:
    """Names among the tile sizes of a `tiles` or the step of a `pipeline`."""
    assert isinstance(loop.iter, ast.Call)
    return [n.id for n in below(loop.iter.args[-1]) if isinstance(n, ast.Name)] if loop.iter.args else []


def size_for(function: ast.FunctionDef, name: str, target: str) -> int:
    """A tunable's value on a target: that of its own `on`, of its family's, or the default."""
    scoped = {scope: k.value.value for scope, k in policies(function, name) if isinstance(k.value, ast.Constant)}
    default = next(t.values[0] for t in declared(function) if t.name == name)
    value = scoped.get(target, scoped.get("cuda", scoped.get(None, default)))
    return value if isinstance(value, int) else int(default)


def _propose_tiles(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for rows, columns, depth in ((128, 128, 64), (128, 256, 64), (256, 128, 64), (64, 256, 64), (128, 128, 32)):
            yield {"rows": rows, "columns": columns, "depth": depth, "kernel": function.name}


@move(_propose_tiles)
def tile_product(
    text: str,
    rows: int | None = None,
    columns: int | None = None,
    depth: int | None = None,
    target: str = HOPPER,
    kernel: str | None = None,
) -> str:
    """Give a product other tiles on one target: larger ones read fewer operand bytes for each multiplication."""
    wanted = {"rows": rows, "columns": columns, "depth": depth}
    if any(v is not None and (type(v) is not int or not 8 <= v <= 1024) for v in wanted.values()):
        raise MoveError("tiles of a product are whole numbers in 8..1024")
    before = text
    for function in _with_products(text, kernel):
        names = product_tiles(function)
        for axis, size in wanted.items():
            if size is not None and axis in names and size_for(function, names[axis], target) != size:
                text = set_policy(text, names[axis], size, target, function.name)
    if text == before:
        raise MoveError("the product has no tunable tile that this would change")
    return text


# Words of one schedule -------------------------------------------------------------------------------


@move(propose_kernels(stages=(1, 2, 3, 4, 5, 6)))
def deepen_ring(text: str, stages: int, target: str = HOPPER, kernel: str | None = None) -> str:
    """Keep this many stages of operands in shared memory: copies run that far ahead of the products."""
    if not any(loops(f, "pipeline") for f in _with_products(text, kernel)):
        raise MoveError("there is no pipeline loop")
    if type(stages) is not int or not 1 <= stages <= MOST_STAGES:
        raise MoveError(f"stages lie in 1..{MOST_STAGES}")
    return set_policy(text, "stages", stages, target, kernel)


@move(propose_kernels())
def split_roles(
    text: str, rows: int = 128, columns: int = 128, depth: int = 64, target: str = HOPPER, kernel: str | None = None
) -> str:
    """Let one warpgroup copy through tensor maps and the others multiply.

    `roles=1` goes, and a tile whose rows are no whole warpgroup's becomes the given one.
    """
    _require_hopper(target, "roles")
    before = text
    for function in _with_products(text, kernel):
        if not loops(function, "pipeline"):
            continue
        if _word(function, "roles", target) == 1:
            text = drop_policy(text, "roles", target, function.name)
        names = product_tiles(function)
        if "rows" in names and size_for(function, names["rows"], target) % ROWS_OF_A_WARPGROUP:
            text = tile_product(text, rows, columns, depth, target, function.name)
    if text == before:
        raise MoveError("the kernel takes roles already, or has no loop that brings operands")
    return text


def _word(function: ast.FunctionDef, word: str, target: str) -> object:
    """The value of a policy word in the target's own scope, None where it is not set there."""
    for statement in statements_for(function, target):
        assert isinstance(statement.value, ast.Call)
        for keyword in statement.value.keywords:
            if keyword.arg == word and isinstance(keyword.value, ast.Constant | ast.Name):
                return keyword.value.value if isinstance(keyword.value, ast.Constant) else keyword.value.id
    return None


@move(propose_kernels())
def join_roles(text: str, target: str = HOPPER, kernel: str | None = None) -> str:
    """Let all warps copy and multiply (`roles=1`): for products too small to feed warpgroups."""
    _require_hopper(target, "roles")
    _with_products(text, kernel)
    return set_policy(text, "roles", 1, target, kernel)


@move(propose_kernels(on=(True, False)))
def persistent_blocks(text: str, on: bool = True, target: str = HOPPER, kernel: str | None = None) -> str:
    """Launch as many blocks as fit and let each walk over tiles, so that stores run under the next tile's copies."""
    if not any(_grid_axes(f) for f in _kernels(text, kernel)):
        raise MoveError("the kernel has no grid")
    if type(on) is not bool:
        raise MoveError("persistent is True or False")
    return set_policy(text, "persistent", on, target, kernel)


@move(propose_kernels())
def pair_blocks(text: str, target: str = HOPPER, kernel: str | None = None) -> str:
    """Put neighbouring blocks into clusters of two that share an operand: each copies half of it to both.

    A row raster, under which neighbours share the other operand, becomes a grouped one.
    """
    _require_hopper(target, "clusters")
    for function in _with_products(text, kernel):
        if _grid_axes(function) < 2:
            raise MoveError("a cluster needs a grid of two axes or more")
        if _word(function, "raster", target) == "row":
            text = set_policy(text, "raster", "grouped", target, function.name)
    return set_policy(text, "cluster", 2, target, kernel)


@move(propose_kernels(order=("row", "column", "grouped", "hilbert", 4, 16)))
def order_tiles(text: str, order: str | int, target: str = HOPPER, kernel: str | None = None) -> str:
    """Walk the grid by rows, by columns, in groups of rows or along a Hilbert curve, for reuse in the cache.

    A number is that of the rows in a group.
    """
    group = type(order) is int and 1 <= order <= MOST_GROUP
    if order not in RASTERS and not group:
        raise MoveError(f"{order!r} is no order of tiles")
    if not any(_grid_axes(f) > 1 for f in _kernels(text, kernel)):
        raise MoveError("an order needs a grid of two axes or more")
    return set_policy(text, "raster", order, target, kernel)


@move(propose_kernels(warps=(2, 4, 8, 16)))
def set_warps(text: str, warps: int, target: str = HOPPER, kernel: str | None = None) -> str:
    """Divide a product of single warps among this many: fewer sums in each thread, or more reuse of each operand."""
    _with_products(text, kernel)
    if warps not in (1, 2, 4, 8, 16, 32) or isinstance(warps, bool):
        raise MoveError("warps are a power of two up to 32")
    return set_policy(text, "warps", warps, target, kernel)


@move(propose_kernels(factor=(2, 4)))
def unroll_device(text: str, factor: int, target: str = HOPPER, kernel: str | None = None) -> str:
    """Unroll inner loops on one target, for more independent work in flight."""
    if type(factor) is not int or not 1 <= factor <= MOST_GROUP:
        raise MoveError(f"the unroll factor lies in 1..{MOST_GROUP}")
    if not any(loops(f, "pipeline", "range") for f in _kernels(text, kernel)):
        raise MoveError("the kernel has no inner loop")
    return set_policy(text, "unroll", factor, target, kernel)


@move(propose_kernels(how=("cooperative", "overlapped", "pingpong")))
def arrange_consumers(text: str, how: str, target: str = HOPPER, kernel: str | None = None) -> str:
    """Say how consumer warpgroups share the work: one tile together, overlapping steps, or turns with own tiles.

    Turns suit short sums and heavy epilogues: one role finishes its tile while the other's products run.
    """
    _require_hopper(target, "roles")
    _with_products(text, kernel)
    if how not in CONSUMERS:
        raise MoveError(f"{how!r} is no arrangement of consumers")
    return set_policy(text, "roles", how, target, kernel)


@move(propose_kernels(steps=(1, 2, 4, 8)))
def promote_sums(text: str, steps: int, target: str = HOPPER, kernel: str | None = None) -> str:
    """Add up 8-bit products in two levels: after so many k-steps a partial sum goes to the f32 pipe.

    Precision, not speed: the tensor cores keep fewer bits than f32 while they add.
    """
    _require_hopper(target, "sums of two levels")
    _with_products(text, kernel)
    if type(steps) is not int or not 1 <= steps <= MOST_GROUP:
        raise MoveError(f"a partial sum takes 1..{MOST_GROUP} steps")
    return set_policy(text, "promote", steps, target, kernel)
