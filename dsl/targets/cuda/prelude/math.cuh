// Elementary functions that take more than one instruction. The compiler's own sinf and cosf keep an array in local
// memory for large arguments; these do not.

KA_DEVICE ka_f32 ka_log(ka_f32 x) { return logf(x); }
KA_DEVICE ka_f32 ka_log2(ka_f32 x) { return log2f(x); }
KA_DEVICE ka_f32 ka_tanh(ka_f32 x) { return tanhf(x); }
KA_DEVICE ka_f32 ka_erf(ka_f32 x) { return erff(x); }
KA_DEVICE ka_f32 ka_abs(ka_f32 x) { return fabsf(x); }
KA_DEVICE ka_f32 ka_pow(ka_f32 a, ka_f32 b) { return powf(a, b); }

// x log2(e) in two parts: the error of the product does not grow with x, as that of ka_exp does.
KA_DEVICE ka_f32 ka_exp_close(ka_f32 x) {
    ka_f32 high = x * 1.442695041f;
    ka_f32 low = fmaf(x, 1.442695041f, -high) + x * 1.925963033e-8f;
    ka_f32 e = ka_exp2(high);
    return fmaf(e, low * 0.693147182f, e);
}

// The result is 0 long before -104, and -inf would leave no number in the low part.
KA_DEVICE ka_f32 ka_sigmoid(ka_f32 x) {
    ka_f32 e = ka_exp_close(ka_max(-fabsf(x), -104.0f)), s = ka_recip(1.0f + e);
    return x < 0.0f ? e * s : s;
}

// 2/pi in binary: a word of zeros, then the bits after the point.
static __constant__ ka_u32 ka_two_over_pi[] = {0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                               0xf534ddc0, 0xdb629599, 0x3c439041};

// For arguments beyond the reach of a pi of 72 bits. x = m 2^(e - 32) with integer m; bits e - 33 to e + 62 of 2/pi, times
// m, are x 2/pi modulo 4 with 62 bits after the point. Gives quarter turns and the rest in (-pi/4, pi/4].
KA_DEVICE ka_f32 ka_reduce_large(ka_f32 x, ka_i32* quarter) {
    ka_u32 raw = __float_as_uint(x), m = raw << 8 | 0x80000000u;
    int first = (int)(raw >> 23 & 0xff) - 126 - 2, shift = first & 31;
    const ka_u32* bits = ka_two_over_pi + (first >> 5);
    ka_u32 high = __funnelshift_l(bits[1], bits[0], shift), middle = __funnelshift_l(bits[2], bits[1], shift),
           low = __funnelshift_l(bits[3], bits[2], shift);
    ka_u64 turn = (ka_u64)m * middle + ((ka_u64)m * low >> 32) + ((ka_u64)(m * high) << 32);  // 2^-62 quarter turns
    ka_i32 k = (ka_i32)(turn >> 62) + (ka_i32)(turn >> 61 & 1);
    ka_i64 rest = (ka_i64)(turn << 2) >> 2;
    ka_f32 r = (ka_f32)((ka_f64)rest * 3.4061215800865545e-19);  // pi/2 2^-62
    *quarter = raw >> 31 ? -k : k;
    return raw >> 31 ? -r : r;
}

KA_DEVICE ka_f32 ka_reduce(ka_f32 x, ka_i32* quarter) {
    if (fabsf(x) > 48000.0f) return ka_reduce_large(x, quarter);
    ka_f32 k = rintf(x * 0.636619747f);
    *quarter = (ka_i32)k;
    ka_f32 r = fmaf(k, -1.570796371f, x);
    r = fmaf(k, 4.371138829e-8f, r);
    return fmaf(k, 1.715124510e-15f, r);
}

KA_DEVICE ka_f32 ka_trig(ka_f32 x, ka_i32 shift) {
    ka_i32 quarter;
    ka_f32 r = ka_reduce(x, &quarter), s = r * r;
    quarter += shift;
    ka_f32 sine = fmaf(fmaf(fmaf(-1.951720624e-4f, s, 8.332184516e-3f), s, -1.666665524e-1f), s * r, r);
    ka_f32 cosine = fmaf(fmaf(fmaf(2.443142512e-5f, s, -1.388730481e-3f), s, 4.166664556e-2f), s, -0.5f);
    ka_f32 y = quarter & 1 ? fmaf(cosine, s, 1.0f) : sine;
    y = quarter & 2 ? -y : y;
    return fabsf(x) < __uint_as_float(0x7f800000) ? y : __uint_as_float(0x7fffffff);
}
KA_DEVICE ka_f32 ka_sin(ka_f32 x) { return x == 0.0f ? x : ka_trig(x, 0); }
KA_DEVICE ka_f32 ka_cos(ka_f32 x) { return ka_trig(x, 1); }

KA_DEVICE ka_f64 ka_exp(ka_f64 x) { return exp(x); }
KA_DEVICE ka_f64 ka_exp2(ka_f64 x) { return exp2(x); }
KA_DEVICE ka_f64 ka_log(ka_f64 x) { return log(x); }
KA_DEVICE ka_f64 ka_log2(ka_f64 x) { return log2(x); }
KA_DEVICE ka_f64 ka_sqrt(ka_f64 x) { return sqrt(x); }
KA_DEVICE ka_f64 ka_rsqrt(ka_f64 x) { return 1.0 / sqrt(x); }
KA_DEVICE ka_f64 ka_tanh(ka_f64 x) { return tanh(x); }
KA_DEVICE ka_f64 ka_erf(ka_f64 x) { return erf(x); }
KA_DEVICE ka_f64 ka_sin(ka_f64 x) { return sin(x); }
KA_DEVICE ka_f64 ka_cos(ka_f64 x) { return cos(x); }
KA_DEVICE ka_f64 ka_floor(ka_f64 x) { return floor(x); }
KA_DEVICE ka_f64 ka_ceil(ka_f64 x) { return ceil(x); }
KA_DEVICE ka_f64 ka_round(ka_f64 x) { return rint(x); }
KA_DEVICE ka_f64 ka_abs(ka_f64 x) { return fabs(x); }
KA_DEVICE ka_f64 ka_pow(ka_f64 a, ka_f64 b) { return pow(a, b); }
KA_DEVICE ka_f64 ka_sigmoid(ka_f64 x) {
    ka_f64 e = exp(-fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

KA_DEVICE ka_f64 ka_max(ka_f64 a, ka_f64 b) { return a > b || a != a ? a : b; }
KA_DEVICE ka_f64 ka_min(ka_f64 a, ka_f64 b) { return a < b || a != a ? a : b; }
template <class T> KA_DEVICE T ka_max(T a, T b) { return a > b ? a : b; }
template <class T> KA_DEVICE T ka_min(T a, T b) { return a < b ? a : b; }
template <class T> KA_DEVICE T ka_abs(T x) { return x < 0 ? -x : x; }

KA_DEVICE ka_f32 ka_remainder(ka_f32 a, ka_f32 b) { return fmodf(a, b); }
KA_DEVICE ka_f64 ka_remainder(ka_f64 a, ka_f64 b) { return fmod(a, b); }
template <class T> KA_DEVICE T ka_remainder(T a, T b) { return a % b; }

template <class T> KA_DEVICE bool ka_opposite(T a, T b) {
    if constexpr ((T)-1 < (T)0) return (a < 0) != (b < 0);
    else return false;
}

// The remainder has the divisor's sign; the quotient is (a - mod) / b, which floats round to the nearest integer.
template <class T> KA_DEVICE T ka_mod(T a, T b) {
    T rest = ka_remainder(a, b);
    return rest != 0 && ka_opposite(rest, b) ? (T)(rest + b) : rest;
}
template <class T> KA_DEVICE T ka_floordiv(T a, T b) {
    if constexpr (ka_is_float<T>) {
        return b == 0 ? a / b : ka_round((a - ka_mod(a, b)) / b);
    } else {
        T quotient = a / b;
        return quotient * b != a && ka_opposite(a, b) ? (T)(quotient - 1) : quotient;
    }
}

// Index integers of different widths meet in the wider one.
template <class A, class B> KA_DEVICE auto ka_mod(A a, B b) {
    using T = decltype(a % b);
    T wide = b;
    return ka_mod((T)a, wide);
}
template <class A, class B> KA_DEVICE auto ka_floordiv(A a, B b) {
    using T = decltype(a / b);
    T wide = b;
    return ka_floordiv((T)a, wide);
}
