"""A chip description of this CPU: nominal peaks from its features, rates measured in under three seconds."""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kernelagent.solar.chips import Chip, Figure, Rates, read_chip, write_chip
from kernelagent.solar.cpu import Cpu, this_cpu
from kernelagent.solar.paths import calibrated_chips
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("calibrate.c")
STREAM_BYTES = 64 << 20  # of each stream at least: larger than most last-level caches
FMA_ITERATIONS = 1 << 20
EXP_ELEMENTS = 4096
EXP_REPEATS = 1 << 10
CLOCK_ITERATIONS = 1 << 22


@dataclass(frozen=True)
class Measured:
    """Rates of the whole machine: bytes/s, bytes/s (read + write), flop/s, operations/s, Hz (0 if unknown)."""

    read: float
    copy: float
    fma: float
    exp: float
    clock: float
    how: str


def this_machine() -> Chip:
    """The saved description of this CPU; calibrated and saved now if there is none."""
    path = _path(this_cpu())
    return read_chip(path) if path.is_file() else calibrate()


def calibrate(save: bool = True) -> Chip:
    """Measure this machine and, with `save`, write its chip file, keeping the better of old and new figures.

    What else ran can only have made a measurement slower, so a busy machine never lowers a ceiling that was reached.
    """
    cpu = this_cpu()
    measured = measure(cpu)
    if save:
        path = _path(cpu)
        measured = _best_of(measured, read_chip(path)) if path.is_file() else measured
        write_chip(_describe(cpu, measured), path)
    return _describe(cpu, measured)


def _best_of(new: Measured, known: Chip) -> Measured:
    old = known.measured
    if old is None:
        return new
    return Measured(
        read=max(new.read, known.peak.dram.value),
        copy=max(new.copy, old.dram.value),
        fma=max(new.fma, old.fma["f32"].value),
        exp=max(new.exp, old.special.value if old.special else 0.0),
        clock=max(new.clock, known.clock_ghz * 1e9),
        how=new.how,
    )


def measure(cpu: Cpu) -> Measured:
    """With compiled loops where a C compiler is found, else with numpy (labelled in `how`)."""
    with tempfile.TemporaryDirectory() as folder:
        library = _compile(Path(folder))
        return _measure_compiled(library, cpu) if library else _measure_numpy(cpu)


def _path(cpu: Cpu) -> Path:
    return calibrated_chips() / f"{cpu.slug}.toml"


def _describe(cpu: Cpu, measured: Measured) -> Chip:
    ghz = max(cpu.max_ghz, measured.clock / 1e9)
    lanes = cpu.fma_lanes_per_clock
    nominal = max(2.0 * lanes * cpu.cores * ghz * 1e9, measured.fma)
    arithmetic = f"nominal: {cpu.cores} cores x {lanes} f32 multiply-adds a clock x {ghz:.2f} GHz"
    stream = Figure(max(measured.read, measured.copy), f"fastest stream measured ({measured.how}); no datasheet figure")
    fma = {"f32": Figure(nominal, arithmetic), "f64": Figure(nominal / 2, f"{arithmetic}, half for f64")}
    rates = Rates(
        dram=Figure(measured.copy, f"copy, read + write counted ({measured.how})"),
        fma={
            "f32": Figure(measured.fma, f"independent multiply-adds in registers ({measured.how})"),
            "f64": Figure(measured.fma / 2, "half of the measured f32 rate"),
        },
        special=Figure(measured.exp, f"exp of f32 in the first-level cache ({measured.how})"),
    )
    return Chip(
        name=cpu.slug,
        title=cpu.name,
        kind="cpu",
        peak=Rates(dram=stream, fma=fma),
        measured=rates,
        units=cpu.cores,
        clock_ghz=round(ghz, 3),
        cache_bytes=cpu.cache_bytes,
        arch=f"{platform.machine()}-{cpu.vector_bits}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        host=platform.node(),
    )


# compiled loops --------------------------------------------------------------------------------


def _compiler() -> list[str] | None:
    """$CC, cc, gcc, clang, then ziglang if it is installed."""
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    import importlib.util

    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def _compile(folder: Path) -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        return None
    target = folder / "calibrate.so"
    flags = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-o", str(target), str(SOURCE)]
    for native in (["-march=native"], ["-mcpu=native"], []):
        try:
            done = subprocess.run([*compiler, *native, *flags], capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0:
            return _declare(ctypes.CDLL(str(target)))
    return None


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.calibrate_copy.argtypes = [pointer, pointer, size]
    library.calibrate_read.argtypes = [pointer, size]
    library.calibrate_fma.argtypes = [size, ctypes.c_float]
    library.calibrate_fma.restype = ctypes.c_float
    library.calibrate_exp.argtypes = [pointer, pointer, size, size]
    library.calibrate_clock.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    library.calibrate_clock.restype = ctypes.c_uint64
    return library


def _measure_compiled(library: ctypes.CDLL, cpu: Cpu) -> Measured:
    n = max(STREAM_BYTES, 2 * cpu.cache_bytes) // 4
    share = n // cpu.cores // 256 * 256
    source, target = _aligned(n, 1.0), _aligned(n, 0.0)
    small = [(_aligned(EXP_ELEMENTS, 0.5), _aligned(EXP_ELEMENTS, 0.0)) for _ in range(cpu.cores)]
    lanes = library.calibrate_lanes()

    def slices(thread: int) -> tuple[int, int]:
        return target.ctypes.data + 4 * share * thread, source.ctypes.data + 4 * share * thread

    def exponentials(t: int) -> None:
        library.calibrate_exp(small[t][1].ctypes.data, small[t][0].ctypes.data, EXP_ELEMENTS, EXP_REPEATS)

    with ThreadPoolExecutor(cpu.cores) as pool:
        copy = _best(pool, cpu.cores, lambda t: library.calibrate_copy(*slices(t), share))
        read = _best(pool, cpu.cores, lambda t: library.calibrate_read(slices(t)[1], share))
        fma = _best(pool, cpu.cores, lambda t: library.calibrate_fma(FMA_ITERATIONS, 1e-9))
        exp = _best(pool, cpu.cores, exponentials)
        clock = _best(pool, 1, lambda t: library.calibrate_clock(CLOCK_ITERATIONS, 1))
    moved = 4.0 * share * cpu.cores
    return Measured(
        read=moved / read,
        copy=2 * moved / copy,
        fma=24.0 * lanes * FMA_ITERATIONS * cpu.cores / fma,
        exp=float(EXP_ELEMENTS) * EXP_REPEATS * cpu.cores / exp,
        clock=8.0 * CLOCK_ITERATIONS / clock if platform.machine() in ("x86_64", "AMD64", "arm64", "aarch64") else 0.0,
        how=f"compiled C, {cpu.cores} threads",
    )


def _best(pool: ThreadPoolExecutor, threads: int, work: Callable[[int], Any], seconds: float = 0.25) -> float:
    """Shortest time in seconds of `work(0..threads-1)` at once: repeated for `seconds`, at least four times.

    The best, not the median: what else ran on the machine can only have made it slower.
    """
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 4 or time.perf_counter() < until:
        start = time.perf_counter()
        list(pool.map(work, range(threads)))
        times.append(time.perf_counter() - start)
    return min(times)


def _aligned(n: int, value: float) -> NDArray[np.float32]:
    """n floats from an address that is a multiple of 64, pages touched."""
    raw = np.full(n + 16, value, dtype=np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n]


# numpy only ------------------------------------------------------------------------------------


def _measure_numpy(cpu: Cpu) -> Measured:
    """Without a compiler: numpy's own loops, which may be well below what the machine can do."""
    n = max(STREAM_BYTES, 2 * cpu.cache_bytes) // 4
    source, target = _aligned(n, 1.0), _aligned(n, 0.0)
    share = n // cpu.cores
    a, small = np.ones((512, 512), np.float32), np.full(EXP_ELEMENTS, 0.5, np.float32)
    product = np.empty_like(a)
    results = [np.empty_like(small) for _ in range(cpu.cores)]

    def part(array: NDArray[np.float32], thread: int) -> NDArray[np.float32]:
        return array[share * thread : share * (thread + 1)]

    with ThreadPoolExecutor(cpu.cores) as pool:
        copy = _best(pool, cpu.cores, lambda t: np.copyto(part(target, t), part(source, t)))
        read = _best(pool, cpu.cores, lambda t: np.max(part(source, t)))
        fma = _best(pool, 1, lambda t: np.matmul(a, a, out=product))  # the library has its own threads
        exp = _best(pool, cpu.cores, lambda t: [np.exp(small, out=results[t]) for _ in range(64)])
    moved = 4.0 * share * cpu.cores
    return Measured(
        moved / read, 2 * moved / copy, 2.0 * 512**3 / fma, 64.0 * EXP_ELEMENTS * cpu.cores / exp, 0.0,
        "numpy only: no C compiler was found",
    )  # fmt: skip
