/* Scalar helpers of emitted kernels: index arithmetic, and words whose C operator means something else. */
#ifndef KA_SUPPORT_H
#define KA_SUPPORT_H

#include "vector.h"

KA_FN long ka_min(long a, long b) { return a < b ? a : b; }
KA_FN long ka_max(long a, long b) { return a > b ? a : b; }
KA_FN long ka_floordiv(long a, long b) { return b ? a / b - ((a % b != 0) && ((a < 0) != (b < 0))) : 0; }
KA_FN long ka_mod(long a, long b) { return b ? a % b + ((a % b != 0) && ((a < 0) != (b < 0)) ? b : 0) : 0; }
KA_FN long ka_count(long lo, long hi, long step) { return hi > lo ? (hi - lo + step - 1) / step : 0; }

/* Lanes from p to the next multiple of KA_BYTES. */
KA_FN long ka_lead(const float *p) { return (long)((-(uintptr_t)p & (KA_BYTES - 1)) / 4); }

/* Bytes, a multiple of 64 below 4096, by which to move `at` so that its place in a page is a quarter or more of a page
 * away from those of p and q. */
KA_FN long ka_apart(const void *p, const void *q, const char *at) {
    uintptr_t between = ((uintptr_t)q - (uintptr_t)p) & 4095, away = between < 2048 ? 3072 : 1024;
    return (long)(((uintptr_t)p + away - (uintptr_t)at) & 4032);
}
/* What stands before it stays before what follows. Left to itself gcc gathers the prefetches of an unrolled body in one
 * place; spread over the arithmetic they are taken as they come, and a pass over a row is up to a tenth faster. */
#define ka_in_order() __asm__ volatile("" ::: "memory")

/* The line that a streamed row shares with what follows it is written through the caches: ask for it before the row is,
 * or the streamed stores behind it wait. */
KA_FN void ka_own_end(const float *end) {
    if ((uintptr_t)end & 63) __builtin_prefetch(end - 1, 1, 3);
}

/* Every second element from p on: p[0], p[2], ...; nothing behind p[2 * KA_LANES - 2] is touched. */
KA_FN vf vf_load_step2(const float *p) {
#if defined(KA_AVX512)
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
    return (vf)_mm512_permutex2var_ps((__m512)vf_load(p), at, (__m512)vf_load(p + KA_LANES - 1));
#elif defined(KA_AVX2)
    __m256 mixed = _mm256_shuffle_ps((__m256)vf_load(p), (__m256)vf_load(p + KA_LANES - 1), 0xd8);
    return (vf)_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
#else
    return vf_load_strided(p, 2);
#endif
}
/* even[0], odd[0], even[1], odd[1], ... */
KA_FN void vf_store_pairs(float *p, vf even, vf odd) {
#if defined(KA_AVX512)
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    vf_store(p, (vf)_mm512_permutex2var_ps((__m512)even, low, (__m512)odd));
    vf_store(p + KA_LANES, (vf)_mm512_permutex2var_ps((__m512)even, high, (__m512)odd));
#elif defined(KA_AVX2)
    __m256 low = _mm256_unpacklo_ps((__m256)even, (__m256)odd), high = _mm256_unpackhi_ps((__m256)even, (__m256)odd);
    vf_store(p, (vf)_mm256_permute2f128_ps(low, high, 0x20));
    vf_store(p + KA_LANES, (vf)_mm256_permute2f128_ps(low, high, 0x31));
#else
    vf_store_strided(p, 2, even);
    vf_store_strided(p + 1, 2, odd);
#endif
}

/* Tile integers: division rounds down, by zero gives zero; shifts beyond the width give 0, or -1 for negative >>. */
#define KA_INTEGER(name, type, bits, is_signed)                                                                        \
    KA_FN type ka_floordiv_##name(type a, type b) {                                                                    \
        if (b == 0) return 0;                                                                                          \
        if (is_signed && b == (type)-1) return (type)(0 - (uint64_t)a);                                                \
        return (type)(a / b - ((a % b != 0) && ((a < 0) != (b < 0))));                                                 \
    }                                                                                                                  \
    KA_FN type ka_mod_##name(type a, type b) {                                                                         \
        if (b == 0 || (is_signed && b == (type)-1)) return 0;                                                          \
        type r = (type)(a % b);                                                                                        \
        return (type)(r + ((r != 0) && ((r < 0) != (b < 0)) ? b : 0));                                                 \
    }                                                                                                                  \
    KA_FN type ka_shl_##name(type a, type b) {                                                                         \
        return (uint64_t)b >= bits ? 0 : (type)((uint64_t)a << (uint64_t)b);                                           \
    }                                                                                                                  \
    KA_FN type ka_shr_##name(type a, type b) {                                                                         \
        return (uint64_t)b >= bits ? (type)(a < 0 ? -1 : 0) : (type)(a >> (uint64_t)b);                                \
    }                                                                                                                  \
    KA_FN type ka_pow_##name(type a, type b) {                                                                         \
        uint64_t result = 1, base = (uint64_t)a;                                                                       \
        for (uint64_t n = (uint64_t)b; n; n >>= 1, base *= base)                                                       \
            if (n & 1) result *= base;                                                                                 \
        return (type)result;                                                                                           \
    }
KA_INTEGER(i64, int64_t, 64, 1)
KA_INTEGER(i32, int32_t, 32, 1)
KA_INTEGER(i16, int16_t, 16, 1)
KA_INTEGER(i8, int8_t, 8, 1)
KA_INTEGER(u32, uint32_t, 32, 0)
KA_INTEGER(u8, uint8_t, 8, 0)
#undef KA_INTEGER

KA_FN float ka_pow_f32(float a, float b) { return __builtin_powf(a, b); }
KA_FN double ka_pow_f64(double a, double b) { return __builtin_pow(a, b); }
#define KA_FLOAT(name, type, suffix)                                                                                   \
    KA_FN type ka_mod_##name(type a, type b) {                                                                         \
        type r = __builtin_fmod##suffix(a, b);                                                                         \
        return r != 0 && ((r < 0) != (b < 0)) ? r + b : r == 0 ? __builtin_copysign##suffix(0, b) : r;                 \
    }                                                                                                                  \
    KA_FN type ka_floordiv_##name(type a, type b) {                                                                    \
        if (b == 0) return a / b;                                                                                      \
        type quotient = (a - ka_mod_##name(a, b)) / b;                                                                 \
        type low = __builtin_floor##suffix(quotient);                                                                  \
        return quotient - low > (type)0.5 ? low + 1 : low;                                                             \
    }
KA_FLOAT(f32, float, f)
KA_FLOAT(f64, double, )
#undef KA_FLOAT

/* Float to integer: toward zero, saturating, NaN gives 0. */
#define KA_SATURATE(name, type, low, high)                                                                             \
    KA_FN type ka_saturate_##name(double x) {                                                                          \
        return x != x ? 0 : x <= (double)(low) ? (low) : x >= (double)(high) ? (high) : (type)x;                       \
    }
KA_SATURATE(i64, int64_t, INT64_MIN, INT64_MAX)
KA_SATURATE(i32, int32_t, INT32_MIN, INT32_MAX)
KA_SATURATE(i16, int16_t, INT16_MIN, INT16_MAX)
KA_SATURATE(i8, int8_t, INT8_MIN, INT8_MAX)
KA_SATURATE(u32, uint32_t, 0, UINT32_MAX)
KA_SATURATE(u8, uint8_t, 0, UINT8_MAX)
#undef KA_SATURATE

/* Relaxed atomic additions. */
#define KA_ADD_FLOAT(name, type, word)                                                                                 \
    KA_FN void ka_add_##name(type *p, type x) {                                                                        \
        word old, new;                                                                                                 \
        __atomic_load((word *)p, &old, __ATOMIC_RELAXED);                                                              \
        do {                                                                                                           \
            type sum;                                                                                                  \
            __builtin_memcpy(&sum, &old, sizeof sum);                                                                  \
            sum += x;                                                                                                  \
            __builtin_memcpy(&new, &sum, sizeof new);                                                                  \
        } while (!__atomic_compare_exchange((word *)p, &old, &new, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));            \
    }
KA_ADD_FLOAT(f32, float, uint32_t)
KA_ADD_FLOAT(f64, double, uint64_t)
#undef KA_ADD_FLOAT
KA_FN void ka_add_i32(int32_t *p, int32_t x) { __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }
KA_FN void ka_add_u32(uint32_t *p, uint32_t x) { __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }
KA_FN void ka_add_i64(int64_t *p, int64_t x) { __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }

/* An array set to zero bytes, axis by axis; strides in elements. */
KA_PROC void ka_zero(char *p, const int64_t *dims, const int64_t *strides, int rank, long bytes) {
    if (rank == 0) {
        __builtin_memset(p, 0, (size_t)bytes);
        return;
    }
    if (rank == 1 && strides[0] == 1) {
        __builtin_memset(p, 0, (size_t)(dims[0] * bytes));
        return;
    }
    for (int64_t i = 0; i < dims[0]; ++i) ka_zero(p + i * strides[0] * bytes, dims + 1, strides + 1, rank - 1, bytes);
}

#endif
