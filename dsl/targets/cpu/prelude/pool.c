/* The runtime shared by all kernels of a process: a pool of threads, grow-only arenas, the parallel copy.
 *
 * A call of parallel_for opens a job in one atomic word. Workers that see it open join by raising its count, claim
 * chunks from an atomic counter, and leave; the caller works too, closes the job when the chunks are gone, and waits
 * only for those that joined. A worker that the system has not scheduled therefore delays nobody.
 */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "copy.h"

#define KA_API __attribute__((visibility("default")))
#define KA_LINE __attribute__((aligned(64)))
#define KA_SHARED_SLOTS 16
#define KA_HUGE ((size_t)2 << 20)
/* How long a worker looks for the next job before it sleeps; waking it costs about 5 us, 30 us in a virtual machine. */
#define KA_SPIN_NS 100000

/* State of the job: bit 0 open, bits 1 .. 16 joined workers, the rest its number. */
#define KA_OPEN UINT64_C(1)
#define KA_JOINED UINT64_C(2)
#define KA_JOINED_MASK UINT64_C(0x1fffe)
#define KA_NUMBER UINT64_C(0x20000)

static struct {
    KA_LINE _Atomic uint64_t state;
    KA_LINE atomic_long next;
    KA_LINE atomic_int sleepers;
    /* Written by the caller while the job is closed, read by those that joined. */
    KA_LINE long n;
    long chunk;
    ka_task fn;
    void *ctx;
    int threads;
    /* Owned by the caller. */
    KA_LINE int started;
    int wanted;
    atomic_int stop;
    pthread_t thread[KA_MAX_THREADS];
    /* CPU of each worker, -1 if it may run anywhere; cpu[0] is where the caller was last seen. */
    int cpu[KA_MAX_THREADS];
} pool;

static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local int inside = -1;

struct block {
    void *memory;
    size_t bytes;
} KA_LINE;
static struct block arenas[KA_MAX_THREADS];
static struct block slots[KA_SHARED_SLOTS];

/* Waiting ------------------------------------------------------------------------------------------------------------ */

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int is_new_job(uint64_t state, uint64_t seen) { return (state & KA_OPEN) && state / KA_NUMBER != seen; }

static int job_or_stop(uint64_t seen) {
    return is_new_job(atomic_load(&pool.state), seen) || atomic_load(&pool.stop);
}

static void wait_for_job(uint64_t seen) {
    int64_t start = now_ns();
    do {
        for (int i = 0; i < 64; ++i) {
            if (job_or_stop(seen)) return;
            relax();
        }
    } while (now_ns() - start < KA_SPIN_NS);
    pthread_mutex_lock(&bed);
    atomic_fetch_add(&pool.sleepers, 1);
    while (!job_or_stop(seen)) pthread_cond_wait(&bell, &bed);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&bed);
}

static void wake_sleepers(void) {
    if (atomic_load(&pool.sleepers) == 0) return;
    pthread_mutex_lock(&bed);
    pthread_cond_broadcast(&bell);
    pthread_mutex_unlock(&bed);
}

/* Working ------------------------------------------------------------------------------------------------------------ */

static void run_chunks(int worker) {
    int outer = inside;
    inside = worker;
    for (;;) {
        long begin = atomic_fetch_add_explicit(&pool.next, pool.chunk, memory_order_relaxed);
        if (begin >= pool.n) break;
        long end = pool.n - begin < pool.chunk ? pool.n : begin + pool.chunk;
        pool.fn(pool.ctx, begin, end, worker);
    }
    inside = outer;
}

static int join_job(uint64_t *seen) {
    uint64_t state = atomic_load(&pool.state);
    while (is_new_job(state, *seen))
        if (atomic_compare_exchange_weak(&pool.state, &state, state + KA_JOINED)) {
            *seen = state / KA_NUMBER;
            return 1;
        }
    return 0;
}

static void *work(void *argument) {
    int worker = (int)(intptr_t)argument;
    uint64_t seen = 0;
    for (;;) {
        wait_for_job(seen);
        if (atomic_load(&pool.stop)) return NULL;
        if (!join_job(&seen)) continue;
        if (worker < pool.threads) run_chunks(worker);
        atomic_fetch_sub(&pool.state, KA_JOINED);
    }
}

static void run_here(long n, long chunk, ka_task fn, void *ctx, int worker) {
    int outer = inside;
    inside = worker;
    for (long begin = 0; begin < n; begin += chunk) fn(ctx, begin, n - begin < chunk ? n : begin + chunk, worker);
    inside = outer;
}

/* Places -------------------------------------------------------------------------------------------------------------- */

/* The system often wakes a worker on the caller's own CPU, where the two then share one core for milliseconds. So each
 * worker is bound to a CPU of its own, and when the caller moves onto a worker's CPU that worker takes the caller's. */
#if defined(__linux__)
static void bind_worker(int worker, int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    pool.cpu[worker] = pthread_setaffinity_np(pool.thread[worker], sizeof set, &set) == 0 ? cpu : -1;
}

static int is_taken(int cpu) {
    for (int i = 0; i <= pool.started; ++i)
        if (pool.cpu[i] == cpu) return 1;
    return 0;
}

/* A CPU that the caller may use and nobody holds, for a worker just started; without one it runs anywhere. */
static void place_new_worker(int worker) {
    cpu_set_t allowed;
    pool.cpu[worker] = -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET((size_t)cpu, &allowed) && !is_taken(cpu)) {
            bind_worker(worker, cpu);
            return;
        }
}

static void yield_callers_cpu(void) {
    int here = sched_getcpu(), before = pool.cpu[0];
    if (here == before) return;
    pool.cpu[0] = here;
    for (int i = 1; i <= pool.started; ++i)
        if (pool.cpu[i] == here) bind_worker(i, before);
}
#else
static void place_new_worker(int worker) { pool.cpu[worker] = -1; }
static void yield_callers_cpu(void) {}
#endif

/* Life of the pool ------------------------------------------------------------------------------------------------------ */

static int usable_cpus(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* A forked child has this memory but none of the threads: it starts with an empty pool. */
static void forget_threads(void) {
    atomic_store(&pool.state, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.stop, 0);
    pool.started = 0;
    inside = -1;
    pthread_mutex_init(&caller, NULL);
    pthread_mutex_init(&bed, NULL);
    pthread_cond_init(&bell, NULL);
}

static void initialise(void) { pthread_atfork(NULL, NULL, forget_threads); }

/* Signals belong to the caller's threads. If the system refuses a thread we go on with fewer. */
static void start_workers(int threads) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool.started < threads - 1) {
        intptr_t worker = pool.started + 1;
        if (pthread_create(&pool.thread[worker], NULL, work, (void *)worker) != 0) break;
        place_new_worker((int)worker);
        pool.started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

KA_API int ka_threads(void) {
    if (pool.wanted > 0) return pool.wanted;
    int n = usable_cpus();
    return n < KA_MAX_THREADS ? n : KA_MAX_THREADS;
}

/* Default number of threads of later calls; <= 0 means one per usable CPU. */
KA_API void ka_set_threads(int n) { pool.wanted = n < KA_MAX_THREADS ? n : KA_MAX_THREADS; }

KA_API void ka_shutdown(void) {
    pthread_mutex_lock(&caller);
    atomic_store(&pool.stop, 1);
    pthread_mutex_lock(&bed);
    pthread_cond_broadcast(&bell);
    pthread_mutex_unlock(&bed);
    for (int i = 1; i <= pool.started; ++i) pthread_join(pool.thread[i], NULL);
    pool.started = 0;
    atomic_store(&pool.stop, 0);
    pthread_mutex_unlock(&caller);
}

static int threads_for(long n, long chunk, int threads) {
    long chunks = (n - 1) / chunk + 1;
    if (threads <= 0) threads = ka_threads();
    if (threads > KA_MAX_THREADS) threads = KA_MAX_THREADS;
    return chunks < threads ? (int)chunks : threads;
}

static void run_job(long n, long chunk, ka_task fn, void *ctx, int threads) {
    yield_callers_cpu();
    start_workers(threads);
    pool.n = n, pool.chunk = chunk, pool.fn = fn, pool.ctx = ctx, pool.threads = threads;
    atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
    uint64_t number = atomic_load(&pool.state) / KA_NUMBER + 1;
    atomic_store(&pool.state, number * KA_NUMBER | KA_OPEN);
    wake_sleepers();
    run_chunks(0);
    atomic_fetch_and(&pool.state, ~KA_OPEN);
    for (long spins = 0; atomic_load(&pool.state) & KA_JOINED_MASK; ++spins) {
        relax();
        if (spins % 1024 == 1023) sched_yield();
    }
}

KA_API void ka_parallel_for(long n, long chunk, ka_task fn, void *ctx, int threads) {
    if (n <= 0) return;
    if (chunk < 1) chunk = 1;
    if (inside >= 0) {
        run_here(n, chunk, fn, ctx, inside);
        return;
    }
    pthread_once(&once, initialise);
    threads = threads_for(n, chunk, threads);
    pthread_mutex_lock(&caller);
    if (threads == 1)
        run_here(n, chunk, fn, ctx, 0);
    else
        run_job(n, chunk, fn, ctx, threads);
    pthread_mutex_unlock(&caller);
}

/* Memory --------------------------------------------------------------------------------------------------------------- */

static void *grow(struct block *b, size_t bytes) {
    if (b->bytes >= bytes && b->memory) return b->memory;
    size_t alignment = bytes >= KA_HUGE ? KA_HUGE : 4096;
    size_t size = (bytes + alignment - 1) / alignment * alignment;
    if (size < bytes) return NULL;
    if (size == 0) size = alignment;
    free(b->memory);
    b->bytes = 0;
    if (posix_memalign(&b->memory, alignment, size) != 0) {
        b->memory = NULL;
        return NULL;
    }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == KA_HUGE) madvise(b->memory, size, MADV_HUGEPAGE);
#endif
    b->bytes = size;
    return b->memory;
}

KA_API void *ka_arena(int worker, size_t bytes) {
    return worker < 0 || worker >= KA_MAX_THREADS ? NULL : grow(&arenas[worker], bytes);
}

KA_API void *ka_shared(int slot, size_t bytes) {
    return slot < 0 || slot >= KA_SHARED_SLOTS ? NULL : grow(&slots[slot], bytes);
}

/* Copy ----------------------------------------------------------------------------------------------------------------- */

#define KA_COPY_CHUNK ((size_t)256 << 10)
struct copy {
    char *dst;
    const char *src;
    size_t bytes;
    int stream;
};

static void copy_chunks(void *ctx, long begin, long end, int worker) {
    const struct copy *c = ctx;
    size_t lo = (size_t)begin * KA_COPY_CHUNK, hi = (size_t)end * KA_COPY_CHUNK;
    (void)worker;
    if (hi > c->bytes) hi = c->bytes;
    ka_copy(c->dst + lo, c->src + lo, hi - lo, c->stream);
}

/* stream: 1 around the caches, 0 memcpy. */
KA_API void ka_copy_parallel(void *dst, const void *src, size_t bytes, int stream, int threads) {
    struct copy c = {dst, src, bytes, stream};
    ka_parallel_for((long)((bytes + KA_COPY_CHUNK - 1) / KA_COPY_CHUNK), 1, copy_chunks, &c, threads);
}

KA_API const struct ka_runtime *ka_runtime_get(void) {
    static const struct ka_runtime table = {KA_RUNTIME_VERSION, ka_parallel_for, ka_arena, ka_shared};
    return &table;
}
