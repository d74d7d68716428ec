"""Schedules written by hand, one for each thing that a schedule does."""

from __future__ import annotations

from kernelagent.dsl.level2.guide import GEMM, HOPPER_GEMM, SOFTMAX

TRANSPOSE = """
edition(1)
level(2)

@kernel
def transpose(x: In[f32, M, N], y: Out[f32, N, M]):
    schedule(sm_80, threads=128)
    shape_class("aligned", aligned(x, 16), aligned(y, 16), divides(M, 4), divides(N, 4))
    rows = distribution((32, 32), lanes=((8, 1, 4), (16, 0, 1)), values=((4, 1, 1), (2, 0, 16)))
    columns = distribution((32, 32), lanes=((8, 1, 4), (16, 0, 1)), values=((4, 1, 1), (2, 0, 16)))
    turn = shared(f32, (32, 32), swizzle=(3, 2, 3), offset=0)

    for i, j in tiles((M, N), (32, 32)):
        store_shared(turn, load(x, (i, j), rows, fill=0.0, vector=4), vector=4)
        barrier()
        store(y, (j, i), load_shared(turn.T, columns), vector=4)
"""

ATTENTION = """
edition(1)
level(2)

@kernel
def attention(q: In[bf16, H, M, 64], k: In[bf16, H, N, 64], v: In[bf16, H, N, 64], o: Out[bf16, H, M, 64], scale: f32):
    schedule(sm_80, threads=128)
    shape_class("aligned", aligned(q, 16), aligned(k, 16), aligned(v, 16), aligned(o, 4))
    piece = distribution((64, 64), lanes=((8, 1, 8), (16, 0, 1)), values=((8, 1, 1), (4, 0, 16)))
    acc_tile = distribution((64, 64), lanes=((4, 1, 2), (8, 0, 1), (4, 0, 16)),
                            values=((2, 1, 1), (2, 0, 8), (8, 1, 8)))
    row = distribution((64,), lanes=((4, -1, 0), (8, 0, 1), (4, 0, 16)), values=((2, 0, 8),))
    cols = distribution((64,), lanes=((4, 0, 2), (32, -1, 0)), values=((2, 0, 1), (8, 0, 8)))
    q_s = shared(bf16, (64, 64), swizzle=(3, 3, 3), offset=0)
    k_s = shared(bf16, (64, 64), swizzle=(3, 3, 3), offset=8192)
    v_s = shared(bf16, (64, 64), swizzle=(3, 3, 3), offset=16384)

    for h, i in tiles((H, M), (1, 64)):
        copy_async(q_s, q[h], (i, 0), piece, vector=8)
        commit()
        m, l = full(row, -1e30, f32), full(row, 0.0, f32)
        acc = full(acc_tile, 0.0, f32)
        for j in range(0, N, 64):
            barrier()
            copy_async(k_s, k[h], (j, 0), piece, vector=8)
            copy_async(v_s, v[h], (j, 0), piece, vector=8)
            commit()
            wait_group(0)
            barrier()
            zero = full(acc_tile, 0.0, f32)
            s = mma(q_s, k_s.T, zero, atom=mma_m16n8k16_bf16) * stretch(scale, acc_tile)
            live = (coords(j, cols) < number(N, i32))[None, :]
            s = where(stretch(live, acc_tile), s, -inf)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - stretch(m_new[:, None], acc_tile)), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = mma(cast(p, bf16), v_s, acc * stretch(r[:, None], acc_tile), atom=mma_m16n8k16_bf16)
            m = m_new
        wait_group(0)
        store(o[h], (i, 0), cast(acc / stretch(l[:, None], acc_tile), bf16), vector=2)
"""

RAGGED = """
edition(1)
level(2)

@kernel
def doubled(x: In[f32, M, N], offsets: In[i32, E + 1], spare: In[f32, E], y: Out[f32, M, N]):
    schedule(sm_80, threads=32)
    shape_class("general")
    d = distribution((4, 32), lanes=((32, 1, 1),), values=((4, 0, 1),))

    for e in tiles((E,), (1,)):
        factor = scalar(2.0, f32)
        for i, j in tiles((offsets[e + 1] - offsets[e], N), (4, 32)):
            part = load(view(x, (offsets[e + 1] - offsets[e], N), at=(axis(0) + offsets[e], axis(1))),
                        (i, j), d, fill=0.0)
            store(view(y, (offsets[e + 1] - offsets[e], N), at=(axis(0) + offsets[e], axis(1))), (i, j),
                  part * stretch(factor, d))
"""

SCATTER = """
edition(1)
level(2)

@kernel
def moved(x: In[f32, M, N], rows: In[i32, M], y: Out[f32, M, N], total: Acc[f32, N]):
    schedule(sm_80, threads=64, min_blocks=4)
    shape_class("general")
    d = distribution((8, 32), lanes=((32, 1, 1), (2, 0, 1)), values=((4, 0, 2),))
    r = distribution((8,), lanes=((32, -1, 0), (2, 0, 1)), values=((4, 0, 2),))
    half = shared(f32, (2, 32), offset=0)
    split = distribution((4, 2, 32), lanes=((32, 2, 1), (2, 1, 1)), values=((4, 0, 1),))
    both = distribution((2, 32), lanes=((32, 1, 1), (2, -1, 0)), values=((2, 0, 1),))

    for i, j in tiles((M, N), (8, 32), raster=column, persistent=True):
        at = load(rows, (i,), r, fill=-1)
        v = gather(x, (at, j), d, fill=0.0)
        scatter(y, (at, j), v)
        if i + 8 <= M and not (j == 0):
            w = v + v
        else:
            w = v
        w = where(stretch((coords(i, r) < number(M, i32))[:, None], d), w, 0.0)
        barrier()
        store_shared(half, sum(permute(reshape(w, split), (1, 0, 2)), axis=1))
        barrier()
        atomic_add(total, (j,), sum(load_shared(half, both), axis=0))
"""

CLUSTER = """
edition(1)
level(2)

@kernel
def gemm(a: In[bf16, M, K], w: In[bf16, N, K], y: Out[f32, M, N]):
    schedule(sm_90a, threads=256, cluster=2)
    shape_class("aligned", unit_stride(a), aligned(a, 16), unit_stride(w), aligned(w, 16))
    tile = distribution((64, 64), lanes=((4, 1, 2), (8, 0, 1), (4, 0, 16)), values=((2, 1, 1), (2, 0, 8), (8, 1, 8)))
    a_s = shared(bf16, (64, 64), stages=2, swizzle=(3, 3, 3), panel=64, offset=0)
    w_s = shared(bf16, (64, 64), stages=2, swizzle=(3, 3, 3), panel=64, offset=16384)
    filled = mbarrier(arrivals=1, stages=2, offset=32768)
    free = mbarrier(arrivals=8, stages=2, offset=32784)

    barrier_init(filled)
    barrier_init(free)
    fence_init()
    cluster_barrier()

    with role("producer", warps=(0, 4)):
        for i, j in tiles((M, N), (64, 64), raster=column):
            for k in range(0, K, 64, count=n):
                wait(free[n % 2], (n // 2 + 1) % 2)
                expect(filled[n % 2], 16384)
                copy_bulk(a_s[n % 2], a, (i, k), filled[n % 2])
                copy_bulk(w_s[n % 2], w, (j, k), filled[n % 2], shared_by=2)
        cluster_barrier()

    with role("consumer", warps=(4, 8)):
        for i, j in tiles((M, N), (64, 64), raster=column):
            acc = full(tile, 0.0, f32)
            for k in range(0, K, 64, count=n):
                wait(filled[n % 2], (n // 2) % 2)
                wgmma_fence()
                acc = mma(a_s[n % 2], w_s[n % 2].T, acc, atom=wgmma_m64n64k16_bf16)
                wgmma_commit()
                wgmma_wait(0)
                arrive(free[n % 2], everywhere=True)
            store(y, (i, j), acc)
        cluster_barrier()
"""
"""Two blocks of neighbouring rows share w."""

PING_PONG = """
edition(1)
level(2)

@kernel
def gemm(a: In[f16, M, K], w: In[f16, K, N], y: Out[f32, M, N]):
    schedule(sm_90a, threads=384)
    shape_class("aligned", unit_stride(a), aligned(a, 16), unit_stride(w), aligned(w, 16))
    tile = distribution((64, 64), lanes=((4, 1, 2), (8, 0, 1), (4, 0, 16)), values=((2, 1, 1), (2, 0, 8), (8, 1, 8)))
    a_s = shared(f16, (64, 64), stages=3, swizzle=(3, 3, 3), panel=64, offset=0)
    w_s = shared(f16, (64, 64), stages=3, swizzle=(3, 3, 3), panel=64, offset=24576)
    filled = mbarrier(arrivals=1, stages=3, offset=49152)
    free = mbarrier(arrivals=4, stages=3, offset=49176)
    even_done = mbarrier(arrivals=4, offset=49200)
    odd_done = mbarrier(arrivals=4, offset=49208)

    barrier_init(filled)
    barrier_init(free)
    barrier_init(even_done)
    barrier_init(odd_done)
    fence_init()
    barrier()

    with role("producer", warps=(0, 4), registers=40):
        for i, j in tiles((M, N), (64, 64), persistent=True, count=t):
            for k in range(0, K, 64, count=n):
                wait(free[n % 3], (n // 3 + 1) % 2)
                expect(filled[n % 3], 16384)
                copy_bulk(a_s[n % 3], a, (i, k), filled[n % 3])
                copy_bulk(w_s[n % 3], w, (k, j), filled[n % 3])

    with role("even", warps=(4, 8), registers=232):
        for i, j in tiles((M, N), (64, 64), persistent=True, count=t):
            if t % 2 == 0:
                wait(odd_done, (t // 2 + 1) % 2)
                acc = full(tile, 0.0, f32)
                for k in range(0, K, 64):
                    wait(filled[(t * cdiv(K, 64) + k // 64) % 3], ((t * cdiv(K, 64) + k // 64) // 3) % 2)
                    wgmma_fence()
                    acc = mma(a_s[(t * cdiv(K, 64) + k // 64) % 3], w_s[(t * cdiv(K, 64) + k // 64) % 3], acc,
                              atom=wgmma_m64n64k16_f16)
                    wgmma_commit()
                    wgmma_wait(0)
                    arrive(free[(t * cdiv(K, 64) + k // 64) % 3])
                arrive(even_done)
                store(y, (i, j), acc)

    with role("odd", warps=(8, 12), registers=232):
        for i, j in tiles((M, N), (64, 64), persistent=True, count=t):
            if t % 2 == 1:
                wait(even_done, (t // 2) % 2)
                acc = full(tile, 0.0, f32)
                for k in range(0, K, 64):
                    wait(filled[(t * cdiv(K, 64) + k // 64) % 3], ((t * cdiv(K, 64) + k // 64) // 3) % 2)
                    wgmma_fence()
                    acc = mma(a_s[(t * cdiv(K, 64) + k // 64) % 3], w_s[(t * cdiv(K, 64) + k // 64) % 3], acc,
                              atom=wgmma_m64n64k16_f16)
                    wgmma_commit()
                    wgmma_wait(0)
                    arrive(free[(t * cdiv(K, 64) + k // 64) % 3])
                arrive(odd_done)
                store(y, (i, j), acc)
"""
"""Two consumers take tiles by turns from one ring. Each begins when the other's products are done: a wait on a phase
that lies two ahead would return at once."""


TEXTS = {
    "gemm": GEMM, "softmax": SOFTMAX, "transpose": TRANSPOSE, "attention": ATTENTION, "ragged": RAGGED,
    "scatter": SCATTER, "hopper": HOPPER_GEMM, "cluster": CLUSTER, "ping pong": PING_PONG,
}  # fmt: skip
