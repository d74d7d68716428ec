"""The thread pool: every item once, worker numbers, nesting, forks, restarts, arenas, and what an empty call costs."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.targets.cpu import features
from support.c_atoms import at, build, build_runtime

TEXT = """
#include <stdatomic.h>
#include <time.h>
#include "pool.h"
struct job {
    const struct ka_runtime *rt;
    int *seen;
    long chunk;
    int threads, bad;
    atomic_int busy[KA_MAX_THREADS];
};
static void mark(void *ctx, long begin, long end, int worker) {
    struct job *j = ctx;
    if (end - begin > j->chunk || end <= begin || worker < 0 || worker >= j->threads) j->bad = 1;
    if (atomic_fetch_add(&j->busy[worker], 1) != 0) j->bad = 2;
    for (long i = begin; i < end; ++i) j->seen[i]++;
    atomic_fetch_sub(&j->busy[worker], 1);
}
int run(const struct ka_runtime *rt, int *seen, long n, long chunk, int threads) {
    static struct job j;
    j = (struct job){.rt = rt, .seen = seen, .chunk = chunk, .threads = threads};
    rt->parallel_for(n, chunk, mark, &j, threads);
    return j.bad;
}
static void count(void *ctx, long begin, long end, int worker) {
    int *seen = ctx;
    (void)worker;
    for (long i = begin; i < end; ++i) __atomic_fetch_add(&seen[i], 1, __ATOMIC_RELAXED);
}
static void nest(void *ctx, long begin, long end, int worker) {
    struct job *j = ctx;
    (void)begin, (void)end, (void)worker;
    j->rt->parallel_for(10, 3, count, j->seen, 4);
}
void nested(const struct ka_runtime *rt, int *seen) {
    static struct job j;
    j = (struct job){.rt = rt, .seen = seen};
    rt->parallel_for(50, 1, nest, &j, 2);
}
static void nothing(void *ctx, long begin, long end, int worker) {
    (void)ctx, (void)begin, (void)end, (void)worker;
}
/* Seconds of one empty call with `threads` items. */
double empty_call(const struct ka_runtime *rt, int threads, int repeats) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < repeats; ++i) rt->parallel_for(threads, 1, nothing, NULL, threads);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return ((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec)) / repeats;
}
"""
LEVEL = features.detect().level


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    loaded = build(TEXT, LEVEL)
    loaded.empty_call.restype = ctypes.c_double
    return loaded


@pytest.fixture(scope="module")
def runtime() -> ctypes.CDLL:
    return build_runtime(LEVEL)


def table(runtime: ctypes.CDLL) -> ctypes.c_void_p:
    return ctypes.c_void_p(runtime.ka_runtime_get())


def run(library: ctypes.CDLL, runtime: ctypes.CDLL, n: int, chunk: int, threads: int) -> None:
    seen = np.zeros(max(n, 1), np.int32)
    bad = library.run(table(runtime), at(seen), ctypes.c_long(n), ctypes.c_long(chunk), threads)
    assert bad == 0
    assert (seen == (1 if n > 0 else 0)).all()


@settings(max_examples=60)
@given(n=st.integers(0, 5000), chunk=st.integers(1, 300), threads=st.integers(1, 9))
def test_every_item_once(library: ctypes.CDLL, runtime: ctypes.CDLL, n: int, chunk: int, threads: int) -> None:
    run(library, runtime, n, chunk, threads)


def test_many_small_jobs_in_a_row(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    for n in range(3000):
        run(library, runtime, n % 7, 1, 3)


def test_nested_calls_run_in_their_worker(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int32)
    library.nested(table(runtime), at(seen))
    assert (seen == 50).all()


def test_default_number_of_threads(runtime: ctypes.CDLL) -> None:
    assert runtime.ka_threads() == len(os.sched_getaffinity(0))
    runtime.ka_set_threads(3)
    assert runtime.ka_threads() == 3
    runtime.ka_set_threads(0)
    assert runtime.ka_threads() == len(os.sched_getaffinity(0))


def test_restart_after_shutdown(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    run(library, runtime, 100, 1, 4)
    before = threading_count()
    runtime.ka_shutdown()
    assert threading_count() <= before - 3
    run(library, runtime, 100, 1, 4)


def threading_count() -> int:
    return len(os.listdir("/proc/self/task"))


def test_callers_from_several_threads_take_turns(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int32)
    other = threading.Thread(target=library.nested, args=(table(runtime), at(seen)))
    other.start()
    for _ in range(20):
        run(library, runtime, 500, 1, 2)
    other.join()
    assert (seen == 50).all()


FORK = """
import ctypes, os, sys
import numpy as np
library, runtime = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(sys.argv[2])
runtime.ka_runtime_get.restype = ctypes.c_void_p
def run():
    seen = np.zeros(500, np.int32)
    table = ctypes.c_void_p(runtime.ka_runtime_get())
    bad = library.run(table, ctypes.c_void_p(seen.ctypes.data), ctypes.c_long(500), ctypes.c_long(1), 2)
    return bad == 0 and (seen == 1).all()
assert run()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if run() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert run()
"""


def test_forked_children_have_a_pool_of_their_own(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    command = [sys.executable, "-c", FORK, library._name, runtime._name]
    subprocess.run(command, check=True, timeout=60)


def test_one_cpu_only(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    """More threads than CPUs must still finish: a process bound to one CPU asks for two workers."""
    bound = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})\n{FORK}"
    subprocess.run([sys.executable, "-c", bound, library._name, runtime._name], check=True, timeout=60)


def test_arenas_grow_and_are_aligned(runtime: ctypes.CDLL) -> None:
    for ask in (runtime.ka_arena, runtime.ka_shared):
        small = ask(1, 100)
        assert small % 64 == 0
        assert ask(1, 50) == small
        large = ask(1, 5 << 20)
        assert large % 64 == 0
        ctypes.memset(large, 1, 5 << 20)
        assert ask(1, 3 << 20) == large
        assert ask(2, 64) != large
        assert ask(-1, 64) is None
        assert ask(10_000, 64) is None
        assert ask(3, 2**64 - 1) is None


def test_empty_call_costs_little(library: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
    """At most 10 us, the least of several tries since other programs may hold the cores."""
    best = min(library.empty_call(table(runtime), 2, 500) for _ in range(20))
    assert best <= 10e-6
