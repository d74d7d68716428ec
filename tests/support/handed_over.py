"""A role stores to shared memory, another one brings it away by bulk stores: level two, MEET where warps may meet."""

HANDED_OVER = """
edition(1)
level(2)

@kernel
def copied(x: In[f32, M, 32], y: Out[f32, M, 32]):
    schedule(sm_90a, threads=256)
    shape_class("aligned", unit_stride(x), aligned(x, 16), unit_stride(y), aligned(y, 16))
    tile = distribution((128, 32), lanes=((8, 1, 4), (16, 0, 1)), values=((4, 1, 1), (8, 0, 16)))
    s = shared(f32, (128, 32), swizzle=(3, 2, 3), panel=32, offset=0)
    filled = mbarrier(arrivals=4, offset=16384)
    free = mbarrier(arrivals=4, offset=16392)

    barrier_init(filled)
    barrier_init(free)
    fence_init()
    barrier()

    with role("reader", warps=(0, 4)):
        for i in tiles((M,), (128,), persistent=True, count=n):
            wait(free, (n + 1) % 2)
            store_shared(s, load(x, (i, 0), tile, fill=0, vector=4), vector=4)
            fence_async()
            MEET
            arrive(filled)

    with role("writer", warps=(4, 8)):
        for i in tiles((M,), (128,), persistent=True, count=n):
            wait(filled, n % 2)
            store_bulk(y, (i, 0), s)
            commit_bulk()
            wait_bulk(0)
            arrive(free)
"""
