/* int8 x int8 -> int32 matrix product, a plain loop. */
#ifndef KA_MMA_INT_H
#define KA_MMA_INT_H

#include "convert.h"

/* acc (M x N) = beta * acc + A B, A and B row-major int8, beta 0 or 1; sums wrap. Columns beyond N are not touched. */
KA_PROC void ka_mma_i8(long M, long N, long K, const int8_t *a, long lda, const int8_t *b, long ldb, int32_t *acc,
                       long ldacc, int beta) {
    for (long i = 0; i < M; ++i)
        for (long j = 0; j < N; j += KA_LANES) {
            int32_t *to = acc + i * ldacc + j;
            long n = N - j < KA_LANES ? N - j : KA_LANES;
            vi sum = beta ? vi_load_n(to, n, 0) : vi_splat(0);
            for (long k = 0; k < K; ++k) {
                const int8_t *from = b + k * ldb + j;
                vi row = n == KA_LANES ? vi_load_i8(from) : vi_load_i8_n(from, n, 0);
                sum = sum + row * vi_splat(a[i * lda + k]);
            }
            vi_store_n(to, sum, n);
        }
}

#endif
