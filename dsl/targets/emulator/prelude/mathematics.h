// Elementary functions of emitted bodies, by the C library.
#ifndef KA_MATHEMATICS_H
#define KA_MATHEMATICS_H
#include "types.h"

#define KA_UNARY(name, narrow, wide)                          \
    static inline ka_f32 name(ka_f32 x) { return narrow(x); } \
    static inline ka_f64 name(ka_f64 x) { return wide(x); }
KA_UNARY(ka_exp, __builtin_expf, __builtin_exp)
KA_UNARY(ka_exp2, __builtin_exp2f, __builtin_exp2)
KA_UNARY(ka_log, __builtin_logf, __builtin_log)
KA_UNARY(ka_log2, __builtin_log2f, __builtin_log2)
KA_UNARY(ka_sqrt, __builtin_sqrtf, __builtin_sqrt)
KA_UNARY(ka_rsqrt, 1.0f / __builtin_sqrtf, 1.0 / __builtin_sqrt)
KA_UNARY(ka_recip, 1.0f /, 1.0 /)
KA_UNARY(ka_tanh, __builtin_tanhf, __builtin_tanh)
KA_UNARY(ka_erf, __builtin_erff, __builtin_erf)
KA_UNARY(ka_sin, __builtin_sinf, __builtin_sin)
KA_UNARY(ka_cos, __builtin_cosf, __builtin_cos)
KA_UNARY(ka_floor, __builtin_floorf, __builtin_floor)
KA_UNARY(ka_ceil, __builtin_ceilf, __builtin_ceil)
KA_UNARY(ka_round, __builtin_rintf, __builtin_rint)
#undef KA_UNARY

static inline ka_f32 ka_sigmoid(ka_f32 x) { return 1.0f / (1.0f + __builtin_expf(-x)); }
static inline ka_f64 ka_sigmoid(ka_f64 x) { return 1.0 / (1.0 + __builtin_exp(-x)); }
static inline ka_f32 ka_pow(ka_f32 a, ka_f32 b) { return __builtin_powf(a, b); }
static inline ka_f64 ka_pow(ka_f64 a, ka_f64 b) { return __builtin_pow(a, b); }
static inline ka_f32 ka_abs(ka_f32 x) { return __builtin_fabsf(x); }
static inline ka_f64 ka_abs(ka_f64 x) { return __builtin_fabs(x); }
template <class T> static inline T ka_abs(T x) { return x < 0 ? -x : x; }

// NaN of either side comes through: x != x is false on integers.
template <class T> static inline T ka_max(T a, typename ka_same<T>::type b) { return a != a || a > b ? a : b; }
template <class T> static inline T ka_min(T a, typename ka_same<T>::type b) { return a != a || a < b ? a : b; }

// The remainder has the divisor's sign; the quotient is (a - mod) / b, which floats round to the nearest integer.
static inline ka_f32 ka_remainder(ka_f32 a, ka_f32 b) { return __builtin_fmodf(a, b); }
static inline ka_f64 ka_remainder(ka_f64 a, ka_f64 b) { return __builtin_fmod(a, b); }
template <class T> static inline T ka_remainder(T a, T b) { return a % b; }

template <class T> static inline T ka_mod(T a, T b) {
    T rest = ka_remainder(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? (T)(rest + b) : rest;
}
template <class T> static inline T ka_floordiv(T a, T b) {
    T quotient = a / b;
    return quotient * b != a && (a < 0) != (b < 0) ? (T)(quotient - 1) : quotient;
}
static inline ka_f32 ka_floordiv(ka_f32 a, ka_f32 b) { return b == 0 ? a / b : ka_round((a - ka_mod(a, b)) / b); }
static inline ka_f64 ka_floordiv(ka_f64 a, ka_f64 b) { return b == 0 ? a / b : ka_round((a - ka_mod(a, b)) / b); }

// Index integers of different widths meet in the wider one.
template <class A, class B> static inline auto ka_mod(A a, B b) {
    using T = decltype(a % b);
    return ka_mod((T)a, (T)b);
}
template <class A, class B> static inline auto ka_floordiv(A a, B b) {
    using T = decltype(a / b);
    return ka_floordiv((T)a, (T)b);
}

#endif
