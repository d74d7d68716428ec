// Conversions: floats to nearest even, 8-bit floats saturating, float to integer truncating and saturating, NaN -> 0.

KA_DEVICE ka_u32 ka_to_tf32(ka_u32 x) { return ka_to_tf32(__uint_as_float(x)); }

// f32 -> 8-bit float with M mantissa bits by integers, for machines without the instruction. The sum with 2^23 smallest
// steps rounds subnormal results; carries run into the exponent by themselves.
template <int M, int BIAS, ka_u32 LARGEST> KA_DEVICE unsigned char ka_narrow_f8(ka_f32 x) {
    constexpr int DROP = 23 - M;
    constexpr ka_u32 MAGIC = (127 + 1 - BIAS - M + 23) << 23;
    ka_u32 raw = __float_as_uint(x), sign = raw >> 24 & 0x80, a = raw & 0x7fffffff;
    ka_u32 normal = (a + (a >> DROP & 1) + (1u << (DROP - 1)) - 1 >> DROP) - ((127 - BIAS) << M);
    ka_u32 tiny = __float_as_uint(__uint_as_float(a) + __uint_as_float(MAGIC)) - MAGIC;
    ka_u32 r = a < (ka_u32)(128 - BIAS) << 23 ? tiny : normal;
    r = r < LARGEST ? r : LARGEST;
    return (unsigned char)(sign | (a > 0x7f800000u ? 0x7f : r));
}

template <class To> KA_DEVICE To ka_narrow(ka_f32 x) {
    if constexpr (ka_is<To, ka_f16>) return To{(unsigned short)ka_f32_to_f16(x)};
    else if constexpr (ka_is<To, ka_bf16>) return To{(unsigned short)ka_f32_to_bf16(x)};
#if KA_HAS_F8
    else if constexpr (ka_is<To, ka_f8e4m3>) return To{(unsigned char)ka_f32_to_f8e4m3x2(x, 0.0f)};
    else return To{(unsigned char)ka_f32_to_f8e5m2x2(x, 0.0f)};
#else
    else if constexpr (ka_is<To, ka_f8e4m3>) return To{ka_narrow_f8<3, 7, 0x7e>(x)};
    else return To{ka_narrow_f8<2, 15, 0x7b>(x)};
#endif
}

KA_DEVICE ka_f32 ka_widen(ka_f32 x) { return x; }
KA_DEVICE ka_f32 ka_widen(ka_f16 x) { return ka_f16_to_f32((ka_i16)x.bits); }
KA_DEVICE ka_f32 ka_widen(ka_bf16 x) { return __uint_as_float((ka_u32)x.bits << 16); }
#if KA_HAS_F8
KA_DEVICE ka_f32 ka_widen(ka_f8e4m3 x) { return ka_f16_to_f32((ka_i16)ka_f8e4m3x2_to_f16x2((ka_i16)x.bits)); }
#else
// The exponent of f16 is 8 larger; its bits moved into place read 2^-8 of the value, subnormals too.
KA_DEVICE ka_f32 ka_widen(ka_f8e4m3 x) {
    ka_u32 magnitude = x.bits & 0x7f, raw = (ka_u32)(x.bits & 0x80) << 8 | magnitude << 7;
    return magnitude == 0x7f ? __uint_as_float(0x7fffffff) : ka_f16_to_f32((ka_i16)raw) * 256.0f;
}
#endif
KA_DEVICE ka_f32 ka_widen(ka_f8e5m2 x) { return ka_f16_to_f32((ka_i16)(x.bits << 8)); }

// To f32 rounding to odd, so that rounding once more, to at most 22 bits, equals rounding once.
template <class From> KA_DEVICE ka_f32 ka_odd(From x) {
    if constexpr (sizeof(From) < 4) {
        return (ka_f32)x;
    } else {
        ka_f32 r;
        if constexpr (ka_is<From, ka_f64>) r = __double2float_rz(x);
        else if constexpr (ka_is<From, ka_i32>) r = __int2float_rz(x);
        else if constexpr (ka_is<From, ka_u32>) r = __uint2float_rz(x);
        else if constexpr (ka_is<From, ka_i64>) r = __ll2float_rz(x);
        else r = __ull2float_rz(x);
        return (From)r == x ? r : __uint_as_float(__float_as_uint(r) | 1);
    }
}

// Float -> integer of 32 or 64 bits.
template <class To, class From> KA_DEVICE To ka_truncate(From x) {
    if constexpr (ka_is<From, ka_f32>) {
        if constexpr (ka_is<To, ka_i32>) return __float2int_rz(x);
        else if constexpr (ka_is<To, ka_u32>) return __float2uint_rz(x);
        else if constexpr (ka_is<To, ka_i64>) return x == x ? __float2ll_rz(x) : 0;
        else return x == x ? __float2ull_rz(x) : 0;
    } else {
        if constexpr (ka_is<To, ka_i32>) return x == x ? __double2int_rz(x) : 0;
        else if constexpr (ka_is<To, ka_u32>) return x == x ? __double2uint_rz(x) : 0;
        else if constexpr (ka_is<To, ka_i64>) return x == x ? __double2ll_rz(x) : 0;
        else return x == x ? __double2ull_rz(x) : 0;
    }
}

template <class To, class From> KA_DEVICE To ka_cast(From x) {
    if constexpr (ka_is<To, From>) return x;
    else if constexpr (ka_is_small<From>) return ka_cast<To>(ka_widen(x));
    else if constexpr (ka_is<To, ka_bool>) return x != (From)0;
    else if constexpr (ka_is_small<To> && ka_is<From, ka_f32>) return ka_narrow<To>(x);
    else if constexpr (ka_is_small<To>) return ka_narrow<To>(ka_odd(x));
    else if constexpr (ka_is_float<To> || !ka_is_float<From>) return (To)x;
    else if constexpr (sizeof(To) >= 4) return ka_truncate<To>(x);
    else if constexpr (ka_is<To, ka_u8>) return (To)min(ka_truncate<ka_u32>(x), 255u);
    else {
        constexpr int LARGEST = (1 << (8 * sizeof(To) - 1)) - 1;
        return (To)max(min(ka_truncate<ka_i32>(x), LARGEST), -LARGEST - 1);
    }
}
