/* Template of the packing functions, included by mma.h and mma_half.h once per storage type.
 *
 * KA_PACK(name): name with the type's suffix; KA_PACK_T: storage type; KA_PACK_LOAD(p), KA_PACK_LOAD_N(p, n): KA_LANES
 * (or n, then zeros) elements as floats; KA_PACK_ONE(p): one element as a float.
 */

/* One panel, `width` (KA_MR or KA_NR) x K, of which `live` rows exist; element (i, k) at src[i * rs + k * cs]. */
KA_FN void KA_PACK(ka_pack_any)(float *dst, const KA_PACK_T *src, long live, long width, long K, long rs, long cs) {
    for (long k = 0; k < K; ++k)
        for (long i = 0; i < width; ++i) dst[k * width + i] = i < live ? KA_PACK_ONE(src + i * rs + k * cs) : 0.0f;
}

/* rs = 1: rows lie side by side. A last vector may run over into the next k, which is written later. */
KA_FN void KA_PACK(ka_pack_beside)(float *dst, const KA_PACK_T *src, long live, long width, long K, long cs) {
    for (long k = 0; k < K; ++k, src += cs, dst += width)
        for (long i = 0; i < width; i += KA_LANES)
            vf_store(dst + i, live - i >= KA_LANES ? KA_PACK_LOAD(src + i) : KA_PACK_LOAD_N(src + i, live - i));
}

/* cs = 1: KA_LANES x KA_LANES transposes; `depth` <= KA_LANES values of k. */
KA_FN void KA_PACK(ka_pack_square)(float *dst, const KA_PACK_T *src, long live, long width, long depth, long rs) {
    vf r[KA_LANES];
#pragma GCC unroll 16
    for (int j = 0; j < KA_LANES; ++j)
        r[j] = j >= live            ? vf_zero()
               : depth >= KA_LANES ? KA_PACK_LOAD(src + j * rs)
                                   : KA_PACK_LOAD_N(src + j * rs, depth);
    ka_transpose_registers(r);
#pragma GCC unroll 16
    for (int j = 0; j < KA_LANES; ++j)
        if (j < depth) vf_store(dst + j * width, r[j]);
}
/* Blocks of rows go from the last to the first: a partial block runs over into the next k, whose first rows are
 * written after it. */
KA_FN void KA_PACK(ka_pack_along)(float *dst, const KA_PACK_T *src, long live, long width, long K, long rs) {
    for (long k = 0; k < K; k += KA_LANES) {
        long depth = K - k < KA_LANES ? K - k : KA_LANES;
        for (long i = ka_round_up(width, KA_LANES) - KA_LANES; i >= 0; i -= KA_LANES)
            KA_PACK(ka_pack_square)(dst + k * width + i, src + i * rs + k, live - i, width, depth, rs);
    }
}

KA_FN void KA_PACK(ka_pack_panels)(float *dst, const KA_PACK_T *src, long rows, long width, long K, long rs, long cs) {
    for (long i = 0; i < rows; i += width, dst += width * K) {
        const KA_PACK_T *from = src + i * rs;
        long live = rows - i < width ? rows - i : width;
        if (rs == 1)
            KA_PACK(ka_pack_beside)(dst, from, live, width, K, cs);
        else if (cs == 1)
            KA_PACK(ka_pack_along)(dst, from, live, width, K, rs);
        else
            KA_PACK(ka_pack_any)(dst, from, live, width, K, rs, cs);
    }
}
/* dst[panel][k][row]; element (m, k) of A at a[m * rs + k * cs]. */
KA_PROC void KA_PACK(ka_pack_a)(float *dst, const KA_PACK_T *a, long M, long K, long rs, long cs) {
    KA_PACK(ka_pack_panels)(dst, a, M, KA_MR, K, rs, cs);
}
/* dst[panel][k][col]; element (k, n) of B at b[k * rs + n * cs]. */
KA_PROC void KA_PACK(ka_pack_b)(float *dst, const KA_PACK_T *b, long K, long N, long rs, long cs) {
    KA_PACK(ka_pack_panels)(dst, b, N, KA_NR, K, cs, rs);
}

#undef KA_PACK
#undef KA_PACK_T
#undef KA_PACK_LOAD
#undef KA_PACK_LOAD_N
#undef KA_PACK_ONE
