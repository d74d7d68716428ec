/* Elementary functions on vectors and the same on scalars.
 *
 * Polynomials are weighted minimax fits (relative error of the final result), coefficients rounded to float one at a
 * time with the rest fitted again. Greatest errors against float64 are measured in tests/cpu/test_atoms_math.py.
 * NaN gives NaN; subnormal results and arguments are kept unless the machine flushes them.
 */
#ifndef KA_ELEMENTARY_H
#define KA_ELEMENTARY_H

#include <math.h>

#include "vector.h"

/* Pieces ----------------------------------------------------------------------------------------------------------- */

/* Into [lo, hi]; NaN stays NaN. */
#if defined(KA_AVX512)
KA_FN vf vf_clamp(vf x, float lo, float hi) {
    return (vf)_mm512_min_ps((__m512)vf_splat(hi), _mm512_max_ps((__m512)vf_splat(lo), (__m512)x));
}
#elif defined(KA_AVX2)
KA_FN vf vf_clamp(vf x, float lo, float hi) {
    return (vf)_mm256_min_ps((__m256)vf_splat(hi), _mm256_max_ps((__m256)vf_splat(lo), (__m256)x));
}
#else
KA_FN vf vf_clamp(vf x, float lo, float hi) {
    x = vf_select(vf_lt(x, vf_splat(lo)), vf_splat(lo), x);
    return vf_select(vf_gt(x, vf_splat(hi)), vf_splat(hi), x);
}
#endif

/* 1.5 * 2^23: added to |x| < 2^22 it leaves round(x) in the low bits. */
#define KA_MAGIC 12582912.0f
#define KA_LOG2E 1.44269504f
/* ln 2 = HIGH + LOW; HIGH has 15 bits, so that n * HIGH is exact for |n| < 512 without fma. */
#define KA_LN2_HIGH 0x1.62e4p-1f
#define KA_LN2_LOW 1.42860677e-6f

/* p * 2^n for integral n in [-300, 300], rounded once on AVX-512 and twice elsewhere (only if subnormal). */
KA_FN vf vf_scale2(vf p, vf n) {
#if defined(KA_AVX512)
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    vi i = __builtin_convertvector(n, vi), half = i >> 1;
    vf a = (vf)((half + 127) << 23), b = (vf)((i - half + 127) << 23);
    return p * a * b;
#endif
}

/* 2^n for integral n in [-126, 127]. */
KA_FN vf vf_pow2i(vf n) { return (vf)((__builtin_convertvector(n, vi) + 127) << 23); }

/* exp(r) = 1 + r + r*r*q with r = x - n ln 2, |r| <= 0.347. */
KA_FN vf ka_exp_reduce(vf x, vf *n) {
    vf magic = vf_splat(KA_MAGIC);
    *n = vf_fma(x, vf_splat(KA_LOG2E), magic) - magic;
    vf r = vf_fma(*n, vf_splat(-KA_LN2_HIGH), x);
    return vf_fma(*n, vf_splat(-KA_LN2_LOW), r);
}

/* Exponentials ------------------------------------------------------------------------------------------------------- */

KA_FN vf vf_exp(vf x) {
    vf n, r = ka_exp_reduce(vf_clamp(x, -104.0f, 89.0f), &n);
    vf q = vf_splat(1.381982584e-03f);
    q = vf_fma(q, r, vf_splat(8.368686773e-03f));
    q = vf_fma(q, r, vf_splat(4.166827723e-02f));
    q = vf_fma(q, r, vf_splat(1.666652113e-01f));
    q = vf_fma(q, r, vf_splat(4.999999404e-01f));
    q = vf_fma(q, r, vf_splat(1.0f));
    return vf_scale2(vf_fma(q, r, vf_splat(1.0f)), n);
}

KA_FN vf vf_exp2(vf x) {
    vf y = vf_clamp(x, -151.0f, 129.0f), magic = vf_splat(KA_MAGIC);
    vf n = (y + magic) - magic, f = y - n;
    vf q = vf_splat(1.532646129e-04f);
    q = vf_fma(q, f, vf_splat(1.339080627e-03f));
    q = vf_fma(q, f, vf_splat(9.618505836e-03f));
    q = vf_fma(q, f, vf_splat(5.550359935e-02f));
    q = vf_fma(q, f, vf_splat(2.402264774e-01f));
    q = vf_fma(q, f, vf_splat(6.931471825e-01f));
    return vf_scale2(vf_fma(q, f, vf_splat(1.0f)), n);
}

/* exp(x) - 1 for |x| <= 60, without cancellation near zero. */
KA_FN vf ka_expm1(vf x) {
    vf n, r = ka_exp_reduce(x, &n);
    vf q = vf_splat(1.387070748e-03f);
    q = vf_fma(q, r, vf_splat(8.366272785e-03f));
    q = vf_fma(q, r, vf_splat(4.166743532e-02f));
    q = vf_fma(q, r, vf_splat(1.666654646e-01f));
    q = vf_fma(q, r, vf_splat(4.999999702e-01f));
    q = vf_fma(q, r * r, r);
    vf s = vf_pow2i(n);
    return vf_fma(s, q, s - vf_splat(1.0f));
}

/* With e = exp(-|x|): 1 / (1 + e) for x >= 0, e / (1 + e) below, so that neither side cancels or overflows. */
KA_FN vf vf_sigmoid(vf x) {
    vf one = vf_splat(1.0f), e = vf_exp(-vf_abs(x));
    return vf_select(vf_lt(x, vf_zero()), e, one) / (one + e);
}

/* With e = exp(2|x|) - 1: e / (e + 2). Beyond 10 the float nearest to tanh is 1. */
KA_FN vf vf_tanh(vf x) {
    vf size = vf_clamp(vf_abs(x), 0.0f, 10.0f), e = ka_expm1(size + size);
    return vf_copysign(e / (e + vf_splat(2.0f)), x);
}

#if defined(KA_AVX512)
/* erf(x) = x q(|x|): sixteen polynomials q of degree 5 around k * 0.258, whose coefficients stand in registers and are
 * looked up by lane. About half the cycles of the way below. From the clamp on the product rounds to 1. */
KA_FN vf ka_pick(vf table, vi k) { return (vf)_mm512_permutexvar_ps((__m512i)k, (__m512)table); }
KA_FN vf vf_erf(vf x) {
    const vf c0 = {
        1.128379226e+00f, 1.103822827e+00f, 1.035707831e+00f, 9.383036494e-01f, 8.289246559e-01f, 7.222748399e-01f,
        6.273997426e-01f, 5.476882458e-01f, 4.826777279e-01f, 4.301158786e-01f, 3.873982430e-01f, 3.522517681e-01f,
        3.229128420e-01f, 2.980763018e-01f, 2.767856419e-01f, 2.583333254e-01f};
    const vf c1 = {
        -1.141635130e-05f, -1.865539998e-01f, -3.317201436e-01f, -4.115886092e-01f, -4.264024794e-01f, -3.943057358e-01f,
        -3.389201164e-01f, -2.792839110e-01f, -2.260955274e-01f, -1.829821318e-01f, -1.495565027e-01f, -1.239629015e-01f,
        -1.042490155e-01f, -8.884531260e-02f, -7.660964876e-02f, -6.673602015e-02f};
    const vf c2 = {
        -3.755923808e-01f, -3.327873051e-01f, -2.217881083e-01f, -8.802678436e-02f, 2.430241741e-02f, 9.209468216e-02f,
        1.162640527e-01f, 1.114324778e-01f, 9.361723810e-02f, 7.366208732e-02f, 5.650431290e-02f, 4.330918193e-02f,
        3.358513117e-02f, 2.646953426e-02f, 2.120022476e-02f, 1.724065468e-02f};
    const vf c3 = {
        -9.733429179e-03f, 1.075704992e-01f, 1.688559502e-01f, 1.667197794e-01f, 1.184527203e-01f, 5.712355301e-02f,
        8.752649650e-03f, -1.765774004e-02f, -2.602991834e-02f, -2.451548539e-02f, -1.959289052e-02f, -1.462198142e-02f,
        -1.069408283e-02f, -7.859430276e-03f, -5.861499347e-03f, -4.453055095e-03f};
    const vf c4 = {
        1.892421693e-01f, 8.740817755e-02f, 2.828028239e-02f, -2.869619615e-02f, -5.780151486e-02f, -5.588551611e-02f,
        -3.627875075e-02f, -1.586024836e-02f, -2.196736168e-03f, 3.717804328e-03f, 5.209187046e-03f, 4.473225679e-03f,
        3.308163024e-03f, 2.237746259e-03f, 1.692950376e-03f, 1.113103353e-03f};
    const vf c5 = {
        -2.200298309e-01f, -3.664464504e-02f, -4.972443357e-02f, -3.566443175e-02f, -9.438375942e-03f, 1.088240650e-02f,
        1.717377827e-02f, 1.389549486e-02f, 7.358075120e-03f, 2.422882942e-03f, -2.013056655e-04f, -9.095959831e-04f,
        -8.579172427e-04f, -5.835956545e-04f, -4.903771915e-04f, -2.808205900e-04f};
    vf a = vf_clamp(vf_abs(x), 0.0f, 0x1.fffff4p+1f);
    vf shifted = vf_fma(a, vf_splat(3.875f), vf_splat(KA_MAGIC));
    vf d = vf_fma(shifted - vf_splat(KA_MAGIC), vf_splat(-0x1.084210p-2f), a);
    vi k = (vi)shifted;
    vf q = ka_pick(c5, k);
    q = vf_fma(q, d, ka_pick(c4, k));
    q = vf_fma(q, d, ka_pick(c3, k));
    q = vf_fma(q, d, ka_pick(c2, k));
    q = vf_fma(q, d, ka_pick(c1, k));
    q = vf_fma(q, d, ka_pick(c0, k));
    return vf_copysign(a * q, x);
}
#else
/* erf(x) = 1 - exp(-g(x)) with g = -log(erfc(x)), which is smooth on [0, 4]; beyond 4 the nearest float is 1. */
KA_FN vf vf_erf(vf x) {
    vf a = vf_clamp(vf_abs(x), 0.0f, 4.0f);
    vf q = vf_splat(-9.264205801e-06f);
    q = vf_fma(q, a, vf_splat(1.177138765e-04f));
    q = vf_fma(q, a, vf_splat(-6.331018521e-04f));
    q = vf_fma(q, a, vf_splat(1.667522942e-03f));
    q = vf_fma(q, a, vf_splat(-1.609020255e-04f));
    q = vf_fma(q, a, vf_splat(-1.915278658e-02f));
    q = vf_fma(q, a, vf_splat(1.027777568e-01f));
    q = vf_fma(q, a, vf_splat(6.366193891e-01f));
    q = vf_fma(q, a, vf_splat(-5.411965986e-08f));
    /* The leading coefficient 2/sqrt(pi) is split in two floats. */
    vf g = vf_fma(a, vf_splat(1.128379226f), a * q);
    return vf_copysign(ka_expm1(-g), x);
}
#endif

/* Logarithms --------------------------------------------------------------------------------------------------------- */

/* x = m * 2^e with m in [0.75, 1.5). Zero: e = -inf; inf: e = inf; NaN or negative: m = NaN (AVX-512 only; the other
 * paths put these back in ka_log_specials). */
KA_FN vf ka_log_reduce(vf x, vf *e) {
#if defined(KA_AVX512)
    __m512 m = _mm512_getmant_ps((__m512)x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan);
    *e = (vf)_mm512_getexp_ps((__m512)x) - (vf)_mm512_getexp_ps(m);
    return (vf)m;
#else
    vm small = vf_lt(x, vf_splat(0x1p-126f));
    vf y = vf_select(small, x * vf_splat(0x1p23f), x);
    vi i = ((vi)y - 0x3f400000) >> 23;
    *e = __builtin_convertvector(i, vf) - vf_select(small, vf_splat(23.0f), vf_zero());
    return (vf)((vi)y - (i << 23));
#endif
}
KA_FN vf ka_log_specials(vf x, vf y) {
#if defined(KA_AVX512)
    (void)x;
    return y;
#else
    vf inf = vf_splat(__builtin_inff());
    y = vf_select(vf_eq(x, vf_zero()), -inf, y);
    y = vf_select(vf_eq(x, inf), inf, y);
    return vf_select(vf_ge(x, vf_zero()), y, vf_splat(__builtin_nanf("")));
#endif
}
/* log(1 + f) - f for f in [-0.25, 0.5]. */
KA_FN vf ka_log_tail(vf f) {
    vf p = vf_splat(3.762654215e-02f), ff = f * f;
    p = vf_fma(p, f, vf_splat(-9.109102190e-02f));
    p = vf_fma(p, f, vf_splat(1.169775352e-01f));
    p = vf_fma(p, f, vf_splat(-1.272820681e-01f));
    p = vf_fma(p, f, vf_splat(1.427670270e-01f));
    p = vf_fma(p, f, vf_splat(-1.665531844e-01f));
    p = vf_fma(p, f, vf_splat(1.999958158e-01f));
    p = vf_fma(p, f, vf_splat(-2.500016391e-01f));
    p = vf_fma(p, f, vf_splat(3.333334029e-01f));
    return ff * vf_fma(p, f, vf_splat(-0.5f));
}

KA_FN vf vf_log(vf x) {
    vf e, f = ka_log_reduce(x, &e) - vf_splat(1.0f);
    vf low = vf_fma(e, vf_splat(KA_LN2_LOW), ka_log_tail(f));
    return ka_log_specials(x, vf_fma(e, vf_splat(KA_LN2_HIGH), f + low));
}

KA_FN vf vf_log2(vf x) {
    vf e, f = ka_log_reduce(x, &e) - vf_splat(1.0f);
    /* log2(e) = 1.4375 + LOW: f * 1.4375 is exact enough to leave one rounding of the sum. */
    vf tail = ka_log_tail(f), low = vf_splat(5.1950408889634e-03f);
    vf sum = vf_fma(f, low, vf_fma(tail, low, tail * vf_splat(1.4375f)));
    vf main = vf_fma(f, vf_splat(1.4375f), sum);
    return ka_log_specials(x, e + main);
}

/* Circular functions --------------------------------------------------------------------------------------------------- */

typedef float ka_half_f __attribute__((vector_size(KA_BYTES / 2)));
typedef int32_t ka_half_i __attribute__((vector_size(KA_BYTES / 2)));
#if KA_LANES == 16
#define KA_LOW_HALF 0, 1, 2, 3, 4, 5, 6, 7
#define KA_HIGH_HALF 8, 9, 10, 11, 12, 13, 14, 15
#elif KA_LANES == 8
#define KA_LOW_HALF 0, 1, 2, 3
#define KA_HIGH_HALF 4, 5, 6, 7
#else
#define KA_LOW_HALF 0, 1
#define KA_HIGH_HALF 2, 3
#endif

/* Beyond this the reduction below loses bits and libm takes over. */
#define KA_TRIG_LIMIT 1.0e6f

/* r = x - q pi/2 in double, |r| <= pi/4: pi/2 is split so that q * HIGH is exact. */
KA_FN ka_half_f ka_trig_reduce_half(ka_half_f x, ka_half_i *quadrant) {
    const vd magic = vd_splat(6755399441055744.0);
    vd wide = __builtin_convertvector(x, vd);
    vd n = (wide * vd_splat(0.63661977236758134) + magic) - magic;
    *quadrant = __builtin_convertvector(n, ka_half_i);
    vd r = (wide - n * vd_splat(0x1.921fb544p+0)) - n * vd_splat(0x1.0b4611a626331p-34);
    return __builtin_convertvector(r, ka_half_f);
}
KA_FN vf ka_trig_reduce(vf x, vi *quadrant) {
    ka_half_i q0, q1;
    ka_half_f r0 = ka_trig_reduce_half(__builtin_shufflevector(x, x, KA_LOW_HALF), &q0);
    ka_half_f r1 = ka_trig_reduce_half(__builtin_shufflevector(x, x, KA_HIGH_HALF), &q1);
    *quadrant = __builtin_shufflevector(q0, q1, KA_LOW_HALF, KA_HIGH_HALF);
    return __builtin_shufflevector(r0, r1, KA_LOW_HALF, KA_HIGH_HALF);
}
KA_FN vf ka_sin_poly(vf r) {
    vf s = r * r, p = vf_splat(-1.951720624e-04f);
    p = vf_fma(p, s, vf_splat(8.332184516e-03f));
    p = vf_fma(p, s, vf_splat(-1.666665524e-01f));
    return vf_fma(p, s * r, r);
}
KA_FN vf ka_cos_poly(vf r) {
    vf s = r * r, p = vf_splat(2.443142512e-05f);
    p = vf_fma(p, s, vf_splat(-1.388730481e-03f));
    p = vf_fma(p, s, vf_splat(4.166664556e-02f));
    return vf_fma(vf_fma(p, s, vf_splat(-0.5f)), s, vf_splat(1.0f));
}
/* sin(x + shift pi/2). */
KA_FN vf ka_trig(vf x, int32_t shift) {
    vi q;
    vf r = ka_trig_reduce(x, &q);
    q = q + shift;
    vf y = vf_select(vm_from_vi(q & 1), ka_cos_poly(r), ka_sin_poly(r));
    return (vf)((vi)y ^ ((q & 2) << 30));
}
KA_PROC void ka_trig_large(const float *x, float *y, int cosine) {
    for (int i = 0; i < KA_LANES; ++i)
        if (__builtin_fabsf(x[i]) > KA_TRIG_LIMIT) y[i] = (float)(cosine ? cos((double)x[i]) : sin((double)x[i]));
}
KA_FN vf ka_trig_patch(vf x, vf y, int cosine) {
    if (__builtin_expect(vm_any(vf_gt(vf_abs(x), vf_splat(KA_TRIG_LIMIT))), 0)) {
        float in[KA_LANES], out[KA_LANES];
        vf_store(in, x);
        vf_store(out, y);
        ka_trig_large(in, out, cosine);
        y = vf_load(out);
    }
    return y;
}
/* The sign of zero is kept by the copy for tiny arguments being exact: sin(-0) = -0. */
KA_FN vf vf_sin(vf x) {
    vf y = ka_trig_patch(x, ka_trig(x, 0), 0);
    return vf_select(vf_eq(x, vf_zero()), x, y);
}
KA_FN vf vf_cos(vf x) { return ka_trig_patch(x, ka_trig(x, 1), 1); }

/* Roots and reciprocals -------------------------------------------------------------------------------------------------- */

KA_FN vf vf_rsqrt(vf x) { return vf_splat(1.0f) / vf_sqrt(x); }
KA_FN vf vf_recip(vf x) { return vf_splat(1.0f) / x; }

/* Scalars ------------------------------------------------------------------------------------------------------------ */

#define KA_SCALAR(name)                                                                                                \
    KA_FN float f32_##name(float x) { return vf_##name(vf_splat(x))[0]; }
KA_SCALAR(exp)
KA_SCALAR(exp2)
KA_SCALAR(log)
KA_SCALAR(log2)
KA_SCALAR(tanh)
KA_SCALAR(erf)
KA_SCALAR(sin)
KA_SCALAR(cos)
KA_SCALAR(sigmoid)
KA_SCALAR(rsqrt)
KA_SCALAR(recip)
KA_SCALAR(sqrt)
KA_SCALAR(abs)
KA_SCALAR(floor)
KA_SCALAR(ceil)
KA_SCALAR(round)
#undef KA_SCALAR

KA_FN double f64_exp(double x) { return exp(x); }
KA_FN double f64_exp2(double x) { return exp2(x); }
KA_FN double f64_log(double x) { return log(x); }
KA_FN double f64_log2(double x) { return log2(x); }
KA_FN double f64_tanh(double x) { return tanh(x); }
KA_FN double f64_erf(double x) { return erf(x); }
KA_FN double f64_sin(double x) { return sin(x); }
KA_FN double f64_cos(double x) { return cos(x); }
KA_FN double f64_sqrt(double x) { return sqrt(x); }
KA_FN double f64_abs(double x) { return fabs(x); }
KA_FN double f64_floor(double x) { return floor(x); }
KA_FN double f64_ceil(double x) { return ceil(x); }
KA_FN double f64_round(double x) { return rint(x); }
KA_FN double f64_rsqrt(double x) { return 1.0 / sqrt(x); }
KA_FN double f64_recip(double x) { return 1.0 / x; }
KA_FN double f64_sigmoid(double x) {
    double e = exp(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}

/* NaN if either operand is NaN. */
KA_FN float f32_max(float a, float b) { return a > b || a != a ? a : b; }
KA_FN float f32_min(float a, float b) { return a < b || a != a ? a : b; }
KA_FN double f64_max(double a, double b) { return a > b || a != a ? a : b; }
KA_FN double f64_min(double a, double b) { return a < b || a != a ? a : b; }

#endif
