"""Texts made to exhaust parser, compiler or verifier: each asks for more than any budget, or for nearly all of it."""

from __future__ import annotations

from collections.abc import Iterable

GENERAL = 'shape_class("general")'
MATRIX = "x: In[f32, M, N], y: Out[f32, M, N]"
DIMS = [f"D{n}" for n in range(12)]
MANY = f"q: In[f32, {', '.join(DIMS)}], {MATRIX}"
SEVEN = ", ".join(DIMS[:7])
POWERS = " * ".join(f"({' + '.join(DIMS)} + i + j + {n})" for n in range(5))
QUOTIENTS = "(" * 9 + "i" + " * 7919 // (N % 13 + 1) % (M + 3))" * 9
CLAIMS = ", ".join(["separation", "conformity", "sectors <= 7"] * 500)


def lines(indent: int, *body: str) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in body)


def nest(depth: int, extent: str, body: str) -> str:
    """Loops in loops, the body in the innermost."""
    heads = (lines(8 + 4 * n, f"for v{n} in range(0, {extent}, 1):") for n in range(depth))
    return "".join(heads) + lines(8 + 4 * depth, body)


def times(count: int, line: str) -> str:
    """The line so often, `#` its number."""
    return "".join(lines(8, line.replace("#", str(n))) for n in range(count))


def branches(count: int) -> str:
    pairs = ((f"if (i + {n}) % {n + 2} == 0:", f"    v = v + {n}.0") for n in range(count))
    return lines(8, *(line for pair in pairs for line in pair))


def doubling(depth: int) -> str:
    """Functions that call the one before twice."""
    more = (f"@inline\ndef f{n + 1}(v):\n    return f{n}(f{n}(v))\n\n" for n in range(depth))
    return "@inline\ndef f0(v):\n    return v * 0.5 + 1.0\n\n" + "".join(more)


# Level one -----------------------------------------------------------------------------------------------


def level_one(body: str, signature: str = MATRIX, header: Iterable[str] = (), before: str = "") -> str:
    top = f"\nedition(1)\n\n{before}\n@kernel\ndef k({signature}, BM=32, BN=32):\n"
    return top + lines(4, *header) + body


def tiled(body: str, signature: str = MATRIX, header: Iterable[str] = (), before: str = "", at: str = "i, j") -> str:
    """A tile that is loaded, worked on and stored."""
    load = lines(8, f"v = load(x, ({at}), (BM, BN))")
    tiles = lines(4, "for i, j in tiles((M, N), (BM, BN)):")
    return level_one(tiles + load + body + lines(8, "store(y, (i, j), v)"), signature, header, before)


def copied(extent: str, tile: int, signature: str = MATRIX, header: Iterable[str] = ()) -> str:
    grid = lines(4, f"for i, j in tiles(({extent}), ({tile}, {tile})):")
    return level_one(grid + lines(8, f"store(y, (i, j), load(x, (i, j), ({tile}, {tile})))"), signature, header)


PRODUCTS = """
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, 1000000000, 32):
            acc += mma(load(x, (i, k), (BM, 32)), load(w, (j, k), (BN, 32)).T)
        store(y, (i, j), acc)
"""
HUGE = "2000000000, 2000000000"
CUBES = "assume(M >= 1, N >= 1, K >= 1, M * M * M + N * N * N == K * K * K)"
NONLINEAR = ", ".join(f"M * N * {n + 3} % {n + 2} != {n % 2 + 1}" for n in range(150))

ONE = {
    "loops in loops": tiled(nest(6, "N", "v = v + 1.0")),
    "a loop of a thousand million million": tiled(nest(1, "1000000000000000", "v = v * 0.5")),
    "huge divisors": tiled("", header=["assume(M % 4503599627370496 == 0, N % 536870909 == 5)"]),
    "a polynomial of many symbols": tiled("", MANY, at=f"{POWERS}, j"),
    "a polynomial in a claim": tiled(lines(8, f"expect(v, (M, N), ({POWERS}, j))"), MANY),
    "quotients of quotients": tiled("", at=f"{QUOTIENTS}, j"),
    "thousands of statements": tiled(times(1600, "v = v * 0.5 + 1.0")),
    "hundreds of names": tiled(lines(8, "a0 = v") + "".join(lines(8, f"a{n + 1} = a{n} + v") for n in range(400))),
    "tiles of a thousand million elements": copied("M, N", 32768),
    "a tile far larger than its arrays": copied("M, N", 32768, header=["assume(M <= 8, N <= 8)"]),
    "extents beyond any memory of a thousand million": copied(HUGE, 32, f"x: In[f32, {HUGE}], y: Out[f32, {HUGE}]"),
    "branches of branches": tiled(branches(120)),
    "hundreds of assumptions": tiled("", header=[f"assume({NONLINEAR})"]),
    "cubes that have no sum": tiled("", f"q: In[f32, K], {MATRIX}", header=[CUBES]),
    "hundreds of expectations": tiled(times(400, "expect(v, (M, N), (i, j))")),
    "hundreds of claims": tiled("", header=[f"claim({CLAIMS})"]),
    "calls that double": tiled(lines(8, "v = f7(v)"), before=doubling(7)),
    "calls that double without end": tiled(lines(8, "v = f20(v)"), before=doubling(20)),
    "products over a thousand million": level_one(
        PRODUCTS, "x: In[f32, M, 1000000000], w: In[f32, N, 1000000000], y: Out[f32, M, N]"
    ),
}

# Level two -----------------------------------------------------------------------------------------------


def level_two(signature: str, body: str, shape_class: str = GENERAL, header: str = "") -> str:
    return f"""
edition(1)
level(2)

@kernel
def k({signature}):
    schedule(sm_80, threads=32)
    {shape_class}
    row = distribution((1, 32), lanes=((32, 1, 1),), values=())
    flat = distribution((32,), lanes=((32, 0, 1),), values=())
    tall = distribution((262144, 32), lanes=((32, 1, 1),), values=((262144, 0, 1),))
{header}
{body}"""


def rows(body: str, signature: str = MATRIX, shape_class: str = GENERAL, header: str = "", at: str = "i, j") -> str:
    """Rows that are loaded, worked on and stored."""
    load = lines(8, f"v = load(x, ({at}), row, fill=0.0)")
    tiles = lines(4, "for i, j in tiles((M, N), (1, 32)):")
    return level_two(signature, tiles + load + body + lines(8, "store(y, (i, j), v)"), shape_class, header)


SEVENFOLD = (
    f"for {', '.join(f'v{n}' for n in range(7))} in range((0, 0, 0, 0, 0, 0, 0), (90, 90, 90, 90, 90, 90, 90), "
    "(1, 1, 1, 1, 1, 1, 1)):"
)
TRIPLE = """
        for a in range(0, M, 1):
            for b in range(0, M, 1):
                for c in range(0, M, 1):
                    v = v + load(x, (a, j), row, fill=0.0)
"""
RING = """
        for k in range(0, N, 32):
            copy_async(r[(k // 32) % 1000], x, (i, k), row)
            commit()
            wait_group(0)
            barrier()
            v = v + load_shared(r[(k // 32) % 1000], row)
"""
BUFFERS = "".join(
    lines(8, f"store_shared(b{n}, v)", "barrier()", f"v = load_shared(b{n}, row)") for n in range(250)
)  # fmt: skip
PRODUCTS2 = """
    for i, j in tiles((M * N % 7919, M // (N % 13 + 1)), (1, 32)):
        v = load(x[i * i % M], (j * j % N, i * j % K), row, fill=0.0)
        store(y[i * N % M], (j * K % N, i * j * M % K), v)
"""
DATA = """
    for e in tiles((E,), (1,)):
        for i, j in tiles((o[e + 1] - o[e], N), (1, 32)):
            v = load(x, (p[e, o[e]], j), row, fill=0.0)
            for k in range(o[e], p[e, e], 1):
                v = v + load(x, (p[e, k], j), row, fill=0.0)
            store(y, (o[e] + i, j), v)
"""
LONG = "x: In[f32, 2000000000], y: Out[f32, 2000000000]"
WIDE = "x: In[f32, 100000, 100000], y: Out[f32, 1, 32]"
NAMES = [f"a{n}" for n in range(16)]
TURNS = times(16, "a# = v") + lines(8, "for k in range(0, M, 1):")
TURNS += lines(12, f"{', '.join(NAMES)} = {', '.join([*NAMES[1:], NAMES[0]])}")


def grid(extents: str, sizes: str, *body: str) -> str:
    names = "i, j" if "," in extents.rstrip(",") else "j"
    return lines(4, f"for {names} in tiles(({extents}), ({sizes})):") + lines(8, *body)


def coprime_rings(stages: tuple[int, ...]) -> str:
    """A producer and a consumer with rings that come around together after the product of their stages."""
    declared, inits, produced, consumed = [], [], [], []
    offset, after = 0, 8192 * sum(stages)
    for s in stages:
        declared += [f"t{s} = shared(bf16, (64, 64), stages={s}, swizzle=(3, 3, 3), panel=64, offset={offset})"]
        declared += [f"filled{s} = mbarrier(arrivals=1, stages={s}, offset={after})"]
        declared += [f"free{s} = mbarrier(arrivals=4, stages={s}, offset={after + 8 * s})"]
        offset, after = offset + 8192 * s, after + 16 * s
        inits += [f"barrier_init(filled{s})", f"barrier_init(free{s})"]
        produced += [f"wait(free{s}[n % {s}], (n // {s} + 1) % 2)", f"expect(filled{s}[n % {s}], 8192)"]
        produced += [f"copy_bulk(t{s}[n % {s}], x, (i, k), filled{s}[n % {s}])"]
        consumed += [f"wait(filled{s}[n % {s}], (n // {s}) % 2)"]
        consumed += [f"acc = acc + cast(load_shared(t{s}[n % {s}], tile), f32)", f"arrive(free{s}[n % {s}])"]
    return f"""
edition(1)
level(2)

@kernel
def k(x: In[bf16, M, K], y: Out[f32, M, N]):
    schedule(sm_90a, threads=256)
    shape_class("aligned", unit_stride(x), aligned(x, 16))
    tile = distribution((64, 64), lanes=((32, 1, 2), (4, 0, 1)), values=((2, 1, 1), (16, 0, 4)))
{lines(4, *declared, *inits, "fence_init()", "barrier()")}
    with role("producer", warps=(0, 4)):
        for i, j in tiles((M, N), (64, 64), persistent=True):
            for k in range(0, K, 64, count=n):
{lines(16, *produced)}
    with role("consumer", warps=(4, 8)):
        for i, j in tiles((M, N), (64, 64), persistent=True):
            acc = full(tile, 0.0, f32)
            for k in range(0, K, 64, count=n):
{lines(16, *consumed)}
            store(y, (i, j), acc)
"""


TWO = {
    "a loop of a thousand million": rows(lines(8, "for k in range(0, 1000000000, 1):", "    v = v + 1.0")),
    "loops in loops": rows(lines(8, SEVENFOLD, "    v = v + load(x, (v0, v1), row, fill=0.0)")),
    "loops twenty deep": rows(nest(20, "N", "v = v + 1.0")),
    "huge divisors": rows("", shape_class='shape_class("huge", divides(M, 536870912))', at="i * 1000000007, j"),
    "huge arrays": level_two(LONG, grid("2000000000,", "32,", "store(y, (j,), load(x, (j,), flat, fill=0.0))")),
    "huge tiles": level_two(MATRIX, grid("M, N", "262144, 32", "store(y, (i, j), load(x, (i, j), tall, fill=0.0))")),
    "positions of many products": level_two("x: In[f32, M, N, K], y: Out[f32, M, N, K]", PRODUCTS2),
    "many tiles": level_two(WIDE, grid("100000, 100000", "1, 32", "store(y, (0, 0), load(x, (i, j), row, fill=0.0))")),
    "a ring that never comes around": rows(TRIPLE),
    "a ring of a thousand stages": rows(RING, header=lines(4, "r = shared(f32, (1, 32), stages=1000, offset=0)")),
    "rings of coprime stages": coprime_rings((3, 5, 7)),
    "unrolled a thousand million times": rows(
        lines(8, "for k in range(0, 1000000000, 1, unroll=1000000000):", "    v = v + 1.0")
    ),
    "thousands of statements": rows(times(1000, "v = v * 0.5 + 1.0")),
    "hundreds of loads": rows(times(300, "v = v + load(x, (i + #, j), row, fill=0.0)")),
    "hundreds of buffers": rows(
        BUFFERS, header=lines(4, *(f"b{n} = shared(f32, (1, 32), offset={128 * n})" for n in range(250)))
    ),
    "a polynomial of many symbols": rows("", MANY, at=f"{POWERS}, j"),
    "a polynomial in a claim": rows(lines(8, f"expect(v, (M, N), ({POWERS}, j))"), MANY),
    "quotients of quotients": rows("", at=f"{QUOTIENTS}, j"),
    "branches of branches": rows(branches(300)),
    "hundreds of expectations": rows(times(700, "expect(v, (M, N), (i, j))")),
    "hundreds of claims": rows("", header=lines(4, f"claim({CLAIMS})")),
    "sixteen names by turns": rows(TURNS),
    "positions in data": level_two("o: In[i32, E], p: In[i32, E, E], x: In[f32, M, N], y: Out[f32, M, N]", DATA),
}
