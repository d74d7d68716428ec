// What the hand-written parts of the CUDA prelude need in order to be compiled and run on the host: the builtins of the
// CUDA compiler, and the wrappers of the few atoms they call.
#include <cmath>
#include <cstring>
#include <limits>

#define __device__
#define __forceinline__ inline
#define __global__
#define __shared__
#define __constant__ const
#define __align__(n)
struct { unsigned x; } threadIdx, blockIdx, gridDim;
static unsigned long __cvta_generic_to_shared(const void*) { return 0; }

template <class To, class From> static To reinterpreted(From x) {
    To y;
    static_assert(sizeof x == sizeof y, "");
    memcpy(&y, &x, sizeof y);
    return y;
}
static unsigned __float_as_uint(float x) { return reinterpreted<unsigned>(x); }
static float __uint_as_float(unsigned x) { return reinterpreted<float>(x); }
static long long __double_as_longlong(double x) { return reinterpreted<long long>(x); }
static double __longlong_as_double(long long x) { return reinterpreted<double>(x); }
static unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
static unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i) out |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}
template <class T> static T min(T a, T b) { return a < b ? a : b; }
template <class T> static T max(T a, T b) { return a > b ? a : b; }

// Towards zero: the nearest float, stepped back if it lies beyond.
template <class T> static float towards_zero(T x) {
    float near = (float)x;
    bool beyond = std::fabs((long double)near) > std::fabs((long double)x);
    return beyond ? std::nextafter(near, 0.0f) : near;
}
static float __double2float_rz(double x) { return towards_zero(x); }
static float __int2float_rz(int x) { return towards_zero(x); }
static float __uint2float_rz(unsigned x) { return towards_zero(x); }
static float __ll2float_rz(long long x) { return towards_zero(x); }
static float __ull2float_rz(unsigned long long x) { return towards_zero(x); }

// Saturating; the hardware's own answer to NaN, which the prelude must not pass on: 0, or the top bit from or to 64 bits.
template <class To, class From> static To truncated(From x) {
    if (x != x) return sizeof(From) == 4 && sizeof(To) == 4 ? (To)0 : (To)1 << (8 * sizeof(To) - 1);
    const long double low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
    return (long double)x <= low ? std::numeric_limits<To>::min() : (long double)x >= high ? std::numeric_limits<To>::max() : (To)x;
}
static int __float2int_rz(float x) { return truncated<int>(x); }
static unsigned __float2uint_rz(float x) { return truncated<unsigned>(x); }
static long long __float2ll_rz(float x) { return truncated<long long>(x); }
static unsigned long long __float2ull_rz(float x) { return truncated<unsigned long long>(x); }
static int __double2int_rz(double x) { return truncated<int>(x); }
static unsigned __double2uint_rz(double x) { return truncated<unsigned>(x); }
static long long __double2ll_rz(double x) { return truncated<long long>(x); }
static unsigned long long __double2ull_rz(double x) { return truncated<unsigned long long>(x); }

// Atoms.
static short ka_f32_to_f16(float x) { return reinterpreted<short>((_Float16)x); }
static short ka_f32_to_bf16(float x) {
    unsigned raw = __float_as_uint(x);
    return (short)(x != x ? 0x7fff : (raw + 0x7fff + (raw >> 16 & 1)) >> 16);
}
static float ka_f16_to_f32(short x) { return (float)reinterpreted<_Float16>(x); }
static unsigned ka_to_tf32(float x) { return __float_as_uint(x); }
static unsigned ka_shfl_xor(unsigned x, int) { return x; }
static unsigned ka_shfl_up(unsigned x, int) { return x; }
static unsigned ka_shfl(unsigned x, int) { return x; }
static float ka_exp2(float x) { return exp2f(x); }
static float ka_recip(float x) { return 1.0f / x; }
static float ka_max(float a, float b) { return a > b || a != a ? a : b; }
static float ka_floor(float x) { return floorf(x); }
static float ka_round(float x) { return rintf(x); }
