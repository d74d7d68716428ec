"""Random kernels with products, chains of them, and places that are data; and the table of all families."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from support.random_kernels import Program, Writer, dim, elementwise, policy, tuple_text

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
    policy(w, 1, 2, 8)
    batch = w.pick(0, 0, 0, 2)
    axes, extents, lead = ("h, i, j", "H, M, N", "1, ") if batch else ("i, j", "M, N", "")
    w.put(f"for {axes} in tiles(({extents}), ({lead}{tile[0]}, {tile[1]})):", 1)
    acc = "i32" if dtype in INTEGERS else "f64" if dtype == "f64" else "f32"
    carry = w.pick("acc", "acc", "acc", "scaled", "none")
    start = w.pick("zeros(({0}, {1}), {2})", "full(({0}, {1}), 2, {2})").format(tile[0], tile[1], acc)
    w.put(f"acc = {start}")
    w.put(k_loop(w, tile[2], k))
    a = operand(w, "a", dtype, "M", "K", (m, k), ("i", "k"), (tile[0], tile[2]), batch)
    b = operand(w, "b", dtype, "K", "N", (k, n), ("k", "j"), (tile[2], tile[1]), batch)
    made = f"mma({a}, {b}{precision})"
    half = "acc // 2" if acc == "i32" else "acc * 0.5"
    w.put({"acc": f"acc += {made}", "scaled": f"acc = {half} + {made}", "none": f"acc = {made} + {made}"}[carry], 3)
    epilogue(w, tile, (m, n), acc, batch)
    return w.program()


def k_loop(w: Writer, step: int, k: int) -> str:
    """The head of the loop over k."""
    match w.random.randrange(5):
        case 0:
            return f"for k in range(0, K, {step}):"
        case 1:
            return f"for t, k in pipeline((0, 0), (2, K), (1, {step})):"
        case 2:
            w.parameters.append("n: i32")
            w.scalars["n"] = w.pick(0, 1, k)
            return f"for k in pipeline(0, minimum(n, K), {step}):"
        case 3:
            return f"for k in pipeline({step}, K, {step}):"
        case _:
            return f"for k in pipeline(0, K, {step}):"


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
        text = f"load({source}.T, {tuple_text(at)}, {tuple_text(tile)})"
    elif turned:
        text = f"load({source}, {tuple_text(at[::-1])}, {tuple_text(tile[::-1])}).T"
    else:
        text = f"load({source}, {tuple_text(at)}, {tuple_text(tile)}{w.pick('', '', ', fill=0')})"
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
            "keep(scan(keep(low), axis=1, op=sum))",
            "where(coords(i, {0})[:, None] > coords(j, {1})[None, :], low, 1.0)",
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


# Chains of products --------------------------------------------------------------------------------------


def chain(seed: int) -> Program:
    """Two products in one loop, as in attention: the first one's rows are reduced, or scaled, and feed the second."""
    w = Writer(random.Random(seed))
    w.aligned = w.chance(0.5)
    bm, bn, d, e = w.pick(16, 32, 64, 128), w.pick(16, 32, 64), w.pick(16, 32, 64), w.pick(8, 16, 64)
    m, n = dim(w, bm), dim(w, bn)
    dtype = w.pick("bf16", "f16", "f32")
    w.lines.append(f"    assume(D == {d}, E == {e})")
    policy(w, 1, 2, 8)
    w.array("q", "In", dtype, "M, D", (m, d), -1, 2)
    w.array("k", "In", dtype, "N, D", (n, d), -1, 2)
    w.array("v", "In", dtype, "N, E", (n, e), -1, 2)
    w.put(f"for i in tiles((M,), ({bm},)):", 1)
    where = w.pick(2, 2, 3)
    tile = f"x = load(q, (i, 0), ({bm}, {d}))"
    if where == 2:
        w.put(tile)
    carried = w.chance(0.6)
    w.put(f"acc, m = zeros(({bm}, {e}), f32), zeros(({bm},), f32)")
    w.put(f"for j in pipeline(0, {w.pick('N', 'minimum(N, i + 40)')}, {bn}):")
    if where == 3:
        w.put(tile, 3)
    w.put(
        f"s = keep(mma(x, load(k, (j, 0), ({bn}, {d})).T{w.pick('', ', precision=tf32') if dtype == 'f32' else ''}))", 3
    )
    if w.chance(0.4):
        w.put(f"s = where(coords(i, {bm})[:, None] >= coords(j, {bn})[None, :], s, {w.pick('-8.0', '0.0')})", 3)
    if carried:
        w.put(f"m = maximum(m, {w.pick('max', 'sum')}(s, axis=1))", 3)
        w.put("s = keep(s - m[:, None])", 3)
    value = "s" if dtype == "f32" else f"cast(s, {dtype})"
    scale = "acc * 0.0" if carried and w.chance(0.3) else "acc"
    w.put(f"acc = {scale} + mma({value}, load(v, (j, 0), ({bn}, {e})))", 3)
    w.array("o", "Out", "f32", "M, E", (m, e))
    w.put(f"store(o, (i, 0), {w.pick('acc', 'acc + m[:, None]', 'acc - sum(acc, axis=1)[:, None]')})")
    return w.program()


# Data-dependent places -------------------------------------------------------------------------------------


def gathered(seed: int) -> Program:
    """Rows or columns by an index array, updates in place, and sums over blocks."""
    w = Writer(random.Random(seed))
    w.aligned = w.chance(0.4)
    bm, bn = w.pick((4, 32), (16, 16), (8, 64), (32, 8), (1, 128), (64, 40))
    m, n = max(1, dim(w, bm)), max(1, dim(w, bn))
    w.lines.append("    assume(0 <= rows < P, distinct(rows))")
    policy(w)
    p = m + w.pick(0, 5)
    w.array("x", "In", "f32", "P, N", (p, n))
    w.array("rows", "In", "i32", "M", (m,))
    w.arrays["rows"][...] = np.random.default_rng(seed).permutation(p)[:m]
    w.put(f"for i, j in tiles((M, N), ({bm}, {bn})):", 1)
    w.put(f"at = load(rows, (i,), ({bm},))")
    w.put(f"t = gather(x, (at, j), ({bm}, {bn}))" if w.chance(0.7) else f"t = load(x, (i, j), ({bm}, {bn}), fill=0)")
    w.put(
        w.pick(
            "t = keep(t + 1.0)", "t = keep(t - max(t, axis=1)[:, None])", "t = keep(scan(t, axis=1, op=sum))", "t = t"
        )
    )
    for kind in w.random.sample(["store", "scatter", "update", "sums", "adds"], 2):
        sink(w, kind, (m, n, p), (bm, bn))
    return w.program()


def sink(w: Writer, kind: str, sizes: tuple[int, int, int], tile: tuple[int, int]) -> None:
    m, n, p = sizes
    match kind:
        case "store":
            w.array("o", "Out", "f32", "M, N", (m, n))
            w.put("store(o, (i, j), t)")
        case "scatter":
            w.array("s", "InOut", "f32", "P, N", (p, n))
            w.put("scatter(s, (at, j), t)")
        case "update":
            w.array("u", "InOut", "f32", "M, N", (m, n))
            w.put(f"old = load(u, (i, j), {tuple_text(tile)})")
            w.put(
                f"store(u, (i, j), keep(old + {w.pick('t', 'sum(old, axis=1)[:, None]', 'max(t, axis=0)[None, :]')}))"
            )
        case "sums":
            w.array("c", "Acc", "f32", "N", (n,))
            w.put("atomic_add(c, (j,), sum(keep(t), axis=0))")
        case _:
            w.array("d", "Acc", "f32", "P, N", (p, n))
            w.put("atomic_add(d, (at, j), t)")


def ragged(seed: int) -> Program:
    """Groups of rows whose sizes are data: a nest of grids."""
    w = Writer(random.Random(seed))
    bm, bn, bk = w.pick((16, 32, 16), (32, 32, 32), (64, 16, 16), (8, 24, 8))
    ends = np.cumsum([0] + [w.pick(0, 1, bm, bm + 1, 5) for _ in range(w.pick(1, 3, 5))])
    groups, m, n, k = len(ends) - 1, int(ends[-1]), dim(w, bn), dim(w, bk)
    dtype = w.pick("f32", "bf16")
    w.lines.append("    assume(partition(offsets, M))")
    policy(w, 1, 2, 8)
    w.array("x", "In", dtype, "M, K", (m, k), -2, 3)
    w.array("y", "In", dtype, "G, N, K", (groups, n, k), -2, 3)
    w.array("offsets", "In", "i32", "G + 1", (groups + 1,))
    w.arrays["offsets"][...] = ends
    w.array("o", "Out", "f32", "M, N", (m, n))
    w.put("for g in tiles((G,), (1,)):", 1)
    w.put("lo, hi = offsets[g], offsets[g + 1]")
    w.put(f"for i, j in tiles((hi - lo, N), ({bm}, {bn})):")
    w.put(f"acc = zeros(({bm}, {bn}), f32)", 3)
    w.put(f"for k in pipeline(0, K, {bk}):", 3)
    w.put(f"acc += mma(load(x[lo:hi], (i, k), ({bm}, {bk})), load(y[g], (j, k), ({bn}, {bk})).T)", 4)
    w.put("store(o[lo:hi], (i, j), acc)", 3)
    return w.program()


FAMILIES: dict[str, Callable[[int], Program]] = {
    "elementwise": elementwise, "product": product, "chain": chain, "gathered": gathered, "ragged": ragged,
}  # fmt: skip
