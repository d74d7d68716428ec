/* bf16, f16 and integer storage to and from float and int32 lanes. Floats round to nearest even. */
#ifndef KA_CONVERT_H
#define KA_CONVERT_H

#include "vector.h"

typedef uint16_t vh __attribute__((vector_size(KA_BYTES / 2)));
typedef uint8_t vb __attribute__((vector_size(KA_BYTES / 4)));
typedef int16_t vhs __attribute__((vector_size(KA_BYTES / 2)));
typedef int8_t vbs __attribute__((vector_size(KA_BYTES / 4)));
typedef vh vh_any __attribute__((aligned(2), may_alias));
typedef vb vb_any __attribute__((aligned(1), may_alias));

KA_FN vh vh_load(const uint16_t *p) { return *(const vh_any *)p; }
KA_FN void vh_store(uint16_t *p, vh v) { *(vh_any *)p = v; }
KA_FN vh vh_load_n(const uint16_t *p, long n) {
#if defined(KA_AVX512)
    return (vh)_mm256_maskz_loadu_epi16(vm_first(n), p);
#else
    vh r = {0};
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) r[i] = p[i];
    return r;
#endif
}
KA_FN void vh_store_n(uint16_t *p, vh v, long n) {
#if defined(KA_AVX512)
    _mm256_mask_storeu_epi16(p, vm_first(n), (__m256i)v);
#else
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) p[i] = v[i];
#endif
}

/* bf16 ----------------------------------------------------------------------------------------------------------- */

KA_FN vf vf_from_bf16(vh v) { return (vf)(__builtin_convertvector(v, vu) << 16); }
KA_FN vh bf16_from_vf(vf x) {
    vu bits = (vu)x;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vu quiet = (bits >> 16) | 0x40;
    return __builtin_convertvector((vu)vi_select(vf_isnan(x), (vi)quiet, (vi)rounded), vh);
}

/* f16 ------------------------------------------------------------------------------------------------------------ */

#if defined(KA_AVX512)
KA_FN vf vf_from_f16(vh v) { return (vf)_mm512_cvtph_ps((__m256i)v); }
KA_FN vh f16_from_vf(vf x) { return (vh)_mm512_cvtps_ph((__m512)x, 8); }
#elif defined(KA_AVX2) && defined(__F16C__)
KA_FN vf vf_from_f16(vh v) { return (vf)_mm256_cvtph_ps((__m128i)v); }
KA_FN vh f16_from_vf(vf x) { return (vh)_mm256_cvtps_ph((__m256)x, 8); }
#elif defined(KA_NEON)
KA_FN vf vf_from_f16(vh v) { return (vf)vcvt_f32_f16((float16x4_t)v); }
KA_FN vh f16_from_vf(vf x) { return (vh)vcvt_f16_f32((float32x4_t)x); }
#else
/* Multiplying by 2^112 rebiases the exponent and makes subnormals normal; infinities and NaN are put back. */
KA_FN vf vf_from_f16(vh v) {
    vu bits = __builtin_convertvector(v, vu), body = (bits & 0x7fff) << 13;
    vf value = (vf)body * vf_splat(0x1p112f);
    vi special = vi_select(vi_ge((vi)body, vi_splat(0x0f800000)), (vi)(body | 0x7f800000), (vi)value);
    return (vf)(special | (vi)((bits & 0x8000) << 16));
}
/* Below 2^-14 adding 0.5 aligns the 2^-24 grid of subnormals to the last bit, so the adder rounds. */
KA_FN vh f16_from_vf(vf x) {
    vu sign = ((vu)x >> 16) & 0x8000, bits = (vu)x & 0x7fffffff;
    vu normal = (bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13;
    vu small = (vu)((vf)bits + vf_splat(0.5f)) - 0x3f000000;
    vi r = vi_select(vi_lt((vi)bits, vi_splat(0x38800000)), (vi)small, (vi)normal);
    r = vi_select(vi_ge((vi)bits, vi_splat(0x477ff000)), vi_splat(0x7c00), r);
    r = vi_select(vi_gt((vi)bits, vi_splat(0x7f800000)), (vi)(0x7e00 | ((bits >> 13) & 0x3ff)), r);
    return __builtin_convertvector((vu)r | sign, vh);
}
#endif

#define KA_HALF(type)                                                                                                  \
    KA_FN vf vf_load_##type(const uint16_t *p) { return vf_from_##type(vh_load(p)); }                                  \
    KA_FN void vf_store_##type(uint16_t *p, vf v) { vh_store(p, type##_from_vf(v)); }                                  \
    KA_FN vf vf_load_##type##_n(const uint16_t *p, long n, float fill) {                                               \
        return vf_select(vm_first(n), vf_from_##type(vh_load_n(p, n)), vf_splat(fill));                                \
    }                                                                                                                  \
    KA_FN void vf_store_##type##_n(uint16_t *p, vf v, long n) { vh_store_n(p, type##_from_vf(v), n); }                 \
    KA_FN vf vf_round_##type(vf v) { return vf_from_##type(type##_from_vf(v)); }                                       \
    KA_FN float f32_from_##type(uint16_t u) { return vf_from_##type((vh){u})[0]; }                                     \
    KA_FN uint16_t type##_from_f32(float x) { return type##_from_vf((vf){x})[0]; }
KA_HALF(bf16)
KA_HALF(f16)
#undef KA_HALF

/* Integers --------------------------------------------------------------------------------------------------------- */

KA_FN vf vf_from_vi(vi v) { return __builtin_convertvector(v, vf); }
/* Toward zero; beyond the range of int32 the nearest end; NaN gives 0. */
KA_FN vi vi_from_vf(vf v) {
    vm high = vf_ge(v, vf_splat(0x1p31f)), inside = vf_ge(v, vf_splat(-0x1p31f)), nan = vf_isnan(v);
    vi r = __builtin_convertvector(vf_select(vm_and(inside, vm_not(high)), v, vf_splat(-0x1p31f)), vi);
    r = vi_select(high, vi_splat(INT32_MAX), r);
    return vi_select(nan, vi_splat(0), r);
}
KA_FN int32_t i32_from_f32(float x) {
    if (x != x) return 0;
    if (x >= 0x1p31f) return INT32_MAX;
    return x < -0x1p31f ? INT32_MIN : (int32_t)x;
}

KA_FN vb vb_load_n(const uint8_t *p, long n) {
    vb r = {0};
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) r[i] = p[i];
    return r;
}
KA_FN void vb_store_n(uint8_t *p, vb v, long n) {
    for (int i = 0; i < KA_LANES; ++i)
        if (i < n) p[i] = v[i];
}
KA_FN vi vi_load_u8(const uint8_t *p) { return __builtin_convertvector(*(const vb_any *)p, vi); }
KA_FN vi vi_load_i8(const int8_t *p) { return __builtin_convertvector((vbs)(*(const vb_any *)p), vi); }
KA_FN vi vi_load_u16(const uint16_t *p) { return __builtin_convertvector(vh_load(p), vi); }
KA_FN vi vi_load_i16(const int16_t *p) { return __builtin_convertvector((vhs)vh_load((const uint16_t *)p), vi); }
KA_FN vi vi_load_u8_n(const uint8_t *p, long n, int32_t fill) {
    return vi_select(vm_first(n), __builtin_convertvector(vb_load_n(p, n), vi), vi_splat(fill));
}
KA_FN vi vi_load_i8_n(const int8_t *p, long n, int32_t fill) {
    return vi_select(vm_first(n), __builtin_convertvector((vbs)vb_load_n((const uint8_t *)p, n), vi), vi_splat(fill));
}
KA_FN vi vi_load_u16_n(const uint16_t *p, long n, int32_t fill) {
    return vi_select(vm_first(n), __builtin_convertvector(vh_load_n(p, n), vi), vi_splat(fill));
}
KA_FN vi vi_load_i16_n(const int16_t *p, long n, int32_t fill) {
    return vi_select(vm_first(n), __builtin_convertvector((vhs)vh_load_n((const uint16_t *)p, n), vi), vi_splat(fill));
}
KA_FN void vi_store_i8(void *p, vi v) { *(vb_any *)p = __builtin_convertvector((vu)v, vb); }
KA_FN void vi_store_i16(void *p, vi v) { *(vh_any *)p = __builtin_convertvector((vu)v, vh); }
KA_FN void vi_store_i8_n(void *p, vi v, long n) { vb_store_n((uint8_t *)p, __builtin_convertvector((vu)v, vb), n); }
KA_FN void vi_store_i16_n(void *p, vi v, long n) { vh_store_n((uint16_t *)p, __builtin_convertvector((vu)v, vh), n); }

#endif
