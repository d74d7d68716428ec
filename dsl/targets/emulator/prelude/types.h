// Element types and conversions of emitted bodies.
#ifndef KA_TYPES_H
#define KA_TYPES_H
#include "runtime.h"

struct ka_f16 { ka_u16 bits; };
struct ka_bf16 { ka_u16 bits; };
struct ka_f8e4m3 { ka_u8 bits; };
struct ka_f8e5m2 { ka_u8 bits; };

template <class T> struct ka_same { typedef T type; };  // keeps a parameter out of deduction

template <class To, class From> static inline To ka_reinterpret(From x) {
    To y;
    __builtin_memset(&y, 0, sizeof y);
    __builtin_memcpy(&y, &x, sizeof x < sizeof y ? sizeof x : sizeof y);
    return y;
}

template <class T> static inline T ka_bits(ka_u32 x) { return ka_reinterpret<T>(x); }
template <class T> static inline T ka_bits(ka_u64 x) { return ka_reinterpret<T>(x); }

template <int BYTES> struct ka_word { typedef ka_u32 type; };
template <> struct ka_word<8> { typedef ka_u64 type; };
template <class T> static inline typename ka_word<sizeof(T)>::type ka_raw(T x) {
    return ka_reinterpret<typename ka_word<sizeof(T)>::type>(x);
}

// Every type as a C number: small floats widen exactly.
template <class T> static inline T ka_number_of(T x) { return x; }
static inline ka_f32 ka_number_of(ka_bf16 x) { return ka_reinterpret<ka_f32>((ka_u32)x.bits << 16); }
static inline ka_f32 ka_number_of(ka_f16 x) { return ka_rt_decode(KA_SMALL_F16, x.bits); }
static inline ka_f32 ka_number_of(ka_f8e4m3 x) { return ka_rt_decode(KA_SMALL_E4M3, x.bits); }
static inline ka_f32 ka_number_of(ka_f8e5m2 x) { return ka_rt_decode(KA_SMALL_E5M2, x.bits); }

template <class T> struct ka_is_float { static const bool value = false; };
template <> struct ka_is_float<ka_f32> { static const bool value = true; };
template <> struct ka_is_float<ka_f64> { static const bool value = true; };

// Float to integer: toward zero, saturating, NaN to 0.
template <class To, class From> static inline To ka_truncated(From x) {
    const To lowest = (To)-1 < 0 ? (To)((ka_u64)1 << (sizeof(To) * 8 - 1)) : (To)0;
    const To highest = (To)~lowest;
    if (!(x == x)) return 0;
    if (x <= (From)lowest) return lowest;
    if (x >= (From)highest) return highest;
    return (To)x;
}

template <class To> struct ka_caster {  // integers
    static inline To from(ka_f32 x) { return ka_truncated<To>(x); }
    static inline To from(ka_f64 x) { return ka_truncated<To>(x); }
    template <class From> static inline To from(From x) { return (To)x; }
};
template <> struct ka_caster<ka_f32> {
    template <class From> static inline ka_f32 from(From x) { return (ka_f32)x; }
};
template <> struct ka_caster<ka_f64> {
    template <class From> static inline ka_f64 from(From x) { return (ka_f64)x; }
};
template <> struct ka_caster<ka_bool> {
    template <class From> static inline ka_bool from(From x) { return x != 0; }
};
template <> struct ka_caster<ka_bf16> {
    static inline ka_bf16 from(ka_f32 x) {
        ka_u32 u = ka_reinterpret<ka_u32>(x);
        if (x != x) return ka_bf16{(ka_u16)((u >> 16) | 0x40)};
        return ka_bf16{(ka_u16)((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
    }
    template <class From> static inline ka_bf16 from(From x) { return ka_bf16{(ka_u16)ka_rt_encode(KA_SMALL_BF16, (double)x)}; }
};
template <> struct ka_caster<ka_f16> {
    template <class From> static inline ka_f16 from(From x) { return ka_f16{(ka_u16)ka_rt_encode(KA_SMALL_F16, (double)x)}; }
};
template <> struct ka_caster<ka_f8e4m3> {
    template <class From> static inline ka_f8e4m3 from(From x) { return ka_f8e4m3{(ka_u8)ka_rt_encode(KA_SMALL_E4M3, (double)x)}; }
};
template <> struct ka_caster<ka_f8e5m2> {
    template <class From> static inline ka_f8e5m2 from(From x) { return ka_f8e5m2{(ka_u8)ka_rt_encode(KA_SMALL_E5M2, (double)x)}; }
};

// A NaN may be that of an accumulator in flight, and conversions would hide it.
template <class To, class From> static inline To ka_cast(From x, int line = __builtin_LINE()) {
    const auto number = ka_number_of(x);
    if (number != number) ka_rt_nan((float)number, line);
    return ka_caster<To>::from(number);
}

// f32 bits rounded to the nearest tf32 (10 bits of mantissa), ties away from zero as cvt.rna does.
static inline ka_u32 ka_to_tf32(ka_f32 x) {
    ka_u32 u = ka_reinterpret<ka_u32>(x);
    return (u & 0x7f800000) == 0x7f800000 ? u : (u + 0x1000) & 0xffffe000;
}

static inline ka_u32 ka_to_tf32(ka_u32 x) { return ka_to_tf32(ka_bits<ka_f32>(x)); }

template <class T> static inline ka_u32 ka_pack(T lo, T hi) {
    static_assert(sizeof(T) == 2, "ka_pack takes 16-bit values");
    return ka_raw(lo) | ka_raw(hi) << 16;
}
template <class T> static inline ka_u32 ka_pack4(T a, T b, T c, T d) {
    static_assert(sizeof(T) == 1, "ka_pack4 takes 8-bit values");
    return ka_raw(a) | ka_raw(b) << 8 | ka_raw(c) << 16 | ka_raw(d) << 24;
}
template <class To> static inline ka_u32 ka_pack_cast(ka_f32 lo, ka_f32 hi, int line = __builtin_LINE()) {
    return ka_pack(ka_cast<To>(lo, line), ka_cast<To>(hi, line));
}

#endif
