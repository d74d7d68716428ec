"""The guide to level two: generated from the table of words, so that it cannot name what does not exist.

`schedule.md` is what a model is told beside `language.md` when it edits schedules. Run this module to write it again:
`python -m kernelagent.dsl.level2.guide`.
"""

from __future__ import annotations

from pathlib import Path

from kernelagent.dsl.level2.words import GUARDS, SECTIONS
from kernelagent.dsl.targets.cuda.archs import archs

MAX_CHARACTERS = 14_800
PATH = Path(__file__).with_name("schedule.md")

GEMM = """
edition(1)
level(2)

@kernel
def gemm(a: In[bf16, M, K], w: In[bf16, N, K], y: Out[bf16, M, N], alpha: f32):
    schedule(sm_80, threads=128, min_blocks=2)
    shape_class("aligned", unit_stride(a), aligned(a, 16), unit_stride(w), aligned(w, 16), unit_stride(y),
                aligned(y, 4), divides(K, 8), divides(N, 2))
    a_copy = distribution((128, 32), lanes=((4, 1, 8), (32, 0, 1)), values=((8, 1, 1), (4, 0, 32)))
    w_copy = distribution((64, 32), lanes=((4, 1, 8), (32, 0, 1)), values=((8, 1, 1), (2, 0, 32)))
    tile = distribution((128, 64), lanes=((4, 1, 2), (8, 0, 1), (2, 1, 32), (2, 0, 64)),
                        values=((2, 1, 1), (2, 0, 8), (4, 1, 8), (4, 0, 16)))
    a_ring = shared(bf16, (128, 32), stages=3, swizzle=(2, 3, 3), offset=0)
    w_ring = shared(bf16, (64, 32), stages=3, swizzle=(2, 3, 3), offset=24576)

    for i, j in tiles((M, N), (128, 64), raster=grouped):
        acc = full(tile, 0.0, f32)
        if 0 < K:
            copy_async(a_ring[0], a, (i, 0), a_copy, vector=8)
            copy_async(w_ring[0], w, (j, 0), w_copy, vector=8)
        commit()
        if 32 < K:
            copy_async(a_ring[1], a, (i, 32), a_copy, vector=8)
            copy_async(w_ring[1], w, (j, 32), w_copy, vector=8)
        commit()
        for k in range(0, K, 32):
            wait_group(1)
            barrier()
            if k + 64 < K:
                copy_async(a_ring[(k // 32 + 2) % 3], a, (i, k + 64), a_copy, vector=8)
                copy_async(w_ring[(k // 32 + 2) % 3], w, (j, k + 64), w_copy, vector=8)
            commit()
            acc = mma(a_ring[(k // 32) % 3], w_ring[(k // 32) % 3].T, acc, atom=mma_m16n8k16_bf16)
        wait_group(0)
        store(y, (i, j), cast(acc * stretch(alpha, tile), bf16), vector=2)
"""

SOFTMAX = """
edition(1)
level(2)

@kernel
def softmax(x: In[bf16, M, N], y: Out[bf16, M, N]):
    schedule(sm_80, threads=128)
    shape_class("aligned", unit_stride(x), aligned(x, 16), unit_stride(y), aligned(y, 16), divides(N, 8))
    tile = distribution((1, 1024), lanes=((128, 1, 8),), values=((8, 1, 1),))
    warps = distribution((1, 4, 256), lanes=((32, 2, 8), (4, 1, 1)), values=((8, 2, 1),))
    parts = distribution((1, 4), lanes=((128, -1, 0),), values=((4, 1, 1),))
    row = distribution((1,), lanes=((128, -1, 0),), values=())
    tops = shared(f32, (1, 4), offset=0)
    sums = shared(f32, (1, 4), offset=128)

    for i in tiles((M,), (1,)):
        m = full(row, -1e30, f32)
        l = full(row, 0.0, f32)
        for j in range(0, N, 1024):
            v = cast(load(x, (i, j), tile, fill=-inf, vector=8), f32)
            store_shared(tops, max(reshape(v, warps), axis=2))
            barrier()
            m_new = maximum(m, max(load_shared(tops, parts), axis=1))
            p = exp(v - stretch(m_new[:, None], tile))
            store_shared(sums, sum(reshape(p, warps), axis=2))
            barrier()
            l = l * exp(m - m_new) + sum(load_shared(sums, parts), axis=1)
            m = m_new
        for j2 in range(0, N, 1024):
            u = cast(load(x, (i, j2), tile, fill=0.0, vector=8), f32)
            q = exp(u - stretch(m[:, None], tile)) / stretch(l[:, None], tile)
            store(y, (i, j2), cast(q, bf16), vector=8)
"""

HOPPER_GEMM = """
edition(1)
level(2)

@kernel
def gemm(a: In[bf16, M, K], w: In[bf16, N, K], y: Out[bf16, M, N]):
    schedule(sm_90a, threads=384)
    shape_class("aligned", unit_stride(a), aligned(a, 16), unit_stride(w), aligned(w, 16), unit_stride(y),
                aligned(y, 16))
    tile = distribution((128, 128), lanes=((4, 1, 2), (8, 0, 1), (8, 0, 16)),
                        values=((2, 1, 1), (2, 0, 8), (16, 1, 8)))
    a_s = shared(bf16, (128, 64), stages=4, swizzle=(3, 3, 3), panel=64, offset=0)
    w_s = shared(bf16, (128, 64), stages=4, swizzle=(3, 3, 3), panel=64, offset=65536)
    y_s = shared(bf16, (128, 128), swizzle=(3, 3, 3), panel=64, offset=131072)
    filled = mbarrier(arrivals=1, stages=4, offset=163840)
    free = mbarrier(arrivals=8, stages=4, offset=163872)

    barrier_init(filled)
    barrier_init(free)
    fence_init()
    barrier()

    with role("producer", warps=(0, 4), registers=40):
        for i, j in tiles((M, N), (128, 128), raster=grouped, persistent=True):
            for k in range(0, K, 64, count=n):
                wait(free[n % 4], (n // 4 + 1) % 2)
                expect(filled[n % 4], 32768)
                copy_bulk(a_s[n % 4], a, (i, k), filled[n % 4])
                copy_bulk(w_s[n % 4], w, (j, k), filled[n % 4])

    with role("consumer", warps=(4, 12), registers=232):
        for i, j in tiles((M, N), (128, 128), raster=grouped, persistent=True):
            acc = full(tile, 0.0, f32)
            for k in range(0, K, 64, count=n):
                wait(filled[n % 4], (n // 4) % 2)
                wgmma_fence()
                acc = mma(a_s[n % 4], w_s[n % 4].T, acc, atom=wgmma_m64n128k16_bf16)
                wgmma_commit()
                wgmma_wait(0)
                arrive(free[n % 4])
            wait_bulk(0)
            role_barrier(1)
            store_shared(y_s, cast(acc, bf16), vector=2)
            fence_async()
            role_barrier(1)
            store_bulk(y, (i, j), y_s)
            commit_bulk()
        wait_bulk(0)
"""

EXAMPLES: list[tuple[str, str, str]] = [
    ("gemm, a ring of three stages", "Copies run ahead.", GEMM.lstrip()),
    (
        "row softmax",
        "Four warps reduce parts of a row.",
        SOFTMAX.lstrip(),
    ),
    ("gemm on Hopper", "A producer and two warpgroups.", HOPPER_GEMM.lstrip()),
]
"""(title, what it shows, text): every text parses."""

_RULES = """\
# Level two: the schedule

A level-two text says what one block of threads does for one kernel, target and shape class: where values live, how
they are spread over threads, every copy, wait and barrier. The compiler prints its schedules so; change the text and
it compiles as written. Syntax, views, positions (**elements**), index integers and dtypes are those of level one.
It begins with `edition(1)`, `level(2)`; then one `@kernel` with concrete dtypes and no tunables. `# line n` marks the
line of the level-one text a statement came from.

## Order
1. `schedule(sm_80, threads=128, min_blocks=2)`: threads are whole warps of 32; `min_blocks` blocks must fit on a
   multiprocessor. Targets: {targets}. Shared memory of a block: {limits}.
2. `shape_class("aligned", ...)`: what dispatch checks before this text runs: {guards}. Accesses of more than one
   element need `aligned(x, bytes)`, and `divides(N, vector)` for rows that do not end inside one.
3. `name = distribution(...)` and `name = shared(...)`, each once, used by name.
4. One `for i, j in tiles((M, N), (128, 64)):`; all work stands inside. `raster=grouped, group=8` orders tiles (row,
   column, hilbert), `persistent=True` lets blocks stride over them. A second `tiles` as the last statement makes a
   ragged nest. Or roles, each with the same `tiles`.

## Values
- **There is no void.** `load` and `gather` name their `fill` for positions outside the view; asynchronous and plain
  copies write zeros there; stores skip them. Mask by hand: `where(coords(j, cols) < number(N, i32), ...)`.
- A fragment is a tile in registers with a distribution. Elementwise operands have one dtype, shape and distribution, or
  rank 0; a literal takes the other side's dtype. `stretch(x, layout)` broadcasts; `x[:, None]`, `.T`, `reshape`,
  `take`, `stack` rename registers. Nothing moves between threads but through `load_shared`, reductions and `scan`.
- Arithmetic on floats is f32: `cast` after loads, `cast` before stores.
- A reduction's lane modes along its axis lie in one warp. Across warps: reduce each warp's part, `store_shared`,
  `barrier()`, `load_shared` so that each thread holds all parts, reduce again.
- `mma` reads stages (`ring[s]`, `ring[s].T`) or fragments in the atom's layout, and adds to `acc`, whose
  distribution is the atom's result repeated over the tile.
- A name bound in front of a loop and rebound inside is carried; a name rebound in both arms of an `if` joins. Both keep
  dtype, shape and distribution. `if` and loop bounds are uniform over the block.

## Distributions
`distribution(shape, lanes=((extent, axis, stride), ...), values=(...))`: the thread index is split into digits, first
mode fastest, and each digit moves `stride` elements along `axis`; the register index likewise. Axis -1: all values of
the digit hold copies. Lane extents multiply to the threads; together the modes of an axis reach each position once.
`lanes=((4, 1, 8), (32, 0, 1)), values=((8, 1, 1), (4, 0, 32))` on (128, 32): threads 0..3 side by side, 8 elements
each, 32 rows of threads, 4 passes. `vector=8` needs 8 neighbours in the first value modes, along the axis that is
contiguous in memory, and 1 to 16 bytes (asynchronous copies: 4, 8 or 16).

## Shared memory
- `shared(bf16, (128, 32), stages=3, swizzle=(bits, base, shift), pad=0, offset=0)`: `buffer[s]` is stage s,
  `buffer` the only one. A stage takes its bytes rounded up to 128. Offsets are bytes; buffers may share bytes if a
  barrier lies between their uses. Against bank conflicts: swizzle pieces of 2^base elements, x ^ ((x >> shift) &
  ((2^bits - 1) << base)) on element offsets, or `pad` elements a row. For 16-bit rows of 32, 64, 128 elements:
  (2, 3, 3), (3, 3, 3), (3, 3, 4).
- `store_shared` by some threads, `barrier()`, then reads by others. Before the same bytes are written again: a barrier
  behind the last read.

## Asynchronous copies: who waits for what
- `copy_async` joins the thread's open group, `commit()` closes it, `wait_group(n)` returns when at most n newer groups
  of **this thread** are in flight. Then `barrier()`: now other threads see the data.
- A ring of S stages: S - 1 groups in front of the loop; in each iteration `wait_group(S - 2)`, `barrier()`, the
  copy for S - 1 iterations ahead, `commit()`, the products. That one barrier publishes this iteration's stage and
  says that the one to be overwritten was read by all.
- `commit()` stands outside the `if` that guards a copy: empty groups keep the count right.
- Behind the loop: `wait_group(0)`, and `barrier()` before its bytes get another use.

## Roles, barriers with phases, bulk copies, wgmma (sm_90a)
- `with role("producer", warps=(0, 4), registers=40):` holds one `tiles` loop, then what the role does behind its last
  tile. Roles fill the block's warps in order; distributions inside have the role's threads.
  `registers` a thread (whole warpgroups, multiples of 8) make at most 65536 together; all begin with 65536 / threads,
  and a product takes columns / 2 and some 30. Inside, `role_barrier(1)` (each role its own number) replaces
  `barrier()`.
- `count=n` counts a loop's iterations (or tiles) over the life of the role: stage `n % S`, parity `(n // S) % 2` for
  who waits for data, the opposite for who refills.
- `filled = mbarrier(arrivals=1, stages=S, offset=...)`: a phase completes with so many arrivals and all its bytes.
  `expect(b[s], bytes)` arrives once and announces the bytes of the `copy_bulk`s behind it; `arrive(b[s])` arrives once
  a warp, for all its lanes. In front of the roles: `barrier_init` for each, `fence_init()`, `barrier()`.
- `copy_bulk(buffer[s], view, position, b[s])` and `store_bulk(view, position, buffer)` move boxes of at most 256 rows
  by tensor maps; outside the **array** zeros arrive, nothing is stored. Buffers have panels of 128, 64 or 32
  bytes with their swizzle; 16-bit elements: `panel=64, swizzle=(3, 3, 3)`, offsets multiples of 1024.
- `wgmma` products (64 rows for each warpgroup): `wgmma_fence()` behind what writes their registers, products,
  `wgmma_commit()`, `wgmma_wait(0)` before the sum is read or the stage given back.
- `store_shared`, `fence_async()`, `role_barrier` (for another role: `arrive`): then bulk stores and wgmma see it.
  `commit_bulk()`, `wait_bulk(0)`, `role_barrier` before the buffer is written again; `wait_bulk(0)` before the role
  ends.
- `take_turn(2)` and `pass_turn(2)` around products: a role's two warpgroups alternate (barriers 2 and 3).
- `schedule(..., cluster=2)` (two rows of tiles; `(1, 2)`: columns): `copy_bulk(..., shared_by=2)` brings each block's
  part to both; `arrive(b[s], everywhere=True)`, and `cluster_barrier()` in front of the roles and at the end of each.

## Claims
Proved or refuted, with the element and who holds it; no code comes of them. In the header `claim(bank_conflicts <= 1)`,
`claim(sectors <= 2)`, `claim(conformity)`, `claim(separation)`. Anywhere `expect(a_ring[s], (M, K), (i, k))`, of a
stage or a fragment: position p of axis 0 has the coordinate i + p along M; `expect(a_ring[s], tag(a), (i, k))`: it is
that element of `a`. `v = tag(v, (M, N), (i, j))` gives a fragment new labels.
"""


def guide() -> str:
    """The text of `schedule.md`."""
    machines = archs().values()
    rules = (
        _RULES.replace("{targets}", ", ".join(a.name for a in machines))
        .replace("{guards}", ", ".join(f"`{g}`" for g in GUARDS))
        .replace("{limits}", ", ".join(f"{a.name} {a.shared_per_block}" for a in machines) + " bytes")
    )
    examples = "\n".join(f"### {title}\n{shows}\n```python\n{text}```" for title, shows, text in EXAMPLES)
    return "\n".join([rules, "## Words\n" + _word_lists(), "## Examples", examples, ""])


def _word_lists() -> str:
    """Signatures by section; words with the same one share it."""
    lines = []
    for title, words in SECTIONS.items():
        by_signature: dict[str, list[str]] = {}
        for word in words:
            by_signature.setdefault(word.signature, []).append(word.name)
        usages = [f"`{' '.join(names)}({signature})`" for signature, names in by_signature.items()]
        lines.append(f"- {title}: {', '.join(usages)}.")
    return "\n".join([*lines, ""])


def main() -> None:
    PATH.write_text(guide(), encoding="utf-8")


if __name__ == "__main__":
    main()
