/* What an emitted kernel may ask of the runtime, handed in as a table of function pointers.
 *
 * The runtime is one shared library built from pool.c, loaded once per process, so that every kernel of the process
 * shares one pool of threads. Kernels include this header, never pool.c, and link against nothing.
 */
#ifndef KA_POOL_H
#define KA_POOL_H

#include <stddef.h>

#define KA_RUNTIME_VERSION 1
#define KA_MAX_THREADS 256

/* Work on items [begin, end). `worker` is 0 .. threads-1, unique among the calls that run at the same time. */
typedef void (*ka_task)(void *ctx, long begin, long end, int worker);

struct ka_runtime {
    long version;
    /* Runs fn over [0, n) in chunks of at most `chunk` items (at least 1), claimed in order by an atomic counter;
     * returns when all are done and their writes are visible. `threads` counts the caller; <= 0 means the default.
     * Called inside a task it runs the items in the calling worker. */
    void (*parallel_for)(long n, long chunk, ka_task fn, void *ctx, int threads);
    /* At least `bytes` bytes, 64-byte aligned, private to the worker, undefined contents. Grows only; a larger request
     * of the same worker invalidates its earlier pointer. NULL if memory is out. */
    void *(*arena)(int worker, size_t bytes);
    /* The same, shared by a whole call: slot 0 .. 15, to be asked for outside tasks. */
    void *(*shared)(int slot, size_t bytes);
};

#endif
