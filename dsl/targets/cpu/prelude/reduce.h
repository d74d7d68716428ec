/* Horizontal reductions: a vector to a scalar. Lanes are folded half onto half, so the order is fixed per KA_LANES. */
#ifndef KA_REDUCE_H
#define KA_REDUCE_H

#include "vector.h"

typedef float ka_f4 __attribute__((vector_size(16)));
typedef int32_t ka_i4 __attribute__((vector_size(16)));

/* Folds a vector to four lanes with OP, then to one. */
#if defined(KA_AVX512)
#define KA_FOLD(OP, v)                                                                                                 \
    __m256 w = OP##_8(_mm512_castps512_ps256((__m512)(v)), _mm512_extractf32x8_ps((__m512)(v), 1));                    \
    ka_f4 q = (ka_f4)OP##_4(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1))
#elif defined(KA_AVX2)
#define KA_FOLD(OP, v)                                                                                                 \
    ka_f4 q = (ka_f4)OP##_4(_mm256_castps256_ps128((__m256)(v)), _mm256_extractf128_ps((__m256)(v), 1))
#else
#define KA_FOLD(OP, v) ka_f4 q = (v)
#endif

#define ka_add_8 _mm256_add_ps
#define ka_add_4 _mm_add_ps
#define ka_mul_8 _mm256_mul_ps
#define ka_mul_4 _mm_mul_ps
#define ka_max_8 _mm256_max_ps
#define ka_max_4 _mm_max_ps
#define ka_min_8 _mm256_min_ps
#define ka_min_4 _mm_min_ps

KA_FN float vf_hsum(vf v) {
    KA_FOLD(ka_add, v);
    return (q[0] + q[2]) + (q[1] + q[3]);
}
KA_FN float vf_hprod(vf v) {
    KA_FOLD(ka_mul, v);
    return (q[0] * q[2]) * (q[1] * q[3]);
}
KA_FN float ka_larger(float a, float b) { return a > b ? a : b; }
KA_FN float ka_smaller(float a, float b) { return a < b ? a : b; }
/* NaN if any lane is NaN. */
KA_FN float vf_hmax(vf v) {
    if (vm_any(vf_isnan(v))) return __builtin_nanf("");
    KA_FOLD(ka_max, v);
    return ka_larger(ka_larger(q[0], q[2]), ka_larger(q[1], q[3]));
}
KA_FN float vf_hmin(vf v) {
    if (vm_any(vf_isnan(v))) return __builtin_nanf("");
    KA_FOLD(ka_min, v);
    return ka_smaller(ka_smaller(q[0], q[2]), ka_smaller(q[1], q[3]));
}

/* Integers wrap. */
KA_FN int32_t vi_hsum(vi v) {
    uint32_t s = 0;
    for (int i = 0; i < KA_LANES; ++i) s += (uint32_t)v[i];
    return (int32_t)s;
}
KA_FN int32_t vi_hprod(vi v) {
    uint32_t s = 1;
    for (int i = 0; i < KA_LANES; ++i) s *= (uint32_t)v[i];
    return (int32_t)s;
}
KA_FN int32_t vi_hmax(vi v) {
    int32_t m = v[0];
    for (int i = 1; i < KA_LANES; ++i) m = v[i] > m ? v[i] : m;
    return m;
}
KA_FN int32_t vi_hmin(vi v) {
    int32_t m = v[0];
    for (int i = 1; i < KA_LANES; ++i) m = v[i] < m ? v[i] : m;
    return m;
}

KA_FN double vd_hsum(vd v) {
    double s = v[0];
    for (int i = 1; i < KA_DLANES; ++i) s += v[i];
    return s;
}
KA_FN double vd_hmax(vd v) {
    double m = v[0];
    for (int i = 1; i < KA_DLANES; ++i) m = (v[i] > m || v[i] != v[i]) ? v[i] : m;
    return m;
}
KA_FN double vd_hmin(vd v) {
    double m = v[0];
    for (int i = 1; i < KA_DLANES; ++i) m = (v[i] < m || v[i] != v[i]) ? v[i] : m;
    return m;
}

#undef KA_FOLD

#endif
