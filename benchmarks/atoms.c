/* What benchmarks/atoms.py times: loops over single atoms, a matrix product and a transpose on the pool. */
#include "copy.h"
#include "elementary.h"
#include "mma.h"
#include "pool.h"

/* Elementwise functions on data in L1 ---------------------------------------------------------------------------------- */

#define EACH(name)                                                                                                     \
    void each_##name(const float *x, float *y, long n, long repeats) {                                                 \
        for (long r = 0; r < repeats; ++r) {                                                                           \
            for (long i = 0; i < n; i += KA_LANES) vf_store(y + i, vf_##name(vf_load(x + i)));                         \
            __asm__ volatile("" ::: "memory");                                                                         \
        }                                                                                                              \
    }
EACH(exp)
EACH(exp2)
EACH(log)
EACH(log2)
EACH(tanh)
EACH(erf)
EACH(sin)
EACH(cos)
EACH(sigmoid)
EACH(rsqrt)

/* One dependent integer addition per cycle on every CPU we know: `steps` cycles. */
long clock_chain(long steps) {
    long a = 0;
    for (long i = 0; i < steps; i += 8)
        for (int j = 0; j < 8; ++j) {
            a += 1;
            __asm__ volatile("" : "+r"(a));
        }
    return a;
}

/* Matrix products -------------------------------------------------------------------------------------------------- */

long packed_a(long M, long K) { return ka_pack_a_size(M, K); }
long packed_b(long N, long K) { return ka_pack_b_size(N, K); }
void pack_a(float *dst, const float *a, long M, long K, long rs, long cs) { ka_pack_a(dst, a, M, K, rs, cs); }
void pack_b(float *dst, const float *b, long K, long N, long rs, long cs) { ka_pack_b(dst, b, K, N, rs, cs); }
void block(long M, long N, long K, const float *a, const float *b, float *acc, long ldacc) {
    ka_mma(M, N, K, a, b, acc, ldacc, 1);
}

struct product {
    const struct ka_runtime *rt;
    const float *a, *b;
    float *c, *packed;
    long M, N, K, MB, KB;
};

static void pack_task(void *ctx, long begin, long end, int worker) {
    struct product *p = ctx;
    long panels = p->N / KA_NR;
    (void)worker;
    for (long t = begin; t < end; ++t) {
        long k = t / panels * p->KB, j = t % panels * KA_NR, depth = p->K - k < p->KB ? p->K - k : p->KB;
        ka_pack_b(p->packed + k * p->N + j * depth, p->b + k * p->N + j, depth, KA_NR, p->N, 1);
    }
}

static void product_task(void *ctx, long begin, long end, int worker) {
    struct product *p = ctx;
    float *packed = p->rt->arena(worker, sizeof(float) * (size_t)ka_pack_a_size(p->MB, p->KB));
    for (long t = begin; t < end; ++t) {
        long i = t * p->MB, rows = p->M - i < p->MB ? p->M - i : p->MB;
        for (long k = 0; k < p->K; k += p->KB) {
            long depth = p->K - k < p->KB ? p->K - k : p->KB;
            ka_pack_a(packed, p->a + i * p->K + k, rows, depth, p->K, 1);
            ka_mma(rows, p->N, depth, packed, p->packed + k * p->N, p->c + i * p->N, p->N, k > 0);
        }
    }
}

/* C = A B, row-major, N a multiple of KA_NR; packing included. */
void product(const struct ka_runtime *rt, const float *a, const float *b, float *c, long M, long N, long K, long MB,
             long KB, int threads) {
    struct product p = {rt, a, b, c, rt->shared(0, sizeof(float) * (size_t)(N * K)), M, N, K, MB, KB};
    rt->parallel_for((K + KB - 1) / KB * (N / KA_NR), 4, pack_task, &p, threads);
    rt->parallel_for((M + MB - 1) / MB, 1, product_task, &p, threads);
}

/* Transpose ------------------------------------------------------------------------------------------------------------ */

struct turn {
    float *dst;
    const float *src;
    long rows, cols, tile_rows, tile_cols;
};

static void turn_task(void *ctx, long begin, long end, int worker) {
    struct turn *t = ctx;
    long across = (t->cols + t->tile_cols - 1) / t->tile_cols;
    (void)worker;
    for (long i = begin; i < end; ++i) {
        long r = i / across * t->tile_rows, c = i % across * t->tile_cols;
        long rows = t->rows - r < t->tile_rows ? t->rows - r : t->tile_rows;
        long cols = t->cols - c < t->tile_cols ? t->cols - c : t->tile_cols;
        ka_transpose(t->dst + c * t->rows + r, t->rows, t->src + r * t->cols + c, t->cols, rows, cols, 1);
    }
    ka_fence();
}

void turn(const struct ka_runtime *rt, float *dst, const float *src, long rows, long cols, long tile_rows,
          long tile_cols, int threads) {
    struct turn t = {dst, src, rows, cols, tile_rows, tile_cols};
    long tiles = ((rows + tile_rows - 1) / tile_rows) * ((cols + tile_cols - 1) / tile_cols);
    rt->parallel_for(tiles, 1, turn_task, &t, threads);
}

/* Pool ----------------------------------------------------------------------------------------------------------------- */

static void nothing(void *ctx, long begin, long end, int worker) { (void)ctx, (void)begin, (void)end, (void)worker; }

void empty_calls(const struct ka_runtime *rt, int threads, long repeats) {
    for (long i = 0; i < repeats; ++i) rt->parallel_for(threads, 1, nothing, NULL, threads);
}
