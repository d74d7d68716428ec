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

    def array(
        self, name: str, role: str, dtype: str, dims: str, shape: tuple[int, ...], low: int = -4, high: int = 5
    ) -> None:
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
    2: [(1, 64), (4, 32), (8, 8), (3, 40), (16, 64), (32, 16), (5, 7), (1, 1000), (64, 1), (64, 24), (8, 256)],
    3: [(1, 4, 16), (2, 8, 8), (3, 5, 4), (4, 1, 32), (8, 16, 2), (2, 3, 64), (4, 3, 32), (12, 2, 16)],
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
    t.w.put(f"{part} = reshape(fill({t.any()}, {t.w.pick('0.0', '2.0')}), {tuple_text(shape)})", t.depth)
    if t.w.chance(0.5):
        axis = t.w.random.randrange(len(shape))
        t.w.put(f"{part} = keep(scan({part}, axis={axis}, op={t.w.pick('sum', 'max')}))", t.depth)
    t.make(f"reshape({part}, {tuple_text(t.shape)})")


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
    t = Tiles(w, shape, tuple_text(AXES[:rank]))
    w.put(f"for {', '.join(AXES[:rank])} in tiles({tuple_text(DIMS[:rank])}, {tuple_text(shape)}):", 1)
    for name in "ab"[: w.pick(1, 2)]:
        source(t, name, sizes)
    if w.chance(0.4):
        line(t, sizes)
    for _ in range(w.pick(1, 2, 3, 4)):
        w.pick(*STEPS)(t)
    for number in range(w.pick(1, 1, 2)):
        target(t, f"o{number}", sizes)
    return w.program()


def policy(w: Writer, *warps: int) -> None:
    """Wishes of the author for every GPU; more warps than a product has pieces are refused."""
    words = {
        "stages": w.pick(1, 2, 3, 4), "warps": w.pick(*(warps or (1, 2, 8, 16, 32))), "persistent": True,
        "raster": w.pick('"column"', '"grouped"', '"row"'),
    }  # fmt: skip
    chosen = [f"{word}={value}" for word, value in words.items() if w.chance(0.3)]
    if chosen:
        w.put(f"on(cuda, {', '.join(chosen)})", 1)


def source(t: Tiles, name: str, sizes: tuple[int, ...]) -> None:
    """An input of the grid's dims, stored in some order of axes and some dtype, loaded whole or with a shift."""
    w, rank = t.w, t.rank
    dtype = w.pick("f32", "f32", "bf16", "f16", "i32", "i8")
    order = w.random.sample(range(rank), rank) if w.chance(0.4) else list(range(rank))
    w.array(name, "In", dtype, ", ".join(DIMS[k] for k in order), tuple(sizes[k] for k in order))
    back = [order.index(k) for k in range(rank)]
    view = name if order == list(range(rank)) else f"permute({name}, {tuple_text(map(str, back))})"
    fill = w.pick("", ", fill=0", ", fill=1")
    start = [AXES[k] + (w.pick("", " + 1", " - 2", " + 16") if fill else "") for k in range(rank)]
    text = f"load({view}, {tuple_text(start)}, {tuple_text(t.shape)}{fill})"
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
        value = f"permute({value}, {tuple_text(map(str, order))})"
    w.put(f"store({name}, {tuple_text(AXES[k] for k in order)}, {value})", t.depth)


def tuple_text(items: Any) -> str:
    parts = [str(item) for item in items]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
