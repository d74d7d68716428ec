/* Transposes: a KA_LANES x KA_LANES block in registers, and tiles of any size through it. */
#ifndef KA_TRANSPOSE_H
#define KA_TRANSPOSE_H

#include "vector.h"

/* In place: lane j of r[i] becomes lane i of r[j]. */
#if defined(KA_AVX512)
#define KA_UNPACK(a, b) ((vf)_mm512_unpacklo_ps((__m512)(a), (__m512)(b)))
#define KA_UNPACK_HIGH(a, b) ((vf)_mm512_unpackhi_ps((__m512)(a), (__m512)(b)))
#define KA_PAIRS(a, b) ((vf)_mm512_shuffle_ps((__m512)(a), (__m512)(b), 0x44))
#define KA_PAIRS_HIGH(a, b) ((vf)_mm512_shuffle_ps((__m512)(a), (__m512)(b), 0xee))
KA_FN void ka_transpose_registers(vf r[16]) {
    vf t[16];
    /* Groups of four rows: 4x4 transposes inside each 128-bit part. */
    for (int g = 0; g < 16; g += 4) {
        vf a = KA_UNPACK(r[g], r[g + 1]), b = KA_UNPACK(r[g + 2], r[g + 3]);
        vf c = KA_UNPACK_HIGH(r[g], r[g + 1]), d = KA_UNPACK_HIGH(r[g + 2], r[g + 3]);
        t[g] = KA_PAIRS(a, b), t[g + 1] = KA_PAIRS_HIGH(a, b);
        t[g + 2] = KA_PAIRS(c, d), t[g + 3] = KA_PAIRS_HIGH(c, d);
    }
    /* Then a 4x4 transpose of 128-bit parts among the groups. */
    for (int i = 0; i < 4; ++i) {
        __m512 a = (__m512)t[i], b = (__m512)t[i + 4], c = (__m512)t[i + 8], d = (__m512)t[i + 12];
        __m512 ab = _mm512_shuffle_f32x4(a, b, 0x44), cd = _mm512_shuffle_f32x4(c, d, 0x44);
        __m512 ab_high = _mm512_shuffle_f32x4(a, b, 0xee), cd_high = _mm512_shuffle_f32x4(c, d, 0xee);
        r[i] = (vf)_mm512_shuffle_f32x4(ab, cd, 0x88);
        r[i + 4] = (vf)_mm512_shuffle_f32x4(ab, cd, 0xdd);
        r[i + 8] = (vf)_mm512_shuffle_f32x4(ab_high, cd_high, 0x88);
        r[i + 12] = (vf)_mm512_shuffle_f32x4(ab_high, cd_high, 0xdd);
    }
}
#elif defined(KA_AVX2)
#define KA_UNPACK(a, b) ((vf)_mm256_unpacklo_ps((__m256)(a), (__m256)(b)))
#define KA_UNPACK_HIGH(a, b) ((vf)_mm256_unpackhi_ps((__m256)(a), (__m256)(b)))
#define KA_PAIRS(a, b) ((vf)_mm256_shuffle_ps((__m256)(a), (__m256)(b), 0x44))
#define KA_PAIRS_HIGH(a, b) ((vf)_mm256_shuffle_ps((__m256)(a), (__m256)(b), 0xee))
KA_FN void ka_transpose_registers(vf r[8]) {
    vf t[8];
    for (int g = 0; g < 8; g += 4) {
        vf a = KA_UNPACK(r[g], r[g + 1]), b = KA_UNPACK(r[g + 2], r[g + 3]);
        vf c = KA_UNPACK_HIGH(r[g], r[g + 1]), d = KA_UNPACK_HIGH(r[g + 2], r[g + 3]);
        t[g] = KA_PAIRS(a, b), t[g + 1] = KA_PAIRS_HIGH(a, b);
        t[g + 2] = KA_PAIRS(c, d), t[g + 3] = KA_PAIRS_HIGH(c, d);
    }
    for (int i = 0; i < 4; ++i) {
        __m256 a = (__m256)t[i], b = (__m256)t[i + 4];
        r[i] = (vf)_mm256_permute2f128_ps(a, b, 0x20);
        r[i + 4] = (vf)_mm256_permute2f128_ps(a, b, 0x31);
    }
}
#else
KA_FN void ka_transpose_registers(vf r[4]) {
    vf a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    vf c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}
#endif

/* dst[c * ldd + r] = src[r * lds + c] for a KA_LANES x KA_LANES block; stream: around the caches where aligned. */
KA_FN void ka_transpose_block(float *dst, long ldd, const float *src, long lds, int stream) {
    vf r[KA_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < KA_LANES; ++i) r[i] = vf_load(src + i * lds);
    ka_transpose_registers(r);
    if (stream) {
#pragma GCC unroll 16
        for (int i = 0; i < KA_LANES; ++i) vf_stream(dst + i * ldd, r[i]);
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < KA_LANES; ++i) vf_store(dst + i * ldd, r[i]);
    }
}
KA_FN void ka_transpose_lanes(const float *src, long lds, float *dst, long ldd) {
    ka_transpose_block(dst, ldd, src, lds, 0);
}
/* The same for rows < KA_LANES or cols < KA_LANES: nothing outside is read or written. */
KA_PROC void ka_transpose_edge(float *dst, long ldd, const float *src, long lds, long rows, long cols) {
    vf r[KA_LANES];
    for (int i = 0; i < KA_LANES; ++i) r[i] = i < rows ? vf_load_n(src + i * lds, cols, 0.0f) : vf_zero();
    ka_transpose_registers(r);
    for (int i = 0; i < KA_LANES; ++i)
        if (i < cols) vf_store_n(dst + i * ldd, r[i], rows);
}

KA_FN void ka_transpose_step(float *dst, long ldd, const float *src, long lds, long rows, long cols, int stream) {
    if (rows < KA_LANES || cols < KA_LANES)
        ka_transpose_edge(dst, ldd, src, lds, rows, cols);
    else
        ka_transpose_block(dst, ldd, src, lds, stream);
}

/* dst[c * ldd + r] = src[r * lds + c] for r < rows, c < cols. Streamed, it goes along the source's rows, which the
 * prefetchers follow (measured twice as fast as the other way); else along the target's, whose lines are then warm. */
KA_PROC void ka_transpose(float *dst, long ldd, const float *src, long lds, long rows, long cols, int stream) {
    if (stream) {
        for (long r = 0; r < rows; r += KA_LANES)
            for (long c = 0; c < cols; c += KA_LANES)
                ka_transpose_step(dst + c * ldd + r, ldd, src + r * lds + c, lds, rows - r, cols - c, 1);
        return;
    }
    for (long c = 0; c < cols; c += KA_LANES)
        for (long r = 0; r < rows; r += KA_LANES)
            ka_transpose_step(dst + c * ldd + r, ldd, src + r * lds + c, lds, rows - r, cols - c, 0);
}

#endif
