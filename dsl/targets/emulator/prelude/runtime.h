// What an emitted body calls and the runner provides. Plain types only: the body is compiled without system headers.
#ifndef KA_RUNTIME_H
#define KA_RUNTIME_H

#define KA_MAX_RANK 8

typedef float ka_f32;
typedef double ka_f64;
typedef long long ka_i64;
typedef int ka_i32;
typedef short ka_i16;
typedef signed char ka_i8;
typedef unsigned long long ka_u64;
typedef unsigned int ka_u32;
typedef unsigned short ka_u16;
typedef unsigned char ka_u8;
typedef bool ka_bool;

// An element of a global array: its address and how it was named.
struct ka_place {
    ka_u8 *address;
    const void *base;  // identifies the registered array
    ka_i64 at[KA_MAX_RANK];
    int rank;
};

// What the launcher knows of a tensor map. Axes from the innermost one on.
#define KA_MAP_RANK 5
struct ka_tensor_map {
    ka_i32 rank, element_bytes, array;
    ka_i32 swizzle;               // bytes of the rows over which chunks are exchanged, or 0
    ka_i64 first;                 // byte offset of coordinate (0, ..., 0) in the array
    ka_i64 strides[KA_MAP_RANK];  // bytes
    ka_u32 dims[KA_MAP_RANK];
    ka_u16 box[KA_MAP_RANK];      // elements that arrive along each axis
    ka_u8 steps[KA_MAP_RANK];     // between them
    ka_u8 number;                 // enum ka_number of the elements, KA_NO_NUMBER where none
    ka_u8 reserved[28];
};
static_assert(sizeof(ka_tensor_map) == 128, "as the driver's");

enum ka_shuffle_mode { KA_SHUFFLE_XOR, KA_SHUFFLE_UP, KA_SHUFFLE_FROM };
enum ka_number { KA_F32, KA_F64, KA_F16, KA_BF16, KA_I32, KA_NO_NUMBER };
enum ka_small_float { KA_SMALL_F16, KA_SMALL_BF16, KA_SMALL_E4M3, KA_SMALL_E5M2 };
enum ka_mma_atom { KA_MMA_BF16, KA_MMA_F16, KA_MMA_TF32, KA_MMA_S8, KA_MMA_U8, KA_MMA_E4M3, KA_MMA_E5M2 };

extern "C" {
int ka_rt_thread(void);
int ka_rt_block(void);
int ka_rt_blocks(void);
void ka_rt_barrier(int line);
void ka_rt_warp_barrier(int line);
ka_u64 ka_rt_shuffle(int mode, ka_u64 bits, int by, int line);

void ka_rt_load(void *to, const ka_place *from, int count, int size, int line);
void ka_rt_store(const ka_place *to, const void *from, int count, int size, int line);
void ka_rt_forget(const void *registers, int bytes);
void ka_rt_masked(const ka_place *place, int count, bool store, int line);
void ka_rt_atomic_add(const ka_place *to, int number, const void *x, int size, int line);

void ka_rt_shared_load(void *to, ka_u32 at, int bytes, int line);
void ka_rt_shared_store(ka_u32 at, const void *from, int bytes, int line);
void ka_rt_copy_async(ka_u32 at, const ka_place *from, int bytes, int size, bool inside, int line);
void ka_rt_commit(int line);
void ka_rt_wait_group(int pending, int line);

void ka_rt_ldmatrix(ka_u32 *r, ka_u32 at, int count, bool transposed, int line);
void ka_rt_mma(int atom, void *d, const ka_u32 *a, const ka_u32 *b, int line);

int ka_rt_cluster_rank(void);
void ka_rt_cluster_barrier(int line);
void ka_rt_named_barrier(int id, int threads, bool wait, int line);
bool ka_rt_elect(int line);
void ka_rt_registers(int count, bool more, int line);

void ka_rt_mbar_init(ka_u32 at, int arrivals, int line);
void ka_rt_mbar_fence_init(int line);
void ka_rt_mbar_arrive(ka_u32 at, int block, int line);  // block of the cluster, -1: the own one
void ka_rt_mbar_expect(ka_u32 at, int bytes, int line);
void ka_rt_mbar_wait(ka_u32 at, int parity, int line);
void ka_rt_fence_async(int line);

void ka_rt_tma_load(ka_u32 at, const ka_tensor_map *map, ka_u32 barrier, int blocks, const int *corner, int rank, int line);
void ka_rt_tma_store(const ka_tensor_map *map, ka_u32 at, bool add, const int *corner, int rank, int line);
void ka_rt_tma_commit(int line);
void ka_rt_tma_wait(int pending, bool reads_only, int line);

void ka_rt_wgmma_fence(int line);
void ka_rt_wgmma_commit(int line);
void ka_rt_wgmma_settle(const void *d, int bytes);
void ka_rt_wgmma_wait(int pending, int line);
void ka_rt_wgmma(int atom, int n, int turns, void *d, const ka_u32 *a, ka_u64 a_tile, ka_u64 b_tile, int line);

void ka_rt_stmatrix(ka_u32 at, const ka_u32 *r, int count, bool transposed, int line);

void ka_rt_nan(float x, int line);  // a NaN lost its bits in a conversion
ka_u32 ka_rt_encode(int format, double x);    // nearest even; 8-bit formats saturate
float ka_rt_decode(int format, ka_u32 bits);  // exact
}

#endif
