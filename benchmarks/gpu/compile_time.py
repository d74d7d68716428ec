"""How long it takes from a kernel's text to its cubins, new and out of the cache, over all kernels of `cases`.

    python benchmarks/gpu/compile_time.py [--arch sm_80] [--compiler nvrtc]

Needs a CUDA compiler and no GPU. A text compiles to one cubin for each shape class of each kernel it calls; the time is
that of all of them. "Again" is the same process with a full cache, which is what a run of the agent sees.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cases import CASES, Case
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.cuda.artifact import CudaOptions
from kernelagent.dsl.targets.cuda.build import compile, sources_digest
from kernelagent.dsl.targets.cuda.compiler import compile_cubin, find_toolchain

WARM = 'extern "C" __global__ void k(float* x) { *x = 1.0f; }'


@dataclass(frozen=True)
class Row:
    name: str
    cubins: int
    new: float
    again: float

    def __str__(self) -> str:
        return f"{self.name:28} {self.cubins} cubins  {self.new:6.3f} s new  {self.again * 1000:6.1f} ms again"


def measure(case: Case, arch: str, options: CudaOptions) -> Row:
    """Parse to cubins in seconds, twice."""
    seconds: list[float] = []
    count = 0
    for _ in range(2):
        begin = time.perf_counter()
        module = parse(case.text)
        consts = {s.name: case.scalars[s.name] for s in module.entry.scalars if s.dtype == "const"}
        made = compile(module, case.dtypes, {}, consts, case.shapes[0].dims, arch, options)
        seconds.append(time.perf_counter() - begin)
        count = len(list(made.binaries()))
    return Row(case.name, count, *seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="sm_80")
    parser.add_argument("--compiler", default="auto", help="nvrtc, nvcc or a path to an nvcc")
    arguments = parser.parse_args()
    toolchain = find_toolchain(arguments.compiler)
    compile_cubin(WARM, arguments.arch, None, toolchain)  # loads the compiler
    sources_digest()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        options = CudaOptions(arguments.compiler, Path(folder))
        for case in CASES:
            rows.append(measure(case, arguments.arch, options))
            row = rows[-1]
            print(
                f"{row.name:28} {row.cubins} cubins  {row.new:6.3f} s new  {row.again * 1000:6.1f} ms again", flush=True
            )
    new, again = (statistics.median(getattr(r, k) for r in rows) for k in ("new", "again"))
    print(
        f"median of {len(rows)}, {arguments.arch}, {toolchain.identity}: {new:.3f} s new, {again * 1000:.1f} ms again"
    )


if __name__ == "__main__":
    main()
