// Emulator prelude: gives an emitted body its meaning on the CPU. Every access goes to the runner, which checks it;
// the line of the kernel's text comes from the defaulted last argument.
#ifndef KA_KERNEL_H
#define KA_KERNEL_H
#include "mathematics.h"

// Bounds of the launch: blocks of a multiprocessor, blocks of a cluster (0: as the launch says).
#define KA_KERNEL_OF(name, min_blocks, cluster)                \
    static const int ka_bounds_of_##name[] = {min_blocks, cluster}; \
    extern "C" void name
#define KA_KERNEL(name, threads, min_blocks) KA_KERNEL_OF(name, min_blocks, 0)
#define KA_CLUSTER_KERNEL(name, threads, min_blocks, blocks) KA_KERNEL_OF(name, min_blocks, blocks)
#define KA_PROLOGUE
#define KA_UNROLL
#define KA_ASSUME(condition)
#define KA_LINE int line = __builtin_LINE()

// Threads and control ---------------------------------------------------------------------------------------------

static inline int ka_thread() { return ka_rt_thread(); }
static inline int ka_block() { return ka_rt_block(); }
static inline int ka_blocks() { return ka_rt_blocks(); }
static inline void ka_barrier(KA_LINE) { ka_rt_barrier(line); }
static inline void ka_warp_barrier(KA_LINE) { ka_rt_warp_barrier(line); }

template <class T> static inline T ka_shuffled(int mode, T x, int by, int line) {
    static_assert(sizeof(T) <= 8, "shuffles move up to 64 bits");
    return ka_reinterpret<T>(ka_rt_shuffle(mode, ka_reinterpret<ka_u64>(x), by, line));
}
template <class T> static inline T ka_shfl_xor(T x, int mask, KA_LINE) { return ka_shuffled(KA_SHUFFLE_XOR, x, mask, line); }
template <class T> static inline T ka_shfl_up(T x, int by, KA_LINE) { return ka_shuffled(KA_SHUFFLE_UP, x, by, line); }
template <class T> static inline T ka_shfl(T x, int lane, KA_LINE) { return ka_shuffled(KA_SHUFFLE_FROM, x, lane, line); }

// Global memory ---------------------------------------------------------------------------------------------------

template <class T, int R> struct ka_array {
    T *data;
    ka_i64 stride[R];
};
template <class T> struct ka_ptr {
    ka_place place;
};

template <class T, int R, class... I> static inline ka_ptr<T> ka_at(const ka_array<T, R> &array, I... index) {
    static_assert(sizeof...(I) == R && R <= KA_MAX_RANK, "one coordinate an axis");
    const ka_i64 at[] = {(ka_i64)index...};
    ka_ptr<T> p;
    ka_i64 offset = 0;
    for (int k = 0; k < R; k++) {
        p.place.at[k] = at[k];
        offset += at[k] * array.stride[k];
    }
    p.place.address = (ka_u8 *)((ka_u64)array.data + (ka_u64)offset * sizeof(T));
    p.place.base = array.data;
    p.place.rank = R;
    return p;
}

// The byte that holds an element of a u4 array: strides count elements, two to a byte.
template <int R, class... I> static inline ka_ptr<ka_u8> ka_at_u4(const ka_array<ka_u8, R> &array, I... index) {
    ka_ptr<ka_u8> p = ka_at(array, index...);
    p.place.address = (ka_u8 *)((ka_u64)array.data + (ka_u64)((ka_i64)(p.place.address - (ka_u8 *)array.data) >> 1));
    return p;
}

template <int V, class T> static inline void ka_width() {
    static_assert(V * sizeof(T) <= 16 && (V * sizeof(T) & (V * sizeof(T) - 1)) == 0, "1, 2, 4, 8 or 16 bytes");
}

template <int V, class T>
static inline void ka_ldg(T *registers, const ka_ptr<T> &p, bool inside, typename ka_same<T>::type fill, KA_LINE) {
    ka_width<V, T>();
    if (inside) return ka_rt_load(registers, &p.place, V, sizeof(T), line);
    ka_rt_masked(&p.place, V, false, line);
    ka_rt_forget(registers, V * sizeof(T));
    for (int i = 0; i < V; i++) registers[i] = fill;
}

template <int V, class T> static inline void ka_stg(const ka_ptr<T> &p, const T *registers, bool inside, KA_LINE) {
    ka_width<V, T>();
    if (inside) return ka_rt_store(&p.place, registers, V, sizeof(T), line);
    ka_rt_masked(&p.place, V, true, line);
}

template <class T> struct ka_number_code;
template <> struct ka_number_code<ka_f32> { static const int value = KA_F32; };
template <> struct ka_number_code<ka_f64> { static const int value = KA_F64; };
template <> struct ka_number_code<ka_f16> { static const int value = KA_F16; };
template <> struct ka_number_code<ka_bf16> { static const int value = KA_BF16; };
template <> struct ka_number_code<ka_i32> { static const int value = KA_I32; };

template <class T>
static inline void ka_atomic_add(const ka_ptr<T> &p, typename ka_same<T>::type x, bool inside, KA_LINE) {
    if (inside) return ka_rt_atomic_add(&p.place, ka_number_code<T>::value, &x, sizeof(T), line);
    ka_rt_masked(&p.place, 1, true, line);
}

template <class T> struct ka_scalar_type { typedef int type; };
template <> struct ka_scalar_type<ka_u32> { typedef ka_i64 type; };
template <> struct ka_scalar_type<ka_i64> { typedef ka_i64 type; };
template <> struct ka_scalar_type<ka_u64> { typedef ka_i64 type; };
template <class T> static inline typename ka_scalar_type<T>::type ka_scalar(const ka_ptr<T> &p, KA_LINE) {
    T x;
    ka_rt_load(&x, &p.place, 1, sizeof(T), line);
    return (typename ka_scalar_type<T>::type)x;
}

// Shared memory ---------------------------------------------------------------------------------------------------

template <int V, class T> static inline void ka_lds(T *registers, ka_u32 at, KA_LINE) {
    ka_width<V, T>();
    ka_rt_shared_load(registers, at, V * sizeof(T), line);
}
template <int V, class T> static inline void ka_sts(ka_u32 at, const T *registers, KA_LINE) {
    ka_width<V, T>();
    ka_rt_shared_store(at, registers, V * sizeof(T), line);
}
template <int BYTES, class T> static inline void ka_cp_async(ka_u32 at, const ka_ptr<T> &p, bool inside, KA_LINE) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
    ka_rt_copy_async(at, &p.place, BYTES, sizeof(T), inside, line);
}
static inline void ka_commit(KA_LINE) { ka_rt_commit(line); }
template <int N> static inline void ka_wait_group(KA_LINE) { ka_rt_wait_group(N, line); }

#define KA_LDMATRIX(name, count, transposed) \
    static inline void name(ka_u32 *r, ka_u32 at, KA_LINE) { ka_rt_ldmatrix(r, at, count, transposed, line); }
KA_LDMATRIX(ka_ldmatrix_x1, 1, false)
KA_LDMATRIX(ka_ldmatrix_x2, 2, false)
KA_LDMATRIX(ka_ldmatrix_x4, 4, false)
KA_LDMATRIX(ka_ldmatrix_x1_trans, 1, true)
KA_LDMATRIX(ka_ldmatrix_x2_trans, 2, true)
KA_LDMATRIX(ka_ldmatrix_x4_trans, 4, true)
#undef KA_LDMATRIX

// Matrix units ----------------------------------------------------------------------------------------------------

#define KA_MMA(name, type, atom) \
    static inline void name(type *d, const ka_u32 *a, const ka_u32 *b, KA_LINE) { ka_rt_mma(atom, d, a, b, line); }
KA_MMA(ka_mma_m16n8k16_bf16, ka_f32, KA_MMA_BF16)
KA_MMA(ka_mma_m16n8k16_f16, ka_f32, KA_MMA_F16)
KA_MMA(ka_mma_m16n8k8_tf32, ka_f32, KA_MMA_TF32)
KA_MMA(ka_mma_m16n8k32_s8, ka_i32, KA_MMA_S8)
KA_MMA(ka_mma_m16n8k32_u8, ka_i32, KA_MMA_U8)
KA_MMA(ka_mma_m16n8k32_e4m3, ka_f32, KA_MMA_E4M3)
KA_MMA(ka_mma_m16n8k32_e5m2, ka_f32, KA_MMA_E5M2)
#undef KA_MMA

// Entry: the runner calls `ka_entry` in each thread with pointers to the arguments ----------------------------------

template <int... I> struct ka_indices {};
template <int N, int... I> struct ka_counting : ka_counting<N - 1, N - 1, I...> {};
template <int... I> struct ka_counting<0, I...> { typedef ka_indices<I...> type; };

template <class... P, int... I> static inline void ka_invoke(void (*kernel)(P...), void *const *arguments, ka_indices<I...>) {
    kernel(*(P *)arguments[I]...);
}
template <class... P> static inline void ka_invoke(void (*kernel)(P...), void *const *arguments) {
    ka_invoke(kernel, arguments, typename ka_counting<sizeof...(P)>::type());
}
template <class... P> static inline int ka_sizes(void (*)(P...), int *sizes) {
    const int each[] = {(int)sizeof(P)..., 0};
    for (unsigned i = 0; i < sizeof...(P); i++) sizes[i] = each[i];
    return sizeof...(P);
}

#define KA_ENTRY(name)                                                                \
    extern "C" const int *ka_bounds() { return ka_bounds_of_##name; }                 \
    extern "C" void ka_entry(void *const *arguments) { ka_invoke(&name, arguments); } \
    extern "C" int ka_argument_sizes(int *sizes) { return ka_sizes(&name, sizes); }

#endif
