/* Copying at the speed of memory. */
#ifndef KA_COPY_H
#define KA_COPY_H

#include <string.h>

#include "vector.h"

/* Around the caches: ordinary head up to alignment of dst, streamed body, ordinary tail. Fenced. */
KA_PROC void ka_copy_stream(void *dst, const void *src, size_t bytes) {
    char *d = (char *)dst;
    const char *s = (const char *)src;
    size_t head = (size_t)(-(uintptr_t)d & (KA_BYTES - 1));
    if (head > bytes) head = bytes;
    memcpy(d, s, head);
    size_t i = head;
    for (; i + 4 * KA_BYTES <= bytes; i += 4 * KA_BYTES) {
        vf v[4];
        for (int j = 0; j < 4; ++j) v[j] = vf_load((const float *)(const void *)(s + i + (size_t)j * KA_BYTES));
        for (int j = 0; j < 4; ++j) vf_stream((float *)(void *)(d + i + (size_t)j * KA_BYTES), v[j]);
    }
    memcpy(d + i, s + i, bytes - i);
    ka_fence();
}

KA_FN void ka_copy(void *dst, const void *src, size_t bytes, int stream) {
    if (stream)
        ka_copy_stream(dst, src, bytes);
    else
        memcpy(dst, src, bytes);
}

#endif
