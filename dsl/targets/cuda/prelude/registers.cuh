// Raw bits, packing, and moves between lanes.

template <class T> KA_DEVICE ka_u32 ka_raw(T x) {
    static_assert(sizeof(T) <= 4, "at most one register");
    if constexpr (ka_is<T, ka_f32>) return __float_as_uint(x);
    else if constexpr (ka_is_small<T>) return x.bits;
    else if constexpr (sizeof(T) == 1) return (ka_u8)x;
    else if constexpr (sizeof(T) == 2) return (unsigned short)x;
    else return (ka_u32)x;
}
KA_DEVICE ka_u64 ka_raw(ka_f64 x) { return (ka_u64)__double_as_longlong(x); }
KA_DEVICE ka_u64 ka_raw(ka_i64 x) { return (ka_u64)x; }
KA_DEVICE ka_u64 ka_raw(ka_u64 x) { return x; }

// The low bits of a register as T.
template <class T> KA_DEVICE T ka_bits(ka_u32 raw) {
    static_assert(sizeof(T) <= 4, "at most one register");
    if constexpr (ka_is<T, ka_f32>) return __uint_as_float(raw);
    else if constexpr (ka_is_half<T>) return T{(unsigned short)raw};
    else if constexpr (ka_is_f8<T>) return T{(unsigned char)raw};
    else if constexpr (ka_is<T, ka_bool>) return (raw & 0xff) != 0;
    else return (T)raw;
}
template <class T> KA_DEVICE T ka_bits(ka_u64 raw) {
    static_assert(sizeof(T) == 8, "two registers");
    if constexpr (ka_is<T, ka_f64>) return __longlong_as_double((long long)raw);
    else return (T)raw;
}

template <class T> KA_DEVICE ka_u32 ka_pack(T low, T high) {
    static_assert(sizeof(T) == 2, "two 16-bit values");
    return ka_raw(low) | ka_raw(high) << 16;
}
template <class T> KA_DEVICE ka_u32 ka_pack4(T a, T b, T c, T d) {
    static_assert(sizeof(T) == 1, "four 8-bit values");
    return __byte_perm(__byte_perm(ka_raw(a), ka_raw(b), 0x0040), __byte_perm(ka_raw(c), ka_raw(d), 0x0040), 0x5410);
}

// V elements out of and into as many registers as they fill; below four bytes the low bits of one. With shifts, not
// byte permutations, the compiler sees that a join of what was split is the register itself.
template <int V, class T> constexpr int ka_words = V * sizeof(T) < 4 ? 1 : V * sizeof(T) / 4;

template <int V, class T> KA_DEVICE void ka_split(T* out, const ka_u32* raw) {
    KA_UNROLL
    for (int i = 0; i < V; ++i) {
        if constexpr (sizeof(T) == 8) out[i] = ka_bits<T>((ka_u64)raw[2 * i] | (ka_u64)raw[2 * i + 1] << 32);
        else out[i] = ka_bits<T>(raw[i * sizeof(T) / 4] >> 8 * (i * sizeof(T) % 4));
    }
}
template <int V, class T> KA_DEVICE void ka_join(ka_u32* raw, const T* in) {
    if constexpr (sizeof(T) == 8) {
        KA_UNROLL
        for (int i = 0; i < V; ++i) {
            raw[2 * i] = (ka_u32)ka_raw(in[i]);
            raw[2 * i + 1] = (ka_u32)(ka_raw(in[i]) >> 32);
        }
    } else {
        constexpr int each = sizeof(T) < 4 ? (V * (int)sizeof(T) < 4 ? V : 4 / (int)sizeof(T)) : 1;
        KA_UNROLL
        for (int i = 0; i < ka_words<V, T>; ++i) {
            raw[i] = 0;
            KA_UNROLL
            for (int j = 0; j < each; ++j) raw[i] |= ka_raw(in[i * each + j]) << 8 * (j * sizeof(T) % 4);
        }
    }
}

// Shuffles of any 1- to 8-byte value; the atoms move one register.
#define KA_SHUFFLE(name)                                                                        \
    template <class T> KA_DEVICE T name(T x, ka_i32 by) {                                       \
        if constexpr (sizeof(T) == 8) {                                                         \
            ka_u64 raw = ka_raw(x);                                                             \
            ka_u32 low = name((ka_u32)raw, by), high = name((ka_u32)(raw >> 32), by);           \
            return ka_bits<T>((ka_u64)low | (ka_u64)high << 32);                                \
        } else {                                                                                \
            return ka_bits<T>(name(ka_raw(x), by));                                             \
        }                                                                                       \
    }
KA_SHUFFLE(ka_shfl_xor)
KA_SHUFFLE(ka_shfl_up)
KA_SHUFFLE(ka_shfl)
#undef KA_SHUFFLE
