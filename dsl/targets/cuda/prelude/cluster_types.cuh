// Hopper: kernels of clusters, tensor maps among the parameters.

#define KA_CLUSTER_KERNEL(name, threads, min_blocks, blocks)                                              \
    extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(threads, min_blocks) name
#define KA_MAP const __grid_constant__ ka_tensor_map

struct __align__(64) ka_tensor_map { ka_u64 opaque[16]; };
