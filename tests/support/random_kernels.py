"""Random small kernels for the property "every target means what the interpreter means".

All numbers are small integers, in whatever dtype: sums come out the same in any order, so results compare exactly
and no comparison or argmax may flip. `@inline def keep` bounds every result.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl.dtypes import numpy_dtype
from numpy.typing import NDArray

Array = NDArray[Any]

HEAD = """edition(1)

@inline
def keep(x):
    return minimum(maximum(x, -8.0), 8.0)

@kernel
def f({parameters}):
"""


@dataclass(frozen=True)
class Program:
    text: str
    arrays: dict[str, Array]
    scalars: dict[str, float | int] = field(default_factory=dict)


@dataclass
class Writer:
    """A kernel under construction: its random choices, parameters, lines and arrays."""

    random: random.Random
    parameters: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    scalars: dict[str, float | int] = field(default_factory=dict)
    names: int = 0
    aligned: bool = False  # sizes and layouts of the most demanding shape class

    def put(self, line: str, depth: int = 2) -> None:
        self.lines.append("    " * depth + line)

    def fresh(self, stem: str = "v") -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def array(self, name: str, role: str, dtype: str, dims: str, shape: tuple[int, ...], low: int = -4, high: int = 5) -> None:
        """A parameter and its data: small integers, laid out in one of several ways."""
        self.parameters.append(f"{name}: {role}[{dtype}, {dims}]")
        numbers = np.random.default_rng(self.random.getrandbits(32)).integers(low, high, shape)
        self.arrays[name] = laid_out(self, numbers.astype(numpy_dtype(dtype)))

    def program(self) -> Program:
        text = HEAD.format(parameters=", ".join(self.parameters)) + "\n".join(self.lines) + "\n"
        return Program(text, self.arrays, self.scalars)


def laid_out(w: Writer, data: Array) -> Array:
    """The same elements contiguous, with padded rows, with a last stride of 2, or with axes stored in reverse."""
    how = "dense" if w.aligned else w.pick("dense", "dense", "padded", "strided", "reversed")
    if not data.ndim or how == "dense":
        return data
    if how == "reversed":
        return np.ascontiguousarray(data.T).T
    *outer, last = data.shape
    room = np.zeros((*outer, 2 * last + 16), data.dtype)
    part = room[..., : 2 * last : 2] if how == "strided" else room[..., :last]
    part[...] = data
    return part


def dim(w: Writer, tile: int) -> int:
    """A size near a few tiles: whole, ragged, tiny or (rarely) zero."""
    size = w.pick(tile, 2 * tile, tile + 1, 2 * tile - 1, tile + 8, tile + tile // 2, 1, max(1, tile - 3), w.pick(0, 3))
    return -(-size // 16) * 16 if w.aligned else int(size)


# Elementwise, reductions, prefixes, moves --------------------------------------------------------------

EXTENTS = {
    1: [(1,), (5,), (32,), (48,), (128,), (300,), (512,), (1024,)],
    2: [(1, 64), (4, 32), (8, 8), (3, 40), (16, 64), (32, 16), (5, 7), (1, 1000), (64, 1), (64, 24), (8, 256), (2, 512)],
    3: [(1, 4, 16), (2, 8, 8), (3, 5, 4), (4, 1, 32), (8, 16, 2), (2, 3, 64)],
}  # fmt: skip
AXES = "ijk"
DIMS = "MNK"
REDUCE = ["sum", "max", "min"]


@dataclass
class Tiles:
    """Values of one tile shape that can be combined."""

    w: Writer
    shape: tuple[int, ...]
    at: str
    depth: int = 2
    held: list[str] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def any(self) -> str:
        return str(self.w.random.choice(self.held))

    def make(self, expression: str) -> str:
        name = self.w.fresh()
        self.w.put(f"{name} = {expression}", self.depth)
        self.held.append(name)
        return name

    def expand(self, name: str, axis: int) -> str:
        """A value without `axis` as one that stretches along it; rank 0 needs nothing."""
        if self.rank == 1:
            return name
        return f"{name}[{', '.join('None' if k == axis else ':' for k in range(self.rank))}]"


def binary(t: Tiles) -> None:
    word = t.w.pick("{} + {}", "{} - {}", "{} * {}", "maximum({}, {})", "minimum({}, {})")
    t.make(f"keep({word.format(t.any(), t.any())})")


def unary(t: Tiles) -> None:
    t.make(t.w.pick("abs({})", "-{}", "floor({} * 0.5)", "round({} / 2.0)").format(t.any()))


def choose(t: Tiles) -> None:
    t.make(f"where({t.any()} {t.w.pick('<', '>=', '==')} {t.any()}, {t.any()}, {t.w.pick('1.0', t.any())})")


def reduce_back(t: Tiles) -> None:
    axis = t.w.random.randrange(t.rank)
    word = t.w.pick(*REDUCE)
    part = t.w.fresh("r")
    t.w.put(f"{part} = keep({word}({t.any()}, axis={axis}))", t.depth)
    t.make(f"keep({t.any()} + {t.expand(part, axis)})")


def whole_reduction(t: Tiles) -> None:
    t.make(f"keep({t.any()} - keep({t.w.pick(*REDUCE)}({t.any()})))")


def arg_back(t: Tiles) -> None:
    axis = t.w.random.randrange(t.rank)
    part = t.w.fresh("a")
    t.w.put(f"{part} = cast({t.w.pick('argmax', 'argmin')}({t.any()}, axis={axis}) % 7, f32)", t.depth)
    t.make(f"keep({t.any()} + {t.expand(part, axis)})")


def scanned(t: Tiles) -> None:
    axis = t.w.random.randrange(t.rank)
    t.make(f"keep(scan({t.any()}, axis={axis}, op={t.w.pick('sum', 'max', 'min')}))")


def turned(t: Tiles) -> None:
    """There and back, with something that looks along an axis between."""
    if t.rank == 1:
        return
    axes = t.w.random.sample(range(t.rank), t.rank)
    back = [axes.index(k) for k in range(t.rank)]
    part, axis = t.w.fresh("p"), t.w.random.randrange(t.rank)
    t.w.put(f"{part} = permute({t.any()}, ({', '.join(map(str, axes))}))", t.depth)
    t.w.put(f"{part}s = keep(scan({part}, axis={axis}, op=sum))", t.depth)
    t.make(f"permute({part}{t.w.pick('', 's')}, ({', '.join(map(str, back))}))")


def reshaped(t: Tiles) -> None:
    """Through another row-major shape; a reshaped tile must be live."""
    count = prod(t.shape)
    parts = [d for d in (2, 4, 8, 3, 16) if count % d == 0 and d < count]
    shape = t.w.pick((count,), (count, 1)) if not parts or t.w.chance(0.3) else (count // t.w.pick(*parts),)
    shape = shape if prod(shape) == count else (shape[0], count // shape[0])
    part = t.w.fresh("q")
    t.w.put(f"{part} = reshape(fill({t.any()}, {t.w.pick('0.0', '2.0')}), {_tuple(shape)})", t.depth)
    if t.w.chance(0.5):
        axis = t.w.random.randrange(len(shape))
        t.w.put(f"{part} = keep(scan({part}, axis={axis}, op={t.w.pick('sum', 'max')}))", t.depth)
    t.make(f"reshape({part}, {_tuple(t.shape)})")


def stacked(t: Tiles) -> None:
    parts = [t.any() for _ in range(t.w.pick(2, 2, 4))]
    name = t.w.fresh("s")
    t.w.put(f"{name} = stack({', '.join(parts)})", t.depth)
    if t.w.chance(0.5):
        t.make(f"keep(sum({name}, axis={t.rank}))")
    else:
        t.make(f"{name}[{', '.join([':'] * t.rank)}, {t.w.random.randrange(len(parts))}]")


def narrowed(t: Tiles) -> None:
    dtype = t.w.pick("bf16", "f16", "i32", "i8", "f8e4m3")
    inner = f"cast({t.any()}, {dtype})"
    if dtype == "i32":
        inner = f"({inner} {t.w.pick('// 3', '% 5', '* 3', '& 6')}) % 9"
    t.make(f"cast({inner}, f32)")


def positions(t: Tiles) -> None:
    axis = t.w.random.randrange(t.rank)
    part = t.w.fresh("c")
    t.w.put(f"{part} = cast(coords({AXES[axis]}, {t.shape[axis]}) % 5, f32)", t.depth)
    others = [k for k in range(t.rank) if k != axis]
    index = ", ".join("None" if k in others else ":" for k in range(t.rank))
    t.make(f"keep({t.any()} + {part}[{index}])" if others else f"keep({t.any()} + {part})")


def filled(t: Tiles) -> None:
    t.make(f"fill({t.any()}, {t.w.pick('0.0', '3.0', '-2.0')})")


def loop(t: Tiles) -> None:
    """A carried value (sometimes two that change places) over a counted loop, sometimes of no iterations."""
    a, b = t.w.fresh("x"), t.w.fresh("y")
    first = t.any()
    t.w.put(f"{a}, {b} = {first}, keep({first} * 2.0)", t.depth)
    t.w.put(f"for {a}t in {t.w.pick('range', 'pipeline')}(0, {t.w.pick(0, 1, 3, 'M')}, 1):", t.depth)
    inner = Tiles(t.w, t.shape, t.at, t.depth + 1, [a, b])
    inner.w.put(f"{a}, {b} = {b}, keep({a} + {b})", inner.depth) if t.w.chance(0.5) else inner.w.put(
        f"{a} = keep({a} - {b})", inner.depth
    )
    t.held += [a, b]


def branch(t: Tiles) -> None:
    """An if on sizes or on data, whose arms bind one name."""
    name = t.w.fresh("b")
    first, second = t.any(), t.any()
    condition = t.w.pick("i < 3", "M % 2 == 0", f"sum({t.any()}) > 0.0", f"max({t.any()}) >= 4.0")
    t.w.put(f"if {condition}:", t.depth)
    t.w.put(f"{name} = keep({first} + {second} * 1.0)", t.depth + 1)
    t.w.put("else:", t.depth)
    t.w.put(f"{name} = keep({first} - {second} * 1.0)", t.depth + 1)
    t.held.append(name)


STEPS: list[Callable[[Tiles], None]] = [
    binary, binary, unary, choose, reduce_back, reduce_back, whole_reduction, arg_back, scanned, turned, reshaped,
    stacked, narrowed, positions, filled, loop, branch,
]  # fmt: skip


def elementwise(seed: int) -> Program:
    """Loads of one tile shape, a few operations, stores plain and transposed."""
    w = Writer(random.Random(seed))
    w.aligned = w.chance(0.4)
    rank = w.pick(1, 2, 2, 2, 3)
    shape = w.pick(*EXTENTS[rank])
    sizes = tuple(dim(w, extent) for extent in shape)
    policy(w)
    t = Tiles(w, shape, _tuple(AXES[:rank]))
    w.put(f"for {', '.join(AXES[:rank])} in tiles({_tuple(DIMS[:rank])}, {_tuple(shape)}):", 1)
    for name in "ab"[: w.pick(1, 2)]:
        source(t, name, sizes)
    if w.chance(0.4):
        line(t, sizes)
    for _ in range(w.pick(1, 2, 3, 4)):
        w.pick(*STEPS)(t)
    for number in range(w.pick(1, 1, 2)):
        target(t, f"o{number}", sizes)
    return w.program()


def policy(w: Writer) -> None:
    words = {"stages": w.pick(1, 2, 3, 4), "persistent": True, "raster": w.pick('"column"', '"grouped"', '"row"')}
    chosen = [f"{word}={value}" for word, value in words.items() if w.chance(0.3)]
    if chosen:
        w.put(f"on(sm_80, {', '.join(chosen)})", 1)


def source(t: Tiles, name: str, sizes: tuple[int, ...]) -> None:
    """An input of the grid's dims, stored in some order of axes and some dtype, loaded whole or with a shift."""
    w, rank = t.w, t.rank
    dtype = w.pick("f32", "f32", "bf16", "f16", "i32", "i8")
    order = w.random.sample(range(rank), rank) if w.chance(0.4) else list(range(rank))
    w.array(name, "In", dtype, ", ".join(DIMS[k] for k in order), tuple(sizes[k] for k in order))
    back = [order.index(k) for k in range(rank)]
    view = name if order == list(range(rank)) else f"permute({name}, {_tuple(map(str, back))})"
    fill = w.pick("", ", fill=0", ", fill=1")
    start = [AXES[k] + (w.pick("", " + 1", " - 2", " + 16") if fill else "") for k in range(rank)]
    text = f"load({view}, {_tuple(start)}, {_tuple(t.shape)}{fill})"
    t.make(f"cast({text}, f32)" if dtype != "f32" else text)


def line(t: Tiles, sizes: tuple[int, ...]) -> None:
    """A vector along one axis, broadcast over the tile; sometimes gathered by an index array."""
    w = t.w
    axis = w.random.randrange(t.rank)
    index = ", ".join(":" if k == axis else "None" for k in range(t.rank))
    suffix = f"[{index}]" if t.rank > 1 else ""
    if w.chance(0.5):
        w.array("v", "In", "f32", DIMS[axis], (sizes[axis],))
        t.make(f"keep({t.any()} + load(v, ({AXES[axis]},), ({t.shape[axis]},)){suffix})")
        return
    w.array("table", "In", "f32", "P", (7,))
    w.array("at", "In", "i32", DIMS[axis], (sizes[axis],), 0, 7)
    w.lines.insert(0, "    assume(0 <= at < P)")
    part = w.fresh("g")
    w.put(f"{part} = load(at, ({AXES[axis]},), ({t.shape[axis]},))", t.depth)
    t.make(f"keep({t.any()} + gather(table, ({part},), ({t.shape[axis]},)){suffix})")


def target(t: Tiles, name: str, sizes: tuple[int, ...]) -> None:
    w, rank = t.w, t.rank
    order = w.random.sample(range(rank), rank) if w.chance(0.3) else list(range(rank))
    dtype = w.pick("f32", "f32", "bf16", "f16", "i32")
    w.array(name, "Out", dtype, ", ".join(DIMS[k] for k in order), tuple(sizes[k] for k in order))
    value = t.held[-1] if w.chance(0.8) else t.any()
    if dtype != "f32":
        value = f"cast({value}, {dtype})"
    if order != list(range(rank)):
        value = f"permute({value}, {_tuple(map(str, order))})"
    w.put(f"store({name}, {_tuple(AXES[k] for k in order)}, {value})", t.depth)


def _tuple(items: Any) -> str:
    parts = [str(item) for item in items]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


# Products --------------------------------------------------------------------------------------------

PRODUCT_TILES = [
    (16, 8, 16), (32, 32, 32), (64, 64, 32), (128, 64, 16), (16, 64, 64), (48, 24, 48), (64, 32, 96), (17, 9, 5),
    (8, 8, 8), (1, 64, 32), (64, 1, 32), (32, 16, 24), (128, 128, 32), (64, 64, 8), (96, 80, 16), (64, 48, 40),
]  # fmt: skip
OPERANDS = ["bf16", "f16", "f32", "tf32", "i8", "u8", "f8e4m3", "f64"]
INTEGERS = ("i8", "u8")


def whole_atoms(tile: tuple[int, int, int]) -> bool:
    """Integer products have no detour: four warps share the tile in whole m16n8k32 pieces."""
    m, n, k = tile
    return m % 16 == 0 and n % 8 == 0 and k % 32 == 0 and (m // 16) * (n // 8) % 4 == 0


def product(seed: int) -> Program:
    """A gemm with operands stored, transposed, computed or batched in any way, some loop over k, some epilogue."""
    w = Writer(random.Random(seed))
    w.aligned = w.chance(0.5)
    dtype = w.pick(*OPERANDS, *OPERANDS[:2])
    tile = w.pick(*(t for t in PRODUCT_TILES if dtype not in INTEGERS or whole_atoms(t)))
    m, n, k = (dim(w, extent) for extent in tile)
    precision = ", precision=tf32" if dtype == "tf32" else ""
    dtype = "f32" if dtype == "tf32" else dtype
    policy(w)
    batch = w.pick(0, 0, 0, 2)
    w.put(f"for {'h, ' * bool(batch)}i, j in tiles(({'H, ' * bool(batch)}M, N), ({'1, ' * bool(batch)}{tile[0]}, {tile[1]})):", 1)
    acc = "i32" if dtype in INTEGERS else "f64" if dtype == "f64" else "f32"
    carry = w.pick("acc", "acc", "acc", "scaled", "none")
    start = w.pick("zeros(({0}, {1}), {2})", "full(({0}, {1}), 2, {2})").format(tile[0], tile[1], acc)
    w.put(f"acc = {start}")
    loop, k_at, k_size = k_loop(w, tile[2], k)
    w.put(loop)
    a = operand(w, "a", dtype, "M", "K", (m, k), ("i", k_at), (tile[0], tile[2]), batch)
    b = operand(w, "b", dtype, "K", "N", (k, n), (k_at, "j"), (tile[2], tile[1]), batch)
    made = f"mma({a}, {b}{precision})"
    half = "acc // 2" if acc == "i32" else "acc * 0.5"
    w.put({"acc": f"acc += {made}", "scaled": f"acc = {half} + {made}", "none": f"acc = {made} + {made}"}[carry], 3)
    epilogue(w, tile, (m, n), acc, batch)
    return w.program()


def k_loop(w: Writer, step: int, k: int) -> tuple[str, str, int]:
    """The head of the loop over k, and where a tile starts along k."""
    match w.random.randrange(5):
        case 0:
            return f"for k in range(0, K, {step}):", "k", k
        case 1:
            return f"for t, k in pipeline((0, 0), (2, K), (1, {step})):", "k", k
        case 2:
            w.parameters.append("n: i32")
            w.scalars["n"] = w.pick(0, 1, k)
            return f"for k in pipeline(0, minimum(n, K), {step}):", "k", k
        case 3:
            return f"for k in pipeline({step}, K, {step}):", "k", k
        case _:
            return f"for k in pipeline(0, K, {step}):", "k", k


def operand(
    w: Writer, name: str, dtype: str, row: str, column: str, sizes: tuple[int, int], at: tuple[str, str],
    tile: tuple[int, int], batch: int,
) -> str:  # fmt: skip
    """A (row, column) tile of an array that is stored as it is or transposed; sometimes computed from it."""
    turned = w.chance(0.5)
    dims = f"{column}, {row}" if turned else f"{row}, {column}"
    shape = sizes[::-1] if turned else sizes
    low, high = (0, 4) if dtype == "u8" else (-3, 4)
    lead, leads = ("H, ", (batch,)) if batch else ("", ())
    w.array(name, "In", dtype, lead + dims, (*leads, *shape), low, high)
    source = f"{name}[h]" if batch else name
    if turned and w.chance(0.5):
        text = f"load({source}.T, {_tuple(at)}, {_tuple(tile)})"
    elif turned:
        text = f"load({source}, {_tuple(at[::-1])}, {_tuple(tile[::-1])}).T"
    else:
        text = f"load({source}, {_tuple(at)}, {_tuple(tile)}{w.pick('', '', ', fill=0')})"
    if w.chance(0.25):
        wide = f"cast(minimum(cast({text}, f32), 2.0) + 1.0, {dtype})"
        text = f"({text} | 1)" if dtype in INTEGERS else f"({text} + 1.0)" if dtype == "f64" else wide
    return text


def epilogue(w: Writer, tile: tuple[int, int, int], sizes: tuple[int, int], acc: str, batch: int) -> None:
    value = "acc"
    if acc == "f32" and w.chance(0.5):
        w.put("low = minimum(maximum(acc, -100.0), 100.0)")
        value = w.pick(
            "low", "keep(low) + max(keep(low), axis=1)[:, None]", "keep(low) - sum(keep(low), axis=0)[None, :]",
            "keep(scan(keep(low), axis=1, op=sum))", "where(coords(i, {0})[:, None] > coords(j, {1})[None, :], low, 1.0)",
        ).format(tile[0], tile[1])  # fmt: skip
    if acc == "f32" and w.chance(0.4):
        w.array("bias", "In", "f32", "N", (sizes[1],))
        value = f"({value}) + load(bias, (j,), ({tile[1]},))[None, :]"
    dtype = w.pick(acc, acc, "bf16") if acc == "f32" else acc
    if dtype == "bf16":
        value = f"cast(minimum(maximum({value}, -128.0), 128.0), bf16)"
    lead, leads = ("H, ", (batch,)) if batch else ("", ())
    if w.chance(0.25):
        w.array("o", "Out", dtype, lead + "N, M", (*leads, sizes[1], sizes[0]))
        w.put(f"store(o{'[h]' * bool(batch)}, (j, i), permute({value}, (1, 0)))")
        return
    w.array("o", "Out", dtype, lead + "M, N", (*leads, *sizes))
    w.put(f"store(o{'[h]' * bool(batch)}, (i, j), {value})")


FAMILIES: dict[str, Callable[[int], Program]] = {"elementwise": elementwise, "product": product}
