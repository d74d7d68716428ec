// Hopper: boxes by rank, descriptors, registers of asynchronous products.

#define KA_BOX(name)                                                                                             \
    template <int R, class... C> KA_DEVICE void name(ka_u32 at, const ka_tensor_map& map, ka_u32 barrier, C... c) { \
        static_assert(sizeof...(C) == R, "one coordinate an axis");                                              \
        if constexpr (R == 1) name##_1d(at, map, barrier, c...);                                                 \
        else if constexpr (R == 2) name##_2d(at, map, barrier, c...);                                            \
        else if constexpr (R == 3) name##_3d(at, map, barrier, c...);                                            \
        else if constexpr (R == 4) name##_4d(at, map, barrier, c...);                                            \
        else name##_5d(at, map, barrier, c...);                                                                  \
    }
KA_BOX(ka_tma_load)
#undef KA_BOX

template <int R, class... C>
KA_DEVICE void ka_tma_load_multicast(ka_u32 at, const ka_tensor_map& map, ka_u32 barrier, ka_u32 mask, C... c) {
    static_assert(sizeof...(C) == R, "one coordinate an axis");
    if constexpr (R == 1) ka_tma_load_multicast_1d(at, map, barrier, (ka_i16)mask, c...);
    else if constexpr (R == 2) ka_tma_load_multicast_2d(at, map, barrier, (ka_i16)mask, c...);
    else if constexpr (R == 3) ka_tma_load_multicast_3d(at, map, barrier, (ka_i16)mask, c...);
    else if constexpr (R == 4) ka_tma_load_multicast_4d(at, map, barrier, (ka_i16)mask, c...);
    else ka_tma_load_multicast_5d(at, map, barrier, (ka_i16)mask, c...);
}

#define KA_BOX(name)                                                                              \
    template <int R, class... C> KA_DEVICE void name(const ka_tensor_map& map, ka_u32 at, C... c) { \
        static_assert(sizeof...(C) == R, "one coordinate an axis");                               \
        if constexpr (R == 1) name##_1d(map, at, c...);                                           \
        else if constexpr (R == 2) name##_2d(map, at, c...);                                      \
        else if constexpr (R == 3) name##_3d(map, at, c...);                                      \
        else if constexpr (R == 4) name##_4d(map, at, c...);                                      \
        else name##_5d(map, at, c...);                                                            \
    }
KA_BOX(ka_tma_store)
KA_BOX(ka_tma_add)
#undef KA_BOX

// 14-bit fields of 16 bytes each: address, leading and stride offset; base offset 0; the kind of swizzle on top.
template <int SWIZZLE> constexpr ka_u64 ka_descriptor_kind = SWIZZLE == 128 ? 1 : SWIZZLE == 64 ? 2 : SWIZZLE == 32 ? 3 : 0;

template <int SWIZZLE> KA_DEVICE constexpr ka_u64 ka_descriptor_bits(ka_u32 address, ka_u32 lbo, ka_u32 sbo) {
    static_assert(SWIZZLE == 0 || SWIZZLE == 32 || SWIZZLE == 64 || SWIZZLE == 128, "bytes of a row");
    return (ka_u64)((address & 0x3ffff) >> 4) | (ka_u64)(lbo >> 4) << 16 | (ka_u64)(sbo >> 4) << 32 |
           ka_descriptor_kind<SWIZZLE> << 62;
}
template <int SWIZZLE> KA_DEVICE ka_u64 ka_descriptor(ka_u32 at, ka_u32 lbo, ka_u32 sbo) {
    return ka_descriptor_bits<SWIZZLE>(ka_shared_base() + at, lbo, sbo);
}

// Pins N registers in place: what was written before is there before the next statement, and what reads them comes
// after it. The compiler knows of no connection between a product's registers and the wait for it.
template <int N> KA_DEVICE void ka_wgmma_settle(ka_f32* d) {
    KA_UNROLL
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> KA_DEVICE void ka_wgmma_settle(ka_i32* d) {
    KA_UNROLL
    for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i])::"memory");
}
template <int N> KA_DEVICE void ka_wgmma_settle(ka_u32* a) {
    KA_UNROLL
    for (int i = 0; i < N; ++i) asm volatile("" : "+r"(a[i])::"memory");
}
