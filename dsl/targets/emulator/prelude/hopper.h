// The part of the prelude that bodies with roles, bulk copies and warpgroup products need.
#ifndef KA_HOPPER_H
#define KA_HOPPER_H
#include "kernel.h"

#define KA_MAP const ka_tensor_map

// Roles and clusters ----------------------------------------------------------------------------------------------

static inline int ka_cluster_rank() { return ka_rt_cluster_rank(); }
static inline void ka_cluster_barrier(KA_LINE) { ka_rt_cluster_barrier(line); }
static inline bool ka_elect(KA_LINE) { return ka_rt_elect(line); }

template <int ID> static inline void ka_named_barrier(int threads, KA_LINE) {
    static_assert(ID >= 1 && ID <= 15, "barrier 0 is the block's");
    ka_rt_named_barrier(ID, threads, true, line);
}
template <int ID> static inline void ka_named_arrive(int threads, KA_LINE) {
    static_assert(ID >= 1 && ID <= 15, "barrier 0 is the block's");
    ka_rt_named_barrier(ID, threads, false, line);
}
template <int N> static inline void ka_registers_more(KA_LINE) { ka_rt_registers(N, true, line); }
template <int N> static inline void ka_registers_less(KA_LINE) { ka_rt_registers(N, false, line); }

// Barriers with phases --------------------------------------------------------------------------------------------

static inline void ka_mbar_init(ka_u32 at, int arrivals, KA_LINE) { ka_rt_mbar_init(at, arrivals, line); }
static inline void ka_mbar_fence_init(KA_LINE) { ka_rt_mbar_fence_init(line); }
static inline void ka_mbar_arrive(ka_u32 at, KA_LINE) { ka_rt_mbar_arrive(at, -1, line); }
static inline void ka_mbar_arrive_at(ka_u32 at, int block, KA_LINE) { ka_rt_mbar_arrive(at, block, line); }
static inline void ka_mbar_expect(ka_u32 at, int bytes, KA_LINE) { ka_rt_mbar_expect(at, bytes, line); }
static inline void ka_mbar_wait(ka_u32 at, int parity, KA_LINE) { ka_rt_mbar_wait(at, parity, line); }
static inline void ka_fence_async(KA_LINE) { ka_rt_fence_async(line); }

// Bulk copies: the first argument brings the line, as nothing may follow the coordinates ------------------------------

struct ka_at_line {
    ka_u32 at;
    int line;
    ka_at_line(ka_u32 where, KA_LINE) : at(where), line(line) {}
};
struct ka_map_line {
    const ka_tensor_map *map;
    int line;
    ka_map_line(const ka_tensor_map &which, KA_LINE) : map(&which), line(line) {}
};

template <int R, class... I>
static inline void ka_tma_load(ka_at_line to, const ka_tensor_map &map, ka_u32 barrier, I... corner) {
    static_assert(sizeof...(I) == R && R <= KA_MAP_RANK, "one coordinate an axis");
    const int at[] = {(int)corner...};
    ka_rt_tma_load(to.at, &map, barrier, 0, at, R, to.line);
}
template <int R, class... I>
static inline void ka_tma_load_multicast(ka_at_line to, const ka_tensor_map &map, ka_u32 barrier, int blocks, I... corner) {
    static_assert(sizeof...(I) == R && R <= KA_MAP_RANK, "one coordinate an axis");
    const int at[] = {(int)corner...};
    ka_rt_tma_load(to.at, &map, barrier, blocks, at, R, to.line);
}
template <int R, class... I> static inline void ka_tma_store(ka_map_line to, ka_u32 from, I... corner) {
    static_assert(sizeof...(I) == R && R <= KA_MAP_RANK, "one coordinate an axis");
    const int at[] = {(int)corner...};
    ka_rt_tma_store(to.map, from, false, at, R, to.line);
}
template <int R, class... I> static inline void ka_tma_add(ka_map_line to, ka_u32 from, I... corner) {
    static_assert(sizeof...(I) == R && R <= KA_MAP_RANK, "one coordinate an axis");
    const int at[] = {(int)corner...};
    ka_rt_tma_store(to.map, from, true, at, R, to.line);
}
static inline void ka_tma_commit(KA_LINE) { ka_rt_tma_commit(line); }
template <int N> static inline void ka_tma_wait(KA_LINE) { ka_rt_tma_wait(N, false, line); }
template <int N> static inline void ka_tma_wait_read(KA_LINE) { ka_rt_tma_wait(N, true, line); }

#define KA_STMATRIX(name, count, transposed) \
    static inline void name(ka_u32 at, const ka_u32 *r, KA_LINE) { ka_rt_stmatrix(at, r, count, transposed, line); }
KA_STMATRIX(ka_stmatrix_x1, 1, false)
KA_STMATRIX(ka_stmatrix_x2, 2, false)
KA_STMATRIX(ka_stmatrix_x4, 4, false)
KA_STMATRIX(ka_stmatrix_x1_trans, 1, true)
KA_STMATRIX(ka_stmatrix_x2_trans, 2, true)
KA_STMATRIX(ka_stmatrix_x4_trans, 4, true)
#undef KA_STMATRIX

// Warpgroup products ----------------------------------------------------------------------------------------------

static inline void ka_wgmma_fence(KA_LINE) { ka_rt_wgmma_fence(line); }
static inline void ka_wgmma_commit(KA_LINE) { ka_rt_wgmma_commit(line); }
template <int N> static inline void ka_wgmma_wait(KA_LINE) { ka_rt_wgmma_wait(N, line); }
// Normal code has written these registers, or will read them.
template <int N, class T> static inline void ka_wgmma_settle(T *d) { ka_rt_wgmma_settle(d, N * (int)sizeof(T)); }

// The hardware's 64 bits: units of 16 bytes, base offset 0.
template <int SWIZZLE> static inline ka_u64 ka_descriptor(ka_u32 at, ka_u32 lbo, ka_u32 sbo) {
    static_assert(SWIZZLE == 0 || SWIZZLE == 32 || SWIZZLE == 64 || SWIZZLE == 128, "rows of 32, 64 or 128 bytes");
    const ka_u64 type = SWIZZLE == 128 ? 1 : SWIZZLE == 64 ? 2 : SWIZZLE == 32 ? 3 : 0;
    return (ka_u64)(at >> 4 & 0x3fff) | (ka_u64)(lbo >> 4 & 0x3fff) << 16 | (ka_u64)(sbo >> 4 & 0x3fff) << 32 | type << 62;
}

// Turns: 1 a, 2 b, 4 a from registers, 8 the sum begins (scale-d is false).
#define KA_WGMMA_TURNED(n, kind, atom)                                                                             \
    template <int TA, int TB, int ADD = 1>                                                                           \
    static inline void ka_wgmma_m64n##n##k16_##kind(ka_f32 *d, ka_u64 a, ka_u64 b, KA_LINE) {                        \
        ka_rt_wgmma(atom, n, TA | TB << 1 | !ADD << 3, d, nullptr, a, b, line);                                      \
    }                                                                                                                \
    template <int TB, int ADD = 1>                                                                                   \
    static inline void ka_wgmma_m64n##n##k16_##kind##_ra(ka_f32 *d, const ka_u32 *a, ka_u64 b, KA_LINE) {            \
        ka_rt_wgmma(atom, n, 4 | TB << 1 | !ADD << 3, d, a, 0, b, line);                                             \
    }
#define KA_WGMMA_PLAIN(n, depth, type, kind, atom)                                                              \
    template <int ADD = 1>                                                                                  \
    static inline void ka_wgmma_m64n##n##k##depth##_##kind(type *d, ka_u64 a, ka_u64 b, KA_LINE) {          \
        ka_rt_wgmma(atom, n, !ADD << 3, d, nullptr, a, b, line);                                            \
    }                                                                                                       \
    template <int ADD = 1>                                                                                  \
    static inline void ka_wgmma_m64n##n##k##depth##_##kind##_ra(type *d, const ka_u32 *a, ka_u64 b, KA_LINE) { \
        ka_rt_wgmma(atom, n, 4 | !ADD << 3, d, a, 0, b, line);                                              \
    }
#define KA_WGMMA(n)                                    \
    KA_WGMMA_TURNED(n, f16, KA_MMA_F16)                \
    KA_WGMMA_TURNED(n, bf16, KA_MMA_BF16)              \
    KA_WGMMA_PLAIN(n, 8, ka_f32, tf32, KA_MMA_TF32)    \
    KA_WGMMA_PLAIN(n, 32, ka_f32, e4m3, KA_MMA_E4M3)   \
    KA_WGMMA_PLAIN(n, 32, ka_f32, e5m2, KA_MMA_E5M2)
#define KA_WGMMA_INTEGERS(n) KA_WGMMA_PLAIN(n, 32, ka_i32, s8, KA_MMA_S8)
KA_WGMMA(8) KA_WGMMA(16) KA_WGMMA(24) KA_WGMMA(32) KA_WGMMA(40) KA_WGMMA(48) KA_WGMMA(56) KA_WGMMA(64)
KA_WGMMA(72) KA_WGMMA(80) KA_WGMMA(88) KA_WGMMA(96) KA_WGMMA(104) KA_WGMMA(112) KA_WGMMA(120) KA_WGMMA(128)
KA_WGMMA(136) KA_WGMMA(144) KA_WGMMA(152) KA_WGMMA(160) KA_WGMMA(168) KA_WGMMA(176) KA_WGMMA(184) KA_WGMMA(192)
KA_WGMMA(200) KA_WGMMA(208) KA_WGMMA(216) KA_WGMMA(224) KA_WGMMA(232) KA_WGMMA(240) KA_WGMMA(248) KA_WGMMA(256)
// Integers come in steps of 16 from 32 on.
KA_WGMMA_INTEGERS(8) KA_WGMMA_INTEGERS(16) KA_WGMMA_INTEGERS(24) KA_WGMMA_INTEGERS(32) KA_WGMMA_INTEGERS(48)
KA_WGMMA_INTEGERS(64) KA_WGMMA_INTEGERS(80) KA_WGMMA_INTEGERS(96) KA_WGMMA_INTEGERS(112) KA_WGMMA_INTEGERS(128)
KA_WGMMA_INTEGERS(144) KA_WGMMA_INTEGERS(160) KA_WGMMA_INTEGERS(176) KA_WGMMA_INTEGERS(192) KA_WGMMA_INTEGERS(208)
KA_WGMMA_INTEGERS(224) KA_WGMMA_INTEGERS(240) KA_WGMMA_INTEGERS(256)
#undef KA_WGMMA
#undef KA_WGMMA_INTEGERS
#undef KA_WGMMA_TURNED
#undef KA_WGMMA_PLAIN

#endif
