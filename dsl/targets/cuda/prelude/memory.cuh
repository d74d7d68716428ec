// Global and shared memory by elements; the atoms below move raw registers.

// The lanes of a warp meet, and see each other's earlier accesses. No atom: lanes that are together need no instruction.
KA_DEVICE void ka_warp_barrier() { __syncwarp(); }

template <class T, int R, class... I> KA_DEVICE ka_ptr<T> ka_at(const ka_array<T, R>& array, I... coordinates) {
    static_assert(sizeof...(I) == R, "one coordinate an axis");
    const long long at[] = {(long long)coordinates...};
    long long offset = 0;
    KA_UNROLL
    for (int axis = 0; axis < R; ++axis) offset += at[axis] * array.stride[axis];
    return array.data + offset;
}

// The byte that holds an element of a u4 array: strides count elements, two to a byte.
template <int R, class... I> KA_DEVICE ka_ptr<ka_u8> ka_at_u4(const ka_array<ka_u8, R>& array, I... coordinates) {
    ka_array<ka_u8, R> elements = array;
    elements.data = nullptr;
    return array.data + ((long long)ka_at(elements, coordinates...) >> 1);
}

template <int V, class T> KA_DEVICE void ka_ldg(T* registers, ka_ptr<T> p, bool inside, ka_as<T> fill) {
    constexpr int BYTES = V * sizeof(T);
    ka_u32 raw[ka_words<V, T>];
    T filled[V];
    KA_UNROLL
    for (int i = 0; i < V; ++i) filled[i] = fill;
    ka_join<V>(raw, filled);
    if constexpr (BYTES == 1) ka_ldg_b8(raw, p, inside);
    else if constexpr (BYTES == 2) ka_ldg_b16(raw, p, inside);
    else if constexpr (BYTES == 4) ka_ldg_b32(raw, p, inside);
    else if constexpr (BYTES == 8) ka_ldg_b64(raw, p, inside);
    else if constexpr (BYTES == 16) ka_ldg_b128(raw, p, inside);
    else static_assert(BYTES == 16, "1, 2, 4, 8 or 16 bytes");
    ka_split<V>(registers, raw);
}

template <int V, class T> KA_DEVICE void ka_stg(ka_ptr<T> p, const T* registers, bool inside) {
    constexpr int BYTES = V * sizeof(T);
    ka_u32 raw[ka_words<V, T>];
    ka_join<V>(raw, registers);
    if constexpr (BYTES == 1) ka_stg_b8(p, raw, inside);
    else if constexpr (BYTES == 2) ka_stg_b16(p, raw, inside);
    else if constexpr (BYTES == 4) ka_stg_b32(p, raw, inside);
    else if constexpr (BYTES == 8) ka_stg_b64(p, raw, inside);
    else if constexpr (BYTES == 16) ka_stg_b128(p, raw, inside);
    else static_assert(BYTES == 16, "1, 2, 4, 8 or 16 bytes");
}

template <int V, class T> KA_DEVICE void ka_lds(T* registers, ka_u32 at) {
    constexpr int BYTES = V * sizeof(T);
    ka_u32 raw[ka_words<V, T>];
    if constexpr (BYTES == 1) ka_lds_b8(raw, at);
    else if constexpr (BYTES == 2) ka_lds_b16(raw, at);
    else if constexpr (BYTES == 4) ka_lds_b32(raw, at);
    else if constexpr (BYTES == 8) ka_lds_b64(raw, at);
    else if constexpr (BYTES == 16) ka_lds_b128(raw, at);
    else static_assert(BYTES == 16, "1, 2, 4, 8 or 16 bytes");
    ka_split<V>(registers, raw);
}

template <int V, class T> KA_DEVICE void ka_sts(ka_u32 at, const T* registers) {
    constexpr int BYTES = V * sizeof(T);
    ka_u32 raw[ka_words<V, T>];
    ka_join<V>(raw, registers);
    if constexpr (BYTES == 1) ka_sts_b8(at, raw);
    else if constexpr (BYTES == 2) ka_sts_b16(at, raw);
    else if constexpr (BYTES == 4) ka_sts_b32(at, raw);
    else if constexpr (BYTES == 8) ka_sts_b64(at, raw);
    else if constexpr (BYTES == 16) ka_sts_b128(at, raw);
    else static_assert(BYTES == 16, "1, 2, 4, 8 or 16 bytes");
}

template <int BYTES, class T> KA_DEVICE void ka_cp_async(ka_u32 at, const T* p, bool inside) {
    if constexpr (BYTES == 4) ka_cp_async_4(at, p, inside);
    else if constexpr (BYTES == 8) ka_cp_async_8(at, p, inside);
    else if constexpr (BYTES == 16) ka_cp_async_16(at, p, inside);
    else static_assert(BYTES == 16, "4, 8 or 16 bytes");
}

// One integer that all threads read alike; 64-bit ones stay wide.
template <class T> KA_DEVICE auto ka_scalar(ka_ptr<T> p) {
    T found[1];
    ka_ldg<1>(found, p, true, (T)0);
    if constexpr (sizeof(T) == 8 || ka_is<T, ka_u32>) return (long long)found[0];
    else return (int)found[0];
}

KA_DEVICE void ka_atomic_add(ka_ptr<ka_f32> p, ka_f32 x, bool inside) { ka_red_add_f32(p, x, inside); }
KA_DEVICE void ka_atomic_add(ka_ptr<ka_f64> p, ka_f64 x, bool inside) { ka_red_add_f64(p, x, inside); }
KA_DEVICE void ka_atomic_add(ka_ptr<ka_i32> p, ka_i32 x, bool inside) { ka_red_add_i32(p, x, inside); }
KA_DEVICE void ka_atomic_add(ka_ptr<ka_f16> p, ka_f16 x, bool inside) { ka_red_add_f16(p, (ka_i16)x.bits, inside); }
#if KA_HAS_BF16_RED
KA_DEVICE void ka_atomic_add(ka_ptr<ka_bf16> p, ka_bf16 x, bool inside) { ka_red_add_bf16(p, (ka_i16)x.bits, inside); }
#else
KA_DEVICE void ka_atomic_add(ka_ptr<ka_bf16> p, ka_bf16 x, bool inside) {
    if (!inside) return;
    ka_bf16 found[1];
    ka_ldg<1>(found, p, true, ka_bf16{0});
    for (ka_i16 seen = (ka_i16)found[0].bits;;) {
        ka_bf16 sum = ka_narrow<ka_bf16>(ka_widen(ka_bf16{(unsigned short)seen}) + ka_widen(x));
        ka_i16 old = ka_swap_if_16(p, seen, (ka_i16)sum.bits);
        if (old == seen) return;
        seen = old;
    }
}
#endif
