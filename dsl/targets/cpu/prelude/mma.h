/* Float matrix products on packed panels, and the packing.
 *
 * A is cut into panels of KA_MR rows, B into panels of KA_NR columns; each panel lies k by k, so that the inner loop
 * reads both in order. A register tile of KA_MR x KA_NR sums stays in registers over the whole of K, then goes to
 * `acc`, a row-major float buffer whose rows are padded to KA_NR.
 */
#ifndef KA_MMA_H
#define KA_MMA_H

#include "transpose.h"

#define KA_NV 2
#define KA_NR (KA_NV * KA_LANES)
#if defined(KA_AVX512)
#define KA_MR_MAX 14
#elif defined(KA_AVX2)
#define KA_MR_MAX 6
#elif defined(KA_NEON)
#define KA_MR_MAX 8
#else
#define KA_MR_MAX 4
#endif
#ifndef KA_MR
#define KA_MR KA_MR_MAX
#endif
#if KA_MR < 1 || KA_MR > KA_MR_MAX
#error "KA_MR must lie in 1 .. KA_MR_MAX"
#endif

KA_FN long ka_round_up(long n, long step) { return (n + step - 1) / step * step; }

/* Floats to provide for the packed forms. Packing A stores whole vectors: the slack takes the last ones. */
KA_FN long ka_pack_a_size(long M, long K) { return ka_round_up(M, KA_MR) * K + KA_LANES; }
KA_FN long ka_pack_b_size(long N, long K) { return ka_round_up(N, KA_NR) * K; }

/* Packing ---------------------------------------------------------------------------------------------------------- */

#define KA_PACK(name) name
#define KA_PACK_T float
#define KA_PACK_LOAD(p) vf_load(p)
#define KA_PACK_LOAD_N(p, n) vf_load_n(p, n, 0.0f)
#define KA_PACK_ONE(p) (*(p))
#include "pack.h"

/* Register tile ---------------------------------------------------------------------------------------------------- */

/* One step of k: two vectors of B, KA_MR broadcasts of A. */
#define KA_STEP(k)                                                                                                     \
    do {                                                                                                               \
        vf b0 = vf_load(b + (k) * bk), b1 = vf_load(b + (k) * bk + KA_LANES);                                          \
        ka_prefetch(b + ((k) + KA_AHEAD) * bk);                                                                        \
        ka_prefetch(b + ((k) + KA_AHEAD) * bk + KA_LANES);                                                             \
        _Pragma("GCC unroll 16") for (int i = 0; i < KA_MR; ++i) {                                                     \
            vf x = vf_splat(row[i][(k) * ak]);                                                                         \
            c[i][0] = vf_fma(x, b0, c[i][0]);                                                                          \
            c[i][1] = vf_fma(x, b1, c[i][1]);                                                                          \
        }                                                                                                              \
    } while (0)
/* Steps of k between the prefetch of a line of B and its use: about 200 cycles. */
#define KA_AHEAD 8

/* acc[i][:] (+)= sum over k of A[i][k] B[k][:] for i < rows. Element (i, k) of A at a[i * ai + k * ak]; vector v of
 * B's row k at b[k * bk + v * KA_LANES]. With `clamp`, rows of A beyond `rows` do not exist and are not read. */
KA_FN void ka_tile(long rows, long K, const float *a, long ai, long ak, int clamp, const float *b, long bk, float *acc,
                   long ldacc, int beta) {
    vf c[KA_MR][2];
    const float *row[KA_MR];
#pragma GCC unroll 16
    for (int i = 0; i < KA_MR; ++i) {
        long at = clamp && i >= rows ? rows - 1 : i;
        row[i] = a + at * ai;
        c[i][0] = c[i][1] = vf_zero();
        ka_prefetch_write(acc + at * ldacc);
    }
    long k = 0;
    for (; k + 4 <= K; k += 4) {
        KA_STEP(k);
        KA_STEP(k + 1);
        KA_STEP(k + 2);
        KA_STEP(k + 3);
    }
    for (; k < K; ++k) KA_STEP(k);
#pragma GCC unroll 16
    for (int i = 0; i < KA_MR; ++i)
        if (i < rows) {
            float *to = acc + i * ldacc;
            vf_store(to, beta ? vf_load(to) + c[i][0] : c[i][0]);
            vf_store(to + KA_LANES, beta ? vf_load(to + KA_LANES) + c[i][1] : c[i][1]);
        }
}

KA_PROC void ka_tile_packed(long rows, long K, const float *a, const float *b, long bk, float *acc, long ldacc,
                            int beta) {
    ka_tile(rows, K, a, 1, KA_MR, 0, b, bk, acc, ldacc, beta);
}
KA_PROC void ka_tile_a_rows(long rows, long K, const float *a, long lda, const float *b, long bk, float *acc,
                            long ldacc, int beta) {
    ka_tile(rows, K, a, lda, 1, 1, b, bk, acc, ldacc, beta);
}

/* Products --------------------------------------------------------------------------------------------------------- */

/* acc (M x N, rows padded to KA_NR) = beta * acc + A B; beta is 0 or 1. A panel of B stays in L1 while A goes by. */
KA_FN void ka_mma(long M, long N, long K, const float *apack, const float *bpack, float *acc, long ldacc, int beta) {
    for (long j = 0; j < N; j += KA_NR)
        for (long i = 0; i < M; i += KA_MR)
            ka_tile_packed(M - i, K, apack + i * K, bpack + j * K, KA_NR, acc + i * ldacc + j, ldacc, beta);
}
/* A row-major, not packed. */
KA_FN void ka_mma_a_rows(long M, long N, long K, const float *a, long lda, const float *bpack, float *acc, long ldacc,
                         int beta) {
    for (long j = 0; j < N; j += KA_NR)
        for (long i = 0; i < M; i += KA_MR)
            ka_tile_a_rows(M - i, K, a + i * lda, lda, bpack + j * K, KA_NR, acc + i * ldacc + j, ldacc, beta);
}

/* Steps of k that a ragged panel of B copies to the stack at a time. */
#define KA_EDGE_K 64
/* The last n < KA_NR columns of a row-major B: padded copies of KA_EDGE_K rows each. One of apack, a is NULL. */
KA_PROC void ka_mma_b_edge(long M, long n, long K, const float *apack, const float *a, long lda, const float *b,
                           long ldb, float *acc, long ldacc, int beta) {
    float edge[KA_EDGE_K * KA_NR] __attribute__((aligned(64)));
    for (long k = 0; k < K; k += KA_EDGE_K, beta = 1) {
        long depth = K - k < KA_EDGE_K ? K - k : KA_EDGE_K;
        ka_pack_b(edge, b + k * ldb, depth, n, ldb, 1);
        for (long i = 0; i < M; i += KA_MR)
            if (apack)
                ka_tile_packed(M - i, depth, apack + i * K + k * KA_MR, edge, KA_NR, acc + i * ldacc, ldacc, beta);
            else
                ka_tile_a_rows(M - i, depth, a + i * lda + k, lda, edge, KA_NR, acc + i * ldacc, ldacc, beta);
    }
}
/* B row-major K x N, not packed. */
KA_FN void ka_mma_b_rows(long M, long N, long K, const float *apack, const float *b, long ldb, float *acc, long ldacc,
                         int beta) {
    long j = 0;
    for (; j + KA_NR <= N; j += KA_NR)
        for (long i = 0; i < M; i += KA_MR)
            ka_tile_packed(M - i, K, apack + i * K, b + j, ldb, acc + i * ldacc + j, ldacc, beta);
    if (j < N) ka_mma_b_edge(M, N - j, K, apack, NULL, 0, b + j, ldb, acc + j, ldacc, beta);
}
/* Neither packed. */
KA_FN void ka_mma_rows(long M, long N, long K, const float *a, long lda, const float *b, long ldb, float *acc,
                       long ldacc, int beta) {
    long j = 0;
    for (; j + KA_NR <= N; j += KA_NR)
        for (long i = 0; i < M; i += KA_MR)
            ka_tile_a_rows(M - i, K, a + i * lda, lda, b + j, ldb, acc + i * ldacc + j, ldacc, beta);
    if (j < N) ka_mma_b_edge(M, N - j, K, NULL, a, lda, b + j, ldb, acc + j, ldacc, beta);
}

#endif
