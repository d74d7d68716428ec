// Types, threads, control. No header is included: every instruction is spelled in PTX or is a compiler builtin.

#define KA_DEVICE __device__ __forceinline__
#define KA_KERNEL(name, threads, min_blocks) extern "C" __global__ void __launch_bounds__(threads, min_blocks) name
#define KA_PROLOGUE
#define KA_UNROLL _Pragma("unroll")
#define KA_ASSUME(condition) __builtin_assume(condition)

typedef float ka_f32;
typedef double ka_f64;
typedef long long ka_i64;
typedef int ka_i32;
typedef short ka_i16;
typedef signed char ka_i8;
typedef unsigned long long ka_u64;
typedef unsigned int ka_u32;
typedef unsigned char ka_u8;
typedef bool ka_bool;

struct ka_f16 { unsigned short bits; };
struct ka_bf16 { unsigned short bits; };
struct ka_f8e4m3 { unsigned char bits; };
struct ka_f8e5m2 { unsigned char bits; };

template <class T> using ka_ptr = T*;

// Strides count elements.
template <class T, int R> struct ka_array {
    T* data;
    long long stride[R];
};

template <class T> struct ka_same_as { typedef T type; };
template <class T> using ka_as = typename ka_same_as<T>::type;  // a parameter that T is not deduced from

template <class A, class B> constexpr bool ka_is = false;
template <class A> constexpr bool ka_is<A, A> = true;
template <class T> constexpr bool ka_is_half = ka_is<T, ka_f16> || ka_is<T, ka_bf16>;
template <class T> constexpr bool ka_is_f8 = ka_is<T, ka_f8e4m3> || ka_is<T, ka_f8e5m2>;
template <class T> constexpr bool ka_is_small = ka_is_half<T> || ka_is_f8<T>;
template <class T> constexpr bool ka_is_float = ka_is_small<T> || ka_is<T, ka_f32> || ka_is<T, ka_f64>;

extern __shared__ __align__(1024) unsigned char ka_shared[];

// Where the dynamic shared memory starts in the shared window.
KA_DEVICE ka_u32 ka_shared_base() { return (ka_u32)__cvta_generic_to_shared(ka_shared); }

KA_DEVICE int ka_thread() { return (int)threadIdx.x; }
KA_DEVICE int ka_block() { return (int)blockIdx.x; }
KA_DEVICE int ka_blocks() { return (int)gridDim.x; }
