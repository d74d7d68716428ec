/* Vectors of KA_LANES float or int32 lanes, masks, loads and stores.
 *
 * One vocabulary for AVX-512, AVX2, NEON and any compiler with vector extensions. Arithmetic is written with the C
 * operators (+ - * / & | ^ ~ << >>) on vf and vi; this header adds what the operators cannot say.
 *
 * `n` in the names *_n is a number of lanes counted from lane 0; it is clamped to [0, KA_LANES].
 * KA_PORTABLE defined by the caller forces the path without intrinsics.
 */
#ifndef KA_VECTOR_H
#define KA_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(KA_PORTABLE)
#define KA_LANES 4
#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define KA_AVX512 1
#define KA_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define KA_AVX2 1
#define KA_LANES 8
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define KA_NEON 1
#define KA_LANES 4
#else
#define KA_PORTABLE 1
#define KA_LANES 4
#endif

#if defined(KA_AVX512) || defined(KA_AVX2)
#include <immintrin.h>
#elif defined(KA_NEON)
#include <arm_neon.h>
#endif

#define KA_BYTES (4 * KA_LANES)
#define KA_DLANES (KA_LANES / 2)
#define KA_FN static inline __attribute__((always_inline, unused))
#define KA_PROC static __attribute__((noinline, unused))

typedef float vf __attribute__((vector_size(KA_BYTES)));
typedef int32_t vi __attribute__((vector_size(KA_BYTES)));
typedef uint32_t vu __attribute__((vector_size(KA_BYTES)));
typedef double vd __attribute__((vector_size(KA_BYTES)));
typedef int64_t vl __attribute__((vector_size(KA_BYTES)));

typedef vf vf_any __attribute__((aligned(4), may_alias));
typedef vi vi_any __attribute__((aligned(4), may_alias));
typedef vd vd_any __attribute__((aligned(8), may_alias));
typedef vl vl_any __attribute__((aligned(8), may_alias));

/* A truth value per lane: a mask register on AVX-512, all-ones or all-zeros lanes elsewhere. */
#if defined(KA_AVX512)
typedef __mmask16 vm;
#else
typedef vi vm;
#endif

#if KA_LANES == 16
#define KA_SPLAT(x) {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}
#define KA_DSPLAT(x) {x, x, x, x, x, x, x, x}
#define KA_IOTA {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif KA_LANES == 8
#define KA_SPLAT(x) {x, x, x, x, x, x, x, x}
#define KA_DSPLAT(x) {x, x, x, x}
#define KA_IOTA {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define KA_SPLAT(x) {x, x, x, x}
#define KA_DSPLAT(x) {x, x}
#define KA_IOTA {0, 1, 2, 3}
#endif

/* Constants ------------------------------------------------------------------------------------------------------ */

KA_FN vf vf_splat(float x) { return (vf)KA_SPLAT(x); }
KA_FN vi vi_splat(int32_t x) { return (vi)KA_SPLAT(x); }
KA_FN vd vd_splat(double x) { return (vd)KA_DSPLAT(x); }
KA_FN vl vl_splat(int64_t x) { return (vl)KA_DSPLAT(x); }
KA_FN vf vf_zero(void) { return (vf){0}; }
KA_FN vi vi_iota(void) { return (vi)KA_IOTA; }
KA_FN vf vf_iota(void) { return (vf)KA_IOTA; }
KA_FN long ka_clamp_lanes(long n) { return n < 0 ? 0 : n > KA_LANES ? KA_LANES : n; }

/* Masks ---------------------------------------------------------------------------------------------------------- */

#if defined(KA_AVX512)
KA_FN vm vm_first(long n) { return (vm)((1u << ka_clamp_lanes(n)) - 1u); }
KA_FN vm vm_and(vm a, vm b) { return (vm)(a & b); }
KA_FN vm vm_or(vm a, vm b) { return (vm)(a | b); }
KA_FN vm vm_xor(vm a, vm b) { return (vm)(a ^ b); }
KA_FN vm vm_not(vm a) { return (vm)~a; }
KA_FN int vm_any(vm a) { return a != 0; }
KA_FN int vm_all(vm a) { return a == 0xffff; }
KA_FN vi vi_from_mask(vm a) { return (vi)_mm512_maskz_set1_epi32(a, 1); }
KA_FN vm vm_from_vi(vi a) { return _mm512_test_epi32_mask((__m512i)a, (__m512i)a); }
#else
KA_FN vm vm_first(long n) { return vi_iota() < vi_splat((int32_t)ka_clamp_lanes(n)); }
KA_FN vm vm_and(vm a, vm b) { return a & b; }
KA_FN vm vm_or(vm a, vm b) { return a | b; }
KA_FN vm vm_xor(vm a, vm b) { return a ^ b; }
KA_FN vm vm_not(vm a) { return ~a; }
#if defined(KA_AVX2)
KA_FN int vm_any(vm a) { return _mm256_movemask_ps((__m256)a) != 0; }
#elif defined(KA_NEON)
KA_FN int vm_any(vm a) { return vmaxvq_u32((uint32x4_t)a) != 0; }
#else
KA_FN int vm_any(vm a) { return ((a[0] | a[1]) | (a[2] | a[3])) != 0; }
#endif
KA_FN int vm_all(vm a) { return !vm_any(~a); }
KA_FN vi vi_from_mask(vm a) { return a & vi_splat(1); }
KA_FN vm vm_from_vi(vi a) { return a != vi_splat(0); }
#endif
/* Lanes lo <= i < hi. */
KA_FN vm vm_range(long lo, long hi) { return vm_and(vm_first(hi), vm_not(vm_first(lo))); }

/* Comparison (false for NaN, but for ne) and selection -------------------------------------------------------------- */

#if defined(KA_AVX512)
#define KA_COMPARE(name, op, fcode, icode)                                                                             \
    KA_FN vm vf_##name(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, fcode); }                         \
    KA_FN vm vi_##name(vi a, vi b) { return _mm512_cmp_epi32_mask((__m512i)a, (__m512i)b, icode); }
#else
#define KA_COMPARE(name, op, fcode, icode)                                                                             \
    KA_FN vm vf_##name(vf a, vf b) { return (vm)(a op b); }                                                            \
    KA_FN vm vi_##name(vi a, vi b) { return (vm)(a op b); }
#endif
KA_COMPARE(eq, ==, _CMP_EQ_OQ, _MM_CMPINT_EQ)
KA_COMPARE(ne, !=, _CMP_NEQ_UQ, _MM_CMPINT_NE)
KA_COMPARE(lt, <, _CMP_LT_OQ, _MM_CMPINT_LT)
KA_COMPARE(le, <=, _CMP_LE_OQ, _MM_CMPINT_LE)
KA_COMPARE(gt, >, _CMP_GT_OQ, _MM_CMPINT_NLE)
KA_COMPARE(ge, >=, _CMP_GE_OQ, _MM_CMPINT_NLT)
#undef KA_COMPARE

/* yes where the mask holds, no elsewhere. */
#if defined(KA_AVX512)
KA_FN vf vf_select(vm m, vf yes, vf no) { return (vf)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes); }
KA_FN vi vi_select(vm m, vi yes, vi no) { return (vi)_mm512_mask_blend_epi32(m, (__m512i)no, (__m512i)yes); }
#elif defined(KA_AVX2)
KA_FN vf vf_select(vm m, vf yes, vf no) { return (vf)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)m); }
KA_FN vi vi_select(vm m, vi yes, vi no) {
    return (vi)_mm256_blendv_epi8((__m256i)no, (__m256i)yes, (__m256i)m);
}
#else
KA_FN vf vf_select(vm m, vf yes, vf no) { return (vf)(((vi)yes & m) | ((vi)no & ~m)); }
KA_FN vi vi_select(vm m, vi yes, vi no) { return (yes & m) | (no & ~m); }
#endif
KA_FN vm vf_isnan(vf a) { return vf_ne(a, a); }

/* Loads and stores ------------------------------------------------------------------------------------------------ */

KA_FN vf vf_load(const float *p) { return *(const vf_any *)p; }
KA_FN void vf_store(float *p, vf v) { *(vf_any *)p = v; }
KA_FN vi vi_load(const int32_t *p) { return *(const vi_any *)p; }
KA_FN void vi_store(int32_t *p, vi v) { *(vi_any *)p = v; }
KA_FN vd vd_load(const double *p) { return *(const vd_any *)p; }
KA_FN void vd_store(double *p, vd v) { *(vd_any *)p = v; }
/* Address a multiple of KA_BYTES. */
KA_FN vf vf_load_aligned(const float *p) { return *(const vf *)p; }
KA_FN void vf_store_aligned(float *p, vf v) { *(vf *)p = v; }

/* Lanes of the mask from memory, fill elsewhere; memory of the other lanes is not touched. */
#if defined(KA_AVX512)
KA_FN vf vf_load_mask(const float *p, vm m, vf fill) { return (vf)_mm512_mask_loadu_ps((__m512)fill, m, p); }
KA_FN void vf_store_mask(float *p, vm m, vf v) { _mm512_mask_storeu_ps(p, m, (__m512)v); }
KA_FN vi vi_load_mask(const int32_t *p, vm m, vi fill) {
    return (vi)_mm512_mask_loadu_epi32((__m512i)fill, m, p);
}
KA_FN void vi_store_mask(int32_t *p, vm m, vi v) { _mm512_mask_storeu_epi32(p, m, (__m512i)v); }
#elif defined(KA_AVX2)
KA_FN vf vf_load_mask(const float *p, vm m, vf fill) {
    return vf_select(m, (vf)_mm256_maskload_ps(p, (__m256i)m), fill);
}
KA_FN void vf_store_mask(float *p, vm m, vf v) { _mm256_maskstore_ps(p, (__m256i)m, (__m256)v); }
KA_FN vi vi_load_mask(const int32_t *p, vm m, vi fill) {
    return vi_select(m, (vi)_mm256_maskload_epi32((const int *)p, (__m256i)m), fill);
}
KA_FN void vi_store_mask(int32_t *p, vm m, vi v) { _mm256_maskstore_epi32((int *)p, (__m256i)m, (__m256i)v); }
#else
KA_FN vf vf_load_mask(const float *p, vm m, vf fill) {
    for (int i = 0; i < KA_LANES; ++i)
        if (m[i]) fill[i] = p[i];
    return fill;
}
KA_FN void vf_store_mask(float *p, vm m, vf v) {
    for (int i = 0; i < KA_LANES; ++i)
        if (m[i]) p[i] = v[i];
}
KA_FN vi vi_load_mask(const int32_t *p, vm m, vi fill) {
    for (int i = 0; i < KA_LANES; ++i)
        if (m[i]) fill[i] = p[i];
    return fill;
}
KA_FN void vi_store_mask(int32_t *p, vm m, vi v) {
    for (int i = 0; i < KA_LANES; ++i)
        if (m[i]) p[i] = v[i];
}
#endif
KA_FN vf vf_load_n(const float *p, long n, float fill) { return vf_load_mask(p, vm_first(n), vf_splat(fill)); }
KA_FN void vf_store_n(float *p, vf v, long n) { vf_store_mask(p, vm_first(n), v); }
KA_FN vi vi_load_n(const int32_t *p, long n, int32_t fill) { return vi_load_mask(p, vm_first(n), vi_splat(fill)); }
KA_FN void vi_store_n(int32_t *p, vi v, long n) { vi_store_mask(p, vm_first(n), v); }
/* Lanes lo <= i < hi from memory, fill elsewhere. */
KA_FN vf vf_load_range(const float *p, long lo, long hi, float fill) {
    return vf_load_mask(p, vm_range(lo, hi), vf_splat(fill));
}
KA_FN void vf_store_range(float *p, vf v, long lo, long hi) { vf_store_mask(p, vm_range(lo, hi), v); }
KA_FN vd vd_load_n(const double *p, long n, double fill) {
    vd r = vd_splat(fill);
    for (int i = 0; i < KA_DLANES; ++i)
        if (i < n) r[i] = p[i];
    return r;
}
KA_FN void vd_store_n(double *p, vd v, long n) {
    for (int i = 0; i < KA_DLANES; ++i)
        if (i < n) p[i] = v[i];
}

/* Lane i at p[i * stride]; stride in elements. */
KA_FN vf vf_load_strided(const float *p, long stride) {
    vf r;
    for (int i = 0; i < KA_LANES; ++i) r[i] = p[i * stride];
    return r;
}
KA_FN vf vf_load_strided_n(const float *p, long stride, long n, float fill) {
    vf r = vf_splat(fill);
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) r[i] = p[i * stride];
    return r;
}
KA_FN void vf_store_strided(float *p, long stride, vf v) {
    for (int i = 0; i < KA_LANES; ++i) p[i * stride] = v[i];
}
KA_FN void vf_store_strided_n(float *p, long stride, vf v, long n) {
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) p[i * stride] = v[i];
}
/* Lane i at base[index[i]]. */
KA_FN vf vf_gather(const float *base, vi index) {
#if defined(KA_AVX512)
    return (vf)_mm512_i32gather_ps((__m512i)index, base, 4);
#else
    vf r;
    for (int i = 0; i < KA_LANES; ++i) r[i] = base[index[i]];
    return r;
#endif
}

/* Store around the caches. Ordinary store if p is not a multiple of KA_BYTES or the machine has none.
 * Before another thread reads what was streamed, the storing thread calls ka_fence(). */
KA_FN void vf_stream(float *p, vf v) {
#if defined(KA_AVX512)
    if (((uintptr_t)p & 63) == 0) {
        _mm512_stream_ps(p, (__m512)v);
        return;
    }
#elif defined(KA_AVX2)
    if (((uintptr_t)p & 31) == 0) {
        _mm256_stream_ps(p, (__m256)v);
        return;
    }
#endif
    vf_store(p, v);
}
KA_FN void ka_fence(void) {
#if defined(KA_AVX512) || defined(KA_AVX2)
    _mm_sfence();
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}
KA_FN void ka_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
KA_FN void ka_prefetch_write(void *p) { __builtin_prefetch(p, 1, 3); }

/* Arithmetic that operators cannot say --------------------------------------------------------------------------- */

/* a * b + c, one rounding where the machine has fma, two otherwise. */
KA_FN vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
KA_FN vf vf_abs(vf a) { return (vf)((vi)a & vi_splat(0x7fffffff)); }
KA_FN vf vf_copysign(vf magnitude, vf sign) {
    return (vf)(((vi)magnitude & vi_splat(0x7fffffff)) | ((vi)sign & vi_splat((int32_t)0x80000000)));
}

/* NaN if either operand is NaN. The test is on b, so a loop keeps its accumulator in a. */
#if defined(KA_AVX512)
KA_FN vf vf_max(vf a, vf b) {
    __m512 x = (__m512)b;
    return (vf)_mm512_mask_max_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x, (__m512)a);
}
KA_FN vf vf_min(vf a, vf b) {
    __m512 x = (__m512)b;
    return (vf)_mm512_mask_min_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x, (__m512)a);
}
#elif defined(KA_AVX2)
KA_FN vf vf_max(vf a, vf b) { return vf_select((vm)(b != b), b, (vf)_mm256_max_ps((__m256)b, (__m256)a)); }
KA_FN vf vf_min(vf a, vf b) { return vf_select((vm)(b != b), b, (vf)_mm256_min_ps((__m256)b, (__m256)a)); }
#elif defined(KA_NEON)
KA_FN vf vf_max(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
KA_FN vf vf_min(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
#else
KA_FN vf vf_max(vf a, vf b) { return vf_select((vm)((a > b) | (a != a)), a, b); }
KA_FN vf vf_min(vf a, vf b) { return vf_select((vm)((a < b) | (a != a)), a, b); }
#endif
KA_FN vi vi_max(vi a, vi b) { return vi_select(vi_gt(a, b), a, b); }
KA_FN vi vi_min(vi a, vi b) { return vi_select(vi_lt(a, b), a, b); }
KA_FN vd vd_max(vd a, vd b) {
    vl take = (a > b) | (a != a);
    return (vd)(((vl)a & take) | ((vl)b & ~take));
}
KA_FN vd vd_min(vd a, vd b) {
    vl take = (a < b) | (a != a);
    return (vd)(((vl)a & take) | ((vl)b & ~take));
}

/* To nearest even, down, up; the sign of zero is kept. */
#if defined(KA_AVX512)
KA_FN vf vf_round(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 8); }
KA_FN vf vf_floor(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 9); }
KA_FN vf vf_ceil(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 10); }
KA_FN vf vf_sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
#elif defined(KA_AVX2)
KA_FN vf vf_round(vf a) { return (vf)_mm256_round_ps((__m256)a, 8); }
KA_FN vf vf_floor(vf a) { return (vf)_mm256_round_ps((__m256)a, 9); }
KA_FN vf vf_ceil(vf a) { return (vf)_mm256_round_ps((__m256)a, 10); }
KA_FN vf vf_sqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
#elif defined(KA_NEON)
KA_FN vf vf_round(vf a) { return (vf)vrndnq_f32((float32x4_t)a); }
KA_FN vf vf_floor(vf a) { return (vf)vrndmq_f32((float32x4_t)a); }
KA_FN vf vf_ceil(vf a) { return (vf)vrndpq_f32((float32x4_t)a); }
KA_FN vf vf_sqrt(vf a) { return (vf)vsqrtq_f32((float32x4_t)a); }
#else
/* Adding and taking away 2^23 rounds |a| < 2^23 to an integer; larger values are integers already. */
KA_FN vf vf_round(vf a) {
    vf big = vf_splat(8388608.0f), size = vf_abs(a);
    return vf_select(vf_lt(size, big), vf_copysign((size + big) - big, a), a);
}
KA_FN vf vf_floor(vf a) {
    vf near = vf_round(a);
    return vf_copysign(near - vf_select(vf_gt(near, a), vf_splat(1.0f), vf_zero()), a);
}
KA_FN vf vf_ceil(vf a) {
    vf near = vf_round(a);
    return vf_copysign(near + vf_select(vf_lt(near, a), vf_splat(1.0f), vf_zero()), a);
}
KA_FN vf vf_sqrt(vf a) {
    for (int i = 0; i < KA_LANES; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
#endif

#endif
