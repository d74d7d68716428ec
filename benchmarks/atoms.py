"""The CPU atoms against what they should reach: numpy's sgemm, the copy, cycles per vector. Prints ratios.

    python benchmarks/atoms.py [--level avx512|avx2|portable] [--save]

Every section runs in a child process of its own, since OpenBLAS reads its number of threads only when it starts.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure

SECTIONS = {"functions": 1, "blocks": 1, "product": 2, "transpose": 2, "pool": 2}
"""Section -> number of threads it may use (at most the machine's)."""

FUNCTIONS = ("exp", "exp2", "log", "log2", "tanh", "erf", "sin", "cos", "sigmoid", "rsqrt")
Row = dict[str, Any]


class Bench:
    """The compiled loops, the runtime, and the conversions ctypes needs."""

    def __init__(self, level: str, threads: int) -> None:
        from kernelagent.dsl.targets.cpu import features
        from kernelagent.dsl.targets.cpu.compiler import find_compiler

        self.level, self.threads = level, threads
        self._folder = tempfile.TemporaryDirectory(prefix="bench-atoms-")
        compiler, folder = find_compiler(), Path(self._folder.name)
        flags = (*features.flags(level), f"-I{features.prelude_folder()}")
        compiler.build(Path(__file__).with_suffix(".c"), folder / "atoms.so", flags, features.LINK_FLAGS)
        pool = features.prelude_folder() / "pool.c"
        compiler.build(pool, folder / "runtime.so", (*flags, *features.RUNTIME_FLAGS), features.LINK_FLAGS)
        self.c, self.runtime = ctypes.CDLL(str(folder / "atoms.so")), ctypes.CDLL(str(folder / "runtime.so"))
        self.runtime.ka_runtime_get.restype = ctypes.c_void_p
        self.table = ctypes.c_void_p(self.runtime.ka_runtime_get())
        self.c.packed_a.restype = self.c.packed_b.restype = ctypes.c_long

    def call(self, name: str, *arguments: Any) -> Callable[[], Any]:
        """A C function with its arguments bound: ints as long, arrays by address."""
        function = getattr(self.c, name)
        bound = [_argument(value) for value in arguments]
        return lambda: function(*bound)

    def copy(self, dst: Any, src: Any, stream: int) -> Callable[[], Any]:
        bound = [_argument(dst), _argument(src), ctypes.c_size_t(src.nbytes), stream, self.threads]
        return lambda: self.runtime.ka_copy_parallel(*bound)


def _argument(value: Any) -> Any:
    if isinstance(value, int):
        return ctypes.c_long(value)
    return ctypes.c_void_p(value.ctypes.data) if hasattr(value, "ctypes") else value


def _aligned(*shape: int) -> Any:
    """Float32 zeros at a page boundary."""
    import numpy as np

    count = int(np.prod(shape))
    memory = np.zeros(count + 1024, np.float32)
    start = -memory.ctypes.data % 4096 // 4
    return memory[start : start + count].reshape(shape)


def _random(*shape: int) -> Any:
    import numpy as np

    array = _aligned(*shape)
    array[:] = np.random.default_rng(0).uniform(0.1, 8, shape)
    return array


def functions(bench: Bench) -> list[Row]:
    """Cycles per 16 lanes on 4 KB in L1; the cycle is that of a chain of additions in the same run."""
    x, y, repeats, steps = _random(1024), _aligned(1024), 100, 1 << 18
    calls = {name: bench.call(f"each_{name}", x, y, 1024, repeats) for name in FUNCTIONS}
    times = measure.interleave({"clock": bench.call("clock_chain", steps), **calls}, rounds=15)
    cycle_ms = times.pop("clock") / steps
    return [
        {"what": f"{name}, cycles per 16 lanes", "value": ms / repeats / 64 / cycle_ms} for name, ms in times.items()
    ]


def blocks(bench: Bench) -> list[Row]:
    """A packed 256 x 512 block against sgemm on one thread."""
    import numpy as np

    rows = []
    for depth in (256, 384, 512):
        a, b, out, acc = _random(256, depth), _random(depth, 512), _aligned(256, 512), _aligned(256, 512)
        packed_a, packed_b = _aligned(bench.c.packed_a(256, depth)), _aligned(bench.c.packed_b(512, depth))
        pack = {
            "pack A": bench.call("pack_a", packed_a, a, 256, depth, depth, 1),
            "pack B": bench.call("pack_b", packed_b, b, depth, 512, 512, 1),
        }
        for call in pack.values():
            call()
        product = bench.call("block", 256, 512, depth, packed_a, packed_b, acc, 512)
        times = measure.interleave(
            {"numpy": lambda a=a, b=b, out=out: np.matmul(a, b, out=out), "atom": product, **pack}
        )
        gflops = 2e-6 * 256 * 512 * depth / times["atom"]
        packing = (times["pack A"] + times["pack B"]) / times["atom"]
        what = f"sgemm block 256x512x{depth}, of numpy on one thread"
        rows.append({"what": what, "value": times["numpy"] / times["atom"], "gflops": gflops, "packing": packing})
    return rows


def product(bench: Bench) -> list[Row]:
    """A whole product, packing included. OpenBLAS threads spin for a while after a call: wait until they sleep."""
    import numpy as np

    rows = []
    for size, tile_rows in ((512, 70), (1024, 70), (2048, 98)):
        a, b, out, c = _random(size, size), _random(size, size), _aligned(size, size), _aligned(size, size)
        ours = bench.call("product", bench.table, a, b, c, size, size, size, tile_rows, 512, bench.threads)
        subjects = {"numpy": lambda a=a, b=b, out=out: np.matmul(a, b, out=out), "atom": ours}
        times = measure.interleave(subjects, rounds=9, between=lambda: time.sleep(0.2))
        if not np.allclose(out, c, rtol=1e-4):
            raise SystemExit(f"the product of size {size} is wrong")
        what = f"product {size} cubed with packing, of numpy on {bench.threads} threads"
        rows.append({"what": what, "value": times["numpy"] / times["atom"], "gflops": 2e-6 * size**3 / times["atom"]})
    return rows


def transpose(bench: Bench) -> list[Row]:
    import numpy as np

    source, target = _random(4096, 4096), _aligned(4096, 4096)
    subjects = {"copy around caches": bench.copy(target, source, 1), "memcpy": bench.copy(target, source, 0)}
    tiles = ((64, 64), (64, 512), (64, 1024))
    for tile in tiles:
        subjects[str(tile)] = bench.call("turn", bench.table, target, source, 4096, 4096, *tile, bench.threads)
    times = measure.interleave(subjects, rounds=9)
    subjects[str(tiles[-1])]()
    if not np.array_equal(target, source.T):
        raise SystemExit("the transpose is wrong")
    best = min(times["copy around caches"], times["memcpy"])
    rows = [{"what": f"{name}, GB/s", "value": 2e-6 * source.nbytes / times[name]} for name in list(times)[:2]]
    return rows + [
        {"what": f"transpose 4096x4096, tile {tile}, of copy", "value": best / times[str(tile)]} for tile in tiles
    ]


def pool(bench: Bench) -> list[Row]:
    repeats = 200
    times = measure.interleave({"empty": bench.call("empty_calls", bench.table, bench.threads, repeats)}, rounds=15)
    return [{"what": f"empty parallel_for on {bench.threads} threads, us", "value": 1e3 * times["empty"] / repeats}]


def run_section(name: str, level: str, threads: int) -> list[Row]:
    """One section in a child process."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--section", name, "--level", level, "--threads", str(threads)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def main() -> None:
    from kernelagent.dsl.targets.cpu import features

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", default=features.detect().level, choices=features.detect().levels)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/atoms.json")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        print(json.dumps(globals()[options.section](Bench(options.level, options.threads))))
        return
    rows: list[Row] = []
    for name, most in SECTIONS.items():
        for row in run_section(name, options.level, min(most, measure.threads())):
            rows.append(row)
            extra = "".join(f"   {key} {value:.2f}" for key, value in row.items() if key not in ("what", "value"))
            print(f"{row['value']:8.2f}  {row['what']}{extra}", flush=True)
    if options.save:
        print(measure.save("atoms", {"level": options.level, "rows": rows}))


if __name__ == "__main__":
    main()
