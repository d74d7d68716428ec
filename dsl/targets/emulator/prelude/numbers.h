// Small floats: exact decoding, encoding to nearest even.
#ifndef KA_NUMBERS_H
#define KA_NUMBERS_H
#include <cmath>
#include <vector>
#include "runtime.h"

struct SmallFloat {
    int exponent_bits, mantissa_bits;
    double largest;   // finite
    bool saturates;   // beyond `largest`: that, else infinity
    ka_u32 nan, infinity;
};

static const SmallFloat SMALL[] = {
    {5, 10, 65504.0, false, 0x7fff, 0x7c00},
    {8, 7, 3.3895313892515355e38, false, 0x7fff, 0x7f80},
    {4, 3, 448.0, true, 0x7f, 0x7f},
    {5, 2, 57344.0, true, 0x7f, 0x7c},
};

static ka_u32 encode_small(const SmallFloat &f, double x) {
    ka_u32 sign = std::signbit(x) ? 1u << (f.exponent_bits + f.mantissa_bits) : 0;
    if (std::isnan(x)) return sign | f.nan;
    double size = std::fabs(x);
    int bias = (1 << (f.exponent_bits - 1)) - 1, exponent = 0;
    if (size == 0) return sign;
    if (!std::isinf(size)) {
        std::frexp(size, &exponent);
        int unit = std::max(exponent - 1, 1 - bias) - f.mantissa_bits;  // exponent of the last place
        size = std::ldexp(std::nearbyint(std::ldexp(size, -unit)), unit);
    }
    if (size > f.largest && !f.saturates) return sign | f.infinity;
    size = std::min(size, f.largest);
    if (size == 0) return sign;
    std::frexp(size, &exponent);
    exponent -= 1;
    if (exponent < 1 - bias) return sign | (ka_u32)std::ldexp(size, bias - 1 + f.mantissa_bits);
    ka_u32 mantissa = (ka_u32)std::ldexp(size, f.mantissa_bits - exponent) - (1u << f.mantissa_bits);
    return sign | (ka_u32)(exponent + bias) << f.mantissa_bits | mantissa;
}

static float decode_small(const SmallFloat &f, ka_u32 bits) {
    ka_u32 mantissa = bits & ((1u << f.mantissa_bits) - 1);
    ka_u32 exponent = bits >> f.mantissa_bits & ((1u << f.exponent_bits) - 1);
    bool negative = bits >> (f.exponent_bits + f.mantissa_bits) & 1;
    int bias = (1 << (f.exponent_bits - 1)) - 1;
    ka_u32 magnitude = exponent << f.mantissa_bits | mantissa;
    double size;
    if (f.infinity != f.nan && magnitude == f.infinity) size = INFINITY;
    else if (magnitude > f.infinity || magnitude == f.nan) size = NAN;
    else if (exponent == 0) size = std::ldexp((double)mantissa, 1 - bias - f.mantissa_bits);
    else size = std::ldexp((double)(mantissa | 1u << f.mantissa_bits), (int)exponent - bias - f.mantissa_bits);
    return (float)(negative ? -size : size);
}

static const float *decoded(int format) {
    static std::vector<float> tables[4];
    std::vector<float> &table = tables[format];
    if (table.empty()) {
        int bits = 1 + SMALL[format].exponent_bits + SMALL[format].mantissa_bits;
        for (ka_u32 i = 0; i < 1u << bits; i++) table.push_back(decode_small(SMALL[format], i));
    }
    return table.data();
}

extern "C" ka_u32 ka_rt_encode(int format, double x) {
    return encode_small(SMALL[format], x);
}
extern "C" float ka_rt_decode(int format, ka_u32 bits) { return decoded(format)[bits]; }

#endif
