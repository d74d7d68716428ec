/* Rates of this machine: streaming reads, streaming copies, multiply-adds, exponentials, clock.
   Each function does a known amount of work on one thread; the caller times it. */
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES (BYTES / 4)
typedef float vf __attribute__((vector_size(BYTES), aligned(BYTES)));
typedef int32_t vi __attribute__((vector_size(BYTES), aligned(BYTES)));

int calibrate_lanes(void) { return LANES; }

static inline void stream(float *to, vf v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX__)
    _mm256_stream_ps(to, (__m256)v);
#elif defined(__x86_64__)
    _mm_stream_ps(to, (__m128)v);
#elif defined(__clang__)
    __builtin_nontemporal_store(v, (vf *)to);
#else
    *(vf *)to = v;
#endif
}

/* n floats, a multiple of 4 * LANES; both pointers aligned to 64 bytes */
void calibrate_copy(float *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i += 4 * LANES)
        for (int u = 0; u < 4; u++) stream(to + i + u * LANES, *(const vf *)(from + i + u * LANES));
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* the returned value depends on every element, so that no read can be left out */
int32_t calibrate_read(const float *from, size_t n) {
    vi a[4] = {{0}};
    for (size_t i = 0; i < n; i += 4 * LANES)
        for (int u = 0; u < 4; u++) a[u] ^= *(const vi *)(from + i + u * LANES);
    vi x = a[0] ^ a[1] ^ a[2] ^ a[3];
    int32_t result = 0;
    for (int l = 0; l < LANES; l++) result ^= x[l];
    return result;
}

/* 12 independent chains hide the latency of two FMA ports; 24 * LANES flops an iteration */
float calibrate_fma(size_t iterations, float seed) {
    vf a[12], m, c;
    for (int l = 0; l < LANES; l++) m[l] = 0.999f + seed, c[l] = 0.001f;
    for (int k = 0; k < 12; k++)
        for (int l = 0; l < LANES; l++) a[k][l] = seed + (float)k;
    for (size_t i = 0; i < iterations; i++)
#pragma GCC unroll 12
        for (int k = 0; k < 12; k++) a[k] = a[k] * m + c;
    float result = 0;
    for (int k = 0; k < 12; k++)
        for (int l = 0; l < LANES; l++) result += a[k][l];
    return result;
}

/* exp of n floats in [-80, 80], a multiple of 4 * LANES, kept in the first-level cache: 2^k by exponent bits and a
   polynomial of degree 6 for 2^f, |f| <= 1/2; four vectors at a time hide the latency of the polynomial */
void calibrate_exp(float *to, const float *from, size_t n, size_t repeats) {
    const float c[7] = {1.0f, 0.69314718f, 0.24022651f, 0.05550411f, 0.00961813f, 0.00133336f, 0.00015469f};
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    for (size_t r = 0; r < repeats; r++)
        for (size_t i = 0; i < n; i += 4 * LANES) {
            vf k[4], f[4], p[4];
            for (int u = 0; u < 4; u++) {
                vf t = *(const vf *)(from + i + u * LANES) * 1.44269504f;
                k[u] = t + rounder;
                f[u] = t - (k[u] - rounder);
                p[u] = f[u] * c[6] + c[5];
            }
            for (int d = 4; d >= 0; d--)
                for (int u = 0; u < 4; u++) p[u] = p[u] * f[u] + c[d];
            for (int u = 0; u < 4; u++) *(vf *)(to + i + u * LANES) = (vf)((vi)p[u] + ((vi)k[u] << 23));
        }
}

/* a chain of 8 dependent additions an iteration: one clock each */
uint64_t calibrate_clock(uint64_t iterations, uint64_t step) {
    uint64_t x = step;
    for (uint64_t i = 0; i < iterations; i++) {
#if defined(__x86_64__)
        __asm__ volatile("add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n"
                         "add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n" : "+r"(x) : "r"(step) : "cc");
#elif defined(__aarch64__)
        __asm__ volatile("add %0, %0, %1\n add %0, %0, %1\n add %0, %0, %1\n add %0, %0, %1\n"
                         "add %0, %0, %1\n add %0, %0, %1\n add %0, %0, %1\n add %0, %0, %1\n" : "+r"(x) : "r"(step));
#endif
    }
    return x;
}
